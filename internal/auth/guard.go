package auth

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluis/internal/text"
)

// Protection are the settings of the login protection. A zero field has its
// default.
type Protection struct {
	// Threshold is how many failed logins of one source lead to a block; default 10.
	// A login that succeeds takes none of them back, else whoever owns some account
	// could go on guessing at others.
	Threshold int
	// BlockTime is how long the first block lasts; default 2 min. Each further one
	// lasts half as long again, up to a day.
	BlockTime time.Duration
	// DetectionTime is how long failures, and blocks after their end, are remembered;
	// default 30 min.
	DetectionTime time.Duration
	// PassList are the networks that are never slowed down or blocked; default none.
	PassList []netip.Prefix
}

func (p Protection) withDefaults() Protection {
	if p.Threshold <= 0 {
		p.Threshold = 10
	}
	if p.BlockTime <= 0 {
		p.BlockTime = 2 * time.Minute
	}
	if p.DetectionTime <= 0 {
		p.DetectionTime = 30 * time.Minute
	}
	return p
}

// Bounds and steps of the protection.
const (
	maxBlock   = 24 * time.Hour
	maxDelay   = 30 * time.Second
	freeTries  = 2               // failures without a delay after them
	busyRetry  = 1 * time.Second // when another attempt is still being checked
	maxSources = 4096
	nameRows   = 4096
)

// offender is what is remembered of a source, or of a name that was tried. The
// guard's mutex guards it.
//
//	failures 1, 2 ──► no delay;  3 ──► 1 s;  4 ──► 2 s;  5 ──► 4 s; … at most 30 s
//	failures = threshold ──► block (a source only); failures start again at 0
type offender struct {
	failures     int       // since the last block
	inFlight     int       // attempts that are being checked right now
	blocks       int       // remembered blocks
	lastFailure  time.Time // zero = never
	blockedUntil time.Time // zero = never
}

func (o *offender) delay() time.Duration {
	if o.failures <= freeTries {
		return 0
	}
	return min(maxDelay, time.Second<<min(o.failures-freeTries-1, 10))
}

// wait returns how long the delay still lasts; zero or less is no longer.
func (o *offender) wait(now time.Time) time.Duration {
	return o.lastFailure.Add(o.delay()).Sub(now)
}

// crowded reports that so many attempts are being checked that a further one could
// get around the delay or, when limit isn't 0, around the threshold.
func (o *offender) crowded(limit int) bool {
	return o.inFlight > 0 && (o.delay() > 0 || limit > 0 && o.failures+o.inFlight >= limit)
}

// forget drops what is older than the detection time and reports whether nothing
// is left.
func (o *offender) forget(now time.Time, detection time.Duration) bool {
	latest := o.lastFailure
	if o.blockedUntil.After(latest) {
		latest = o.blockedUntil
	}
	if !now.Before(latest.Add(detection)) {
		o.failures, o.blocks = 0, 0
	}
	return o.failures == 0 && o.blocks == 0 && o.inFlight == 0
}

// guard counts failed logins by source and by name, and says who must wait. It
// parks nobody: who comes too early is refused at once.
//
// Names are kept in rows by hash, whether an account has them or not: the table
// cannot be filled, and whether a name exists can't be read from its delay.
// Two names in one row share a delay, never a block.
type guard struct {
	counts *counts
	seed   maphash.Seed

	mu      sync.Mutex
	sources map[netip.Prefix]*offender
	names   [nameRows]offender
}

func newGuard(c *counts) *guard {
	return &guard{counts: c, seed: maphash.MakeSeed(), sources: make(map[netip.Prefix]*offender)}
}

// attempt is one login that was let through to be checked. Exactly one of its
// methods succeeded, failed and dropped is called.
type attempt struct {
	guard      *guard
	protection Protection
	prefix     netip.Prefix
	source     *offender // nil for a caller who is exempt
	name       *offender // nil for a caller who is exempt
}

// sourceOf returns what counts as one source: an IPv4 address or an IPv6 /64, which
// is what one subscriber has.
func sourceOf(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	prefix, _ := from.Prefix(bits) // an address has as many bits
	return prefix
}

func exempt(p Protection, from netip.Addr) bool {
	if !from.IsValid() {
		return true
	}
	from = from.Unmap().WithZone("")
	return slices.ContainsFunc(p.PassList, func(pass netip.Prefix) bool { return pass.Contains(from) })
}

// check returns a refusal when the source or the name must wait.
func (g *guard) check(p Protection, name string, from netip.Addr, now time.Time) error {
	if exempt(p, from) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	prefix := sourceOf(from)
	source := g.sources[prefix]
	if source == nil {
		source = new(offender)
	}
	return g.checkLocked(p, prefix, source, g.row(name), now)
}

func (g *guard) checkLocked(p Protection, prefix netip.Prefix, source, name *offender, now time.Time) error {
	source.forget(now, p.DetectionTime)
	name.forget(now, p.DetectionTime)
	if wait := source.blockedUntil.Sub(now); wait > 0 {
		g.counts.refusedBlocked.Add(1)
		r := refuse(Throttled, text.M("logins from {source} are blocked for another {seconds} s after too many failures", "source", prefix, "seconds", seconds(wait)),
			text.M("wait, or ask an administrator to lift the block or to put your network on the pass list"))
		r.RetryAfter = wait
		return r
	}
	if wait := max(source.wait(now), name.wait(now)); wait > 0 {
		return g.early(wait)
	}
	return nil
}

