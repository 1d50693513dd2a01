package persist

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards = 64
	// maxServers bounds the servers that are counted.
	maxServers = 1 << 16
	countersIn = 256 // counters are made that many at a time
	// seenGrain is how far LastSeen may be behind, so that loops don't fight over a
	// busy server's cache line.
	seenGrain = int64(16 * time.Millisecond)
)

// Sessions are the clients bound to servers: a table of fixed size that remembers
// for each client its server and when it was last seen. Of a full shard the client
// unseen for longest gives way. It may be used from any goroutine; a shard's lock
// is held for a look-up, or for at most expireAtOnce forgotten clients.
type Sessions struct {
	ttl      int64 // ns
	seed     maphash.Seed
	shards   [shards]shard
	counters [maxServers / countersIn]atomic.Pointer[[countersIn]serverCounters]
	making   sync.Mutex // of counters
	evicted  atomic.Uint64
	refused  atomic.Uint64
}

// SessionStats are a table's counters.
type SessionStats struct {
	// Bound is how many clients are remembered.
	Bound int
	// Evicted counts clients that gave way in a full table, Refused those of a server
	// beyond the ones that can be counted.
	Evicted, Refused uint64
}

// serverCounters are a server's.
type serverCounters struct {
	bound    atomic.Int64
	lastSeen atomic.Int64
}

// shard is a part of the table: clients in a list from the longest unseen to the
// last seen, and in chains by key.
type shard struct {
	mu      sync.Mutex
	limit   int
	clients []client // [0] is the ring's knot: its next is the longest unseen, its previous the last seen
	chains  []int32  // by key; 0 = empty. A power of two of them
	free    int32    // a list by chain; 0 = empty
	bound   int
	_       [48]byte // keeps shards on cache lines of their own
}

type client struct {
	key            uint64
	seen           int64
	previous, next int32
	chain          int32
	server         int32
}

const expireAtOnce = 1024

// NewSessions makes a table for that many clients, each remembered for ttl after it
// was last seen. Its memory grows with the clients, up to about 40 bytes for each.
func NewSessions(clients int, ttl time.Duration) *Sessions {
	s := &Sessions{ttl: int64(ttl), seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].limit = min(max(1, (clients+shards-1)/shards), 1<<30)
		s.shards[i].clients = make([]client, 1)
		s.shards[i].chains = make([]int32, 16)
	}
	return s
}

// Key is what a client is known by in a backend: its address and what it says of
// its program. Clients behind one address with the same program are one.
func (s *Sessions) Key(backend string, source netip.Addr, userAgent []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	address := source.As16()
	h.Write(address[:])
	h.WriteString(backend)
	h.WriteByte(0)
	h.Write(userAgent)
	return h.Sum64()
}

// Touch binds a client to a server, or sees it again. now is any monotonic clock in
// ns, the same in all calls; a small step back, as between loops, does no harm.
func (s *Sessions) Touch(key uint64, server int, now int64) {
	c := s.countersOf(server)
	if c == nil {
		s.refused.Add(1)
		return
	}
	if seen := c.lastSeen.Load(); now-seen >= seenGrain || seen == 0 {
		c.lastSeen.Store(now)
	}
	h := &s.shards[key%shards]
	h.mu.Lock()
	h.expire(s, now, 2)
	i := h.find(key)
	switch {
	case i == 0:
		i = h.add(s, key, server)
		c.bound.Add(1)
	case h.clients[i].server != int32(server):
		s.counters[h.clients[i].server/countersIn].Load()[h.clients[i].server%countersIn].bound.Add(-1)
		h.clients[i].server = int32(server)
		c.bound.Add(1)
		h.unlink(i)
	default:
		h.unlink(i)
	}
	// Clocks of two loops differ by a turn: the list stays in order, and nobody is
	// forgotten early.
	h.clients[i].seen = max(now, h.clients[h.clients[0].previous].seen)
	h.append(i)
	h.mu.Unlock()
}

// Count is how many clients are bound to a server at a time.
func (s *Sessions) Count(server int, now int64) int {
	c := s.countersOf(server)
	if c == nil {
		return 0
	}
	s.expire(now)
	return int(c.bound.Load())
}

