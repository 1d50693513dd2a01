package control

import (
	"context"
	"os"
	"time"

	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/text"
)

// Status is the state of the appliance at a glance.
type Status struct {
	Version  string    `json:"version"`
	Hostname string    `json:"hostname"`
	Time     time.Time `json:"time"`
	Started  time.Time `json:"started"`
	PID      int       `json:"pid"`
	// Running is the number of the revision that is in effect.
	Running int `json:"running"`
	// Pending waits for its confirmation; nil = none does.
	Pending *apply.PendingStatus `json:"pending,omitempty"`
	// Applying says that an apply is under way.
	Applying bool `json:"applying"`
	// Degraded lists what of the running revision isn't in effect, and why.
	Degraded []apply.Difference `json:"degraded"`
	// Changes is how many objects the candidate would change of what is in effect.
	Changes int `json:"changes"`
	// CandidateETag names the candidate's state.
	CandidateETag string `json:"candidate_etag"`
	// NotInEffect are parts of the running document that nothing here uses.
	NotInEffect config.Problems `json:"not_in_effect"`
	// ReadOnly says why the candidate can't be edited; zero = it can.
	ReadOnly text.Msg `json:"read_only,omitzero"`
	// Root is who does what needs root on this machine.
	Root    Root  `json:"root"`
	Storage Usage `json:"storage"`
	// Notes are what was found amiss at the start, such as damaged revisions.
	Notes []text.Msg `json:"notes"`
}

// Usage is what the state directory holds.
type Usage struct {
	Directory string `json:"directory"`
	Bytes     int64  `json:"bytes"`
	Revisions int    `json:"revisions"`
}

// Root is who does what needs root.
type Root struct {
	By RootBy `json:"by"`
	// Version is that of the program that does it; another one than the appliance's
	// own means that the helper has to be restarted.
	Version string `json:"version,omitempty"`
}

// RootBy is who does what needs root.
type RootBy string

// The ways to do what needs root.
const (
	RootProcess RootBy = "process" // the appliance itself, which runs as root
	RootHelper  RootBy = "helper"  // the root helper
	RootNobody  RootBy = "nobody"  // there is no way: the host isn't managed
)

// Status is the state of the appliance.
func (c *Control) Status(ctx context.Context, caller Caller) (Status, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return Status{}, err
	}
	c.mu.Lock()
	candidate := c.candidate.document
	c.mu.Unlock()
	engine := c.o.Engine.Status()
	inEffect := engine.RunningDocument
	if engine.Pending != nil {
		inEffect = engine.Pending.Document
		pending := *engine.Pending
		pending.Deadline = c.inZone(pending.Deadline)
		engine.Pending = &pending
	}
	root := Root{By: RootNobody}
	if c.o.Root != nil {
		root = c.o.Root(ctx)
	}
	bytes, revisions := c.o.Store.Usage()
	return Status{
		Version: c.o.Version, Hostname: engine.RunningDocument.System.Hostname,
		Time: c.inZone(time.Now().Truncate(time.Millisecond)), Started: c.inZone(c.started.Truncate(time.Second)), PID: os.Getpid(),
		Running: engine.Running, Pending: engine.Pending, Applying: engine.Applying,
		Degraded:      append([]apply.Difference{}, engine.Degraded...),
		Changes:       len(config.Diff(inEffect, candidate)),
		CandidateETag: etagOf(candidate),
		NotInEffect:   append(config.Problems{}, c.o.Engine.NotInEffect()...),
		ReadOnly:      c.o.ReadOnly,
		Root:          root,
		Storage:       Usage{Directory: c.o.Store.Dir(), Bytes: bytes, Revisions: revisions},
		Notes:         append(append([]text.Msg{}, c.o.Store.Notes()...), c.notes...),
	}, nil
}
