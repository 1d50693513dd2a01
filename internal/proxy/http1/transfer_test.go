package http1

import (
	"strings"
	"testing"

	"sluis/internal/proxy/message"
)

var (
	chunkedBody = message.Body{Kind: message.Chunked}
	closedBody  = message.Body{Kind: message.UntilClose}
)

func sized(n int64) message.Body { return message.Body{Kind: message.Sized, Length: n} }

// carry gives the body in pieces of at most step bytes, offering again what was
// not taken, as a transport does. rest is what followed the body.
func carry(in message.Body, out message.BodyKind, body string, step int) (sent, rest string, ended bool, err *Error) {
	var t Transfer
	t.Start(in, out)
	var got []byte
	kept := ""
	for i := 0; i < len(body) && !ended; {
		next := min(len(body), i+step)
		kept += body[i:next]
		i = next
		var scratch [64]byte
		var first, pass []byte
		var taken int
		first, pass, taken, ended, err = t.Step(scratch[:0], []byte(kept))
		if err != nil {
			return string(got), "", false, err
		}
		got = append(append(got, first...), pass...)
		kept = kept[taken:]
		if ended {
			return string(got), kept + body[i:], true, nil
		}
	}
	return string(got), kept, ended, nil
}

func TestTransfer(t *testing.T) {
	cases := []struct {
		name       string
		in         message.Body
		out        message.BodyKind
		body       string
		sent       string
		rest       string
		unfinished bool
	}{
		{name: "sized", in: sized(5), out: message.Sized, body: "helloGET", sent: "hello", rest: "GET"},
		{name: "sized, cut short", in: sized(5), out: message.Sized, body: "hell", sent: "hell", unfinished: true},
		{name: "until close", in: closedBody, out: message.UntilClose, body: "hello", sent: "hello", unfinished: true},
		{name: "dropped", in: chunkedBody, out: message.None, body: "5\r\nhello\r\n0\r\nA: b\r\n\r\nX", rest: "X"},
		{
			name: "chunked", in: chunkedBody, out: message.Chunked, body: "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nX",
			sent: "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n", rest: "X",
		},
		{
			name: "written anew", in: chunkedBody, out: message.Chunked, body: "0005;a=b\r\nhello\r\n000;c\r\n\r\n",
			sent: "5\r\nhello\r\n0\r\n\r\n",
		},
		{name: "for HTTP/1.0", in: chunkedBody, out: message.UntilClose, body: "5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n", sent: "hello!"},
		{
			name: "extensions", in: chunkedBody, out: message.Chunked,
			body: "1;a;b=c;d=\"e\\\"\\;f\" ; g\t=\th;i = \"\"\r\nx\r\n0\r\n\r\n", sent: "1\r\nx\r\n0\r\n\r\n",
		},
		{
			name: "trailers", in: chunkedBody, out: message.Chunked, body: "1\r\nx\r\n0\r\nX-Sum:  1 \r\nServer-Timing: a\r\n\r\nrest",
			sent: "1\r\nx\r\n0\r\nX-Sum: 1\r\nServer-Timing: a\r\n\r\n", rest: "rest",
		},
		{
			name: "forbidden trailers", in: chunkedBody, out: message.Chunked,
			body: "0\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nHost: b\r\nAuthorization: x\r\nSet-Cookie: a=b\r\n" +
				"X-Forwarded-For: 1\r\nX_Forwarded_For: 1\r\nX-Forwarded-User: a\r\nIf-Match: x\r\nSec-X: y\r\nConnection: close\r\nTrailer: a\r\nETag: 1\r\n\r\n",
			sent: "0\r\nETag: 1\r\n\r\n",
		},
		{
			name: "signed chunks", in: chunkedBody, out: message.None,
			body: strings.Repeat("1000;chunk-signature="+strings.Repeat("f", 40)+"\r\n"+strings.Repeat("x", 4096)+"\r\n", 1000) + "0\r\n\r\n",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1, 2, 3, 7, 4096, 1 << 30} {
				sent, rest, ended, err := carry(c.in, c.out, c.body, step)
				if sent != c.sent || rest != c.rest || ended == c.unfinished || err != nil {
					t.Fatalf("in steps of %d: sent %q, rest %q, ended %v, %s, want %q, %q", step, sent, rest, ended, told(err), c.sent, c.rest)
				}
			}
		})
	}
}

