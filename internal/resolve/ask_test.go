package resolve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestAsk(t *testing.T) {
	tests := []struct {
		name    string
		host    string
		present string
		zone    dns.HandlerFunc
		want    string // addresses and lifetime, or the problem
	}{
		{"one address", "a.test", "", zone("a.test. 60 A 192.0.2.1"), "192.0.2.1 1m0s"},
		{"case doesn't matter", "a.test", "", zone("A.TEST. 60 A 192.0.2.1"), "192.0.2.1 1m0s"},
		{"IPv4 first, the shorter lifetime", "a.test", "", zone("a.test. 60 AAAA 2001:db8::1", "a.test. 90 A 192.0.2.1"), "192.0.2.1 2001:db8::1 1m0s"},
		{"IPv6 alone", "a.test", "", zone("a.test. 60 AAAA 2001:db8::1"), "2001:db8::1 1m0s"},
		{"an alias of an alias", "a.test", "", zone("a.test. 60 CNAME b.test.", "b.test. 20 CNAME c.test.", "c.test. 300 A 192.0.2.1"), "192.0.2.1 20s"},
		{"no such name", "b.test", "", zone("a.test. 60 A 192.0.2.1"), "the DNS says that there is no name b.test"},
		{"an alias to no name", "a.test", "", zone("a.test. 60 CNAME b.test."), "the DNS says that there is no name b.test"},
		{"no address", "a.test", "", zone("a.test. 60 TXT hello"), "the DNS has no address for a.test"},
		{"no address that a server can have", "a.test", "", zone("a.test. 60 A 0.0.0.0", "a.test. 60 A 224.0.0.1", "a.test. 60 AAAA fe80::1", "a.test. 60 AAAA ::ffff:192.0.2.1"), "the DNS has no address for a.test"},
		{"a loop of aliases", "a.test", "", zone("a.test. 60 CNAME b.test.", "b.test. 60 CNAME a.test."), "a.test is an alias of an alias without end"},
		{"a lifetime of more than 31 bits", "a.test", "", zone("a.test. 4294967295 A 192.0.2.1"), "192.0.2.1 0s"},
		{"own domain first", "app", "", zone("app.example.net. 60 A 192.0.2.1", "app. 60 A 192.0.2.2"), "192.0.2.1 1m0s"},
		{"own domain, then as it is", "app", "", zone("app. 60 A 192.0.2.2"), "192.0.2.2 1m0s"},
		{"refused", "a.test", "", func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) }, "says REFUSED"},
		{"lame", "a.test", "", func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(new(dns.Msg).SetReply(q)) }, "answers no questions of ours"},
		{"silence", "a.test", "", func(dns.ResponseWriter, *dns.Msg) {}, "doesn't answer within 100ms"},
		{"an alias that is left open", "a.test", "", func(w dns.ResponseWriter, q *dns.Msg) {
			all := []string{"a.test. 60 CNAME b.test.", "b.test. 30 A 192.0.2.1"}
			m := reply(q, all...)
			m.Answer = m.Answer[:min(1, len(m.Answer))]
			w.WriteMsg(m)
		}, "192.0.2.1 30s"},
		{"records that weren't asked for", "a.test", "", func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q, "a.test. 60 A 192.0.2.1")
			for _, extra := range []string{"evil.test. 1 A 192.0.2.66", "a.test. 1 CH A 192.0.2.66"} {
				if rr, err := dns.NewRR(extra); err == nil {
					m.Answer = append(m.Answer, rr)
				}
			}
			w.WriteMsg(m)
		}, "192.0.2.1 1m0s"},
		{"no answer for IPv6, and none is needed", "a.test", "192.0.2.9", only(dns.TypeA, "a.test. 600 A 192.0.2.1"), "192.0.2.1 30s"},
		{"no answer for IPv6, and the present address is one", "a.test", "2001:db8::1", only(dns.TypeA, "a.test. 600 A 192.0.2.1"), "says SERVFAIL"},
		{"no answer for IPv4, and the present address is one", "a.test", "192.0.2.1", only(dns.TypeAAAA, "a.test. 600 AAAA 2001:db8::1"), "says SERVFAIL"},
		{"no answer for IPv4 at first", "a.test", "", only(dns.TypeAAAA, "a.test. 600 AAAA 2001:db8::1"), "2001:db8::1 30s"},
		{"without EDNS", "a.test", "", func(w dns.ResponseWriter, q *dns.Msg) {
			if q.IsEdns0() != nil {
				m := new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
				m.Question = nil
				w.WriteMsg(m)
				return
			}
			w.WriteMsg(reply(q, "a.test. 60 A 192.0.2.1"))
		}, "192.0.2.1 1m0s"},
		{"over TCP", "a.test", "", func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q, "a.test. 60 A 192.0.2.1", "a.test. 60 A 192.0.2.2")
			if w.RemoteAddr().Network() == "udp" {
				m.Truncated, m.Answer = true, m.Answer[:min(1, len(m.Answer))]
			}
			w.WriteMsg(m)
		}, "192.0.2.1 192.0.2.2 1m0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, Options{})
			b.try = short
			s := asks(dnsServer(t, tt.zone))
			s.domain = "example.net"
			a, problem := b.ask(t.Context(), tt.host, addr(tt.present), s)
			if got := shown(a) + problem.String(); !strings.Contains(got, tt.want) || problem.IsZero() && got != tt.want {
				t.Errorf("ask = %q, want %q", got, tt.want)
			}
			if problem.IsZero() && a.source != FromDNS {
				t.Errorf("source = %s", a.source)
			}
		})
	}
}

