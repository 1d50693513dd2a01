package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// counter is a number that one loop writes and everybody reads. It is not for
// several writers.
type counter struct{ n atomic.Uint64 }

func (c *counter) add(d uint64) { c.n.Store(c.n.Load() + d) }

// Get is the number.
func (c *counter) Get() uint64 { return c.n.Load() }

// frontendCounts are one loop's numbers of one frontend.
type frontendCounts struct {
	Connections, Handshakes, HandshakeErrors, HandshakeTimeouts, Empty, LimitReached counter

	Requests, BadRequests, Denied, Challenges, BytesIn, BytesOut counter
	// Answers are by the first digit of the status; [0] those without any.
	Answers [6]counter

	_ [64]byte // the next loop's numbers are in another cache line
}

// serverCounts are one loop's numbers of one server.
type serverCounts struct {
	Requests, Connects, Reused, Stale, ConnectErrors, AnswerErrors counter
	Retries, Redispatched, Unasked, BytesIn, BytesOut, Aborted     counter

	Answers [6]counter
	// Times add up the answers' times in ns, for a mean: to connect, to the head, in all.
	ConnectTime, AnswerTime, TotalTime counter

	_ [64]byte
}

// backendCounts are one loop's numbers of one backend, beside its servers'.
type backendCounts struct {
	QueueFull, QueueTimeouts, NoServer counter

	_ [64]byte
}

// liveFrontend is what outlives a frontend's snapshots.
type liveFrontend struct {
	connections atomic.Int64 // open ones
	webSockets  atomic.Int64
	asked       askedNames
	perLoop     []frontendCounts
}

func (l *liveFrontend) of(loop int) *frontendCounts { return &l.perLoop[loop] }

func (l *liveFrontend) accepted(loop int) { l.of(loop).Connections.add(1) }

type liveBackend struct {
	webSockets atomic.Int64
	perLoop    []backendCounts
}

func (l *liveBackend) of(loop int) *backendCounts { return &l.perLoop[loop] }

type liveServer struct {
	webSockets atomic.Int64
	perLoop    []serverCounts
}

func (l *liveServer) of(loop int) *serverCounts { return &l.perLoop[loop] }

// numbers are the live objects by name, and what belongs to none of them.
type numbers struct {
	// LimitReached counts connections that waited because the appliance was full,
	// AcceptErrors those that could not be taken for lack of memory or descriptors.
	LimitReached, AcceptErrors atomic.Uint64
	// Waiting is how many sockets leave connections in the kernel's queue now.
	Waiting atomic.Int64

	mu        sync.Mutex // guards the maps; loops hold the objects themselves
	loops     int
	frontends map[string]*liveFrontend
	backends  map[string]*liveBackend
	servers   map[[2]string]*liveServer
}

func (n *numbers) init() {
	n.frontends, n.backends, n.servers = map[string]*liveFrontend{}, map[string]*liveBackend{}, map[[2]string]*liveServer{}
}

func (n *numbers) start(loops int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loops = loops
}

func (n *numbers) frontend(name string) *liveFrontend {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.frontends[name]
	if l == nil {
		l = &liveFrontend{perLoop: make([]frontendCounts, n.loops)}
		n.frontends[name] = l
	}
	return l
}

func (n *numbers) backend(name string) *liveBackend {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.backends[name]
	if l == nil {
		l = &liveBackend{perLoop: make([]backendCounts, n.loops)}
		n.backends[name] = l
	}
	return l
}

func (n *numbers) server(backend, name string) *liveServer {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]string{backend, name}
	l := n.servers[key]
	if l == nil {
		l = &liveServer{perLoop: make([]serverCounts, n.loops)}
		n.servers[key] = l
	}
	return l
}

// monotonic is a clock in ns that never goes back.
func monotonic() func() int64 {
	start := time.Now()
	return func() int64 { return int64(time.Since(start)) }
}

func newSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) >> 16
}
