package loop

import (
	"math/bits"
	"sync/atomic"
)

// ring is a bounded queue for many writers and many readers, first in first out,
// without a lock (D. Vyukov's). Each cell says by its turn whose it is:
//
//	turn == position        free for the writer of that position
//	turn == position + 1    filled, for the reader of that position
//	afterwards              position + size: free for the next round
//
// A thread that is put to sleep between taking a position and giving the cell free
// holds up that cell alone.
type ring struct {
	cells []cell
	mask  uint64
	_     [64]byte // writers and readers on cache lines of their own
	tail  atomic.Uint64
	_     [64]byte
	head  atomic.Uint64
}

type cell struct {
	turn  atomic.Uint64
	task  *task
	since atomic.Int64 // of the task, for oldest
}

func (r *ring) init(size int) {
	n := uint64(1) << bits.Len(uint(max(size, 2)-1))
	r.cells, r.mask = make([]cell, n), n-1
	for i := range r.cells {
		r.cells[i].turn.Store(uint64(i))
	}
}

// push says false if the ring is full.
func (r *ring) push(t *task) bool {
	for {
		at := r.tail.Load()
		c := &r.cells[at&r.mask]
		switch turn := c.turn.Load(); {
		case turn == at:
			if r.tail.CompareAndSwap(at, at+1) {
				c.task = t
				c.since.Store(t.since)
				c.turn.Store(at + 1)
				return true
			}
		case turn < at:
			return false
		}
	}
}

// pop returns nil if the ring is empty.
func (r *ring) pop() *task {
	for {
		at := r.head.Load()
		c := &r.cells[at&r.mask]
		switch turn := c.turn.Load(); {
		case turn == at+1:
			if r.head.CompareAndSwap(at, at+1) {
				t := c.task
				c.task = nil
				c.turn.Store(at + r.mask + 1)
				return t
			}
		case turn <= at:
			return nil
		}
	}
}

// oldest is when the first task in the ring was pushed.
func (r *ring) oldest() (since int64, ok bool) {
	at := r.head.Load()
	c := &r.cells[at&r.mask]
	since = c.since.Load()
	// Still that task: had it been taken meanwhile, the turn would be another.
	return since, c.turn.Load() == at+1
}
