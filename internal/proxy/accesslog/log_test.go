package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// lineSink keeps lines; gate, where it is set, holds each write until it can be
// received from.
type lineSink struct {
	mu    sync.Mutex
	text  bytes.Buffer
	gate  chan struct{}
	fails error
}

func (s *lineSink) Write(b []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return 0, s.fails
	}
	return s.text.Write(b)
}

func (s *lineSink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSuffix(s.text.String(), "\n"), "\n")
}

func newLog(t *testing.T, o Options) *Log {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return g
}

func flush(t *testing.T, g *Log) {
	t.Helper()
	if err := g.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestFrameHoldsTheRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 40, 60)
		b := func(name string) []byte { return []byte(text.Draw(t, name)) }
		n := rapid.IntRange(-1, 1<<40)
		ns := rapid.Int64Range(-1, 1<<50)
		want := Record{
			Wall:     time.Unix(0, rapid.Int64().Draw(t, "wall")),
			Frontend: text.Draw(t, "f"), Bind: text.Draw(t, "b"), Backend: text.Draw(t, "be"), Server: text.Draw(t, "s"),
			Method: []byte("PUT"), Target: b("t"), Host: b("h"), UserAgent: b("ua"), Referer: b("r"), RequestID: b("id"),
			Proto: text.Draw(t, "p"), Reason: text.Draw(t, "re"), Rule: text.Draw(t, "ru"), TLSVersion: text.Draw(t, "v"), Cipher: text.Draw(t, "c"), SNI: text.Draw(t, "sni"),
			Status: n.Draw(t, "st"), BytesIn: ns.Draw(t, "in"), BytesOut: ns.Draw(t, "out"),
			Request: ns.Draw(t, "1"), Queue: ns.Draw(t, "2"), Connect: ns.Draw(t, "3"), Response: ns.Draw(t, "4"), Total: ns.Draw(t, "5"),
			Termination: [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "term")),
			Active:      n.Draw(t, "6"), FrontendActive: n.Draw(t, "7"), BackendActive: n.Draw(t, "8"), ServerActive: n.Draw(t, "9"),
			Retries: n.Draw(t, "10"), ServerQueue: n.Draw(t, "11"), BackendQueue: n.Draw(t, "12"), Redispatched: rapid.Bool().Draw(t, "13"),
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip"))), rapid.Uint16().Draw(t, "port")),
		}
		format := Format(rapid.IntRange(0, 2).Draw(t, "format"))
		var got decoded
		decodeFrame(appendFrame(nil, format, &want, false), &got)
		if diff := cmp.Diff(want, got.Record, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || got.format != format || got.cut {
			t.Errorf("format %d, cut %v, record (-want +got):\n%s", got.format, got.cut, diff)
		}
	})
}

// Whatever a client sends fits into a frame: what is too long is cut, and said.
func TestFrameIsBounded(t *testing.T) {
	long := strings.Repeat("?=", 50_000)
	r := Record{
		Frontend: long, Bind: long, Backend: long, Server: long, Proto: long, Reason: long, Rule: long, TLSVersion: long, Cipher: long, SNI: long,
		Method: []byte(long), Target: []byte(long), Host: []byte(long), UserAgent: []byte(long), Referer: []byte(long), RequestID: []byte(long),
		Status: -1 << 62, BytesIn: -1 << 62, BytesOut: -1 << 62, Request: -1 << 62, Queue: -1 << 62, Connect: -1 << 62, Response: -1 << 62, Total: -1 << 62,
		Active: -1 << 62, FrontendActive: -1 << 62, BackendActive: -1 << 62, ServerActive: -1 << 62, Retries: -1 << 62, ServerQueue: -1 << 62, BackendQueue: -1 << 62,
	}
	for _, redact := range []bool{false, true} {
		frame := appendFrame(nil, JSON, &r, redact)
		var d decoded
		decodeFrame(frame, &d)
		if len(frame) > maxFrame || !d.cut || len(d.Method) != maxMethod || len(d.SNI) != maxName {
			t.Errorf("a frame has %d bytes (cut %v), want at most %d", len(frame), d.cut, maxFrame)
		}
	}
}

