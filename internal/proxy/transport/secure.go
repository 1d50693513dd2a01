package transport

import (
	"errors"
	"fmt"
	"io"

	"sluis/internal/proxy/tlsio"
)

// errHandshakeCut ends a stream whose other side left in the handshake.
var errHandshakeCut = errors.New("the connection was closed during the TLS handshake")

// secure puts the stream under TLS.
func (c *Conn) secure(t *tlsio.Conn) {
	c.tls = t
	t.SetRemote(c.remote)
	t.Resumed = c.signed
}

// signed goes on with a handshake that waited for a signature.
func (c *Conn) signed() {
	c.shake(nil)
	c.proceed()
}

// fromWire takes bytes as they came from the socket.
func (c *Conn) fromWire(wire []byte) {
	if c.phase == phaseHandshake {
		c.shake(wire)
		return
	}
	c.open(wire)
}

// shake takes the handshake a step on.
func (c *Conn) shake(wire []byte) {
	if c.phase != phaseHandshake {
		return
	}
	done, err := c.tls.Handshake(wire)
	c.ship() // also beside an error: the alert
	switch {
	case err != nil:
		c.failTLS(fmt.Errorf("TLS handshake: %w", err))
	case done:
		c.shaken()
	}
}

// shaken follows the end of the handshake.
func (c *Conn) shaken() {
	c.phase, c.secured = phaseOpen, true
	c.tls.Resumed = nil
	if e := c.early; e != nil {
		c.early = nil
		c.seal(e.B, nil)
		c.loop.Return(e)
	}
	if c.halfClose {
		c.endWriting()
	}
	c.inside = true
	c.owner.Connected()
	c.inside = false
	if c.owesDrained && c.phase == phaseOpen && c.Pending() == 0 {
		c.drained()
	}
	if c.phase == phaseOpen {
		c.open(nil) // bytes may have come with the handshake's last message
	}
}

// open decrypts all that came and offers it. Nothing but a piece of a record stays
// behind, so what it yields has a bound (tlsio.MaxRead).
func (c *Conn) open(wire []byte) {
	plain := c.loop.Borrow(tlsio.MaxPlain)
	b := plain.B[:tlsio.MaxPlain]
	n := 0
	var err error
	for err == nil {
		if n == len(b) {
			panic("BUG: more plaintext than fits behind one read")
		}
		var got int
		got, err = c.tls.Read(&wire, b[n:])
		n += got
	}
	c.ship() // a KeyUpdate's answer, an alert
	c.received += int64(n)
	c.deliver(b[:n])
	c.loop.Return(plain)
	switch {
	case c.phase != phaseOpen || err == tlsio.ErrWouldBlock:
	case err == io.EOF:
		c.ended = true // what may follow is ignored (RFC 8446 6.1)
	default:
		c.failTLS(fmt.Errorf("TLS: %w", err))
	}
}

// failTLS ends a stream after a TLS error whose alert has been written. A client
// gets time to read it; a server does not, so that a retry need not wait.
func (c *Conn) failTLS(err error) {
	if !c.accepted || c.broken {
		c.gone(err)
		return
	}
	c.dropInput()
	c.dropEarly()
	c.dropRelay()
	c.phase, c.err, c.halfClose = phaseClosing, err, true
	c.linger(true)
}

// recordSize is the most plaintext that one record holds (RFC 8446 5.1).
const recordSize = 1 << 14

// seal encrypts a and b and sends them. Small ones share a record, larger ones are
// not copied for it.
func (c *Conn) seal(a, b []byte) {
	if len(b) > 0 && len(a)+len(b) <= recordSize/4 {
		joined := c.loop.Borrow(len(a) + len(b))
		joined.B = append(append(joined.B, a...), b...)
		c.encrypt(joined.B)
		c.loop.Return(joined)
	} else {
		c.encrypt(a)
		c.encrypt(b)
	}
	c.ship()
}

// encrypt puts p into records, and sends when a buffer is full.
func (c *Conn) encrypt(p []byte) {
	for len(p) > 0 && !c.broken && !c.doomed {
		room := tlsio.MaxWrite - len(c.tls.Out())
		if room < min(len(p), recordSize/4) {
			c.ship()
			continue
		}
		n := min(len(p), room)
		if err := c.tls.Write(p[:n]); err != nil {
			c.doom(fmt.Errorf("TLS: %w", err))
			return
		}
		p = p[n:]
	}
}

// ship sends what the TLS connection has written.
func (c *Conn) ship() {
	b := c.tls.Out()
	if len(b) == 0 || c.broken {
		c.tls.TakeOut()
		return
	}
	n := 0
	if c.out.empty() {
		sent, errno := c.file.Send(b)
		switch {
		case errno == 0:
			n = sent
		case !wouldBlock(errno):
			c.tls.TakeOut()
			c.breakOff(errno)
			return
		}
	}
	if n == len(b) {
		c.tls.TakeOut()
		return
	}
	c.out.push(c.loop, c.tls.MoveOut(), n)
	c.file.WantWrite(true)
}
