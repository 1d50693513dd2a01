package demo

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" // RFC 6455 wants it; it protects nothing
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// WebSockets (RFC 6455), both sides: as much as the demo's chats need, and that
// strictly. No extensions, no subprotocols.

// opcode is the kind of a frame (section 5.2).
type opcode byte

const (
	opContinuation opcode = 0x0
	opText         opcode = 0x1
	opBinary       opcode = 0x2
	opClose        opcode = 0x8
	opPing         opcode = 0x9
	opPong         opcode = 0xA
)

func (o opcode) isControl() bool { return o&0x8 != 0 }

// The reasons for an end that are used here (section 7.4.1).
const (
	closeNormal    = 1000
	closeGoingAway = 1001
	closeProtocol  = 1002
	closeNoStatus  = 1005 // never sent: there was none
	closeNotUTF8   = 1007
	closeTooBig    = 1009
)

const (
	// maxMessage bounds a message, over all its frames, in bytes.
	maxMessage = 64 << 10
	// maxControl is how long a control frame's payload may be (section 5.5).
	maxControl = 125
	// writeWithin is how long a write may take.
	writeWithin = 5 * time.Second
	// socketGUID makes an accept value of a key (section 1.3).
	socketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// closeError is the end of a WebSocket: what the other side said, or what it did
// wrong.
type closeError struct {
	code   int
	reason string
}

func (e *closeError) Error() string { return fmt.Sprintf("closed: %d %s", e.code, e.reason) }

// webSocket is one end of a connection. One goroutine may receive while others
// send.
type webSocket struct {
	conn net.Conn
	r    *bufio.Reader
	// client says which end this is: clients mask what they send, servers don't
	// (section 5.1).
	client bool
	// pong is told of each pong that comes; nil = nobody is.
	pong func(payload []byte)
	// idle is how long nothing may come before receive gives up; 0 = for ever.
	idle time.Duration

	mu     sync.Mutex
	closed bool // a close frame was sent; guarded by mu
}

// acceptKey answers a client's key (section 4.2.2, step 5.4).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + socketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// acceptWebSocket answers a handshake (section 4.2) and takes the connection over.
// What can't be a handshake is answered with an error.
func acceptWebSocket(w http.ResponseWriter, r *http.Request) (*webSocket, error) {
	if status, reason := judgeHandshake(r); status != 0 {
		if status == http.StatusUpgradeRequired {
			w.Header().Set("Sec-WebSocket-Version", "13")
			w.Header().Set("Upgrade", "websocket")
		}
		http.Error(w, reason, status)
		return nil, errors.New(reason)
	}
	header := w.Header().Clone()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection can't be taken over", http.StatusInternalServerError)
		return nil, err
	}
	header.Set("Upgrade", "websocket")
	header.Set("Connection", "Upgrade")
	header.Set("Sec-WebSocket-Accept", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	answer := bytesOf(func(b *strings.Builder) {
		b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
		_ = header.Write(b) // a Builder doesn't fail
		b.WriteString("\r\n")
	})
	_ = conn.SetDeadline(time.Now().Add(writeWithin))
	if _, err := conn.Write(answer); err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return &webSocket{conn: conn, r: buffered.Reader}, nil
}

func bytesOf(write func(*strings.Builder)) []byte {
	var b strings.Builder
	write(&b)
	return []byte(b.String())
}

// judgeHandshake says what is wrong with a client's handshake (section 4.2.1);
// status 0 = nothing.
func judgeHandshake(r *http.Request) (status int, reason string) {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	switch {
	case r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1):
		return http.StatusMethodNotAllowed, "a WebSocket begins with GET over HTTP/1.1"
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade"):
		return http.StatusUpgradeRequired, "this address speaks WebSocket alone"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return http.StatusUpgradeRequired, "this address speaks version 13 of WebSocket alone"
	case err != nil || len(key) != 16:
		return http.StatusBadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"
	case !sameOrigin(r):
		return http.StatusForbidden, "another site's page may not chat here"
	}
	return 0, ""
}

