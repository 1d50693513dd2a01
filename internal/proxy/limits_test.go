package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConnectionLimits lets three connections in; further ones wait in the kernel and
// come in when others go.
func TestConnectionLimits(t *testing.T) {
	for _, tt := range []struct{ name, top, frontend, bind string }{
		{"of the appliance", "load_balancer: {max_connections: 3}\n", "", ""},
		{"of the frontend", "", "    max_connections: 3\n", ""},
		{"of the bind", "", "", ", max_connections: 3"},
	} {
		for _, loops := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s, %d loops", tt.name, loops), func(t *testing.T) {
				o := newRecorder(t, nil)
				b := newBox(t, loops)
				doc, address := siteTo(t, tt.frontend, "", o.port)
				_, port, _ := strings.Cut(address, ":")
				b.apply(tt.top + strings.Replace(doc, "port: "+port, "port: "+port+tt.bind, 1))
				var answered, closed atomic.Int64
				var clients sync.WaitGroup
				leave := make(chan struct{})
				for range 12 {
					clients.Go(func() {
						c, err := net.Dial("tcp", address)
						if err != nil {
							t.Error(err)
							return
						}
						defer c.Close()
						_ = c.SetDeadline(time.Now().Add(10 * time.Second))
						fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
						if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
							t.Errorf("a client that waited got no answer: %v", err)
							return
						}
						if n := answered.Add(1) - closed.Load(); n > 3 {
							t.Errorf("%d clients are connected at a time", n)
						}
						<-leave
						closed.Add(1)
					})
				}
				eventually(t, "three clients are in", func() bool { return answered.Load() == 3 })
				st := b.Status()
				if st.Connections != 3 || st.Frontends[0].Connections != 3 || st.LimitReached+st.Frontends[0].LimitReached == 0 {
					t.Errorf("counted %d, %d connections, limit reached %d, %d times", st.Connections, st.Frontends[0].Connections, st.LimitReached, st.Frontends[0].LimitReached)
				}
				for range 12 {
					leave <- struct{}{}
				}
				clients.Wait()
				b.quiet()
			})
		}
	}
}

// TestServerLimit holds a server to one request at a time, over all loops, whatever
// comes and leaves.
func TestServerLimit(t *testing.T) {
	for _, loops := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			o := newRecorder(t, func(string) string { time.Sleep(200 * time.Microsecond); return "" })
			b := newBox(t, loops)
			doc, address := siteTo(t, "", "    idle_connections: 0\n", o.port)
			b.apply(strings.Replace(doc, fmt.Sprintf("port: %d}\n", o.port), fmt.Sprintf("port: %d, max_connections: 1}\n", o.port), 1))
			run := func(leavers int) {
				var clients sync.WaitGroup
				for i := range 16 {
					clients.Go(func() {
						for range 15 {
							c, err := net.Dial("tcp", address)
							if err != nil {
								t.Error(err)
								return
							}
							_ = c.SetDeadline(time.Now().Add(10 * time.Second))
							fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
							if i < leavers { // go without waiting
								_ = c.(*net.TCPConn).SetLinger(0)
							} else if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
								t.Errorf("got %v, %v", resp, err)
							}
							c.Close()
						}
					})
				}
				clients.Wait()
			}
			b.leaks(func() { run(0) })
			// Whoever leaves gives the place back before the server has noticed, so this
			// holds as the server sees it only where nobody does.
			if _, _, most := o.count(); most != 1 {
				t.Errorf("the server had %d requests at a time", most)
			}
			b.leaks(func() { run(4) })
			if st := b.Status().Backends[0].Servers[0]; st.MaxInUse != 1 {
				t.Errorf("counted %d requests at a time", st.MaxInUse)
			}
		})
	}
}

