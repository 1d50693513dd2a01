package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/proxy/message"
)

// told lines: what a parsed head is, one fact a line, for reading side by side.
func tellRequest(r *message.Request) string {
	s := fmt.Sprintf("%s %s path=%s query=%s,%v authority=%s minor=%d body=%s", r.Method, r.Target, r.Path, r.Query, r.HasQuery, r.Authority, r.Minor, tellBody(r.Body))
	for _, f := range []struct {
		name string
		is   bool
	}{{"keep", r.KeepAlive}, {"expect", r.Expect100}, {"trailers", r.Trailers}, {"upgrade=" + string(r.Upgrade), r.Upgrade != nil}, {"websocket", r.WebSocket}} {
		if f.is {
			s += " " + f.name
		}
	}
	return s + tellFields(r.Fields)
}

func tellResponse(r *message.Response) string {
	s := fmt.Sprintf("%d %q minor=%d body=%s", r.Status, r.Reason, r.Minor, tellBody(r.Body))
	if r.KeepAlive {
		s += " keep"
	}
	if r.Upgrade != nil {
		s += " upgrade=" + string(r.Upgrade)
	}
	return s + tellFields(r.Fields)
}

func tellFields(fields []message.Field) (s string) {
	for _, f := range fields {
		if len(f.Name) > 0 {
			s += fmt.Sprintf("\n%s: %s", f.Name, f.Value)
		}
	}
	return s
}

func tellBody(b message.Body) string {
	switch b.Kind {
	case message.Sized:
		return fmt.Sprint(b.Length)
	case message.Chunked:
		return "chunked"
	case message.UntilClose:
		return "until-close"
	}
	return "none"
}

func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