// LastSeen is when a client of a server was last seen, to 16 ms; 0 = never.
func (s *Sessions) LastSeen(server int) int64 {
	if c := s.countersOf(server); c != nil {
		return c.lastSeen.Load()
	}
	return 0
}

// Forget unbinds all clients of a server.
func (s *Sessions) Forget(server int) {
	c := s.countersOf(server)
	if c == nil {
		return
	}
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		for at := h.clients[0].next; at != 0; {
			next := h.clients[at].next
			if h.clients[at].server == int32(server) {
				h.remove(s, at)
			}
			at = next
		}
		h.mu.Unlock()
	}
	c.lastSeen.Store(0)
}

// Stats counts what is remembered at a time.
func (s *Sessions) Stats(now int64) SessionStats {
	s.expire(now)
	stats := SessionStats{Evicted: s.evicted.Load(), Refused: s.refused.Load()}
	for i := range s.shards {
		s.shards[i].mu.Lock()
		stats.Bound += s.shards[i].bound
		s.shards[i].mu.Unlock()
	}
	return stats
}

// expire forgets everyone whose time is over.
func (s *Sessions) expire(now int64) {
	for i := range s.shards {
		h := &s.shards[i]
		for more := true; more; {
			h.mu.Lock()
			more = h.expire(s, now, expireAtOnce)
			h.mu.Unlock()
		}
	}
}

// countersOf are a server's counters; nil = it can't be counted.
func (s *Sessions) countersOf(server int) *serverCounters {
	if server < 0 || server >= maxServers {
		return nil
	}
	place := &s.counters[server/countersIn]
	page := place.Load()
	if page == nil {
		s.making.Lock()
		if page = place.Load(); page == nil {
			page = new([countersIn]serverCounters)
			place.Store(page)
		}
		s.making.Unlock()
	}
	return &page[server%countersIn]
}

// The rest is called with the shard's lock held.

// expire forgets up to most clients whose time is over and reports whether there
// may be more.
func (h *shard) expire(s *Sessions, now int64, most int) bool {
	for range most {
		oldest := h.clients[0].next
		if oldest == 0 || now-h.clients[oldest].seen < s.ttl {
			return false
		}
		h.remove(s, oldest)
	}
	return true
}

func (h *shard) chainOf(key uint64) *int32 { return &h.chains[key/shards&uint64(len(h.chains)-1)] }

func (h *shard) find(key uint64) int32 {
	i := *h.chainOf(key)
	for i != 0 && h.clients[i].key != key {
		i = h.clients[i].chain
	}
	return i
}

// add makes a client that is in no list yet.
func (h *shard) add(s *Sessions, key uint64, server int) int32 {
	if h.bound == h.limit {
		s.evicted.Add(1)
		h.remove(s, h.clients[0].next)
	}
	i := h.free
	if i != 0 {
		h.free = h.clients[i].chain
	} else {
		i = int32(len(h.clients))
		h.clients = append(h.clients, client{})
		h.grow()
	}
	chain := h.chainOf(key)
	h.clients[i] = client{key: key, server: int32(server), chain: *chain}
	*chain = i
	h.bound++
	return i
}

// grow keeps chains as many as clients; at the shard's limit that is the last time.
func (h *shard) grow() {
	if len(h.clients) <= len(h.chains) {
		return
	}
	h.chains = make([]int32, 2*len(h.chains))
	for i := h.clients[0].next; i != 0; i = h.clients[i].next {
		chain := h.chainOf(h.clients[i].key)
		h.clients[i].chain, *chain = *chain, i
	}
}

// remove forgets a client.
func (h *shard) remove(s *Sessions, i int32) {
	c := &h.clients[i]
	chain := h.chainOf(c.key)
	for *chain != i {
		chain = &h.clients[*chain].chain
	}
	*chain = c.chain
	h.unlink(i)
	s.countersOf(int(c.server)).bound.Add(-1)
	c.chain, h.free = h.free, i
	h.bound--
}

// unlink takes a client out of the list by time.
func (h *shard) unlink(i int32) {
	c := &h.clients[i]
	h.clients[c.previous].next, h.clients[c.next].previous = c.next, c.previous
}

// append puts a client at the end of the list by time.
func (h *shard) append(i int32) {
	last := h.clients[0].previous
	h.clients[i].previous, h.clients[i].next = last, 0
	h.clients[last].next, h.clients[0].previous = i, i
}
