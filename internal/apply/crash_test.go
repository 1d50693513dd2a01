package apply_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/config"
	"sluis/internal/store"
)

// The crash tests run a scenario in a child process, which is this test binary
// again, and kill it (SIGKILL, by itself) at its k-th write or sync of the store
// or effect on the machine, for each k until it gets through. What the child
// reported before is what an administrator has seen; the parent boots from what
// is left and holds it against that.

// Names of the child's environment.
const (
	envScenario = "SLUIS_APPLY_CRASH"
	envDir      = "SLUIS_APPLY_CRASH_DIR"
	envKill     = "SLUIS_APPLY_CRASH_AT"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(envScenario); name != "" {
		if err := crashChild(name, os.Getenv(envDir), os.Getenv(envKill)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// scenario is one way to be killed on.
type scenario struct {
	// before brings a fresh box, which runs A, to where the child takes over; nil =
	// that is already there. The box is closed afterwards.
	before func(b *box) error
	// fresh starts from an empty directory instead.
	fresh bool
	// powerCut loses what was in effect on the machine before the child starts.
	powerCut bool
	// do is done by the child on the booted box. ack reports to the administrator.
	do func(b *box, ack func(string)) error
	// outcomes are the allowed ends after a restart, by the last report; the key
	// is empty where nothing was reported.
	outcomes map[string][]outcome
}

// outcome is what a restart may find.
type outcome struct {
	running *config.Document
	pending *config.Document // nil = nothing waits
}

var (
	endInitial = outcome{running: site()}
	endA       = outcome{running: siteA()}
	endB       = outcome{running: siteB()}
	endWaiting = outcome{running: siteA(), pending: siteB()}
)

// scenarios returns all of them, by name.
func scenarios() map[string]scenario {
	applyB := func(within time.Duration) func(b *box) error {
		return func(b *box) error {
			_, err := b.engine.Apply(context.Background(), apply.Request{Document: siteB(), Author: "ann", ConfirmWithin: within})
			return err
		}
	}
	nothing := func(*box, func(string)) error { return nil }
	return map[string]scenario{
		"first start": {
			fresh: true, do: nothing,
			outcomes: map[string][]outcome{"": {endInitial}, "booted": {endInitial}},
		},
		"boot": {
			powerCut: true, do: nothing,
			outcomes: map[string][]outcome{"": {endA}, "booted": {endA}},
		},
		"boot while waiting": {
			before: applyB(time.Hour), powerCut: true, do: nothing,
			outcomes: map[string][]outcome{"": {endWaiting}, "booted": {endWaiting}},
		},
		"boot after the deadline": {
			before: func(b *box) error {
				if err := applyB(time.Hour)(b); err != nil {
					return err
				}
				p, _ := b.store.Pending()
				p.Deadline = time.Now().Add(-time.Second)
				return b.store.SetPending(p)
			},
			do:       nothing,
			outcomes: map[string][]outcome{"": {endA}, "booted": {endA}},
		},
		"boot after a crash in the midst of an apply": {
			before: func(b *box) error {
				saved, err := b.store.SaveRevision(store.Revision{Parent: 2}, config.EncodeYAML(siteB()))
				if err != nil {
					return err
				}
				p := store.Pending{Revision: saved.Number, Deadline: time.Now().Add(time.Hour), Phase: store.Applying}
				plan, _ := b.recorders[1].Prepare(context.Background(), siteB())
				return errors.Join(b.store.SetPending(p), plan.Add(context.Background()), plan.Switch(context.Background()))
			},
			do:       nothing,
			outcomes: map[string][]outcome{"": {endA}, "booted": {endA}},
		},
		"apply at once": {
			do: func(b *box, ack func(string)) error {
				if err := applyB(0)(b); err != nil {
					return err
				}
				ack("applied")
				return nil
			},
			outcomes: map[string][]outcome{"": {endA}, "booted": {endA, endB}, "applied": {endB}},
		},
		"apply and confirm": {
			do: func(b *box, ack func(string)) error {
				if err := applyB(time.Hour)(b); err != nil {
					return err
				}
				ack("waiting")
				if err := b.engine.Confirm(context.Background(), b.engine.Accepted(), "ann"); err != nil {
					return err
				}
				ack("confirmed")
				return nil
			},
			outcomes: map[string][]outcome{
				"": {endA}, "booted": {endA, endWaiting}, "waiting": {endWaiting, endB}, "confirmed": {endB},
			},
		},
		"apply and roll back": {
			do: func(b *box, ack func(string)) error {
				if err := applyB(time.Hour)(b); err != nil {
					return err
				}
				ack("waiting")
				b.onEffect = sync.OnceFunc(func() { ack("returning") }) // B must not come back from here on
				if err := b.engine.Rollback(context.Background(), "ann"); err != nil {
					return err
				}
				ack("returned")
				return nil
			},
			outcomes: map[string][]outcome{
				"": {endA}, "booted": {endA, endWaiting}, "waiting": {endWaiting, endA}, "returning": {endA}, "returned": {endA},
			},
		},
		"apply and miss the deadline": {
			do: func(b *box, ack func(string)) error {
				returned, err := b.events.Subscribe(0)
				if err != nil {
					return err
				}
				if err := applyB(time.Millisecond)(b); err != nil {
					return err
				}
				for {
					r, err := returned.Next(context.Background())
					if err != nil {
						return err
					}
					if _, is := r.Event.(apply.RevisionReturned); is {
						ack("returned")
						return nil
					}
				}
			},
			outcomes: map[string][]outcome{"": {endA}, "booted": {endA}, "returned": {endA}},
		},
		"apply that fails": {
			do: func(b *box, ack func(string)) error {
				b.recorders[1].Inject(apply.StepRemove, applytest.Fault{Kind: applytest.Fail, Place: applytest.Midway})
				if err := applyB(0)(b); !errors.Is(err, apply.ErrFailed) {
					return fmt.Errorf("apply: %w, want it to fail", err)
				}
				ack("failed")
				return nil
			},
			outcomes: map[string][]outcome{"": {endA}, "booted": {endA}, "failed": {endA}},
		},
	}
}

// crashChild runs a scenario and kills this process at its k-th point; with 0 it
// gets through and reports how many there were.
func crashChild(name, dir, killAt string) error {
	k, err := strconv.Atoi(killAt)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	points := 0
	point := func() {
		mu.Lock()
		defer mu.Unlock()
		if points++; points == k {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	ack := func(what string) { fmt.Println("ack", what) } // one write: a kill can't tear it
	var b *box
	b, err = openBox(dir, hooks{
		fault: func(string, string) error { point(); return nil },
		effect: func(string) {
			if b.onEffect != nil {
				b.onEffect()
			}
			point()
		},
	})
	if err != nil {
		return err
	}
	if err := b.engine.Boot(context.Background()); err != nil {
		return err
	}
	ack("booted")
	if err := scenarios()[name].do(b, ack); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	fmt.Println("points", points)
	return nil
}

func TestCrashAtEachPoint(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 3
	}
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := t.TempDir()
			if err := prepareTemplate(template, s); err != nil {
				t.Fatal(err)
			}
			points := crashAt(t, name, template, 0)
			if points < 10 {
				t.Fatalf("the scenario has %d points, want more", points)
			}
			for k := 1; k <= points; k += every {
				crashAt(t, name, template, k)
			}
		})
	}
}

// prepareTemplate fills a directory with what the child starts from.
func prepareTemplate(dir string, s scenario) error {
	if s.fresh {
		return nil
	}
	b, err := openBox(dir, hooks{})
	if err != nil {
		return err
	}
	err = b.engine.Boot(context.Background())
	if err == nil {
		err = b.store.PutSecret(secretRef, []byte("hush"))
	}
	if err == nil {
		_, err = b.engine.Apply(context.Background(), apply.Request{Document: siteA(), Author: "ann"})
	}
	if err == nil && s.before != nil {
		err = s.before(b)
	}
	if s.powerCut {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, "kernel")))
	}
	return errors.Join(err, b.close())
}

