package transport

import (
	"crypto/rand"
	"crypto/tls"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"sluis/internal/proxy/loop"
)

// security is how a stream is protected in a test.
type security struct {
	name    string
	version uint16 // 0: bare
}

var securities = []security{{"bare", 0}, {"TLS 1.2", tls.VersionTLS12}, {"TLS 1.3", tls.VersionTLS13}}

// server and client are the Configs of both sides; nil where bare.
func (s security) configs(r *rig, c *credentials) (server, client *tls.Config) {
	if s.version == 0 {
		return nil, nil
	}
	client = clientConfig(c)
	client.MaxVersion = s.version
	return r.serverConfig(c, nil), client
}

// halfCloser is a plain connection of the test, bare or TLS.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// plainClient connects from outside of the loop.
func plainClient(t testing.TB, addr netip.AddrPort, cfg *tls.Config) (halfCloser, *net.TCPConn) {
	t.Helper()
	tcp := testDial(t, addr)
	if cfg == nil {
		return tcp, tcp
	}
	c := tls.Client(tcp, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c, tcp
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Megabytes both ways at once, where neither reader reads before both directions
// have come to a standstill: nothing is lost, and what waits here has a bound.
func TestBackPressure(t *testing.T) {
	own := ecdsaCredentials(t)
	const size = 12 << 20
	for _, front := range securities {
		for _, back := range securities {
			t.Run(front.name+" to "+back.name, func(t *testing.T) {
				r := newRig(t, loop.Options{})
				frontServer, frontClient := front.configs(r, own)
				backServer, backClient := back.configs(r, own)
				origin, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer origin.Close()
				var a, b *end
				addr := r.listen(frontServer, func(e *end) {
					a, b = e, r.newEnd()
					bridge(a, b)
					if err := b.Dial(r.loop, b, netip.MustParseAddrPort(origin.Addr().String()), backClient, DialOptions{}); err != nil {
						t.Error(err)
					}
				})
				client, _ := plainClient(t, addr, frontClient)
				accepted, err := origin.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer accepted.Close()
				server := halfCloser(accepted.(*net.TCPConn))
				if backServer != nil {
					backServer = backServer.Clone()
					backServer.GetCertificate, backServer.Certificates = nil, []tls.Certificate{own.Certificate}
					server = tls.Server(accepted, backServer)
				}
				up, down := random(size), random(size)
				for _, way := range []struct {
					to   halfCloser
					data []byte
				}{{client, up}, {server, down}} {
					go func() {
						if _, err := way.to.Write(way.data); err != nil {
							t.Error(err)
						}
						if err := way.to.CloseWrite(); err != nil {
							t.Error(err)
						}
					}()
				}
				if back.version != 0 { // its handshake needs a reader
					if err := server.(*tls.Conn).Handshake(); err != nil {
						t.Fatal(err)
					}
				}
				r.await("both directions to stand still", func() bool { return a.Paused() && b.Paused() })
				results := make(chan error, 2)
				for _, way := range []struct {
					from halfCloser
					want []byte
				}{{client, down}, {server, up}} {
					go func() {
						got, err := io.ReadAll(way.from)
						if err == nil {
							err = same(got, way.want)
						}
						results <- err
					}()
				}
				for range 2 {
					if err := <-results; err != nil {
						t.Error(err)
					}
				}
				r.do(func() {
					// The mark, one read's bytes, and the frames of both.
					const bound = mark + 64<<10 + 8<<10
					if worst := max(a.maxPending, b.maxPending); worst > bound || worst <= mark {
						t.Errorf("%d bytes were pending at most, want more than %d and no more than %d", worst, mark, bound)
					}
					if a.drained == 0 || b.drained == 0 {
						t.Errorf("Drained %d and %d times", a.drained, b.drained)
					}
					if a.Received() != size || b.Sent() != size || b.Received() != size || a.Sent() != size {
						t.Errorf("counted %d, %d, %d, %d bytes, want %d", a.Received(), b.Sent(), b.Received(), a.Sent(), size)
					}
				})
			})
		}
	}
}

// An owner that takes what it likes, pauses and resumes when it likes, sees each
// byte once and in order, then the end.
func TestOwnerTakesAtWill(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		for _, limit := range []int{0, 300, 20_000} {
			t.Run(s.name, func(t *testing.T) {
				r := newRig(t, loop.Options{})
				server, client := s.configs(r, own)
				dice := mathrand.New(mathrand.NewPCG(uint64(limit), uint64(s.version)))
				want := random(300_000)
				var got []byte
				refused := 0
				finished := make(chan struct{})
				addr := r.listen(server, func(e *end) {
					e.KeepLimit(limit)
					resume := loop.Mail{Deliver: e.Resume}
					e.data = func(b []byte) int {
						if e.Paused() {
							t.Error("Data while paused")
						}
						if err := same(b, want[len(got):][:len(b)]); err != nil {
							t.Fatal(err)
						}
						n := dice.IntN(len(b) + 1)
						switch dice.IntN(6) {
						case 0:
							n = 0
							refused++
						case 1:
							n = len(b)
						case 2:
							e.Pause()
						case 3:
							e.Pause()
							e.Resume()
						}
						// Whatever was decided, the owner comes back to it some time.
						r.loop.PostMail(&resume)
						got = append(got, b[:n]...)
						return n
					}
					e.ending = func() {
						if len(got) == len(want) {
							e.Close()
							close(finished)
							return
						}
						// What is left was offered before: it can still be had.
						r.loop.PostMail(&resume)
						e.ended--
						e.endTold = false
					}
				})
				c, _ := plainClient(t, addr, client)
				go func() {
					for rest := want; len(rest) > 0; {
						n := min(len(rest), 1+mathrand.IntN(9000))
						if _, err := c.Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					if err := c.CloseWrite(); err != nil {
						t.Error(err)
					}
				}()
				select {
				case <-finished:
				case <-time.After(patience):
					r.do(func() { t.Errorf("%d of %d bytes came", len(got), len(want)) })
				}
				if refused == 0 {
					t.Error("the owner refused nothing; the test is too easy")
				}
			})
		}
	}
}

// An owner that answers without looking at Pending, to a client that does not read,
// is not read any more itself: no one can make it keep more than a bound.
func TestCarelessOwner(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			server, client := s.configs(r, own)
			addr := r.listen(server, func(e *end) {
				e.data = func(b []byte) int {
					e.Write(b)
					e.maxPending = max(e.maxPending, e.Pending())
					return len(b)
				}
			})
			c, _ := plainClient(t, addr, client)
			e := <-r.accepted
			const size = 24 << 20
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write(random(size))
				sent <- err
			}()
			r.await("reading to stop", func() bool { return e.Pending() > maxUnsent })
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Error(err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			r.do(func() {
				if e.maxPending > maxUnsent+128<<10 {
					t.Errorf("%d bytes were pending", e.maxPending)
				}
			})
		})
	}
}

// A stream whose owner takes nothing keeps its limit and no more, and offers all of
// it again on Resume.
func TestKeepLimit(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		t.Run(s.name, func(t *testing.T) {
			const limit = 10_000
			r := newRig(t, loop.Options{})
			server, client := s.configs(r, own)
			offered, take := 0, 0
			addr := r.listen(server, func(e *end) {
				e.KeepLimit(limit)
				e.data = func(b []byte) int { offered = len(b); return min(take, len(b)) }
			})
			c, _ := plainClient(t, addr, client)
			e := <-r.accepted
			go c.Write(random(8 << 20)) // more than the kernel holds
			r.await("the limit", func() bool { return offered >= limit })
			r.do(func() {
				// One read may go beyond the limit.
				if kept := len(e.kept.B); kept < limit || kept > limit+64<<10 {
					t.Errorf("%d bytes are kept, want about %d", kept, limit)
				}
				offered = 0
				e.Resume()
			})
			r.await("what is kept to be offered again", func() bool { return offered >= limit })
			r.do(func() {
				take = 1 << 20
				e.Resume()
			})
			r.await("the rest", func() bool { return e.Received() == 8<<20 })
		})
	}
}
