package http1

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"sluis/internal/proxy/message"
)

// wide are limits that what was read under the defaults cannot reach when it is
// written.
var wide = Limits{Head: 1 << 20, Line: 1 << 20, Fields: 1 << 10}

// cutAnywhere parses every beginning of b, or some hundred of them, and wants the
// result of the whole: nothing before its end, the same error or none yet.
func cutAnywhere(t *testing.T, b []byte, n int, err *Error, parse func([]byte) (int, *Error)) {
	t.Helper()
	for i := 0; i <= len(b); i += 1 + len(b)/300 {
		early, fault := parse(b[:i])
		switch {
		case fault != nil && fault != err:
			t.Fatalf("of %d bytes %s, of %d %s", i, told(fault), len(b), told(err))
		case err != nil && early > 0, early > 0 && early != n, n > 0 && i >= n && early == 0:
			t.Fatalf("of %d bytes %d, of %d %d, %s", i, early, len(b), n, told(err))
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, c := range refusedRequests {
		if len(c.input) < 1000 {
			f.Add([]byte(c.input))
		}
	}
	f.Add(typicalRequest)
	f.Add([]byte(lines("GET http://b:1?c HTTP/1.0", "Connection: x, Upgrade", "TE: trailers", "Upgrade: h2c, foo", "X: y")))
	f.Add([]byte(lines("POST /a?b HTTP/1.1", "Host: [::1]:8", "Expect: 100-continue", "Transfer-Encoding: chunked")))
	f.Fuzz(checkRequest)
}

// checkRequest holds what FuzzParseRequest promises for one input.
func checkRequest(t *testing.T, b []byte) {
	t.Helper()
	var r, cut message.Request
	n, err := ParseRequest(b, &r, nil)
	before := tellRequest(&r)
	cutAnywhere(t, b, n, err, func(b []byte) (int, *Error) {
		return ParseRequest(b, &cut, nil)
	})
	if n == 0 {
		return
	}
	// Written and read again it is the same message, and written the same.
	written := AppendRequest(nil, &r)
	var again message.Request
	if m, err := ParseRequest(written, &again, &wide); m != len(written) || err != nil {
		t.Fatalf("wrote %q, which reads as %d, %s", written, m, told(err))
	}
	if twice := AppendRequest(nil, &again); !bytes.Equal(twice, written) {
		t.Fatalf("wrote %q, then %q", written, twice)
	}
	for _, m := range []*message.Request{&r, &again} {
		m.Minor, m.KeepAlive = 1, true // what the hop has of its own
		m.Fields = slices.DeleteFunc(m.Fields, func(f message.Field) bool { return f.ID == message.Host })
	}
	if got, want := tellRequest(&again), tellRequest(&r); got != want {
		t.Fatalf("read %s, wrote and read %s", want, got)
	}
	if twin, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b))); err == nil {
		var r message.Request
		ParseRequest(b, &r, nil)
		compareRequest(t, &r, twin)
		if got := tellRequest(&r); got != before {
			t.Fatalf("%s, then %s", before, got)
		}
	}
}

func compareRequest(t *testing.T, r *message.Request, twin *http.Request) {
	t.Helper()
	if string(r.Method) != twin.Method || int(r.Minor) != min(1, twin.ProtoMinor) {
		t.Errorf("%s HTTP/1.%d, net/http %s %s", r.Method, r.Minor, twin.Method, twin.Proto)
	}
	if r.Scheme == nil && (string(r.Target) != twin.RequestURI || string(r.Authority) != twin.Host) {
		t.Errorf("%s of %s, net/http %s of %s", r.Target, r.Authority, twin.RequestURI, twin.Host)
	}
	if r.Scheme != nil && bytes.IndexByte(r.Authority, '%') < 0 && string(r.Authority) != twin.Host {
		t.Errorf("of %s, net/http of %s", r.Authority, twin.Host)
	}
	if r.KeepAlive == twin.Close {
		t.Errorf("keep-alive %v, net/http closes %v", r.KeepAlive, twin.Close)
	}
	compareBody(t, r.Body, twin.ContentLength, twin.TransferEncoding)
	compareFields(t, r.Fields, twin.Header)
}

func compareBody(t *testing.T, b message.Body, length int64, coding []string) {
	t.Helper()
	switch b.Kind {
	case message.None, message.Sized:
		if length != b.Length {
			t.Errorf("body %s, net/http %d", tellBody(b), length)
		}
	case message.Chunked:
		if !slices.Equal(coding, []string{"chunked"}) {
			t.Errorf("chunked, net/http %q", coding)
		}
	case message.UntilClose:
		if length != -1 || coding != nil {
			t.Errorf("until close, net/http %d, %q", length, coding)
		}
	}
}

