package migrate

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"
)

// Each case is a request to a real HAProxy with the exported document, and what
// must come of it (HAProxy writes the names of fields in lower case): what the document's own rules say, not what HAProxy's order of
// directives would make of them.

const liveDocument = `
format: 1
aliases: [{name: here, type: network, entries: [127.0.0.0/8]}]
error_pages: [{name: sorry, content_type: text/x-page, body: "sorry {status} {reason}, \"100%\"\n"}]
load_balancer: {max_connections: 100, stats: {port: 0}}
frontends:
  - name: site
    binds: [{name: http, address: 127.0.0.1, port: 9}]
    acls:
      - {name: a, match: header, field: X-A, present: true}
      - {name: b, match: header, field: X-B, is: [one, "two, three"]}
      - {name: c, match: query_parameter, field: "c'(,)", is: ["it's \"\\ #1"]}
      - {name: d, match: path, starts: [/d], regex: ["^/x{2,3}$"]}
      - {name: e, match: cookie, field: e, is: [ok]}
      - {name: here, match: source, in: ["alias:here"]}
      - {name: host, match: host, is: [site.example.net], any_port: true}
      - {name: port-host, match: host, is: ["site.example.net:8080"]}
      - {name: some, match: usable_servers, backend: main, at_least: 1}
      - {name: to-other, match: path, is: [/other]}
      - {name: segment, match: path, segments: [seg]}
      - {name: denied, match: path, starts: [/denied]}
      - {name: edit, match: path, starts: [/edit]}
      - {name: login, match: path, is: [/login]}
      - {name: redirect, match: path, starts: [/redirect]}
      - {name: relative, match: path, is: [/relative, //evil.example.net]}
    rules:
      - {name: other, when: to-other or (segment and not a), use_backend: other}
      - {name: deny, when: denied or to-other, deny: {status: 451}}
      - {name: login, when: login, authenticate: {realm: r, users: [{name: bob smith, password: "s'e c\"r$t#"}]}}
      - {name: redirect, when: redirect, redirect: {scheme: https, code: 301}}
      - {name: relative, when: relative, redirect: {drop_query: true}}
      - {name: one, when: a and b, set_header: {of: request, field: X-One, value: "{source} {host} {path} {frontend} {scheme} {x} 100% a  b \"'\\ ${HOME} #"}}
      - {name: two, when: (a or b) and (c or d) and (e or not here), add_header: {of: request, field: X-Two, value: "%[env(HOME)]"}}
      - {name: three, when: not (a or b or c or d or e) and host, set_header: {of: request, field: X-Three, value: host}}
      - {name: four, when: port-host and some, set_header: {of: request, field: X-Four, value: port}}
      - {name: answer, when: a, set_header: {of: response, field: X-Answer, value: "{backend} {server} {host} {path}"}}
      - {name: no-server, remove_header: {of: response, field: X-Origin}}
      - {name: replace-answer, when: b, replace_header: {of: response, field: X-Words, find: "o(.)", with: "[$1]"}}
      - {name: replace, replace_header: {of: request, field: X-Words, find: "(?P<first>[a-c])(.)", with: "${first}\\$2$$\"%"}}
      - {name: edit-path, when: edit, replace_path: {find: "/edit", with: "/edited"}}
      - {name: edit-query, when: edit and a, set_query: "n=%20&x"}
      - {name: drop-query, when: edit and not a, set_query: "?"}
      - {name: set-method, when: edit, set_method: PUT}
    default_backend: main
    log: {enabled: false}
    error_pages: [{name: sorry, codes: [503], page: sorry}]
    limits: {body_size: 10B}
backends:
  - name: main
    servers: [{name: m1, address: 127.0.0.1, port: 1}, {name: m2, address: 127.0.0.1, port: 1}]
    acls: [{name: second, match: path, is: [/second]}, {name: tag, match: path, is: [/tag, /second]}]
    rules:
      - {name: second, when: second, use_server: m2}
      - {name: tag, when: tag, set_header: {of: request, field: X-Tag, value: "{backend}"}}
    secure_cookies: true
    persistence: {cookie: {name: L, mode: insert, indirect: true, same_site: lax}}
  - name: other
    servers: [{name: o1, address: 127.0.0.1, port: 1}]
  - name: empty
`

