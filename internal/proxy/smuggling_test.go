package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// bare keeps a frontend from saying anything about the client, so that what a server
// sees can be written down here.
const bare = "    forwarded: {for: false, proto: false, host: false, port: false}\n"

// TestRequestsThatHideOthers sends what one reader may take for one request and
// another for two. Behind each stands a canary: where the first is refused, it must
// never reach the server.
func TestRequestsThatHideOthers(t *testing.T) {
	const (
		canary = "GET /canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		end    = "GET /canary HTTP/1.1\r\nHost: x\r\n\r\n"
		get    = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		post   = "POST / HTTP/1.1\r\nHost: x\r\n"
	)
	chunks := func(body string) string { return post + "Transfer-Encoding: chunked\r\n\r\n" + body }
	tests := []struct {
		name, sends string
		status      int
		sees        []string // by the server; nil = nothing
	}{
		{"a plain request", get, 200, []string{get, end}},
		{"an empty line before it", "\r\n" + get, 200, []string{get, end}},
		{"a body", post + "Content-Length: 5\r\n\r\nhello", 200, []string{post + "Content-Length: 5\r\n\r\nhello", end}},
		{"a body that looks like a request", post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(get)) + get, 200, []string{post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(get)) + get, end}},
		{"a body with GET", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 200, []string{"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", end}},

		// RFC 9112 section 6.1, 6.3.
		{"length and chunked", post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"chunked and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400, nil},
		{"chunked twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"chunked in a list twice", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"chunked not last", post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, nil},
		{"an unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, nil},
		{"identity", post + "Transfer-Encoding: identity\r\n\r\n", 501, nil},
		{"a coding with a parameter", post + "Transfer-Encoding: chunked;a\r\n\r\n0\r\n\r\n", 400, nil},
		{"a coding behind a comma", post + "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"a coding behind a control byte", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"a space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"a coding in capitals", post + "TRANSFER-encoding:\tChUnKeD\r\n\r\n0\r\n\r\n", 200, []string{chunks("0\r\n\r\n"), end}},
		{"a coding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, nil},
		{"a length twice", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, nil},
		{"lengths that differ", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, nil},
		{"a list of lengths", post + "Content-Length: 5, 5\r\n\r\nhello", 400, nil},
		{"a length with a sign", post + "Content-Length: +5\r\n\r\nhello", 400, nil},
		{"a negative length", post + "Content-Length: -1\r\n\r\n", 400, nil},
		{"a hexadecimal length", post + "Content-Length: 0x5\r\n\r\nhello", 400, nil},
		{"an empty length", post + "Content-Length:\r\n\r\n", 400, nil},
		{"a length that overflows", post + "Content-Length: 18446744073709551621\r\n\r\nhello", 400, nil},

		// RFC 9112 section 2.2, 5.
		{"bare line feeds", "GET / HTTP/1.1\nHost: x\n\n", 400, nil},
		{"a bare line feed in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\nContent-Length: 9\r\n\r\n", 400, nil},
		{"a bare carriage return in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 9\r\n\r\n", 400, nil},
		{"a folded line", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n Content-Length: 9\r\n\r\n", 400, nil},
		{"white space before the first field", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, nil},
		{"a line without a colon", "GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", 400, nil},
		{"a name of nothing", "GET / HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n", 400, nil},
		{"a NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400, nil},
		{"a NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n", 400, nil},

		// RFC 9112 section 7.1.
		{"chunks", chunks("5\r\nhello\r\n0\r\n\r\n"), 200, []string{chunks("5\r\nhello\r\n0\r\n\r\n"), end}},
		{"chunks with extensions", chunks("5;a=b;c=\"\\\"\r\nhello\r\n0;d\r\n\r\n"), 400, nil},
		{"chunks with good extensions", chunks("5;a=b;c=\"d\\\"\"\r\nhello\r\n00;d\r\n\r\n"), 200, []string{chunks("5\r\nhello\r\n0\r\n\r\n"), end}},
		{"a chunk size with 0x", chunks("0x5\r\nhello\r\n0\r\n\r\n"), 400, nil},
		{"a chunk size with a sign", chunks("+5\r\nhello\r\n0\r\n\r\n"), 400, nil},
		{"a chunk size with a space", chunks("5 \r\nhello\r\n0\r\n\r\n"), 400, nil},
		{"a chunk size that overflows", chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400, nil},
		{"a chunk line without CR", chunks("5\nhello\r\n0\r\n\r\n"), 400, nil},
		{"chunk data without its end", chunks("5\r\nhelloX\r\n0\r\n\r\n"), 400, nil},
		{"an extension with a line feed", chunks("5;a\nb\r\nhello\r\n0\r\n\r\n"), 400, nil},
		{"trailers", chunks("0\r\nX-Sum: 1\r\nContent-Length: 9\r\nHost: y\r\nX-Forwarded-For: z\r\n\r\n"), 200, []string{chunks("0\r\nX-Sum: 1\r\n\r\n"), end}},
		{"a folded trailer", chunks("0\r\nX-Sum: 1\r\n y\r\n\r\n"), 400, nil},

		// RFC 9112 section 3.2.
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, nil},
		{"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, nil},
		{"a host with a space", "GET / HTTP/1.1\r\nHost: x y\r\n\r\n", 400, nil},
		{"a host with a path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400, nil},
		{"a host with a user", "GET / HTTP/1.1\r\nHost: a@x\r\n\r\n", 400, nil},
		{"an absolute target", "GET http://y/z HTTP/1.1\r\nHost: x\r\n\r\n", 200, []string{"GET /z HTTP/1.1\r\nHost: y\r\n\r\n", end}},
		{"an absolute target with a user", "GET http://a@y/z HTTP/1.1\r\nHost: x\r\n\r\n", 400, nil},
		{"a target with a space", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, nil},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, nil},
		{"a target with a tab", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, nil},
		{"no version", "GET /\r\nHost: x\r\n\r\n", 400, nil},
		{"another major version", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, nil},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, nil},
		{"CONNECT", "CONNECT y:1 HTTP/1.1\r\nHost: y:1\r\n\r\n", 501, nil},
		{"a long target", "GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 414, nil},
		{"many fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", 431, nil},
		{"a large head", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 17<<10) + "\r\n\r\n", 431, nil},

		// RFC 9110 section 7.6.1, 7.8, 10.1.
		{"fields of the hop", "GET / HTTP/1.1\r\nHost: x\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nTE: gzip\r\nX-B: 2\r\n\r\n", 200, []string{"GET / HTTP/1.1\r\nHost: x\r\nX-B: 2\r\n\r\n", end}},
		{"Connection names Host and length", post + "Connection: host, content-length\r\nContent-Length: 2\r\n\r\nhi", 200, []string{post + "Content-Length: 2\r\n\r\nhi", end}},
		{"h2c", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 200, []string{get, end}},
		{"an expectation that is not known", "GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n", 417, nil},
		{"an expectation without a body", "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 200, []string{get, end}},
	}
	o := newRecorder(t, nil)
	b := newBox(t, 1)
	doc, address := siteTo(t, bare, "", o.port)
	b.apply(doc)
	for _, tt := range tests {
		for _, piece := range []int{1 << 20, 1} {
			if piece == 1 && len(tt.sends) > 1<<10 {
				piece = 1000
			}
			t.Run(fmt.Sprintf("%s/pieces of %d", tt.name, piece), func(t *testing.T) {
				o.clear()
				codes, _ := statuses(t, converse(t, address, tt.sends+canary, piece))
				want := []int{tt.status}
				if tt.sees != nil {
					want = append(want, 200)
				}
				if !slices.Equal(codes, want) {
					t.Errorf("statuses %v, want %v", codes, want)
				}
				saw, broken := o.seen()
				if !slices.Equal(saw, tt.sees) {
					t.Errorf("the server saw %q, want %q", saw, tt.sees)
				}
				if s := fmt.Sprint(broken); strings.Contains(s, "canary") {
					t.Errorf("the canary came to the server within %q", s)
				}
			})
		}
	}
	b.quiet()
}

// TestOldClients speak HTTP/1.0: their connection ends unless they ask otherwise.
func TestOldClients(t *testing.T) {
	o := newRecorder(t, func(request string) string {
		if targetOf(request) == "/chunked" {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
		}
		return ""
	})
	b := newBox(t, 1)
	doc, address := siteTo(t, bare, "", o.port)
	b.apply(doc)
	for _, tt := range []struct{ sends, want string }{
		{"GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n/"},
		{"GET /chunked HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"},
		{
			"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n/aHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/b",
		},
	} {
		if got := converse(t, address, tt.sends, 1<<20); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.sends, got, tt.want)
		}
	}
	if saw, _ := o.seen(); saw[0] != "GET / HTTP/1.1\r\nHost: \r\n\r\n" {
		t.Errorf("the server saw %q", saw[0])
	}
}

// TestPipelinedRequestsAreAnsweredInOrder also where some of them are refused by
// rules, have bodies, or wait for a place.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	o := newRecorder(t, nil)
	b := newBox(t, 2)
	doc, address := siteTo(t, "    acls: [{name: no, match: path, starts: [/no]}]\n    rules: [{name: no, when: no, deny: {status: 404}}]\n", "", o.port)
	b.apply(strings.Replace(doc, fmt.Sprintf("port: %d}\n", o.port), fmt.Sprintf("port: %d, max_connections: 1}\n", o.port), 1))
	var all strings.Builder
	var want []int
	for i := range 300 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			want = append(want, 200)
		case 1:
			fmt.Fprintf(&all, "GET /no/%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			want = append(want, 404)
		default:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", i)
			want = append(want, 200)
		}
	}
	all.WriteString("GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	codes, bodies := statuses(t, converse(t, address, all.String(), 700))
	if !slices.Equal(codes, append(want, 200)) {
		t.Fatalf("statuses %v", codes)
	}
	for i, body := range bodies[:300] {
		if codes[i] == 200 && body != fmt.Sprintf("/%d", i) {
			t.Errorf("answer %d is %q", i, body)
		}
	}
	b.quiet()
}

// TestClientsThatNeverRead ask on and on: what is kept for them has a bound.
func TestClientsThatNeverRead(t *testing.T) {
	body := strings.Repeat("x", 32<<10)
	o := newRecorder(t, func(string) string { return ok(body) })
	b := newBox(t, 1)
	doc, address := siteTo(t, "    timeouts: {client: 2s}\n", "", o.port)
	b.apply(doc)
	c, _ := dial(t, address)
	_ = c.SetReadBuffer(16 << 10)
	go func() {
		for {
			if _, err := io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 100)); err != nil {
				return
			}
		}
	}()
	before := -1
	eventually(t, "the server is left in peace", func() bool {
		now, _, _ := o.count()
		still := now == before && now > 0
		before = now
		time.Sleep(100 * time.Millisecond)
		return still
	})
	if sent := before * len(body); sent > 16<<20 {
		t.Errorf("%d bytes were fetched for a client that takes nothing", sent)
	}
	if out := b.LoopStats()[0].BuffersOut; out > 64 {
		t.Errorf("%d buffers are lent for one client", out)
	}
	c.Close()
	b.quiet()
}

