// Package balance chooses one of a backend's servers for a client that is bound
// to none: round robin, least connections, first, random, and hash.
//
// It owns the algorithms and the count of places in use at a server (Places). It
// promises that a choice and the reservation that it leads to are one: Pick never
// returns a server that is full, and least connections never returns one that
// another loop has just made the busier one. It takes no lock and allocates
// nothing. It knows no health, no names and no queues (upstream does), and it
// draws no random numbers (its caller does).
//
// Each algorithm is made for one set of candidates and never changed; only its
// cursor moves, which all loops share, so that turns are counted once and not once
// per loop. A new set of candidates makes a new one, which may take over the turns
// of the one before.
//
// Read places.go, roundrobin.go (the others lean on it), then any other.
package balance

// Candidate is a server that may be chosen.
type Candidate struct {
	// Places counts what is in use at the server, over all loops. It is also what
	// the server is known by from one set of candidates to the next.
	Places *Places
	// Weight is its share of the work: 1 to 1<<20, in any unit that is the same for
	// all candidates.
	Weight int
	// Seed places the server on the ring of Hash: the same server has the same seed
	// on every machine.
	Seed uint64
}

// none is what Pick returns when no candidate has a free place, and what it takes
// for avoid when none is to be avoided.
const none = -1

// reserveFrom reserves a place at the first candidate that has one, from start on
// and around. The one to avoid is asked last.
func reserveFrom(places []*Places, start, avoid int) int {
	i := start
	for range places {
		if i != avoid && places[i].Reserve() {
			return i
		}
		if i++; i == len(places) {
			i = 0
		}
	}
	if avoid >= 0 && avoid < len(places) && places[avoid].Reserve() {
		return avoid
	}
	return none
}

func placesOf(candidates []Candidate) []*Places {
	places := make([]*Places, len(candidates))
	for i, c := range candidates {
		places[i] = c.Places
	}
	return places
}
