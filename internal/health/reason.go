package health

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// Code is the result of a probe in HAProxy's words: the layer that it came to,
// and how it ended there.
type Code string

// The codes.
const (
	L4OK   Code = "L4OK"   // the connection came up, and nothing more was asked
	L4TOUT Code = "L4TOUT" // it didn't in time
	L4CON  Code = "L4CON"  // it was refused, or there is no way
	L6OK   Code = "L6OK"   // TLS came up, and nothing more was asked
	L6TOUT Code = "L6TOUT" // it didn't in time
	L6RSP  Code = "L6RSP"  // it failed, or the certificate is not believed
	L7OK   Code = "L7OK"   // the answer is as it should be
	L7TOUT Code = "L7TOUT" // it didn't come in time
	L7RSP  Code = "L7RSP"  // it is no HTTP, or it lacks the expected text
	L7STS  Code = "L7STS"  // it has a status that isn't expected

	SockErr Code = "SOCKERR" // this machine couldn't ask
)

// verdict is a probe's end before it stands in a transcript.
type verdict struct {
	good     bool
	shortage bool
	code     Code
	status   int
	reason   text.Msg
	err      error
}

func good(code Code, reason text.Msg) verdict { return verdict{good: true, code: code, reason: reason} }

func bad(code Code, reason text.Msg, err error) verdict {
	return verdict{code: code, reason: reason, err: err}
}

// layer is what an error is said of.
type layer struct {
	timeout, broken Code
	late            text.Msg // says that it took longer than the timeout
}

func connecting(timeout time.Duration) layer {
	return layer{L4TOUT, L4CON, text.M("no connection within {timeout}", "timeout", config.Duration(timeout))}
}

func handshaking(timeout time.Duration) layer {
	return layer{L6TOUT, L6RSP, text.M("the TLS handshake was not done within {timeout}", "timeout", config.Duration(timeout))}
}

func answering(timeout time.Duration) layer {
	return layer{L7TOUT, L7RSP, text.M("no complete answer within {timeout}", "timeout", config.Duration(timeout))}
}

// failed says an error of input or output in plain words.
func (l layer) failed(err error) verdict {
	if isTimeout(err) {
		return bad(l.timeout, l.late, err)
	}
	if isShortage(err) {
		return verdict{shortage: true, code: SockErr, err: err, reason: text.M("this machine cannot ask: {error}", "error", rootOf(err))}
	}
	return bad(l.broken, l.plain(err), err)
}

func (l layer) plain(err error) text.Msg {
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return text.M("the server refuses connections")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return text.M("there is no way to the server: {error}", "error", rootOf(err))
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return text.M("this machine's own firewall refuses the connection")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return text.M("the server broke off the connection (reset)")
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return text.M("the server ended TLS: {error}", "error", op.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if l.broken == L7RSP {
			return text.M("the server closed the connection before its answer was complete")
		}
		return text.M("the server closed the connection")
	case l.broken == L6RSP:
		return text.M("the TLS handshake failed: {error}", "error", err)
	case l.broken == L7RSP:
		return text.M("the answer is no HTTP: {error}", "error", err)
	}
	return text.M("the connection failed: {error}", "error", rootOf(err))
}

// rootOf leaves away the addresses that an error of net repeats.
func rootOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// isShortage tells what this machine lacks from what a server did.
func isShortage(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
