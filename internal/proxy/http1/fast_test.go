package http1

import (
	"testing"

	"sluis/internal/proxy/message"
)

// typicalRequest is 450 bytes with ten fields, as a browser sends it.
var typicalRequest = []byte(lines("GET /system/web/view/live/templates/chat.jsp?entryPointId=1001&locale=en HTTP/1.1",
	"Host: shop.example.com", "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
	"Accept: text/html,*/*;q=0.8", "Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate, br",
	"Referer: https://shop.example.com/", "Connection: keep-alive", "Cookie: JSESSIONID=8F2A61C05D3E4B7F.srv1",
	"X-Custom: abcdefghijklmnopqrst", "Cache-Control: no-cache"))

var typicalResponse = []byte(lines("HTTP/1.1 200 OK", "Server: Apache", "Date: Mon, 02 Nov 2026 10:00:00 GMT", "Content-Type: text/html; charset=utf-8",
	"Content-Length: 5120", "Connection: keep-alive", "ETag: \"a1b2c3\"", "Cache-Control: private", "X-Frame-Options: SAMEORIGIN"))

// The hot path allocates nothing: heads both ways, and a chunked body.
func TestAllocates(t *testing.T) {
	var r message.Request
	var a message.Response
	var b Transfer
	r.Reset()
	a.Reset()
	out := make([]byte, 0, 4096)
	body := []byte("5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n")
	websocket := []byte(lines("GET /c HTTP/1.1", "Host: [::1]:80", "Upgrade: websocket", "Connection: Upgrade, X-A", "TE: trailers", "X-A: b", "Expect: 100-continue"))
	broken := []byte(lines("GET / HTTP/1.1", "Host : a"))
	got := testing.AllocsPerRun(100, func() {
		for _, in := range [][]byte{typicalRequest, websocket, broken} {
			ParseRequest(in, &r, nil)
			AppendRequest(out, &r)
		}
		ParseResponse(typicalResponse, &a, message.GET, nil)
		AppendResponse(out, &a, 1, true)
		b.Start(chunkedBody, message.Chunked)
		b.Step(out, body)
	})
	if got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	var r message.Request
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(typicalRequest)))
	for b.Loop() {
		if n, err := ParseRequest(typicalRequest, &r, nil); n == 0 || err != nil {
			b.Fatal(told(err))
		}
		out = AppendRequest(out[:0], &r)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	var r message.Request
	b.ReportAllocs()
	b.SetBytes(int64(len(typicalRequest)))
	for b.Loop() {
		ParseRequest(typicalRequest, &r, nil)
	}
}

func BenchmarkResponse(b *testing.B) {
	var r message.Response
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(typicalResponse)))
	for b.Loop() {
		if n, err := ParseResponse(typicalResponse, &r, message.GET, nil); n == 0 || err != nil {
			b.Fatal(told(err))
		}
		out = AppendResponse(out[:0], &r, 1, true)
	}
}

func BenchmarkChunked(b *testing.B) {
	in := append([]byte("2000\r\n"), make([]byte, 0x2000)...)
	in = append(in, "\r\n10;a=b\r\n0123456789abcdef\r\n0\r\n\r\n"...)
	out := make([]byte, 0, 1<<14)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		var t Transfer
		t.Start(chunkedBody, message.Chunked)
		if _, _, _, ended, err := t.Step(out, in); !ended || err != nil {
			b.Fatal(told(err))
		}
	}
}
