package upstream

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that tests set, in ns.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() int64           { return c.ns.Load() }
func (c *clock) step(d time.Duration) { c.ns.Add(int64(d)) }

func address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 443)
}

// servers are settings for some names; a capital first letter makes a backup.
func servers(names string) []ServerSettings {
	var out []ServerSettings
	for i, name := range strings.Fields(names) {
		out = append(out, ServerSettings{
			Name: name, Addr: address(i + 1), Weight: 1, Checked: true, Backup: name[0] < 'a',
		})
	}
	return out
}

func newTestBackend(settings BackendSettings) (*Backend, *clock) {
	c := &clock{}
	c.step(time.Hour)
	b := NewSet(c.now).Backend("b")
	settings.Checked = true
	b.Configure(settings)
	return b, c
}

// serving are the names of the servers that new clients come to.
func serving(b *Backend) string {
	var names []string
	for _, s := range b.Servers() {
		if s.State().Serving {
			names = append(names, s.Name())
		}
	}
	return strings.Join(names, " ")
}

// TestTruthTable is the table of state.go.
func TestTruthTable(t *testing.T) {
	disabled := func(s *ServerSettings) { s.Disabled = true }
	noAddress := func(s *ServerSettings) { s.Addr = netip.AddrPort{} }
	noWeight := func(s *ServerSettings) { s.Weight = 0 }
	backup := func(s *ServerSettings) { s.Backup = true }
	unchecked := func(s *ServerSettings) { s.Checked = false }
	up := func(s *Server) { s.SetHealth(true, "") }
	down := func(s *Server) { s.SetHealth(false, "connection refused") }
	drain := func(s *Server) { s.SetAdmin(Drain) }
	maintenance := func(s *Server) { s.SetAdmin(Maintenance) }
	recover := func(s *Server) { down(s); up(s) }
	weightless := func(s *Server) { s.SetWeight(0) }
	type settings = []func(*ServerSettings)
	type acts = []func(*Server)
	for _, c := range []struct {
		name       string
		settings   settings
		acts       acts
		new, bound bool
	}{
		{"disabled", settings{disabled}, acts{up}, false, false},
		{"address not known", settings{noAddress}, acts{up}, false, false},
		{"maintenance", nil, acts{up, maintenance}, false, false},
		{"maintenance and down", nil, acts{down, maintenance}, false, false},
		{"down", nil, acts{down}, false, false},
		{"down and drained", nil, acts{down, drain}, false, false},
		{"recovered", nil, acts{recover}, false, false},
		{"recovered, drained", nil, acts{recover, drain}, false, false},
		{"recovered, down again", nil, acts{recover, down}, false, false},
		{"recovered, returned", nil, acts{recover, (*Server).ReturnToService}, true, true},
		{"recovered, ready", nil, acts{recover, func(s *Server) { s.SetAdmin(Ready) }}, true, true},
		{"recovered backup", settings{backup}, acts{recover}, true, true},
		{"drain", nil, acts{up, drain}, false, true},
		{"weight 0", settings{noWeight}, acts{up}, false, true},
		{"weight 0 by hand", nil, acts{up, weightless}, false, true},
		{"weight by hand", settings{noWeight}, acts{up, func(s *Server) { s.SetWeight(3) }}, true, true},
		{"half of the weight 1", nil, acts{up, func(s *Server) { s.SetWeightPercent(50) }}, true, true},
		{"up", nil, acts{up}, true, true},
		{"checking", nil, nil, true, true},
		{"not checked", settings{unchecked}, acts{down}, true, true},
	} {
		b, _ := newTestBackend(BackendSettings{})
		all := servers("tested other")
		for _, f := range c.settings {
			f(&all[0])
		}
		b.Configure(BackendSettings{Servers: all, ManualFailback: true, Checked: true})
		s := b.Server("tested")
		for _, f := range c.acts {
			f(s)
		}
		state := s.State()
		if state.Usable != c.new || state.Bound != c.bound || s.Usable() != c.new || s.accepts(true) != c.bound {
			t.Errorf("%s: usable %v, bound %v; want %v, %v", c.name, state.Usable, state.Bound, c.new, c.bound)
		}
		// What the table says is what happens.
		w := &Waiter{}
		if b.Take(w, Wish{Server: s, Force: true}); (w.Server == s) != c.bound {
			t.Errorf("%s: a bound client came to %v", c.name, w.Server.Name())
		}
		b.Server("other").SetAdmin(Maintenance)
		for range 3 {
			w = &Waiter{}
			outcome := b.Take(w, Wish{})
			if c.name == "recovered" {
				// Nobody else can serve any more.
				if outcome != Taken || s.State().AwaitsReady {
					t.Errorf("%s: %v and awaiting %v where it is the last one", c.name, outcome, s.State().AwaitsReady)
				}
			} else if (outcome == Taken) != c.new {
				t.Errorf("%s: a new client: %v", c.name, outcome)
			}
		}
	}
}

