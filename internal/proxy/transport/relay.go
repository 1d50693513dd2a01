package transport

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
)

// relay moves bytes from one bare stream to another without bringing them into the
// process: socket, pipe, socket.
type relay struct {
	to    *Conn
	pipe  *loop.Pipe
	left  int64 // bytes that are still to be taken from the source; -1: until its end
	moved int64 // bytes that the destination's socket has taken
	done  func(moved int64, err error)
}

// holds is how many bytes are between the sockets.
func (r *relay) holds() int {
	if r == nil {
		return 0
	}
	return r.pipe.Held
}

// maxSplice is the most that one call moves.
const maxSplice = 1 << 20

// RelayTo moves the next n bytes (-1: all until the end) to dst in the kernel, and
// then calls done, with an error if either side failed first (ErrTaker: dst) or the
// source ended early (io.ErrUnexpectedEOF). Bytes that are kept, or that the Data call under way
// leaves, are the first of them. Until done no Data comes, and the owner of dst
// writes nothing to it; Received and Sent grow as bytes move, Pause and Resume
// work. Closing either stream ends the relay without done. It says false where it
// can't be done: under TLS, between loops, or when pipes are short. Use it for
// 16 KiB and more: small messages go faster through Data and Write.
func (c *Conn) RelayTo(dst *Conn, n int64, done func(moved int64, err error)) bool {
	switch {
	case c.tls != nil || dst.tls != nil || c.loop != dst.loop || c == dst,
		c.phase != phaseOpen || dst.phase != phaseOpen || !dst.mayWrite(),
		c.relay != nil || dst.feeder != nil || c.ended || n == 0:
		return false
	}
	pipe, ok := c.loop.BorrowPipe()
	if !ok {
		return false
	}
	c.relay = &relay{to: dst, pipe: pipe, left: n, done: done}
	dst.feeder = c
	if k := c.kept; k != nil {
		c.kept = nil
		if rest := c.relayFirst(k.B); len(rest) > 0 {
			c.keep(rest)
		}
		c.loop.Return(k)
	}
	c.again()
	return true
}

// relayFirst passes on bytes that had left the kernel before the relay began, and
// returns those that are beyond it.
func (c *Conn) relayFirst(b []byte) []byte {
	r := c.relay
	n := len(b)
	if r.left >= 0 {
		n = int(min(int64(n), r.left))
		r.left -= int64(n)
	}
	r.to.Write(b[:n])
	r.moved += int64(n)
	return b[n:]
}

// pump moves what can be moved now. It is called when the source has bytes and
// when the destination has room.
func (c *Conn) pump() {
	r := c.relay
	budget := int64(c.loop.Budget())
	for r != nil && c.relay == r {
		switch {
		case !r.to.mayWrite():
			c.endRelay(takerError(unix.EPIPE))
			return
		case !r.to.out.empty():
			return // its flush calls again
		case r.pipe.Held > 0:
			if !c.pumpOut(r) {
				return
			}
		case r.left == 0:
			c.endRelay(nil)
			return
		case c.ended && r.left > 0:
			c.endRelay(io.ErrUnexpectedEOF)
			return
		case c.ended:
			c.endRelay(nil)
			return
		case c.paused || !c.readable:
			return
		case budget <= 0:
			c.again()
			return
		default:
			n, ok := c.pumpIn(r)
			if !ok {
				return
			}
			budget -= n
		}
	}
}

// pumpIn fills the pipe from the source; the pipe is empty before.
func (c *Conn) pumpIn(r *relay) (int64, bool) {
	most := int64(maxSplice)
	if r.left >= 0 {
		most = min(most, r.left)
	}
	n, errno := c.file.SpliceIn(r.pipe, int(most))
	switch {
	case errno != 0 && wouldBlock(errno):
		c.readable = false
		return 0, false
	case errno != 0:
		c.lost(errno)
		return 0, false
	case n == 0:
		c.atEnd()
		return 0, c.ended
	}
	if r.left > 0 {
		r.left -= int64(n)
	}
	c.received += int64(n)
	return int64(n), true
}

// pumpOut empties the pipe into the destination.
func (c *Conn) pumpOut(r *relay) bool {
	n, errno := r.to.file.SpliceOut(r.pipe)
	r.moved += int64(n)
	r.to.sent += int64(n)
	switch {
	case errno != 0 && wouldBlock(errno):
		r.to.file.WantWrite(true)
		return false
	case errno != 0:
		to := r.to
		c.endRelay(takerError(errno))
		if to.phase == phaseOpen {
			to.breakOff(errno)
		}
		return false
	}
	return true
}

// ErrTaker is among the errors of a relay that failed at its destination, not at
// its source.
var ErrTaker = errors.New("the destination takes no more")

func takerError(err error) error { return fmt.Errorf("%w: %w", ErrTaker, err) }

// endRelay ends the relay and tells who began it.
func (c *Conn) endRelay(err error) {
	r := c.relay
	c.dropRelay()
	c.offerAgain = c.kept != nil
	c.again()
	c.inside = true
	r.done(r.moved, err)
	c.inside = false
}

// dropRelay ends the relay from here and the one to here, without a word.
func (c *Conn) dropRelay() {
	if r := c.relay; r != nil {
		c.relay, r.to.feeder = nil, nil
		c.loop.ReturnPipe(r.pipe)
	}
	if f := c.feeder; f != nil {
		f.dropRelay()
		f.again()
	}
}
