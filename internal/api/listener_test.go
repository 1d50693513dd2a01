package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluis/internal/auth"
	"sluis/internal/config"
)

func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return hex.EncodeToString(sum[:])
}

// freePort is a port of loopback that nobody had a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", loopback)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// onPort is a box that listens at a port of its document.
func onPort(t *testing.T, change func(*config.Document)) (*box, uint16) {
	t.Helper()
	doc := initial(t)
	doc.System.Admin.Port = freePort(t)
	if change != nil {
		change(doc)
	}
	return start(t, doc, "127.0.0.1"), doc.System.Admin.Port
}

// A changed port is answered before the old one is given up, and the request that
// brings it about gets its answer through the old one.
func TestPortChange(t *testing.T) {
	b, old := onPort(t, nil)
	next := freePort(t)
	browser, token := b.browser(), "Bearer "+b.tokens[auth.Administrator]
	b.set("system.admin.port", strconv.Itoa(int(next)))

	// A request that is under way through the old port while it is given up.
	slow := make(chan struct{})
	begun := make(chan struct{})
	b.api.mux.HandleFunc("GET "+base+"/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-slow
		_, _ = io.WriteString(w, "whole")
	})
	oldURL := fmt.Sprintf("https://127.0.0.1:%d", old)
	type outcome struct {
		r   reply
		err error
	}
	answered := make(chan outcome, 1)
	other := b.browser()
	go func() {
		r, err := try(t, other, "GET", oldURL+base+"/slow", "", "Authorization", token)
		answered <- outcome{r, err}
	}()
	<-begun

	got := ask(t, browser, "POST", oldURL+base+"/candidate/apply", `{"confirm_within":"1m"}`, "Authorization", token).want(t, 200)
	if !got.Close {
		t.Error("the answer to an apply must be the last one of its connection")
	}
	if urls := b.listener.URLs(); len(urls) != 1 || urls[0] != fmt.Sprintf("https://127.0.0.1:%d", next) {
		t.Errorf("URLs = %v", urls)
	}
	if _, err := try(t, b.browser(), "GET", oldURL+"/healthz", ""); err == nil {
		t.Error("the old port is still answered")
	}
	close(slow)
	if o := <-answered; o.err != nil || string(o.r.body) != "whole" {
		t.Errorf("the request under way = %q, %v", o.r.body, o.err)
	}
	ask(t, browser, "POST", b.url("/pending/confirm"), "", "Authorization", token).want(t, 204)

	// Back by rolling back: the same with the roles changed.
	b.set("system.admin.port", strconv.Itoa(int(old)))
	b.apply(time.Minute)
	ask(t, b.browser(), "POST", b.url("/pending/rollback"), "", "Authorization", token).want(t, 204)
	ask(t, b.browser(), "GET", fmt.Sprintf("https://127.0.0.1:%d/healthz", next), "").want(t, 200)
}

// An apply that fails later leaves the way in as it was; a socket whose address
// stays is never touched.
func TestListenerUndo(t *testing.T) {
	b, port := onPort(t, nil)
	socket := b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)]
	before := b.listener.current.Load()
	doc := initial(t)
	doc.System.Admin.Port = freePort(t)
	doc.System.Admin.Sources = []string{"192.0.2.0/24"}
	change, problems := b.listener.Prepare(t.Context(), doc)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{{"add", change.Add}, {"switch", change.Switch}, {"remove", change.Remove}}
	for last := range steps {
		for _, step := range steps[:last+1] {
			must(t, step.do(t.Context()))
		}
		must(t, change.Undo(t.Context()))
		ask(t, b.browser(), "GET", fmt.Sprintf("https://127.0.0.1:%d/healthz", port), "").want(t, 200)
		if b.listener.current.Load() != before {
			t.Errorf("undo after %s leaves the new rules", steps[last].name)
		}
		same := b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)] == socket
		if kept := last < 2; same != kept || len(b.listener.sockets) != 1 {
			t.Errorf("undo after %s: same socket %v, want %v; %d sockets", steps[last].name, same, kept, len(b.listener.sockets))
		}
	}
	b.set("system.admin.sources", "[192.0.2.0/24]")
	socket = b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)]
	b.apply(0)
	if b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)] != socket {
		t.Error("a socket whose port stays was touched")
	}
}

