package control

import (
	"context"
	"errors"
	"time"

	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Kind says what sort of fault it is; transports choose their status by it.
type Kind string

// The kinds of faults.
const (
	Invalid         Kind = "invalid"         // what was given can't be taken
	NotFound        Kind = "not_found"       // there is no such thing
	Conflict        Kind = "conflict"        // it doesn't fit what stands there
	Changed         Kind = "changed"         // somebody else has changed it since it was read
	MatchRequired   Kind = "match_required"  // a write needs the ETag of what was read
	Unauthenticated Kind = "unauthenticated" // nobody is logged in
	Forbidden       Kind = "forbidden"       // the caller may not do it
	Throttled       Kind = "throttled"       // too many attempts; come back later
	Busy            Kind = "busy"            // something else is going on
	Refused         Kind = "refused"         // the checks say no
	Failed          Kind = "failed"          // it was tried, and undone
	Unavailable     Kind = "unavailable"     // this build or mode can't
	Storage         Kind = "storage"         // the disk says no
	Internal        Kind = "internal"        // our own fault
)

// Fault is a "no" for an administrator: what, why, and what to do.
type Fault struct {
	Kind    Kind
	Message text.Msg
	Hint    text.Msg
	// Problems are the places in a document that are at fault.
	Problems config.Problems
	// Current is the object as it stands, with its ETag and who changed it last,
	// where Kind is Changed; nil = it doesn't exist any more.
	Current *Object
	// RetryAfter is how long to wait; zero where waiting doesn't help.
	RetryAfter time.Duration
	// cause is what lies below, for the log.
	cause error
}

// Error says the fault in English.
func (f *Fault) Error() string {
	s := f.Message.String()
	if len(f.Problems) > 0 {
		s += ":\n" + f.Problems.Error()
	}
	return s
}

// Unwrap is what lies below, for the log.
func (f *Fault) Unwrap() error { return f.cause }

func fault(kind Kind, message text.Msg) *Fault { return &Fault{Kind: kind, Message: message} }

// do sets what to do about the fault.
func (f *Fault) do(hint text.Msg) *Fault {
	f.Hint = hint
	return f
}

// AsFault turns any error of the rooms below into a fault.
func AsFault(err error) *Fault {
	var f *Fault
	var refusal *auth.Refusal
	var applyError *apply.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &refusal):
		return ofRefusal(refusal)
	case errors.As(err, &applyError):
		return ofApply(applyError)
	case isStore(err):
		message, hint := store.Explain(err)
		kind := Storage
		if errors.Is(err, store.ErrNotFound) {
			kind = NotFound
		}
		return &Fault{Kind: kind, Message: message, Hint: hint, cause: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Fault{Kind: Busy, Message: text.M("the request ended before its answer was ready"), cause: err}
	default:
		return &Fault{
			Kind: Internal, Message: text.M("something went wrong inside Sluis"),
			Hint: text.M("the log of this machine says more"), cause: err,
		}
	}
}

func isStore(err error) bool {
	var e *store.Error
	return errors.As(err, &e)
}

func ofRefusal(r *auth.Refusal) *Fault {
	kinds := map[auth.RefusalKind]Kind{
		auth.Unauthenticated: Unauthenticated, auth.Throttled: Throttled, auth.Busy: Busy, auth.Forbidden: Forbidden,
		auth.Invalid: Invalid, auth.NotFound: NotFound, auth.Conflict: Conflict, auth.Full: Conflict,
	}
	return &Fault{Kind: kinds[r.Kind], Message: r.Message, Hint: r.Hint, RetryAfter: r.RetryAfter, cause: r}
}

func ofApply(e *apply.Error) *Fault {
	kinds := []struct {
		is   error
		kind Kind
	}{
		{apply.ErrBusy, Busy},
		{apply.ErrPending, Conflict},
		{apply.ErrNothingPending, Conflict},
		{apply.ErrOldConnection, Conflict},
		{apply.ErrProblems, Refused},
		{apply.ErrFailed, Failed},
		{apply.ErrDegraded, Failed},
		{apply.ErrStore, Storage},
		{apply.ErrStopped, Busy},
	}
	f := &Fault{Kind: Internal, Message: e.Message, Hint: e.Hint, cause: e}
	for _, k := range kinds {
		if errors.Is(e, k.is) {
			f.Kind = k.kind
		}
	}
	errors.As(e.Cause, &f.Problems)
	return f
}
