package config

import (
	"fmt"
	"strings"
	"time"
)

// The mistakes of TestValidateMistakes, by the part in which they are made.

var systemMistakes = []mistake{
	{func(d *Document) { d.System.OutgoingProxy.URL, d.System.OutgoingProxy.Username = "http://p:1", "a:b" }, Error, "system.outgoing_proxy.username", "colon"},
	{func(d *Document) { d.Frontends[0].Type = FrontendTCP }, Error, "policy_tests[shop-front].frontend", "a test sends HTTP requests"},
	{func(d *Document) { d.Administrators[0].FullName = strings.Repeat("x", maxLine+1) }, Error, "administrators[root].full_name", "4097 bytes long"},
	{func(d *Document) { d.System.OutgoingProxy.Password = NewSecret(strings.Repeat("x", maxPEM+1)) }, Error, "system.outgoing_proxy.password", "at most 1048576"},
	{func(d *Document) { d.Format = 7 }, Error, "format", "not 7"},
	{func(d *Document) { d.System.Hostname = "lb1.example.net" }, Error, "system.hostname", "without a domain"},
	{func(d *Document) { d.System.Domain = ".example.net" }, Error, "system.domain", "write example.net"},
	{func(d *Document) { d.System.DNSServers = []string{"192.0.2.300"} }, Error, "system.dns_servers[0]", "no IP address"},
	{func(d *Document) { d.System.DNSServers = []string{"192.0.2.53", "192.0.2.53"} }, Warning, "system.dns_servers[1]", "already, as entry 1"},
	{func(d *Document) { d.System.TimeServers = []string{""} }, Error, "system.time_servers[0]", "can't be empty"},
	{func(d *Document) { d.System.Timezone = "Europe/Amsterdm" }, Error, "system.timezone", "no time zone"},
	{func(d *Document) { d.System.Admin.Port = 0 }, Error, "system.admin.port", "0 is out of range: 1 to 65535"},
	{func(d *Document) { d.System.Admin.Protocol = "htpps" }, Error, "system.admin.protocol", "did you mean https?"},
	{func(d *Document) { d.System.Admin.Protocol = "" }, Error, "system.admin.protocol", "one of https, http is needed"},
	{func(d *Document) { d.System.Admin.Protocol = AdminHTTP }, Warning, "system.admin.protocol", "clear text"},
	{func(d *Document) { d.System.Admin.Protocol, d.System.Admin.Certificate = AdminHTTP, "own" }, Warning, "system.admin.certificate", "no effect while protocol is http"},
	{func(d *Document) { d.System.Admin.Certificate = "shpo" }, Error, "system.admin.certificate", "did you mean shop?"},
	{func(d *Document) { d.System.Admin.Interfaces = []string{"lam"} }, Error, "system.admin.interfaces[0]", "did you mean lan?"},
	{func(d *Document) { d.Interfaces[1].Disabled = true }, Error, "system.admin.interfaces", "nobody could reach this appliance"},
	{func(d *Document) {
		d.System.Admin.Interfaces, d.Interfaces[1].Disabled = []string{"wan", "lan"}, true
	}, Warning, "system.admin.interfaces[1]", "the interface lan is disabled"},
	{func(d *Document) { d.System.Admin.Sources = []string{"0.0.0.0/0"} }, Hint, "system.admin.sources[0]", "every source"},
	{func(d *Document) { d.System.Admin.Sources = []string{"alias:ofice"} }, Error, "system.admin.sources[0]", "did you mean alias:office?"},
	{func(d *Document) { d.System.Admin.Sources = []string{"office"} }, Error, "system.admin.sources[0]", "did you mean alias:office?"},
	{func(d *Document) { d.System.Admin.Sources = []string{"alais:office"} }, Error, "system.admin.sources[0]", "did you mean alias:office?"},
	{func(d *Document) { d.System.Admin.Sources = []string{"interface:lan"} }, Error, "system.admin.sources[0]", "what can be named here: alias:…"},
	{func(d *Document) { d.System.Admin.Sources = []string{"alias:"} }, Error, "system.admin.sources[0]", "the name after alias: is missing"},
	{func(d *Document) { d.System.Admin.Sources = []string{"10.1.2.3/8"} }, Error, "system.admin.sources[0]", "did you mean 10.0.0.0/8?"},
	{func(d *Document) { d.System.Admin.SessionTimeout = 25 * hour }, Error, "system.admin.session_timeout", "25h is out of range: 1m to 24h"},
	{func(d *Document) { d.System.Admin.LoginBanner = "bell\a" }, Error, "system.admin.login_banner", "control character"},
	{func(d *Document) { d.System.Admin.LoginProtection.PassList = []string{"::/0"} }, Warning, "system.admin.login_protection.pass_list[0]", "nobody is ever blocked"},
	{func(d *Document) { d.System.SSH.Port = 2222 }, Warning, "system.ssh.port", "no effect while enabled is false"},
	{func(d *Document) { d.System.SSH.Enabled = true }, Hint, "system.ssh.key_only", "no administrator of this document has one"},
	{func(d *Document) { d.System.OutgoingProxy.URL = "http://u:p@proxy:3128" }, Error, "system.outgoing_proxy.url", "where logs would show them"},
	{func(d *Document) { d.System.OutgoingProxy.URL = "proxy:3128" }, Error, "system.outgoing_proxy.url", "no proxy's address"},
	{func(d *Document) {
		d.System.OutgoingProxy.URL, d.System.OutgoingProxy.Password = "http://proxy:3128", NewSecret("x")
	}, Error, "system.outgoing_proxy.username", "no name to go with"},
	{func(d *Document) { d.System.OutgoingProxy.Username = "u" }, Warning, "system.outgoing_proxy.url", "but no proxy"},

	{func(d *Document) { d.Administrators[0].Disabled = true }, Error, "administrators", "nobody could change the configuration"},
	{func(d *Document) { d.Administrators[0].Role = RoleViewer }, Error, "administrators", "nobody could change the configuration"},
	{func(d *Document) { d.Administrators[1].Role = "admin" }, Error, "administrators[oper].role", "administrator, operator, viewer"},
	{func(d *Document) { d.Administrators[1].Name = "" }, Error, "administrators[1].name", "a name is missing"},
	{func(d *Document) { d.Administrators[1].Name = "root" }, Error, "administrators[root].name", "entry 1 and of entry 2"},
	{func(d *Document) { d.Administrators[1].Name = "John Doe" }, Error, "administrators[John Doe].name", "holds something else"},
	{func(d *Document) { d.Administrators[1].Name = "-x" }, Error, "administrators[-x].name", "begins with a letter or digit"},
	{func(d *Document) { d.Administrators[1].Name = strings.Repeat("x", 64) }, Error, "administrators[" + strings.Repeat("x", 64) + "].name", "at most 63"},
	{func(d *Document) { d.Administrators[1].Objects = []string{"web"} }, Error, "administrators[oper].objects[0]", "did you mean backend:web?"},
	{func(d *Document) { d.Administrators[1].Objects = []string{"backend:wbe"} }, Error, "administrators[oper].objects[0]", "did you mean backend:web?"},
	{func(d *Document) { d.Administrators[0].Objects = []string{"backend:web"} }, Warning, "administrators[root].objects", "no effect while role is administrator"},
	{func(d *Document) { d.Administrators[0].Password = NewSecret("key:00112233445566778899aabbccddeeff") }, Error, "administrators[root].password", "begins with secret:"},
	{func(d *Document) { d.Administrators[0].Password = NewSecret("  ") }, Error, "administrators[root].password", "blanks"},
	{func(d *Document) { d.Administrators[0].SSHKeys = []string{"ssh-ed25519 AAAA"} }, Error, "administrators[root].ssh_keys[0]", "isn't whole"},
	{func(d *Document) { d.Administrators[0].FullName = "two\nlines" }, Error, "administrators[root].full_name", "one line"},

	{func(d *Document) { d.Notifications.Rules[0].Channels = nil }, Warning, "notifications.rules[all].channels", "tells nobody"},
	{func(d *Document) { d.Notifications.Rules[0].Events = nil }, Warning, "notifications.rules[all].events", "tells nothing"},
	{func(d *Document) { d.Notifications.Rules[0].Events = []string{"*.down"} }, Error, "notifications.rules[all].events[0]", "no name of an event"},
	{func(d *Document) { d.Notifications.Rules = nil }, Hint, "notifications.channels[mail]", "no notification rule"},
	{func(d *Document) { d.Notifications.Rules[0].Channels = []string{"mial"} }, Error, "notifications.rules[all].channels[0]", "did you mean mail?"},
	{func(d *Document) {
		d.Logging.Targets = []LogTarget{{Name: "a", Type: LogSyslogUDP, Address: "log"}, {Name: "b", Type: LogSyslogUDP, Address: "log"}}
	}, Warning, "logging.targets[b]", "a second time"},
	{func(d *Document) { d.Logging.Targets = []LogTarget{{Name: "a", Type: LogSyslogUDP, Address: "log:0"}} }, Error, "logging.targets[a].address", "no port"},
	{func(d *Document) { d.Logging.Targets = []LogTarget{{Name: "a", Type: LogSyslogUDP}} }, Error, "logging.targets[a].address", "can't be empty"},
	{func(d *Document) { d.Logging.MaxSize = 1 << 10 }, Error, "logging.max_size", "1KiB is out of range: 1MiB to 1024GiB"},

	{func(d *Document) { d.Schedules[0].Ranges = nil }, Error, "schedules[nights].ranges", "can't be empty"},
	{func(d *Document) { d.Schedules[0].Ranges[0].To = "22:00" }, Error, "schedules[nights].ranges[n].to", "ends when it begins"},
	{func(d *Document) { d.Schedules[0].Ranges[0].To = "24:00" }, Error, "schedules[nights].ranges[n].to", "leave the field empty"},
	{func(d *Document) { d.Schedules[0].Ranges[0].Days = []Weekday{"sunnday"} }, Error, "schedules[nights].ranges[n].days[0]", "did you mean sunday?"},
	{func(d *Document) {
		now := time.Unix(1e9, 0)
		d.Schedules[0].Ranges[0].Starts, d.Schedules[0].Ranges[0].Ends = &now, &now
	}, Error, "schedules[nights].ranges[n].ends", "before it starts"},
	{func(d *Document) { d.PolicyTests[0].ExpectBackend = "" }, Warning, "policy_tests[shop-front]", "can't fail"},
	{func(d *Document) { d.PolicyTests[0].ExpectStatus = 301 }, Error, "policy_tests[shop-front].expect_backend", "expects both"},
	{func(d *Document) { d.PolicyTests[0].ExpectBackend, d.PolicyTests[0].ExpectStatus = "", 20 }, Error, "policy_tests[shop-front].expect_status", "out of range"},
	{func(d *Document) {
		d.PolicyTests[0].ExpectBackend, d.PolicyTests[0].ExpectStatus, d.PolicyTests[0].ExpectLocation = "", 200, "/"
	}, Error, "policy_tests[shop-front].expect_status", "301 to 308"},
	{func(d *Document) { d.PolicyTests[0].Bind = "htps" }, Error, "policy_tests[shop-front].bind", "did you mean https?"},
	{func(d *Document) { d.PolicyTests[0].Frontend = "shpo" }, Error, "policy_tests[shop-front].frontend", "did you mean shop?"},
	{func(d *Document) { d.PolicyTests[0].Frontend = "" }, Error, "policy_tests[shop-front].frontend", "can't be empty"},
	{func(d *Document) { d.Frontends[0].Disabled = true }, Warning, "policy_tests[shop-front].frontend", "disabled"},
	{func(d *Document) { d.PolicyTests[0].Path = "index.html" }, Error, "policy_tests[shop-front].path", "write /index.html"},
	{func(d *Document) { d.PolicyTests[0].Headers = []HeaderField{{Name: "X A"}} }, Error, "policy_tests[shop-front].headers[X A].name", "no name of a field"},
	{func(d *Document) { d.PolicyTests[0].Headers = []HeaderField{{Name: "X-A"}, {Name: "x-a"}} }, Error, "policy_tests[shop-front].headers[x-a].name", "entry 1 and of entry 2"},
	{func(d *Document) {
		d.MaintenanceWindows = []MaintenanceWindow{{Name: "w", Backend: "web", Servers: []string{"web1", "web2"}, Schedule: "nights"}}
	}, Warning, "maintenance_windows[w].servers", "no server of web is left"},
	{func(d *Document) {
		d.MaintenanceWindows = []MaintenanceWindow{{Name: "w", Backend: "web", Servers: []string{"web3"}, Schedule: "nights"}}
	}, Error, "maintenance_windows[w].servers[0]", "among backends[web].servers"},
	{func(d *Document) {
		d.MaintenanceWindows = []MaintenanceWindow{{Name: "w", Backend: "web", Schedule: "night"}}
	}, Error, "maintenance_windows[w].schedule", "did you mean nights?"},
	{func(d *Document) { d.Pair = &Pair{Interface: "lan", Peer: "10.0.0.2"} }, Error, "pair.peer", "own address"},
	{func(d *Document) { d.Pair = &Pair{Interface: "lan", Peer: "10.9.0.2"} }, Warning, "pair.peer", "outside of the networks of lan"},
	{func(d *Document) { d.Pair = &Pair{Peer: "10.0.0.3"} }, Error, "pair.interface", "can't be empty"},
}

