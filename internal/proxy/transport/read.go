package transport

import (
	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// Pause stops reading: no Data and no Ended until Resume. What comes meanwhile
// stays in the kernel, so that the other side has to wait. A TLS handshake goes on.
func (c *Conn) Pause() { c.paused = true }

// Paused says whether the owner has paused the stream.
func (c *Conn) Paused() bool { return c.paused }

// Resume offers what is kept, then reads on. Both happen in the loop's next turn.
func (c *Conn) Resume() {
	c.paused, c.full = false, false
	switch {
	case c.inside:
		c.offerAgain = true // proceed follows the callback
	case c.kept != nil:
		c.offerAgain = true
		c.again()
	case c.readable || c.relay != nil || c.ended && !c.endTold:
		c.again()
	}
}

// again has proceed called in the next turn.
func (c *Conn) again() {
	c.file.Again()
}

// maxUnsent is how much may wait to be sent before the stream is not read either,
// whatever its owner does: the answers that TLS itself gives to KeyUpdates would
// grow without bound for a client that sends and never reads.
const maxUnsent = 1 << 20

// mayRead says whether bytes are wanted and may be there.
func (c *Conn) mayRead() bool {
	if !c.readable || c.ended || c.doomed || c.out.size > maxUnsent {
		return false
	}
	switch c.phase {
	case phaseHandshake:
		return !c.tls.Parked()
	case phaseOpen:
		return !c.paused && !c.full && c.relay == nil
	}
	return false
}

// read takes bytes from the socket until it is empty, the owner has enough, or
// this turn's budget is used up.
func (c *Conn) read() {
	budget := c.loop.Budget()
	for c.mayRead() {
		if budget <= 0 {
			c.again()
			return
		}
		buffer := c.loop.ReadBuffer()
		if c.tls != nil && len(buffer) > tlsio.MaxRead {
			buffer = buffer[:tlsio.MaxRead]
		}
		n, errno := c.file.Recv(buffer)
		switch {
		case errno != 0 && wouldBlock(errno):
			c.readable = false
			return
		case errno != 0:
			c.lost(errno)
			return
		case n == 0:
			c.atEnd()
			return
		}
		// A read that does not fill the buffer has emptied the socket: the next
		// arrival is a new event. After a hang-up only the end itself is.
		c.readable = n == len(buffer) || c.hungUp
		budget -= n
		if c.tls == nil {
			c.received += int64(n)
			c.deliver(buffer[:n])
		} else {
			c.fromWire(buffer[:n])
		}
	}
}

// lost ends a stream that cannot be read any more.
func (c *Conn) lost(errno unix.Errno) {
	if c.err == nil {
		c.err = errno
	}
	c.gone(c.err)
}

// atEnd follows a FIN.
func (c *Conn) atEnd() {
	switch {
	case c.phase == phaseHandshake:
		c.gone(errHandshakeCut)
	case c.broken:
		// A reset whose error was told to a write: not an orderly end.
		c.gone(c.err)
	default:
		c.ended = true
		c.cut = c.tls != nil
	}
}

// tellEnded tells the owner of the end once all before it has been offered.
func (c *Conn) tellEnded() {
	if !c.ended || c.endTold || c.paused || c.full || c.offerAgain || c.phase != phaseOpen || c.relay != nil {
		return
	}
	c.endTold = true
	c.inside = true
	c.owner.Ended()
	c.inside = false
}

// deliver offers bytes that have just come, behind those that are kept.
func (c *Conn) deliver(b []byte) {
	if len(b) == 0 {
		return
	}
	if c.kept != nil || c.paused {
		c.keep(b)
		c.offer()
		return
	}
	if rest := c.tell(b); len(rest) > 0 {
		c.keep(rest)
	}
}

// offerKept offers what is kept after a Resume.
func (c *Conn) offerKept() {
	if !c.offerAgain {
		return
	}
	c.offerAgain = false
	c.offer()
}

// offer offers what is kept.
func (c *Conn) offer() {
	if c.kept == nil || c.paused || c.phase != phaseOpen || c.relay != nil {
		return
	}
	// The buffer stays ours while the owner looks at it, also if it closes the
	// stream meanwhile.
	k := c.kept
	c.kept = nil
	rest := c.tell(k.B)
	switch {
	case len(rest) == 0:
		c.loop.Return(k)
	case len(rest) <= cap(k.B)/4: // a buffer of its own size
		c.keep(rest)
		c.loop.Return(k)
	default:
		k.B = k.B[:copy(k.B, rest)]
		c.kept = k
		c.full = len(k.B) >= c.limit()
	}
}

// tell gives b to the owner until it takes no more, and returns what it left: none
// where the stream was closed meanwhile.
func (c *Conn) tell(b []byte) []byte {
	for len(b) > 0 && !c.paused {
		c.inside = true
		n := c.owner.Data(b)
		c.inside = false
		if c.phase != phaseOpen {
			return nil
		}
		b = b[n:]
		if c.relay != nil {
			return c.relayFirst(b)
		}
		if n == 0 {
			break
		}
	}
	return b
}

// keep puts bytes behind those that are kept.
func (c *Conn) keep(b []byte) {
	c.kept = keepIn(c.loop, c.kept, b)
	c.full = len(c.kept.B) >= c.limit()
}

func (c *Conn) limit() int {
	if c.keepLimit == 0 {
		return defaultKeepLimit
	}
	return int(c.keepLimit)
}

// keepIn appends b to a borrowed buffer, which may be nil, and returns the buffer
// that then holds all.
func keepIn(l *loop.Loop, k *loop.Buffer, b []byte) *loop.Buffer {
	switch {
	case k == nil:
		k = l.Borrow(len(b))
		k.B = k.B[:0]
	case cap(k.B)-len(k.B) < len(b):
		size := len(k.B) + len(b)
		if size > largestBuffer { // no longer of a class: twice as large each time
			size = max(size, 2*cap(k.B))
		}
		larger := l.Borrow(size)
		larger.B = append(larger.B[:0], k.B...)
		l.Return(k)
		k = larger
	}
	k.B = append(k.B, b...)
	return k
}
