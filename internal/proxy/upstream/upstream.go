// Package upstream owns what lives of backends and servers beyond any snapshot:
// whether a server may be used, how many requests it has, and who waits for a place.
//
// It promises, over all loops: a server's limit is never passed; waiting requests
// get places in the order in which they began to wait; while a place is free that a
// waiting request could have, none waits; a place is given back exactly once,
// whatever races with its grant. Choosing and giving back cost a few atomic
// operations, no lock and no allocation, as long as nothing waits. A change of one
// server leaves the others' turns and counts alone.
//
// It opens no connections, asks no server whether it is well (health tells it),
// resolves no names, and does not bound how long a request waits (its caller's
// timer calls Cancel).
//
// Read state.go (when a server is used: the truth table), server.go and backend.go
// (the data), take.go (a request's way to a place), queue.go, change.go (how a
// change comes into effect), stats.go.
package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Set is all backends of an appliance. Its methods may be called from any
// goroutine.
type Set struct {
	now func() int64

	// numbers gives each change its place in the order of changes.
	numbers atomic.Uint64

	// mu guards what follows. It is never held over a call out of this struct.
	mu       sync.Mutex
	backends map[string]*Backend
	// indexes is how many servers there ever were: an index is never used again,
	// since a loop may still hold connections by it. A server costs each loop one
	// word for as long as the process lives.
	indexes   int
	observers []*func(Change)
}

// Change is a server's state that changed.
type Change struct {
	// Number rises with every change. Two changes at a time may be told in the other
	// order; the higher number is the newer state.
	Number uint64
	// At is when, in ns of the set's clock.
	At      int64
	Backend *Backend
	Server  *Server
	Before  State
	After   State
	// Usable is how many servers new clients of the backend may come to now.
	Usable int
}

// NewSet makes an empty set. The clock is monotonic, in ns.
func NewSet(now func() int64) *Set {
	return &Set{now: now, backends: map[string]*Backend{}}
}

// Backend is the backend of that name, made if there is none. It has no servers
// before Configure.
func (s *Set) Backend(name string) *Backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.backends[name]
	if b == nil {
		b = newBackend(s, name)
		s.backends[name] = b
	}
	return b
}

// Forget drops a backend that no snapshot has any more. What still waits there is
// given up; places that are in use may still be given back.
func (s *Set) Forget(name string) {
	s.mu.Lock()
	b := s.backends[name]
	delete(s.backends, name)
	s.mu.Unlock()
	if b != nil {
		b.close()
	}
}

// Changed has every change of a server's state told to f, outside of any lock, in
// the goroutine that made the change: a loop may be among them, so f returns soon.
// The returned function ends it.
func (s *Set) Changed(f func(Change)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers = append(slices.Clone(s.observers), &f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.observers = slices.DeleteFunc(slices.Clone(s.observers), func(o *func(Change)) bool { return o == &f })
	}
}

// Tick moves slow starts on. It is called about once a second, from any goroutine
// that is no loop, with the time in ns of the set's clock.
func (s *Set) Tick(now int64) {
	s.mu.Lock()
	var ramping []*Backend
	for _, b := range s.backends {
		if b.ramping.Load() {
			ramping = append(ramping, b)
		}
	}
	s.mu.Unlock()
	for _, b := range ramping {
		b.change(func(int64) {}, now)
	}
}

func (s *Set) newIndex() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.indexes++
	return s.indexes - 1
}

func (s *Set) tell(changes []Change) {
	if len(changes) == 0 {
		return
	}
	s.mu.Lock()
	observers := s.observers
	s.mu.Unlock()
	for _, c := range changes {
		for _, f := range observers {
			(*f)(c)
		}
	}
}
