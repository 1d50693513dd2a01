package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluis/internal/config"
	"sluis/internal/proxy"
	"sluis/internal/proxy/accesslog"
)

// box is a data plane with real sockets on loopback.
type box struct {
	*proxy.Proxy
	t     *testing.T
	loops int
	log   *accesslog.Log
	lines *lines
	certs map[string]*tls.Certificate
	roots *x509.CertPool
}

func newBox(t *testing.T, loops int) *box {
	t.Helper()
	b := &box{t: t, loops: loops, lines: &lines{}, certs: map[string]*tls.Certificate{}, roots: x509.NewCertPool()}
	var err error
	if b.log, err = accesslog.New(accesslog.Options{Sink: accesslog.Sink{Writer: b.lines}, FlushEvery: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	b.Proxy = proxy.New(proxy.Options{
		Certificate: func(name string) *tls.Certificate { return b.certs[name] }, Log: b.log, Loops: loops,
		HTTPChallenge: func(token string) (string, bool) { return token + ".thumbprint", token == "open_token-1" },
		ALPNChallenge: func(name string) *tls.Certificate {
			if name == "challenged.example" {
				return b.certs["challenge"]
			}
			return nil
		},
	})
	t.Cleanup(func() {
		b.Close()
		_ = b.log.Close()
	})
	return b
}

// lines is what was logged.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// apply puts a document into effect, as the engine would.
func (b *box) apply(doc string) {
	b.t.Helper()
	if err := b.tryApply(doc); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) tryApply(doc string) error {
	change, err := b.prepare(doc)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, step := range []func(context.Context) error{change.Add, change.Switch, change.Remove} {
		if err := step(ctx); err != nil {
			if undo := change.Undo(ctx); undo != nil {
				b.t.Errorf("undo: %v", undo)
			}
			return err
		}
	}
	return nil
}

func (b *box) prepare(doc string) (*proxy.Change, error) {
	parsed, problems := config.Decode([]byte("format: 1\n" + doc))
	problems = append(problems, config.Validate(parsed)...)
	for _, p := range problems.Errors() {
		if !strings.Contains(p.Path, "certificates") { // the box has its own
			return nil, problems.Errors()
		}
	}
	change, problems := b.Prepare(context.Background(), parsed)
	if problems.HasErrors() {
		return nil, problems
	}
	return change, nil
}

// certificate makes a self-signed certificate for these names.
func (b *box) certificate(name string, hosts ...string) {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		b.t.Fatal(err)
	}
	b.roots.AddCert(leaf)
	b.certs[name] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// origin is a server that names itself in X-Origin.
type origin struct {
	*httptest.Server
	name     string
	requests atomic.Int64
	// last is the request that came last.
	last atomic.Pointer[http.Request]
}

func (b *box) origin(name string, h http.HandlerFunc) *origin {
	o := &origin{name: name}
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s", name) }
	}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		o.last.Store(r)
		w.Header().Set("X-Origin", name)
		h(w, r)
	}))
	b.t.Cleanup(o.Close)
	return o
}

func (o *origin) port() int { return o.Listener.Addr().(*net.TCPAddr).Port }

// site is a frontend on a free port in front of these origins, with more lines for
// the frontend and the backend (indented by four and four).
func (b *box) site(frontend, backend string, origins ...*origin) (doc, address string) {
	port := freePort(b.t)
	var s strings.Builder
	fmt.Fprintf(&s, "frontends:\n  - name: site\n    binds: [{name: main, address: 127.0.0.1, port: %d}]\n    default_backend: web\n%s", port, frontend)
	fmt.Fprintf(&s, "backends:\n  - name: web\n%s    servers:\n", backend)
	for _, o := range origins {
		fmt.Fprintf(&s, "      - {name: %s, address: 127.0.0.1, port: %d}\n", o.name, o.port())
	}
	return s.String(), fmt.Sprintf("127.0.0.1:%d", port)
}

// answer reads one answer.
func answer(t *testing.T, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read a body: %v", err)
	}
	return resp, string(body)
}

// eventually waits for something that happens in another goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within 5 s", what)
}