// Lines gather for the time that is set, in one write; then the goroutine sleeps
// until there is another.
func TestLinesGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &lineSink{}
		g := newLog(t, Options{Sink: Sink{Writer: s}, FlushEvery: 100 * time.Millisecond, Location: time.FixedZone("", 7200)})
		w := g.Writer()
		r := sample()
		start := time.Now()
		w.Append(JSON, &r, true)
		w.Append(MemoryOnly, &r, true)
		r.Target = bytes.Repeat([]byte("/"), maxTarget+1)
		w.Append(JSON, &r, true)
		w.Append(HTTPLog, &r, true)
		synctest.Wait()
		if got := s.lines(); len(got) != 1 || got[0] != "" {
			t.Errorf("lines are written at once: %q", got)
		}
		time.Sleep(100*time.Millisecond - time.Since(start))
		synctest.Wait()
		lines := s.lines()
		if len(lines) != 3 || !strings.HasSuffix(lines[1], `,"cut":true}`) || !strings.HasPrefix(lines[2], "192.0.2.7:40000 [03/Feb/2026:16:05:06.789] shop~ ") {
			t.Fatalf("lines after 100 ms: %q", lines)
		}
		r = sample()
		if want := string(AppendJSON(nil, &r, true)); lines[0] != want {
			t.Errorf("first line:\n%s\nwant:\n%s", lines[0], want)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if !g.asleep.Load() {
			t.Error("the log goroutine doesn't sleep after an hour without a line")
		}
	})
}

