package helper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"sluis/internal/text"
)

// answerGrace is how much longer than the work itself the answer may take.
const answerGrace = 2 * time.Second

// Dial gives the verbs of the root helper that listens on a unix socket. Each
// call is a connection of its own, so that a helper which has been restarted, or
// which systemd starts with the first call, is no special case. Dial itself does
// not connect.
func Dial(socket string) Verbs {
	return Verbs{
		Identify: func(ctx context.Context) (Identity, error) { return identify.call(ctx, socket, none{}) },
	}
}

// call sends one request and reads its answer.
func (v verb[A, R]) call(ctx context.Context, socket string, args A) (R, error) {
	var result R
	ctx, cancel := context.WithTimeout(ctx, v.limit+answerGrace)
	defer cancel()
	answer, err := v.exchange(ctx, socket, args)
	if err == nil {
		err = decodeAnswer(answer, &result)
	}
	var worded *Error
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &worded):
		return result, worded
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return result, &Error{TimedOut, text.M("the root helper did not answer {verb} in time", "verb", v.name)}
	case ctx.Err() != nil:
		return result, &Error{TimedOut, text.M("{verb} was given up before the root helper answered", "verb", v.name)}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) { // what net wraps around it repeats the socket
		err = errno
	}
	return result, &Error{Unreachable, text.M("the root helper at {socket} cannot be reached: {reason}", "socket", socket, "reason", err)}
}

// exchange writes the request line and returns the answer's.
func (v verb[A, R]) exchange(ctx context.Context, socket string, args A) ([]byte, error) {
	line, err := encodeRequest(v.name, args)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// A helper that refuses us outright answers and closes before it has read
	// anything: its reason counts, not our broken pipe.
	_, writeErr := conn.Write(line)
	answer, readErr := bufio.NewReaderSize(conn, maxLineBytes).ReadSlice('\n')
	switch {
	case readErr == nil:
		return answer, nil
	case errors.Is(readErr, bufio.ErrBufferFull):
		return nil, errors.New("its answer is too long")
	case writeErr != nil:
		return nil, writeErr
	case errors.Is(readErr, io.EOF):
		return nil, errors.New("it closed the connection without an answer")
	}
	return nil, readErr
}

func encodeRequest(name string, args arguments) ([]byte, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	line, err := json.Marshal(request{Verb: name, Args: raw})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	if len(line) >= maxLineBytes {
		return nil, &Error{Refused, text.M("the arguments of {verb} are too long: {bytes} bytes", "verb", name, "bytes", len(line))}
	}
	return append(line, '\n'), nil
}

func decodeAnswer(line []byte, result any) error {
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", reason(err))
	}
	if r.Error != nil {
		return r.Error
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", reason(err))
	}
	return nil
}