// TestQueue is first come, first served; it has a length and a time.
func TestQueue(t *testing.T) {
	for _, loops := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			gate := make(chan struct{})
			o := newRecorder(t, func(string) string { <-gate; return "" })
			b := newBox(t, loops)
			doc, address := siteTo(t, "", "    max_queue: 5\n    timeouts: {queue: 1s}\n", o.port)
			b.apply(strings.Replace(doc, fmt.Sprintf("port: %d}\n", o.port), fmt.Sprintf("port: %d, max_connections: 1}\n", o.port), 1))
			type client struct {
				c *net.TCPConn
				r *bufio.Reader
			}
			ask := func(i int) client {
				c, r := dial(t, address)
				fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
				return client{c, r}
			}
			var clients []client
			for i := range 6 { // one at the server, five wait
				clients = append(clients, ask(i))
				eventually(t, "it waits", func() bool {
					s := b.Status().Backends[0]
					return s.InUse == 1 && s.Queued == i
				})
			}
			late := ask(99)
			if resp, _ := answer(t, late.r, "GET"); resp.StatusCode != 503 {
				t.Errorf("status %d where the queue is full", resp.StatusCode)
			}
			_ = clients[2].c.SetLinger(0)
			clients[2].c.Close() // leaves the queue
			eventually(t, "who left is out of the queue", func() bool { return b.Status().Backends[0].Queued == 4 })
			for _, i := range []int{0, 1, 3} {
				gate <- struct{}{}
				if resp, body := answer(t, clients[i].r, "GET"); resp.StatusCode != 200 || body != fmt.Sprintf("/%d", i) {
					t.Errorf("client %d got %d %q", i, resp.StatusCode, body)
				}
			}
			if resp, _ := answer(t, clients[5].r, "GET"); resp.StatusCode != 503 {
				t.Errorf("status %d after the queue's time", resp.StatusCode)
			}
			gate <- struct{}{}
			if _, body := answer(t, clients[4].r, "GET"); body != "/4" {
				t.Errorf("client 4 got %q", body)
			}
			requests, _ := o.seen()
			var order []string
			for _, r := range requests {
				order = append(order, targetOf(r))
			}
			if got := strings.Join(order, " "); got != "/0 /1 /3 /4" {
				t.Errorf("the server's order is %s", got)
			}
			if s := b.Status().Backends[0]; s.QueueFull != 1 || s.QueueTimeouts != 1 {
				t.Errorf("counted %d refused, %d timed out", s.QueueFull, s.QueueTimeouts)
			}
			for _, c := range append(clients, late) {
				c.c.Close()
			}
			b.quiet()
		})
	}
}

