package health

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluis/internal/config"
	"sluis/internal/event"
	"sluis/internal/text"
)

// box is a checker with everything around it, all of it in this process.
type box struct {
	*Checker
	t *testing.T

	mu        sync.Mutex
	reports   []string // "web/a up L7OK: …"
	events    []event.Event
	words     []AgentWord
	dials     map[string]int
	addresses map[string]netip.Addr // of servers by name
	// answer is what the server at an address does with a connection; an error is
	// that of connecting.
	answer func(ctx context.Context, to netip.AddrPort) (serve func(net.Conn), err error)
}

func newBox(t *testing.T, options Options) *box {
	b := &box{t: t, dials: map[string]int{}, addresses: map[string]netip.Addr{}}
	options.Report = func(backend, server string, up bool, reason text.Msg) {
		b.mu.Lock()
		defer b.mu.Unlock()
		state := "down"
		if up {
			state = "up"
		}
		b.reports = append(b.reports, fmt.Sprintf("%s/%s %s %s", backend, server, state, reason))
	}
	options.Agent = func(_, _ string, w AgentWord) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.words = append(b.words, w)
	}
	options.Publish = func(e event.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}
	options.Address = func(_, server string) (netip.Addr, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		a, ok := b.addresses[server]
		return a, ok
	}
	if options.Certificate == nil {
		options.Certificate = func(string) *tls.Certificate { return nil }
	}
	b.Checker = New(options)
	t.Cleanup(b.Close)
	return b
}

// inMemory makes a box whose servers are functions over pipes, for synctest.
func inMemory(t *testing.T, options Options) *box {
	var b *box
	options.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		b.mu.Lock()
		b.dials[to.String()]++
		answer := b.answer
		b.mu.Unlock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		serve, err := answer(ctx, to)
		if err != nil {
			return nil, err
		}
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			serve(theirs)
		}()
		return ours, nil
	}
	b = newBox(t, options)
	return b
}

// serves sets what all servers do.
func (b *box) serves(answer func(ctx context.Context, to netip.AddrPort) (func(net.Conn), error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
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

// lock does what a server's function shares with the test.
func (b *box) lock(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *box) takeReports() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.reports
	b.reports = nil
	return r
}

func (b *box) eventsSoFar() []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *box) dialled(to string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials[to]
}

// must is a server's status once everything is still.
func (b *box) must(server string) Status {
	b.t.Helper()
	synctest.Wait()
	s, ok := b.Status("web", server)
	if !ok {
		b.t.Fatalf("there is no status of %s", server)
	}
	return s
}

// web is a document with one backend, its check as the defaults have it, and one
// server for each address.
func web(addresses ...string) *config.Document {
	b := config.Backend{
		Name: "web", ServerTLS: config.ServerTLS{Verify: config.VerifyNone, MinVersion: config.TLS12},
		Check: &config.Check{
			Type: config.CheckHTTP, Method: "GET", Path: "/", Version: config.HTTP11, Host: "{server}",
			Interval: config.Duration(time.Second), Rise: 2, Fall: 3, Log: true,
		},
	}
	for i, a := range addresses {
		s := config.Server{Name: string(rune('a' + i)), Address: a, Port: 80, Weight: 1}
		if to, err := netip.ParseAddrPort(a); err == nil {
			s.Address, s.Port = to.Addr().String(), to.Port()
		}
		b.Servers = append(b.Servers, s)
	}
	return &config.Document{Backends: []config.Backend{b}}
}

// replies reads a request's head and writes the answers, each in a write of its own.
func replies(answers ...string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		for _, a := range answers {
			if _, err := io.WriteString(c, a); err != nil {
				return
			}
		}
	}
}

func status(code int) string {
	return fmt.Sprintf("HTTP/1.1 %d Word\r\nContent-Length: 0\r\n\r\n", code)
}

// listen serves each connection to a real socket, with TLS where cfg isn't nil.
func listen(t *testing.T, cfg *tls.Config, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// reset ends a connection with a reset.
func reset(c net.Conn) {
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

var errRefused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// authority makes certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.cert = a.sign(template, template, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, issuer *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *authority) pem() config.PEM {
	return config.PEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue makes a certificate for names and addresses.
func (a *authority) issue(serial int64, end time.Time, names ...string) tls.Certificate {
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	c := a.sign(template, a.cert, key)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func (a *authority) revocationList(serials ...int64) config.PEM {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return config.PEM(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// clone copies a document deep enough for a test to change its copy.
func clone(doc *config.Document) *config.Document {
	c := *doc
	c.Backends = slices.Clone(doc.Backends)
	for i := range c.Backends {
		c.Backends[i].Servers = slices.Clone(c.Backends[i].Servers)
		if k := c.Backends[i].Check; k != nil {
			check := *k
			c.Backends[i].Check = &check
		}
	}
	return &c
}
