package loop

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listen binds to a free port of loopback.
func listen(t testing.TB, o BindOptions) int {
	t.Helper()
	fd, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"), o)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestBindError: each kind can be told apart, and names address and port.
func TestBindError(t *testing.T) {
	var l Loop
	var f File
	f.loop, f.fd = &l, int32(listen(t, BindOptions{}))
	defer closeFD(f.fd)
	taken := f.Local()
	cases := []struct {
		name string
		addr netip.AddrPort
		o    BindOptions
		want unix.Errno
	}{
		{"taken", taken, BindOptions{}, unix.EADDRINUSE},
		{"taken, though we would share", taken, BindOptions{ReusePort: true}, unix.EADDRINUSE},
		{"not ours, IPv4", netip.MustParseAddrPort("192.0.2.1:0"), BindOptions{}, unix.EADDRNOTAVAIL},
		{"not ours, but free", netip.MustParseAddrPort("192.0.2.1:0"), BindOptions{FreeBind: true}, 0},
		{"not ours, IPv6", netip.MustParseAddrPort("[2001:db8::1]:0"), BindOptions{}, unix.EADDRNOTAVAIL},
		{"not ours, IPv6, but free", netip.MustParseAddrPort("[2001:db8::1]:0"), BindOptions{FreeBind: true}, 0},
	}
	for _, c := range cases {
		fd, err := Bind(c.addr, c.o)
		if err == nil {
			closeFD(int32(fd))
		}
		if c.want == 0 {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.addr.Addr().String()) ||
			!strings.Contains(err.Error(), "port ") {
			t.Errorf("%s: Bind = %v, want %v with address and port", c.name, err, c.want)
		}
	}
	// Root is never refused a port.
	if err := bindError(taken, unix.EACCES); !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "need root") {
		t.Errorf("bindError(EACCES) = %v", err)
	}
	if _, err := Bind(netip.AddrPort{}, BindOptions{}); err == nil {
		t.Error("Bind to no address worked")
	}
}

