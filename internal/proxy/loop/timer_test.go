package loop

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTimers compares the wheel with the slow and obvious: a list of deadlines.
// No timer runs early, none that is disarmed runs, none is later than promised.
func TestTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type model struct {
			timer    Timer
			deadline int64 // 0: not armed
			latest   int64 // when a turn must have run it
		}
		now := rapid.Int64Range(1, 1e15).Draw(t, "start")
		l, err := New(Options{Now: func() int64 { return now }})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		timers := make([]*model, 20)
		// From a nanosecond to ten days, all magnitudes alike.
		span := func(name string) int64 {
			return int64(math.Exp2(rapid.Float64Range(0, 49.6).Draw(t, name)))
		}
		arm := func(m *model, deadline int64) {
			l.Arm(&m.timer, deadline)
			m.deadline = deadline
			away := deadline - l.Now()
			// One tick of resolution, one by which the wheel's time may lag.
			m.latest = max(deadline, l.Now()) + 2*tick
			if away > int64(time.Second) {
				m.latest += away/15 + tick
			}
		}
		which := rapid.IntRange(0, len(timers)-1)
		act := func() {
			m := timers[which.Draw(t, "timer")]
			switch rapid.IntRange(0, 3).Draw(t, "act") {
			case 0:
				arm(m, 0)
			case 1:
				arm(m, l.Now()-span("past")+1)
			default:
				arm(m, l.Now()+span("ahead"))
			}
		}
		for i := range timers {
			m := &model{}
			timers[i] = m
			m.timer.Init(func() {
				if m.deadline == 0 || l.Now() < m.deadline {
					t.Fatalf("timer %d ran at %d, its deadline is %d", i, l.Now(), m.deadline)
				}
				m.deadline = 0
				// Callbacks change timers that may be about to run in the same turn.
				for range rapid.IntRange(0, 2).Draw(t, "acts inside") {
					act()
				}
			})
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			for range rapid.IntRange(0, 3).Draw(t, "acts") {
				act()
			}
			now += span("step")
			l.Turn(0)
			next := int64(math.MaxInt64)
			for i, m := range timers {
				if m.timer.Deadline() != m.deadline {
					t.Fatalf("timer %d: Deadline() = %d, want %d", i, m.timer.Deadline(), m.deadline)
				}
				if m.deadline == 0 {
					continue
				}
				next = min(next, m.latest)
				if m.latest <= now {
					t.Fatalf("timer %d has not run at %d, its deadline was %d, promised by %d", i, now, m.deadline, m.latest)
				}
			}
			// The loop must not sleep beyond the first promise.
			if next != math.MaxInt64 && !l.wheel.working() && l.wheel.next() > next {
				t.Fatalf("the loop would sleep until %d, a timer is promised by %d", l.wheel.next(), next)
			}
		}
	})
}

// TestTimerWakes: a loop that waits without end wakes for a timer.
func TestTimerWakes(t *testing.T) {
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var timer Timer
	ran := int64(0)
	timer.Init(func() { ran = l.Now() })
	deadline := l.Now() + int64(30*time.Millisecond)
	l.Arm(&timer, deadline)
	turns := 0
	for ; ran == 0; turns++ {
		l.Turn(-1)
	}
	if ran < deadline || turns > 5 {
		t.Errorf("ran at %d after %d turns, deadline %d", ran, turns, deadline)
	}
}

// TestManyTimers: expired timers beyond the bound of a turn run in the next ones,
// in between other work.
func TestManyTimers(t *testing.T) {
	l, clock := newLoop(t)
	timers := make([]Timer, 3*maxExpired)
	ran := 0
	for i := range timers {
		timers[i].Init(func() { ran++ })
		l.Arm(&timers[i], *clock+int64(i%7+1)*tick/2)
	}
	*clock += int64(time.Second)
	for want := maxExpired; want <= len(timers); want += maxExpired {
		l.Turn(-1)
		if ran != want {
			t.Fatalf("%d timers ran, want %d", ran, want)
		}
	}
}

func BenchmarkTimer(b *testing.B) {
	for name, step := range map[string]int64{"later": 1, "earlier": -1} {
		b.Run(name, func(b *testing.B) {
			l, err := New(Options{Now: func() int64 { return 0 }})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			var timer Timer
			timer.Init(func() {})
			at := int64(time.Hour)
			for b.Loop() {
				at += step
				l.Arm(&timer, at)
			}
		})
	}
}
