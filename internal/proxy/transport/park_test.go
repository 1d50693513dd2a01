package transport

import (
	"crypto"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"

	"sluis/internal/proxy/loop"
)

// gatedKey signs when the test lets it.
type gatedKey struct {
	crypto.Signer
	began, gate chan struct{}
}

func (k *gatedKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.began <- struct{}{}
	<-k.gate
	return k.Signer.Sign(r, digest, opts)
}

// parkRig serves TLS with an RSA-4096 key that signs at a gate, and bare echo beside
// it, in one loop.
type parkRig struct {
	*rig
	own          *credentials
	key          *gatedKey
	echo, secure netip.AddrPort
	parked       *end
}

func newParkRig(t *testing.T, own *credentials) *parkRig {
	r := &parkRig{rig: newRig(t, loop.Options{}), own: own}
	r.key = &gatedKey{Signer: own.PrivateKey.(crypto.Signer), began: make(chan struct{}, 1), gate: make(chan struct{})}
	gated := *own
	gated.PrivateKey = r.key
	r.echo = r.listen(nil, func(e *end) { e.echo() })
	r.secure = r.listen(r.serverConfig(&gated, nil), func(e *end) { r.parked = e; e.echo() })
	return r
}

// served proves that the loop serves others now.
func (r *parkRig) served() {
	r.t.Helper()
	c := testDial(r.t, r.echo)
	for range 100 {
		if _, err := c.Write([]byte("ping")); err != nil {
			r.t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// RSA-4096 keys, whose signatures take 7 ms and more.
func TestSlowSignatures(t *testing.T) {
	own := rsaCredentials(t, 4096)
	t.Run("parked", func(t *testing.T) { testParked(t, own) })
	t.Run("beside traffic", func(t *testing.T) { testBesideTraffic(t, own) })
}

// While a handshake waits for its signature the loop serves others, and what becomes
// of the client meanwhile harms nobody.
func testParked(t *testing.T, own *credentials) {
	for name, meanwhile := range map[string]func(r *parkRig, client *net.TCPConn){
		"it is awaited":    nil,
		"the owner aborts": func(r *parkRig, _ *net.TCPConn) { r.do(r.parked.Abort) },
		"the owner closes": func(r *parkRig, _ *net.TCPConn) { r.do(r.parked.Close) },
		"the client goes":  func(r *parkRig, client *net.TCPConn) { client.Close() },
		"the client floods": func(r *parkRig, client *net.TCPConn) {
			if _, err := client.Write(make([]byte, 1000)); err != nil {
				r.t.Fatal(err)
			}
			r.await("the bytes", func() bool { return r.parked.unread() == 1000 })
			r.served()
			r.do(func() {
				if n := r.parked.unread(); n != 1000 {
					r.t.Errorf("%d bytes are left in the kernel, want all 1000", n)
				}
			})
		},
		"the client resets": func(r *parkRig, client *net.TCPConn) {
			reset(r.t, client)
			if err := r.parked.waitClosed(); err == nil {
				r.t.Error("a reset during the signature was not told")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newParkRig(t, own)
			tcp := testDial(t, r.secure)
			client := tls.Client(tcp, clientConfig(own))
			shaken := make(chan error, 1)
			go func() { shaken <- client.Handshake() }()
			<-r.key.began
			r.served()
			if meanwhile != nil {
				meanwhile(r, tcp)
				r.served()
			}
			r.key.gate <- struct{}{}
			err := <-shaken
			// In TLS 1.3 a client is through before the server has read what it sent.
			if (err == nil) != (meanwhile == nil) && name != "the client floods" {
				t.Errorf("the client's handshake: %v", err)
			}
			r.served()
			if meanwhile != nil {
				return
			}
			if _, err := client.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// With real signatures: 20 handshakes keep one worker busy, and requests are served
// all the time.
func testBesideTraffic(t *testing.T, own *credentials) {
	r := newRig(t, loop.Options{})
	echo := r.listen(nil, func(e *end) { e.echo() })
	secure := r.listen(r.serverConfig(own, nil), func(e *end) { e.echo() })
	const handshakes = 20
	results := make(chan error, handshakes)
	for range handshakes {
		tcp := testDial(t, secure)
		go func() {
			c := tls.Client(tcp, clientConfig(own))
			results <- c.Handshake()
		}()
	}
	c := testDial(t, echo)
	served := 0
	for left := handshakes; left > 0; {
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		served++
		select {
		case err := <-results:
			left--
			if err != nil {
				t.Error(err)
			}
		default:
		}
	}
	if got := r.pool.Stats().Done; got != handshakes {
		t.Errorf("the pool made %d signatures, want %d", got, handshakes)
	}
	t.Logf("%d requests were served beside %d RSA-4096 handshakes; slow turns: %v", served, handshakes, r.loop.Stats().SlowCauses)
	if served < handshakes {
		t.Errorf("%d requests were served beside %d handshakes", served, handshakes)
	}
}
