package upstream

import (
	"net/netip"
	"sync/atomic"
	"time"

	"sluis/internal/proxy/balance"
)

// ServerSettings are the document's part of a server.
type ServerSettings struct {
	Name string
	// Addr is where it is; zero = not known here: what SetAddr said stays.
	Addr netip.AddrPort
	// Weight is 0 to 256; 0 = clients that are bound to it alone.
	Weight int
	Backup bool
	// MaxConnections is how many requests it gets at a time; 0 = no limit.
	MaxConnections int
	// SlowStart is how long it takes a recovered server to get its full weight and
	// all its places; 0 = at once.
	SlowStart time.Duration
	// IdleLimit is how many idle connections may be kept to it; 0 = none.
	IdleLimit int
	Disabled  bool
	// Checked: a health check asks it.
	Checked bool
}

// Server is one live server. It lives from the Configure that first names it to
// the one that no longer does, and longer where an exchange still holds it.
type Server struct {
	backend *Backend
	name    string
	index   int
	seed    uint64

	_ [64]byte
	// Written by every request, so on a cache line of their own.
	places   balance.Places
	balanced atomic.Uint64 // requests that came by balancing
	chosen   atomic.Uint64 // requests that came by persistence or a rule
	_        [64]byte
	idle     atomic.Int64
	_        [64]byte

	// Read by every request, seldom written.
	queued    atomic.Int32 // length of queue
	usable    atomic.Bool  // for new clients
	bound     atomic.Bool  // for bound ones
	idleLimit atomic.Int64
	addr      atomic.Pointer[netip.AddrPort]
	state     atomic.Pointer[State] // never nil, never changed
	events    [eventCount]atomic.Uint64

	// Guarded by backend.mu.
	queue     waiterList // those who wait for this server alone
	queueMax  int
	candidate bool // is in the backend's table; written under changing too

	// Guarded by backend.changing.
	settings   ServerSettings
	health     Health
	admin      Admin
	awaits     bool
	reason     string
	since      int64
	ownWeight  int   // set by the operator; -1 = the document's
	ownPercent int   // of the document's weight, set by the operator
	startFrom  int64 // when the slow start under way began
	starting   bool
	start      int // percent of weight and places while starting; else 100
	stoppedAt  int64
	downtime   int64 // of past times out of service, ns
	downs      uint64
	wasStopped bool
	goneAt     int64 // when it was taken out; see Backend.gone
}

// Name is the server's name in the document.
func (s *Server) Name() string { return s.name }

// Backend is where it belongs.
func (s *Server) Backend() *Backend { return s.backend }

// Index is a small number that is the server's own among all of the set, for the
// loops' arrays.
func (s *Server) Index() int { return s.index }

// Addr is where it is; zero = not known yet.
func (s *Server) Addr() netip.AddrPort { return *s.addr.Load() }

// InUse is how many requests it has.
func (s *Server) InUse() int { return s.places.InUse() }

// Queued is how many requests wait for it alone.
func (s *Server) Queued() int { return int(s.queued.Load()) }

// Usable tells whether new clients may come, as to a backup: if it is needed.
func (s *Server) Usable() bool { return s.usable.Load() }

// State is what is known of it.
func (s *Server) State() State { return *s.state.Load() }

// KeepIdle counts a connection that is about to be kept idle; false = there are
// enough. A kept one ends with DropIdle.
func (s *Server) KeepIdle() bool {
	if s.idle.Add(1) <= s.idleLimit.Load() {
		return true
	}
	s.idle.Add(-1)
	return false
}

// DropIdle counts a connection that is no longer idle: in use again, or closed.
func (s *Server) DropIdle() { s.idle.Add(-1) }

// Idle is how many idle connections there are, over all loops.
func (s *Server) Idle() int { return int(s.idle.Load()) }

// SetHealth says what the health check found, and why in a sentence. Only a server
// that is checked has a health: for others it does nothing.
func (s *Server) SetHealth(up bool, reason string) {
	if state := s.state.Load(); state.Reason == reason && (up && state.Health == Up || !up && state.Health == Down) {
		return
	}
	s.change(func(int64) {
		if !s.settings.Checked {
			return
		}
		s.reason = reason
		switch {
		case up && s.health == Down:
			s.health = Up
			s.awaits = s.backend.settings.ManualFailback && !s.settings.Backup
		case up:
			s.health = Up
		case s.health != Down:
			s.health, s.awaits = Down, false
			s.downs++
		}
	})
}

// SetAdmin is the operator's. Ready also brings a server back that awaits it.
func (s *Server) SetAdmin(a Admin) {
	s.change(func(int64) {
		s.admin = a
		if a == Ready {
			s.awaits = false
		}
	})
}

// ReturnToService brings a recovered server back that awaits the operator, and
// nothing else.
func (s *Server) ReturnToService() {
	s.change(func(int64) { s.awaits = false })
}

// SetWeight sets another weight than the document's, 0 to 256; -1 = the document's
// again.
func (s *Server) SetWeight(weight int) {
	s.change(func(int64) { s.ownWeight, s.ownPercent = min(max(weight, -1), maxWeight), percent })
}

// SetWeightPercent sets the weight to a part of the document's, also when that
// changes; 100 = the document's again.
func (s *Server) SetWeightPercent(p int) {
	s.change(func(int64) { s.ownWeight, s.ownPercent = -1, min(max(p, 0), maxWeight*percent) })
}

// maxWeight is the most that a server may weigh.
const maxWeight = 256

// SetAddr says where the server is; zero = nobody knows.
func (s *Server) SetAddr(a netip.AddrPort) {
	s.change(func(int64) { s.setAddr(a) })
}

func (s *Server) setAddr(a netip.AddrPort) {
	if s.addr.Load() == nil || *s.addr.Load() != a {
		s.addr.Store(&a)
	}
}

func (s *Server) change(edit func(now int64)) {
	s.backend.change(edit, s.backend.set.now())
}
