package main

import (
	"context"
	"crypto/tls"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/api"
	"sluis/internal/control"
)

// What the guide's reader tries in the end: G62 to G64, G66, G67.

// guideStageOf is a stage of its own with the guide's end state.
func guideStageOf(t *testing.T, l *lab, more ...object) *guideStage {
	t.Helper()
	g := newGuideStage(t, l, "web1", "web2")
	g.guide()
	if len(more) > 0 {
		g.put(more...)
		g.apply()
		g.startHAProxy(asPfSense)
		g.allUp("ece-web")
	}
	return g
}

// browser is a client with a memory for cookies, who believes the lab's root alone.
func (s *side) browser() *http.Client {
	t := s.stage.t
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.stage.lab.roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(s.stage.at, strconv.Itoa(s.port("https"))))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
}

// visit asks for a page and returns which server gave it.
func visit(t *testing.T, b *http.Client) string {
	t.Helper()
	answer, err := b.Get("https://ece.example.net/page")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.ReadAll(answer.Body); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 {
		t.Fatalf("the page: %s", answer.Status)
	}
	return answer.Header.Get("X-Origin")
}

func boundTo(b *http.Client) string {
	for _, c := range b.Jar.Cookies(&url.URL{Scheme: "https", Host: "ece.example.net", Path: "/"}) {
		if c.Name == "ECELB" {
			return strings.Replace(c.Value, "w", "web", 1)
		}
	}
	return ""
}

// stickiness: a client stays with its server, and gets another when that one dies or
// is found ill.
func stickiness(t *testing.T, l *lab) {
	g := guideStageOf(t, l, object{"backends[ece-web].check.interval", "200ms"})
	var both sync.WaitGroup
	for _, s := range g.sides() {
		both.Go(func() {
			browsers := []*http.Client{s.browser(), s.browser(), s.browser()}
			homes := make([]string, len(browsers))
			for i, b := range browsers {
				homes[i] = visit(t, b)
				if boundTo(b) != homes[i] {
					t.Errorf("%s: the cookie says %s, and %s answered", s.name, boundTo(b), homes[i])
				}
				for range 5 {
					if got := visit(t, b); got != homes[i] {
						t.Errorf("%s: a client of %s came to %s", s.name, homes[i], got)
					}
				}
			}
			// On one connection each request goes where its own cookie says.
			conn, err := s.dial(ask{host: "ece.example.net"})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			for _, n := range []string{"1", "2", "2", "1", "2"} {
				a, err := s.exchange(conn, ask{host: "ece.example.net", header: []string{"Cookie: ECELB=w" + n}})
				if err != nil || a.Origin != "web"+n || len(a.Cookies) != 1 {
					t.Errorf("%s: on one connection the cookie w%s leads to %+v, %v", s.name, n, a, err)
				}
			}
			// Its server's socket is closed: the very next request is answered elsewhere.
			first := homes[0]
			s.origins[first].stop()
			other := map[string]string{"web1": "web2", "web2": "web1"}[first]
			for i, b := range browsers {
				for range 3 {
					if got := visit(t, b); got != other || boundTo(b) != other {
						t.Errorf("%s: a client of %s, of which %s is stopped, came to %s with the cookie of %s", s.name, homes[i], first, got, boundTo(b))
					}
				}
			}
			// It comes back, and takes no client away from the other.
			s.origins[first].start()
			s.isUp(first, true)
			for _, b := range browsers {
				if got := visit(t, b); got != other {
					t.Errorf("%s: a client of %s came back to %s by itself", s.name, other, got)
				}
			}
			// The other one answers requests, but its check is bad: its clients leave.
			s.origins[other].checksAnswer(500, "")
			s.isUp(other, false)
			for _, b := range browsers {
				if got := visit(t, b); got != first || boundTo(b) != first {
					t.Errorf("%s: a client of the sick %s came to %s with the cookie of %s", s.name, other, got, boundTo(b))
				}
			}
		})
	}
	both.Wait()
}

// isUp waits until the side's checks have found a server well or not.
func (s *side) isUp(server string, up bool) {
	g := s.stage
	eventually(g.t, fmt.Sprintf("%s finds that %s is up: %t", s.name, server, up), func() bool {
		if s == g.sluis {
			return (g.server("ece-web", server).State == control.ServerUp) == up
		}
		return strings.HasPrefix(g.peer.stat("ece-web", server, "status"), "UP") == up
	})
}

