package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/api"
	"sluis/internal/config"
	"sluis/internal/control"
)

// guideStage is a site of the guide twice: Sluis, and HAProxy with the equivalent
// configuration, each before web servers of its own, so that what happens to one
// side's servers can happen to the other's at the same time.
//
//	client ──TLS──► sluis  (the real binary) ──TLS──► web1, web2 …
//	client ──TLS──► haproxy (Debian's)       ──TLS──► web1, web2 …
type guideStage struct {
	t       *testing.T // of the step that is under way
	owner   *testing.T // of the stage
	lab     *lab
	dir     string
	at      string // where its clients go
	process *process
	client  *api.Client
	sluis   *side
	haproxy *side
	// certificates are those of the document, by their names.
	certificates map[string]tls.Certificate
	// peer is HAProxy's process; nil = it does not run.
	peer *haproxyProcess
}

// side is one of the two as its clients meet it.
type side struct {
	stage   *guideStage
	name    string
	ports   map[string]int // listening ones, by what the document's template calls them
	origins map[string]*origin
}

// newGuideStage starts Sluis, without any site, and the web servers of both sides.
func newGuideStage(t *testing.T, l *lab, servers ...string) *guideStage {
	t.Helper()
	dir, err := os.MkdirTemp("", "guide") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &guideStage{t: t, owner: t, at: "127.0.0.1", lab: l, dir: dir, certificates: map[string]tls.Certificate{}}
	g.sluis, g.haproxy = g.newSide("sluis", servers), g.newSide("haproxy", servers)
	g.run()
	return g
}

func (g *guideStage) newSide(name string, servers []string) *side {
	s := &side{stage: g, name: name, ports: map[string]int{}, origins: map[string]*origin{}}
	for _, server := range servers {
		s.origins[server] = newOrigin(g.t, g.lab, server)
	}
	return s
}

// run starts the binary on the stage's state.
func (g *guideStage) run() {
	g.t.Helper()
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		g.t.Fatal(err)
	}
	socket := filepath.Join(g.dir, "sluis.sock")
	g.process = runProcess(g.owner, socket, nil, self(g.t), "run", "--state", filepath.Join(g.dir, "state"), "--socket", socket, "--admin", "127.0.0.1:0")
	g.client = g.process.client()
	g.owner.Cleanup(g.client.Close)
}

// end ends both sides' processes, so that they don't work beside other stages.
func (g *guideStage) end() {
	g.stopHAProxy()
	_ = g.process.cmd.Process.Kill()
	_ = g.process.cmd.Wait()
}

// port is the port of that name, the same as long as the stage lasts.
func (s *side) port(name string) int {
	if s.ports[name] == 0 {
		s.ports[name] = s.stage.lab.port()
	}
	return s.ports[name]
}

// certificate issues a certificate of the document.
func (g *guideStage) certificate(name string, hosts ...string) {
	g.t.Helper()
	g.certificates[name] = g.lab.issue(hosts...)
}

// object is one object of the candidate: its path, and its value as a template in
// which {{port "https"}} is a port to listen on, {{server "web1"}} a server's,
// {{root}}, {{issuing}}, {{leaf "ece"}} and {{key "ece"}} are PEM texts.
type object struct{ path, value string }

// put writes objects into the candidate, each at its own URL, as any program would.
func (g *guideStage) put(objects ...object) {
	g.t.Helper()
	for _, o := range objects {
		if saved := g.tryPut(o); saved.HasErrors() {
			g.t.Fatalf("%s is saved with errors: %v", o.path, saved)
		}
	}
}

func (g *guideStage) tryPut(o object) config.Problems {
	g.t.Helper()
	saved, err := g.client.Set(g.t.Context(), o.path, []byte(g.fill(g.sluis, o.value)))
	if err != nil {
		g.t.Fatalf("put %s: %v", o.path, err)
	}
	return saved.Problems
}

// fill fills a template in.
func (g *guideStage) fill(s *side, text string) string {
	g.t.Helper()
	quote := func(text string) string {
		data, err := json.Marshal(text)
		if err != nil {
			g.t.Fatal(err)
		}
		return string(data)
	}
	funcs := template.FuncMap{
		"port": s.port, "server": func(name string) int { return s.origins[name].port },
		"root": func() string { return quote(pemOf(g.lab.root)) }, "issuing": func() string { return quote(pemOf(g.lab.issuing)) },
		"leaf": func(name string) string { return quote(pemOf(g.certificates[name])) },
		"shuffled": func(name string) string {
			return quote(pemOf(g.lab.root, g.certificates[name], g.lab.issuing))
		},
		"key": func(name string) string { return quote(keyOf(g.t, g.certificates[name])) },
	}
	var out strings.Builder
	if err := template.Must(template.New("object").Funcs(funcs).Parse(text)).Execute(&out, nil); err != nil {
		g.t.Fatal(err)
	}
	return out.String()
}

