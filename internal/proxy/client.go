package proxy

import (
	"net/netip"

	"sluis/internal/proxy/http1"
	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/message"
	"sluis/internal/proxy/transport"
)

// clientConn is one client's connection.
//
//	accept ─ handshake ─┬─► waiting ─► head ─► exchange ─┬─► waiting …
//	         (TLS only) │                                ├─► tunnel ─► closing
//	                    └────────────────────────────────┴─► closing
type clientConn struct {
	transport.Conn
	w      *worker
	socket *socket
	// bind is the listener's at accept; the next request looks for the newest.
	bind *bind
	// x is the exchange under way; nil between two.
	x     *exchange
	timer loop.Timer
	phase clientPhase
	// cipher is the name of the cipher suite, once it was asked for.
	cipher string
	// seen is how much of an unfinished head the parser has looked at.
	seen int
	// served is how many requests were answered.
	served int
	// since is when the present phase began.
	since  int64
	tunnel *tunnel
	// last lets the present answer be the last one of this connection.
	last bool
	// ended tells that the client sends no more.
	ended bool
	// leaveBy is when a connection whose frontend or server went is ended; 0 = it
	// may stay.
	leaveBy int64

	next, prev *clientConn
}

// clientPhase is what a client's connection is at, and so what its timer means.
type clientPhase uint8

const (
	phaseHandshake clientPhase = iota // TLS is being agreed on
	phaseWaiting                      // for the first byte of a request
	phaseHead                         // for the rest of a head
	phaseExchange                     // a request is under way
	phaseTunnel                       // bytes go both ways
	phaseClosing                      // our last bytes go out
)

// adopt takes over an accepted connection.
func (w *worker) adopt(s *socket, b *bind, fd int, from netip.AddrPort) {
	c := &clientConn{w: w, socket: s, bind: b, since: w.loop.Now(), phase: phaseWaiting}
	c.timer.Init(c.expired)
	w.clients.add(c)
	b.frontend.live.accepted(w.index)
	if b.tls != nil {
		c.phase = phaseHandshake
		w.loop.Arm(&c.timer, w.loop.Now()+b.frontend.handshakeTimeout)
	} else {
		w.loop.Arm(&c.timer, w.loop.Now()+b.frontend.requestTimeout)
	}
	c.KeepLimit(b.frontend.limits.Head + 1)
	c.Accept(w.loop, c, fd, from, b.tls)
}

// Connected follows the TLS handshake.
func (c *clientConn) Connected() {
	c.enter(phaseWaiting)
	live := c.bind.frontend.live.of(c.w.index)
	live.Handshakes.add(1)
	if state := c.TLS(); state != nil && state.NegotiatedProtocol == acmeProtocol {
		live.Challenges.add(1)
		c.served++ // the handshake was all that it came for
		c.leave()
		return
	}
	c.w.loop.Arm(&c.timer, c.w.loop.Now()+c.bind.frontend.requestTimeout)
}

func (c *clientConn) enter(p clientPhase) {
	c.phase = p
	c.since = c.w.loop.Now()
}

// Data is what the client sent.
func (c *clientConn) Data(b []byte) int {
	switch {
	case c.tunnel != nil:
		return c.tunnel.fromClient(b)
	case c.phase == phaseClosing:
		return len(b)
	case c.x == nil:
		return c.head(b)
	case c.x.wantsBody():
		return c.x.bodyFromClient(b)
	}
	c.Pause() // the next request waits until this one is answered
	return 0
}

// head reads the head of a request.
func (c *clientConn) head(b []byte) int {
	w := c.w
	fe := c.refresh()
	if c.seen > 0 && http1.Unfinished(b, c.seen, &fe.limits) {
		c.seen = len(b)
		return 0
	}
	w.request.Reset()
	n, fault := http1.ParseRequest(b, &w.request, &fe.limits)
	if fault != nil {
		c.refuse(fault)
		return len(b)
	}
	if n == 0 {
		c.seen = len(b)
		if c.phase == phaseWaiting {
			c.enter(phaseHead)
			w.loop.Arm(&c.timer, w.loop.Now()+fe.requestTimeout)
		}
		return 0
	}
	c.seen = 0
	x := w.newExchange()
	c.x = x
	x.begin(c, b[:n])
	return n + x.run(b[n:])
}