// TestRandomStreams sends requests, good and bad, cut at random places. The server
// sees whole requests alone, in order; each one gets its answer; nothing hangs.
func TestRandomStreams(t *testing.T) {
	good := []string{
		"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n",
		"HEAD /%d HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
		"PUT /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n1\r\nd\r\n0\r\nT: v\r\n\r\n",
		"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: x\r\nX: y\r\nCookie: a=b\r\n\r\n",
	}
	o := newRecorder(t, nil)
	b := newBox(t, 2)
	doc, address := siteTo(t, bare, "", o.port)
	b.apply(doc)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		o.clear()
		var stream strings.Builder
		n := 1 + random.IntN(8)
		for i := range n {
			form := good[random.IntN(len(good))]
			fmt.Fprintf(&stream, form, i)
		}
		whole := stream.String()
		spoilt := random.IntN(2) == 0
		if spoilt {
			at := random.IntN(len(whole))
			whole = whole[:at] + string([]byte{byte(random.IntN(256))}) + whole[at+random.IntN(2):]
		} else {
			whole += "GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		}
		answers := randomly(t, address, whole, random)
		saw, _ := o.seen()
		if !spoilt && len(saw) != n+1 {
			t.Fatalf("seed %d: the server saw %q of %q", seed, saw, whole)
		}
		r := bufio.NewReader(strings.NewReader(answers))
		for i, request := range saw {
			method, _, _ := strings.Cut(request, " ")
			resp, body := answer(t, r, method)
			if resp.StatusCode != 200 || method != "HEAD" && body != targetOf(request) {
				t.Fatalf("seed %d: answer %d to %q is %d %q", seed, i, whole, resp.StatusCode, body)
			}
		}
		// What is left is one refusal, and the end.
		if rest, _ := io.ReadAll(r); len(rest) > 0 && (!spoilt || strings.Count(string(rest), "HTTP/1.1 ") != 1) {
			t.Fatalf("seed %d: after the answers to %q came %q", seed, saw, rest)
		}
	}
	b.quiet()
}

// randomly sends a stream in random pieces, ends it, and reads all answers.
func randomly(t *testing.T, address, stream string, random *rand.Rand) string {
	t.Helper()
	c, r := dial(t, address)
	defer c.Close()
	var pieces []string
	for cuts := random.IntN(6); cuts > 0 && len(stream) > 1; cuts-- {
		n := 1 + random.IntN(len(stream)-1)
		pieces, stream = append(pieces, stream[:n]), stream[n:]
	}
	go func() {
		for _, piece := range append(pieces, stream) {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
		_ = c.CloseWrite()
	}()
	b, err := io.ReadAll(r)
	if err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatalf("it hangs after %q", b)
	}
	return string(b)
}
