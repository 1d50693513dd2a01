package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// healthURL is what the guide has a check ask for (G48).
const healthURL = "/system/web/view/platform/common/login/root.jsp?partitionId=1"

// lab is the guide's internal authority: a root, an intermediate that it signed,
// and what that one issues (G22 to G28).
type lab struct {
	t             *testing.T
	root, issuing tls.Certificate

	mu    sync.Mutex
	given map[int]bool // ports; guarded by mu
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, given: map[int]bool{}}
	authority := func(name string, by *tls.Certificate) tls.Certificate {
		return l.make(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}, by)
	}
	l.root = authority("Lab root", nil)
	l.issuing = authority("Lab issuing", &l.root)
	return l
}

// issue makes a server certificate for names and addresses; the first is its
// common name.
func (l *lab) issue(names ...string) tls.Certificate {
	l.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return l.make(template, &l.issuing)
}

// make fills in and signs a template; by nil = it signs itself.
func (l *lab) make(template *x509.Certificate, by *tls.Certificate) tls.Certificate {
	l.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		l.t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(0, 3, 0)
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		l.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		l.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// roots trusts the root alone: who shows no intermediate is not believed.
func (l *lab) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(l.root.Leaf)
	return pool
}

func pemOf(certificates ...tls.Certificate) string {
	var b strings.Builder
	for _, c := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
	}
	return b.String()
}

func keyOf(t *testing.T, c tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// origin is a web server of the contact centre, over TLS.
//
//	well ─ refuse(500) ─► answers its check with 500
//	  └──── stop ───────► refuses connections, until start
type origin struct {
	t           *testing.T
	name        string
	certificate tls.Certificate
	port        int

	mu sync.Mutex
	// All below is guarded by mu.
	server  *http.Server // nil while stopped
	checkIs int          // the status of its check page; 0 = 200
	text    string       // of its check page
	conns   []*recorded
	held    map[string]chan struct{} // requests of /hold, by their names
	here    int                      // of these, that have arrived
}

// recorded is a connection to an origin with what came on it.
type recorded struct {
	net.Conn
	o       *origin
	started time.Time
	mu      sync.Mutex
	raw     bytes.Buffer // guarded by mu
}

func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(b[:n])
	return n, err
}

func (r *recorded) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.raw.String()
}

// connRecorder wraps the connections that a listener accepts.
type connRecorder struct {
	net.Listener
	o *origin
}

func (l connRecorder) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := &recorded{Conn: c, o: l.o, started: time.Now()}
	l.o.mu.Lock()
	defer l.o.mu.Unlock()
	l.o.conns = append(l.o.conns, r)
	return r, nil
}

func newOrigin(t *testing.T, l *lab, name string) *origin {
	t.Helper()
	o := &origin{
		t: t, name: name, certificate: l.issue(name+".lab.example.net", "localhost", "127.0.0.1"), port: l.port(),
		text: "<title>Login</title>", held: map[string]chan struct{}{},
	}
	o.start()
	t.Cleanup(func() {
		o.releaseAll()
		o.stop()
	})
	return o
}

// start lets it take connections, on the port that it always has.
func (o *origin) start() {
	o.t.Helper()
	bare, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)))
	if err != nil {
		o.t.Fatal(err)
	}
	listener := connRecorder{tls.NewListener(bare, &tls.Config{Certificates: []tls.Certificate{o.certificate}}), o}
	server := &http.Server{Handler: o, ErrorLog: log.New(io.Discard, "", 0)}
	o.mu.Lock()
	o.server = server
	o.mu.Unlock()
	go func() { _ = server.Serve(listener) }() // ends with ErrServerClosed
}

// stop closes its socket and its connections, as the end of its process does.
func (o *origin) stop() {
	o.mu.Lock()
	server := o.server
	o.server = nil
	o.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// checksAnswer sets what its check page answers.
func (o *origin) checksAnswer(status int, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checkIs, o.text = status, text
}

// checks are the connections that asked for its check page.
func (o *origin) checks() []*recorded {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.conns), func(r *recorded) bool {
		_, target, _ := strings.Cut(r.text(), " ")
		return !strings.HasPrefix(target, "/system/") && !strings.HasPrefix(target, "/Portal ")
	})
}

// waiting is how many requests of /hold it has.
func (o *origin) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.here
}

// release lets a request of /hold be answered.
func (o *origin) release(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if held := o.held[name]; held != nil {
		close(held)
		delete(o.held, name)
		o.here--
	}
}

func (o *origin) releaseAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, held := range o.held {
		close(held)
		delete(o.held, name)
	}
	o.here = 0
}

// seen is what an origin tells of a request.
type seen struct {
	Server string      `json:"server"`
	Method string      `json:"method"`
	Target string      `json:"target"`
	Host   string      `json:"host"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Origin", o.name)
	o.mu.Lock()
	status, text := o.checkIs, o.text
	o.mu.Unlock()
	switch r.URL.Path {
	case "/system/web/view/platform/common/login/root.jsp", "/Portal":
		if r.URL.Path != "/Portal" && r.URL.Query().Get("partitionId") != "1" {
			http.NotFound(w, r)
			return
		}
		if status >= 300 && status < 400 {
			w.Header().Set("Location", "/Portal/Login")
		}
		w.WriteHeader(max(status, 200))
		_, _ = io.WriteString(w, text)
		return
	case "/silent": // no answer at all
		panic(http.ErrAbortHandler)
	case "/hsts":
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	case "/hold":
		held := make(chan struct{})
		o.mu.Lock()
		o.held[r.URL.Query().Get("name")] = held
		o.here++
		o.mu.Unlock()
		select {
		case <-held:
		case <-r.Context().Done():
			o.release(r.URL.Query().Get("name"))
			return
		}
	}
	if _, err := r.Cookie("JSESSIONID"); err != nil {
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: fmt.Sprintf("%X", o.name), Path: "/", Secure: true, HttpOnly: true})
	}
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	_ = json.NewEncoder(w).Encode(seen{o.name, r.Method, r.RequestURI, r.Host, r.Header, string(body)})
}

// port is one that nobody has, below those that the kernel gives to clients on their
// way out: whoever stops listening on it can do so again. It is given once.
func (l *lab) port() int {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(20000))
		if err != nil {
			l.t.Fatal(err)
		}
		port := 10000 + int(n.Int64())
		if l.given[port] {
			continue
		}
		listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		_ = listener.Close()
		l.given[port] = true
		return port
	}
	l.t.Fatal("no free port")
	return 0
}