// refresh takes the newest settings before a request: a connection outlives
// snapshots.
func (c *clientConn) refresh() *frontend {
	switch newest := c.socket.listener.bind.Load(); {
	case newest == nil || newest == c.bind:
	case c.bind.continues(newest):
		c.bind = newest
	default:
		// A change is under way whose demands this connection has not met: it is
		// served as if it had come before, once, and then has to come anew.
		c.last = true
	}
	return c.bind.frontend
}

// refuse answers a request that can't be understood, and closes: what follows it
// can't be told apart (RFC 9112 section 9.2).
func (c *clientConn) refuse(fault *http1.Error) {
	c.reject(fault.Status, fault.Reason.String(), endProxy, c.w.request.MethodID)
}

// reject answers what is no request, and closes. The method is what was read of it:
// also an answer like this has no body for HEAD.
func (c *clientConn) reject(status int, reason string, end byte, method message.Method) {
	x := c.w.newExchange()
	c.x = x
	x.beginBroken(c)
	x.method = method
	x.refuse(status, reason, end, atRequest)
}

// Drained follows a slow client that has taken everything.
func (c *clientConn) Drained() {
	switch {
	case c.tunnel != nil:
		c.tunnel.clientDrained()
	case c.x != nil:
		c.x.clientDrained()
	case c.Paused() && c.phase == phaseWaiting:
		c.goOn()
	}
}

// Ended follows a client's FIN or close_notify. An exchange under way is still
// answered: half-close is allowed (RFC 9112 section 9.6).
func (c *clientConn) Ended() {
	c.ended = true
	switch {
	case c.tunnel != nil:
		c.tunnel.clientEnded()
	case c.x != nil && c.x.wantsBody():
		c.x.clientGone() // its body will never be whole
	case c.x != nil:
		c.last = true
	case c.phase == phaseHead:
		c.reject(400, "the client ended in the middle of a head", endClient, message.OtherMethod)
	default:
		c.leave()
	}
}

// Closed follows a connection that is gone.
func (c *clientConn) Closed(err error) {
	if c.phase == phaseHandshake && err != nil {
		c.bind.frontend.live.of(c.w.index).HandshakeErrors.add(1)
	}
	switch {
	case c.tunnel != nil:
		c.tunnel.clientClosed()
	case c.x != nil:
		c.x.clientGone()
	default:
		c.forget()
	}
}

// expired is the timer: what the client was to do has taken too long.
func (c *clientConn) expired() {
	live := c.bind.frontend.live.of(c.w.index)
	switch c.phase {
	case phaseHandshake:
		if c.IsOpen() {
			live.HandshakeTimeouts.add(1)
		} else {
			live.HandshakeErrors.add(1) // it had failed; the client was to read why
		}
		c.drop()
	case phaseWaiting:
		c.leave() // nothing was begun: a browser's spare connection, or keep-alive's end
	case phaseHead:
		c.reject(408, "the request's head did not arrive in time", endClientTimeout, message.OtherMethod)
	case phaseExchange:
		c.x.clientExpired()
	case phaseTunnel:
		c.tunnel.expired()
	case phaseClosing:
		c.drop()
	}
}

// leave closes an idle connection in good order.
func (c *clientConn) leave() {
	if c.served == 0 && c.x == nil {
		c.bind.frontend.live.of(c.w.index).Empty.add(1)
		c.logEmpty()
	}
	c.enter(phaseClosing)
	c.w.loop.Arm(&c.timer, 0)
	c.Close()
}

// drop ends the connection at once.
func (c *clientConn) drop() {
	c.Abort()
	c.forget()
}

// forget ends the bookkeeping of a connection that is gone.
func (c *clientConn) forget() {
	w := c.w
	w.loop.Arm(&c.timer, 0)
	w.clients.remove(c)
	c.socket.released(c.bind)
}

// end closes the connection whatever it is at: the appliance stops, or the time to
// leave is over.
func (c *clientConn) end() {
	switch {
	case c.tunnel != nil:
		c.tunnel.close()
	case c.x != nil:
		c.x.cut()
	default:
		c.drop()
	}
}

// retire lets a connection whose listener went leave: at once where it is idle,
// after the answer where a request is under way.
func (c *clientConn) retire() {
	c.last = true
	switch c.phase {
	case phaseHandshake:
		c.drop()
	case phaseWaiting, phaseHead:
		c.leave()
	}
}

// clientList is the client connections of a loop.
type clientList struct {
	first *clientConn
	n     int
}

func (l *clientList) add(c *clientConn) {
	c.next = l.first
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
	l.n++
}

func (l *clientList) remove(c *clientConn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil
	l.n--
}
