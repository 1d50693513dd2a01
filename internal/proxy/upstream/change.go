package upstream

import (
	"slices"
	"time"

	"sluis/internal/proxy/balance"
)

// Configure brings the document's settings into effect. They are the whole desired
// state; servers that stay, by name, keep their state, and what the operator set.
func (b *Backend) Configure(settings BackendSettings) {
	b.change(func(now int64) {
		b.settings = settings
		b.settings.Servers = slices.Clone(settings.Servers)
		servers := make([]*Server, 0, len(settings.Servers))
		byName := make(map[string]*Server, len(settings.Servers))
		for _, want := range settings.Servers {
			if byName[want.Name] != nil {
				continue
			}
			s := b.known(want.Name, now)
			s.configure(want, settings)
			servers = append(servers, s)
			byName[want.Name] = s
		}
		b.retire(byName, now)
		b.servers, b.byName = servers, byName
	}, b.set.now())
}

// For how long a server that is gone comes back as it was, and how many are kept.
const (
	goneFor  = 15 * time.Minute
	goneMost = 1024
)

// known is the server of that name: the one that is there, that was there just now,
// or a new one.
func (b *Backend) known(name string, now int64) *Server {
	if s := b.byName[name]; s != nil {
		return s
	}
	s := b.gone[name]
	delete(b.gone, name)
	if s != nil && time.Duration(now-s.goneAt) < goneFor {
		return s
	}
	s = &Server{
		backend: b, name: name, index: b.set.newIndex(), seed: seedOf(name),
		since: now, ownWeight: -1, ownPercent: percent, start: percent,
	}
	s.state.Store(&State{Since: now, Start: percent})
	return s
}

// retire puts the servers aside that are not among the next ones.
func (b *Backend) retire(next map[string]*Server, now int64) {
	for name, s := range b.gone {
		if time.Duration(now-s.goneAt) >= goneFor {
			delete(b.gone, name)
		}
	}
	for _, s := range b.servers {
		if next[s.name] == nil && len(b.gone) < goneMost {
			s.goneAt = now
			b.gone[s.name] = s
		}
	}
}

