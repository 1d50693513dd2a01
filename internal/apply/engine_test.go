package apply_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

func TestClaimsOfRecordersExist(t *testing.T) {
	if err := config.CheckClaims(applytest.EveryPart()); err != nil {
		t.Error(err)
	}
}

func TestOrderOfSteps(t *testing.T) {
	b := start(t, siteA())
	b.machine.ResetJournal()
	b.names()
	result := b.mustApply(t, apply.Request{Document: siteB(), Author: "ann", From: "192.0.2.7", Comment: "why", Restores: 1})
	var order []string
	for _, step := range []apply.Step{apply.StepPrepare, apply.StepAdd, apply.StepSwitch} {
		for _, name := range subsystems {
			order = append(order, name+" "+string(step))
		}
	}
	for _, name := range slices.Backward(subsystems) {
		order = append(order, name+" remove")
	}
	if diff := cmp.Diff(order, b.machine.Journal()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	b.mustBe(t, siteB(), apply.PhaseIdle)
	if diff := cmp.Diff([]string{"apply.revision.applied"}, b.names()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(result.Impact) != 2*len(subsystems) || result.Impact[0].Path != "frontends[a1]" {
		t.Errorf("impact = %+v, want both frontends of each subsystem, sorted", result.Impact)
	}
	saved, _, err := b.store.Revision(result.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if saved.Parent != 2 || saved.Author != "ann" || saved.From != "192.0.2.7" || saved.Comment != "why" || saved.Restores != 1 ||
		!slices.Equal(saved.SecretRefs, []string{secretRef}) {
		t.Errorf("saved revision = %+v", saved)
	}
}

// After each failed apply every subsystem is as before, or is listed as
// degraded; and Retry brings those back.
func TestFailureAtEachPlace(t *testing.T) {
	t.Parallel()
	type broken struct {
		at    int // subsystem
		place applytest.Place
	}
	undos := []*broken{nil}
	for at := range subsystems {
		undos = append(undos, &broken{at, applytest.Before}, &broken{at, applytest.Midway})
	}
	b := start(t, siteA())
	for at, name := range subsystems {
		for _, step := range []apply.Step{apply.StepAdd, apply.StepSwitch, apply.StepRemove} {
			for _, place := range []applytest.Place{applytest.Before, applytest.Midway, applytest.After} {
				for i, undo := range undos {
					kind := []applytest.Kind{applytest.Fail, applytest.Panic}[i%2]
					label := fmt.Sprintf("%s %s %s %s", name, kind, place, step)
					b.recorders[at].Inject(step, applytest.Fault{Kind: kind, Place: place})
					// Which plans have begun when the fault comes: all, but for add,
					// where the later ones haven't.
					listed := []string{}
					if undo != nil {
						label += fmt.Sprintf(", undo of %s fails %s", subsystems[undo.at], undo.place)
						b.recorders[undo.at].Inject(apply.StepUndo, applytest.Fault{Kind: applytest.Fail, Place: undo.place})
						if step != apply.StepAdd || undo.at <= at {
							listed = append(listed, subsystems[undo.at])
						}
					}
					undone := slices.Clone(subsystems)
					if step == apply.StepAdd {
						undone = undone[:at+1]
					}
					slices.Reverse(undone)
					checkFailure(t, label, b, name, step, undone, listed)
				}
			}
		}
	}
}

func checkFailure(t *testing.T, label string, b *box, name string, step apply.Step, undone, listed []string) {
	t.Helper()
	b.names()
	b.machine.ResetJournal()
	before := b.machine.States()
	result, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB(), Author: "ann"})
	kind, events := apply.ErrFailed, []string{"apply.revision.failed"}
	if len(listed) > 0 {
		kind, events = apply.ErrDegraded, append(events, "apply.box.degraded")
	}
	var failed *apply.StepError
	if !errors.Is(err, kind) || !errors.As(err, &failed) || failed.Subsystem != name || failed.Step != step {
		t.Errorf("%s: error = %v, want %v", label, err, kind)
	}
	if diff := cmp.Diff(events, b.names()); diff != "" {
		t.Errorf("%s: events (-want +got):\n%s", label, diff)
	}
	var called []string
	for _, line := range b.machine.Journal() {
		if name, isUndo := strings.CutSuffix(line, " undo"); isUndo {
			called = append(called, name)
		}
	}
	if diff := cmp.Diff(undone, called); diff != "" {
		t.Errorf("%s: undone (-want +got):\n%s", label, diff)
	}
	status := b.engine.Status()
	if diff := cmp.Diff(listed, blamed(status.Degraded)); diff != "" {
		t.Errorf("%s: listed as degraded (-want +got):\n%s", label, diff)
	}
	for name, state := range b.machine.States() {
		if !slices.Contains(listed, name) && diffStates(map[string]applytest.State{name: before[name]}, map[string]applytest.State{name: state}) != "" {
			t.Errorf("%s: %s differs and is not listed", label, name)
		}
	}
	if status.Running != 2 || status.Phase != apply.PhaseIdle || result.Revision <= 2 {
		t.Errorf("%s: status = %+v, want revision 2 running", label, status)
	}
	if p, waiting := b.store.Pending(); waiting {
		t.Errorf("%s: on disk revision %d is pending", label, p.Revision)
	}
	for _, r := range b.recorders {
		r.Heal()
	}
	if err := b.engine.Retry(t.Context()); err != nil {
		t.Errorf("%s: retry: %v", label, err)
	}
	if err := b.inEffect(siteA()); err != nil {
		t.Errorf("%s: after retry: %v", label, err)
	}
}

// Going back is best effort: whoever fails is listed, and the others are back.
func TestRollbackGoesOnPastFailures(t *testing.T) {
	t.Parallel()
	b := start(t, siteA())
	for at, name := range subsystems {
		for _, step := range []apply.Step{apply.StepPrepare, apply.StepAdd, apply.StepSwitch, apply.StepRemove} {
			b.mustApply(t, apply.Request{Document: siteB(), ConfirmWithin: time.Hour})
			if step == apply.StepPrepare {
				b.recorders[at].Refuse(func(*config.Document) (ps config.Problems) {
					ps.Add("frontends[a1]", text.M("no"))
					ps.Warn("frontends[a2]", text.M("maybe"))
					return ps
				})
			}
			b.recorders[at].Inject(step, applytest.Fault{Kind: applytest.Fail, Place: applytest.Midway})
			b.names()
			wantError(t, b.engine.Rollback(t.Context(), "ann"), apply.ErrDegraded)
			if diff := cmp.Diff([]string{"apply.box.degraded", "apply.revision.returned"}, b.names()); diff != "" {
				t.Errorf("%s %s: events (-want +got):\n%s", name, step, diff)
			}
			status := b.engine.Status()
			if diff := cmp.Diff([]string{name}, blamed(status.Degraded)); diff != "" || status.Degraded[0].Step != step {
				t.Errorf("%s %s: listed as degraded (-want +got):\n%s\n%s", name, step, diff, describe(status.Degraded))
			}
			for other, state := range b.machine.States() {
				same := diffStates(map[string]applytest.State{other: applytest.Want(siteA())}, map[string]applytest.State{other: state}) == ""
				if same != (other != name) && step != apply.StepSwitch { // a switch has one effect, so its fault comes after it
					t.Errorf("%s %s: %s is back: %v", name, step, other, same)
				}
			}
			b.recorders[at].Heal()
			if err := b.engine.Retry(t.Context()); err != nil {
				t.Errorf("%s %s: retry: %v", name, step, err)
			}
			b.mustBe(t, siteA(), apply.PhaseIdle)
			if diff := cmp.Diff([]string{"apply.box.recovered"}, b.names()); diff != "" {
				t.Errorf("%s %s: events of retry (-want +got):\n%s", name, step, diff)
			}
		}
	}
}

func TestGateRefusesBeforeAnythingIsTouched(t *testing.T) {
	protected := siteB()
	protected.Firewall.Rules = []config.FirewallRule{{
		Name: "in", Action: config.FirewallPass, Family: config.FamilyAny, Protocol: config.ProtocolAny,
		Source: "any", Destination: "any", Log: config.FirewallLogOff,
	}}
	tests := []struct {
		name    string
		arrange func(b *box, next *config.Document)
		path    string
		says    string
	}{
		{"a problem of prepare", func(b *box, _ *config.Document) {
			b.recorders[1].Refuse(func(*config.Document) (ps config.Problems) {
				ps.Warn("backends", text.M("odd"))
				ps.Add("frontends[b1]", text.M("the port is taken"))
				return ps
			})
		}, "frontends[b1]", "the port is taken"},
		{"a document that can't be read back", func(_ *box, next *config.Document) {
			next.Frontends[0].Type = "gopher"
		}, "frontends[b1].type", "gopher"},
		{"prepare panics", func(b *box, _ *config.Document) {
			b.recorders[1].Inject(apply.StepPrepare, applytest.Fault{Kind: applytest.Panic, Place: applytest.Before})
		}, "", "BUG: panic: injected fault"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, siteA())
			b.names()
			next := siteB()
			tt.arrange(b, next)
			result, err := b.engine.Apply(t.Context(), apply.Request{Document: next})
			wantError(t, err, apply.ErrProblems)
			checked, impact, checkErr := b.engine.Check(t.Context(), next)
			if diff := cmp.Diff(result.Problems, checked); diff != "" || checkErr != nil {
				t.Errorf("Check (-Apply +Check):\n%s%v", diff, checkErr)
			}
			if diff := cmp.Diff(result.Impact, impact); diff != "" {
				t.Errorf("impact (-Apply +Check):\n%s", diff)
			}
			first := result.Problems[0]
			if first.Path != tt.path || !strings.Contains(first.Message.String(), tt.says) {
				t.Errorf("first problem = %v, want %s: %s", first, tt.path, tt.says)
			}
			if n := len(b.store.Revisions()); n != 2 || b.names() != nil {
				t.Errorf("%d revisions, want the 2 of before, and no event", n)
			}
			b.mustBe(t, siteA(), apply.PhaseIdle)
		})
	}
	t.Run("a part that would protect and that nobody claims", func(t *testing.T) {
		b := start(t, siteA())
		machine, err := applytest.NewMachine("", nil)
		if err != nil {
			t.Fatal(err)
		}
		part := applytest.NewRecorder("proxy", machine, "frontends", "backends", "system")
		engine := apply.New(apply.Options{Subsystems: []apply.Subsystem{part}, Store: b.store})
		t.Cleanup(engine.Close)
		problems, _, err := engine.Check(t.Context(), protected)
		if err != nil || len(problems.Errors()) != 1 || problems[0].Path != "firewall" {
			t.Errorf("Check = %v, %v, want one error at firewall", problems, err)
		}
		if err := engine.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = engine.Apply(t.Context(), apply.Request{Document: protected})
		wantError(t, err, apply.ErrProblems)
		if n := len(b.store.Revisions()); n != 2 {
			t.Errorf("%d revisions, want 2", n)
		}
	})
}

