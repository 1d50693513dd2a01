package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// until waits for something that comes about by itself; what it waits for is never
// a matter of time, but a demo that hangs must not hang the tests.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for this in vain: %s", what)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// site is servers with something in front of them that stands in for Sluis.
type site struct {
	authority *Authority
	servers   []*Server
	front     *httptest.Server
	plain     *httptest.Server

	mu   sync.Mutex
	next int // guarded by mu
	// open are the connections of clients; guarded by mu.
	open map[net.Conn]struct{}
}

func newSite(t *testing.T, names ...string) *site {
	t.Helper()
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{authority: authority, open: map[net.Conn]struct{}{}}
	for _, name := range names {
		issued, err := authority.Issue(name+".demo.test", "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		server := NewServer(ServerOptions{Name: name, Certificate: issued.TLS, Listener: listen(t), Control: listen(t)})
		t.Cleanup(server.Close)
		s.servers = append(s.servers, server)
	}
	issued, err := authority.Issue("chat.demo.test", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s.front = httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(s.choose()); r.Out.Host = r.In.Host },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Roots()}, DisableKeepAlives: true},
		ErrorLog:  silent(),
	})
	s.front.TLS = &tls.Config{Certificates: []tls.Certificate{issued.TLS}}
	s.front.Config.ErrorLog = silent()
	s.front.Config.ConnState = s.note
	s.front.StartTLS()
	s.plain = httptest.NewServer(http.RedirectHandler("https://chat.demo.test/", http.StatusMovedPermanently))
	t.Cleanup(func() { s.cut(); s.front.Close(); s.plain.Close() })
	return s
}

// choose takes the running servers in turn.
func (s *site) choose() *url.URL {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.servers {
		s.next++
		if server := s.servers[s.next%len(s.servers)]; server.State().Running {
			return &url.URL{Scheme: "https", Host: server.Address()}
		}
	}
	return &url.URL{Scheme: "https", Host: "127.0.0.1:1"}
}

func (s *site) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateClosed {
		s.open[c] = struct{}{}
	}
}

// cut closes every client's connection, as a balancer must not.
func (s *site) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close()
	}
	clear(s.open)
}

func (s *site) wasStopped(name string, since time.Time) bool {
	return slices.ContainsFunc(s.servers, func(server *Server) bool { return server.Name() == name && server.WasStopped(since) })
}

func (s *site) visitors(t *testing.T, chats, requests int) (*Visitors, *Story) {
	t.Helper()
	story := &Story{}
	v := StartVisitors(VisitorsOptions{
		Site: s.front.Listener.Addr().String(), Plain: s.plain.Listener.Addr().String(), Roots: s.authority.Roots(),
		Chats: chats, Requests: requests, WasStopped: s.wasStopped, Story: story,
	})
	t.Cleanup(v.Close)
	return v, story
}

func TestChatsMoveWhenTheirServerStops(t *testing.T) {
	s := newSite(t, "web1", "web2", "web3")
	v, story := s.visitors(t, 12, 0)
	until(t, "12 chats are open", func() bool { return v.Figures().Chats.Open == 12 })
	before := v.Figures().Chats
	for _, server := range s.servers {
		if got, want := server.State().Chats, before.Servers[server.Name()].Open; got != want || want == 0 {
			t.Errorf("%s has %d chats, its visitors count %d", server.Name(), got, want)
		}
	}

	s.servers[1].Stop()
	until(t, "12 chats are open again", func() bool { f := v.Figures().Chats; return f.Open == 12 && f.Servers["web2"].Open == 0 })
	until(t, "the wave is told of", func() bool { return v.Figures().Chats.LastWave.Chats > 0 })
	after := v.Figures().Chats
	lost := before.Servers["web2"].Open
	if after.Lost != lost || after.Moved != lost || after.Cut != 0 || after.LastWave.Chats != lost {
		t.Errorf("after web2 with %d chats stopped: %+v", lost, after)
	}
	if moved := after.Servers["web1"].Moved + after.Servers["web3"].Moved; moved != lost {
		t.Errorf("%d chats stand as moved, want %d", moved, lost)
	}
	if lines := story.Lines(); len(lines) == 0 || !strings.Contains(lines[0].Text, "reconnected to web1 and web3") {
		t.Errorf("the story says %+v", lines)
	}
	if err := s.servers[1].Start(); err != nil {
		t.Errorf("start: %v", err)
	}
}

