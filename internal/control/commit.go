package control

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/text"
)

// Bounds of the time for a confirmation.
const (
	MinConfirm = 10 * time.Second
	MaxConfirm = time.Hour
)

// ApplyRequest asks for the candidate to be brought about.
type ApplyRequest struct {
	// ConfirmWithin is how long the caller has to confirm before everything goes
	// back to how it was; 0 = the candidate is running as soon as it is applied.
	ConfirmWithin time.Duration
	// Comment is kept with the revision.
	Comment string
	// ETag is the candidate that the caller has seen; empty = whatever stands there.
	ETag string
}

// Applied is what an apply, a roll back or a retry came to.
type Applied struct {
	// Revision is the revision that is in effect now.
	Revision int `json:"revision"`
	// Deadline is until when it must be confirmed; zero = it needs no confirmation.
	Deadline time.Time `json:"deadline,omitzero"`
	// Changes are what it changed.
	Changes []config.Change `json:"changes"`
	// Problems are warnings and hints.
	Problems config.Problems `json:"problems"`
	// URLs are where GUI and API answer now, where that is another address than
	// before.
	URLs []string `json:"urls,omitempty"`
	// Handover is good for one login at the new address, for callers whose session
	// doesn't come along; empty where nothing moved or the caller has a token.
	Handover string `json:"handover,omitempty"`
}

// Impact is what an apply of the candidate would change and end.
type Impact struct {
	Changes []Change `json:"changes"`
	// Ends are the live things that each change would end.
	Ends []apply.Impact `json:"ends"`
	// Total is their sum.
	Total apply.Impact `json:"total"`
}

// Check says everything that is wrong with the candidate: what the document alone
// shows, and what the machine shows.
func (c *Control) Check(ctx context.Context, caller Caller) (config.Problems, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return nil, err
	}
	doc := c.snapshot()
	problems, _, err := c.check(ctx, doc)
	return sorted(append(problems, c.lockOut(caller, doc, config.Warning)...)), err
}

// CheckDocument says the same of a document that is given and not kept.
func (c *Control) CheckDocument(ctx context.Context, caller Caller, data []byte) (config.Problems, error) {
	if err := caller.May(auth.Action{Kind: auth.Configure}); err != nil {
		return nil, err
	}
	select {
	case c.checks <- struct{}{}:
		defer func() { <-c.checks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		return problems, nil
	}
	return append(problems, config.Validate(doc)...), nil
}

func (c *Control) check(ctx context.Context, doc *config.Document) (config.Problems, []apply.Impact, error) {
	problems := append(config.Validate(doc), c.missingSecrets(doc)...)
	facts, ends, err := c.o.Engine.Check(ctx, doc)
	return sorted(append(problems, facts...)), ends, err
}

// sorted puts errors first and leaves the order of the document within.
func sorted(problems config.Problems) config.Problems {
	rank := map[config.Severity]int{config.Error: 0, config.Warning: 1, config.Hint: 2}
	slices.SortStableFunc(problems, func(a, b config.Problem) int { return rank[a.Severity] - rank[b.Severity] })
	return problems
}

func (c *Control) snapshot() *config.Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.candidate.document // documents are replaced, never changed in place
}

// Impact says what an apply of the candidate would change and end.
func (c *Control) Impact(ctx context.Context, caller Caller) (Impact, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return Impact{}, err
	}
	c.mu.Lock()
	doc, impact := c.candidate.document, Impact{Changes: c.changesLocked()}
	c.mu.Unlock()
	var err error
	if _, impact.Ends, err = c.o.Engine.Check(ctx, doc); err != nil {
		return Impact{}, err
	}
	for _, e := range impact.Ends {
		impact.Total.Listeners += e.Listeners
		impact.Total.Connections += e.Connections
		impact.Total.WebSockets += e.WebSockets
		impact.Total.BoundSessions += e.BoundSessions
	}
	return impact, nil
}

