// Package tlsio runs crypto/tls inside a loop: over memory instead of a socket,
// the handshake as a coroutine, slow signatures on a pool of workers.
//
// It owns the way of bytes between the wire and crypto/tls, the handshake's
// coroutine, and the hand-over of private-key work. It promises that no call
// blocks, that all bytes given to it are taken, that what a call has to send is
// in Out when it returns, also beside an error, and that a finished or aborted
// connection leaves nothing behind: no coroutine, no borrowed buffer.
//
// It does not touch sockets (see package transport), knows no certificates (the
// tls.Config's callbacks do), and has no record layer and no cryptography of its
// own. Records made by our own code after the handshake, for kernel TLS say,
// would take the place of Read and Write behind this same API.
//
// A Conn belongs to its loop: all methods run there. Reading order: Conn, then
// memory (memory.go), framing (framing.go), Bind (sign.go).
package tlsio

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net/netip"

	"sluis/internal/proxy/loop"
)

// MaxWrite is the most plaintext that Write should get at once: three full
// records, which with their frames fit the loop's largest buffers. More works,
// and costs an allocation.
const MaxWrite = 3 << 14

// MaxRead is the most wire bytes that should come between two times that Read
// says ErrWouldBlock; then all plaintext fits MaxPlain. The bound: crypto/tls
// holds at most a piece of one record, whose plaintext is 16 KiB or less, and
// whatever follows it on the wire is longer than its plaintext.
const (
	MaxRead  = 48 << 10
	MaxPlain = 64 << 10
)

// Conn is one TLS connection over memory.
//
//	Handshake ... done ──► Read / Write ──► CloseWrite      Abort ends any state
//	   │    ▲
//	   ▼    │ Resumed
//	  Parked: a worker signs
type Conn struct {
	// Resumed is called in the loop when a parked handshake can go on; the owner
	// then calls Handshake(nil). Set it before the first Handshake.
	Resumed func()

	tls   *tls.Conn
	mem   memory
	shake *handshake // nil before the first step and after the last
	state *tls.ConnectionState
	ended bool // the handshake has ended, well or with readErr
	// readErr is what every further Read answers: not every error of crypto/tls
	// sticks there by itself (renegotiation does not).
	readErr error
}

// handshake is the coroutine of an unfinished handshake.
type handshake struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	// parked is the signature that a worker makes, nil when none is awaited.
	parked *signing
	err    error
}

// errAborted ends the coroutine of a handshake that nobody waits for.
var errAborted = errors.New("handshake aborted")

// connKey is under which the handshake's context carries its Conn to Bind.
type connKey struct{}

// Prepare sets on a Config what running in a loop asks for. Call it once for
// each Config, also for those that GetConfigForClient returns.
func Prepare(cfg *tls.Config) *tls.Config {
	// Records of full size from the start: we gather what we send, and a client
	// that reads a record late still reads it sooner than twelve small ones.
	cfg.DynamicRecordSizingDisabled = true
	// A renegotiation would be a handshake inside Read, which cannot wait there.
	// TLS 1.3 has none (RFC 8446 4.1.2); the default refuses it in 1.2.
	cfg.Renegotiation = tls.RenegotiateNever
	return cfg
}

// Server makes the server's side of a connection. The Config must be prepared.
func Server(cfg *tls.Config, l *loop.Loop) *Conn {
	c := newConn(cfg, l)
	c.tls = tls.Server(&c.mem, cfg)
	return c
}

// Client makes the client's side; its first Handshake(nil) yields the
// ClientHello. The Config must be prepared.
func Client(cfg *tls.Config, l *loop.Loop) *Conn {
	c := newConn(cfg, l)
	c.tls = tls.Client(&c.mem, cfg)
	return c
}

func newConn(cfg *tls.Config, l *loop.Loop) *Conn {
	if !cfg.DynamicRecordSizingDisabled || cfg.Renegotiation != tls.RenegotiateNever {
		panic("BUG: tls.Config without tlsio.Prepare")
	}
	c := &Conn{}
	c.mem.conn = c
	c.mem.loop = l
	return c
}

// SetRemote tells the address that callbacks of the tls.Config see as
// hello.Conn.RemoteAddr, and by which a client without ServerName keeps sessions.
func (c *Conn) SetRemote(a netip.AddrPort) { c.mem.remote = a }