// What is understood of a request, and what is written of it.
func TestRequest(t *testing.T) {
	cases := []struct{ name, input, told, written string }{
		{
			"plain (RFC 9112 3)",
			lines("GET /a?b HTTP/1.1", "Host: a.example:8080", "Accept:*/*", "X-Empty:", "X-Tab:\tc", "X-Space: \t a\tb \t "),
			"GET /a?b path=/a query=b,true authority=a.example:8080 minor=1 body=none keep\nHost: a.example:8080\nAccept: */*\nX-Empty: \nX-Tab: c\nX-Space: a\tb",
			lines("GET /a?b HTTP/1.1", "Host: a.example:8080", "Accept: */*", "X-Empty: ", "X-Tab: c", "X-Space: a\tb"),
		},
		{
			"empty line first (RFC 9112 2.2)",
			"\r\n" + lines("POST / HTTP/1.1", "Host: a", "Content-Length: 007"),
			"POST / path=/ query=,false authority=a minor=1 body=7 keep\nHost: a",
			lines("POST / HTTP/1.1", "Host: a", "Content-Length: 7"),
		},
		{
			"unknown method (RFC 9110 9.1), odd but visible bytes in the target",
			lines(`BREW-2 /a|"b"<c>\^{d}`+"` HTTP/1.1", "X: 1", "host: [2001:db8::1]:443", "y: \xe9"),
			"BREW-2 /a|\"b\"<c>\\^{d}` path=/a|\"b\"<c>\\^{d}` query=,false authority=[2001:db8::1]:443 minor=1 body=none keep\nX: 1\nhost: [2001:db8::1]:443\ny: \xe9",
			lines(`BREW-2 /a|"b"<c>\^{d}`+"` HTTP/1.1", "Host: [2001:db8::1]:443", "X: 1", "y: \xe9"),
		},
		{
			"minor version above ours (RFC 9110 2.5), empty Host (RFC 9112 3.3)",
			lines("GET // HTTP/1.9", "Host:"),
			"GET // path=// query=,false authority= minor=1 body=none keep\nHost: ",
			lines("GET // HTTP/1.1", "Host: "),
		},
		{
			"absolute target replaces Host (RFC 9112 3.2.2)",
			lines("GET http://B.example:81/x?y HTTP/1.1", "Host: a"),
			"GET /x?y path=/x query=y,true authority=B.example:81 minor=1 body=none keep\nHost: B.example:81",
			lines("GET /x?y HTTP/1.1", "Host: B.example:81"),
		},
		{
			"absolute target without path (RFC 9112 3.2.1)",
			lines("GET HTTPS://b HTTP/1.1", "Host: b"),
			"GET / path=/ query=,false authority=b minor=1 body=none keep\nHost: b",
			lines("GET / HTTP/1.1", "Host: b"),
		},
		{
			"absolute target with a query alone, HTTP/1.0 without Host",
			lines("GET http://b?c HTTP/1.0"),
			"GET /?c path=/ query=c,true authority=b minor=0 body=none\nHost: b",
			lines("GET /?c HTTP/1.1", "Host: b"),
		},
		{
			"absolute OPTIONS without path (RFC 9112 3.2.4)",
			lines("OPTIONS http://b HTTP/1.1", "Host: b"),
			"OPTIONS * path=* query=,false authority=b minor=1 body=none keep\nHost: b",
			lines("OPTIONS * HTTP/1.1", "Host: b"),
		},
		{
			"HTTP/1.0 without Host (RFC 9112 3.2)",
			lines("GET / HTTP/1.0", "Connection: Keep-Alive"),
			"GET / path=/ query=,false authority= minor=0 body=none keep",
			lines("GET / HTTP/1.1", "Host: "),
		},
		{
			"fields that Connection names (RFC 9110 7.6.1)",
			lines("POST / HTTP/1.1", "X-A: 1", "Host: a", "Connection: close, x-a,, X-Forwarded-For", "x-forwarded-for: 1",
				"Connection: Host, Content-Length, Transfer-Encoding, X-B", "Content-Length: 3", "X-B: 1", "X-C: 1", "X-b: 2"),
			"POST / path=/ query=,false authority=a minor=1 body=3\nHost: a\nX-C: 1",
			lines("POST / HTTP/1.1", "Host: a", "X-C: 1", "Content-Length: 3"),
		},
		{
			"fields of the hop (RFC 9110 7.6.1, 10.1.4)",
			lines("GET / HTTP/1.1", "Host: a", "Keep-Alive: 5", "Proxy-Connection: close", "TE: gzip;q=0.5, trailers", "Connection: TE", "Upgrade: foo"),
			"GET / path=/ query=,false authority=a minor=1 body=none keep trailers\nHost: a",
			lines("GET / HTTP/1.1", "Host: a", "Connection: TE", "TE: trailers"),
		},
		{
			"chunked in odd case, with a GET",
			lines("GET / HTTP/1.1", "Host: a", "transfer-ENCODING: \tChunKed "),
			"GET / path=/ query=,false authority=a minor=1 body=chunked keep\nHost: a",
			lines("GET / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"),
		},
		{
			"WebSocket (RFC 6455 4.1)",
			lines("GET /c HTTP/1.1", "Host: a", "Upgrade: WebSocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Key: x"),
			"GET /c path=/c query=,false authority=a minor=1 body=none keep upgrade=WebSocket websocket\nHost: a\nSec-WebSocket-Key: x",
			lines("GET /c HTTP/1.1", "Host: a", "Sec-WebSocket-Key: x", "Connection: Upgrade", "Upgrade: WebSocket"),
		},
		{
			"an upgrade to WebSocket, but not as RFC 6455 4.1 has it",
			lines("POST / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: upgrade"),
			"POST / path=/ query=,false authority=a minor=1 body=none keep upgrade=websocket\nHost: a",
			lines("POST / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"),
		},
		{
			"h2c is not passed on (RFC 9113 3.1)",
			lines("GET / HTTP/1.1", "Host: a", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ", "Connection: Upgrade, HTTP2-Settings"),
			"GET / path=/ query=,false authority=a minor=1 body=none keep\nHost: a",
			lines("GET / HTTP/1.1", "Host: a"),
		},
		{
			"of several protocols the first that is not HTTP or TLS",
			lines("GET / HTTP/1.1", "Host: a", "Upgrade: h2c, TLS/1.0, websocket, HTTP/2.0, foo/2", "Connection: upgrade"),
			"GET / path=/ query=,false authority=a minor=1 body=none keep upgrade=websocket websocket\nHost: a",
			lines("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"),
		},
		{
			"Upgrade with a body is ignored (RFC 9110 7.8)",
			lines("GET / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: upgrade", "Content-Length: 1"),
			"GET / path=/ query=,false authority=a minor=1 body=1 keep\nHost: a",
			lines("GET / HTTP/1.1", "Host: a", "Content-Length: 1"),
		},
		{
			"Upgrade in HTTP/1.0 is ignored (RFC 9110 7.8)",
			lines("GET / HTTP/1.0", "Host: a", "Upgrade: websocket", "Connection: upgrade"),
			"GET / path=/ query=,false authority=a minor=0 body=none\nHost: a",
			lines("GET / HTTP/1.1", "Host: a"),
		},
		{
			"Expect (RFC 9110 10.1.1)",
			lines("PUT / HTTP/1.1", "Host: a", "Expect: 100-Continue", "Content-Length: 1"),
			"PUT / path=/ query=,false authority=a minor=1 body=1 keep expect\nHost: a\nExpect: 100-Continue",
			lines("PUT / HTTP/1.1", "Host: a", "Expect: 100-Continue", "Content-Length: 1"),
		},
		{
			"Expect in HTTP/1.0 is ignored, a Content-Length of 0 kept",
			lines("PUT / HTTP/1.0", "Expect: 100-continue", "Content-Length: 0"),
			"PUT / path=/ query=,false authority= minor=0 body=0",
			lines("PUT / HTTP/1.1", "Host: ", "Content-Length: 0"),
		},
	}
	var r message.Request
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n, err := ParseRequest([]byte(c.input+"rest"), &r, nil)
			if n != len(c.input) || err != nil || r.HeadSize != n {
				t.Fatalf("n = %d of %d, %s", n, len(c.input), told(err))
			}
			if diff := cmp.Diff(c.told, tellRequest(&r)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.written, string(AppendRequest(nil, &r))); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			for i := range c.input {
				if n, err := ParseRequest([]byte(c.input[:i]), &r, nil); n != 0 || err != nil {
					t.Fatalf("%d bytes of it: n = %d, %s", i, n, told(err))
				}
			}
		})
	}
}

