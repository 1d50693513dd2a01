package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// line keeps a candidate's places on a cache line of their own.
type line struct {
	_ [64]byte
	Places
	_ [64]byte
}

func candidates(weights ...int) []Candidate {
	cs := make([]Candidate, len(weights))
	for i, w := range weights {
		cs[i] = Candidate{Places: &new(line).Places, Weight: w, Seed: uint64(i) * 1e9}
	}
	return cs
}

// together runs f in as many goroutines at once, as loops would.
func together(loops int, f func(loop int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range loops {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func eachLoops(t *testing.T, f func(t *testing.T, loops int)) {
	for _, loops := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) { f(t, loops) })
	}
}

func TestPlacesNeverPassTheirLimit(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		const limit = 3
		var p Places
		p.SetLimit(limit)
		var inside, passed, got atomic.Int64
		together(loops, func(int) {
			for range 50_000 / loops {
				if !p.Reserve() {
					continue
				}
				got.Add(1)
				if inside.Add(1) > limit {
					passed.Add(1)
				}
				inside.Add(-1)
				p.Release()
			}
		})
		if passed.Load() != 0 || p.InUse() != 0 || p.Max() > limit || p.Max() < 1 || got.Load() == 0 {
			t.Errorf("passed %d times, %d in use at the end, max %d, got %d", passed.Load(), p.InUse(), p.Max(), got.Load())
		}
	})
}

func TestPlacesLimitLoweredAndLifted(t *testing.T) {
	var p Places
	for range 5 {
		p.Reserve()
	}
	p.SetLimit(3)
	for want := 5; want > 2; want-- {
		if p.InUse() != want || p.Reserve() {
			t.Fatalf("in use = %d, want %d and no place free", p.InUse(), want)
		}
		p.Release()
	}
	if !p.Reserve() || p.Reserve() {
		t.Error("want one free place of three after the fifth to third were given back")
	}
	p.SetLimit(0)
	if !p.Reserve() || p.Limit() != 0 || p.Max() != 5 {
		t.Errorf("limit %d, max %d", p.Limit(), p.Max())
	}
	defer func() {
		if recover() == nil {
			t.Error("a place given back twice isn't noticed")
		}
	}()
	for range 5 {
		p.Release()
	}
}

// TestRoundRobinIsExact: any number of whole cycles holds each candidate exactly as
// often as its weight says, and any part of one differs by little, whoever picks.
func TestRoundRobinIsExact(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1, 1}, {100, 100, 100, 100}, {5, 1, 1}, {3, 2}, {256, 1, 128}, {7, 11, 13, 17, 19}} {
		eachLoops(t, func(t *testing.T, loops int) {
			cs := candidates(weights...)
			r := NewRoundRobin(cs, nil)
			const cycles = 4
			together(loops, func(loop int) {
				n := cycles * len(r.turns)
				for i := loop; i < n; i += loops {
					r.Pick(0, none)
				}
			})
			for i, c := range cs {
				if got, want := c.Places.InUse(), cycles*int(r.weights[i]); got != want {
					t.Errorf("weights %v: candidate %d has %d, want %d", weights, i, got, want)
				}
			}
		})
	}
}

func TestRoundRobinIsSmooth(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1, 1}, {5, 1, 1}, {3, 2}, {256, 1, 128}, {10, 20, 30, 40}} {
		cs := candidates(weights...)
		r := NewRoundRobin(cs, nil)
		total := 0
		for _, w := range weights {
			total += w
		}
		for n := 1; n <= 3*len(r.turns); n++ {
			r.Pick(0, none)
			for i, c := range cs {
				fair := float64(n) * float64(weights[i]) / float64(total)
				if d := math.Abs(float64(c.Places.InUse()) - fair); d > 2 {
					t.Fatalf("weights %v: after %d picks candidate %d has %d, want about %.1f", weights, n, i, c.Places.InUse(), fair)
				}
			}
		}
	}
}

