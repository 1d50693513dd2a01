package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// planned is one subsystem's plan on its way. Who walks it owns it.
type planned struct {
	Subsystem
	plan     Plan
	problems config.Problems // of Prepare
	begun    bool            // one of its steps was called
	failed   *StepError      // the first step that failed; no further one is called
}

// prepare asks every subsystem for its plan. The caller has the turn.
func (e *Engine) prepare(ctx context.Context, next *config.Document) []*planned {
	plans := make([]*planned, len(e.subsystems))
	for i, s := range e.subsystems {
		p := &planned{Subsystem: s}
		plans[i] = p
		// The closure's variables are read only if it came back in time.
		var plan Plan
		var problems config.Problems
		p.failed = e.run(ctx, s, StepPrepare, func(ctx context.Context) error {
			plan, problems = s.Prepare(ctx, next)
			return nil
		})
		if p.failed == nil {
			p.plan, p.problems = plan, problems
			continue
		}
		p.problems.Add("", text.M("{subsystem} could not check the configuration: {reason}",
			"subsystem", s.Name(), "reason", reason(p.failed)))
	}
	return plans
}

// collect joins what all plans say, in a fixed order.
func collect(plans []*planned, unclaimed config.Problems) (config.Problems, []Impact) {
	problems := append(config.Problems{}, unclaimed...)
	impact := []Impact{}
	for _, p := range plans {
		problems = append(problems, p.problems...)
		impact = append(impact, p.plan.Impact...)
	}
	rank := map[config.Severity]int{config.Error: 0, config.Warning: 1, config.Hint: 2}
	slices.SortStableFunc(problems, func(a, b config.Problem) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.Path, b.Path))
	})
	slices.SortStableFunc(impact, func(a, b Impact) int { return cmp.Compare(a.Path, b.Path) })
	return problems, impact
}

// walk does the steps of all plans: add and switch in order, remove in the
// opposite order. With goOn a plan that fails stops there and the others go on;
// without, the first failure ends the walk and is returned.
func (e *Engine) walk(ctx context.Context, plans []*planned, goOn bool) *StepError {
	phases := []struct {
		step  Step
		of    func(Plan) func(context.Context) error
		plans func([]*planned) iter.Seq2[int, *planned]
	}{
		{StepAdd, func(p Plan) func(context.Context) error { return p.Add }, slices.All[[]*planned]},
		{StepSwitch, func(p Plan) func(context.Context) error { return p.Switch }, slices.All[[]*planned]},
		{StepRemove, func(p Plan) func(context.Context) error { return p.Remove }, slices.Backward[[]*planned]},
	}
	for _, phase := range phases {
		for _, p := range phase.plans(plans) {
			do := phase.of(p.plan)
			if p.failed != nil || do == nil {
				continue
			}
			p.begun = true
			p.failed = e.run(ctx, p, phase.step, do)
			if p.failed != nil && !goOn {
				return p.failed
			}
		}
	}
	return nil
}

// undo takes back every plan that had begun, the last subsystem first, and lists
// what could not be taken back. A step that was abandoned is not undone: it may
// still be at work.
func (e *Engine) undo(ctx context.Context, plans []*planned) []Difference {
	var left []Difference
	for _, p := range slices.Backward(plans) {
		if !p.begun {
			continue
		}
		failed := p.failed
		if failed == nil || !failed.Abandoned {
			if failed = nil; p.plan.Undo != nil {
				failed = e.run(ctx, p, StepUndo, p.plan.Undo)
			}
		}
		if failed != nil {
			left = append(left, fromStep(failed))
		}
	}
	return left
}

// converge brings the machine as near to the document as it goes, subsystem by
// subsystem, and notes what differs. It is the way of boot, roll back and retry.
func (e *Engine) converge(ctx context.Context, doc *config.Document) {
	plans := e.prepare(ctx, doc)
	parts := map[string][]Difference{"": fromProblems("", config.Unclaimed(doc, e.claims))}
	for _, p := range plans {
		if p.failed == nil && p.problems.HasErrors() {
			p.failed = &StepError{Subsystem: p.Name(), Step: StepPrepare, Err: p.problems.Errors()}
			parts[p.Name()] = fromProblems(p.Name(), p.problems)
		}
	}
	e.walk(ctx, plans, true)
	for _, p := range plans {
		if p.failed != nil && parts[p.Name()] == nil {
			parts[p.Name()] = []Difference{fromStep(p.failed)}
		}
	}
	e.differ(func(d *degraded) { d.parts = parts })
}

// run calls one step within its time and survives its panic. A step that ignores
// the end of its context is abandoned; until it comes back its subsystem is asked
// for nothing more.
func (e *Engine) run(ctx context.Context, s Subsystem, step Step, do func(context.Context) error) *StepError {
	fail := func(err error, abandoned bool) *StepError {
		return &StepError{Subsystem: s.Name(), Step: step, Err: err, Abandoned: abandoned}
	}
	if e.isAbandoned(s) {
		return fail(errStillBusy, true)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.stepTimeout, errTimeout)
	defer cancel()
	done, returned := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(returned)
		done <- e.protect(s, step, func() error { return do(ctx) })
	}()
	inTime, err := await(ctx, done)
	switch {
	case !inTime:
		e.abandoned[s.Name()] = returned
		return fail(errAbandoned, true)
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errTimeout):
		return fail(fmt.Errorf("%w: %w", errTimeout, err), false)
	}
	return fail(err, false)
}

// await waits for a step: while its context lasts, and for the time to heed the
// context's end.
func await(ctx context.Context, done <-chan error) (inTime bool, err error) {
	select {
	case err = <-done:
		return true, err
	case <-ctx.Done():
	}
	grace := time.NewTimer(abandonAfter)
	defer grace.Stop()
	select {
	case err = <-done:
		return true, err
	case <-grace.C:
		return false, nil
	}
}

func (e *Engine) isAbandoned(s Subsystem) bool {
	returned := e.abandoned[s.Name()]
	if returned == nil {
		return false
	}
	select {
	case <-returned:
		delete(e.abandoned, s.Name())
		return false
	default:
		return true
	}
}

// protect turns a panic of a subsystem, or its runtime.Goexit, into an error.
func (e *Engine) protect(s Subsystem, step Step, do func() error) (err error) {
	err = errExited
	defer func() {
		if value := recover(); value != nil {
			e.log.Error("BUG: a subsystem panicked", "subsystem", s.Name(), "step", step, "panic", value, "stack", string(debug.Stack()))
			err = panicError{value}
		}
	}()
	return do()
}
