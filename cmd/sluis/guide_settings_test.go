package main

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"
)

// Services > HAProxy > Settings: G35 to G39.

// refused reports whether nobody listens at that port of a side.
func (s *side) refused(q ask) bool {
	at := q.at
	if at == "" {
		at = s.stage.at
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(at, strconv.Itoa(s.port(q.port))), 5*time.Second)
	if err != nil {
		return true
	}
	_ = conn.Close()
	return false
}

// saveAndApply: what is saved runs only after Apply, several saves together, and one
// may refer to another that isn't applied either.
func saveAndApply(g *guideStage) {
	plain := ask{port: "http", plain: true, host: "x.example.net"}
	g.put(smallSettings, object{"backends[web]", smallBackend}, object{"frontends[plain]", smallFrontend})
	status, err := g.client.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if status.Changes != 3 {
		g.t.Errorf("%d objects are saved and not applied, want 3", status.Changes)
	}
	if !g.sluis.refused(plain) {
		g.t.Error("a frontend that is only saved listens")
	}
	g.apply()
	g.startHAProxy(asExported)
	g.both(plain)
	if status, err := g.client.Status(g.t.Context()); err != nil || status.Changes != 0 || status.Pending != nil {
		g.t.Errorf("after apply and confirm: %d changes, pending %v, %v", status.Changes, status.Pending, err)
	}
}

// enable: the switch is for all sites.
func enable(g *guideStage) {
	plain := ask{port: "http", plain: true, host: "x.example.net"}
	g.put(object{"load_balancer.enabled", "false"})
	g.apply()
	g.startHAProxy(asExportedDisabled)
	for _, s := range g.sides() {
		if !s.refused(plain) {
			g.t.Errorf("%s listens though it is disabled", s.name)
		}
	}
	g.put(object{"load_balancer.enabled", "true"})
	g.apply()
	g.startHAProxy(asExported)
	g.both(plain)
}

// asExportedDisabled has a control socket alone, with which HAProxy starts.
func asExportedDisabled(g *guideStage, doc *config.Document, socket string) []byte {
	doc.LoadBalancer.Stats.Port = 0
	return append(asExported(g, doc, socket), "\nlisten nobody\n\tbind "+socket+".nobody\n\tmode http\n"...)
}

// maximumConnections: who comes beyond it waits until another goes.
func maximumConnections(g *guideStage) {
	defer func() {
		g.put(object{"load_balancer.max_connections", "1000"}, object{"frontends[plain].max_connections", "0"})
		g.apply()
		g.startHAProxy(asExported)
	}()
	for _, limit := range []struct{ path, status string }{
		{"load_balancer.max_connections", "appliance"}, {"frontends[plain].max_connections", "frontend"},
	} {
		g.put(object{"load_balancer.max_connections", "1000"}, object{limit.path, "3"})
		g.apply()
		g.startHAProxy(asExported)
		before := g.limitReached(limit.status)
		for _, s := range g.sides() {
			g.fourthWaits(s, limit.status, before)
		}
	}
}

func (g *guideStage) fourthWaits(s *side, limit string, before uint64) {
	g.t.Helper()
	plain := ask{port: "http", plain: true, host: "x.example.net"}
	var conns []net.Conn
	for range 3 {
		conn, err := s.dial(plain)
		if err != nil {
			g.t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := s.exchange(conn, plain); err != nil { // so that it is surely accepted
			g.t.Fatalf("%s, %s: %v", s.name, limit, err)
		}
		conns = append(conns, conn)
	}
	served := make(chan error, 1)
	go func() {
		_, err := s.send(plain)
		served <- err
	}()
	if s == g.sluis {
		eventually(g.t, "the limit of the "+limit+" is reached", func() bool { return g.limitReached(limit) > before })
	} else {
		_, _ = g.peer.ask("show info") // it has gone round its loop meanwhile
	}
	select {
	case err := <-served:
		g.t.Errorf("%s, %s: a fourth connection was served: %v", s.name, limit, err)
		return
	default:
	}
	_ = conns[0].Close()
	select {
	case err := <-served:
		if err != nil {
			g.t.Errorf("%s, %s: the connection that waited: %v", s.name, limit, err)
		}
	case <-time.After(20 * time.Second):
		g.t.Errorf("%s, %s: the connection that waited was never served", s.name, limit)
	}
}

func (g *guideStage) limitReached(of string) uint64 {
	g.t.Helper()
	status, err := g.client.Balancer(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if of == "appliance" {
		return status.LimitReached
	}
	return status.Frontends[0].LimitReached
}

// statsPage reads the statistics page of a side.
func (s *side) statsPage() (*http.Response, string) {
	s.stage.t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("http://127.0.0.1:" + strconv.Itoa(s.port("stats")) + "/")
	if err != nil {
		s.stage.t.Fatalf("%s: %v", s.name, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.stage.t.Fatal(err)
	}
	return answer, string(body)
}

// statsPort: the page stands on the loopback address alone.
func statsPort(g *guideStage) {
	for _, s := range g.sides() {
		answer, page := s.statsPage()
		if answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
			g.t.Errorf("%s: %s, %s", s.name, answer.Status, answer.Header.Get("Content-Type"))
		}
		for _, name := range []string{"plain", "web", "web1", "web2"} {
			if !strings.Contains(page, name) {
				g.t.Errorf("%s: the page has no %s", s.name, name)
			}
		}
		for _, address := range outsideAddresses(g.t) {
			if !s.refused(ask{port: "stats", at: address}) {
				g.t.Errorf("%s: the page can be reached at %s", s.name, address)
			}
		}
	}
	g.put(object{"load_balancer.stats.port", "0"})
	g.apply()
	if !g.sluis.refused(ask{port: "stats"}) {
		g.t.Error("the page still stands though its port is 0")
	}
	g.put(object{"load_balancer.stats.port", `{{port "stats"}}`})
	g.apply()
	g.sluis.statsPage()
}

// outsideAddresses are this machine's addresses but its loopback ones, and one of
// those that is not the usual one.
func outsideAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{"127.0.0.80"}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			addresses = append(addresses, n.IP.String())
		}
	}
	return addresses
}

// statsRefresh: the page renews itself as often as it is told.
func statsRefresh(g *guideStage) {
	g.put(object{"load_balancer.stats.refresh", "7s"})
	g.apply()
	g.startHAProxy(asExported)
	for _, s := range g.sides() {
		answer, page := s.statsPage()
		if !strings.Contains(page, `http-equiv="refresh" content="7"`) && answer.Header.Get("Refresh") != "7" && !strings.Contains(page, `http-equiv=refresh content=7`) {
			g.t.Errorf("%s: the page does not say that it renews itself after 7 s", s.name)
		}
	}
	g.put(object{"load_balancer.stats.refresh", "0s"})
	g.apply()
	if answer, page := g.sluis.statsPage(); answer.Header.Get("Refresh") != "" || strings.Contains(page, "http-equiv") && strings.Contains(page, "refresh") {
		g.t.Error("the page renews itself though it was told not to")
	}
}
