package resolve

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sluis/internal/text"
)

// Source is who said where a name is.
type Source string

// The sources.
const (
	FromDNS   Source = "dns"       // a DNS server
	FromHosts Source = "hosts"     // the machine's hosts file
	FromRule  Source = "localhost" // RFC 6761 6.3
)

// Status is what is known of one name.
type Status struct {
	Name string `json:"name"`
	// Servers have this name, as backend/server.
	Servers []string `json:"servers"`
	// Address is the one in use; not valid = there was never one. Addresses are all
	// of the last good answer.
	Address   netip.Addr   `json:"address"`
	Addresses []netip.Addr `json:"addresses"`
	Source    Source       `json:"source,omitempty"`
	// Good is when the addresses were last found so, perhaps before a restart.
	Good time.Time `json:"good,omitzero"`
	// Last is when a lookup last ended, Next when the next one is due.
	Last time.Time `json:"last,omitzero"`
	Next time.Time `json:"next,omitzero"`
	// Failures counts the lookups that failed since a good one; Error is the last of
	// them.
	Failures int      `json:"failures"`
	Error    text.Msg `json:"error,omitzero"`
}

// name is one name with its lookups, one after the other in a goroutine of its own.
type name struct {
	resolver *Resolver
	host     string
	cancel   context.CancelFunc
	wake     chan struct{} // room for one: look it up now

	// All below is guarded by the resolver's mu.
	users      []user
	fact       fact
	last, next time.Time
	failures   int
	problem    text.Msg // of the last failed lookup; zero after a good one
	kept       time.Time
}

// run looks the name up until the context ends.
func (n *name) run(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		case <-n.wake:
		}
		pause, ok := n.lookup(ctx)
		if !ok {
			return
		}
		due.Reset(pause)
	}
}

func (n *name) wakeUp() { signal(n.wake) }

// lookup looks the name up once and says when to do so again; false = the context
// has ended.
func (n *name) lookup(ctx context.Context) (time.Duration, bool) {
	r := n.resolver
	if !r.enter(ctx) {
		return 0, false
	}
	r.mu.Lock()
	present, s := n.fact.Address, r.desired.settings
	r.mu.Unlock()
	found, problem := r.look(ctx, n.host, present, s)
	<-r.places
	if ctx.Err() != nil {
		return 0, false
	}
	r.stats.lookups.Add(1)
	if !problem.IsZero() {
		r.stats.failures.Add(1)
		return n.failed(problem), true
	}
	return n.found(found), true
}

// enter waits for a place among the lookups.
func (r *Resolver) enter(ctx context.Context) bool {
	select {
	case r.places <- struct{}{}:
		return true
	default:
	}
	r.stats.waited.Add(1)
	select {
	case r.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// failed notes a failed lookup; the address stays.
func (n *name) failed(problem text.Msg) time.Duration {
	r, now := n.resolver, n.resolver.options.Now()
	r.mu.Lock()
	pause := min(minRetry<<min(n.failures, 10), maxRetry)
	first := n.failures == 0
	n.failures++
	n.problem, n.last, n.next = problem, now, now.Add(pause)
	address := n.fact.Address
	r.mu.Unlock()
	if first {
		r.options.Publish(NameFailed{Name: n.host, Reason: problem, Kept: address})
	}
	return pause
}

// found takes a good answer: the present address stays while it is among them.
func (n *name) found(a answer) time.Duration {
	r, now := n.resolver, n.resolver.options.Now()
	if len(a.addresses) > maxAddresses {
		r.stats.cut.Add(1)
	}
	r.mu.Lock()
	was, failures := n.fact.Address, n.failures
	chosen := a.addresses[0]
	if slices.Contains(a.addresses, was) {
		chosen = was
	}
	addresses := slices.Clone(a.addresses[:min(len(a.addresses), maxAddresses)])
	same := chosen == was && a.source == n.fact.Source && sameSet(addresses, n.fact.Addresses)
	n.fact = fact{Name: n.host, Address: chosen, Addresses: addresses, Source: a.source, Good: now}
	pause := min(max(a.lifetime, minLifetime), maxLifetime)
	n.failures, n.problem, n.last, n.next = 0, text.Msg{}, now, now.Add(pause)
	// The age of what is the same is kept now and then, not at each answer.
	if !same || now.Sub(n.kept) >= time.Hour {
		n.kept = now
		signal(r.dirty)
	}
	r.mu.Unlock()
	if failures > 0 {
		r.options.Publish(NameRecovered{Name: n.host, Address: chosen, Failures: failures})
	}
	if chosen != was {
		if was.IsValid() {
			r.options.Publish(NameChanged{Name: n.host, From: was, To: chosen})
		}
		r.options.Exclusive(n.tell)
	}
	return pause
}

// tell hands the address to the data plane, for those that have the name by now.
func (n *name) tell() {
	r := n.resolver
	r.mu.Lock()
	users, address := n.users, n.fact.Address
	if r.names[n.host] != n {
		users = nil
	}
	r.mu.Unlock()
	for _, u := range users {
		r.options.Set(u.backend, u.server, address)
	}
}

// sameSet reports whether two answers have the same addresses: DNS servers turn
// their order from answer to answer.
func sameSet(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	x, y := slices.Clone(a), slices.Clone(b)
	slices.SortFunc(x, netip.Addr.Compare)
	slices.SortFunc(y, netip.Addr.Compare)
	return slices.Equal(x, y)
}

// status needs the resolver's mu.
func (n *name) status() Status {
	s := Status{
		Name: n.host, Address: n.fact.Address, Addresses: slices.Clone(n.fact.Addresses), Source: n.fact.Source, Good: n.fact.Good,
		Last: n.last, Next: n.next, Failures: n.failures, Error: n.problem,
	}
	for _, u := range n.users {
		s.Servers = append(s.Servers, u.backend+"/"+u.server)
	}
	return s
}
