package persist

import (
	"bytes"

	"sluis/internal/proxy/message"
)

// Response edits a server's response: it changes or removes the cookies of our name
// that the server sets, and sets ours where the client needs it. f is what Request
// found, server the index of the server that answered, method the client's. An
// answer of our own, server -1, is left alone.
//
// New values are appended to dst, which is returned; the response uses them.
func (c *Cookie) Response(dst []byte, r *message.Response, f Found, server int, wallSeconds int64, method message.Method) []byte {
	if server < 0 || server >= len(c.values) || r.Status < 200 && r.Status != 101 {
		return dst
	}
	direct := f.Server == server
	dst, sets := c.serverCookies(dst, r, server, direct)
	if c.mode != Insert || sets && c.preserve || c.postOnly && method != message.POST {
		return dst
	}
	if direct && !c.outdated(f, wallSeconds) {
		return dst
	}
	value := c.wholes[server]
	if c.values[server] != "" && (c.maxIdle > 0 || c.maxLife > 0) {
		start := len(dst)
		dst = c.appendDated(dst, f, server, wallSeconds)
		value = dst[start:len(dst):len(dst)]
	}
	r.Fields = append(r.Fields, message.Field{Name: c.setCookie, Value: value, ID: message.SetCookie})
	if c.private && !keptFromCaches(r.Fields) {
		r.Fields = append(r.Fields, message.Field{Name: c.cacheControl, Value: c.privateValue, ID: message.CacheControl})
	}
	return dst
}

// outdated reports whether a client that is on the right server needs its cookie
// anew all the same, because of the dates in it.
func (c *Cookie) outdated(f Found, now int64) bool {
	refresh := (c.maxIdle > 0 || f.Last != 0) && (f.Last == 0 || f.Last < now)
	return refresh || (c.maxLife > 0) != (f.First != 0)
}

// appendDated writes the cookie with its dates. The first one stays what it was.
func (c *Cookie) appendDated(dst []byte, f Found, server int, now int64) []byte {
	dst = append(append(dst, c.heads[server]...), dateSign)
	dst = appendDate(dst, now+dateRoundsUp)
	if c.maxLife > 0 {
		first := f.First
		if first == 0 {
			first = now + dateRoundsUp
		}
		dst = appendDate(append(dst, dateSign), first)
	}
	return append(dst, c.tail...)
}

// serverCookies does with the cookies of our name that the server sets what the
// mode says, and reports whether there were any.
func (c *Cookie) serverCookies(dst []byte, r *message.Response, server int, direct bool) (_ []byte, sets bool) {
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != message.SetCookie || len(f.Name) == 0 {
			continue
		}
		// A Set-Cookie holds one cookie: commas belong to its dates.
		pair, rest, _ := bytes.Cut(f.Value, []byte(";"))
		value, ours := c.valueOf(pair)
		if !ours {
			continue
		}
		sets = true
		switch {
		case c.preserve:
		case c.mode == Insert, direct && c.indirect:
			f.Name, f.Value = nil, nil
		case c.values[server] == "" || c.mode == Passive:
		default:
			start := len(dst)
			dst = append(dst, c.heads[server]...)
			if c.mode == Prefix {
				dst = append(append(dst, prefixSign), value...)
			}
			if len(pair) < len(f.Value) {
				dst = append(append(dst, ';'), rest...)
			}
			f.Value = dst[start:len(dst):len(dst)]
		}
	}
	return dst, sets
}

// keptFromCaches reports whether a response says itself that shared caches are not
// to keep it as it is (RFC 9111 section 5.2.2).
func keptFromCaches(fields []message.Field) bool {
	for i := range fields {
		f := &fields[i]
		if f.ID != message.CacheControl || len(f.Name) == 0 {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var directive []byte
			directive, rest = message.NextToken(rest)
			if message.EqualFold(directive, "private") || message.EqualFold(directive, "no-store") || message.EqualFold(directive, "no-cache") {
				return true
			}
		}
	}
	return false
}