// Apply brings the candidate about.
func (c *Control) Apply(ctx context.Context, caller Caller, request ApplyRequest) (applied Applied, err error) {
	record := c.begin(caller, "apply", "")
	defer func() { record.end(err) }()
	if err := c.mayEdit(caller); err != nil {
		return Applied{}, err
	}
	if request.ConfirmWithin != 0 && (request.ConfirmWithin < MinConfirm || request.ConfirmWithin > MaxConfirm) {
		return Applied{}, fault(Invalid, text.M("the time to confirm must be between {min} and {max}", "min", config.Duration(MinConfirm), "max", config.Duration(MaxConfirm)))
	}
	doc, done := c.takeOff()
	defer done()
	if now := etagOf(doc); request.ETag != "" && request.ETag != now {
		current := Object{ETag: now}
		return Applied{}, changed(text.M("the candidate has changed since you reviewed it"), &current)
	}
	record.Changes = summaries(config.Diff(c.running(), doc))
	return c.apply(ctx, caller, doc, request, &record)
}

// apply brings a document in its stored form about, whoever brought it.
func (c *Control) apply(ctx context.Context, caller Caller, doc *config.Document, request ApplyRequest, record *record) (Applied, error) {
	changes := config.Diff(c.running(), doc)
	if len(changes) == 0 {
		return Applied{}, fault(Conflict, text.M("nothing has changed, so there is nothing to apply"))
	}
	severity := config.Warning
	if request.ConfirmWithin == 0 {
		severity = config.Error
	}
	problems := append(config.Validate(doc), c.missingSecrets(doc)...)
	problems = append(problems, c.lockOut(caller, doc, severity)...)
	if problems.HasErrors() {
		all, _, err := c.check(ctx, doc) // so that everything is said at once
		if err != nil {
			return Applied{}, err
		}
		return Applied{}, refused(append(all, c.lockOut(caller, doc, severity)...))
	}
	before := c.adminURLs()
	result, err := c.o.Engine.Apply(ctx, apply.Request{
		Document: doc, Author: caller.Who(), From: caller.From, Comment: request.Comment, ConfirmWithin: request.ConfirmWithin,
	})
	problems = sorted(append(problems, result.Problems...))
	if errors.Is(err, apply.ErrProblems) {
		return Applied{Problems: problems}, refused(problems)
	}
	if err != nil {
		return Applied{}, err
	}
	record.Revision = result.Revision
	applied := Applied{Revision: result.Revision, Deadline: c.inZone(result.Deadline), Changes: changes, Problems: problems}
	if after := c.adminURLs(); !slices.Equal(before, after) {
		applied.URLs = after
		applied.Handover, _ = c.Handover(caller) // without one the caller logs in again
	}
	if result.Deadline.IsZero() {
		c.settle()
	}
	return applied, nil
}

func (c *Control) adminURLs() []string {
	if c.o.AdminURLs == nil {
		return nil
	}
	return c.o.AdminURLs()
}

// lockOut says that the caller would not get in any more. With a time to confirm
// that is a warning, since everything comes back; without, an error.
func (c *Control) lockOut(caller Caller, doc *config.Document, severity config.Severity) config.Problems {
	from, err := netip.ParseAddr(caller.From)
	if err != nil || c.o.Admits == nil || c.o.Admits(doc, from) {
		return nil
	}
	return config.Problems{{
		Path: "system.admin.sources", Severity: severity,
		Message: text.M("you come from {address}, which would not get in any more", "address", from),
		Hint:    text.M("add it, or apply with a time to confirm: without your confirmation everything comes back"),
	}}
}

func refused(problems config.Problems) *Fault {
	return &Fault{Kind: Refused, Message: text.M("this configuration can't be applied; nothing was changed"), Problems: sorted(problems)}
}

// takeOff is the candidate on its way to an apply: until done is called, what it
// names in the store stays, though the candidate may have moved on.
func (c *Control) takeOff() (doc *config.Document, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	doc = c.candidate.document
	c.flying[doc]++
	return doc, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.flying[doc]--; c.flying[doc] == 0 {
			delete(c.flying, doc)
		}
	}
}

// settle follows a configuration that has become final: what only a way back
// would have needed goes.
func (c *Control) settle() {
	if err := c.o.Auth.Settle(); err != nil {
		c.o.Events.Publish(Trouble{What: text.M("former credentials could not be removed"), Reason: AsFault(err).Message})
	}
	c.o.Engine.Exclusive(func() {
		if err := c.prune(); err != nil {
			c.o.Events.Publish(Trouble{What: text.M("old revisions could not be removed"), Reason: AsFault(err).Message})
		}
	})
}

