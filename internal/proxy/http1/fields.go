package http1

import (
	"bytes"

	"sluis/internal/proxy/message"
)

// fieldLine reads one field line at p:
//
//	field-line = field-name ":" OWS field-value OWS CRLF   (RFC 9112 section 5)
//
// next is the place behind it; the line at p is not the empty one. The reason is
// more while the line's end is not there. Everything is decided by the first byte
// that is wrong, so a line that comes in pieces is judged as one that comes whole.
func fieldLine(b []byte, p int) (name, value []byte, next int, why Reason) {
	colon := scanToken(b, p)
	if colon == len(b) {
		return nil, nil, 0, more
	}
	if b[colon] != ':' || colon == p {
		return nil, nil, 0, nameFault(b, p, colon)
	}
	start := colon + 1
	for start < len(b) && (b[start] == ' ' || b[start] == '\t') {
		start++
	}
	end := scanText(b, start)
	if why := lineEnd(b, end); why != fine {
		return nil, nil, 0, why
	}
	next = end + 2
	for end > start && (b[end-1] == ' ' || b[end-1] == '\t') {
		end--
	}
	return b[p:colon], b[start:end], next, fine
}

// lineEnd judges the control byte at i: only CR LF ends a line. RFC 9112 section
// 2.2 lets a recipient take a bare LF; we don't, for others may not see a line's
// end there.
func lineEnd(b []byte, i int) Reason {
	switch {
	case i == len(b):
		return more
	case b[i] == '\n':
		return BareLF
	case b[i] != '\r':
		return ControlByte
	case i+1 == len(b):
		return more
	case b[i+1] != '\n':
		return BareCR
	}
	return fine
}

// nameFault says what is wrong where the name from p on ends at i without a colon.
func nameFault(b []byte, p, i int) Reason {
	switch c := b[i]; {
	case c == ':':
		return NameEmpty
	case (c == ' ' || c == '\t') && i == p:
		// Either folded (RFC 9112 5.2) or between start line and fields (2.2).
		return LineFolding
	case c == ' ' || c == '\t':
		return SpaceBeforeColon
	case c == '\n':
		return BareLF
	case c == '\r':
		return ColonMissing
	}
	return NameMalformed
}

// hop gathers what the fields of one message say about its framing and its
// connection, while they are read.
type hop struct {
	request bool
	lines   int // field lines so far
	// host is the place of the Host field in the list of fields; -1 = none.
	host int
	// length is the Content-Length; -1 = none.
	length     int64
	lengthText []byte
	lengthName []byte

	coding  bool // there is a Transfer-Encoding
	chunked bool // chunked is its last member so far
	unknown bool // it has a member that is not known

	close, keepAlive, upgradeNamed bool
	options                        int // members of Connection
	connection                     [4][]byte
	connections                    int

	upgrade  []byte
	trailers bool
	expect   bool
	odd      bool // an expectation that is not known
}

// read takes the field section that begins at p into fields. It returns the place
// behind the empty line that ends it.
func (h *hop) read(b []byte, p, limit int, fields []message.Field) ([]message.Field, int, Reason) {
	h.host, h.length = -1, -1
	for {
		if p >= len(b) {
			return fields, 0, more
		}
		if b[p] == '\r' {
			return fields, p + 2, lineEnd(b, p)
		}
		name, value, next, why := fieldLine(b, p)
		if why != fine {
			return fields, 0, why
		}
		if h.lines++; h.lines > limit {
			return fields, 0, TooManyFields
		}
		id := message.Lookup(name)
		if looked.Has(id) {
			keep, why := h.look(id, name, value, len(fields))
			if why != fine {
				return fields, 0, why
			}
			if !keep {
				p = next
				continue
			}
		}
		fields = append(fields, message.Field{Name: name, Value: value, ID: id})
		p = next
	}
}

// looked are the fields that look has to see: those of the hop, Host and Expect.
const looked message.Set = 1<<message.Connection | 1<<message.ContentLength | 1<<message.Expect | 1<<message.Host |
	1<<message.HTTP2Settings | 1<<message.KeepAlive | 1<<message.ProxyConnection | 1<<message.TE |
	1<<message.TransferEncoding | 1<<message.Upgrade

