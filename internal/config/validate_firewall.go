package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"sluis/internal/text"
)

func (c *checker) checkFirewall() {
	c.checkAliases()
	c.firewallRules()
	c.nat()
}

func (c *checker) checkAliases() {
	each("aliases", c.doc.Aliases, func(path string, a *Alias) {
		if len(a.Entries) == 0 {
			c.warn(path+".entries", text.M("the alias is empty: what uses it matches nothing"))
		}
		if len(a.Entries) > maxEntries {
			return
		}
		each(path+".entries", a.Entries, func(path string, entry *string) { c.aliasEntry(path, a, *entry) })
	})
	c.aliasCycles()
}

func (c *checker) aliasEntry(path string, a *Alias, entry string) {
	if kind, _, name, isRef := cutKind(entry); isRef {
		if inner := c.aliases[name]; kind == "alias" && inner != nil && inner.Type != a.Type {
			c.add(path, text.M("{name} holds entries of type {type}, this alias holds {wanted}", "name", inner.Name, "type", inner.Type, "wanted", a.Type))
		}
		return
	}
	if entry == "" {
		return
	}
	switch a.Type {
	case AliasHost:
		said := checkHost(entry)
		if strings.Contains(entry, "/") && checkPrefix(entry).none() {
			said = wrong(text.M("{value} is a network, this alias holds {wanted}", "value", entry, "wanted", a.Type)).
				do(text.M("make the alias one of type network"))
		}
		c.complain(path, said)
	case AliasNetwork:
		c.complain(path, checkNetwork(entry))
	case AliasPort:
		c.complain(path, checkPort(entry))
	}
}

// aliasCycles finds the aliases that contain themselves, each circle once.
func (c *checker) aliasCycles() {
	const done = -1
	state := map[string]int{} // place in the way walked, from 1; done
	var way []string
	var enter func(a *Alias)
	enter = func(a *Alias) {
		way = append(way, a.Name)
		state[a.Name] = len(way)
		for i, entry := range a.Entries {
			kind, _, name, _ := cutKind(entry)
			inner := c.aliases[name]
			if kind != "alias" || inner == nil || state[name] == done {
				continue
			}
			if from := state[name]; from > 0 {
				circle := strings.Join(append(slices.Clone(way[from-1:]), name), ", ")
				c.add(pathOfEntry("aliases["+a.Name+"].entries", i), text.M("an alias can't contain itself: {circle}", "circle", circle))
				continue
			}
			enter(inner)
		}
		way = way[:len(way)-1]
		state[a.Name] = done
	}
	for i := range c.doc.Aliases {
		if a := &c.doc.Aliases[i]; state[a.Name] == 0 {
			enter(a)
		}
	}
}

// aliasUse checks that ports are named where ports are meant, and hosts or
// networks everywhere else. What aliases themselves hold is checked with them.
func (c *checker) aliasUse(l link) {
	a := c.aliases[l.name]
	if a == nil || Within(l.from, "aliases") {
		return
	}
	wantsPorts, wanted := l.value.Type() == reflect.TypeFor[Port](), "host or network"
	if wantsPorts {
		wanted = string(AliasPort)
	}
	if wantsPorts != (a.Type == AliasPort) {
		c.add(l.from, text.M("{name} is an alias of type {type}, one of type {wanted} is needed here", "name", l.name, "type", a.Type, "wanted", wanted))
	}
}

func (c *checker) firewallRules() {
	var covers []coveringRule
	each("firewall.rules", c.doc.Firewall.Rules, func(path string, r *FirewallRule) {
		if r.Source == "self" {
			c.add(path+".source", text.M("what the appliance itself sends doesn't pass these rules"))
		}
		if len(r.DestinationPorts) > 0 && !slices.Contains([]Protocol{ProtocolTCP, ProtocolUDP, ProtocolTCPUDP}, r.Protocol) {
			c.add(path+".destination_ports", text.M("only tcp and udp have ports, and this rule holds for {protocol}", "protocol", r.Protocol)).
				Do(text.M("set protocol to {protocol}", "protocol", ProtocolTCP))
		}
		c.ruleFamilies(path, r)
		if r.Disabled {
			return
		}
		if i := slices.IndexFunc(covers, func(o coveringRule) bool { return o.network == "" || o.network == r.Interface }); i >= 0 {
			c.warn(path, text.M("no packet comes as far as this rule: {other} decides all of them", "other", covers[i].name))
			return
		}
		if r.Source == "any" && r.Destination == "any" && r.Family == FamilyAny && r.Protocol == ProtocolAny && r.Schedule == "" {
			covers = append(covers, coveringRule{r.Name, r.Interface})
		}
	})
}

// coveringRule decides everything that arrives on its network; empty = on any.
type coveringRule struct{ name, network string }

// ruleFamilies finds rules that can't match: addresses of one family in a rule
// for the other, or of both at once.
func (c *checker) ruleFamilies(path string, r *FirewallRule) {
	wanted := map[Family]string{FamilyIPv4: "IPv4", FamilyIPv6: "IPv6"}[r.Family]
	from := "family"
	for _, end := range []struct{ field, value string }{{"source", r.Source}, {"destination", r.Destination}} {
		family := c.endpointFamily(end.value)
		switch {
		case family == "":
		case wanted == "":
			wanted, from = family, end.field
		case family != wanted:
			c.add(path+"."+end.field, text.M("the rule can never match: this is {family}, its {field} is {other}", "family", family, "field", from, "other", wanted))
			return
		}
	}
}

// endpointFamily is the family of an endpoint, empty where it has both or none
// that the document shows.
func (c *checker) endpointFamily(s string) string {
	if kind, _, name, ok := cutKind(s); ok && kind == "vip" {
		v := c.virtualIPs[name]
		if v == nil {
			return ""
		}
		s = v.Address
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return familyOf(p.Addr())
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return familyOf(a)
	}
	return ""
}

func (c *checker) nat() {
	each("firewall.nat.port_forwards", c.doc.Firewall.NAT.PortForwards, func(path string, p *PortForward) {
		_, isNetwork := netip.ParsePrefix(p.Destination)
		if p.Destination == "any" || p.Destination == "self" || isNetwork == nil {
			c.add(path+".destination", text.M("one address of this machine is expected")).
				Do(text.M("write vip:NAME, interface:NAME or an address"))
			return
		}
		from, to := c.endpointFamily(p.Destination), c.endpointFamily(p.Target)
		if from != "" && to != "" && from != to {
			c.add(path+".target", text.M("{from} can't be led on to {to}", "from", from, "to", to))
		}
		if p.Target == p.Destination {
			c.add(path+".target", text.M("connections would be led to where they came"))
		}
	})
	each("firewall.nat.outbound", c.doc.Firewall.NAT.Outbound, func(path string, o *OutboundNAT) {
		if o.Source == "any" || o.Source == "self" {
			c.add(path+".source", text.M("the network that is hidden must be named")).
				Do(text.M("write interface:NAME, alias:NAME or a prefix"))
		}
	})
}
