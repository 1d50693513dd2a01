// Package event holds the facts that Sluis tells: a revision was confirmed, a
// server went down, an address moved. Each is a Go struct of the room that
// tells it; this room keeps the newest of them in a ring and hands them to
// readers in order.
//
// It promises that Publish never waits for a reader, that memory is bounded
// (one ring for all readers, a limit on readers), and that a reader that fell
// behind or came back after a restart is told of the gap instead of silently
// missing facts.
//
// It does not promise that an event is kept: the ring lives in memory and its
// oldest records make room for new ones. What must last is written to the audit
// log of the store.
package event

import (
	"encoding/json"
	"time"

	"sluis/internal/text"
)

// Event is one fact. Its dynamic type is a struct of the room that tells it,
// with JSON tags, never changed after Publish.
type Event interface {
	// EventName is room.noun.verb with the verb in the past, such as
	// "apply.revision.confirmed".
	EventName() string
	// Text is the fact as one sentence for administrators.
	Text() text.Msg
}

// Record is an event with its place in the stream.
type Record struct {
	// ID grows with each record of a log; it is what an event stream sends as
	// Last-Event-ID.
	ID uint64
	// Time is when the event was published.
	Time time.Time
	// Name is the event's name, kept beside it so that filters need no event.
	Name string
	// Event is the fact itself.
	Event Event
}

// MarshalJSON writes {"id":…, "time":…, "name":…, "text":{…}, "data":{…}}, where
// text is the event's sentence and data its struct.
func (r Record) MarshalJSON() ([]byte, error) {
	wire := struct {
		ID   uint64    `json:"id"`
		Time time.Time `json:"time"`
		Name string    `json:"name"`
		Text text.Msg  `json:"text"`
		Data Event     `json:"data"`
	}{ID: r.ID, Time: r.Time, Name: r.Name, Data: r.Event}
	if r.Event != nil {
		wire.Text = r.Event.Text()
	}
	return json.Marshal(wire)
}

// Gap tells a reader that its stream has a hole before the next record. It is
// made for that reader alone and stands in no log.
type Gap struct {
	// Missed counts the records of this run that were no longer kept when the
	// reader came for them.
	Missed uint64 `json:"missed"`
	// Restarted says that the reader's position is from another run of the
	// process, so that records of that run may be missing too; how many is not
	// known.
	Restarted bool `json:"restarted"`
}

// EventName implements Event.
func (Gap) EventName() string { return "event.stream.gap" }

// Text implements Event.
func (g Gap) Text() text.Msg {
	switch {
	case !g.Restarted:
		return text.M("{count} events are missing here: they came faster than they were read", "count", g.Missed)
	case g.Missed == 0:
		return text.M("events from before the last restart may be missing here")
	default:
		return text.M("{count} events are missing here, and events from before the last restart may be missing too", "count", g.Missed)
	}
}