func TestACutChatIsTheBalancersFault(t *testing.T) {
	s := newSite(t, "web1")
	v, _ := s.visitors(t, 3, 0)
	until(t, "3 chats are open", func() bool { return v.Figures().Chats.Open == 3 })
	s.cut()
	until(t, "the cut is counted", func() bool { return v.Figures().Chats.Cut == 3 })
	until(t, "all chats are back", func() bool { f := v.Figures().Chats; return f.Open == 3 && f.Returned == 3 })
}

func TestRequestsAreJudged(t *testing.T) {
	s := newSite(t, "web1")
	v, _ := s.visitors(t, 0, 200)
	kinds := len(wishes())
	until(t, "every kind has been asked for", func() bool { return v.Figures().Requests.Total > 2*kinds })
	if f := v.Figures().Requests; f.Failed != 0 || f.Servers["web1"] == 0 || f.Pace.P99 == 0 {
		t.Errorf("figures of a site that is well: %+v", f)
	}
	s.servers[0].SetFailing(true)
	until(t, "a failure is counted", func() bool { return v.Figures().Requests.Failed > 0 })
	if f := v.Figures().Requests; !strings.Contains(f.LastFailure, "web1 answered 500") {
		t.Errorf("the last failure is %q", f.LastFailure)
	}
}

