package accesslog

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"
)

// Record is one request and what became of it. The caller may reuse it, and
// whatever its slices point to, as soon as Append has returned.
type Record struct {
	// Wall is when the request's first byte came (HAProxy's %tr).
	Wall time.Time
	// Client is the client's address and port, after a PROXY protocol header if there
	// was one.
	Client netip.AddrPort
	// Frontend and Bind took the request; TLSVersion is set where they took it over
	// TLS.
	Frontend, Bind string
	// Backend and Server answered it; empty = none was chosen.
	Backend, Server string
	// Method and Target are as the client sent them; an empty Method says that no
	// request could be read.
	Method, Target []byte
	// Host is the Host field or the host of an absolute target.
	Host, UserAgent, Referer []byte
	// Proto is "HTTP/1.1", "HTTP/2.0" …
	Proto string
	// Status is the answer's; 0 = none was sent.
	Status int
	// BytesIn came from the client, BytesOut went to it, with all heads.
	BytesIn, BytesOut int64
	// Times in nanoseconds, -1 where the request didn't get so far: reading its head
	// (%TR), waiting for a place (%Tw), connecting (%Tc), waiting for the answer's head
	// (%Tr), from the first byte of the request to the last of the answer (%Ta).
	Request, Queue, Connect, Response, Total int64
	// Termination is HAProxy's %tsc: who ended it, in which phase, and two characters
	// for the persistence cookie. A zero byte is written as a dash.
	Termination [4]byte
	// Connections when the line was made: of the process, the frontend, the backend
	// and the server.
	Active, FrontendActive, BackendActive, ServerActive int
	// Retries is how often connecting was tried again; Redispatched = the last time at
	// another server.
	Retries      int
	Redispatched bool
	// ServerQueue and BackendQueue are how many were before it in the queues.
	ServerQueue, BackendQueue int
	// Reason says why Sluis answered itself; empty = a server did.
	Reason string
	// Rule is the rule that decided; empty = none did.
	Rule string
	// TLSVersion, Cipher and SNI are of the client's connection; empty without TLS.
	TLSVersion, Cipher, SNI string
	// RequestID is the one that the servers were told; empty = none.
	RequestID []byte
}

// Format is the form of a line.
type Format uint8

// The forms of lines.
const (
	// JSON is one object a line.
	JSON Format = iota
	// HTTPLog is the line of HAProxy's option httplog.
	HTTPLog
	// MemoryOnly writes no line: Recent and Follow alone show the record.
	MemoryOnly
)

// Bounds of what a client can put into a record, in bytes; what is longer is cut.
// HAProxy cuts its request line at 1,023 bytes (tune.http.logurilen).
const (
	maxMethod    = 32
	maxTarget    = 2048
	maxHost      = 255
	maxUserAgent = 512
	maxReferer   = 1024
	maxRequestID = 128
	maxName      = 255 // frontend, bind, backend, server, rule, reason, SNI …

	// maxFrame is above the size of any encoded record.
	maxFrame = 8 << 10
)

// Normal reports whether nothing about the request asks for attention: a server's
// answer below 500, no error, no retry (HAProxy's dontlog-normal).
func (r *Record) Normal() bool {
	t := &r.Termination
	return r.Status > 0 && r.Status < 500 && dash(t[0]) == '-' && dash(t[1]) == '-' && r.Retries == 0 && !r.Redispatched
}

func dash(b byte) byte {
	if b == 0 {
		return '-'
	}
	return b
}

// A frame is an encoded record: its length over all (4 bytes, little-endian), its
// format, its flags, varints, and texts with their lengths in front.
const (
	frameHeader = 4

	flagRedispatched = 1
	flagCut          = 2
)