func TestCycleWeights(t *testing.T) {
	f := func(want []uint32, weights ...int) {
		t.Helper()
		if got := cycleWeights(candidates(weights...)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("cycleWeights(%v) = %v, want %v", weights, got, want)
		}
	}
	f([]uint32{1, 1}, 100, 100)
	f([]uint32{1, 2}, 50, 100)
	f([]uint32{1, 50}, 200, 10000)
	f([]uint32{4096, 4096, 1}, 1<<19, 1<<19, 1) // bounded, and nobody is forgotten
}

// TestRoundRobinKeepsTurns changes one candidate again and again, by its weight, or
// by taking it out: the others, of equal weight, stay within two turns of each
// other. Beginning each cycle anew would let the first one have them all.
func TestRoundRobinKeepsTurns(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all := candidates(1, 1, 1, 1, 1)
		var r *RoundRobin
		for range 400 {
			cs := append([]Candidate(nil), all[:4]...)
			if w := rng.IntN(6); w > 0 {
				cs = append(cs, Candidate{Places: all[4].Places, Weight: w})
			}
			rng.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
			r = NewRoundRobin(cs, r)
			for range rng.IntN(4) {
				r.Pick(0, none)
			}
			low, high := all[0].Places.InUse(), 0
			for _, c := range all[:4] {
				low, high = min(low, c.Places.InUse()), max(high, c.Places.InUse())
			}
			if high-low > 2 {
				t.Fatalf("seed %d: the others' counts differ by %d", seed, high-low)
			}
		}
	}
}

func TestRoundRobinPassesOverFullAndAvoided(t *testing.T) {
	cs := candidates(1, 50, 1)
	cs[1].Places.SetLimit(1)
	cs[2].Places.SetLimit(2)
	r := NewRoundRobin(cs, nil)
	for range 3 {
		if i := r.Pick(0, 0); i == 0 {
			t.Error("the one to avoid was chosen while others had places")
		}
	}
	if i := r.Pick(0, 0); i != 0 {
		t.Errorf("Pick = %d, want 0: only the one to avoid has places", i)
	}
	cs[0].Places.SetLimit(1)
	if i := r.Pick(0, none); i != none {
		t.Errorf("Pick = %d, want none: all are full", i)
	}
	if i := NewRoundRobin(nil, r).Pick(0, none); i != none {
		t.Errorf("Pick of nobody = %d", i)
	}
}

// TestLeastConnIsExact takes places from several loops at once and gives none back:
// the counts are then in proportion to the weights but for one.
func TestLeastConnIsExact(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1, 1, 1}, {100, 200, 300}} {
		eachLoops(t, func(t *testing.T, loops int) {
			cs := candidates(weights...)
			l := NewLeastConn(cs, nil)
			const n = 12_000
			together(loops, func(loop int) {
				for i := loop; i < n; i += loops {
					l.Pick(0, none)
				}
			})
			total := 0
			for _, w := range weights {
				total += w
			}
			for i, c := range cs {
				fair := float64(n) * float64(weights[i]) / float64(total)
				if d := math.Abs(float64(c.Places.InUse()) - fair); d > 1 {
					t.Errorf("weights %v: candidate %d has %d, want %.1f but for one", weights, i, c.Places.InUse(), fair)
				}
			}
		})
	}
}

// TestLeastConnSeesOthers has several loops choose at the same moment, where exactly
// one of them may come to the light candidate: the place is taken only if the count
// that was compared still stands.
func TestLeastConnSeesOthers(t *testing.T) {
	for _, loops := range []int{2, 4} {
		var light, heavy line
		l := NewLeastConn([]Candidate{{Places: &light.Places, Weight: 1}, {Places: &heavy.Places, Weight: 100}}, nil)
		var ready, done atomic.Int64
		const rounds = 20_000
		together(loops, func(loop int) {
			for round := int64(0); round < rounds; round++ {
				if loop == 0 {
					light.word.Store(1)   // (1+1) / 1
					heavy.word.Store(200) // (200+1) / 100, a little more
				}
				meet(&ready, (round+1)*int64(loops))
				l.Pick(0, none)
				meet(&done, (round+1)*int64(loops))
				if loop == 0 && light.InUse() != 2 {
					t.Errorf("round %d: %d in use at the light one, want 2", round, light.InUse())
				}
			}
		})
	}
}

