// Package accesslog writes a line for each request, in Sluis's JSON or HAProxy's
// httplog form, without ever making a request wait.
//
//	loop 0: Writer.Append ─> ring ─┐                   ┌─> file, rotated
//	loop 1: Writer.Append ─> ring ─┼─> log goroutine ──┼─> memory: Recent, Follow
//	loop n: Writer.Append ─> ring ─┘   (forms lines)   └─> queue ─> syslog target
//
// It owns the file with its rotation, the connections to syslog targets and the
// newest records in memory.
//
// It promises that Append takes no lock, makes no system call but to wake a
// sleeping log goroutine, and allocates nothing; that what a full ring, a full
// queue or a failing disk cost is counted; that a client can't forge a line or a
// field by what it sends; and that what is to be redacted never leaves the loop.
//
// It does not promise that a line is on disk when Append returns, that the lines
// of two loops stand in the order of their times, or that a target gets every
// line while it is away.
//
// Read record.go, then writer.go (the ring), drain.go (the goroutine) and the
// sinks: file.go, syslog.go, recent.go.
package accesslog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults and bounds of Options.
const (
	defaultBufferBytes = 1 << 20
	minBufferBytes     = 64 << 10
	defaultRecentBytes = 1 << 20
	defaultFlushEvery  = 100 * time.Millisecond
	defaultFileBytes   = 64 << 20
	defaultQueueBytes  = 1 << 20
	maxTargets         = 16
)

// Options say where lines go.
type Options struct {
	// Sink is where lines are written on this machine. Its zero value: nowhere.
	Sink Sink
	// Targets are syslog servers that get a copy of each line.
	Targets []Target
	// Location is the zone of the times in httplog lines; nil = UTC. JSON lines are
	// always in UTC.
	Location *time.Location

	// The rest is taken by New and not changed by Configure.

	// BufferBytes is the size of each loop's ring; 0 = 1 MiB, at least 64 KiB. It is
	// rounded up to a power of two.
	BufferBytes int
	// RecentBytes bounds what Recent keeps in memory; 0 = 1 MiB, some 4,000 records.
	RecentBytes int
	// FlushEvery is how long lines gather before they are written; 0 = 100 ms. A ring
	// that is half full is emptied at once.
	FlushEvery time.Duration
	// Hostname is the HOSTNAME of syslog messages (RFC 5424 6.2.4); empty = "-".
	Hostname string
	// AppName is their APP-NAME; empty = "sluis".
	AppName string
	// Now is the clock of rotation; nil = time.Now.
	Now func() time.Time
	// Report is told by the log goroutines when a sink stops working (err is set) or
	// works again (nil), once each time. It must not block; nil = nobody is told.
	Report func(sink string, err error)
}

// Sink is a place on this machine: a file, or else a writer.
type Sink struct {
	// Path is the file's; empty = none. Rotated files are Path.1 (the newest), …
	Path string
	// MaxBytes rotates the file before it grows beyond that; 0 = 64 MiB.
	MaxBytes int64
	// RotateEvery rotates the file when the clock passes a multiple of it (24h: at
	// midnight UTC); 0 = by size alone.
	RotateEvery time.Duration
	// Keep is how many rotated files are kept; 0 = none: a full file is emptied.
	Keep int
	// MaxAge deletes rotated files that were last written longer ago; 0 = never.
	MaxAge time.Duration
	// Writer gets the lines where Path is empty. It is called from one goroutine,
	// with whole lines; it may block that one.
	Writer io.Writer
}

// Target is a syslog server (RFC 5424).
type Target struct {
	// Name identifies the target in Stats and Report; unique.
	Name string
	// Network is "udp" (RFC 5426), "tcp" (RFC 6587, octet counting) or "tls" (RFC
	// 5425).
	Network string
	// Address is host:port. A name is resolved anew with each connection.
	Address string
	// TLS is for "tls"; it is not changed.
	TLS *tls.Config
	// Facility is RFC 5424's, 0 to 23; 0 = 16, local0 (no kernel message comes from
	// here).
	Facility int
	// QueueBytes bounds what waits for this target; 0 = 1 MiB.
	QueueBytes int
}

