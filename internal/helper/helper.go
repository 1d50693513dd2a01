// Package helper is the seam to the root helper: the only code that runs as root.
//
// The service runs as its own user. What needs root it reaches through the funcs
// of Verbs, which main joins to the rooms: Local where Sluis itself is root, Dial
// where a root helper listens on a unix socket, and there the helper's process
// calls Serve over Local. Nobody else can tell which one it is.
//
//	service (own user)                    root helper (same binary, as root)
//	room → Verbs.Identify                 Verbs.Identify = Local's
//	         │ Dial                            ↑ after: known verb, arguments
//	         └── {"verb":…,"args":…}\n ──→ Serve │ decoded strictly, and checked
//	         ┌── {"result":…}\n ←──────────────┘ each call to the audit
//
// It owns the list of verbs, which is closed, and the way of a call. It promises
// that the helper's side does nothing for a peer that is neither the service's
// user nor root, as the kernel says (SO_PEERCRED); that arguments are decoded
// without leniency and checked before anything happens; that no shell is involved;
// that size, time and number of calls are bounded; and that every call is told to
// the audit, also one that was refused. It does not protect the machine from what
// a verb may do: a verb must be narrow enough that even a service which has been
// taken over may call it.
//
// To add a verb:
//
//  1. a field in Verbs, func(ctx, XArgs) (XResult, error);
//  2. types XArgs and XResult in a file of the verb; XArgs has Check, which refuses
//     every value that the verb is not meant for, and Summary, which holds no
//     secret;
//  3. var x = verb[XArgs, XResult]{name, limit} beside them;
//  4. its line in Dial's list and in table, Serve's list; a test fails while one
//     of these is missing;
//  5. its work, in Local, which begins with Check too: where Sluis is root, no Serve
//     stands before it.
package helper

import (
	"context"
	"os"
	"time"

	"sluis/internal/text"
)

// Verbs are all things that root does for Sluis. Each func may be called from any
// goroutine, ends when its context does, and returns an *Error.
type Verbs struct {
	// Identify tells who does the work.
	Identify func(context.Context) (Identity, error)
}

// Identity is who does the work.
type Identity struct {
	// Version is the version of Sluis that it is.
	Version string `json:"version"`
	// UID is the user that it runs as; 0 = root.
	UID int `json:"uid"`
	// PID is its process.
	PID int `json:"pid"`
}

// Local does the work in this process.
func Local(version string) Verbs {
	return Verbs{
		Identify: func(context.Context) (Identity, error) {
			return Identity{Version: version, UID: os.Geteuid(), PID: os.Getpid()}, nil
		},
	}
}

var identify = verb[none, Identity]{name: "identify", limit: 5 * time.Second}

// Code says what kind of failure an Error is.
type Code string

// The codes.
const (
	Refused     Code = "refused"     // the peer may not, or the verb or its arguments are not allowed
	Malformed   Code = "malformed"   // the request is no request
	Busy        Code = "busy"        // too many calls at once
	TimedOut    Code = "timed_out"   // the request or the work took too long
	Failed      Code = "failed"      // the work was begun and failed
	Unreachable Code = "unreachable" // no helper answers; the work may or may not have been done
)

// Error is why a call did not succeed, in words for administrators.
type Error struct {
	Code    Code     `json:"code"`
	Message text.Msg `json:"message"`
}

// Error is the message in English.
func (e *Error) Error() string { return e.Message.String() }
