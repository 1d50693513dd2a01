package stats

import (
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Source is where one room's numbers come from: first its families are described,
// then Collect says how to read them.
//
//	auth := registry.Source("auth")
//	logins := auth.Counter("logins_total", "Logins, by how they ended.", "result")
//	auth.Collect(func(out *stats.Sample) { out.Counter(logins, n, "ok") })
type Source struct {
	registry *Registry
	name     string
	families []*prometheus.Desc // complete when Collect was called
	read     func(*Sample)      // set by Collect

	// turn holds a token while read runs: it is never called twice at a time, and one
	// that hangs is left alone.
	turn chan struct{}
	// late, failed and dropped are what countSelf says of it.
	late, failed, dropped atomic.Uint64
}

// Counter is a family of numbers that only grow; it begins at 0 with the process.
type Counter struct{ desc *prometheus.Desc }

// Gauge is a family of numbers that go up and down.
type Gauge struct{ desc *prometheus.Desc }

// Histogram is a family of distributions over fixed buckets.
type Histogram struct {
	desc *prometheus.Desc
	// bounds are the upper bounds of all buckets but the last, which has none.
	bounds []float64
}

// Source begins a source. The name is the room's; all its families have it in
// front, as in sluis_auth_logins_total.
func (r *Registry) Source(name string) *Source {
	s := &Source{registry: r, name: name, turn: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.sources {
		if other.name == name {
			panic("BUG: two sources are named " + name)
		}
	}
	r.sources = append(r.sources, s)
	return s
}

// Counter describes a counter, whose name ends in _total, and the names of its
// labels. Labels are few and bounded: numbers are kept for each of their values.
func (s *Source) Counter(name, help string, labels ...string) Counter {
	if !strings.HasSuffix(name, "_total") {
		panic("BUG: the counter " + name + " doesn't end in _total")
	}
	return Counter{s.describe(name, help, labels)}
}

// Gauge describes a gauge, whose name ends in its unit where it has one: _bytes,
// _seconds.
func (s *Source) Gauge(name, help string, labels ...string) Gauge {
	if strings.HasSuffix(name, "_total") {
		panic("BUG: the gauge " + name + " ends in _total, as counters do")
	}
	return Gauge{s.describe(name, help, labels)}
}

// Histogram describes a histogram with rising upper bounds of its buckets, in the
// unit that its name ends in; a last bucket takes what is above them.
func (s *Source) Histogram(name, help string, bounds []float64, labels ...string) Histogram {
	return Histogram{s.describe(name, help, labels), bounds}
}

var familyName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func (s *Source) describe(name, help string, labels []string) *prometheus.Desc {
	name = s.name + "_" + name
	if !familyName.MatchString(name) || help == "" || s.read != nil {
		panic("BUG: the family " + name + " has a bad name, no help, or comes after Collect")
	}
	desc := prometheus.NewDesc("sluis_"+name, help, labels, nil)
	s.families = append(s.families, desc)
	return desc
}

// Collect says how the numbers are read, and joins the source to the registry. read
// is called at each scrape, by one goroutine at a time, and may put any number of
// values of the families described. It must not wait for what may hang: past
// sourceTime its numbers are left out.
func (s *Source) Collect(read func(*Sample)) {
	s.read = read
	s.registry.metrics.MustRegister(collector{s})
}

// collector is a source as Prometheus' library wants it.
type collector struct{ source *Source }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.source.families {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.source.sample() {
		out <- m
	}
}

// sample reads the source; nothing where that fails or takes too long.
func (s *Source) sample() []prometheus.Metric {
	deadline := time.NewTimer(sourceTime)
	defer deadline.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-deadline.C:
		s.late.Add(1)
		return nil
	}
	done := make(chan []prometheus.Metric, 1) // who is late finds nobody waiting
	go func() {
		defer func() { <-s.turn }()
		done <- s.readOnce()
	}()
	select {
	case metrics := <-done:
		return metrics
	case <-deadline.C:
		s.late.Add(1)
		return nil
	}
}

// readOnce calls read. Half of a room's numbers would look like all of them, so one
// that panics has none.
func (s *Source) readOnce() (metrics []prometheus.Metric) {
	defer func() {
		if cause := recover(); cause != nil {
			metrics = nil
			if s.failed.Add(1) == 1 {
				s.registry.log.Error("panic in a source of numbers", "source", s.name, "cause", cause, "stack", string(debug.Stack()))
			}
		}
	}()
	out := Sample{source: s}
	s.read(&out)
	return out.metrics
}

// Sample takes a source's numbers of one moment.
type Sample struct {
	source  *Source
	metrics []prometheus.Metric
	numbers int // in metrics; a histogram has several
}

// Counter puts a counter's value for values of its labels, in the order of their
// names.
func (s *Sample) Counter(c Counter, v float64, labels ...string) {
	s.put(1)(prometheus.NewConstMetric(c.desc, prometheus.CounterValue, v, s.valid(labels)...))
}

// Gauge puts a gauge's value for values of its labels.
func (s *Sample) Gauge(g Gauge, v float64, labels ...string) {
	s.put(1)(prometheus.NewConstMetric(g.desc, prometheus.GaugeValue, v, s.valid(labels)...))
}

// Histogram puts how many values fell into each bucket, the last one included, and
// the sum of all values.
func (s *Sample) Histogram(h Histogram, sum float64, buckets []uint64, labels ...string) {
	if len(buckets) != len(h.bounds)+1 {
		panic(fmt.Sprintf("BUG: %s has %d buckets and is given %d", h.desc, len(h.bounds)+1, len(buckets)))
	}
	cumulative := make(map[float64]uint64, len(h.bounds))
	var count uint64
	for i, n := range buckets {
		count += n
		if i < len(h.bounds) {
			cumulative[h.bounds[i]] = count
		}
	}
	s.put(len(buckets) + 2)(prometheus.NewConstHistogram(h.desc, count, sum, cumulative, s.valid(labels)...))
}

// put keeps what was made, unless the source has too many numbers.
func (s *Sample) put(numbers int) func(prometheus.Metric, error) {
	return func(m prometheus.Metric, err error) {
		if err != nil {
			panic("BUG: " + err.Error()) // another number of labels than was described
		}
		if s.numbers+numbers > s.source.registry.numbers {
			s.source.dropped.Add(uint64(numbers))
			return
		}
		s.numbers += numbers
		s.metrics = append(s.metrics, m)
	}
}

func (s *Sample) valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = valid(l)
	}
	return labels
}

// valid is a label's value as it may stand in a text.
func valid(label string) string { return strings.ToValidUTF8(label, "�") }
