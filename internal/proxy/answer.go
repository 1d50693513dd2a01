package proxy

import (
	"bytes"
	"errors"

	"sluis/internal/proxy/http1"
	"sluis/internal/proxy/message"
	"sluis/internal/proxy/rule"
	"sluis/internal/proxy/transport"
)

// fromServer takes what the server answers.
func (x *exchange) fromServer(b []byte) int {
	if x.state == stateAnswering {
		return x.bodyFromServer(b)
	}
	taken := 0
	for taken < len(b) {
		n, more := x.headFromServer(b[taken:])
		taken += n
		if !more {
			break
		}
	}
	return taken
}

// headFromServer reads the head of an answer and passes it on. It returns how many
// bytes it took, and whether another head may follow.
func (x *exchange) headFromServer(b []byte) (taken int, more bool) {
	w, r := x.w, &x.w.response
	r.Reset()
	n, fault := http1.ParseResponse(b, r, x.sentMethod, &responseLimits)
	switch {
	case fault != nil:
		x.badAnswer(fault.Reason.String())
		return len(b), false
	case n == 0:
		return 0, false
	case r.Status == 101:
		return x.upgraded(n, b)
	case r.Status < 200:
		return n, x.passInterim(r)
	}
	x.answered = w.loop.Now()
	x.status = r.Status
	return n + x.answer(r, b[n:]), false
}

var responseLimits = http1.Limits{Head: maxResponseHead, Fields: 200}

// maxInterim bounds the interim answers to one request.
const maxInterim = 16

// passInterim passes an interim answer on (RFC 9110 section 15.2): one that the
// client understands, and not without end.
func (x *exchange) passInterim(r *message.Response) bool {
	x.interim++
	if x.interim > maxInterim {
		x.badAnswer("the server sent too many interim answers")
		return false
	}
	if r.Status == 100 && x.expects {
		x.expects = false
		x.expectBody()
	}
	if x.minor == 0 {
		return true // HTTP/1.0 has none (RFC 9110 section 15.2)
	}
	x.client.Write(http1.AppendResponse(x.w.output[:0], r, x.minor, true))
	return true
}

// answer sends the head of the server's answer and the beginning of its body.
func (x *exchange) answer(r *message.Response, rest []byte) int {
	w, c := x.w, x.client
	x.state = stateAnswering
	in := r.Body
	if !r.KeepAlive || in.Kind == message.UntilClose {
		x.server.last = true
	}
	x.editAnswer(r)
	keep := x.answerKeepsAlive(&r.Body)
	switch { // a rule may ask for what the client did not
	case x.method == message.HEAD && x.sentMethod != message.HEAD:
		r.Body = message.Body{}
	case x.method != message.HEAD && x.sentMethod == message.HEAD && r.Status != 204 && r.Status != 304:
		r.Body = message.Body{Kind: message.Sized} // no body comes for a length that is told
	}
	out := http1.AppendResponse(w.output[:0], r, x.minor, keep)
	x.responseBody.Start(in, r.Body.Kind)
	out, pass, taken, done, fault := x.responseBody.Step(out, rest)
	if fault != nil {
		x.badAnswer(fault.Reason.String())
		return len(rest)
	}
	w.write(&c.Conn, out, pass)
	if done {
		x.finish(taken == len(rest))
		return len(rest)
	}
	if x.relays(in) {
		return taken
	}
	x.awaitServer()
	return taken
}

// editAnswer does what rules, persistence and the backend add to an answer.
func (x *exchange) editAnswer(r *message.Response) {
	w, be := x.w, x.be
	w.arena.Reset()
	x.editByRules(x.fe.rules, &x.heldFrontend, r)
	x.editByRules(be.rules, &x.heldBackend, r)
	tls := x.client.IsTLS()
	if be.cookie != nil {
		w.cookies = be.cookie.Response(w.cookies[:0], r, x.found, x.target.index, x.wall.Unix(), x.method)
		x.remember()
	}
	if be.hsts != nil && tls { // RFC 6797 section 7.2: never over plain HTTP
		r.Remove(message.StrictTransportSecurity)
		r.Add(hstsName, be.hsts)
	}
	if be.secureCookies && tls {
		secureCookies(r, &w.arena)
	}
}