func TestLive(t *testing.T) {
	site := startHAProxy(t, liveDocument)
	has := func(want ...string) func(string) string {
		return func(got string) string {
			for _, w := range want {
				if no, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(got, strings.TrimPrefix(w, "!")) {
					return fmt.Sprintf("want %q (not: %v) in", no, ok)
				}
			}
			return ""
		}
	}
	for _, tt := range []struct {
		name    string
		target  string
		fields  string // header fields of the request, each with CRLF
		want    func(string) string
		request string // the whole request in place of target and fields
	}{
		{"plain", "/", "", has("200", "origin m", "X-Three: host", "X-Forwarded-For: 127.0.0.1\n", "X-Forwarded-Proto: http\n", "X-Forwarded-Host: site.example.net\n", "!X-One", "!X-Two", "!x-origin:", "set-cookie: L=m"), ""},
		{"forged", "/", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Host: x\r\n", has("!6.6.6.6", "!X-Forwarded-Host: x", "X-Forwarded-Port: "), ""},
		{"text with all signs", "/p", "X-A: 1\r\nX-B: one\r\n", has("X-One: 127.0.0.1 site.example.net /p site http {x} 100% a  b \"'\\ ${HOME} #\n"), ""},
		{"list member", "/", "X-A: 1\r\nX-B: zero, one\r\n", has("X-One"), ""},
		{"list as a whole", "/", "X-A: 1\r\nX-B: two, three\r\n", has("X-One"), ""},
		{"list, other order", "/", "X-A: 1\r\nX-B: three, two\r\n", has("!X-One"), ""},
		{"nested condition, regex", "/xxx", "X-A: 1\r\nCookie: e=ok\r\n", has("X-Two: %[env(HOME)]\n"), ""},
		{"nested condition fails", "/xxx", "X-A: 1\r\nCookie: e=no\r\n", has("!X-Two"), ""},
		{"parameter with signs", "/?c'(,)=it's%20x", "X-A: 1\r\nCookie: e=ok\r\n", has("!X-Two"), ""},
		{"host with a port", "", "", has("X-Four: port", "X-Three: host"), "GET / HTTP/1.1\r\nHost: SITE.example.net.:8080\r\nConnection: close\r\n\r\n"},
		{"use_backend before deny", "/other", "", has("200", "origin o1"), ""},
		{"segment", "/x/seg/y", "", has("origin o1"), ""},
		{"segment, but a", "/x/seg/y", "X-A: 1\r\n", has("origin m"), ""},
		{"deny with a status that HAProxy has no page for", "/denied", "", has("HTTP/1.1 451", "451 Unavailable For Legal Reasons"), ""},
		{"not logged in", "/login", "", has("401", `www-authenticate: Basic realm="r"`), ""},
		{"logged in", "/login", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(`bob smith:s'e c"r$t#`)) + "\r\n", has("200"), ""},
		{"wrong password", "/login", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(`bob smith:x`)) + "\r\n", has("401"), ""},
		{"redirect without the port", "", "", has("HTTP/1.1 301", "ocation: https://site.example.net/redirect?a=b&c=%20\n"), "GET /redirect?a=b&c=%20 HTTP/1.1\r\nHost: site.example.net:8080\r\nConnection: close\r\n\r\n"},
		{"redirect that drops the query", "/relative?x", "", has("HTTP/1.1 302", "ocation: http://site.example.net/relative\n"), ""},
		{"no redirect to another host", "//evil.example.net?x", "", has("ocation: http://site.example.net//evil.example.net\n"), ""},
		{"answer", "/edit/a?q", "X-A: 1\r\n", has("x-answer: main m", " site.example.net /edit/a\n"), ""},
		{"answer, not held", "/", "", has("!x-answer"), ""},
		{"replace in the answer", "/", "X-B: one\r\n", has("x-words: f[o][ ]b[r]\n"), ""},
		{"not replaced in the answer", "/", "", has("x-words: fooo bor\n"), ""},
		{"replace", "/", "X-Words: axby cz d\r\n", has(`X-Words: a\x$"%b\y$"% c\z$"% d` + "\n"), ""},
		{"nothing to replace", "/", "", has("!X-Words"), ""},
		{"edit path, query, method", "/edit/a?old", "X-A: 1\r\n", has("PUT /edited/a?n=%20&x HTTP/1.1\n"), ""},
		{"drop the query", "/edit/a?old", "", has("PUT /edited/a HTTP/1.1\n"), ""},
		{"use_server", "/second", "Cookie: L=m1\r\n", has("origin m2", "!X-Tag"), ""},
		{"tag", "/tag", "", has("X-Tag: main\n"), ""},
		{"bound by the cookie, which is hidden", "/", "Cookie: x=1; L=m2; y=2\r\n", has("origin m2", "Cookie: x=1; y=2\n", "!set-cookie: L"), ""},
		{"body too large", "", "", has("HTTP/1.1 413"), "POST / HTTP/1.1\r\nHost: site.example.net\r\nContent-Length: 11\r\nConnection: close\r\n\r\n12345678901"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			request := tt.request
			if request == "" {
				request = "GET " + tt.target + " HTTP/1.1\r\nHost: site.example.net\r\nConnection: close\r\n" + tt.fields + "\r\n"
			}
			got := site.send(t, request)
			if said := tt.want(got); said != "" {
				t.Errorf("%s\n%s\nof %q", said, got, request)
			}
		})
	}
	site.origins["m1"].Close()
	site.origins["m2"].Close()
	if got := site.send(t, "GET / HTTP/1.1\r\nHost: site.example.net\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "503") || !strings.Contains(got, "content-type: text/x-page\n") || !strings.Contains(got, "sorry 503 Service Unavailable, \"100%\"\n") {
		t.Errorf("no server, and the page is:\n%s", got)
	}
}

