package resolve

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"sluis/internal/text"
)

const (
	// tries is how often each DNS server is asked.
	tries = 2
	// maxServers is how many DNS servers are asked.
	maxServers = 8
	// maxAliases is how many CNAME records may stand between a name and its addresses.
	maxAliases = 16
)

// answer is where a name is.
type answer struct {
	addresses []netip.Addr // at least one
	lifetime  time.Duration
	source    Source
}

// ask finds a name's addresses: by rule, in the hosts file, or in the DNS. present
// is the address that it has now.
func (r *Resolver) ask(ctx context.Context, host string, present netip.Addr, s settings) (answer, text.Msg) {
	if isLocalhost(host) {
		return answer{[]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, maxLifetime, FromRule}, text.Msg{}
	}
	if found := r.hosts.find(host); len(found) > 0 {
		return answer{found, maxLifetime, FromHosts}, text.Msg{} // a change of the file wakes the name
	}
	servers := s.servers
	if len(servers) == 0 {
		servers = r.options.SystemServers()
	}
	if len(servers) == 0 {
		return answer{}, text.M("no DNS server is known")
	}
	servers = servers[:min(len(servers), maxServers)]
	var problem text.Msg
	for _, full := range fullNames(host, s.domain) {
		var a answer
		var absent bool
		a, absent, problem = r.addresses(ctx, servers, full, present)
		if problem.IsZero() || !absent {
			return a, problem
		}
	}
	return answer{}, problem
}

// isLocalhost tells the names that never go to the DNS (RFC 6761 6.3).
func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// fullNames are the names to ask for, in order: one without a dot is looked for in
// the machine's own domain first.
func fullNames(host, domain string) []string {
	if !strings.Contains(host, ".") && domain != "" {
		return []string{dns.Fqdn(host + "." + normal(domain)), dns.Fqdn(host)}
	}
	return []string{dns.Fqdn(host)}
}

// family is what the DNS says of a name's addresses of one family.
type family struct {
	addresses []netip.Addr
	lifetime  time.Duration
	absent    bool     // the DNS says for certain that there are none
	problem   text.Msg // zero = there are addresses
}

// addresses asks for both families at once. IPv4 comes first. A family that could
// not be asked for fails the lookup when the present address is of it or there is
// no address without it.
func (r *Resolver) addresses(ctx context.Context, servers []netip.AddrPort, full string, present netip.Addr) (a answer, absent bool, problem text.Msg) {
	other := make(chan family, 1)
	go func() { other <- r.family(ctx, servers, full, dns.TypeAAAA) }()
	four := r.family(ctx, servers, full, dns.TypeA)
	six := <-other
	for _, f := range []struct {
		family
		needed bool
	}{{four, present.Is4()}, {six, present.Is6()}} {
		if f.needed && !f.problem.IsZero() && !f.absent {
			return answer{}, false, f.problem
		}
	}
	a = answer{addresses: slices.Concat(four.addresses, six.addresses), lifetime: maxLifetime, source: FromDNS}
	for _, f := range []family{four, six} {
		switch {
		case f.problem.IsZero():
			a.lifetime = min(a.lifetime, f.lifetime)
		case !f.absent:
			a.lifetime = min(a.lifetime, maxRetry) // ask for the missing family again soon
		}
	}
	if len(a.addresses) > 0 {
		return a, false, text.Msg{}
	}
	if !four.absent {
		return answer{}, false, four.problem
	}
	return answer{}, six.absent, six.problem
}

// family asks for one family and follows aliases, over several questions where an
// answer leaves an alias open.
func (r *Resolver) family(ctx context.Context, servers []netip.AddrPort, full string, kind uint16) family {
	name, lifetime := full, maxLifetime
	for hops := 0; hops <= maxAliases; hops++ {
		reply, problem := r.query(ctx, servers, name, kind)
		if !problem.IsZero() {
			return family{problem: problem}
		}
		found, end, ttl := follow(reply, name, kind)
		lifetime = min(lifetime, ttl)
		switch {
		case len(found) > 0:
			return family{addresses: found, lifetime: lifetime}
		case reply.Rcode == dns.RcodeNameError:
			return family{absent: true, problem: text.M("the DNS says that there is no name {name}", "name", strings.TrimSuffix(end, "."))}
		case end == name:
			return family{absent: true, problem: text.M("the DNS has no address for {name}", "name", strings.TrimSuffix(end, "."))}
		}
		name = end
	}
	return family{problem: text.M("{name} is an alias of an alias without end", "name", strings.TrimSuffix(full, "."))}
}

// follow walks an answer from a name over its aliases to addresses. Records that
// don't belong to that way are not looked at. end is how far it came.
func follow(reply *dns.Msg, start string, kind uint16) (found []netip.Addr, end string, lifetime time.Duration) {
	end, lifetime = start, maxLifetime
	for range maxAliases + 1 {
		next := ""
		for _, record := range reply.Answer {
			h := record.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, end) {
				continue
			}
			address := netip.Addr{}
			switch v := record.(type) {
			case *dns.A:
				if kind == dns.TypeA {
					address, _ = netip.AddrFromSlice(v.A.To4())
				}
			case *dns.AAAA:
				if kind == dns.TypeAAAA {
					address, _ = netip.AddrFromSlice(v.AAAA.To16())
				}
			case *dns.CNAME:
				next = v.Target
			}
			if next != "" && h.Rrtype == dns.TypeCNAME || usable(address) {
				lifetime = min(lifetime, lifetimeOf(h))
			}
			if usable(address) && !slices.Contains(found, address) {
				found = append(found, address)
			}
		}
		if len(found) > 0 || next == "" {
			return found, end, lifetime
		}
		end = next
	}
	return found, end, lifetime
}

// lifetimeOf is a record's lifetime; one with the highest bit is none (RFC 2181 8).
func lifetimeOf(h *dns.RR_Header) time.Duration {
	if h.Ttl > math.MaxInt32 {
		return 0
	}
	return time.Duration(h.Ttl) * time.Second
}

// usable leaves out what no server can have.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.Is4In6()
}

// query asks the servers in their order, each twice, until one gives an answer that
// settles it: the records, or that there are none.
func (r *Resolver) query(ctx context.Context, servers []netip.AddrPort, name string, kind uint16) (*dns.Msg, text.Msg) {
	var problem text.Msg
	for range tries {
		for _, server := range servers {
			if ctx.Err() != nil {
				return nil, text.M("the lookup was ended")
			}
			reply, err := r.exchange(ctx, server, name, kind)
			if err != nil {
				r.stats.unanswered.Add(1)
				problem = r.unanswered(server, err)
				continue
			}
			switch {
			case isLame(reply):
				problem = text.M("the DNS server {server} answers no questions of ours", "server", server)
			case reply.Rcode == dns.RcodeSuccess, reply.Rcode == dns.RcodeNameError:
				return reply, text.Msg{}
			default:
				problem = text.M("the DNS server {server} says {code}", "server", server, "code", dns.RcodeToString[reply.Rcode])
			}
		}
	}
	return nil, problem
}

// isLame tells an answer of a server that neither knows the name nor asks others.
func isLame(reply *dns.Msg) bool {
	return reply.Rcode == dns.RcodeSuccess && !reply.Authoritative && !reply.RecursionAvailable && len(reply.Answer) == 0
}
