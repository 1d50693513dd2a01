package page_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/stats/page"
	"sluis/internal/text"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// sample is a site with a server of each kind of trouble, and a name that must not
// become a tag or a column.
func sample() control.BalancerStatus {
	return control.BalancerStatus{
		Time: now, Loops: 2, Connections: 1234, Limit: 10000,
		Frontends: []control.FrontendStatus{{
			Name: "shop", Listening: []string{"192.0.2.80:443"}, Connections: 1234, WebSockets: 32, TotalConnections: 9000, Requests: 12345,
			BytesIn: 2048, BytesOut: 5 << 20, Denied: 7, BadRequests: 3, Answers: control.Answers{C2xx: 12000, C5xx: 5},
		}},
		Backends: []control.BackendStatus{{
			Name: "web", Balance: "leastconn", State: control.BackendUp, Since: now.Add(-time.Hour), Active: 1, TotalActive: 2, TotalBackups: 1,
			Downtime: config.Duration(90 * time.Second),
			Servers: []control.ServerStatus{
				{
					Name: "web1", Address: "192.0.2.1:80", State: control.ServerUp, Since: now.Add(-61 * time.Second), NewClients: true, Weight: 10, Start: 100,
					InUse: 40, MostUsed: 50, Limit: 100, WebSockets: 32, BoundSessions: 120, Requests: 900, Balanced: 800, BytesIn: 1, BytesOut: 2, Retries: 4,
					Check: &control.CheckStatus{Code: "L7OK", HTTPStatus: 200, Good: true, Duration: config.Duration(3 * time.Millisecond), Last: now.Add(-time.Second), Rise: 2, Fall: 3, Health: 4},
				},
				{
					Name: "web2", State: control.ServerDown, Since: now.Add(-14 * time.Second), Weight: 1, Start: 100, Downs: 1, Downtime: config.Duration(14 * time.Second), ConnectErrors: 6,
					Reason: text.M(`refused, <b>"so"</b>`),
					Check:  &control.CheckStatus{Code: "L4CON", Reason: text.M(`refused, <b>"so"</b>`), Duration: config.Duration(200 * time.Microsecond), Last: now, Bad: 3, Rise: 2, Fall: 3},
				},
				{Name: "spare", Backup: true, State: control.ServerDrain, Weight: 1, Start: 100, WebSockets: 3, LastSeen: now.Add(-9 * time.Second)},
			},
		}},
	}
}

// box is a page with real sockets, moved by documents as the engine does.
type box struct {
	*page.Page
	t *testing.T
}

func newBox(t *testing.T, address string) *box {
	b := &box{t: t, Page: page.New(page.Options{
		Address: address, Read: sample, Version: "1.2",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sluis_up 1\n") }),
	})}
	t.Cleanup(b.Close)
	return b
}

func document(port int) *config.Document {
	doc := config.Default()
	doc.System.Hostname = "lb1"
	doc.LoadBalancer.Stats.Port = uint16(port)
	return doc
}

func (b *box) prepare(port int) (*page.Change, config.Problems) {
	return b.Prepare(context.Background(), document(port))
}

// move walks one change to its end.
func (b *box) move(port int) *page.Change {
	b.t.Helper()
	c, problems := b.prepare(port)
	if problems.HasErrors() {
		b.t.Fatal(problems)
	}
	for _, step := range []func(context.Context) error{c.Add, c.Switch, c.Remove} {
		if err := step(context.Background()); err != nil {
			b.t.Fatal(err)
		}
	}
	return c
}