// TestManualFailback plays what an operator of a pair of servers sees: an active one
// that fails, its backup, and their returns.
func TestManualFailback(t *testing.T) {
	b, _ := newTestBackend(BackendSettings{Servers: servers("a B"), ManualFailback: true})
	a, backup := b.Server("a"), b.Server("B")
	step := func(what string, f func(), want string, awaits bool) {
		t.Helper()
		f()
		if got := serving(b); got != want || a.State().AwaitsReady != awaits {
			t.Fatalf("%s: serving %q, awaiting %v; want %q, %v", what, got, a.State().AwaitsReady, want, awaits)
		}
	}
	up := func(s *Server) func() { return func() { s.SetHealth(true, "") } }
	down := func(s *Server) func() { return func() { s.SetHealth(false, "") } }
	step("start", up(a), "a", false)
	step("the backup is well too", up(backup), "a", false)
	step("a fails", down(a), "B", false)
	step("a recovers", up(a), "B", true)
	step("a flaps", func() { down(a)(); up(a)() }, "B", true)
	step("the document is applied again", func() {
		b.Configure(BackendSettings{Servers: servers("a B"), ManualFailback: true, Checked: true})
	}, "B", true)
	step("ready", func() { a.SetAdmin(Ready) }, "a", false)
	step("a fails again", down(a), "B", false)
	step("a recovers again", up(a), "B", true)
	step("the backup fails: a is all there is", down(backup), "a", false)
	step("the backup recovers: nobody is moved", up(backup), "a", false)
	step("a fails", down(a), "B", false)
	step("both fail", down(backup), "", false)
	step("a recovers first", up(a), "a", false)
	step("B recovers", up(backup), "a", false)
	step("a fails and recovers", func() { down(a)(); up(a)() }, "B", true)
	step("the document returns clients by itself", func() {
		b.Configure(BackendSettings{Servers: servers("a B"), Checked: true})
	}, "a", false)
	step("a flaps", func() { down(a)(); up(a)() }, "a", false)
}

func TestBackups(t *testing.T) {
	b, _ := newTestBackend(BackendSettings{Servers: servers("A a b B")})
	f := func(name string, up bool, want string) {
		t.Helper()
		b.Server(name).SetHealth(up, "")
		if got := serving(b); got != want || b.Usable() != len(strings.Fields(want)) {
			t.Errorf("after %s up=%v: serving %q (%d usable), want %q", name, up, got, b.Usable(), want)
		}
	}
	f("a", false, "b")
	f("b", false, "A") // the first backup alone
	f("A", false, "B")
	f("B", false, "")
	f("A", true, "A")
	f("b", true, "b")
	stats := b.Stats()
	if stats.Usable != 1 || stats.Active != 1 || stats.Backups != 1 {
		t.Errorf("stats = %+v", stats)
	}
	// A client that is bound to a backup stays there while it is well.
	w := &Waiter{}
	if b.Take(w, Wish{Server: b.Server("A"), Force: true}); w.Server != b.Server("A") {
		t.Errorf("the bound client came to %s", w.Server.Name())
	}
}

func TestSlowStart(t *testing.T) {
	settings := BackendSettings{Servers: servers("a b")}
	for i := range settings.Servers {
		settings.Servers[i].SlowStart = 10 * time.Second
		settings.Servers[i].MaxConnections = 50
	}
	b, c := newTestBackend(settings)
	set := b.set
	a := b.Server("a")
	shares := func() string { return fmt.Sprint(b.table.Load().shares, a.places.Limit()) }
	a.SetHealth(true, "")
	if got := shares(); got != "[100 100] 50" {
		t.Errorf("a new server starts slowly: %s", got)
	}
	a.SetHealth(false, "")
	c.step(time.Minute)
	a.SetHealth(true, "")
	for _, want := range []struct {
		after time.Duration
		share string
	}{
		{0, "[1 100] 1"},
		{900 * time.Millisecond, "[1 100] 1"}, // steps of a second
		{100 * time.Millisecond, "[10 100] 5"},
		{4 * time.Second, "[50 100] 25"},
		{4 * time.Second, "[90 100] 45"},
		{time.Second, "[100 100] 50"},
	} {
		c.step(want.after)
		set.Tick(c.now())
		if got := shares(); got != want.share {
			t.Errorf("shares = %s, want %s", got, want.share)
		}
	}
	if b.ramping.Load() {
		t.Error("it still starts")
	}
	before := b.table.Load()
	set.Tick(c.now())
	if b.table.Load() != before {
		t.Error("a table is made anew though nothing starts")
	}
	// Out of maintenance, and again out while starting.
	a.SetAdmin(Maintenance)
	a.SetAdmin(Ready)
	if got := shares(); got != "[1 100] 1" {
		t.Errorf("out of maintenance: %s", got)
	}
	c.step(5 * time.Second)
	a.SetHealth(false, "")
	a.SetHealth(true, "")
	if state := a.State(); state.Start != 1 || state.Weight != 1 {
		t.Errorf("state = %+v", state)
	}
	// static_rr keeps its weights.
	settings.Balance = "static_rr"
	settings.Checked = true
	b.Configure(settings)
	a.SetWeight(7)
	if got := shares(); got != "[100 100] 1" {
		t.Errorf("static_rr: %s", got)
	}
}

