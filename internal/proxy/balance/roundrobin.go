package balance

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// RoundRobin gives each candidate its turns in a fixed cycle, evenly spread: a
// candidate of weight w has w turns in it. All loops share one cursor, so each
// cycle of picks, whoever makes them, holds each candidate exactly w times, as long
// as none is full.
//
// A candidate's k-th turn of a cycle stands at the time
//
//	(phase + k) / weight        k = 0 … weight-1, 0 <= phase <= 1
//
// of a cycle that lasts from 0 to 1; the cycle is all turns in the order of their
// times. The phase is how far a candidate is from its first turn, measured in its
// own turns. That is what a new cycle takes over from the one before, so that a
// change of one candidate leaves the others' turns where they were.
type RoundRobin struct {
	places  []*Places
	weights []uint32  // turns in a cycle
	phases  []float64 // see above
	turns   []uint32  // the cycle: whose turn it is

	_      [64]byte
	cursor atomic.Uint64 // turns given
	_      [56]byte
}

// maxTurns bounds a cycle: 32 KiB of turns, made in some ms. Weights whose cycle
// would be longer are rounded.
const maxTurns = 8192

// patience is how many turns of full candidates are passed over before the rest
// are simply asked in order.
const patience = 8

// NewRoundRobin makes the cycle of some candidates. It goes on where the one before
// stands; nil begins anew.
func NewRoundRobin(candidates []Candidate, before *RoundRobin) *RoundRobin {
	r := &RoundRobin{places: placesOf(candidates), weights: cycleWeights(candidates)}
	r.phases = make([]float64, len(candidates))
	left := before.untilNext()
	for i, p := range r.places {
		phase, known := left[p]
		if !known {
			phase = (float64(i) + 0.5) / float64(len(r.places))
		}
		r.phases[i] = phase
	}
	r.turns = r.cycle()
	return r
}

// Pick reserves a place at the candidate whose turn it is, and passes over those
// that are full; -1 = all are. The one to avoid (-1 = none) gets its turn only when
// all others are full.
func (r *RoundRobin) Pick(_ uint64, avoid int) int {
	if len(r.turns) == 0 {
		return none
	}
	i := 0
	for range patience {
		i = r.next()
		if i != avoid && r.places[i].Reserve() {
			return i
		}
	}
	return reserveFrom(r.places, i, avoid)
}

// next is whose turn it is, and ends that turn.
func (r *RoundRobin) next() int {
	return r.turn(r.cursor.Add(1) - 1)
}

// turn is whose the nth turn is.
func (r *RoundRobin) turn(n uint64) int {
	return int(r.turns[n%uint64(len(r.turns))])
}

// cycle puts all turns in the order of their times; at the same time, the
// candidates' own order holds.
func (r *RoundRobin) cycle() []uint32 {
	type turn struct {
		at  float64
		who uint32
	}
	var all []turn
	for i, w := range r.weights {
		for k := range w {
			all = append(all, turn{(r.phases[i] + float64(k)) / float64(w), uint32(i)})
		}
	}
	slices.SortFunc(all, func(a, b turn) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		return cmp.Compare(a.who, b.who)
	})
	turns := make([]uint32, len(all))
	for i, t := range all {
		turns[i] = t.who
	}
	return turns
}

// untilNext is how far each candidate is from its next turn, in its own turns.
func (r *RoundRobin) untilNext() map[*Places]float64 {
	left := map[*Places]float64{}
	if r == nil || len(r.turns) == 0 {
		return left
	}
	given := r.turns[:r.cursor.Load()%uint64(len(r.turns))]
	had := make([]uint32, len(r.places))
	for _, i := range given {
		had[i]++
	}
	now := 0.0
	if len(given) > 0 {
		last := given[len(given)-1]
		now = (r.phases[last] + float64(had[last]-1)) / float64(r.weights[last])
	}
	for i, p := range r.places {
		phase := r.phases[i] + float64(had[i]) - float64(r.weights[i])*now
		left[p] = min(max(phase, 0), 1) // it is in that range but for rounding
	}
	return left
}

// cycleWeights are the smallest whole numbers in proportion to the weights; where
// their sum would pass maxTurns they are rounded, never to 0.
func cycleWeights(candidates []Candidate) []uint32 {
	divisor, sum := 0, 0
	for _, c := range candidates {
		divisor = gcd(divisor, max(c.Weight, 1))
		sum += max(c.Weight, 1)
	}
	weights := make([]uint32, len(candidates))
	for i, c := range candidates {
		w := max(c.Weight, 1) / divisor
		if sum/divisor > maxTurns {
			w = max(1, int(float64(max(c.Weight, 1))*maxTurns/float64(sum)+0.5))
		}
		weights[i] = uint32(w)
	}
	return weights
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
