package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// script is a server that answers each connection by a function.
func script(t *testing.T, serve func(n int, c net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(n, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// readHead reads a request's head from a connection.
func readHead(c net.Conn) (*http.Request, *bufio.Reader, error) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	return req, r, err
}

// siteTo is a frontend in front of servers on these ports.
func siteTo(t *testing.T, frontend, backend string, ports ...int) (doc, address string) {
	port := freePort(t)
	var s strings.Builder
	fmt.Fprintf(&s, "frontends:\n  - name: site\n    binds: [{name: main, address: 127.0.0.1, port: %d}]\n    default_backend: web\n%s", port, frontend)
	fmt.Fprintf(&s, "backends:\n  - name: web\n%s    servers:\n", backend)
	if len(ports) == 0 {
		return strings.TrimSuffix(s.String(), "    servers:\n"), fmt.Sprintf("127.0.0.1:%d", port)
	}
	for i, p := range ports {
		fmt.Fprintf(&s, "      - {name: s%d, address: 127.0.0.1, port: %d}\n", i+1, p)
	}
	return s.String(), fmt.Sprintf("127.0.0.1:%d", port)
}

// TestAnswersThatAreRefused sends what a server must not send. Nothing of it may
// reach the client in a way that could be read as another answer.
func TestAnswersThatAreRefused(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	tests := []struct {
		name, answer string
		status       int
		body         string // of the first answer; "" = any
		// closes: the client's connection ends after it.
		closes bool
	}{
		{"good", good, 200, "ok", false},
		{"length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502, "", false}, // RFC 9112 6.3
		{"lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 502, "", false},
		{"no status line", "ok\r\n\r\n", 502, "", false},
		{"bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 502, "", false},
		{"a field that is folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok", 502, "", false},
		{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 502, "", false},
		{"status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", 502, "", false},
		{"another major version", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 502, "", false},
		{"upgrade unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes", 502, "", false},
		{"interim answers without end", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 40) + good, 502, "", false},
		{"early bytes after the answer", good + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200, "ok", false},
		{"no length until close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it", 200, "all of it", false},
		{"no length and keep-alive", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nall of it", 200, "all of it", false},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: v\r\n\r\n", 200, "ok", false},
		{"chunk of a bad size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", 502, "", false},
		{"a body with 204", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 204, "", false},
		{"nothing", "", 502, "", false},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", 502, "", false},
		{"a head without end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Pad: "+strings.Repeat("x", 1000)+"\r\n", 100), 502, "", false},
		{"less than its length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", 0, "", true},
		{"chunked without its end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", 0, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port := script(t, func(n int, c net.Conn) {
				_, r, err := readHead(c)
				if err != nil {
					return
				}
				if n == 0 {
					_, _ = io.WriteString(c, tt.answer)
					return
				}
				_, _ = io.WriteString(c, good)
				_, _ = io.Copy(io.Discard, r)
			})
			b := newBox(t, 1)
			doc, address := siteTo(t, "", "    retries: 0\n", port)
			b.apply(doc)
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			r := bufio.NewReader(c)
			fmt.Fprint(c, "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			resp, err := http.ReadResponse(r, nil)
			for err == nil && resp.StatusCode < 200 && resp.StatusCode != 101 {
				resp, err = http.ReadResponse(r, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if tt.status == 0 {
				if err == nil {
					t.Fatalf("a broken answer was passed on as whole: %q", body)
				}
				return
			}
			if err != nil || resp.StatusCode != tt.status || tt.body != "" && string(body) != tt.body {
				t.Fatalf("got %d %q (%v), want %d %q", resp.StatusCode, body, err, tt.status, tt.body)
			}
			// The next answer on this connection is the next one indeed.
			fmt.Fprint(c, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, body2 := answer(t, r, "GET")
			if resp.StatusCode != 200 || body2 != "ok" {
				t.Errorf("the next answer is %d %q", resp.StatusCode, body2)
			}
		})
	}
}

// TestServersThatFail is what clients see of servers that die, hang or refuse.
func TestServersThatFail(t *testing.T) {
	hello := func(_ int, c net.Conn) {
		for {
			req, _, err := readHead(c)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
	dead := func(t *testing.T) int { return freePort(t) }
	hangs := func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	resets := func(_ int, c net.Conn) {
		_, _, _ = readHead(c)
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	tests := []struct {
		name    string
		servers func(t *testing.T) []int
		backend string
		method  string
		status  int
		reason  string
	}{
		{"refused, another takes it", func(t *testing.T) []int { return []int{dead(t), script(t, hello)} }, "", "POST", 200, ""},
		{"all refused", func(t *testing.T) []int { return []int{dead(t), dead(t)} }, "", "GET", 503, "can't be reached"},
		{"no server at all", func(t *testing.T) []int { return nil }, "", "GET", 503, "no usable server"},
		{"hangs", func(t *testing.T) []int { return []int{script(t, hangs)} }, "    timeouts: {server: 200ms}\n", "GET", 504, "did not answer in time"},
		{"resets", func(t *testing.T) []int { return []int{script(t, resets)} }, "", "GET", 502, "the server broke the connection"},
		{"does not speak TLS", func(t *testing.T) []int { return []int{script(t, hello)} }, "    retries: 1\n    server_tls: {verify: none}\n", "GET", 503, "can't be reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, 1)
			doc, address := siteTo(t, "", tt.backend, tt.servers(t)...)
			if strings.Contains(tt.name, "TLS") {
				doc = strings.ReplaceAll(doc, "name: s1,", "name: s1, tls: true,")
			}
			b.apply(doc)
			for range 3 {
				req, _ := http.NewRequest(tt.method, "http://"+address+"/", nil)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != tt.status {
					t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
				}
			}
			eventually(t, "the reason in the log", func() bool { return strings.Contains(b.lines.String(), tt.reason) })
			eventually(t, "no place is in use", func() bool { return b.Status().Backends[0].InUse == 0 })
		})
	}
}

// TestIdleConnectionsThatDied sends requests on connections which the server closes
// as soon as they are idle: the client never sees it.
func TestIdleConnectionsThatDied(t *testing.T) {
	port := script(t, func(_ int, c net.Conn) {
		if _, _, err := readHead(c); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // keep-alive, it says
		}
	})
	b := newBox(t, 1)
	doc, address := siteTo(t, "", "    retries: 0\n    reuse: always\n", port)
	b.apply(doc)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for i := range 300 {
		resp, body := get(t, client, "http://"+address+"/")
		if resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, body)
		}
	}
}

// TestClientsThatAreSlow is what becomes of clients that stop in the middle.
func TestClientsThatAreSlow(t *testing.T) {
	tests := []struct {
		name, sends string
		status      int // 0 = the connection just closes
	}{
		{"nothing", "", 0},
		{"half a head", "GET / HTTP/1.1\r\nHo", 408},
		{"half a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", 408},
	}
	b := newBox(t, 1)
	o := b.origin("web1", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	doc, address := b.site("    timeouts: {request: 1s, client: 1s, keep_alive: 1s}\n", "", o)
	b.apply(doc)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(8 * time.Second))
			_, _ = io.WriteString(c, tt.sends)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			switch {
			case tt.status == 0 && err == nil:
				t.Errorf("got an answer: %d", resp.StatusCode)
			case tt.status != 0 && err != nil:
				t.Errorf("got no answer: %v", err)
			case tt.status != 0 && resp.StatusCode != tt.status:
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
}

// TestLargeAnswersToSlowClients takes longer than the timeouts, which are for
// clients and servers that do not move at all.
func TestLargeAnswersToSlowClients(t *testing.T) {
	const size = 24 << 20
	b := newBox(t, 1)
	o := b.origin("web1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		block := make([]byte, 64<<10)
		for range size / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	doc, address := b.site("    timeouts: {client: 1s}\n", "    timeouts: {server: 1s}\n", o)
	b.apply(doc)
	for _, path := range []string{"/sized", "/chunked"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			resp, err := http.ReadResponse(bufio.NewReaderSize(c, 16<<10), nil)
			if err != nil {
				t.Fatal(err)
			}
			total, block, begun := 0, make([]byte, 256<<10), time.Now()
			for {
				n, err := io.ReadFull(resp.Body, block)
				total += n
				if err != nil {
					break
				}
				time.Sleep(25 * time.Millisecond)
			}
			if total != size {
				t.Errorf("got %d bytes after %v, want %d", total, time.Since(begun), size)
			}
		})
	}
}
