package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/config"
)

// scraper reads an appliance's numbers as Prometheus does: over TLS, with a token,
// on one connection.
type scraper struct {
	m      *machine
	client *http.Client
	token  string
}

func newScraper(m *machine) *scraper {
	m.t.Helper()
	s := &scraper{m: m, client: m.https()}
	s.token = strings.TrimSpace(m.do("token", "create", "admin", "prometheus", "--role", "viewer", "--expires-in", "30d"))
	return s
}

// https is a client with connections of its own.
func (m *machine) https() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(m.listener.Leaf())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *scraper) get(accept string) (*http.Response, []byte) {
	s.m.t.Helper()
	q, err := http.NewRequestWithContext(s.m.t.Context(), "GET", s.m.listener.URLs()[0]+"/metrics", nil)
	if err != nil {
		s.m.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+s.token)
	q.Header.Set("Accept", accept)
	answer, err := s.client.Do(q)
	if err != nil {
		s.m.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.m.t.Fatal(err)
	}
	return answer, body
}

// numbers are all numbers by name with labels, as the text has them.
func (s *scraper) numbers() map[string]float64 {
	s.m.t.Helper()
	answer, body := s.get("")
	if answer.StatusCode != http.StatusOK {
		s.m.t.Fatalf("/metrics = %s\n%s", answer.Status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		s.m.t.Fatal(err)
	}
	numbers := map[string]float64{}
	for name, family := range families {
		if !strings.HasPrefix(name, "sluis_") {
			continue
		}
		if family.GetHelp() == "" {
			s.m.t.Errorf("%s has no help", name)
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, pair := range metric.GetLabel() {
				labels = append(labels, pair.GetName()+"="+strconv.Quote(pair.GetValue()))
			}
			key := name
			if labels != nil {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			numbers[key] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return numbers
}

// TestNumbersMove does what the numbers count, and sees them move: on this appliance
// and not on the other one in the process.
func TestNumbersMove(t *testing.T) {
	rec := recorder(t)
	m, other := newMachine(t, rec), newMachine(t)
	s, others := newScraper(m), newScraper(other)
	login := func(password string) {
		answer, err := m.https().Post(m.listener.URLs()[0]+"/api/v1/login", "application/json",
			strings.NewReader(`{"username":"admin","password":"`+password+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	tests := []struct {
		name string
		do   func()
		// moves are by how much numbers rise at least; the others below stay.
		moves map[string]float64
	}{
		{"nothing", func() {}, map[string]float64{`sluis_stats_scrapes_total{result="ok"}`: 1}},
		{"a wrong password", func() { login("wrong") }, map[string]float64{
			`sluis_auth_logins_total{result="failed"}`: 1, `sluis_auth_entries{table="sources"}`: 1, "sluis_api_accepted_connections_total": 1,
		}},
		{"guesses in a row", func() {
			for range 8 {
				login("wrong")
			}
		}, map[string]float64{
			`sluis_auth_logins_total{result="failed"}`: 1, `sluis_auth_logins_total{result="delayed"}`: 1, "sluis_api_accepted_connections_total": 8,
		}},
		{"a wrong token", func() {
			wrong := &scraper{m: m, client: s.client, token: "slt_wrong"}
			if answer, _ := wrong.get(""); answer.StatusCode != http.StatusUnauthorized {
				t.Errorf("a wrong token reads the numbers: %s", answer.Status)
			}
		}, map[string]float64{"sluis_auth_refused_tokens_total": 1}},
		{"a token", func() { m.do("token", "create", "admin", "another") }, map[string]float64{`sluis_auth_entries{table="tokens"}`: 1}},
		{"a connection that stays", func() {
			open, err := tls.Dial("tcp", strings.TrimPrefix(m.listener.URLs()[0], "https://"), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = open.Close() })
		}, map[string]float64{"sluis_api_accepted_connections_total": 1, "sluis_api_open_connections": 1}},
		{"an edit", func() { m.do("set", "system.hostname", "lb1") }, map[string]float64{
			"sluis_event_records_total": 1, "sluis_event_kept_records": 1, "sluis_store_used_bytes": 100,
		}},
		{"an apply", func() { m.do("apply") }, map[string]float64{
			"sluis_apply_running_revision": 1, "sluis_store_kept_revisions": 1, "sluis_event_records_total": 1,
		}},
		{"an apply that waits", func() {
			m.do("set", "system.hostname", "lb2")
			m.do("apply", "--confirm-within", "10m")
		}, map[string]float64{
			"sluis_apply_pending_revision": 3, "sluis_apply_pending_deadline_timestamp_seconds": float64(time.Now().Unix()), "sluis_store_kept_revisions": 1,
		}},
		{"a reader of events", func() {
			reader, err := m.events.Subscribe(0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(reader.Close)
		}, map[string]float64{"sluis_event_readers": 1}},
		{"an undo that fails", func() {
			rec.Inject(apply.StepRemove, applytest.Fault{Kind: applytest.Fail, Place: applytest.Before})
			m.fails(exitNo, "rollback")
		}, map[string]float64{"sluis_apply_differences": 1}},
	}
	watched := map[string]bool{}
	for _, tt := range tests {
		for key := range tt.moves {
			watched[key] = true
		}
	}
	for _, key := range []string{ // what happens beside it, in other rows
		"sluis_event_records_total", "sluis_event_kept_records", "sluis_store_used_bytes", "sluis_api_open_connections",
		"sluis_apply_pending_revision", "sluis_apply_pending_deadline_timestamp_seconds", `sluis_stats_scrapes_total{result="ok"}`,
	} {
		delete(watched, key)
	}
	calm := others.numbers()
	for _, tt := range tests {
		before := s.numbers()
		tt.do()
		after := s.numbers()
		for key, least := range tt.moves {
			if _, there := after[key]; !there || after[key]-before[key] < least {
				t.Errorf("%s: %s went from %v to %v, want a rise by %v", tt.name, key, before[key], after[key], least)
			}
		}
		for key := range watched {
			if _, moves := tt.moves[key]; !moves && after[key] != before[key] {
				t.Errorf("%s: %s went from %v to %v", tt.name, key, before[key], after[key])
			}
		}
	}
	for key, now := range others.numbers() {
		if watched[key] && now != calm[key] {
			t.Errorf("the other appliance's %s went from %v to %v", key, calm[key], now)
		}
	}
	if got := calm["sluis_api_certificate_expiry_timestamp_seconds"]; int64(got) != other.listener.Leaf().NotAfter.Unix() {
		t.Errorf("the certificate's end is %v", got)
	}
}

// Prometheus gets what it asks for, and more readers than there is room for are told
// to come again.
func TestMetricsOverTheNetwork(t *testing.T) {
	m := newMachine(t)
	s := newScraper(m)
	answer, body := s.get("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
	if answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/openmetrics-text; version=1.0.0") ||
		!strings.HasSuffix(string(body), "# EOF\n") {
		t.Errorf("OpenMetrics: %s, %v", answer.Status, answer.Header)
	}
	for _, part := range []string{"go_goroutines", "process_open_fds", "sluis_build_info{", "sluis_start_time_seconds "} {
		if !strings.Contains(string(body), "\n"+part) {
			t.Errorf("no %s", part)
		}
	}
	m.stats.Close() // as if all places were taken
	answer, body = s.get("")
	if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "too many read the numbers") {
		t.Errorf("too many readers: %s %s", answer.Status, body)
	}
}

// A scrape doesn't wait for an apply, however long its steps take.
func TestScrapeDuringAnApply(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	m := newMachine(t, part{"slow", nil, func(_ context.Context, next *config.Document) (apply.Plan, config.Problems) {
		return apply.Plan{Switch: func(context.Context) error {
			if next.System.Hostname == "slow" {
				close(begun)
				<-release
			}
			return nil
		}}, nil
	}})
	s := newScraper(m)
	if got := s.numbers()["sluis_apply_applying"]; got != 0 {
		t.Errorf("applying = %v before", got)
	}
	m.do("set", "system.hostname", "slow")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if code, out, errs := m.tool("", "apply"); code != exitOK {
			t.Errorf("apply: %s%s", out, errs)
		}
	}()
	<-begun
	if got := s.numbers(); got["sluis_apply_applying"] != 1 || got["sluis_apply_running_revision"] != 1 {
		t.Errorf("during the apply: %v", got)
	}
	close(release)
	<-done
	if got := s.numbers(); got["sluis_apply_applying"] != 0 || got["sluis_apply_running_revision"] != 2 {
		t.Errorf("after the apply: %v", got)
	}
}
