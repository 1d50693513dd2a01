package upstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluis/internal/proxy/loop"
)

// TestHistories plays random histories over several loops, which the test turns
// itself, and holds them against the rules in plain form: a list of who waits and
// who is where.
func TestHistories(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops []*loop.Loop) {
		for seed := range uint64(histories) {
			h := newHistory(t, loops, seed)
			for range 150 {
				h.step()
			}
			h.end()
			if t.Failed() {
				return
			}
		}
	})
}

const histories = 60

func eachLoops(t *testing.T, f func(t *testing.T, loops []*loop.Loop)) {
	for _, n := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("loops=%d", n), func(t *testing.T) {
			loops := make([]*loop.Loop, n)
			for i := range loops {
				l, err := loop.New(loop.Options{Index: i})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				loops[i] = l
			}
			f(t, loops)
		})
	}
}

// history is one history and its twin.
type history struct {
	t        *testing.T
	rng      *rand.Rand
	seed     uint64
	loops    []*loop.Loop
	b        *Backend
	settings BackendSettings
	log      []string

	idle    []*claim
	waiting []*claim // oldest first
	holding []*claim
	// arrived are grants since the last look, in any order.
	arrived []*claim
	gaveUp  int
}

// claim is one request of a history.
type claim struct {
	Waiter
	name int
	wish Wish
}

func newHistory(t *testing.T, loops []*loop.Loop, seed uint64) *history {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 3)), seed: seed, loops: loops}
	c := &clock{}
	h.b = NewSet(c.now).Backend("b")
	for i := range 16 {
		x := &claim{name: i}
		x.Loop = loops[h.rng.IntN(len(loops))]
		x.Granted = func() { h.arrived = append(h.arrived, x) }
		x.GaveUp = func() { h.gaveUp++ }
		h.idle = append(h.idle, x)
	}
	h.settings = BackendSettings{
		Balance: []string{"roundrobin", "leastconn", "first", "random", "source"}[seed%5],
		Servers: servers("a b c D"), Checked: true, ManualFailback: h.rng.IntN(2) == 0,
	}
	h.configure()
	return h
}

func (h *history) step() {
	switch n := h.rng.IntN(100); {
	case n < 40 && len(h.idle) > 0:
		h.take()
	case n < 75 && len(h.holding) > 0:
		x := pull(h.rng, &h.holding)
		h.note("release %d at %s", x.name, x.Server.Name())
		x.Release()
		h.idle = append(h.idle, x)
		if h.rng.IntN(3) == 0 {
			return // its place is on its way while the next thing happens
		}
	case n < 85 && len(h.waiting) > 0:
		x := pull(h.rng, &h.waiting)
		h.note("cancel %d", x.name)
		h.b.Cancel(&x.Waiter)
		if x.Waiting() {
			h.fail("%d waits after Cancel", x.name)
		}
		h.idle = append(h.idle, x)
	case n < 97:
		h.act()
	default:
		h.configure()
	}
	h.look()
}

// take begins one claim and holds the outcome against the rules.
func (h *history) take() {
	h.look() // grants that are on their way count as taken
	x := pull(h.rng, &h.idle)
	all := h.b.Servers()
	x.wish = Wish{Hash: h.rng.Uint64N(4)}
	if h.rng.IntN(2) == 0 {
		x.wish.Server, x.wish.Force = all[h.rng.IntN(len(all))], h.rng.IntN(2) == 0
	}
	if h.rng.IntN(4) == 0 {
		x.wish.Avoid = all[h.rng.IntN(len(all))]
	}
	outcome := h.b.Take(&x.Waiter, x.wish)
	h.note("take %d %+v: %v", x.name, x.wish, outcome)
	mine, somebody := h.home(x), h.b.Usable() > 0
	switch outcome {
	case Taken:
		if mine != nil && x.Server != mine {
			h.fail("it came to %s instead of %s", x.Server.Name(), mine.Name())
		}
		if mine == nil && !x.Server.State().Serving {
			h.fail("a new client came to %s", x.Server.Name())
		}
		if over := h.held(x.Server) + 1 - x.Server.places.Limit(); x.Server.places.Limit() > 0 && over > 0 {
			h.fail("%s is %d over its limit", x.Server.Name(), over)
		}
		for _, older := range h.waiting {
			if h.mayHave(older, x.Server) {
				h.fail("it passed %d, who waited", older.name)
			}
		}
		h.holding = append(h.holding, x)
	case Queued:
		h.waiting = append(h.waiting, x)
		if x.AtServer != (mine != nil) {
			h.fail("AtServer = %v", x.AtServer)
		}
	case NoServer:
		if mine != nil || somebody {
			h.fail("there was a server")
		}
		h.idle = append(h.idle, x)
	case QueueFull:
		if h.settings.MaxQueue == 0 || len(h.waiting) < h.settings.MaxQueue {
			h.fail("%d wait of %d", len(h.waiting), h.settings.MaxQueue)
		}
		if mine == nil && !somebody {
			h.fail("no server")
		}
		h.idle = append(h.idle, x)
	}
	if outcome != Queued && x.Waiting() || outcome != Taken && x.Server != nil {
		h.fail("waiting %v, server %v", x.Waiting(), x.Server)
	}
}

