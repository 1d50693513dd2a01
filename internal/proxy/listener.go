package proxy

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
)

// listener is one address that the appliance listens on. It outlives snapshots:
// as long as some frontend has the address, its sockets stay as they are.
type listener struct {
	proxy   *Proxy
	address listenAddress
	// bind is what it serves; nil = it is about to go.
	bind atomic.Pointer[bind]
	// connections are those that came in here and are open, over all loops.
	connections atomic.Int64
	// webSockets are those of them that carry an upgraded protocol.
	webSockets atomic.Int64
	// going is what it served before it was told to go.
	going atomic.Pointer[bind]
	// sockets are one for each loop, made once.
	sockets []*socket
}

// socket is a listener's socket in one loop.
type socket struct {
	loop.File
	w        *worker
	listener *listener
	fd       int // before open; then -1
	// waiting tells that connections stay in the kernel's queue.
	waiting bool
}

// listen binds the address in every loop. Before that it is bound once without
// SO_REUSEPORT, so that a port which another process holds is refused by name:
// with it, two could share a port unseen.
func (p *Proxy) listen(b *bind) (*listener, error) {
	if !p.overlaps(b.address) {
		probe, err := loop.Bind(b.address, loop.BindOptions{FreeBind: b.freeBind})
		if err != nil {
			return nil, err
		}
		_ = unix.Close(probe)
	}
	l := &listener{proxy: p, address: b.address}
	for _, w := range p.workers {
		fd, err := loop.Bind(b.address, loop.BindOptions{ReusePort: true, FreeBind: b.freeBind, Backlog: backlog})
		if err != nil {
			l.closeSockets()
			return nil, err
		}
		l.sockets = append(l.sockets, &socket{w: w, listener: l, fd: fd})
	}
	return l, nil
}

// overlaps tells whether one of our own listeners covers the address, or is covered
// by it: any address and one of them can be exchanged without a gap.
func (p *Proxy) overlaps(a listenAddress) bool {
	for own := range p.listeners {
		if own.Port() == a.Port() && (own.Addr().IsUnspecified() || a.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

// backlog is how many connections may wait in the kernel for each loop; the kernel
// caps it at net.core.somaxconn.
const backlog = 4096

// open lets the socket accept. It runs in the socket's loop, which owns the
// descriptor from then on.
func (s *socket) open() error {
	if err := s.w.loop.Listen(&s.File, s.fd, s); err != nil {
		return err
	}
	s.fd = -1
	return nil
}

// close ends the socket in its loop. What waits in the kernel's queue is taken
// first: a closed socket resets it.
func (s *socket) close() {
	if !s.IsOpen() {
		return
	}
	s.waiting = false
	s.w.removeWaiting(s)
	s.accept(drainAccepts)
	s.Close()
}

const (
	// acceptsPerTurn bounds the connections that one turn of a loop takes from one
	// socket.
	acceptsPerTurn = 64
	drainAccepts   = 2 * backlog
)

// refuseSYN drops what would begin a connection (RFC 9293 section 3.5): a TCP
// segment with SYN and without ACK. The other side sends it again a second later.
func (s *socket) refuseSYN() {
	if !s.IsOpen() {
		return
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	// Where the kernel refuses it, a few connections may be reset: no reason to stop.
	_ = unix.SetsockoptSockFprog(s.FD(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// closeSockets closes sockets that no loop has taken over.
func (l *listener) closeSockets() {
	for _, s := range l.sockets {
		if s.fd >= 0 {
			_ = unix.Close(s.fd)
			s.fd = -1
		}
	}
}

// Ready is the loop's word that connections wait.
func (s *socket) Ready(loop.Events) { s.accept(acceptsPerTurn) }

func (s *socket) accept(most int) {
	for range most {
		b := s.bindNow()
		if b == nil {
			return
		}
		if !s.admit(b) {
			s.wait()
			return
		}
		fd, from, errno := s.Accept()
		if errno != 0 {
			s.give(b)
			s.acceptFailed(errno)
			return
		}
		s.w.adopt(s, b, fd, from)
	}
}

// bindNow is what a connection that comes in now is served by. A listener that is
// about to go still serves what waits in its queue, by what it had.
func (s *socket) bindNow() *bind {
	if b := s.listener.bind.Load(); b != nil {
		return b
	}
	return s.listener.going.Load()
}

// acceptFailed waits where the process has no descriptors left, so that the loop
// doesn't turn in vain.
func (s *socket) acceptFailed(errno unix.Errno) {
	switch errno {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		s.w.proxy.numbers.AcceptErrors.Add(1)
		s.wait()
	}
}

// admit counts a connection in, or refuses where a limit is reached.
func (s *socket) admit(b *bind) bool {
	p, fe := s.w.proxy, b.frontend
	snap := p.current.Load()
	if p.connections.Add(1) > snap.maxConnections {
		p.connections.Add(-1)
		p.numbers.LimitReached.Add(1)
		return false
	}
	if n := fe.live.connections.Add(1); fe.maxConnections > 0 && n > fe.maxConnections {
		fe.live.connections.Add(-1)
		p.connections.Add(-1)
		fe.live.of(s.w.index).LimitReached.add(1)
		return false
	}
	if n := s.listener.connections.Add(1); b.maxConnections > 0 && n > b.maxConnections {
		s.give(b)
		fe.live.of(s.w.index).LimitReached.add(1)
		return false
	}
	return true
}

// give counts a connection out again.
func (s *socket) give(b *bind) {
	s.listener.connections.Add(-1)
	b.frontend.live.connections.Add(-1)
	s.w.proxy.connections.Add(-1)
}

// wait leaves connections in the kernel's queue until others have gone.
func (s *socket) wait() {
	if s.waiting {
		return
	}
	s.waiting = true
	s.WantAccept(false)
	s.w.waiting = append(s.w.waiting, s)
	s.w.proxy.numbers.Waiting.Add(1)
	// A connection may have gone between the refusal and now.
	s.w.loop.Arm(&s.w.retry, s.w.loop.Now()+acceptRetry)
}

// acceptRetry is how soon sockets look again whether a connection may come in, if
// nothing told them before.
const acceptRetry = int64(100e6)

// released follows a connection that is gone: those that wait may come.
func (s *socket) released(b *bind) {
	s.give(b)
	if s.w.proxy.numbers.Waiting.Load() == 0 {
		return
	}
	for _, w := range s.w.proxy.workers {
		w.loop.PostMail(&w.wake)
	}
}

// acceptAgain lets the waiting sockets try again.
func (w *worker) acceptAgain() {
	waiting := w.waiting
	w.waiting = nil
	for _, s := range waiting {
		s.waiting = false
		w.proxy.numbers.Waiting.Add(-1)
		s.WantAccept(true)
		s.accept(acceptsPerTurn)
	}
}

func (w *worker) removeWaiting(s *socket) {
	for i, other := range w.waiting {
		if other == s {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			w.proxy.numbers.Waiting.Add(-1)
			return
		}
	}
}