// pathOf is a target without its query.
func pathOf(target []byte) []byte {
	path, _, _ := bytes.Cut(target, []byte("?"))
	return path
}

func (x *exchange) editByRules(list *rule.List, held *rule.Holds, r *message.Response) {
	if list == nil || !held.Any() {
		return
	}
	in := &x.w.input
	in.Source, in.SourcePort = x.client.Remote().Addr(), x.client.Remote().Port()
	in.Frontend, in.Backend, in.Server = x.fe.name, x.be.name, x.target.name
	in.TLS = x.client.IsTLS()
	in.Arena = &x.w.arena
	in.Request, in.Host, in.Path = nil, x.hostText, pathOf(x.targetText)
	list.Response(r, held, in)
}

// answerKeepsAlive decides whether the client's connection goes on, and how the
// body's end is told to it.
func (x *exchange) answerKeepsAlive(body *message.Body) bool {
	keep := x.keepAlive && x.fe.keepAlive && !x.client.last && !x.volumeSpent()
	if body.Kind == message.UntilClose || body.Kind == message.Chunked {
		switch {
		case x.minor >= 1:
			body.Kind = message.Chunked // the end is told, the connection can go on
		default:
			body.Kind = message.UntilClose // RFC 9112 section 6.3, rule 8
			keep = false
		}
	}
	if !x.requestDone {
		keep = false // what is left of the request can't be told from the next one
	}
	x.client.last = !keep
	return keep
}

// volumeSpent retires a TLS connection before its keys have carried too much:
// crypto/tls never renews them of itself.
func (x *exchange) volumeSpent() bool {
	return x.client.IsTLS() && x.client.Received()+x.client.Sent() > maxVolume
}

const maxVolume = 64 << 30

// bodyFromServer passes on a part of the answer's body.
func (x *exchange) bodyFromServer(b []byte) int {
	w, c := x.w, x.client
	if c.Pending() > highWater {
		x.server.Pause() // the client's Drained resumes
		return 0
	}
	out, pass, taken, done, fault := x.responseBody.Step(w.output[:0], b)
	if fault != nil {
		x.badAnswer(fault.Reason.String())
		return len(b)
	}
	w.write(&c.Conn, out, pass)
	if done {
		x.finish(taken == len(b))
		return len(b)
	}
	x.awaitServer()
	return taken
}

// awaitServer gives the side that is to act next its time.
func (x *exchange) awaitServer() {
	if x.client.Pending() > 0 {
		x.armClient()
	} else if x.requestDone {
		x.w.loop.Arm(&x.client.timer, 0)
	}
	if x.client.Pending() > highWater {
		x.server.Pause()
		x.w.loop.Arm(&x.server.timer, 0) // the client is the slow one
		return
	}
	x.armServer()
}

// armServer gives the server its time to take or send something.
func (x *exchange) armServer() {
	x.serverMark = x.serverMoved()
	x.w.loop.Arm(&x.server.timer, x.w.loop.Now()+x.be.serverTimeout)
}

// armClient gives the client its time to take something.
func (x *exchange) armClient() {
	x.clientMark = x.clientMoved()
	x.w.loop.Arm(&x.client.timer, x.w.loop.Now()+x.fe.clientTimeout)
}

// serverMoved and clientMoved grow with what a side takes and gives.
func (x *exchange) serverMoved() int64 {
	return x.server.Received() + x.server.Sent() - int64(x.server.Pending())
}

func (x *exchange) clientMoved() int64 {
	return x.client.Received() + x.client.Sent() - int64(x.client.Pending())
}

// clientDrained follows a client that has taken everything.
func (x *exchange) clientDrained() {
	if x.w.loop.Arm(&x.client.timer, 0); x.wantsBody() {
		x.expectBody()
	}
	if x.state == stateAnswering && x.server != nil && x.server.Paused() {
		x.armServer()
		x.server.Resume()
	}
}

