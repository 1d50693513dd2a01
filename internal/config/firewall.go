package config

// Firewall decides which packets pass.
type Firewall struct {
	// Rules are held against each new connection in this order; the first that
	// matches decides. What matches none is dropped.
	Rules []FirewallRule `json:"rules"`
	// NAT rewrites addresses on their way through.
	NAT NAT `json:"nat" label:"NAT"`
}

// FirewallRule passes, drops or refuses what it matches.
type FirewallRule struct {
	// Name identifies the rule, in logs and counters too.
	Name string `json:"name" required:"true"`
	// Description says why the rule is there.
	Description string `json:"description"`
	// Disabled keeps the rule in the list without effect.
	Disabled bool `json:"disabled"`
	// Action is what happens to what matches.
	Action FirewallAction `json:"action"`
	// Interface is where packets arrive; empty = any interface.
	Interface string `json:"interface" ref:"interfaces"`
	// Family is the version of IP.
	Family Family `json:"family"`
	// Protocol is what IP carries.
	Protocol Protocol `json:"protocol"`
	// Source is where the packet comes from: any, an address, a prefix, alias:NAME,
	// interface:NAME (its networks) or vip:NAME.
	Source string `json:"source" refs:"alias interface vip" format:"endpoint"`
	// Destination is where the packet goes: as Source, and self (this appliance).
	Destination string `json:"destination" refs:"alias interface vip" format:"endpoint"`
	// DestinationPorts are ports, ranges such as 8000-8080, or alias:NAME; empty = any.
	DestinationPorts []Port `json:"destination_ports" refs:"alias" format:"port" when:"protocol=tcp|udp|tcp_udp"`
	// Log is what is written down of matching traffic.
	Log FirewallLog `json:"log"`
	// Schedule is when the rule holds; empty = always.
	Schedule string `json:"schedule" ref:"schedules"`
}

// FirewallAction is what happens to what a rule matches.
type FirewallAction string

// The actions.
const (
	FirewallPass   FirewallAction = "pass"   // let it through, and its answers
	FirewallBlock  FirewallAction = "block"  // drop it without a word
	FirewallReject FirewallAction = "reject" // refuse it with an answer
)

// Values lists the actions.
func (FirewallAction) Values() []string { return []string{"pass", "block", "reject"} }

// Family is a version of IP.
type Family string

// The families.
const (
	FamilyAny  Family = "any"  // both
	FamilyIPv4 Family = "ipv4" // IPv4 alone
	FamilyIPv6 Family = "ipv6" // IPv6 alone
)

// Values lists the families.
func (Family) Values() []string { return []string{"any", "ipv4", "ipv6"} }

// Protocol is what IP carries.
type Protocol string

// The protocols.
const (
	ProtocolAny    Protocol = "any"     // whatever
	ProtocolTCP    Protocol = "tcp"     // TCP
	ProtocolUDP    Protocol = "udp"     // UDP
	ProtocolTCPUDP Protocol = "tcp_udp" // TCP and UDP
	ProtocolICMP   Protocol = "icmp"    // ICMP for IPv4, ICMPv6 for IPv6
)

// Values lists the protocols.
func (Protocol) Values() []string { return []string{"any", "tcp", "udp", "tcp_udp", "icmp"} }

// FirewallLog is what is written down of matching traffic.
type FirewallLog string

// The depths of the firewall's log.
const (
	FirewallLogOff         FirewallLog = "off"         // nothing
	FirewallLogNew         FirewallLog = "new"         // the first packet of each connection
	FirewallLogConnections FirewallLog = "connections" // also bytes and duration at its end
	FirewallLogPackets     FirewallLog = "packets"     // every packet, limited in rate
)

// Values lists the depths.
func (FirewallLog) Values() []string { return []string{"off", "new", "connections", "packets"} }

// NAT rewrites addresses on their way through.
type NAT struct {
	// PortForwards lead connections to an address of this machine on to another.
	PortForwards []PortForward `json:"port_forwards"`
	// Outbound hides networks behind an address of this machine.
	Outbound []OutboundNAT `json:"outbound"`
}

// PortForward leads connections on to another machine.
type PortForward struct {
	// Name identifies the forward.
	Name string `json:"name" required:"true"`
	// Description says what is behind it.
	Description string `json:"description"`
	// Interface is where connections arrive.
	Interface string `json:"interface" ref:"interfaces" required:"true"`
	// Destination is the address they are meant for: an address, vip:NAME, or
	// interface:NAME (its own address).
	Destination string `json:"destination" refs:"interface vip" format:"endpoint" required:"true"`
	// Target is where they are led.
	Target string `json:"target" format:"address" required:"true"`
}

// OutboundNAT hides a network behind an address of this machine.
type OutboundNAT struct {
	// Name identifies the translation.
	Name string `json:"name" required:"true"`
	// Description says who needs it.
	Description string `json:"description"`
	// Interface is where packets leave.
	Interface string `json:"interface" ref:"interfaces" required:"true"`
	// Source is the network that is hidden: a prefix, alias:NAME or interface:NAME.
	Source string `json:"source" refs:"alias interface" format:"endpoint" required:"true"`
}
