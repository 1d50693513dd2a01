package http1

import "sluis/internal/proxy/message"

// ParseResponse reads the head of a response at the beginning of b, the answer to
// a request with this method. It returns as ParseRequest does; every error is a
// 502 for the client. A 1xx is a response of its own: the caller reads on behind
// it, and counts them.
//
// r is reset first. Its slices alias b.
func ParseResponse(b []byte, r *message.Response, method message.Method, lim *Limits) (int, *Error) {
	r.Reset()
	l := lim.or()
	full := len(b) >= l.Head
	if full {
		b = b[:l.Head]
	}
	p, why := statusLine(b, r)
	h := hop{}
	if why == fine {
		r.Fields, p, why = h.read(b, p, l.Fields, r.Fields)
	}
	if why == more && full {
		why = HeadTooLarge
	}
	if why == fine {
		why = h.settleResponse(r, method)
	}
	switch why {
	case fine:
		r.HeadSize = p
		return p, nil
	case more:
		return 0, nil
	}
	return 0, &responseFaults[why]
}

// statusLine reads the start line (RFC 9112 4):
//
//	status-line = HTTP-version SP status-code SP [ reason-phrase ] CRLF
//
// The space behind the status may be missing where the phrase is.
func statusLine(b []byte, r *message.Response) (int, Reason) {
	const form = "HTTP/1.# ###"
	for i := range len(form) {
		switch {
		case i == len(b):
			return 0, more
		case b[i] == form[i]:
		case form[i] == '#' && class[b[i]]&digitByte != 0:
		default:
			return 0, StatusLineMalformed
		}
	}
	if len(b) == len(form) {
		return 0, more
	}
	r.Minor = min(1, b[7]-'0') // RFC 9110 2.5
	r.Status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if r.Status < 100 || r.Status > 599 {
		return 0, StatusLineMalformed // RFC 9110 15: outside of 100 to 599 is invalid
	}
	start := len(form)
	switch b[start] {
	case ' ':
		start++
	case '\r', '\n':
	default:
		return 0, StatusLineMalformed
	}
	end := scanText(b, start)
	switch why := lineEnd(b, end); why {
	case fine:
	case ControlByte:
		return 0, StatusLineMalformed
	default:
		return 0, why
	}
	r.Reason = b[start:end]
	return end + 2, fine
}

// settleResponse decides what the fields mean together, for one method.
func (h *hop) settleResponse(r *message.Response, method message.Method) Reason {
	if why := h.faulty(r.Minor); why != fine {
		return why
	}
	if h.connections > 0 {
		h.dropNamed(r.Fields)
	}
	r.Body = h.responseBody(r.Status, method)
	r.KeepAlive = h.persistent(r.Minor) && r.Body.Kind != message.UntilClose
	switch {
	case r.Status == 101:
		// RFC 9110 15.2.2: it must say to what. Whether it was asked for is the
		// caller's to know.
		if h.upgrade == nil {
			return SwitchWithoutUpgrade
		}
		r.Upgrade, r.KeepAlive = h.upgrade, false
	case r.Status < 200 || r.Status == 204:
		// RFC 9110 8.6, RFC 9112 6.1: these carry no framing. Who sends some may
		// send a body too; that must not become the next answer.
		if h.length > 0 || h.chunked {
			r.KeepAlive = false
		}
	case r.Status == 426 && h.upgradeNamed:
		r.Upgrade = h.upgrade
	}
	if h.length >= 0 && r.Body.Kind == message.None && r.Status >= 200 && r.Status != 204 {
		// RFC 9110 8.6: the length that a GET would have got; for the client.
		r.Fields = append(r.Fields, message.Field{Name: h.lengthName, Value: h.lengthText, ID: message.ContentLength})
	}
	return fine
}
