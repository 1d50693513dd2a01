package loop

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats are the counters of a loop since New, as of the end of a recent turn: a
// busy loop publishes them every publishEvery, an idle one before it sleeps.
type Stats struct {
	Turns  uint64 // batches of work
	Events uint64 // readiness told to Files
	Stale  uint64 // events that came for a closed File, and were dropped
	Timers uint64 // timers that expired
	Posted uint64 // mail delivered
	// System calls.
	Recv, Send, Accept, Connect, EpollWait, EpollCtl, Close, Splice uint64
	// BuffersOut are lent now; BufferMisses were not found in a free list.
	BuffersOut, BufferMisses uint64
	// What bounds refused: functions of Post, pipes, jobs of Offload.
	PostsRefused, PipesRefused, JobsRefused uint64
	// SlowTurns took more than 5 ms; SlowCauses says what of, by File.Cause,
	// "timer", "mail", "many events", or "several" where it was not measured.
	SlowTurns  uint64
	SlowCauses map[string]uint64
}

const (
	countTurns = iota
	countEvents
	countStale
	countTimers
	countPosted
	countRecv
	countSend
	countAccept
	countConnect
	countEpollWait
	countEpollCtl
	countClose
	countSplice
	countBorrowed
	countReturned
	countBufferMisses
	countPipesRefused
	countJobsRefused
	countSlowTurns
	countKinds
)

// counters are written by the loop with plain additions.
type counters [countKinds]uint64

// published is what other goroutines see of the counters.
type published struct {
	values [countKinds]atomic.Uint64
	// last is what values hold: storing only what changed is cheaper.
	last counters
	at   int64 // when, in the loop's time

	// mu guards causes, which change only in slow turns.
	mu     sync.Mutex
	causes map[string]uint64
}

// publishEvery is how old the published counters of a busy loop may be.
const publishEvery = int64(10 * time.Millisecond)

func (l *Loop) publish() {
	p := &l.published
	for i, n := range l.count {
		if n != p.last[i] {
			p.last[i] = n
			p.values[i].Store(n)
		}
	}
	p.at = l.now
}

// Stats returns the counters. Any goroutine.
func (l *Loop) Stats() Stats {
	p := &l.published
	get := func(i int) uint64 { return p.values[i].Load() }
	s := Stats{
		Turns: get(countTurns), Events: get(countEvents), Stale: get(countStale),
		Timers: get(countTimers), Posted: get(countPosted),
		Recv: get(countRecv), Send: get(countSend), Accept: get(countAccept), Connect: get(countConnect),
		EpollWait: get(countEpollWait), EpollCtl: get(countEpollCtl), Close: get(countClose), Splice: get(countSplice),
		BufferMisses: get(countBufferMisses),
		PostsRefused: l.mailbox.refused.Load(),
		PipesRefused: get(countPipesRefused), JobsRefused: get(countJobsRefused),
		SlowTurns:  get(countSlowTurns),
		SlowCauses: map[string]uint64{},
	}
	// Returned first: the difference is never negative.
	returned := get(countReturned)
	s.BuffersOut = get(countBorrowed) - returned
	p.mu.Lock()
	defer p.mu.Unlock()
	for cause, n := range p.causes {
		s.SlowCauses[cause] = n
	}
	return s
}

const (
	slowTurn = int64(5 * time.Millisecond)
	// maxCauses bounds the table of causes; beyond it they are counted as "other".
	maxCauses = 32
	// watchGroup callbacks share a look at the clock while nothing is wrong.
	watchGroup = 16
	// watchFor is how long each callback is measured after a slow turn.
	watchFor = int64(time.Minute)
)

// slowWatch finds what made a turn slow. Looking at the clock after each callback
// would cost 1 % of a busy loop, so it looks after groups of them; once a turn was
// slow it measures each for a minute.
type slowWatch struct {
	start, last int64 // of the turn, of the group
	until       int64 // measure each callback until then
	cause       string
	mixed       bool
	inGroup     int
	worst       int64 // longest group of the turn
	worstCause  string
}

func (w *slowWatch) begin(now int64) {
	w.start, w.last, w.worst, w.inGroup = now, now, 0, 0
}

// after notes that a callback of that cause has run.
func (w *slowWatch) after(l *Loop, cause string) {
	if w.inGroup == 0 {
		w.cause, w.mixed = cause, false
	} else if cause != w.cause {
		w.mixed = true
	}
	w.inGroup++
	if w.inGroup >= watchGroup || w.start < w.until {
		w.close(l.clock())
	}
}

// close ends a group.
func (w *slowWatch) close(now int64) {
	if w.inGroup == 0 {
		return
	}
	if took := now - w.last; took > w.worst {
		w.worst, w.worstCause = took, w.cause
		if w.mixed {
			w.worstCause = "several"
		}
	}
	w.last, w.inGroup = now, 0
}

// end closes the turn, at l.now.
func (w *slowWatch) end(l *Loop) {
	w.close(l.now)
	took := l.now - w.start
	if l.now-l.published.at > publishEvery {
		l.publish()
	}
	if took <= slowTurn {
		return
	}
	l.count[countSlowTurns]++
	w.until = l.now + watchFor
	cause := w.worstCause
	switch {
	case w.worst < took/2:
		cause = "many events"
	case cause == "":
		cause = "unnamed"
	}
	p := &l.published
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.causes == nil {
		p.causes = map[string]uint64{}
	}
	if _, known := p.causes[cause]; !known && len(p.causes) >= maxCauses {
		cause = "other"
	}
	p.causes[cause]++
}
