package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echoes upgrades every request and sends back what comes.
func echoes(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "ok")
		return
	}
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

// chat opens a WebSocket-like tunnel.
func chat(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprint(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("no tunnel: %v %v", resp, err)
	}
	return c, r
}

// alive tells whether a tunnel still carries bytes.
func alive(c net.Conn, r *bufio.Reader) bool {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return false
	}
	var b [4]byte
	_, err := io.ReadFull(r, b[:])
	return err == nil && string(b[:]) == "ping"
}

// variant is a document that differs from its neighbours in everything that can
// change while traffic runs: rules, servers, cookies, timeouts, another frontend.
func variant(i, port, otherPort int, origins []*origin) string {
	var s strings.Builder
	fmt.Fprintf(&s, "frontends:\n  - name: site\n    binds: [{name: main, address: 127.0.0.1, port: %d}]\n    default_backend: web\n", port)
	fmt.Fprintf(&s, "    rules:\n      - {name: mark, set_header: {of: response, field: X-Revision, value: \"%d\"}}\n", i)
	if i%3 == 0 {
		fmt.Fprintf(&s, "  - name: other\n    binds: [{name: main, address: 127.0.0.1, port: %d}]\n    default_backend: web\n", otherPort)
	}
	balance := []string{"roundrobin", "leastconn", "first", "random"}[i%4]
	fmt.Fprintf(&s, "backends:\n  - name: web\n    balance: %s\n    timeouts: {server: %ds}\n", balance, 30+i%7)
	if i%2 == 0 {
		s.WriteString("    persistence: {cookie: {name: SID, mode: insert, indirect: true}}\n")
	}
	s.WriteString("    servers:\n")
	for k, o := range origins {
		if k == 0 || (i>>k)%2 == 0 { // servers come and go
			fmt.Fprintf(&s, "      - {name: %s, address: 127.0.0.1, port: %d, weight: %d}\n", o.name, o.port(), 1+i%5)
		}
	}
	return s.String()
}

