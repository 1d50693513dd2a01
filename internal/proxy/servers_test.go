package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluis/internal/proxy"
)

// TestReuse is when a connection to a server carries another client's requests.
func TestReuse(t *testing.T) {
	for _, tt := range []struct {
		reuse, methods string // a client each, with two requests
		connections    int
	}{
		{"never", "GET GET", 4},
		{"safe", "GET GET GET", 1},
		{"safe", "POST POST POST", 3}, // the first request of a client has its own
		{"safe", "GET POST", 2},
		{"always", "POST POST", 1},
	} {
		o := newRecorder(t, nil)
		b := newBox(t, 1)
		doc, address := siteTo(t, "", "    reuse: "+tt.reuse+"\n", o.port)
		b.apply(doc)
		for method := range strings.FieldsSeq(tt.methods) {
			c, r := dial(t, address)
			for range 2 {
				fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", method)
				answer(t, r, method)
			}
			c.Close()
		}
		if _, n, _ := o.count(); n != tt.connections {
			t.Errorf("%s, %s: %d connections, want %d", tt.reuse, tt.methods, n, tt.connections)
		}
	}
}

// TestStaleConnections: what was sent on a connection that turns out to be dead is
// sent again only where twice does no harm.
func TestStaleConnections(t *testing.T) {
	for _, tt := range []struct {
		request   string
		status, n int // how often the server got it
	}{
		{"GET /it HTTP/1.1\r\nHost: x\r\n\r\n", 200, 2},
		{"DELETE /it HTTP/1.1\r\nHost: x\r\n\r\n", 200, 2},
		{"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 502, 1},
		{"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 502, 1},
		{"PUT /it HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 502, 1},
	} {
		got := make(chan string, 10)
		port := script(t, func(n int, c net.Conn) {
			r := bufio.NewReader(c)
			for {
				request, err := readRaw(r)
				if err != nil {
					return
				}
				if targetOf(request) == "/it" {
					got <- request
					if n == 0 {
						return // dies with the request in its hands
					}
				}
				_, _ = io.WriteString(c, ok("ok"))
			}
		})
		b := newBox(t, 1)
		doc, address := siteTo(t, "", "", port)
		b.apply(doc)
		c, r := dial(t, address)
		fmt.Fprint(c, "GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
		answer(t, r, "GET")
		fmt.Fprint(c, tt.request)
		if resp, _ := answer(t, r, "GET"); resp.StatusCode != tt.status || len(got) != tt.n {
			t.Errorf("%.6s: status %d, the server got it %d times; want %d, %d", tt.request, resp.StatusCode, len(got), tt.status, tt.n)
		}
		c.Close()
		b.quiet()
	}
}

// TestAddressOfANamedServer moves while connections are kept to the old one.
func TestAddressOfANamedServer(t *testing.T) {
	b := newBox(t, 1)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("127.0.0.2 is not here: ", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	serve := func(l net.Listener, name string) {
		t.Cleanup(func() { l.Close() })
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
		}()
	}
	serve(l, "new")
	old, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Skip("the port is taken at the other address: ", err)
	}
	serve(old, "old")
	doc, address := siteTo(t, "", "    reuse: always\n", port)
	b.apply(strings.Replace(doc, "name: s1, address: 127.0.0.1", "name: s1, address: web.example", 1))
	c, r := dial(t, address)
	for i, want := range []string{"503", "old", "old", "new"} {
		switch i {
		case 1:
			b.SetAddress("web", "s1", old.Addr().(*net.TCPAddr).AddrPort().Addr())
		case 3:
			b.SetAddress("web", "s1", l.Addr().(*net.TCPAddr).AddrPort().Addr())
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, body := answer(t, r, "GET"); body != want && fmt.Sprint(resp.StatusCode) != want {
			t.Errorf("request %d: %d %q, want %s", i, resp.StatusCode, body, want)
		}
	}
}

// TestPROXYHeader names the client whose requests come on a connection, and no other.
func TestPROXYHeader(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			port := script(t, func(_ int, c net.Conn) {
				r := bufio.NewReader(c)
				says := ""
				if version == "v1" {
					line, _ := r.ReadString('\n')
					f := strings.Fields(line)
					if len(f) != 6 || f[0] != "PROXY" || f[1] != "TCP4" {
						return
					}
					says = f[2] + ":" + f[4] + " " + f[3] + ":" + f[5]
				} else {
					head := make([]byte, 28)
					if _, err := io.ReadFull(r, head); err != nil || !bytes.HasPrefix(head, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")) {
						return
					}
					says = fmt.Sprintf("%v:%d %v:%d", net.IP(head[16:20]), binary.BigEndian.Uint16(head[24:]), net.IP(head[20:24]), binary.BigEndian.Uint16(head[26:]))
				}
				for {
					if _, err := readRaw(r); err != nil {
						return
					}
					_, _ = io.WriteString(c, ok(says))
				}
			})
			b := newBox(t, 1)
			doc, address := siteTo(t, "", "    reuse: always\n", port)
			b.apply(strings.Replace(doc, fmt.Sprintf("port: %d}\n", port), fmt.Sprintf("port: %d, send_proxy: %s}\n", port, version), 1))
			for range 3 {
				c, r := dial(t, address)
				for range 2 {
					fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					if _, body := answer(t, r, "GET"); body != c.LocalAddr().String()+" "+address {
						t.Errorf("the server was told %q of %v", body, c.LocalAddr())
					}
				}
				c.Close()
			}
		})
	}
}

// TestWhatServersAreTold of clients replaces what the clients say of themselves.
func TestWhatServersAreTold(t *testing.T) {
	o := newRecorder(t, nil)
	b := newBox(t, 1)
	doc, address := siteTo(t, "", "", o.port)
	const lies = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6;proto=https\r\n"
	_, port, _ := strings.Cut(address, ":")
	for _, tt := range []struct{ forwarded, want string }{
		{"", "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop\r\nX-Forwarded-Port: " + port + "\r\n"},
		{"    forwarded: {for: false, proto: true, host: false, port: false}\n", "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Proto: http\r\n"},
	} {
		b.apply(strings.Replace(doc, "    default_backend", tt.forwarded+"    default_backend", 1))
		o.clear()
		for _, named := range []string{"", ", X-Forwarded-For"} {
			statuses(t, converse(t, address, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close"+named+"\r\n"+lies+"\r\n", 1<<20))
		}
		got, _ := o.seen()
		if want := "GET / HTTP/1.1\r\nHost: shop\r\n" + tt.want + "\r\n"; got[0] != want {
			t.Errorf("%s: the server saw %q, want %q", tt.forwarded, got[0], want)
		}
		if tt.forwarded == "" && got[1] != got[0] { // what Sluis says can't be named away
			t.Errorf("with Connection naming a field the server saw %q", got[1])
		}
	}
}

// TestCookies bind a client to its server, as long as that may be used.
func TestCookies(t *testing.T) {
	one, two := newRecorder(t, nil), newRecorder(t, nil)
	b := newBox(t, 2)
	doc, address := siteTo(t, bare, "    persistence: {cookie: {name: SID, mode: insert, indirect: true}}\n", one.port, two.port)
	b.apply(doc)
	ask := func(cookie string) (set string) {
		if cookie != "" {
			cookie = "Cookie: a=b; SID=" + cookie + "; c=d\r\n"
		}
		answers := converse(t, address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+cookie+"\r\n", 1<<20)
		resp, _ := answer(t, bufio.NewReader(strings.NewReader(answers)), "GET")
		for _, c := range resp.Cookies() {
			set = c.Value
		}
		return set
	}
	first := ask("")
	if first != "s1" && first != "s2" {
		t.Fatalf("a new client got the cookie %q", first)
	}
	servers, other := map[string]*recorder{"s1": one, "s2": two}, map[string]string{"s1": "s2", "s2": "s1"}[first]
	servers[first].clear()
	for range 5 {
		if set := ask(first); set != "" {
			t.Errorf("a bound client got the cookie %q again", set)
		}
	}
	requests, _ := servers[first].seen()
	if len(requests) != 5 || requests[0] != "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; c=d\r\n\r\n" {
		t.Errorf("the server saw %q", requests)
	}
	if err := b.Act("web", first, proxy.Drain, 0); err != nil {
		t.Fatal(err)
	}
	if set := ask(first); set != "" {
		t.Errorf("a bound client of a server that drains got the cookie %q", set)
	}
	if set := ask(""); set != other {
		t.Errorf("a new client beside a server that drains got %q, want %q", set, other)
	}
	if err := b.Act("web", first, proxy.Maintenance, 0); err != nil {
		t.Fatal(err)
	}
	if set := ask(first); set != other {
		t.Errorf("a bound client of a server that is away got %q, want %q", set, other)
	}
}

// TestAnswersOfOurOwn are pages, redirects and demands for a password.
func TestAnswersOfOurOwn(t *testing.T) {
	b := newBox(t, 1)
	o := newRecorder(t, nil)
	doc, address := siteTo(t, `    error_pages: [{name: own, codes: [403, 429], page: own}]
    acls:
      - {name: move, match: path, starts: [/move]}
      - {name: deny, match: path, starts: [/deny]}
      - {name: slow, match: path, starts: [/slow]}
      - {name: secret, match: path, starts: [/secret]}
    rules:
      - {name: move, when: move, redirect: {scheme: https, code: 301}}
      - {name: deny, when: deny, deny: {status: 403}}
      - {name: slow, when: slow, tarpit: {status: 429, delay: 300ms}}
      - {name: secret, when: secret, authenticate: {realm: inside, users: [{name: u, password: p}]}}
`, "", o.port)
	b.apply(doc + "error_pages: [{name: own, content_type: text/plain, body: \"{status} {reason} {request_id}\"}]\n")
	for _, tt := range []struct {
		path, more string
		status     int
		has        string
		atLeast    time.Duration
	}{
		{"/", "", 200, "", 0},
		{"/move?a=b", "", 301, "Location: https://shop.example/move?a=b\r\n", 0},
		{"/deny", "", 403, "\r\n\r\n403 Forbidden ", 0},
		{"/slow", "", 429, "\r\n\r\n429 Too Many Requests ", 300 * time.Millisecond},
		{"/secret", "", 401, "WWW-Authenticate: Basic realm=\"inside\"", 0},
		{"/secret", "Authorization: Basic dTpw\r\n", 200, "", 0},
		{"/secret", "Authorization: Basic dTpxcQ==\r\n", 401, "", 0},
	} {
		begun := time.Now()
		got := converse(t, address, "GET "+tt.path+" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n"+tt.more+"\r\n", 1<<20)
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) || !strings.Contains(got, tt.has) || strings.Contains(got, "Strict-Transport") {
			t.Errorf("%s %s: %q, want %d with %q", tt.path, tt.more, got, tt.status, tt.has)
		}
		if took := time.Since(begun); took < tt.atLeast {
			t.Errorf("%s took %v", tt.path, took)
		}
	}
	b.quiet()
}

// TestRulesAndBackendsOfOneSnapshot: a rule names a backend by its place, so both must
// be of the same document, also for who is still served by the one from before.
func TestRulesAndBackendsOfOneSnapshot(t *testing.T) {
	b := newBox(t, 1)
	b.certificate("site", "shop.example")
	one, two := newRecorder(t, func(string) string { return ok("one") }), newRecorder(t, func(string) string { return ok("two") })
	port := freePort(t)
	backend := func(name string, o *recorder) string {
		return fmt.Sprintf("  - {name: %s, servers: [{name: s, address: 127.0.0.1, port: %d}]}\n", name, o.port)
	}
	doc := func(bind, backends string) string {
		return fmt.Sprintf("frontends:\n  - name: site\n    binds: [{name: main, address: 127.0.0.1, port: %d%s}]\n    default_backend: one\n", port, bind) +
			"    tls: {certificates: [site]}\n    acls: [{name: two, match: path, is: [/two]}]\n    rules: [{name: two, when: two, use_backend: two}]\nbackends:\n" + backends
	}
	b.apply(doc("", backend("one", one)+backend("two", two)))
	c, r := dial(t, fmt.Sprintf("127.0.0.1:%d", port))
	ask := func() {
		t.Helper()
		fmt.Fprint(c, "GET /two HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, body := answer(t, r, "GET"); body != "two" {
			t.Errorf("/two was answered by %d %s", resp.StatusCode, body)
		}
	}
	ask()
	change, err := b.prepare(doc(", tls: true", backend("two", two)+backend("one", one)))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{change.Add, change.Switch} {
		if err := step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	ask() // a bare connection is served by the document that took it
	if err := change.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
}