func TestServer(t *testing.T) {
	s := newSite(t, "web1")
	server := s.servers[0]
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.authority.Roots()}, DisableKeepAlives: true}}
	get := func(path string) (*http.Response, string) {
		t.Helper()
		answer, err := client.Get(strings.TrimSuffix(server.URL(), "/") + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(body)
	}
	post := func(verb string) int {
		t.Helper()
		answer, err := http.Post(server.ControlURL(verb), "", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	health := HealthPath + "?partitionId=1"
	for path, want := range map[string]int{"/": 200, health: 200, HealthPath: 400, "/nothing": 404, "/large": 200, "/chat.js": 200} {
		answer, _ := get(path)
		if answer.StatusCode != want || answer.Header.Get(serverField) != "web1" {
			t.Errorf("GET %s = %d from %q, want %d from web1", path, answer.StatusCode, answer.Header.Get(serverField), want)
		}
	}
	answer, body := get("/")
	cookies := answer.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "JSESSIONID" || !cookies[0].Secure || !cookies[0].HttpOnly || !strings.Contains(body, "<b id=\"page-server\">web1</b>") {
		t.Errorf("the chat's page comes with %v and says %s", cookies, body)
	}
	if got := post("fail"); got != 200 {
		t.Errorf("POST fail = %d", got)
	}
	if answer, _ := get(health); answer.StatusCode != 500 {
		t.Errorf("a failing server's health page is answered %d", answer.StatusCode)
	}
	post("recover")
	if answer, _ := get(health); answer.StatusCode != 200 {
		t.Errorf("a healed server's health page is answered %d", answer.StatusCode)
	}
	post("stop")
	if _, err := client.Get(server.URL()); err == nil {
		t.Error("a stopped server answers")
	}
	post("stop") // does nothing
	if got := post("start"); got != 200 {
		t.Errorf("POST start = %d", got)
	}
	if answer, _ := get(health); answer.StatusCode != 200 {
		t.Errorf("a started server's health page is answered %d", answer.StatusCode)
	}
}

// TestOnlyOwnPages holds the plain listeners against pages of other sites.
func TestOnlyOwnPages(t *testing.T) {
	const own = "127.0.0.1:8088"
	h := onlyOwnPages(own, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	tests := []struct {
		name, method, host, field, value string
		want                             int
	}{
		{"a shell", "POST", own, "", "", http.StatusNoContent},
		{"by name", "GET", "localhost:8088", "", "", http.StatusNoContent},
		{"own page", "POST", own, "Sec-Fetch-Site", "same-origin", http.StatusNoContent},
		{"own page, old browser", "POST", own, "Origin", "http://" + own, http.StatusNoContent},
		{"a name that was turned to us", "GET", "rebound.test:8088", "", "", http.StatusMisdirectedRequest},
		{"another port's page", "POST", own, "Sec-Fetch-Site", "same-site", http.StatusForbidden},
		{"another site's page", "POST", own, "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"another site's page, old browser", "POST", own, "Origin", "https://elsewhere.test", http.StatusForbidden},
		{"a page of no origin", "POST", own, "Origin", "null", http.StatusForbidden},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, "http://"+tt.host+"/", http.NoBody)
		if tt.field != "" {
			r.Header.Set(tt.field, tt.value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: answered %d, want %d", tt.name, w.Code, tt.want)
		}
	}
}

func TestRoom(t *testing.T) {
	var did []string
	refuse := fmt.Errorf("changes are being applied; wait until that is over")
	room := OpenRoom(RoomOptions{
		Listener: listen(t), Names: []string{"web1"}, Changes: 50, Site: "https://127.0.0.1:8444/",
		Hints: []Hint{{"Ask <it>", "curl 'https://127.0.0.1:8444/'"}},
		State: func() State { return State{Servers: []ServerView{{Health: Up}}} },
		Actions: Actions{
			Server: func(_ context.Context, name string, verb Verb) error {
				if name != "web1" {
					return ErrNoServer
				}
				did = append(did, string(verb))
				return nil
			},
			Apply:   func() error { did = append(did, "apply"); return nil },
			LockOut: func() error { return refuse },
			Return:  func() error { did = append(did, "return"); return nil },
		},
	})
	defer room.Close()
	answer, err := http.Get(room.URL())
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if policy := answer.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe") {
		t.Errorf("the page's policy is %q", policy)
	}
	for _, bad := range []string{"style=", "onclick", "<script>", "<style", "https://127.0.0.1:8444/'\""} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("the page holds %q, which its policy forbids", bad)
		}
	}
	token := room.token
	if !bytes.Contains(page, []byte(`<meta name="token" content="`+token+`">`)) || !bytes.Contains(page, []byte("Ask &lt;it&gt;")) {
		t.Error("the page lacks its token, or a hint as text")
	}
	press := func(path, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, strings.TrimSuffix(room.URL(), "/")+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(tokenField, token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for _, verb := range Verbs() {
		if status, body := press("/servers/web1/"+string(verb), token); status != http.StatusOK || !json.Valid([]byte(body)) {
			t.Errorf("%s = %d %s", verb, status, body)
		}
	}
	tests := []struct {
		path, token string
		want        int
		says        string
	}{
		{"/apply", token, http.StatusOK, `"servers":[`},
		{"/return", token, http.StatusOK, `"servers":[`},
		{"/lock-out", token, http.StatusConflict, refuse.Error()},
		{"/servers/web9/stop", token, http.StatusNotFound, ErrNoServer.Error()},
		{"/servers/web1/explode", token, http.StatusNotFound, ""},
		{"/apply", "", http.StatusForbidden, "another run"},
		{"/apply", strings.Repeat("A", len(token)), http.StatusForbidden, "another run"},
	}
	for _, tt := range tests {
		if status, body := press(tt.path, tt.token); status != tt.want || !strings.Contains(body, tt.says) {
			t.Errorf("POST %s = %d %s, want %d with %q", tt.path, status, body, tt.want, tt.says)
		}
	}
	if want := "stop start fail recover drain ready apply return"; strings.Join(did, " ") != want {
		t.Errorf("done: %q, want %q", did, want)
	}
}

func TestStoryIsBounded(t *testing.T) {
	var s Story
	for i := range storyLines + 5 {
		s.Tell(Good, "Done", fmt.Sprint(i))
	}
	lines := s.Lines()
	if len(lines) != storyLines || lines[0].Number != storyLines+5 || lines[0].Text != fmt.Sprint(storyLines+4) {
		t.Errorf("%d lines, the newest %+v", len(lines), lines[0])
	}
}

func TestMeter(t *testing.T) {
	var m meter
	if got := m.pace(); got != (Pace{}) {
		t.Errorf("nothing measured: %+v", got)
	}
	for i := range 100 {
		m.add(time.Duration(i+1) * time.Millisecond)
	}
	if got, want := m.pace(), (Pace{PerSecond: 20, P50: 50, P99: 99}); got != want {
		t.Errorf("pace = %+v, want %+v", got, want)
	}
}
