package balance

import (
	"cmp"
	"math/bits"
	"slices"
)

// Hash gives each key to one candidate. Candidates have points on a ring, as many
// as their weight says; a key belongs to the next point. A candidate that comes,
// goes or changes its weight moves no keys but its own.
type Hash struct {
	places []*Places
	ring   []point
	// starts leads into the ring: by a key's highest bits, all but shift, the first
	// point that can be its own.
	starts []uint32
	shift  uint8
}

type point struct {
	at  uint64
	who uint32
}

// The points of a candidate of full weight: the more, the more even are the shares.
const (
	mostPoints  = 512
	ringPoints  = 65536 // over all candidates, unless that leaves one less than leastPoints
	leastPoints = 32
)

// NewHash makes the ring of some candidates. A candidate whose weight is full has
// all points of one among so many; full and among must not follow the candidates'
// health, else keys of others would move.
func NewHash(candidates []Candidate, full, among int) *Hash {
	h := &Hash{places: placesOf(candidates)}
	each := min(mostPoints, max(leastPoints, ringPoints/max(among, 1)))
	for i, c := range candidates {
		n := (each*c.Weight + full - 1) / max(full, 1)
		for k := range min(max(n, 1), 4*each) {
			h.ring = append(h.ring, point{mix(c.Seed + mix(uint64(k))), uint32(i)})
		}
	}
	slices.SortFunc(h.ring, func(a, b point) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		return cmp.Compare(candidates[a.who].Seed, candidates[b.who].Seed)
	})
	h.lead()
	return h
}

// lead makes the starts, about two for each point, so that few points are passed
// over in a search.
func (h *Hash) lead() {
	width := bits.Len(uint(len(h.ring))) + 1
	h.shift = uint8(64 - width)
	h.starts = make([]uint32, 1<<width)
	next := uint32(0)
	for i := range h.starts {
		for next < uint32(len(h.ring)) && h.ring[next].at>>h.shift < uint64(i) {
			next++
		}
		h.starts[i] = next
	}
}

// Owner is the candidate that a key belongs to, full or not; -1 = there is none.
// The one to avoid (-1 = none) owns it only when there is no other.
func (h *Hash) Owner(key uint64, avoid int) int {
	if len(h.ring) == 0 {
		return none
	}
	at := mix(key)
	low := int(h.starts[at>>h.shift])
	for low < len(h.ring) && h.ring[low].at < at {
		low++
	}
	for range h.ring {
		if low == len(h.ring) {
			low = 0
		}
		if who := int(h.ring[low].who); who != avoid {
			return who
		}
		low++
	}
	return avoid
}

// Pick reserves a place at the key's owner; -1 = the owner is full: the key waits
// for it.
func (h *Hash) Pick(key uint64, avoid int) int {
	i := h.Owner(key, avoid)
	if i == none || !h.places[i].Reserve() {
		return none
	}
	return i
}

// mix spreads a number's bits over all 64 (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