// apply brings the candidate about and confirms it, as the guide's Apply Changes.
func (g *guideStage) apply() {
	g.t.Helper()
	if _, err := g.client.Apply(g.t.Context(), time.Minute, "a step of the guide", ""); err != nil {
		g.t.Fatalf("apply: %v\n%s", err, g.process.said())
	}
	if err := g.client.Confirm(g.t.Context()); err != nil {
		g.t.Fatalf("confirm: %v", err)
	}
}

// running is the document in effect.
func (g *guideStage) running() *config.Document {
	g.t.Helper()
	data, _, err := g.client.Document(g.t.Context(), "running", api.FormatYAML)
	if err != nil {
		g.t.Fatal(err)
	}
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		g.t.Fatal(problems)
	}
	return doc
}

// rest makes a request of the API that the Go client has no func for.
func (g *guideStage) rest(method, path string, out any) int {
	g.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", g.process.socket)
	}}
	defer transport.CloseIdleConnections()
	q, err := http.NewRequestWithContext(g.t.Context(), method, "http://sluis/api/v1"+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	answer, err := transport.RoundTrip(q)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		g.t.Fatal(err)
	}
	return answer.StatusCode
}

// events are the events of that name which are still kept, oldest first.
func (g *guideStage) events(name string) []api.Event {
	g.t.Helper()
	var list api.List[api.Event]
	g.rest("GET", "/events/recent?limit=500", &list)
	return slices.DeleteFunc(list.Items, func(e api.Event) bool { return e.Name != name })
}

// backend is the state of a backend.
func (g *guideStage) backend(name string) control.BackendStatus {
	g.t.Helper()
	status, err := g.client.Backend(g.t.Context(), name)
	if err != nil {
		g.t.Fatal(err)
	}
	return status
}

// server is the state of a server.
func (g *guideStage) server(backend, name string) control.ServerStatus {
	g.t.Helper()
	for _, s := range g.backend(backend).Servers {
		if s.Name == name {
			return s
		}
	}
	g.t.Fatalf("no server %s", name)
	return control.ServerStatus{}
}

// requests are the newest lines of the access log, oldest first, that hold a text.
func (g *guideStage) requests(text string) (lines []map[string]any) {
	g.t.Helper()
	data, err := os.ReadFile(filepath.Join(g.dir, "state", "log", "access.log"))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if !strings.Contains(line, text) {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			g.t.Fatalf("%v in the access log's line %q", err, line)
		}
		lines = append(lines, fields)
	}
	return lines
}

// eventually waits for what comes by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for this in vain: %s", what)
		}
	}
}

// ask is a request as it goes over the wire.
type ask struct {
	port   string // name of the port; empty = https
	at     string // address; empty = the stage's
	plain  bool   // without TLS
	sni    string // empty = Host without its port
	method string // empty = GET
	target string // empty = /
	host   string
	header []string // further lines
	body   string   // as it goes over the wire
}

// answer is what came back of an ask, as far as two load balancers can be compared.
type answer struct {
	Status   int
	Origin   string // that answered; empty = the load balancer itself
	Location string
	Cookies  []string
	HSTS     []string
	Cache    []string
	// Seen is what the origin saw; nil = it was not asked.
	Seen *seen
}

// send makes a request on a connection of its own.
func (s *side) send(q ask) (answer, error) {
	conn, err := s.dial(q)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	return s.exchange(conn, q)
}

