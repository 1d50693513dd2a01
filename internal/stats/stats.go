// Package stats gives out the numbers of an appliance: counters, gauges and
// histograms, in the text form of Prometheus or OpenMetrics.
//
//	scrape ──► every source's func, beside each other, each for sourceTime at most
//	             │ puts its room's numbers of this moment into a Sample
//	             ▼
//	           sorted, checked, written as text
//
// Rooms count for themselves, in whatever way costs them least (one atomic, one
// plain field per loop), and know nothing of this room. Whoever joins them gives a
// func that is called at each scrape and puts values; there are no objects to be
// kept in step with servers that come and go. It promises that a scrape is bounded
// in time, size and number, and that a source that hangs, panics or says the same
// thing twice costs its own numbers and not those of the others.
//
// It keeps no history, knows no roles (who may look is the API's), and no package
// state: each appliance has a Registry of its own. It is the only room that imports
// Prometheus' libraries.
package stats

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// Bounds of a scrape.
const (
	maxScrapes = 4               // at a time; Prometheus servers often come in pairs
	maxNumbers = 100_000         // of one source
	maxBytes   = 32 << 20        // of one answer
	sourceTime = 2 * time.Second // for one source; Prometheus waits for ten seconds
)

// Errors of Scrape.
var (
	// ErrBusy says that too many scrapes are under way, or that the registry is closed.
	ErrBusy = errors.New("too many scrapes at once")
	// ErrTooLarge says that all numbers together are more than maxBytes.
	ErrTooLarge = errors.New("the numbers are too many for one answer")
)

// Options are what a registry says of its appliance.
type Options struct {
	// Version is the program's version.
	Version string
	// Started is when the appliance was started; zero = now.
	Started time.Time
	// Log gets the faults of sources; nil = nobody does.
	Log *slog.Logger
}

// Registry holds the sources of one appliance. Make one with New; its methods may
// be called from any goroutine.
type Registry struct {
	// Immutable.
	metrics *prometheus.Registry
	log     *slog.Logger
	// numbers and bytes are maxNumbers and maxBytes but in tests.
	numbers, bytes int
	// slots holds one token per scrape under way.
	slots  chan struct{}
	counts scrapeCounts
	// complained is what was last logged about a scrape, so that each fault is said
	// once and not at every scrape.
	complained atomic.Pointer[string]
	closing    sync.Once

	mu      sync.Mutex
	sources []*Source // guarded by mu
}

type scrapeCounts struct{ ok, busy, tooLarge, abandoned atomic.Uint64 }

// New makes a registry that has the numbers of the process, of Go's runtime and of
// itself.
func New(o Options) *Registry {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	r := &Registry{
		metrics: prometheus.NewRegistry(), log: o.Log, numbers: maxNumbers, bytes: maxBytes,
		slots: make(chan struct{}, maxScrapes),
	}
	r.metrics.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		constant("sluis_build_info", "What runs: always 1.", 1, prometheus.Labels{"version": valid(o.Version), "go_version": runtime.Version()}),
		constant("sluis_start_time_seconds", "When the appliance was started, in seconds since 1970.", float64(o.Started.UnixMilli())/1000, nil),
	)
	r.countSelf()
	return r
}

func constant(name, help string, v float64, labels prometheus.Labels) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return v })
}

// countSelf makes the registry a source of its own numbers.
func (r *Registry) countSelf() {
	s := r.Source("stats")
	scrapes := s.Counter("scrapes_total", "Scrapes that ended, by how.", "result")
	late := s.Counter("late_sources_total", "Scrapes that a source was too slow for; its numbers were left out.", "source")
	failed := s.Counter("failed_sources_total", "Scrapes that a source failed in; its numbers were left out.", "source")
	dropped := s.Counter("dropped_numbers_total", "Numbers that a source had too many of.", "source")
	s.Collect(func(out *Sample) {
		out.Counter(scrapes, float64(r.counts.ok.Load()), "ok")
		out.Counter(scrapes, float64(r.counts.busy.Load()), "busy")
		out.Counter(scrapes, float64(r.counts.tooLarge.Load()), "too_large")
		out.Counter(scrapes, float64(r.counts.abandoned.Load()), "abandoned")
		for _, source := range r.all() {
			out.Counter(late, float64(source.late.Load()), source.name)
			out.Counter(failed, float64(source.failed.Load()), source.name)
			out.Counter(dropped, float64(source.dropped.Load()), source.name)
		}
	})
}

func (r *Registry) all() []*Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources[:len(r.sources):len(r.sources)]
}

// Scrape is all numbers of this moment as text, in the form that an Accept field
// asks for: OpenMetrics, else Prometheus' own. It fails with ErrBusy, ErrTooLarge or
// the context's error.
func (r *Registry) Scrape(ctx context.Context, accept string) (contentType string, body []byte, err error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		r.counts.busy.Add(1)
		return "", nil, ErrBusy
	}
	families, err := r.metrics.Gather()
	if err != nil {
		r.complain(err) // what is no contradiction is there all the same
	}
	format := formatOf(accept)
	out := limited{most: r.bytes}
	encoder := expfmt.NewEncoder(&out, format)
	for _, family := range families {
		if err := ctx.Err(); err != nil {
			r.counts.abandoned.Add(1)
			return "", nil, err
		}
		if err := encoder.Encode(family); err != nil {
			return "", nil, r.unwritten(err)
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok { // OpenMetrics has an end
		if err := closer.Close(); err != nil {
			return "", nil, r.unwritten(err)
		}
	}
	r.counts.ok.Add(1)
	return string(format), out.b.Bytes(), nil
}

// unwritten counts an answer that was too large: the encoder has no other errors
// for what Gather has checked.
func (r *Registry) unwritten(err error) error {
	r.counts.tooLarge.Add(1)
	r.complain(err)
	return err
}

func (r *Registry) complain(err error) {
	said := err.Error()
	if before := r.complained.Swap(&said); before == nil || *before != said {
		r.log.Error("numbers are missing from a scrape", "cause", err)
	}
}

// formatOf is the text form that an Accept field asks for. The binary form, which
// Prometheus may name first, isn't served.
func formatOf(accept string) expfmt.Format {
	return expfmt.NegotiateAccept(http.Header{"Accept": {accept}}, expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1)
}

// limited is a buffer that takes so many bytes at most.
type limited struct {
	b    bytes.Buffer
	most int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > l.most {
		return 0, ErrTooLarge
	}
	return l.b.Write(p)
}

// ServeHTTP answers a scrape. It asks nobody who they are: where it stands without
// a login before it, the listener must let in only who may look.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "numbers can only be read", http.StatusMethodNotAllowed)
		return
	}
	contentType, body, err := r.Scrape(q.Context(), strings.Join(q.Header.Values("Accept"), ","))
	switch {
	case errors.Is(err, ErrBusy):
		h.Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that has left doesn't read it
	}
}

// Close ends the scrapes: those under way finish, later ones are refused. A source
// that hangs is waited for no longer than a scrape would. It may be called twice.
func (r *Registry) Close() { r.closing.Do(r.takeAll) }

// takeAll takes every place for a scrape and every source's turn, and keeps them.
func (r *Registry) takeAll() {
	deadline := time.NewTimer(sourceTime)
	defer deadline.Stop()
	turns := []chan struct{}{}
	for range maxScrapes {
		turns = append(turns, r.slots)
	}
	for _, s := range r.all() {
		turns = append(turns, s.turn)
	}
	for _, turn := range turns {
		select {
		case turn <- struct{}{}:
		case <-deadline.C:
			return
		}
	}
}
