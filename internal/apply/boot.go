package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Boot brings into effect what should be: the running revision; or the one that
// waits for confirmation, for the rest of its time. A revision whose time is over,
// or that was still being applied when the process ended, is given up. On a
// machine without any revision the initial document is saved and runs.
//
// It is best effort: what doesn't work is listed as degraded, and the rest runs.
// If the running revision can't be read, the newest one that ran before it takes
// its place. Boot fails only when there is no revision at all and the first one
// can't be saved.
func (e *Engine) Boot(ctx context.Context) error {
	if err := e.takeTurn(ctx); err != nil {
		return err
	}
	defer e.endTurn()
	ctx = context.WithoutCancel(ctx)
	running, err := e.findRunning()
	if err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	waiting, givenUp, why := e.findPending()
	if givenUp > 0 {
		e.settleHead()
	}
	target := running
	if waiting != nil {
		target = waiting.revision
	}
	e.converge(ctx, target.document)
	if givenUp > 0 {
		e.publish(RevisionReturned{Revision: givenUp, Running: running.number, Reason: why})
	}
	if waiting != nil {
		waiting.doneSeq = e.accepted.Load()
		e.startWaiting(waiting, time.Until(waiting.deadline))
	}
	e.mu.Lock()
	e.booted = true
	e.mu.Unlock()
	e.rest()
	return nil
}

// firstNumber is the number of the revision that the first start saves.
const firstNumber = 1

// findRunning reads the running revision, or what takes its place, and notes it.
func (e *Engine) findRunning() (revision, error) {
	number, known := e.store.Running()
	history := e.store.Revisions()
	if !known && len(history) == 0 {
		return e.firstStart()
	}
	why := text.M("the file that says so is missing")
	if known {
		doc, err := e.load(number)
		if err == nil {
			e.setRunning(revision{number, doc})
			return revision{number, doc}, nil
		}
		why = reason(err)
	}
	found := e.findOlder(history, number)
	e.setRunning(found)
	if !known && len(history) == 1 && found.number == firstNumber {
		e.settleHead() // the first start was cut off between saving the revision and noting it
		return found, nil
	}
	e.publish(RevisionDamaged{Revision: number, Running: found.number, Reason: why})
	e.differ(func(d *degraded) {
		d.damaged = &Difference{Subsystem: storeName, Step: StepPrepare, Message: damagedText(number, found.number, why)}
	})
	return found, nil
}

// firstStart saves the initial document as the first revision.
func (e *Engine) firstStart() (revision, error) {
	saved, err := e.store.SaveRevision(store.Revision{
		Author: "sluis", From: "local", Comment: "initial configuration",
		Format: e.initial.Format, SecretRefs: config.SecretRefs(e.initial),
	}, config.EncodeYAML(e.initial))
	if err != nil {
		return revision{}, err
	}
	if err := e.store.SetRunning(saved.Number); err != nil {
		return revision{}, err
	}
	first := revision{saved.Number, e.initial}
	e.setRunning(first)
	return first, nil
}

// findOlder finds the newest readable revision that ran before the given one (0 =
// before any), else the initial document without a number.
//
// A revision's parent is what ran when it was saved. So every revision that
// stopped running is the parent of the one that followed it, and no revision
// that never ran is anybody's parent; the first one ran too.
func (e *Engine) findOlder(history []store.Revision, before int) revision {
	ran := map[int]bool{firstNumber: true}
	for _, r := range history {
		ran[r.Parent] = true
	}
	for _, r := range history { // newest first
		if !ran[r.Number] || before > 0 && r.Number >= before {
			continue
		}
		if doc, err := e.load(r.Number); err == nil {
			return revision{r.Number, doc}
		}
	}
	return revision{0, e.initial}
}

// load reads a revision's document.
func (e *Engine) load(number int) (*config.Document, error) {
	_, data, err := e.store.Revision(number)
	if err != nil {
		return nil, err
	}
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		return nil, fmt.Errorf("decode revision %d: %w", number, problems.Errors())
	}
	return doc, nil
}

// findPending reads the revision that waits for confirmation; or says which one
// is given up (0 = none), and why.
func (e *Engine) findPending() (waiting *pending, givenUp int, why text.Msg) {
	p, ok := e.store.Pending()
	switch {
	case !ok:
		return nil, 0, text.Msg{}
	case p.Phase != store.Waiting:
		return nil, p.Revision, text.M("Sluis ended while it was being applied")
	case !time.Now().Before(p.Deadline):
		return nil, p.Revision, text.M("it was not confirmed in time")
	}
	doc, err := e.load(p.Revision)
	if err != nil {
		return nil, p.Revision, text.M("it can't be read: {reason}", "reason", reason(err))
	}
	waiting = &pending{revision: revision{p.Revision, doc}, deadline: p.Deadline}
	if i := slices.IndexFunc(e.store.Revisions(), func(r store.Revision) bool { return r.Number == p.Revision }); i >= 0 {
		saved := e.store.Revisions()[i]
		waiting.author = saved.Author
		waiting.deadline = e.shorten(p, saved.Time)
	}
	return waiting, 0, text.Msg{}
}

// shorten keeps a clock that was set back while the machine was off from drawing
// out the wait: from now it lasts at most as long as the deadline was after the
// revision was saved.
func (e *Engine) shorten(p store.Pending, saved time.Time) time.Time {
	latest := time.Now().Add(p.Deadline.Sub(saved)).Round(0)
	if !p.Deadline.After(latest) {
		return p.Deadline
	}
	p.Deadline = latest
	_ = e.store.SetPending(p) // if it can't be written, the next restart shortens it again
	return latest
}
