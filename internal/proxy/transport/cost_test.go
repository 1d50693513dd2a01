package transport

import (
	"crypto/tls"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// bench is a loop that the test itself turns, with one stream of which the test
// holds the other end as a bare descriptor.
type bench struct {
	t    testing.TB
	loop *loop.Loop
	end  *end
	fd   int
}

func newBench(t testing.TB) *bench {
	t.Helper()
	l, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &bench{t: t, loop: l}
	listening, err := loop.Bind(netip.MustParseAddrPort("127.0.0.1:0"), loop.BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.end = &end{rig: &rig{t: t, loop: l}, closed: make(chan error, 1)}
	b.end.echo()
	var accepted int
	b.fd, accepted = socketPair(t, listening)
	b.end.Accept(l, b.end, accepted, netip.AddrPort{}, nil)
	return b
}

// socketPair connects to a listener: our end is blocking and no Go object.
func socketPair(t testing.TB, listening int) (ours, accepted int) {
	t.Helper()
	address, err := unix.Getsockname(listening)
	if err != nil {
		t.Fatal(err)
	}
	ours, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ours) })
	if err := unix.Connect(ours, address); err != nil {
		t.Fatal(err)
	}
	accepted, _, err = unix.Accept4(listening, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return ours, accepted
}

// exchange sends a message and turns the loop until it has come back.
func (b *bench) exchange(message, scratch []byte) {
	if _, err := unix.Write(b.fd, message); err != nil {
		b.t.Fatal(err)
	}
	for b.loop.Turn(time.Second) == 0 {
	}
	if n, err := unix.Read(b.fd, scratch); n != len(message) || err != nil {
		b.t.Fatalf("read %d bytes, %v", n, err)
	}
}

// A message in and one out: no allocation, no buffer, one receive and one send.
func TestHotPath(t *testing.T) {
	b := newBench(t)
	message, scratch := make([]byte, 400), make([]byte, 1000)
	b.exchange(message, scratch)
	const runs = 1000
	before := b.loop.Stats()
	if n := testing.AllocsPerRun(runs, func() { b.exchange(message, scratch) }); n > 0 {
		t.Errorf("%v allocations per message, want 0", n)
	}
	after := b.loop.Stats()
	for name, calls := range map[string][3]uint64{
		"recv":      {before.Recv, after.Recv, runs + 1},
		"send":      {before.Send, after.Send, runs + 1},
		"epoll_ctl": {before.EpollCtl, after.EpollCtl, 0},
	} {
		if got := calls[1] - calls[0]; got != calls[2] {
			t.Errorf("%d calls of %s for %d messages, want %d", got, name, runs+1, calls[2])
		}
	}
	if after.BuffersOut != 0 || after.BufferMisses != before.BufferMisses {
		t.Errorf("%d buffers lent, %d made", after.BuffersOut, after.BufferMisses)
	}
	b.end.Abort()
}

// A stream that has to wait allocates nothing either, once it has done so before.
func TestBackPressurePath(t *testing.T) {
	b := newBench(t)
	if err := unix.SetsockoptInt(b.end.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(b.fd, true); err != nil {
		t.Fatal(err)
	}
	large, scratch := make([]byte, 600<<10), make([]byte, 64<<10)
	flood := func() {
		b.end.Write(large)
		if b.end.Pending() == 0 {
			t.Fatal("nothing waits; the test is too easy")
		}
		for left := len(large); left > 0; {
			b.loop.Turn(time.Millisecond)
			n, err := unix.Read(b.fd, scratch)
			if err == nil {
				left -= n
			} else if err != unix.EAGAIN {
				t.Fatal(err)
			}
		}
	}
	flood()
	if n := testing.AllocsPerRun(20, flood); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	b.end.Abort()
}

// What an idle stream keeps on the heap, beside the owner's own.
func TestMemoryPerStream(t *testing.T) {
	own := ecdsaCredentials(t)
	serverConfig := tlsio.Prepare(&tls.Config{Certificates: []tls.Certificate{own.Certificate}})
	for name, test := range map[string]struct {
		cfg   *tls.Config
		limit int
		count int
	}{
		"bare": {nil, 1300, 400},
		"TLS":  {serverConfig, 10 << 10, 200},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			listening, err := loop.Bind(netip.MustParseAddrPort("127.0.0.1:0"), loop.BindOptions{})
			if err != nil {
				t.Fatal(err)
			}
			ends := make([]*end, 0, test.count)
			one := func() {
				e := &end{rig: b.end.rig}
				e.echo()
				ours, accepted := socketPair(t, listening)
				e.Accept(b.loop, e, accepted, netip.AddrPort{}, test.cfg)
				client := &rawClient{bench: b, fd: ours}
				client.talk(test.cfg != nil, own)
				ends = append(ends, e)
			}
			one()
			before := heap()
			for range test.count - 1 {
				one()
			}
			per := (heap() - before) / (test.count - 1)
			t.Logf("%s: %d bytes of heap per idle stream, %d of them the Conn itself", name, per, unsafe.Sizeof(Conn{}))
			if per > test.limit {
				t.Errorf("%s: %d bytes of heap per idle stream, want at most %d", name, per, test.limit)
			}
			for _, e := range ends {
				e.Abort()
			}
			b.end.Abort()
		})
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// rawClient is a client that leaves nothing on the heap when it has talked.
type rawClient struct {
	*bench
	fd int
}

// talk does the handshake, if any, and has one message echoed.
func (c *rawClient) talk(secure bool, own *credentials) {
	scratch, message := make([]byte, 16<<10), make([]byte, 400)
	if !secure {
		saved := c.bench.fd
		c.bench.fd = c.fd
		c.exchange(message, scratch)
		c.bench.fd = saved
		return
	}
	conn := tlsio.Client(clientConfig(own), c.loop)
	defer conn.Abort()
	done, got := false, 0
	var wire []byte
	for got < len(message) {
		if !done {
			var err error
			if done, err = conn.Handshake(wire); err != nil {
				c.t.Fatal(err)
			}
			if wire = nil; done {
				if err := conn.Write(message); err != nil {
					c.t.Fatal(err)
				}
			}
		} else {
			n, err := conn.Read(&wire, scratch)
			if err != nil && err != tlsio.ErrWouldBlock {
				c.t.Fatal(err)
			}
			if got += n; n > 0 {
				continue
			}
		}
		if out := conn.Out(); len(out) > 0 {
			if _, err := unix.Write(c.fd, out); err != nil {
				c.t.Fatal(err)
			}
			conn.TakeOut()
		}
		c.loop.Turn(time.Millisecond)
		buffer := make([]byte, 16<<10)
		if n, _, err := unix.Recvfrom(c.fd, buffer, unix.MSG_DONTWAIT); err == nil {
			wire = buffer[:n]
		}
	}
}
