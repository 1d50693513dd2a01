package apply_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/store"
)

// waiting makes a box that runs A, with B in effect, to be confirmed within a
// minute.
func waiting(t *testing.T) *box {
	t.Helper()
	b := start(t, siteA())
	result := b.mustApply(t, apply.Request{Document: siteB(), Author: "ann", ConfirmWithin: time.Minute})
	if want := time.Now().Add(time.Minute); !result.Deadline.Equal(want) {
		t.Errorf("deadline = %v, want %v", result.Deadline, want)
	}
	b.mustBe(t, siteB(), apply.PhaseWaiting)
	b.names()
	return b
}

// pass lets time go by and everything due be done.
func pass(d time.Duration) {
	time.Sleep(d) // in a bubble: the clock jumps
	synctest.Wait()
}

func TestConfirmation(t *testing.T) {
	const confirmed, returned = "apply.revision.confirmed", "apply.revision.returned"
	tests := map[string]struct {
		do     func(t *testing.T, b *box) *box
		inTime bool
		events []string
	}{
		"in time": {func(t *testing.T, b *box) *box {
			pass(59 * time.Second)
			if err := b.engine.Confirm(t.Context(), b.engine.Accepted(), "ann"); err != nil {
				t.Error(err)
			}
			return b
		}, true, []string{confirmed}},
		"never": {func(t *testing.T, b *box) *box {
			pass(59 * time.Second)
			b.mustBe(t, siteB(), apply.PhaseWaiting)
			pass(time.Second)
			return b
		}, false, []string{returned}},
		"late": {func(t *testing.T, b *box) *box {
			pass(61 * time.Second)
			wantError(t, b.engine.Confirm(t.Context(), b.engine.Accepted(), "ann"), apply.ErrNothingPending)
			return b
		}, false, []string{returned}},
		"by hand": {func(t *testing.T, b *box) *box {
			if err := b.engine.Rollback(t.Context(), "ann"); err != nil {
				t.Error(err)
			}
			wantError(t, b.engine.Rollback(t.Context(), "ann"), apply.ErrNothingPending)
			return b
		}, false, []string{returned}},
		"another apply does not help": {func(t *testing.T, b *box) *box {
			result, err := b.engine.Apply(t.Context(), apply.Request{Document: siteC()})
			wantError(t, err, apply.ErrPending)
			if result.Revision != 0 {
				t.Errorf("it was saved as revision %d", result.Revision)
			}
			pass(time.Minute)
			return b
		}, false, []string{returned}},
		"restart before the deadline, then never": {func(t *testing.T, b *box) *box {
			pass(20 * time.Second)
			b = b.restart(t)
			b.mustBe(t, siteB(), apply.PhaseWaiting)
			if diff := cmp.Diff([]string{"apply.revision.waiting"}, b.names()); diff != "" {
				t.Errorf("events of boot (-want +got):\n%s", diff)
			}
			pass(39 * time.Second)
			b.mustBe(t, siteB(), apply.PhaseWaiting)
			pass(time.Second)
			return b
		}, false, []string{returned}},
		"restart before the deadline, then in time": {func(t *testing.T, b *box) *box {
			b = b.restart(t)
			b.names()
			if err := b.engine.Confirm(t.Context(), b.engine.Accepted(), "ann"); err != nil {
				t.Error(err)
			}
			return b
		}, true, []string{confirmed}},
		"restart after the deadline": {func(t *testing.T, b *box) *box {
			b.engine.Close()
			pass(time.Hour)
			return b.restart(t)
		}, false, []string{returned}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := tt.do(t, waiting(t))
				began := time.Now()
				b.engine.Close()
				if took := time.Since(began); took > 0 {
					t.Errorf("Close took %v: it waited for a timer", took)
				}
				events := b.names()
				pass(time.Hour)
				running, doc := 2, siteA()
				if tt.inTime {
					running, doc = 3, siteB()
				}
				if diff := cmp.Diff(tt.events, events); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				b = b.restart(t)
				b.mustBe(t, doc, apply.PhaseIdle)
				if n, _ := b.store.Running(); n != running {
					t.Errorf("running on disk = %d, want %d", n, running)
				}
			})
		})
	}
}

