package apply

import (
	"context"
	"time"

	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Check says what an Apply of the document would find: parts that no subsystem
// puts into effect, and what each Prepare says; and what the change would end.
// Errors come first. It touches nothing, and waits while steps are under way. The
// error is the context's.
func (e *Engine) Check(ctx context.Context, next *config.Document) (config.Problems, []Impact, error) {
	if err := e.takeTurn(ctx); err != nil {
		return nil, nil, err
	}
	defer e.endTurn()
	_, problems, impact := e.examine(ctx, next)
	return problems, impact, ctx.Err()
}

// examine is the gate: what the document and each Prepare say. A document that
// could not be read back is refused without asking further: the next boot would
// not find it.
func (e *Engine) examine(ctx context.Context, next *config.Document) ([]*planned, config.Problems, []Impact) {
	if _, problems := config.Decode(config.EncodeYAML(next)); problems.HasErrors() {
		for i := range problems { // of a text that nobody sees
			problems[i].Line, problems[i].Column = 0, 0
		}
		return nil, problems, []Impact{}
	}
	plans := e.prepare(ctx, next)
	problems, impact := collect(plans, config.Unclaimed(next, e.claims))
	return plans, problems, impact
}

// Apply brings a document into effect: wholly, or not at all. It fails with
// ErrBusy, ErrPending or ErrStopped before it looks, with ErrProblems (they are in
// the result) or ErrStore before it touches anything, with ErrFailed when a step
// failed and all was undone, and with ErrDegraded when not all could be undone.
// Once the revision is saved the end of the context changes nothing any more.
func (e *Engine) Apply(ctx context.Context, req Request) (Result, error) {
	if err := e.claimApply(); err != nil {
		return Result{}, err
	}
	defer e.endApply()
	if err := e.begin(ctx); err != nil {
		return Result{}, err
	}
	defer e.endTurn()
	e.setPhase(PhaseApplying)
	defer e.rest()

	var result Result
	var plans []*planned
	plans, result.Problems, result.Impact = e.examine(ctx, req.Document)
	if err := ctx.Err(); err != nil {
		return result, err
	}
	if result.Problems.HasErrors() {
		return result, errProblems(result.Problems)
	}
	next, err := e.save(req)
	if err != nil {
		return result, err
	}
	result.Revision = next.number
	result.Deadline, err = e.carryOut(context.WithoutCancel(ctx), plans, next, req)
	return result, err
}

// claimApply keeps a second apply out; the first one that waits for its turn
// counts.
func (e *Engine) claimApply() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !e.booted || e.closed:
		return errStopped()
	case e.applying:
		return errBusy()
	case e.pending != nil:
		return errPending(e.pending.number, stamp(e.pending.deadline, e.running.document))
	}
	e.applying = true
	return nil
}

func (e *Engine) endApply() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.applying = false
}

// save writes the revision and marks it as being applied, so that a crash from
// here on ends at the running one. On an error nothing was touched.
func (e *Engine) save(req Request) (revision, error) {
	running, _ := e.now()
	meta := store.Revision{
		Parent: running.number, Time: time.Now().In(zone(req.Document)), Author: req.Author, From: req.From, Comment: req.Comment,
		Format: req.Document.Format, Restores: req.Restores, SecretRefs: config.SecretRefs(req.Document),
	}
	saved, err := e.store.SaveRevision(meta, config.EncodeYAML(req.Document))
	if err != nil {
		return revision{}, errStore(err)
	}
	if err := e.store.SetPending(store.Pending{
		Revision: saved.Number, Deadline: deadline(req.ConfirmWithin), Phase: store.Applying,
	}); err != nil {
		e.settleHead()
		return revision{}, errStore(err)
	}
	return revision{number: saved.Number, document: req.Document}, nil
}

// deadline is the end of a time that begins now; none for no time.
func deadline(within time.Duration) time.Time {
	if within <= 0 {
		return time.Time{}
	}
	return time.Now().Add(within).Round(0)
}

// carryOut does the steps and notes durably what is in effect now; or undoes.
func (e *Engine) carryOut(ctx context.Context, plans []*planned, next revision, req Request) (time.Time, error) {
	failed := e.walk(ctx, plans, false)
	doneSeq, until := e.accepted.Load(), deadline(req.ConfirmWithin)
	if failed == nil {
		if err := e.mark(next, until); err != nil {
			failed = &StepError{Subsystem: storeName, Step: StepSave, Err: err}
		}
	}
	if failed != nil {
		return time.Time{}, e.giveUp(ctx, plans, next, req, failed)
	}
	if until.IsZero() {
		e.setRunning(next)
		e.publish(RevisionApplied{Revision: next.number, Author: req.Author, From: req.From, Comment: req.Comment})
	} else {
		e.startWaiting(&pending{revision: next, author: req.Author, deadline: until, doneSeq: doneSeq}, time.Until(until))
	}
	e.differ(func(d *degraded) {
		d.parts, d.head = nil, nil
		if until.IsZero() {
			d.damaged = nil
		}
	})
	return until, nil
}

// mark notes durably that a revision is in effect.
func (e *Engine) mark(next revision, until time.Time) error {
	if until.IsZero() {
		return e.store.SetRunning(next.number)
	}
	return e.store.SetPending(store.Pending{Revision: next.number, Deadline: until, Phase: store.Waiting})
}

// startWaiting lets a revision wait for confirmation, and says so.
func (e *Engine) startWaiting(p *pending, left time.Duration) {
	e.wait(p, left)
	running, _ := e.now()
	e.publish(RevisionWaiting{
		Revision: p.number, Author: p.author, Deadline: p.deadline, Until: stamp(p.deadline, running.document),
	})
}

