package balance

import "sync/atomic"

// Places counts the places in use at one server against their limit. Both stand in
// one word, so that no interleaving of loops can pass the limit:
//
//	63        32 31         0
//	┌───────────┬───────────┐
//	│   limit   │  in use   │   limit 0 = none
//	└───────────┴───────────┘
//
// The owner keeps it on a cache line of its own: every request writes it twice.
type Places struct {
	word atomic.Uint64
	max  atomic.Uint32
}

// Reserve takes a place; false = all are in use.
func (p *Places) Reserve() bool {
	for {
		w := p.word.Load()
		if full(w) {
			return false
		}
		if p.take(w) {
			return true
		}
	}
}

// take reserves a place if nothing has changed since the word was seen.
func (p *Places) take(seen uint64) bool {
	if !p.word.CompareAndSwap(seen, seen+1) {
		return false
	}
	n := used(seen) + 1
	for {
		m := p.max.Load()
		if n <= m || p.max.CompareAndSwap(m, n) {
			return true
		}
	}
}

// Release gives a place back.
func (p *Places) Release() {
	if used(p.word.Add(^uint64(0))) == ^uint32(0) {
		panic("BUG: a place was given back that was not in use")
	}
}

// SetLimit sets how many places there are; 0 = no limit. Places in use above a
// lower limit stay in use.
func (p *Places) SetLimit(n int) {
	if n < 0 || n > 1<<31-1 {
		panic("BUG: a limit of places out of range")
	}
	for {
		w := p.word.Load()
		if p.word.CompareAndSwap(w, uint64(n)<<32|w&0xffffffff) {
			return
		}
	}
}

// InUse is how many places are in use.
func (p *Places) InUse() int { return int(used(p.word.Load())) }

// Max is the most that were ever in use at a time.
func (p *Places) Max() int { return int(p.max.Load()) }

// Limit is how many places there are; 0 = no limit.
func (p *Places) Limit() int { return int(limit(p.word.Load())) }

// Full tells whether all places are in use.
func (p *Places) Full() bool { return full(p.word.Load()) }

func used(w uint64) uint32  { return uint32(w) }
func limit(w uint64) uint32 { return uint32(w >> 32) }
func full(w uint64) bool    { return limit(w) != 0 && used(w) >= limit(w) }