// downAndUp: three bad checks take a server out, two good ones bring it back, at the
// guide's own pace.
func downAndUp(t *testing.T, l *lab) {
	g := guideStageOf(t, l)
	bad := []struct {
		name        string
		begin, end  func(o *origin)
		code, event string
		seen        bool // its checks reach it
	}{
		{
			"stopped", (*origin).stop, (*origin).start,
			"L4CON", "the server refuses connections", false,
		},
		{
			"ill", func(o *origin) { o.checksAnswer(500, "") }, func(o *origin) { o.checksAnswer(200, "well") },
			"L7STS", "the server answered with status 500, and 200-399 is expected", true,
		},
	}
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) {
			owner := g.t
			g.t = t
			defer func() { g.t = owner }()
			before := map[*side]int{}
			begun := time.Now()
			for _, s := range g.sides() {
				tt.begin(s.origins["web1"])
				before[s] = len(s.origins["web1"].checks())
			}
			needed := g.turns("web1", false, before)
			down := time.Since(begun)
			if down < time.Second || down > 6*time.Second {
				t.Errorf("down after %s, want about 3 s", down)
			}
			server := g.server("ece-web", "web1")
			if server.Check.Code != tt.code || !strings.Contains(server.Reason.String(), tt.event) {
				t.Errorf("down because of %s, %s", server.Check.Code, server.Reason)
			}
			if got := g.peer.stat("ece-web", "web1", "check_status"); got != tt.code {
				t.Errorf("HAProxy says %s, want %s", got, tt.code)
			}
			for i, s := range g.sides() {
				if tt.seen && (needed[i] < 3 || needed[i] > 4) { // the first may have been under way
					t.Errorf("%s needed %d checks, want 3", s.name, needed[i])
				}
			}
			eventually(t, "it is written down", func() bool { return len(g.events("health.server.down")) > 0 })
			events := g.events("health.server.down")
			if text := string(events[len(events)-1].Text); !strings.Contains(text, tt.event) || !strings.Contains(text, "web1") {
				t.Errorf("written down: %s", text)
			}
			g.samePages()
			for _, s := range g.sides() {
				if a := s.mustSend(ask{host: "ece.example.net", header: []string{"Cookie: ECELB=w1"}}); a.Origin != "web2" {
					t.Errorf("%s: a client of the server that is down: %d from %s", s.name, a.Status, a.Origin)
				}
			}

			ups := len(g.events("health.server.up"))
			for _, s := range g.sides() {
				tt.end(s.origins["web1"])
				before[s] = len(s.origins["web1"].checks())
			}
			for i, n := range g.turns("web1", true, before) {
				if n < 2 || n > 3 {
					t.Errorf("%s was convinced by %d checks, want 2", g.sides()[i].name, n)
				}
			}
			eventually(t, "its return is written down", func() bool { return len(g.events("health.server.up")) > ups })
			if got := g.server("ece-web", "web1"); got.Check.Code != "L7OK" || got.Check.HTTPStatus != 200 {
				t.Errorf("up with %+v", got.Check)
			}
		})
	}
	for _, s := range g.sides() {
		_, page := s.statsPage()
		for _, part := range []string{"ece", "ece-web", "web1", "web2", "L7OK/200", "UP"} {
			if !strings.Contains(strings.ToUpper(page), strings.ToUpper(part)) {
				t.Errorf("%s: the statistics page has no %s", s.name, part)
			}
		}
	}
	g.samePages()
}

// turns waits until both sides have found that a server is up or down, and returns
// how many checks each has sent it by then.
func (g *guideStage) turns(server string, up bool, before map[*side]int) (checks [2]int) {
	g.t.Helper()
	var both sync.WaitGroup
	for i, s := range g.sides() {
		both.Go(func() {
			s.isUp(server, up)
			checks[i] = len(s.origins[server].checks()) - before[s]
		})
	}
	both.Wait()
	return checks
}