var networkMistakes = []mistake{
	{func(d *Document) { d.Interfaces[1].IPv6 = IPv6{IPv6Static, "2001:db8::2/64", "2001:db8:1::1"} }, Warning, "interfaces[lan].ipv6.gateway", "outside of 2001:db8::/64"},
	{func(d *Document) { d.Gateways = []Gateway{{Name: "g", Interface: "lan", Address: "2001:db8::1"}} }, Warning, "gateways[g].address", "outside of the networks of lan"},
	{func(d *Document) { d.Interfaces[1].Device = "eth0" }, Error, "interfaces[lan].device", "device of interfaces[wan] already"},
	{func(d *Document) { d.Interfaces[0].Device = "a-very-long-device" }, Error, "interfaces[wan].device", "up to 15 characters"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "" }, Error, "interfaces[lan].ipv4.address", "a static address is missing"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "10.0.0.2" }, Error, "interfaces[lan].ipv4.address", "a prefix length is missing"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "10.0.0.0/24" }, Error, "interfaces[lan].ipv4.address", "address of the network itself"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "10.0.0.255/24" }, Error, "interfaces[lan].ipv4.address", "is 10.0.0.254"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "2001:db8::1/64" }, Error, "interfaces[lan].ipv4.address", "no IPv4 address"},
	{func(d *Document) { d.Interfaces[1].IPv6 = IPv6{IPv6Static, "10.0.0.9/24", ""} }, Error, "interfaces[lan].ipv6.address", "no IPv6 address"},
	{func(d *Document) { d.Interfaces[1].IPv4.Method = IPv4DHCP }, Warning, "interfaces[lan].ipv4.address", "no effect while method is dhcp"},
	{func(d *Document) { d.Interfaces[0].IPv4.Gateway = "203.0.113.1" }, Warning, "interfaces[wan].ipv4.gateway", "outside of 192.0.2.0/24"},
	{func(d *Document) { d.Interfaces[0].IPv4.Gateway = "192.0.2.10" }, Error, "interfaces[wan].ipv4.gateway", "own address"},
	{func(d *Document) { d.Interfaces[1].IPv4.Gateway = "10.0.0.1" }, Warning, "interfaces[lan].ipv4.gateway", "none is the default one"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "192.0.2.10/25" }, Error, "interfaces[lan].ipv4.address", "the address of wan already"},
	{func(d *Document) { d.Interfaces[1].IPv4.Address = "192.0.2.20/25" }, Warning, "interfaces[lan].ipv4.address", "overlaps 192.0.2.0/24"},
	{func(d *Document) { d.VLANs = []VLAN{{Name: "eth0.20", Parent: "eth0", Tag: 20}} }, Hint, "vlans[eth0.20]", "no interface uses"},
	{func(d *Document) {
		d.VLANs = []VLAN{{Name: "a", Parent: "eth0", Tag: 20}, {Name: "b", Parent: "eth0", Tag: 20}}
	}, Error, "vlans[b].tag", "taken by vlans[a]"},
	{func(d *Document) {
		d.VLANs = []VLAN{{Name: "a", Parent: "b", Tag: 1}, {Name: "b", Parent: "a", Tag: 1}}
	}, Error, "vlans[a].parent", "carried by itself"},
	{func(d *Document) { d.VLANs = []VLAN{{Name: "a", Parent: "eth0", Tag: 4095}} }, Error, "vlans[a].tag", "1 to 4094"},
	{func(d *Document) { d.Gateways = []Gateway{{Name: "g", Interface: "wan", Address: "203.0.113.1"}} }, Warning, "gateways[g].address", "outside of the networks of wan"},
	{func(d *Document) { d.Gateways = []Gateway{{Name: "g", Interface: "wan", Address: "192.0.2.10"}} }, Error, "gateways[g].address", "own address"},
	{func(d *Document) {
		d.Gateways = []Gateway{{Name: "g", Interface: "wan", Address: "192.0.2.1", Default: true}, {Name: "h", Interface: "lan", Address: "10.0.0.1", Default: true}}
	}, Error, "gateways[h].default", "gateways[g] is the default gateway for IPv4"},
	{func(d *Document) { d.Gateways = []Gateway{{Name: "g", Address: "192.0.2.1"}} }, Error, "gateways[g].interface", "can't be empty"},
	{func(d *Document) {
		d.StaticRoutes = []StaticRoute{{Name: "r", Destination: "10.9.0.0/16", Gateway: "g"}}
	}, Error, "static_routes[r].gateway", "no g among gateways"},
	{func(d *Document) {
		d.Gateways = []Gateway{{Name: "g", Interface: "lan", Address: "10.0.0.1"}}
		d.StaticRoutes = []StaticRoute{{Name: "r", Destination: "2001:db8::/32", Gateway: "g"}}
	}, Error, "static_routes[r].gateway", "other family"},
	{func(d *Document) {
		d.Gateways = []Gateway{{Name: "g", Interface: "lan", Address: "10.0.0.1"}}
		d.StaticRoutes = []StaticRoute{{Name: "r", Destination: "10.9.0.0/16", Gateway: "g"}, {Name: "s", Destination: "10.9.0.0/16", Gateway: "g"}}
	}, Error, "static_routes[s].destination", "static_routes[r]"},
	{func(d *Document) { d.StaticRoutes = []StaticRoute{{Name: "r", Destination: "0.0.0.0/0", Gateway: "g"}} }, Warning, "static_routes[r].destination", "default route"},
	{func(d *Document) { d.StaticRoutes = []StaticRoute{{Name: "r", Destination: "10.9.0.1", Gateway: "g"}} }, Error, "static_routes[r].destination", "write 10.9.0.1/32"},
	{func(d *Document) { d.VirtualIPs[0].Address = "192.0.2.10/32" }, Error, "virtual_ips[shop].address", "the address of wan already"},
	{func(d *Document) { d.VirtualIPs[0].Address = "192.0.2.255/32" }, Error, "virtual_ips[shop].address", "no machine's address in 192.0.2.0/24"},
	{func(d *Document) { d.VirtualIPs[0].Address = "203.0.113.5/32" }, Warning, "virtual_ips[shop].address", "outside of the networks of wan"},
	{func(d *Document) { d.VirtualIPs[0].Address = "10.0.0.9/32" }, Warning, "virtual_ips[shop].address", "network of lan, not of wan"},
	{func(d *Document) { d.VirtualIPs[0].Address = "224.0.0.5/32" }, Error, "virtual_ips[shop].address", "that a machine can have"},
	{func(d *Document) {
		d.VirtualIPs = append(d.VirtualIPs, VirtualIP{Name: "b", Type: VIPAlias, Interface: "wan", Address: "192.0.2.80/24"})
	}, Error, "virtual_ips[b].address", "the address of virtual_ips[shop] already"},
	{func(d *Document) { d.VirtualIPs[0].Type = "carp" }, Error, "virtual_ips[shop].type", "ip_alias, failover"},
	{func(d *Document) { d.VirtualIPs[0].Interface = "wam" }, Error, "virtual_ips[shop].interface", "did you mean wan?"},
}

