package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluis/internal/proxy"
)

// recorder is a server that knows just enough of HTTP to keep every request byte for
// byte. It answers with the target, or as reply says.
type recorder struct {
	t     *testing.T
	port  int
	reply func(request string) string // nil or "" = the target

	mu          sync.Mutex
	requests    []string
	broken      []string // what began as a request and did not end as one
	connections int
	busy, most  int // requests at a time, now and at most
}

func newRecorder(t *testing.T, reply func(request string) string) *recorder {
	t.Helper()
	o := &recorder{t: t, reply: reply}
	o.port = script(t, func(_ int, c net.Conn) { o.serve(c) })
	return o
}

func (o *recorder) serve(c net.Conn) {
	o.mu.Lock()
	o.connections++
	o.mu.Unlock()
	r := bufio.NewReader(c)
	for {
		request, err := readRaw(r)
		o.mu.Lock()
		if err != nil {
			if request != "" {
				o.broken = append(o.broken, request)
			}
			o.mu.Unlock()
			return
		}
		o.requests = append(o.requests, request)
		o.busy++
		o.most = max(o.most, o.busy)
		o.mu.Unlock()
		answer := ""
		if o.reply != nil {
			answer = o.reply(request)
		}
		if answer == "" {
			answer = ok(targetOf(request))
		}
		o.mu.Lock()
		o.busy--
		o.mu.Unlock()
		if _, err := io.WriteString(c, answer); err != nil || strings.Contains(answer, "Connection: close") {
			return
		}
	}
}

// seen are the requests so far.
func (o *recorder) seen() (requests, broken []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.requests...), append([]string(nil), o.broken...)
}

func (o *recorder) count() (requests, connections, most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests), o.connections, o.most
}

func (o *recorder) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests, o.broken = nil, nil
}

func targetOf(request string) string {
	_, rest, _ := strings.Cut(request, " ")
	target, _, _ := strings.Cut(rest, " ")
	return target
}

// ok is an answer with this body.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// readRaw reads one request as a server would that knows nothing but CR LF,
// Content-Length and chunked. At an error it returns what there was of it.
func readRaw(r *bufio.Reader) (string, error) {
	var all strings.Builder
	length, chunked := 0, false
	line := func() (string, error) {
		s, err := r.ReadString('\n')
		all.WriteString(s)
		if err == nil && !strings.HasSuffix(s, "\r\n") {
			err = errors.New("a line without CR")
		}
		return strings.TrimSuffix(s, "\r\n"), err
	}
	exactly := func(n int) error {
		b := make([]byte, n)
		got, err := io.ReadFull(r, b)
		all.Write(b[:got])
		return err
	}
	for first := true; ; first = false {
		s, err := line()
		if err != nil {
			return all.String(), err
		}
		if s == "" && !first {
			break
		}
		name, value, _ := strings.Cut(s, ":")
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Content-Length":
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		case "Transfer-Encoding":
			chunked = true
		}
	}
	if !chunked {
		err := exactly(length)
		return all.String(), err
	}
	for {
		s, err := line()
		if err != nil {
			return all.String(), err
		}
		n, err := strconv.ParseUint(s, 16, 31)
		if err != nil {
			return all.String(), err
		}
		if n == 0 {
			break
		}
		if err := exactly(int(n) + 2); err != nil {
			return all.String(), err
		}
	}
	for {
		if s, err := line(); err != nil || s == "" {
			return all.String(), err
		}
	}
}

// converse sends bytes, all at once or one by one, and reads until the other side
// closes. It fails where that does not happen.
func converse(t *testing.T, address, request string, piece int) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	go func() {
		for len(request) > 0 {
			n := min(piece, len(request))
			if _, err := io.WriteString(c, request[:n]); err != nil {
				return
			}
			request = request[n:]
		}
	}()
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 {
		t.Errorf("the connection did not end in good order: %v", err)
	}
	return string(b)
}

// statuses are those of the answers in what a connection brought.
func statuses(t *testing.T, answers string, methods ...string) (codes []int, bodies []string) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(answers))
	for i := 0; ; i++ {
		if _, err := r.Peek(1); err != nil {
			return codes, bodies
		}
		method := "GET"
		if i < len(methods) {
			method = methods[i]
		}
		resp, body := answer(t, r, method)
		codes, bodies = append(codes, resp.StatusCode), append(bodies, body)
	}
}

// quiet waits until nothing is under way, and fails where a place, a connection or a
// request in a queue is left.
func (b *box) quiet() {
	b.t.Helper()
	var st proxy.Status
	for deadline := time.Now().Add(8 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if st = b.Status(); nothingHeld(st) {
			return
		}
	}
	b.t.Fatalf("something is still held: %+v", st)
}

func nothingHeld(st proxy.Status) bool {
	if st.Connections != 0 {
		return false
	}
	for _, f := range st.Frontends {
		if f.Connections != 0 || f.WebSockets != 0 {
			return false
		}
	}
	for _, be := range st.Backends {
		if be.InUse != 0 || be.Queued != 0 || be.WebSockets != 0 {
			return false
		}
		for _, s := range be.Servers {
			if s.InUse != 0 || s.Queued != 0 {
				return false
			}
		}
	}
	return true
}

// leaks fails where what follows leaves goroutines, descriptors or borrowed buffers
// behind. A few may come and go beside it.
func (b *box) leaks(work func()) {
	b.t.Helper()
	count := func() (goroutines, descriptors int, buffers uint64) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			b.t.Fatal(err)
		}
		for _, s := range b.LoopStats() {
			buffers += s.BuffersOut
		}
		return runtime.NumGoroutine(), len(fds), buffers
	}
	goroutines, descriptors, buffers := count()
	work()
	b.quiet()
	var g, d int
	var out uint64
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if g, d, out = count(); g <= goroutines+4 && d <= descriptors+4 && out <= buffers {
			return
		}
	}
	b.t.Errorf("goroutines %d → %d, descriptors %d → %d, buffers %d → %d", goroutines, g, descriptors, d, buffers, out)
}

// dial connects to an address with a deadline for all that follows.
func dial(t *testing.T, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn), bufio.NewReader(c)
}
