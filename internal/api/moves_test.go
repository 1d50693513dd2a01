package api

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/config"
)

// Whoever applies another port or protocol is told where to go on, before.
func TestChangeSaysWhereItMoves(t *testing.T) {
	b, port := onPort(t, nil)
	next := freePort(t)
	for range 3 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		must(t, err)
		defer func() { _ = c.Close() }()
	}
	for end := time.Now().Add(30 * time.Second); b.listener.Stats().Open != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are counted, want the three that are open", b.listener.Stats().Open)
		}
	}
	type told struct {
		path                   string
		urls                   []string
		moves                  bool
		listeners, connections int
	}
	at := func(scheme string, port uint16) []string {
		return []string{fmt.Sprintf("%s://127.0.0.1:%d", scheme, port)}
	}
	tests := map[string]struct {
		change func(*config.Admin)
		want   told
	}{
		"nothing":  {func(*config.Admin) {}, told{"", at("https", port), false, 0, 0}},
		"names":    {func(a *config.Admin) { a.OtherNames = []string{"gui.example.net"} }, told{"", at("https", port), false, 0, 0}},
		"port":     {func(a *config.Admin) { a.Port = next }, told{"system.admin.port", at("https", next), true, 1, 3}},
		"protocol": {func(a *config.Admin) { a.Protocol = config.AdminHTTP }, told{"system.admin.protocol", at("http", port), true, 0, 0}},
		"both": {
			func(a *config.Admin) { a.Port, a.Protocol = next, config.AdminHTTP },
			told{"system.admin.port", at("http", next), true, 1, 3},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			doc := initial(t)
			doc.System.Admin.Port = port
			tt.change(&doc.System.Admin)
			change, problems := b.listener.Prepare(t.Context(), doc)
			got := told{urls: change.URLs(), moves: change.Moves()}
			got.listeners, got.connections = change.Impact()
			for _, p := range problems {
				if p.Severity == config.Warning && strings.Contains(p.Message.String(), "answer at "+got.urls[0]) && !p.Hint.IsZero() {
					got.path = p.Path
				}
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(told{})); diff != "" {
				t.Errorf("told (-want +got):\n%s\n%v", diff, problems)
			}
		})
	}
}

func TestURLsOfAChange(t *testing.T) {
	f := func(address string, want ...string) {
		t.Helper()
		l := NewListener(ListenerOptions{Address: address, Handler: http.NotFoundHandler(), Accepted: func() uint64 { return 1 }})
		defer l.Close()
		doc := initial(t)
		doc.System.Admin.Protocol, doc.System.Admin.Port = config.AdminHTTP, 8443
		a, _ := accessOf(doc, address)
		change := &ListenerChange{listener: l, next: a}
		if change.Moves() || change.leaves() {
			t.Error("the first change moves")
		}
		urls := change.URLs()
		for _, url := range want {
			if !slices.Contains(urls, url) {
				t.Errorf("URLs at %q = %v, want %s", address, urls, url)
			}
		}
	}
	f("", "http://127.0.0.1:8443")
	f("127.0.0.1", "http://127.0.0.1:8443")
	f("::1", "http://[::1]:8443")
	f("192.0.2.1:9443", "http://192.0.2.1:9443")
	f("gui.example.net:9443", "http://gui.example.net:9443")
}

func TestAdmits(t *testing.T) {
	doc := initial(t)
	f := func(from string, want bool) {
		t.Helper()
		addr, _ := netip.ParseAddr(from)
		if got := Admits(doc, addr); got != want {
			t.Errorf("sources %v admit %q: %v, want %v", doc.System.Admin.Sources, from, got, want)
		}
	}
	f("192.0.2.1", true)
	doc.Aliases = []config.Alias{{Name: "office", Entries: []string{"198.51.100.0/24", "2001:db8::/32"}}}
	doc.System.Admin.Sources = []string{"alias:office"}
	doc.System.Admin.Interfaces = []string{"none"} // is no matter of sources
	for from, want := range map[string]bool{
		"192.0.2.1": false, "198.51.100.7": true, "::ffff:198.51.100.7": true, "2001:db8::1": true, "2001:db9::1": false,
		"fe80::1%eth0": false, "127.0.0.1": true, "::1": true, "": true, // = the unix socket
	} {
		f(from, want)
	}
}

// fakeConn is a connection from anywhere.
type fakeConn struct {
	net.Conn
	from string
}

func (c fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 40000))
}
func (fakeConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443} }
func (fakeConn) Close() error        { return nil }

// One source can't take all connections there are.
func TestConnectionsOfOneSource(t *testing.T) {
	l := NewListener(ListenerOptions{Handler: http.NotFoundHandler(), Accepted: func() uint64 { return 1 }})
	l.current.Store(&access{anySource: true})
	var open []net.Conn
	enter := func(from string, want bool) {
		t.Helper()
		c := l.admit(fakeConn{from: from})
		if (c != nil) != want {
			t.Errorf("a connection from %s gets in: %v, want %v", from, c != nil, want)
		}
		if c != nil {
			open = append(open, c)
		}
	}
	for i := range maxOfSource {
		enter("192.0.2.1", true)
		enter(fmt.Sprintf("2001:db8::%x", i), true)
		enter("127.0.0.1", true)
	}
	enter("127.0.0.1", true)
	enter("192.0.2.1", false)
	enter("::ffff:192.0.2.1", false)
	enter("2001:db8::ffff", false)
	enter("192.0.2.2", true)
	enter("2001:db8:0:1::1", true)
	if s := l.Stats(); s.TooManyOfSource != 3 || s.TooMany != 0 || s.Open != 3*maxOfSource+3 {
		t.Errorf("Stats() = %+v", s)
	}
	must(t, open[0].Close())
	must(t, open[0].Close()) // counts once
	enter("192.0.2.1", true)
	enter("192.0.2.1", false)
	l.counts.open.Add(maxConnections)
	enter("192.0.2.3", false) // must not stay counted
	l.counts.open.Add(-maxConnections)
	for _, c := range open {
		_ = c.Close()
	}
	if s := l.Stats(); s.Open != 0 || s.TooMany != 1 || len(l.ofSource.open) != 0 {
		t.Errorf("after all are closed: %+v, %v", s, l.ofSource.open)
	}
}

func TestStrongTags(t *testing.T) {
	f := func(field string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, strongTags(field)); diff != "" {
			t.Errorf("strongTags(%q) (-want +got):\n%s", field, diff)
		}
	}
	f("")
	f(" * ", "*")
	f(`"a"`, `"a"`)
	f(`W/"a"`)
	f(`"a", W/"b" ,"c"`, `"a"`, `"c"`)
	f(`,"a",, "b",`, `"a"`, `"b"`)
	f(`"a,b", ""`, `"a,b"`, `""`)
	f(`"a" "b"`)
	f(`"a", *`)
	f(`a`)
	f(`"a`)
	f(`W/`)
}