// samePages compares what the statistics say of the site, in the form that programs
// read.
func (g *guideStage) samePages() {
	g.t.Helper()
	fields := []string{"status", "type", "weight", "act", "bck", "check_status", "check_code", "check_rise", "check_fall", "check_health", "mode"}
	of := func(s *side) map[string]string {
		lines := s.statsCSV()
		picked := map[string]string{}
		for _, line := range []string{"ece/FRONTEND", "ece-web/web1", "ece-web/web2", "ece-web/BACKEND"} {
			for _, f := range fields {
				picked[line+" "+f] = lines[line][f]
			}
		}
		return picked
	}
	if diff := cmp.Diff(of(g.haproxy), of(g.sluis)); diff != "" {
		g.t.Errorf("the statistics (-haproxy +sluis):\n%s", diff)
	}
}

// statsCSV is the statistics page's table: its lines by proxy and server, their
// fields by name.
func (s *side) statsCSV() map[string]map[string]string {
	t := s.stage.t
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("http://127.0.0.1:" + strconv.Itoa(s.port("stats")) + "/;csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	reader := csv.NewReader(answer.Body)
	reader.FieldsPerRecord = -1
	all, err := reader.ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	lines := map[string]map[string]string{}
	for _, cells := range all[1:] {
		line := map[string]string{}
		for i, cell := range cells {
			line[strings.TrimPrefix(all[0][i], "# ")] = cell
		}
		lines[line["pxname"]+"/"+line["svname"]] = line
	}
	return lines
}

// fewestConnections: a new client goes where the fewest are.
func fewestConnections(t *testing.T, l *lab) {
	g := guideStageOf(t, l)
	for _, s := range g.sides() {
		var all sync.WaitGroup
		waiting := func() [2]int { return [2]int{s.origins["web1"].waiting(), s.origins["web2"].waiting()} }
		hold := func(name string) { // one after the other, as clients come
			t.Helper()
			before := waiting()
			all.Go(func() {
				if a, err := s.send(ask{host: "ece.example.net", target: "/hold?name=" + name}); err != nil || a.Status != 200 {
					t.Errorf("%s: %s: %d, %v", s.name, name, a.Status, err)
				}
			})
			eventually(t, s.name+": "+name+" has come", func() bool { return waiting() != before })
		}
		for i := range 8 {
			hold("first" + strconv.Itoa(i))
			if w := waiting(); w[0]-w[1] > 1 || w[1]-w[0] > 1 {
				t.Fatalf("%s: after %d clients %v are at the servers", s.name, i+1, w)
			}
		}
		s.origins["web1"].releaseAll()
		if s == g.sluis {
			eventually(t, "their places are given back", func() bool { return g.server("ece-web", "web1").InUse == 0 })
		} else {
			eventually(t, "their places are given back", func() bool { return g.peer.stat("ece-web", "web1", "scur") == "0" })
		}
		for i := range 4 {
			hold("second" + strconv.Itoa(i))
			if want := [2]int{i + 1, 4}; waiting() != want {
				t.Fatalf("%s: the clients after that are at %v, want %v", s.name, waiting(), want)
			}
		}
		for _, o := range s.origins {
			o.releaseAll()
		}
		all.Wait()
	}
}

// noServer: a backend without any server that could be reached, and what is saved
// without being applied.
func noServer(t *testing.T, l *lab) {
	g := guideStageOf(t, l, object{"backends[ece-web].check.interval", "100ms"})
	q := ask{host: "ece.example.net", header: []string{"Cookie: ECELB=w1"}}

	revision := g.status().Running
	g.put(object{"frontends[ece].rules[to-https].redirect.code", "308"}, object{"backends[ece-web].hsts.max_age", "1h"},
		object{"backends[ece-web].servers[web1].disabled", "true"}, object{"frontends[plain]", smallFrontendOf("ece-web")})
	if status := g.status(); status.Changes == 0 || status.Running != revision {
		t.Errorf("%d changes are saved, revision %d runs, want some, and %d", status.Changes, status.Running, revision)
	}
	if a := g.both(q); a.Origin != "web1" || a.HSTS[0] != "max-age=300" {
		t.Errorf("a save without apply: %+v", a)
	}
	if a := g.both(ask{host: "ece.example.net", port: "http", plain: true}); a.Status != 301 {
		t.Errorf("a save without apply: %+v", a)
	}
	if !g.sluis.refused(ask{port: "more", at: "127.0.0.1"}) {
		t.Error("a frontend that is only saved listens")
	}
	if err := g.client.Discard(t.Context(), ""); err != nil {
		t.Fatal(err)
	}

	for _, s := range g.sides() {
		for _, o := range s.origins {
			o.stop()
		}
	}
	for _, s := range g.sides() {
		s.isUp("web1", false)
		s.isUp("web2", false)
	}
	if a := g.both(q); a.Status != 503 || a.Origin != "" {
		t.Errorf("all servers are down: %+v", a)
	}
	if got := g.backend("ece-web").State; got != control.BackendDown {
		t.Errorf("the backend is %s", got)
	}
	g.reasonShown(503, "backend ece-web has no usable server")

	// One that has no servers at all, and one whose servers can't be reached though no
	// check says so.
	g.put(object{"backends[empty]", `{}`}, object{"backends[deaf]", smallBackend}, object{"backends[deaf].retries", "1"},
		object{"frontends[ece].default_backend", "empty"}, object{"frontends[more]", smallFrontendOf("deaf")})
	g.apply()
	g.startHAProxy(asPfSense)
	if a := g.both(q); a.Status != 503 {
		t.Errorf("a backend without servers: %+v", a)
	}
	g.at = "127.0.0.1"
	q = ask{host: "ece.example.net", port: "more", plain: true, header: []string{"Cookie: ECELB=w1"}}
	if a := g.both(q); a.Status != 503 {
		t.Errorf("servers that can't be reached: %+v", a)
	}
	eventually(t, "the reason in the access log", func() bool { return len(g.requests("can't be reached")) == 1 })
	for _, s := range g.sides() {
		s.origins["web2"].start()
	}
	if a := g.both(q); a.Status != 200 || a.Origin != "web2" || len(a.Cookies) != 2 {
		t.Errorf("the client's server can't be reached, another can: %+v", a)
	}
}

func smallFrontendOf(backend string) string {
	return `{binds: [{name: http, address: 127.0.0.1, port: {{port "more"}}}], forwarded: {host: false, port: false}, default_backend: ` + backend + `}`
}

func (g *guideStage) status() control.Status {
	g.t.Helper()
	status, err := g.client.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	return status
}

// restartAndRestore: a power cut changes nothing, and what was exported makes another
// machine the same.
func restartAndRestore(g *guideStage) {
	running := func() string {
		g.t.Helper()
		data, _, err := g.client.Document(g.t.Context(), "running", api.FormatYAML)
		if err != nil {
			g.t.Fatal(err)
		}
		return string(data)
	}
	asks := []ask{
		{host: "ece.example.net", header: []string{"Cookie: ECELB=w2"}},
		{host: "ece.example.net", target: "/hsts", header: []string{"Cookie: ECELB=w1"}},
		{host: "unknown.example.net"},
		{host: "ece.example.net", port: "http", plain: true, target: "/a"},
	}
	answers := func() (all []answer) {
		g.t.Helper()
		for _, q := range asks {
			all = append(all, g.both(q))
		}
		return all
	}
	same := func(when, document string, before []answer) {
		g.t.Helper()
		if diff := cmp.Diff(document, running()); diff != "" {
			g.t.Errorf("%s the document differs (-before +after):\n%s", when, diff)
		}
		if diff := cmp.Diff(before, answers()); diff != "" {
			g.t.Errorf("%s answers differ (-before +after):\n%s", when, diff)
		}
		if leaf := g.sluis.chain("ece.example.net")[0]; !leaf.Equal(g.certificates["ece"].Leaf) {
			g.t.Errorf("%s another certificate is shown", when)
		}
	}
	document, before := running(), answers()
	g.process.kill()
	g.run()
	same("after a power cut", document, before)

	// On another machine the certificates' keys are typed in, as in G27; a key has no
	// place in what is exported.
	state := g.dir
	g.process.kill()
	g.dir = state + "/second"
	defer func() { g.dir = state }()
	g.run()
	defer g.process.kill()
	for _, o := range guideObjects {
		if strings.HasPrefix(o.path, "certificates[") {
			g.put(o)
		}
	}
	if _, err := g.client.Load(g.t.Context(), []byte(document)); err != nil {
		g.t.Fatal(err)
	}
	g.apply()
	same("on another machine", document, before)
}
