package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// conversation is what a client and a server say in turn, each waiting for the other:
// the hall between them must neither hold back nor give up too early.
type conversation struct {
	name              string
	frontend, backend string
	steps             []step
}

// step is sent by one side and awaited by the other.
type step struct {
	from  string // "client", "server", "end of client" or "pause"
	bytes string
	// comes is what the other side gets; "" = the bytes as they are.
	comes string
}

// TestConversations are requests and answers that come in pieces and cross.
func TestConversations(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\n"
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	closing := func(s string) string { return strings.Replace(s, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1) }
	tests := []conversation{
		{"an interim answer, then the body", "", "", []step{
			{"client", post + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", post + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"},
			{"server", "HTTP/1.1 100 Continue\r\n\r\n", ""},
			{"client", "body", ""},
			{"server", ok, ""},
		}},
		{"a server that takes its time to say continue", "    timeouts: {client: 1s}\n", "", []step{
			{"client", post + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", ""},
			{"pause", "1500ms", ""},
			{"server", "HTTP/1.1 100 Continue\r\n\r\n", ""},
			{"client", "body", ""},
			{"server", ok, ""},
		}},
		{"a body that is refused before it comes", "", "", []step{
			{"client", post + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", ""},
			{"server", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		}},
		{"a client slower than the server's time", "    timeouts: {client: 5s}\n", "    timeouts: {server: 300ms}\n", []step{
			{"client", post + "Content-Length: 4\r\n\r\nbo", ""},
			{"pause", "1s", ""},
			{"client", "dy", ""},
			{"server", ok, ""},
		}},
		{"interim answers", "", "", []step{
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"server", "HTTP/1.1 102 Processing\r\n\r\n", ""},
			{"server", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ""},
			{"server", ok, ""},
		}},
		{"an answer before the body is whole", "", "", []step{
			{"client", post + "Content-Length: 4\r\n\r\nbo", ""},
			{"server", ok, closing(ok)},
		}},
		{"both ways at once", "", "", []step{
			{"client", post + "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n", ""},
			{"server", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONE\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nONE\r\n"},
			{"client", "3\r\ntwo\r\n", ""},
			{"server", "3\r\nTWO\r\n", ""},
			{"client", "0\r\n\r\n", ""},
			{"server", "0\r\n\r\n", ""},
		}},
		{"a client that ends after its request", "", "", []step{
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"end of client", "", ""},
			{"server", ok, ""},
		}},
		{"a client that ends after its body", "", "", []step{
			{"client", post + "Content-Length: 4\r\n\r\n", ""},
			{"client", "body", ""},
			{"end of client", "", ""},
			{"pause", "100ms", ""},
			{"server", ok, closing(ok)},
		}},
		{"HEAD", "", "", []step{
			{"client", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"server", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ""},
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"server", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ""},
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"server", "HTTP/1.1 204 No Content\r\n\r\n", ""},
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"server", ok, ""},
		}},
		{"HEAD by a rule", "    rules: [{name: head, set_method: HEAD}]\n", "", []step{
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"},
			{"server", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"},
			{"server", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		}},
		{"keep-alive off", "    keep_alive: false\n", "", []step{
			{"client", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
			{"server", ok, closing(ok)},
		}},
		{"a tunnel whose client ended before it began", "", "", []step{
			{"client", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n", ""},
			{"end of client", "", ""},
			{"pause", "50ms", ""},
			{"server", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n", ""},
			{"server sees the end", "", ""},
			{"server", "last words", ""},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			servers := make(chan net.Conn, 4)
			port := script(t, func(_ int, c net.Conn) {
				servers <- c
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				<-t.Context().Done()
			})
			b := newBox(t, 1)
			doc, address := siteTo(t, bare+tt.frontend, tt.backend, port)
			b.apply(doc)
			client, _ := dial(t, address)
			var server net.Conn
			for i, s := range tt.steps {
				from, to := net.Conn(client), &server
				comes := s.comes
				if comes == "" {
					comes = s.bytes
				}
				switch s.from {
				case "server":
					toClient := net.Conn(client)
					from, to = server, &toClient
				case "end of client":
					_ = client.CloseWrite()
					continue
				case "pause":
					d, err := time.ParseDuration(s.bytes)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(d)
					continue
				case "server sees the end":
					if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Errorf("step %d: the server got %d bytes, %v; want the end", i, n, err)
					}
					continue
				}
				if _, err := io.WriteString(from, s.bytes); err != nil {
					t.Fatal(err)
				}
				if server == nil {
					server = <-servers
				}
				got := make([]byte, len(comes))
				n, err := io.ReadFull(*to, got)
				if string(got[:n]) != comes {
					t.Fatalf("step %d, %s: got %q (%v), want %q", i, s.from, got[:n], err, comes)
				}
			}
			client.Close()
			server.Close()
			b.quiet()
		})
	}
}

// TestBodyLimit counts what a body holds, not how it is framed.
func TestBodyLimit(t *testing.T) {
	chunked := func(n, of int) string {
		return "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", of, strings.Repeat("x", of)), n) + "0\r\n\r\n"
	}
	sized := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n))
	}
	o := newRecorder(t, nil)
	b := newBox(t, 1)
	doc, address := siteTo(t, "    limits: {body_size: 1000B}\n", "", o.port)
	b.apply(doc)
	for _, tt := range []struct {
		name, sends string
		status      int
	}{
		{"sized, as large as allowed", sized(1000), 200},
		{"sized, larger", sized(1001), 413},
		{"chunked, as large as allowed", chunked(1, 1000), 200},
		{"chunked, larger", chunked(1, 1001), 413},
		{"small chunks, as large as allowed", chunked(1000, 1), 200},
		{"small chunks, larger", chunked(1001, 1), 413},
	} {
		for _, piece := range []int{1 << 20, 50} {
			codes, _ := statuses(t, converse(t, address, tt.sends, piece))
			if len(codes) != 1 || codes[0] != tt.status {
				t.Errorf("%s, in pieces of %d: %v, want %d", tt.name, piece, codes, tt.status)
			}
		}
	}
	requests, _ := o.seen()
	if len(requests) != 6 {
		t.Errorf("the server saw %d whole requests, want 6", len(requests))
	}
	b.quiet()
}

