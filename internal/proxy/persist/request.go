package persist

import (
	"bytes"

	"sluis/internal/proxy/message"
)

// The signs inside the cookie's value, HAProxy's:
//
//	NAME=SERVER              insert, rewrite, passive
//	NAME=SERVER|LAST|FIRST   insert with dates; FIRST only with a greatest life
//	NAME=SERVER~VALUE        prefix, before the server's own value
const (
	prefixSign = '~'
	dateSign   = '|'
)

// future is how far ahead of us a cookie's date may be, in seconds: clocks differ,
// but a date further ahead is no date.
const future = 24 * 60 * 60

// Request finds the persistence cookie in a request and takes out what its servers
// are not to see: all of it where we insert it indirectly, our prefix where we
// prefix it. Where several cookies have the name the first that names a server
// counts.
//
// Changed values are appended to dst, which is returned; the request uses them.
func (c *Cookie) Request(dst []byte, r *message.Request, wallSeconds int64) (Found, []byte) {
	found := Found{Server: -1}
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != message.Cookie || len(f.Name) == 0 {
			continue
		}
		ours := false
		for rest, more := f.Value, true; more; {
			var pair []byte
			pair, rest, more = bytes.Cut(rest, []byte(";"))
			if value, ok := c.valueOf(pair); ok {
				ours = true
				c.learn(&found, value, wallSeconds)
			}
		}
		if ours && (c.mode == Prefix || c.mode == Insert && c.indirect) {
			dst = c.hide(dst, f)
		}
	}
	return found, dst
}

// valueOf is the value of a cookie with our name.
func (c *Cookie) valueOf(pair []byte) ([]byte, bool) {
	equal := bytes.IndexByte(pair, '=')
	if equal < 0 || string(message.Trim(pair[:equal])) != c.name {
		return nil, false
	}
	return message.Trim(pair[equal+1:]), true
}

// learn reads the cookie's value.
func (c *Cookie) learn(found *Found, value []byte, now int64) {
	found.Had = true
	if found.Server >= 0 {
		return
	}
	*found = Found{Server: -1, Had: true, Expired: found.Expired}
	name := value
	if c.mode == Prefix {
		name, _, _ = bytes.Cut(value, []byte{prefixSign})
	} else {
		var dates, first []byte
		name, dates, _ = bytes.Cut(value, []byte{dateSign})
		found.Last = decodeDate(dates)
		_, first, _ = bytes.Cut(dates, []byte{dateSign})
		found.First = decodeDate(first)
	}
	if outlived(found.First, c.maxLife, now) || outlived(found.Last, c.maxIdle, now) {
		*found = Found{Server: -1, Had: true, Expired: true}
		return
	}
	if server, known := c.byValue[string(name)]; known {
		found.Server, found.Expired = server, false
	}
}

// outlived reports whether a date is further away than a limit, or in the future
// beyond what clocks may differ. A date that was not said, or no limit, is fine.
func outlived(date, limit, now int64) bool {
	return date != 0 && limit != 0 && (now-date > limit || date-now > future)
}

// hide takes our cookies out of a field, or our prefix out of them. All other
// cookies stay byte for byte, parted as RFC 6265 section 4.2.1 wants it. A field
// with nothing left is removed.
func (c *Cookie) hide(dst []byte, f *message.Field) []byte {
	start := len(dst)
	for rest, more := f.Value, true; more; {
		var pair []byte
		pair, rest, more = bytes.Cut(rest, []byte(";"))
		pair = message.Trim(pair)
		if len(pair) == 0 {
			continue
		}
		value, ours := c.valueOf(pair)
		if ours && c.mode == Insert {
			continue
		}
		if len(dst) > start {
			dst = append(dst, "; "...)
		}
		_, own, prefixed := bytes.Cut(value, []byte{prefixSign})
		if ours && prefixed {
			dst = append(append(append(dst, c.name...), '='), own...)
		} else {
			dst = append(dst, pair...)
		}
	}
	if len(dst) == start {
		f.Name, f.Value = nil, nil
		return dst
	}
	f.Value = dst[start:len(dst):len(dst)]
	return dst
}