const holderEnv = "SLUIS_TEST_HOLD_PORT"

// holdPort is the other program that has a port: this test's binary again.
func holdPort() {
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// What is wrong with a document on this machine is said before anything happens.
func TestPrepareLooks(t *testing.T) {
	b, _ := onPort(t, nil)
	other := exec.Command(os.Args[0], "-test.run=^$")
	other.Env = append(os.Environ(), holderEnv+"=1")
	stdin, err := other.StdinPipe()
	must(t, err)
	stdout, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	defer func() { _ = stdin.Close(); _ = other.Wait() }()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	taken, err := strconv.ParseUint(strings.TrimSpace(line), 10, 16)
	must(t, err)
	own, err := net.Listen("tcp", loopback)
	must(t, err)
	defer func() { _ = own.Close() }()

	type check struct {
		change   func(*config.Document)
		severity config.Severity
		path     string
		says     string
	}
	admin := func(f func(*config.Admin)) func(*config.Document) {
		return func(d *config.Document) { f(&d.System.Admin) }
	}
	tests := map[string]check{
		"port of another program": {
			admin(func(a *config.Admin) { a.Port = uint16(taken) }),
			config.Error, "system.admin.port", fmt.Sprintf("taken by %s (process %d)", comm(os.Args[0]), other.Process.Pid),
		},
		"port of our own": {
			admin(func(a *config.Admin) { a.Port = own.Addr().(*net.TCPAddr).AddrPort().Port() }),
			config.Error, "system.admin.port", "another part of this appliance",
		},
		"certificate without a key": {
			func(d *config.Document) {
				d.Certificates = []config.Certificate{{Name: "site", ACME: &config.ACMECertificate{}}}
				d.System.Admin.Certificate = "site"
			},
			config.Error, "system.admin.certificate", "site can't be shown",
		},
		"device that isn't there": {
			func(d *config.Document) {
				d.Interfaces = []config.Interface{{Name: "lan", Device: "none0"}}
				d.System.Admin.Interfaces = []string{"lan"}
			},
			config.Warning, "system.admin.interfaces[0]", "none0",
		},
		"host name as a source": {
			func(d *config.Document) {
				d.Aliases = []config.Alias{{Name: "office", Entries: []string{"192.0.2.1", "home.example.net"}}}
				d.System.Admin.Sources = []string{"alias:office"}
			},
			config.Warning, "system.admin.sources", "home.example.net",
		},
		"nobody but this machine": {
			func(d *config.Document) {
				d.Aliases = []config.Alias{{Name: "office"}}
				d.System.Admin.Sources = []string{"alias:office"}
			},
			config.Warning, "system.admin.sources", "only this machine itself",
		},
	}
	before := len(b.listener.sockets)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			doc := initial(t)
			doc.System.Admin.Port = freePort(t)
			tt.change(doc)
			_, problems := b.listener.Prepare(t.Context(), doc)
			found := false
			for _, p := range problems {
				found = found || p.Path == tt.path && p.Severity == tt.severity && strings.Contains(p.Message.String(), tt.says)
			}
			if !found || problems.HasErrors() != (tt.severity == config.Error) {
				t.Errorf("problems:\n%v\nwant %s at %s: %s", problems, tt.severity, tt.path, tt.says)
			}
		})
	}
	if len(b.listener.sockets) != before {
		t.Error("looking has left a socket behind")
	}
	if err := config.CheckClaims(b.listener.Claims()); err != nil {
		t.Error(err)
	}
}

// comm is a program's name as the kernel keeps it.
func comm(path string) string {
	name := filepath.Base(path)
	return name[:min(len(name), 15)]
}

func TestWhyNotListen(t *testing.T) {
	tests := map[syscall.Errno]string{
		syscall.EADDRINUSE:    "port 443 is taken by",
		syscall.EACCES:        "may not listen on port 443",
		syscall.EADDRNOTAVAIL: "doesn't have the address 192.0.2.1",
		syscall.EINVAL:        "can't be listened at: invalid argument",
	}
	for cause, says := range tests {
		if message, _ := explainListen("192.0.2.1:443", cause); !strings.Contains(message.String(), says) {
			t.Errorf("%v = %q, want %q", cause, message, says)
		}
	}
	if free := freePort(t); !holder(free).IsZero() {
		t.Errorf("the free port %d has a holder: %s", free, holder(free))
	}
}