// act changes a server's state.
func (h *history) act() {
	all := h.b.Servers()
	s := all[h.rng.IntN(len(all))]
	switch h.rng.IntN(5) {
	case 0, 1:
		up := h.rng.IntN(3) > 0
		h.note("%s up %v", s.Name(), up)
		s.SetHealth(up, "")
	case 2:
		a := Admin(h.rng.IntN(3))
		h.note("%s %v", s.Name(), a)
		s.SetAdmin(a)
	case 3:
		w := h.rng.IntN(4) - 1
		h.note("%s weight %d", s.Name(), w)
		s.SetWeight(w)
	case 4:
		h.note("%s returns", s.Name())
		s.ReturnToService()
	}
}

// configure changes the document: limits, servers, the queue's bound.
func (h *history) configure() {
	all := servers("a b c D")
	for i := range all {
		all[i].MaxConnections = h.rng.IntN(4)
		all[i].Weight = 1 + h.rng.IntN(3)
	}
	if h.rng.IntN(3) == 0 {
		i := h.rng.IntN(len(all))
		all = slices.Delete(all, i, i+1)
	}
	h.settings.Servers = all
	h.settings.MaxQueue = h.rng.IntN(2) * h.rng.IntN(8)
	h.note("configure %+v", h.settings)
	h.b.Configure(h.settings)
}

// end lets everybody go, and sees that nothing is left.
func (h *history) end() {
	h.look()
	for len(h.waiting) > 0 && h.rng.IntN(3) > 0 {
		h.b.Cancel(&pull(h.rng, &h.waiting).Waiter)
	}
	h.look()
	h.b.set.Forget("b")
	h.turn()
	if h.gaveUp != len(h.waiting) {
		h.fail("%d were told that the backend is gone, %d waited", h.gaveUp, len(h.waiting))
	}
	before := h.b.Servers()
	for _, x := range h.holding {
		x.Release()
	}
	for _, s := range before {
		if s.InUse() != 0 {
			h.fail("%d places of %s leaked", s.InUse(), s.Name())
		}
	}
	for _, x := range append(h.idle, h.holding...) {
		if x.Waiting() || x.Server != nil {
			h.fail("%d has something", x.name)
		}
	}
}

// look brings the mail and sees that the rules hold.
func (h *history) look() {
	h.turn()
	waited := slices.Clone(h.waiting)
	for _, x := range h.arrived {
		i := slices.Index(h.waiting, x)
		if i < 0 || x.Server == nil || x.Waiting() {
			h.fail("%d was granted a place that it did not wait for", x.name)
			return
		}
		h.waiting = slices.Delete(h.waiting, i, i+1)
		h.holding = append(h.holding, x)
	}
	for _, x := range h.arrived {
		for _, older := range waited[:slices.Index(waited, x)] {
			if older.Waiting() && h.mayHave(older, x.Server) {
				h.fail("%d got a place at %s before %d", x.name, x.Server.Name(), older.name)
			}
		}
	}
	h.arrived = h.arrived[:0]
	own := 0
	for _, s := range h.b.Servers() {
		if h.held(s) != s.InUse() {
			h.fail("%s has %d in use, %d hold it", s.Name(), s.InUse(), h.held(s))
		}
		n := 0
		for _, x := range h.waiting {
			if !s.places.Full() && h.mayHave(x, s) {
				h.fail("%d waits while %s has a free place", x.name, s.Name())
			}
			if h.home(x) == s {
				n++
			}
		}
		if s.Queued() != n {
			h.fail("%s has %d in its queue, want %d", s.Name(), s.Queued(), n)
		}
		own += n
	}
	if h.b.Queued() != len(h.waiting)-own || h.b.Stats().Waiting != len(h.waiting) {
		h.fail("%d in the backend's queue, want %d", h.b.Queued(), len(h.waiting)-own)
	}
}

// home is the server that a claim waits for alone, by the rules; nil = any.
func (h *history) home(x *claim) *Server {
	if s := x.wish.Server; s != nil {
		if state := s.State(); state.Usable || x.wish.Force && state.Bound {
			return s
		}
	}
	t := h.b.table.Load()
	if t.hash != nil && x.wish.Hash != 0 && len(t.candidates) > 0 {
		return t.candidates[t.hash.Owner(x.wish.Hash, t.find(x.wish.Avoid))]
	}
	return nil
}

// mayHave tells whether a waiting claim could go to a server.
func (h *history) mayHave(x *claim, s *Server) bool {
	if home := h.home(x); home != nil {
		return home == s
	}
	return s.State().Serving
}

func (h *history) held(s *Server) int {
	n := 0
	for _, x := range h.holding {
		if x.Server == s {
			n++
		}
	}
	return n
}

func (h *history) turn() {
	for range 2 {
		for _, l := range h.loops {
			l.Turn(0)
		}
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	last := h.log[max(0, len(h.log)-8):]
	h.t.Fatalf("seed %d: %s; before:\n%s", h.seed, fmt.Sprintf(format, args...), joinLines(last))
}

func joinLines(lines []string) string {
	out := ""
	for _, l := range lines {
		out += "  " + l + "\n"
	}
	return out
}

func pull[T any](rng *rand.Rand, from *[]T) T {
	i := rng.IntN(len(*from))
	x := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return x
}