// dial connects to the side, with TLS unless the ask is plain.
func (s *side) dial(q ask) (net.Conn, error) {
	port, at := q.port, q.at
	if port == "" {
		port = "https"
	}
	if at == "" {
		at = s.stage.at
	}
	address := net.JoinHostPort(at, strconv.Itoa(s.port(port)))
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if q.plain {
		return dialer.Dial("tcp", address)
	}
	sni := q.sni
	if sni == "" {
		sni, _, _ = strings.Cut(q.host, ":")
		sni = strings.ToLower(strings.TrimSuffix(sni, "."))
	}
	// Whom a certificate names is looked at where that is the question.
	return tls.DialWithDialer(dialer, "tcp", address, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
}

// exchange sends a request on a connection and reads its answer.
func (s *side) exchange(conn net.Conn, q ask) (answer, error) {
	method, target := q.method, q.target
	if method == "" {
		method = "GET"
	}
	if target == "" {
		target = "/"
	}
	head := method + " " + target + " HTTP/1.1\r\nHost: " + q.host + "\r\n"
	for _, line := range q.header {
		head += line + "\r\n"
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, head+"\r\n"+q.body); err != nil {
		return answer{}, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{
		Status: response.StatusCode, Origin: response.Header.Get("X-Origin"), Location: response.Header.Get("Location"),
		Cookies: response.Header.Values("Set-Cookie"), HSTS: response.Header.Values("Strict-Transport-Security"),
		Cache: response.Header.Values("Cache-Control"),
	}
	if a.Origin == "" {
		a.Cache = nil // an answer of the load balancer's own: its form is its own
	}
	if a.Origin != "" && method != "HEAD" && response.Header.Get("Content-Type") == "application/json" {
		a.Seen = &seen{}
		if err := json.Unmarshal(body, a.Seen); err != nil {
			return a, fmt.Errorf("the origin's answer %q: %w", body, err)
		}
	}
	return a, nil
}

// mustSend is send where an error ends the test.
func (s *side) mustSend(q ask) answer {
	s.stage.t.Helper()
	a, err := s.send(q)
	if err != nil {
		s.stage.t.Fatalf("%s: %s %s of %s: %v", s.name, q.method, q.target, q.host, err)
	}
	return a
}

// both sends the same request to both sides, and reports where they differ. It
// returns Sluis's answer.
func (g *guideStage) both(q ask) answer {
	g.t.Helper()
	got, want := g.sluis.mustSend(q), g.haproxy.mustSend(q)
	if diff := cmp.Diff(g.haproxy.comparable(want), g.sluis.comparable(got)); diff != "" {
		g.t.Errorf("%+v (-haproxy +sluis):\n%s", q, diff)
	}
	return got
}

// comparable is an answer without what differs on purpose: HSTS ends with a
// semicolon as pfSense writes it, and an answer that sets our cookie is private also
// where it has neither date nor validator. Which server has a new client is blanked,
// if the cookie that the client gets names it.
func (s *side) comparable(a answer) answer {
	a = s.plainPorts(a)
	a.HSTS, a.Cookies = slices.Clone(a.HSTS), slices.Clone(a.Cookies)
	for i := range a.HSTS {
		a.HSTS[i] = strings.TrimSuffix(a.HSTS[i], ";")
	}
	for i, cookie := range a.Cookies {
		if own := fmt.Sprintf("JSESSIONID=%X;", a.Origin); strings.HasPrefix(cookie, own) {
			a.Cookies[i] = "JSESSIONID=its own;" + cookie[len(own):]
		}
	}
	for i, cookie := range a.Cookies {
		prefix := "ECELB=" + strings.Replace(a.Origin, "web", "w", 1)
		if a.Origin == "" || !strings.HasPrefix(cookie, prefix) {
			continue
		}
		a.Cookies[i] = "ECELB=the server's" + cookie[len(prefix):]
		a.Cache, a.Origin = nil, "the one that the cookie names"
		if a.Seen != nil {
			a.Seen.Server = a.Origin
		}
		break
	}
	return a
}

// plainPorts is an answer with the names of ports in place of their numbers.
func (s *side) plainPorts(a answer) answer {
	if a.Seen != nil {
		copied := *a.Seen
		copied.Header = copied.Header.Clone()
		a.Seen = &copied
	}
	for name, port := range s.ports {
		number := strconv.Itoa(port)
		a.Location = strings.ReplaceAll(a.Location, ":"+number, ":"+name)
		if a.Seen == nil {
			continue
		}
		a.Seen.Host = strings.ReplaceAll(a.Seen.Host, ":"+number, ":"+name)
		for _, values := range a.Seen.Header {
			for i := range values {
				values[i] = strings.ReplaceAll(values[i], number, name)
			}
		}
	}
	return a
}

// sides are both, HAProxy last.
func (g *guideStage) sides() []*side { return []*side{g.sluis, g.haproxy} }

// step runs a step of the guide on the stage.
func (g *guideStage) step(t *testing.T, name string, f func(g *guideStage)) {
	t.Run(name, func(t *testing.T) {
		owner := g.t
		g.t = t
		defer func() { g.t = owner }()
		f(g)
	})
}
