package http1

import (
	"bytes"

	"sluis/internal/proxy/message"
)

// trailerLine takes one line of the trailer section (RFC 9112 7.1.2) and returns
// its length; 0 while it is not there as a whole. It appends what is passed on.
func (t *Transfer) trailerLine(dst *[]byte, in []byte) (int, Reason) {
	window := in[:min(len(in), maxTrailer-t.trailer)]
	var name, value []byte
	var n int
	why := fine
	if window := window; len(window) > 0 && window[0] == '\r' {
		n, why = 2, lineEnd(window, 0)
		if why == fine {
			t.state = done
		}
	} else {
		name, value, n, why = fieldLine(window, 0)
	}
	switch {
	case why == more && len(window) < len(in):
		return 0, TrailerTooLarge
	case why == more:
		return 0, fine
	case why != fine:
		return 0, TrailerMalformed
	}
	t.trailer += n
	if t.lines++; t.lines > maxTrailerFields && t.state != done {
		return 0, TrailerTooLarge
	}
	switch {
	case t.out != message.Chunked:
	case t.state == done:
		*dst = append(*dst, "\r\n"...)
	case mayTrail(name):
		*dst = append(*dst, name...)
		*dst = append(*dst, ": "...)
		*dst = append(*dst, value...)
		*dst = append(*dst, "\r\n"...)
	}
	return n, fine
}

// mayTrail says whether a field may stand in a trailer section. RFC 9110 6.5.1
// forbids those for framing, routing, authentication, request modifiers,
// response control and content format. A field whose name Sluis knows is one of
// those, or one that rules decide on and that must not come in by the back door;
// only ETag is not.
func mayTrail(name []byte) bool {
	if id := message.Lookup(name); id != message.Other {
		return id == message.ETag
	}
	for _, prefix := range forbiddenPrefixes {
		if len(name) >= len(prefix) && message.EqualFold(name[:len(prefix)], prefix) {
			return false
		}
	}
	for _, f := range forbiddenTrailers {
		if message.EqualFold(name, f) {
			return false
		}
	}
	return bytes.IndexByte(name, '_') < 0 // some servers read X_Forwarded_For as X-Forwarded-For
}

// forbiddenPrefixes and forbiddenTrailers are those that have no ID.
var (
	forbiddenPrefixes = [...]string{"accept-", "access-control-", "if-", "proxy-", "sec-", "x-forwarded-", "x-ssl-"}
	forbiddenTrailers = [...]string{
		"allow", "alt-svc", "authentication-info", "clear-site-data", "content-disposition", "content-language",
		"content-location", "content-security-policy", "cookie2", "max-forwards", "refresh", "retry-after",
		"set-cookie2", "warning", "x-frame-options",
	}
)