// prune removes old revisions, and secrets that nothing names any more. No step of
// an apply and no edit may bring a new one along meanwhile.
func (c *Control) prune() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := config.SecretRefs(c.candidate.document)
	for doc := range c.flying {
		live = append(live, config.SecretRefs(doc)...)
	}
	if c.o.FactKeys != nil {
		live = append(live, c.o.FactKeys()...)
	}
	_, err := c.o.Store.Prune(live)
	return err
}

// Confirm makes the pending revision the running one. It counts only on a
// connection that was accepted after the apply was done, which shows that the
// caller can still get in.
func (c *Control) Confirm(ctx context.Context, caller Caller) (err error) {
	record := c.begin(caller, "confirm", "")
	defer func() { record.end(err) }()
	if err := caller.May(auth.Action{Kind: auth.Configure}); err != nil {
		return err
	}
	if pending := c.o.Engine.Status().Pending; pending != nil {
		record.Revision = pending.Revision
	}
	if err := c.o.Engine.Confirm(ctx, caller.Conn, caller.Who()); err != nil {
		return err
	}
	c.settle()
	return nil
}

// Rollback takes the pending revision back. The candidate stays, to be mended.
func (c *Control) Rollback(ctx context.Context, caller Caller) (err error) {
	record := c.begin(caller, "rollback", "")
	defer func() { record.end(err) }()
	if err := caller.May(auth.Action{Kind: auth.Configure}); err != nil {
		return err
	}
	return c.o.Engine.Rollback(ctx, caller.Who())
}

// Retry tries again to bring about what a degraded box lacks.
func (c *Control) Retry(ctx context.Context, caller Caller) (err error) {
	record := c.begin(caller, "retry", "")
	defer func() { record.end(err) }()
	if err := caller.May(auth.Action{Kind: auth.Configure}); err != nil {
		return err
	}
	return c.o.Engine.Retry(ctx)
}

// ApplyFile brings about a document that stands in a file: the way in where the
// configuration comes from a file alone. A document that equals the running one
// changes nothing.
func (c *Control) ApplyFile(ctx context.Context, doc *config.Document, name string) (problems config.Problems, err error) {
	caller := Caller{Identity: Local(), From: "local", Via: "file"}
	record := c.begin(caller, "apply.file", name)
	defer func() { record.end(err) }()
	next, err := c.keepFile(doc)
	if err != nil {
		return nil, err
	}
	changes := config.Diff(c.running(), next)
	if len(changes) == 0 {
		return config.Validate(next), nil
	}
	record.Changes = summaries(changes)
	applied, err := c.apply(ctx, caller, next, ApplyRequest{Comment: text.M("from the file {name}", "name", name).String()}, &record)
	return applied.Problems, err
}

// keepFile takes a file's secrets in and makes it the candidate. A secret whose
// value hasn't changed keeps its reference, so that reading the same file again
// changes nothing.
func (c *Control) keepFile(doc *config.Document) (*config.Document, error) {
	next := config.Clone(doc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepKnown(next)
	if problems := c.takeSecrets(next); problems.HasErrors() {
		return nil, refused(problems)
	}
	c.candidate = candidate{document: next, marks: map[string]Mark{}}
	return next, nil
}

// keepKnown replaces inline secrets that equal what the running document's
// reference at the same place stands for.
func (c *Control) keepKnown(doc *config.Document) {
	known := map[string]config.Secret{}
	config.EachSecret(c.running(), func(path string, s *config.Secret) { known[path] = *s })
	config.EachSecret(doc, func(path string, s *config.Secret) {
		value, inline := s.Inline()
		ref, stored := known[path].Reference()
		if !inline || !stored {
			return
		}
		if kept, err := c.o.Store.Secret(ref); err == nil && standsFor(string(kept), value) {
			*s = config.NewSecret(ref)
		}
	})
}

// standsFor reports whether what is kept of a secret is that of the value.
func standsFor(kept, value string) bool {
	if kept == value {
		return true
	}
	same, err := auth.VerifyHash(kept, value)
	return err == nil && same
}

func (c *Control) inZone(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.In(c.Location())
}