// get asks as a browser would that took the host from the URL, or says another one.
func get(t *testing.T, at, host string) (status int, body string) {
	t.Helper()
	q, err := http.NewRequest("GET", at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		q.Host = host
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := client.Do(q)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

// freePort is a port that is free on both loopback addresses for the moment.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestPageShowsWhatMatters(t *testing.T) {
	b := newBox(t, "127.0.0.1:0")
	b.move(1)
	at := b.URLs()[0]
	status, html := get(t, at, "")
	if status != 200 {
		t.Fatalf("GET / = %d\n%s", status, html)
	}
	for _, want := range []string{
		"<h1>1 of 3 servers take clients</h1>", "2026-05-04 12:00:00 UTC", `content="10"`,
		`href="#i-up"/></svg>Up for 1 min 1 s`, `href="#i-down"/></svg>Down for 14 s`, `href="#i-drain"/></svg>Draining`,
		"L7OK/200 in 3 ms", "L4CON in 0.2 ms", "12\u202f345", "5.0 MiB", "without any server for 1 min 30 s",
		"a bound client was last seen 9 s ago", "(3 chats)",
		"refused, &lt;b&gt;&#34;so&#34;&lt;/b&gt;", // what a server says is text
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(html, "style=") || strings.Contains(html, "<script") {
		t.Error("the page has what its Content-Security-Policy forbids")
	}
	if _, html := get(t, at+"?refresh=off", ""); strings.Contains(html, `http-equiv="refresh"`) || !strings.Contains(html, "Paused") {
		t.Error("a paused page renews itself")
	}
	if _, body := get(t, at+"metrics", ""); body != "sluis_up 1\n" {
		t.Errorf("/metrics = %q", body)
	}
	var back control.BalancerStatus
	if _, body := get(t, at+"stats.json", ""); json.Unmarshal([]byte(body), &back) != nil || back.Backends[0].Servers[0].BoundSessions != 120 {
		t.Errorf("/stats.json = %s", body)
	}
	if status, _ := get(t, at+"../etc", ""); status != 404 {
		t.Errorf("another path = %d", status)
	}
}

// TestCSV reads the CSV as monitoring tools do: by HAProxy's columns, compared with
// the real one's where it is installed.
func TestCSV(t *testing.T) {
	b := newBox(t, "127.0.0.1:0")
	b.move(1)
	at := b.URLs()[0]
	_, body := get(t, at+";csv", "")
	for _, form := range []string{"?format=csv", ";csv;norefresh", "stats;csv", "haproxy?stats;csv"} {
		if _, same := get(t, at+form, ""); same != body {
			t.Errorf("%s differs from ;csv:\n%s", form, same)
		}
	}
	head, _, _ := strings.Cut(body, "\n")
	if want := haproxyColumns(t); want != "" && !strings.HasPrefix(want, strings.TrimSuffix(head, ",")+",") {
		t.Errorf("columns:\n%s\nHAProxy's:\n%s", head, want)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "# "))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6 { // columns, a frontend, three servers, a backend
		t.Fatalf("%d lines:\n%s", len(rows), body)
	}
	at1 := map[string]int{}
	for i, name := range rows[0] {
		at1[name] = i
	}
	tests := []struct {
		row  int
		want map[string]string
	}{
		{1, map[string]string{"pxname": "shop", "svname": "FRONTEND", "type": "0", "status": "OPEN", "scur": "1234", "stot": "9000", "req_tot": "12345", "dreq": "7", "ereq": "3", "bin": "2048", "hrsp_2xx": "12000", "hrsp_5xx": "5"}},
		{2, map[string]string{"pxname": "web", "svname": "web1", "type": "2", "status": "UP", "scur": "40", "smax": "50", "slim": "100", "stot": "900", "lbtot": "800", "weight": "10", "act": "1", "bck": "0", "lastchg": "61", "check_status": "L7OK", "check_code": "200", "check_duration": "3", "wretr": "4", "addr": "192.0.2.1:80"}},
		{3, map[string]string{"svname": "web2", "status": "DOWN", "econ": "6", "chkfail": "3", "chkdown": "1", "downtime": "14", "last_chk": `refused, <b>"so"</b>`, "check_code": ""}},
		{4, map[string]string{"svname": "spare", "status": "DRAIN", "act": "0", "bck": "1", "lastsess": "9"}},
		{5, map[string]string{"svname": "BACKEND", "type": "1", "status": "UP", "act": "1", "algo": "leastconn", "scur": "40", "stot": "900", "downtime": "90"}},
	}
	for _, tt := range tests {
		for name, want := range tt.want {
			if got := rows[tt.row][at1[name]]; got != want {
				t.Errorf("line %d, %s = %q, want %q", tt.row, name, got, want)
			}
		}
	}
}

// haproxyColumns are the real one's; empty where there is none.
func haproxyColumns(t *testing.T) string {
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		return ""
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cfg := "global\n stats socket " + socket + "\ndefaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nbackend b\n server s 192.0.2.1:80\n"
	if err := os.WriteFile(filepath.Join(dir, "c"), []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-db", "-f", filepath.Join(dir, "c"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err != nil {
			continue
		}
		_, _ = io.WriteString(c, "show stat\n")
		data, err := io.ReadAll(c)
		_ = c.Close()
		if line, _, ok := strings.Cut(string(data), "\n"); err == nil && ok {
			return line
		}
	}
	t.Fatal("HAProxy doesn't tell its columns")
	return ""
}

