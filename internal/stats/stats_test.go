package stats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const openMetrics = "application/openmetrics-text;version=1.0.0"

// scrape is the numbers of a source as text, without comments: those of the others
// stand in every scrape.
func scrape(t *testing.T, r *Registry, source string) string {
	t.Helper()
	return only(whole(t, r), source)
}

func whole(t *testing.T, r *Registry) string {
	t.Helper()
	_, body, err := r.Scrape(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(bytes.NewReader(body)); err != nil {
		t.Errorf("the text can't be read: %v", err)
	}
	return string(body)
}

func only(text, source string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "sluis_"+source+"_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestScrapeSaysWhatSourcesPut(t *testing.T) {
	r := New(Options{Version: "1.2", Started: time.UnixMilli(1_700_000_000_500)})
	s := r.Source("shop")
	sold := s.Counter("sold_things_total", "Things sold.", "kind", "to")
	open := s.Gauge("open", "Whether it is open.")
	queue := s.Histogram("wait_seconds", "Time in the queue.", []float64{1, 10})
	n := 1.0
	s.Collect(func(out *Sample) {
		out.Counter(sold, n, "bread", "ann")
		out.Counter(sold, 2*n, "a \"cake\"\n", "b\xffb")
		out.Gauge(open, -n)
		out.Histogram(queue, 25, []uint64{3, 2, 1})
	})
	want := `sluis_shop_open -1
sluis_shop_sold_things_total{kind="a \"cake\"\n",to="b�b"} 2
sluis_shop_sold_things_total{kind="bread",to="ann"} 1
sluis_shop_wait_seconds_bucket{le="1"} 3
sluis_shop_wait_seconds_bucket{le="10"} 5
sluis_shop_wait_seconds_bucket{le="+Inf"} 6
sluis_shop_wait_seconds_sum 25
sluis_shop_wait_seconds_count 6
`
	if diff := cmp.Diff(want, scrape(t, r, "shop")); diff != "" {
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
	n = 5
	if got := scrape(t, r, "shop"); !strings.Contains(got, `kind="bread",to="ann"} 5`) {
		t.Errorf("the number has not moved:\n%s", got)
	}
	body := whole(t, r)
	for _, part := range []string{
		"# HELP sluis_shop_open Whether it is open.\n# TYPE sluis_shop_open gauge\n", `sluis_build_info{go_version="go`, `version="1.2"} 1`,
		"sluis_start_time_seconds 1.7000000005e+09\n", "\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(body, part) {
			t.Errorf("a scrape has no %q:\n%s", part, body)
		}
	}
	if other := scrape(t, New(Options{}), "shop"); other != "" {
		t.Errorf("another registry has\n%s", other)
	}
}

func TestForm(t *testing.T) {
	r := New(Options{})
	const text, open = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"
	for accept, want := range map[string]string{
		"":            text,
		"*/*":         text,
		"text/html":   text,
		"text/plain":  text,
		openMetrics:   open,
		"not a range": text,
		openMetrics + ";q=0.2, text/plain;version=0.0.4;q=0.5":                                                                  text,
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited, " + openMetrics + ";q=0.5": open,
	} {
		contentType, body, err := r.Scrape(t.Context(), accept)
		if err != nil || !strings.HasPrefix(contentType, want) {
			t.Errorf("Accept %q gives %q, %v; want %s", accept, contentType, err, want)
		}
		if strings.HasSuffix(string(body), "# EOF\n") != (want == open) {
			t.Errorf("Accept %q: the text ends %q", accept, body[max(0, len(body)-40):])
		}
	}
}

// What is wrong with one source is said, and costs the others nothing.
func TestBadSources(t *testing.T) {
	var log bytes.Buffer
	r := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.numbers = 50
	source := func(name string, read func(*Sample, Gauge)) {
		s := r.Source(name)
		g := s.Gauge("things", "Things.", "name")
		s.Collect(func(out *Sample) { read(out, g) })
	}
	source("good", func(out *Sample, g Gauge) { out.Gauge(g, 1, "a") })
	source("panics", func(out *Sample, g Gauge) { out.Gauge(g, 1, "a"); panic("the cause") })
	source("labels", func(out *Sample, g Gauge) { out.Gauge(g, 1, "a", "b") })
	source("twice", func(out *Sample, g Gauge) { out.Gauge(g, 1, "a"); out.Gauge(g, 2, "a") })
	source("many", func(out *Sample, g Gauge) {
		for i := range 57 {
			out.Gauge(g, 1, fmt.Sprint(i))
		}
	})
	for range 2 {
		text := whole(t, r)
		for name, lines := range map[string]int{"good": 1, "panics": 0, "labels": 0, "twice": 1, "many": 50} {
			if got := strings.Count(only(text, name), "\n"); got != lines {
				t.Errorf("the source %s has %d lines, want %d", name, got, lines)
			}
		}
	}
	// Its own numbers are read beside the others', so this scrape may count or not.
	own := scrape(t, r, "stats")
	for _, line := range []string{
		`failed_sources_total{source="panics"} [23]`, `failed_sources_total{source="labels"} [23]`, `failed_sources_total{source="good"} 0`,
		`dropped_numbers_total{source="many"} (14|21)`, `dropped_numbers_total{source="good"} 0`, `scrapes_total{result="ok"} 2`,
	} {
		line = strings.NewReplacer("{", `\{`, "}", `\}`).Replace(line)
		if !regexp.MustCompile(line + "\n").MatchString(own) {
			t.Errorf("the registry's own numbers have no %s:\n%s", line, own)
		}
	}
	for _, said := range []string{"the cause", "sluis_twice_things"} {
		if got := strings.Count(log.String(), said); got == 0 || got > 2 {
			t.Errorf("the log says %q %d times, want it said and not repeated", said, got)
		}
	}
}

// A source that hangs is left out after its time; scrapes that come meanwhile are
// bounded, and Close doesn't wait for it for ever.
func TestHangingSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{})
		good, hangs := r.Source("good"), r.Source("hangs")
		one, never := good.Gauge("things", "Things."), hangs.Gauge("things", "Things.")
		good.Collect(func(out *Sample) { out.Gauge(one, 1) })
		release := make(chan struct{})
		calls := 0
		hangs.Collect(func(out *Sample) {
			calls++
			<-release
			out.Gauge(never, 1)
		})
		results := make(chan string, maxScrapes)
		begun := time.Now()
		for range maxScrapes {
			go func() {
				_, body, err := r.Scrape(t.Context(), "")
				results <- fmt.Sprint(err, strings.Contains(string(body), "\nsluis_good_things 1\n"), strings.Contains(string(body), "sluis_hangs_things"))
			}()
		}
		synctest.Wait()
		if _, _, err := r.Scrape(t.Context(), ""); !errors.Is(err, ErrBusy) {
			t.Errorf("one scrape too many: %v", err)
		}
		for range maxScrapes {
			if got := <-results; got != "<nil> true false" {
				t.Errorf("a scrape with a source that hangs = %s", got)
			}
		}
		if took := time.Since(begun); took != sourceTime || calls != 1 {
			t.Errorf("the scrapes took %v, want %v; the source was called %d times", took, sourceTime, calls)
		}
		own := scrape(t, r, "stats")
		if !strings.Contains(own, `late_sources_total{source="hangs"} 4`) || !strings.Contains(own, `scrapes_total{result="busy"} 1`) {
			t.Errorf("own numbers:\n%s", own)
		}
		close(release)
		synctest.Wait()
		if got := scrape(t, r, "hangs"); got != "sluis_hangs_things 1\n" {
			t.Errorf("the source that came back has %q", got)
		}

		release = make(chan struct{})
		defer close(release)
		go func() { _, _, _ = r.Scrape(t.Context(), "") }()
		synctest.Wait()
		begun = time.Now()
		r.Close()
		if took := time.Since(begun); took > sourceTime {
			t.Errorf("Close took %v", took)
		}
		r.Close()
	})
}