var firewallMistakes = []mistake{
	{func(d *Document) {
		d.Firewall.NAT.PortForwards = []PortForward{{Name: "p", Interface: "wan", Destination: "192.0.2.10", Target: "192.0.2.10"}}
	}, Error, "firewall.nat.port_forwards[p].target", "where they came"},
	{func(d *Document) { d.Aliases[0].Entries = nil }, Warning, "aliases[office].entries", "matches nothing"},
	{func(d *Document) { d.Aliases[0].Entries = []string{"198.51.100.7/24"} }, Error, "aliases[office].entries[0]", "did you mean 198.51.100.0/24?"},
	{func(d *Document) { d.Aliases[0].Entries = []string{"www.example.net"} }, Error, "aliases[office].entries[0]", "neither a network nor an address"},
	{func(d *Document) { d.Aliases[0].Type = AliasHost }, Error, "aliases[office].entries[0]", "make the alias one of type network"},
	{func(d *Document) { d.Aliases[0].Type = AliasPort }, Error, "aliases[office].entries[0]", "no port"},
	{func(d *Document) { d.Aliases[0].Type = AliasPort }, Error, "system.admin.sources[0]", "one of type host or network is needed"},
	{func(d *Document) { d.Firewall.Rules[0].DestinationPorts = []Port{"alias:office"} }, Error, "firewall.rules[https].destination_ports[0]", "one of type port is needed"},
	{func(d *Document) { d.Aliases[0].Entries = []string{"alias:office"} }, Error, "aliases[office].entries[0]", "can't contain itself: office, office"},
	{func(d *Document) {
		d.Aliases[0].Entries = []string{"alias:b"}
		d.Aliases = append(d.Aliases, Alias{Name: "b", Type: AliasNetwork, Entries: []string{"10.0.0.0/8", "alias:office"}})
	}, Error, "aliases[b].entries[1]", "office, b, office"},
	{func(d *Document) {
		d.Aliases[0].Entries = []string{"alias:b"}
		d.Aliases = append(d.Aliases, Alias{Name: "b", Type: AliasPort, Entries: []string{"443"}})
	}, Error, "aliases[office].entries[0]", "b holds entries of type port"},
	{func(d *Document) { d.Aliases[0].Entries = make([]string, maxEntries+1) }, Error, "aliases[office].entries", "5001 entries stand here, at most 5000"},
	{func(d *Document) { d.Firewall.Rules[0].DestinationPorts = []Port{"0"} }, Error, "firewall.rules[https].destination_ports[0]", "no port"},
	{func(d *Document) { d.Firewall.Rules[0].DestinationPorts = []Port{"90-80"} }, Error, "firewall.rules[https].destination_ports[0]", "doesn't rise"},
	{func(d *Document) { d.Firewall.Rules[0].Protocol = ProtocolAny }, Error, "firewall.rules[https].destination_ports", "only tcp and udp have ports"},
	{func(d *Document) { d.Firewall.Rules[0].Source = "self" }, Error, "firewall.rules[https].source", "appliance itself"},
	{func(d *Document) { d.Firewall.Rules[0].Source = "2001:db8::/32" }, Error, "firewall.rules[https].source", "can never match"},
	{func(d *Document) { d.Firewall.Rules[0].Family = FamilyIPv6 }, Error, "firewall.rules[https].destination", "this is IPv4"},
	{func(d *Document) {
		d.Firewall.Rules[0].Family, d.Firewall.Rules[0].Source = FamilyAny, "2001:db8::1"
	}, Error, "firewall.rules[https].destination", "its source is IPv6"},
	{func(d *Document) { d.Firewall.Rules[0].Destination = "vip:shpo" }, Error, "firewall.rules[https].destination", "did you mean vip:shop?"},
	{func(d *Document) { d.Firewall.Rules[0].Source = "*" }, Error, "firewall.rules[https].source", "write any"},
	{func(d *Document) {
		all := defaultFor[FirewallRule]()
		all.Name = "all"
		d.Firewall.Rules = append([]FirewallRule{all}, d.Firewall.Rules...)
	}, Warning, "firewall.rules[https]", "all decides all of them"},
	{func(d *Document) {
		d.Firewall.NAT.PortForwards = []PortForward{{Name: "p", Interface: "wan", Destination: "any", Target: "10.0.0.9"}}
	}, Error, "firewall.nat.port_forwards[p].destination", "one address of this machine"},
	{func(d *Document) {
		d.Firewall.NAT.PortForwards = []PortForward{{Name: "p", Interface: "wan", Destination: "vip:shop", Target: "2001:db8::9"}}
	}, Error, "firewall.nat.port_forwards[p].target", "IPv4 can't be led on to IPv6"},
	{func(d *Document) {
		d.Firewall.NAT.Outbound = []OutboundNAT{{Name: "o", Interface: "wan", Source: "any"}}
	}, Error, "firewall.nat.outbound[o].source", "must be named"},
}

