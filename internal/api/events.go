package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sluis/internal/control"
	"sluis/internal/event"
	"sluis/internal/text"
)

// heartbeatInterval is how often an event stream shows that it lives. Each time it
// is looked at whether its reader may still read.
const heartbeatInterval = 15 * time.Second

// eventOperations tell what happens.
func (a *API) eventOperations() {
	stream := bytesOf(operation(http.MethodGet, "/events", "stream-events", tagOperate, "Read what happens, as it happens (server-sent events)"), "text/event-stream")
	stream.Description = "Each event has its number as id, its name as event, and as data the same JSON as /events/recent. " +
		"A reader who comes back says with Last-Event-ID, or after, where they stopped. Where events are missing in between, event.stream.gap says so. " +
		"The stream ends when the reader may no longer read, and after an apply, so that the reader comes back on a fresh connection."
	handle(a, stream, a.streamEvents)
	handle(a, operation(http.MethodGet, "/events/recent", "list-events", tagOperate, "List the newest events that are still kept, oldest first"), a.recentEvents)
}

type recentInput struct {
	Limit int `query:"limit" minimum:"0" maximum:"500" doc:"How many events; 0 or absent is 50."`
}

func (a *API) recentEvents(_ context.Context, c control.Caller, in *recentInput) (*value[List[Event]], error) {
	log, err := a.control.Events(c)
	if err != nil {
		return nil, err
	}
	limit := in.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	events := []Event{}
	for _, r := range log.Recent(limit) {
		e, err := a.event(r)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return listOf(events, "", nil)
}

// event is the wire form of a record.
func (a *API) event(r event.Record) (e Event, err error) {
	r.Time = r.Time.In(a.control.Location())
	data, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return e, fmt.Errorf("encode event %s: %w", r.Name, err)
	}
	return e, nil
}

type streamInput struct {
	LastEventID uint64 `header:"Last-Event-ID" doc:"The number of the last event that was read."`
	After       uint64 `query:"after" doc:"The same, for readers that can't send the header. Without either the stream begins now."`
}

func (a *API) streamEvents(_ context.Context, c control.Caller, in *streamInput) (*huma.StreamResponse, error) {
	log, err := a.control.Events(c)
	if err != nil {
		return nil, err
	}
	after := in.LastEventID
	if after == 0 {
		after = in.After
	}
	if after == 0 {
		after = log.Last()
	}
	events, err := log.Subscribe(after)
	if err != nil {
		return nil, noReader(err)
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer events.Close()
		r, w := humago.Unwrap(ctx)
		reader := a.eventReader(r, events)
		// The number without an event lets a reader go on from here who has read none.
		reader.stream(w, fmt.Appendf(nil, ": these are the events\nid: %d\n\n", after))
	}}, nil
}

func (a *API) eventReader(r *http.Request, events *event.Subscription) *reader {
	return &reader{
		api: a, r: r,
		next: func(ctx context.Context) ([]byte, error) {
			record, err := events.Next(ctx)
			if err != nil {
				return nil, err
			}
			return a.encodeEvent(record), nil
		},
		may: func(c control.Caller) error {
			_, err := a.control.Events(c)
			return err
		},
	}
}

func noReader(err error) *control.Fault {
	f := &control.Fault{Kind: control.Busy, Message: text.M("this appliance is shutting down"), RetryAfter: 5 * time.Second}
	if errors.Is(err, event.ErrTooManyReaders) {
		f.Message = text.M("too many readers follow the events already; at most {most} may", "most", event.MaxSubscriptions)
		f.Hint = text.M("close event streams that nobody looks at")
	}
	return f
}

// reader is one reader of a stream.
type reader struct {
	api *API
	r   *http.Request
	// next waits for what comes next and writes it.
	next func(context.Context) ([]byte, error)
	// may says whether a caller may read.
	may func(control.Caller) error
	// checked is when it was last looked at whether the reader may read.
	checked time.Time
}

// stream writes what comes until the reader leaves, may no longer read, or should
// come back on a fresh connection.
func (f *reader) stream(w http.ResponseWriter, hello []byte) {
	ctx, stop := connOf(f.r.Context()).server.untilDrain(f.r.Context())
	defer stop()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy before us must pass it on at once
	w.WriteHeader(http.StatusOK)
	f.checked = time.Now()
	for piece := hello; piece != nil; piece = f.piece(ctx) {
		if _, err := w.Write(piece); err != nil || out.Flush() != nil {
			return
		}
	}
}

// piece waits for what comes next, or for the time to show life; nil = the stream is
// at its end.
func (f *reader) piece(ctx context.Context) []byte {
	wait, cancel := context.WithDeadline(ctx, f.checked.Add(f.api.heartbeat))
	defer cancel()
	data, err := f.next(wait)
	switch {
	case err == nil && wait.Err() == nil:
		return data
	case ctx.Err() != nil, err != nil && !errors.Is(err, context.DeadlineExceeded), !f.mayGoOn():
		return nil
	}
	f.checked = time.Now()
	if err == nil {
		return data
	}
	return []byte(": still here\n\n")
}

// mayGoOn asks again what was asked when the stream began: a token may have been
// deleted since, or a session have ended.
func (f *reader) mayGoOn() bool {
	if f.api.old(connOf(f.r.Context())) {
		return false
	}
	c, _, err := f.api.caller(f.r, false)
	return err == nil && f.may(c) == nil
}

func (a *API) encodeEvent(record event.Record) []byte {
	e, err := a.event(record)
	if err != nil {
		a.log.Error("event left out of a stream", "cause", err)
		return []byte(": an event could not be written\n\n")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: ", e.ID, e.Name)
	if err := writeJSON(&b, e); err != nil {
		panic("BUG: an event that was read can't be written: " + err.Error())
	}
	b.WriteByte('\n') // writeJSON has ended the line of data
	return b.Bytes()
}
