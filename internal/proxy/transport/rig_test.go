package transport

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// rig is a running loop with what tests open in it. At its end nothing may be left:
// no buffer, no coroutine.
type rig struct {
	t    testing.TB
	loop *loop.Loop
	pool *loop.Pool
	ends []*end // of the loop's goroutine
	gone chan struct{}
	// accepted brings the ends that listeners accept to the test.
	accepted chan *end
}

func newRig(t testing.TB, o loop.Options) *rig {
	t.Helper()
	l, err := loop.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, loop: l, pool: loop.NewPool(1, 64), gone: make(chan struct{}), accepted: make(chan *end, 1000)}
	go func() {
		defer close(r.gone)
		l.Run()
	}()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) stop() {
	r.do(func() {
		for _, e := range r.ends {
			e.Abort()
		}
	})
	r.pool.Close()
	r.do(func() {}) // what the pool still sent has come
	r.loop.Stop()
	<-r.gone
	if n := r.loop.Stats().BuffersOut; n != 0 {
		r.t.Errorf("%d buffers were not given back", n)
	}
	if err := r.loop.Close(); err != nil {
		r.t.Error(err)
	}
}

// do runs f in the loop and waits for it.
func (r *rig) do(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if !r.loop.Post(func() { f(); close(done) }) {
		r.t.Fatal("the loop is closed")
	}
	<-done
}

// await waits until cond holds, which runs in the loop.
func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var ok bool
		r.do(func() { ok = cond() })
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// end is one stream under test and its owner. Its fields belong to the loop.
type end struct {
	Conn
	rig *rig
	// data is what the owner does with bytes; nil collects them in got.
	data func(b []byte) int
	// ending is what it does at the other side's end; nil closes.
	ending func()

	connected, ended, drained int
	got                       []byte
	closed                    chan error
	other                     *end // of a bridge
	maxPending                int
}

func (r *rig) newEnd() *end {
	e := &end{rig: r, closed: make(chan error, 1)}
	r.ends = append(r.ends, e)
	return e
}

func (e *end) Connected() { e.connected++ }

func (e *end) Data(b []byte) int {
	if e.ended > 0 {
		e.rig.t.Error("Data after Ended")
	}
	if e.data != nil {
		return e.data(b)
	}
	e.got = append(e.got, b...)
	return len(b)
}

func (e *end) Drained() {
	e.drained++
	if e.Pending() != 0 {
		e.rig.t.Errorf("Drained with %d bytes pending", e.Pending())
	}
	if e.other != nil {
		e.other.Resume()
	}
}

func (e *end) Ended() {
	e.ended++
	if e.ended > 1 {
		e.rig.t.Error("Ended twice")
	}
	if e.ending != nil {
		e.ending()
		return
	}
	e.Close()
}

func (e *end) Closed(err error) {
	select {
	case e.closed <- err:
	default:
		e.rig.t.Error("Closed twice")
	}
}

// echo answers each byte with itself, with back-pressure.
func (e *end) echo() {
	e.other = e
	e.data = func(b []byte) int {
		e.Write(b)
		e.maxPending = max(e.maxPending, e.Pending())
		if e.Pending() > mark {
			e.Pause()
		}
		return len(b)
	}
}

// bridge joins two ends, each way with back-pressure, half-close included.
func bridge(a, b *end) {
	for _, pair := range [][2]*end{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		from.other, to.other = to, from
		from.data = func(p []byte) int {
			to.Write(p)
			to.maxPending = max(to.maxPending, to.Pending())
			if to.Pending() > mark {
				from.Pause()
			}
			return len(p)
		}
		from.ending = to.CloseWrite
	}
}

// mark is how much may wait before the source is paused, in tests.
const mark = 64 << 10

// listen accepts streams; each is shown to begin before its first byte.
func (r *rig) listen(cfg *tls.Config, begin func(e *end)) netip.AddrPort {
	r.t.Helper()
	fd, err := loop.Bind(netip.MustParseAddrPort("127.0.0.1:0"), loop.BindOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	listener := &listener{rig: r, cfg: cfg, begin: begin}
	var addr netip.AddrPort
	r.do(func() {
		if err := r.loop.Listen(&listener.file, fd, listener); err != nil {
			r.t.Error(err)
		}
		addr = listener.file.Local()
	})
	return addr
}

type listener struct {
	file  loop.File
	rig   *rig
	cfg   *tls.Config
	begin func(e *end)
}

func (l *listener) Ready(loop.Events) {
	for {
		fd, from, errno := l.file.Accept()
		if errno != 0 {
			return
		}
		e := l.rig.newEnd()
		l.begin(e)
		l.rig.accepted <- e
		e.Accept(l.rig.loop, e, fd, from, l.cfg)
	}
}

// dial opens a stream in the loop; begin sees it before it is connected.
func (r *rig) dial(addr netip.AddrPort, cfg *tls.Config, o DialOptions, begin func(e *end)) *end {
	r.t.Helper()
	var e *end
	var err error
	r.do(func() {
		e = r.newEnd()
		if err = e.Dial(r.loop, e, addr, cfg, o); err == nil {
			begin(e)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// waitClosed is why an end was closed.
func (e *end) waitClosed() error {
	e.rig.t.Helper()
	select {
	case err := <-e.closed:
		return err
	case <-time.After(patience):
		e.rig.t.Fatal("the stream was never closed")
		return nil
	}
}

// testDial is a plain client outside of the loop.
func testDial(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// slicer relays connections to addr in segments of size bytes, each sent alone.
func slicer(t testing.TB, addr netip.AddrPort, size int) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	carry := func(to, from *net.TCPConn) {
		b := make([]byte, size)
		for {
			n, err := from.Read(b)
			if n > 0 {
				if _, err := to.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				to.CloseWrite()
				return
			}
		}
	}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
			if err != nil {
				a.Close()
				continue
			}
			go carry(b, a.(*net.TCPConn))
			go carry(a.(*net.TCPConn), b)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// credentials are a certificate for "test" in all the forms that tests want.
type credentials struct {
	tls.Certificate
	trust             *x509.CertPool
	certFile, keyFile string
}

func newCredentials(t testing.TB, key crypto.Signer) *credentials {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &credentials{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		trust:       x509.NewCertPool(),
		certFile:    filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"),
	}
	c.trust.AddCert(leaf)
	for file, block := range map[string]*pem.Block{
		c.certFile: {Type: "CERTIFICATE", Bytes: der},
		c.keyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func ecdsaCredentials(t testing.TB) *credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newCredentials(t, key)
}

func rsaCredentials(t testing.TB, bits int) *credentials {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return newCredentials(t, key)
}

// serverConfig is a prepared Config whose RSA keys sign in the pool.
func (r *rig) serverConfig(c *credentials, change func(*tls.Config)) *tls.Config {
	cfg := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return tlsio.Bind(hello, &c.Certificate, r.pool), nil
	}}
	if change != nil {
		change(cfg)
	}
	return tlsio.Prepare(cfg)
}

func clientConfig(c *credentials) *tls.Config {
	return tlsio.Prepare(&tls.Config{RootCAs: c.trust, ServerName: "test"})
}

// text is n bytes of numbers: no letters, which openssl takes for commands, and no
// part like another.
func text(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%09d\n", i)
	}
	return b[:n]
}

func same(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("%d bytes, want %d; they differ from byte %d on", len(got), len(want), i)
}

func nodelay(t testing.TB, c *Conn) bool {
	t.Helper()
	on, err := unix.GetsockoptInt(c.FD(), unix.IPPROTO_TCP, unix.TCP_NODELAY)
	if err != nil {
		t.Error(err)
	}
	return on != 0
}
