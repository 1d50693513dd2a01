package transport

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
)

// A client that says it will send no more still gets its answer, however it says
// so, and close_notify with it.
func TestHalfClose(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		for _, notify := range []bool{true, false} {
			if s.version == 0 && notify {
				continue
			}
			t.Run(s.name, func(t *testing.T) {
				r := newRig(t, loop.Options{})
				server, client := s.configs(r, own)
				answer := random(1 << 20)
				addr := r.listen(server, func(e *end) {
					e.ending = func() {
						if string(e.got) != "request" {
							t.Errorf("Ended after %q", e.got)
						}
						e.Write(answer)
						e.Close()
					}
				})
				c, tcp := plainClient(t, addr, client)
				if _, err := c.Write([]byte("request")); err != nil {
					t.Fatal(err)
				}
				if notify {
					if err := c.CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				if err := tcp.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(c)
				if err != nil {
					t.Errorf("the answer ends in: %v", err)
				}
				if err := same(got, answer); err != nil {
					t.Error(err)
				}
				e := <-r.accepted
				if err := e.waitClosed(); err != nil {
					t.Errorf("Closed(%v)", err)
				}
				if wantCut := s.version != 0 && !notify; e.Cut() != wantCut {
					t.Errorf("Cut = %v, want %v", e.Cut(), wantCut)
				}
			})
		}
	}
}

// CloseWrite ends our side alone: the other side's bytes still come.
func TestCloseWrite(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			server, client := s.configs(r, own)
			addr := r.listen(server, func(e *end) { e.ending = func() { e.Write(e.got); e.Close() } })
			e := r.dial(addr, client, DialOptions{}, func(e *end) {
				e.Write([]byte("early"))
				e.CloseWrite() // before it is connected
				e.Write([]byte("dropped"))
			})
			if err := e.waitClosed(); err != nil {
				t.Errorf("Closed(%v)", err)
			}
			if string(e.got) != "early" || e.Cut() || e.connected != 1 {
				t.Errorf("got %q, Cut %v, Connected %d times", e.got, e.Cut(), e.connected)
			}
		})
	}
}

// Closing while the client's bytes are still unread must not destroy the answer by a
// reset, though a client that never ends is not waited for.
func TestCloseLetsTheAnswerArrive(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		for name, more := range map[string]int{"some more": 200_000, "endlessly": 64 << 20} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				r := newRig(t, loop.Options{})
				server, client := s.configs(r, own)
				answer := random(50_000)
				addr := r.listen(server, func(e *end) {
					e.data = func(b []byte) int {
						e.Write(answer)
						e.Close()
						return len(b)
					}
				})
				c, tcp := plainClient(t, addr, client)
				// So small that most of the answer waits in our kernel's queue, which a
				// reset empties.
				if err := tcp.SetReadBuffer(4 << 10); err != nil {
					t.Fatal(err)
				}
				go c.Write(random(more)) // in part or whole, as far as we read
				e := <-r.accepted
				// Only now, so that a reset would have come first.
				r.await("FIN", func() bool { return e.finSent || e.phase == phaseGone })
				got := make([]byte, len(answer))
				if _, err := io.ReadFull(c, got); err != nil {
					t.Errorf("the answer was destroyed: %v", err)
				}
				if err := same(got, answer); err != nil {
					t.Error(err)
				}
				if err := e.waitClosed(); err != nil {
					t.Errorf("Closed(%v)", err)
				}
			})
		}
	}
}

// CloseShort does not wait for the other side.
func TestCloseShort(t *testing.T) {
	r := newRig(t, loop.Options{})
	addr := r.listen(nil, func(e *end) {
		e.data = func(b []byte) int { e.Write([]byte("answer")); e.CloseShort(); return len(b) }
	})
	c := testDial(t, addr)
	if _, err := c.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if err := (<-r.accepted).waitClosed(); err != nil { // though c is still open
		t.Errorf("Closed(%v)", err)
	}
}