// Handshake goes on with the handshake as far as wire lets it. All of wire is
// taken; what comes after the handshake's end is kept for Read. What is to be
// sent is in Out, also beside an error: that is the alert.
func (c *Conn) Handshake(wire []byte) (done bool, err error) {
	if c.shake == nil {
		if c.ended {
			c.mem.hold(wire)
			return c.readErr == nil, c.readErr
		}
		c.begin()
	}
	s := c.shake
	c.mem.give(wire)
	_, waits := s.next()
	c.mem.keep()
	if waits {
		return false, nil
	}
	c.shake, c.ended = nil, true
	if s.err != nil {
		c.readErr = s.err
		return false, s.err
	}
	return true, nil
}

// begin starts the coroutine. It must run, as all steps, on the loop's thread.
func (c *Conn) begin() {
	s := &handshake{}
	// A context without Done costs crypto/tls no goroutine.
	ctx := context.WithValue(context.Background(), connKey{}, c)
	s.next, s.stop = iter.Pull(func(yield func(struct{}) bool) {
		s.yield = yield
		s.err = c.tls.HandshakeContext(ctx)
	})
	c.shake = s
}

// Read takes wire bytes in and plaintext out. It returns ErrWouldBlock when all
// of wire is inside and no plaintext is left; until then it is called again with
// what remains of wire, at least once after the handshake even without any.
// io.EOF is the other side's close_notify; another error is fatal. All errors but
// ErrWouldBlock stay. Out may hold something after any call (a KeyUpdate's
// answer, an alert).
func (c *Conn) Read(wire *[]byte, dst []byte) (n int, err error) {
	if c.readErr != nil {
		*wire = nil // RFC 8446 6.1: what follows a closure alert is ignored
		return 0, c.readErr
	}
	m := &c.mem
	m.give(*wire)
	if m.empty() && m.framing.settled() {
		return 0, ErrWouldBlock
	}
	n, err = c.tls.Read(dst)
	*wire, m.in = m.in, nil
	switch err {
	case nil:
		if n < len(dst) { // else the record may not be through
			m.framing.due--
		}
	case ErrWouldBlock:
		m.framing.due = 0
	default:
		c.readErr = err
		*wire = nil
	}
	if n > 0 {
		return n, nil // with an error when an alert follows the data: the next call tells it
	}
	return 0, err
}

// Write turns p into records in Out. Give it MaxWrite bytes at most. It fails
// before the handshake's end and after CloseWrite or a fatal alert.
func (c *Conn) Write(p []byte) error {
	c.mem.reserve(len(p) + (len(p)>>14+1)*recordOverhead)
	_, err := c.tls.Write(p)
	return err
}

// recordOverhead is the most that a record we write is longer than its plaintext:
// header 5, TLS 1.2 CBC with IV 16, MAC 32, padding 16.
const recordOverhead = 5 + 16 + 32 + 16

// CloseWrite puts close_notify into Out; reading goes on (RFC 8446 6.1).
func (c *Conn) CloseWrite() error { return c.tls.CloseWrite() }

// Out is what the calls since the last TakeOut have to send.
func (c *Conn) Out() []byte {
	if c.mem.out == nil {
		return nil
	}
	return c.mem.out.B
}

// TakeOut says that Out was sent or copied.
func (c *Conn) TakeOut() {
	if c.mem.out != nil {
		c.mem.loop.Return(c.mem.out)
		c.mem.out = nil
	}
}

// MoveOut hands Out over with its buffer, which the caller returns to the loop;
// nil when there is none.
func (c *Conn) MoveOut() *loop.Buffer {
	b := c.mem.out
	c.mem.out = nil
	return b
}

// Parked says that the handshake waits for a signature. The owner reads nothing
// from the wire meanwhile.
func (c *Conn) Parked() bool { return c.shake != nil && c.shake.parked != nil }

// State describes the connection after its handshake. The value is made at the
// first call and stays.
func (c *Conn) State() *tls.ConnectionState {
	if c.state == nil {
		s := c.tls.ConnectionState()
		c.state = &s
	}
	return c.state
}

// Abort ends the connection in any state: the coroutine of an unfinished
// handshake returns, the result of a parked signature is dropped when it comes,
// all buffers go back.
func (c *Conn) Abort() {
	if s := c.shake; s != nil {
		s.stop()
		c.shake = nil
	}
	c.ended = true
	if c.readErr == nil {
		c.readErr = io.ErrClosedPipe
	}
	c.TakeOut()
	c.mem.release()
}

// Volume is how many wire bytes went in and out. crypto/tls neither counts
// records against AES-GCM's limit (RFC 8446 5.5) nor starts a KeyUpdate, so the
// owner retires a connection after RetireAfter in one direction.
func (c *Conn) Volume() (in, out uint64) { return c.mem.inBytes, c.mem.outBytes }

// RetireAfter is the Volume at which a connection should be closed. 2^24.5
// records of 16 KiB would be 360 GiB; records may be smaller.
const RetireAfter = 64 << 30
