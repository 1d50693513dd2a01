package http1

import (
	"math"

	"sluis/internal/proxy/message"
)

// lookLength reads a Content-Length: digits and nothing else (RFC 9110 8.6). A
// second one, in a line of its own or after a comma, is refused even if it says
// the same: the RFC leaves the choice, and two numbers are one too many.
func (h *hop) lookLength(value []byte) Reason {
	n, why := parseLength(value)
	if why != fine {
		return why
	}
	if h.length >= 0 {
		if h.length == n {
			return LengthTwice
		}
		return LengthsDiffer
	}
	h.length, h.lengthText = n, value
	return fine
}

func parseLength(value []byte) (int64, Reason) {
	if len(value) == 0 {
		return 0, LengthMalformed
	}
	n := int64(0)
	for i, c := range value {
		d := int64(c - '0')
		switch {
		case c-'0' <= 9:
		case c == ',' && i > 0:
			return 0, listOfLengths(n, value[i:])
		default:
			return 0, LengthMalformed
		}
		if n > (math.MaxInt64-d)/10 {
			return 0, LengthTooLarge
		}
		n = n*10 + d
	}
	return n, fine
}

// listOfLengths says what is wrong with "5, 5", "5, 6" or "5, x": rest is what
// follows the first number.
func listOfLengths(first int64, rest []byte) Reason {
	member, rest := message.NextToken(rest[1:])
	second, why := parseLength(member)
	switch {
	case why != fine || rest != nil:
		return LengthMalformed
	case second != first:
		return LengthsDiffer
	}
	return LengthTwice
}

// lookCoding reads a Transfer-Encoding (RFC 9112 6.1, 7). The only coding known
// here is chunked, once, as the last one. An empty member or anything that is no
// token is refused as an attempt to hide something.
func (h *hop) lookCoding(value []byte) Reason {
	h.coding = true
	for rest := value; ; {
		var coding []byte
		coding, rest = message.NextToken(rest)
		switch {
		case !isToken(coding):
			return CodingMalformed
		case h.chunked && message.EqualFold(coding, "chunked"):
			return CodingTwice
		case h.chunked:
			return CodingNotLast
		case message.EqualFold(coding, "chunked"):
			h.chunked = true
		default:
			h.unknown = true
		}
		if rest == nil {
			return fine
		}
	}
}

// faulty judges what is ambiguous about the framing as a whole.
func (h *hop) faulty(minor uint8) Reason {
	switch {
	case !h.coding:
		return fine
	case minor == 0:
		// RFC 9112 6.1: the framing is faulty even if there is a Content-Length.
		return CodingInHTTP10
	case h.length >= 0:
		// RFC 9112 6.3 rule 3: it ought to be handled as an error.
		return LengthWithCoding
	case h.unknown:
		// RFC 9112 6.1: 501. Where chunked is not the last coding, 6.3 rule 4 says
		// 400; that the coding is not known is the more useful answer. Both close.
		return CodingUnknown
	}
	return fine
}

// persistent says whether the connection goes on (RFC 9112 9.3).
func (h *hop) persistent(minor uint8) bool {
	return !h.close && (minor > 0 || h.keepAlive)
}

// requestBody is how long the body of a request is (RFC 9112 6.3).
func (h *hop) requestBody() message.Body {
	switch {
	case h.chunked:
		return message.Body{Kind: message.Chunked}
	case h.length >= 0:
		return message.Body{Kind: message.Sized, Length: h.length}
	}
	return message.Body{}
}

// responseBody is how long the body of a response is (RFC 9112 6.3).
func (h *hop) responseBody(status int, method message.Method) message.Body {
	switch {
	case noBody(status, method):
		return message.Body{} // rule 1, whatever the fields say
	case h.chunked:
		return message.Body{Kind: message.Chunked}
	case h.length >= 0:
		return message.Body{Kind: message.Sized, Length: h.length}
	}
	return message.Body{Kind: message.UntilClose} // rule 8
}

func noBody(status int, method message.Method) bool {
	return method == message.HEAD || status < 200 || status == 204 || status == 304
}
