package config

import "time"

// Interface is a network interface under a name of our own.
type Interface struct {
	// Name is how the rest of the document calls it: wan, lan, dmz.
	Name string `json:"name" required:"true"`
	// Device is the kernel's name of it (eth0), or a VLAN's name.
	Device string `json:"device" format:"device" required:"true"`
	// Description says what is connected to it.
	Description string `json:"description"`
	// Disabled takes the interface down.
	Disabled bool `json:"disabled"`
	// IPv4 is how it gets its IPv4 address.
	IPv4 IPv4 `json:"ipv4" label:"IPv4"`
	// IPv6 is how it gets its IPv6 address.
	IPv6 IPv6 `json:"ipv6" label:"IPv6"`
	// BlockPrivate drops clients with private addresses (RFC 1918, RFC 4193). Leave
	// it off where clients have such addresses.
	BlockPrivate bool `json:"block_private" protects:"true"`
	// BlockBogons drops sources that nobody may have on the Internet.
	BlockBogons bool `json:"block_bogons" protects:"true"`
}

// IPv4 is how an interface gets its IPv4 address.
type IPv4 struct {
	// Method is where the address comes from.
	Method IPv4Method `json:"method"`
	// Address is the static address with its prefix length.
	Address string `json:"address" format:"interface_address4" when:"method=static"`
	// Gateway is the router of a static address; empty = none.
	Gateway string `json:"gateway" format:"address4" when:"method=static"`
}

// IPv4Method is where an IPv4 address comes from.
type IPv4Method string

// The ways to an IPv4 address.
const (
	IPv4None   IPv4Method = "none"   // no IPv4
	IPv4Static IPv4Method = "static" // the address given here
	IPv4DHCP   IPv4Method = "dhcp"   // whatever the network's DHCP server says
)

// Values lists the ways.
func (IPv4Method) Values() []string { return []string{"none", "static", "dhcp"} }

// IPv6 is how an interface gets its IPv6 address.
type IPv6 struct {
	// Method is where the address comes from.
	Method IPv6Method `json:"method"`
	// Address is the static address with its prefix length.
	Address string `json:"address" format:"interface_address6" when:"method=static"`
	// Gateway is the router of a static address; empty = none.
	Gateway string `json:"gateway" format:"address6" when:"method=static"`
}

// IPv6Method is where an IPv6 address comes from.
type IPv6Method string

// The ways to an IPv6 address.
const (
	IPv6None   IPv6Method = "none"   // no IPv6 but the link-local one
	IPv6Static IPv6Method = "static" // the address given here
	IPv6SLAAC  IPv6Method = "slaac"  // what the router announces (RFC 4862)
	IPv6DHCP   IPv6Method = "dhcp"   // whatever the network's DHCPv6 server says
)

// Values lists the ways.
func (IPv6Method) Values() []string { return []string{"none", "static", "slaac", "dhcp"} }

// VLAN is a tagged network on top of a device (IEEE 802.1Q).
type VLAN struct {
	// Name is the device that it makes, such as eth0.20.
	Name string `json:"name" format:"device" required:"true"`
	// Parent is the device that carries it.
	Parent string `json:"parent" format:"device" required:"true"`
	// Tag is its number on the wire.
	Tag uint16 `json:"tag" range:"1..4094"`
	// Description says what it is for.
	Description string `json:"description"`
}

// Gateway is a router that this machine can send traffic through.
type Gateway struct {
	// Name identifies the gateway.
	Name string `json:"name" required:"true"`
	// Interface is where it is reached.
	Interface string `json:"interface" ref:"interfaces" required:"true"`
	// Address is the router's address.
	Address string `json:"address" format:"address" required:"true"`
	// Default makes it the way to everything that no other route names; at most one
	// for each address family.
	Default bool `json:"default"`
	// Description says whose it is.
	Description string `json:"description"`
}

// StaticRoute sends a network through a gateway.
type StaticRoute struct {
	// Name identifies the route.
	Name string `json:"name" required:"true"`
	// Destination is the network that is reached this way.
	Destination string `json:"destination" format:"prefix" required:"true"`
	// Gateway is the way.
	Gateway string `json:"gateway" ref:"gateways" required:"true"`
	// Description says why.
	Description string `json:"description"`
}

// VirtualIP is an address that sites listen on, beside the interfaces' own.
type VirtualIP struct {
	// Name identifies the address; frontends and rules say vip:NAME.
	Name string `json:"name" required:"true"`
	// Type is how the address is held.
	Type VirtualIPType `json:"type"`
	// Interface is where the address lives.
	Interface string `json:"interface" ref:"interfaces" required:"true"`
	// Address is the address with its prefix length, usually /32 or /128.
	Address string `json:"address" format:"interface_address" required:"true"`
	// Description says what the address is for.
	Description string `json:"description"`
}

// VirtualIPType is how a virtual address is held.
type VirtualIPType string

// The kinds of virtual addresses.
const (
	VIPAlias    VirtualIPType = "ip_alias"  // a further address of this machine
	VIPFailover VirtualIPType = "failover"  // held by one of several machines (VRRP, RFC 9568)
	VIPProxyARP VirtualIPType = "proxy_arp" // answered for on the wire, but no address of this machine
	VIPOther    VirtualIPType = "other"     // routed here by others
)

// Values lists the kinds.
func (VirtualIPType) Values() []string { return []string{"ip_alias", "failover", "proxy_arp", "other"} }

// Alias is a named set of hosts, networks or ports.
type Alias struct {
	// Name identifies the alias; users of it say alias:NAME.
	Name string `json:"name" required:"true"`
	// Type is what the entries are.
	Type AliasType `json:"type"`
	// Entries are the members: addresses and names for hosts, prefixes for networks,
	// numbers and ranges for ports; another alias of the same type by alias:NAME.
	Entries []string `json:"entries" refs:"alias"`
	// Description says what the members have in common.
	Description string `json:"description"`
}

// AliasType is what an alias's entries are.
type AliasType string

// The kinds of aliases.
const (
	AliasHost    AliasType = "host"    // addresses and host names
	AliasNetwork AliasType = "network" // networks in prefix form, and single addresses
	AliasPort    AliasType = "port"    // ports and ranges such as 8000-8080
)

// Values lists the kinds.
func (AliasType) Values() []string { return []string{"host", "network", "port"} }

// Schedule is a named time of the week.
type Schedule struct {
	// Name identifies the schedule.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// Ranges are the times at which it is on; at least one.
	Ranges []ScheduleRange `json:"ranges" required:"true"`
}

// ScheduleRange is one stretch of time, in the appliance's time zone.
type ScheduleRange struct {
	// Name identifies the range within its schedule.
	Name string `json:"name" required:"true"`
	// Days are days of the week; empty = every day.
	Days []Weekday `json:"days"`
	// From is the first minute, as 24-hour HH:MM; empty = the start of the day.
	From string `json:"from" format:"time_of_day"`
	// To is the minute at which it ends, as 24-hour HH:MM; empty = the end of the
	// day. An earlier time than From ends on the next day.
	To string `json:"to" format:"time_of_day"`
	// Starts limits the range to times from then on; absent = always.
	Starts *time.Time `json:"starts,omitempty"`
	// Ends limits the range to times before then; absent = always.
	Ends *time.Time `json:"ends,omitempty"`
}

// Weekday is a day of the week.
type Weekday string

// Values lists the days of the week.
func (Weekday) Values() []string {
	return []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
}
