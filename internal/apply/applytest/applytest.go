// Package applytest stands in for subsystems where the rooms around the commit
// engine are tested: a Machine, whose state survives the process as a kernel's
// does, and Recorders that bring documents into effect on it and fail, panic or
// hang where a test says so.
//
// It promises that what a Recorder finds is what was really done: it remembers
// nothing of its own, and a Machine with a directory is on disk after each single
// effect. It is for tests; nothing of the product imports it.
package applytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"sluis/internal/apply"
	"sluis/internal/config"
	"sluis/internal/text"
)

// Machine is what the Recorders act upon. Make one with NewMachine.
type Machine struct {
	dir    string // immutable; empty = the state lives in memory alone
	effect func(point string)

	mu      sync.Mutex
	states  map[string]State // by recorder
	journal []string
}

// State is what one Recorder has in effect.
type State struct {
	// Active is the document that was switched to last, as YAML; empty = none yet.
	Active string `json:"active"`
	// Items are the objects that are in place: "frontends[shop]".
	Items []string `json:"items"`
}

// NewMachine makes a machine, or goes on with the one whose state is in the
// directory. effect, which may be nil, is called before each single effect with
// its name, such as "proxy add frontends[shop]": a test that kills the process
// there finds out what a crash leaves behind.
func NewMachine(dir string, effect func(point string)) (*Machine, error) {
	m := &Machine{dir: dir, effect: effect, states: map[string]State{}}
	if dir == "" {
		return m, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var s State
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		name := filepath.Base(file)
		m.states[name[:len(name)-len(".json")]] = s
	}
	return m, nil
}

// State is what the recorder of that name has in effect.
func (m *Machine) State(name string) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[name]
	return State{Active: s.Active, Items: slices.Clone(s.Items)}
}

// States are the states of all recorders.
func (m *Machine) States() map[string]State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.states)
}

// Journal lists the steps that were begun, in order: "proxy add".
func (m *Machine) Journal() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.journal)
}

// ResetJournal empties the journal.
func (m *Machine) ResetJournal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.journal = nil
}

func (m *Machine) begin(name string, step apply.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.journal = append(m.journal, name+" "+string(step))
}

// set is one effect: the file, if there is one, changes all at once.
func (m *Machine) set(name, point string, s State) error {
	if m.effect != nil {
		m.effect(point)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dir != "" {
		data, err := json.Marshal(s)
		if err != nil {
			return err
		}
		tmp := filepath.Join(m.dir, name+".tmp")
		if err := os.WriteFile(tmp, data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(m.dir, name+".json")); err != nil {
			return err
		}
	}
	m.states[name] = s
	return nil
}

// Kind is how a step goes wrong.
type Kind string

// The ways to go wrong.
const (
	Fail  Kind = "fail"  // it returns an error
	Panic Kind = "panic" // it panics
	Hang  Kind = "hang"  // it waits until its context ends
	Stuck Kind = "stuck" // it ignores its context and waits for Release
)

// Place is how far a step gets before it goes wrong.
type Place string

// The places.
const (
	Before Place = "before" // nothing is done yet
	Midway Place = "midway" // the first of its effects is done
	After  Place = "after"  // all of its effects are done
)

// Fault makes a step go wrong.
type Fault struct {
	Kind  Kind
	Place Place
	// Times is how often; 0 = always, until Heal.
	Times int
}

// ErrInjected is what a failing step returns.
var ErrInjected = errors.New("injected fault")

// Recorder is a subsystem whose effects are those of its Machine. Make one with
// NewRecorder.
type Recorder struct {
	name    string
	machine *Machine
	claims  []string
	release chan struct{} // what Stuck steps wait for

	mu     sync.Mutex
	faults map[apply.Step]*Fault
	refuse func(*config.Document) config.Problems
}

// NewRecorder makes a recorder that claims these patterns; none = every part of
// the document.
func NewRecorder(name string, m *Machine, claims ...string) *Recorder {
	if len(claims) == 0 {
		claims = EveryPart()
	}
	return &Recorder{
		name: name, machine: m, claims: claims,
		release: make(chan struct{}), faults: map[apply.Step]*Fault{},
	}
}

// EveryPart are claims for the whole document.
func EveryPart() []string {
	var parts []string
	var wire map[string]json.RawMessage
	data, err := json.Marshal(config.Default())
	if err != nil || json.Unmarshal(data, &wire) != nil {
		panic("BUG: the default document has no JSON form")
	}
	for part := range wire {
		parts = append(parts, part)
	}
	parts = append(parts, "pair") // absent by default
	slices.Sort(parts)
	return parts
}

// Inject makes a step go wrong; for StepPrepare only panics, hanging and being
// stuck, before it has looked.
func (r *Recorder) Inject(step apply.Step, f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[step] = &f
}

// Heal takes all faults away.
func (r *Recorder) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.faults)
	r.refuse = nil
}

// Refuse makes Prepare say these problems; nil = none.
func (r *Recorder) Refuse(problems func(*config.Document) config.Problems) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = problems
}