// A full disk at each write of an apply: the error says so, nothing is left
// half-done, and once there is space everything works again.
func TestFullDiskAtEachWrite(t *testing.T) {
	t.Parallel()
	full := &store.Error{} // the kind of cause that must be found
	for _, lasting := range []bool{false, true} {
		for _, within := range []time.Duration{0, time.Hour} {
			for k := 1; ; k++ {
				label := fmt.Sprintf("write %d, lasting %v, waiting %v", k, lasting, within > 0)
				countdown := -1 // not armed
				b := open(t, t.TempDir(), hooks{fault: func(string, string) error {
					if countdown > 0 {
						countdown--
					}
					if countdown == 0 {
						if !lasting {
							countdown = -1
						}
						return syscall.ENOSPC
					}
					return nil
				}})
				if err := b.engine.Boot(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.mustApply(t, apply.Request{Document: siteA()})
				countdown = k
				_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteB(), ConfirmWithin: within})
				hit := countdown <= 0
				countdown = -1
				if !hit {
					if err != nil {
						t.Fatalf("%s: %v", label, err)
					}
					if k < 10 {
						t.Fatalf("only %d writes seen", k-1)
					}
					break
				}
				if !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &full) || !strings.Contains(err.Error(), "full") {
					t.Errorf("%s: error = %v, want one that says that the disk is full", label, err)
				}
				if diff := diffStates(want(siteA()), b.machine.States()); diff != "" {
					t.Errorf("%s: in effect (-want +got):\n%s", label, diff)
				}
				for _, d := range b.engine.Status().Degraded {
					if d.Subsystem != "store" || !lasting {
						t.Errorf("%s: degraded: %s", label, describe(b.engine.Status().Degraded))
					}
				}
				if err := b.engine.Retry(t.Context()); err != nil {
					t.Errorf("%s: retry: %v", label, err)
				}
				b = b.restart(t)
				b.mustBe(t, siteA(), apply.PhaseIdle)
				b.mustApply(t, apply.Request{Document: siteC()})
				b.mustBe(t, siteC(), apply.PhaseIdle)
			}
		}
	}
}