// Log gathers the lines of all loops. Make one with New, end it with Close.
type Log struct {
	// Immutable.
	options Options
	// wake is told by a Writer that a ring is no longer empty, urgent that one is
	// half full; both hold one token.
	wake, urgent chan struct{}
	commands     chan command
	done         chan struct{}

	// asleep is true while the log goroutine waits for wake.
	asleep atomic.Bool

	memory recent // has its own lock

	counts counters

	mu      sync.Mutex // guards what follows
	writers []*Writer
	targets []*target
	closed  bool
	// gone are the counters of writers that were closed.
	gone WriterStats
}

// command is what the log goroutine does between two batches.
type command struct {
	do   func(*drain) error
	done chan error
}

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("the access log is closed")

// New opens the sinks and starts the log goroutine.
func New(o Options) (*Log, error) {
	if o.BufferBytes == 0 {
		o.BufferBytes = defaultBufferBytes
	}
	o.BufferBytes = ceilPowerOfTwo(max(o.BufferBytes, minBufferBytes))
	if o.RecentBytes == 0 {
		o.RecentBytes = defaultRecentBytes
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = defaultFlushEvery
	}
	if o.Hostname == "" {
		o.Hostname = "-"
	}
	if o.AppName == "" {
		o.AppName = "sluis"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Report == nil {
		o.Report = func(string, error) {}
	}
	g := &Log{
		options:  o,
		wake:     make(chan struct{}, 1),
		urgent:   make(chan struct{}, 1),
		commands: make(chan command),
		done:     make(chan struct{}),
	}
	g.memory.init(max(o.RecentBytes, 2*maxFrame))
	d := newDrain(g)
	if err := d.configure(o); err != nil {
		return nil, err
	}
	go d.run()
	return g, nil
}

func ceilPowerOfTwo(n int) int {
	size := 1
	for size < n {
		size <<= 1
	}
	return size
}

// Configure puts the whole desired state of Sink, Targets and Location in place of
// what there was; targets that stay the same keep their connections and queues.
// Where it fails nothing has changed.
func (g *Log) Configure(o Options) error {
	return g.command(func(d *drain) error { return d.configure(o) })
}

// Reopen opens the file by its name again: another program has moved it away.
func (g *Log) Reopen() error {
	return g.command(func(d *drain) error { return d.reopen() })
}

// Flush returns when every line appended before is with the file, the writer and
// the memory, and in the queues of the targets.
func (g *Log) Flush() error {
	return g.command(func(d *drain) error { d.drainAll(); return nil })
}

// Close writes what is left and ends all goroutines; targets get a second for
// what waits for them. What is appended later is dropped and counted. It may be
// called twice.
func (g *Log) Close() error {
	g.mu.Lock()
	closed := g.closed
	g.closed = true
	for _, w := range g.writers {
		w.closed.Store(true)
	}
	g.mu.Unlock()
	if closed {
		<-g.done
		return nil
	}
	err := g.command(func(d *drain) error { return d.close() })
	<-g.done
	return err
}

func (g *Log) command(do func(*drain) error) error {
	c := command{do: do, done: make(chan error, 1)}
	select {
	case g.commands <- c:
		return <-c.done
	case <-g.done:
		return ErrClosed
	}
}

// check finds what can't work in the part that Configure takes.
func (o *Options) check() error {
	if o.Sink.Path != "" && o.Sink.Writer != nil {
		return errors.New("the access log has both a file and a writer: give one")
	}
	if o.Sink.MaxBytes < 0 || o.Sink.Keep < 0 || o.Sink.RotateEvery < 0 || o.Sink.MaxAge < 0 {
		return errors.New("a bound of the access log's file is negative")
	}
	if len(o.Targets) > maxTargets {
		return fmt.Errorf("the access log has %d targets, and can have %d", len(o.Targets), maxTargets)
	}
	names := map[string]bool{}
	for _, t := range o.Targets {
		switch {
		case names[t.Name]:
			return fmt.Errorf("two log targets are called %q", t.Name)
		case t.Network != "udp" && t.Network != "tcp" && t.Network != "tls":
			return fmt.Errorf("log target %q: %q is neither udp, tcp nor tls", t.Name, t.Network)
		case t.Facility < 0 || t.Facility > 23: // RFC 5424 6.2.1
			return fmt.Errorf("log target %q: there is no facility %d", t.Name, t.Facility)
		}
		names[t.Name] = true
	}
	return nil
}
