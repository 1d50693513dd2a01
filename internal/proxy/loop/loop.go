// Package loop is one epoll loop: readiness of sockets, timers, mail from other
// goroutines, and the raw system calls below them. The proxy runs one per core.
//
// It owns the epoll instance, every descriptor that was given to one of its
// Files, the shared read buffer, the free lists of buffers and pipes, the timer
// wheel and the counters.
//
// It promises: all callbacks of a loop run on one goroutine, one after another;
// nothing in a turn blocks except the wait for events; the turns of receive,
// send, timers and mail allocate nothing; a descriptor is closed only after the
// batch of events it was closed in, so that no event of the old owner reaches
// the new one; a timer never runs early; every list has a bound and a counter of
// what it refused.
//
// It does not know a protocol, does not retry, does not recover a panic: a
// handler that panics is our own bug and ends the process. Everything that is
// not said to be safe for any goroutine belongs to the loop's own goroutine.
//
// One turn, in this order (Turn):
//
//	wait ──> events ──> mail ──> files that asked Again ──> timers ──> close what was closed
//	 │                                                                          │
//	 └── blocks only if all of those are empty <────────────────────────────────┘
//
// Reading order: loop.go (a turn), file.go (a descriptor), mail.go (how other
// goroutines reach a loop), timer.go, buffer.go, pipe.go, pool.go (slow work
// outside), socket.go (Bind, Connect), stats.go, syscall.go.
package loop

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultReadBuffer = 64 << 10
	defaultBudget     = 256 << 10
	// batchSize bounds the events of one turn, so that a turn stays short and
	// every connection of a busy loop comes in each round.
	batchSize = 256
	// busyBatch is the batch from which the next wait is tried without blocking:
	// a raw call that finds nothing costs less than falling asleep too early.
	busyBatch = 4
)

// Options are the settings of a loop. The zero value is good.
type Options struct {
	// Index numbers the loops of a process, for per-loop arrays of others.
	Index int
	// Now is the monotonic clock in nanoseconds, read once or twice a turn;
	// nil is the time since New. Tests give their own.
	Now func() int64
	// Wall is the wall clock, read at most once a turn; nil is time.Now.
	Wall func() time.Time
	// ReadBuffer is the size of the shared read buffer in bytes; 0 is 64 KiB.
	ReadBuffer int
	// Budget is how many bytes one connection may move in one callback before it
	// should ask for Again; 0 is 256 KiB. The owners of Files keep to it.
	Budget int
}

// Loop is one epoll loop. Make it by New, drive it by Run, or by Turn in tests.
type Loop struct {
	// Unchanged after New.
	index      int
	clock      func() int64
	wallClock  func() time.Time
	budget     int
	readBuffer []byte
	epoll      int

	// Of the loop's goroutine alone.
	now       int64 // monotonic ns of this turn
	wall      time.Time
	wallKnown bool // wall is of this turn
	inTurn    bool
	lastBatch int
	batch     [batchSize]unix.EpollEvent
	slots     []slot // open Files; an event carries index and generation
	freeSlots []int32
	dead      []deadFile  // closed in this turn
	again     []againFile // for the next turn
	againNow  []againFile // being walked in this one
	serial    uint32      // of Again calls
	wheel     wheel
	buffers   freeBuffers
	pipes     freePipes
	tasks     []*task // free ones, for Offload
	count     counters
	watch     slowWatch
	address   unix.RawSockaddrInet6 // scratch of Accept

	// Any goroutine.
	mailbox   mailbox
	stopping  atomic.Bool
	running   atomic.Bool
	published published
}

// New makes a loop with its epoll instance. It does nothing until Run or Turn.
func New(o Options) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create eventfd: %w", err), unix.Close(epoll))
	}
	// Edge-triggered: each write to the eventfd is an event of its own, and nobody
	// has to read it empty.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeSlot}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		return nil, errors.Join(fmt.Errorf("watch eventfd: %w", err), unix.Close(wake), unix.Close(epoll))
	}
	l := &Loop{index: o.Index, clock: o.Now, wallClock: o.Wall, budget: o.Budget, epoll: epoll}
	if l.clock == nil {
		start := time.Now()
		l.clock = func() int64 { return int64(time.Since(start)) }
	}
	if l.wallClock == nil {
		l.wallClock = time.Now
	}
	if l.budget == 0 {
		l.budget = defaultBudget
	}
	size := o.ReadBuffer
	if size == 0 {
		size = defaultReadBuffer
	}
	l.readBuffer = make([]byte, size)
	l.mailbox.wake = wake
	l.now = l.clock()
	l.wheel.init(l.now)
	return l, nil
}