// giveUp undoes a failed apply.
func (e *Engine) giveUp(ctx context.Context, plans []*planned, next revision, req Request, failed *StepError) error {
	left := e.undo(ctx, plans)
	e.settleHead()
	e.publish(RevisionFailed{
		Revision: next.number, Author: req.Author,
		Subsystem: failed.Subsystem, Step: failed.Step, Reason: reason(failed),
	})
	// A subsystem that could be undone is as it was, which may be degraded.
	e.differ(func(d *degraded) {
		for _, one := range left {
			d.parts[one.Subsystem] = []Difference{one}
		}
	})
	return errFailed(next.number, failed, len(left) == 0)
}

// settleHead writes durably that the running revision runs and that none is
// pending. It also serves where a write failed after its rename, so that what
// the disk says isn't known. It reports whether the disk says so now.
//
// While another revision stands in for one that can't be read, the disk goes on
// naming the latter: the fault may pass, or the file be restored.
func (e *Engine) settleHead() bool {
	running, _ := e.now()
	write := func() error { return e.store.SetRunning(running.number) }
	if e.standIn() {
		write = e.store.ClearPending
	}
	err := write()
	e.differ(func(d *degraded) {
		d.head = nil
		if err != nil {
			d.head = &Difference{
				Subsystem: storeName, Step: StepSave,
				Message: text.M("the state directory may not say that revision {running} runs: {reason}",
					"running", running.number, "reason", reason(err)),
			}
		}
	})
	return err == nil
}

// Confirm makes the revision that waits the running one. conn is the number that
// Accepted gave the connection on which the confirmation came; it must have been
// accepted after the last step was done, else it doesn't show that anybody still
// gets in. It fails with ErrNothingPending, ErrOldConnection, ErrStopped, or
// ErrStore, after which the revision still waits.
func (e *Engine) Confirm(ctx context.Context, conn uint64, who string) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.endTurn()
	running, p := e.now()
	switch {
	case p == nil:
		return errNothingPending()
	case conn <= p.doneSeq:
		return errOldConnection(p.number, stamp(p.deadline, running.document))
	}
	if err := e.store.SetRunning(p.number); err != nil {
		sentence, hint := store.Explain(err)
		return &Error{
			Kind: ErrStore, Cause: err, Hint: hint,
			Message: text.M("revision {revision} is not confirmed: {reason}", "revision", p.number, "reason", sentence),
		}
	}
	e.stopTimer(p)
	e.setRunning(p.revision)
	e.rest()
	e.publish(RevisionConfirmed{Revision: p.number, By: who})
	e.differ(func(d *degraded) { d.damaged, d.head = nil, nil })
	return nil
}

// Rollback gives up the revision that waits and puts the running one back. It
// fails with ErrNothingPending or ErrStopped, or with ErrDegraded when not all
// could be put back.
func (e *Engine) Rollback(ctx context.Context, who string) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.endTurn()
	_, p := e.now()
	if p == nil {
		return errNothingPending()
	}
	e.stopTimer(p)
	return e.giveBack(context.WithoutCancel(ctx), p, text.M("rolled back by {who}", "who", who))
}

// expire gives up a revision at its deadline, unless something else became of it
// while this waited for its turn.
func (e *Engine) expire(p *pending) {
	select {
	case e.turn <- struct{}{}:
	case <-e.closing:
		return
	}
	defer e.endTurn()
	if _, waiting := e.now(); waiting != p || !e.up() {
		return
	}
	_ = e.giveBack(context.Background(), p, text.M("it was not confirmed in time")) // the events and the status say it
}

// giveBack puts the running revision back in the place of one that waited. The
// disk hears of it first: a crash in the midst of the steps must not bring the
// given-up revision back for the rest of its time.
func (e *Engine) giveBack(ctx context.Context, p *pending, why text.Msg) error {
	running, _ := e.now()
	e.setRunning(running)
	e.setPhase(PhaseReturning)
	defer e.rest()
	settled := e.settleHead()
	e.converge(ctx, running.document)
	if !settled {
		e.settleHead()
	}
	e.publish(RevisionReturned{Revision: p.number, Running: running.number, Reason: why})
	return e.complain(running)
}

// Retry tries to remove what differs from the revision that should be in effect.
// It does nothing when nothing differs, and fails with ErrDegraded if something
// still does.
func (e *Engine) Retry(ctx context.Context) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.endTurn()
	running, p := e.now()
	target := running
	if p != nil {
		target = p.revision
	}
	if e.complain(target) == nil {
		return nil
	}
	e.setPhase(PhaseRetrying)
	defer e.rest()
	if p == nil {
		target = e.reread(running)
		e.settleHead()
	}
	e.converge(context.WithoutCancel(ctx), target.document)
	return e.complain(target)
}

// reread tries again to read the running revision where another one stands in
// for it, and returns what is to run.
func (e *Engine) reread(running revision) revision {
	if !e.standIn() {
		return running
	}
	number, _ := e.store.Running()
	doc, err := e.load(number)
	if err != nil {
		return running
	}
	running = revision{number, doc}
	e.setRunning(running)
	e.differ(func(d *degraded) { d.damaged = nil })
	return running
}

// standIn reports whether another revision than the one noted as running is in
// effect, since that one can't be read.
func (e *Engine) standIn() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.degraded.damaged != nil
}

// complain returns ErrDegraded if anything differs.
func (e *Engine) complain(target revision) error {
	e.mu.Lock()
	count := len(e.degraded.list(e.subsystems))
	e.mu.Unlock()
	if count > 0 {
		return errDegraded(target.number, count)
	}
	return nil
}