// sameOrigin reports whether a page of this very site asks, or no page at all
// (section 10.2).
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// hasToken reports whether a field's list holds a token, in any case.
func hasToken(h http.Header, field, token string) bool {
	return slices.ContainsFunc(h.Values(field), func(value string) bool {
		return slices.ContainsFunc(strings.Split(value, ","), func(t string) bool {
			return strings.EqualFold(strings.TrimSpace(t), token)
		})
	})
}

// dialTLS opens the connection that a handshake goes over.
func dialTLS(ctx context.Context, address string, c *tls.Config) (net.Conn, error) {
	dialer := tls.Dialer{Config: c}
	return dialer.DialContext(ctx, "tcp", address)
}

// refusedError is an answer other than 101 to a handshake.
type refusedError struct {
	status int
	server string
}

func (e *refusedError) Error() string { return fmt.Sprintf("the handshake was answered %d", e.status) }

// openWebSocket makes a WebSocket of a connection (section 4.1). r is what reads
// from it. The answer's header comes back with it.
func openWebSocket(conn net.Conn, r *bufio.Reader, host, path string, header http.Header) (*webSocket, http.Header, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	request := bytesOf(func(b *strings.Builder) {
		fmt.Fprintf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", path, host, key)
		_ = header.Write(b)
		b.WriteString("\r\n")
	})
	if _, err := conn.Write(request); err != nil {
		return nil, nil, err
	}
	response, err := http.ReadResponse(r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, nil, err
	}
	switch h := response.Header; {
	case response.StatusCode != http.StatusSwitchingProtocols:
		_ = response.Body.Close()
		return nil, h, &refusedError{response.StatusCode, h.Get(serverField)}
	case !hasToken(h, "Upgrade", "websocket"), !hasToken(h, "Connection", "upgrade"), h.Get("Sec-WebSocket-Accept") != acceptKey(key):
		return nil, h, errors.New("the answer to the handshake is not a WebSocket's")
	}
	return &webSocket{conn: conn, r: r, client: true}, response.Header, nil
}

// frame is one frame with its payload unmasked.
type frame struct {
	op      opcode
	final   bool
	payload []byte
}

// receive returns the next message. It answers pings and the other side's close by
// itself; the end comes as a *closeError, or as the connection's error where there
// was no close frame.
func (s *webSocket) receive() (opcode, []byte, error) {
	var kind opcode
	var message []byte
	for begun := false; ; {
		f, err := s.readFrame(maxMessage - len(message))
		if err != nil {
			return 0, nil, s.fail(err)
		}
		switch {
		case f.op == opPing:
			err = s.send(opPong, f.payload)
		case f.op == opPong:
			if s.pong != nil {
				s.pong(f.payload)
			}
		case f.op == opClose:
			return 0, nil, s.answerClose(f.payload)
		case begun == (f.op != opContinuation): // a new message inside another, or the rest of none
			err = &closeError{closeProtocol, "fragments out of order"}
		default:
			if !begun {
				kind, begun = f.op, true
			}
			message = append(message, f.payload...)
			if !f.final {
				continue
			}
			if kind == opText && !utf8.Valid(message) {
				return 0, nil, s.fail(&closeError{closeNotUTF8, "text that is not UTF-8"})
			}
			return kind, message, nil
		}
		if err != nil {
			return 0, nil, s.fail(err)
		}
	}
}

// readFrame reads one frame (section 5.2). room is what a data frame may still
// hold.
func (s *webSocket) readFrame(room int) (f frame, err error) {
	if s.idle > 0 {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.idle))
	}
	var head [2]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return f, err
	}
	f.op, f.final = opcode(head[0]&0x0f), head[0]&0x80 != 0
	masked, length := head[1]&0x80 != 0, uint64(head[1]&0x7f)
	switch {
	case head[0]&0x70 != 0:
		return f, &closeError{closeProtocol, "reserved bits are set"}
	case f.op > opBinary && f.op < opClose || f.op > opPong:
		return f, &closeError{closeProtocol, "unknown opcode"}
	case masked == s.client:
		return f, &closeError{closeProtocol, "clients mask, servers don't"}
	case f.op.isControl() && (length > maxControl || !f.final):
		return f, &closeError{closeProtocol, "a control frame is short and in one piece"}
	}
	if length, err = s.readLength(length); err != nil {
		return f, err
	}
	if !f.op.isControl() && length > uint64(max(room, 0)) {
		return f, &closeError{closeTooBig, "the message is too long"}
	}
	var mask [4]byte
	if masked {
		if _, err := io.ReadFull(s.r, mask[:]); err != nil {
			return f, err
		}
	}
	f.payload = make([]byte, length)
	if _, err := io.ReadFull(s.r, f.payload); err != nil {
		return f, err
	}
	if masked {
		applyMask(f.payload, mask)
	}
	return f, nil
}