type liveSite struct {
	address string
	origins map[string]*httptest.Server
}

func (s *liveSite) send(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(c))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(answer), "\r\n", "\n")
}

// startHAProxy runs HAProxy with a document on an inherited socket, before servers
// that tell what they were asked.
func startHAProxy(t *testing.T, document string) *liveSite {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("needs haproxy")
	}
	doc, problems := config.Decode([]byte(document))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	site := &liveSite{origins: map[string]*httptest.Server{}}
	for i := range doc.Backends {
		for j := range doc.Backends[i].Servers {
			s := &doc.Backends[i].Servers[j]
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Origin", "secret")
				w.Header().Set("X-Words", "fooo bor")
				fmt.Fprintf(w, "origin %s\n%s %s %s\n", s.Name, r.Method, r.RequestURI, r.Proto)
				_ = r.Header.Write(w)
			}))
			t.Cleanup(origin.Close)
			site.origins[s.Name] = origin
			s.Port = uint16(origin.Listener.Addr().(*net.TCPAddr).Port)
		}
	}
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
	site.address = front.Addr().String()
	dir := t.TempDir()
	exported := HAProxy(doc, HAProxyOptions{CertificateDir: dir})
	for name, content := range exported.Files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(string(exported.Config), "bind 127.0.0.1:9 ", "bind fd@3 ", 1)
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	haproxy := exec.Command(program, "-db", "-f", path)
	haproxy.ExtraFiles = []*os.File{inherited}
	var said strings.Builder
	haproxy.Stderr = &said
	if err := haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = haproxy.Process.Kill()
		_ = haproxy.Wait()
		if t.Failed() {
			t.Logf("%s\nHAProxy said:\n%s", text, said.String())
		}
	})
	return site
}
