package helper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluis/internal/text"
)

// Options of the helper's side.
type Options struct {
	// AllowUID is the user, beside root, that may call: the service's. 0 = root alone.
	AllowUID int
	// Audit is told of every call, also of a refused one; nil = nobody is. It is
	// called from several goroutines and delays the call's answer.
	Audit func(Record)
	// MaxConnections is how many peers may be connected; what comes on top is refused.
	// Default 8.
	MaxConnections int
	// RequestTimeout is how long a peer may take to send a request, or to take its
	// answer. Default 5s.
	RequestTimeout time.Duration
	// Counters are counted up; nil = nobody looks.
	Counters *Counters
}

const (
	defaultMaxConnections = 8
	defaultRequestTimeout = 5 * time.Second
)

// complete fills in the defaults.
func (o Options) complete() Options {
	if o.MaxConnections <= 0 {
		o.MaxConnections = defaultMaxConnections
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = defaultRequestTimeout
	}
	if o.Audit == nil {
		o.Audit = func(Record) {}
	}
	if o.Counters == nil {
		o.Counters = &Counters{}
	}
	return o
}

// Counters count what Serve has seen since it began.
type Counters struct {
	// Connections are all that were accepted.
	Connections atomic.Uint64
	// WrongPeer are connections refused because of their user.
	WrongPeer atomic.Uint64
	// Busy are connections refused because there were too many.
	Busy atomic.Uint64
	// Calls are requests of allowed peers, whatever came of them.
	Calls atomic.Uint64
}

// Peer is the process at the other end, as the kernel knew it when it connected.
type Peer struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
	PID int `json:"pid"`
}

// Record is one call for the audit.
type Record struct {
	// Time is when the call came, or the connection where no call was read.
	Time time.Time `json:"time"`
	// Peer is who called.
	Peer Peer `json:"peer"`
	// Verb is what was called; empty where no request could be read.
	Verb string `json:"verb,omitempty"`
	// Args is the arguments' summary; empty where they could not be read.
	Args string `json:"args,omitempty"`
	// Code is empty for success.
	Code Code `json:"code,omitempty"`
	// Message says why it did not succeed.
	Message text.Msg `json:"message,omitzero"`
	// Duration is how long it took, from the request's last byte.
	Duration time.Duration `json:"duration_ns"`
}

// table is the closed list of verbs that Serve knows.
func table(v Verbs) []entry {
	return []entry{
		identify.served(func(ctx context.Context, _ none) (Identity, error) { return v.Identify(ctx) }),
	}
}

// Serve answers calls on the listener until the context ends, which is no error,
// or the listener fails. It owns the listener and closes it. Calls under way are
// told by their context that it is over; Serve returns after the last of them.
func Serve(ctx context.Context, listener net.Listener, verbs Verbs, options Options) error {
	return serveEntries(ctx, listener, table(verbs), options.complete())
}

// serveEntries is Serve with its list of verbs; options are complete.
func serveEntries(ctx context.Context, listener net.Listener, entries []entry, options Options) error {
	s := &server{options: options, verbs: make(map[string]entry), slots: make(chan struct{}, options.MaxConnections)}
	for _, e := range entries {
		s.verbs[e.name] = e
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.calls.Wait()
	defer cancel()
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	return s.accept(ctx, listener)
}

// server is the state of one Serve.
type server struct {
	options Options
	verbs   map[string]entry
	// slots holds one token per connection that is being served.
	slots chan struct{}
	// calls are the goroutines of these connections.
	calls sync.WaitGroup
}

// accept gives each connection that has a slot a goroutine of its own.
func (s *server) accept(ctx context.Context, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			if !pause(ctx, 100*time.Millisecond) { // the machine is out of descriptors
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("accept a call: %w", err)
		}
		s.options.Counters.Connections.Add(1)
		peer, refusal := s.admit(conn)
		if refusal != nil {
			s.refuse(conn, peer, refusal)
			continue
		}
		s.calls.Go(func() {
			defer func() { <-s.slots }()
			s.serve(ctx, conn, peer)
		})
	}
}

// pause waits; false = the context ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// admit asks the kernel who connected and takes a slot. Neither costs the peer's
// cooperation, so that it runs before the next Accept.
func (s *server) admit(conn net.Conn) (Peer, *Error) {
	peer, err := peerOf(conn)
	switch {
	case err != nil:
		s.options.Counters.WrongPeer.Add(1)
		return peer, &Error{Refused, text.M("the kernel does not say who calls: {reason}", "reason", err)}
	case peer.UID != 0 && peer.UID != s.options.AllowUID:
		s.options.Counters.WrongPeer.Add(1)
		return peer, &Error{Refused, text.M("the user {uid} may not call the root helper", "uid", peer.UID)}
	}
	select {
	case s.slots <- struct{}{}:
		return peer, nil
	default:
		s.options.Counters.Busy.Add(1)
		return peer, &Error{Busy, text.M("the root helper has {limit} calls at once and takes no more", "limit", s.options.MaxConnections)}
	}
}