// Run turns on a thread of its own until Stop.
func (l *Loop) Run() {
	if l.running.Swap(true) {
		panic("BUG: a loop was run twice")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.running.Store(false)
	for !l.stopping.Load() {
		l.turn(-1)
	}
	l.publish()
}

// Turn does one turn and returns how many callbacks ran. It waits at most wait
// for the first of them; below 0 it waits until there is one, or a signal comes.
// For tests, instead of Run.
func (l *Loop) Turn(wait time.Duration) int {
	l.now = l.clock()
	n := l.turn(wait)
	l.publish()
	return n
}

func (l *Loop) turn(wait time.Duration) int {
	n := l.wait(wait)
	l.inTurn = true
	l.wallKnown = false
	l.watch.begin(l.now)
	l.wheel.advance(l.now)
	l.again, l.againNow = l.againNow, l.again
	done := l.dispatch(n)
	done += l.deliver()
	done += l.dispatchAgain()
	done += l.expire()
	l.bury()
	l.inTurn = false
	l.count[countTurns]++
	l.now = l.clock()
	l.watch.end(l)
	return done
}

// wait fills the batch. It reads the clock after a wait that may have taken
// time; after a poll in Run the end of the last turn is near enough.
func (l *Loop) wait(limit time.Duration) int {
	timeout := l.timeout(limit)
	if timeout == 0 || l.lastBatch >= busyBatch {
		n := l.poll()
		if !l.running.Load() {
			l.now = l.clock()
		}
		if n > 0 || timeout == 0 {
			l.lastBatch = n
			return n
		}
	}
	l.publish()
	l.lastBatch = 0
	if l.mailbox.sleep() && !l.stopping.Load() {
		l.lastBatch = l.block(timeout)
	}
	l.mailbox.awake()
	l.now = l.clock()
	return l.lastBatch
}

// timeout is how many milliseconds the wait may take: 0 where work is at hand, -1
// without end.
func (l *Loop) timeout(limit time.Duration) int {
	if limit == 0 || len(l.again) > 0 || l.wheel.working() || l.mailbox.full() {
		return 0
	}
	if due := l.wheel.next(); due != never {
		left := time.Duration(max(due-l.now, 0))
		if limit < 0 || left < limit {
			limit = left
		}
	}
	if limit < 0 {
		return -1
	}
	// Rounded up: a wait that ends too early would only have to be repeated.
	return int(min((limit+time.Millisecond-1)/time.Millisecond, 1<<30))
}

// dispatch hands the events of the batch to their owners.
func (l *Loop) dispatch(n int) int {
	done := 0
	for i := range n {
		event := &l.batch[i]
		if event.Fd == wakeSlot {
			continue
		}
		s := &l.slots[event.Fd]
		f := s.file
		if f == nil || s.generation != event.Pad {
			l.count[countStale]++
			continue
		}
		ready := f.translate(event.Events)
		if f.again != 0 {
			// One callback instead of two in this turn.
			f.again = 0
			ready |= Readable
		}
		if ready == 0 {
			continue
		}
		done++
		cause := f.Cause
		f.handler.Ready(ready)
		l.watch.after(l, cause)
	}
	l.count[countEvents] += uint64(done)
	return done
}

// dispatchAgain goes on with the Files that used up their budget a turn ago.
func (l *Loop) dispatchAgain() int {
	done := 0
	for _, entry := range l.againNow {
		f := entry.file
		if f.again != entry.serial {
			continue // closed, or an event came first
		}
		f.again = 0
		done++
		cause := f.Cause
		f.handler.Ready(Readable)
		l.watch.after(l, cause)
	}
	clear(l.againNow)
	l.againNow = l.againNow[:0]
	return done
}

// Stop ends Run after the turn that is running. Any goroutine.
func (l *Loop) Stop() {
	l.stopping.Store(true)
	l.mailbox.rouse()
}

// Close closes the loop's descriptors and those of every File that is still
// open, without telling their owners, and drops the mail that nobody fetched.
// Call it after Run has returned.
func (l *Loop) Close() error {
	if l.running.Load() {
		panic("BUG: a loop was closed while it runs")
	}
	l.stopping.Store(true)
	if !l.mailbox.shut() {
		return nil // closed before
	}
	for i := range l.slots {
		if f := l.slots[i].file; f != nil {
			f.Close()
		}
	}
	l.bury()
	l.pipes.close(l)
	l.publish()
	return errors.Join(unix.Close(l.mailbox.wake), unix.Close(l.epoll))
}

// Index is the number that Options gave.
func (l *Loop) Index() int { return l.index }

// Budget is how many bytes one connection may move in one callback before it
// asks for Again.
func (l *Loop) Budget() int { return l.budget }

// Now is the monotonic time of this turn in nanoseconds.
func (l *Loop) Now() int64 { return l.now }

// Wall is the wall-clock time of this turn, read when it is first asked for.
func (l *Loop) Wall() time.Time {
	if !l.wallKnown {
		l.wall, l.wallKnown = l.wallClock(), true
	}
	return l.wall
}

// ReadBuffer is the buffer that all connections of the loop read into. What it
// holds is good until the callback that got it returns.
func (l *Loop) ReadBuffer() []byte { return l.readBuffer }
