package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
	"sluis/internal/proxy/transport"
)

// generator carries out one order at a time: each connection sends a request as
// soon as it has its answer (a closed loop).
//
//	begin ─► every connection has had an answer ─► warm-up ─► window ─► result
type generator struct {
	loop    *loop.Loop
	origin  *origin
	deliver func(result)
	start   time.Time

	order   order
	request []byte
	body    []byte
	tls     *tls.Config
	clients map[*client]struct{}
	phase   loadPhase
	timer   loop.Timer

	// begun are the connections that were dialled, answered those that have had
	// their first answer.
	begun, answered int
	looked          uint64 // answers, to take samples
	latency         histogram
	result          result
	windowStart     time.Time
	cpu, load       time.Duration // at the window's start
}

type loadPhase uint8

const (
	loadIdle loadPhase = iota
	loadConnecting
	loadWarmUp
	loadWindow
)

// hostName is the name that requests and certificates have.
const hostName = "bench.test"

func newGenerator(l *loop.Loop, o *origin, deliver func(result)) *generator {
	g := &generator{loop: l, origin: o, deliver: deliver, start: time.Now(), clients: map[*client]struct{}{}}
	g.timer.Init(g.timeUp)
	return g
}

// now is the time in ns; the loop's own is that of the turn's start, which is too
// coarse for latencies.
func (g *generator) now() int64 { return int64(time.Since(g.start)) }

// begin starts an order and ends an earlier one.
func (g *generator) begin(o order) {
	if g.phase != loadIdle {
		g.closeWindow()
	}
	g.end()
	if o.Connections == 0 {
		return
	}
	g.order, g.phase = o, loadConnecting
	g.begun, g.answered, g.result, g.latency = 0, 0, result{}, histogram{}
	g.request, g.body = requestFor(o.Size), body(o.Size)
	g.tls = nil
	if o.TLS {
		g.tls = tlsio.Prepare(&tls.Config{
			ServerName: hostName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
			CurvePreferences: []tls.CurveID{tls.X25519}, // what every proxy here has
		})
		if o.Resume {
			g.tls.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		}
	}
	atOnce := o.AtOnce
	if atOnce == 0 {
		atOnce = o.Connections
	}
	for range atOnce {
		g.dialNext()
	}
	g.loop.Arm(&g.timer, g.loop.Now()+int64(connectLimit))
}

// connectLimit is how long all connections may take to get their first answer.
const connectLimit = 20 * time.Second

// requestFor is a request such as a browser sends.
func requestFor(size int) []byte {
	return []byte("GET /" + strconv.Itoa(size) + "/system/templates/page/index.html?id=12345 HTTP/1.1\r\n" +
		"Host: " + hostName + "\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
		"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"Referer: https://" + hostName + "/system/\r\n" +
		"Cookie: JSESSIONID=0123456789ABCDEF0123456789ABCDEF; theme=dark\r\n\r\n")
}

// dialNext opens one more of the order's connections.
func (g *generator) dialNext() {
	if g.begun < g.order.Connections {
		g.dial(g.begun)
		g.begun++
	}
}

// dial opens a connection, from one of 200 addresses, so that ports don't run out.
func (g *generator) dial(index int) {
	c := &client{g: g, index: index, left: headToCome, sent: g.now()}
	g.clients[c] = struct{}{}
	source := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + index%200)})
	if err := c.Dial(g.loop, c, g.order.Target, g.tls, transport.DialOptions{Source: source}); err != nil {
		delete(g.clients, c)
		g.fail(err)
	}
}

// fail counts a request that went wrong.
func (g *generator) fail(err error) {
	g.result.Failed++
	if g.result.Fault == "" {
		g.result.Fault = err.Error()
	}
}

// firstAnswer counts the connections that work.
func (g *generator) firstAnswer() {
	g.answered++
	g.dialNext()
	if g.phase != loadConnecting || g.answered < g.order.Connections {
		return
	}
	if g.order.Hold {
		g.phase = loadIdle
		g.loop.Arm(&g.timer, 0)
		g.deliver(g.result)
		return
	}
	g.phase = loadWarmUp
	g.loop.Arm(&g.timer, g.loop.Now()+int64(g.order.WarmUp))
}

// timeUp ends a phase.
func (g *generator) timeUp() {
	switch g.phase {
	case loadConnecting:
		g.fail(fmt.Errorf("%d of %d connections got an answer in %s", g.answered, g.order.Connections, connectLimit))
		g.finish()
	case loadWarmUp:
		g.openWindow()
	case loadWindow:
		g.closeWindow()
	}
}

func (g *generator) openWindow() {
	g.phase = loadWindow
	failed, fault := g.result.Failed, g.result.Fault
	g.result = result{Failed: failed, Fault: fault} // one in the warm-up counts, too
	g.latency = histogram{}
	g.origin.served, g.origin.sampled, g.origin.forwarded = 0, 0, 0
	g.cpu, g.load = g.times()
	g.windowStart = time.Now()
	g.loop.Arm(&g.timer, g.loop.Now()+int64(g.order.Window))
}

func (g *generator) closeWindow() {
	r := &g.result
	cpu, load := g.times()
	r.Took, r.CPU, r.Load = time.Since(g.windowStart), cpu-g.cpu, load-g.load
	r.P50, r.P99 = g.latency.quantile(0.50), g.latency.quantile(0.99)
	r.Served, r.Sampled, r.Forwarded = g.origin.served, g.origin.sampled, g.origin.forwarded
	g.finish()
}

