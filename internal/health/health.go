// Package health asks servers whether they are well: it makes a backend's active
// checks and agent checks, counts good and bad answers, and tells the data plane
// when a server goes down or comes back.
//
// It promises the behaviour of HAProxy's checks where HAProxy has one, that a
// check which a change of the configuration leaves alone goes on undisturbed,
// that at most Options.MaxProbes probes run at once with one connection each, and
// that what it keeps of each server (counters, transitions, two transcripts) is
// bounded. A shortage of this machine (no descriptors, no memory, no ports) is no
// answer of a server and changes nothing.
//
// It does not look at what requests meet (passive results belong to the data
// plane), resolve names, or keep anything over a restart: a server is believed to
// be up at first, and the first bad answer takes it out.
//
// Reading order: health.go (the set of checks), prepare.go (a change), spec.go
// (what one check asks), server.go (the goroutine of one server), state.go (what
// is known of it), probe.go, http.go, tls.go and agent.go (asking), transcript.go
// and reason.go (what came back).
package health

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluis/internal/event"
	"sluis/internal/text"
)

// Options are what a Checker needs of others. Report, Agent, Address and
// Certificate are required. All may be called from several goroutines at once,
// but those of one server come one after another; one that is under way while a
// change is made may still come after it, for a server that the change removed.
type Options struct {
	// Report tells the data plane that a server is up or down: at its first verdict,
	// at each change, and once more where a change of its check starts anew while it
	// is down. The same state may be told again.
	Report func(backend, server string, up bool, reason text.Msg)
	// Agent tells what an agent asks for beyond up and down, which are part of what
	// Report tells: at each answer, the same again too.
	Agent func(backend, server string, word AgentWord)
	// Address is the last good address of a server that the document gives by name.
	// While there is none the server isn't asked.
	Address func(backend, server string) (netip.Addr, bool)
	// Certificate is the certificate of that name with its key; nil = there is none.
	Certificate func(name string) *tls.Certificate
	// Publish tells an event; nil tells nobody.
	Publish func(event.Event)
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Dial makes the connection of a probe; nil = TCP.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// MaxProbes is how many probes run at once, the others wait; 0 = 512.
	MaxProbes int
}

// maxForced bounds the probes that people ask for by hand; they have places of
// their own, so that they answer while many servers hang.
const maxForced = 8

// Checker asks servers. All methods may be called from any goroutine.
type Checker struct {
	options Options
	places  chan struct{} // holds one element for each probe that runs
	forced  chan struct{} // the same for Probe
	stats   counters

	// changing serializes Switch, Undo and Close.
	changing sync.Mutex
	closed   bool // guarded by changing

	// mu guards the map itself; a watch in it is replaced, never changed. It is
	// taken after changing.
	mu      sync.Mutex
	watches map[key]*watch
}

// key is the identity of a server over all changes.
type key struct{ backend, server string }

// counters are Stats as they are counted.
type counters struct {
	running                                              atomic.Int64
	probes, bad, unanswered, waited, refused, ups, downs atomic.Uint64
	agentProbes, agentErrors, cut                        atomic.Uint64
}

// Stats are the counters of all checks since the start.
type Stats struct {
	Servers     int    `json:"servers"`      // servers that are asked now
	Running     int    `json:"running"`      // probes under way now
	Probes      uint64 `json:"probes"`       // probes of checks that ended with a verdict
	Bad         uint64 `json:"bad"`          // those with a bad one
	Unanswered  uint64 `json:"unanswered"`   // those without one, for a shortage of this machine
	Waited      uint64 `json:"waited"`       // probes that waited for a free place
	Refused     uint64 `json:"refused"`      // forced probes refused because too many ran
	Ups         uint64 `json:"ups"`          // servers that came back
	Downs       uint64 `json:"downs"`        // servers that went down
	AgentProbes uint64 `json:"agent_probes"` // questions to agents
	AgentErrors uint64 `json:"agent_errors"` // those without an answer that can be read
	Cut         uint64 `json:"cut"`          // answers longer than is read of them
}

// New makes a checker that asks nobody yet.
func New(options Options) *Checker {
	if options.Publish == nil {
		options.Publish = func(event.Event) {}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Dial == nil {
		options.Dial = dialTCP
	}
	if options.MaxProbes <= 0 {
		options.MaxProbes = 512
	}
	return &Checker{
		options: options,
		places:  make(chan struct{}, options.MaxProbes),
		forced:  make(chan struct{}, maxForced),
		watches: make(map[key]*watch),
	}
}

// Claims are the parts of the document that a Checker puts into effect.
func (*Checker) Claims() []string {
	return []string{"backends[].check", "backends[].agent_check", "backends[].servers[].no_check"}
}

// Status is what is known of one server; false = it isn't checked.
func (c *Checker) Status(backend, server string) (Status, bool) {
	c.mu.Lock()
	w := c.watches[key{backend, server}]
	c.mu.Unlock()
	if w == nil {
		return Status{}, false
	}
	return w.status(), true
}

// All is what is known of all checked servers, by backend and name.
func (c *Checker) All() []Status {
	c.mu.Lock()
	all := make([]*watch, 0, len(c.watches))
	for _, w := range c.watches {
		all = append(all, w)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b *watch) int {
		return cmp.Or(cmp.Compare(a.spec.backend, b.spec.backend), cmp.Compare(a.spec.server, b.spec.server))
	})
	statuses := make([]Status, len(all))
	for i, w := range all {
		statuses[i] = w.status()
	}
	return statuses
}

// Stats are the counters.
func (c *Checker) Stats() Stats {
	c.mu.Lock()
	servers := len(c.watches)
	c.mu.Unlock()
	s := &c.stats
	return Stats{
		Servers: servers, Running: int(s.running.Load()),
		Probes: s.probes.Load(), Bad: s.bad.Load(), Unanswered: s.unanswered.Load(),
		Waited: s.waited.Load(), Refused: s.refused.Load(), Ups: s.ups.Load(), Downs: s.downs.Load(),
		AgentProbes: s.agentProbes.Load(), AgentErrors: s.agentErrors.Load(), Cut: s.cut.Load(),
	}
}

// Close ends all checks and waits for what is under way. It may be called twice.
func (c *Checker) Close() {
	c.changing.Lock()
	c.closed = true
	c.mu.Lock()
	watches := c.watches
	c.watches = make(map[key]*watch)
	c.mu.Unlock()
	for _, w := range watches {
		w.stop()
	}
	c.changing.Unlock()
	for _, w := range watches {
		<-w.done
	}
}

// set makes the desired checks those that run: equal ones go on undisturbed,
// changed ones start anew with what is known of their servers, others stop and are
// returned. former are stopped ones from which servers that come back get what was
// known of them.
func (c *Checker) set(desired []*spec, former map[key]*watch) (gone map[key]*watch) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed {
		return nil
	}
	c.mu.Lock()
	before := c.watches
	c.mu.Unlock()
	next := make(map[key]*watch, len(desired))
	var starting []*watch
	for _, s := range desired {
		k := key{s.backend, s.server}
		old := before[k]
		if old != nil && old.spec.equal(s) {
			next[k] = old
			continue
		}
		if old == nil {
			old = former[k]
		}
		w := newWatch(c, s, old)
		next[k] = w
		starting = append(starting, w)
	}
	gone = make(map[key]*watch)
	for k, old := range before {
		if next[k] != old {
			old.stop()
		}
		if next[k] == nil {
			gone[k] = old
		}
	}
	c.mu.Lock()
	c.watches = next
	c.mu.Unlock()
	for i, w := range starting {
		w.start(i, len(starting))
	}
	return gone
}
