package config

import (
	"net/netip"
	"slices"

	"sluis/internal/text"
)

// ownNetwork is a static address of an interface with its network.
type ownNetwork struct {
	path   string // of the address
	name   string // of the interface
	prefix netip.Prefix
}

func (c *checker) checkNetworks() {
	c.checkInterfaces()
	c.vlans()
	c.checkGateways()
	c.staticRoutes()
	c.checkVirtualIPs()
}

func (c *checker) checkInterfaces() {
	devices := map[string]string{}
	each("interfaces", c.doc.Interfaces, func(path string, i *Interface) {
		if other, twice := devices[i.Device]; twice && i.Device != "" {
			c.add(path+".device", text.M("{device} is the device of {other} already", "device", i.Device, "other", other)).
				Do(text.M("a second network on one device is a VLAN; a second address is a virtual IP"))
		} else {
			devices[i.Device] = path
		}
		c.static(path+".ipv4", i, i.IPv4.Method == IPv4Static, i.IPv4.Address, i.IPv4.Gateway)
		c.static(path+".ipv6", i, i.IPv6.Method == IPv6Static, i.IPv6.Address, i.IPv6.Gateway)
	})
	c.interfaceGateways()
}

// static checks one family's static address and notes its network.
func (c *checker) static(path string, i *Interface, isStatic bool, address, gateway string) {
	if !isStatic {
		return
	}
	if address == "" {
		c.add(path+".address", text.M("a static address is missing")).Do(text.M("write it with its prefix length, such as 192.0.2.10/24"))
		return
	}
	prefix, said := parsePrefix(address)
	if !said.none() || !checkInterfaceAddress(address).none() {
		return
	}
	if !i.Disabled {
		c.overlap(path+".address", prefix)
		c.networks = append(c.networks, ownNetwork{path + ".address", i.Name, prefix})
	}
	router, said := parseAddress(gateway)
	switch {
	case gateway == "" || !said.none():
	case router == prefix.Addr():
		c.add(path+".gateway", text.M("the gateway can't be the interface's own address"))
	case !prefix.Contains(router) && !router.IsLinkLocalUnicast():
		c.warn(path+".gateway", text.M("{address} is outside of {network}: the interface can't reach it", "address", router, "network", prefix.Masked()))
	}
}

func (c *checker) overlap(path string, prefix netip.Prefix) {
	for _, other := range c.networks {
		switch {
		case other.prefix.Addr() == prefix.Addr():
			c.add(path, text.M("{address} is the address of {other} already", "address", prefix.Addr(), "other", other.name))
			return
		case other.prefix.Overlaps(prefix):
			c.warn(path, text.M("the network overlaps {network} of {other}: the machine can't tell which way leads there",
				"network", other.prefix.Masked(), "other", other.name))
			return
		}
	}
}

// interfaceGateways warns of two routers where no gateway says which is the
// default one.
func (c *checker) interfaceGateways() {
	for _, family := range []struct {
		name    string
		is      func(netip.Addr) bool
		gateway func(*Interface) string
	}{
		{"ipv4", netip.Addr.Is4, func(i *Interface) string { return staticGateway(i.IPv4.Method == IPv4Static, i.IPv4.Gateway) }},
		{"ipv6", netip.Addr.Is6, func(i *Interface) string { return staticGateway(i.IPv6.Method == IPv6Static, i.IPv6.Gateway) }},
	} {
		chosen := slices.ContainsFunc(c.doc.Gateways, func(g Gateway) bool {
			address, said := parseAddress(g.Address)
			return g.Default && said.none() && family.is(address)
		})
		first := ""
		each("interfaces", c.doc.Interfaces, func(path string, i *Interface) {
			switch {
			case chosen || i.Disabled || family.gateway(i) == "":
			case first == "":
				first = path
			default:
				c.warn(path+"."+family.name+".gateway", text.M("{other} has a gateway too, and none is the default one", "other", first)).
					Do(text.M("list them under gateways and make one the default"))
			}
		})
	}
}

func staticGateway(isStatic bool, gateway string) string {
	if isStatic {
		return gateway
	}
	return ""
}

func (c *checker) vlans() {
	type place struct {
		parent string
		tag    uint16
	}
	parents, first := map[string]string{}, map[place]string{}
	each("vlans", c.doc.VLANs, func(path string, v *VLAN) {
		parents[v.Name] = v.Parent
		key := place{v.Parent, v.Tag}
		if other, twice := first[key]; twice {
			c.add(path+".tag", text.M("tag {tag} on {parent} is taken by {other}", "tag", v.Tag, "parent", v.Parent, "other", other))
			return
		}
		first[key] = path
	})
	each("vlans", c.doc.VLANs, func(path string, v *VLAN) {
		if nestsTooDeep(v.Name, parents) {
			c.add(path+".parent", text.M("{name} is carried by itself, or by more than {limit} others", "name", v.Name, "limit", maxNestedVLANs))
			return
		}
		if !c.used["vlans["+v.Name+"]"] {
			c.hint(path, text.M("no interface uses the device {name}", "name", v.Name))
		}
	})
}

