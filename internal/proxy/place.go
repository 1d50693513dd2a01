package proxy

import "sluis/internal/proxy/upstream"

// A place at a server for an exchange, and the connection that goes with it.

// place asks for a place at a server and goes on when there is one.
func (x *exchange) place(rest []byte) int {
	wish := x.wish()
	switch x.be.state.Take(&x.waiter, wish) {
	case upstream.Taken:
		x.placed = true
		return x.toServer(rest)
	case upstream.Queued:
		x.state = stateQueued
		x.noteQueue()
		x.client.Pause()
		x.w.loop.Arm(&x.client.timer, x.w.loop.Now()+x.be.queueTimeout)
	case upstream.QueueFull:
		x.be.live.of(x.w.index).QueueFull.add(1)
		x.refuse(503, "the queue of backend "+x.be.name+" is full", endProxy, atQueue)
	default:
		x.be.live.of(x.w.index).NoServer.add(1)
		x.refuse(503, "backend "+x.be.name+" has no usable server", endServer, atConnect)
	}
	return 0
}

// noteQueue remembers for the log how many wait before it.
func (x *exchange) noteQueue() {
	if x.waiter.AtServer {
		x.aheadAtServer = x.waiter.Ahead
	} else {
		x.aheadAtBackend = x.waiter.Ahead
	}
}

// wish is which server the client should get.
func (x *exchange) wish() upstream.Wish {
	wish := upstream.Wish{Avoid: x.failed}
	switch {
	case x.useServer != nil:
		wish.Server = x.useServer.state
	case x.failed == nil && x.be.cookie != nil && x.found.Server >= 0:
		wish.Server, wish.Force = x.be.servers[x.found.Server].state, true
	}
	if wish.Server == x.failed {
		wish.Server = nil
	}
	if x.be.balance.of != hashNothing {
		wish.Hash = x.be.balance.hash(x.w.proxy.hashSeed, &x.w.request, x.client.Remote().Addr())
	}
	return wish
}

// gaveUp follows the end of the backend that the exchange waited for.
func (x *exchange) gaveUp() {
	if x.state == stateQueued {
		x.refuse(503, "backend "+x.be.name+" is gone", endOperator, atQueue)
	}
}

// granted follows a place that became free for this exchange.
func (x *exchange) granted() {
	if x.state != stateQueued {
		return
	}
	x.placed = true
	x.w.loop.Arm(&x.client.timer, 0)
	x.readAgain()
	x.toServer(nil)
	x.goOn()
}

// toServer takes a connection to the server and sends the request on it, or waits
// until there is one.
func (x *exchange) toServer(rest []byte) int {
	w := x.w
	if !x.findTarget() {
		x.waitForSnapshot()
		return 0
	}
	x.chosen, x.connected = w.loop.Now(), 0
	if s := w.takeIdle(x); s != nil {
		x.server, s.x = s, x
		x.connected = x.chosen
		if x.namesServer() {
			x.readAgain()
		}
		return x.forward(rest)
	}
	x.state = stateConnecting
	x.client.Pause()
	w.dial(x)
	return 0
}

// findTarget finds the settings of the server that gave the place. A server that is
// newer than the exchange's snapshot takes it over to the newest one's backend.
func (x *exchange) findTarget() bool {
	state := x.waiter.Server
	if x.target = x.be.byState[state]; x.target != nil {
		return true
	}
	newest := x.w.proxy.current.Load().backends[x.be.name]
	if newest == nil || newest.byState[state] == nil {
		return false
	}
	x.be, x.target = newest, newest.byState[state]
	x.readAgain()
	return true
}

// waitForSnapshot gives a change under way a moment: its servers give places just
// before its snapshot is in effect.
func (x *exchange) waitForSnapshot() {
	x.leavePlace()
	x.misses++
	if x.misses > maxMisses {
		x.refuse(503, "the server that was chosen is no longer there", endServer, atConnect)
		return
	}
	x.state = stateDelayed
	x.client.Pause()
	x.w.loop.Arm(&x.client.timer, x.w.loop.Now()+snapshotDelay)
}

const (
	maxMisses     = 100
	snapshotDelay = int64(2e6)
)

// serverReady follows a connection to the server that has come up.
func (x *exchange) serverReady() {
	x.connected = x.w.loop.Now()
	x.readAgain()
	x.forward(nil)
	x.goOn()
}

// goOn reads the client's body again after a wait.
func (x *exchange) goOn() {
	if x.state == stateWaiting && !x.requestDone {
		x.client.Resume()
	}
}
