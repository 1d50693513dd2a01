package tlsio

import (
	"io"
	"net"
	"net/netip"
	"time"

	"sluis/internal/proxy/loop"
)

// memory is the net.Conn under crypto/tls. Writes always succeed: they gather in
// out. A read that finds nothing waits in the handshake's coroutine, or, after
// the handshake, answers ErrWouldBlock.
type memory struct {
	conn *Conn
	loop *loop.Loop
	// in are wire bytes of the call that is under way. They are the loop's shared
	// read buffer most often, so in is empty between calls.
	in []byte
	// held, from heldAt on, are wire bytes that came before those of in: what
	// followed the handshake's last message, or came while it was parked. nil
	// when there are none.
	held   *loop.Buffer
	heldAt int
	out    *loop.Buffer // nil when there is nothing to send

	framing           framing
	inBytes, outBytes uint64
	remote            netip.AddrPort
}

// wouldBlock is the error of a read that finds nothing after the handshake.
type wouldBlock struct{}

func (wouldBlock) Error() string { return "no more wire bytes" }
func (wouldBlock) Timeout() bool { return true }

// Temporary must be true: crypto/tls keeps any other read error for ever, and
// the connection would be dead. TestWouldBlockDoesNotStick guards it.
func (wouldBlock) Temporary() bool { return true }

// ErrWouldBlock is Read's answer when all plaintext has been taken out.
var ErrWouldBlock error = wouldBlock{}

// Read hands over all that b can hold; it never thinks in records, since b may
// be smaller than one.
func (m *memory) Read(b []byte) (int, error) {
	for m.empty() {
		s := m.conn.shake
		if s == nil {
			return 0, ErrWouldBlock
		}
		if !s.yield(struct{}{}) {
			return 0, errAborted
		}
	}
	n := 0
	if m.held != nil {
		n = copy(b, m.held.B[m.heldAt:])
		m.heldAt += n
		if m.heldAt == len(m.held.B) {
			m.release()
		}
	} else {
		n = copy(b, m.in)
		m.in = m.in[n:]
	}
	m.framing.pass(b[:n])
	m.inBytes += uint64(n)
	return n, nil
}

// empty says that there are no wire bytes to read.
func (m *memory) empty() bool { return len(m.in) == 0 && m.held == nil }

// give is how a call brings its wire bytes: in front of crypto/tls as they are.
func (m *memory) give(wire []byte) { m.in = wire }

// keep ends a call that takes all its bytes: what was not read is held.
func (m *memory) keep() {
	m.hold(m.in)
	m.in = nil
}

// hold copies wire bytes behind those already held.
func (m *memory) hold(wire []byte) {
	if len(wire) == 0 {
		return
	}
	if m.held == nil {
		m.held = m.loop.Borrow(len(wire))
		m.held.B = m.held.B[:0]
		m.heldAt = 0
	}
	m.held = grow(m.loop, m.held, len(wire))
	m.held.B = append(m.held.B, wire...)
}

// release returns the buffer of held bytes.
func (m *memory) release() {
	if m.held != nil {
		m.loop.Return(m.held)
		m.held, m.heldAt = nil, 0
	}
}

// Write gathers one record.
func (m *memory) Write(b []byte) (int, error) {
	m.reserve(len(b))
	m.out.B = append(m.out.B, b...)
	m.outBytes += uint64(len(b))
	return len(b), nil
}

// reserve makes room in out for n more bytes.
func (m *memory) reserve(n int) {
	if m.out == nil {
		m.out = m.loop.Borrow(n)
		m.out.B = m.out.B[:0]
		return
	}
	m.out = grow(m.loop, m.out, n)
}

// grow returns a buffer with the bytes of b and room for n more.
func grow(l *loop.Loop, b *loop.Buffer, n int) *loop.Buffer {
	if cap(b.B)-len(b.B) >= n {
		return b
	}
	larger := l.Borrow(max(len(b.B)+n, min(2*cap(b.B), MaxPlain)))
	larger.B = append(larger.B[:0], b.B...)
	l.Return(b)
	return larger
}

// Close does nothing: crypto/tls's own Close is never called.
func (m *memory) Close() error { return nil }

func (m *memory) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (m *memory) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(m.remote) }

// Deadlines are the owner's, on the socket.
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

var _ io.ReadWriter = (*memory)(nil)
