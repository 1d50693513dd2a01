package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"sluis/internal/config"
	"sluis/internal/control"
)

// Two sites on one box, and CCMP: G71 and G81.

// twoSites: an address and a certificate each, or one address for both and the name
// in the handshake decides.
func twoSites(t *testing.T, l *lab) {
	g := newGuideStage(t, l, "web1", "web2")
	g.certificate("ece", "ece.example.net")
	g.certificate("ccmp", "ccmp.example.net")
	backend := func(n string) string {
		return `{server_tls: {verify: none}, persistence: {cookie: {name: ECELB, http_only: false}}, servers: [{name: web` + n + `, address: 127.0.0.1, port: {{server "web` + n + `"}}, tls: true, cookie: w` + n + `}]}`
	}
	g.put(smallSettings,
		object{"authorities[lab-root]", `{certificate: {{root}}}`}, object{"authorities[lab-issuing]", `{certificate: {{issuing}}}`},
		object{"certificates[ece]", `{certificate: {{leaf "ece"}}, key: {{key "ece"}}}`},
		object{"certificates[ccmp]", `{certificate: {{leaf "ccmp"}}, key: {{key "ccmp"}}}`},
		object{"backends[ece-web]", backend("1")}, object{"backends[ccmp-web]", backend("2")})
	frontend := func(name, address, port string) object {
		return object{"frontends[" + name + "]", `
binds: [{name: https, address: ` + address + `, port: {{port "` + port + `"}}, tls: true}]
tls: {certificates: [` + name + `], host_rule_from_certificate: true}
forwarded: {host: false, port: false}
default_backend: ` + name + `-web
`}
	}
	g.put(frontend("ece", "127.0.0.81", "https"), frontend("ccmp", "127.0.0.82", "https"), object{"frontends[shared]", `
binds: [{name: https, address: 127.0.0.83, port: {{port "https"}}, tls: true}]
tls: {certificates: [ece, ccmp], host_rule_from_certificate: true}
acls:
  - {name: host-ece, match: host, is: [ece.example.net], any_port: true}
  - {name: host-ccmp, match: host, is: [ccmp.example.net], any_port: true}
rules:
  - {name: ece, when: host-ece, use_backend: ece-web}
  - {name: ccmp, when: host-ccmp, use_backend: ccmp-web}
forwarded: {host: false, port: false}
`})
	g.apply()
	for _, form := range []haproxyForm{asPfSense, asExported} {
		g.startHAProxy(form)
		for _, tt := range []struct{ at, host, sni, shows, origin string }{
			{"127.0.0.81", "ece.example.net", "", "ece.example.net", "web1"},
			{"127.0.0.81", "ccmp.example.net", "", "ece.example.net", ""},
			{"127.0.0.82", "ccmp.example.net", "", "ccmp.example.net", "web2"},
			{"127.0.0.82", "ece.example.net", "", "ccmp.example.net", ""},
			{"127.0.0.83", "ece.example.net", "", "ece.example.net", "web1"},
			{"127.0.0.83", "ccmp.example.net", "", "ccmp.example.net", "web2"},
			{"127.0.0.83", "CCMP.example.net:443", "", "ccmp.example.net", "web2"},
			{"127.0.0.83", "evil.example", "", "ece.example.net", ""}, // the first, and no backend
			// The name in the handshake chooses the certificate, Host the backend.
			{"127.0.0.83", "ccmp.example.net", "ece.example.net", "ece.example.net", "web2"},
		} {
			g.at = tt.at
			q := ask{host: tt.host, sni: tt.sni}
			a := g.both(q)
			if a.Origin != tt.origin || tt.origin == "" && a.Status != 503 {
				t.Errorf("%+v: %d from %q", tt, a.Status, a.Origin)
			}
			sni := tt.sni
			if sni == "" {
				sni, _, _ = strings.Cut(strings.ToLower(tt.host), ":")
			}
			for _, s := range g.sides() {
				if got := s.chain(sni)[0].Subject.CommonName; got != tt.shows {
					t.Errorf("%s at %s shows %s for %s", s.name, tt.at, got, sni)
				}
			}
		}
	}
}

