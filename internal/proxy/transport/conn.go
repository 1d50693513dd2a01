// Package transport is a byte stream in a loop: TCP, bare or under TLS, towards
// clients (Accept) and towards servers (Dial).
//
// It owns the socket, the bytes that were read and not taken, the bytes that were
// written and not sent, the TLS connection, and the way a stream ends: half-close,
// close_notify before FIN, a farewell that no reset destroys. It promises that no
// call blocks; that an Owner's callbacks come from the loop alone, never from
// inside a call that the owner makes (but Accept), and none after Closed or Abort;
// that a stream which takes and sends everything at once borrows no buffer and,
// bare, allocates nothing; that the bytes kept on either side are bounded by what
// the owner lets in: it sees Pending and pauses its source.
//
// It knows no protocol above the bytes, has no timeouts but those of closing (the
// owner has them), chooses no server and no certificate.
//
// One turn of a stream, in this order: what waits is sent; what was kept is
// offered again; bytes are read, decrypted, offered; the end is told; what broke
// is closed. Reading order: conn.go, read.go, write.go with outbox.go, secure.go
// (TLS), dial.go, close.go, relay.go.
package transport

import (
	"crypto/tls"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// Owner is who a stream belongs to: a clientConn or a serverConn.
type Owner interface {
	// Connected follows a Dial that is through, with its TLS handshake, and the TLS
	// handshake of an accepted stream. An accepted bare stream is connected at once
	// and is not told so.
	Connected()
	// Data offers bytes, good until it returns, and says how many it took. Taking
	// some is answered by offering the rest; taking none keeps them until more has
	// come, or until Resume: they are then offered again, in one piece.
	Data(b []byte) int
	// Drained says that everything was sent, after a write that left some.
	Drained()
	// Ended says that the other side will send no more (FIN or close_notify) and
	// that everything before has been offered. Writing goes on working.
	Ended()
	// Closed says that the stream is gone: nil after Close, else why. It comes
	// exactly once, unless Abort comes first, and no callback comes after it.
	Closed(err error)
}

// defaultKeepLimit is how many untaken bytes a stream keeps before it stops to read.
const defaultKeepLimit = 64 << 10

// Conn is one stream, embedded by value in its owner. Its zero value is closed. It
// belongs to its loop's goroutine.
//
//	Dial ──► connecting ──┬─────────────┐
//	                      ▼             ▼
//	Accept ──────────► handshake ───► open ───► closing ───► gone
//	                   (TLS only)               (Close)      (Abort, error: from any)
type Conn struct {
	file  loop.File
	loop  *loop.Loop
	owner Owner
	tls   *tlsio.Conn // nil: bare

	kept  *loop.Buffer // read and not taken; nil when nothing is
	out   outbox       // written and not sent, as on the wire
	early *loop.Buffer // written before the TLS handshake's end, in clear; nil when nothing is

	relay  *relay  // bytes go from here to another stream in the kernel
	feeder *Conn   // the stream whose relay ends here
	ending *ending // while closing
	err    error   // why it will be closed

	received, sent int64 // plaintext bytes
	remote, local  netip.AddrPort
	keepLimit      int32 // 0 is defaultKeepLimit

	phase    phase
	accepted bool // by us; else dialled

	// Reading.
	readable   bool // the socket may have bytes
	hungUp     bool // read until the end or an error shows
	paused     bool // by the owner
	full       bool // keepLimit is reached and the owner took nothing
	offerAgain bool // the owner resumed: what is kept is to be offered
	ended      bool // the other side sends no more
	endTold    bool
	cut        bool // TLS ended without close_notify

	// Writing.
	owesDrained bool
	halfClose   bool // CloseWrite was called
	finSent     bool
	broken      bool // the socket takes no more: err says why

	secured bool // the TLS handshake was done
	inside  bool // a callback of the owner is running
	doomed  bool // to be closed as soon as no call of the owner is under way
}

type phase uint8

const (
	phaseGone phase = iota
	phaseConnecting
	phaseHandshake
	phaseOpen
	phaseClosing
)

// handler is how the loop calls a Conn, without Ready among the Conn's methods.
type handler Conn

func (h *handler) Ready(e loop.Events) { (*Conn)(h).ready(e) }

// Accept takes over a connection from a listener, with cfg as its TLS server (nil
// is bare). What has come already is read at once: callbacks may come from inside
// this call, Closed too. The descriptor is the stream's in any case.
func (c *Conn) Accept(l *loop.Loop, o Owner, fd int, from netip.AddrPort, cfg *tls.Config) {
	c.start(l, o, from)
	c.accepted, c.readable, c.phase, c.file.Cause = true, true, phaseOpen, "client"
	if cfg != nil {
		c.phase = phaseHandshake
		c.secure(tlsio.Server(cfg, l))
	}
	c.file.Adopt(l, fd, (*handler)(c))
	c.proceed()
	if c.phase == phaseGone {
		return
	}
	if err := l.Register(&c.file, fd, (*handler)(c)); err != nil {
		c.gone(fmt.Errorf("watch the socket: %w", err))
	}
}

// start makes the Conn new, but for the settings that precede Accept and Dial.
func (c *Conn) start(l *loop.Loop, o Owner, remote netip.AddrPort) {
	if c.phase != phaseGone {
		panic("BUG: an open stream was started again")
	}
	*c = Conn{loop: l, owner: o, remote: remote, keepLimit: c.keepLimit, paused: c.paused}
}

// ready is an event of the socket, or the turn after Again.
func (c *Conn) ready(e loop.Events) {
	if c.doomed || c.phase == phaseConnecting && !c.connected(e) {
		c.proceed()
		return
	}
	if e&loop.Writable != 0 {
		c.flush()
	}
	if e&(loop.Readable|loop.HungUp|loop.Failed) != 0 {
		c.readable = true
	}
	if e&(loop.HungUp|loop.Failed) != 0 {
		c.hungUp = true
	}
	if e&loop.Failed != 0 {
		c.broken = true // a reset: what was received before it can still be read
	}
	c.proceed()
}

// proceed does all that can be done now.
func (c *Conn) proceed() {
	if c.phase == phaseOpen || c.phase == phaseHandshake {
		c.offerKept()
		c.read()
		c.pump()
		if c.kept == nil {
			c.offerAgain = false
		}
		c.tellEnded()
		c.buryBroken()
		if c.offerAgain {
			c.again() // the owner resumed inside a callback
		}
	}
	switch {
	case c.phase != phaseClosing:
	case c.doomed:
		c.gone(c.err)
	default:
		c.awaitEnd()
	}
}

// KeepLimit sets how many untaken bytes are kept (64 KiB unless set): when that
// many wait and Data takes none, reading stops until Resume. Also before Accept
// and Dial.
func (c *Conn) KeepLimit(n int) { c.keepLimit = int32(n) }

// Remote is the other end's address.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Local is our end's address.
func (c *Conn) Local() netip.AddrPort {
	if !c.local.IsValid() {
		c.local = c.file.Local()
	}
	return c.local
}

// IsTLS says whether the stream is under TLS.
func (c *Conn) IsTLS() bool { return c.tls != nil }

// InHandshake says whether the TLS handshake is under way.
func (c *Conn) InHandshake() bool { return c.phase == phaseHandshake }

// TLS describes the TLS connection; nil bare, and before the handshake's end.
func (c *Conn) TLS() *tls.ConnectionState {
	if !c.secured {
		return nil
	}
	return c.tls.State()
}

// WornOut says that so much went over one set of keys that the stream should be
// closed at the next good moment (tlsio.RetireAfter).
func (c *Conn) WornOut() bool {
	if c.tls == nil {
		return false
	}
	in, out := c.tls.Volume()
	return max(in, out) >= tlsio.RetireAfter
}

// Cut says that a TLS stream ended by FIN alone: what came before may have been
// cut short by someone on the way (RFC 8446 6.1). A message that says its own
// length is whole all the same; one that lasts until close is not
// (RFC 9112 9.8).
func (c *Conn) Cut() bool { return c.cut }

// Received is how many bytes came, in clear; those of a relay included.
func (c *Conn) Received() int64 { return c.received }

// Sent is how many bytes were written, in clear; those of a relay included.
func (c *Conn) Sent() int64 { return c.sent }

// Loop is the stream's loop.
func (c *Conn) Loop() *loop.Loop { return c.loop }

// IsOpen says that the stream is neither closed nor being closed. It may be
// connecting.
func (c *Conn) IsOpen() bool {
	return c.phase != phaseGone && c.phase != phaseClosing && !c.doomed && !c.broken
}

// FD is the socket's descriptor, for options; -1 when gone.
func (c *Conn) FD() int { return c.file.FD() }

// wouldBlock says that a call found the socket empty or full.
func wouldBlock(errno unix.Errno) bool { return errno == unix.EAGAIN || errno == unix.EINTR }
