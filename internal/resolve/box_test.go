package resolve

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sluis/internal/config"
	"sluis/internal/event"
)

// box is a resolver with everything around it.
type box struct {
	*Resolver
	t *testing.T

	mu     sync.Mutex
	set    map[string]string // the address of each server, as last told
	sets   int
	events []string
	state  []byte
	saves  int
}

func newBox(t *testing.T, options Options) *box {
	b := &box{t: t, set: map[string]string{}}
	if options.LoadState == nil {
		options.LoadState = func() ([]byte, error) { return nil, nil }
	}
	options.Set = func(backend, server string, a netip.Addr) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.set[backend+"/"+server] = a.String()
		b.sets++
	}
	options.Publish = func(e event.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e.EventName()+": "+e.Text().String())
	}
	if options.SaveState == nil {
		options.SaveState = func(data []byte) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.state = data
			b.saves++
			return nil
		}
	}
	if options.HostsFile == "" {
		options.HostsFile = filepath.Join(t.TempDir(), "hosts")
	}
	if options.SystemServers == nil {
		options.SystemServers = func() []netip.AddrPort { return nil }
	}
	r, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	b.Resolver = r
	t.Cleanup(b.Close)
	return b
}

func (b *box) apply(doc *config.Document) *Change {
	b.t.Helper()
	change, problems := b.Prepare(context.Background(), doc)
	if problems.HasErrors() {
		b.t.Fatal(problems)
	}
	if err := change.Switch(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	return change
}

func (b *box) told(server string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set[server]
}

func (b *box) takeEvents() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.events
	b.events = nil
	return e
}

// web is a document with servers a, b, c of these addresses.
func web(addresses ...string) *config.Document {
	b := config.Backend{Name: "web"}
	for i, a := range addresses {
		b.Servers = append(b.Servers, config.Server{Name: string(rune('a' + i)), Address: a, Port: 80})
	}
	return &config.Document{Backends: []config.Backend{b}}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// dnsServer runs a DNS server on loopback, over UDP and TCP with the same port.
func dnsServer(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	for range 20 { // until a port is free for both
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().(*net.TCPAddr).AddrPort()
		p, err := net.ListenPacket("udp", address.String())
		if err != nil {
			l.Close()
			continue
		}
		for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: p, Handler: handler, UDPSize: 4096}} {
			ready, done := make(chan struct{}), make(chan struct{})
			s.NotifyStartedFunc = func() { close(ready) }
			go func() {
				defer close(done)
				s.ActivateAndServe()
			}()
			<-ready
			t.Cleanup(func() {
				s.Shutdown()
				<-done
			})
		}
		return address
	}
	t.Fatal("no port is free over UDP and TCP")
	return netip.AddrPort{}
}

// zone answers with records in their text form, by name and kind.
func zone(records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(reply(q, records...)) }
}

// reply is an honest answer out of the records: those of the name asked for, and
// those that its aliases lead to. A name without any doesn't exist.
func reply(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Rcode = dns.RcodeNameError
	name := q.Question[0].Name
	for range 20 {
		next := ""
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			if dns.CanonicalName(rr.Header().Name) != dns.CanonicalName(name) {
				continue
			}
			m.Rcode = dns.RcodeSuccess
			if c, ok := rr.(*dns.CNAME); ok {
				next = c.Target
			}
			if rr.Header().Rrtype == q.Question[0].Qtype || next != "" {
				m.Answer = append(m.Answer, rr)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	return m
}

func asks(s ...netip.AddrPort) settings { return settings{servers: s} }

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

const short = 100 * time.Millisecond
