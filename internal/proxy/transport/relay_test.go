package transport

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
)

// relayed is what a test's relay said at its end.
type relayed struct {
	moved int64
	err   error
}

// relayRig has a source and a destination: a client writes to the source, a server
// reads from the destination.
type relayRig struct {
	*rig
	client, server *net.TCPConn
	from, to       *end
	done           chan relayed
}

// newRelayRig begins a relay of n bytes at the first byte from the client, of which
// skip go the usual way first.
func newRelayRig(t *testing.T, n int64, skip int) *relayRig {
	r := &relayRig{rig: newRig(t, loop.Options{}), done: make(chan relayed, 1)}
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { origin.Close() })
	r.to = r.dial(netip.MustParseAddrPort(origin.Addr().String()), nil, DialOptions{}, func(e *end) {})
	c, err := origin.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r.server = c.(*net.TCPConn)
	t.Cleanup(func() { c.Close() })
	r.await("the connection", func() bool { return r.to.connected == 1 })
	addr := r.listen(nil, func(e *end) {
		r.from = e
		e.data = func(b []byte) int {
			taken := min(skip, len(b))
			r.to.Write(b[:taken])
			if skip -= taken; skip > 0 {
				return taken
			}
			e.data = nil // what follows the relay is collected
			if !e.RelayTo(&r.to.Conn, n, func(moved int64, err error) { r.done <- relayed{moved, err} }) {
				t.Error("RelayTo said no")
			}
			if e.RelayTo(&r.to.Conn, n, nil) {
				t.Error("a second relay began")
			}
			return taken
		}
	})
	r.client = testDial(t, addr)
	return r
}

// Bodies go through the kernel, exactly as many bytes as were asked for, in order
// with what was written before, also while the reader lags.
func TestRelay(t *testing.T) {
	for name, test := range map[string]struct {
		n           int64
		skip, extra int
	}{
		"small":                     {n: 10, skip: 1},
		"within what was read":      {n: 10, skip: 5, extra: 100},
		"64 KiB":                    {n: 64 << 10, skip: 200},
		"32 MiB":                    {n: 32 << 20, skip: 200},
		"32 MiB, more follows":      {n: 32 << 20, skip: 200, extra: 5000},
		"behind what waits":         {n: 1 << 20, skip: 24 << 20},
		"until the end":             {n: -1, skip: 200},
		"until the end, from start": {n: -1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelayRig(t, test.n, test.skip)
			size := int(test.n)
			if size < 0 {
				size = 20 << 20
			}
			all := random(test.skip + size + test.extra)
			go func() {
				if _, err := r.client.Write(all); err != nil {
					t.Error(err)
				}
				r.client.CloseWrite()
			}()
			switch {
			case test.skip > 16<<20:
				r.await("the relay behind bytes that wait", func() bool { return r.from != nil && r.from.relay != nil && r.to.Pending() > 0 })
			case size > 16<<20:
				r.await("the relay to stand still", func() bool { return r.from.relay.holds() > 0 })
			}
			got := make([]byte, test.skip+size)
			if _, err := io.ReadFull(r.server, got); err != nil {
				t.Fatal(err)
			}
			if err := same(got, all[:len(got)]); err != nil {
				t.Error(err)
			}
			if d := <-r.done; d.moved != int64(size) || d.err != nil {
				t.Errorf("done(%d, %v), want %d", d.moved, d.err, size)
			}
			if err := r.from.waitClosed(); err != nil { // FIN came behind it
				t.Errorf("Closed(%v)", err)
			}
			if err := same(r.from.got, all[len(got):]); err != nil {
				t.Errorf("behind the relay: %v", err)
			}
			if got, want := r.to.Sent(), int64(len(got)); got != want || r.from.Received() != int64(len(all)) {
				t.Errorf("Sent %d, want %d; Received %d, want %d", got, want, r.from.Received(), len(all))
			}
			r.do(func() { r.to.Close() })
			if rest, err := io.ReadAll(r.server); len(rest) != 0 || err != nil {
				t.Errorf("behind the last byte: %d bytes, %v", len(rest), err)
			}
			if n := r.loop.Stats().Splice; n == 0 && size > 1000 {
				t.Error("nothing was spliced")
			}
		})
	}
}

// How a relay ends when a side goes.
func TestRelayBroken(t *testing.T) {
	const size = 64 << 20
	for name, test := range map[string]struct {
		spoil func(r *relayRig)
		want  error // nil: the relay ends without a word
	}{
		"the source ends early":      {func(r *relayRig) { r.client.CloseWrite(); go io.Copy(io.Discard, r.server) }, io.ErrUnexpectedEOF},
		"the source is reset":        {func(r *relayRig) { r.client.SetLinger(0); r.client.Close(); go io.Copy(io.Discard, r.server) }, unix.ECONNRESET},
		"the destination is reset":   {func(r *relayRig) { r.server.SetLinger(0); r.server.Close() }, unix.ECONNRESET},
		"the source is aborted":      {func(r *relayRig) { r.do(r.from.Abort) }, nil},
		"the destination is aborted": {func(r *relayRig) { r.do(r.to.Abort) }, nil},
		"the destination is closed":  {func(r *relayRig) { r.do(r.to.Close) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelayRig(t, size, 1)
			if _, err := r.client.Write(random(1 << 20)); err != nil {
				t.Fatal(err)
			}
			r.await("bytes to move", func() bool { return r.from != nil && r.to.Sent() > 1 })
			test.spoil(r)
			if test.want != nil {
				if d := <-r.done; !errors.Is(d.err, test.want) && !(test.want == unix.ECONNRESET && errors.Is(d.err, unix.EPIPE)) {
					t.Errorf("done(%d, %v), want %v", d.moved, d.err, test.want)
				}
				return
			}
			r.do(func() {
				if r.from.relay != nil || r.to.feeder != nil || len(r.done) != 0 {
					t.Error("the relay goes on")
				}
			})
		})
	}
}

// A paused source moves nothing.
func TestRelayPaused(t *testing.T) {
	r := newRelayRig(t, -1, 1)
	if _, err := r.client.Write([]byte("1abc")); err != nil {
		t.Fatal(err)
	}
	r.await("the first bytes", func() bool { return r.to.Sent() == 4 })
	r.do(r.from.Pause)
	if _, err := r.client.Write([]byte("def")); err != nil {
		t.Fatal(err)
	}
	r.await("the event", func() bool { return r.from.readable })
	r.do(func() {
		if r.to.Sent() != 4 {
			t.Error("bytes moved while the source was paused")
		}
		r.from.Resume()
	})
	got := make([]byte, 7)
	if _, err := io.ReadFull(r.server, got); err != nil || string(got) != "1abcdef" {
		t.Errorf("got %q, %v", got, err)
	}
}
