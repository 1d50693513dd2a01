package transport

import (
	"errors"
	"time"

	"sluis/internal/proxy/loop"
)

// How long a farewell may take, and what it reads away meanwhile.
const (
	// flushTime is how long the other side may take none of what waits for it.
	flushTime = 30 * time.Second
	// lingerTime and lingerBytes bound the wait for the other side's end after our
	// FIN. Closing a socket with unread bytes sends a reset, which would destroy
	// the end of our answer on its way (RFC 9112 9.6).
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// errNotTaken ends a farewell whose last bytes nobody takes.
var errNotTaken = errors.New("the other side took none of what was sent for 30 s")

// ending is the state of a farewell.
type ending struct {
	timer loop.Timer
	// wait for the other side's end, after everything was sent.
	wait      bool
	waiting   int // bytes to be sent when the timer was armed
	discarded int
}

// Close ends the stream in good order: what waits is sent, then close_notify and
// FIN; then what still comes is read away until the other side's end, at most
// 256 KiB of it and for at most a second. Closed(nil) follows, in a later turn; no other callback
// does.
func (c *Conn) Close() { c.close(true) }

// CloseShort is Close without the wait for the other side: for one that has said
// that it will send no more, as a client that asked for Connection: close.
func (c *Conn) CloseShort() { c.close(false) }

func (c *Conn) close(wait bool) {
	if c.phase == phaseGone || c.phase == phaseClosing {
		return
	}
	c.dropInput()
	c.dropEarly()
	c.dropRelay()
	c.err = nil
	switch {
	case c.phase == phaseConnecting || c.broken:
		c.doom(nil)
		return
	case c.phase == phaseOpen && c.tls != nil && !c.halfClose:
		if c.tls.CloseWrite() == nil { // RFC 8446 6.1: before the write side closes
			c.ship()
		}
	}
	c.phase, c.halfClose = phaseClosing, true
	if c.broken {
		c.doom(nil)
		return
	}
	c.linger(wait)
}

// linger begins the farewell, after the last byte was written.
func (c *Conn) linger(wait bool) {
	if c.out.empty() && (c.ended || !wait && !c.readable) {
		c.doom(c.err) // closing the socket sends FIN
		return
	}
	e := &ending{wait: wait || c.readable, waiting: c.out.size}
	c.ending = e
	e.timer.Init(c.endingExpired)
	limit := flushTime
	if c.out.empty() {
		c.sendFIN()
		limit = lingerTime
	}
	c.loop.Arm(&e.timer, c.loop.Now()+int64(limit))
	if c.readable {
		c.again()
	}
}

// flushed follows the last byte of a farewell.
func (c *Conn) flushed() {
	c.sendFIN()
	c.loop.Arm(&c.ending.timer, c.loop.Now()+int64(lingerTime))
}

// awaitEnd reads away what still comes, and ends the farewell when it is over.
func (c *Conn) awaitEnd() {
	e := c.ending
	budget := c.loop.Budget()
	for c.readable && !c.ended && e.discarded < lingerBytes && budget > 0 {
		buffer := c.loop.ReadBuffer()
		n, errno := c.file.Recv(buffer)
		switch {
		case errno != 0 && wouldBlock(errno):
			c.readable = false
		case errno != 0:
			c.gone(c.err)
			return
		case n == 0:
			c.ended = true
		default:
			e.discarded += n
			budget -= n
			c.readable = n == len(buffer) || c.hungUp
		}
	}
	switch {
	case c.broken:
		c.gone(c.err)
	case c.out.empty() && (c.ended || !e.wait):
		c.gone(c.err)
	case e.discarded >= lingerBytes:
		// Enough: the rest stays unread, and the timer ends the wait. To close at once
		// would send the reset while our answer is still on its way.
	case c.readable && budget <= 0:
		c.again()
	}
}

// endingExpired ends a farewell that takes too long.
func (c *Conn) endingExpired() {
	e := c.ending
	switch {
	case c.out.empty():
		c.gone(c.err)
	case c.out.size < e.waiting:
		e.waiting = c.out.size
		c.loop.Arm(&e.timer, c.loop.Now()+int64(flushTime))
	default:
		c.gone(errNotTaken)
	}
}

// Abort ends the stream at once; bytes that wait to be sent are lost, and the
// other side gets a reset in their place. No callback comes any more.
func (c *Conn) Abort() {
	if c.phase != phaseGone {
		c.dropRelay()
		c.vanish()
	}
}

// doom has the stream closed in the next turn: what an owner calls does not call
// the owner.
func (c *Conn) doom(err error) {
	c.phase, c.doomed, c.err = phaseClosing, true, err
	c.again()
}

// gone ends the stream and tells its owner.
func (c *Conn) gone(err error) {
	if c.phase == phaseGone {
		return
	}
	if c.relay != nil {
		c.endRelay(err)
	}
	if c.feeder != nil {
		c.feeder.endRelay(takerError(err))
	}
	if c.phase == phaseGone {
		return // the relay's end made its owner abort it
	}
	c.vanish()
	c.owner.Closed(err)
}

// vanish closes the socket and gives back all that was borrowed.
func (c *Conn) vanish() {
	unsent := c.Pending() > 0
	c.dropInput()
	c.dropOut()
	if c.tls != nil {
		c.tls.Abort()
	}
	if c.ending != nil {
		c.loop.Arm(&c.ending.timer, 0)
	}
	if unsent {
		c.file.Abort()
	} else {
		c.file.Close()
	}
	c.phase, c.doomed = phaseGone, false
}

// dropInput gives up what was read and not taken.
func (c *Conn) dropInput() {
	if c.kept != nil {
		c.loop.Return(c.kept)
		c.kept = nil
	}
	c.offerAgain = false
}
