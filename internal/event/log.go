package event

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// DefaultCapacity is the number of records that New keeps when it is given none.
	DefaultCapacity = 4096
	// MaxSubscriptions is the number of readers that a log has at most; it bounds
	// what a client of the event stream can take.
	MaxSubscriptions = 256
)

// Errors of Subscribe and Next.
var (
	// ErrClosed says that the log or the subscription was closed.
	ErrClosed = errors.New("event log is closed")
	// ErrTooManyReaders says that the log has MaxSubscriptions readers already.
	ErrTooManyReaders = errors.New("too many readers of the event log")
)

// Log is a bounded ring of records that all readers share: a reader is only a
// position in it, so a slow one costs nothing and loses the oldest.
//
//	        oldest            next
//	          |                 |
//	first … [ r  r  r  r  r  r ]       IDs grow to the right without holes
//	     ^        ^
//	     |        reader in time: gets the next r
//	     reader too late: gets a Gap, then the oldest
//
// All methods may be called from any goroutine. Make one with New.
type Log struct {
	capacity int    // immutable
	first    uint64 // immutable: ID of the first record of this run

	mu      sync.Mutex
	next    uint64        // ID of the next record
	ring    []Record      // record with ID i is at (i-first) % capacity
	changed chan struct{} // closed at the next change; nil while nobody waits
	readers int           // open subscriptions
	closed  bool

	refused uint64 // see Stats
	missed  uint64
	dropped uint64
}

// Stats are the counters of a log.
type Stats struct {
	Published     uint64 `json:"published"`     // records since the start
	Kept          int    `json:"kept"`          // records in the ring now
	Capacity      int    `json:"capacity"`      // records that the ring holds at most
	Subscriptions int    `json:"subscriptions"` // readers now
	Refused       uint64 `json:"refused"`       // readers refused because there were too many
	Missed        uint64 `json:"missed"`        // records that readers were too slow for, over all readers
	Dropped       uint64 `json:"dropped"`       // events published after Close
}

// New makes a log that keeps the newest capacity records; 0 or less means
// DefaultCapacity.
//
// Its first ID is the clock in microseconds since 1970, so that a position that
// a reader remembers from an earlier run lies before every new record as long
// as the clock was not set back by more than the process was away.
func New(capacity int) *Log {
	if capacity <= 0 {
		capacity = DefaultCapacity
	}
	first := uint64(max(time.Now().UnixMicro(), 2)) // so that the ID before it isn't 0 either
	return &Log{capacity: capacity, first: first, next: first}
}

// Publish adds the event and wakes the readers. It never waits for them. After
// Close the event is dropped and counted, and the record has no ID.
func (l *Log) Publish(e Event) Record {
	r := Record{Name: e.EventName(), Event: e}
	l.mu.Lock()
	r.Time = time.Now() // under the lock, so that times stand in the order of IDs
	if l.closed {
		l.dropped++
		l.mu.Unlock()
		return r
	}
	r.ID = l.next
	l.next++
	if len(l.ring) < l.capacity {
		l.ring = append(l.ring, r)
	} else {
		l.ring[l.slot(r.ID)] = r
	}
	waiters := l.takeWaiters()
	l.mu.Unlock()
	wake(waiters)
	return r
}

// Recent returns the newest n records, oldest of them first; fewer if fewer are
// kept.
func (l *Log) Recent(n int) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.oldest()
	if n = max(n, 0); uint64(n) < l.next-from {
		from = l.next - uint64(n)
	}
	return l.copyFrom(from)
}

// Since returns the kept records after the one with the ID after, oldest first.
// gap says that records may be missing between that one and the first returned:
// the ring no longer has them, or the ID is of another run. After 0 means all
// that is kept, without a gap.
func (l *Log) Since(after uint64) (recs []Record, gap bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, hole := l.locate(after)
	return l.copyFrom(from), hole != Gap{}
}