// What was not chunked is chunked in whatever pieces it comes.
func TestTransferIntoChunks(t *testing.T) {
	sent, _, ended, err := carry(sized(5), message.Chunked, "hello", 2)
	if want := "2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n"; sent != want || !ended || err != nil {
		t.Errorf("sized: %q, ended %v, %s, want %q", sent, ended, told(err), want)
	}
	var b Transfer
	b.Start(closedBody, message.Chunked)
	first, pass, _, _, _ := b.Step(nil, []byte("hello"))
	last, err := b.Finish(nil)
	if got, want := string(first)+string(pass)+string(last), "5\r\nhello\r\n0\r\n\r\n"; got != want || err != nil || !b.Done() {
		t.Errorf("until close: %q, %s, want %q", got, told(err), want)
	}
	b.Start(sized(0), message.Chunked)
	if out, _, _, ended, _ := b.Step(nil, nil); !ended || string(out) != "0\r\n\r\n" {
		t.Errorf("empty: %q, ended %v", out, ended)
	}
}

// brokenBodies are chunked bodies that must be refused (RFC 9112 7.1).
var brokenBodies = []refused{
	{"no size", "9112 7.1", "\r\nhello", 400, ChunkSizeMalformed},
	{"sign", "9112 7.1", "+5\r\nhello\r\n", 400, ChunkSizeMalformed},
	{"minus", "9112 7.1", "-1\r\n", 400, ChunkSizeMalformed},
	{"0x", "9112 7.1", "0x5\r\nhello\r\n", 400, ChunkSizeMalformed},
	{"letter", "9112 7.1", "5g\r\n", 400, ChunkSizeMalformed},
	{"underscore", "9112 7.1", "1_0\r\n", 400, ChunkSizeMalformed},
	{"extension without size", "9112 7.1", ";a\r\n", 400, ChunkSizeMalformed},
	{"too large", "9112 7.1", "10000000000000\r\n", 400, ChunkTooLarge},
	{"2^64 and 5", "9112 7.1", "10000000000000005\r\nhello", 400, ChunkTooLarge},
	{"too many zeros", "9112 7.1", "00000000000005\r\nhello", 400, ChunkTooLarge},
	{"space before", "9112 7.1", " 5\r\nhello\r\n", 400, ChunkSpace},
	{"space behind", "9112 7.1", "5 \r\nhello\r\n", 400, ChunkSpace},
	{"tab and digit", "9112 7.1", "5\t5\r\n", 400, ChunkSpace},
	{"space behind an extension", "9112 7.1", "5;a \r\nhello\r\n", 400, ChunkSpace},
	{"space behind a value", "9112 7.1", "5;a=b \r\nhello\r\n", 400, ChunkSpace},
	{"bare LF", "9112 2.2, 7.1", "5\nhello\r\n", 400, ChunkLineEnd},
	{"bare CR", "9112 2.2, 7.1", "5\rhello\r\n", 400, ChunkLineEnd},
	{"bare LF behind space", "9112 2.2, 7.1", "5 \nhello\r\n", 400, ChunkLineEnd},
	{"bare LF in an extension", "9112 2.2, 7.1", "5;a\nhello\r\n", 400, ChunkLineEnd},
	{"bare LF behind a semicolon", "9112 2.2, 7.1", "5;\nhello\r\n", 400, ChunkLineEnd},
	{"bare CR in an extension", "9112 2.2, 7.1", "5;a\rb\r\n", 400, ChunkLineEnd},
	{"semicolon alone", "9112 7.1.1", "5;\r\nhello\r\n", 400, ChunkExtensionMalformed},
	{"no name", "9112 7.1.1", "5;=a\r\nhello\r\n", 400, ChunkExtensionMalformed},
	{"no value", "9112 7.1.1", "5;a=\r\nhello\r\n", 400, ChunkExtensionMalformed},
	{"NUL in an extension", "9112 7.1.1", "5;a\x00\r\n", 400, ChunkExtensionMalformed},
	{"line end in a quoted string", "9112 7.1.1", "5;a=\"\r\n\"\r\n", 400, ChunkExtensionMalformed},
	{"line feed behind a backslash", "9112 7.1.1", "5;a=\"\\\n\"\r\n", 400, ChunkExtensionMalformed},
	{"something behind a quoted string", "9112 7.1.1", "5;a=\"b\"c\r\n", 400, ChunkExtensionMalformed},
	{"long extension", "9112 7.1.1", "5;" + strings.Repeat("a", maxChunkLine+1), 400, ChunkExtensionTooLong},
	{"many extensions", "9112 7.1.1", strings.Repeat("1;"+strings.Repeat("a", 99)+"\r\nx\r\n", 200), 400, ChunkExtensionTooLong},
	{"data too long", "9112 7.1", "5\r\nhello!\r\n", 400, ChunkDataEnd},
	{"data and bare LF", "9112 7.1", "5\r\nhello\n0\r\n\r\n", 400, ChunkDataEnd},
	{"data and bare CR", "9112 7.1", "5\r\nhello\r0\r\n\r\n", 400, ChunkDataEnd},
	{"trailer without colon", "9112 7.1.2", "0\r\nGET / HTTP/1.1\r\n\r\n", 400, TrailerMalformed},
	{"trailer with bare LF", "9112 7.1.2", "0\r\nA: b\n\r\n", 400, TrailerMalformed},
	{"folded trailer", "9112 7.1.2", "0\r\nA: b\r\n c\r\n\r\n", 400, TrailerMalformed},
	{"bare LF at the end", "9112 7.1.2", "0\r\n\n", 400, TrailerMalformed},
	{"bare CR at the end", "9112 7.1.2", "0\r\n\rX", 400, TrailerMalformed},
	{"one large trailer", "9112 7.1.2", "0\r\nA: " + strings.Repeat("b", maxTrailer), 400, TrailerTooLarge},
	{"much of trailers", "9112 7.1.2", "0\r\n" + strings.Repeat("A: "+strings.Repeat("b", 500)+"\r\n", 17), 400, TrailerTooLarge},
	{"many trailers", "9112 7.1.2", "0\r\n" + strings.Repeat("A: b\r\n", 33), 400, TrailerTooLarge},
	{"cut short", "9112 6.3, 8", "5\r\nhel", 400, BodyCutShort},
	{"cut short before the end", "9112 6.3, 8", "5\r\nhello\r\n0\r\n", 400, BodyCutShort},
}

func TestBrokenBodies(t *testing.T) {
	for _, c := range brokenBodies {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1, 2, 3, 100, 1 << 30} {
				_, _, ended, err := carry(chunkedBody, message.Chunked, c.input, step)
				if err == nil && !ended {
					var b Transfer
					b.Start(chunkedBody, message.Chunked)
					_, err = b.Finish(nil)
				}
				if err == nil || err.Reason != c.reason || err.Status != c.status || !strings.Contains(err.Reason.Section(), c.section) {
					t.Fatalf("in steps of %d: ended %v, %s, want %d %q", step, ended, told(err), c.status, c.reason)
				}
			}
		})
	}
	var b Transfer
	b.Start(sized(2), message.Sized)
	b.Step(nil, []byte("x"))
	if _, err := b.Finish(nil); err == nil || b.Left() != 1 {
		t.Errorf("a sized body cut short: %s, %d left", told(err), b.Left())
	}
}