// TestRefusedWithABody closes, for the rest of the body can't be told from a request;
// without one the connection goes on.
func TestRefusedWithABody(t *testing.T) {
	o := newRecorder(t, nil)
	b := newBox(t, 1)
	doc, address := siteTo(t, "    rules: [{name: no, deny: {status: 403}}]\n", "", o.port)
	b.apply(doc)
	const get = "GET /canary HTTP/1.1\r\nHost: x\r\n\r\n"
	body := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(get), get)
	if codes, _ := statuses(t, converse(t, address, body+get, 1<<20)); fmt.Sprint(codes) != "[403]" {
		t.Errorf("with a body: %v", codes)
	}
	if codes, _ := statuses(t, converse(t, address, get+closingGet, 1<<20)); fmt.Sprint(codes) != "[403 403]" {
		t.Errorf("without: %v", codes)
	}
}

const closingGet = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// TestTunnels hold back a side whose other side is slow, and end when nothing moves.
func TestTunnels(t *testing.T) {
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	const upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	written := make(chan int, 1)
	port := script(t, func(n int, c net.Conn) {
		if _, _, err := readHead(c); err != nil {
			return
		}
		_, _ = io.WriteString(c, switching)
		if n > 0 {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		total, block := 0, make([]byte, 64<<10)
		for {
			_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := c.Write(block)
			if total += n; err != nil {
				written <- total
				return
			}
		}
	})
	b := newBox(t, 1)
	doc, address := siteTo(t, "", "    timeouts: {tunnel: 1s}\n", port)
	b.apply(doc)
	slow, _ := dial(t, address)
	_ = slow.SetReadBuffer(16 << 10)
	fmt.Fprint(slow, upgrade)
	if n := <-written; n > 24<<20 {
		t.Errorf("a tunnel took %d bytes for a client that reads none", n)
	}
	if out := b.LoopStats()[0].BuffersOut; out > 32 {
		t.Errorf("%d buffers are lent for one tunnel", out)
	}
	slow.Close()
	b.quiet()

	idle, r := dial(t, address)
	fmt.Fprint(idle, upgrade)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("no tunnel: %v %v", resp, err)
	}
	begun := time.Now()
	if _, err := r.ReadByte(); err != io.EOF || time.Since(begun) < 900*time.Millisecond {
		t.Errorf("an idle tunnel ended after %v with %v", time.Since(begun), err)
	}
	idle.Close()
	b.quiet()
	eventually(t, "the reason in the log", func() bool { return strings.Contains(b.lines.String(), "nothing moved in the tunnel") })
}