// meet waits until so many have come, over all times.
func meet(n *atomic.Int64, all int64) {
	n.Add(1)
	for n.Load() < all {
		runtime.Gosched()
	}
}

// TestLeastConnHasASlowTwin compares each choice with a plain search.
func TestLeastConnHasASlowTwin(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		weights := make([]int, 1+rng.IntN(6))
		for i := range weights {
			weights[i] = 1 + rng.IntN(5)
		}
		cs := candidates(weights...)
		for _, c := range cs {
			c.Places.SetLimit(rng.IntN(4) * rng.IntN(8))
		}
		l := NewLeastConn(cs, nil)
		for range 100 {
			if i := rng.IntN(len(cs)); rng.IntN(3) > 0 && cs[i].Places.InUse() > 0 {
				cs[i].Places.Release()
				continue
			}
			avoid := rng.IntN(len(cs)+1) - 1
			key := func(i int) float64 {
				n := cs[i].Places.InUse()
				switch {
				case cs[i].Places.Full():
					return math.Inf(1)
				case i == avoid:
					return math.MaxFloat64
				case n == 0:
					return 0
				}
				return float64(n+1) / float64(weights[i])
			}
			best := math.Inf(1)
			keys := map[int]float64{none: best}
			for i := range cs {
				keys[i] = key(i)
				best = min(best, keys[i])
			}
			if i := l.Pick(0, avoid); keys[i] != best {
				t.Fatalf("seed %d: Pick = %d of keys %v", seed, i, keys)
			}
		}
	}
}

// TestLeastConnIdle: where requests never overlap all are idle, and get turns by
// weight.
func TestLeastConnIdle(t *testing.T) {
	cs := candidates(1, 2, 1)
	l := NewLeastConn(cs, nil)
	got := make([]int, 3)
	for range 400 {
		i := l.Pick(0, none)
		got[i]++
		cs[i].Places.Release()
	}
	if fmt.Sprint(got) != "[100 200 100]" {
		t.Errorf("turns = %v", got)
	}
}

func TestFirst(t *testing.T) {
	cs := candidates(1, 1, 1)
	cs[0].Places.SetLimit(1)
	cs[1].Places.SetLimit(1)
	f := NewFirst(cs)
	for n, want := range []int{0, 1, 2, 2} {
		if got := f.Pick(0, none); got != want {
			t.Errorf("pick %d = %d, want %d", n, got, want)
		}
	}
	cs[0].Places.Release()
	if got := f.Pick(0, none); got != 0 {
		t.Errorf("Pick = %d, want 0, which is free again", got)
	}
}

func TestRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	cs := candidates(1, 2, 3, 4)
	r := NewRandom(cs)
	got := make([]float64, len(cs))
	const n = 100_000
	for range n {
		i := r.Pick(rng.Uint64(), none)
		got[i]++
		cs[i].Places.Release()
	}
	for i := range cs {
		if want := n * float64(i+1) / 10; math.Abs(got[i]-want) > want/20 {
			t.Errorf("candidate %d was drawn %.0f times, want about %.0f", i, got[i], want)
		}
	}
	// Of two, the less busy one: with all held, the loads stay close together.
	for range 1000 {
		r.Pick(rng.Uint64(), none)
	}
	for i, c := range cs {
		if want := 100 * (i + 1); math.Abs(float64(c.Places.InUse()-want)) > 10 {
			t.Errorf("candidate %d has %d, want about %d", i, c.Places.InUse(), want)
		}
	}
	cs[3].Places.SetLimit(1)
	for range 100 {
		if i := r.Pick(rng.Uint64(), 0); i == 3 || i == 0 {
			t.Fatalf("Pick = %d, which is full or to be avoided", i)
		}
	}
}

