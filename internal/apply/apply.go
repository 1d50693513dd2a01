// Package apply is the commit engine: it brings a whole document into effect in
// all subsystems, or leaves the machine as it was.
//
// It owns the order of steps, the undoing, the wait for confirmation, the boot
// and the knowledge of what runs. One path serves them all:
//
//	prepare all          look, touch nothing; any error refuses an apply
//	save, mark pending   durably: from here on a crash leads back to running
//	add     1 → n        the new beside the old
//	switch  1 → n        traffic to the new
//	remove  n → 1        the old goes
//	mark                 running at once, or waiting with a deadline
//
//	         Apply                    last step done              Confirm
//	running ───────► pending:applying ──────────────► pending:waiting ───────► running'
//	   ▲                   │ a step fails, crash            │ deadline, Rollback,
//	   └───────────────────┴────────────────────────────────┘ restart past the deadline
//
// Going forward (Apply) is strict: the first step that fails ends it, and every
// plan that had begun is undone in the opposite order. Going back and booting are
// best effort: a subsystem that fails stops where it got to, without undo, since
// half of the way to the running configuration is better than none, and the
// others go on. What then differs from the document is listed exactly, see
// Status.Degraded, and tried again by Retry and at boot.
//
// It promises that no two steps run at the same time, that no Prepare and no
// setter of a fact (see Exclusive) runs beside a step, and that whatever was
// reported as running or as waiting survives kill -9 and a power cut. A step that
// ignores its context and does not return is the exception: it is left alone
// after a grace time, its subsystem is listed as degraded, and nothing is asked
// of that subsystem again until the step is back.
//
// It does not validate the document by itself, knows no subsystem and no
// administrator, and prunes nothing: that is control's.
package apply

