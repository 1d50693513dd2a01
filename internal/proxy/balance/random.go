package balance

// Random draws two candidates, each with a chance that goes by its weight, and
// chooses the less busy one.
type Random struct {
	order   *RoundRobin // its cycle is what is drawn from
	places  []*Places
	weights []uint64
}

// NewRandom makes it for some candidates.
func NewRandom(candidates []Candidate) *Random {
	return &Random{order: NewRoundRobin(candidates, nil), places: placesOf(candidates), weights: weightsOf(candidates)}
}

// Pick reserves a place by a random number; -1 = all candidates are full. The one
// to avoid (-1 = none) is asked last.
func (r *Random) Pick(chance uint64, avoid int) int {
	if len(r.places) == 0 {
		return none
	}
	a, b := r.order.turn(chance>>32), r.order.turn(chance&0xffffffff)
	if lighter(r.places[b].word.Load(), r.weights[b], r.places[a].word.Load(), r.weights[a]) {
		a, b = b, a
	}
	if a != avoid && r.places[a].Reserve() {
		return a
	}
	if b != avoid && r.places[b].Reserve() {
		return b
	}
	return reserveFrom(r.places, b, avoid)
}
