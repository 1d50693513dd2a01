package auth

import "sync/atomic"

// counts are the room's counters.
type counts struct {
	logins, failures, remembered              atomic.Uint64
	refusedEarly, refusedBlocked, refusedBusy atomic.Uint64
	blocks, sourcesEvicted, sessionsEvicted   atomic.Uint64
	tokenFailures, saveFailures               atomic.Uint64
	handoversEvicted                          atomic.Uint64
}

// Stats are numbers about the room. Counters count since the start of the process.
type Stats struct {
	// Logins counts sessions that began; Failures wrong names or passwords.
	Logins, Failures uint64
	// Remembered counts calls of Basic that were answered without a hash.
	Remembered uint64
	// RefusedEarly, RefusedBlocked and RefusedBusy count logins that were refused
	// unseen: within a delay, from a blocked source, with too many at once.
	RefusedEarly, RefusedBlocked, RefusedBusy uint64
	// Blocks counts blocks of sources.
	Blocks uint64
	// SourcesEvicted, SessionsEvicted and HandoversEvicted count what full tables gave
	// up.
	SourcesEvicted, SessionsEvicted, HandoversEvicted uint64
	// TokenFailures counts tokens that were refused.
	TokenFailures uint64
	// SaveFailures counts changes that could not be saved.
	SaveFailures uint64

	// Sources, Sessions, Handovers and Tokens are how many there are now.
	Sources, Sessions, Handovers, Tokens int
}

// Stats returns the numbers of this moment.
func (a *Auth) Stats() Stats {
	c := a.counts
	stats := Stats{
		Logins: c.logins.Load(), Failures: c.failures.Load(), Remembered: c.remembered.Load(),
		RefusedEarly: c.refusedEarly.Load(), RefusedBlocked: c.refusedBlocked.Load(), RefusedBusy: c.refusedBusy.Load(),
		Blocks: c.blocks.Load(), SourcesEvicted: c.sourcesEvicted.Load(), SessionsEvicted: c.sessionsEvicted.Load(),
		TokenFailures: c.tokenFailures.Load(), SaveFailures: c.saveFailures.Load(), HandoversEvicted: c.handoversEvicted.Load(),
	}
	a.guard.mu.Lock()
	stats.Sources = len(a.guard.sources)
	a.guard.mu.Unlock()
	a.mu.Lock()
	stats.Sessions, stats.Handovers, stats.Tokens = len(a.sessions), len(a.handovers), len(a.durable.tokens)
	a.mu.Unlock()
	return stats
}