func TestClose(t *testing.T) {
	r := New(Options{})
	r.Close()
	if _, _, err := r.Scrape(t.Context(), ""); !errors.Is(err, ErrBusy) {
		t.Errorf("a scrape after Close: %v", err)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	r := New(Options{})
	s := r.Source("long")
	g := s.Gauge("things", "Things.", "name")
	r.bytes = 10_000
	s.Collect(func(out *Sample) { out.Gauge(g, 1, strings.Repeat("x", r.bytes)) })
	if _, _, err := r.Scrape(t.Context(), ""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a scrape of over %d bytes: %v", r.bytes, err)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 500 {
		t.Errorf("over HTTP it is %d", w.Code)
	}
}

func TestServeHTTP(t *testing.T) {
	r := New(Options{})
	server := httptest.NewServer(r)
	defer server.Close()
	ask := func(method string) (*http.Response, string) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Add("Accept", "text/html;q=0.1")
		q.Header.Add("Accept", openMetrics)
		response, err := server.Client().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}
	got, body := ask("GET")
	if got.StatusCode != 200 || !strings.HasSuffix(body, "# EOF\n") || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/openmetrics-text") {
		t.Errorf("GET = %s, %v", got.Status, got.Header)
	}
	if got, body = ask("HEAD"); got.StatusCode != 200 || body != "" || got.ContentLength <= 0 {
		t.Errorf("HEAD = %s with %d bytes of %d", got.Status, len(body), got.ContentLength)
	}
	if got, _ = ask("POST"); got.StatusCode != 405 || got.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST = %s, %v", got.Status, got.Header)
	}
	r.Close()
	if got, _ = ask("GET"); got.StatusCode != 503 || got.Header.Get("Retry-After") == "" {
		t.Errorf("too many scrapes = %s, %v", got.Status, got.Header)
	}
}

// Mistakes of ours show at the start, not at the first scrape.
func TestMistakes(t *testing.T) {
	for name, mistake := range map[string]func(*Registry, *Source){
		"counter without _total": func(_ *Registry, s *Source) { s.Counter("things", "Things.") },
		"gauge with _total":      func(_ *Registry, s *Source) { s.Gauge("things_total", "Things.") },
		"bad name":               func(_ *Registry, s *Source) { s.Gauge("Things", "Things.") },
		"no help":                func(_ *Registry, s *Source) { s.Gauge("things", "") },
		"after Collect":          func(_ *Registry, s *Source) { s.Collect(func(*Sample) {}); s.Gauge("things", "Things.") },
		"same source twice":      func(r *Registry, _ *Source) { r.Source("room") },
		"same family twice": func(_ *Registry, s *Source) {
			s.Gauge("things", "Things.")
			s.Gauge("things", "Things.", "kind")
			s.Collect(func(*Sample) {})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("nobody has noticed")
				}
			}()
			r := New(Options{})
			mistake(r, r.Source("room"))
		})
	}
}

// A load balancer with 500 servers of 40 numbers each.
func BenchmarkScrape(b *testing.B) {
	r := New(Options{})
	s := r.Source("proxy")
	var families []Counter
	for i := range 40 {
		families = append(families, s.Counter(fmt.Sprintf("number%d_total", i), "A number.", "backend", "server"))
	}
	servers := make([]string, 500)
	for i := range servers {
		servers[i] = fmt.Sprintf("web%d", i)
	}
	s.Collect(func(out *Sample) {
		for i, server := range servers {
			for _, f := range families {
				out.Counter(f, float64(i), "shop", server)
			}
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Scrape(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
	}
}