// A certificate that is named is shown from the next connection on, on the same
// socket; and a document without one goes back to the appliance's own.
func TestCertificateChange(t *testing.T) {
	b, port := onPort(t, nil)
	shown := func() *x509.Certificate {
		t.Helper()
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true})
		must(t, err)
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0]
	}
	own := shown()
	for _, name := range []string{"localhost", "lb1", "127.0.0.1", "::1"} {
		if err := own.VerifyHostname(name); err != nil {
			t.Errorf("the appliance's own certificate: %v", err)
		}
	}
	b.set("certificates[gui]", "{self_signed: {common_name: gui.example.net}}")
	b.set("system.admin.certificate", "gui")
	b.apply(0)
	if got := shown(); got.VerifyHostname("gui.example.net") != nil || fingerprint(b.listener.Leaf()) != fingerprint(got) {
		t.Errorf("shown = %v", got.DNSNames)
	}
	b.set("system.admin.certificate", `""`)
	b.apply(0)
	if got := shown(); fingerprint(got) != fingerprint(own) {
		t.Error("the appliance's own certificate is another one than before")
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}
	if _, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// A certificate that was renewed under its name is shown without any apply; one
// that can't be had any more is still shown.
func TestRenewedCertificate(t *testing.T) {
	made := func(name string) *tls.Certificate {
		return &tls.Certificate{Leaf: &x509.Certificate{DNSNames: []string{name}}}
	}
	now := made("old")
	l := NewListener(ListenerOptions{
		Address: loopback, Handler: http.NotFoundHandler(), Accepted: func() uint64 { return 1 },
		Certificate: func(string) *tls.Certificate { return now },
	})
	defer l.Close()
	doc := initial(t)
	doc.System.Admin.Certificate = "gui"
	doc.Certificates = []config.Certificate{{Name: "gui", ACME: &config.ACMECertificate{}}}
	change, problems := l.Prepare(t.Context(), doc)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	must(t, change.Add(t.Context()))
	must(t, change.Switch(t.Context()))
	for _, want := range []string{"old", "new"} {
		if now.Leaf.DNSNames[0] != want {
			now = made(want)
		}
		if got := l.Leaf().DNSNames[0]; got != want {
			t.Errorf("shown = %s, want %s", got, want)
		}
	}
	now = nil
	if got := l.Leaf(); got == nil || got.DNSNames[0] != "old" {
		t.Errorf("without the named one, shown = %v, want the one of the last change", got)
	}
	if _, err := l.Prepare(t.Context(), doc); !err.HasErrors() {
		t.Error("a certificate that isn't there is named, and that is no problem")
	}
	if err := change.Switch(t.Context()); err == nil {
		t.Error("a certificate that isn't there is switched to")
	}
}

// The protocol changes on the same socket; plain HTTP to a TLS port is told so.
func TestProtocolChange(t *testing.T) {
	b, port := onPort(t, nil)
	plain := fmt.Sprintf("http://127.0.0.1:%d/healthz", port)
	if got := ask(t, b.browser(), "GET", plain, "").want(t, 400); !strings.Contains(string(got.body), "HTTPS") {
		t.Errorf("plain HTTP on the TLS port = %s", got.body)
	}
	socket := b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)]
	b.set("system.admin.protocol", "http")
	b.apply(0)
	ask(t, b.browser(), "GET", plain, "").want(t, 200)
	if urls := b.listener.URLs(); urls[0] != fmt.Sprintf("http://127.0.0.1:%d", port) || b.listener.Leaf() != nil {
		t.Errorf("URLs = %v, leaf %v", urls, b.listener.Leaf())
	}
	if b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)] != socket {
		t.Error("the socket was touched")
	}
}

