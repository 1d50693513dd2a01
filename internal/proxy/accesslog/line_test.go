package accesslog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// sample is a request that went well.
func sample() Record {
	return Record{
		Wall:   time.Date(2026, 2, 3, 14, 5, 6, 789_123_456, time.UTC),
		Client: netip.MustParseAddrPort("192.0.2.7:40000"), Frontend: "shop", Bind: "https", Backend: "ece", Server: "ece1",
		Method: []byte("GET"), Target: []byte("/chat/room?token=abc&x"), Host: []byte("shop.example"),
		UserAgent: []byte("curl/8"), Referer: []byte("https://shop.example/?q=secret"), Proto: "HTTP/1.1",
		Status: 200, BytesIn: 120, BytesOut: 3456,
		Request: 1_500_000, Queue: 0, Connect: 2_000_000, Response: 30_250_000, Total: 34_000_000,
		Termination: [4]byte{'-', '-', 'N', 'I'},
		Active:      9, FrontendActive: 8, BackendActive: 7, ServerActive: 6, Retries: 1, Redispatched: true, ServerQueue: 2, BackendQueue: 3,
		Rule: "to_ece", TLSVersion: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: "shop.example", RequestID: []byte("af01"),
	}
}

func TestAppendHTTPLog(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Record)
		redact bool
		want   string
	}{
		{"all", func(r *Record) {}, false, `192.0.2.7:40000 [03/Feb/2026:14:05:06.789] shop~ ece/ece1 1/0/2/30/34 200 3456 - - --NI 9/8/7/6/+1 2/3 "GET /chat/room?token=abc&x HTTP/1.1"`},
		{"redacted", func(r *Record) {}, true, `192.0.2.7:40000 [03/Feb/2026:14:05:06.789] shop~ ece/ece1 1/0/2/30/34 200 3456 - - --NI 9/8/7/6/+1 2/3 "GET /chat/room?token=*&* HTTP/1.1"`},
		{"escaped", func(r *Record) { r.Target = []byte("/a\"b\n#\x7f\xff \\{|}") }, false, `192.0.2.7:40000 [03/Feb/2026:14:05:06.789] shop~ ece/ece1 1/0/2/30/34 200 3456 - - --NI 9/8/7/6/+1 2/3 "GET /a#22b#0A#23#7F#FF \{|} HTTP/1.1"`},
		{"nothing was read", func(r *Record) {
			*r = Record{Wall: r.Wall.In(time.FixedZone("", 3600)), Client: netip.MustParseAddrPort("[2001:db8::1]:5"), Frontend: "shop", Status: 400, Request: -1, Queue: -1, Connect: -1, Response: -1, Termination: [4]byte{'P', 'R'}}
		}, false, `2001:db8::1:5 [03/Feb/2026:15:05:06.789] shop shop/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- 0/0/0/0/0 0/0 "<BADREQ>"`},
		{"nothing at all", func(r *Record) { *r = Record{Wall: r.Wall} }, false, `-:0 [03/Feb/2026:14:05:06.789] - /<NOSRV> 0/0/0/0/0 -1 0 - - ---- 0/0/0/0/0 0/0 "<BADREQ>"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sample()
			tt.change(&r)
			if diff := cmp.Diff(tt.want, string(AppendHTTPLog(nil, &r, tt.redact))); diff != "" {
				t.Errorf("AppendHTTPLog (-want +got):\n%s", diff)
			}
		})
	}
}

// httplogLine takes HAProxy's line apart by the table of its manual, 8.2.3.
var httplogLine = regexp.MustCompile(`^(\S+):(\d+) \[([^\]]+)\] (\S+?)(~?) ([^/ ]+)/(\S+) (-?\d+)/(-?\d+)/(-?\d+)/(-?\d+)/(\d+) (-?\d+) (\d+) - - (....) (\d+)/(\d+)/(\d+)/(\d+)/(\+?)(\d+) (\d+)/(\d+) "(.*)"\n$`)

// HAProxy itself writes lines; each is taken apart and written anew by us.
func TestHTTPLogIsWhatHAProxyWrites(t *testing.T) {
	lines := haproxyLines(t, []string{
		"GET /be?a=b{|}\\ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /be\x22\r\n\r\n",
		"GET /be/" + strings.Repeat("a", 3000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /none HTTP/1.0\r\n\r\n",
		"POST /be/a#23 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"GET http://u:p@x/be HTTP/1.1\r\nHost: x\r\n\r\n",
	})
	for _, line := range lines {
		m := httplogLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("HAProxy wrote a line of another form: %q", line)
			continue
		}
		n := func(i int) int {
			v, err := strconv.Atoi(m[i])
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		ms := func(i int) int64 {
			if m[i] == "-1" {
				return -1
			}
			return int64(n(i)) * 1e6
		}
		wall, err := time.Parse("02/Jan/2006:15:04:05.000", m[3])
		if err != nil {
			t.Fatal(err)
		}
		r := Record{
			Wall: wall, Client: netip.AddrPortFrom(netip.MustParseAddr(m[1]), uint16(n(2))), Frontend: m[4], Backend: m[6], Server: m[7],
			Request: ms(8), Queue: ms(9), Connect: ms(10), Response: ms(11), Total: ms(12), Status: n(13), BytesOut: int64(n(14)), Termination: [4]byte([]byte(m[15])),
			Active: n(16), FrontendActive: n(17), BackendActive: n(18), ServerActive: n(19), Redispatched: m[20] == "+", Retries: n(21), ServerQueue: n(22), BackendQueue: n(23),
		}
		if request := m[24]; request != "<BADREQ>" {
			// What HAProxy escaped is plain again, and what it cut is cut: the same must come out.
			raw := regexp.MustCompile(`#[0-9A-F]{2}`).ReplaceAllStringFunc(request, func(s string) string {
				b, _ := strconv.ParseUint(s[1:], 16, 8)
				return string([]byte{byte(b)})
			})
			method, rest, _ := strings.Cut(raw, " ")
			r.Method, r.Target = []byte(method), []byte(rest)
			if i := strings.LastIndex(rest, " HTTP/"); i >= 0 {
				r.Target, r.Proto = []byte(rest[:i]), rest[i+1:]
			} else if len(raw) != maxRequestLine {
				t.Errorf("HAProxy cut the request at %d bytes, want %d", len(raw), maxRequestLine)
			} else {
				r.Target, r.Proto = append(r.Target, "aaaa"...), "HTTP/1.1" // as it was before
			}
		}
		if got := string(AppendHTTPLog(nil, &r, false)) + "\n"; got != line {
			t.Errorf("our line differs from HAProxy's:\n got %q\nwant %q", got, line)
		}
	}
}

