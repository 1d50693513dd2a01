package upstream

import (
	"sync"
	"sync/atomic"

	"sluis/internal/proxy/balance"
)

// BackendSettings are the document's part of a backend.
type BackendSettings struct {
	// Balance is the document's word for how a server is chosen; an unknown one means
	// in turn.
	Balance string
	// Servers in the document's order; their names differ.
	Servers []ServerSettings
	// MaxQueue is how many requests may wait; 0 = no limit but the number of
	// connections.
	MaxQueue int
	// ManualFailback keeps a recovered server out until the operator says ready.
	ManualFailback bool
	// Checked: there is a health check. Without one no server is checked, whatever its
	// own settings say.
	Checked bool
}

// Backend is one live backend.
//
// Lock order: changing, then mu. Neither is held over a call out of the package but
// the posting of mail.
type Backend struct {
	name string
	set  *Set

	// Read by every request, seldom written.
	table   atomic.Pointer[table]     // never nil
	all     atomic.Pointer[[]*Server] // never nil: servers, for who holds no lock
	queued  atomic.Int32              // length of queue
	ramping atomic.Bool               // a server starts slowly

	// changing makes one change at a time and guards what follows. A loop takes it
	// only to change a server's state. The tables are built under it.
	changing sync.Mutex
	settings BackendSettings
	servers  []*Server // in the document's order; never changed in place
	byName   map[string]*Server
	// gone are servers that a change took out, for a while: an apply that is undone
	// brings the very same ones back.
	gone map[string]*Server
	// Of having a usable server: when it last changed, and the past time without one
	// (ns; time before the first one does not count).
	wasUsable, everUsable           bool
	downSince, downtime, lastChange int64

	_ [64]byte
	// mu guards the queues, here and in the servers, and the waiters in them. It is
	// held for a few steps per waiter; a loop takes it only where requests wait.
	mu       sync.Mutex
	queue    waiterList
	queueMax int
	waiting  int    // in all queues
	waited   uint64 // requests that ever waited
	maxQueue int
	order    uint64 // of beginning to wait

	_        [64]byte
	refused  atomic.Uint64 // the queue was full
	noServer atomic.Uint64
	givenUp  atomic.Uint64 // left a queue without a place
}

// table is who may be chosen, and how. It is never changed.
type table struct {
	candidates []*Server
	shares     []int // effective weights, in hundredths
	algorithm  algorithm
	pick       picker
	// hash gives keys to candidates; nil where the algorithm hashes nothing. It depends
	// on full and among: the weight that counts whole, and the number of servers.
	hash        *balance.Hash
	full, among int
}

// picker is an algorithm of package balance: it reserves a place at a candidate, or
// returns -1.
type picker interface {
	Pick(n uint64, avoid int) int
}

// algorithm is how a server is chosen.
type algorithm uint8

const (
	roundRobin algorithm = iota
	staticRoundRobin
	leastConnections
	first
	random
	hashing
)

func algorithmOf(balance string) algorithm {
	switch balance {
	case "static_rr":
		return staticRoundRobin
	case "leastconn":
		return leastConnections
	case "first":
		return first
	case "random":
		return random
	case "source", "uri", "header":
		return hashing
	}
	return roundRobin
}

func newBackend(s *Set, name string) *Backend {
	b := &Backend{name: name, set: s, byName: map[string]*Server{}, gone: map[string]*Server{}}
	b.all.Store(&[]*Server{})
	b.table.Store(&table{pick: balance.NewRoundRobin(nil, nil)})
	b.lastChange = s.now()
	return b
}

// Name is the backend's name in the document.
func (b *Backend) Name() string { return b.name }

// Server is the server of that name; nil = there is none.
func (b *Backend) Server(name string) *Server {
	for _, s := range *b.all.Load() {
		if s.name == name {
			return s
		}
	}
	return nil
}

// Servers are all servers in the document's order, not to be changed.
func (b *Backend) Servers() []*Server { return *b.all.Load() }

// InUse is how many requests its servers have, one after another.
func (b *Backend) InUse() int {
	n := 0
	for _, s := range *b.all.Load() {
		n += s.InUse()
	}
	return n
}

// Usable is how many servers new clients may come to: all usable active ones, or
// the one backup in their place.
func (b *Backend) Usable() int { return len(b.table.Load().candidates) }

// Queued is how many requests wait for any server. Those who wait for one server
// alone are in its own Queued.
func (b *Backend) Queued() int { return int(b.queued.Load()) }

// find is a server's place among the candidates; -1 = it is none.
func (t *table) find(s *Server) int {
	if s == nil {
		return -1
	}
	for i, c := range t.candidates {
		if c == s {
			return i
		}
	}
	return -1
}
