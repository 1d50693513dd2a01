package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// What a Dial may do and how it fails.
func TestDial(t *testing.T) {
	own := ecdsaCredentials(t)
	t.Run("refused", func(t *testing.T) {
		r := newRig(t, loop.Options{})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(l.Addr().String())
		l.Close()
		e := r.dial(addr, nil, DialOptions{}, func(e *end) { e.Write([]byte("x")) })
		if err := e.waitClosed(); !errors.Is(err, unix.ECONNREFUSED) || e.connected != 0 {
			t.Errorf("Closed(%v), Connected %d times", err, e.connected)
		}
	})
	t.Run("no such source", func(t *testing.T) {
		r := newRig(t, loop.Options{})
		r.do(func() {
			e := r.newEnd()
			err := e.Dial(r.loop, e, netip.MustParseAddrPort("127.0.0.1:1"), nil, DialOptions{Source: netip.MustParseAddr("203.0.113.9")})
			if !errors.Is(err, unix.EADDRNOTAVAIL) || e.IsOpen() {
				t.Errorf("Dial = %v, open %v", err, e.IsOpen())
			}
		})
	})
	t.Run("closed and aborted while connecting", func(t *testing.T) {
		r := newRig(t, loop.Options{})
		// The queue of a listener that nobody serves.
		e := r.dial(r.listen(nil, func(e *end) { e.echo() }), nil, DialOptions{}, func(e *end) { e.Close() })
		if err := e.waitClosed(); err != nil || e.connected != 0 {
			t.Errorf("Closed(%v), Connected %d times", err, e.connected)
		}
		r.dial(r.listen(nil, func(e *end) { e.echo() }), clientConfig(own), DialOptions{}, func(e *end) { e.Abort() })
	})
	for _, s := range securities {
		t.Run("first bytes in clear, from a source/"+s.name, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			_, client := s.configs(r, own)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			first := "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
			e := r.dial(netip.MustParseAddrPort(l.Addr().String()), client,
				DialOptions{Source: netip.MustParseAddr("127.0.0.77"), First: []byte(first)},
				func(e *end) { e.Write([]byte("then this")) })
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			got := make([]byte, len(first))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != first {
				t.Errorf("first came %q, %v", got, err)
			}
			if client != nil {
				c = tls.Server(c, tlsio.Prepare(&tls.Config{Certificates: []tls.Certificate{own.Certificate}}))
			}
			got = make([]byte, len("then this"))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "then this" {
				t.Errorf("then came %q, %v", got, err)
			}
			if _, err := c.Write([]byte("answer")); err != nil {
				t.Error(err)
			}
			r.await("the answer", func() bool { return bytes.Equal(e.got, []byte("answer")) })
			r.do(func() {
				if e.connected != 1 || e.Local().Addr() != netip.MustParseAddr("127.0.0.77") || e.Remote().String() != l.Addr().String() || !nodelay(t, &e.Conn) {
					t.Errorf("Connected %d times, %s to %s", e.connected, e.Local(), e.Remote())
				}
			})
		})
	}
}