// readLength reads the longer forms of a length, which must be needed.
func (s *webSocket) readLength(short uint64) (uint64, error) {
	var b [8]byte
	switch short {
	case 126:
		if _, err := io.ReadFull(s.r, b[:2]); err != nil {
			return 0, err
		}
		if n := uint64(binary.BigEndian.Uint16(b[:])); n > maxControl {
			return n, nil
		}
	case 127:
		if _, err := io.ReadFull(s.r, b[:]); err != nil {
			return 0, err
		}
		if n := binary.BigEndian.Uint64(b[:]); n > 0xffff && n < 1<<63 {
			return n, nil
		}
	default:
		return short, nil
	}
	return 0, &closeError{closeProtocol, "a length that is not in its shortest form"}
}

// applyMask masks and unmasks (section 5.3).
func applyMask(b []byte, mask [4]byte) {
	for i := range b {
		b[i] ^= mask[i%4]
	}
}

// appendFrame writes one frame. A nil mask leaves it unmasked.
func appendFrame(dst []byte, op opcode, payload []byte, mask *[4]byte) []byte {
	dst = append(dst, 0x80|byte(op))
	var bit byte
	if mask != nil {
		bit = 0x80
	}
	switch n := len(payload); {
	case n <= maxControl:
		dst = append(dst, bit|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, bit|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, bit|127), uint64(n))
	}
	if mask == nil {
		return append(dst, payload...)
	}
	dst = append(dst, mask[:]...)
	begin := len(dst)
	dst = append(dst, payload...)
	applyMask(dst[begin:], *mask)
	return dst
}

// send writes one message, or one control frame. After a close frame nothing more
// is sent (section 5.5.1).
func (s *webSocket) send(op opcode, payload []byte) error {
	var mask *[4]byte
	if s.client {
		mask = new([4]byte)
		_, _ = rand.Read(mask[:])
	}
	s.mu.Lock() // over a write with a deadline: frames of two senders must not mix
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = op == opClose
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	_, err := s.conn.Write(appendFrame(make([]byte, 0, len(payload)+14), op, payload, mask))
	return err
}

// fail ends the WebSocket for what the other side did wrong (section 7.1.7); other
// errors are the connection's.
func (s *webSocket) fail(err error) error {
	var wrong *closeError
	if errors.As(err, &wrong) {
		_ = s.sendClose(wrong.code, wrong.reason)
	}
	return err
}

// answerClose reads a close frame's payload and sends it back (section 5.5.1).
func (s *webSocket) answerClose(payload []byte) error {
	if len(payload) == 0 {
		_ = s.send(opClose, nil)
		return &closeError{code: closeNoStatus}
	}
	if len(payload) < 2 || !utf8.Valid(payload[2:]) {
		return s.fail(&closeError{closeProtocol, "a close frame without a code"})
	}
	code := int(binary.BigEndian.Uint16(payload))
	if code < 1000 || code > 4999 || code == 1004 || code == closeNoStatus || code == 1006 || code == 1015 {
		return s.fail(&closeError{closeProtocol, "a code that may not be sent"})
	}
	_ = s.send(opClose, payload)
	return &closeError{code, string(payload[2:])}
}

func (s *webSocket) sendClose(code int, reason string) error {
	return s.send(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// close ends the connection at once, without a word.
func (s *webSocket) close() { _ = s.conn.Close() }
