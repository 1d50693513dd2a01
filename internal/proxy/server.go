package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/transport"
	"sluis/internal/proxy/upstream"
)

// serverConn is one connection to a server.
//
//	connecting ─► busy ─┬─► idle ─► busy …
//	                    └─► tunnel
type serverConn struct {
	transport.Conn
	w      *worker
	target *server
	state  *upstream.Server // of target, also when a snapshot has gone
	way    *way
	// address and name are what it was connected to: a server may move.
	address netip.AddrPort
	name    string // sent as SNI
	x       *exchange
	tunnel  *tunnel
	timer   loop.Timer
	phase   serverPhase
	// used is how many requests it has carried.
	used int
	// last tells that the server wants to close, or that what it sends ends with the
	// connection.
	last bool
	// receivedBefore is what it had sent before this exchange.
	receivedBefore int64

	next, prev *serverConn
}

type serverPhase uint8

const (
	serverConnecting serverPhase = iota
	serverBusy
	serverIdle
	serverTunnel
	serverClosing // its last bytes go out
)

// dial begins a connection for an exchange. Where it fails at once, the exchange has
// gone on when this returns.
func (w *worker) dial(x *exchange) {
	t := x.target
	s := &serverConn{w: w, target: t, state: t.state, way: t.way, address: t.state.Addr(), x: x}
	s.timer.Init(s.expired)
	if !s.address.IsValid() {
		x.connectFailed(errNoAddress)
		return
	}
	w.servers.add(s)
	w.loop.Arm(&s.timer, w.loop.Now()+x.be.connectTimeout)
	x.server = s
	config := s.tlsFor(x)
	s.KeepLimit(maxResponseHead + 1)
	t.live.of(w.index).Connects.add(1)
	if err := s.Dial(w.loop, s, s.address, config, transport.DialOptions{First: proxyHeader(t.way.proxy, x.client)}); err != nil {
		s.forget()
		x.connectFailed(err)
	}
}

// errNoAddress says that a server's name has not been found yet.
var errNoAddress = errors.New("the server's name has no address yet")

// maxResponseHead bounds the head of a server's answer.
const maxResponseHead = 64 << 10

// tlsFor is how the handshake goes; nil without TLS.
func (s *serverConn) tlsFor(x *exchange) *tls.Config {
	if s.way.tls == nil || !s.way.sniOfHost {
		return s.way.tls
	}
	s.name = string(hostOf(x.hostText))
	config := s.way.tls.Clone()
	config.ServerName = s.name
	return config
}

// takeIdle is an idle connection that may carry the exchange's request.
func (w *worker) takeIdle(x *exchange) *serverConn {
	t := x.target
	stack := w.idleOf(t.state.Index())
	if !x.mayReuse() {
		return nil
	}
	for n := len(*stack); n > 0; n-- {
		s := (*stack)[n-1]
		(*stack)[n-1] = nil
		*stack = (*stack)[:n-1]
		s.state.DropIdle()
		if s.way != t.way || s.address != t.state.Addr() || !s.IsOpen() ||
			t.way.sniOfHost && s.name != string(hostOf(x.hostText)) {
			s.discard()
			continue
		}
		s.target, s.phase = t, serverBusy
		t.live.of(w.index).Reused.add(1)
		return s
	}
	return nil
}

// mayReuse tells whether a connection that carried others' requests may carry this
// one. It may turn out to be dead, and a client does not expect that of its first
// request; where nobody will notice because it can be sent again, it may.
func (x *exchange) mayReuse() bool {
	switch x.be.reuse {
	case reuseNever:
		return false
	case reuseSafe:
		return x.client.served > 0 || x.harmless()
	}
	return true
}

// harmless tells whether the request can be sent again once it was sent: twice does
// what once does (RFC 9110 section 9.2.2), and nothing of a body has been let go.
func (x *exchange) harmless() bool {
	return x.method.Idempotent() && x.sentMethod.Idempotent() && x.body.Empty() && !x.upgrade
}

// Connected follows the connect, with TLS where there is TLS.
func (s *serverConn) Connected() {
	s.phase = serverBusy
	if s.x != nil {
		s.x.serverReady()
	}
}

// Data is what the server sent.
func (s *serverConn) Data(b []byte) int {
	switch {
	case s.tunnel != nil:
		return s.tunnel.fromServer(b)
	case s.x != nil && s.phase == serverBusy:
		return s.x.fromServer(b)
	}
	// Nobody asked for anything: what it means can't be known (RFC 9112 section 9.2).
	s.target.live.of(s.w.index).Unasked.add(1)
	s.removeIdle()
	s.discard()
	return len(b)
}

// Drained follows a server that has taken everything.
func (s *serverConn) Drained() {
	switch {
	case s.tunnel != nil:
		s.tunnel.serverDrained()
	case s.x != nil:
		s.x.serverDrained()
	}
}

