package balance

// LeastConn chooses the candidate with the fewest places in use in proportion to
// its weight. An idle candidate comes before any busy one, whatever the weights, as
// in HAProxy. Candidates that are equal get their turns in a weighted cycle that
// all loops share, so that loops which see the same counts don't run to the same
// candidate, and so that an idle backend is used evenly.
//
// The choice is exact over loops: the place is reserved only if the count of the
// chosen one is still what was compared.
type LeastConn struct {
	order   *RoundRobin
	places  []*Places
	weights []uint64
}

// NewLeastConn makes it for some candidates. It takes over the turns of the one
// before; nil begins anew.
func NewLeastConn(candidates []Candidate, before *LeastConn) *LeastConn {
	var turns *RoundRobin
	if before != nil {
		turns = before.order
	}
	return &LeastConn{order: NewRoundRobin(candidates, turns), places: placesOf(candidates), weights: weightsOf(candidates)}
}

// Pick reserves a place at the least busy candidate; -1 = all are full. The one to
// avoid (-1 = none) is chosen only when all others are full.
func (l *LeastConn) Pick(_ uint64, avoid int) int {
	if len(l.places) == 0 {
		return none
	}
	start := l.order.next()
	if start != avoid {
		if w := l.places[start].word.Load(); used(w) == 0 && l.places[start].take(w) {
			return start // nothing is less busy than idle
		}
	}
	for {
		best, seen := none, uint64(0)
		i := start
		for range l.places {
			if w := l.places[i].word.Load(); i != avoid && !full(w) &&
				(best == none || lighter(w, l.weights[i], seen, l.weights[best])) {
				best, seen = i, w
			}
			if i++; i == len(l.places) {
				i = 0
			}
		}
		if best == none {
			return reserveFrom(l.places, start, avoid)
		}
		// A failure means that another loop got or gave back a place here.
		if l.places[best].take(seen) {
			return best
		}
	}
}

// lighter tells whether one candidate's load, with one more request, would be below
// another's.
func lighter(a, weightA, b, weightB uint64) bool {
	if used(a) == 0 || used(b) == 0 {
		return used(a) == 0 && used(b) != 0
	}
	return (uint64(used(a))+1)*weightB < (uint64(used(b))+1)*weightA
}

func weightsOf(candidates []Candidate) []uint64 {
	weights := make([]uint64, len(candidates))
	for i, c := range candidates {
		weights[i] = uint64(max(c.Weight, 1))
	}
	return weights
}
