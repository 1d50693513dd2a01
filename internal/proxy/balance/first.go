package balance

// First chooses the first candidate that has a free place, so that the others may
// sleep; weights mean nothing to it.
type First struct {
	places []*Places
}

// NewFirst makes it for some candidates, in their order.
func NewFirst(candidates []Candidate) *First {
	return &First{places: placesOf(candidates)}
}

// Pick reserves a place; -1 = all candidates are full. The one to avoid (-1 = none)
// is asked last.
func (f *First) Pick(_ uint64, avoid int) int {
	return reserveFrom(f.places, 0, avoid)
}
