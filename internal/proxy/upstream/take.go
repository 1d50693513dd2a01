package upstream

import (
	"math/rand/v2"

	"sluis/internal/proxy/loop"
)

// Waiter is a request's claim to a place at a server. It is embedded in what stands
// for the request and is used by that one's loop alone; it may be used again after
// Release or Cancel.
type Waiter struct {
	// Loop is where Granted and GaveUp are called; set once.
	Loop *loop.Loop
	// Granted is called when a Take that returned Queued got its place: Server is set.
	Granted func()
	// GaveUp is called instead when the backend is gone. nil = nobody needs to know.
	GaveUp func()

	// Server is where the place is, from Taken or Granted to Release; else nil.
	Server *Server
	// Ahead is how many waited in the same queue before it, when it began to wait.
	Ahead int
	// AtServer tells that it waits or waited for one server alone.
	AtServer bool

	// waiting is made when it first has to wait, and stays.
	waiting *waiting
	waits   bool // since a Take that returned Queued
}

// Wish is what is known of where a request should go.
type Wish struct {
	// Server is where it belongs, by persistence or a rule; nil = anywhere. One that
	// may not be used counts as nil.
	Server *Server
	// Force lets it go to a Server that takes no new clients (drain, weight 0): for
	// clients that are bound to it.
	Force bool
	// Hash is the key where the backend hashes; 0 = the request has none: in turn.
	Hash uint64
	// Avoid is a server that failed just now: only if there is no other.
	Avoid *Server
}

// Outcome is what became of a Take.
type Outcome uint8

// The outcomes.
const (
	Taken     Outcome = iota // Waiter.Server is set
	Queued                   // Granted or GaveUp follows, unless Cancel comes first
	NoServer                 // none may be used
	QueueFull                // too many wait already
)

func (o Outcome) String() string {
	return [...]string{"taken", "queued", "no server", "queue full"}[o]
}

// Take asks for a place at a server.
//
// A place that is free goes to the oldest of those who wait for it. So who comes
// while others wait takes none past them, but stands behind them in the queue.
func (b *Backend) Take(w *Waiter, wish Wish) Outcome {
	if w.Server != nil || w.waits {
		panic("BUG: a second place is asked for before the first is given back")
	}
	if s := wish.Server; s != nil && s.backend == b && s.accepts(wish.Force) {
		if s.queued.Load() == 0 && b.queued.Load() == 0 && s.places.Reserve() {
			s.chosen.Add(1)
			w.Server = s
			return Taken
		}
		return b.wait(w, wish)
	}
	if b.queued.Load() != 0 {
		return b.wait(w, wish)
	}
	t := b.table.Load()
	if len(t.candidates) == 0 {
		b.noServer.Add(1)
		return NoServer
	}
	s := t.reserve(wish.Hash, wish.Avoid)
	if s == nil {
		return b.wait(w, wish)
	}
	if s.queued.Load() != 0 {
		// Somebody waits for just this server, who was first.
		s.giveBack()
		return b.wait(w, wish)
	}
	s.balanced.Add(1)
	w.Server = s
	return Taken
}

// accepts tells whether a request may go there that wishes to.
func (s *Server) accepts(force bool) bool {
	return s.usable.Load() || force && s.bound.Load()
}

// reserve reserves a place at the server that the algorithm chooses; nil = there is
// none, or the key's own server is full.
func (t *table) reserve(hash uint64, avoid *Server) *Server {
	skip, i := t.find(avoid), 0
	switch {
	case t.hash != nil && hash != 0:
		i = t.hash.Pick(hash, skip)
	case t.algorithm == random:
		i = t.pick.Pick(rand.Uint64(), skip)
	default:
		i = t.pick.Pick(0, skip)
	}
	if i < 0 {
		return nil
	}
	return t.candidates[i]
}

// wait puts a request into the queue where it belongs and then looks for a place
// once more: one that was given back before the queue was seen to be used would
// otherwise lie idle. (giveBack does the same two steps in the other order.)
func (b *Backend) wait(w *Waiter, wish Wish) Outcome {
	r := w.request()
	b.mu.Lock()
	r.backend, r.wanted, r.forced = b, wish.Server, wish.Force
	if r.wanted != nil && r.wanted.backend != b {
		r.wanted = nil
	}
	r.hash, r.avoid = wish.Hash, wish.Avoid
	if !b.home(r) && len(b.table.Load().candidates) == 0 {
		b.mu.Unlock()
		b.noServer.Add(1)
		return NoServer
	}
	b.order++
	r.order = b.order
	b.enqueue(r)
	w.Ahead, w.AtServer = b.queueOf(r).n-1, r.server != nil
	var room [4]post
	posts := b.serve(r.server, room[:0])
	outcome := Queued
	switch {
	case r.state == granted:
		r.state, w.Server = away, r.server
		posts = without(posts, &r.mail)
		outcome = Taken
	case b.maxQueue > 0 && b.waiting > b.maxQueue:
		b.dequeue(r)
		r.state = away
		outcome = QueueFull
	default:
		b.waited++
		w.waits = true
		b.noteLength(r)
	}
	b.mu.Unlock()
	if outcome == QueueFull {
		b.refused.Add(1)
	}
	send(posts)
	return outcome
}

// request is the waiter's stand in queues.
func (w *Waiter) request() *waiting {
	if w.waiting == nil {
		r := &waiting{loop: w.Loop}
		r.mail.Deliver = r.arrived
		w.waiting = r
	}
	w.waiting.owner = w
	return w.waiting
}

// arrived is called in the waiter's loop when its mail comes. A mail may be late:
// the waiter may have been cancelled since, and may even wait anew.
func (r *waiting) arrived() {
	b, w := r.backend, r.owner
	b.mu.Lock()
	state, server := r.state, r.server
	if state == granted || state == dropped {
		r.state = away
	}
	b.mu.Unlock()
	switch state {
	case granted:
		w.waits, w.Server = false, server
		w.Granted()
	case dropped:
		w.waits = false
		if w.GaveUp != nil {
			w.GaveUp()
		}
	}
}

// Cancel ends a wait: neither Granted nor GaveUp will be called. A place that is on
// its way is given back. It does nothing to a waiter that doesn't wait.
func (b *Backend) Cancel(w *Waiter) {
	if !w.waits {
		return
	}
	w.waits = false
	r := w.waiting
	b = r.backend
	b.mu.Lock()
	state, server := r.state, r.server
	if state == queued {
		b.dequeue(r)
	}
	r.state = away
	b.mu.Unlock()
	b.givenUp.Add(1)
	if state == granted {
		server.giveBack()
	}
}

// Waiting tells whether it stands in a queue, or its place is on its way.
func (w *Waiter) Waiting() bool { return w.waits }

// Release gives the place back: to the one who waited for it longest, if there is
// one.
func (w *Waiter) Release() {
	s := w.Server
	if s == nil {
		panic("BUG: a place is given back that was not taken")
	}
	w.Server = nil
	s.giveBack()
}

// giveBack first frees the place and then looks for who waits; wait does it the other
// way round. So one of the two sees the other.
func (s *Server) giveBack() {
	s.places.Release()
	b := s.backend
	if s.queued.Load() == 0 && b.queued.Load() == 0 {
		return
	}
	var room [4]post
	b.mu.Lock()
	posts := b.serveServer(s, room[:0])
	b.mu.Unlock()
	send(posts)
}
