package health

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluis/internal/config"

	"github.com/google/go-cmp/cmp"
)

// script answers the n-th connection (from 0) to any server with its n-th letter,
// and the last one for ever:
//
//   - status 200   5 status 500   x refused   t never connects   ! out of descriptors
func script(letters string) func(context.Context, netip.AddrPort) (func(net.Conn), error) {
	var count atomic.Int64
	return func(ctx context.Context, _ netip.AddrPort) (func(net.Conn), error) {
		switch letters[min(int(count.Add(1))-1, len(letters)-1)] {
		case '+':
			return replies(status(200)), nil
		case '5':
			return replies(status(500)), nil
		case 't':
			<-ctx.Done()
			return nil, ctx.Err()
		case '!':
			return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
		}
		return nil, errRefused
	}
}

// The counting of rise and fall is HAProxy's: seen with 2.6.12 for the first
// verdicts, and in check_health of its checks for the others.
func TestRiseAndFall(t *testing.T) {
	tests := []struct {
		name, script string
		want         []string // the reports in order, each with the second it came in
	}{
		{"a good server", "+", []string{"0 up L7OK"}},
		{"the first bad answer takes it out", "5", []string{"0 down L7STS"}},
		{"two good ones bring it back", "x+", []string{"0 down L4CON", "2 up L7OK"}},
		{"a single good one doesn't", "x+x", []string{"0 down L4CON"}},
		{"three bad ones take out a proven server", "+555", []string{"0 up L7OK", "3 down L7STS"}},
		{"two don't", "+55+55+", []string{"0 up L7OK"}},
		// HAProxy: a good answer on the way down gives back the full health.
		{"bad ones must be in a row", "+55+5+55+", []string{"0 up L7OK"}},
		{"no connection in time", "t", []string{"1 down L4TOUT"}},
		{"our own shortage is no answer", "+!!!!!!", []string{"0 up L7OK"}},
		{"down and up again", "+xxx++", []string{"0 up L7OK", "3 down L4CON", "5 up L7OK"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				b := inMemory(t, Options{})
				b.serves(script(tt.script))
				b.apply(web("192.0.2.1:80"))
				var got []string
				for range 10 {
					synctest.Wait()
					for _, r := range b.takeReports() {
						f := strings.Fields(r)
						got = append(got, fmt.Sprintf("%.0f %s %s", time.Since(begin).Seconds(), f[1], strings.TrimSuffix(f[2], ":")))
					}
					time.Sleep(time.Second)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
				b.Close()
			})
		})
	}
}

func TestStatusAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(script("++555x++"))
		b.apply(web("192.0.2.1:80"))
		time.Sleep(4*time.Second + time.Millisecond)
		s := b.must("a")
		if s.Up || s.Code != L7STS || s.HTTPStatus != 500 || s.Health != 0 || s.Downs != 1 || s.Probes != 5 || s.Bad != 3 {
			t.Errorf("status after three bad answers: %+v", s)
		}
		if s.LastGood == nil || !strings.HasPrefix(s.LastGood.Response, "HTTP/1.1 200") || s.FirstBad == nil || !strings.HasPrefix(s.FirstBad.Response, "HTTP/1.1 500") {
			t.Errorf("kept: %+v and %+v", s.LastGood, s.FirstBad)
		}
		if at := s.FirstBad.Start.Sub(s.LastGood.Start); at != time.Second {
			t.Errorf("the first bad answer stands %s after the last good one, want 1s", at)
		}
		time.Sleep(3 * time.Second)
		s = b.must("a")
		if !s.Up || len(s.Transitions) != 2 || s.Transitions[1].After != config.Duration(3*time.Second) {
			t.Errorf("status after recovery: %+v", s)
		}
		var names []string
		for _, e := range b.eventsSoFar() {
			names = append(names, e.EventName()+": "+e.Text().String())
		}
		want := []string{
			"health.server.down: the server a of web is down: the server answered with status 500, and 200-399 is expected (L7STS)",
			"health.server.up: the server a of web is up again after 3s: the server answered with status 200 (L7OK)",
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if got := b.Stats(); got.Servers != 1 || got.Downs != 1 || got.Ups != 1 || got.Probes != 8 || got.Bad != 4 || got.Running != 0 {
			t.Errorf("Stats = %+v", got)
		}
		if n := len(b.All()); n != 1 {
			t.Errorf("All has %d servers", n)
		}
		b.Close()
	})
}

