package apply

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluis/internal/config"
	"sluis/internal/event"
	"sluis/internal/store"
)

// Engine commits documents. Make one with New, then call Boot once.
//
// Lock order: turn, then mu. Whoever holds the turn may call subsystems, the
// store and Publish; under mu there is nothing but assignments.
type Engine struct {
	// Immutable.
	subsystems  []Subsystem
	claims      []string
	store       *store.Store
	publish     func(event.Event)
	stepTimeout time.Duration
	initial     *config.Document
	log         *slog.Logger

	// turn holds a token while somebody prepares, does steps or sets facts. A
	// channel, not a mutex: who waits for it can give up.
	turn chan struct{}
	// closing is closed by Close.
	closing chan struct{}
	// background counts timers that may still fire and their work.
	background sync.WaitGroup
	// accepted is the number of the admin connection accepted last.
	accepted atomic.Uint64
	// abandoned holds, by subsystem, a channel that is closed when the step that
	// did not return in time comes back. Guarded by turn.
	abandoned map[string]<-chan struct{}

	mu sync.Mutex
	// What follows is guarded by mu, and changed only with the turn held as well,
	// but for applying and closed.
	booted   bool
	closed   bool
	applying bool // an Apply has begun and not ended
	phase    Phase
	running  revision
	pending  *pending // nil unless the phase is waiting
	degraded degraded
}

// revision is a document with its number.
type revision struct {
	number   int // 0 = no revision could be read; the initial document is in effect
	document *config.Document
}

// pending is the revision that waits for confirmation. Immutable.
type pending struct {
	revision
	author   string
	deadline time.Time
	// doneSeq is the number of the last admin connection that was accepted before
	// the last step was done.
	doneSeq uint64
	// timer gives the revision up at the deadline.
	timer *time.Timer
}

// New makes an engine, which does nothing before Boot but Check.
func New(o Options) *Engine {
	e := &Engine{
		subsystems: o.Subsystems, store: o.Store, publish: o.Publish, stepTimeout: o.StepTimeout,
		initial: o.Initial, log: o.Log,
		turn: make(chan struct{}, 1), closing: make(chan struct{}), abandoned: map[string]<-chan struct{}{},
		phase: PhaseBooting,
	}
	names := map[string]bool{storeName: true, "": true}
	for _, s := range o.Subsystems {
		if names[s.Name()] {
			panic("BUG: a subsystem's name is empty or taken: " + s.Name())
		}
		names[s.Name()] = true
		e.claims = append(e.claims, s.Claims()...)
	}
	if e.publish == nil {
		e.publish = func(event.Event) {}
	}
	if e.stepTimeout <= 0 {
		e.stepTimeout = defaultStepTimeout
	}
	if e.initial == nil {
		e.initial = config.Default()
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	return e
}

// Close lets an apply that is under way finish, then stops the engine. It undoes
// nothing: a revision that waits for confirmation keeps its deadline, and the
// next Boot goes on with it. It may be called twice.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	e.mu.Unlock()
	close(e.closing)

	e.turn <- struct{}{}
	e.mu.Lock()
	waiting := e.pending
	e.mu.Unlock()
	if waiting != nil {
		e.stopTimer(waiting)
	}
	<-e.turn
	e.background.Wait()
}

// Accepted numbers a newly accepted admin connection. Its number is what Confirm
// is given with a request on that connection.
func (e *Engine) Accepted() uint64 { return e.accepted.Add(1) }

// Exclusive runs f while no step and no Prepare runs, so that a fact (a resolved
// name, an issued certificate) can be set by the same setters as an apply. It
// waits for its turn. It must not be called from a step or from another f.
func (e *Engine) Exclusive(f func()) {
	e.turn <- struct{}{}
	defer e.endTurn()
	f()
}

// Status says what runs, what waits and what differs.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{
		Running: e.running.number, RunningDocument: e.running.document, Phase: e.phase,
		Applying: e.phase != PhaseIdle && e.phase != PhaseWaiting,
		Degraded: e.degraded.list(e.subsystems),
	}
	if p := e.pending; p != nil {
		s.Pending = &PendingStatus{Revision: p.number, Deadline: p.deadline, Author: p.author, Document: p.document}
	}
	return s
}

// takeTurn waits for the turn, or for the end of the context.
func (e *Engine) takeTurn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) endTurn() { <-e.turn }

// begin takes the turn of an engine that has booted and isn't closed.
func (e *Engine) begin(ctx context.Context) error {
	if err := e.takeTurn(ctx); err != nil {
		return err
	}
	if !e.up() {
		e.endTurn()
		return errStopped()
	}
	return nil
}

func (e *Engine) up() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.booted && !e.closed
}

func (e *Engine) setPhase(p Phase) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.phase = p
}

// rest ends a phase of steps: back to waiting if something waits, else idle.
func (e *Engine) rest() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.phase = PhaseIdle
	if e.pending != nil {
		e.phase = PhaseWaiting
	}
}

// setRunning notes what runs; nothing waits any more.
func (e *Engine) setRunning(r revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.pending = r, nil
}

// now returns the running and the waiting revision.
func (e *Engine) now() (revision, *pending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running, e.pending
}

// wait notes that a revision waits, and starts its timer.
func (e *Engine) wait(p *pending, left time.Duration) {
	e.background.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	p.timer = time.AfterFunc(left, func() {
		defer e.background.Done()
		e.expire(p)
	})
	e.pending = p
}

// stopTimer stops the deadline of a revision; its work, if it has begun already,
// finds nothing to do.
func (e *Engine) stopTimer(p *pending) {
	if p.timer.Stop() {
		e.background.Done()
	}
}
