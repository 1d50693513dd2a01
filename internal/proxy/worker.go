package proxy

import (
	"sluis/internal/proxy/accesslog"
	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/message"
	"sluis/internal/proxy/rule"
	"sluis/internal/proxy/transport"
)

// worker is what one loop owns. Everything in it is touched by that loop alone.
type worker struct {
	proxy *Proxy
	index int
	loop  *loop.Loop
	log   *accesslog.Writer

	// Scratch of the message that is being worked on; nothing of it lives longer
	// than a callback.
	request  message.Request
	response message.Response
	output   []byte
	arena    rule.Arena
	input    rule.Input
	record   accesslog.Record

	// clients are the client connections of this loop.
	clients clientList
	// idle are the connections to servers that wait for a request, by the server's
	// index, newest last.
	idle [][]*serverConn
	// servers are all connections to servers, for what a change ends.
	servers serverList
	// waiting are listening sockets whose connections stay in the kernel's queue,
	// because a limit is reached.
	waiting []*socket
	// free are exchanges to use again.
	free []*exchange

	// wake lets waiting sockets try again, retry does so in a while.
	wake  loop.Mail
	retry loop.Timer
	// address and id are scratch for texts.
	address, id, cookies []byte

	// requests counts requests, for their ids.
	requests uint64
}

// outputSize is the room for a head with framing; larger ones make it grow.
const outputSize = 32 << 10

func newWorker(p *Proxy, index int) (*worker, error) {
	l, err := loop.New(loop.Options{Index: index, Now: p.clock})
	if err != nil {
		return nil, err
	}
	w := &worker{proxy: p, index: index, loop: l, output: make([]byte, 0, outputSize)}
	w.wake.Deliver = w.acceptAgain
	w.retry.Init(w.acceptAgain)
	if p.options.Log != nil {
		w.log = p.options.Log.Writer()
	}
	return w, nil
}

// closeAll ends every connection at once.
func (w *worker) closeAll() {
	for c := w.clients.first; c != nil; {
		next := c.next
		c.end()
		c = next
	}
	for s := w.servers.first; s != nil; {
		next := s.next
		s.discard()
		s = next
	}
}

// write sends what stands in the loop's output, and then pass. A short pass is
// copied behind the output: one piece costs the kernel and TLS less than two.
func (w *worker) write(to *transport.Conn, out, pass []byte) {
	if len(pass) <= copied {
		out = append(out, pass...)
		to.Write(out)
	} else {
		to.WriteTwo(out, pass)
	}
	w.output = out[:0]
}

// copied is the length up to which bytes are copied rather than gathered.
const copied = 4 << 10

// newExchange takes a used exchange or makes one.
func (w *worker) newExchange() *exchange {
	if n := len(w.free); n > 0 {
		x := w.free[n-1]
		w.free = w.free[:n-1]
		return x
	}
	x := &exchange{w: w}
	x.countUsable = x.usable
	x.waiter.Loop = w.loop
	x.waiter.Granted, x.waiter.GaveUp = x.granted, x.gaveUp
	return x
}

// maxFree bounds the exchanges that are kept for use.
const maxFree = 4096

func (w *worker) freeExchange(x *exchange) {
	if len(w.free) < maxFree {
		w.free = append(w.free, x)
	}
}

// idleOf is the stack of idle connections to a server.
func (w *worker) idleOf(index int) *[]*serverConn {
	for index >= len(w.idle) {
		w.idle = append(w.idle, nil)
	}
	return &w.idle[index]
}
