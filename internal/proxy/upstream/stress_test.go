package upstream

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluis/internal/proxy/loop"
)

// TestStress lets real loops, each on its thread, fight for few places while
// servers come and go. From time to time everybody stands still: then every place
// is accounted for, and nobody waits for one that is free.
func TestStress(t *testing.T) {
	for _, balance := range []string{"roundrobin", "leastconn", "source"} {
		t.Run(balance, func(t *testing.T) {
			eachLoops(t, func(t *testing.T, loops []*loop.Loop) { stress(t, loops, balance) })
		})
	}
}

func stress(t *testing.T, loops []*loop.Loop, balance string) {
	settings := BackendSettings{Balance: balance, Servers: servers("a b c d E"), ManualFailback: true}
	limits := []int{1, 2, 3, 0, 1}
	for i := range settings.Servers {
		settings.Servers[i].MaxConnections = limits[i]
	}
	if balance == "leastconn" { // full: the queue is in use all the time
		settings.Servers = append(settings.Servers[:3:3], settings.Servers[4])
		settings.MaxQueue = 10
	}
	b, _ := newTestBackend(settings)
	f := &fight{t: t, b: b, loops: loops}
	var running sync.WaitGroup
	for i, l := range loops {
		running.Go(l.Run)
		for k := range 12 {
			c := &fighter{fight: f, rng: rand.New(rand.NewPCG(uint64(i), uint64(k)))}
			c.Loop = l
			c.Granted = c.granted
			c.mail.Deliver = c.step
			f.unfinished.Add(1)
			f.fighters = append(f.fighters, c)
		}
	}
	f.resume()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 12 {
		for range 4 {
			f.disturb(rng)
			f.await(300)
		}
		f.freeze()
		f.check()
		f.resume()
	}
	f.stop.Store(true)
	f.unfinished.Wait()
	for _, l := range loops {
		l.Stop()
	}
	running.Wait()
	total := uint64(0)
	for _, s := range b.Servers() {
		if s.InUse() != 0 || s.Queued() != 0 {
			t.Errorf("%s: %d in use and %d waiting at the end", s.Name(), s.InUse(), s.Queued())
		}
		total += s.Stats().Total
	}
	// A cancelled claim may have had a place that it never saw.
	if stats := b.Stats(); stats.Waiting != 0 || total < f.got.Load() || total > f.got.Load()+stats.GivenUp {
		t.Errorf("%d places counted, %d got; %+v", total, f.got.Load(), stats)
	}
	if f.got.Load() == 0 || f.queued.Load() == 0 || f.cancelled.Load() == 0 {
		t.Errorf("nothing was tried: %d got, %d queued, %d cancelled", f.got.Load(), f.queued.Load(), f.cancelled.Load())
	}
}

// fight is what the fighters share.
type fight struct {
	t                      *testing.T
	b                      *Backend
	loops                  []*loop.Loop
	fighters               []*fighter
	frozen, stop           atomic.Bool
	steps                  atomic.Int64
	held                   [8]atomic.Int64 // by the server's index
	got, queued, cancelled atomic.Uint64
	unfinished             sync.WaitGroup
}

// await waits until so many steps have been made.
func (f *fight) await(steps int64) {
	deadline := time.Now().Add(time.Minute)
	for f.steps.Add(0) < steps {
		if time.Now().After(deadline) {
			f.t.Fatal("the loops stand still")
		}
		runtime.Gosched()
	}
	f.steps.Store(0)
}

func (f *fight) resume() {
	f.frozen.Store(false)
	for _, c := range f.fighters {
		c.Loop.PostMail(&c.mail)
	}
}

// freeze returns when nobody moves and all mail has come.
func (f *fight) freeze() {
	f.frozen.Store(true)
	for range 2 {
		var all sync.WaitGroup
		for _, l := range f.loops {
			all.Add(1)
			l.Post(all.Done)
		}
		all.Wait()
	}
}

func (f *fight) check() {
	b := f.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range *b.all.Load() {
		if held := int(f.held[s.index].Load()); s.InUse() != held {
			f.t.Errorf("%s: %d in use, %d held", s.name, s.InUse(), held)
		}
		if r := b.next(s); r != nil && !s.places.Full() {
			f.t.Errorf("%s has a free place (%d of %d) and %d wait for it", s.name, s.InUse(), s.places.Limit(), s.queue.n+b.queue.n)
		}
		if s.queued.Load() != int32(s.queue.n) || b.queued.Load() != int32(b.queue.n) {
			f.t.Errorf("%s: shown and real lengths of the queues differ", s.name)
		}
	}
}

// disturb changes a server's state.
func (f *fight) disturb(rng *rand.Rand) {
	all := f.b.Servers()
	s := all[rng.IntN(len(all))]
	switch rng.IntN(6) {
	case 0, 1:
		s.SetHealth(rng.IntN(3) > 0, "")
	case 2:
		s.SetAdmin(Admin(rng.IntN(3)))
	case 3:
		s.SetAdmin(Ready)
	case 4:
		s.SetWeight(rng.IntN(3))
	case 5:
		s.ReturnToService()
	}
}

