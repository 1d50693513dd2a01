// Package config is the model: the desired state of the whole machine as one
// Document of plain Go structs, with its wire form, its checks, its differences
// and the description of every field.
//
// It owns the names that users read and write. It promises that a document
// survives YAML and JSON unchanged, that every problem carries the path of its
// place, and that nothing here does I/O or looks at a clock: what needs a fact
// of the machine is said by the subsystem that knows it.
//
// Reading order: document.go and the files of its parts (system.go, network.go,
// firewall.go, certificates.go, balancer.go, frontend.go, backend.go), then
// decode.go and encode.go (structs from and to the tree of wire, which reads and
// writes YAML and JSON), path.go and edit.go (places), validate.go, reference.go
// (names and renaming), diff.go and fields.go (description).
//
// The room is larger than rooms should be: a third of it are the types with their
// descriptions, a third is Validate. Both walk the same structs by the same tags,
// and a wall between them would export that walk and nothing else.
//
// The struct tags are the machine-readable half of each field's description:
//
//	json       name in the document
//	label      what forms print; absent = the json name with spaces
//	unit       unit of a plain number ("connections")
//	range      "MIN..MAX" of a number, duration or size; either end may be absent
//	required   "true": the zero value is a problem
//	format     syntax of a text, see formats in validate_format.go
//	ref        the collection that a plain name refers to ("backends")
//	refs       kinds that a prefixed reference may have ("vip alias interface")
//	when       the field applies only when the sibling expression holds ("type=http")
//	advanced   "true": forms fold it away
//	protects   "true": a build or mode that leaves this part without effect must
//	           refuse to apply it, since the user counts on being protected by it
package config

// CurrentFormat is the format number that this build writes. A change of the
// model that isn't a pure addition raises it and brings a step in upgrade.go.
const CurrentFormat = 1

// Document is the desired state of one appliance.
type Document struct {
	// Format is the version of the document's form. A missing format is read as
	// the current one; a newer one is refused.
	Format int `json:"format"`
	// System holds the machine's own names, times and ways in.
	System System `json:"system"`
	// Administrators are the people and programs that may log in.
	Administrators []Administrator `json:"administrators"`
	// Notifications say who is told what, and how.
	Notifications Notifications `json:"notifications"`
	// Logging says where logs go and how long they are kept.
	Logging Logging `json:"logging"`
	// Interfaces are the network interfaces that Sluis knows by a name of their own.
	Interfaces []Interface `json:"interfaces"`
	// VLANs are tagged networks on top of a device.
	VLANs []VLAN `json:"vlans" label:"VLANs"`
	// Gateways are routers that this machine can send traffic through.
	Gateways []Gateway `json:"gateways"`
	// StaticRoutes send networks through a gateway other than the default one.
	StaticRoutes []StaticRoute `json:"static_routes"`
	// VirtualIPs are addresses that sites listen on, beside the interfaces' own.
	VirtualIPs []VirtualIP `json:"virtual_ips" label:"Virtual IPs"`
	// Aliases are named sets of hosts, networks or ports, usable in firewall rules
	// and in the load balancer's ACLs.
	Aliases []Alias `json:"aliases"`
	// Schedules are named times of the week.
	Schedules []Schedule `json:"schedules"`
	// Firewall decides which packets pass.
	Firewall Firewall `json:"firewall" protects:"true"`
	// Authorities are certificate authorities: imported ones that are trusted, and
	// internal ones that sign.
	Authorities []Authority `json:"authorities"`
	// Certificates are what sites and the appliance itself show to clients.
	Certificates []Certificate `json:"certificates"`
	// CertificateRequests are requests that wait for an outside authority's answer.
	CertificateRequests []CertificateRequest `json:"certificate_requests"`
	// RevocationLists name certificates that their authority has withdrawn.
	RevocationLists []RevocationList `json:"revocation_lists"`
	// ACMEAccounts are registrations with authorities that issue by ACME (RFC 8555).
	ACMEAccounts []ACMEAccount `json:"acme_accounts" label:"ACME accounts"`
	// LoadBalancer holds what all frontends share.
	LoadBalancer LoadBalancer `json:"load_balancer"`
	// StickTables remember which server a client was sent to.
	StickTables []StickTable `json:"stick_tables"`
	// ErrorPages replace the answers that Sluis gives itself.
	ErrorPages []ErrorPage `json:"error_pages"`
	// Frontends are the sites as clients see them: addresses, TLS, rules.
	Frontends []Frontend `json:"frontends"`
	// Backends are groups of servers that do the work of a site.
	Backends []Backend `json:"backends"`
	// PolicyTests are expectations that must hold before an apply goes through.
	PolicyTests []PolicyTest `json:"policy_tests"`
	// MaintenanceWindows take servers out of balancing at announced times.
	MaintenanceWindows []MaintenanceWindow `json:"maintenance_windows"`
	// Pair joins two appliances into one system; absent = this one stands alone.
	Pair *Pair `json:"pair,omitempty"`
}

// PolicyTest is a saved expectation: this request must be answered that way.
type PolicyTest struct {
	// Name identifies the test.
	Name string `json:"name" required:"true"`
	// Description says which promise the test guards.
	Description string `json:"description"`
	// Frontend is the frontend that receives the request.
	Frontend string `json:"frontend" ref:"frontends" required:"true"`
	// Bind is the frontend's bind that the request arrives at; empty = the first one.
	Bind string `json:"bind" ref:"frontends[.frontend].binds"`
	// Source is the client's address; empty = 203.0.113.1, an address of nobody.
	Source string `json:"source" format:"address"`
	// Method is the request's method.
	Method string `json:"method" format:"method"`
	// Host is the request's Host field.
	Host string `json:"host" format:"host_field"`
	// Path is the request's path, with its query if it has one.
	Path string `json:"path" format:"request_target"`
	// Headers are further request header fields.
	Headers []HeaderField `json:"headers"`
	// ExpectBackend is the backend that must be chosen; empty = not looked at.
	ExpectBackend string `json:"expect_backend" ref:"backends"`
	// ExpectStatus is the status of an answer that Sluis must give itself, such as a
	// redirect or a refusal; 0 = not looked at.
	ExpectStatus int `json:"expect_status" range:"0..599"`
	// ExpectLocation is where a redirect must lead; empty = not looked at.
	ExpectLocation string `json:"expect_location"`
}

// MaintenanceWindow takes servers out of balancing for an announced time.
type MaintenanceWindow struct {
	// Name identifies the window.
	Name string `json:"name" required:"true"`
	// Description says what is being done.
	Description string `json:"description"`
	// Backend is the backend whose servers are taken out.
	Backend string `json:"backend" ref:"backends" required:"true"`
	// Servers are the servers that are taken out; empty = all of the backend.
	Servers []string `json:"servers" ref:"backends[.backend].servers"`
	// Schedule says when.
	Schedule string `json:"schedule" ref:"schedules" required:"true"`
}

// Pair joins two appliances.
type Pair struct {
	// Interface is where the two talk to each other.
	Interface string `json:"interface" ref:"interfaces" required:"true"`
	// Peer is the other appliance's address.
	Peer string `json:"peer" format:"address" required:"true"`
}
