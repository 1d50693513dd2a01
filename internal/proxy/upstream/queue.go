package upstream

import (
	"cmp"
	"slices"

	"sluis/internal/proxy/loop"
)

// waiting is a request's stand in a queue.
//
//	away ─Take─► queued ─a place─► granted ─the mail arrives─► away (taken)
//	 ▲             │                  │
//	 └───Cancel────┴──────Cancel──────┘ (the place is given back)
type waiting struct {
	// Of the waiter's loop alone.
	owner   *Waiter
	backend *Backend

	// Never changed once it stands in a queue.
	loop *loop.Loop
	mail loop.Mail

	// Guarded by the backend's mu.
	state  waitState
	forced bool    // also to a wanted server that takes no new clients
	server *Server // queued: whose queue, nil = the backend's; granted: where
	wanted *Server // nil = none
	avoid  *Server
	hash   uint64
	order  uint64

	next, prev *waiting
}

type waitState uint8

const (
	away    waitState = iota // in no queue
	queued                   // in a queue
	granted                  // has a place; the mail is on its way
	dropped                  // the backend is gone; the mail is on its way
)

// waiterList is a queue, oldest first.
type waiterList struct {
	first, last *waiting
	n           int
}

func (l *waiterList) push(r *waiting) {
	r.next, r.prev = nil, l.last
	if l.last != nil {
		l.last.next = r
	} else {
		l.first = r
	}
	l.last = r
	l.n++
}

func (l *waiterList) remove(r *waiting) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.last = r.prev
	}
	r.next, r.prev = nil, nil
	l.n--
}

// post is a mail to be sent when no lock is held any more. It names the loop by
// itself: what it is about may have changed by then.
type post struct {
	loop *loop.Loop
	mail *loop.Mail
}

func send(posts []post) {
	for _, p := range posts {
		p.loop.PostMail(p.mail)
	}
}

func without(posts []post, mail *loop.Mail) []post {
	return slices.DeleteFunc(posts, func(p post) bool { return p.mail == mail })
}

// The rest is called with mu held.

// home finds the queue where a request belongs; false = the backend's.
//
//	wished for a server that accepts it  → that server's
//	has a key in a backend that hashes   → the queue of the key's server
//	else                                 → the backend's
func (b *Backend) home(r *waiting) bool {
	r.server = nil
	t := b.table.Load()
	switch {
	case r.wanted != nil && r.wanted.accepts(r.forced):
		r.server = r.wanted
	case t.hash != nil && r.hash != 0:
		if i := t.hash.Owner(r.hash, t.find(r.avoid)); i >= 0 {
			r.server = t.candidates[i]
		}
	}
	return r.server != nil
}

func (b *Backend) queueOf(r *waiting) *waiterList {
	if r.server != nil {
		return &r.server.queue
	}
	return &b.queue
}

func (b *Backend) enqueue(r *waiting) {
	r.state = queued
	b.waiting++
	b.queueOf(r).push(r)
	b.showLength(r.server)
}

func (b *Backend) dequeue(r *waiting) {
	b.waiting--
	b.queueOf(r).remove(r)
	b.showLength(r.server)
}

// showLength lets those see the length of a queue who don't hold mu.
func (b *Backend) showLength(s *Server) {
	if s != nil {
		s.queued.Store(int32(s.queue.n))
	} else {
		b.queued.Store(int32(b.queue.n))
	}
}

func (b *Backend) noteLength(r *waiting) {
	if s := r.server; s != nil {
		s.queueMax = max(s.queueMax, s.queue.n)
	} else {
		b.queueMax = max(b.queueMax, b.queue.n)
	}
}

// next is the one to whom a free place at a server belongs: the oldest of those who
// wait for it and, where it takes new clients, of those who wait for any.
func (b *Backend) next(s *Server) *waiting {
	own, other := s.queue.first, b.queue.first
	if !s.candidate || other == nil || own != nil && own.order < other.order {
		return own
	}
	return other
}

// serve gives out the free places of a server, or of all candidates (nil).
func (b *Backend) serve(s *Server, posts []post) []post {
	if s != nil {
		return b.serveServer(s, posts)
	}
	for b.queue.first != nil {
		s := b.table.Load().reserve(0, b.queue.first.avoid)
		if s == nil {
			break
		}
		posts = b.grant(b.next(s), s, posts)
	}
	return posts
}

func (b *Backend) serveServer(s *Server, posts []post) []post {
	for {
		r := b.next(s)
		if r == nil || !s.places.Reserve() {
			return posts
		}
		posts = b.grant(r, s, posts)
	}
}

// grant gives a reserved place to a request.
func (b *Backend) grant(r *waiting, s *Server, posts []post) []post {
	b.dequeue(r)
	r.state, r.server = granted, s
	if r.wanted == s {
		s.chosen.Add(1)
	} else {
		s.balanced.Add(1)
	}
	return append(posts, post{r.loop, &r.mail})
}

// requeue puts all who wait, also at servers that are gone now, where they belong,
// and gives out what is free.
func (b *Backend) requeue(before []*Server) []post {
	var all []*waiting
	collect := func(l *waiterList) {
		for r := l.first; r != nil; r = r.next {
			all = append(all, r)
		}
	}
	collect(&b.queue)
	for _, s := range before {
		collect(&s.queue)
	}
	slices.SortFunc(all, func(a, b *waiting) int { return cmp.Compare(a.order, b.order) })
	for _, r := range all {
		b.dequeue(r)
	}
	for _, r := range all {
		b.home(r)
		b.enqueue(r)
	}
	var posts []post
	for _, s := range b.servers {
		posts = b.serve(s, posts)
	}
	return b.serve(nil, posts)
}

// dropAll ends the waits in the backend's own queue.
func (b *Backend) dropAll() []post {
	var posts []post
	for r := b.queue.first; r != nil; r = b.queue.first {
		b.dequeue(r)
		r.state = dropped
		posts = append(posts, post{r.loop, &r.mail})
	}
	return posts
}