// fighter is one request after another, in its loop.
type fighter struct {
	Waiter
	*fight
	rng      *rand.Rand
	mail     loop.Mail
	patience int // steps until it lets go of its place, or of its wait
}

func (c *fighter) step() {
	if c.frozen.Load() {
		return
	}
	c.steps.Add(1)
	switch {
	case c.patience > 0 && !c.stop.Load():
		c.patience--
	case c.Server != nil:
		c.held[c.Server.index].Add(-1)
		c.Release()
	case c.Waiting():
		c.cancelled.Add(1)
		c.b.Cancel(&c.Waiter)
	case c.stop.Load():
		c.unfinished.Done()
		return
	default:
		c.take()
	}
	if c.rng.IntN(300) == 0 {
		c.disturb(c.rng) // a loop reports what it saw of a server
	}
	c.Loop.PostMail(&c.mail)
}

func (c *fighter) take() {
	wish := Wish{Hash: c.rng.Uint64N(5)}
	if c.rng.IntN(3) == 0 {
		all := c.b.Servers()
		wish.Server, wish.Force = all[c.rng.IntN(len(all))], true
	}
	switch c.b.Take(&c.Waiter, wish) {
	case Taken:
		c.holds()
	case Queued:
		c.queued.Add(1)
		c.patience = c.rng.IntN(12)
	}
}

func (c *fighter) granted() { c.holds() }

func (c *fighter) holds() {
	c.got.Add(1)
	n := c.held[c.Server.index].Add(1)
	if limit := c.Server.places.Limit(); limit > 0 && n > int64(limit) {
		c.t.Errorf("%s: %d hold one of %d places", c.Server.name, n, limit)
	}
	c.patience = c.rng.IntN(3)
}

// TestOnePlace is the tightest case: one server with one place, which every loop
// wants all the time, and nobody gives up. With one waiter for each loop the queue is
// empty and used by turns, so that a place that is given back just while somebody
// begins to wait would be lost here; with more it is always used.
func TestOnePlace(t *testing.T) {
	for _, waiters := range []int{1, 3} {
		t.Run(fmt.Sprintf("waiters=%d", waiters), func(t *testing.T) {
			eachLoops(t, func(t *testing.T, loops []*loop.Loop) { onePlace(t, loops, waiters, 5_000/waiters) })
		})
	}
}

func onePlace(t *testing.T, loops []*loop.Loop, waiters, turns int) {
	settings := BackendSettings{Servers: servers("a")}
	settings.Servers[0].MaxConnections = 1
	b, _ := newTestBackend(settings)
	var inside atomic.Int64
	var all, running sync.WaitGroup
	for _, l := range loops {
		running.Go(l.Run)
		for k := range waiters {
			w, mail, left := &Waiter{Loop: l}, &loop.Mail{}, turns
			rng := rand.New(rand.NewPCG(uint64(l.Index()), uint64(k)))
			use := func() {
				if inside.Add(1) != 1 {
					t.Error("two have the one place")
				}
				left--
				for range rng.IntN(200) {
					inside.Load() // a little work
				}
				inside.Add(-1)
				w.Release()
				if left == 0 {
					all.Done()
					return
				}
				l.PostMail(mail)
			}
			w.Granted = use
			mail.Deliver = func() {
				if b.Take(w, Wish{}) == Taken {
					use()
				}
			}
			all.Add(1)
			l.PostMail(mail)
		}
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("somebody waits for ever: %+v", b.Stats())
	}
	for _, l := range loops {
		l.Stop()
	}
	running.Wait()
	if s := b.Server("a").Stats(); s.Total != uint64(turns*waiters*len(loops)) || s.InUse != 0 || s.MaxInUse != 1 {
		t.Errorf("stats = %+v", s)
	}
}

// TestSharesOverLoops: turns are counted once, not once per loop.
func TestSharesOverLoops(t *testing.T) {
	for _, balance := range []string{"roundrobin", "leastconn"} {
		eachLoops(t, func(t *testing.T, loops []*loop.Loop) {
			settings := BackendSettings{Balance: balance, Servers: servers("a b c")}
			for i := range settings.Servers {
				settings.Servers[i].Weight = 10 * (i + 1)
			}
			b, _ := newTestBackend(settings)
			const each = 3000
			var all, running sync.WaitGroup
			for _, l := range loops {
				running.Go(l.Run)
				all.Add(1)
				l.Post(func() {
					for range each { // and none is given back
						b.Take(&Waiter{Loop: l}, Wish{})
					}
					all.Done()
				})
			}
			all.Wait()
			for _, l := range loops {
				l.Stop()
			}
			running.Wait()
			for i, s := range b.Servers() {
				if got, want := s.InUse(), each*len(loops)*(i+1)/6; got < want-1 || got > want+1 {
					t.Errorf("%s: %s has %d, want %d", balance, s.Name(), got, want)
				}
			}
		})
	}
}