// Ended follows the server's FIN or close_notify.
func (s *serverConn) Ended() {
	switch {
	case s.tunnel != nil:
		s.tunnel.serverEnded()
	case s.x != nil:
		s.x.serverEnded(nil)
	default:
		s.removeIdle()
		s.discard()
	}
}

// Closed follows a connection that is gone.
func (s *serverConn) Closed(err error) {
	switch {
	case s.tunnel != nil:
		s.tunnel.serverClosed()
	case s.x != nil && s.phase == serverConnecting:
		x := s.x
		s.forget()
		x.server = nil
		x.connectFailed(err)
	case s.x != nil:
		s.x.serverEnded(err)
	default:
		s.removeIdle()
		s.forget()
	}
}

// expired is the timer: the server has taken too long.
func (s *serverConn) expired() {
	switch {
	case s.tunnel != nil:
		s.tunnel.expired()
	case s.phase == serverConnecting && s.x != nil:
		x := s.x
		s.discard()
		x.server = nil
		x.connectFailed(errConnectTimeout)
	case s.x != nil:
		s.x.serverExpired()
	default:
		s.removeIdle()
		s.discard()
	}
}

var errConnectTimeout = errors.New("the connection did not come up in time")

// release puts a connection whose exchange is over among the idle ones, or ends it.
func (s *serverConn) release(reusable bool) {
	s.x = nil
	s.used++
	s.receivedBefore = s.Received()
	stack := s.w.idleOf(s.state.Index())
	// A PROXY header names one client for as long as the connection lasts.
	if !reusable || s.target.backend.reuse == reuseNever || s.way.proxy != proxyOff || !s.IsOpen() || s.Pending() > 0 || !s.state.KeepIdle() {
		s.discard()
		return
	}
	s.phase = serverIdle
	*stack = append(*stack, s)
	s.w.loop.Arm(&s.timer, s.w.loop.Now()+idleTime)
	if s.Paused() {
		s.Resume()
	}
}

// idleTime is how long an idle connection is kept: below what servers commonly
// allow.
const idleTime = int64(30e9)

// removeIdle takes a connection out of the idle ones.
func (s *serverConn) removeIdle() {
	if s.phase != serverIdle {
		return
	}
	s.phase = serverBusy
	stack := s.w.idleOf(s.state.Index())
	for i, other := range *stack {
		if other == s {
			*stack = append((*stack)[:i], (*stack)[i+1:]...)
			s.state.DropIdle()
			return
		}
	}
}

// discard ends the connection at once.
func (s *serverConn) discard() {
	s.removeIdle()
	s.Abort()
	s.forget()
}

// forget ends the bookkeeping of a connection that is gone.
func (s *serverConn) forget() {
	s.w.loop.Arm(&s.timer, 0)
	s.w.servers.remove(s)
	s.x = nil
}

// connectFailed goes on after a connection that did not come up. A client that is
// bound to the server waits for it, up to the last try, which goes elsewhere where
// the backend allows it; any other client goes elsewhere at once.
func (x *exchange) connectFailed(err error) {
	live := x.target.live.of(x.w.index)
	live.ConnectErrors.add(1)
	x.server = nil
	if x.retries >= x.be.retries {
		end := byte(endServer)
		if errors.Is(err, errConnectTimeout) {
			end = endServerTimeout
		}
		x.refuse(503, "server "+x.target.name+" can't be reached: "+err.Error(), end, atConnect)
		return
	}
	x.retries++
	live.Retries.add(1)
	bound := x.found.Had || x.useServer != nil
	if bound && (x.retries < x.be.retries || !x.be.redispatch) {
		x.leavePlace()
		x.state = stateDelayed
		x.w.loop.Arm(&x.client.timer, x.w.loop.Now()+retryDelay)
		return
	}
	x.failed = x.waiter.Server
	x.leavePlace()
	x.redispatched = true
	live.Redispatched.add(1)
	x.tryAgain()
}

// retryDelay is the time between two tries at the same server, as HAProxy's.
const retryDelay = int64(1e9)

// tryAgain places the exchange anew.
func (x *exchange) tryAgain() {
	x.state = stateBegun
	x.readAgain()
	x.place(nil)
	x.goOn()
}

// leavePlace gives the place at the server back.
func (x *exchange) leavePlace() {
	if x.placed {
		x.placed = false
		x.waiter.Release()
	}
}

// serverList is the connections to servers of a loop.
type serverList struct {
	first *serverConn
	n     int
}

func (l *serverList) add(s *serverConn) {
	s.next = l.first
	if l.first != nil {
		l.first.prev = s
	}
	l.first = s
	l.n++
}

// remove takes s out; a second time it does nothing.
func (l *serverList) remove(s *serverConn) {
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case l.first == s:
		l.first = s.next
	default:
		return
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.next, s.prev = nil, nil
	l.n--
}