// seedOf is the server's place on the rings of hashes, the same on every machine
// (FNV-1a).
func seedOf(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

func (s *Server) configure(want ServerSettings, of BackendSettings) {
	want.Checked = want.Checked && of.Checked
	if want.Addr.IsValid() || s.addr.Load() == nil {
		s.setAddr(want.Addr)
	}
	switch {
	case !want.Checked:
		s.health, s.reason = Unknown, ""
	case s.health == Unknown:
		s.health = Checking
	}
	if !of.ManualFailback || want.Backup || !want.Checked {
		s.awaits = false
	}
	s.settings = want
	s.idleLimit.Store(int64(want.IdleLimit))
}

// close ends a backend that is forgotten. Without servers, all who wait stand in its
// own queue.
func (b *Backend) close() {
	b.change(func(int64) { b.servers, b.byName = nil, map[string]*Server{} }, b.set.now())
	b.mu.Lock()
	posts := b.dropAll()
	b.mu.Unlock()
	send(posts)
}

// change is the way of every change: edit what is desired, settle what follows from
// it, make the table, put it into effect, tell who observes.
func (b *Backend) change(edit func(now int64), now int64) {
	b.changing.Lock()
	before := b.servers
	edit(now)
	b.settle(now)
	b.putIntoEffect(b.newTable(), before)
	changes := b.newStates(before, now)
	b.changing.Unlock()
	b.set.tell(changes)
}

// settle finds out what follows from an edit.
func (b *Backend) settle(now int64) {
	if !slices.ContainsFunc(b.servers, (*Server).takesNew) {
		// Nobody else can serve, so nobody is waited for. See the table in state.go.
		for _, s := range b.servers {
			s.awaits = false
		}
	}
	starting := false
	for _, s := range b.servers {
		s.settle(now)
		starting = starting || s.starting
	}
	b.ramping.Store(starting)
}

// stopped tells whether the server is out of service by health or by hand.
func (s *Server) stopped() bool {
	return s.admin == Maintenance || s.health == Down || s.awaits
}

// takesBound and takesNew are the truth table of state.go.
func (s *Server) takesBound() bool {
	return !s.settings.Disabled && s.addr.Load().IsValid() && !s.stopped()
}

func (s *Server) takesNew() bool {
	return s.takesBound() && s.admin == Ready && s.weight() > 0
}

// settle counts the time out of service, and lets who returns from there start
// slowly. Like in HAProxy that is never so for a server that is new.
func (s *Server) settle(now int64) {
	stopped := s.stopped()
	switch {
	case stopped && !s.wasStopped:
		s.stoppedAt = now
		s.starting = false
	case !stopped && s.wasStopped:
		s.downtime += now - s.stoppedAt
		s.starting, s.startFrom = true, now
	}
	s.wasStopped = stopped
	s.start = percent
	if s.starting {
		s.start = startPercent(time.Duration(now-s.startFrom), s.settings.SlowStart)
		s.starting = s.start < percent
	}
}

// startPercent is how much of itself a server gives some time after its return: it
// grows with the time, in steps of a second, and never is nothing.
func startPercent(passed, whole time.Duration) int {
	steps := passed / time.Second * time.Second
	if steps >= whole {
		return percent
	}
	return max(1, int(steps*percent/whole))
}

// weight is the server's share in hundredths, without slow start.
func (s *Server) weight() int {
	w := s.settings.Weight * s.ownPercent
	if s.ownWeight >= 0 {
		w = s.ownWeight * percent
	}
	return min(w, maxWeight*percent)
}

// share is the weight that balancing goes by.
func (s *Server) share(a algorithm) int {
	w := s.weight()
	if a == staticRoundRobin && s.settings.Weight > 0 {
		return s.settings.Weight * percent
	}
	return max(1, w*s.start/percent)
}

func (s *Server) limit() int {
	n := s.settings.MaxConnections
	if n == 0 {
		return 0
	}
	return max(1, n*s.start/percent)
}

// newTable is the table of those who may be chosen now. It is the one in effect
// where nothing has changed.
func (b *Backend) newTable() *table {
	t := &table{algorithm: algorithmOf(b.settings.Balance)}
	for _, s := range b.servers {
		if s.takesNew() && !s.settings.Backup {
			t.candidates = append(t.candidates, s)
		}
	}
	if len(t.candidates) == 0 {
		for _, s := range b.servers {
			if s.takesNew() {
				t.candidates = []*Server{s}
				break
			}
		}
	}
	full := percent
	for _, s := range b.servers {
		full = max(full, s.settings.Weight*percent)
	}
	cs := make([]balance.Candidate, len(t.candidates))
	for i, s := range t.candidates {
		t.shares = append(t.shares, s.share(t.algorithm))
		cs[i] = balance.Candidate{Places: &s.places, Weight: t.shares[i], Seed: s.seed}
	}
	t.full, t.among = full, len(b.servers)
	old := b.table.Load()
	if t.same(old) {
		return old
	}
	t.fill(cs, old)
	return t
}

func (t *table) same(o *table) bool {
	return t.algorithm == o.algorithm && slices.Equal(t.candidates, o.candidates) && slices.Equal(t.shares, o.shares) &&
		(t.algorithm != hashing || t.full == o.full && t.among == o.among)
}

// fill makes the algorithm, which goes on where the one before stands.
func (t *table) fill(cs []balance.Candidate, old *table) {
	turns, _ := old.pick.(*balance.RoundRobin)
	switch t.algorithm {
	case leastConnections:
		least, _ := old.pick.(*balance.LeastConn)
		t.pick = balance.NewLeastConn(cs, least)
	case first:
		t.pick = balance.NewFirst(cs)
	case random:
		t.pick = balance.NewRandom(cs)
	case hashing:
		t.hash = balance.NewHash(cs, t.full, t.among)
		t.pick = balance.NewRoundRobin(cs, turns)
	default:
		t.pick = balance.NewRoundRobin(cs, turns)
	}
}

// putIntoEffect shows the loops what has changed, all of it under mu, so that no
// place is given out by a part of it. Before are the servers that there were.
func (b *Backend) putIntoEffect(t *table, before []*Server) {
	servers := b.servers
	b.all.Store(&servers)
	b.mu.Lock()
	for _, s := range before {
		if b.byName[s.name] != s {
			s.candidate = false
			s.usable.Store(false)
			s.bound.Store(false)
			s.idleLimit.Store(0)
		}
	}
	for _, s := range b.servers {
		s.candidate = false
		s.usable.Store(s.takesNew())
		s.bound.Store(s.takesBound())
		s.places.SetLimit(s.limit())
	}
	for _, s := range t.candidates {
		s.candidate = true
	}
	b.table.Store(t)
	b.maxQueue = b.settings.MaxQueue
	var posts []post
	if b.waiting > 0 {
		posts = b.requeue(before)
	}
	b.mu.Unlock()
	send(posts)
}

// newStates shows the servers' states and returns which have changed. A server that
// is gone counts as disabled, for who still holds it.
func (b *Backend) newStates(before []*Server, now int64) []Change {
	usable := b.Usable()
	b.noteDowntime(usable, now)
	for _, s := range before {
		if b.byName[s.name] != s {
			state := s.State()
			state.Disabled, state.Usable, state.Bound, state.Serving = true, false, false, false
			s.state.Store(&state)
		}
	}
	var changes []Change
	for _, s := range b.servers {
		old := s.state.Load()
		if s.health != old.Health || s.admin != old.Admin || s.awaits != old.AwaitsReady {
			s.since = now
		}
		state := s.newState()
		if state == *old {
			continue
		}
		s.state.Store(&state)
		changes = append(changes, Change{
			Number: b.set.numbers.Add(1), At: now, Backend: b, Server: s,
			Before: *old, After: state, Usable: usable,
		})
	}
	return changes
}

func (s *Server) newState() State {
	return State{
		Health: s.health, Admin: s.admin, AwaitsReady: s.awaits,
		Disabled: s.settings.Disabled, Backup: s.settings.Backup,
		Weight: (s.weight() + percent - 1) / percent, Start: s.start,
		Usable: s.takesNew(), Bound: s.takesBound(), Serving: s.candidate,
		Address: s.Addr(), Since: s.since, Reason: s.reason,
	}
}

// noteDowntime counts the time in which no server was usable.
func (b *Backend) noteDowntime(usable int, now int64) {
	switch {
	case usable == 0 && b.wasUsable:
		b.downSince, b.lastChange = now, now
	case usable > 0 && !b.wasUsable:
		if b.everUsable {
			b.downtime += now - b.downSince
		}
		b.lastChange = now
		b.everUsable = true
	}
	b.wasUsable = usable > 0
}
