package tlsio

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
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"sluis/internal/proxy/loop"
)

// identity makes a certificate for "test" and a pool that trusts it.
func identity(t testing.TB, key crypto.Signer) (tls.Certificate, *x509.CertPool) {
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
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, trusted
}

func ecdsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newLoop(t testing.TB) *loop.Loop {
	t.Helper()
	l, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// side is one end of a pair: what it received, and whether it ended.
type side struct {
	*Conn
	t     testing.TB
	done  bool
	plain []byte
	err   error // of the handshake or of Read, but ErrWouldBlock
}

// take gives wire bytes to a side as a loop would: a step of the handshake, or
// reads until nothing is left.
func (s *side) take(wire []byte) {
	if !s.done {
		done, err := s.Handshake(wire)
		s.done, s.err = done, err
		if !done {
			return
		}
		wire = nil
	}
	buffer := make([]byte, 5000)
	for s.err == nil {
		n, err := s.Read(&wire, buffer)
		s.plain = append(s.plain, buffer[:n]...)
		if err == ErrWouldBlock {
			if len(wire) != 0 || !s.mem.empty() {
				s.t.Fatalf("%d wire bytes left behind", len(wire))
			}
			return
		}
		s.err = err
	}
}

// drain takes the output away.
func (s *side) drain() []byte {
	out := bytes.Clone(s.Out())
	s.TakeOut()
	return out
}

// converse carries bytes between the two until nothing more moves, in segments of
// at most cut bytes (0: whole), turning the loop while one waits for a signature.
func converse(t testing.TB, l *loop.Loop, client, server *side, cut int) {
	t.Helper()
	client.take(nil)
	var toServer, toClient []byte
	for range 1 << 22 {
		toServer = append(toServer, client.drain()...)
		toClient = append(toClient, server.drain()...)
		if server.Parked() || client.Parked() {
			l.Turn(10 * time.Millisecond)
			continue
		}
		switch {
		case len(toServer) > 0 && server.err == nil:
			n := segment(len(toServer), cut)
			server.take(bytes.Clone(toServer[:n])) // cloned: the buffer is ours again afterwards
			toServer = toServer[n:]
		case len(toClient) > 0 && client.err == nil:
			n := segment(len(toClient), cut)
			client.take(bytes.Clone(toClient[:n]))
			toClient = toClient[n:]
		default:
			return
		}
	}
	t.Fatal("the two never stop talking")
}

func segment(n, cut int) int {
	if cut == 0 {
		return min(n, MaxRead)
	}
	return min(n, cut)
}

func newPair(t testing.TB, l *loop.Loop, clientConfig, serverConfig *tls.Config) (client, server *side) {
	t.Helper()
	client = &side{Conn: Client(Prepare(clientConfig), l), t: t}
	server = &side{Conn: Server(Prepare(serverConfig), l), t: t}
	for _, s := range []*side{client, server} {
		s.Resumed = func() { s.take(nil) }
		t.Cleanup(s.Abort)
	}
	return client, server
}

// noBuffersOut fails if buffers of the loop are still lent.
func noBuffersOut(t testing.TB, l *loop.Loop) {
	t.Helper()
	l.Turn(0)
	if n := l.Stats().BuffersOut; n != 0 {
		t.Errorf("%d buffers were not given back", n)
	}
}

// What one side writes the other reads, whatever the version, the certificates and
// the way bytes are cut.
func TestPair(t *testing.T) {
	pool := loop.NewPool(1, 8)
	t.Cleanup(pool.Close)
	ecdsaCert, ecdsaTrust := identity(t, ecdsaKey(t))
	rsaCert, rsaTrust := identity(t, rsaKey(t))
	tests := map[string]struct {
		client, server *tls.Config // nil: as it comes
		clientCert     *tls.Certificate
		rsa            bool
		suite          uint16
	}{
		"TLS 1.3":                             {},
		"TLS 1.3, RSA":                        {rsa: true},
		"TLS 1.2, RSA":                        {rsa: true, client: &tls.Config{MaxVersion: tls.VersionTLS12}},
		"TLS 1.2":                             {client: &tls.Config{MaxVersion: tls.VersionTLS12}},
		"TLS 1.2 CBC":                         {rsa: true, client: &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}},
		"TLS 1.2 ChaCha":                      {client: &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305}}},
		"HelloRetryRequest":                   {client: &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521, tls.X25519}}, server: &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}},
		"client certificate":                  {clientCert: &ecdsaCert, server: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ecdsaTrust}},
		"client certificate, RSA in the pool": {clientCert: &rsaCert, server: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: rsaTrust}},
		"client certificate, 1.2":             {clientCert: &ecdsaCert, client: &tls.Config{MaxVersion: tls.VersionTLS12}, server: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ecdsaTrust}},
	}
	for name, test := range tests {
		for _, cut := range []int{0, 1, 7, 700} {
			t.Run(name+"/"+map[int]string{0: "whole", 1: "1", 7: "7", 700: "700"}[cut], func(t *testing.T) {
				l := newLoop(t)
				signed := pool.Stats().Done
				wantSigned := uint64(0)
				certificate, trust := &ecdsaCert, ecdsaTrust
				if test.rsa {
					certificate, trust = &rsaCert, rsaTrust
					wantSigned++
				}
				serverConfig, clientConfig := test.server.Clone(), test.client.Clone()
				if serverConfig == nil {
					serverConfig = &tls.Config{}
				}
				if clientConfig == nil {
					clientConfig = &tls.Config{}
				}
				serverConfig.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
					return Bind(hello, certificate, pool), nil
				}
				clientConfig.RootCAs, clientConfig.ServerName = trust, "test"
				if c := test.clientCert; c != nil {
					clientConfig.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
						return BindClient(asked, c, pool), nil
					}
					if _, isRSA := c.PrivateKey.(*rsa.PrivateKey); isRSA {
						wantSigned++
					}
				}
				client, server := newPair(t, l, clientConfig, serverConfig)

				converse(t, l, client, server, cut)
				if !client.done || !server.done {
					t.Fatalf("no handshake: client %v, server %v", client.err, server.err)
				}
				if got := pool.Stats().Done - signed; got != wantSigned {
					t.Errorf("the pool made %d signatures, want %d", got, wantSigned)
				}
				up, down := random(40_000), random(100_000)
				write(t, client.Conn, up)
				write(t, server.Conn, down)
				converse(t, l, client, server, cut)
				if err := client.CloseWrite(); err != nil {
					t.Error(err)
				}
				converse(t, l, client, server, cut)
				if !bytes.Equal(server.plain, up) || !bytes.Equal(client.plain, down) {
					t.Errorf("the server got %d of %d bytes, the client %d of %d", len(server.plain), len(up), len(client.plain), len(down))
				}
				if server.err != io.EOF || client.err != nil {
					t.Errorf("after the client's close_notify: client %v, server %v, want nil and EOF", client.err, server.err)
				}
				if in, out := server.Volume(); in <= uint64(len(up)) || out <= uint64(len(down)) {
					t.Errorf("Volume() = %d, %d for %d and %d bytes", in, out, len(up), len(down))
				}
				if test.clientCert != nil && len(server.State().PeerCertificates) != 1 {
					t.Error("the server saw no client certificate")
				}
				noBuffersOut(t, l)
			})
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func write(t testing.TB, c *Conn, p []byte) {
	t.Helper()
	for len(p) > 0 {
		n := min(len(p), MaxWrite)
		if err := c.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
}

// connect makes a pair whose handshake is over.
func connect(t testing.TB, l *loop.Loop, change func(client, server *tls.Config)) (client, server *side) {
	t.Helper()
	certificate, trust := identity(t, ecdsaKey(t))
	clientConfig := &tls.Config{RootCAs: trust, ServerName: "test"}
	serverConfig := &tls.Config{Certificates: []tls.Certificate{certificate}}
	if change != nil {
		change(clientConfig, serverConfig)
	}
	client, server = newPair(t, l, clientConfig, serverConfig)
	converse(t, l, client, server, 0)
	return client, server
}

// Bytes that come with the handshake's last message wait inside for the first Read,
// which needs no new ones.
func TestDataBehindTheHandshake(t *testing.T) {
	for _, size := range []int{5, 2000, 30_000} {
		l := newLoop(t)
		certificate, trust := identity(t, ecdsaKey(t))
		client, server := newPair(t, l, &tls.Config{RootCAs: trust, ServerName: "test"}, &tls.Config{Certificates: []tls.Certificate{certificate}})
		client.take(nil)
		server.take(client.drain())
		client.take(server.drain())
		if !client.done || server.done {
			t.Fatal("the test is out of step")
		}
		up := random(size)
		write(t, client.Conn, up)
		server.take(client.drain())
		if !bytes.Equal(server.plain, up) {
			t.Errorf("%d bytes came, want %d", len(server.plain), size)
		}
		server.TakeOut()
		noBuffersOut(t, l)
	}
}

// All plaintext of one read's wire bytes fits MaxPlain, also behind a piece of a
// record: package transport relies on it.
func TestPlaintextOfOneReadIsBounded(t *testing.T) {
	l := newLoop(t)
	client, server := connect(t, l, nil)
	write(t, client.Conn, random(MaxWrite))
	wire := client.drain()
	write(t, client.Conn, random(MaxWrite))
	wire = append(wire, client.drain()...)
	server.take(wire[:1<<14]) // the first record but its end
	got, dst, rest := 0, make([]byte, MaxPlain), wire[1<<14:][:MaxRead]
	for {
		n, err := server.Read(&rest, dst[got:])
		got += n
		if err == ErrWouldBlock {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got == MaxPlain {
			t.Fatalf("more than %d bytes of plaintext", MaxPlain)
		}
	}
	if got < MaxRead {
		t.Errorf("%d bytes of plaintext; the test is too easy", got)
	}
}

// oneShot is a net.Conn whose reads fail until bytes are there.
type oneShot struct {
	net.Conn
	in  []byte
	err error
}

func (o *oneShot) Read(b []byte) (int, error) {
	if len(o.in) == 0 {
		return 0, o.err
	}
	n := copy(b, o.in)
	o.in = o.in[n:]
	return n, nil
}

type timeout struct{}

func (timeout) Error() string   { return "timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return false }

// crypto/tls reads again after an error that is Temporary, and only then. The
// first is what this package stands on, the second says why; neither is in its
// documentation, so a new Go release must pass this test.
func TestWouldBlockDoesNotStick(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		sticks bool
	}{
		"would block":      {err: ErrWouldBlock},
		"timeout":          {err: timeout{}, sticks: true},
		"any other":        {err: errors.New("other"), sticks: true},
		"deadline of net":  {err: &net.OpError{Op: "read", Err: timeout{}}, sticks: true},
		"would block, net": {err: &net.OpError{Op: "read", Err: wouldBlock{}}},
	} {
		t.Run(name, func(t *testing.T) {
			certificate, trust := identity(t, ecdsaKey(t))
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			client := tls.Client(a, &tls.Config{RootCAs: trust, ServerName: "test"})
			under := &oneShot{Conn: b}
			server := tls.Server(&struct{ net.Conn }{b}, &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true})
			ready := make(chan error, 1)
			go func() { ready <- client.Handshake() }()
			if err := server.Handshake(); err != nil {
				t.Fatal(err)
			}
			if err := <-ready; err != nil {
				t.Fatal(err)
			}
			// The server's records come out of a buffer from here on.
			record := make(chan []byte, 1)
			go func() {
				buffer := make([]byte, 100)
				n, _ := b.Read(buffer)
				record <- buffer[:n]
			}()
			if _, err := client.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			wire := <-record
			server.NetConn().(*struct{ net.Conn }).Conn = under
			under.err = test.err
			got := make([]byte, 10)
			for _, part := range [][]byte{nil, wire[:3], wire[3:9]} {
				under.in = part
				if n, err := server.Read(got); n != 0 || !errors.Is(err, test.err) {
					t.Fatalf("Read = %d, %v, want %v", n, err, test.err)
				}
			}
			under.in = wire[9:]
			n, err := server.Read(got)
			if sticks := err != nil; sticks != test.sticks {
				t.Errorf("Read = %q, %v; sticks = %v, want %v", got[:n], err, sticks, test.sticks)
			}
		})
	}
}
