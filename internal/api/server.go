package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a connection.
const (
	headerTimeout  = 10 * time.Second // for the TLS handshake, and for the head of a request
	idleTimeout    = 2 * time.Minute  // between two requests
	maxHeaderBytes = 32 << 10
	// drainTime is how long a server that is closed lets requests finish.
	drainTime = 10 * time.Second
)

// server serves HTTP on one listening socket.
//
//	serve ──► drain: no new connections, idle ones end, event streams end,
//	          other requests have drainTime (one that is held: as long as it takes)
type server struct {
	http     *http.Server
	accepted func() uint64 // numbers connections
	serving  sync.WaitGroup
	// held counts requests that must get their answer out however long it takes: the
	// apply that has caused the drain is one.
	held atomic.Int32
	// draining is closed when the drain begins.
	draining chan struct{}
	once     sync.Once

	mu sync.Mutex
	// unused are connections on which no request has begun; guarded by mu.
	unused map[net.Conn]struct{}
}

// newServer makes a server. describe adds what is special about a connection.
func newServer(handler http.Handler, accepted func() uint64, log *slog.Logger, describe func(net.Conn, *conn)) *server {
	s := &server{accepted: accepted, draining: make(chan struct{}), unused: map[net.Conn]struct{}{}}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		// What net/http says here, any client can make it say: failed handshakes and the
		// like.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			info := conn{number: accepted(), uid: -1, server: s}
			describe(c, &info)
			return context.WithValue(ctx, connKey{}, info)
		},
		ConnState: s.note,
	}
	return s
}

// note follows the connections that have not been used yet: net/http would wait
// for their first request when it shuts down.
func (s *server) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.unused[c] = struct{}{}
	} else {
		delete(s.unused, c)
	}
}

// serve begins to accept.
func (s *server) serve(l net.Listener) {
	s.serving.Go(func() { _ = s.http.Serve(l) }) // ends with ErrServerClosed
}

// hold keeps a request from being cut off by a drain until the returned func is
// called.
func (s *server) hold() func() {
	if s == nil {
		return func() {}
	}
	s.held.Add(1)
	return func() { s.held.Add(-1) }
}

// closeIdle ends connections that carry no request.
func (s *server) closeIdle() {
	if s == nil {
		return
	}
	// The only way that net/http has to close idle connections but for a shutdown. An
	// answer that goes out between the two calls ends its connection, which only
	// costs a new one.
	s.http.SetKeepAlivesEnabled(false)
	s.http.SetKeepAlivesEnabled(true)
}

// untilDrain is a context that ends when the drain begins, too.
func (s *server) untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if s != nil {
		go func() {
			select {
			case <-s.draining:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// drain stops accepting, lets requests finish and ends the server. final is for
// the end of the process, when even a held request has drainTime alone.
func (s *server) drain(final bool) {
	s.once.Do(func() { close(s.draining) })
	s.closeUnused()
	for {
		// Asked before the wait: a request that is let go at its end still has to get
		// its answer out.
		held := s.held.Load() > 0
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		err := s.http.Shutdown(ctx)
		cancel()
		if err == nil || final || !held {
			break
		}
	}
	_ = s.http.Close() // whoever is left had their time
	s.serving.Wait()
}

func (s *server) closeUnused() {
	s.mu.Lock()
	unused := make([]net.Conn, 0, len(s.unused))
	for c := range s.unused {
		unused = append(unused, c)
	}
	s.mu.Unlock()
	for _, c := range unused {
		_ = c.Close()
	}
}
