// Package message is the one form that a request and a response have in Sluis,
// whatever version of HTTP brought them: rules, balancing, persistence and the
// log see only this.
//
// It owns the types, the names of the fields that Sluis looks at (ID), and the
// small operations that rules need: get, add, set, remove. It promises that none
// of them allocates once Fields has room, that what a rule does to Fields cannot
// touch how a message is framed (that is Body, KeepAlive, Upgrade alone), and
// that Host and Authority never differ.
//
// It does not copy: every byte slice aliases the buffer that a codec parsed, and
// is good as long as that is. Whoever edits gives bytes that live as long. It
// reads and writes no bytes of any protocol: that is http1 and http2.
//
// Read message.go (the types), then edit.go (what rules do), field.go (names),
// text.go (lists and case).
package message

// FieldsAtStart is the room for fields that Reset makes; it grows when a message
// has more, and is kept.
const FieldsAtStart = 64

// BodyKind says how the end of a body is known.
type BodyKind uint8

// The kinds of body.
const (
	// None: there is no body, and no field says how long it is.
	None BodyKind = iota
	// Sized: Length bytes, perhaps 0.
	Sized
	// Chunked: it ends by itself; its length is not known before. (From HTTP/2:
	// a body without content-length.)
	Chunked
	// UntilClose: it ends with the connection. Only responses have it.
	UntilClose
)

// Body says how a body is framed.
type Body struct {
	Kind BodyKind
	// Length is the number of bytes of a Sized body, else 0.
	Length int64
}

// Empty says that no byte of body follows.
func (b Body) Empty() bool { return b.Kind == None || b.Kind == Sized && b.Length == 0 }

// Method is a request's method where Sluis knows it.
type Method uint8

// The methods of RFC 9110 9.3 and RFC 5789.
const (
	OtherMethod Method = iota
	GET
	HEAD
	POST
	PUT
	DELETE
	OPTIONS
	CONNECT
	TRACE
	PATCH
)

// Safe says that the request asks for nothing to be changed (RFC 9110 9.2.1).
func (m Method) Safe() bool { return m == GET || m == HEAD || m == OPTIONS || m == TRACE }

// Idempotent says that the request may be sent once more when nobody knows
// whether it was answered (RFC 9110 9.2.2).
func (m Method) Idempotent() bool { return m.Safe() || m == PUT || m == DELETE }

// LookupMethod finds a method. Methods are case-sensitive (RFC 9110 9.1).
func LookupMethod(b []byte) Method {
	switch string(b) {
	case "GET":
		return GET
	case "HEAD":
		return HEAD
	case "POST":
		return POST
	case "PUT":
		return PUT
	case "DELETE":
		return DELETE
	case "OPTIONS":
		return OPTIONS
	case "CONNECT":
		return CONNECT
	case "TRACE":
		return TRACE
	case "PATCH":
		return PATCH
	}
	return OtherMethod
}

// String is the method's name; of OtherMethod it is empty.
func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return ""
}

var methodNames = [...]string{
	GET: "GET", HEAD: "HEAD", POST: "POST", PUT: "PUT", DELETE: "DELETE",
	OPTIONS: "OPTIONS", CONNECT: "CONNECT", TRACE: "TRACE", PATCH: "PATCH",
}

// Request is the head of a request.
type Request struct {
	// Method as sent, a token.
	Method   []byte
	MethodID Method
	// Target is what follows the method on the way to a server: origin-form
	// ("/a?b"), or "*" for OPTIONS. A target in absolute-form was taken apart
	// into Scheme, Authority and Target. Change it by SetTarget.
	Target []byte
	// Path and Query are the parts of Target around its first "?". Nothing is
	// decoded or made shorter: "/%61" is not "/a", "/a/../b" stays.
	Path     []byte
	Query    []byte
	HasQuery bool
	// Scheme is set only where the target was in absolute-form ("http").
	Scheme []byte
	// Authority is the Host field's value, or the authority of a target in
	// absolute-form, which goes before it (RFC 9112 3.2.2). Empty: the request
	// has none. Host and Port take it apart.
	Authority []byte
	// Fields are the fields that go from end to end, and Host. What belongs to
	// the hop is not among them (Framing), nor what Connection named.
	Fields []Field
	Body   Body
	// Minor is the x of HTTP/1.x; 1 for HTTP/2.
	Minor uint8
	// KeepAlive: the client allows another request after this one.
	KeepAlive bool
	// Expect100: the client waits for 100 (Continue) before it sends the body.
	Expect100 bool
	// Trailers: the client said that it takes trailers (TE: trailers).
	Trailers bool
	// Upgrade is the value of Upgrade where Connection names it, else nil.
	// What asks for HTTP/2 (h2c) is not in it.
	Upgrade []byte
	// WebSocket: Upgrade is "websocket" and the method GET (RFC 6455 4.1).
	WebSocket bool
	// HeadSize is the number of bytes from the start line to the empty line.
	HeadSize int
}

// Response is the head of a response.
type Response struct {
	// Status is 100 to 599.
	Status int
	// Reason is the phrase after the status, perhaps empty.
	Reason []byte
	// Fields are the fields that go from end to end. Content-Length is among
	// them only where there is no body whose length it could be: the answer to
	// HEAD, and 304 (RFC 9110 8.6).
	Fields []Field
	Body   Body
	Minor  uint8
	// KeepAlive: the server allows another request after this one.
	KeepAlive bool
	// Upgrade is the value of Upgrade of a 101, or of a 426 where Connection
	// names it; else nil.
	Upgrade  []byte
	HeadSize int
}

// Reset empties the request and keeps the room of Fields.
func (r *Request) Reset() {
	fields := r.Fields
	*r = Request{Fields: room(fields)}
}

// Reset empties the response and keeps the room of Fields.
func (r *Response) Reset() {
	fields := r.Fields
	*r = Response{Fields: room(fields)}
}

func room(fields []Field) []Field {
	if cap(fields) == 0 {
		return make([]Field, 0, FieldsAtStart)
	}
	return fields[:0]
}
