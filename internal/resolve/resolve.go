// Package resolve turns the names of servers into addresses: it asks the DNS, asks
// again when an answer's lifetime has ended, and hands each server's address to
// the data plane.
//
// It promises that a server keeps its last good address whatever the DNS does,
// also over a restart; that an answer is believed only if it is one to the
// question asked, from the server asked; that names in the hosts file come first;
// that servers with the same name share one lookup; and that no change of the
// configuration waits for the DNS. A lookup moves a server only when the address it
// has is no longer among those of its name.
//
// It does not check answers by DNSSEC, spread the clients of one server over the
// addresses of its name, or look up names for anything but servers.
//
// Reading order: resolve.go (the set of names), prepare.go (a change), name.go (the
// goroutine of one name), ask.go (from a name to addresses), exchange.go (one
// question to one DNS server), hosts.go (the machine's files), state.go (what is
// kept).
package resolve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluis/internal/event"
	"sluis/internal/text"
)

const (
	// minLifetime and maxLifetime bound the lifetimes of answers.
	minLifetime, maxLifetime = time.Second, time.Hour
	// minRetry and maxRetry bound the pause after a failed lookup; it doubles.
	minRetry, maxRetry = time.Second, 30 * time.Second
	// maxAddresses is how many addresses of a name are kept.
	maxAddresses = 16
	// maxLookups is how many lookups run at once; the others wait.
	maxLookups = 32
	// filesPause is how often the hosts file and resolv.conf are looked at.
	filesPause = 5 * time.Second
	// savePause gathers what is saved together.
	savePause = time.Second
)

// Options are what a Resolver needs of others. Set, LoadState and SaveState are
// required.
type Options struct {
	// Set tells the data plane where a server is: in Switch and Undo directly, else
	// inside Exclusive. The same address may be told again. Nothing is told of a name
	// that has never had an address.
	Set func(backend, server string, address netip.Addr)
	// Exclusive runs a function while no change of the configuration is made; nil =
	// at once. Switch, Undo and Prepare don't call it.
	Exclusive func(func())
	// Publish tells an event; nil tells nobody.
	Publish func(event.Event)
	// LoadState reads what SaveState last kept; nothing and no error where there is
	// none yet.
	LoadState func() ([]byte, error)
	// SaveState keeps the last good addresses durably.
	SaveState func([]byte) error
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// SystemServers are the DNS servers for a document that names none, in the order
	// in which they are asked; nil = those of /etc/resolv.conf.
	SystemServers func() []netip.AddrPort
	// HostsFile has the names that come before the DNS; empty = /etc/hosts.
	HostsFile string
}

// Resolver looks names up. All methods may be called from any goroutine.
type Resolver struct {
	options Options
	hosts   *hostsFile
	system  *systemServers // nil = Options.SystemServers is asked
	places  chan struct{}  // holds one element for each lookup that runs
	stats   counters
	// try is how long one try at one server may take; tests shorten it.
	try time.Duration
	// look finds a name's addresses; tests of times take another.
	look func(ctx context.Context, host string, present netip.Addr, s settings) (answer, text.Msg)

	dirty, retell chan struct{} // to the keeper; room for one each
	cancel        context.CancelFunc
	running       sync.WaitGroup // the keeper and the names

	// changing serializes Switch, Undo and Close.
	changing sync.Mutex
	closed   bool // guarded by changing

	// mu guards all below, and everything in the names but what says otherwise. It
	// is taken after changing.
	mu       sync.Mutex
	desired  *desired
	names    map[string]*name
	facts    map[string]fact // last good addresses of names that nobody uses now
	lost     bool            // the kept facts could not be read
	saved    []byte          // the state as last kept; nil = not known
	saveFail error           // why it could not be kept last time; nil = it could
}

// user is a server that has a name.
type user struct{ backend, server string }

// settings are how names are looked up.
type settings struct {
	servers []netip.AddrPort // empty = the system's
	domain  string           // completes a name without a dot; empty = none
}

type counters struct {
	lookups, failures, waited, queries, overTCP, unanswered, mismatched, cut, saves, saveErrors atomic.Uint64
}

// Stats are the counters since the start.
type Stats struct {
	Names      int    `json:"names"`       // that are looked up now
	Lookups    uint64 `json:"lookups"`     // of names, that have ended
	Failures   uint64 `json:"failures"`    // of these
	Waited     uint64 `json:"waited"`      // lookups that waited for others
	Queries    uint64 `json:"queries"`     // to DNS servers
	OverTCP    uint64 `json:"over_tcp"`    // of these
	Unanswered uint64 `json:"unanswered"`  // of these
	Mismatched uint64 `json:"mismatched"`  // messages that answered no question of ours
	Cut        uint64 `json:"cut"`         // answers with more addresses than are kept
	Saves      uint64 `json:"saves"`       // of the facts
	SaveErrors uint64 `json:"save_errors"` // of these
}