func TestWhoGetsIn(t *testing.T) {
	doc := initial(t)
	doc.Aliases = []config.Alias{
		{Name: "office", Entries: []string{"198.51.100.0/24", "alias:home", "2001:db8::/32"}},
		{Name: "home", Entries: []string{"203.0.113.7"}},
	}
	doc.Interfaces = []config.Interface{
		{Name: "lan", Device: "none0", IPv4: config.IPv4{Method: config.IPv4Static, Address: "10.0.0.1/24"}},
		{Name: "loop", Device: "lo"},
	}
	type rules struct{ sources, interfaces []string }
	tests := []struct {
		rules    rules
		from, to string
		want     bool
	}{
		{rules{}, "192.0.2.1", "10.0.0.1", true},
		{rules{sources: []string{"alias:office"}}, "198.51.100.9", "10.0.0.1", true},
		{rules{sources: []string{"alias:office"}}, "::ffff:198.51.100.9", "10.0.0.1", true},
		{rules{sources: []string{"alias:office"}}, "203.0.113.7", "10.0.0.1", true},
		{rules{sources: []string{"alias:office"}}, "203.0.113.8", "10.0.0.1", false},
		{rules{sources: []string{"alias:office"}}, "2001:db8::5", "::1", true},
		{rules{sources: []string{"alias:office"}}, "127.0.0.1", "127.0.0.1", true},
		{rules{sources: []string{"alias:office"}}, "::1", "::1", true},
		{rules{sources: []string{"192.0.2.1"}}, "192.0.2.1", "10.0.0.1", true},
		{rules{sources: []string{"192.0.2.1"}}, "192.0.2.2", "10.0.0.1", false},
		{rules{interfaces: []string{"lan"}}, "192.0.2.1", "10.0.0.1", true},
		{rules{interfaces: []string{"lan"}}, "192.0.2.1", "10.0.0.2", false},
		{rules{interfaces: []string{"lan"}}, "127.0.0.1", "127.0.0.1", true},
		{rules{interfaces: []string{"lan", "loop"}}, "192.0.2.1", "127.0.0.1", true}, // what lo has now
		{rules{interfaces: []string{"nobody"}}, "192.0.2.1", "10.0.0.1", false},
		{rules{[]string{"192.0.2.1"}, []string{"lan"}}, "192.0.2.1", "10.0.0.2", false},
	}
	for _, tt := range tests {
		doc.System.Admin.Sources, doc.System.Admin.Interfaces = tt.rules.sources, tt.rules.interfaces
		a, _ := accessOf(doc, "")
		if got := a.allows(netip.MustParseAddr(tt.from), netip.MustParseAddr(tt.to)); got != tt.want {
			t.Errorf("%+v: from %s to %s = %v, want %v", tt.rules, tt.from, tt.to, got, tt.want)
		}
	}
}

func TestTarget(t *testing.T) {
	f := func(override, want string) {
		t.Helper()
		if got := target(override, 8443); got != want {
			t.Errorf("target(%q) = %q, want %q", override, got, want)
		}
	}
	f("", ":8443")
	f("127.0.0.1", "127.0.0.1:8443")
	f("::1", "[::1]:8443")
	f("127.0.0.1:0", "127.0.0.1:0")
	f("[::1]:9443", "[::1]:9443")
	f(":9443", ":9443")
}

// Who isn't allowed, or comes when there are too many, is closed without a word
// and counted.
func TestRefusedConnections(t *testing.T) {
	b, port := onPort(t, nil)
	dial := func() error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		must(t, err)
		defer func() { _ = c.Close() }()
		must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\n\r\n")
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return err
	}
	if err := dial(); err != nil {
		t.Errorf("an allowed connection: %v", err)
	}
	b.listener.counts.open.Add(maxConnections)
	if err := dial(); err == nil {
		t.Error("one connection too many is answered")
	}
	b.listener.counts.open.Add(-maxConnections)
	none := *b.listener.current.Load()
	b.listener.current.Store(nil) // as before the first change
	if err := dial(); err == nil {
		t.Error("a connection is answered before anything is in effect")
	}
	b.listener.current.Store(&none)
	if s := b.listener.Stats(); s.TooMany != 1 || s.NotAllowed != 1 || s.Accepted == 0 {
		t.Errorf("Stats() = %+v", s)
	}
}