func TestBootOfAnEmptyMachine(t *testing.T) {
	b := open(t, t.TempDir(), hooks{})
	_, err := b.engine.Apply(t.Context(), apply.Request{Document: siteA()})
	wantError(t, err, apply.ErrStopped)
	if err := b.engine.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustBe(t, site(), apply.PhaseIdle)
	if n, _ := b.store.Running(); n != 1 || b.engine.Status().Running != 1 {
		t.Errorf("running = %d on disk, %d in status, want 1", n, b.engine.Status().Running)
	}
	b.engine.Close()
	_, err = b.engine.Apply(t.Context(), apply.Request{Document: siteA()})
	wantError(t, err, apply.ErrStopped)
}

// What a boot can't bring into effect is listed; the rest runs; the next boot
// and Retry try again.
func TestBootIsBestEffort(t *testing.T) {
	b := start(t, siteA())
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(b.dir, "kernel")); err != nil { // as a power cut does
		t.Fatal(err)
	}
	b = open(t, b.dir, hooks{})
	b.recorders[2].Inject(apply.StepAdd, applytest.Fault{Kind: applytest.Panic, Place: applytest.Midway, Times: 1})
	if err := b.engine.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := b.engine.Status()
	if diff := cmp.Diff([]string{"firewall"}, blamed(status.Degraded)); diff != "" || status.Running != 2 {
		t.Errorf("running %d, listed as degraded (-want +got):\n%s", status.Running, diff)
	}
	if err := b.engine.Retry(t.Context()); err != nil {
		t.Error(err)
	}
	b.mustBe(t, siteA(), apply.PhaseIdle)
}

