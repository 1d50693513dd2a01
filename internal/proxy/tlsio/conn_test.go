package tlsio

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluis/internal/proxy/loop"
)

// coroutines counts goroutines that run or wait in a handshake.
func coroutines() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "tlsio.(*Conn).begin")
}

// A handshake that is given up after any of its steps leaves no coroutine and no
// buffer, also one that waits for a signature, whose result is then dropped.
func TestAbort(t *testing.T) {
	pool := loop.NewPool(1, 64)
	t.Cleanup(pool.Close)
	certificate, trust := identity(t, rsaKey(t))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		parked := false
		for steps := 0; ; steps++ {
			l := newLoop(t)
			client, server := newPair(t, l,
				&tls.Config{RootCAs: trust, ServerName: "test", MaxVersion: version},
				&tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
					return Bind(hello, &certificate, pool), nil
				}})
			server.Resumed = func() { t.Error("an aborted handshake was resumed") }
			client.take(nil)
			for range steps {
				switch {
				case len(client.Out()) > 0 && !server.Parked():
					server.take(client.drain())
				case len(server.Out()) > 0:
					client.take(server.drain())
				}
			}
			if server.Parked() {
				parked = true
				server.Abort()
				for pool.Stats().Done == 0 || pool.Stats().Waiting+pool.Stats().Working > 0 {
					l.Turn(time.Millisecond)
				}
				l.Turn(time.Millisecond)
			}
			over := steps > 8
			client.Abort()
			server.Abort()
			server.Abort() // again: nothing
			if _, err := server.Handshake(nil); err == nil {
				t.Errorf("step %d: an aborted connection goes on", steps)
			}
			noBuffersOut(t, l)
			if n := coroutines(); n != 0 {
				t.Fatalf("version %x, step %d: %d coroutines are left", version, steps, n)
			}
			if over {
				break
			}
		}
		if !parked {
			t.Errorf("version %x: no step was parked; the test is too easy", version)
		}
	}
}

// A signature that the pool refuses ends the handshake, counted, and its alert is
// there to be sent.
func TestPoolFull(t *testing.T) {
	pool := loop.NewPool(1, 1)
	pool.Close()
	certificate, trust := identity(t, rsaKey(t))
	l := newLoop(t)
	client, server := newPair(t, l,
		&tls.Config{RootCAs: trust, ServerName: "test"},
		&tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return Bind(hello, &certificate, pool), nil
		}})
	converse(t, l, client, server, 0)
	// crypto/tls flattens the signer's error to its text.
	if server.err == nil || !strings.Contains(server.err.Error(), ErrPoolFull.Error()) {
		t.Errorf("server: %v, want %v", server.err, ErrPoolFull)
	}
	if client.err == nil || !strings.Contains(client.err.Error(), "internal error") {
		t.Errorf("client: %v, want the server's alert", client.err)
	}
	if n := pool.Stats().Refused; n != 1 {
		t.Errorf("%d refusals counted, want 1", n)
	}
	noBuffersOut(t, l)
}

// Keys that sign fast, and handshakes that are not a Conn's, are left alone.
func TestBindLeavesOthersAlone(t *testing.T) {
	pool := loop.NewPool(1, 1)
	t.Cleanup(pool.Close)
	elliptic, _ := identity(t, ecdsaKey(t))
	large, _ := identity(t, rsaKey(t))
	ours := context.WithValue(context.Background(), connKey{}, &Conn{})
	if got := bind(ours, &elliptic, pool); got != &elliptic {
		t.Error("an ECDSA key was bound")
	}
	if got := Bind(&tls.ClientHelloInfo{}, &large, pool); got != &large {
		t.Error("the key of a foreign handshake was bound")
	}
	if got := bind(ours, &large, pool); got == &large || large.PrivateKey == got.PrivateKey {
		t.Error("an RSA key was not bound, or the shared certificate was changed")
	}
}

// A Config that would let crypto/tls renegotiate inside Read is our own bug.
func TestConfigMustBePrepared(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unprepared Config was taken")
		}
	}()
	Server(&tls.Config{}, newLoop(t))
}

// Errors stay, and what follows one is ignored.
func TestErrorsStay(t *testing.T) {
	for name, spoil := range map[string]func(wire []byte) ([]byte, error){
		"close_notify, then data": nil,
		"a flipped bit":           func(w []byte) ([]byte, error) { w[len(w)-1] ^= 1; return w, errors.New("bad record MAC") },
		"an oversized record":     func(w []byte) ([]byte, error) { w[3], w[4] = 0xff, 0xff; return w, errors.New("oversized record") },
		"a foreign version":       func(w []byte) ([]byte, error) { w[1] = 9; return w, errors.New("version") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t)
			client, server := connect(t, l, nil)
			wantErr := io.EOF
			if spoil == nil {
				client.CloseWrite()
				server.take(append(client.drain(), "more"...))
			} else {
				write(t, client.Conn, []byte("hello"))
				wire, err := spoil(client.drain())
				wantErr = err
				server.take(wire)
			}
			if server.err == nil || !strings.Contains(server.err.Error(), wantErr.Error()) {
				t.Errorf("Read: %v, want %v", server.err, wantErr)
			}
			wire := []byte("more")
			if n, err := server.Read(&wire, make([]byte, 10)); n != 0 || err != server.err || wire != nil {
				t.Errorf("Read after an error = %d, %v with %d bytes left, want the same error and none", n, err, len(wire))
			}
			if alerts := len(server.Out()) > 0; alerts != (spoil != nil) {
				t.Errorf("alert in Out: %v", alerts)
			}
			server.TakeOut()
			noBuffersOut(t, l)
		})
	}
}

