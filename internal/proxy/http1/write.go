package http1

import (
	"strconv"

	"sluis/internal/proxy/message"
)

// AppendRequest appends the head of a request for a server: the start line, Host
// first (RFC 9110 7.2), the fields, then what belongs to this hop, from Body,
// Upgrade and Trailers alone. Fields of the hop that somebody put into Fields are
// left out. The connection is to be kept, which HTTP/1.1 means without a word.
func AppendRequest(dst []byte, r *message.Request) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Target...)
	// RFC 9112 3.2: Host goes out even if it is empty.
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, r.Authority...)
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, r.Fields, message.Framing()|1<<message.Host)
	switch r.Body.Kind {
	case message.None, message.UntilClose:
	case message.Sized:
		dst = appendLength(dst, r.Body.Length)
	case message.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if r.Upgrade != nil || r.Trailers {
		dst = appendConnection(dst, r.Upgrade, r.Trailers)
	}
	return append(dst, "\r\n"...)
}

// appendConnection appends Connection with the fields that it names.
func appendConnection(dst, upgrade []byte, trailers bool) []byte {
	switch {
	case upgrade == nil:
		return append(dst, "Connection: TE\r\nTE: trailers\r\n"...) // RFC 9110 10.1.4
	case trailers:
		dst = append(dst, "Connection: Upgrade, TE\r\nTE: trailers\r\nUpgrade: "...)
	default:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
	}
	dst = append(dst, upgrade...)
	return append(dst, "\r\n"...)
}

// AppendResponse appends the head of a response for a client of HTTP/1.minor. A
// body whose end only the connection's end tells closes it, whatever keepAlive
// says; so does a chunked one for HTTP/1.0, which does not know it. A 1xx is not
// for clients of HTTP/1.0 (RFC 9110 15.2): the caller leaves it out.
func AppendResponse(dst []byte, r *message.Response, minor uint8, keepAlive bool) []byte {
	// Our own version, not the client's: RFC 9110 2.5, 6.2.
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendUint(dst, uint64(r.Status), 10)
	dst = append(dst, ' ')
	if r.Reason != nil {
		dst = append(dst, r.Reason...)
	} else {
		dst = append(dst, message.StatusText(r.Status)...)
	}
	dst = append(dst, "\r\n"...)

	skip := message.Framing()
	if r.Body.Kind == message.None && r.Status >= 200 && r.Status != 204 {
		skip &^= 1 << message.ContentLength // of HEAD and 304
	}
	dst = appendFields(dst, r.Fields, skip)
	switch {
	case r.Body.Kind == message.Sized && r.Status >= 200 && r.Status != 204: // RFC 9110 8.6
		dst = appendLength(dst, r.Body.Length)
	case r.Body.Kind == message.Chunked && minor > 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.Body.Kind == message.Chunked || r.Body.Kind == message.UntilClose:
		keepAlive = false
	}
	switch {
	case r.Upgrade != nil:
		dst = append(dst, "Connection: Upgrade"...)
		if !keepAlive && r.Status >= 200 {
			dst = append(dst, ", close"...)
		}
		dst = append(dst, "\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade...)
		dst = append(dst, "\r\n"...)
	case r.Status < 200:
	case !keepAlive:
		dst = append(dst, "Connection: close\r\n"...) // RFC 9112 9.6
	case minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...) // RFC 9112 9.3
	}
	return append(dst, "\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// appendFields appends field lines, but for removed ones and those in skip.
func appendFields(dst []byte, fields []message.Field, skip message.Set) []byte {
	for i := range fields {
		f := &fields[i]
		if len(f.Name) == 0 || skip.Has(f.ID) {
			continue
		}
		if line := rawLine(f); line != nil {
			dst = append(dst, line...)
			continue
		}
		dst = append(dst, f.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, f.Value...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// rawLine is the field's line in the buffer that it was parsed from, if it stands
// there exactly as it would be written: then it is one copy instead of four. A
// slice of a buffer can be made longer up to the buffer's end; that the value lies
// right behind the name is seen by its address.
func rawLine(f *message.Field) []byte {
	value := len(f.Name) + len(": ")
	end := value + len(f.Value)
	if len(f.Value) == 0 || end+2 > cap(f.Name) {
		return nil
	}
	line := f.Name[:end+2]
	if &line[value] != &f.Value[0] || line[value-2] != ':' || line[value-1] != ' ' || line[end] != '\r' || line[end+1] != '\n' {
		return nil
	}
	return line
}
