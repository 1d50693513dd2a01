package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluis/internal/config"
	"sluis/internal/control"
)

// Backend: G40 to G53.

// refuses says that an object is not accepted as it is: it isn't saved, or saved
// with an error at this path. The candidate is left as it was.
func (g *guideStage) refuses(o object, at string) {
	g.t.Helper()
	saved, err := g.client.Set(g.t.Context(), o.path, []byte(g.fill(g.sluis, o.value)))
	if err == nil && !slices.ContainsFunc(saved.Problems.Errors(), func(p config.Problem) bool { return strings.Contains(p.Path, at) }) {
		g.t.Errorf("%s %s is accepted: %v", o.path, o.value, saved.Problems)
	}
	if err := g.client.Discard(g.t.Context(), ""); err != nil {
		g.t.Fatal(err)
	}
}

func backendName(g *guideStage) {
	if got := g.backend("ece-web").Name; got != "ece-web" {
		g.t.Errorf("the backend is %q", got)
	}
	if got := g.peer.stat("ece-web", "BACKEND", "status"); got != "UP" {
		g.t.Errorf("HAProxy's backend is %q", got)
	}
	g.refuses(object{"backends[ece web]", "{}"}, "backends")
}

func serverList(g *guideStage) {
	for i, name := range []string{"web1", "web2"} {
		s := g.server("ece-web", name)
		if want := net.JoinHostPort("127.0.0.1", strconv.Itoa(g.sluis.origins[name].port)); s.Address != want {
			g.t.Errorf("%s is at %s, want %s", name, s.Address, want)
		}
		// Each server gets who brings its cookie; over TLS, for it speaks nothing else.
		a := g.both(ask{host: "ece.example.net", header: []string{fmt.Sprintf("Cookie: ECELB=w%d", i+1)}})
		if a.Origin != name {
			g.t.Errorf("the cookie w%d leads to %s", i+1, a.Origin)
		}
		conns := g.sluis.origins[name].checks()
		if got := conns[0].Conn.(*tls.Conn).ConnectionState().ServerName; got != name+".lab.example.net" {
			g.t.Errorf("the check of %s names %q in its handshake", name, got)
		}
	}
	g.refuses(object{"backends[ece-web].servers[web2].cookie", "w1"}, "cookie")
	g.refuses(object{"backends[ece-web].servers[web2].port", "0"}, "port")
	g.refuses(object{"backends[ece-web].servers[web2].address", `"no address"`}, "address")
}

func leastConnectionsChosen(g *guideStage) {
	if got, peer := g.backend("ece-web").Balance, g.peer.stat("ece-web", "BACKEND", "algo"); got != "leastconn" || peer != got {
		g.t.Errorf("the servers are chosen by %s, at HAProxy by %s", got, peer)
	}
}

func backendDefaults(g *guideStage) {
	b := g.running().Backends[0]
	if b.Timeouts.Connect != config.Duration(30*time.Second) || b.Timeouts.Server != config.Duration(30*time.Second) || b.Retries != 3 || len(b.ACLs) != 0 {
		g.t.Errorf("connect %s, server %s, %d retries, ACLs %v", b.Timeouts.Connect, b.Timeouts.Server, b.Retries, b.ACLs)
	}
}

func httpCheck(g *guideStage) {
	for _, name := range []string{"web1", "web2"} {
		detail, err := g.client.Server(g.t.Context(), "ece-web", name)
		if err != nil {
			g.t.Fatal(err)
		}
		if detail.Check == nil || detail.Check.Code != "L7OK" || detail.Check.HTTPStatus != 200 || detail.LastGood == nil || detail.LastGood.TLS == nil {
			g.t.Errorf("%s: %+v", name, detail)
		}
		if code := g.peer.stat("ece-web", name, "check_code"); code != "200" {
			g.t.Errorf("HAProxy's check of %s: %s", name, code)
		}
	}
}

// checkFrequency: nothing was said, so a check goes out each second.
func checkFrequency(g *guideStage) {
	if got := g.running().Backends[0].Check.Interval; got != config.Duration(time.Second) {
		g.t.Errorf("the interval is %s", got)
	}
	for _, s := range g.sides() {
		o := s.origins["web1"]
		eventually(g.t, s.name+" asks for the third time", func() bool { return len(o.checks()) >= 3 })
		checks := o.checks()
		if between := checks[2].started.Sub(checks[0].started) / 2; between < 850*time.Millisecond || between > 3*time.Second {
			g.t.Errorf("%s asks every %s", s.name, between)
		}
	}
}

// lastCheck is what stood on the wire of the last whole check of a server.
func (s *side) lastCheck(server string) string {
	s.stage.t.Helper()
	text := ""
	eventually(s.stage.t, s.name+" asks "+server, func() bool {
		for _, r := range slices.Backward(s.origins[server].checks()) {
			if text = r.text(); strings.Contains(text, "\r\n\r\n") {
				return true
			}
		}
		return false
	})
	return text
}