// What is understood of a response, and what is written of it for clients of
// HTTP/1.1 that go on.
func TestResponse(t *testing.T) {
	cases := []struct {
		name    string
		method  message.Method
		input   string
		told    string
		written string
	}{
		{
			"sized", message.GET,
			lines("HTTP/1.1 200 OK", "Content-Length: 5", "Connection: x-a, keep-alive", "X-A: 1", "Keep-Alive: timeout=5", "A: b"),
			`200 "OK" minor=1 body=5 keep` + "\nA: b", lines("HTTP/1.1 200 OK", "A: b", "Content-Length: 5"),
		},
		{
			"chunked, no phrase", message.GET,
			lines("HTTP/1.1 200 ", "Transfer-Encoding: chunked", "Trailer: a"),
			`200 "" minor=1 body=chunked keep` + "\nTrailer: a", lines("HTTP/1.1 200 ", "Trailer: a", "Transfer-Encoding: chunked"),
		},
		{
			"no space behind the status, until close with keep-alive (RFC 9112 6.3 rule 8)", message.GET,
			lines("HTTP/1.1 404", "Connection: keep-alive"),
			`404 "" minor=1 body=until-close`, lines("HTTP/1.1 404 ", "Connection: close"),
		},
		{
			"HTTP/1.0 closes", message.GET,
			lines("HTTP/1.0 200 OK", "Content-Length: 0"),
			`200 "OK" minor=0 body=0`, lines("HTTP/1.1 200 OK", "Content-Length: 0"),
		},
		{
			"HTTP/1.0 with keep-alive", message.GET,
			lines("HTTP/1.0 200 Caf\xe9", "Content-Length: 1", "Connection: Keep-Alive"),
			"200 \"Caf\\xe9\" minor=0 body=1 keep", lines("HTTP/1.1 200 Caf\xe9", "Content-Length: 1"),
		},
		{
			"HEAD keeps the length (RFC 9110 8.6)", message.HEAD,
			lines("HTTP/1.1 200 OK", "content-length: 500", "A: b"),
			`200 "OK" minor=1 body=none keep` + "\nA: b\ncontent-length: 500", lines("HTTP/1.1 200 OK", "A: b", "content-length: 500"),
		},
		{
			"HEAD with chunked (RFC 9112 6.1)", message.HEAD,
			lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"),
			`200 "OK" minor=1 body=none keep`, lines("HTTP/1.1 200 OK"),
		},
		{
			"304 (RFC 9112 6.3 rule 1)", message.GET,
			lines("HTTP/1.1 304 Not Modified", "Content-Length: 7", "ETag: x"),
			`304 "Not Modified" minor=1 body=none keep` + "\nETag: x\nContent-Length: 7", lines("HTTP/1.1 304 Not Modified", "ETag: x", "Content-Length: 7"),
		},
		{
			"204 with a length must not be gone on with (RFC 9110 8.6)", message.GET,
			lines("HTTP/1.1 204 No Content", "Content-Length: 7"),
			`204 "No Content" minor=1 body=none`, lines("HTTP/1.1 204 No Content"),
		},
		{
			"204", message.GET, lines("HTTP/1.1 204 No Content", "Content-Length: 0"),
			`204 "No Content" minor=1 body=none keep`, lines("HTTP/1.1 204 No Content"),
		},
		{
			"103", message.GET, lines("HTTP/1.1 103 Early Hints", "Link: </a>"),
			`103 "Early Hints" minor=1 body=none keep` + "\nLink: </a>", lines("HTTP/1.1 103 Early Hints", "Link: </a>"),
		},
		{
			"100 with chunked", message.GET, lines("HTTP/1.1 100 Continue", "Transfer-Encoding: chunked"),
			`100 "Continue" minor=1 body=none`, lines("HTTP/1.1 100 Continue"),
		},
		{
			"101", message.GET, lines("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: x"),
			`101 "Switching Protocols" minor=1 body=none upgrade=websocket` + "\nSec-WebSocket-Accept: x",
			lines("HTTP/1.1 101 Switching Protocols", "Sec-WebSocket-Accept: x", "Connection: Upgrade", "Upgrade: websocket"),
		},
		{
			"426 says what it wants, others do not advertise", message.GET,
			lines("HTTP/1.1 426 Upgrade Required", "Upgrade: h2c, foo/1", "Connection: Upgrade", "Content-Length: 0"),
			`426 "Upgrade Required" minor=1 body=0 keep upgrade=foo/1`,
			lines("HTTP/1.1 426 Upgrade Required", "Content-Length: 0", "Connection: Upgrade", "Upgrade: foo/1"),
		},
		{
			"h2c advertised", message.GET, lines("HTTP/1.1 200 OK", "Upgrade: h2,h2c", "Connection: Upgrade", "Content-Length: 0"),
			`200 "OK" minor=1 body=0 keep`, lines("HTTP/1.1 200 OK", "Content-Length: 0"),
		},
	}
	var r message.Response
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n, err := ParseResponse([]byte(c.input+"rest"), &r, c.method, nil)
			if n != len(c.input) || err != nil || r.HeadSize != n {
				t.Fatalf("n = %d of %d, %s", n, len(c.input), told(err))
			}
			if diff := cmp.Diff(c.told, tellResponse(&r)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.written, string(AppendResponse(nil, &r, 1, true))); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

// How the connection's future is told to each kind of client (RFC 9112 9.3, 9.6).
func TestAppendResponseConnection(t *testing.T) {
	f := func(body message.Body, minor uint8, keep bool, want ...string) {
		t.Helper()
		r := &message.Response{Status: 503, Body: body}
		got := string(AppendResponse(nil, r, minor, keep))
		if want := lines(append([]string{"HTTP/1.1 503 Service Unavailable"}, want...)...); got != want {
			t.Errorf("body %s, HTTP/1.%d, keep %v: %q, want %q", tellBody(body), minor, keep, got, want)
		}
	}
	f(sized(2), 1, true, "Content-Length: 2")
	f(sized(2), 1, false, "Content-Length: 2", "Connection: close")
	f(sized(2), 0, true, "Content-Length: 2", "Connection: keep-alive")
	f(sized(2), 0, false, "Content-Length: 2", "Connection: close")
	f(chunkedBody, 1, true, "Transfer-Encoding: chunked")
	f(chunkedBody, 0, true, "Connection: close")
	f(closedBody, 1, true, "Connection: close")
}

// What somebody puts into Fields cannot touch the framing.
func TestFieldsCannotFrame(t *testing.T) {
	r := &message.Request{Method: []byte("POST"), Target: []byte("/"), Authority: []byte("a"), Body: sized(1)}
	a := &message.Response{Status: 200, Body: sized(1)}
	for _, name := range []string{"content-length", "Transfer-Encoding", "CONNECTION", "Upgrade", "TE", "Keep-Alive", "Proxy-Connection", "HTTP2-Settings"} {
		r.Add([]byte(name), []byte("5"))
		a.Add([]byte(name), []byte("5"))
	}
	if got, want := string(AppendRequest(nil, r)), lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1"); got != want {
		t.Errorf("request %q, want %q", got, want)
	}
	if got, want := string(AppendResponse(nil, a, 1, true)), lines("HTTP/1.1 200 OK", "Content-Length: 1"); got != want {
		t.Errorf("response %q, want %q", got, want)
	}
}

