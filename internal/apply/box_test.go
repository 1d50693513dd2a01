package apply_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/config"
	"sluis/internal/event"
	"sluis/internal/store"
)

// subsystems are the recorders of a box, in their order.
var subsystems = []string{"network", "vip", "firewall", "proxy"}

// secretRef is named by every document of these tests and kept in every box.
const secretRef = "secret:00112233445566778899aabbccddeeff"

// box is an appliance of recorders with its state directory.
type box struct {
	dir       string
	store     *store.Store
	machine   *applytest.Machine
	recorders []*applytest.Recorder
	events    *event.Log
	engine    *apply.Engine
	told      uint64 // ID of the last event that names returned
	// onEffect is for the crash tests: called before each effect; may be nil.
	onEffect func()
}

// hooks are called before each write of the store and each effect on the
// machine.
type hooks struct {
	fault  func(op, path string) error
	effect func(point string)
}

// openBox makes a box, or goes on with what is in the directory. It does not boot.
func openBox(dir string, h hooks) (*box, error) {
	b := &box{dir: dir, events: event.New(0)}
	kernel := filepath.Join(dir, "kernel")
	if err := os.MkdirAll(kernel, 0o700); err != nil {
		return nil, err
	}
	var err error
	if b.store, err = store.Open(filepath.Join(dir, "state"), store.Options{Fault: h.fault}); err != nil {
		return nil, err
	}
	if b.machine, err = applytest.NewMachine(kernel, h.effect); err != nil {
		return nil, err
	}
	var subs []apply.Subsystem
	for _, name := range subsystems {
		r := applytest.NewRecorder(name, b.machine)
		b.recorders = append(b.recorders, r)
		subs = append(subs, r)
	}
	b.engine = apply.New(apply.Options{
		Subsystems: subs, Store: b.store, Publish: func(e event.Event) { b.events.Publish(e) }, Initial: site(),
	})
	return b, nil
}

func (b *box) close() error {
	b.engine.Close()
	return b.store.Close()
}

// start makes a box that has booted and runs the document.
func start(t *testing.T, running *config.Document) *box {
	t.Helper()
	b := open(t, t.TempDir(), hooks{})
	if err := b.engine.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.store.PutSecret(secretRef, []byte("hush")); err != nil {
		t.Fatal(err)
	}
	b.mustApply(t, apply.Request{Document: running, Author: "ann"})
	return b
}

func open(t *testing.T, dir string, h hooks) *box {
	t.Helper()
	b, err := openBox(dir, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// restart closes the box and boots another one from its directories.
func (b *box) restart(t *testing.T) *box {
	t.Helper()
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	next := open(t, b.dir, hooks{})
	if err := next.engine.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	return next
}

func (b *box) mustApply(t *testing.T, req apply.Request) apply.Result {
	t.Helper()
	result, err := b.engine.Apply(t.Context(), req)
	if err != nil {
		t.Fatalf("apply: %v\n%v", err, result.Problems)
	}
	return result
}

// site is a document with a frontend for each name.
func site(names ...string) *config.Document {
	yaml := "system:\n  outgoing_proxy:\n    password: " + secretRef + "\nbackends:\n  - name: shared\nfrontends:\n"
	for _, n := range names {
		yaml += "  - name: " + n + "\n"
	}
	doc, problems := config.Decode([]byte(strings.TrimSuffix(yaml, "frontends:\n")))
	if problems.HasErrors() {
		panic("BUG: " + problems.Error())
	}
	return doc
}

// The documents that the tests go between: from one to the other each step has
// two effects or, to switch, one.
func siteA() *config.Document { return site("a1", "a2") }
func siteB() *config.Document { return site("b1", "b2") }
func siteC() *config.Document { return site("c1", "c2", "c3") }

// want is what all recorders have in effect for a document.
func want(doc *config.Document) map[string]applytest.State {
	states := map[string]applytest.State{}
	for _, name := range subsystems {
		states[name] = applytest.Want(doc)
	}
	return states
}

// diffStates says in which recorders the machine differs; empty = none.
func diffStates(want, got map[string]applytest.State) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

// inEffect is an error unless the machine is as the document says, and nothing
// is said to differ.
func (b *box) inEffect(doc *config.Document) error {
	if diff := diffStates(want(doc), b.machine.States()); diff != "" {
		return fmt.Errorf("in effect (-want +got):\n%s", diff)
	}
	if left := b.engine.Status().Degraded; len(left) > 0 {
		return fmt.Errorf("degraded: %s", describe(left))
	}
	return nil
}

func (b *box) mustBe(t *testing.T, doc *config.Document, phase apply.Phase) {
	t.Helper()
	if err := b.inEffect(doc); err != nil {
		t.Error(err)
	}
	if got := b.engine.Status().Phase; got != phase {
		t.Errorf("phase = %s, want %s", got, phase)
	}
}

func describe(left []apply.Difference) (lines []string) {
	for _, d := range left {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", d.Subsystem, d.Step, d.Path, d.Message))
	}
	return lines
}

// blamed are the subsystems that are said to differ, in the order of the list.
func blamed(left []apply.Difference) []string {
	names := []string{}
	for _, d := range left {
		names = append(names, d.Subsystem)
	}
	return slices.Compact(names)
}

// names are the names of the events since the last call.
func (b *box) names() (names []string) {
	recs, _ := b.events.Since(b.told)
	for _, r := range recs {
		names = append(names, r.Name)
		b.told = r.ID
	}
	return names
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error = %v, want %v", got, want)
	}
}