// canonical is a message with the names of its fields in lower case (RFC 9110 5.1)
// and its fields in order: what two senders may do differently (RFC 9110 5.3).
func canonical(message string) string {
	head, body, _ := strings.Cut(message, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	for i, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		lines[i+1] = strings.ToLower(name) + ":" + value
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

func checkMethod(g *guideStage) {
	for _, s := range g.sides() {
		if method, _, _ := strings.Cut(s.lastCheck("web1"), " "); method != "GET" {
			g.t.Errorf("%s checks with %s", s.name, method)
		}
	}
}

func checkURL(g *guideStage) {
	for _, s := range g.sides() {
		if target := strings.Fields(s.lastCheck("web1"))[1]; target != healthURL {
			g.t.Errorf("%s asks for %s", s.name, target)
		}
	}
}

// checkHost: each server's check has that server's name.
func checkHost(g *guideStage) {
	for _, name := range []string{"web1", "web2"} {
		got, peer := g.sluis.lastCheck(name), g.haproxy.lastCheck(name)
		if want := "GET " + healthURL + " HTTP/1.1\r\nHost: " + name + ".lab.example.net\r\nConnection: close\r\n\r\n"; got != want {
			g.t.Errorf("the check of %s is %q, want %q", name, got, want)
		}
		if canonical(got) != canonical(peer) {
			g.t.Errorf("the check of %s is %q, HAProxy's %q", name, got, peer)
		}
	}
}

// checkHostForAll: the guide's own trick has one name for all servers.
func checkHostForAll(t *testing.T, l *lab) {
	g := newGuideStage(t, l, "web1", "web2")
	g.put(smallSettings, object{"backends[web]", smallBackend}, object{"frontends[plain]", smallFrontend},
		object{"backends[web].check", `{path: "` + healthURL + `", host: ece.example.net, interval: 100ms}`})
	g.apply()
	g.startHAProxy(asPfSense)
	for _, name := range []string{"web1", "web2"} {
		if got, peer := g.sluis.lastCheck(name), g.haproxy.lastCheck(name); canonical(got) != canonical(peer) || !strings.Contains(got, "Host: ece.example.net\r\n") {
			t.Errorf("the check of %s is %q, HAProxy's %q", name, got, peer)
		}
	}
	g.put(object{"backends[web].check.version", `"1.0"`}, object{"backends[web].check.host", `""`})
	before := len(g.sluis.origins["web1"].checks())
	g.apply()
	eventually(t, "a check after the change", func() bool { return len(g.sluis.origins["web1"].checks()) > before+2 })
	if got, want := g.sluis.lastCheck("web1"), "GET "+healthURL+" HTTP/1.0\r\n\r\n"; got != want {
		t.Errorf("without Host and in version 1.0: %q, want %q", got, want)
	}
}

// logChecks: one backend's checks are written down, the other's aren't.
func logChecks(t *testing.T, l *lab) {
	g := newGuideStage(t, l, "web1", "web2")
	check := `{path: "` + healthURL + `", host: ece.example.net, interval: 100ms, log: `
	g.put(smallSettings, object{"backends[web]", smallBackend}, object{"backends[silent]", smallBackend}, object{"frontends[plain]", smallFrontend},
		object{"backends[web].check", check + "true}"}, object{"backends[silent].check", check + "false}"})
	g.apply()
	g.startHAProxy(asPfSense)
	g.allUp("web")
	g.allUp("silent")
	for _, s := range g.sides() {
		s.origins["web1"].stop()
	}
	eventually(t, "all see the server down", func() bool {
		return g.server("web", "web1").State == control.ServerDown && g.server("silent", "web1").State == control.ServerDown &&
			strings.HasPrefix(g.peer.stat("silent", "web1", "status"), "DOWN") && strings.HasPrefix(g.peer.stat("web", "web1", "status"), "DOWN")
	})
	eventually(t, "it is written down", func() bool { return len(g.events("health.server.down")) > 0 })
	for _, e := range g.events("health.server.down") {
		if text := string(e.Text); strings.Contains(text, "silent") || !strings.Contains(text, "web1") || !strings.Contains(text, "refuses connections") {
			t.Errorf("written down: %s", text)
		}
	}
	if said := g.peer.said(); !strings.Contains(said, "Health check for server web/web1 failed") || strings.Contains(said, "Health check for server silent/web1 failed") {
		t.Errorf("HAProxy wrote:\n%s", said)
	}
}

// agent is the program on a server that says how it is.
type agent struct {
	word  atomic.Pointer[string]
	asked atomic.Int64
}

func newAgent(t *testing.T, port int) *agent {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	a := &agent{}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.asked.Add(1)
			_, _ = io.WriteString(conn, *a.word.Load()+"\n")
			_ = conn.Close()
		}
	}()
	return a
}

func (a *agent) says(word string) { a.word.Store(&word) }

