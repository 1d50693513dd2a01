package transport

import (
	"crypto/tls"
	"fmt"
	"net/netip"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// DialOptions are the rarer settings of Dial.
type DialOptions struct {
	// Source is the address to connect from; not valid: the kernel's choice.
	Source netip.Addr
	// Transparent allows a Source that is another machine's.
	Transparent bool
	// First is sent in clear before anything else, TLS too: a PROXY protocol header.
	First []byte
}

// Dial connects to an address, with cfg as its TLS client (nil is bare). An error
// means that nothing was begun and no callback will come; otherwise Connected or
// Closed follows, in a later turn.
func (c *Conn) Dial(l *loop.Loop, o Owner, to netip.AddrPort, cfg *tls.Config, opts DialOptions) error {
	c.start(l, o, to)
	fd, errno := l.Connect(to, opts.Source, opts.Transparent)
	if errno != 0 {
		return fmt.Errorf("connect to %s: %w", to, errno)
	}
	c.file.Adopt(l, fd, (*handler)(c))
	c.file.Cause = "server"
	// Before the registration, so that one system call does both.
	c.file.WantWrite(true)
	if err := l.Register(&c.file, fd, (*handler)(c)); err != nil {
		c.file.Close()
		return fmt.Errorf("connect to %s: watch the socket: %w", to, err)
	}
	c.phase = phaseConnecting
	if cfg != nil {
		c.secure(tlsio.Client(cfg, l))
	}
	c.out.append(l, opts.First)
	return nil
}

// connected follows the end of a connect; it says false while that is to come, or
// when it failed.
func (c *Conn) connected(e loop.Events) bool {
	if e&(loop.Failed|loop.HungUp) != 0 {
		if errno := c.file.SocketError(); errno != 0 {
			c.gone(errno)
			return false
		}
	}
	if e&loop.Writable == 0 {
		return false
	}
	if c.tls != nil {
		c.phase = phaseHandshake
		c.shake(nil)
		return true
	}
	c.phase = phaseOpen
	if c.halfClose {
		c.endWriting()
	}
	c.inside = true
	c.owner.Connected()
	c.inside = false
	return true
}
