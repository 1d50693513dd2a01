package accesslog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// maxFollowers bounds the readers of Follow.
const maxFollowers = 64

// ErrTooManyFollowers says that the log has as many followers as it takes.
var ErrTooManyFollowers = errors.New("too many readers follow the access log")

// recent keeps the newest frames, whatever their loop, in one ring of bytes.
type recent struct {
	mu   sync.Mutex // guards all; held for copies only
	ring []byte     // length is a power of two
	head uint64     // end of the newest frame
	tail uint64     // begin of the oldest
	// first and next count frames: the oldest one's number and the coming one's.
	first, next uint64
	changed     chan struct{} // closed at the next change; nil while nobody waits
	followers   int
	closed      bool
	refused     uint64
	missed      uint64
}

// MemoryStats are the counters of what is kept in memory.
type MemoryStats struct {
	// Records are kept, in Bytes bytes.
	Records int
	Bytes   int
	// Followers read now; Refused ones were too many; Missed records were gone before
	// a follower came for them.
	Followers       int
	Refused, Missed uint64
}

func (m *recent) init(size int) { m.ring = make([]byte, ceilPowerOfTwo(size)) }

// add keeps frames, and drops the oldest ones that they displace.
func (m *recent) add(frames []byte) {
	m.mu.Lock()
	for len(frames) > 0 {
		n := uint64(binary.LittleEndian.Uint32(frames))
		for m.head-m.tail+n > uint64(len(m.ring)) {
			m.tail += m.length(m.tail)
			m.first++
		}
		copyIn(m.ring, m.head, frames[:n])
		m.head += n
		m.next++
		frames = frames[n:]
	}
	m.wakeFollowers()
	m.mu.Unlock()
}

// wakeFollowers needs m.mu; closing a channel does not wait for anybody.
func (m *recent) wakeFollowers() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

func (m *recent) length(position uint64) uint64 {
	var b [frameHeader]byte
	copyOut(b[:], m.ring, position)
	return uint64(binary.LittleEndian.Uint32(b[:]))
}

func (m *recent) close() {
	m.mu.Lock()
	m.closed = true
	m.wakeFollowers()
	m.mu.Unlock()
}

func (m *recent) stats() MemoryStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return MemoryStats{
		Records: int(m.next - m.first), Bytes: int(m.head - m.tail),
		Followers: m.followers, Refused: m.refused, Missed: m.missed,
	}
}

// since copies the frames from the one with that number on. Needs m.mu.
func (m *recent) since(number uint64) []byte {
	position := m.tail
	for n := m.first; n < number; n++ {
		position += m.length(position)
	}
	frames := make([]byte, m.head-position)
	copyOut(frames, m.ring, position)
	return frames
}

// Filter says which records are wanted; its zero value wants all.
type Filter struct {
	// Frontend, Backend, Server and Method are compared; empty = any.
	Frontend, Backend, Server, Method string
	// Client holds the client's address; the zero prefix = any.
	Client netip.Prefix
	// From and To bound the status, both included; 0 = no bound. A request without an
	// answer has the status 0.
	From, To int
	// Text stands, in whatever case, in host, target, user agent, referer, request ID,
	// rule or reason; empty = anything.
	Text string
	// Since is the earliest time of the request; zero = any.
	Since time.Time
	// Trouble leaves out what went well, as Record.Normal says.
	Trouble bool
}

// Match reports whether the filter wants the record.
func (f *Filter) Match(r *Record) bool {
	switch {
	case f.Frontend != "" && f.Frontend != r.Frontend,
		f.Backend != "" && f.Backend != r.Backend,
		f.Server != "" && f.Server != r.Server,
		f.Method != "" && f.Method != string(r.Method),
		f.Client.IsValid() && !f.Client.Contains(r.Client.Addr()),
		f.From > 0 && r.Status < f.From,
		f.To > 0 && r.Status > f.To,
		r.Wall.Before(f.Since),
		f.Trouble && r.Normal():
		return false
	}
	return f.Text == "" || f.matchText(r)
}

func (f *Filter) matchText(r *Record) bool {
	text := bytes.ToLower([]byte(f.Text))
	for _, part := range [][]byte{
		r.Host, r.Target, r.UserAgent, r.Referer, r.RequestID, []byte(r.Rule), []byte(r.Reason),
	} {
		if bytes.Contains(bytes.ToLower(part), text) {
			return true
		}
	}
	return false
}

// matching decodes frames and keeps the newest n that match; n < 0 = all.
func (f *Filter) matching(frames []byte, n int) []Record {
	var kept []Record
	var entry decoded
	for len(frames) > 0 {
		size := binary.LittleEndian.Uint32(frames)
		decodeFrame(frames[:size], &entry)
		frames = frames[size:]
		if !f.Match(&entry.Record) {
			continue
		}
		kept = append(kept, entry.Record)
		if n >= 0 && len(kept) >= 2*n+64 {
			kept = kept[:copy(kept, kept[len(kept)-n:])]
		}
	}
	if n >= 0 && len(kept) > n {
		kept = kept[len(kept)-n:]
	}
	for i := range kept {
		kept[i] = kept[i].clone()
	}
	return kept
}

// Recent returns the newest n records that match, the oldest of them first. Lines
// that still gather in a ring are not among them; Flush before it brings them.
func (g *Log) Recent(n int, f Filter) []Record {
	m := &g.memory
	m.mu.Lock()
	frames := m.since(m.first)
	m.mu.Unlock()
	return f.matching(frames, max(n, 0))
}

// Follower reads the records that come, from the moment it was made. Next belongs
// to one goroutine at a time, Close to any.
type Follower struct {
	memory *recent
	filter Filter
	done   chan struct{} // closed by Close
	closed bool          // guarded by memory.mu
	number uint64        // of the next record; guarded by memory.mu
}

// Follow makes a follower of the records that match. The caller closes it. It
// fails with ErrTooManyFollowers or ErrClosed.
func (g *Log) Follow(f Filter) (*Follower, error) {
	m := &g.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, ErrClosed
	case m.followers >= maxFollowers:
		m.refused++
		return nil, ErrTooManyFollowers
	}
	m.followers++
	return &Follower{memory: m, filter: f, number: m.next, done: make(chan struct{})}, nil
}

// Next waits for records that match, and returns them with how many came in
// between but were gone already, whether they matched or not.
func (f *Follower) Next(ctx context.Context) (records []Record, missed uint64, err error) {
	for {
		frames, gone, changed, err := f.step()
		missed += gone
		if err != nil {
			return nil, missed, err
		}
		if records := f.filter.matching(frames, -1); len(records) > 0 || missed > 0 && changed == nil {
			return records, missed, nil
		}
		if changed == nil {
			continue // there were some, and none matched
		}
		select {
		case <-changed:
		case <-f.done:
			return nil, missed, ErrClosed
		case <-ctx.Done():
			return nil, missed, ctx.Err()
		}
	}
}

// step takes what is there, or else a channel that is closed when there is more.
func (f *Follower) step() (frames []byte, missed uint64, changed <-chan struct{}, err error) {
	m := f.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.closed {
		return nil, 0, nil, ErrClosed
	}
	if f.number < m.first {
		missed = m.first - f.number
		m.missed += missed
		f.number = m.first
	}
	if f.number < m.next {
		frames = m.since(f.number)
		f.number = m.next
		return frames, missed, nil, nil
	}
	if m.closed {
		return nil, missed, nil, ErrClosed
	}
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return nil, missed, m.changed, nil
}

// Close ends the follower and a waiting Next. It may be called twice.
func (f *Follower) Close() {
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	f.memory.followers--
	close(f.done)
}
