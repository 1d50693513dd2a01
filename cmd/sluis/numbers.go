package main

import (
	"context"
	"errors"

	"sluis/internal/control"
	"sluis/internal/stats"
	"sluis/internal/text"
)

// Rooms count for themselves and know nothing of who reads the numbers; here they
// are joined to the registry. A new room gets a func here; a number gets a line in
// its describing part and one in its Collect.

// joinNumbers makes every room that counts a source. The rooms are all made.
func (a *appliance) joinNumbers() {
	a.eventNumbers()
	a.authNumbers()
	a.apiNumbers()
	a.storeNumbers()
	a.applyNumbers()
	a.balancerNumbers()
}

func (a *appliance) eventNumbers() {
	s := a.stats.Source("event")
	records := s.Counter("records_total", "Events that have happened.")
	missed := s.Counter("missed_records_total", "Events that readers were too slow for, over all readers.")
	dropped := s.Counter("dropped_records_total", "Events that came after the end of the log.")
	refused := s.Counter("refused_readers_total", "Readers of the events who were refused because there were too many.")
	readers := s.Gauge("readers", "Readers of the events now, those inside the appliance included.")
	kept := s.Gauge("kept_records", "Events that are kept for readers who come back.")
	capacity := s.Gauge("capacity_records", "Events that are kept at most.")
	s.Collect(func(out *stats.Sample) {
		n := a.events.Stats()
		out.Counter(records, float64(n.Published))
		out.Counter(missed, float64(n.Missed))
		out.Counter(dropped, float64(n.Dropped))
		out.Counter(refused, float64(n.Refused))
		out.Gauge(readers, float64(n.Subscriptions))
		out.Gauge(kept, float64(n.Kept))
		out.Gauge(capacity, float64(n.Capacity))
	})
}

func (a *appliance) authNumbers() {
	s := a.stats.Source("auth")
	logins := s.Counter("logins_total", "Logins, by how they ended: with a session (ok), a wrong name or password (failed), or refused unseen (delayed, blocked, busy).", "result")
	remembered := s.Counter("remembered_logins_total", "Requests with name and password that were answered from memory.")
	blocks := s.Counter("blocks_total", "Sources that were blocked for guessing.")
	tokenFailures := s.Counter("refused_tokens_total", "Requests with a token that was refused.")
	evictions := s.Counter("evictions_total", "Entries that a full table gave up.", "table")
	saveFailures := s.Counter("save_failures_total", "Changes of credentials that could not be saved.")
	entries := s.Gauge("entries", "Entries of a table now: sources under watch, sessions, handovers, tokens.", "table")
	s.Collect(func(out *stats.Sample) {
		n := a.auth.Stats()
		out.Counter(logins, float64(n.Logins), "ok")
		out.Counter(logins, float64(n.Failures), "failed")
		out.Counter(logins, float64(n.RefusedEarly), "delayed")
		out.Counter(logins, float64(n.RefusedBlocked), "blocked")
		out.Counter(logins, float64(n.RefusedBusy), "busy")
		out.Counter(remembered, float64(n.Remembered))
		out.Counter(blocks, float64(n.Blocks))
		out.Counter(tokenFailures, float64(n.TokenFailures))
		out.Counter(evictions, float64(n.SourcesEvicted), "sources")
		out.Counter(evictions, float64(n.SessionsEvicted), "sessions")
		out.Counter(evictions, float64(n.HandoversEvicted), "handovers")
		out.Counter(saveFailures, float64(n.SaveFailures))
		out.Gauge(entries, float64(n.Sources), "sources")
		out.Gauge(entries, float64(n.Sessions), "sessions")
		out.Gauge(entries, float64(n.Handovers), "handovers")
		out.Gauge(entries, float64(n.Tokens), "tokens")
	})
}

func (a *appliance) apiNumbers() {
	s := a.stats.Source("api")
	open := s.Gauge("open_connections", "Connections of administrators over the network now.")
	accepted := s.Counter("accepted_connections_total", "Connections over the network that were let in.")
	refused := s.Counter("refused_connections_total", "Connections over the network that were refused: from where nobody may, too many, too many of one source.", "reason")
	expires := s.Gauge("certificate_expiry_timestamp_seconds", "When the certificate that the API shows ends, in seconds since 1970; absent over plain HTTP.")
	s.Collect(func(out *stats.Sample) {
		n := a.listener.Stats()
		out.Gauge(open, float64(n.Open))
		out.Counter(accepted, float64(n.Accepted))
		out.Counter(refused, float64(n.NotAllowed), "not_allowed")
		out.Counter(refused, float64(n.TooMany), "too_many")
		out.Counter(refused, float64(n.TooManyOfSource), "too_many_of_source")
		if leaf := a.listener.Leaf(); leaf != nil {
			out.Gauge(expires, float64(leaf.NotAfter.Unix()))
		}
	})
}

func (a *appliance) storeNumbers() {
	s := a.stats.Source("store")
	used := s.Gauge("used_bytes", "What the files of the state directory hold.")
	revisions := s.Gauge("kept_revisions", "Revisions that are kept.")
	s.Collect(func(out *stats.Sample) {
		bytes, kept := a.store.Usage()
		out.Gauge(used, float64(bytes))
		out.Gauge(revisions, float64(kept))
	})
}

func (a *appliance) applyNumbers() {
	s := a.stats.Source("apply")
	running := s.Gauge("running_revision", "Number of the revision that runs; 0 = none could be read.")
	pending := s.Gauge("pending_revision", "Number of the revision that waits for its confirmation; 0 = none does.")
	deadline := s.Gauge("pending_deadline_timestamp_seconds", "When what waits is rolled back, in seconds since 1970; absent when nothing waits.")
	applying := s.Gauge("applying", "1 while steps of an apply are under way.")
	differences := s.Gauge("differences", "What differs from the running revision; above 0 the appliance is degraded.")
	s.Collect(func(out *stats.Sample) {
		now := a.engine.Status() // a copy, made under a lock that no step of an apply holds
		out.Gauge(running, float64(now.Running))
		waiting := 0
		if now.Pending != nil {
			waiting = now.Pending.Revision
			out.Gauge(deadline, float64(now.Pending.Deadline.Unix()))
		}
		out.Gauge(pending, float64(waiting))
		out.Gauge(applying, oneIf(now.Applying))
		out.Gauge(differences, float64(len(now.Degraded)))
	})
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// metrics are the numbers for the API, with words for administrators where they
// can't be had.
func (a *appliance) metrics(ctx context.Context, accept string) (contentType string, body []byte, err error) {
	contentType, body, err = a.stats.Scrape(ctx, accept)
	switch {
	case errors.Is(err, stats.ErrBusy):
		err = &control.Fault{
			Kind: control.Busy, Message: text.M("too many read the numbers at once"),
			Hint: text.M("come again in a moment; monitoring that is configured twice reads twice as often"),
		}
	case errors.Is(err, stats.ErrTooLarge):
		err = &control.Fault{Kind: control.Failed, Message: text.M("the numbers are too many for one answer")}
	}
	return contentType, body, err
}