// Last returns the ID of the newest record, for Subscribe to start after; before
// the first record it is one below that record's ID.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		Published: l.next - l.first, Kept: len(l.ring), Capacity: l.capacity, Subscriptions: l.readers,
		Refused: l.refused, Missed: l.missed, Dropped: l.dropped,
	}
}

// Close ends the stream: readers still get what is kept, then ErrClosed. It may
// be called twice.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	waiters := l.takeWaiters()
	l.mu.Unlock()
	wake(waiters)
}

// Subscription is one reader's position in a log. Next may be called by one
// goroutine at a time, Close by any.
type Subscription struct {
	log  *Log
	done chan struct{} // closed by Close

	// after is guarded by log.mu: the ID of the last record that was read.
	after  uint64
	closed bool // guarded by log.mu
}

// Subscribe makes a reader of the records after the one with the ID after: 0 for
// all that is kept, Last() for only new ones, a client's Last-Event-ID to go on.
// It fails with ErrTooManyReaders or ErrClosed. The caller closes it.
func (l *Log) Subscribe(after uint64) (*Subscription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if l.readers >= MaxSubscriptions {
		l.refused++
		return nil, ErrTooManyReaders
	}
	if after == 0 {
		after = l.oldest() - 1 // from here on nothing may be missing silently
	}
	l.readers++
	return &Subscription{log: l, after: after, done: make(chan struct{})}, nil
}

// Next waits for the next record. Where records are missing it returns a record
// with a Gap first; its ID is that of the last missing one, so a client that
// comes back with it continues after the hole. It fails with ErrClosed after
// Close of the subscription, or of the log once everything was read, and with
// the context's error.
func (s *Subscription) Next(ctx context.Context) (Record, error) {
	for {
		r, changed, err := s.step()
		if changed == nil {
			return r, err
		}
		select {
		case <-changed:
		case <-s.done:
			return Record{}, ErrClosed
		case <-ctx.Done():
			return Record{}, ctx.Err()
		}
	}
}

// step takes what is there: a record or an error, or else a channel that is
// closed when there is something new.
func (s *Subscription) step() (Record, <-chan struct{}, error) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.closed {
		return Record{}, nil, ErrClosed
	}
	from, hole := l.locate(s.after)
	if hole != (Gap{}) {
		s.after = from - 1
		l.missed += hole.Missed
		return Record{ID: s.after, Time: time.Now(), Name: hole.EventName(), Event: hole}, nil, nil
	}
	if from < l.next {
		s.after = from
		return l.ring[l.slot(from)], nil, nil
	}
	if l.closed {
		return Record{}, nil, ErrClosed
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return Record{}, l.changed, nil
}

// Close ends the subscription and a waiting Next. It may be called twice.
func (s *Subscription) Close() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.log.readers--
	close(s.done)
}

// locate returns the ID of the first kept record after the given one, or l.next
// if there is none, and what is missing between them. Needs l.mu.
func (l *Log) locate(after uint64) (from uint64, hole Gap) {
	oldest := l.oldest()
	switch {
	case after == 0:
		return oldest, Gap{}
	case after+1 < l.first || after >= l.next: // of an earlier run; or of one with a clock ahead of ours
		return oldest, Gap{Missed: oldest - l.first, Restarted: true}
	case after+1 < oldest:
		return oldest, Gap{Missed: oldest - after - 1}
	}
	return after + 1, Gap{}
}

func (l *Log) oldest() uint64 { return l.next - uint64(len(l.ring)) }

func (l *Log) slot(id uint64) int { return int((id - l.first) % uint64(l.capacity)) }

func (l *Log) copyFrom(from uint64) []Record {
	recs := make([]Record, 0, l.next-from)
	for id := from; id < l.next; id++ {
		recs = append(recs, l.ring[l.slot(id)])
	}
	return recs
}

// takeWaiters returns the channel that the caller closes once l.mu is free.
func (l *Log) takeWaiters() chan struct{} {
	waiters := l.changed
	l.changed = nil
	return waiters
}

func wake(waiters chan struct{}) {
	if waiters != nil {
		close(waiters)
	}
}