func shown(a answer) string {
	if len(a.addresses) == 0 {
		return ""
	}
	var parts []string
	for _, x := range a.addresses {
		parts = append(parts, x.String())
	}
	return strings.Join(parts, " ") + " " + a.lifetime.String()
}

// only answers questions of one kind and fails the others.
func only(kind uint16, records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype != kind {
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
			return
		}
		w.WriteMsg(reply(q, records...))
	}
}

// A liar sends everything that isn't the answer before the answer.
func TestLiesAreNotBelieved(t *testing.T) {
	lie := func(q *dns.Msg, change func(*dns.Msg)) *dns.Msg {
		m := reply(q, q.Question[0].Name+" 60 A 192.0.2.66")
		change(m)
		return m
	}
	server := dnsServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Id++ }))
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Response = false }))
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }))
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Question[0].Name = "other.test." }))
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX }))
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Question = nil }))
		w.WriteMsg(lie(q, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }))
		w.Write([]byte("short"))
		w.Write([]byte("this is no message of the DNS at all, but long enough"))
		w.WriteMsg(reply(q, "a.test. 60 A 192.0.2.1"))
	})
	b := newBox(t, Options{})
	a, problem := b.ask(t.Context(), "a.test", netip.Addr{}, asks(server))
	if got := shown(a); got != "192.0.2.1 1m0s" {
		t.Errorf("ask = %q, %s", got, problem)
	}
	if n := b.Stats().Mismatched; n != 18 {
		t.Errorf("%d messages didn't match, want 18", n)
	}
}

// Another machine's answer doesn't reach the socket at all: it is connected.
func TestIdentifiersAndPortsVary(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[int]bool{}
	server := dnsServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		ids[q.Id], ports[w.RemoteAddr().(*net.UDPAddr).Port] = true, true
		mu.Unlock()
		if o := q.IsEdns0(); o == nil || o.UDPSize() != 1232 {
			t.Errorf("EDNS = %v, want 1232 bytes", o)
		}
		w.WriteMsg(reply(q, "a.test. 60 A 192.0.2.1"))
	})
	b := newBox(t, Options{})
	for range 20 {
		b.ask(t.Context(), "a.test", netip.Addr{}, asks(server))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < 38 || len(ports) < 20 {
		t.Errorf("%d identifiers and %d ports in 40 questions", len(ids), len(ports))
	}
}

