package http1

import "sluis/internal/proxy/message"

// ParseRequest reads the head of a request at the beginning of b. It returns its
// length; 0 without an error means that more bytes are needed: the caller comes
// again with the same bytes and what followed them (see Unfinished). After an
// error r holds what was understood before it, for the log.
//
// r is reset first. Its slices alias b.
func ParseRequest(b []byte, r *message.Request, lim *Limits) (int, *Error) {
	r.Reset()
	l := lim.or()
	start := 0
	if len(b) > 0 && b[0] == '\r' {
		// RFC 9112 2.2: one empty line before a request is passed over.
		switch why := lineEnd(b, 0); why {
		case fine:
			start = 2
		case more:
			return 0, nil
		default:
			return 0, &requestFaults[why]
		}
	}
	// What lies behind the bound is not looked at, so that a head which comes in
	// pieces fails at the same byte as one that comes whole.
	full := len(b)-start >= l.Head
	if full {
		b = b[:start+l.Head]
	}
	p, why := requestLine(b, start, r, l.Line)
	if why == more && full {
		why = TargetTooLong
	}
	h := hop{request: true}
	if why == fine {
		r.Fields, p, why = h.read(b, p, l.Fields, r.Fields)
		if why == more && full {
			why = HeadTooLarge
		}
	}
	if why == fine {
		why = h.settle(r)
	}
	switch why {
	case fine:
		r.HeadSize = p
		return p, nil
	case more:
		return 0, nil
	}
	return 0, &requestFaults[why]
}

// requestLine reads the start line from p on (RFC 9112 3):
//
//	request-line = method SP request-target SP HTTP-version CRLF
//
// with exactly one space each: the laxer reading of section 3 is not ours.
func requestLine(b []byte, p int, r *message.Request, longest int) (int, Reason) {
	space := scanToken(b[:min(len(b), p+maxMethod+1)], p)
	switch {
	case space-p > maxMethod:
		return 0, MethodTooLong
	case space == len(b):
		return 0, more
	case b[space] != ' ' || space == p:
		return 0, MethodMalformed
	}
	r.Method = b[p:space]
	r.MethodID = message.LookupMethod(r.Method)

	start := space + 1
	window := b[:min(len(b), start+longest+1)]
	end := scanTarget(window, start)
	switch {
	case end-start > longest:
		return 0, TargetTooLong
	case end == len(b):
		return 0, more
	case b[end] == '\r' || b[end] == '\n':
		return 0, VersionMalformed // HTTP/0.9, or no target at all
	case b[end] != ' ' || end == start:
		return 0, TargetMalformed
	}
	r.Target = b[start:end]

	next, why := version(b, end+1, r)
	if why != fine {
		return 0, why
	}
	if r.MethodID == message.CONNECT {
		// RFC 9110 9.3.6: a reverse proxy has no tunnel to give. 501, not 405: the
		// method is not supported for any resource (15.6.2), and 405 would owe an
		// Allow field for a resource that CONNECT does not name.
		return 0, MethodConnect
	}
	if why := takeTarget(r); why != fine {
		return 0, why
	}
	return next, fine
}

// version reads the version and the end of the request line.
func version(b []byte, p int, r *message.Request) (next int, why Reason) {
	const form = "HTTP/#.#\r\n"
	if len(b) >= p+len(form) && string(b[p:p+len(form)]) == "HTTP/1.1\r\n" {
		r.Minor = 1
		return p + len(form), fine
	}
	for i := range len(form) {
		switch {
		case p+i == len(b):
			return 0, more
		case b[p+i] == form[i]:
		case form[i] == '#' && class[b[p+i]]&digitByte != 0:
		case form[i] == '\r' && b[p+i] == '\n':
			return 0, BareLF
		case form[i] == '\n':
			return 0, BareCR
		default:
			return 0, VersionMalformed
		}
	}
	if b[p+5] != '1' {
		return 0, VersionUnsupported // also the preface of HTTP/2, PRI (RFC 9113 3.4)
	}
	r.Minor = min(1, b[p+7]-'0') // RFC 9110 2.5: a higher minor is the highest we know
	return p + len(form), fine
}

// settle decides what the fields mean together.
func (h *hop) settle(r *message.Request) Reason {
	if why := h.faulty(r.Minor); why != fine {
		return why
	}
	if h.host < 0 && r.Minor > 0 {
		return HostMissing // also with a target in absolute-form (RFC 9112 3.2)
	}
	h.settleHost(r)
	if h.connections > 0 {
		h.dropNamed(r.Fields)
	}
	r.Body = h.requestBody()
	r.KeepAlive = h.persistent(r.Minor)
	r.Trailers = h.trailers
	if h.expect {
		if h.odd {
			return ExpectUnknown
		}
		// RFC 9110 10.1.1: in HTTP/1.0 to be ignored, and without a body nothing waits.
		r.Expect100 = r.Minor > 0 && !r.Body.Empty()
		if !r.Expect100 {
			r.Remove(message.Expect)
		}
	}
	// RFC 9110 7.8: in HTTP/1.0 to be ignored. With a body it is ignored too: the
	// switch could only come behind it, and who finds its end first would win.
	if h.upgradeNamed && r.Minor > 0 && r.Body.Empty() {
		r.Upgrade = h.upgrade
		r.WebSocket = r.MethodID == message.GET && message.HasToken(h.upgrade, "websocket")
	}
	return fine
}

// settleHost sets Authority and makes the Host field the same: a target in
// absolute-form goes before it (RFC 9112 3.2.2).
func (h *hop) settleHost(r *message.Request) {
	switch {
	case r.Scheme == nil && h.host >= 0:
		r.Authority = r.Fields[h.host].Value
	case r.Scheme == nil:
	case h.host >= 0:
		r.Fields[h.host].Value = r.Authority
	default:
		r.Fields = append(r.Fields, message.Field{Name: []byte("Host"), Value: r.Authority, ID: message.Host})
	}
}