// TestWhatIsLogged is of the requests alone: no idle time, no other request's bytes.
func TestWhatIsLogged(t *testing.T) {
	o := newRecorder(t, nil)
	b := newBox(t, 1)
	doc, address := siteTo(t, "", "", o.port)
	b.apply(doc)
	c, r := dial(t, address)
	const get, post = "GET /get HTTP/1.1\r\nHost: x\r\n\r\n", "POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
	fmt.Fprint(c, get)
	answer(t, r, "GET")
	time.Sleep(300 * time.Millisecond)
	fmt.Fprint(c, post+get)
	answer(t, r, "POST")
	answer(t, r, "GET")
	eventually(t, "the count of the client's bytes", func() bool {
		return b.Status().Frontends[0].BytesIn == uint64(2*len(get)+len(post))
	})
	eventually(t, "the lines", func() bool { return strings.Count(b.lines.String(), "\n") >= 3 })
	for i, text := range strings.Split(strings.TrimSpace(b.lines.String()), "\n") {
		var line struct {
			BytesIn int     `json:"bytes_in"`
			Total   float64 `json:"total_ms"`
			Request float64 `json:"request_ms"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if want := []int{len(get), len(post), len(get)}[i]; line.BytesIn != want || line.Total > 250 || line.Request > 250 {
			t.Errorf("line %d: %+v, want %d bytes and no idle time", i, line, want)
		}
	}
}

// TestMeansAreOfAnswers: requests that no server answered do not spoil them.
func TestMeansAreOfAnswers(t *testing.T) {
	b := newBox(t, 1)
	doc, address := siteTo(t, "", "    retries: 0\n", freePort(t))
	b.apply(doc)
	if codes, _ := statuses(t, converse(t, address, closingGet, 1<<20)); fmt.Sprint(codes) != "[503]" {
		t.Fatalf("got %v", codes)
	}
	if s := b.Status().Backends[0].Servers[0]; s.MeanConnect != 0 || s.MeanAnswer != 0 || s.Answers != [6]uint64{} {
		t.Errorf("a server that never answered has %v answers, means %d and %d", s.Answers, s.MeanConnect, s.MeanAnswer)
	}
}

// TestWhoBrokeOff is told rightly also where the kernel moves the answer.
func TestWhoBrokeOff(t *testing.T) {
	for _, tt := range []struct{ name, want string }{{"the client", "CD--"}, {"the server", "SD--"}} {
		t.Run(tt.name, func(t *testing.T) {
			port := script(t, func(_ int, c net.Conn) {
				if _, _, err := readHead(c); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"+strings.Repeat("x", 1<<20))
				if tt.want == "CD--" {
					_, _ = io.Copy(c, strings.NewReader(strings.Repeat("x", 50<<20)))
				}
			})
			b := newBox(t, 1)
			doc, address := siteTo(t, "", "    retries: 0\n", port)
			b.apply(doc)
			c, r := dial(t, address)
			fmt.Fprint(c, closingGet)
			if _, err := io.CopyN(io.Discard, r, 256<<10); err != nil {
				t.Fatal(err)
			}
			if tt.want == "CD--" {
				_ = c.SetLinger(0)
			} else {
				_, _ = io.Copy(io.Discard, r)
			}
			c.Close()
			b.quiet()
			eventually(t, tt.want+" in the log", func() bool { return strings.Contains(b.lines.String(), tt.want) })
			if s := b.LoopStats()[0]; s.Splice == 0 {
				t.Error("the kernel moved nothing")
			}
		})
	}
}
