package transport

import "golang.org/x/sys/unix"

// Write sends p, and keeps what does not go at once. It never blocks and tells no
// error: a stream that breaks is Closed. p may be used again when it returns.
func (c *Conn) Write(p []byte) { c.WriteTwo(p, nil) }

// WriteTwo sends a and then b, in one system call where bare.
func (c *Conn) WriteTwo(a, b []byte) {
	if len(a)+len(b) == 0 || !c.mayWrite() {
		return
	}
	c.sent += int64(len(a) + len(b))
	switch {
	case c.tls == nil:
		c.send(a, b)
	case c.phase == phaseOpen:
		c.seal(a, b)
	default:
		c.early = keepIn(c.loop, c.early, a)
		c.early = keepIn(c.loop, c.early, b)
	}
	c.owesDrained = c.Pending() > 0
}

// Pending is how many bytes wait to be sent. Whoever writes what another stream
// brings pauses that one while Pending is above its mark. Above a megabyte the
// stream itself is not read.
func (c *Conn) Pending() int {
	n := c.out.size
	if c.early != nil {
		n += len(c.early.B)
	}
	return n
}

// mayWrite says whether bytes can still go out.
func (c *Conn) mayWrite() bool {
	return c.phase != phaseGone && c.phase != phaseClosing && !c.halfClose && !c.broken && !c.doomed
}

// send sends bytes as they are on the wire, behind those that wait.
func (c *Conn) send(a, b []byte) {
	if c.out.empty() && c.phase != phaseConnecting {
		n, errno := c.file.SendTwo(a, b)
		if errno != 0 {
			if !wouldBlock(errno) {
				c.breakOff(errno)
				return
			}
			n = 0
		}
		if n >= len(a) {
			a, b = nil, b[n-len(a):]
		} else {
			a = a[n:]
		}
	}
	if len(a)+len(b) > 0 {
		c.out.append(c.loop, a)
		c.out.append(c.loop, b)
		c.file.WantWrite(true)
	}
}

// flush sends what waits, and follows its end.
func (c *Conn) flush() {
	for !c.out.empty() {
		a, b := c.out.front()
		n, errno := c.file.SendTwo(a, b)
		if errno != 0 {
			if !wouldBlock(errno) {
				c.breakOff(errno)
			}
			return
		}
		c.out.sent(c.loop, n)
		if n < len(a)+len(b) {
			return // full; Writable tells when not
		}
	}
	c.file.WantWrite(c.feeder != nil && c.feeder.relay.holds() > 0)
	c.drained()
}

// drained follows the last byte that waited.
func (c *Conn) drained() {
	switch {
	case c.phase == phaseConnecting || c.phase == phaseHandshake:
		return
	case c.phase == phaseClosing:
		c.flushed()
		return
	case c.halfClose:
		c.sendFIN()
	}
	if f := c.feeder; f != nil {
		f.pump()
	}
	if c.owesDrained && c.phase == phaseOpen {
		c.owesDrained = false
		c.inside = true
		c.owner.Drained()
		c.inside = false
	}
}

// CloseWrite says that we send no more: what waits goes out, then close_notify,
// then FIN. Reading goes on.
func (c *Conn) CloseWrite() {
	if !c.mayWrite() {
		return
	}
	c.halfClose = true
	if c.phase == phaseOpen {
		c.endWriting()
	}
}

// endWriting sends close_notify where there is TLS (RFC 8446 6.1: before the
// write side closes), and FIN once nothing waits.
func (c *Conn) endWriting() {
	if c.tls != nil && !c.broken {
		if c.tls.CloseWrite() == nil {
			c.ship()
		}
	}
	if c.out.empty() {
		c.sendFIN()
	}
}

func (c *Conn) sendFIN() {
	if !c.finSent && !c.broken {
		c.finSent = true
		c.file.ShutdownWrite()
	}
}

// breakOff gives writing up. What the other side sent before it broke the stream
// can still be read: an answer that came before the end of a request, say.
// The rest follows in the next turn.
func (c *Conn) breakOff(errno unix.Errno) {
	c.broken = true
	if c.err == nil {
		c.err = errno
	}
	c.dropOut()
	c.readable, c.hungUp = true, true
	c.again()
}

// dropOut gives up what waits to be sent.
func (c *Conn) dropOut() {
	c.out.drop(c.loop)
	c.dropEarly()
}

// dropEarly gives up what was written before the TLS handshake's end.
func (c *Conn) dropEarly() {
	if c.early != nil {
		c.loop.Return(c.early)
		c.early = nil
	}
}

// buryBroken closes a stream that no longer sends, once there is nothing left to
// be read from it either. Reading finds that out itself, unless it is stopped.
func (c *Conn) buryBroken() {
	if !c.broken || c.phase == phaseGone {
		return
	}
	if c.feeder != nil {
		c.feeder.endRelay(takerError(c.reason()))
	}
	stopped := c.paused || c.full || c.phase == phaseHandshake && c.tls.Parked()
	if c.endTold || stopped && !c.ended && c.kept == nil && c.unread() == 0 {
		c.gone(c.reason())
	}
}

// reason is why a broken stream broke.
func (c *Conn) reason() error {
	if c.err == nil {
		if errno := c.file.SocketError(); errno != 0 {
			c.err = errno
		} else {
			c.err = unix.ECONNRESET
		}
	}
	return c.err
}

// unread is how many bytes wait in the kernel.
func (c *Conn) unread() int {
	n, err := unix.IoctlGetInt(c.file.FD(), unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