// TestBindShared: with ReusePort each loop has its own listener of the address.
func TestBindShared(t *testing.T) {
	l, _ := newLoop(t)
	var a, b owner
	if err := l.Listen(&a.File, listen(t, BindOptions{ReusePort: true}), &a); err != nil {
		t.Fatal(err)
	}
	fd, err := Bind(a.Local(), BindOptions{ReusePort: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(&b.File, fd, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := Bind(a.Local(), BindOptions{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("the probe without ReusePort = %v, want EADDRINUSE", err)
	}
}

// TestConnect: from a listener's first event to bytes both ways, with the
// addresses that each side sees.
func TestConnect(t *testing.T) {
	cases := []struct{ name, bind, source string }{
		{"IPv4", "127.0.0.1:0", ""},
		{"IPv4 with a source", "127.0.0.1:0", "127.0.0.2"},
		{"IPv6", "[::1]:0", ""},
		{"IPv6 with a source", "[::1]:0", "::1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, _ := newLoop(t)
			fd, err := Bind(netip.MustParseAddrPort(c.bind), BindOptions{})
			if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Skip("platform: no IPv6 here")
			}
			if err != nil {
				t.Fatal(err)
			}
			var listener, client, server owner
			if err := l.Listen(&listener.File, fd, &listener); err != nil {
				t.Fatal(err)
			}
			var source netip.Addr
			if c.source != "" {
				source = netip.MustParseAddr(c.source)
			}
			clientFD, errno := l.Connect(listener.Local(), source, false)
			if errno != 0 {
				t.Fatal(errno)
			}
			client.Adopt(l, clientFD, &client)
			client.WantWrite(true)
			if err := l.Register(&client.File, clientFD, &client); err != nil {
				t.Fatal(err)
			}
			for len(client.told) == 0 || len(listener.told) == 0 {
				l.Turn(-1)
			}
			if errno := client.SocketError(); errno != 0 {
				t.Fatalf("the connect ended with %v", errno)
			}
			serverFD, from, errno := listener.Accept()
			if errno != 0 {
				t.Fatal(errno)
			}
			if from != client.Local() || source.IsValid() && from.Addr() != source {
				t.Errorf("Accept tells %v, the client is %v, wanted source %v", from, client.Local(), source)
			}
			if _, _, errno := listener.Accept(); errno != unix.EAGAIN {
				t.Errorf("a second Accept = %v, want EAGAIN", errno)
			}
			server.Adopt(l, serverFD, &server)
			for _, fd := range []int{serverFD, clientFD} {
				if on, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); on == 0 || err != nil {
					t.Errorf("TCP_NODELAY is %d, %v, want it on", on, err)
				}
			}
			b := make([]byte, 16)
			client.Send([]byte("hello"))
			client.ShutdownWrite()
			if n, errno := server.Recv(b); string(b[:n]) != "hello" {
				t.Errorf("Recv = %q, %v", b[:n], errno)
			}
			if n, errno := server.Recv(b); n != 0 || errno != 0 {
				t.Errorf("Recv after FIN = %d, %v, want the end", n, errno)
			}
			client.told = nil
			server.Abort()
			for len(client.told) == 0 {
				l.Turn(-1)
			}
			if n, errno := client.Recv(b); errno != unix.ECONNRESET {
				t.Errorf("Recv after Abort = %d, %v, want ECONNRESET; told %v", n, errno, client.told)
			}
		})
	}
}

// TestConnectRefused: the failure comes as an event, SocketError names it.
func TestConnectRefused(t *testing.T) {
	l, _ := newLoop(t)
	var closed, client owner
	closed.Adopt(l, listen(t, BindOptions{}), &closed)
	address := closed.Local()
	closed.Close()
	fd, errno := l.Connect(address, netip.Addr{}, false)
	if errno != 0 {
		t.Fatal(errno)
	}
	client.Adopt(l, fd, &client)
	client.WantWrite(true)
	if err := l.Register(&client.File, fd, &client); err != nil {
		t.Fatal(err)
	}
	l.Turn(-1)
	if len(client.told) != 1 || client.told[0]&(Writable|Failed) != Writable|Failed {
		t.Errorf("told %v, want writable and failed", client.told)
	}
	if errno := client.SocketError(); errno != unix.ECONNREFUSED {
		t.Errorf("SocketError = %v, want ECONNREFUSED", errno)
	}
	if _, errno := Connect(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddr("::1")); errno != unix.EAFNOSUPPORT {
		t.Errorf("Connect from IPv6 to IPv4 = %v", errno)
	}
}

// TestWantAccept: a listener that is switched off tells nothing, and everything
// that waits once it is on again. Detach gives the socket away.
func TestWantAccept(t *testing.T) {
	l, _ := newLoop(t)
	var listener owner
	if err := l.Listen(&listener.File, listen(t, BindOptions{}), &listener); err != nil {
		t.Fatal(err)
	}
	client, errno := Connect(listener.Local(), netip.Addr{})
	if errno != 0 {
		t.Fatal(errno)
	}
	defer closeFD(int32(client))
	l.Turn(-1)
	l.Turn(0) // level-triggered: once more
	if len(listener.told) != 2 {
		t.Errorf("told %d times, want 2", len(listener.told))
	}
	listener.told = nil
	listener.WantAccept(false)
	l.Turn(0)
	if len(listener.told) != 0 {
		t.Errorf("told %v while off", listener.told)
	}
	listener.WantAccept(true)
	l.Turn(0)
	if len(listener.told) != 1 {
		t.Errorf("told %v when on again, want once", listener.told)
	}
	fd := listener.Detach()
	defer closeFD(int32(fd))
	l.Turn(0)
	if len(listener.told) != 1 || listener.IsOpen() || listener.Detach() != -1 {
		t.Errorf("told %v, open %v after Detach", listener.told, listener.IsOpen())
	}
}