func TestConfigureKeepsState(t *testing.T) {
	b, c := newTestBackend(BackendSettings{Servers: servers("a b c")})
	a, bs := b.Server("a"), b.Server("b")
	a.SetAdmin(Drain)
	bs.SetHealth(false, "no route")
	bs.SetAddr(address(99))
	next := servers("b a d")
	next[0].Addr = netip.AddrPort{} // a name: what was found last stays
	b.Configure(BackendSettings{Servers: next, Checked: true})
	if b.Server("a") != a || b.Server("b") != bs || b.Server("c") != nil {
		t.Error("the servers are not the same ones")
	}
	if a.State().Admin != Drain || bs.State().Health != Down || bs.State().Reason != "no route" || bs.Addr() != address(99) {
		t.Errorf("a = %+v, b = %+v", a.State(), bs.State())
	}
	if d := b.Server("d"); d.Index() != 3 || serving(b) != "d" {
		t.Errorf("d has index %d; serving %q", d.Index(), serving(b))
	}
	// Twice is as once.
	table := b.table.Load()
	b.Configure(BackendSettings{Servers: next, Checked: true})
	if b.table.Load() != table {
		t.Error("a second Configure made another table")
	}
	// An apply that is undone finds its servers as they were; after long they are new.
	b.Configure(BackendSettings{Servers: servers("b"), Checked: true})
	if a.Usable() || !a.State().Disabled {
		t.Errorf("a server that is gone is usable: %+v", a.State())
	}
	b.Configure(BackendSettings{Servers: servers("a b"), Checked: true})
	if b.Server("a") != a || a.State().Admin != Drain {
		t.Error("the server did not come back as it was")
	}
	b.Configure(BackendSettings{Servers: servers("b"), Checked: true})
	c.step(time.Hour)
	b.Configure(BackendSettings{Servers: servers("a b"), Checked: true})
	if s := b.Server("a"); s == a || s.Index() != 4 || s.State().Admin != Ready {
		t.Error("after an hour the old server came back")
	}
}

func TestChangesAreTold(t *testing.T) {
	b, c := newTestBackend(BackendSettings{Servers: servers("a b")})
	var got []string
	stop := b.set.Changed(func(ch Change) {
		ch.Server.Stats() // no lock is held
		got = append(got, fmt.Sprintf("%d %s %s>%s %s %d", ch.Number, ch.Server.Name(), ch.Before.Health, ch.After.Health, ch.After.Reason, ch.Usable))
		if ch.At != c.now() {
			t.Errorf("At = %d", ch.At)
		}
	})
	a := b.Server("a")
	a.SetHealth(true, "ok")
	a.SetHealth(true, "ok")
	c.step(3 * time.Second)
	a.SetHealth(false, "status 500")
	stop()
	c.step(2 * time.Second)
	a.SetHealth(true, "ok")
	if want := "[3 a checking>up ok 2 4 a up>down status 500 1]"; fmt.Sprint(got) != want {
		t.Errorf("told %v, want %s", got, want)
	}
	stats := a.Stats()
	if stats.Downtime != 2e9 || stats.Downs != 1 || stats.LastChange != c.now() {
		t.Errorf("stats = %+v", stats)
	}
	a.SetHealth(false, "")
	b.Server("b").SetAdmin(Maintenance)
	c.step(time.Second)
	if s := b.Stats(); s.Downtime != 1e9 || a.Stats().Downtime != 3e9 {
		t.Errorf("downtime of the backend %d, of the server %d", s.Downtime, a.Stats().Downtime)
	}
}

func TestIdleLimit(t *testing.T) {
	settings := BackendSettings{Servers: servers("a")}
	settings.Servers[0].IdleLimit = 2
	b, _ := newTestBackend(settings)
	a := b.Server("a")
	if got := []bool{a.KeepIdle(), a.KeepIdle(), a.KeepIdle()}; fmt.Sprint(got) != "[true true false]" || a.Idle() != 2 {
		t.Errorf("kept %v, idle = %d of 2", got, a.Idle())
	}
	a.DropIdle()
	if !a.KeepIdle() {
		t.Error("a dropped one frees nothing")
	}
	b.Configure(BackendSettings{})
	if a.DropIdle(); a.KeepIdle() {
		t.Error("a server that is gone keeps connections")
	}
}