// Release lets a step go on that is stuck, and fail. It may be called once.
func (r *Recorder) Release() { close(r.release) }

// State is what this recorder has in effect.
func (r *Recorder) State() State { return r.machine.State(r.name) }

// Name implements apply.Subsystem.
func (r *Recorder) Name() string { return r.name }

// Claims implements apply.Subsystem.
func (r *Recorder) Claims() []string { return r.claims }

// Prepare implements apply.Subsystem. The plan's impact is what it would remove.
func (r *Recorder) Prepare(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
	r.machine.begin(r.name, apply.StepPrepare)
	_ = r.goWrong(ctx, apply.StepPrepare, Before)
	r.mu.Lock()
	refuse := r.refuse
	r.mu.Unlock()
	var problems config.Problems
	if refuse != nil {
		problems = refuse(next)
	}
	before, want := r.State(), Want(next)
	plan := apply.Plan{
		Add:    r.step(apply.StepAdd, func(s State) []effect { return adds(s, want) }),
		Switch: r.step(apply.StepSwitch, func(s State) []effect { return switches(s, want) }),
		Remove: r.step(apply.StepRemove, func(s State) []effect { return removes(s, want) }),
		Undo: r.step(apply.StepUndo, func(s State) []effect {
			return slices.Concat(adds(s, before), switches(s, before), removes(s, before))
		}),
	}
	for _, e := range removes(before, want) {
		plan.Impact = append(plan.Impact, apply.Impact{Path: e.item, Listeners: 1})
	}
	return plan, problems
}

// Want is the state that a document asks of a recorder.
func Want(doc *config.Document) State {
	want := State{Active: string(config.EncodeYAML(doc)), Items: []string{}}
	for _, f := range doc.Frontends {
		want.Items = append(want.Items, "frontends["+f.Name+"]")
	}
	for _, b := range doc.Backends {
		want.Items = append(want.Items, "backends["+b.Name+"]")
	}
	for _, v := range doc.VirtualIPs {
		want.Items = append(want.Items, "virtual_ips["+v.Name+"]")
	}
	slices.Sort(want.Items)
	return want
}

// effect is one indivisible change of a state.
type effect struct {
	item string
	do   func(*State)
}

func adds(s, want State) (list []effect) {
	for _, item := range want.Items {
		if !slices.Contains(s.Items, item) {
			list = append(list, effect{item, func(s *State) {
				s.Items = append(s.Items, item)
				slices.Sort(s.Items)
			}})
		}
	}
	return list
}

func switches(s, want State) []effect {
	if s.Active == want.Active {
		return nil
	}
	return []effect{{"document", func(s *State) { s.Active = want.Active }}}
}

func removes(s, want State) (list []effect) {
	for _, item := range s.Items {
		if !slices.Contains(want.Items, item) {
			list = append(list, effect{item, func(s *State) {
				s.Items = slices.DeleteFunc(s.Items, func(other string) bool { return other == item })
			}})
		}
	}
	return list
}

// step makes the function of one step: its effects one by one, and its fault.
func (r *Recorder) step(step apply.Step, effects func(State) []effect) func(context.Context) error {
	return func(ctx context.Context) error {
		r.machine.begin(r.name, step)
		if err := r.goWrong(ctx, step, Before); err != nil {
			return err
		}
		for i, e := range effects(r.State()) {
			if i == 1 {
				if err := r.goWrong(ctx, step, Midway); err != nil {
					return err
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			next := r.State()
			e.do(&next)
			if err := r.machine.set(r.name, r.name+" "+string(step)+" "+e.item, next); err != nil {
				return err
			}
		}
		return r.goWrong(ctx, step, After)
	}
}

// goWrong does what was injected for this place.
func (r *Recorder) goWrong(ctx context.Context, step apply.Step, at Place) error {
	kind, injected := r.take(step, at)
	if !injected {
		return nil
	}
	switch kind {
	case Panic:
		panic(ErrInjected)
	case Hang:
		<-ctx.Done()
		return ctx.Err()
	case Stuck:
		<-r.release
	}
	return fault{r.name, step, at}
}

// take uses up one of the times of a fault. A step without a second effect has
// no midway, so that fault comes after it.
func (r *Recorder) take(step apply.Step, at Place) (Kind, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.faults[step]
	if f == nil || f.Place != at && (f.Place != Midway || at != After) {
		return "", false
	}
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			delete(r.faults, step)
		}
	}
	return f.Kind, true
}

// fault is the error of a failing step, with words for administrators.
type fault struct {
	name string
	step apply.Step
	at   Place
}

func (f fault) Error() string { return f.Text().String() }

// Text says it to administrators.
func (f fault) Text() text.Msg {
	return text.M("{name} was told to fail, {place} its {step}", "name", f.name, "place", string(f.at), "step", string(f.step))
}

// Unwrap makes it an ErrInjected.
func (f fault) Unwrap() error { return ErrInjected }