// appendFrame encodes a record. Redaction happens here, so that nothing behind
// the loop ever sees what is redacted.
func appendFrame(dst []byte, format Format, r *Record, redact bool) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(format), 0)
	flags := byte(0)
	if r.Redispatched {
		flags |= flagRedispatched
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Wall.UnixNano()))
	address := r.Client.Addr().As16() // the zero address stands for none
	dst = append(dst, address[:]...)
	dst = binary.LittleEndian.AppendUint16(dst, r.Client.Port())
	dst = append(dst, r.Termination[:]...)
	for _, n := range [...]int64{
		int64(r.Status), r.BytesIn, r.BytesOut, r.Request, r.Queue, r.Connect, r.Response, r.Total,
		int64(r.Active), int64(r.FrontendActive), int64(r.BackendActive), int64(r.ServerActive),
		int64(r.Retries), int64(r.ServerQueue), int64(r.BackendQueue),
	} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, s := range [...]string{
		r.Frontend, r.Bind, r.Backend, r.Server, r.Proto, r.Reason, r.Rule, r.TLSVersion, r.Cipher, r.SNI,
	} {
		dst = appendText(dst, s, maxName, &flags)
	}
	dst = appendText(dst, r.Method, maxMethod, &flags)
	dst = appendText(dst, r.Host, maxHost, &flags)
	dst = appendText(dst, r.UserAgent, maxUserAgent, &flags)
	dst = appendText(dst, r.RequestID, maxRequestID, &flags)
	dst = appendURL(dst, r.Target, maxTarget, redact, &flags)
	dst = appendURL(dst, r.Referer, maxReferer, redact, &flags)
	dst[start+frameHeader+1] = flags
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

func appendText[T string | []byte](dst []byte, s T, limit int, flags *byte) []byte {
	if len(s) > limit {
		s = s[:limit]
		*flags |= flagCut
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func appendURL(dst, s []byte, limit int, redact bool, flags *byte) []byte {
	if !redact {
		return appendText(dst, s, limit, flags)
	}
	if len(s) > limit {
		s = s[:limit]
		*flags |= flagCut
	}
	at := len(dst)
	dst = appendRedacted(append(dst, 0, 0), s)
	binary.LittleEndian.PutUint16(dst[at:], uint16(len(dst)-at-2)) // redaction never makes longer
	return dst
}

// decoded is a record that came out of a frame.
type decoded struct {
	Record
	format Format
	cut    bool
}

// decodeFrame fills d from a frame that appendFrame made. The record's texts alias
// the frame: they are good as long as its bytes are.
func decodeFrame(frame []byte, d *decoded) {
	d.format = Format(frame[frameHeader])
	flags := frame[frameHeader+1]
	d.Redispatched, d.cut = flags&flagRedispatched != 0, flags&flagCut != 0
	b := frame[frameHeader+2:]
	d.Wall = time.Unix(0, int64(binary.LittleEndian.Uint64(b)))
	d.Client = netip.AddrPort{}
	if address := netip.AddrFrom16([16]byte(b[8:24])).Unmap(); address != netip.IPv6Unspecified() {
		d.Client = netip.AddrPortFrom(address, binary.LittleEndian.Uint16(b[24:]))
	}
	d.Termination = [4]byte(b[26:30])
	b = b[30:]
	number := func() int64 {
		n, size := binary.Varint(b)
		b = b[size:]
		return n
	}
	d.Status, d.BytesIn, d.BytesOut = int(number()), number(), number()
	d.Request, d.Queue, d.Connect, d.Response, d.Total = number(), number(), number(), number(), number()
	d.Active, d.FrontendActive, d.BackendActive, d.ServerActive = int(number()), int(number()), int(number()), int(number())
	d.Retries, d.ServerQueue, d.BackendQueue = int(number()), int(number()), int(number())
	text := func() []byte {
		n := int(binary.LittleEndian.Uint16(b))
		s := b[2 : 2+n : 2+n]
		b = b[2+n:]
		return s
	}
	d.Frontend, d.Bind, d.Backend, d.Server = alias(text()), alias(text()), alias(text()), alias(text())
	d.Proto, d.Reason, d.Rule = alias(text()), alias(text()), alias(text())
	d.TLSVersion, d.Cipher, d.SNI = alias(text()), alias(text()), alias(text())
	d.Method, d.Host, d.UserAgent, d.RequestID = text(), text(), text(), text()
	d.Target, d.Referer = text(), text()
}

// alias is b as a string without a copy: the log goroutine would otherwise make
// ten pieces of garbage for each request. Nobody changes the frame while the
// record is in use.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// clone gives the record memory of its own.
func (r *Record) clone() Record {
	c := *r
	for _, s := range []*string{
		&c.Frontend, &c.Bind, &c.Backend, &c.Server, &c.Proto, &c.Reason, &c.Rule, &c.TLSVersion, &c.Cipher, &c.SNI,
	} {
		*s = string([]byte(*s))
	}
	for _, b := range []*[]byte{&c.Method, &c.Target, &c.Host, &c.UserAgent, &c.Referer, &c.RequestID} {
		*b = append([]byte(nil), *b...)
	}
	return c
}
