package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluis/internal/auth"
	"sluis/internal/event"
	"sluis/internal/text"
)

// happened is an event of these tests.
type happened struct {
	N int `json:"n"`
}

func (happened) EventName() string { return "test.thing.happened" }
func (e happened) Text() text.Msg  { return text.M("thing {n}", "n", e.N) }

// stream is an open event stream.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
}

// sent is one event as it stands in the stream.
type sent struct {
	id, name string
	data     Event
}

func (b *box) stream(headers ...string) *stream {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", b.url("/events"), nil)
	must(b.t, err)
	r.Header.Set("Authorization", "Bearer "+b.tokens[auth.Viewer])
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := b.browser().Do(r)
	must(b.t, err)
	b.t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		b.t.Fatalf("events = %s, %v", response.Status, response.Header)
	}
	return &stream{t: b.t, lines: bufio.NewScanner(response.Body), close: cancel}
}

// block reads the lines up to the next empty one; nil at the end of the stream.
func (s *stream) block() (block []string) {
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return block
		}
		block = append(block, s.lines.Text())
	}
	return nil
}

// next is the next event.
func (s *stream) next() (e sent) {
	s.t.Helper()
	for {
		block := s.block()
		if block == nil {
			s.t.Fatalf("the stream ended: %v", s.lines.Err())
		}
		for _, line := range block {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				must(s.t, json.Unmarshal([]byte(value), &e.data))
			}
		}
		if e.name != "" {
			return e
		}
	}
}

func TestEventsResume(t *testing.T) {
	b := start(t, initial(t), loopback)
	s := b.stream()
	// From the greeting on nothing is missed, also by who has read no event yet.
	if greeting := s.block(); len(greeting) != 2 || greeting[1] != fmt.Sprintf("id: %d", b.events.Last()) {
		t.Errorf("greeting = %q, want where the stream begins", greeting)
	}
	first := b.events.Publish(happened{1})
	b.events.Publish(happened{2})
	got := s.next()
	if got.id != strconv.FormatUint(first.ID, 10) || got.name != "test.thing.happened" || got.data.ID != first.ID ||
		string(got.data.Data) != `{"n":1}` || !strings.Contains(string(got.data.Text), `"text":"thing 1"`) {
		t.Errorf("first event = %+v", got)
	}
	s.close()

	for name, again := range map[string]*stream{
		"header": b.stream("Last-Event-ID", got.id),
		"query":  b.streamAfter(got.id),
	} {
		if next := again.next(); string(next.data.Data) != `{"n":2}` {
			t.Errorf("resumed by %s with %+v, want the second event", name, next)
		}
	}
	for n := range 200 { // more than the log keeps
		b.events.Publish(happened{n})
	}
	late := b.stream("Last-Event-ID", got.id)
	var gap event.Gap
	missing := late.next()
	must(t, json.Unmarshal(missing.data.Data, &gap))
	if missing.name != "event.stream.gap" || gap.Missed != 101 {
		t.Errorf("after an overrun = %+v, want a gap of 101", missing)
	}
	if next := late.next(); string(next.data.Data) != `{"n":100}` {
		t.Errorf("after the gap = %+v, want event 100", next)
	}
}

func (b *box) streamAfter(id string) *stream {
	b.t.Helper()
	c := b.browser()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.url("/events?after="+id), nil)
	must(b.t, err)
	r.Header.Set("Authorization", "Bearer "+b.tokens[auth.Viewer])
	response, err := c.Do(r)
	must(b.t, err)
	b.t.Cleanup(func() { _ = response.Body.Close() })
	return &stream{t: b.t, lines: bufio.NewScanner(response.Body)}
}

// A stream shows life, and ends with the right to read it, also while events come
// one after another.
func TestEventsEndWithTheRight(t *testing.T) {
	b := start(t, initial(t), loopback)
	b.api.heartbeat = 10 * time.Millisecond
	s := b.stream()
	s.block()
	if block := s.block(); len(block) != 1 || !strings.HasPrefix(block[0], ":") {
		t.Errorf("heartbeat = %q, want a comment", block)
	}
	must(t, b.auth.DeleteToken("vera", "test"))
	for s.block() != nil {
		b.events.Publish(happened{0})
		b.events.Publish(happened{0}) // so that the stream never waits for one
	}
}

// The right is looked at in time even where there is always a next event.
func TestEventsEndAmidEvents(t *testing.T) {
	b := start(t, initial(t), loopback)
	r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/events", nil)
	must(t, err)
	r.RemoteAddr = "192.0.2.1:5000"
	r.Header.Set("Authorization", "Bearer "+b.tokens[auth.Viewer])
	events, err := b.events.Subscribe(b.events.Last())
	must(t, err)
	defer events.Close()
	for range 3 {
		b.events.Publish(happened{})
	}
	long := time.Now().Add(-2 * heartbeatInterval)
	from := b.api.eventReader(r, events)
	from.checked = long
	if from.piece(t.Context()) == nil || from.checked.Equal(long) {
		t.Error("whoever may read gets the event, and it was looked at whether they may")
	}
	from.checked = long
	must(t, b.auth.DeleteToken("vera", "test"))
	if piece := from.piece(t.Context()); piece != nil {
		t.Errorf("whoever may no longer read gets %q", piece)
	}
}

func TestEventsAreBounded(t *testing.T) {
	b := start(t, initial(t), loopback)
	for range event.MaxSubscriptions {
		s, err := b.events.Subscribe(0)
		must(t, err)
		defer s.Close()
	}
	got := b.as(auth.Viewer, "GET", "/events", "").want(t, 503)
	if p := got.problem(t); got.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "256") {
		t.Errorf("problem = %+v", p)
	}
}

// The client goes on by itself where a stream ended, as it does after an apply.
func TestClientFollowsThroughAnApply(t *testing.T) {
	b := start(t, initial(t), loopback)
	b.api.heartbeat = 10 * time.Millisecond
	opened := make(chan bool, 10)
	path := filepath.Join(t.TempDir(), "s")
	socket, err := ListenUnix(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		opened <- true
		b.api.ServeHTTP(w, r)
	}), b.engine.Accepted, nil)
	must(t, err)
	defer socket.Close()
	c := Local(path)
	defer c.Close()
	enough := errors.New("enough")
	seen, streams, from := make(chan int, 10), make(chan error, 1), b.events.Last()
	go func() {
		streams <- c.Events(t.Context(), from, func(e Event) error {
			var h happened
			if e.Name != h.EventName() {
				return nil
			}
			if err := json.Unmarshal(e.Data, &h); err != nil {
				return err
			}
			seen <- h.N
			if h.N == 2 {
				return enough
			}
			return nil
		})
	}()
	b.events.Publish(happened{1})
	if n := <-seen; n != 1 {
		t.Fatalf("first event = %d", n)
	}
	b.set("system.hostname", "lb2")
	b.apply(0)
	<-opened
	<-opened // the stream on the old connection has ended
	b.events.Publish(happened{2})
	if n := <-seen; n != 2 {
		t.Errorf("second event = %d", n)
	}
	if err := <-streams; !errors.Is(err, enough) {
		t.Errorf("Events = %v, want what each returned", err)
	}
}