// compareFields wants each field that we pass on to have the same values there.
// Some net/http takes out or makes up.
func compareFields(t *testing.T, fields []message.Field, twin http.Header) {
	t.Helper()
	ours := http.Header{}
	for _, f := range fields {
		if len(f.Name) > 0 {
			ours.Add(string(f.Name), string(f.Value))
		}
	}
	for name, values := range ours {
		switch message.Lookup([]byte(name)) {
		case message.Host, message.Trailer, message.CacheControl, message.ContentLength:
			continue
		}
		if theirs := twin[textproto.CanonicalMIMEHeaderKey(name)]; !slices.Equal(values, theirs) {
			t.Errorf("%s: %q, net/http %q", name, values, theirs)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	for _, c := range refusedResponses {
		if len(c.input) < 1000 {
			f.Add([]byte(c.input), false)
		}
	}
	f.Add(typicalResponse, true)
	f.Add([]byte(lines("HTTP/1.0 101 x", "Upgrade: h2c, foo", "Connection: a, close", "A: b")), false)
	f.Add([]byte(lines("HTTP/1.1 304", "Content-Length: 3")), false)
	f.Fuzz(checkResponse)
}

// checkResponse holds what FuzzParseResponse promises for one input.
func checkResponse(t *testing.T, b []byte, head bool) {
	t.Helper()
	method := message.GET
	if head {
		method = message.HEAD
	}
	var r, cut message.Response
	n, err := ParseResponse(b, &r, method, nil)
	cutAnywhere(t, b, n, err, func(b []byte) (int, *Error) {
		return ParseResponse(b, &cut, method, nil)
	})
	if n == 0 {
		return
	}
	if r.Body.Kind == message.UntilClose && r.KeepAlive {
		t.Fatal("a body until close on a connection that goes on")
	}
	written := AppendResponse(nil, &r, 1, r.KeepAlive)
	var again message.Response
	if m, err := ParseResponse(written, &again, method, &wide); m != len(written) || err != nil {
		t.Fatalf("wrote %q, which reads as %d, %s", written, m, told(err))
	}
	if again.Body != r.Body || again.Status != r.Status || again.KeepAlive != r.KeepAlive && r.Status >= 200 {
		t.Fatalf("read %s, wrote and read %s", tellResponse(&r), tellResponse(&again))
	}
	if twice := AppendResponse(nil, &again, 1, r.KeepAlive); !bytes.Equal(twice, written) {
		t.Fatalf("wrote %q, then %q", written, twice)
	}
	twin, fault := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: method.String()})
	if fault != nil || noBody(r.Status, method) {
		return
	}
	if twin.StatusCode != r.Status {
		t.Errorf("status %d, net/http %d", r.Status, twin.StatusCode)
	}
	compareBody(t, r.Body, twin.ContentLength, twin.TransferEncoding)
	compareFields(t, r.Fields, twin.Header)
}

func FuzzTransfer(f *testing.F) {
	for _, c := range brokenBodies {
		if len(c.input) < 1000 {
			f.Add(c.input, uint8(3))
		}
	}
	f.Add("5;x=\"y\\\"\" ; z\r\nhello\r\nA\r\n0123456789\r\n0\r\nA: b\r\nHost: c\r\n\r\nrest", uint8(1))
	f.Fuzz(checkTransfer)
}

// checkTransfer holds what FuzzTransfer promises for one input.
func checkTransfer(t *testing.T, body string, step uint8) {
	t.Helper()
	type result struct {
		sent, rest string
		ended      bool
		err        *Error
	}
	run := func(out message.BodyKind, step int) (r result) {
		r.sent, r.rest, r.ended, r.err = carry(chunkedBody, out, body, step)
		return r
	}
	whole := run(message.Chunked, 1<<30)
	pieces := run(message.Chunked, 1+int(step))
	if !whole.ended {
		// What was sent before an error, and what waits of a line, hangs on the cuts.
		whole.rest, pieces.rest = "", ""
		if whole.err != nil {
			whole.sent, pieces.sent = "", ""
		}
	}
	if whole != pieces {
		t.Fatalf("whole %+v, in pieces %+v", whole, pieces)
	}
	if !whole.ended {
		return
	}
	if !strings.HasSuffix(body, whole.rest) || !strings.HasSuffix(whole.sent, "\r\n") {
		t.Fatalf("%q, rest %q", whole.sent, whole.rest)
	}
	again, rest, ended, err := carry(chunkedBody, message.Chunked, whole.sent, 1<<30)
	if again != whole.sent || rest != "" || !ended || err != nil {
		t.Fatalf("sent %q, which reads as %q, rest %q, %s", whole.sent, again, rest, told(err))
	}
	data := run(message.UntilClose, 1+int(step))
	if twin, fault := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(body))); fault == nil && string(twin) != data.sent {
		t.Fatalf("data %q, net/http %q", data.sent, twin)
	}
}