// The steady state: a request in, an answer out. crypto/tls allocates one small
// object per batch of wire bytes (its reader); we add nothing.
func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("platform: the race detector allocates")
	}
	l := newLoop(t)
	client, server := connect(t, l, nil)
	message, dst := random(400), make([]byte, MaxPlain)
	turn := func() {
		write(t, client.Conn, message)
		wire := client.Out()
		n, err := server.Read(&wire, dst)
		if n != len(message) || err != nil {
			t.Fatalf("Read = %d, %v", n, err)
		}
		if n, err := server.Read(&wire, dst); n != 0 || err != ErrWouldBlock {
			t.Fatalf("second Read = %d, %v", n, err)
		}
		client.TakeOut()
	}
	turn()
	if n := testing.AllocsPerRun(1000, turn); n > 1 {
		t.Errorf("%v allocations for a write and a read, want 1 at most", n)
	}
	if n := testing.AllocsPerRun(1000, func() { write(t, client.Conn, message); client.TakeOut() }); n > 0 {
		t.Errorf("%v allocations for a write, want 0", n)
	}
}

// An idle connection is small, also after a request and an answer.
func TestMemoryPerConnection(t *testing.T) {
	const count, limit = 400, 10 << 10
	for name, change := range map[string]func(client, server *tls.Config){
		"TLS 1.3": nil,
		"TLS 1.2": func(client, _ *tls.Config) { client.MaxVersion = tls.VersionTLS12 },
	} {
		l := newLoop(t)
		certificate, trust := identity(t, ecdsaKey(t))
		clientConfig := Prepare(&tls.Config{RootCAs: trust, ServerName: "test"})
		serverConfig := Prepare(&tls.Config{Certificates: []tls.Certificate{certificate}})
		if change != nil {
			change(clientConfig, serverConfig)
		}
		servers := make([]*Conn, 0, count)
		one := func() {
			client := &side{Conn: Client(clientConfig, l), t: t}
			server := &side{Conn: Server(serverConfig, l), t: t}
			converse(t, l, client, server, 0)
			write(t, client.Conn, random(400))
			server.take(client.drain())
			write(t, server.Conn, random(300))
			server.TakeOut()
			servers = append(servers, server.Conn)
		}
		one()
		before := heap()
		for range count - 1 {
			one()
		}
		per := (heap() - before) / (count - 1)
		t.Logf("%s: %d bytes of heap per idle connection", name, per)
		if per > limit {
			t.Errorf("%s: %d bytes of heap per idle connection, want at most %d", name, per, limit)
		}
		runtime.KeepAlive(servers)
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Whatever comes from the wire, in whatever pieces, a handshake ends in an error or
// waits, and leaves nothing behind.
func FuzzServerHandshake(f *testing.F) {
	certificate, trust := identity(f, ecdsaKey(f))
	l := newLoop(f)
	hello := &side{Conn: Client(Prepare(&tls.Config{RootCAs: trust, ServerName: "test"}), l), t: f}
	hello.take(nil)
	f.Add(hello.drain(), uint8(0))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(1))
	f.Add([]byte{22, 3, 1, 0, 0}, uint8(3))
	hello.Abort()
	config := Prepare(&tls.Config{Certificates: []tls.Certificate{certificate}})
	f.Fuzz(func(t *testing.T, wire []byte, cut uint8) {
		s := &side{Conn: Server(config, l), t: t}
		for len(wire) > 0 && s.err == nil {
			n := segment(len(wire), int(cut))
			s.take(wire[:n])
			wire = wire[n:]
		}
		s.Abort()
		noBuffersOut(t, l)
	})
}

// framing agrees with a reading of the whole input at once.
func FuzzFraming(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 2, 1, 2, 23, 3, 3, 0, 0, 23}, uint64(1))
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		for i := range input {
			if i%5 == 3 {
				input[i] = 0 // short records
			}
		}
		records, rest := 0, input
		for len(rest) >= 5 {
			size := 5 + int(binary.BigEndian.Uint16(rest[3:]))
			if len(rest) < size {
				break
			}
			records++
			rest = rest[size:]
		}
		var fr framing
		pieces := rand.New(rand.NewPCG(seed, 0))
		for left := input; len(left) > 0; {
			n := 1 + pieces.IntN(len(left))
			fr.pass(left[:n])
			left = left[n:]
		}
		if int(fr.due) != records {
			t.Errorf("%d records counted, want %d", fr.due, records)
		}
		if whole := fr.body == 0 && fr.have == 0; whole != (len(rest) == 0) {
			t.Errorf("at a boundary: %v with %d bytes behind the last record", whole, len(rest))
		}
	})
}

// A client that keeps sessions by address must not fall over a Conn without one.
func TestSessionsWithoutServerName(t *testing.T) {
	l := newLoop(t)
	cache := tls.NewLRUClientSessionCache(4)
	certificate, _ := identity(t, ecdsaKey(t))
	serverConfig := Prepare(&tls.Config{Certificates: []tls.Certificate{certificate}})
	resumed := 0
	for range 2 {
		client := &side{Conn: Client(Prepare(&tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache}), l), t: t}
		server := &side{Conn: Server(serverConfig, l), t: t}
		converse(t, l, client, server, 0)
		write(t, server.Conn, []byte("x"))
		client.take(server.drain())
		if client.State().DidResume && bytes.Equal(client.plain, []byte("x")) {
			resumed++
		}
		client.Abort()
		server.Abort()
	}
	if resumed != 1 {
		t.Errorf("%d of 2 handshakes were resumed, want 1", resumed)
	}
}
