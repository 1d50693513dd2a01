package auth

import (
	"errors"
	"time"

	"sluis/internal/text"
)

// RefusalKind is what a caller of this room branches on.
type RefusalKind string

// The kinds of refusal.
const (
	// Unauthenticated: the caller has not proved who they are.
	Unauthenticated RefusalKind = "unauthenticated"
	// Throttled: too many failed logins; RetryAfter says when to come back.
	Throttled RefusalKind = "throttled"
	// Busy: too many logins are being checked right now.
	Busy RefusalKind = "busy"
	// Forbidden: the caller is known and may not do it.
	Forbidden RefusalKind = "forbidden"
	// Invalid: what was given cannot be used, such as a password that is too short.
	Invalid RefusalKind = "invalid"
	// NotFound: there is no such account, token or session.
	NotFound RefusalKind = "not_found"
	// Conflict: the name is taken.
	Conflict RefusalKind = "conflict"
	// Full: a bound is reached.
	Full RefusalKind = "full"
)

// ErrBusy is what errors.Is finds in a refusal of kind Busy.
var ErrBusy = errors.New("too many logins at once")

// Refusal is a "no" with its reason. Every error of this room that is not a fault
// of ours or of the disk is a *Refusal.
type Refusal struct {
	Kind RefusalKind
	// Message says what was refused and why.
	Message text.Msg
	// Hint says what to do next.
	Hint text.Msg
	// RetryAfter is how long to wait before the next attempt; zero when waiting does
	// not help.
	RetryAfter time.Duration
}

// Error renders the message in English.
func (r *Refusal) Error() string { return r.Message.String() }

// Is lets errors.Is find ErrBusy.
func (r *Refusal) Is(target error) bool { return target == ErrBusy && r.Kind == Busy }

func refuse(kind RefusalKind, message, hint text.Msg) *Refusal {
	return &Refusal{Kind: kind, Message: message, Hint: hint}
}

// seconds rounds up, so that who waits that long does not come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func noAccount(name string) *Refusal {
	return refuse(NotFound, text.M("no administrator named {name} is in the running configuration", "name", name),
		text.M("add the administrator to the configuration and apply it"))
}
