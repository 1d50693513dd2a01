package accesslog

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	minPause     = time.Second // between two attempts to reach a target that is away
	maxPause     = 30 * time.Second
	endTimeout   = time.Second // for what waits when the log is closed
	// calmTime is how long a UDP target must not refuse before it counts as back: its
	// errors come late and in turn with successes.
	calmTime = 10 * time.Second
	// nameLife is how long a UDP target's name is believed.
	nameLife = 10 * time.Minute

	defaultFacility = 16 // local0
)

// Severities of RFC 5424 6.2.1.
const (
	severityWarning = 4
	severityInfo    = 6
)

// target is a syslog server with a queue and a goroutine of its own, so that one
// that hangs stops neither the file nor the others.
type target struct {
	Target  // immutable
	options *Options
	wake    chan struct{} // holds one token
	ending  chan struct{} // closed by end
	done    chan struct{} // closed when the goroutine has ended

	mu sync.Mutex // guards what follows; held for copies only
	// queue are messages, each with its length in front (4 bytes).
	queue     []byte
	waiting   int // messages in queue
	ended     bool
	sent      uint64
	lost      uint64
	connected bool

	// Of the goroutine alone.
	conn    net.Conn
	watcher watcher
	dialed  time.Time
	failed  time.Time // last failure; zero = none since it was reported as well
	batch   []byte
	scratch []byte
	udp     batcher
}

// TargetStats are the counters of a target.
type TargetStats struct {
	Name string
	// Sent messages were given to the kernel, Lost ones found the queue full, or were
	// refused.
	Sent, Lost uint64
	// Waiting messages are in the queue.
	Waiting int
	// Connected = the last attempt to send was good.
	Connected bool
}

func startTarget(settings Target, o *Options) *target {
	t := &target{
		Target: settings, options: o,
		wake: make(chan struct{}, 1), ending: make(chan struct{}), done: make(chan struct{}),
	}
	go t.run()
	return t
}

func (t *target) stats() TargetStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TargetStats{Name: t.Name, Sent: t.sent, Lost: t.lost, Waiting: t.waiting, Connected: t.connected}
}

// enqueue puts a line into the queue as a message; a full queue drops and counts
// it.
func (t *target) enqueue(line []byte, r *Record) {
	limit := t.QueueBytes
	if limit == 0 {
		limit = defaultQueueBytes
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := len(t.queue)
	if t.ended || at+len(line) > limit {
		t.lost++
		return
	}
	t.queue = t.appendMessage(append(t.queue, 0, 0, 0, 0), line, r)
	binary.LittleEndian.PutUint32(t.queue[at:], uint32(len(t.queue)-at-4))
	t.waiting++
}

// appendMessage is RFC 5424 section 6: <PRI>1 TIME HOST APP PROCID MSGID SD MSG.
func (t *target) appendMessage(dst, line []byte, r *Record) []byte {
	facility, severity := t.Facility, severityInfo
	if facility == 0 {
		facility = defaultFacility
	}
	if !r.Normal() {
		severity = severityWarning
	}
	dst = strconv.AppendInt(append(dst, '<'), int64(facility<<3|severity), 10)
	dst = append(dst, ">1 "...)
	dst = appendUTC(dst, r.Wall)
	dst = appendPrintable(append(dst, ' '), t.options.Hostname, 255)
	dst = appendPrintable(append(dst, ' '), t.options.AppName, 48)
	dst = append(dst, " - access - "...)
	return append(dst, line...)
}

// appendPrintable keeps to PRINTUSASCII and the length that RFC 5424 allows.
func appendPrintable(dst []byte, s string, limit int) []byte {
	for i := range min(len(s), limit) {
		c := s[i]
		if c <= ' ' || c >= 0x7f {
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}

func (t *target) kick() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// end lets the goroutine send what waits, for a second at most, and end.
func (t *target) end() {
	t.mu.Lock()
	ended := t.ended
	t.ended = true
	t.mu.Unlock()
	if !ended {
		close(t.ending)
	}
}

func (t *target) run() {
	defer close(t.done)
	defer t.hangUp()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	finished := make(chan struct{})
	defer close(finished)
	go func() { // a dial or write under way ends with the target
		select {
		case <-t.ending:
		case <-finished:
			return
		}
		select {
		case <-time.After(endTimeout):
			cancel()
		case <-finished:
		}
	}()
	pause := minPause
	for {
		ending := false
		select {
		case <-t.wake:
		case <-t.ending:
			ending = true
		}
		t.takeQueue()
		for len(t.batch) > 0 {
			if err := t.send(ctx); err == nil {
				pause = minPause
				continue
			}
			if !t.rest(ctx, pause) {
				break
			}
			pause = min(2*pause, maxPause)
		}
		if ending {
			t.giveUp()
			return
		}
	}
}

// rest waits before the next attempt; false = the target ends and time is up.
func (t *target) rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	case <-t.ending:
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// takeQueue swaps the queue with the batch, which is empty.
func (t *target) takeQueue() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.batch) == 0 {
		t.batch, t.queue = t.queue, t.batch[:0]
		t.waiting = 0
	}
}

// giveUp counts what could not be sent.
func (t *target) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost += uint64(countMessages(t.batch) + t.waiting)
	t.batch, t.queue, t.waiting = nil, nil, 0
}

