package proxy

import "sluis/internal/proxy/http1"

// The request's body on its way to the server. Who is to act next has a time for
// it: the client while its body is awaited, the server while it has bytes to take,
// or has to say whether it wants the body at all.

// highWater is how many bytes may wait for one side before the other is not read.
const highWater = 128 << 10

// wantsBody tells whether bytes of the client belong to this request.
func (x *exchange) wantsBody() bool {
	return !x.requestDone && (x.state == stateWaiting || x.state == stateAnswering)
}

// bodyFromClient passes on a part of the request's body.
func (x *exchange) bodyFromClient(b []byte) int {
	w := x.w
	if x.server.Pending() > highWater {
		x.expectBody()
		return 0
	}
	out, pass, taken, done, fault := x.requestBody.Step(w.output[:0], b)
	if fault != nil {
		x.brokenBody(fault)
		return len(b)
	}
	if x.overLimit() {
		x.tooLarge()
		return len(b)
	}
	x.bodySize += int64(taken)
	x.sentBody = x.sentBody || taken > 0
	x.requestDone = done
	w.write(&x.server.Conn, out, pass)
	x.armServer()
	if done {
		w.loop.Arm(&x.client.timer, 0)
	} else {
		x.expectBody()
	}
	return taken
}

// expectBody gives the client its time for the next part of the body.
func (x *exchange) expectBody() {
	switch {
	case x.server.Pending() > highWater:
		x.client.Pause() // the server is the slow one; its Drained resumes
		x.w.loop.Arm(&x.client.timer, 0)
	case x.expects && !x.sentBody:
		x.w.loop.Arm(&x.client.timer, 0) // it waits for the server's word (RFC 9110 section 10.1.1)
	default:
		x.armClient()
	}
}

// clientsTurn tells that the server has nothing to do before the client goes on.
func (x *exchange) clientsTurn() bool {
	return x.state == stateWaiting && !x.requestDone && x.server.Pending() == 0 && (x.sentBody || !x.expects)
}

// serverDrained follows a server that has taken everything.
func (x *exchange) serverDrained() {
	if x.wantsBody() {
		x.expectBody()
		x.client.Resume()
	}
}

// overLimit tells whether a body whose length was not known before is too large.
func (x *exchange) overLimit() bool {
	return x.fe.bodyLimit > 0 && x.requestBody.Carried() > x.fe.bodyLimit
}

// brokenBody ends an exchange whose request body can't be understood.
func (x *exchange) brokenBody(fault *http1.Error) {
	if x.state == stateAnswering {
		x.breakOff(endClient, atData, fault.Reason.String())
		return
	}
	x.refuse(fault.Status, fault.Reason.String(), endClient, atData)
}

// tooLarge ends an exchange whose chunked body passes the frontend's limit.
func (x *exchange) tooLarge() {
	if x.state == stateAnswering {
		x.breakOff(endProxy, atData, "the body is larger than the frontend takes")
		return
	}
	x.refuse(413, "the body is larger than the frontend takes", endProxy, atData)
}