// haproxyLines sends requests through HAProxy and returns its lines, one each.
func haproxyLines(t *testing.T, requests []string) []string {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("needs haproxy")
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\nhello")
			c.Close()
		}
	}()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	inherited, err := front.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	dir := t.TempDir()
	log, err := net.ListenPacket("unixgram", filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	config := fmt.Sprintf(`
global
  log %s len 8192 format raw local0
  maxconn 50
defaults
  mode http
  log global
  option httplog
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend fe
  bind fd@3
  use_backend be if { path_beg /be } || { path_beg http }
backend be
  server s1 %s
`, filepath.Join(dir, "log"), server.Addr())
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	haproxy := exec.Command(program, "-db", "-f", path)
	haproxy.ExtraFiles = []*os.File{inherited}
	haproxy.Stderr = os.Stderr
	if err := haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	defer haproxy.Wait() //nolint:errcheck // it was killed
	defer haproxy.Process.Kill()
	return askForLines(t, front.Addr().String(), log, requests)
}

// askForLines sends each request on a connection of its own and takes its line.
func askForLines(t *testing.T, address string, log net.PacketConn, requests []string) (lines []string) {
	t.Helper()
	buffer := make([]byte, 64<<10)
	for _, request := range requests {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		_ = c.SetDeadline(deadline)
		_ = log.SetDeadline(deadline)
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		c.Close()
		n, _, err := log.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(buffer[:n]))
	}
	return lines
}

func TestAppendJSON(t *testing.T) {
	r := sample()
	want := `{"time":"2026-02-03T14:05:06.789123Z","request_id":"af01","client":"192.0.2.7","client_port":40000,"frontend":"shop","bind":"https","backend":"ece","server":"ece1",` +
		`"method":"GET","host":"shop.example","target":"/chat/room?token=*&*","protocol":"HTTP/1.1","status":200,"rule":"to_ece","bytes_in":120,"bytes_out":3456,` +
		`"request_ms":1.500,"queue_ms":0,"connect_ms":2,"response_ms":30.250,"total_ms":34,"termination":"--NI","active":9,"frontend_active":8,"backend_active":7,"server_active":6,` +
		`"retries":1,"redispatched":true,"server_queue":2,"backend_queue":3,"tls_version":"1.3","cipher":"TLS_AES_128_GCM_SHA256","sni":"shop.example","user_agent":"curl/8","referer":"https://shop.example/?q=*"}`
	if diff := cmp.Diff(want, string(AppendJSON(nil, &r, true))); diff != "" {
		t.Errorf("AppendJSON (-want +got):\n%s", diff)
	}
}

