package api

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"

	"sluis/internal/config"
)

// access is how administrators get in over the network, as a document says. It is
// never changed.
type access struct {
	// target is the address and port to listen at, as net.Listen takes it.
	target string
	https  bool
	// certificate is the name of the one that is shown; empty = the appliance's own.
	certificate string
	// names and addresses stand in the appliance's own certificate.
	names     []string
	addresses []netip.Addr
	// shown is the certificate as it was when this access took effect: for the case
	// that the named one can't be had later.
	shown *tls.Certificate

	// sources are the only networks from which somebody gets in; anySource = from all.
	sources   []netip.Prefix
	anySource bool
	// doors are the only interfaces through which somebody gets in; nil = all.
	doors []door
}

// door is a management interface.
type door struct {
	device    string
	addresses []netip.Addr // its static ones
}

// accessOf is what a document says. Sources that aren't addresses come back apart:
// names match nobody here, since a lookup must not stand between an administrator
// and the machine.
func accessOf(doc *config.Document, override string) (a *access, names []string) {
	admin := doc.System.Admin
	a = &access{
		target: target(override, admin.Port), https: admin.Protocol == config.AdminHTTPS,
		certificate: admin.Certificate, anySource: len(admin.Sources) == 0,
	}
	a.sources, names = config.Networks(doc, admin.Sources)
	for _, i := range doc.Interfaces {
		if slices.Contains(admin.Interfaces, i.Name) {
			a.doors = append(a.doors, door{i.Device, staticAddresses(i)})
		}
	}
	if a.doors == nil && len(admin.Interfaces) > 0 {
		a.doors = []door{} // none of them exists, so nobody gets in through any
	}
	a.nameOwn(doc)
	return a, names
}

// target is where to listen: the override, with the document's port if it has none.
func target(override string, port uint16) string {
	if _, _, err := net.SplitHostPort(override); err == nil {
		return override
	}
	return net.JoinHostPort(override, portText(port))
}

func staticAddresses(i config.Interface) (list []netip.Addr) {
	for _, text := range []string{i.IPv4.Address, i.IPv6.Address} {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			list = append(list, prefix.Addr().Unmap())
		}
	}
	return list
}

// nameOwn collects what the appliance's own certificate vouches for. Addresses
// that come and go (DHCP, containers) are left out: each would make another
// certificate, and whoever has noted its fingerprint would be alarmed.
func (a *access) nameOwn(doc *config.Document) {
	s := doc.System
	a.names = []string{"localhost", s.Hostname}
	if s.Domain != "" {
		a.names = append(a.names, s.Hostname+"."+s.Domain)
	}
	a.addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	hosts := s.Admin.OtherNames
	if host, _, err := net.SplitHostPort(a.target); err == nil && host != "" {
		hosts = append(slices.Clone(hosts), host)
	}
	for _, host := range hosts {
		if addr, err := netip.ParseAddr(host); err != nil {
			a.names = append(a.names, host)
		} else if !addr.IsUnspecified() {
			a.addresses = append(a.addresses, addr)
		}
	}
	for _, i := range doc.Interfaces {
		a.addresses = append(a.addresses, staticAddresses(i)...)
	}
}

// allows reports whether somebody may get in. The machine itself always may, so
// that nobody can shut out the person at the console.
func (a *access) allows(from, to netip.Addr) bool {
	from, to = from.Unmap().WithZone(""), to.Unmap().WithZone("")
	if from.IsLoopback() {
		return true
	}
	return a.fromSource(from) && (a.doors == nil || a.throughDoor(to))
}

func (a *access) fromSource(from netip.Addr) bool {
	return a.anySource || slices.ContainsFunc(a.sources, func(p netip.Prefix) bool { return p.Contains(from) })
}

// Admits reports whether a document's system.admin.sources let somebody at that
// address in. The machine itself always gets in, over loopback as well as through
// its socket (auth.Local()).
func Admits(doc *config.Document, from netip.Addr) bool {
	a, _ := accessOf(doc, "")
	from = from.Unmap().WithZone("")
	return !from.IsValid() || from.IsLoopback() || a.fromSource(from)
}

// throughDoor reports whether an address of this machine is one of a management
// interface.
func (a *access) throughDoor(to netip.Addr) bool {
	return slices.ContainsFunc(a.doors, func(d door) bool { return d.has(to) })
}

// has reports whether the address is the interface's: a static one, or one that it
// has at this moment.
func (d door) has(addr netip.Addr) bool {
	if slices.Contains(d.addresses, addr) {
		return true
	}
	device, err := net.InterfaceByName(d.device)
	if err != nil {
		return false
	}
	addresses, err := device.Addrs()
	return err == nil && slices.ContainsFunc(addresses, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap().WithZone("") == addr
	})
}
