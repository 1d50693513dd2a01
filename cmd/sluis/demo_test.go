package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluis/internal/demo"
)

// demoProcess is what "make run" runs, as a newcomer meets it.
type demoProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // its temporary directory
	errors bytes.Buffer
	answer demoAnswer
	client *http.Client
	token  string // of the control room
}

func runDemo(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	p := &demoProcess{t: t, dir: t.TempDir(), cmd: exec.Command(self(t), append([]string{"demo", "--admin", "127.0.0.1:0"}, args...)...)}
	p.cmd.Env = []string{"SLUIS_TEST_MAIN=1", "TMPDIR=" + p.dir}
	p.cmd.Stderr = &p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it starts can be found
	return p
}

// start starts a demo that prints for programs.
func (p *demoProcess) start() {
	p.t.Helper()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("the demo printed no line: %v\n%s", err, p.errors.String())
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p.answer); err != nil {
		p.t.Fatal(err)
	}
	roots, err := poolOf(p.answer.CAFile)
	if err != nil {
		p.t.Fatal(err)
	}
	p.client = &http.Client{
		Timeout:       settleWithin,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// until waits for something that the demo does by itself.
func (p *demoProcess) until(what string, done func() bool) time.Duration {
	p.t.Helper()
	begin := time.Now()
	for !done() {
		if time.Since(begin) > 30*time.Second {
			p.t.Fatalf("waited for this in vain: %s\n%s", what, p.errors.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(begin)
}

// call makes a request that must be answered.
func (p *demoProcess) call(method, url string, header http.Header) (*http.Response, []byte) {
	p.t.Helper()
	request, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	answer, err := p.client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer, body
}

// visit is a request of a visitor who keeps cookies; it says which server answered.
func (p *demoProcess) visit(jar http.CookieJar) string {
	p.t.Helper()
	p.client.Jar = jar
	defer func() { p.client.Jar = nil }()
	answer, _ := p.call(http.MethodGet, p.answer.SiteURL, nil)
	if answer.StatusCode != http.StatusOK {
		return ""
	}
	return answer.Header.Get("X-Demo-Server")
}

// press presses a button of the control room.
func (p *demoProcess) press(path string) {
	p.t.Helper()
	header := http.Header{"X-Demo-Token": {p.token}}
	if answer, body := p.call(http.MethodPost, strings.TrimSuffix(p.answer.ControlRoomURL, "/")+path, header); answer.StatusCode != http.StatusOK {
		p.t.Fatalf("POST %s = %d %s", path, answer.StatusCode, body)
	}
}

// state is what the control room shows.
func (p *demoProcess) state() (state demo.State) {
	p.t.Helper()
	_, body := p.call(http.MethodGet, p.answer.ControlRoomURL+"state", nil)
	if err := json.Unmarshal(body, &state); err != nil {
		p.t.Fatal(err)
	}
	return state
}

// TestDemo holds every promise of the line that the demo prints against the demo.
func TestDemo(t *testing.T) {
	p := runDemo(t, "--json", "--chats", "30")
	p.start()
	p.commandLineWorks()
	p.siteAnswers()
	p.chatPasses()
	p.failingServerIsTakenOut()
	p.controlRoomWorks()
	p.endsCleanly()
}

func (p *demoProcess) commandLineWorks() {
	a := p.answer
	m := &machine{t: p.t, env: map[string]string{
		"SLUIS_URL": a.APIURL, "SLUIS_USER": a.Username, "SLUIS_PASSWORD": a.Password, "SLUIS_CA": a.CAFile,
	}}
	m.do("status")
	m.do("set", "system.hostname", fmt.Sprintf("lock%d", time.Now().Unix()))
	m.do("apply", "--confirm-within", "1m")
	m.do("confirm")
}

func (p *demoProcess) siteAnswers() {
	p.t.Helper()
	jar, _ := cookiejar.New(nil)
	bound := p.visit(jar)
	for range 8 {
		if got := p.visit(jar); got != bound || got == "" {
			p.t.Errorf("a visitor who keeps the cookie came to %q and then to %q", bound, got)
		}
	}
	seen := map[string]bool{}
	p.until("visitors come to all servers", func() bool {
		fresh, _ := cookiejar.New(nil)
		seen[p.visit(fresh)] = true
		return len(seen) == len(p.answer.Servers)
	})
	answer, _ := p.call(http.MethodGet, p.answer.SiteURL, nil)
	cookies := strings.Join(answer.Header.Values("Set-Cookie"), "\n")
	if !strings.Contains(cookies, "ECELB=") || !strings.Contains(cookies, "JSESSIONID=") || answer.Header.Get("Strict-Transport-Security") != "max-age=300" {
		p.t.Errorf("the site answers with %v, want both cookies and HSTS", answer.Header)
	}
	answer, _ = p.call(http.MethodGet, p.answer.PlainURL+"x?y=1", nil)
	if got, want := answer.Header.Get("Location"), p.answer.SiteURL+"x?y=1"; answer.StatusCode != http.StatusMovedPermanently || got != want {
		p.t.Errorf("in clear the site answers %d and leads to %q, want %q", answer.StatusCode, got, want)
	}
	for _, s := range p.answer.Servers {
		if answer, _ := p.call(http.MethodGet, s.URL, nil); answer.Header.Get("X-Demo-Server") != s.Name {
			p.t.Errorf("at %s answers %q", s.URL, answer.Header.Get("X-Demo-Server"))
		}
	}
	request := http.Request{Header: http.Header{}}
	request.SetBasicAuth(p.answer.Username, p.answer.Password)
	if answer, body := p.call(http.MethodGet, p.answer.MetricsURL, request.Header); answer.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("sluis_apply_running_revision")) {
		p.t.Errorf("the numbers are answered %d", answer.StatusCode)
	}
	if answer, body := p.call(http.MethodGet, p.answer.StatsURL, nil); answer.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("web3")) {
		p.t.Errorf("the statistics page is answered %d and does not show web3", answer.StatusCode)
	}
}

// chatPasses speaks WebSocket through the site, with the key of RFC 6455 section 1.3.
func (p *demoProcess) chatPasses() {
	p.t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(p.answer.SiteURL, "https://"), "/")
	conn, err := tls.Dial("tcp", address, p.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(settleWithin))
	fmt.Fprintf(conn, "GET /chat/socket HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", address)
	r := bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		p.t.Fatalf("the handshake was answered %d with %v", answer.StatusCode, answer.Header)
	}
	read := func() string {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			p.t.Fatal(err)
		}
		text := make([]byte, head[1]) // it is short
		if _, err := io.ReadFull(r, text); err != nil {
			p.t.Fatal(err)
		}
		return string(text)
	}
	if got := read(); !strings.Contains(got, "this is the agent") {
		p.t.Errorf("the agent says %s", got)
	}
	if _, err := conn.Write([]byte("\x81\x82\x00\x00\x00\x00Hi")); err != nil {
		p.t.Fatal(err)
	}
	if got := read(); !strings.Contains(got, "got your message 1: Hi") {
		p.t.Errorf("the agent answers %s", got)
	}
}

