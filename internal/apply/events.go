package apply

import (
	"time"

	"sluis/internal/text"
)

// RevisionApplied says that a revision is in effect and runs, without a need for
// confirmation.
type RevisionApplied struct {
	Revision int    `json:"revision"`
	Author   string `json:"author"`
	From     string `json:"from"`
	Comment  string `json:"comment"`
}

// EventName implements event.Event.
func (RevisionApplied) EventName() string { return "apply.revision.applied" }

// Text implements event.Event.
func (e RevisionApplied) Text() text.Msg {
	return text.M("{author} applied revision {revision}", "author", e.Author, "revision", e.Revision)
}

// RevisionWaiting says that a revision is in effect and waits for confirmation;
// after a restart it is said again.
type RevisionWaiting struct {
	Revision int       `json:"revision"`
	Author   string    `json:"author"`
	Deadline time.Time `json:"deadline"`
	// Until is the deadline in the configured time zone.
	Until string `json:"until"`
}

// EventName implements event.Event.
func (RevisionWaiting) EventName() string { return "apply.revision.waiting" }

// Text implements event.Event.
func (e RevisionWaiting) Text() text.Msg {
	return text.M("revision {revision} by {author} is in effect and waits for confirmation until {until}",
		"revision", e.Revision, "author", e.Author, "until", e.Until)
}

// RevisionConfirmed says that the revision that waited runs now.
type RevisionConfirmed struct {
	Revision int    `json:"revision"`
	By       string `json:"by"`
}

// EventName implements event.Event.
func (RevisionConfirmed) EventName() string { return "apply.revision.confirmed" }

// Text implements event.Event.
func (e RevisionConfirmed) Text() text.Msg {
	return text.M("{by} confirmed revision {revision}", "by", e.By, "revision", e.Revision)
}

// RevisionReturned says that a pending revision was given up and the running one
// put back.
type RevisionReturned struct {
	Revision int      `json:"revision"` // the one given up
	Running  int      `json:"running"`  // the one that is back
	Reason   text.Msg `json:"reason"`
}

// EventName implements event.Event.
func (RevisionReturned) EventName() string { return "apply.revision.returned" }

// Text implements event.Event.
func (e RevisionReturned) Text() text.Msg {
	return text.M("revision {revision} was given up and revision {running} has returned: {reason}",
		"revision", e.Revision, "running", e.Running, "reason", e.Reason)
}

// RevisionFailed says that a revision could not be brought into effect.
type RevisionFailed struct {
	Revision  int      `json:"revision"`
	Author    string   `json:"author"`
	Subsystem string   `json:"subsystem"`
	Step      Step     `json:"step"`
	Reason    text.Msg `json:"reason"`
}

// EventName implements event.Event.
func (RevisionFailed) EventName() string { return "apply.revision.failed" }

// Text implements event.Event.
func (e RevisionFailed) Text() text.Msg {
	return text.M("revision {revision} by {author} failed in {subsystem}, step {step}: {reason}",
		"revision", e.Revision, "author", e.Author, "subsystem", e.Subsystem, "step", string(e.Step), "reason", e.Reason)
}

// RevisionDamaged says that the revision that should run can't be read, and
// which one took its place.
type RevisionDamaged struct {
	Revision int      `json:"revision"` // 0 = which one should run isn't known
	Running  int      `json:"running"`
	Reason   text.Msg `json:"reason"`
}

// EventName implements event.Event.
func (RevisionDamaged) EventName() string { return "apply.revision.damaged" }

// Text implements event.Event.
func (e RevisionDamaged) Text() text.Msg { return damagedText(e.Revision, e.Running, e.Reason) }

// BoxDegraded says that the machine differs from the configuration, and in what.
type BoxDegraded struct {
	Differences []Difference `json:"differences"`
}

// EventName implements event.Event.
func (BoxDegraded) EventName() string { return "apply.box.degraded" }

// Text implements event.Event.
func (e BoxDegraded) Text() text.Msg {
	first := e.Differences[0]
	return text.M("the machine differs from its configuration ({count}); the first difference: {subsystem}: {message}",
		"count", len(e.Differences), "subsystem", first.Subsystem, "message", first.Message)
}

// BoxRecovered says that the machine is as its configuration says again.
type BoxRecovered struct{}

// EventName implements event.Event.
func (BoxRecovered) EventName() string { return "apply.box.recovered" }

// Text implements event.Event.
func (BoxRecovered) Text() text.Msg {
	return text.M("the machine is as its configuration says again")
}