import (
	"context"
	"log/slog"
	"time"

	"sluis/internal/config"
	"sluis/internal/event"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Subsystem puts a part of the document into effect. The engine never calls it
// from two goroutines at once.
type Subsystem interface {
	// Name is the subsystem's room; unique, and shown to administrators.
	Name() string
	// Claims are the patterns of the document that it puts into effect, such as
	// "frontends", "system.admin" or "frontends[].type=http"; see config.Unclaimed.
	Claims() []string
	// Prepare compares the machine as it is now with the document, which it must
	// not change, and plans the way. It looks and does not touch. What is wrong
	// with the document on this machine is a problem; an error among them means
	// that the plan must not be carried out.
	//
	// It is called for applies, for going back and at boot alike, so it trusts what
	// it finds on the machine more than what it did before.
	Prepare(ctx context.Context, next *config.Document) (Plan, config.Problems)
}

// Plan is the way from the machine as it is to a document. A nil func has
// nothing to do. Each gets a context with the step's time limit, which does not
// end when the administrator's connection does, and has to heed it.
//
// An error that has a method Text() text.Msg is shown to administrators in those
// words.
type Plan struct {
	// Add puts the new beside the old: sockets are bound, addresses added.
	Add func(context.Context) error
	// Switch makes the new take over.
	Switch func(context.Context) error
	// Remove ends what the document no longer has.
	Remove func(context.Context) error
	// Undo restores what was before, whichever of the steps above were done, and
	// also if one of them failed halfway. It is not called when none had begun.
	Undo func(context.Context) error
	// Impact is what the plan would end.
	Impact []Impact
}

// Impact counts live things that a change of one object would end.
type Impact struct {
	// Path is the object: frontends[shop].
	Path string `json:"path"`
	// Listeners are sockets that would be closed.
	Listeners int `json:"listeners"`
	// Connections are open client connections.
	Connections int `json:"connections"`
	// WebSockets are those of the connections that carry an upgraded protocol.
	WebSockets int `json:"websockets"`
	// BoundSessions are clients that hold on to a server that goes.
	BoundSessions int `json:"bound_sessions"`
}

// Step is one of the things that are asked of a subsystem.
type Step string

// The steps, in the order in which they come.
const (
	StepPrepare Step = "prepare"
	StepAdd     Step = "add"
	StepSwitch  Step = "switch"
	StepRemove  Step = "remove"
	StepSave    Step = "save" // of the store: noting durably what runs now
	StepUndo    Step = "undo"
)

// storeName stands for the state directory where a subsystem's name is shown.
const storeName = "store"

// Options are what an Engine is made of.
type Options struct {
	// Subsystems in the order of their steps.
	Subsystems []Subsystem
	// Store holds the revisions. The engine does not close it.
	Store *store.Store
	// Publish is told every fact of this room. It must not call the engine, but
	// for Status and Accepted. nil = nobody is told.
	Publish func(event.Event)
	// StepTimeout is how long one step, or one Prepare, of one subsystem may take;
	// 0 = 30 s.
	StepTimeout time.Duration
	// Initial is the document of a machine that has no revision yet; nil =
	// config.Default().
	Initial *config.Document
	// Log gets what only developers need, such as the stack of a panic; nil = nothing
	// is logged.
	Log *slog.Logger
}

// defaultStepTimeout is for a step, abandonAfter for one that ignores the end of
// its context.
const (
	defaultStepTimeout = 30 * time.Second
	abandonAfter       = 5 * time.Second
)

// Request asks for a document to be brought into effect.
type Request struct {
	// Document is in stored form: secrets are references, and what they refer to is
	// in the store. The caller does not change it any more.
	Document *config.Document
	// Author, From (address or "local") and Comment are kept with the revision.
	Author, From, Comment string
	// ConfirmWithin is how long the revision waits for confirmation, counted from
	// its last step, before the running one returns; 0 or less = it runs at once.
	ConfirmWithin time.Duration
	// Restores is the number of the revision that this document brings back; 0 =
	// none.
	Restores int
}

// Result is the outcome of an Apply that went through, or the reason in the
// document why it was refused.
type Result struct {
	// Revision is the number under which the document was saved; 0 = it was not.
	Revision int `json:"revision"`
	// Problems are all that the check found, also those that don't refuse.
	Problems config.Problems `json:"problems"`
	// Impact is what the change ended.
	Impact []Impact `json:"impact"`
	// Deadline is when the running revision returns; zero = no confirmation is
	// needed.
	Deadline time.Time `json:"deadline,omitzero"`
}

// Phase says what the engine is at.
type Phase string

// The phases.
const (
	PhaseIdle      Phase = "idle"      // the running revision is in effect
	PhaseBooting   Phase = "booting"   // Boot is not done yet
	PhaseApplying  Phase = "applying"  // steps towards a new revision, or their undoing
	PhaseWaiting   Phase = "waiting"   // a revision waits for confirmation
	PhaseReturning Phase = "returning" // steps back to the running revision
	PhaseRetrying  Phase = "retrying"  // steps of Retry
)

// Status is what runs and what does not.
type Status struct {
	// Running is the number of the running revision: the last one that was applied
	// at once or confirmed. 0 = before the first boot, or no revision is readable.
	Running int `json:"running"`
	// RunningDocument is the running revision's; shared, so not to be changed. nil
	// before Boot.
	RunningDocument *config.Document `json:"-"`
	// Pending is the revision that waits for confirmation; nil = none does.
	Pending *PendingStatus `json:"pending,omitempty"`
	// Phase says what the engine is at.
	Phase Phase `json:"phase"`
	// Applying says that steps may be under way, in whichever direction.
	Applying bool `json:"applying"`
	// Degraded lists everything that differs from the revision that should be in
	// effect (the pending one, else the running one), in the order of subsystems;
	// empty = nothing does.
	Degraded []Difference `json:"degraded"`
}

// PendingStatus is a revision in effect that waits for confirmation.
type PendingStatus struct {
	Revision int       `json:"revision"`
	Deadline time.Time `json:"deadline"`
	Author   string    `json:"author"`
	// Document is the pending revision's; shared, so not to be changed.
	Document *config.Document `json:"-"`
}

// Difference is one thing on the machine that isn't as the document says.
type Difference struct {
	// Subsystem is whose part it is; "store" for the state directory, empty where
	// no subsystem claims the part.
	Subsystem string `json:"subsystem"`
	// Step is the one that failed.
	Step Step `json:"step"`
	// Path is the place in the document, where it is known.
	Path string `json:"path,omitempty"`
	// Message says what is wrong.
	Message text.Msg `json:"message"`
	// Since is when it was found first.
	Since time.Time `json:"since"`
}