// look takes a field of the hop. keep says that it also goes from end to end.
// Keep-Alive, Proxy-Connection (RFC 9110 7.6.1) and HTTP2-Settings (RFC 9113
// 3.1) are just dropped.
func (h *hop) look(id message.ID, name, value []byte, place int) (keep bool, why Reason) {
	switch id {
	case message.Host:
		return true, h.lookHost(value, place)
	case message.ContentLength:
		h.lengthName = name
		return false, h.lookLength(value)
	case message.TransferEncoding:
		return false, h.lookCoding(value)
	case message.Connection:
		return false, h.lookConnection(value)
	case message.Upgrade:
		if h.upgrade == nil {
			h.upgrade = withoutHTTP(value)
		}
	case message.TE:
		// RFC 9110 10.1.4. Codings are between the client and us; only that it takes
		// trailers is of use to the server.
		if h.request {
			h.trailers = h.trailers || message.HasToken(value, "trailers")
		}
	case message.Expect:
		h.lookExpect(value)
		return true, fine
	}
	return false, fine
}

func (h *hop) lookHost(value []byte, place int) Reason {
	switch {
	case !h.request:
		return fine // means nothing in a response
	case h.host >= 0:
		return HostTwice
	case !validAuthority(value) && len(value) > 0:
		// An empty Host is allowed: the request names no authority, and the default
		// of the frontend holds (RFC 9112 3.3).
		return HostMalformed
	}
	h.host = place
	return fine
}

func (h *hop) lookExpect(value []byte) {
	h.expect = true
	for rest := value; ; {
		var member []byte
		if member, rest = message.NextToken(rest); !message.EqualFold(member, "100-continue") {
			h.odd = true
		}
		if len(rest) == 0 {
			return
		}
	}
}

// lookConnection reads the options of a Connection field (RFC 9110 7.6.1).
func (h *hop) lookConnection(value []byte) Reason {
	named := false
	for rest := value; len(rest) > 0; {
		var option []byte
		option, rest = message.NextToken(rest)
		if h.options++; h.options > maxOptions {
			return TooManyOptions
		}
		switch {
		case len(option) == 0:
		case message.EqualFold(option, "close"):
			h.close = true
		case message.EqualFold(option, "keep-alive"):
			h.keepAlive = true
		case message.EqualFold(option, "upgrade"):
			h.upgradeNamed = true
		default:
			named = true
		}
	}
	if !named {
		return fine
	}
	if h.connections == len(h.connection) {
		return TooManyOptions
	}
	h.connection[h.connections] = value
	h.connections++
	return fine
}

// dropNamed removes the fields that Connection named, but for the protected
// ones. It runs before any rule and before anything is added, so a client cannot
// make fields of ours disappear.
func (h *hop) dropNamed(fields []message.Field) {
	for _, value := range h.connection[:h.connections] {
		for len(value) > 0 {
			var option []byte
			option, value = message.NextToken(value)
			if len(option) == 0 || protected.Has(message.Lookup(option)) {
				continue
			}
			if message.EqualFold(option, "expect") {
				h.expect, h.odd = false, false
			}
			for i := range fields {
				if f := &fields[i]; len(f.Name) == len(option) && message.EqualFoldBytes(f.Name, option) {
					f.Name = nil
				}
			}
		}
	}
}

// withoutHTTP gives back the value of Upgrade as it may be passed on. Another
// version of HTTP (h2c, HTTP/2.0), or TLS, inside of the connection would be a way
// past every rule; ignoring Upgrade is always allowed (RFC 9110 7.8, RFC 9113
// 3.1). Of a list with such members the first other one is left.
func withoutHTTP(value []byte) []byte {
	var first []byte
	whole := true
	for rest := value; len(rest) > 0; {
		var protocol []byte
		protocol, rest = message.NextToken(rest)
		name, _, _ := bytes.Cut(protocol, []byte("/"))
		switch {
		case len(name) == 0:
		case message.EqualFold(name, "http"), message.EqualFold(name, "tls"),
			len(name) >= 2 && message.EqualFold(name[:2], "h2"), message.EqualFold(name, "h3"):
			whole = false
		case first == nil:
			first = protocol
		}
	}
	if whole && first != nil {
		return value
	}
	return first
}