// Who is slow to say what they want doesn't hold a connection for long.
func TestConnectionsAreBounded(t *testing.T) {
	b, port := onPort(t, func(d *config.Document) { d.System.Admin.Protocol = config.AdminHTTP })
	s := b.listener.sockets[fmt.Sprintf("127.0.0.1:%d", port)].server
	if h := s.http; h.ReadHeaderTimeout <= 0 || h.IdleTimeout <= 0 || h.MaxHeaderBytes <= 0 || h.MaxHeaderBytes > 64<<10 {
		t.Errorf("bounds = %v, %v, %d", h.ReadHeaderTimeout, h.IdleTimeout, h.MaxHeaderBytes)
	}
	got, err := try(t, b.browser(), "GET", fmt.Sprintf("http://127.0.0.1:%d/healthz", port), "", "X-Long", strings.Repeat("a", 64<<10))
	if err == nil && got.StatusCode != http.StatusRequestHeaderFieldsTooLarge { // or a reset, where the answer was overtaken
		t.Errorf("64 KiB of header = %s", got.Status)
	}
}

// A confirmation counts only on a connection that was accepted after the apply:
// the browser's own connections are ended, so that it comes back on a fresh one.
func TestConfirmNeedsAFreshConnection(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			b := start(t, initial(t), loopback)
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots}, ForceAttemptHTTP2: protocol == "h2"}
			browser := &http.Client{Transport: transport}
			defer transport.CloseIdleConnections()
			bearer := []string{"Authorization", "Bearer " + b.tokens[auth.Administrator]}
			b.set("system.hostname", "lb2")

			// A connection that is busy over the apply, and asks to confirm after it.
			old, err := tls.Dial("tcp", strings.TrimPrefix(b.listener.URLs()[0], "https://"), &tls.Config{RootCAs: b.roots})
			must(t, err)
			defer func() { _ = old.Close() }()
			_, err = fmt.Fprintf(old, "POST %s/pending/confirm HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nX-Slow:", base, bearer[1])
			must(t, err)

			// Another one that has nothing to do meanwhile.
			idle, err := tls.Dial("tcp", strings.TrimPrefix(b.listener.URLs()[0], "https://"), &tls.Config{RootCAs: b.roots})
			must(t, err)
			defer func() { _ = idle.Close() }()
			_, err = io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			must(t, err)
			healthy := bufio.NewReader(idle)
			first, err := http.ReadResponse(healthy, nil)
			must(t, err)
			_, err = io.Copy(io.Discard, first.Body)
			must(t, err)

			ask(t, browser, "GET", b.url("/status"), "", bearer...).want(t, 200)
			ask(t, browser, "POST", b.url("/candidate/apply"), `{"confirm_within":"1m"}`, bearer...).want(t, 200)
			_, err = io.WriteString(old, " now\r\n\r\n")
			must(t, err)
			answer, err := http.ReadResponse(bufio.NewReader(old), nil)
			must(t, err)
			defer func() { _ = answer.Body.Close() }()
			if answer.StatusCode != 409 || !answer.Close {
				t.Errorf("confirmed on an old connection: %s, closed after it: %v; want 409, true", answer.Status, answer.Close)
			}
			must(t, idle.SetReadDeadline(time.Now().Add(5*time.Second)))
			if _, err := healthy.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("an idle connection after the apply: %v, want its end", err)
			}
			if got := ask(t, browser, "POST", b.url("/pending/confirm"), "", bearer...); got.StatusCode != 204 {
				t.Errorf("the browser's next try = %s: %s", got.Status, got.body)
			}
			if got := ask(t, browser, "GET", b.url("/status"), "", bearer...); got.ProtoMajor != map[string]int{"http/1.1": 1, "h2": 2}[protocol] {
				t.Errorf("protocol = %s", got.Proto)
			}
		})
	}
}

// A connection of a program that never speaks doesn't keep the listener from
// closing.
func TestCloseDoesNotWaitForSilence(t *testing.T) {
	b := start(t, initial(t), loopback)
	c, err := net.Dial("tcp", strings.TrimPrefix(b.listener.URLs()[0], "https://"))
	must(t, err)
	defer func() { _ = c.Close() }()
	events := b.stream()
	begun := time.Now()
	b.listener.Close()
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("closing took %v", took)
	}
	for events.block() != nil {
		continue // what was on its way
	}
	if b.listener.URLs() != nil {
		t.Error("a closed listener has URLs")
	}
}
