package accesslog

import (
	"encoding/binary"
	"sync/atomic"
)

// Writer is one loop's way into the log: a ring of frames that the loop fills and
// the log goroutine empties, without a lock between them.
//
//	tail (log goroutine)      head (loop)
//	  |                         |
//	  [frame][frame] … [frame]  .  .  .   positions only grow; a byte's place is
//	                                      its position modulo the size
//
// Append belongs to one goroutine at a time, the other methods to any.
type Writer struct {
	log     *Log
	ring    []byte // length is a power of two
	scratch []byte // of the loop

	_       [64]byte      // the loop's words and the log goroutine's on lines of their own
	head    atomic.Uint64 // end of what was appended
	appends atomic.Uint64
	dropped atomic.Uint64
	_       [64]byte
	tail    atomic.Uint64 // begin of what wasn't taken yet
	closed  atomic.Bool
}

// WriterStats are the counters of writers.
type WriterStats struct {
	// Appended records went into a ring, Dropped ones found it full.
	Appended, Dropped uint64
}

// Writer makes the way into the log for one more loop.
func (g *Log) Writer() *Writer {
	w := &Writer{log: g, ring: make([]byte, g.options.BufferBytes), scratch: make([]byte, 0, maxFrame)}
	g.mu.Lock()
	defer g.mu.Unlock()
	w.closed.Store(g.closed)
	g.writers = append(g.writers, w)
	return w
}

// Close gives up the writer: what it holds is still written, what is appended
// later is dropped. It may be called twice.
func (w *Writer) Close() { w.closed.Store(true) }

// Append takes a record; false = the ring was full, and the record is dropped and
// counted.
func (w *Writer) Append(format Format, r *Record, redact bool) bool {
	frame := appendFrame(w.scratch[:0], format, r, redact)
	w.scratch = frame[:0]
	head := w.head.Load()
	used := head - w.tail.Load()
	if used+uint64(len(frame)) > uint64(len(w.ring)) || w.closed.Load() {
		w.dropped.Add(1)
		return false
	}
	copyIn(w.ring, head, frame)
	w.head.Store(head + uint64(len(frame)))
	w.appends.Add(1)
	// The store of head and the load of asleep are in one total order with the log
	// goroutine's store of asleep and its look at head: one of the two sees the other.
	switch g := w.log; {
	case g.asleep.Load():
		select {
		case g.wake <- struct{}{}:
		default:
		}
	case used > uint64(len(w.ring)/2):
		select {
		case g.urgent <- struct{}{}:
		default:
		}
	}
	return true
}

// take moves whole frames out of the ring into dst, as many as fit into its
// capacity, and makes their room free again.
func (w *Writer) take(dst []byte) []byte {
	tail, head := w.tail.Load(), w.head.Load()
	for tail < head {
		var length [frameHeader]byte
		copyOut(length[:], w.ring, tail)
		n := int(binary.LittleEndian.Uint32(length[:]))
		if n > cap(dst)-len(dst) {
			break
		}
		at := len(dst)
		dst = dst[:at+n]
		copyOut(dst[at:], w.ring, tail)
		tail += uint64(n)
	}
	w.tail.Store(tail)
	return dst
}

func (w *Writer) empty() bool { return w.head.Load() == w.tail.Load() }

// copyIn puts b into a ring at a position; copyOut is its reverse. The ring's
// length is a power of two.
func copyIn(ring []byte, position uint64, b []byte) {
	at := int(position & uint64(len(ring)-1))
	n := copy(ring[at:], b)
	copy(ring, b[n:])
}

func copyOut(b, ring []byte, position uint64) {
	at := int(position & uint64(len(ring)-1))
	n := copy(b, ring[at:])
	copy(b[n:], ring)
}