// reset closes a connection by a reset.
func reset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A reset is told once, after the bytes that came before it, also to an owner that
// has paused, and to one that only learns of it by writing.
func TestReset(t *testing.T) {
	for name, test := range map[string]struct {
		sent   int // before the reset
		pause  bool
		resume bool
		write  bool
	}{
		"idle":                              {},
		"after bytes":                       {sent: 100_000},
		"paused":                            {pause: true},
		"paused with unread bytes, resumed": {sent: 100_000, pause: true, resume: true},
		"found by writing":                  {write: true, pause: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			addr := r.listen(nil, func(e *end) {
				if test.pause {
					e.Pause()
				}
			})
			c := testDial(t, addr)
			e := <-r.accepted
			if _, err := c.Write(random(test.sent)); err != nil {
				t.Fatal(err)
			}
			if test.sent > 0 && !test.pause {
				r.await("the bytes", func() bool { return len(e.got) == test.sent })
			}
			if test.write {
				r.do(func() {
					reset(t, c)
					for e.broken == false {
						e.Write([]byte("into the void"))
					}
					if len(e.closed) != 0 {
						t.Error("Closed from inside Write")
					}
				})
			} else {
				reset(t, c)
			}
			if test.resume {
				r.await("the reset", func() bool { return e.broken })
				r.do(e.Resume)
			}
			if err := e.waitClosed(); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
				t.Errorf("Closed(%v), want a reset", err)
			}
			if len(e.got) != test.sent || e.ended != 0 {
				t.Errorf("%d of %d bytes before the reset, Ended %d times", len(e.got), test.sent, e.ended)
			}
		})
	}
}

// Abort resets where bytes are unsent, calls nobody, and can be called in any state
// and inside any callback.
func TestAbort(t *testing.T) {
	own := ecdsaCredentials(t)
	for _, s := range securities {
		for name, prepare := range map[string]func(e *end){
			"in Data":         func(e *end) { e.data = func(b []byte) int { e.Abort(); return 0 } },
			"with bytes kept": func(e *end) { e.data = func(b []byte) int { return 0 }; e.ending = func() {} },
			"with bytes unsent": func(e *end) {
				e.data = func(b []byte) int { e.Write(make([]byte, 32<<20)); return len(b) }
			},
			"in Ended":   func(e *end) { e.ending = e.Abort },
			"in closing": func(e *end) { e.data = func(b []byte) int { e.Write(make([]byte, 32<<20)); e.Close(); return 0 } },
		} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				r := newRig(t, loop.Options{})
				server, client := s.configs(r, own)
				addr := r.listen(server, prepare)
				c, tcp := plainClient(t, addr, client)
				e := <-r.accepted
				if _, err := c.Write([]byte("request")); err != nil {
					t.Fatal(err)
				}
				if err := tcp.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				r.await("the request", func() bool { return e.Received() > 0 })
				unsent := false
				r.do(func() {
					unsent = e.Pending() > 0
					e.Abort()
					e.Abort()
				})
				_, err := io.Copy(io.Discard, tcp)
				if wasReset := errors.Is(err, unix.ECONNRESET); wasReset != unsent {
					t.Errorf("reset %v (%v), want %v", wasReset, err, unsent)
				}
				if len(e.closed) != 0 {
					t.Errorf("Closed(%v) after Abort", <-e.closed)
				}
			})
		}
	}
}

// Garbage in place of a handshake, and after one, ends that stream alone.
func TestGarbage(t *testing.T) {
	own := ecdsaCredentials(t)
	for name, rounds := range map[string]int{"before the handshake": 100, "after it": 30} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			addr := r.listen(r.serverConfig(own, nil), func(e *end) { e.echo() })
			for i := range rounds {
				garbage := random(1 + i*i)
				if i%2 == 0 {
					copy(garbage, []byte{22, 3, 1}) // a handshake record, it says
				}
				cfg := clientConfig(own)
				if name == "before the handshake" {
					cfg = nil
				}
				_, tcp := plainClient(t, addr, cfg)
				if _, err := tcp.Write(garbage); err != nil {
					t.Fatal(err)
				}
				tcp.CloseWrite()
				io.Copy(io.Discard, tcp) // ends, by FIN or reset
			}
			c, _ := plainClient(t, addr, clientConfig(own))
			if _, err := c.Write([]byte("alive")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Errorf("after garbage nobody is served: %v", err)
			}
			bad := 0
			for range rounds {
				if (<-r.accepted).waitClosed() != nil {
					bad++
				}
			}
			if bad < rounds/2 {
				t.Errorf("%d of %d streams ended in an error", bad, rounds)
			}
		})
	}
}