// TestHashMovesNoOthersKeys takes candidates out and changes weights: the keys that
// get another owner all come from, or go to, the candidate that changed.
func TestHashMovesNoOthersKeys(t *testing.T) {
	const keys = 20_000
	owners := func(cs []Candidate) []*Places {
		h := NewHash(cs, 100, 6)
		out := make([]*Places, keys)
		for k := range out {
			out[k] = cs[h.Owner(uint64(k), none)].Places
		}
		return out
	}
	all := candidates(100, 100, 100, 100, 50)
	before := owners(all)
	share := map[*Places]int{}
	for _, p := range before {
		share[p]++
	}
	for i, c := range all {
		want := float64(keys) * float64(c.Weight) / 450
		if d := math.Abs(float64(share[c.Places]) - want); d > want/5 {
			t.Errorf("candidate %d has %d keys, want about %.0f", i, share[c.Places], want)
		}
	}
	check := func(what string, cs []Candidate, changed *Places) {
		t.Helper()
		moved := 0
		for k, p := range owners(cs) {
			if p == before[k] {
				continue
			}
			moved++
			if p != changed && before[k] != changed {
				t.Fatalf("%s: key %d moved between two that did not change", what, k)
			}
		}
		if moved == 0 {
			t.Errorf("%s: no key moved", what)
		}
	}
	check("one goes", append(append([]Candidate(nil), all[:2]...), all[3:]...), all[2].Places)
	lighter := append([]Candidate(nil), all...)
	lighter[1].Weight = 20
	check("one gets lighter", lighter, all[1].Places)
	stranger := Candidate{Places: &new(line).Places, Weight: 100, Seed: 77}
	check("one comes, in front", append([]Candidate{stranger}, all...), stranger.Places)
	h := NewHash(all, 100, 6)
	for k := range uint64(1000) {
		o := h.Owner(k, none)
		if other := h.Owner(k, o); other == o {
			t.Fatalf("key %d: the one to avoid owns it though there are others", k)
		}
	}
	if alone := NewHash(all[:1], 100, 6); alone.Owner(1, 0) != 0 {
		t.Error("the only one is avoided")
	}
	all[0].Places.SetLimit(1)
	if h := NewHash(all[:1], 100, 6); h.Pick(1, none) != 0 || h.Pick(1, none) != none {
		t.Error("a key does not wait for its full owner")
	}
}

func TestNothingAllocates(t *testing.T) {
	for name, pick := range pickers(candidates(1, 2, 3)) {
		if n := testing.AllocsPerRun(1000, func() { pick(42, 1) }); n != 0 {
			t.Errorf("%s allocates %.0f objects", name, n)
		}
	}
}

// TestCursorStandsAlone: what all loops write shares its cache line with nothing.
func TestCursorStandsAlone(t *testing.T) {
	var r RoundRobin
	at, end := unsafe.Offsetof(r.cursor), unsafe.Sizeof(r)
	if before := at - (unsafe.Offsetof(r.turns) + unsafe.Sizeof(r.turns)); before < 56 || end-at < 64 {
		t.Errorf("%d bytes before the cursor, %d after", before, end-at-8)
	}
}

func pickers(cs []Candidate) map[string]func(n uint64, avoid int) int {
	return map[string]func(n uint64, avoid int) int{
		"round robin": NewRoundRobin(cs, nil).Pick,
		"least conn":  NewLeastConn(cs, nil).Pick,
		"first":       NewFirst(cs).Pick,
		"random":      NewRandom(cs).Pick,
		"hash":        NewHash(cs, 3, len(cs)).Pick,
	}
}
