package proxy_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
)

// cheap is a server and a client that allocate nothing, on raw blocking sockets: what
// is counted in this process is then the hall's.
type cheap struct {
	t        *testing.T
	fd       int
	request  []byte
	answer   []byte
	incoming [8 << 10]byte
}

// rawOrigin answers each read with the same bytes, until its connections close.
func rawOrigin(t *testing.T, answer string) (port int) {
	t.Helper()
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 16); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	out := []byte(answer)
	go func() {
		for {
			fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			go func() {
				defer unix.Close(fd)
				in := make([]byte, 8<<10)
				for {
					if n, err := unix.Read(fd, in); n <= 0 || err != nil {
						return
					}
					if _, err := unix.Write(fd, out); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(l, unix.SHUT_RDWR)
		_ = unix.Close(l)
	})
	return name.(*unix.SockaddrInet4).Port
}

func newCheap(t *testing.T, port int, request string) *cheap {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); err != nil {
		t.Fatal(err)
	}
	return &cheap{t: t, fd: fd, request: []byte(request)}
}

// ask sends the request and reads one answer, which comes in one piece.
func (c *cheap) ask() {
	if _, err := unix.Write(c.fd, c.request); err != nil {
		c.t.Fatal(err)
	}
	n, err := unix.Read(c.fd, c.incoming[:])
	if err != nil || n == 0 {
		c.t.Fatalf("no answer: %d, %v", n, err)
	}
	c.answer = c.incoming[:n]
}

// TestCostOfARequest counts the objects that the hall allocates for a request, and its
// system calls, over a client's connection that stays.
func TestCostOfARequest(t *testing.T) {
	const requests = 20_000
	for _, tt := range []struct{ name, frontend, backend, server string }{
		{"plain", "    log: {enabled: false}\n", "", ""},
		{
			"all features", "    acls:\n" +
				"      - {name: shop, match: host, is: [shop.example]}\n" +
				"      - {name: api, match: path, starts: [/api/]}\n" +
				"      - {name: inside, match: source, in: [127.0.0.0/8]}\n" +
				"      - {name: agent, match: header, field: User-Agent, contains: [curl]}\n" +
				"    rules:\n" +
				"      - {name: no, when: not inside, deny: {status: 403}}\n" +
				"      - {name: mark, when: shop and agent, set_header: {field: X-Shop, value: \"{host}\"}}\n" +
				"      - {name: back, set_header: {of: response, field: X-Served-By, value: \"{server}\"}}\n" +
				"      - {name: there, when: api or shop, use_backend: web}\n",
			"    balance: leastconn\n    hsts: {max_age: 300s}\n    secure_cookies: true\n" +
				"    persistence: {cookie: {name: SID, mode: insert, indirect: true}}\n", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, 1)
			port := rawOrigin(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\nhello")
			doc, address := siteTo(t, tt.frontend, tt.backend, port)
			b.apply(doc)
			var listens int
			fmt.Sscanf(strings.TrimPrefix(address, "127.0.0.1:"), "%d", &listens)
			c := newCheap(t, listens, "GET /api/x?y=z HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8\r\nAccept: */*\r\nCookie: SID=s1; a=b\r\n\r\n")
			for range 1000 {
				c.ask()
			}
			if !strings.HasPrefix(string(c.answer), "HTTP/1.1 200 OK\r\n") {
				t.Fatalf("got %q", c.answer)
			}
			first := b.settledStats()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range requests {
				c.ask()
			}
			runtime.ReadMemStats(&after)
			last := b.settledStats()
			if each := float64(after.Mallocs-before.Mallocs) / requests; each > 0.05 {
				t.Errorf("%.3f objects are allocated for a request, want none", each)
			}
			calls := last.Recv + last.Send + last.Connect + last.EpollCtl + last.Accept + last.Close - first.Recv - first.Send - first.Connect - first.EpollCtl - first.Accept - first.Close
			if each := float64(calls) / requests; each > 4.01 {
				t.Errorf("%.2f system calls for a request beside epoll, want 4: %+v", each, last)
			}
			// One client at a time needs a wait for it and one for the server.
			if each := float64(last.EpollWait-first.EpollWait) / requests; each > 2.6 {
				t.Errorf("%.2f waits for a request", each)
			}
		})
	}
}

// settledStats are the counters of the only loop once it sleeps.
func (b *box) settledStats() loop.Stats {
	time.Sleep(50 * time.Millisecond)
	return b.LoopStats()[0]
}
