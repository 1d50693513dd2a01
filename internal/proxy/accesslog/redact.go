package accesslog

import "bytes"

// hidden stands in place of what is redacted.
const hidden = '*'

// appendRedacted appends a request target or URL without what it may hide:
//
//	/chat;jsessionid=7F3A/room?token=abc&x=1&opaque   as sent
//	/chat;jsessionid=*/room?token=*&x=*&*             redacted
//	http://bob:secret@host/                           as sent
//	http://*@host/                                    redacted
//
// Values of the query, a query without names, values of path parameters (some
// servers put their session there), a fragment, and a user with password. Names
// stay. The result is never longer.
func appendRedacted(dst, s []byte) []byte {
	query := bytes.IndexAny(s, "?#")
	path := s
	if query >= 0 {
		path = s[:query]
	}
	dst = appendRedactedPath(appendRedactedAuthority(dst, &path), path)
	if query < 0 {
		return dst
	}
	dst = append(dst, s[query])
	for rest := s[query+1:]; ; {
		end := bytes.IndexAny(rest, "&;?#") // a second ? begins a value that is cut off; hidden all the same
		part := rest
		if end >= 0 {
			part = rest[:end]
		}
		dst = appendRedactedPair(dst, part)
		if end < 0 {
			return dst
		}
		dst = append(dst, rest[end])
		rest = rest[end+1:]
	}
}

// appendRedactedPair hides the value after the first equals sign, or all where
// there is none.
func appendRedactedPair(dst, pair []byte) []byte {
	name, value, found := bytes.Cut(pair, []byte{'='})
	if !found {
		name, value = nil, pair
	} else {
		dst = append(append(dst, name...), '=')
	}
	if len(value) > 0 {
		dst = append(dst, hidden)
	}
	return dst
}

// appendRedactedAuthority takes the scheme and authority off the path and appends
// them without a user (RFC 3986 3.2.1).
func appendRedactedAuthority(dst []byte, path *[]byte) []byte {
	scheme := bytes.Index(*path, []byte("://"))
	if scheme < 0 || bytes.IndexByte((*path)[:scheme], '/') >= 0 {
		return dst
	}
	authority := (*path)[scheme+3:]
	if end := bytes.IndexByte(authority, '/'); end >= 0 {
		authority = authority[:end]
	}
	dst = append(dst, (*path)[:scheme+3]...)
	*path = (*path)[scheme+3+len(authority):]
	if at := bytes.LastIndexByte(authority, '@'); at > 0 {
		dst = append(dst, hidden)
		authority = authority[at:]
	}
	return append(dst, authority...)
}

func appendRedactedPath(dst, path []byte) []byte {
	for {
		parameter := bytes.IndexByte(path, ';')
		if parameter < 0 {
			return append(dst, path...)
		}
		dst = append(dst, path[:parameter+1]...)
		path = path[parameter+1:]
		end := bytes.IndexAny(path, ";/")
		if end < 0 {
			end = len(path)
		}
		dst = appendRedactedPair(dst, path[:end])
		path = path[end:]
	}
}
