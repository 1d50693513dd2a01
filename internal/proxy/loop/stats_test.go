package loop

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSlowTurns: a turn over 5 ms is counted under what took it.
func TestSlowTurns(t *testing.T) {
	l, clock := newLoop(t)
	owners := make([]owner, 2*watchGroup)
	theirs := make([]int, len(owners))
	for i := range owners {
		theirs[i] = owners[i].open(t, l)
		owners[i].Cause = "client"
	}
	wake := func() {
		for i := range owners {
			write(t, theirs[i], "x")
		}
		l.Turn(0)
	}
	takes := func(i int, took time.Duration) {
		owners[i].do = func(Events) { *clock += int64(took) }
	}
	want := map[string]uint64{}
	check := func(what, cause string) {
		t.Helper()
		if cause != "" {
			want[cause]++
		}
		if diff := cmp.Diff(want, l.Stats().SlowCauses); diff != "" {
			t.Errorf("%s: causes (-want +got):\n%s", what, diff)
		}
	}
	takes(3, 4*time.Millisecond)
	wake()
	check("4 ms", "")
	takes(3, 6*time.Millisecond)
	wake()
	check("6 ms among others of its kind", "client")
	owners[3].Cause = "handshake"
	wake()
	check("measured one by one after the first", "handshake")
	*clock += watchFor + 1
	wake()
	check("among others, not measured", "several")
	for i := range owners {
		takes(i, 500*time.Microsecond)
	}
	wake()
	check("many small ones", "many events")
	var timer Timer
	timer.Init(func() { *clock += int64(7 * time.Millisecond) })
	l.Arm(&timer, *clock)
	*clock += tick
	l.Turn(0)
	check("timer", "timer")
	if n := l.Stats().SlowTurns; n != 5 {
		t.Errorf("SlowTurns = %d, want 5", n)
	}
}