// TestWhoeverLeaves breaks connections off in every state that a request goes
// through, from either side. Afterwards nothing is held.
func TestWhoeverLeaves(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	const get, post = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
	hold := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	sends := func(s string) func(int, net.Conn) {
		return func(_ int, c net.Conn) {
			if _, _, err := readHead(c); err == nil {
				_, _ = io.WriteString(c, s)
				hold(c)
			}
		}
	}
	then := func(s string, die func(net.Conn)) func(int, net.Conn) {
		return func(_ int, c net.Conn) {
			if _, _, err := readHead(c); err == nil {
				_, _ = io.WriteString(c, s)
				die(c)
			}
		}
	}
	reset := func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }
	closes := func(net.Conn) {}
	upgrade := strings.Replace(get, "\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 1)
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	tests := []struct {
		name   string
		server func(int, net.Conn)
		asks   string
		tls    bool // to the server
		stays  bool // the client: it is the server that leaves
	}{
		{"a head half sent", sends(""), "GET / HT", false, false},
		{"waiting", sends(""), get, false, false},
		{"a handshake with the server", func(_ int, c net.Conn) { hold(c) }, get, true, false},
		{"a body half sent", sends(""), post + strings.Repeat("x", 50000), false, false},
		{"after an interim answer", sends("HTTP/1.1 103 Early Hints\r\n\r\n"), get, false, false},
		{"answering", sends(head + "Content-Length: 100\r\n\r\nhalf"), get, false, false},
		{"answering in chunks", sends(head + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), get, false, false},
		{"answering in the kernel", sends(head + "Content-Length: 10000000\r\n\r\n" + strings.Repeat("x", 1<<20)), get, false, false},
		{"a tunnel", sends(switching + "hello"), upgrade, false, false},
		{"the server resets, waiting", then("", reset), get, false, true},
		{"the server closes in the handshake", func(_ int, c net.Conn) { _, _ = c.Read(make([]byte, 10)) }, get, true, true},
		{"the server closes in a head", then("HTTP/1.1 20", closes), get, false, true},
		{"the server resets while a body is sent", then("", reset), post + strings.Repeat("x", 50000), false, true},
		{"the server closes while it answers", then(head+"Content-Length: 100\r\n\r\nhalf", closes), get, false, true},
		{"the server resets while it answers in chunks", then(head+"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", reset), get, false, true},
		{"the server closes while it answers in the kernel", then(head+"Content-Length: 10000000\r\n\r\n"+strings.Repeat("x", 1<<20), closes), get, false, true},
		{"the server closes a tunnel", then(switching, closes), upgrade, false, true},
		{"the server resets a tunnel", then(switching, reset), upgrade, false, true},
	}
	for _, tt := range tests {
		for _, how := range []string{"FIN", "RST"} {
			if tt.stays && how == "RST" {
				continue
			}
			t.Run(tt.name+", "+how, func(t *testing.T) {
				t.Parallel()
				b := newBox(t, 2)
				port := script(t, tt.server)
				doc, address := siteTo(t, "    timeouts: {client: 1s, request: 1s}\n", "    retries: 0\n    server_tls: {verify: none}\n    timeouts: {server: 300ms, connect: 300ms}\n", port)
				if tt.tls {
					doc = strings.Replace(doc, "name: s1,", "name: s1, tls: true,", 1)
				}
				b.apply(doc)
				for range 5 {
					c, r := dial(t, address)
					if _, err := io.WriteString(c, tt.asks); err != nil {
						t.Fatal(err)
					}
					if tt.stays {
						if resp, err := http.ReadResponse(r, nil); err == nil && resp.StatusCode != 101 {
							_, _ = io.Copy(io.Discard, resp.Body)
						}
					} else {
						// Long enough that the request has come to where it is to be.
						eventually(t, "the request is under way", func() bool { return b.Status().Connections > 0 })
						_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
						_, _ = r.Peek(1)
					}
					if how == "RST" {
						_ = c.SetLinger(0)
					}
					c.Close()
				}
				b.quiet()
			})
		}
	}
}

// TestIdleHandshakes time out, and garbage is no handshake: nothing of either stays.
func TestIdleHandshakes(t *testing.T) {
	b := newBox(t, 2)
	b.certificate("site", "shop.example")
	o := newRecorder(t, nil)
	doc, address := siteTo(t, "    tls: {certificates: [site]}\n    timeouts: {handshake: 1s}\n", "", o.port)
	b.apply(strings.Replace(doc, "port: ", "tls: true, port: ", 1))
	const idle, garbage = 200, 20
	b.leaks(func() {
		var clients []net.Conn
		for i := range idle + garbage {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			if i >= idle {
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			} else if i%2 == 0 {
				_, _ = c.Write([]byte{22, 3, 1, 0, 200, 1}) // the beginning of a handshake
			}
		}
		eventually(t, "the handshakes' end", func() bool { return b.Status().Connections == 0 })
		for _, c := range clients {
			c.Close()
		}
	})
	if f := b.Status().Frontends[0]; f.HandshakeTimeouts != idle || f.HandshakeErrors != garbage || f.Handshakes != 0 {
		t.Errorf("counted %d timeouts, %d errors, %d handshakes", f.HandshakeTimeouts, f.HandshakeErrors, f.Handshakes)
	}
	c, err := tls.Dial("tcp", address, &tls.Config{ServerName: "shop.example", RootCAs: b.roots})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