// agentChecks: off means that nobody asks; on, both obey.
func agentChecks(t *testing.T, l *lab) {
	g := newGuideStage(t, l, "web1", "web2")
	agents := map[*side]*agent{}
	for _, s := range g.sides() {
		agents[s] = newAgent(t, s.port("agent"))
		agents[s].says("drain")
	}
	g.put(smallSettings, object{"backends[web]", smallBackend}, object{"frontends[plain]", smallFrontend},
		object{"backends[web].check", `{path: "` + healthURL + `", host: ece.example.net, interval: 100ms}`})
	g.apply()
	g.startHAProxy(asPfSense)
	checked := func(more int) {
		t.Helper()
		for _, s := range g.sides() {
			before := len(s.origins["web1"].checks())
			eventually(t, s.name+" checks", func() bool { return len(s.origins["web1"].checks()) >= before+more })
		}
	}
	checked(4)
	for _, s := range g.sides() {
		if n := agents[s].asked.Load(); n != 0 {
			t.Errorf("%s asked the agent %d times though agent checks are off", s.name, n)
		}
	}

	g.put(object{"backends[web].agent_check", `{port: {{port "agent"}}, interval: 100ms}`})
	g.apply()
	g.startHAProxy(asPfSense)
	state := func(word, sluis, haproxy string) {
		t.Helper()
		for _, a := range agents {
			a.says(word)
		}
		eventually(t, "both obey "+word, func() bool {
			return string(g.server("web", "web1").State) == sluis && strings.HasPrefix(g.peer.stat("web", "web1", "status"), haproxy)
		})
	}
	state("drain", "drain", "DRAIN")
	state("ready", "up", "UP")
	state("down", "down", "DOWN")
	state("up", "up", "UP")

	if _, err := g.client.Delete(t.Context(), "backends[web].agent_check"); err != nil {
		t.Fatal(err)
	}
	g.apply()
	asked := agents[g.sluis].asked.Load()
	checked(4)
	if now := agents[g.sluis].asked.Load(); now > asked+2 { // one for each server may have been under way
		t.Errorf("the agent is still asked: %d times, %d more", asked, now-asked)
	}
}

// cookieInsert: who has no cookie of ours, or a wrong one, gets one.
func cookieInsert(g *guideStage) {
	for _, header := range [][]string{
		nil,
		{"Cookie: ECELB=w1"},
		{"Cookie: ECELB=w2"},
		{"Cookie: ECELB=nobody"},
		{"Cookie: ECELB="},
		{"Cookie: a=b; ECELB=w2; c=d"},
		{"Cookie: a=b", "Cookie: ECELB=w1"},
		{"Cookie: XECELB=w1; ECELBX=w1"},
		{"Cookie: JSESSIONID=ABC"},
	} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			h := slices.Clone(header)
			if method == "POST" {
				h = append(h, "Content-Length: 0")
			}
			a := g.both(ask{host: "ece.example.net", method: method, header: h})
			ours := slices.ContainsFunc(a.Cookies, func(c string) bool { return strings.HasPrefix(c, "ECELB=") })
			bound := strings.Contains(strings.Join(header, " "), " ECELB=w")
			if a.Status != 200 || ours == bound {
				g.t.Errorf("%s with %q: %d, %q", method, header, a.Status, a.Cookies)
			}
		}
	}
	a := g.sluis.mustSend(ask{host: "ece.example.net"})
	if want := "ECELB=w" + strings.TrimPrefix(a.Origin, "web") + "; path=/"; !slices.Contains(a.Cookies, want) {
		g.t.Errorf("cookies %q, want one %q", a.Cookies, want)
	}
}

// hsts: one field, ours in place of the server's own.
func hsts(g *guideStage) {
	for _, target := range []string{"/", "/hsts"} {
		a := g.both(ask{host: "ece.example.net", target: target, header: []string{"Cookie: ECELB=w1"}})
		if len(a.HSTS) != 1 || a.HSTS[0] != "max-age=300" {
			g.t.Errorf("%s: %q", target, a.HSTS)
		}
	}
	if a := g.sluis.mustSend(ask{host: "ece.example.net", port: "http", plain: true}); len(a.HSTS) != 0 {
		g.t.Errorf("an answer without TLS has it (RFC 6797 section 7.2): %q", a.HSTS)
	}
}

// saveBackend: what is saved is what is read again, with every default.
func saveBackend(g *guideStage) {
	var saved struct {
		Balance string
		Check   struct {
			Method, Path, Host, Version string
			Rise, Fall                  int
		}
		Persistence struct{ Cookie struct{ Name, Mode string } }
	}
	if status := g.rest("GET", "/candidate/backends/ece-web", &saved); status != 200 {
		g.t.Fatalf("status %d", status)
	}
	if got := fmt.Sprintf("%+v", saved); got != "{Balance:leastconn Check:{Method:GET Path:"+healthURL+" Host:{server} Version:1.1 Rise:2 Fall:3} Persistence:{Cookie:{Name:ECELB Mode:insert}}}" {
		g.t.Errorf("saved: %s", got)
	}
}