func (p *demoProcess) failingServerIsTakenOut() {
	p.t.Helper()
	jar, _ := cookiejar.New(nil)
	bound := p.visit(jar)
	var server demoAnswerServer
	for _, s := range p.answer.Servers {
		if s.Name == bound {
			server = s
		}
	}
	p.call(http.MethodPost, server.FailURL, nil)
	out := p.until("a failing server is taken out", func() bool {
		got := p.visit(jar)
		return got != "" && got != bound
	})
	p.t.Logf("a failing server was taken out after %v", out)
	p.call(http.MethodPost, server.RecoverURL, nil)
	back := p.until("a healed server comes back", func() bool {
		fresh, _ := cookiejar.New(nil)
		return p.visit(fresh) == bound
	})
	p.t.Logf("a healed server came back after %v", back)
}

func (p *demoProcess) controlRoomWorks() {
	p.t.Helper()
	_, page := p.call(http.MethodGet, p.answer.ControlRoomURL, nil)
	found := regexp.MustCompile(`name="token" content="([A-Z2-7]+)"`).FindSubmatch(page)
	if found == nil {
		p.t.Fatalf("the control room holds no token:\n%s", page)
	}
	p.token = string(found[1])
	p.until("the chats are open", func() bool { return p.state().Chats.Open == 30 })
	health := func(name string) demo.Health {
		for _, s := range p.state().Servers {
			if s.Name == name {
				return s.Health
			}
		}
		return ""
	}

	p.press("/servers/web2/stop")
	p.until("web2 is down", func() bool { return health("web2") == demo.Down })
	p.until("its chats have moved", func() bool { c := p.state().Chats; return c.Open == 30 && c.Moved > 0 && c.Servers["web2"].Open == 0 })
	p.press("/servers/web2/start")
	p.until("web2 is up", func() bool { return health("web2") == demo.Up })
	p.press("/servers/web1/drain")
	p.until("web1 drains", func() bool { return health("web1") == demo.Draining })
	p.press("/servers/web1/ready")
	p.until("web1 is back", func() bool { return health("web1") == demo.Up })

	before := p.state()
	p.press("/apply")
	p.until("the changes are applied", func() bool { a := p.state().Apply; return !a.Running && a.Of > 0 })
	if a := p.state().Apply; a.Done != demoChanges || a.Cut != 0 || a.Failed != 0 || a.Problem != "" {
		p.t.Errorf("after the changes: %+v, want %d, nothing cut, nothing failed\n%+v", a, demoChanges, p.state().Story)
	}
	if answer, _ := p.call(http.MethodGet, p.answer.SiteURL, nil); answer.Header.Get(changeField) != fmt.Sprint(demoChanges) {
		p.t.Errorf("an answer shows change %q, want %d", answer.Header.Get(changeField), demoChanges)
	}
	p.press("/lock-out")
	p.until("the administrator is locked out", func() bool { return !p.state().LockOut.Reachable })
	p.until("the lock-out is over", func() bool { return !p.state().LockOut.Active })
	if l := p.state().LockOut; l.Problem != "" || l.Took < lockOutFor.Seconds() || l.Took > lockOutFor.Seconds()+2 || l.Cut != 0 || l.Failed != 0 {
		p.t.Errorf("after the lock-out: %+v, want it back within 2 s of its time\n%+v", l, p.state().Story)
	}
	p.commandLineWorks() // the API is where it was, and nothing is left in the candidate
	if after := p.state(); after.Chats.Cut != 0 || after.Requests.Failed != before.Requests.Failed {
		p.t.Errorf("%d chats were cut; %d requests failed, the last one: %s\n%+v", after.Chats.Cut, after.Requests.Failed, after.Requests.LastFailure, after.Story)
	}
}

