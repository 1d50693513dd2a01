package event

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluis/internal/text"
)

type serverDown struct {
	Server string `json:"server"`
	N      int    `json:"n"`
}

func (serverDown) EventName() string { return "health.server.down" }
func (e serverDown) Text() text.Msg {
	return text.M("server {server} is down", "server", e.Server)
}

func TestRecordJSON(t *testing.T) {
	r := Record{
		ID: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Name: "health.server.down", Event: serverDown{Server: "web1", N: 3},
	}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":7,"time":"2026-01-02T03:04:05.000006Z","name":"health.server.down",` +
		`"text":{"id":"server {server} is down","args":{"server":"web1"},"text":"server web1 is down"},` +
		`"data":{"server":"web1","n":3}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// The ring against its slow twin: a list that never forgets, of which the ring
// may know the newest ones only.
func TestRingAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 8).Draw(t, "capacity")
		published := rapid.IntRange(0, 30).Draw(t, "published")
		l := New(capacity)
		var all []Record
		for i := range published {
			all = append(all, l.Publish(serverDown{N: i}))
		}
		kept := all[max(0, len(all)-capacity):]

		n := rapid.IntRange(-1, 40).Draw(t, "recent")
		if diff := cmp.Diff(ids(kept[len(kept)-min(max(n, 0), len(kept)):]), ids(l.Recent(n))); diff != "" {
			t.Fatalf("Recent(%d) (-want +got):\n%s", n, diff)
		}

		offset := rapid.IntRange(-3, 35).Draw(t, "after")
		after := uint64(int64(l.first) + int64(offset))
		var want []Record
		for _, r := range kept {
			if r.ID > after || offset >= published {
				want = append(want, r)
			}
		}
		strange := offset < -1 || offset >= published // no ID of this run, nor the one before its first
		lost := !strange && offset+1 < published-len(kept)
		recs, gap := l.Since(after)
		if diff := cmp.Diff(ids(want), ids(recs)); diff != "" {
			t.Fatalf("Since(first%+d) (-want +got):\n%s", offset, diff)
		}
		if gap != (strange || lost) {
			t.Fatalf("Since(first%+d) gap = %v, want %v", offset, gap, strange || lost)
		}
		if recs, gap := l.Since(0); len(recs) != len(kept) || gap {
			t.Fatalf("Since(0) = %d records, gap %v, want %d, false", len(recs), gap, len(kept))
		}
	})
}

func ids(recs []Record) []uint64 {
	got := []uint64{}
	for _, r := range recs {
		got = append(got, r.ID)
	}
	return got
}

// read takes n records without waiting.
func read(t *testing.T, s *Subscription, n int) []Record {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var recs []Record
	for range n {
		r, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("Next: %v, after %d of %d records", err, len(recs), n)
		}
		recs = append(recs, r)
	}
	if r, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next after %d records = %+v, %v, want nothing more", n, r, err)
	}
	return recs
}

func subscribe(t *testing.T, l *Log, after uint64) *Subscription {
	t.Helper()
	s, err := l.Subscribe(after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestSlowReaderIsToldOfTheGap(t *testing.T) {
	l := New(3)
	s := subscribe(t, l, 0)
	for i := range 8 {
		l.Publish(serverDown{N: i})
	}
	recs := read(t, s, 4)
	if diff := cmp.Diff(Gap{Missed: 5}, recs[0].Event); diff != "" {
		t.Errorf("first record (-want +got):\n%s", diff)
	}
	if got := recs[1].Event.(serverDown).N; got != 5 {
		t.Errorf("after the gap comes event %d, want 5", got)
	}
	again := subscribe(t, l, recs[0].ID) // the client comes back with the gap's ID
	if diff := cmp.Diff(ids(recs[1:]), ids(read(t, again, 3))); diff != "" {
		t.Errorf("continued after the gap (-want +got):\n%s", diff)
	}
	if got := l.Stats().Missed; got != 5 {
		t.Errorf("Stats().Missed = %d, want 5", got)
	}
}

func TestPositionOfAnotherRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		earlier := New(4)
		var last Record
		for range 9 {
			last = earlier.Publish(serverDown{})
		}
		time.Sleep(time.Second) // the bubble's clock: the time of a restart
		l := New(2)
		fresh := l.Publish(serverDown{Server: "new"})
		if fresh.ID <= last.ID {
			t.Fatalf("first ID after a restart is %d, want one above %d", fresh.ID, last.ID)
		}
		f := func(name string, after uint64, want Gap) {
			t.Helper()
			recs := read(t, subscribe(t, l, after), 2)
			if diff := cmp.Diff(want, recs[0].Event); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			if recs[1].ID != fresh.ID {
				t.Errorf("%s: then record %d, want %d", name, recs[1].ID, fresh.ID)
			}
		}
		f("earlier run", last.ID, Gap{Restarted: true})
		f("earlier run with a clock ahead", fresh.ID+1000, Gap{Restarted: true})
		f("no ID of ours", ^uint64(0), Gap{Restarted: true})
		l.Publish(serverDown{})
		fresh = l.Publish(serverDown{})
		if g := read(t, subscribe(t, l, last.ID), 3)[0].Event; g != (Gap{Missed: 1, Restarted: true}) {
			t.Errorf("earlier run and overrun: %+v, want 1 missed and restarted", g)
		}
	})
}

func TestNextWaits(t *testing.T) {
	wake := map[string]struct {
		do   func(l *Log, s *Subscription, cancel func())
		want error
	}{
		"publish":          {func(l *Log, _ *Subscription, _ func()) { l.Publish(serverDown{}) }, nil},
		"subscription end": {func(_ *Log, s *Subscription, _ func()) { s.Close(); s.Close() }, ErrClosed},
		"log end":          {func(l *Log, _ *Subscription, _ func()) { l.Close(); l.Close() }, ErrClosed},
		"context end":      {func(_ *Log, _ *Subscription, cancel func()) { cancel() }, context.Canceled},
	}
	for name, tt := range wake {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l := New(4)
				s := subscribe(t, l, l.Last())
				got := make(chan error, 1)
				go func() {
					_, err := s.Next(ctx)
					got <- err
				}()
				synctest.Wait()
				select {
				case err := <-got:
					t.Fatalf("Next did not wait: %v", err)
				default:
				}
				tt.do(l, s, cancel)
				if err := <-got; !errors.Is(err, tt.want) {
					t.Errorf("Next after %s: %v, want %v", name, err, tt.want)
				}
			})
		})
	}
}

func TestCloseLetsReadersFinish(t *testing.T) {
	l := New(4)
	s := subscribe(t, l, 0)
	l.Publish(serverDown{N: 1})
	l.Close()
	if r := l.Publish(serverDown{N: 2}); r.ID != 0 {
		t.Errorf("Publish after Close got ID %d, want none", r.ID)
	}
	if r, err := s.Next(t.Context()); err != nil || r.Event != (serverDown{N: 1}) {
		t.Errorf("Next after Close = %+v, %v, want the kept record", r, err)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Next after everything was read: %v, want ErrClosed", err)
	}
	if _, err := l.Subscribe(0); !errors.Is(err, ErrClosed) {
		t.Errorf("Subscribe after Close: %v, want ErrClosed", err)
	}
	if st := l.Stats(); st.Published != 1 || st.Dropped != 1 {
		t.Errorf("Stats() = %+v, want 1 published, 1 dropped", st)
	}
}

func TestReadersAreLimited(t *testing.T) {
	l := New(4)
	var one *Subscription
	for range MaxSubscriptions {
		one = subscribe(t, l, 0)
	}
	if _, err := l.Subscribe(0); !errors.Is(err, ErrTooManyReaders) {
		t.Fatalf("one reader too many: %v, want ErrTooManyReaders", err)
	}
	if st := l.Stats(); st.Refused != 1 || st.Subscriptions != MaxSubscriptions {
		t.Errorf("Stats() = %+v, want 1 refused, %d subscriptions", st, MaxSubscriptions)
	}
	one.Close()
	subscribe(t, l, 0)
}

// Many publishers and readers at once: each reader sees IDs that only grow, and
// what it read plus what it was told to have missed is everything.
func TestConcurrentReadersAccountForEverything(t *testing.T) {
	const publishers, each, readers = 4, 500, 4
	l := New(16)
	var reading, publishing sync.WaitGroup
	for range readers {
		s := subscribe(t, l, 0)
		reading.Go(func() {
			var seen, missed, last uint64
			for {
				r, err := s.Next(context.Background())
				if errors.Is(err, ErrClosed) {
					break
				}
				if r.ID <= last {
					t.Errorf("ID %d after %d", r.ID, last)
				}
				last = r.ID
				if g, isGap := r.Event.(Gap); isGap {
					missed += g.Missed
				} else {
					seen++
				}
			}
			if seen+missed != publishers*each {
				t.Errorf("read %d and missed %d, want %d together", seen, missed, publishers*each)
			}
		})
	}
	for range publishers {
		publishing.Go(func() {
			for i := range each {
				l.Publish(serverDown{N: i})
			}
		})
	}
	publishing.Wait()
	l.Close()
	reading.Wait()
}