// Only names of the machine itself are answered to: another site's name that leads
// here (DNS rebinding) is not.
func TestOnlyLoopbackNames(t *testing.T) {
	b := newBox(t, "127.0.0.1:0")
	b.move(1)
	at := b.URLs()[0]
	u, _ := url.Parse(at)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:" + u.Port(): 200, "LOCALHOST.": 200, "127.0.0.1": 200, "127.9.9.9:1": 200, "[::1]": 200, "[::1]:8404": 200,
		"evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "192.0.2.1": 421, "[fe80::1]": 421, "0.0.0.0": 421, "lb1": 421, "localhost:http": 421,
	} {
		for _, path := range []string{"", ";csv", "metrics", "style.css"} {
			if status, _ := get(t, at+path, host); status != want {
				t.Errorf("Host %s, /%s = %d, want %d", host, path, status, want)
			}
		}
	}
	answer, err := http.Post(at, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") == "" {
		t.Errorf("POST = %s", answer.Status)
	}
}

// TestNobodyFromOutside asks at every other address of the machine.
func TestNobodyFromOutside(t *testing.T) {
	b := newBox(t, "")
	port := freePort(t)
	b.move(port)
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if host == "[::1]" && len(b.URLs()) == 1 {
			continue // no IPv6 here
		}
		if status, body := get(t, "http://"+host+":"+strconv.Itoa(port)+"/", ""); status != 200 {
			t.Errorf("%s = %d %s", host, status, body)
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, a := range addresses {
		ip := a.(*net.IPNet).IP
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		asked++
		c, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port)), 2*time.Second)
		if err == nil {
			_ = c.Close()
			t.Errorf("%s answers", ip)
		}
	}
	if asked == 0 {
		t.Skip("platform: this machine has no address but its loopback's")
	}
}

func TestPortMovesAndComesBack(t *testing.T) {
	b := newBox(t, "")
	url := func(port int) string { return "http://127.0.0.1:" + strconv.Itoa(port) + "/" }
	answers := func(port int, want bool) {
		t.Helper()
		if status, _ := get(t, url(port), ""); (status == 200) != want {
			t.Errorf("port %d answers with %d, want answers = %v", port, status, want)
		}
	}
	first, second := freePort(t), freePort(t)
	b.move(first)
	answers(first, true)
	b.move(second)
	answers(first, false)
	answers(second, true)

	// Both answer between Switch and Remove; Undo brings the first back alone.
	change, problems := b.prepare(first)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	for _, step := range []func(context.Context) error{change.Add, change.Switch} {
		if err := step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	answers(first, true)
	answers(second, true)
	if err := change.Undo(context.Background()); err != nil {
		t.Fatal(err)
	}
	answers(first, false)
	answers(second, true)

	// A taken port is said before, and doesn't move anything.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, problems = b.prepare(taken.Addr().(*net.TCPAddr).Port)
	if !problems.HasErrors() || problems[0].Path != "load_balancer.stats.port" || !strings.Contains(problems[0].Message.String(), "taken") {
		t.Errorf("a taken port: %v", problems)
	}
	answers(second, true)

	b.move(0)
	answers(second, false)
	if b.URLs() != nil {
		t.Errorf("port 0 stands at %v", b.URLs())
	}
}
