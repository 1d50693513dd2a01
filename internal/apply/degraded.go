package apply

import (
	"maps"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// degraded is everything that differs from what should be, by who is at fault.
// It is a value: copies share nothing that changes.
type degraded struct {
	// damaged says that another revision than the one noted as running is in
	// effect; it ends when a new one runs.
	damaged *Difference
	// head says that the disk may name another revision as running, or a pending
	// one that isn't; it ends when that could be written.
	head *Difference
	// parts are the differences by subsystem; under "" those that no subsystem
	// claims.
	parts map[string][]Difference
}

// list is everything in a fixed order: store, unclaimed, subsystems. Never nil.
func (d degraded) list(subsystems []Subsystem) []Difference {
	all := []Difference{}
	for _, one := range []*Difference{d.damaged, d.head} {
		if one != nil {
			all = append(all, *one)
		}
	}
	all = append(all, d.parts[""]...)
	for _, s := range subsystems {
		all = append(all, d.parts[s.Name()]...)
	}
	return all
}

// differ changes the list of differences, and tells when it became another one.
func (e *Engine) differ(change func(d *degraded)) {
	e.mu.Lock()
	before := e.degraded.list(e.subsystems)
	next := e.degraded
	next.parts = maps.Clone(next.parts)
	if next.parts == nil {
		next.parts = map[string][]Difference{}
	}
	change(&next)
	next.date(before)
	e.degraded = next
	after := next.list(e.subsystems)
	e.mu.Unlock()
	switch {
	case len(after) == 0 && len(before) > 0:
		e.publish(BoxRecovered{})
	case !sameDifferences(before, after):
		e.publish(BoxDegraded{Differences: after})
	}
}

// date gives each difference the time since when it stands.
func (d *degraded) date(before []Difference) {
	now := time.Now()
	since := func(next Difference) time.Time {
		for _, old := range before {
			if same(old, next) {
				return old.Since
			}
		}
		return now
	}
	for _, one := range []**Difference{&d.damaged, &d.head} {
		if *one != nil {
			dated := **one
			dated.Since = since(dated)
			*one = &dated
		}
	}
	for name, part := range d.parts {
		dated := make([]Difference, len(part))
		for i, one := range part {
			one.Since = since(one)
			dated[i] = one
		}
		d.parts[name] = dated
	}
}

func same(a, b Difference) bool {
	return a.Subsystem == b.Subsystem && a.Step == b.Step && a.Path == b.Path && a.Message.String() == b.Message.String()
}

func sameDifferences(a, b []Difference) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}

// fromStep is what a failed step leaves behind.
func fromStep(failed *StepError) Difference {
	return Difference{Subsystem: failed.Subsystem, Step: failed.Step, Message: reason(failed)}
}

// fromProblems are the errors of one subsystem's Prepare, or those of parts that
// nobody claims, as differences.
func fromProblems(subsystem string, ps config.Problems) []Difference {
	var all []Difference
	for _, p := range ps.Errors() {
		all = append(all, Difference{Subsystem: subsystem, Step: StepPrepare, Path: p.Path, Message: p.Message})
	}
	return all
}

// damagedText says that a revision can't be read, and what runs in its place.
func damagedText(number, running int, reason text.Msg) text.Msg {
	fault := text.M("revision {number} should run, but can't be read: {reason}", "number", number, "reason", reason)
	if number == 0 {
		fault = text.M("which revision should run is not known: {reason}", "reason", reason)
	}
	if running == 0 {
		return text.M("{fault}; no revision that ran before can be read either, so the initial configuration is in effect", "fault", fault)
	}
	return text.M("{fault}; revision {running}, which ran before, is in effect in its place", "fault", fault, "running", running)
}
