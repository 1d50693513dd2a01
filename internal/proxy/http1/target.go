package http1

import (
	"bytes"

	"sluis/internal/proxy/message"
)

// takeTarget reads the request target (RFC 9112 3.2), whose bytes are visible
// ASCII without '#'. RFC 3986 would also forbid " < > \ ^ ` { | }; browsers send
// them, HAProxy passes them, and none of them ends a target for anybody. Bytes
// from 128 on are refused as HAProxy does by default (option
// accept-unsafe-violations-in-http-request off): they belong percent-encoded.
func takeTarget(r *message.Request) Reason {
	switch t := r.Target; {
	case t[0] == '/':
		r.SetTarget(t)
	case t[0] == '*' && len(t) == 1 && r.MethodID == message.OPTIONS: // 3.2.4
		r.SetTarget(t)
	default:
		return absolute(r)
	}
	return fine
}

// absolute takes a target in absolute-form apart (RFC 9112 3.2.2). What is not
// http or https is nothing that a server behind us could be asked.
func absolute(r *message.Request) Reason {
	t := r.Target
	colon := bytes.Index(t, []byte("://"))
	if colon < 0 || !message.EqualFold(t[:colon], "http") && !message.EqualFold(t[:colon], "https") {
		return TargetMalformed
	}
	begin := colon + len("://")
	end := begin
	for end < len(t) && t[end] != '/' && t[end] != '?' {
		end++
	}
	if !validAuthority(t[begin:end]) {
		return TargetHost // also for userinfo, which has no place here (RFC 9110 4.2.4)
	}
	r.Scheme, r.Authority = t[:colon], t[begin:end]
	switch {
	case end < len(t) && t[end] == '/':
		r.SetTarget(t[end:])
	case end < len(t):
		r.SetTarget(append([]byte{'/'}, t[end:]...)) // "http://a?b": the path is "/" (3.2.1)
	case r.MethodID == message.OPTIONS:
		r.SetTarget([]byte{'*'}) // 3.2.4
	default:
		r.SetTarget(t[colon+1 : colon+2]) // "/"
	}
	return fine
}

// validAuthority says whether a is a host with an optional port: uri-host [ ":"
// port ] of RFC 9110 7.2, where RFC 3986 3.2.2 says what a host is. The host is not
// empty.
func validAuthority(a []byte) bool {
	host := 0
	if len(a) > 0 && a[0] == '[' {
		end := bytes.IndexByte(a, ']')
		if end < 0 || !validIPv6(a[1:end]) {
			return false
		}
		host = end + 1
	} else {
		for host < len(a) && a[host] != ':' {
			switch {
			case class[a[host]]&regNameByte != 0:
				host++
			case a[host] == '%' && host+2 < len(a) && class[a[host+1]]&class[a[host+2]]&hexByte != 0:
				host += 3
			default:
				return false
			}
		}
	}
	return host > 0 && validPort(a[host:])
}

// validPort judges what follows a host: nothing, or a colon and a port, which may
// be empty.
func validPort(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if p[0] != ':' || len(p) > len(":65535") {
		return false
	}
	n := 0
	for _, c := range p[1:] {
		if c-'0' > 9 {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// validIPv6 judges an IPv6 address (RFC 3986 3.2.2). A zone has no meaning beyond
// its own machine, and addresses of the future (IPvFuture) never came.
func validIPv6(a []byte) bool {
	groups, gap := 0, false
	for i := 0; i < len(a); {
		switch {
		case i+1 < len(a) && a[i] == ':' && a[i+1] == ':' && !gap:
			gap = true
			i += 2
			if i == len(a) {
				return groups < 8
			}
			continue
		case a[i] == ':' && groups > 0 && i+1 < len(a) && a[i-1] != ':':
			i++
		case groups > 0 && a[i-1] != ':':
			return false
		}
		start := i
		for i < len(a) && class[a[i]]&hexByte != 0 {
			i++
		}
		if i < len(a) && a[i] == '.' {
			groups += 2
			return validIPv4(a[start:]) && (groups == 8 || gap && groups < 8)
		}
		if i == start || i-start > 4 {
			return false
		}
		groups++
	}
	return groups == 8 || gap && groups < 8
}

func validIPv4(a []byte) bool {
	parts := 0
	for len(a) > 0 {
		part, rest, dot := bytes.Cut(a, []byte("."))
		n := 0
		for _, c := range part {
			if c-'0' > 9 {
				return false
			}
			n = n*10 + int(c-'0')
		}
		if len(part) == 0 || len(part) > 3 || n > 255 || part[0] == '0' && len(part) > 1 || dot && len(rest) == 0 {
			return false
		}
		parts++
		a = rest
	}
	return parts == 4
}