func TestTransitionsAreBoundedAndQuietWithoutLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(script(strings.Repeat("x+", 500)))
		doc := web("192.0.2.1:80")
		doc.Backends[0].Check.Rise, doc.Backends[0].Check.Fall, doc.Backends[0].Check.Log = 1, 1, false
		b.apply(doc)
		time.Sleep(200 * time.Second)
		if s := b.must("a"); len(s.Transitions) != maxTransitions || s.Downs < 90 {
			t.Errorf("%d transitions kept of %d times down", len(s.Transitions), s.Downs)
		}
		if len(b.eventsSoFar()) != 0 {
			t.Errorf("%d events though the check doesn't log", len(b.eventsSoFar()))
		}
		b.Close()
	})
}

func TestManyServersAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const servers, places = 1000, 16
		b := inMemory(t, Options{MaxProbes: places})
		doc := web()
		for i := range servers {
			doc.Backends[0].Servers = append(doc.Backends[0].Servers, config.Server{Name: fmt.Sprint(i), Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), Port: 80})
		}
		doc.Backends[0].Check.Interval = config.Duration(10 * time.Second)
		begin := time.Now()
		starts := make(chan time.Duration, 10*servers)
		now, most := 0, 0 // guarded by the box's lock
		var slow atomic.Int64
		b.serves(func(context.Context, netip.AddrPort) (func(net.Conn), error) {
			starts <- time.Since(begin)
			return func(c net.Conn) {
				b.lock(func() { now++; most = max(most, now) })
				time.Sleep(time.Duration(slow.Load()))
				b.lock(func() { now-- }) // before the answer, which lets the next one come
				replies(status(200))(c)
			}, nil
		})
		b.apply(doc)
		time.Sleep(9 * time.Second)
		times := take(starts)
		if len(times) < servers || times[servers-1] > time.Second {
			t.Errorf("%d first probes, the last after %s; want %d within 1s", len(times), times[len(times)-1], servers)
		}
		if n := busiest(times[:servers], 10*time.Millisecond); n > 11 {
			t.Errorf("%d first probes within 10ms, want 10 or so", n)
		}
		time.Sleep(60 * time.Second)
		times = take(starts)
		if n := busiest(times, 100*time.Millisecond); n > 25 {
			t.Errorf("%d probes within 100ms, want 1,000 spread over half an interval", n)
		}
		// All places taken: the others wait, and are counted.
		slow.Store(int64(time.Second))
		time.Sleep(30 * time.Second)
		atOnce := 0
		b.lock(func() { atOnce = most })
		if atOnce > places || b.Stats().Waited == 0 {
			t.Errorf("%d probes at once, %d waited, want at most %d", atOnce, b.Stats().Waited, places)
		}
		b.Close()
		time.Sleep(time.Second) // for the servers to end
	})
}

func take(c chan time.Duration) []time.Duration {
	var all []time.Duration
	for {
		select {
		case d := <-c:
			all = append(all, d)
		default:
			return all
		}
	}
}

// busiest is how many of the times lie within one window.
func busiest(times []time.Duration, window time.Duration) int {
	slices.Sort(times)
	most, from := 0, 0
	for i, d := range times {
		for d-times[from] >= window {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(script("t"))
		doc := web("192.0.2.1:80")
		doc.Backends[0].Check.Timeout = config.Duration(2500 * time.Millisecond)
		b.apply(doc)
		time.Sleep(time.Minute)
		// One probe at a time, the next at once when the last took longer than the interval.
		if n := b.dialled("192.0.2.1:80"); n != 24 && n != 25 {
			t.Errorf("%d probes of 2.5s in a minute, want 24", n)
		}
		b.Close()
	})
}

func TestChangeOfConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		down := map[string]bool{"192.0.2.2:80": true}
		b.serves(func(_ context.Context, to netip.AddrPort) (func(net.Conn), error) {
			refuses := false
			b.lock(func() { refuses = down[to.String()] })
			if refuses {
				return nil, errRefused
			}
			return replies(status(200)), nil
		})
		first := web("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
		b.apply(first)
		time.Sleep(2500 * time.Millisecond)
		b.takeReports()
		watchA := b.watches[key{"web", "a"}]

		// The same again, with a server more: the others go on undisturbed.
		second := clone(first)
		second.Backends[0].Servers = append(second.Backends[0].Servers, config.Server{Name: "d", Address: "192.0.2.4", Port: 80})
		b.apply(second)
		if b.watches[key{"web", "a"}] != watchA {
			t.Error("an unchanged check was started anew")
		}
		synctest.Wait()
		if got := b.takeReports(); len(got) != 1 || !strings.HasPrefix(got[0], "web/d up") {
			t.Errorf("reports after a server was added: %q", got)
		}

		// Another question: b stays down and is told so again, a stays up, until there is
		// a verdict.
		third := clone(second)
		third.Backends[0].Check.Path = "/health"
		undo := b.apply(third)
		synctest.Wait()
		if got := b.takeReports(); len(got) != 2 || !strings.HasPrefix(got[0], "web/b down L4CON") && !strings.HasPrefix(got[1], "web/b down L4CON") {
			t.Errorf("reports as the question changed: %q", got)
		}
		if s := b.must("b"); s.Up || s.Proven || len(s.Transitions) != 1 {
			t.Errorf("status of b as the question changed: %+v", s)
		}
		b.lock(func() { down["192.0.2.2:80"] = false })
		time.Sleep(1900 * time.Millisecond)
		if !b.must("b").Up {
			t.Error("b didn't come back by its second good answer")
		}

		// Undone, and a removed server is no longer asked.
		if err := undo.Undo(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.apply(web("192.0.2.1:80"))
		synctest.Wait()
		before := b.dialled("192.0.2.2:80")
		time.Sleep(5 * time.Second)
		if after := b.dialled("192.0.2.2:80"); after != before {
			t.Errorf("a removed server was asked %d times", after-before)
		}
		if _, ok := b.Status("web", "b"); ok {
			t.Error("a removed server has a status")
		}
		b.Close()
	})
}