// endsCleanly ends the demo as Ctrl-C does.
func (p *demoProcess) endsCleanly() {
	p.t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("after Ctrl-C: %v\n%s", err, p.errors.String())
	}
	if took := time.Since(begin); took > 3*time.Second { // within one, on a machine that does nothing else
		p.t.Errorf("the end took %v", took)
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		p.t.Errorf("the demo left a process behind: %v", err)
	}
	left, err := os.ReadDir(p.dir)
	if err != nil || len(left) > 0 {
		p.t.Errorf("the demo left behind %v (%v)", left, err)
	}
	if p.errors.Len() > 0 {
		p.t.Errorf("the demo complained:\n%s", p.errors.String())
	}
}

// TestDemoTour lets the tour run without a terminal.
func TestDemoTour(t *testing.T) {
	if os.Getenv("SLUIS_LONG") == "" {
		t.Skip("long: the tour takes 45 seconds")
	}
	p := runDemo(t, "--tour", "--chats", "60")
	out, err := p.cmd.Output()
	if err != nil {
		t.Errorf("the tour: %v\n%s", err, p.errors.String())
	}
	for _, want := range []string{"50 of 50 changes", "is back by itself", "chats cut by Sluis                       0"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the tour does not say %q", want)
		}
	}
	if bytes.ContainsAny(out, "\x1b\r") {
		t.Error("the tour steers a terminal that is none")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func TestDemoCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{"--tour", "--json"}, {"--admin", "8443"}, {"--admin", ":8443"}, {"--chats", "-1"}, {"--requests", "501"}, {"--admin", "127.0.0.1:https"},
	} {
		m := &machine{t: t, env: map[string]string{}}
		if code, _, stderr := m.tool("", append([]string{"demo"}, args...)...); code != exitUsage {
			t.Errorf("demo %q ends with %d, want %d\n%s", args, code, exitUsage, stderr)
		}
	}
}
