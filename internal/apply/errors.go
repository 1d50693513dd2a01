package apply

import (
	"errors"
	"fmt"
	"time"

	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Kinds of refusal and failure, to be told apart with errors.Is.
var (
	// ErrBusy says that another apply is under way.
	ErrBusy = errors.New("another apply is under way")
	// ErrPending says that another revision waits for confirmation.
	ErrPending = errors.New("another revision waits for confirmation")
	// ErrNothingPending says that no revision waits for confirmation.
	ErrNothingPending = errors.New("nothing waits for confirmation")
	// ErrOldConnection says that the confirmation came on a connection that was
	// accepted before the last step was done, so that it proves nothing.
	ErrOldConnection = errors.New("the connection is older than the change")
	// ErrProblems says that the check found errors; nothing was touched.
	ErrProblems = errors.New("the document has errors")
	// ErrFailed says that a step failed and that everything was undone.
	ErrFailed = errors.New("a step failed")
	// ErrDegraded says that the machine differs from what it should be.
	ErrDegraded = errors.New("the machine is degraded")
	// ErrStore says that the state directory could not be written; nothing was
	// touched.
	ErrStore = errors.New("the state directory failed")
	// ErrStopped says that the engine has not booted yet, or was closed.
	ErrStopped = errors.New("the engine is not running")
)

// Error is what the methods of an Engine fail with, besides the error of a
// context that ended.
type Error struct {
	// Kind is one of the kinds above. A failed apply whose undoing failed too is
	// ErrDegraded.
	Kind error
	// Message says what happened, Hint what to do; the latter may be empty.
	Message, Hint text.Msg
	// Cause is what is behind it, such as a *StepError; may be nil.
	Cause error
}

// Error is the message in English.
func (e *Error) Error() string { return e.Message.String() }

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// StepError is a step that failed.
type StepError struct {
	Subsystem string
	Step      Step
	Err       error
	// Abandoned says that the step did not return: it may still be at work.
	Abandoned bool
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Subsystem, e.Step, e.Err) }

// Unwrap returns the subsystem's own error.
func (e *StepError) Unwrap() error { return e.Err }

// panicError is a panic of a subsystem, which must not end the process: traffic
// is flowing.
type panicError struct{ value any }

func (e panicError) Error() string { return fmt.Sprintf("BUG: panic: %v", e.value) }

var (
	errTimeout   = errors.New("took too long and was stopped")
	errAbandoned = errors.New("took too long and does not stop")
	errStillBusy = errors.New("an earlier step that took too long has not come back yet; if it never does, restart Sluis")
	errExited    = errors.New("BUG: ended its goroutine")
)

// reason is what an error says to administrators.
func reason(err error) text.Msg {
	var own interface{ Text() text.Msg }
	if errors.As(err, &own) {
		return own.Text()
	}
	var stored *store.Error
	if errors.As(err, &stored) {
		sentence, _ := store.Explain(err)
		return sentence
	}
	var step *StepError
	if errors.As(err, &step) {
		err = step.Err
	}
	return text.M("{error}", "error", err.Error())
}

func errBusy() error {
	return &Error{
		Kind: ErrBusy, Message: text.M("another change is being applied right now"),
		Hint: text.M("look at its result, then apply again"),
	}
}

func errStopped() error {
	return &Error{Kind: ErrStopped, Message: text.M("Sluis is starting or stopping"), Hint: text.M("try again in a moment")}
}

func errPending(revision int, deadline string) error {
	return &Error{
		Kind: ErrPending,
		Message: text.M("revision {revision} waits for confirmation until {deadline}",
			"revision", revision, "deadline", deadline),
		Hint: text.M("confirm it or roll it back first"),
	}
}

func errNothingPending() error {
	return &Error{
		Kind: ErrNothingPending, Message: text.M("no revision waits for confirmation"),
		Hint: text.M("it was confirmed already, or the running revision has returned: the events say which"),
	}
}

func errOldConnection(revision int, deadline string) error {
	return &Error{
		Kind: ErrOldConnection,
		Message: text.M("revision {revision} can't be confirmed on this connection: it was open before the change, so it doesn't show that you still get in",
			"revision", revision),
		Hint: text.M("open a new connection and confirm there, before {deadline}", "deadline", deadline),
	}
}

func errProblems(ps config.Problems) error {
	return &Error{
		Kind: ErrProblems, Cause: ps,
		Message: text.M("not applied: the configuration has errors ({count}); nothing was changed", "count", len(ps.Errors())),
		Hint:    text.M("correct them, then apply again"),
	}
}

func errStore(err error) error {
	sentence, hint := store.Explain(err)
	return &Error{Kind: ErrStore, Message: text.M("not applied: {reason}", "reason", sentence), Hint: hint, Cause: err}
}

// errFailed reports an apply that failed at a step, and whether all was undone.
func errFailed(revision int, failed *StepError, undone bool) error {
	if !undone {
		return &Error{
			Kind: ErrDegraded, Cause: failed,
			Message: text.M("revision {revision} failed in {subsystem}, step {step}: {reason}; not everything could be undone",
				"revision", revision, "subsystem", failed.Subsystem, "step", string(failed.Step), "reason", reason(failed)),
			Hint: text.M("the status lists what differs from the running revision; retry brings it back"),
		}
	}
	return &Error{
		Kind: ErrFailed, Cause: failed,
		Message: text.M("revision {revision} failed in {subsystem}, step {step}: {reason}; all was undone",
			"revision", revision, "subsystem", failed.Subsystem, "step", string(failed.Step), "reason", reason(failed)),
	}
}

func errDegraded(revision, count int) error {
	return &Error{
		Kind: ErrDegraded,
		Message: text.M("revision {revision} is not wholly in effect; what differs: {count}",
			"revision", revision, "count", count),
		Hint: text.M("the status lists them; remove the cause, then retry"),
	}
}

// stamp writes a time for administrators: in the zone of their configuration.
func stamp(t time.Time, doc *config.Document) string {
	return t.In(zone(doc)).Format(time.RFC3339)
}

// zone is the time zone of a document; UTC where there is none.
func zone(doc *config.Document) *time.Location {
	if doc == nil {
		return time.UTC
	}
	configured, err := time.LoadLocation(doc.System.Timezone)
	if err != nil {
		return time.UTC
	}
	return configured
}