func (g *guard) early(wait time.Duration) error {
	g.counts.refusedEarly.Add(1)
	r := refuse(Throttled, text.M("too many failed logins: try again in {seconds} s", "seconds", seconds(wait)),
		text.M("each further failure makes the wait longer"))
	r.RetryAfter = wait
	return r
}

// begin lets an attempt through or refuses it.
func (g *guard) begin(p Protection, name string, from netip.Addr, now time.Time) (*attempt, error) {
	if exempt(p, from) {
		return &attempt{guard: g, protection: p}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	prefix, row := sourceOf(from), g.row(name)
	source := g.source(prefix, p, now)
	if err := g.checkLocked(p, prefix, source, row, now); err != nil {
		g.release(prefix, source)
		return nil, err
	}
	if source.crowded(p.Threshold) || row.crowded(0) {
		g.release(prefix, source)
		return nil, g.early(busyRetry)
	}
	source.inFlight++
	row.inFlight++
	return &attempt{guard: g, protection: p, prefix: prefix, source: source, name: row}, nil
}

// succeeded ends the attempt. The name's delay is over, its owner is here; the
// source's failures stay.
func (t *attempt) succeeded() {
	t.end(func() { t.name.failures = 0 })
}

// dropped ends an attempt of which nothing was learned.
func (t *attempt) dropped() { t.end(func() {}) }

// failed ends the attempt and returns the block that it led to; zero when none.
func (t *attempt) failed(now time.Time) (blocked SourceBlocked) {
	t.end(func() {
		for _, o := range []*offender{t.source, t.name} {
			o.failures = min(o.failures+1, 1<<20)
			o.lastFailure = now
		}
		if t.source.failures >= t.protection.Threshold {
			blocked = t.block(now)
		}
	})
	return blocked
}

func (t *attempt) block(now time.Time) SourceBlocked {
	length := t.protection.BlockTime
	for range t.source.blocks {
		if length >= maxBlock {
			break
		}
		length += length / 2
	}
	length = min(length, maxBlock)
	failures := t.source.failures
	t.source.blocks++
	t.source.failures = 0
	t.source.blockedUntil = now.Add(length)
	t.guard.counts.blocks.Add(1)
	return SourceBlocked{Source: t.prefix.String(), Failures: failures, Until: t.source.blockedUntil.UTC(), Seconds: seconds(length)}
}

func (t *attempt) end(learn func()) {
	if t.source == nil {
		return
	}
	t.guard.mu.Lock()
	defer t.guard.mu.Unlock()
	t.source.inFlight--
	t.name.inFlight--
	learn()
	t.guard.release(t.prefix, t.source)
}

func (g *guard) row(name string) *offender {
	return &g.names[maphash.String(g.seed, name)%nameRows]
}

// source finds or makes the row of a source. A full table gives up its oldest row,
// blocked ones last.
func (g *guard) source(prefix netip.Prefix, p Protection, now time.Time) *offender {
	if o := g.sources[prefix]; o != nil {
		return o
	}
	if len(g.sources) >= maxSources {
		g.evict(p, now)
	}
	o := new(offender)
	g.sources[prefix] = o
	return o
}

func (g *guard) evict(p Protection, now time.Time) {
	var oldest netip.Prefix
	var worst *offender
	for prefix, o := range g.sources {
		switch {
		case o.forget(now, p.DetectionTime):
			delete(g.sources, prefix)
		case o.inFlight > 0:
		case worst == nil || compareWorth(o, worst, now) < 0:
			oldest, worst = prefix, o
		}
	}
	if len(g.sources) >= maxSources && worst != nil {
		delete(g.sources, oldest)
		g.counts.sourcesEvicted.Add(1)
	}
}

// compareWorth orders offenders by how much is lost when they are forgotten.
func compareWorth(a, b *offender, now time.Time) int {
	aBlocked, bBlocked := max(0, a.blockedUntil.Sub(now)), max(0, b.blockedUntil.Sub(now))
	return cmp.Or(cmp.Compare(aBlocked, bBlocked), a.lastFailure.Compare(b.lastFailure))
}

// release drops a row that remembers nothing.
func (g *guard) release(prefix netip.Prefix, o *offender) {
	if o.failures == 0 && o.blocks == 0 && o.inFlight == 0 {
		delete(g.sources, prefix)
	}
}

// pardon ends the delay of a name whose password was just set.
func (g *guard) pardon(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.row(name).failures = 0
}

// BlockedSource is a source that may not log in.
type BlockedSource struct {
	// Source is an IPv4 /32 or an IPv6 /64.
	Source netip.Prefix
	// Until is when the block ends.
	Until time.Time
}

// BlockedSources lists the sources that are blocked now, by address.
func (a *Auth) BlockedSources() []BlockedSource {
	g := a.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var blocked []BlockedSource
	for prefix, o := range g.sources {
		if o.blockedUntil.After(now) {
			blocked = append(blocked, BlockedSource{prefix, o.blockedUntil})
		}
	}
	slices.SortFunc(blocked, func(a, b BlockedSource) int { return a.Source.Addr().Compare(b.Source.Addr()) })
	return blocked
}

// Unblock lifts the block of the source that has this address and forgets its
// failures. It reports whether there was a block.
func (a *Auth) Unblock(from netip.Addr) bool {
	g := a.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	o := g.sources[sourceOf(from)]
	if o == nil || !o.blockedUntil.After(time.Now()) {
		return false
	}
	o.failures, o.blocks, o.blockedUntil = 0, 0, time.Time{}
	g.release(sourceOf(from), o)
	return true
}