func TestBootWithDamagedRevision(t *testing.T) {
	t.Parallel()
	damage := func(b *box, number int) {
		file := filepath.Join(b.dir, "state", "revisions", fmt.Sprintf("%06d.yaml", number))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-3] ^= 1
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// 1 initial, 2 A, 3 B given up, 4 C runs.
	arrange := func(t *testing.T) *box {
		b := start(t, siteA())
		b.mustApply(t, apply.Request{Document: siteB(), ConfirmWithin: time.Hour})
		if err := b.engine.Rollback(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		b.mustApply(t, apply.Request{Document: siteC()})
		return b
	}
	tests := []struct {
		name    string
		damaged []int
		noHead  bool
		running int
		doc     *config.Document
		says    string
	}{
		{"the one before, not the one that never ran", []int{4}, false, 2, siteA(), "revision 4 should run"},
		{"an even older one", []int{4, 2}, false, 1, site(), "revision 1, which ran before"},
		{"none is readable", []int{4, 2, 1}, false, 0, site(), "the initial configuration"},
		{"nobody knows which one ran", nil, true, 2, siteA(), "which revision should run is not known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := arrange(t)
			for _, n := range tt.damaged {
				damage(b, n)
			}
			if tt.noHead {
				if err := b.close(); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(b.dir, "state", "head.json")); err != nil {
					t.Fatal(err)
				}
			}
			b = b.restart(t)
			status := b.engine.Status()
			if diff := diffStates(want(tt.doc), b.machine.States()); diff != "" || status.Running != tt.running {
				t.Errorf("running %d, want %d; in effect (-want +got):\n%s", status.Running, tt.running, diff)
			}
			if len(status.Degraded) != 1 || !strings.Contains(status.Degraded[0].Message.String(), tt.says) {
				t.Errorf("degraded = %s, want %q", describe(status.Degraded), tt.says)
			}
			if names := b.names(); !slices.Contains(names, "apply.revision.damaged") {
				t.Errorf("events = %s, want apply.revision.damaged", names)
			}
			wantError(t, b.engine.Retry(t.Context()), apply.ErrDegraded)
			if !tt.noHead {
				damage(b, 4) // the same bit again: the file is restored
				for _, n := range tt.damaged[1:] {
					damage(b, n)
				}
				if err := b.engine.Retry(t.Context()); err != nil {
					t.Error(err)
				}
				b.mustBe(t, siteC(), apply.PhaseIdle)
			}
			b.mustApply(t, apply.Request{Document: siteB()})
			b.mustBe(t, siteB(), apply.PhaseIdle)
		})
	}
}

// From the moment the revision is saved a client that leaves changes nothing.
func TestClientGoesAwayDuringSteps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := open(t, t.TempDir(), hooks{effect: func(point string) {
		if point == "vip add frontends[a1]" {
			cancel()
		}
	}})
	if err := b.engine.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.Apply(ctx, apply.Request{Document: siteA()}); err != nil {
		t.Errorf("apply whose client left: %v, want it done", err)
	}
	if ctx.Err() == nil {
		t.Fatal("the client did not leave")
	}
	b.mustBe(t, siteA(), apply.PhaseIdle)
	_, err := b.engine.Apply(ctx, apply.Request{Document: siteB()})
	wantError(t, err, context.Canceled)
	b.mustBe(t, siteA(), apply.PhaseIdle)
}