func TestServersInOrder(t *testing.T) {
	var asked [2]atomic.Int64
	good := func(i int) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			asked[i].Add(1)
			w.WriteMsg(reply(q, fmt.Sprintf("a.test. 60 A 192.0.2.%d", i)))
		}
	}
	first, second := dnsServer(t, good(0)), dnsServer(t, good(1))
	silent := dnsServer(t, func(dns.ResponseWriter, *dns.Msg) {})
	b := newBox(t, Options{})
	b.try = short
	if a, _ := b.ask(t.Context(), "a.test", netip.Addr{}, asks(first, second)); shown(a) != "192.0.2.0 1m0s" || asked[1].Load() != 0 {
		t.Errorf("ask = %q, the second server was asked %d times", shown(a), asked[1].Load())
	}
	if a, _ := b.ask(t.Context(), "a.test", netip.Addr{}, asks(silent, second)); shown(a) != "192.0.2.1 1m0s" {
		t.Errorf("ask = %q where the first server is silent", shown(a))
	}
	if n := b.Stats().Unanswered; n != 2 {
		t.Errorf("%d questions unanswered, want 2", n)
	}
	// Nobody listens: that is known at once, without the timeout.
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.LocalAddr().(*net.UDPAddr).AddrPort()
	l.Close()
	b.try = time.Minute
	if _, problem := b.ask(t.Context(), "a.test", netip.Addr{}, asks(gone)); !strings.Contains(problem.String(), "no DNS server answers at") {
		t.Errorf("problem = %s", problem)
	}
	// Two tries at each server.
	b.try = short
	before := b.Stats().Queries
	b.ask(t.Context(), "a.test", netip.Addr{}, asks(silent))
	if n := b.Stats().Queries - before; n != 4 {
		t.Errorf("%d questions to one silent server, want 2 for each family", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.try = time.Minute
	time.AfterFunc(short, cancel)
	if _, problem := b.ask(ctx, "a.test", netip.Addr{}, asks(silent)); problem.IsZero() {
		t.Error("an ended lookup has an answer")
	}
}

func TestHostsAndLocalhost(t *testing.T) {
	path := t.TempDir() + "/hosts"
	writeFile(t, path, "# names\n2001:db8::7 App.test alias\n192.0.2.7\tapp.test # comment 192.0.2.8 no.test\nbroken line\n192.0.2.9\n")
	b := newBox(t, Options{HostsFile: path})
	ask := func(host string) string {
		a, problem := b.ask(t.Context(), host, netip.Addr{}, settings{})
		return shown(a) + problem.String()
	}
	for host, want := range map[string]string{
		"app.test":      "192.0.2.7 2001:db8::7 1h0m0s",
		"alias":         "2001:db8::7 1h0m0s",
		"no.test":       "no DNS server is known",
		"localhost":     "127.0.0.1 ::1 1h0m0s",
		"app.localhost": "127.0.0.1 ::1 1h0m0s",
	} {
		if got := ask(host); got != want {
			t.Errorf("ask(%s) = %q, want %q", host, got, want)
		}
	}
	writeFile(t, path, "192.0.2.77 app.test\n")
	if got := ask("app.test"); got != "192.0.2.77 1h0m0s" {
		t.Errorf("ask after the file changed = %q", got)
	}
}

func TestSystemServers(t *testing.T) {
	path := t.TempDir() + "/resolv.conf"
	s := &systemServers{file: watchedFile{path: path}}
	if got := s.list(); len(got) != 0 {
		t.Errorf("servers without a file: %v", got)
	}
	writeFile(t, path, "search example.net\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver nonsense\n")
	want := []string{"192.0.2.53:53", "[fe80::1%eth0]:53"}
	var got []string
	for _, a := range s.list() {
		got = append(got, a.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
}

// Whatever a message says, following it ends, and yields usable addresses of the
// family that was asked for.
func FuzzFollow(f *testing.F) {
	q := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	packed, err := reply(q, "a.test. 60 CNAME b.test.", "b.test. 60 A 192.0.2.1").Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(dns.Msg)
		if m.Unpack(data) != nil {
			t.Skip()
		}
		answers(m, q)
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			found, _, lifetime := follow(m, "a.test.", kind)
			for _, a := range found {
				if !usable(a) || a.Is4() != (kind == dns.TypeA) {
					t.Errorf("follow found %s", a)
				}
			}
			if lifetime < 0 || lifetime > maxLifetime {
				t.Errorf("lifetime = %s", lifetime)
			}
		}
	})
}

func FuzzParseHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost # me\n::1 localhost ip6\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for host, list := range parseHosts(data) {
			if len(list) == 0 || len(list) > maxAddresses || host != normal(host) && !strings.HasSuffix(host, ".") {
				t.Errorf("%q has %v", host, list)
			}
		}
	})
}