// Four loops write as fast as they can; every line comes, once, in its loop's order,
// or is counted as dropped.
func TestWritersOfManyLoops(t *testing.T) {
	const loops, records = 4, 5000
	s := &lineSink{}
	g := newLog(t, Options{Sink: Sink{Writer: s}, BufferBytes: 64 << 10, FlushEvery: time.Millisecond})
	var dropped [loops]map[int]bool
	var done sync.WaitGroup
	for i := range loops {
		dropped[i] = map[int]bool{}
		done.Go(func() {
			w := g.Writer()
			defer w.Close()
			r := Record{Frontend: fmt.Sprint(i), Wall: time.Unix(0, 0)}
			for n := range records {
				r.BytesIn = int64(n)
				r.Target = bytes.Repeat([]byte{'/'}, n%500)
				if !w.Append(JSON, &r, true) {
					dropped[i][n] = true
				}
			}
		})
	}
	done.Wait()
	flush(t, g)
	var next [loops]int
	for _, line := range s.lines() {
		var got struct {
			Frontend string
			Target   string
			BytesIn  int `json:"bytes_in"`
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		var i int
		fmt.Sscan(got.Frontend, &i)
		for dropped[i][next[i]] {
			next[i]++
		}
		if got.BytesIn != next[i] || len(got.Target) != next[i]%500 {
			t.Fatalf("loop %d: line %d with %d bytes of target, want %d", i, got.BytesIn, len(got.Target), next[i])
		}
		next[i]++
	}
	all, gone := uint64(0), uint64(0)
	for i := range loops {
		gone += uint64(len(dropped[i]))
		all += uint64(next[i])
	}
	stats := g.Stats()
	if stats.Appended+stats.Dropped != loops*records || stats.Dropped != gone || stats.Written != stats.Appended {
		t.Errorf("stats %+v, want %d records and %d dropped", stats, loops*records, gone)
	}
}

// A sink that hangs stops no loop: the ring fills, then records are dropped and
// counted, and what was taken is written when the sink goes on.
func TestAFullRingDrops(t *testing.T) {
	s := &lineSink{gate: make(chan struct{})}
	g := newLog(t, Options{Sink: Sink{Writer: s}, BufferBytes: 64 << 10, FlushEvery: time.Millisecond})
	w := g.Writer()
	r := sample()
	taken := 0
	for range 10_000 {
		if w.Append(JSON, &r, true) {
			taken++
		}
	}
	close(s.gate)
	flush(t, g)
	if stats := g.Stats(); stats.Dropped == 0 || stats.Dropped != uint64(10_000-taken) || len(s.lines()) != taken {
		t.Errorf("%d of 10000 taken, %d lines, stats %+v", taken, len(s.lines()), stats)
	}
	if !w.Append(JSON, &r, true) {
		t.Error("the ring takes nothing after it was emptied")
	}
}

func TestASinkThatFailsIsReportedOnce(t *testing.T) {
	s := &lineSink{fails: fmt.Errorf("no room")}
	var reports []string
	g := newLog(t, Options{Sink: Sink{Writer: s}, FlushEvery: time.Hour, Report: func(sink string, err error) { reports = append(reports, fmt.Sprint(sink, " ", err)) }})
	w := g.Writer()
	r := sample()
	for range 3 {
		w.Append(JSON, &r, true)
		flush(t, g)
	}
	if stats := g.Stats(); stats.Lost != 3 || !stats.Failing {
		t.Errorf("stats are %+v, want 3 lost", stats)
	}
	s.fails = nil
	w.Append(JSON, &r, true)
	flush(t, g)
	if diff := cmp.Diff([]string{"file no room", "file <nil>"}, reports); diff != "" || g.Stats().Failing {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// The whole way of a record, the log goroutine's part too, makes no garbage.
func TestRecordsMakeNoGarbage(t *testing.T) {
	g := newLog(t, Options{Sink: Sink{Writer: nullWriter{}}, FlushEvery: time.Hour})
	w := g.Writer()
	r := sample()
	if n := testing.AllocsPerRun(1000, func() { w.Append(JSON, &r, true) }); n != 0 {
		t.Errorf("Append: %v allocations, want 0", n)
	}
	const records = 1000
	n := testing.AllocsPerRun(20, func() {
		for i := range records {
			w.Append(Format(i%2), &r, true)
		}
		_ = g.Flush()
	})
	if n > 10 {
		t.Errorf("%d records and a flush: %v allocations, want those of the flush alone", records, n)
	}
}

type nullWriter struct{}

func (nullWriter) Write(b []byte) (int, error) { return len(b), nil }

func TestRecent(t *testing.T) {
	g := newLog(t, Options{FlushEvery: time.Hour, RecentBytes: 32 << 10})
	w := g.Writer()
	r := sample()
	for n := range 1000 {
		r.BytesIn, r.Status = int64(n), 200+100*(n%4)
		r.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n / 256), byte(n)}), 1)
		w.Append(MemoryOnly, &r, true)
		if n%100 == 99 {
			flush(t, g)
		}
	}
	kept := g.Recent(10_000, Filter{})
	stats := g.Stats().Memory
	if len(kept) != stats.Records || stats.Bytes > 32<<10 || len(kept) < 50 || kept[len(kept)-1].BytesIn != 999 || kept[0].BytesIn != int64(1000-len(kept)) {
		t.Fatalf("%d kept, stats %+v", len(kept), stats)
	}
	if string(kept[0].Target) != "/chat/room?token=*&*" {
		t.Errorf("the target %q isn't redacted", kept[0].Target)
	}
	for _, tt := range []struct {
		name   string
		n      int
		filter Filter
		want   []int64
	}{
		{"newest", 2, Filter{}, []int64{998, 999}},
		{"none", 0, Filter{}, nil},
		{"negative", -1, Filter{}, nil},
		{"status", 2, Filter{From: 500}, []int64{995, 999}},
		{"range", 2, Filter{From: 300, To: 499}, []int64{997, 998}},
		{"text", 1, Filter{Text: "CURL"}, []int64{999}},
		{"text in the rule", 1, Filter{Text: "to_e"}, []int64{999}},
		{"other text", 1, Filter{Text: "abc"}, nil},
		{"client", 9, Filter{Client: netip.MustParsePrefix("10.0.3.231/32")}, []int64{999}},
		{"names", 1, Filter{Frontend: "shop", Backend: "ece", Server: "ece1", Method: "GET", Trouble: true}, []int64{999}},
		{"other server", 1, Filter{Server: "ece2"}, nil},
		{"later", 1, Filter{Since: r.Wall.Add(1)}, nil},
	} {
		var got []int64
		for _, r := range g.Recent(tt.n, tt.filter) {
			got = append(got, r.BytesIn)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLog(t, Options{FlushEvery: 10 * time.Millisecond, RecentBytes: 16 << 10})
		w := g.Writer()
		r := sample()
		w.Append(JSON, &r, true)
		flush(t, g)
		slow, err := g.Follow(Filter{})
		if err != nil {
			t.Fatal(err)
		}
		fast, err := g.Follow(Filter{From: 500})
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		var done sync.WaitGroup
		done.Go(func() {
			for {
				records, missed, err := fast.Next(t.Context())
				if err != nil || missed != 0 {
					if err != ErrClosed || missed != 0 {
						t.Errorf("Next = %d missed, %v", missed, err)
					}
					return
				}
				for _, r := range records {
					got = append(got, r.BytesIn)
				}
			}
		})
		for n := range 200 {
			r.BytesIn, r.Status = int64(n), 200+n/100*300
			w.Append(JSON, &r, true)
			if n%20 == 19 {
				time.Sleep(20 * time.Millisecond)
				synctest.Wait()
			}
		}
		if len(got) != 100 || got[0] != 100 || got[99] != 199 {
			t.Errorf("the fast follower got %d", got)
		}
		records, missed, err := slow.Next(context.Background())
		if err != nil || int(missed)+len(records) != 200 || missed == 0 || records[len(records)-1].BytesIn != 199 {
			t.Errorf("the slow follower got %d and missed %d (%v)", len(records), missed, err)
		}
		if stats := g.Stats().Memory; stats.Missed != missed || stats.Followers != 2 {
			t.Errorf("stats are %+v", stats)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := slow.Next(ctx); err != context.DeadlineExceeded {
			t.Errorf("Next without a record = %v", err)
		}
		slow.Close()
		slow.Close()
		if _, _, err := slow.Next(t.Context()); err != ErrClosed {
			t.Errorf("Next after Close = %v", err)
		}
		for range maxFollowers - 1 {
			if _, err := g.Follow(Filter{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Follow(Filter{}); err != ErrTooManyFollowers || g.Stats().Memory.Refused != 1 {
			t.Errorf("one follower too many: %v", err)
		}
		g.Close()
		done.Wait()
		if _, err := g.Follow(Filter{}); err != ErrClosed {
			t.Errorf("Follow after Close = %v", err)
		}
	})
}

func TestCloseWritesTheRest(t *testing.T) {
	s := &lineSink{}
	g, err := New(Options{Sink: Sink{Writer: s}, FlushEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	w := g.Writer()
	r := sample()
	w.Append(JSON, &r, true)
	for range 2 {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.lines()) != 1 {
		t.Errorf("lines: %q", s.lines())
	}
	if w.Append(JSON, &r, true) || g.Writer().Append(JSON, &r, true) || g.Stats().Dropped != 2 {
		t.Errorf("after Close: %+v, want 2 dropped", g.Stats())
	}
	if err := g.Flush(); err != ErrClosed {
		t.Errorf("Flush after Close = %v", err)
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	udp := Target{Name: "a", Network: "udp", Address: "127.0.0.1:1"}
	for want, o := range map[string]Options{
		"both a file and a writer": {Sink: Sink{Path: "x", Writer: nullWriter{}}},
		"is negative":              {Sink: Sink{Path: "x", Keep: -1}},
		"two log targets":          {Targets: []Target{udp, udp}},
		"neither udp":              {Targets: []Target{{Network: "sctp"}}},
		"no facility 24":           {Targets: []Target{{Network: "udp", Facility: 24}}},
		"no such file":             {Sink: Sink{Path: t.TempDir() + "/none/x"}},
		"is a directory":           {Sink: Sink{Path: t.TempDir()}},
		"has 17 targets":           {Targets: make([]Target, 17)},
		"it is no regular file":    {Sink: Sink{Path: "/dev/null"}},
	} {
		g, err := New(o)
		if err == nil {
			g.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
}
