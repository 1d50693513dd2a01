// Package proxy is the data plane's hall: it owns the listening sockets, the
// client and server connections, and the exchanges between them, and it puts the
// balancer's part of the document into effect.
//
// It promises that a change touches nothing that did not change: sockets, open
// connections and server states outlive a snapshot; that a request is served by
// the snapshot that it began with; that nothing which a peer can make it hold is
// without a bound; and that what it forwards is written anew from what it
// understood. It does not judge whether servers are well (health does), does not
// look names up (resolve does), and keeps nothing on disk.
//
// A request reads from top to bottom: listener.go (accept), client.go (its
// connection), exchange.go (the request's way: keep, decide, forward), place.go (a
// place at a server), server.go (the connection to it), body.go (the request's
// body), answer.go (the response's way back), finish.go (counting, logging, the next
// request). A change: compile.go (document →
// snapshot), change.go (add, switch, remove). tunnel.go holds upgraded
// connections, runtime.go what the operator does, numbers.go what is counted.
package proxy

import (
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"sluis/internal/event"
	"sluis/internal/proxy/accesslog"
	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/persist"
	"sluis/internal/proxy/upstream"
)

// Options are what a Proxy needs of others.
type Options struct {
	// Certificate is the certificate of that name with its chain and key; nil =
	// there is none. Asked at every change and never per request.
	Certificate func(name string) *tls.Certificate
	// Authority is the certificate of an authority as PEM text; nil, or an empty
	// answer, leaves it to the document.
	Authority func(name string) string
	// HTTPChallenge is the answer to an authority that asks for a token over HTTP
	// (RFC 8555 section 8.3); false = the token isn't ours. Called in a loop: it may
	// not wait. Nil = never.
	HTTPChallenge func(token string) (body string, ok bool)
	// ALPNChallenge is the certificate for an authority's handshake (RFC 8737); nil =
	// no challenge is open for the name. Called in a loop, as above. Nil = never.
	ALPNChallenge func(serverName string) *tls.Certificate
	// Secret reads a stored secret by its reference.
	Secret func(ref string) ([]byte, error)
	// Publish tells an event; nil tells nobody.
	Publish func(event.Event)
	// Log takes the lines of requests; nil = none are written.
	Log *accesslog.Log
	// Loops is how many event loops carry the traffic where the document does not
	// say; 0 = 1.
	Loops int
}

// Proxy is one data plane. Its methods may be called from any goroutine.
type Proxy struct {
	options Options

	// current is what new requests are served by; nil before the first Switch.
	current atomic.Pointer[snapshot]
	// clock is monotonic, in ns; the loops have their own.
	clock func() int64
	// set holds the servers' states, places and queues.
	set *upstream.Set
	// sessions are the clients bound to servers.
	sessions *persist.Sessions
	// signers make slow signatures outside the loops.
	signers *loop.Pool
	tickets ticketKeys
	numbers numbers
	// requestIDs makes the ids of requests unlike those of another run.
	requestSeed uint64
	hashSeed    maphash.Seed

	// connections is how many clients are connected, over all loops.
	connections atomic.Int64

	// mu guards what follows. It is never taken by a loop.
	mu        sync.Mutex
	workers   []*worker
	running   sync.WaitGroup
	listeners map[listenAddress]*listener
	closed    bool
	stop      chan struct{}
}

// New makes a data plane with nothing in effect: its loops start with the first
// change.
func New(options Options) *Proxy {
	if options.Publish == nil {
		options.Publish = func(event.Event) {}
	}
	clock := monotonic()
	p := &Proxy{
		options: options, clock: clock, set: upstream.NewSet(clock), sessions: persist.NewSessions(boundSessions, boundFor),
		signers: loop.NewPool(signerWorkers, signerQueue), listeners: map[listenAddress]*listener{},
		requestSeed: newSeed(), hashSeed: maphash.MakeSeed(), stop: make(chan struct{}),
	}
	p.numbers.init()
	return p
}

const (
	// boundSessions is how many clients are remembered with their server; the
	// longest unseen one gives way.
	boundSessions = 1 << 17
	// boundFor is how long a client counts as bound after its last request.
	boundFor = 30 * time.Minute
	// signerWorkers and signerQueue bound the RSA signatures under way.
	signerWorkers = 2
	signerQueue   = 4096
)

// start makes the loops. Their number stays until the process ends: connections
// and sockets belong to a loop.
func (p *Proxy) start(loops int) error {
	for i := range loops {
		w, err := newWorker(p, i)
		if err != nil {
			for _, w := range p.workers {
				_ = w.loop.Close() // it never ran
			}
			p.workers = nil
			return fmt.Errorf("start loop %d: %w", i, err)
		}
		p.workers = append(p.workers, w)
	}
	p.numbers.start(loops)
	for _, w := range p.workers {
		p.running.Go(w.loop.Run)
	}
	p.running.Go(p.tick)
	return nil
}

// tick moves what follows the clock by the second: slow start, ticket keys.
func (p *Proxy) tick() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-ticker.C:
			p.set.Tick(p.clock())
			p.tickets.rotate(now)
			for _, w := range p.workers {
				w.loop.Post(w.endOverdue)
			}
		}
	}
}

// Close ends all connections and loops. It may be called again.
func (p *Proxy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.stop)
	p.everyWorker(func(w *worker) { w.closeAll() })
	for _, w := range p.workers {
		w.loop.Stop()
	}
	p.running.Wait()
	for _, w := range p.workers {
		_ = w.loop.Close() // nothing is left to lose
	}
	for _, l := range p.listeners {
		l.closeSockets()
	}
	p.signers.Close()
}

// everyWorker runs f in each loop and waits until all have. The caller holds mu.
func (p *Proxy) everyWorker(f func(*worker)) {
	var done sync.WaitGroup
	for _, w := range p.workers {
		done.Add(1)
		if !w.loop.Post(func() { defer done.Done(); f(w) }) {
			done.Done()
		}
	}
	done.Wait()
}