// A field that was edited is written as edited, also where its new value has the
// length of the old one, which still stands in the buffer.
func TestEditedIsWritten(t *testing.T) {
	var r message.Request
	if _, err := ParseRequest([]byte(lines("GET / HTTP/1.1", "Host: a", "Cookie: x=1; y=2", "B: c")), &r, nil); err != nil {
		t.Fatal(told(err))
	}
	r.Set([]byte("cookie"), []byte("x=3; y=4"))
	r.Set([]byte("Host"), []byte("b"))
	r.Add([]byte("D"), []byte("e"))
	r.RemoveName("b")
	if got, want := string(AppendRequest(nil, &r)), lines("GET / HTTP/1.1", "Host: b", "Cookie: x=3; y=4", "D: e"); got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestAuthorityForms(t *testing.T) {
	good := "a|a.b.|a_b|127.0.0.1:80|a:|a:65535|[::]|[::1]:443|[1:2:3:4:5:6:7:8]|[1::8]|[1::]|[::ffff:1.2.3.4]|[1:2:3:4:5:6:1.2.3.4]|[::1.2.3.4]|x%20y|a-b~c!$&'()*+;=d|[1:2:3:4:5:6:7::]|[::2:3:4:5:6:7:8]"
	for _, a := range strings.Split(good, "|") {
		if !validAuthority([]byte(a)) {
			t.Errorf("%q is refused", a)
		}
	}
	bad := "|:|:80|a:b|a:-1|a:000080|a b|a,b|a/|a?|a#|a\\b|\"a\"|<a>|a@b|a%|a%2|a%zz|[|[]|[]:80|[:]|[:::]|[1]|[::1]x|[::1|[1:2:3:4:5:6:7]|[1:2:3:4:5:6:7:8:9]|[1::2::3]|[12345::]|[g::]|[::1%25e]|[v1.a]|[:1:2:3:4:5:6:7]|[1:2:3:4:5:6:7:]|[1:2:3:4:5:6:7:8::]|[::1.2.3]|[::1.2.3.256]|[::01.2.3.4]|[1.2.3.4]|[1:2:3:4:5:6:7:1.2.3.4]|[::1.2.3.4:5]|[::1.2.3.4.]|[1:2:3:4:5:6:7:8:]"
	for _, a := range strings.Split(bad, "|") {
		if validAuthority([]byte(a)) {
			t.Errorf("%q is taken", a)
		}
	}
}

// Limits hold at their very byte.
func TestLimits(t *testing.T) {
	var r message.Request
	head := lines("GET /12345 HTTP/1.1", "Host: a", "B: c")
	exact := &Limits{Head: len(head), Line: len("/12345"), Fields: 2}
	if n, err := ParseRequest([]byte("\r\n"+head+"rest"), &r, exact); n != len(head)+2 || err != nil {
		t.Errorf("at its limits: n = %d, %s", n, told(err))
	}
	for i := range len(head) + 2 {
		if n, err := ParseRequest([]byte("\r\n" + head)[:i:i], &r, exact); n != 0 || err != nil {
			t.Errorf("%d bytes at its limits: n = %d, %s", i, n, told(err))
		}
	}
	f := func(lim Limits, want Reason) {
		t.Helper()
		_, err := ParseRequest([]byte(head), &r, &lim)
		if err == nil || err.Reason != want {
			t.Errorf("%+v: %s, want %q", lim, told(err), want)
		}
	}
	f(Limits{Head: exact.Head - 1}, HeadTooLarge)
	f(Limits{Head: 10}, TargetTooLong)
	f(Limits{Line: exact.Line - 1}, TargetTooLong)
	f(Limits{Fields: 1}, TooManyFields)
}

// Unfinished lets nobody miss a change: where it says so, parsing would find
// nothing new.
func TestUnfinished(t *testing.T) {
	var r message.Request
	for _, c := range refusedRequests {
		seen := 0
		for i := 1; i <= min(len(c.input), 2000); i++ {
			n, err := ParseRequest([]byte(c.input[:i]), &r, nil)
			if Unfinished([]byte(c.input[:i]), seen, nil) && n > 0 {
				t.Fatalf("%s: complete at %d, called unfinished", c.name, i)
			}
			if n > 0 || err != nil {
				break
			}
			seen = i
		}
	}
	if b := []byte("GET / HTTP/1.1\r\nA: b"); !Unfinished(b, len(b)-1, nil) || Unfinished(b, 3, nil) || Unfinished(b, 0, nil) {
		t.Error("Unfinished looks for the end of a line among the new bytes")
	}
}
