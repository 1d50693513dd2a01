package upstream

import (
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"sluis/internal/proxy/loop"
)

// TestFirstComeFirstServed: a queue over all loops has one order.
func TestFirstComeFirstServed(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops []*loop.Loop) {
		settings := BackendSettings{Servers: servers("a")}
		settings.Servers[0].MaxConnections = 1
		b, _ := newTestBackend(settings)
		a := b.Server("a")
		first := &Waiter{}
		b.Take(first, Wish{})
		var order []int
		claims := make([]*Waiter, 40)
		for i := range claims {
			w := &Waiter{Loop: loops[(i*7)%len(loops)]}
			w.Granted = func() { order = append(order, i) }
			claims[i] = w
			wish := Wish{}
			if i%3 == 0 {
				wish.Server = a // in the server's own queue
			}
			if got := b.Take(w, wish); got != Queued {
				t.Fatalf("Take %d = %v", i, got)
			}
		}
		if s, q := a.Stats(), b.Stats(); s.Queued != 14 || s.QueueMax != 14 || q.Queued != 26 || q.QueueMax != 26 || q.Waited != 40 {
			t.Errorf("stats %+v and %+v", s, q)
		}
		for holder := first; holder != nil; {
			holder.Release()
			for _, l := range loops {
				l.Turn(0)
			}
			holder = nil
			for _, w := range claims {
				if w.Server != nil {
					holder = w
				}
			}
		}
		if len(order) != 40 || !slices.IsSorted(order) {
			t.Errorf("order = %v", order)
		}
		if s := a.Stats(); s.Total != 41 || s.Balanced != 27 || s.MaxInUse != 1 {
			t.Errorf("stats = %+v", s)
		}
	})
}

// TestTakeAllocatesNothing: also for waiting, after the first time; what a waiter needs for waiting stays with it.
func TestTakeAllocatesNothing(t *testing.T) {
	l, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, balance := range []string{"roundrobin", "leastconn", "first", "random", "source"} {
		settings := BackendSettings{Balance: balance, Servers: servers("a b c")}
		b, _ := newTestBackend(settings)
		w := &Waiter{Loop: l}
		wish := Wish{Hash: 42, Avoid: b.Server("a")}
		f := func() { b.Take(w, wish); w.Release() }
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: Take and Release allocate %.0f objects", balance, n)
		}
		for i := range settings.Servers {
			settings.Servers[i].MaxConnections = 1
		}
		b.Configure(settings)
		var holders [3]Waiter
		for i := range holders {
			b.Take(&holders[i], Wish{Server: b.Servers()[i]})
		}
		w.Granted = func() {}
		g := func() {
			if b.Take(w, Wish{Hash: 1}) != Queued {
				t.Fatal("there is a place")
			}
			for i := range holders {
				s := holders[i].Server
				holders[i].Release()
				l.Turn(0)
				if w.Server == nil {
					b.Take(&holders[i], Wish{Server: s})
					continue
				}
				w.Release()
				b.Take(&holders[i], Wish{Server: s})
				return
			}
		}
		if n := testing.AllocsPerRun(1000, g); n != 0 {
			t.Errorf("%s: waiting allocates %.0f objects", balance, n)
		}
	}
}

// TestNobodyPasses: while a place is being given back, somebody comes anew. The test
// stands between the two halves of Release: the place is free, and who waits does not
// have it yet.
func TestNobodyPasses(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops []*loop.Loop) {
		for _, c := range []struct{ waits, comes bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
			settings := BackendSettings{Servers: servers("a")}
			settings.Servers[0].MaxConnections = 1
			b, _ := newTestBackend(settings)
			a := b.Server("a")
			wish := func(bound bool) Wish {
				if bound {
					return Wish{Server: a, Force: true}
				}
				return Wish{}
			}
			b.Take(&Waiter{}, Wish{})
			waits := &Waiter{Loop: loops[0], Granted: func() {}}
			comes := &Waiter{Loop: loops[len(loops)-1], Granted: func() {}}
			b.Take(waits, wish(c.waits))
			a.places.Release()
			if outcome := b.Take(comes, wish(c.comes)); outcome != Queued || comes.Ahead > 1 {
				t.Errorf("%+v: who comes anew: %v", c, outcome)
			}
			for _, l := range loops {
				l.Turn(0)
			}
			if waits.Server != a || !comes.Waiting() || a.InUse() != 1 {
				t.Errorf("%+v: the place went to the wrong one", c)
			}
		}
	})
}

// TestLateMail: a place's mail that comes after its waiter was cancelled, and waits
// anew, does no harm.
func TestLateMail(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops []*loop.Loop) {
		settings := BackendSettings{Servers: servers("a")}
		settings.Servers[0].MaxConnections = 1
		b, _ := newTestBackend(settings)
		a := b.Server("a")
		var holder Waiter
		b.Take(&holder, Wish{})
		calls := 0
		w := &Waiter{Loop: loops[len(loops)-1], Granted: func() { calls++ }}
		b.Take(w, Wish{})
		holder.Release() // the mail is on its way
		b.Cancel(w)
		if a.InUse() != 0 {
			t.Fatalf("in use = %d after Cancel", a.InUse())
		}
		b.Cancel(w) // again: nothing
		b.Take(&holder, Wish{})
		b.Take(w, Wish{})
		for _, l := range loops {
			l.Turn(0)
		}
		if calls != 0 || !w.Waiting() || w.Server != nil {
			t.Errorf("the late mail granted a place: %d calls", calls)
		}
		holder.Release()
		for _, l := range loops {
			l.Turn(0)
		}
		if calls != 1 || w.Server != a || a.InUse() != 1 {
			t.Errorf("%d calls, in use %d", calls, a.InUse())
		}
	})
}

// TestPlacesStandAlone: what each request writes shares its cache line with nothing
// that others read.
func TestPlacesStandAlone(t *testing.T) {
	var s Server
	before := unsafe.Offsetof(s.places) - unsafe.Offsetof(s.seed) - unsafe.Sizeof(s.seed)
	between := unsafe.Offsetof(s.idle) - unsafe.Offsetof(s.chosen) - unsafe.Sizeof(s.chosen)
	after := unsafe.Offsetof(s.queued) - unsafe.Offsetof(s.idle) - unsafe.Sizeof(s.idle)
	if before < 64 || between < 64 || after < 64 || unsafe.Offsetof(s.chosen)-unsafe.Offsetof(s.places) > 56 {
		t.Errorf("%d bytes before the places, %d behind, %d behind the idle count", before, between, after)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, balance := range []string{"roundrobin", "leastconn"} {
		for _, limit := range []int{0, 1000} {
			settings := BackendSettings{Balance: balance, Servers: servers("a b c")}
			for i := range settings.Servers {
				settings.Servers[i].MaxConnections = limit
			}
			backend, _ := newTestBackend(settings)
			b.Run(fmt.Sprintf("%s/limit=%d", balance, limit), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					var w Waiter
					for pb.Next() {
						backend.Take(&w, Wish{})
						w.Release()
					}
				})
			})
		}
	}
	b.Run("cookie", func(b *testing.B) {
		backend, _ := newTestBackend(BackendSettings{Servers: servers("a b c")})
		b.RunParallel(func(pb *testing.PB) {
			var w Waiter
			for pb.Next() {
				backend.Take(&w, Wish{Server: backend.Servers()[1], Force: true})
				w.Release()
			}
		})
	})
}