// relayFrom is the size of a bare body from which it is moved within the kernel.
const relayFrom = 64 << 10

// relays moves the rest of a large bare body within the kernel, where both sides
// are bare and the framing needs no touch.
func (x *exchange) relays(body message.Body) bool {
	left := x.responseBody.Left()
	if body.Kind != message.Sized || left < relayFrom || x.client.IsTLS() || x.server.IsTLS() {
		return false
	}
	if !x.server.RelayTo(&x.client.Conn, left, x.relayed) {
		return false
	}
	// Both sides' slowness shows in the relay as a whole.
	x.relaying = true
	x.armServer()
	return true
}

// relayed follows the end of a relay.
func (x *exchange) relayed(_ int64, err error) {
	x.relaying = false
	switch {
	case err == nil:
		x.finish(true)
	case errors.Is(err, transport.ErrTaker):
		x.clientGone()
	default:
		x.serverEnded(err)
	}
}

// serverEnded follows a server's connection that is over in the middle of an
// exchange. An error is nil for an end in good order.
func (x *exchange) serverEnded(err error) {
	if x.state == stateAnswering {
		// What lasts until the end is whole only if TLS said the end (RFC 9112 section
		// 9.8): anybody on the way could have cut it.
		if err == nil && !x.server.Cut() {
			if out, fault := x.responseBody.Finish(x.w.output[:0]); fault == nil {
				x.server.last = true
				if len(out) > 0 {
					x.client.Write(out)
				}
				x.finish(true)
				return
			}
		}
		// The rest of the answer is lost, and its head is out: breaking the connection
		// is the only way to say so.
		x.breakOff(endServer, atData, "the server broke off in the middle of its answer")
		return
	}
	if x.deadOnArrival() {
		x.again()
		return
	}
	reason := "the server closed the connection without an answer"
	if err != nil {
		reason = "the server broke the connection: " + err.Error()
	}
	x.target.live.of(x.w.index).AnswerErrors.add(1)
	x.refuse(502, reason, endServer, atHeaders)
}

// deadOnArrival tells whether the request went out on a connection that had died
// while it was idle, so that it can be sent on another one unseen: the server has
// not answered a byte and sending it twice does no harm.
func (x *exchange) deadOnArrival() bool {
	return x.server.used > 0 && x.interim == 0 && x.server.Received() == x.server.receivedBefore && x.harmless() && x.freshTries < maxFreshTries
}

// maxFreshTries bounds the idle connections that may turn out dead one after the
// other for one request.
const maxFreshTries = 3

// again sends the request on another connection to the same server.
func (x *exchange) again() {
	x.target.live.of(x.w.index).Stale.add(1)
	x.freshTries++
	dead := x.server
	x.server = nil
	dead.x = nil
	dead.discard()
	x.state = stateBegun
	x.readAgain()
	x.toServer(nil)
	x.goOn()
}

// badAnswer ends an exchange whose server answers what can't be passed on.
func (x *exchange) badAnswer(reason string) {
	x.target.live.of(x.w.index).AnswerErrors.add(1)
	if x.state == stateAnswering && x.status != 0 && x.client.Sent() > x.sentBefore {
		x.breakOff(endProxy, atData, "the server's answer is broken: "+reason)
		return
	}
	x.refuse(502, "the server's answer is refused: "+reason, endProxy, atHeaders)
}

// serverExpired is the server's timer in the middle of an exchange.
func (x *exchange) serverExpired() {
	if x.clientsTurn() {
		x.armServer() // the client's timer runs too
		return
	}
	if x.serverMoved() != x.serverMark || x.relaying && x.clientMoved() != x.clientMark {
		x.clientMark = x.clientMoved()
		x.armServer()
		return
	}
	x.target.live.of(x.w.index).AnswerErrors.add(1)
	if x.state == stateAnswering {
		x.breakOff(endServerTimeout, atData, "the server stopped in the middle of its answer")
		return
	}
	x.refuse(504, "the server did not answer in time", endServerTimeout, atHeaders)
}