// New makes a resolver that looks nothing up yet, and reads the kept addresses. It
// fails when they cannot be fetched or a newer Sluis wrote them. Damaged ones don't
// keep an appliance from starting: Prepare warns.
func New(options Options) (*Resolver, error) {
	if options.Publish == nil {
		options.Publish = func(event.Event) {}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Exclusive == nil {
		options.Exclusive = func(f func()) { f() }
	}
	if options.HostsFile == "" {
		options.HostsFile = "/etc/hosts"
	}
	r := &Resolver{
		options: options, hosts: &hostsFile{file: watchedFile{path: options.HostsFile}}, places: make(chan struct{}, maxLookups), try: 2 * time.Second,
		dirty: make(chan struct{}, 1), retell: make(chan struct{}, 1),
		desired: &desired{}, names: make(map[string]*name), facts: make(map[string]fact),
	}
	if options.SystemServers == nil {
		r.system = &systemServers{file: watchedFile{path: "/etc/resolv.conf"}}
		r.options.SystemServers = r.system.list
	}
	r.look = r.ask
	data, err := options.LoadState()
	if err == nil && len(data) > 0 {
		r.facts, err = decodeState(data)
		if err != nil && !errors.Is(err, errNewer) {
			r.facts, r.lost, err = make(map[string]fact), true, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load the addresses of names: %w", err)
	}
	if !r.lost {
		r.saved = r.encodeState()
	}
	r.filesChanged() // from here on
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.keep(ctx) })
	return r, nil
}

// Claims are the parts of the document that a Resolver puts into effect. The
// addresses of servers are the data plane's.
func (*Resolver) Claims() []string { return []string{"system.dns_servers"} }

// Address is the last good address of a server that the document in effect gives by
// name; false = there is none.
func (r *Resolver) Address(backend, server string) (netip.Addr, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[r.desired.names[user{backend, server}]]
	if n == nil || !n.fact.Address.IsValid() {
		return netip.Addr{}, false
	}
	return n.fact.Address, true
}

// Status is what is known of all names in use, by name.
func (r *Resolver) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	statuses := make([]Status, 0, len(r.names))
	for _, host := range slices.Sorted(maps.Keys(r.names)) {
		statuses = append(statuses, r.names[host].status())
	}
	return statuses
}

// Stats are the counters.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	names := len(r.names)
	r.mu.Unlock()
	s := &r.stats
	return Stats{
		Names: names, Lookups: s.lookups.Load(), Failures: s.failures.Load(), Waited: s.waited.Load(),
		Queries: s.queries.Load(), OverTCP: s.overTCP.Load(), Unanswered: s.unanswered.Load(), Mismatched: s.mismatched.Load(),
		Cut: s.cut.Load(), Saves: s.saves.Load(), SaveErrors: s.saveErrors.Load(),
	}
}

// Close ends all lookups, waits for what is under way, and keeps what is not kept
// yet. It must not be called from inside Exclusive or a change. It may be called twice.
func (r *Resolver) Close() {
	r.changing.Lock()
	r.closed = true
	r.mu.Lock()
	for _, n := range r.names {
		n.cancel()
	}
	r.mu.Unlock()
	r.changing.Unlock() // a change that waits for it may hold what Exclusive waits for
	r.cancel()
	r.running.Wait()
	r.save()
}

// set makes the desired names those that are looked up, and tells the data plane the
// addresses that are known.
func (r *Resolver) set(next *desired) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.closed {
		return
	}
	r.mu.Lock()
	anew := !next.settings.equal(r.desired.settings)
	r.desired = next
	users := next.users()
	for host, n := range r.names {
		if users[host] == nil {
			n.cancel()
			delete(r.names, host)
			if n.fact.Address.IsValid() {
				r.facts[host] = n.fact
			}
		}
	}
	for host, list := range users {
		n := r.names[host]
		switch {
		case n == nil:
			n = r.begin(host)
		case anew:
			n.wakeUp()
		}
		n.users = list
	}
	r.mu.Unlock()
	r.tellAll()
	signal(r.retell)
}

// begin starts the lookups of a name. Needs mu and changing.
func (r *Resolver) begin(host string) *name {
	ctx, cancel := context.WithCancel(context.Background())
	n := &name{resolver: r, host: host, cancel: cancel, wake: make(chan struct{}, 1), fact: r.facts[host]}
	n.fact.Name = host
	delete(r.facts, host)
	r.names[host] = n
	r.running.Go(func() { n.run(ctx) })
	return n
}

// tellAll tells the data plane every address that is known.
func (r *Resolver) tellAll() {
	type known struct {
		user
		address netip.Addr
	}
	var all []known
	r.mu.Lock()
	for u, host := range r.desired.names {
		if n := r.names[host]; n != nil && n.fact.Address.IsValid() {
			all = append(all, known{u, n.fact.Address})
		}
	}
	r.mu.Unlock()
	for _, k := range all {
		r.options.Set(k.backend, k.server, k.address)
	}
}

// keep is the keeper's goroutine: it saves facts, tells addresses once more after a
// change is done (a step that was undone later may have made servers anew), and
// wakes the names when a file changed that they depend on.
func (r *Resolver) keep(ctx context.Context) {
	files := time.NewTicker(filesPause)
	defer files.Stop()
	var due <-chan time.Time // when to save; nil = nothing is to be saved
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.retell:
			r.options.Exclusive(r.tellAll)
		case <-r.dirty:
			if due == nil {
				due = time.After(savePause)
			}
		case <-due:
			due = nil
			if r.save() != nil {
				due = time.After(maxRetry)
			}
		case <-files.C:
			if r.filesChanged() {
				r.wakeAll()
			}
		}
	}
}

// filesChanged reports whether a file that names depend on changed since the last
// call.
func (r *Resolver) filesChanged() bool {
	changed := r.hosts.file.changed()
	if r.system != nil && r.system.file.changed() {
		changed = true
	}
	return changed
}

func (r *Resolver) wakeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		n.wakeUp()
	}
}

// signal leaves one signal in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