const ccmpBackend = `
balance: roundrobin
servers:
  - {name: side-a, address: 127.0.0.1, port: {{server "side-a"}}, tls: true, cookie: a}
  - {name: side-b, address: 127.0.0.1, port: {{server "side-b"}}, tls: true, cookie: b, role: backup}
server_tls: {verify: none}
check: {type: http, path: /Portal, host: ccmp.example.net, interval: 100ms, expect_status: ["200", "302"], expect_text: Portal}
timeouts: {server: 120s}
failback: manual
persistence: {cookie: {name: CCMPLB, mode: insert, http_only: false}}
`

// ccmp: two servers of which one is the backup, a check that expects a text, long
// pages, and a way back that waits for the operator.
func ccmp(t *testing.T, l *lab) {
	g := newGuideStage(t, l, "side-a", "side-b")
	for _, s := range g.sides() {
		for _, o := range s.origins {
			o.checksAnswer(200, "<title>Unified Portal</title>")
		}
	}
	g.put(smallSettings, object{"backends[ccmp-web]", ccmpBackend}, object{"frontends[plain]", strings.ReplaceAll(smallFrontend, "backend: web", "backend: ccmp-web")})
	g.apply()
	visit := func(s *side, cookie string) string {
		t.Helper()
		q := ask{port: "http", plain: true, host: "ccmp.example.net"}
		if cookie != "" {
			q.header = []string{"Cookie: CCMPLB=" + cookie}
		}
		a := s.mustSend(q)
		if a.Status != 200 {
			t.Errorf("%s: %d", s.name, a.Status)
		}
		return a.Origin
	}
	state := func(server string, want control.ServerState) {
		t.Helper()
		eventually(t, server+" is "+string(want), func() bool { return g.server("ccmp-web", server).State == want })
	}
	peerState := func(server, want string) {
		t.Helper()
		eventually(t, "HAProxy's "+server+" is "+want, func() bool { return strings.HasPrefix(g.peer.stat("ccmp-web", server, "status"), want) })
	}

	t.Run("cookie", func(t *testing.T) {
		g.t = t
		for _, form := range []haproxyForm{asExported, asPfSense} {
			g.startHAProxy(form)
			g.allUp("ccmp-web")
			for _, cookie := range []string{"", "a", "b", "nobody"} {
				q := ask{port: "http", plain: true, host: "ccmp.example.net"}
				if cookie != "" {
					q.header = []string{"Cookie: CCMPLB=" + cookie}
				}
				got, want := g.sluis.mustSend(q), g.haproxy.mustSend(q)
				if got.Origin != want.Origin || strings.Join(got.Cookies, "\n") != strings.Join(want.Cookies, "\n") {
					t.Errorf("with the cookie %q: %s, %q; HAProxy: %s, %q", cookie, got.Origin, got.Cookies, want.Origin, want.Cookies)
				}
			}
		}
		if got := visit(g.sluis, ""); got != "side-a" {
			t.Errorf("a new client came to %s while side-a is well", got)
		}
	})

	t.Run("failover_and_manual_failback", func(t *testing.T) {
		g.t = t
		for _, s := range g.sides() {
			s.origins["side-a"].stop()
		}
		state("side-a", control.ServerDown)
		peerState("side-a", "DOWN")
		for _, s := range g.sides() {
			for _, cookie := range []string{"", "a", "b"} {
				if got := visit(s, cookie); got != "side-b" {
					t.Errorf("%s: with side-a down a client with the cookie %q came to %s", s.name, cookie, got)
				}
			}
		}
		for _, s := range g.sides() {
			s.origins["side-a"].start()
		}
		state("side-a", control.ServerRecovered)
		peerState("side-a", "UP")
		// HAProxy knows no other way back than at once.
		if got := visit(g.haproxy, ""); got != "side-a" {
			t.Errorf("HAProxy: %s", got)
		}
		for _, cookie := range []string{"", "a", "b"} {
			if got := visit(g.sluis, cookie); got != "side-b" {
				t.Errorf("side-a is back but not ready, and a client with the cookie %q came to %s", cookie, got)
			}
		}
		after, err := g.client.Act(t.Context(), "ccmp-web", "side-a", control.Ready, 0)
		if err != nil {
			t.Fatal(err)
		}
		if after.State != control.ServerUp {
			t.Errorf("after ready it is %s", after.State)
		}
		for cookie, want := range map[string]string{"": "side-a", "a": "side-a", "b": "side-b"} {
			if got, peer := visit(g.sluis, cookie), visit(g.haproxy, cookie); got != want || peer != want {
				t.Errorf("after ready a client with the cookie %q came to %s, at HAProxy to %s, want %s", cookie, got, peer, want)
			}
		}
		eventually(t, "the operator's word is written down", func() bool { return len(g.events("control.server.acted")) == 1 })
	})

	t.Run("check", func(t *testing.T) {
		g.t = t
		o := g.sluis.origins["side-a"]
		o.checksAnswer(302, "")
		asked := len(o.checks())
		eventually(t, "some checks get a 302", func() bool { return len(o.checks()) > asked+4 })
		if s := g.server("ccmp-web", "side-a"); s.State != control.ServerUp || s.Check.HTTPStatus != 302 {
			t.Errorf("with a 302 without the text it is %s, %+v", s.State, s.Check)
		}
		for _, bad := range []struct {
			status int
			text   string
			code   string
		}{{200, "the service is starting", "L7RSP"}, {301, "Portal", "L7STS"}, {503, "Portal", "L7STS"}} {
			o.checksAnswer(bad.status, bad.text)
			state("side-a", control.ServerDown)
			if s := g.server("ccmp-web", "side-a"); s.Check.Code != bad.code {
				t.Errorf("%+v: %s, %s", bad, s.Check.Code, s.Reason)
			}
			if bad.code == "L7RSP" {
				g.haproxy.origins["side-a"].checksAnswer(bad.status, bad.text)
				peerState("side-a", "DOWN")
				if got := g.peer.stat("ccmp-web", "side-a", "check_status"); got != bad.code {
					t.Errorf("HAProxy says %s, want %s", got, bad.code)
				}
				g.haproxy.origins["side-a"].checksAnswer(200, "Portal")
			}
			o.checksAnswer(200, "Portal")
			state("side-a", control.ServerRecovered)
			if _, err := g.client.Act(t.Context(), "ccmp-web", "side-a", control.Ready, 0); err != nil {
				t.Fatal(err)
			}
		}
	})

	// A page may take as long as the server timeout says, and no longer: with 120 s one
	// that is late passes, with 1 s it does not.
	t.Run("long_pages", func(t *testing.T) {
		g.t = t
		if got := g.running().Backends[0].Timeouts.Server; got != config.Duration(120*time.Second) {
			t.Errorf("the server timeout is %s", got)
		}
		held := func(name string, until time.Duration) (answers [2]answer, took [2]time.Duration) {
			var all sync.WaitGroup
			for i, s := range g.sides() {
				all.Go(func() {
					begun := time.Now()
					if until > 0 {
						defer time.AfterFunc(until, func() { s.origins["side-a"].release(name) }).Stop()
					}
					answers[i] = s.mustSend(ask{port: "http", plain: true, host: "ccmp.example.net", target: "/hold?name=" + name, header: []string{"Cookie: CCMPLB=a"}})
					took[i] = time.Since(begun)
				})
			}
			all.Wait()
			return answers, took
		}
		answers, _ := held("late", 1500*time.Millisecond)
		for i, s := range g.sides() {
			if answers[i].Status != 200 {
				t.Errorf("%s: a page after 1.5 s of 120 s: %d", s.name, answers[i].Status)
			}
		}
		g.put(object{"backends[ccmp-web].timeouts.server", "1s"})
		g.apply()
		g.startHAProxy(asPfSense)
		peerState("side-a", "UP")
		answers, took := held("never", 0)
		for i, s := range g.sides() {
			if answers[i].Status != 504 || took[i] < 900*time.Millisecond || took[i] > 5*time.Second {
				t.Errorf("%s: a page that never comes: %d after %s, want 504 after 1 s", s.name, answers[i].Status, took[i])
			}
		}
	})
}
