package proxy

import (
	"sluis/internal/proxy/http1"
)

// tunnel carries bytes both ways after an upgrade (RFC 9110 section 7.8), a
// WebSocket most of all. It keeps its place at the server until it ends.
type tunnel struct {
	w      *worker
	client *clientConn
	server *serverConn
	x      *exchange
	// clientDone and serverDone tell that this side will send no more.
	clientDone, serverDone bool
}

// upgraded follows a server's 101: from here on the connections belong together.
func (x *exchange) upgraded(n int, b []byte) (taken int, more bool) {
	w, r, c, s := x.w, &x.w.response, x.client, x.server
	if !x.upgrade || !x.requestDone || r.Upgrade == nil {
		x.badAnswer("the server switched protocols unasked")
		return len(b), false
	}
	x.status, x.answered = 101, w.loop.Now()
	x.editAnswer(r)
	out := http1.AppendResponse(w.output[:0], r, x.minor, true)
	x.countTunnel(1) // before the client can know of it: an impact is exact
	c.WriteTwo(out, b[n:])
	w.output = out[:0]
	t := &tunnel{w: w, client: c, server: s, x: x}
	c.x, s.x = nil, nil
	c.tunnel, s.tunnel = t, t
	c.enter(phaseTunnel)
	s.phase = serverTunnel
	w.loop.Arm(&s.timer, 0)
	t.touch()
	if c.Paused() {
		c.Resume()
	}
	if c.ended {
		t.clientEnded()
	}
	return len(b), false
}

// touch gives the tunnel its time again.
func (t *tunnel) touch() { t.w.loop.Arm(&t.client.timer, t.w.loop.Now()+t.x.be.tunnelTimeout) }

func (t *tunnel) fromClient(b []byte) int {
	if t.server.Pending() > highWater {
		t.client.Pause()
		return 0
	}
	t.touch()
	t.x.bodySize += int64(len(b))
	t.server.Write(b)
	return len(b)
}

func (t *tunnel) fromServer(b []byte) int {
	if t.client.Pending() > highWater {
		t.server.Pause()
		return 0
	}
	t.touch()
	t.client.Write(b)
	return len(b)
}

func (t *tunnel) clientDrained() {
	t.touch()
	t.server.Resume()
}

func (t *tunnel) serverDrained() {
	t.touch()
	t.client.Resume()
}

// clientEnded passes a client's FIN on; the server may still speak.
func (t *tunnel) clientEnded() {
	t.clientDone = true
	if t.serverDone {
		t.finish(endNormal, atEnd, "")
		return
	}
	t.server.CloseWrite()
}

func (t *tunnel) serverEnded() {
	t.serverDone = true
	if t.clientDone {
		t.finish(endNormal, atEnd, "")
		return
	}
	t.client.CloseWrite()
}

func (t *tunnel) clientClosed() {
	t.unbind(endClient, "the client broke off")
	t.server.Close()
	t.client.forget()
}

func (t *tunnel) serverClosed() {
	t.unbind(endServer, "the server broke off")
	t.server.forget()
	t.leaveClient()
}

// expired ends a tunnel in which nothing has moved for too long.
func (t *tunnel) expired() {
	t.finish(endClientTimeout, atData, "nothing moved in the tunnel for too long")
}

// close ends the tunnel from our side.
func (t *tunnel) close() { t.finish(endOperator, atData, "ended by the appliance") }

// finish ends both sides in good order.
func (t *tunnel) finish(end, at byte, reason string) {
	t.x.termination[1] = at
	t.unbind(end, reason)
	t.server.Close()
	t.leaveClient()
}

func (t *tunnel) leaveClient() {
	c := t.client
	c.enter(phaseClosing)
	t.w.loop.Arm(&c.timer, t.w.loop.Now()+c.bind.frontend.clientTimeout)
	c.Close()
}

// unbind takes the two connections apart and accounts for the tunnel. The server's
// one only waits for its last bytes to go out.
func (t *tunnel) unbind(end byte, reason string) {
	x := t.x
	x.countTunnel(-1)
	x.reason = reason
	x.termination[0] = end
	if reason != "" && x.termination[1] == atEnd {
		x.termination[1] = atData
	}
	t.client.tunnel, t.server.tunnel = nil, nil
	t.server.phase = serverClosing
	t.w.loop.Arm(&t.server.timer, t.w.loop.Now()+closingTime)
	x.leavePlace()
	x.account()
	x.client, x.server = nil, nil
	x.retire()
}

// closingTime bounds how long a server's connection may take to close.
const closingTime = int64(5e9)
