package loop

import (
	"sync/atomic"
	"time"
)

// Mail is a message to a loop that its owner keeps and posts again and again, so
// that nothing is allocated. Set Deliver once, before the first post.
type Mail struct {
	// Deliver runs in the loop. It may post the same Mail again.
	Deliver func()

	next   *Mail
	posted atomic.Bool
}

// maxPosted bounds the functions that wait in a mailbox. Mails need no bound: each
// stands there once.
const maxPosted = 1 << 16

// mailbox brings work from other goroutines into the loop. It has no lock: a
// worker of lowest priority (see Pool) that is put to sleep inside one would make
// the loop wait for it.
//
//	poster: push onto head, then write to the eventfd if the loop sleeps
//	loop:   take the whole list, reverse it, run it
type mailbox struct {
	head   atomic.Pointer[Mail]
	asleep atomic.Bool // the loop blocks, or is about to
	gate   gate
	wake   int // eventfd
	// waiting counts functions of Post that wait.
	waiting atomic.Int64
	refused atomic.Uint64
}

// Post runs f in the loop, after everything that was posted before it. It says
// false if the loop is closed or its mailbox holds too much; f is then dropped.
// A loop that is closed drops what it has not fetched. Any goroutine.
func (l *Loop) Post(f func()) bool {
	box := &l.mailbox
	if box.waiting.Add(1) > maxPosted {
		box.waiting.Add(-1)
		box.refused.Add(1)
		return false
	}
	return l.PostMail(&Mail{Deliver: func() {
		box.waiting.Add(-1)
		f()
	}})
}

// PostMail has m delivered in the loop, after everything that was posted before
// it. Posting one that waits already does nothing. It says false if the loop is
// closed. Any goroutine.
func (l *Loop) PostMail(m *Mail) bool {
	box := &l.mailbox
	if !box.gate.enter() {
		return false
	}
	if m.posted.CompareAndSwap(false, true) {
		for {
			m.next = box.head.Load()
			if box.head.CompareAndSwap(m.next, m) {
				break
			}
		}
		if box.asleep.Load() && box.asleep.CompareAndSwap(true, false) {
			addOne(int32(box.wake))
		}
	}
	box.gate.leave()
	return true
}

// rouse ends the loop's wait.
func (b *mailbox) rouse() {
	if !b.gate.enter() {
		return
	}
	if b.asleep.CompareAndSwap(true, false) {
		addOne(int32(b.wake))
	}
	b.gate.leave()
}

func (b *mailbox) full() bool { return b.head.Load() != nil }

// sleep announces that the loop will block; it must not where it says false.
func (b *mailbox) sleep() bool {
	b.asleep.Store(true)
	// A poster either sees asleep or was early enough to be seen here.
	return !b.full()
}

func (b *mailbox) awake() { b.asleep.Store(false) }

// shut refuses mail from now on and drops what waits. It says false if that was
// done before.
func (b *mailbox) shut() bool {
	if !b.gate.shut() {
		return false
	}
	b.head.Store(nil)
	return true
}

// deliver runs the mail that waits now. What is posted meanwhile comes in the next
// turn.
func (l *Loop) deliver() int {
	if !l.mailbox.full() {
		return 0
	}
	var first *Mail
	for m := l.mailbox.head.Swap(nil); m != nil; {
		next := m.next
		m.next, first = first, m
		m = next
	}
	done := 0
	for m := first; m != nil; {
		next := m.next
		m.next = nil
		m.posted.Swap(false) // from here on it can be posted again
		m.Deliver()
		l.watch.after(l, "mail")
		done++
		m = next
	}
	l.count[countPosted] += uint64(done)
	return done
}

// gate lets callers in until it is shut, and shutting waits until all are out. No
// caller waits for another.
type gate struct {
	// state is twice the number of callers inside, plus 1 when shut.
	state atomic.Int64
}

func (g *gate) enter() bool {
	if g.state.Add(2)&1 != 0 {
		g.state.Add(-2)
		return false
	}
	return true
}

func (g *gate) leave() { g.state.Add(-2) }

// shut says false if the gate was shut already.
func (g *gate) shut() bool {
	if g.state.Or(1)&1 != 0 {
		return false
	}
	for g.state.Load() != 1 {
		// Asleep, not spinning: who is inside may have the lowest priority.
		time.Sleep(20 * time.Microsecond)
	}
	return true
}
