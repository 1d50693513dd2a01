// Package control is the only door to change the machine: every operation of the
// GUI, the API and the command line is a method here, with its authorization,
// its checks and its audit record. The others hold no rules of their own.
//
// A change goes one way through this room:
//
//	edit ──► candidate ──► Check ──► Apply ──► (Confirm | Rollback)
//	 │          │            │          │
//	 │          └ saved      └ Validate, then every subsystem's Prepare
//	 └ decode, take secrets in, hold the ETag against what stands there
//
// The candidate is one document that all administrators share. Two who edit
// different objects don't collide; of two who edit the same one, the second is
// told and shown both versions.
//
// It promises that an operation that is refused has changed nothing, and that
// each one that changes something leaves a record of who, from where, what, when
// and how it ended. It does not know transports, pages or JSON schemas, and not
// how the machine is changed: that is apply's.
package control

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/event"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Options are what the door stands between.
type Options struct {
	Store  *store.Store
	Engine *apply.Engine
	Auth   *auth.Auth
	Events *event.Log
	// Balancer is what the load balancer tells and does; zero where this build or mode
	// has none.
	Balancer Balancer
	// FactKeys are the stored keys that no document names but that are in use,
	// such as that of the appliance's own certificate; nil = none.
	FactKeys func() []string
	// ReadOnly says why the candidate can't be edited, where the configuration comes
	// from a file; zero = it can be edited.
	ReadOnly text.Msg
	// Admits tells whether somebody at an address gets past the document's management
	// sources; nil = everybody does.
	Admits func(*config.Document, netip.Addr) bool
	// AdminURLs are where the API answers now; nil = nowhere.
	AdminURLs func() []string
	// Root tells who does what needs root; nil = nobody.
	Root func(context.Context) Root
	// Version is the program's version.
	Version string
}

// Control is the door. Its methods may be called from any goroutine.
type Control struct {
	o       Options
	started time.Time

	// mu guards the candidate and whatever stands between a secret's arrival in the
	// store and the candidate that names it. It is held over writes to the store,
	// since edits are rare and must not overtake each other, but never over steps of
	// an apply. Lock order: the engine's turn, then mu, then the store's own locks.
	mu        sync.Mutex
	candidate candidate
	// notes are what was found amiss at the start; immutable after New.
	notes []text.Msg
	// checks lets two documents that aren't kept be checked at a time: each takes as
	// much memory and time as its sender likes, within the limits of a document.
	checks chan struct{}
	// flying are documents on their way to an apply, with how often each is.
	flying map[*config.Document]int
}

// Caller is who asks, and how they came.
type Caller struct {
	auth.Identity
	// From is the caller's address, or "local".
	From string
	// Via is the way in: "api", "gui", "cli" or "file".
	Via string
	// Conn is the number of the connection that the request came on, from
	// Engine.Accepted; 0 = none, which can never confirm.
	Conn uint64
}

// Who is the caller's name for records.
func (c Caller) Who() string {
	if c.Token != "" {
		return fmt.Sprintf("%s (token %s)", c.Account, c.Token)
	}
	return c.Account
}

// Local is the identity of root on the machine itself, who may do everything.
func Local() auth.Identity {
	return auth.Identity{Account: "root", FullName: "root on this machine", Role: auth.Administrator}
}

// New opens the door. The engine has booted: there is a running document.
func New(o Options) *Control {
	c := &Control{o: o, started: time.Now(), flying: map[*config.Document]int{}, checks: make(chan struct{}, 2)}
	c.loadCandidate()
	if o.Engine.Status().Pending == nil {
		c.settle() // the process may have ended between an apply and this
	}
	return c
}

// Events are the facts that have happened, for streams.
func (c *Control) Events(caller Caller) (*event.Log, error) {
	return c.o.Events, caller.May(auth.Action{Kind: auth.View})
}

// Accepted numbers a connection of the admin listeners that was accepted now.
func (c *Control) Accepted() uint64 { return c.o.Engine.Accepted() }

// Location is the time zone that times are shown in.
func (c *Control) Location() *time.Location {
	doc := c.o.Engine.Status().RunningDocument
	if doc == nil {
		return time.UTC
	}
	return location(doc)
}

func location(doc *config.Document) *time.Location {
	zone, err := time.LoadLocation(doc.System.Timezone)
	if err != nil {
		return time.UTC // Validate has said so; a time must still be shown
	}
	return zone
}

func (c *Control) running() *config.Document { return c.o.Engine.Status().RunningDocument }