// crashAt kills a child at its k-th point, and checks what a restart makes of
// what is left.
func crashAt(t *testing.T, name, template string, k int) (points int) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envScenario+"="+name, envDir+"="+dir, envKill+"="+strconv.Itoa(k))
	var out, stderr bytes.Buffer
	child.Stdout, child.Stderr = &out, &stderr
	err = child.Run()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if killed != (k > 0) || !killed && err != nil {
		t.Fatalf("point %d: the child ended with %v\n%s", k, err, stderr.String())
	}
	last := ""
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		if word, found := strings.CutPrefix(lines.Text(), "ack "); found {
			last = word
		}
		if n, found := strings.CutPrefix(lines.Text(), "points "); found {
			points, _ = strconv.Atoi(n)
		}
	}
	s := scenarios()[name]
	allowed, known := s.outcomes[last]
	if !known {
		t.Fatalf("point %d: the child reported %q, which the scenario doesn't know", k, last)
	}
	if err := checkRestart(dir, s, allowed); err != nil {
		t.Errorf("killed at point %d, after %q: %v", k, last, err)
	}
	return points
}

// checkRestart boots what is left and checks that it is one of the outcomes,
// wholly in effect, and that work can go on.
func checkRestart(dir string, s scenario, allowed []outcome) error {
	b, err := openBox(dir, hooks{})
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.engine.Boot(context.Background()); err != nil {
		return err
	}
	status := b.engine.Status()
	found := outcome{running: status.RunningDocument}
	inEffect := status.RunningDocument
	if status.Pending != nil {
		inEffect = status.Pending.Document
		found.pending = inEffect
	}
	if err := b.inEffect(inEffect); err != nil {
		return err
	}
	if p, onDisk := b.store.Pending(); onDisk != (found.pending != nil) {
		return fmt.Errorf("on disk %+v is still pending", p)
	}
	if !slices.ContainsFunc(allowed, func(o outcome) bool {
		return sameDocument(o.running, found.running) && sameDocument(o.pending, found.pending)
	}) {
		return fmt.Errorf("after a restart %s runs and %s waits", frontends(found.running), frontends(found.pending))
	}
	if err := checkStore(b, s); err != nil {
		return err
	}
	if status.Pending != nil {
		if err := b.engine.Rollback(context.Background(), "ann"); err != nil {
			return err
		}
		if err := b.inEffect(status.RunningDocument); err != nil {
			return fmt.Errorf("after rolling back: %w", err)
		}
	}
	if _, err := b.engine.Apply(context.Background(), apply.Request{Document: siteC()}); err != nil {
		return fmt.Errorf("apply after the restart: %w", err)
	}
	return b.inEffect(siteC())
}

// checkStore checks that every revision is whole and that the secret is there.
func checkStore(b *box, s scenario) error {
	for _, r := range b.store.Revisions() {
		if _, _, err := b.store.Revision(r.Number); err != nil {
			return err
		}
	}
	if s.fresh {
		return nil
	}
	if value, err := b.store.Secret(secretRef); err != nil || string(value) != "hush" {
		return fmt.Errorf("the secret is %q, %w", value, err)
	}
	for _, r := range b.events.Recent(100) {
		if _, damaged := r.Event.(apply.RevisionDamaged); damaged {
			return errors.New(r.Event.Text().String())
		}
	}
	return nil
}

func sameDocument(a, b *config.Document) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(config.EncodeYAML(a), config.EncodeYAML(b))
}

func frontends(doc *config.Document) string {
	if doc == nil {
		return "nothing"
	}
	var names []string
	for _, f := range doc.Frontends {
		names = append(names, f.Name)
	}
	return fmt.Sprintf("the site with frontends %q", names)
}