// A confirmation counts only on a connection accepted after the last step.
func TestConfirmOnOldConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *box
		var during uint64
		b = open(t, t.TempDir(), hooks{effect: func(point string) {
			if !strings.HasPrefix(point, "network remove") { // the very last steps
				return
			}
			during = b.engine.Accepted()
			p, _ := b.store.Pending() // a crash now must lead back
			if p.Phase != store.Applying || p.Revision != 3 || !p.Deadline.Equal(time.Now().Add(time.Minute)) {
				t.Errorf("on disk during the steps: %+v, want revision 3 applying, with a deadline", p)
			}
		}})
		if err := b.engine.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.mustApply(t, apply.Request{Document: siteA()})
		before := b.engine.Accepted()
		b.mustApply(t, apply.Request{Document: siteB(), ConfirmWithin: time.Minute})
		if during <= before {
			t.Fatal("no connection was accepted during the steps")
		}
		for _, conn := range []uint64{0, before, during} {
			wantError(t, b.engine.Confirm(t.Context(), conn, "ann"), apply.ErrOldConnection)
		}
		b.mustBe(t, siteB(), apply.PhaseWaiting)
		if err := b.engine.Confirm(t.Context(), b.engine.Accepted(), "ann"); err != nil {
			t.Error(err)
		}
		b.mustBe(t, siteB(), apply.PhaseIdle)
	})
}

// A clock that was set back while the machine was off does not draw out the wait.
func TestRestartWithClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, siteA())
		tomorrow := time.Now().Add(24 * time.Hour)
		saved, err := b.store.SaveRevision(store.Revision{Parent: 2, Time: tomorrow}, []byte(applytest.Want(siteB()).Active))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.store.SetPending(store.Pending{Revision: saved.Number, Deadline: tomorrow.Add(time.Minute), Phase: store.Waiting}); err != nil {
			t.Fatal(err)
		}
		b = b.restart(t)
		b.mustBe(t, siteB(), apply.PhaseWaiting)
		pass(time.Minute)
		b.mustBe(t, siteA(), apply.PhaseIdle)
	})
}

func TestTwoAdministratorsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, siteA())
		b.recorders[1].Inject(apply.StepAdd, applytest.Fault{Kind: applytest.Hang, Place: applytest.Midway, Times: 1})
		first := make(chan error)
		go func() {
			_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB()})
			first <- err
		}()
		synctest.Wait()
		if s := b.engine.Status(); !s.Applying || s.Phase != apply.PhaseApplying || s.Running != 2 {
			t.Errorf("status during the steps = %+v", s)
		}
		_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteC()})
		wantError(t, err, apply.ErrBusy)

		// Who sets a fact or only looks waits for the steps, or gives up.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = b.engine.Check(ctx, siteC())
		wantError(t, err, context.DeadlineExceeded)
		exclusive := make(chan bool, 1)
		go b.engine.Exclusive(func() { exclusive <- b.engine.Status().Applying })

		wantError(t, <-first, apply.ErrFailed)
		if <-exclusive {
			t.Error("a fact was set during the steps")
		}
		b.mustBe(t, siteA(), apply.PhaseIdle)
		b.mustApply(t, apply.Request{Document: siteC()})
		b.mustBe(t, siteC(), apply.PhaseIdle)
	})
}

// A step that heeds its context is stopped after its time, and all is undone.
func TestHangingStep(t *testing.T) {
	for _, step := range []apply.Step{apply.StepAdd, apply.StepSwitch, apply.StepRemove} {
		t.Run(string(step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, siteA())
				b.recorders[2].Inject(step, applytest.Fault{Kind: applytest.Hang, Place: applytest.Midway})
				began := time.Now()
				_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB()})
				wantError(t, err, apply.ErrFailed)
				wantError(t, err, context.DeadlineExceeded)
				if took := time.Since(began); took != 30*time.Second {
					t.Errorf("it took %v, want 30s", took)
				}
				b.mustBe(t, siteA(), apply.PhaseIdle)
			})
		})
	}
}

