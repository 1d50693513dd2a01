package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluis/internal/api"
	"sluis/internal/control"
)

// shopDocument is a site with a server that answers and one that nobody is.
const shopDocument = `
format: 1
frontends:
- {name: shop, binds: [{name: http, address: 127.0.0.1, port: %d}], default_backend: web}
backends:
- name: web
  check: {type: http, interval: 100ms, rise: 1, fall: 1}
  retries: 0
  servers:
  - {name: web1, address: 127.0.0.1, port: %d}
  - {name: gone, address: 127.0.0.1, port: %d}
`

// TestBalancerTells sends requests through a whole appliance, and finds the same
// truth by command line, numbers and statistics page.
func TestBalancerTells(t *testing.T) {
	var failing atomic.Bool
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() || r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "hello")
	}))
	defer origin.Close()
	port, gone := unusedPort(t), unusedPort(t)
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "shop.yaml")
	write(t, file, fmt.Appendf(nil, shopDocument, port, netip.MustParseAddrPort(origin.Listener.Addr().String()).Port(), gone))
	m.do("load", file)
	m.do("apply")
	server := func(name string) (d control.ServerDetail) {
		t.Helper()
		if err := json.Unmarshal([]byte(m.do("server", "web", name, "--json")), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
	until("both servers are judged", func() bool {
		return server("web1").State == control.ServerUp && server("gone").State == control.ServerDown
	})
	for _, path := range []string{"/one", "/two?secret=swordfish", "/fail"} {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}

	// The records, by filter; what is secret isn't among them.
	requests := func(args ...string) (list api.List[control.Request]) {
		t.Helper()
		if err := json.Unmarshal([]byte(m.do(append([]string{"requests", "--json"}, args...)...)), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	until("all requests are recorded", func() bool { return len(requests().Items) == 3 })
	if out := m.do("requests"); strings.Contains(out, "swordfish") || !strings.Contains(out, "web/web1") {
		t.Errorf("requests:\n%s", out)
	}
	for filter, want := range map[string]int{"--status=5xx": 1, "--status=200": 2, "--query=/two": 1, "--server=gone": 0, "--client=127.0.0.0/8": 3, "--trouble": 1, "--limit=2": 2, "--frontend=shop": 3} {
		if got := requests(filter); len(got.Items) != want {
			t.Errorf("requests %s = %d, want %d", filter, len(got.Items), want)
		}
	}

	// The server in the table, and alone with the answers of its check.
	if out := m.do("servers"); !strings.Contains(out, "L7OK/200") || !strings.Contains(out, "L4CON") {
		t.Errorf("servers:\n%s", out)
	}
	failing.Store(true)
	until("the check finds it", func() bool { return server("web1").State == control.ServerDown })
	d := server("web1")
	if d.LastGood == nil || !strings.HasPrefix(d.LastGood.Response, "HTTP/1.1 200 ") || d.FirstBad == nil || d.FirstBad.HTTPStatus != 500 || len(d.Transitions) == 0 || d.Requests != 3 {
		t.Errorf("the server's detail: %+v", d)
	}
	failing.Store(false)
	until("it is back", func() bool { return server("web1").State == control.ServerUp })
	if out := m.do("server", "drain", "web", "web1"); !strings.Contains(out, "0 open requests, 0 WebSockets") {
		t.Errorf("drain says:\n%s", out)
	}
	if out := m.do("status"); !strings.Contains(out, "0 of 2 servers take clients") || !strings.Contains(out, "web/web1: drain") {
		t.Errorf("status:\n%s", out)
	}
	if out := m.fails(exitNo, "server", "web", "web2"); !strings.Contains(out, "web1") {
		t.Errorf("a server that isn't there: %s", out)
	}

	// The same in numbers and on the page.
	numbers := newScraper(m).numbers()
	for key, want := range map[string]float64{
		`sluis_proxy_server_requests_total{backend="web",server="web1"}`:           3,
		`sluis_proxy_server_answers_total{backend="web",code="5xx",server="web1"}`: 1,
		`sluis_proxy_frontend_requests_total{frontend="shop"}`:                     3,
		`sluis_proxy_server_up{backend="web",server="gone"}`:                       0,
		`sluis_proxy_server_admin{backend="web",server="web1",state="drain"}`:      1,
		`sluis_accesslog_records_total{result="dropped"}`:                          0,
	} {
		if got, there := numbers[key]; !there || got != want {
			t.Errorf("%s = %v (there: %v), want %v", key, got, there, want)
		}
	}
	if numbers[`sluis_loop_turns_total{loop="0"}`] == 0 || numbers[`sluis_loop_system_calls_total{call="epoll_wait",loop="0"}`] == 0 {
		t.Error("the loops count nothing")
	}
	page := func(path string) string {
		t.Helper()
		answer, err := http.Get(m.page.URLs()[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		data, _ := io.ReadAll(answer.Body)
		return string(data)
	}
	if html := page(""); !strings.Contains(html, "<h1>No server takes clients</h1>") || !strings.Contains(html, "Draining for") {
		t.Errorf("the page:\n%s", html)
	}
	rows, err := csv.NewReader(strings.NewReader(page(";csv"))).ReadAll()
	if err != nil || len(rows) != 5 || rows[2][0] != "web" || rows[2][1] != "web1" || rows[2][7] != "3" || rows[2][17] != "DRAIN" {
		t.Errorf("the CSV: %v %v", rows, err)
	}
	if !strings.Contains(page("metrics"), "sluis_proxy_frontend_requests_total{frontend=\"shop\"} 3\n") {
		t.Error("the internal port has no numbers")
	}
	m.do("set", "load_balancer.stats.port", "0")
	m.do("apply")
	if urls := m.page.URLs(); urls != nil {
		t.Errorf("with port 0 the page stands at %v", urls)
	}
}

func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