// peerOf reads the credentials that the kernel noted at connect (unix(7),
// SO_PEERCRED); no peer can forge them.
func peerOf(conn net.Conn) (Peer, error) {
	nobody := Peer{UID: -1, GID: -1}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nobody, errors.New("not a unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nobody, err
	}
	var credentials *syscall.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		credentials, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(controlErr, err); err != nil {
		return nobody, err
	}
	return Peer{UID: int(credentials.Uid), GID: int(credentials.Gid), PID: int(credentials.Pid)}, nil
}

// refuse answers a connection that gets no service. The answer fits the socket's
// buffer, so it cannot wait for the peer.
func (s *server) refuse(conn net.Conn, peer Peer, refusal *Error) {
	s.options.Audit(Record{Time: time.Now(), Peer: peer, Code: refusal.Code, Message: refusal.Message})
	s.answer(conn, nil, refusal)
	_ = conn.Close()
}

// serve reads and answers requests until the peer is done, or does not keep to
// the form.
func (s *server) serve(ctx context.Context, conn net.Conn, peer Peer) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	reader := bufio.NewReaderSize(conn, maxLineBytes)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(s.options.RequestTimeout))
		if ctx.Err() != nil {
			return
		}
		line, err := reader.ReadSlice('\n')
		if err == nil {
			if !s.call(ctx, conn, peer, line) {
				return
			}
			continue
		}
		if len(line) > 0 && ctx.Err() == nil { // a request that never became one
			s.options.Counters.Calls.Add(1)
			s.refuse(conn, peer, s.incomplete(err))
		}
		return
	}
}

func (s *server) incomplete(err error) *Error {
	var timeout net.Error
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return &Error{Malformed, text.M("the request is longer than {limit} bytes", "limit", maxLineBytes)}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Error{TimedOut, text.M("the request did not arrive within {limit}", "limit", s.options.RequestTimeout)}
	case errors.Is(err, io.EOF):
		return &Error{Malformed, text.M("the request is cut off")}
	}
	return &Error{Malformed, text.M("the request could not be read: {reason}", "reason", err)}
}

// call runs one request; false = the connection is over. The audit hears of the
// call even if the work panics, which ends the process: a root helper that does
// not know its own state must not go on.
func (s *server) call(ctx context.Context, conn net.Conn, peer Peer, line []byte) bool {
	s.options.Counters.Calls.Add(1)
	record := Record{Time: time.Now(), Peer: peer, Code: Failed, Message: text.M("the work ended in a panic")}
	told := false
	tell := func() {
		if !told {
			told = true
			record.Duration = time.Since(record.Time)
			s.options.Audit(record)
		}
	}
	defer tell()

	result, failure := s.run(ctx, line, &record)
	record.Code, record.Message = "", text.Msg{}
	if failure != nil {
		record.Code, record.Message = failure.Code, failure.Message
	}
	tell() // before the answer: who has it may rely on the audit
	return s.answer(conn, result, failure) && (failure == nil || failure.Code != Malformed)
}

// run finds the verb and does its work within its time.
func (s *server) run(ctx context.Context, line []byte, record *Record) (json.RawMessage, *Error) {
	r, failure := decodeRequest(line)
	if failure != nil {
		return nil, failure
	}
	record.Verb = r.Verb
	e, known := s.verbs[r.Verb]
	if !known {
		return nil, &Error{Refused, text.M("the root helper knows no verb {verb}", "verb", r.Verb)}
	}
	ctx, cancel := context.WithTimeout(ctx, e.limit)
	defer cancel()
	result, summary, failure := e.run(ctx, r.Args)
	record.Args = summary
	return result, failure
}

// answer writes one line; false = the peer does not take it.
func (s *server) answer(conn net.Conn, result json.RawMessage, failure *Error) bool {
	line, err := json.Marshal(response{Result: result, Error: failure})
	if err != nil {
		panic(fmt.Sprintf("BUG: an answer cannot be written: %v", err))
	}
	if len(line) >= maxLineBytes {
		// The work may be done all the same; only its result gets lost, or its reason.
		code := Failed
		if failure != nil {
			code = failure.Code
		}
		tooLong := text.M("the root helper's answer is too long to be sent: {bytes} bytes; its audit tells the result", "bytes", len(line))
		line, _ = json.Marshal(response{Error: &Error{code, tooLong}})
	}
	_ = conn.SetWriteDeadline(time.Now().Add(s.options.RequestTimeout))
	_, err = conn.Write(append(line, '\n'))
	return err == nil
}
