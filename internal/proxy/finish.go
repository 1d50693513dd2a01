package proxy

import (
	"sluis/internal/proxy/http1"
	"sluis/internal/proxy/message"
	"sluis/internal/proxy/rule"
)

// finish ends an exchange whose answer is on its way to the client. clean tells
// that the server sent nothing beyond its answer.
func (x *exchange) finish(clean bool) {
	c, s := x.client, x.server
	x.server = nil
	x.leavePlace()
	x.account()
	reusable := clean && !s.last && x.requestDone
	c.served++
	c.x = nil
	kept := x.kept
	x.client = nil
	x.w.freeExchange(x)
	x.w.loop.Return(kept)
	s.release(reusable)
	c.goOn()
}

// goOn goes on to the client's next request, or ends the connection.
func (c *clientConn) goOn() {
	w := c.w
	if c.last || c.socket.listener.bind.Load() == nil {
		c.enter(phaseClosing)
		w.loop.Arm(&c.timer, w.loop.Now()+c.bind.frontend.clientTimeout)
		c.Close()
		return
	}
	c.enter(phaseWaiting)
	if c.Pending() > highWater { // it asks without taking the answers; its Drained goes on
		c.Pause()
		w.loop.Arm(&c.timer, w.loop.Now()+c.bind.frontend.clientTimeout)
		return
	}
	w.loop.Arm(&c.timer, w.loop.Now()+c.bind.frontend.keepAliveTimeout)
	if c.Paused() {
		c.Resume()
	}
}

// refuse answers a request in the servers' stead: status and a page that says
// what is wrong, the reason in the log. It ends what the exchange had of servers.
func (x *exchange) refuse(status int, reason string, end, at byte) {
	x.reason = reason
	x.termination[0], x.termination[1] = end, at
	x.reply(status, nil, nil)
}

// reply sends the page of a status, with this further field.
func (x *exchange) reply(status int, name, value []byte) {
	x.say(status, x.page(status), name, value)
}

// say sends an answer of our own.
func (x *exchange) say(status int, page errorPage, name, value []byte) {
	w, c := x.w, x.client
	x.dropServer()
	x.state = stateRefused
	x.status = status
	r := &w.response
	r.Reset()
	r.Status = status
	if name != nil {
		r.Add(name, value)
	}
	if page.body != "" {
		r.Add(contentTypeName, []byte(page.contentType))
	}
	if status != 301 && status != 308 { // those are meant to be kept (RFC 9110 section 15.4)
		r.Add(cacheControlName, noCache)
	}
	r.Body = message.Body{Kind: message.Sized, Length: int64(len(page.body))}
	// Only a request that is here as a whole leaves the connection usable.
	whole := x.body.Empty() && x.kept != nil
	keep := whole && x.keepAlive && x.fe.keepAlive && !c.last
	c.last = !keep
	out := http1.AppendResponse(w.output[:0], r, x.minor, keep)
	if x.method != message.HEAD {
		out = append(out, page.body...)
	}
	c.Write(out)
	w.output = out[:0]
	x.answered = 0 // no server's answer, or one that could not be used
	x.account()
	c.served++
	x.retire()
	c.goOn()
}

// retire gives the exchange back for others.
func (x *exchange) retire() {
	w, c, kept := x.w, x.client, x.kept
	if c != nil {
		c.x = nil
	}
	x.client, x.kept = nil, nil
	if kept != nil {
		w.loop.Return(kept)
	}
	w.freeExchange(x)
}

// dropServer leaves queue, place and connection.
func (x *exchange) dropServer() {
	if x.state == stateQueued {
		x.be.state.Cancel(&x.waiter)
	}
	if s := x.server; s != nil {
		x.server = nil
		s.x = nil
		s.discard() // in the middle of something: of no use to others
	}
	x.leavePlace()
}

// redirect sends the client elsewhere.
func (x *exchange) redirect(status int, location []byte) {
	x.termination = [4]byte{endLocal, atRequest, '-', '-'}
	x.reply(status, locationName, location)
}

// authenticate asks for a name and password (RFC 7617).
func (x *exchange) authenticate(challenge []byte) {
	x.reason = "the visitor has not logged in"
	x.termination[0], x.termination[1] = endProxy, atRequest
	x.reply(401, authenticateName, challenge)
}

// tarpit keeps the client waiting before it is refused.
func (x *exchange) tarpit(v rule.Verdict) {
	x.state = stateHeld
	x.status = v.Status
	x.client.Pause()
	x.w.loop.Arm(&x.client.timer, x.w.loop.Now()+int64(v.Delay))
}

// breakOff ends an exchange whose answer can't be completed.
func (x *exchange) breakOff(end, at byte, reason string) {
	c := x.client
	x.reason = reason
	x.termination[0], x.termination[1] = end, at
	x.dropServer()
	x.account()
	x.retire()
	c.drop()
}

// clientGone follows a client that left in the middle.
func (x *exchange) clientGone() {
	at := byte(atRequest)
	switch x.state {
	case stateQueued:
		at = atQueue
	case stateConnecting, stateDelayed:
		at = atConnect
	case stateWaiting:
		at = atHeaders
		if !x.requestDone {
			at = atData
		}
	case stateAnswering:
		at = atData
	case stateHeld:
		at = atTarpit
	}
	if x.state != stateAnswering {
		x.status = 0
	}
	x.breakOff(endClient, at, "the client left before the answer was complete")
}

// clientExpired is the client's timer in the middle of an exchange.
func (x *exchange) clientExpired() {
	switch x.state {
	case stateQueued:
		x.be.live.of(x.w.index).QueueTimeouts.add(1)
		x.refuse(503, "no place became free in backend "+x.be.name+" in time", endServerTimeout, atQueue)
	case stateDelayed:
		x.tryAgain()
	case stateHeld:
		x.refuse(x.status, "kept waiting by the rule "+x.rule, endProxy, atTarpit)
	case stateWaiting:
		x.refuse(408, "the request's body did not arrive in time", endClientTimeout, atData)
	case stateAnswering:
		if x.clientMoved() != x.clientMark {
			x.armClient()
			return
		}
		x.breakOff(endClientTimeout, atData, "the client stopped taking the answer")
	}
}

// cut ends the exchange from our side.
func (x *exchange) cut() {
	x.breakOff(endOperator, atData, "ended by the appliance")
}
