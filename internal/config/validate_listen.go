package config

import (
	"net/netip"
	"reflect"
	"slices"

	"sluis/internal/text"
)

// listener is one address and port that somebody wants to listen on.
type listener struct {
	path    string
	address netip.Addr // the zero Addr with any or with network set
	any     bool       // all addresses
	network string     // an interface whose addresses the document doesn't show
	port    uint16
}

// listenerKey is a place that two can't share.
type listenerKey struct {
	address netip.Addr
	network string
	port    uint16
}

// ports finds whoever wants a place that is taken already:
//
//	any         clashes with everything on its port
//	an address  clashes with itself and with any
//	interface:X stands for its static addresses; where the machine learns them
//	            later, for itself
type ports struct {
	specific map[listenerKey]string
	all      map[uint16]string // port → who has all its addresses
	first    map[uint16]string // port → the first who has one of its addresses
}

// take notes a listener and returns who had its place before; empty = nobody.
func (p *ports) take(l listener) string {
	key := listenerKey{l.address, l.network, l.port}
	other := p.all[l.port]
	switch {
	case other != "":
	case l.any:
		other = p.first[l.port]
	default:
		other = p.specific[key]
	}
	if other != "" {
		return other
	}
	if l.any {
		p.all[l.port] = l.path
	} else {
		p.specific[key] = l.path
	}
	if p.first[l.port] == "" {
		p.first[l.port] = l.path
	}
	return ""
}

// checkListeners checks that no two listen on the same place: frontends among each
// other, and frontends against the appliance's own ports. The appliance listens
// on its loopback and its interfaces' own addresses, never on virtual IPs.
func (c *checker) checkListeners() {
	taken := &ports{specific: map[listenerKey]string{}, all: map[uint16]string{}, first: map[uint16]string{}}
	own := c.ownPorts()
	each("frontends", c.doc.Frontends, func(path string, f *Frontend) {
		if f.Disabled {
			return
		}
		each(path+".binds", f.Binds, func(path string, b *Bind) {
			clash := false
			for _, l := range c.bindListeners(path, b) {
				if clash {
					return // one word about one bind is enough
				}
				clash = c.listen(taken, own, b, l)
			}
		})
	})
}

func (c *checker) listen(taken *ports, own []ownPort, b *Bind, l listener) (clash bool) {
	for _, o := range own {
		if o.port == b.Port && o.meets(c, l) {
			c.add(l.path+".port", text.M("port {port} at this address is taken by {other}", "port", b.Port, "other", o.path)).
				Do(text.M("choose another port for one of them, or listen on a virtual IP"))
			return true
		}
	}
	if other := taken.take(l); other != "" {
		c.add(l.path, text.M("{other} listens on this address and port {port} already", "other", other, "port", b.Port)).
			Do(text.M("one frontend can serve several sites: use ACLs on the host"))
		return true
	}
	return false
}

// bindListeners are the places that a bind listens on, as far as the document
// shows them.
func (c *checker) bindListeners(path string, b *Bind) []listener {
	if b.Port == 0 {
		return nil
	}
	l := listener{path: path, port: b.Port}
	switch kind, _, name, isRef := cutKind(b.Address); {
	case isRef && kind == "vip":
		v := c.virtualIPs[name]
		if v == nil {
			return nil
		}
		p, said := parsePrefix(v.Address)
		l.address = p.Addr()
		if !said.none() {
			return nil
		}
		return []listener{l}
	case isRef && kind == "interface":
		return c.interfaceListeners(l, name)
	case b.Address == "any":
		l.any = true
		return []listener{l}
	}
	a, err := netip.ParseAddr(b.Address)
	if err != nil {
		return nil
	}
	l.address, l.any = a, a.IsUnspecified()
	return []listener{l}
}

func (c *checker) interfaceListeners(l listener, name string) []listener {
	var list []listener
	for _, own := range c.networks {
		if own.name == name {
			l.address = own.prefix.Addr()
			list = append(list, l)
		}
	}
	l.address, l.network = netip.Addr{}, name
	return append(list, l)
}

// ownPort is a port of the appliance itself.
type ownPort struct {
	path     string
	port     uint16
	loopback bool // on the loopback address alone
	// interfaces are the only ones that it listens on beside the loopback; nil = all.
	interfaces []string
}

// meets reports whether a bind wants a place that the port has.
func (o ownPort) meets(c *checker, l listener) bool {
	if l.any || l.address.IsLoopback() {
		return true
	}
	if o.loopback {
		return false
	}
	if l.network != "" {
		return o.on(l.network)
	}
	for _, own := range c.networks {
		if own.prefix.Addr() == l.address {
			return o.on(own.name)
		}
	}
	return false
}

func (o ownPort) on(name string) bool {
	return o.interfaces == nil || slices.Contains(o.interfaces, name)
}

// ownPorts lists the appliance's own ports, and says which of them clash.
func (c *checker) ownPorts() []ownPort {
	s := &c.doc.System
	var management []string
	if len(s.Admin.Interfaces) > 0 {
		management = s.Admin.Interfaces
	}
	own := []ownPort{{path: "system.admin.port", port: s.Admin.Port, interfaces: management}}
	if s.SSH.Enabled {
		own = append(own, ownPort{path: "system.ssh.port", port: s.SSH.Port})
	}
	if s.Admin.RedirectHTTP && s.Admin.Protocol == AdminHTTPS {
		own = append(own, ownPort{path: "system.admin.redirect_http", port: 80, interfaces: management})
	}
	if port := c.doc.LoadBalancer.Stats.Port; port != 0 {
		own = append(own, ownPort{path: "load_balancer.stats.port", port: port, loopback: true})
	}
	first := map[uint16]string{}
	for _, o := range own {
		if other, twice := first[o.port]; twice {
			c.add(o.path, text.M("port {port} is taken by {other}", "port", o.port, "other", other))
			continue
		}
		first[o.port] = o.path
	}
	return own
}

// pathOfEntry is the path of an element of a plain list.
func pathOfEntry(list string, index int) string { return elementPath(list, reflect.ValueOf(0), index) }