func (g *generator) times() (cpu, load time.Duration) {
	load, err := cpuTime(os.Getpid())
	if g.order.PID != 0 && err == nil {
		cpu, err = cpuTime(g.order.PID)
	}
	if err != nil {
		g.fail(err)
	}
	return cpu, load
}

// finish delivers the result and lets all connections go.
func (g *generator) finish() {
	g.phase = loadIdle
	g.end()
	g.deliver(g.result)
}

// end closes what is open.
func (g *generator) end() {
	g.loop.Arm(&g.timer, 0)
	for c := range g.clients {
		c.vanish()
	}
}

// client is one connection of the generator.
type client struct {
	transport.Conn
	g     *generator
	index int
	sent  int64 // ns
	// left is how much of the body is to come.
	left   int
	served bool // it has had an answer
	sample bool // the answer under way is looked at closely
}

// headToCome is client.left before an answer's head.
const headToCome = -1

// Connected follows the connect and the handshake.
func (c *client) Connected() {
	if state := c.TLS(); state != nil && c.g.phase == loadWindow {
		c.g.result.Handshakes++
		if state.DidResume {
			c.g.result.Resumed++
		}
	}
	if !c.g.order.New {
		c.sent = c.g.now()
	}
	c.Write(c.g.request)
}

// Data is an answer, or a part of one.
func (c *client) Data(b []byte) int {
	taken := 0
	if c.left == headToCome {
		n := c.head(b)
		if n <= 0 {
			return 0
		}
		taken = n
		b = b[n:]
	}
	n := min(len(b), c.left)
	if c.sample && !bytes.Equal(b[:n], c.g.body[len(c.g.body)-c.left:][:n]) {
		c.broken(errors.New("the body is not what the origin sent"))
		return taken + len(b)
	}
	c.left -= n
	if c.left > 0 {
		return taken + n
	}
	if len(b) > n {
		c.broken(errors.New("more came than the answer's length"))
		return taken + len(b)
	}
	c.answered()
	return taken + n
}

// head reads the head of an answer and returns its length; 0 = it is not whole,
// below 0 = it is wrong.
func (c *client) head(b []byte) int {
	g := c.g
	// Nearly always head and a small body come together: then no search is needed.
	n := len(b) - g.order.Size
	if n < len(headEnd) || !bytes.HasSuffix(b[:n], headEnd) {
		i := bytes.Index(b, headEnd)
		if i < 0 {
			return 0
		}
		n = i + len(headEnd)
	}
	const status = "HTTP/1.1 200"
	if n < len(status) || string(b[:len(status)]) != status {
		c.broken(fmt.Errorf("the answer is %q", b[:min(n, 40)]))
		return -1
	}
	g.looked++
	c.sample = g.looked%sampleEvery == 0
	if c.sample && contentLength(b[:n]) != g.order.Size {
		c.broken(errors.New("the answer's Content-Length is not what the origin sent"))
		return -1
	}
	c.left = g.order.Size
	return n
}

// contentLength is the length that a head tells; -1 = none.
func contentLength(head []byte) int {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err == nil {
				return n
			}
		}
	}
	return -1
}

// answered counts an answer and goes on.
func (c *client) answered() {
	g := c.g
	now := g.now()
	if g.phase == loadWindow {
		g.result.Done++
		g.latency.add(now - c.sent)
	}
	c.left = headToCome
	first := !c.served
	c.served = true
	switch {
	case g.order.Hold:
	case g.order.New:
		index := c.index
		c.vanish()
		g.dial(index)
		first = first && g.phase == loadConnecting
	default:
		c.sent = now
		c.Write(g.request)
	}
	if first {
		g.firstAnswer()
	}
}

// broken ends a connection whose answer was wrong, and opens another.
func (c *client) broken(err error) {
	c.g.fail(err)
	c.vanish()
	c.again()
}

func (c *client) again() {
	if c.g.phase != loadIdle && c.g.result.Failed < mostFailures {
		c.g.dial(c.index)
	}
}

// mostFailures is after how many failures connections are no longer replaced.
const mostFailures = 1000

// vanish closes with a reset: no port stays behind in TIME_WAIT.
func (c *client) vanish() {
	if fd := c.FD(); fd >= 0 {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	c.Abort()
	delete(c.g.clients, c)
}

// Drained has nothing to do: requests are small.
func (c *client) Drained() {}

// Ended follows the proxy's end, which nobody asked for.
func (c *client) Ended() {
	if c.g.order.Hold && c.served {
		c.vanish()
		return
	}
	c.broken(errors.New("the proxy closed the connection"))
}

// Closed follows a connection that is gone.
func (c *client) Closed(err error) {
	delete(c.g.clients, c)
	if c.g.phase == loadIdle {
		return
	}
	c.g.fail(fmt.Errorf("the connection was lost: %w", err))
	c.again()
}

// histogram counts times in classes of 1.6 % width.
type histogram struct {
	classes [64 << subBits]uint32
	all     uint64
}

const subBits = 6

func (h *histogram) add(ns int64) {
	h.all++
	v := uint64(max(ns, 1))
	shift := max(bits.Len64(v)-subBits-1, 0)
	h.classes[shift<<subBits+int(v>>shift)]++
}

// quantile is the time that a share q of all is not above.
func (h *histogram) quantile(q float64) time.Duration {
	want := uint64(q * float64(h.all))
	var sum uint64
	for i, n := range h.classes {
		sum += uint64(n)
		if n > 0 && sum >= want {
			shift := max(i>>subBits-1, 0)
			return time.Duration((i - shift<<subBits) << shift)
		}
	}
	return 0
}