// TestApplyUnderLoad applies changed configurations while requests, uploads and
// tunnels run: no request fails, no tunnel closes, nothing leaks.
func TestApplyUnderLoad(t *testing.T) {
	applies := 200
	if os.Getenv("SLUIS_LONG") == "1" {
		applies = 1000
	}
	b := newBox(t, 2)
	origins := []*origin{b.origin("web1", echoes), b.origin("web2", echoes), b.origin("web3", echoes)}
	port, otherPort := freePort(t), freePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	b.apply(variant(0, port, otherPort, origins))

	type tunnel struct {
		c net.Conn
		r *bufio.Reader
	}
	var chats []tunnel
	for range 50 {
		c, r := chat(t, address)
		chats = append(chats, tunnel{c, r})
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	var requests, failures atomic.Int64
	upload := bytes.Repeat([]byte("x"), 200<<10)
	for i := range 8 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				var resp *http.Response
				var err error
				if i%2 == 0 {
					resp, err = client.Get("http://" + address + "/")
				} else {
					resp, err = client.Post("http://"+address+"/", "text/plain", bytes.NewReader(upload))
				}
				requests.Add(1)
				if err != nil || resp.StatusCode != 200 {
					if failures.Add(1) < 5 {
						t.Errorf("request failed: %v %v", resp, err)
					}
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	// One round of every shape settles what is made once.
	for i := range 24 {
		b.apply(variant(i, port, otherPort, origins))
	}
	before := resources(t)
	begun := time.Now()
	for i := range applies {
		b.apply(variant(i, port, otherPort, origins))
	}
	took := time.Since(begun)
	b.apply(variant(0, port, otherPort, origins))
	after := resources(t)
	close(stop)
	load.Wait()
	open := 0
	for _, c := range chats {
		if alive(c.c, c.r) {
			open++
		}
	}
	t.Logf("%d applies in %v beside %d requests; %d failed; %d of %d tunnels open", applies, took, requests.Load(), failures.Load(), open, len(chats))
	if failures.Load() > 0 || open != len(chats) {
		for _, line := range strings.Split(b.lines.String(), "\n") {
			if strings.Contains(line, `"reason":`) {
				t.Log(line)
				break
			}
		}
		t.Errorf("%d requests failed, %d tunnels closed", failures.Load(), len(chats)-open)
	}
	t.Logf("before %+v, after %+v", before, after)
	if after.goroutines > before.goroutines+20 || after.descriptors > before.descriptors+60 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

type held struct {
	goroutines, descriptors int
	heap                    uint64
}

func resources(t *testing.T) held {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return held{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}

// TestImpactIsExact holds tunnels on two frontends and removes one of them.
func TestImpactIsExact(t *testing.T) {
	n := 100
	if os.Getenv("SLUIS_LONG") == "1" {
		n = 1000
	}
	b := newBox(t, 2)
	o := b.origin("web1", echoes)
	ports := [2]int{freePort(t), freePort(t)}
	doc := func(frontends ...int) string {
		s := "load_balancer: {drain_timeout: 1s}\nfrontends:\n"
		for _, f := range frontends {
			s += fmt.Sprintf("  - {name: f%d, binds: [{name: main, address: 127.0.0.1, port: %d}], default_backend: web}\n", f, ports[f])
		}
		return s + fmt.Sprintf("backends:\n  - {name: web, servers: [{name: web1, address: 127.0.0.1, port: %d}]}\n", o.port())
	}
	b.apply(doc(0, 1))
	type tunnel struct {
		c net.Conn
		r *bufio.Reader
	}
	var chats [2][]tunnel
	for f := range chats {
		for range n {
			c, r := chat(t, fmt.Sprintf("127.0.0.1:%d", ports[f]))
			chats[f] = append(chats[f], tunnel{c, r})
		}
	}
	change, err := b.prepare(doc(0))
	if err != nil {
		t.Fatal(err)
	}
	impact := change.Impact()
	if len(impact) != 1 || impact[0].Path != "frontends[f1]" || impact[0].WebSockets != n || impact[0].Connections != n || impact[0].Listeners != 1 {
		t.Errorf("impact is %+v, want %d WebSockets of frontends[f1]", impact, n)
	}
	b.apply(doc(0))
	eventually(t, "the end of the removed frontend's tunnels", func() bool { return b.Status().Connections == int64(n) })
	for f, want := range []bool{true, false} {
		for i, c := range chats[f] {
			if alive(c.c, c.r) != want {
				t.Fatalf("tunnel %d of frontend f%d: open is %v", i, f, !want)
			}
		}
	}
}

// TestUndoBringsBackWhatWas undoes a change after each of its steps.
func TestUndoBringsBackWhatWas(t *testing.T) {
	for steps := 1; steps <= 3; steps++ {
		t.Run(fmt.Sprint(steps, " steps done"), func(t *testing.T) {
			b := newBox(t, 2)
			old, next := b.origin("old", echoes), b.origin("next", echoes)
			doc, address := b.site("", "", old)
			b.apply(doc)
			nextDoc, nextAddress := b.site("", "", next)
			change, err := b.prepare(nextDoc)
			if err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			for _, step := range []func(context.Context) error{change.Add, change.Switch, change.Remove}[:steps] {
				if err := step(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := change.Undo(ctx); err != nil {
				t.Fatal(err)
			}
			if resp, _ := get(t, http.DefaultClient, "http://"+address+"/"); resp.Header.Get("X-Origin") != "old" {
				t.Errorf("after the undo %q answers", resp.Header.Get("X-Origin"))
			}
			if c, err := net.Dial("tcp", nextAddress); err == nil {
				c.Close()
				t.Error("the new address still takes connections")
			}
		})
	}
}

// TestTakenPortIsRefusedByName says which bind, and changes nothing.
func TestTakenPortIsRefusedByName(t *testing.T) {
	b := newBox(t, 1)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := b.origin("web1", nil)
	doc, address := b.site("", "", o)
	b.apply(doc)
	_, port, _ := strings.Cut(taken.Addr().String(), ":")
	_, own, _ := strings.Cut(address, ":")
	err = b.tryApply(strings.Replace(doc, "port: "+own, "port: "+port, 1))
	if err == nil || !strings.Contains(err.Error(), "frontends[site].binds[main]") || !strings.Contains(err.Error(), "taken by another program") {
		t.Errorf("got %v", err)
	}
	if resp, _ := get(t, http.DefaultClient, "http://"+address+"/"); resp.StatusCode != 200 {
		t.Errorf("status %d afterwards", resp.StatusCode)
	}
}

// TestAnyAddressAndOneOfThem exchanges a listener on any address with one on an
// address of its own, both ways, without a gap for clients.
func TestAnyAddressAndOneOfThem(t *testing.T) {
	b := newBox(t, 2)
	o := b.origin("web1", echoes)
	doc, address := b.site("", "", o)
	wide := strings.Replace(doc, "address: 127.0.0.1, port: "+address[len("127.0.0.1:"):], "address: any, port: "+address[len("127.0.0.1:"):], 1)
	b.apply(doc)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		failed := 0
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for {
			select {
			case <-stop:
				done <- failed
				return
			default:
			}
			resp, err := client.Get("http://" + address + "/")
			if err != nil || resp.StatusCode != 200 {
				failed++
				continue
			}
			resp.Body.Close()
		}
	}()
	for range 10 {
		b.apply(wide)
		b.apply(doc)
	}
	close(stop)
	if failed := <-done; failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
}

// TestUndoLetsStay: who was told to leave stays when the change is undone.
func TestUndoLetsStay(t *testing.T) {
	b := newBox(t, 1)
	o, other := b.origin("web1", echoes), b.origin("web2", echoes)
	doc, address := b.site("", "", o)
	nextDoc := strings.Replace(strings.Replace(doc, "name: web1", "name: web2", 1), fmt.Sprint(o.port()), fmt.Sprint(other.port()), 1)
	b.apply("load_balancer: {drain_timeout: 1s}\n" + doc)
	c, r := chat(t, address)
	change, err := b.prepare("load_balancer: {drain_timeout: 1s}\n" + nextDoc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, step := range []func(context.Context) error{change.Add, change.Switch, change.Remove, change.Undo} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(2500 * time.Millisecond))
	if _, err := r.ReadByte(); err == io.EOF {
		t.Error("a tunnel to a server that came back was ended")
	}
	if !alive(c, r) {
		t.Error("the tunnel is dead")
	}
}