// FuzzAppendJSON compares with encoding/json: whatever a client sends comes out of
// a JSON reader as it went in, and stays one line of printable text.
func FuzzAppendJSON(f *testing.F) {
	f.Add("/a?b=c", "host", "agent\n\x00\x7f\xff\u2028\u0085\"\\", int64(1234567))
	f.Add("", "", "", int64(-1))
	f.Fuzz(func(t *testing.T, target, host, agent string, ns int64) {
		r := Record{Wall: time.Unix(1, 0), Target: []byte(target), Host: []byte(host), UserAgent: []byte(agent), SNI: agent, Total: ns}
		line := AppendJSON([]byte("before"), &r, false)
		line = bytes.TrimPrefix(line, []byte("before"))
		if i := bytes.IndexFunc(line, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 }); i >= 0 || !utf8.Valid(line) {
			t.Fatalf("unprintable at %d in %q", i, line)
		}
		var got struct {
			Target, Host, SNI string
			UserAgent         string  `json:"user_agent"`
			Total             float64 `json:"total_ms"`
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		twin := func(s string) (back string) {
			b, _ := json.Marshal(s)
			_ = json.Unmarshal(b, &back)
			return back
		}
		if got.Target != twin(target) || got.Host != twin(host) || got.UserAgent != twin(agent) || got.SNI != twin(agent) {
			t.Errorf("%q became %q", []string{target, host, agent}, line)
		}
		if want := float64(max(ns, 0)/1000) / 1000; got.Total != want {
			t.Errorf("%d ns became %v ms, want %v", ns, got.Total, want)
		}
		if http := AppendHTTPLog(nil, &r, false); bytes.ContainsFunc(http, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
			t.Errorf("unprintable in %q", http)
		}
	})
}

func TestAppendRedacted(t *testing.T) {
	for in, want := range map[string]string{
		"/":                           "/",
		"*":                           "*",
		"":                            "",
		"/a/b":                        "/a/b",
		"/a?":                         "/a?",
		"/a?x=1&y=&z=2=3":             "/a?x=*&y=&z=*",
		"/a?opaque":                   "/a?*",
		"/a?x=1;y=2":                  "/a?x=*;y=*",
		"/a?x=1?y=2#z=3":              "/a?x=*?y=*#z=*",
		"/a?&&":                       "/a?&&",
		"/a;jsessionid=7F/b;v;w=1?q":  "/a;jsessionid=*/b;*;w=*?*",
		"http://u:p@h/x?y=z":          "http://*@h/x?y=*",
		"http://u@h@i/x":              "http://*@i/x",
		"http://h/x@y":                "http://h/x@y",
		"https://h":                   "https://h",
		"/x?next=http://u:p@h/":       "/x?next=*",
		"/redirect/http://u:p@h/":     "/redirect/http://u:p@h/",
		"h:443":                       "h:443",
		"https://shop.example/a#frag": "https://shop.example/a#*",
	} {
		if got := string(appendRedacted(nil, []byte(in))); got != want {
			t.Errorf("appendRedacted(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzAppendRedacted(f *testing.F) {
	f.Add("/a;b=c?d=e", "value")
	f.Fuzz(func(t *testing.T, s, value string) {
		once := appendRedacted(nil, []byte(s))
		if twice := appendRedacted(nil, once); len(once) > len(s) || !bytes.Equal(once, twice) {
			t.Errorf("%q became %q, then %q", s, once, twice)
		}
		plain := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return -1
		}, value)
		if plain == "" {
			return
		}
		if got := appendRedacted(nil, []byte("/?SECRET="+plain+"&x;y="+plain)); bytes.Contains(got[9:], []byte(plain)) && plain != "y" && plain != "x" {
			t.Errorf("%q shows in %q", plain, got)
		}
	})
}

func TestLinesAllocateNothing(t *testing.T) {
	r := sample()
	buffer := make([]byte, 0, 8<<10)
	for name, f := range map[string]func(){
		"json":              func() { AppendJSON(buffer, &r, false) },
		"json, redacted":    func() { AppendJSON(buffer, &r, true) },
		"httplog":           func() { AppendHTTPLog(buffer, &r, false) },
		"httplog, redacted": func() { AppendHTTPLog(buffer, &r, true) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkLines(b *testing.B) {
	r := sample()
	buffer := make([]byte, 0, 8<<10)
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			AppendJSON(buffer, &r, true)
		}
	})
	b.Run("httplog", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			AppendHTTPLog(buffer, &r, true)
		}
	})
}

// BenchmarkRecord is the whole way of a record: the loop's part and the log
// goroutine's.
func BenchmarkRecord(b *testing.B) {
	g, err := New(Options{Sink: Sink{Writer: nullWriter{}}})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	w := g.Writer()
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		if !w.Append(JSON, &r, true) {
			_ = g.Flush()
		}
	}
}