var certificateMistakes = []mistake{
	{func(d *Document) { d.Authorities[0].Internal.Subject.CommonName = strings.Repeat("x", 65) }, Error, "authorities[root].internal.subject.common_name", "at most 64"},
	{func(d *Document) {
		d.RevocationLists = []RevocationList{{Name: "l", Authority: "imported", Lifetime: hour}}
		d.Authorities = append(d.Authorities, Authority{Name: "imported", Certificate: d.Certificates[0].Certificate})
	}, Error, "revocation_lists[l].authority", "import the list"},
	{func(d *Document) { withACME(d).Names = make([]string, maxACMENames+1) }, Error, "certificates[acme].acme.names", "at most 100"},
	{func(d *Document) { d.Certificates[0].Key = Secret{} }, Error, "certificates[shop].key", "private key is missing"},
	{func(d *Document) { d.Certificates[0].Key = NewSecret("hello") }, Error, "certificates[shop].key", "no private key in PEM form"},
	{func(d *Document) {
		d.Certificates[0].Key = NewSecret("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	}, Error, "certificates[shop].key", "encrypted"},
	{func(d *Document) { d.Certificates[0].Key = NewSecret("secret:00112233445566778899aabbccddeeff") }, Error, "certificates[shop].key", "begins with key:"},
	{func(d *Document) { d.Certificates[0].Certificate = "" }, Error, "certificates[shop]", "isn't said"},
	{func(d *Document) { d.Certificates[0].SelfSigned = d.Certificates[1].SelfSigned }, Error, "certificates[shop]", "certificate, self_signed exclude each other"},
	{func(d *Document) { d.Certificates[0].Certificate = "AAAA" }, Error, "certificates[shop].certificate", "no block -----BEGIN CERTIFICATE-----"},
	{func(d *Document) {
		d.Certificates[0].Certificate += "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	}, Error, "certificates[shop].certificate", "where everybody can read it"},
	{func(d *Document) {
		d.Certificates[0].Certificate = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
	}, Error, "certificates[shop].certificate", "a block CERTIFICATE REQUEST stands here"},
	{func(d *Document) { d.Certificates[1].SelfSigned.CommonName = "" }, Error, "certificates[own].self_signed.common_name", "can't be empty"},
	{func(d *Document) { d.Certificates[1].SelfSigned.CommonName = "The web shop" }, Error, "certificates[own].self_signed.common_name", "no host name"},
	{func(d *Document) {
		d.Certificates[1].SelfSigned.CommonName = strings.Repeat("a", 40) + "." + strings.Repeat("b", 40)
	}, Error, "certificates[own].self_signed.common_name", "at most 64"},
	{func(d *Document) { d.Certificates[1].SelfSigned.KeyType = KeyECDSAP521 }, Warning, "certificates[own].self_signed.key_type", "browsers refuse"},
	{func(d *Document) { d.Certificates[1].SelfSigned.Lifetime = 3 * year }, Hint, "certificates[own].self_signed.lifetime", "825 days"},
	{func(d *Document) { d.Certificates[1].SelfSigned.Subject.CommonName = "x" }, Warning, "certificates[own].self_signed.subject.common_name", "no effect"},
	{func(d *Document) { d.Certificates[1].SelfSigned.Subject.Country = "nl" }, Error, "certificates[own].self_signed.subject.country", "two capital letters"},
	{func(d *Document) { d.Certificates[1].SelfSigned.AlternativeNames.DNS = []string{"www.*.example.net"} }, Error, "certificates[own].self_signed.alternative_names.dns[0]", "wrong place"},
	{func(d *Document) { d.Certificates[1].SelfSigned.AlternativeNames.DNS = []string{"192.0.2.1"} }, Error, "certificates[own].self_signed.alternative_names.dns[0]", "among the IP addresses"},
	{func(d *Document) {
		d.Certificates[1].SelfSigned.AlternativeNames.Email = []string{"Joe <joe@example.net>"}
	}, Error, "certificates[own].self_signed.alternative_names.email[0]", "no mail address"},
	{func(d *Document) {
		d.Certificates[1].SelfSigned.Usage, d.Frontends[0].TLS.Certificates = UsageUser, []string{"own"}
	}, Error, "frontends[shop].tls.certificates[0]", "made for a user"},
	{func(d *Document) {
		d.Authorities[0].Internal, d.Authorities[0].Certificate = nil, d.Certificates[0].Certificate
	}, Error, "certificates[inner].internal.authority", "root can't sign"},
	{func(d *Document) { d.Certificates[2].Internal.Spec.Lifetime = 20 * year }, Warning, "certificates[inner].internal.authority", "would live longer"},
	{func(d *Document) { d.Certificates[2].Internal.Authority = "rot" }, Error, "certificates[inner].internal.authority", "did you mean root?"},
	{func(d *Document) { d.Authorities[0].Internal = nil }, Error, "authorities[root]", "needs its certificate"},
	{func(d *Document) { d.Authorities[0].Certificate = d.Certificates[0].Certificate }, Error, "authorities[root]", "exclude each other"},
	{func(d *Document) { d.Authorities[0].Internal.Subject.CommonName = "" }, Error, "authorities[root].internal.subject.common_name", "needs a name"},
	{func(d *Document) { d.Authorities[0].Internal.Issuer = "root" }, Error, "authorities[root].internal.issuer", "can't sign for itself"},
	{func(d *Document) {
		d.Authorities = append(d.Authorities, issuing("a", "b", nil), issuing("b", "a", nil))
	}, Error, "authorities[a].internal.issuer", "circle"},
	{func(d *Document) {
		d.Authorities[0].Internal.PathLength = new(int)
		d.Authorities = append(d.Authorities, issuing("a", "root", nil))
	}, Error, "authorities[a].internal.issuer", "no intermediate below it"},
	{func(d *Document) {
		d.Authorities[0].Internal.PathLength = new(1)
		d.Authorities = append(d.Authorities, issuing("a", "root", new(1)))
	}, Warning, "authorities[a].internal.path_length", "at most 0"},
	{func(d *Document) { d.Authorities[0].Internal.PathLength = new(17) }, Error, "authorities[root].internal.path_length", "0 to 16"},
	{func(d *Document) { withACME(d).Names = []string{"*.example.net"} }, Error, "certificates[acme].acme.names[0]", "set challenge to dns_01"},
	{func(d *Document) { withACME(d).Names = nil }, Error, "certificates[acme].acme.names", "can't be empty"},
	{func(d *Document) { withACME(d).KeyType = KeyRSA8192 }, Warning, "certificates[acme].acme.key_type", "use ecdsa_p256"},
	{func(d *Document) { withACME(d); d.ACMEAccounts[0].Directory = "http://ca.example.net/dir" }, Error, "acme_accounts[le].directory", "https alone"},
	{func(d *Document) { withACME(d); d.ACMEAccounts[0].Directory = "ca.example.net" }, Error, "acme_accounts[le].directory", "no complete URL"},
	{func(d *Document) { withACME(d); d.ACMEAccounts[0].ExternalKeyID = "kid" }, Error, "acme_accounts[le].external_key", "missing"},
	{func(d *Document) { withACME(d); d.ACMEAccounts[0].ExternalKey = NewSecret("k") }, Error, "acme_accounts[le].external_key_id", "missing"},
	{func(d *Document) {
		d.CertificateRequests = []CertificateRequest{{Name: "r", Spec: *d.Certificates[1].SelfSigned, Request: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}}
	}, Error, "certificate_requests[r].key", "private key is missing"},
	{func(d *Document) {
		d.RevocationLists = []RevocationList{{
			Name: "l", Authority: "root", Lifetime: hour,
			Revoked: []RevokedCertificate{{"a", "0a1B", "superseded"}, {"b", "A1b", "superseded"}},
		}}
	}, Error, "revocation_lists[l].revoked[b].serial", "has this serial number already"},
	{func(d *Document) {
		d.RevocationLists = []RevocationList{{Name: "l", Authority: "root", Lifetime: hour, Revoked: []RevokedCertificate{{"a", "0a:1b", "superseded"}}}}
	}, Error, "revocation_lists[l].revoked[a].serial", "write 0a1b"},
	{func(d *Document) {
		d.RevocationLists = []RevocationList{{
			Name: "l", Authority: "root", Lifetime: hour, List: "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
			Revoked: []RevokedCertificate{{"a", "0a", "superseded"}},
		}}
	}, Error, "revocation_lists[l].revoked", "exclude each other"},
}

func issuing(name, issuer string, pathLength *int) Authority {
	a := defaultFor[InternalAuthority]()
	a.Issuer, a.Subject.CommonName, a.PathLength = issuer, name, pathLength
	return Authority{Name: name, Internal: &a}
}

func withACME(d *Document) *ACMECertificate {
	a := defaultFor[ACMECertificate]()
	a.Account, a.Names = "le", []string{"www.example.net"}
	d.ACMEAccounts = []ACMEAccount{{Name: "le", Directory: "https://acme.example.net/directory"}}
	d.Certificates = append(d.Certificates, Certificate{Name: "acme", ACME: &a})
	return &a
}

var frontendMistakes = []mistake{
	{func(d *Document) {
		d.Frontends[0].Type, d.Frontends[0].TLS.HostRuleFromCertificate = FrontendTCP, true
	}, Warning, "frontends[shop].tls.host_rule_from_certificate", "no effect while the frontend's type is tcp"},
	{func(d *Document) {
		d.Frontends[0].Type, d.Frontends[0].ErrorPages = FrontendTCP, []ErrorPageUse{{"u", []int{503}, "sorry"}}
	}, Warning, "frontends[shop].error_pages[u]", "without HTTP"},
	{func(d *Document) {
		d.Frontends[0].Type, d.Frontends[0].DefaultBackend, d.Frontends[0].Rules = FrontendTCP, "", nil
	}, Warning, "frontends[shop]", "every connection is closed"},
	{func(d *Document) {
		d.Interfaces[1].IPv4 = IPv4{Method: IPv4DHCP}
		d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[1].Address, d.Frontends[0].Binds[1].Port = "interface:lan", "interface:lan", 443
	}, Error, "frontends[shop].binds[http]", "listens on this address"},
	{func(d *Document) { d.LoadBalancer.MaxConnections = 0 }, Error, "load_balancer.max_connections", "1 to 10000000"},
	{func(d *Document) { d.Frontends[0].MaxConnections = 20000 }, Hint, "frontends[shop].max_connections", "never reached"},
	{func(d *Document) { d.Frontends[0].Binds = nil }, Error, "frontends[shop].binds", "can't be empty"},
	{func(d *Document) { d.Frontends[0].Binds[0].Address = "shop" }, Error, "frontends[shop].binds[https].address", "did you mean vip:shop?"},
	{func(d *Document) { d.Frontends[0].Binds[0].Address = "224.0.0.1" }, Error, "frontends[shop].binds[https].address", "multicast"},
	{func(d *Document) { d.Frontends[0].Binds[0].Address = "192.0.2.80/32" }, Error, "frontends[shop].binds[https].address", "write 192.0.2.80"},
	{func(d *Document) { d.Frontends[0].Binds[0].Address = "alias:office" }, Error, "frontends[shop].binds[https].address", "what can be named here: vip:…, interface:…"},
	{func(d *Document) { d.Frontends[0].Binds[1].Port = 443 }, Error, "frontends[shop].binds[http]", "frontends[shop].binds[https] listens on this address"},
	{func(d *Document) {
		d.Frontends[0].Binds[1].Port, d.Frontends[0].Binds[1].Address = 443, "192.0.2.80"
	}, Error, "frontends[shop].binds[http]", "listens on this address"},
	{func(d *Document) { d.Frontends[0].Binds[1].Port, d.Frontends[0].Binds[1].Address = 443, "any" }, Error, "frontends[shop].binds[http]", "listens on this address"},
	{func(d *Document) {
		d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[1].Port = "any", 443
	}, Error, "frontends[shop].binds[http]", "listens on this address"},
	{func(d *Document) {
		d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[1].Address, d.Frontends[0].Binds[1].Port = "interface:lan", "10.0.0.2", 443
	}, Error, "frontends[shop].binds[http]", "listens on this address"},
	{func(d *Document) { f := addFrontend(d, "two"); f.Binds = f.Binds[:1] }, Error, "frontends[two].binds[https]", "frontends[shop].binds[https] listens"},
	{func(d *Document) { d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[0].Port = "any", 8443 }, Error, "frontends[shop].binds[https].port", "taken by system.admin.port"},
	{func(d *Document) {
		d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[0].Port = "10.0.0.2", 8443
	}, Error, "frontends[shop].binds[https].port", "taken by system.admin.port"},
	{func(d *Document) {
		d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[0].Port = "interface:lan", 8443
	}, Error, "frontends[shop].binds[https].port", "taken by system.admin.port"},
	{func(d *Document) {
		d.System.Admin.RedirectHTTP, d.Frontends[0].Binds[1].Address = true, "any"
	}, Error, "frontends[shop].binds[http].port", "taken by system.admin.redirect_http"},
	{func(d *Document) {
		d.Frontends[0].Binds[0].Address, d.Frontends[0].Binds[0].Port = "127.0.0.1", 8404
	}, Error, "frontends[shop].binds[https].port", "taken by load_balancer.stats.port"},
	{func(d *Document) { d.LoadBalancer.Stats.Port = 8443 }, Error, "load_balancer.stats.port", "taken by system.admin.port"},
	{func(d *Document) { d.System.SSH.Enabled, d.System.SSH.Port = true, 8443 }, Error, "system.ssh.port", "taken by system.admin.port"},
	{func(d *Document) { d.Frontends[0].Binds[0].AcceptProxy = []string{"0.0.0.0/0"} }, Warning, "frontends[shop].binds[https].accept_proxy[0]", "every client"},
	{func(d *Document) { d.VirtualIPs[0].Type = VIPProxyARP }, Warning, "frontends[shop].binds[https].address", "nothing arrives here"},
	{func(d *Document) { d.Frontends[0].TLS = nil }, Error, "frontends[shop].binds[https].tls", "no certificate to show"},
	{func(d *Document) { d.Frontends[0].TLS.Certificates = nil }, Error, "frontends[shop].tls.certificates", "can't be empty"},
	{func(d *Document) { d.Frontends[0].Binds = d.Frontends[0].Binds[1:] }, Warning, "frontends[shop].tls", "no bind of the frontend has tls set"},
	{func(d *Document) {
		d.Frontends[0].TLS.MinVersion, d.Frontends[0].TLS.MaxVersion = TLS13, TLS12
	}, Error, "frontends[shop].tls.max_version", "older than the oldest"},
	{func(d *Document) { d.Frontends[0].TLS.CipherSuites = []string{"TLS_RSA_WITH_AES_128_GCM_SHA256"} }, Error, "frontends[shop].tls.cipher_suites[0]", "without an ephemeral key"},
	{func(d *Document) { d.Frontends[0].TLS.CipherSuites = []string{"TLS_AES_128_GCM_SHA256"} }, Error, "frontends[shop].tls.cipher_suites[0]", "belongs to TLS 1.3"},
	{func(d *Document) { d.Frontends[0].TLS.CipherSuites = []string{"ECDHE-RSA-AES128-GCM-SHA256"} }, Error, "frontends[shop].tls.cipher_suites[0]", "did you mean TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256?"},
	{func(d *Document) {
		d.Frontends[0].TLS.MinVersion, d.Frontends[0].TLS.CipherSuites = TLS13, []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}
	}, Warning, "frontends[shop].tls.cipher_suites", "no effect while min_version is 1.3"},
	{func(d *Document) { d.Frontends[0].TLS.ALPN = []string{"http/2"} }, Error, "frontends[shop].tls.alpn[0]", "http/1.1, h2"},
	{func(d *Document) { d.Frontends[0].TLS.UnknownHostStatus = 421 }, Warning, "frontends[shop].tls.unknown_host_status", "no effect while host_rule_from_certificate is false"},
	{func(d *Document) { d.Frontends[0].TLS.ClientCertificates = &ClientCertificates{Mode: "required"} }, Error, "frontends[shop].tls.client_certificates.authorities", "can't be empty"},
	{func(d *Document) {
		d.Frontends[0].TLS.ClientCertificates = &ClientCertificates{Mode: "required", Authorities: []string{"rot"}}
	}, Error, "frontends[shop].tls.client_certificates.authorities[0]", "did you mean root?"},
	{func(d *Document) { d.Frontends[0].DefaultBackend = "wbe" }, Error, "frontends[shop].default_backend", "did you mean web?"},
	{func(d *Document) { d.Frontends[0].DefaultBackend = "backend:web" }, Error, "frontends[shop].default_backend", "write web"},
	{func(d *Document) { d.Frontends[0].DefaultBackend, d.Frontends[0].Rules = "", nil }, Warning, "frontends[shop]", "503"},
	{func(d *Document) { d.Frontends[0].Rules[1].When = "" }, Hint, "frontends[shop].default_backend", "never used"},
	{func(d *Document) { d.Backends[0].Type = BackendTCP }, Error, "frontends[shop].default_backend", "needs one of type http"},
	{func(d *Document) { d.Frontends[0].Type = FrontendTCP }, Error, "frontends[shop].rules[to-api].use_backend", "needs one of type tcp"},
	{func(d *Document) { d.Frontends[0].Type = FrontendTLSPassthrough }, Error, "frontends[shop].binds[https].tls", "can't take it off"},
	{func(d *Document) { d.Frontends[0].Type = FrontendTLSPassthrough }, Error, "frontends[shop].tls", "can't take it off"},
	{func(d *Document) { d.Frontends[0].Type = FrontendTCP }, Error, "frontends[shop].rules[to-https].redirect", "redirect needs HTTP"},
	{func(d *Document) { d.Frontends[0].Type = FrontendTCP }, Error, "frontends[shop].acls[api].match", "path needs HTTP"},
	{func(d *Document) {
		d.Frontends[0].Type, d.Frontends[0].Rules[1].When = FrontendTCP, "is_websocket"
	}, Error, "frontends[shop].rules[to-api].when", "is_websocket needs HTTP"},
	{func(d *Document) { d.Frontends[0].Timeouts.Client = 0 }, Error, "frontends[shop].timeouts.client", "0s is out of range: 1s to 24h"},
	{func(d *Document) { d.Frontends[0].ErrorPages = []ErrorPageUse{{"u", []int{503}, "sorry"}} }, Error, "frontends[shop].error_pages[u].page", "no sorry among error_pages"},
	{func(d *Document) {
		d.ErrorPages = []ErrorPage{{Name: "sorry", ContentType: "text/html"}}
		d.Frontends[0].ErrorPages = []ErrorPageUse{{"u", []int{503}, "sorry"}, {"v", []int{502, 503}, "sorry"}}
	}, Error, "frontends[shop].error_pages[v].codes[1]", "another page already"},
	{func(d *Document) {
		d.ErrorPages = []ErrorPage{{Name: "sorry", ContentType: "text/html"}}
		d.Frontends[0].ErrorPages = []ErrorPageUse{{"u", []int{200}, "sorry"}}
	}, Error, "frontends[shop].error_pages[u].codes[0]", "400 to 599"},
	{func(d *Document) { d.ErrorPages = []ErrorPage{{Name: "sorry", ContentType: "a\r\nb"}} }, Error, "error_pages[sorry].content_type", "line ends"},
	{func(d *Document) { d.Frontends = make([]Frontend, maxObjects+1) }, Error, "frontends", "at most 10000"},
}

func addFrontend(d *Document, name string) *Frontend {
	f := soundFrontend()
	f.Name = name
	d.Frontends = append(d.Frontends, f)
	return &d.Frontends[len(d.Frontends)-1]
}

// rule sets the second rule of the sound frontend.
func rule(r Rule) func(*Document) {
	return func(d *Document) {
		r.Name = "to-api"
		d.Frontends[0].Rules[1] = r
	}
}

// acl sets the ACL of the sound frontend.
func acl(a ACL) func(*Document) {
	return func(d *Document) {
		a.Name = "api"
		d.Frontends[0].ACLs[0] = a
	}
}

const (
	rulePath = "frontends[shop].rules[to-api]"
	aclPath  = "frontends[shop].acls[api]"
)

var ruleMistakes = []mistake{
	{rule(Rule{When: "api"}), Error, rulePath, "has no action"},
	{rule(Rule{When: "api", UseBackend: "api", SetPath: "/"}), Error, rulePath, "has 2: use_backend, set_path"},
	{rule(Rule{When: "apj", UseBackend: "api"}), Error, rulePath + ".when", "did you mean api?"},
	{rule(Rule{When: "api and is_tsl", UseBackend: "api"}), Error, rulePath + ".when", "did you mean is_tls?"},
	{rule(Rule{When: "api an is_tls", UseBackend: "api"}), Error, rulePath + ".when", "at character 5: and or or is missing before an"},
	{rule(Rule{When: "api", UseBackend: "apo"}), Error, rulePath + ".use_backend", "did you mean api?"},
	{rule(Rule{When: "api", UseServer: "web1"}), Error, rulePath + ".use_server", "not a server"},
	{func(d *Document) { d.Backends[0].Rules[0].UseServer = "web3" }, Error, "backends[web].rules[canary].use_server", "among backends[web].servers"},
	{func(d *Document) {
		d.Backends[0].Rules[0].UseServer, d.Backends[0].Rules[0].UseBackend = "", "api"
	}, Error, "backends[web].rules[canary].use_backend", "move the rule to the frontend"},
	{rule(Rule{When: "is_tls", UseBackend: "api"}), Hint, aclPath, "no condition asks this ACL"},
	{func(d *Document) { d.Frontends[0].Rules[0].When = "" }, Warning, rulePath, "frontends[shop].rules[to-https] decides all of them"},
	{func(d *Document) { d.Frontends[0].Rules[0].When = "" }, Warning, "frontends[shop].rules[to-https].redirect", "come to https are led in a circle"},
	{func(d *Document) { d.Frontends[0].Rules[0].When = "is_tls" }, Warning, "frontends[shop].rules[to-https].redirect", "circle"},
	{rule(Rule{When: "api", Redirect: &Redirect{Code: 302}}), Error, rulePath + ".redirect", "where the request came from"},
	{rule(Rule{When: "api", Redirect: &Redirect{Path: "/", Prefix: "/x", Code: 302}}), Error, rulePath + ".redirect.prefix", "exclude each other"},
	{rule(Rule{When: "api", Redirect: &Redirect{Path: "/", Code: 304}}), Error, rulePath + ".redirect.code", "304 is no redirect"},
	{rule(Rule{When: "api", Redirect: &Redirect{Path: "/", Code: 200}}), Error, rulePath + ".redirect.code", "301 to 308"},
	{rule(Rule{When: "api", Redirect: &Redirect{Scheme: "ftp", Code: 302}}), Error, rulePath + ".redirect.scheme", "http or https"},
	{rule(Rule{When: "api", Redirect: &Redirect{Host: "https://x", Code: 302}}), Error, rulePath + ".redirect.host", "no port"},
	{rule(Rule{When: "api", Deny: &Deny{Status: 200}}), Error, rulePath + ".deny.status", "400 to 599"},
	{rule(Rule{When: "api", Authenticate: &Authenticate{Realm: "x"}}), Error, rulePath + ".authenticate.users", "can't be empty"},
	{rule(Rule{When: "api", Authenticate: &Authenticate{Realm: "x", Users: []BasicUser{{Name: "a:b"}}}}), Error, rulePath + ".authenticate.users[a:b].name", "no colon"},
	{rule(Rule{When: "api", Authenticate: &Authenticate{Realm: "x\r\ny"}}), Error, rulePath + ".authenticate.realm", "one line"},
	{rule(Rule{When: "api", Authenticate: &Authenticate{Realm: "x", Users: []BasicUser{{"a@b", NewSecret("p")}}}}), Warning, rulePath + ".authenticate", "clear text"},
	{rule(Rule{When: "api", SetHeader: &SetHeader{OfRequest, "Content-Length", "1"}}), Error, rulePath + ".set_header.field", "writes it itself"},
	{rule(Rule{When: "api", SetHeader: &SetHeader{OfRequest, "X-From", "{sorce}"}}), Warning, rulePath + ".set_header.value", "did you mean source?"},
	{rule(Rule{When: "api", SetHeader: &SetHeader{OfRequest, "X From", "a"}}), Error, rulePath + ".set_header.field", "no name of a field"},
	{rule(Rule{When: "api", AddHeader: &SetHeader{OfRequest, "X-From", "a\nX-Evil: b"}}), Error, rulePath + ".add_header.value", "line ends"},
	{rule(Rule{When: "api", RemoveHeader: &RemoveHeader{OfRequest, "Transfer-Encoding"}}), Error, rulePath + ".remove_header.field", "writes it itself"},
	{rule(Rule{When: "api", ReplaceHeader: &ReplaceHeader{OfRequest, "X", "(", ""}}), Error, rulePath + ".replace_header.find", "missing closing )"},
	{rule(Rule{When: "api", ReplacePath: &Replace{"^/a(?!b)", "/"}}), Error, rulePath + ".replace_path.find", "look ahead"},
	{rule(Rule{When: "api", SetPath: "/a b"}), Error, rulePath + ".set_path", "write /a%20b"},
	{rule(Rule{When: "api", SetPath: "/a?b"}), Error, rulePath + ".set_path", "without a query"},
	{rule(Rule{When: "api", SetMethod: "get"}), Error, rulePath + ".set_method", "write GET"},

	{acl(ACL{Match: MatchPath}), Error, aclPath, "the ACL holds for nothing"},
	{acl(ACL{Match: "pth", Is: []string{"/"}}), Error, aclPath + ".match", "did you mean path?"},
	{acl(ACL{Match: MatchSource, Is: []string{"10.0.0.1"}}), Error, aclPath + ".is", "with source go: in"},
	{acl(ACL{Match: MatchHost, In: []string{"10.0.0.0/8"}}), Error, aclPath + ".in", "can't be asked of host"},
	{acl(ACL{Match: MatchHost, Is: []string{"a"}, Segments: []string{"b"}}), Error, aclPath + ".segments", "can't be asked of host"},
	{acl(ACL{Match: MatchPath, Is: []string{"/"}, AnyPort: true}), Error, aclPath + ".any_port", "can't be asked of path"},
	{acl(ACL{Match: MatchHeader, Is: []string{"a"}}), Error, aclPath + ".field", "name the header"},
	{acl(ACL{Match: MatchHeader, Field: "Host", Is: []string{"a"}}), Hint, aclPath + ".field", "match host"},
	{acl(ACL{Match: MatchSource, In: []string{"10.0.0.0/8", "alias:ofice"}}), Error, aclPath + ".in[1]", "did you mean alias:office?"},
	{acl(ACL{Match: MatchUsableServers, AtLeast: 1}), Error, aclPath + ".backend", "isn't said"},
	{acl(ACL{Match: MatchUsableServers, Backend: "web"}), Error, aclPath, "with usable_servers go: backend, at_least"},
	{acl(ACL{Match: MatchHost, Starts: []string{"shop"}}), Hint, aclPath + ".starts", "shop.evil.example"},
	{acl(ACL{Match: MatchHost, Is: []string{"*.example.net"}}), Error, aclPath + ".is[0]", "ends with .example.net"},
	{acl(ACL{Match: MatchHost, Is: []string{"a.example.net:443"}, AnyPort: true}), Warning, aclPath + ".is[0]", "never holds"},
	{acl(ACL{Match: MatchHost, Is: []string{"https://a"}}), Error, aclPath + ".is[0]", "no port"},
	{acl(ACL{Match: MatchPath, Starts: []string{"api/"}}), Warning, aclPath + ".starts[0]", "write /api/"},
	{acl(ACL{Match: MatchPath, Segments: []string{"a/b"}}), Error, aclPath + ".segments[0]", "two slashes"},
	{acl(ACL{Match: MatchPath, Contains: []string{"?x"}}), Warning, aclPath + ".contains[0]", "query_parameter"},
	{acl(ACL{Match: MatchMethod, Is: []string{"post"}, CaseSensitive: true}), Warning, aclPath + ".is[0]", "write POST"},
	{acl(ACL{Match: MatchPath, Regex: []string{strings.Repeat("a", maxRegex+1)}}), Error, aclPath + ".regex[0]", "at most 1024"},
	{acl(ACL{Match: MatchClientCertificate, Is: []string{"a"}}), Warning, aclPath + ".match", "asks for no client certificates"},
	{func(d *Document) {
		d.Frontends[0].Binds = d.Frontends[0].Binds[1:]
		d.Frontends[0].ACLs[0] = ACL{Name: "api", Match: MatchSNI, Is: []string{"a"}}
	}, Warning, aclPath + ".match", "never holds"},
	{func(d *Document) { d.Frontends[0].ACLs[0].Name = "is_tls" }, Error, "frontends[shop].acls[is_tls].name", "the client came over TLS"},
	{func(d *Document) { d.Frontends[0].ACLs[0].Name = "NOT" }, Error, "frontends[shop].acls[NOT].name", "a word of conditions"},
}

var backendMistakes = []mistake{
	{func(d *Document) { d.Backends[1].Balance, d.Backends[1].Hash.Header = BalanceURI, "X" }, Warning, "backends[api].hash.header", "no effect while balance is uri"},
	{func(d *Document) {
		stick(StickOnCookie, StickString, "c")(d)
		d.Backends[1].Type = BackendTCP
	}, Error, "backends[api].persistence.stick.on", "needs HTTP"},
	{func(d *Document) { d.Backends = append(d.Backends, soundBackend("spare")) }, Hint, "backends[spare]", "no frontend"},
	{func(d *Document) { d.Backends[1].Servers = nil }, Warning, "backends[api].servers", "no servers"},
	{func(d *Document) { d.Backends[1].Servers[0].Disabled, d.Backends[1].Servers[1].Disabled = true, true }, Warning, "backends[api].servers", "all servers are disabled"},
	{func(d *Document) {
		d.Backends[1].Servers[0].Role, d.Backends[1].Servers[1].Role = ServerBackup, ServerBackup
	}, Warning, "backends[api].servers", "no server that is enabled is active"},
	{func(d *Document) { d.Backends[1].Servers[0].Weight, d.Backends[1].Servers[1].Weight = 0, 0 }, Warning, "backends[api].servers", "weight 0"},
	{func(d *Document) { d.Backends[1].Servers[0].Weight = 300 }, Error, "backends[api].servers[web1].weight", "0 to 256"},
	{func(d *Document) { d.Backends[1].Servers[0].Address = "10.0.0.12" }, Warning, "backends[api].servers[web2].address", "passes for two"},
	{func(d *Document) { d.Backends[1].Servers[0].Address = "10.0.0.12:443" }, Error, "backends[api].servers[web1].address", "no IP address"},
	{func(d *Document) { d.Backends[1].Servers[0].Address = "web 1" }, Error, "backends[api].servers[web1].address", "no host name"},
	{func(d *Document) { d.Backends[1].Servers[0].Address = "::ffff:10.0.0.1" }, Error, "backends[api].servers[web1].address", "write 10.0.0.1"},
	{func(d *Document) { d.Backends[1].Servers[0].Port = 0 }, Error, "backends[api].servers[web1].port", "out of range"},
	{func(d *Document) { d.Backends[1].Servers[1].Cookie = "w1" }, Error, "backends[api].servers[web2].cookie", "marks backends[api].servers[web1] already"},
	{func(d *Document) { d.Backends[1].Servers[1].Cookie, d.Backends[1].Servers[0].Cookie = "web1", "" }, Error, "backends[api].servers[web2].cookie", "web1 marks"},
	{func(d *Document) { d.Backends[1].Servers[1].Cookie = "a;b" }, Error, "backends[api].servers[web2].cookie", "no value of a cookie"},
	{func(d *Document) { d.Backends[1].Check = nil }, Hint, "backends[api].check", "dead server"},
	{func(d *Document) { d.Backends[1].Check, d.Backends[1].Failback = nil, FailbackManual }, Hint, "backends[api].failback", "no effect"},
	{func(d *Document) { d.Backends[1].ServerTLS.Verify = VerifyAuthority }, Error, "backends[api].server_tls.authority", "isn't said"},
	{func(d *Document) { d.Backends[1].ServerTLS.Authority = "root" }, Warning, "backends[api].server_tls.authority", "no effect while verify is system"},
	{func(d *Document) { d.Backends[1].ServerTLS.Verify = VerifyNone }, Hint, "backends[api].server_tls.verify", "nobody vouches"},
	{func(d *Document) { d.Backends[1].ServerTLS.SNI = "10.0.0.1" }, Error, "backends[api].server_tls.sni", "can't be sent as SNI"},
	{func(d *Document) { d.Backends[1].ServerTLS.SNI = "{sever}" }, Error, "backends[api].server_tls.sni", "{server} or {host}"},
	{func(d *Document) {
		d.RevocationLists = []RevocationList{{Name: "l", Authority: "root", Lifetime: hour}}
		d.Authorities = append(d.Authorities, issuing("a", "", nil))
		d.Backends[1].ServerTLS = ServerTLS{Verify: VerifyAuthority, Authority: "a", RevocationList: "l", MinVersion: TLS12}
	}, Warning, "backends[api].server_tls.revocation_list", "a list of root"},
	{func(d *Document) { d.Backends[1].Check.Host = "" }, Error, "backends[api].check.host", "write {server}"},
	{func(d *Document) { d.Backends[1].Check.SNI = "10.0.0.1" }, Error, "backends[api].check.sni", "can't be sent as SNI"},
	{func(d *Document) { d.Backends[1].Check.Path = "health" }, Error, "backends[api].check.path", "write /health"},
	{func(d *Document) { d.Backends[1].Check.ExpectStatus = []string{"20x"} }, Error, "backends[api].check.expect_status[0]", "2xx or 200-299"},
	{func(d *Document) { d.Backends[1].Check.ExpectStatus = []string{"299-200"} }, Error, "backends[api].check.expect_status[0]", "doesn't rise"},
	{func(d *Document) { d.Backends[1].Check.Type = CheckTCP }, Warning, "backends[api].check.path", "no effect while type is tcp"},
	{func(d *Document) { d.Backends[1].Check.Timeout = 5 * second }, Hint, "backends[api].check.timeout", "found later"},
	{func(d *Document) { d.Backends[1].Check.Headers = []HeaderField{{"HOST", "x"}} }, Error, "backends[api].check.headers[HOST]", "field of its own"},
	{func(d *Document) { d.Backends[1].Check.Interval = Duration(time.Millisecond) }, Error, "backends[api].check.interval", "100ms to 24h"},
	{plainServers(func(b *Backend) { b.Check.Type, b.Check.Path, b.Check.ExpectStatus = CheckTLS, "/", nil }), Warning, "backends[api].check.type", "none here has it"},
	{plainServers(func(b *Backend) { b.Check.SNI = "x" }), Warning, "backends[api].check.sni", "no server here has TLS"},
	{plainServers(func(b *Backend) { b.Servers[0].NoCheck, b.Servers[1].NoCheck = true, true }), Hint, "backends[api].check", "all have no_check"},
	{func(d *Document) { k := d.Backends[1].Persistence.Cookie; k.SameSite, k.Secure = SameSiteNone, false }, Error, "backends[api].persistence.cookie.same_site", "set secure too"},
	{func(d *Document) { k := d.Backends[1].Persistence.Cookie; k.Partitioned, k.Secure = true, false }, Error, "backends[api].persistence.cookie.partitioned", "set secure too"},
	{func(d *Document) { k := d.Backends[1].Persistence.Cookie; k.Name, k.Secure = "__Secure-a", false }, Error, "backends[api].persistence.cookie.name", "browsers drop"},
	{func(d *Document) {
		k := d.Backends[1].Persistence.Cookie
		k.Name, k.Domains = "__Host-a", []string{"a.net"}
	}, Error, "backends[api].persistence.cookie.domains", "has a domain"},
	{func(d *Document) { d.Backends[1].Persistence.Cookie.Name = "a b" }, Error, "backends[api].persistence.cookie.name", "no name of a cookie"},
	{func(d *Document) { d.Backends[1].Persistence.Cookie.Name = "" }, Error, "backends[api].persistence.cookie.name", "can't be empty"},
	{func(d *Document) { k := d.Backends[1].Persistence.Cookie; k.Mode, k.PostOnly = CookieRewrite, true }, Warning, "backends[api].persistence.cookie.post_only", "no effect while mode is rewrite"},
	{func(d *Document) { k := d.Backends[1].Persistence.Cookie; k.MaxIdle, k.MaxLife = hour, minute }, Hint, "backends[api].persistence.cookie.max_idle", "never reached"},
	{func(d *Document) { d.Frontends[0].TLS, d.Frontends[0].Binds = nil, d.Frontends[0].Binds[1:] }, Warning, "backends[api].persistence.cookie.secure", "no frontend of this backend has TLS"},
	{func(d *Document) { d.Backends[1].Persistence.Stick = &Stick{Table: "t", On: StickOnSource} }, Error, "backends[api].persistence.stick.table", "no t among stick_tables"},
	{stick(StickOnCookie, StickIP, "c"), Error, "backends[api].persistence.stick.table", "a value of kind string"},
	{stick(StickOnCookie, StickString, ""), Error, "backends[api].persistence.stick.cookie", "isn't said"},
	{stick(StickOnSource, StickIP, "c"), Warning, "backends[api].persistence.stick.cookie", "no effect while on is source"},
	{func(d *Document) { d.Backends[1].HSTS = &HSTS{MaxAge: hour, Preload: true} }, Error, "backends[api].hsts.preload", "max_age of a year"},
	{func(d *Document) {
		d.Backends[1].HSTS = &HSTS{MaxAge: hour}
		d.Frontends[0].Binds = d.Frontends[0].Binds[1:]
	}, Hint, "backends[api].hsts", "no frontend of this backend has TLS"},
	{func(d *Document) { d.Backends[1].Balance = BalanceHeader }, Error, "backends[api].hash.header", "isn't said"},
	{func(d *Document) { d.Backends[1].Hash.Depth = 2 }, Warning, "backends[api].hash", "no effect while balance is roundrobin"},
	{func(d *Document) { d.Backends[1].Type = BackendTCP }, Error, "backends[api].persistence.cookie", "needs HTTP"},
	{func(d *Document) { d.Backends[1].Type, d.Backends[1].HSTS = BackendTCP, &HSTS{} }, Error, "backends[api].hsts", "needs HTTP"},
	{func(d *Document) { d.Backends[1].Type, d.Backends[1].Balance = BackendTCP, BalanceURI }, Error, "backends[api].balance", "needs HTTP"},
}

// plainServers changes the backend api after taking TLS off its servers.
func plainServers(do func(*Backend)) func(*Document) {
	return func(d *Document) {
		b := &d.Backends[1]
		b.Servers[0].TLS, b.Servers[1].TLS = false, false
		do(b)
	}
}

func stick(on StickOn, key StickKey, cookie string) func(*Document) {
	return func(d *Document) {
		d.StickTables = []StickTable{{Name: "t", Key: key, KeyLength: 32, Size: 10, Expire: hour}}
		d.Backends[1].Persistence.Stick = &Stick{Table: "t", On: on, Cookie: cookie}
	}
}

// More problems than anyone reads.
var valueMistakes = []mistake{
	{func(d *Document) {
		d.Aliases = nil
		for i := range maxProblems + 10 {
			d.Aliases = append(d.Aliases, Alias{Name: fmt.Sprint("a", i), Type: "x"})
		}
	}, Error, "", "further problems"},
}