func countMessages(b []byte) (n int) {
	for ; len(b) > 0; n++ {
		b = b[4+binary.LittleEndian.Uint32(b):]
	}
	return n
}

// send sends what it can of the batch and takes that off it.
func (t *target) send(ctx context.Context) error {
	err := t.dial(ctx)
	sent, refused := 0, 0
	if err == nil {
		if t.Network == "udp" {
			sent, refused, err = t.sendUDP()
		} else {
			sent, err = t.sendStream()
		}
	}
	if err != nil {
		t.hangUp()
	}
	t.tell(err, refused > 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent += uint64(sent)
	t.lost += uint64(refused)
	t.connected = err == nil && refused == 0 && !t.watcher.hungUp()
	return err
}

// tell reports the first failure and the recovery.
func (t *target) tell(err error, refused bool) {
	now := time.Now()
	if err == nil && refused {
		err = errors.New("the machine is there but nobody takes messages on the port")
	}
	switch {
	case err != nil:
		if t.failed.IsZero() {
			t.options.Report(t.Name, err)
		}
		t.failed = now
	case t.failed.IsZero() || t.Network == "udp" && now.Sub(t.failed) < calmTime:
	default:
		t.failed = time.Time{}
		t.options.Report(t.Name, nil)
	}
}

func (t *target) dial(ctx context.Context) error {
	if t.conn != nil && (t.Network != "udp" || time.Since(t.dialed) < nameLife) {
		return nil
	}
	t.hangUp()
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var err error
	var dialer net.Dialer
	switch t.Network {
	case "udp":
		t.conn, err = dialer.DialContext(dialCtx, "udp", t.Address)
	case "tcp":
		t.conn, err = dialer.DialContext(dialCtx, "tcp", t.Address)
	case "tls":
		t.conn, err = (&tls.Dialer{NetDialer: &dialer, Config: t.TLS}).DialContext(dialCtx, "tcp", t.Address)
	}
	if err != nil {
		t.conn = nil
		return err
	}
	t.dialed = time.Now()
	if t.Network == "udp" {
		return t.udp.open(t.conn)
	}
	t.watch(ctx)
	return nil
}

// watcher is the goroutine that reads from a connection.
type watcher struct {
	gone chan struct{} // closed when the connection has ended
	done chan struct{} // closed when that is known, and the goroutine ends
}

func (w *watcher) hungUp() bool {
	select {
	case <-w.gone:
		return true
	default:
		return false
	}
}

// watch reads, though a syslog server says nothing: what comes is the end. The next
// write then fails at once instead of filling a socket that nobody reads.
func (t *target) watch(ctx context.Context) {
	conn, w := t.conn, watcher{gone: make(chan struct{}), done: make(chan struct{})}
	t.watcher = w
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer close(w.done)
		defer stop()
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		close(w.gone) // before the lock: send looks at it under the lock
		t.mu.Lock()
		defer t.mu.Unlock()
		t.connected = false
	}()
}

func (t *target) hangUp() {
	if t.conn == nil {
		return
	}
	t.conn.Close()
	if t.watcher.done != nil {
		<-t.watcher.done
	}
	t.conn, t.watcher = nil, watcher{}
}

// sendStream writes the batch with octet counting (RFC 6587 3.4.1, RFC 5425
// 4.3.1). A message counts as sent when all of it was taken; the others are sent
// again on the next connection.
func (t *target) sendStream() (sent int, err error) {
	for len(t.batch) > 0 {
		out := t.scratch[:0]
		rest, messages := t.batch, 0
		for len(rest) > 0 && len(out) < writeBytes {
			n := binary.LittleEndian.Uint32(rest)
			out = append(strconv.AppendUint(out, uint64(n), 10), ' ')
			out = append(out, rest[4:4+n]...)
			rest = rest[4+n:]
			messages++
		}
		t.scratch = out
		if err := t.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return sent, err
		}
		// What a failed write got rid of is not known to have arrived: all of it is sent
		// again. A line twice is better than one missing.
		if _, err := t.conn.Write(out); err != nil {
			return sent, err
		}
		sent += messages
		t.batch = append(t.batch[:0], rest...)
	}
	return sent, nil
}

// sendUDP sends one datagram for each message, many of them with one system call.
// Refused is how many the machine there, or the kernel for their length, refused.
func (t *target) sendUDP() (sent, refused int, err error) {
	rest := t.batch
	defer func() { t.batch = append(t.batch[:0], rest...) }()
	for len(rest) > 0 {
		done, err := t.udp.send(rest)
		sent += done
		if errors.Is(err, unix.EMSGSIZE) {
			done++
		}
		for range done {
			rest = rest[4+binary.LittleEndian.Uint32(rest):]
		}
		switch {
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EMSGSIZE):
			refused++ // ECONNREFUSED is the answer to an earlier datagram: this one is sent again
		case err != nil:
			return sent, refused, err
		}
	}
	return sent, refused, nil
}