// An undo that hangs is stopped, too, and does not stop the others.
func TestHangingUndo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, siteA())
		b.recorders[1].Inject(apply.StepUndo, applytest.Fault{Kind: applytest.Hang, Place: applytest.Before})
		b.recorders[3].Inject(apply.StepRemove, applytest.Fault{Kind: applytest.Fail, Place: applytest.Midway})
		began := time.Now()
		_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB()})
		wantError(t, err, apply.ErrDegraded)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it took %v, want 30s", took)
		}
		if diff := cmp.Diff([]string{"vip"}, blamed(b.engine.Status().Degraded)); diff != "" {
			t.Errorf("listed as degraded (-want +got):\n%s", diff)
		}
		expected := want(siteA())
		expected["vip"] = b.machine.State("vip")
		if diff := diffStates(expected, b.machine.States()); diff != "" {
			t.Errorf("in effect (-want +got):\n%s", diff)
		}
	})
}

// A step that ignores its context is left alone: the others are undone, and its
// subsystem is asked for nothing until it is back.
func TestStuckStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, siteA())
		stuck := b.recorders[2]
		stuck.Inject(apply.StepSwitch, applytest.Fault{Kind: applytest.Stuck, Place: applytest.Before, Times: 1})
		_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB()})
		wantError(t, err, apply.ErrDegraded)
		status := b.engine.Status()
		if diff := cmp.Diff([]string{"firewall"}, blamed(status.Degraded)); diff != "" || status.Degraded[0].Step != apply.StepSwitch {
			t.Errorf("listed as degraded (-want +got):\n%s\n%s", diff, describe(status.Degraded))
		}
		expected := want(siteA())
		expected["firewall"] = applytest.State{Active: applytest.Want(siteA()).Active, Items: []string{
			"backends[shared]", "frontends[a1]", "frontends[a2]", "frontends[b1]", "frontends[b2]",
		}}
		if diff := diffStates(expected, b.machine.States()); diff != "" {
			t.Errorf("in effect (-want +got):\n%s", diff)
		}
		b.machine.ResetJournal()
		_, err = b.engine.Apply(t.Context(), apply.Request{Document: siteC()})
		wantError(t, err, apply.ErrProblems)
		wantError(t, b.engine.Retry(t.Context()), apply.ErrDegraded)
		for _, line := range b.machine.Journal() {
			if strings.HasPrefix(line, "firewall") {
				t.Errorf("asked while its step is stuck: %s", line)
			}
		}
		stuck.Release()
		synctest.Wait()
		if err := b.engine.Retry(t.Context()); err != nil {
			t.Error(err)
		}
		b.mustBe(t, siteA(), apply.PhaseIdle)
	})
}

// A degraded machine keeps the time since when; an apply that goes through ends it.
func TestDegradedUntilApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := waiting(t)
		began := time.Now()
		b.recorders[3].Inject(apply.StepAdd, applytest.Fault{Kind: applytest.Fail, Place: applytest.Before, Times: 2})
		wantError(t, b.engine.Rollback(t.Context(), "ann"), apply.ErrDegraded)
		pass(time.Minute)
		wantError(t, b.engine.Retry(t.Context()), apply.ErrDegraded)
		left := b.engine.Status().Degraded
		if len(left) != 1 || !left[0].Since.Equal(began) || !strings.Contains(left[0].Message.String(), "proxy was told to fail") {
			t.Errorf("degraded = %+v, want the proxy's own words, since %v", left, began)
		}
		b.mustApply(t, apply.Request{Document: siteC()})
		b.mustBe(t, siteC(), apply.PhaseIdle)
		want := []string{"apply.box.degraded", "apply.revision.returned", "apply.revision.applied", "apply.box.recovered"}
		if diff := cmp.Diff(want, b.names()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// Close waits for the steps of an apply, and stops the deadline of what waits.
func TestCloseDuringApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, siteA())
		b.recorders[0].Inject(apply.StepRemove, applytest.Fault{Kind: applytest.Hang, Place: applytest.Before})
		done := make(chan error, 1)
		go func() {
			_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB()})
			done <- err
		}()
		synctest.Wait()
		b.engine.Close()
		b.mustBe(t, siteA(), apply.PhaseIdle) // and not in the midst of it
		wantError(t, <-done, apply.ErrFailed)
		for _, err := range []error{
			b.engine.Retry(t.Context()), b.engine.Rollback(t.Context(), "ann"), b.engine.Confirm(t.Context(), 1, "ann"),
		} {
			wantError(t, err, apply.ErrStopped)
		}
		if !slices.Equal(b.names(), []string{"apply.revision.applied", "apply.revision.failed"}) {
			t.Error("events other than of the two applies")
		}
	})
}
