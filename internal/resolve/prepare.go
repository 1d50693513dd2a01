package resolve

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// dnsPort is where DNS servers answer.
const dnsPort = 53

// Change is one prepared change of a Resolver: Switch makes it, Undo takes it back.
type Change struct {
	resolver *Resolver
	desired  *desired
	before   *desired // nil = Switch was not called yet
}

// desired is which names are looked up for whom, and how. It is never changed.
type desired struct {
	settings settings
	names    map[user]string // of each server that has one
}

// users are the servers of each name, in order.
func (d *desired) users() map[string][]user {
	users := make(map[string][]user)
	for u, host := range d.names {
		users[host] = append(users[host], u)
	}
	for _, list := range users {
		slices.SortFunc(list, func(a, b user) int {
			return strings.Compare(a.backend+"\x00"+a.server, b.backend+"\x00"+b.server)
		})
	}
	return users
}

func (s settings) equal(o settings) bool {
	return s.domain == o.domain && slices.Equal(s.servers, o.servers)
}

// Prepare reads the names of a document's servers. It asks no DNS server: whether
// one knows a name is never a reason to refuse a change.
func (r *Resolver) Prepare(_ context.Context, next *config.Document) (*Change, config.Problems) {
	var problems config.Problems
	r.mu.Lock()
	lost := r.lost
	r.mu.Unlock()
	if lost {
		problems.Warn("", text.M("the addresses of names that were kept cannot be read: names must be found anew"))
	}
	want := &desired{settings: settings{domain: next.System.Domain}, names: make(map[user]string)}
	for _, s := range next.System.DNSServers {
		if a, err := netip.ParseAddr(s); err == nil { // Validate says the others
			want.settings.servers = append(want.settings.servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	deaf := len(want.settings.servers) == 0 && len(r.options.SystemServers()) == 0
	for i, b := range next.Backends {
		for j, s := range b.Servers {
			if s.Disabled || s.Address == "" {
				continue
			}
			if _, err := netip.ParseAddr(s.Address); err == nil {
				continue
			}
			host := normal(s.Address)
			want.names[user{b.Name, s.Name}] = host
			if deaf && !isLocalhost(host) && len(r.hosts.find(host)) == 0 {
				problems.Warn(element(element("backends", b.Name, i)+".servers", s.Name, j)+".address",
					text.M("no DNS server is known that could be asked for {name}", "name", s.Address)).
					Do(text.M("name one in system.dns_servers, or give the server's address"))
			}
		}
	}
	return &Change{resolver: r, desired: want}, problems
}

// Switch looks up the names of the document, and tells at once what is known of
// them. It waits for no lookup and may be called again.
func (c *Change) Switch(context.Context) error {
	if c.before == nil {
		c.resolver.mu.Lock()
		c.before = c.resolver.desired
		c.resolver.mu.Unlock()
	}
	c.resolver.set(c.desired)
	return nil
}

// Undo brings back the names from before Switch. It may be called again, and
// without a Switch does nothing.
func (c *Change) Undo(context.Context) error {
	if c.before != nil {
		c.resolver.set(c.before)
	}
	return nil
}

// normal is how a name is known here: in lower case and without the dot at its end
// (RFC 4343, RFC 1034 3.1).
func normal(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// element is the path of an element, by its name where that can stand in a path.
func element(list, name string, index int) string {
	if name == "" || strings.ContainsAny(name, "[]") {
		name = strconv.Itoa(index)
	}
	return list + "[" + name + "]"
}