// maxNestedVLANs is how many devices the kernel stacks (MAX_NEST_DEV).
const maxNestedVLANs = 8

func nestsTooDeep(name string, parents map[string]string) bool {
	for range maxNestedVLANs {
		parent, isVLAN := parents[name]
		if !isVLAN {
			return false
		}
		name = parent
	}
	return true
}

func (c *checker) checkGateways() {
	defaults := map[string]string{} // family → path
	each("gateways", c.doc.Gateways, func(path string, g *Gateway) {
		address, said := parseAddress(g.Address)
		if !said.none() {
			return
		}
		if other, twice := defaults[familyOf(address)]; twice && g.Default {
			c.add(path+".default", text.M("{other} is the default gateway for {family} already", "other", other, "family", familyOf(address)))
		} else if g.Default {
			defaults[familyOf(address)] = path
		}
		c.neighbour(path+".address", g.Interface, address)
	})
}

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// neighbour warns of an address that an interface can't reach without a router.
func (c *checker) neighbour(path, name string, address netip.Addr) {
	if !c.staticOn(name, address) || address.IsLinkLocalUnicast() {
		return
	}
	for _, own := range c.networks {
		if own.name == name && own.prefix.Addr() == address {
			c.add(path, text.M("{address} is this appliance's own address, of the interface {interface}", "address", address, "interface", name))
			return
		}
		if own.name == name && own.prefix.Contains(address) {
			return
		}
	}
	c.warn(path, text.M("{address} is outside of the networks of {interface}", "address", address, "interface", name))
}

// staticOn reports whether the networks of an interface are known from the
// document, as far as an address' family goes.
func (c *checker) staticOn(name string, address netip.Addr) bool {
	i := c.interfaces[name]
	switch {
	case i == nil:
		return false
	case address.Is4():
		return i.IPv4.Method != IPv4DHCP
	}
	return i.IPv6.Method == IPv6Static || i.IPv6.Method == IPv6None
}

func (c *checker) staticRoutes() {
	first := map[netip.Prefix]string{}
	each("static_routes", c.doc.StaticRoutes, func(path string, r *StaticRoute) {
		destination, said := parsePrefix(r.Destination)
		if !said.none() {
			return
		}
		if other, twice := first[destination]; twice {
			c.add(path+".destination", text.M("{network} has a route already: {other}", "network", destination, "other", other))
		} else {
			first[destination] = path
		}
		if destination.Bits() == 0 {
			c.warn(path+".destination", text.M("this is a default route")).Do(text.M("set default on the gateway instead"))
		}
		if g := c.gateways[r.Gateway]; g != nil {
			if address, said := parseAddress(g.Address); said.none() && address.Is4() != destination.Addr().Is4() {
				c.add(path+".gateway", text.M("the gateway {name} has an address of the other family than {network}", "name", g.Name, "network", destination))
			}
		}
	})
}

func (c *checker) checkVirtualIPs() {
	first := map[netip.Addr]string{}
	each("virtual_ips", c.doc.VirtualIPs, func(path string, v *VirtualIP) {
		prefix, said := parsePrefix(v.Address)
		if !said.none() {
			return
		}
		address := prefix.Addr()
		if other, twice := first[address]; twice {
			c.add(path+".address", text.M("{address} is the address of {other} already", "address", address, "other", other))
			return
		}
		first[address] = path
		c.virtualNeighbour(path+".address", v, address)
	})
}

// virtualNeighbour holds a virtual address against the interfaces' networks.
func (c *checker) virtualNeighbour(path string, v *VirtualIP, address netip.Addr) {
	within := false
	for _, own := range c.networks {
		if own.prefix.Addr() == address {
			c.add(path, text.M("{address} is the address of {other} already", "address", address, "other", own.name))
			return
		}
		if !own.prefix.Contains(address) {
			continue
		}
		within = true
		if !checkInterfaceAddress(netip.PrefixFrom(address, own.prefix.Bits()).String()).none() {
			c.add(path, text.M("{address} is no machine's address in {network}", "address", address, "network", own.prefix.Masked()))
			return
		}
		if own.name != v.Interface {
			c.warn(path, text.M("{address} belongs to the network of {other}, not of {interface}", "address", address, "other", own.name, "interface", v.Interface))
			return
		}
	}
	if !within && c.staticOn(v.Interface, address) {
		c.warn(path, text.M("{address} is outside of the networks of {interface}", "address", address, "interface", v.Interface)).
			Do(text.M("clients reach it only if a router sends it here"))
	}
}