// Undo knows what was known of a server that the change had removed.
func TestUndoRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(script("x"))
		b.apply(web("192.0.2.1:80"))
		time.Sleep(1500 * time.Millisecond)
		change := b.apply(&config.Document{})
		if len(b.All()) != 0 {
			t.Fatal("a server is asked that is gone")
		}
		b.takeReports()
		change.Undo(context.Background())
		synctest.Wait()
		if s := b.must("a"); s.Up || s.Downs != 1 {
			t.Errorf("status after Undo: %+v", s)
		}
		if got := b.takeReports(); len(got) == 0 || !strings.HasPrefix(got[0], "web/a down") {
			t.Errorf("reports after Undo: %q", got)
		}
		b.Close()
	})
}

// A pace that changes takes nothing from what was proven.
func TestChangeOfPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(script("++55+"))
		doc := web("192.0.2.1:80")
		b.apply(doc)
		time.Sleep(1500 * time.Millisecond)
		slower := clone(doc)
		slower.Backends[0].Check.Interval, slower.Backends[0].Check.Fall = config.Duration(2*time.Second), 4
		b.apply(slower)
		time.Sleep(10 * time.Second)
		if s := b.must("a"); !s.Up || s.Downs != 0 || s.Health != 5 {
			t.Errorf("status: %+v", s)
		}
		b.Close()
	})
}

func TestServerByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(script("+"))
		doc := web("web1.example.net")
		doc.Backends[0].Check.Interval = config.Duration(time.Minute) // the address is looked for sooner
		b.apply(doc)
		time.Sleep(5 * time.Second)
		if s := b.must("a"); !s.Up || s.Proven || s.Waiting.IsZero() || len(b.takeReports()) != 0 {
			t.Errorf("status without an address: %+v", s)
		}
		b.mu.Lock()
		b.addresses["a"] = netip.MustParseAddr("192.0.2.7")
		b.mu.Unlock()
		time.Sleep(1100 * time.Millisecond)
		if s := b.must("a"); !s.Proven || !s.Waiting.IsZero() || b.dialled("192.0.2.7:80") == 0 {
			t.Errorf("status with an address: %+v", s)
		}
		b.Close()
	})
}

func TestWhoIsAsked(t *testing.T) {
	doc := web("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
	doc.Backends[0].Servers[0].Disabled = true
	doc.Backends[0].Servers[1].NoCheck = true
	doc.Backends = append(doc.Backends, config.Backend{Name: "plain", Servers: []config.Server{{Name: "x", Address: "192.0.2.9", Port: 80}}})
	change, problems := newBox(t, Options{}).Prepare(context.Background(), doc)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, s := range change.desired {
		got = append(got, s.backend+"/"+s.server)
	}
	if diff := cmp.Diff([]string{"web/c"}, got); diff != "" {
		t.Errorf("who is asked (-want +got):\n%s", diff)
	}
	doc.Backends[0].AgentCheck = &config.AgentCheck{Port: 9999, Interval: config.Duration(time.Second)}
	change, _ = newBox(t, Options{}).Prepare(context.Background(), doc)
	if len(change.desired) != 2 || change.desired[0].check != nil || change.desired[0].agent == nil {
		t.Errorf("no_check keeps the agent from being asked: %+v", change.desired)
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		b.serves(func(context.Context, netip.AddrPort) (func(net.Conn), error) {
			return func(c net.Conn) { io.Copy(io.Discard, c) }, nil
		})
		doc := web("192.0.2.1:80")
		doc.Backends[0].Check.Timeout = config.Duration(time.Minute)
		b.apply(doc)
		time.Sleep(time.Second)
		begin := time.Now()
		b.Close()
		b.Close()
		if d := time.Since(begin); d != 0 || len(b.takeReports()) != 0 {
			t.Errorf("Close took %s and told %q", d, b.reports)
		}
	})
}