// The pieces of which TestRandom puts heads and bodies together.
var (
	startPieces = strings.Split("GET / HTTP/1.1|POST /a?b HTTP/1.1|GET http://b.c:8/d HTTP/1.1|OPTIONS * HTTP/1.1|GET / HTTP/1.0|HEAD http://x?y HTTP/1.0|"+
		"OPTIONS http://x HTTP/1.3|HTTP/1.1 200 OK|HTTP/1.0 404 Not Found|HTTP/1.1 204|HTTP/1.1 101 x|HTTP/1.1 304 |HTTP/1.1 100 Continue|HTTP/1.1 426 x|CONNECT a:1 HTTP/1.1", "|")
	fieldPieces = strings.Split("Host: a|host: [::1]:8|Host:|Host: c|Content-Length: 5|Content-Length: 0|Content-Length: 5, 5|Transfer-Encoding: chunked|"+
		"Transfer-Encoding: gzip, chunked|transfer-encoding: Chunked|Connection: close|Connection: keep-alive|Connection: Upgrade|"+
		"Connection: x-a, host, TE|Connection: upgrade, expect, x-b, content-length|Upgrade: websocket|Upgrade: h2c, foo/1|Upgrade: h2c|TE: trailers|TE: gzip, trailers;q=1|"+
		"Expect: 100-continue|Expect: x|X-A: 1|x-a:2\t|X-B:|X-B: \xe9 \t z|Keep-Alive: 5|Proxy-Connection: close|Trailer: x|Cookie: a=b; c=d|Pragma: no-cache|ETag: \"x\"", "|")
	chunkPieces = strings.Split("5\r\nhello\r\n|0001\r\nx\r\n|1;a=b\r\ny\r\n|2 ;a=\"\\\"\";c\r\n\r\n\r\n|a\r\n0123456789\r\n|0\r\n\r\n|0;x\r\n|X-Sum: 1\r\n|Host: b\r\n|\r\n", "|")
)

// Random messages of likely pieces, some with a byte changed, keep the promises
// that the fuzz targets hold: coverage alone rarely finds a whole message.
func TestRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	taken := [3]int{}
	var b, body []byte
	defer func() {
		if t.Failed() {
			t.Logf("head %q, body %q", b, body)
		}
	}()
	for range rounds {
		head := pick(startPieces) + "\r\n"
		for range random.IntN(6) {
			head += pick(fieldPieces) + "\r\n"
		}
		b = []byte(head + "\r\n" + pick(chunkPieces))
		body = body[:0]
		for range 1 + random.IntN(6) {
			body = append(body, pick(chunkPieces)...)
		}
		if random.IntN(3) == 0 {
			const likely = "\r\n\x00\t :;,=\"#0aA/\x7f\xff"
			b[random.IntN(len(b))] = likely[random.IntN(len(likely))]
			body[random.IntN(len(body))] = likely[random.IntN(len(likely))]
		}
		isHead, step := random.IntN(2) == 0, uint8(random.IntN(9))
		checkRequest(t, b)
		checkResponse(t, b, isHead)
		checkTransfer(t, string(body), step)
		if t.Failed() {
			return
		}
		if n, _ := ParseRequest(b, &message.Request{}, nil); n > 0 {
			taken[0]++
		}
		if n, _ := ParseResponse(b, &message.Response{}, message.GET, nil); n > 0 {
			taken[1]++
		}
		if _, _, ended, _ := carry(chunkedBody, message.None, string(body), 1<<20); ended {
			taken[2]++
		}
	}
	for i, n := range taken {
		if n < rounds/20 {
			t.Errorf("of kind %d only %d of %d were taken: the pieces show too little", i, n, rounds)
		}
	}
}

// rounds of TestRandom take about a second.
const rounds = 4000
