package rule

import (
	"fmt"
	"net/netip"
	"strings"
)

// redirect answers with another place to go to.
//
//	scheme or host set     SCHEME://HOST PREFIX PATH ?QUERY
//	neither                PREFIX PATH ?QUERY, a reference to the same site
//
// Path, where it is set, stands for prefix, path and query together. With scheme
// it is HAProxy's "redirect scheme", with prefix its "redirect prefix", with path
// its "redirect location".
type redirect struct {
	scheme    string
	host      string
	path      string
	prefix    string
	dropQuery bool
	code      int
}

func newRedirect(spec *RedirectTo) (redirect, error) {
	r := redirect{
		scheme: spec.Scheme, host: spec.Host, path: encoded(spec.Path), prefix: encoded(spec.Prefix),
		dropQuery: spec.DropQuery, code: spec.Code,
	}
	if r.prefix == "/" {
		r.prefix = ""
	}
	if a, err := netip.ParseAddr(r.host); err == nil && a.Is6() {
		r.host = "[" + r.host + "]"
	}
	if r.code == 0 {
		r.code = 302
	}
	switch {
	case r.scheme != "" && r.scheme != "http" && r.scheme != "https":
		return r, fmt.Errorf("%q is no scheme: http or https is expected", r.scheme)
	case r.code < 301 || r.code > 308 || r.code >= 304 && r.code <= 306:
		return r, fmt.Errorf("%d is no redirect: 301, 302, 303, 307 or 308 is expected", r.code)
	case r.path != "" && r.path[0] != '/', r.prefix != "" && r.prefix[0] != '/':
		return r, fmt.Errorf("a path begins with a slash")
	}
	if r.host != "" {
		if _, _, ok := splitAuthority([]byte(r.host)); !ok {
			return r, fmt.Errorf("%q is no host", r.host)
		}
	}
	return r, nil
}

// location is where a redirect leads. It is false where it would repeat a Host
// that is missing or no host: what a browser makes of such a URL is its own idea
// of where it leads.
func (r *redirect) location(in *Input) ([]byte, bool) {
	q := in.Request
	if q == nil {
		return nil, false
	}
	scheme, authority, absolute := in.scheme(), []byte(nil), r.scheme != "" || r.host != ""
	if r.scheme != "" {
		scheme = r.scheme
	}
	if absolute && r.host == "" {
		name, port, ok := splitAuthority(q.Authority)
		if !ok {
			return nil, false
		}
		authority = name
		if scheme == in.scheme() && len(port) > 0 {
			authority = q.Authority // the same port answers the same scheme
		}
	}
	path, query := q.Path, q.Query
	if len(path) == 0 || path[0] != '/' {
		path = []byte("/") // of OPTIONS * (RFC 9112 section 3.2.4)
	}
	if r.dropQuery || !q.HasQuery || r.path != "" {
		query = nil
	}
	if r.path != "" {
		path = nil
	}
	// Three bytes for each that is encoded, and the signs between the parts.
	out := in.Arena.Take(len(scheme) + len(r.host) + len(authority) + len(r.path) + len(r.prefix) + 3*(len(path)+len(query)) + 8)
	if absolute {
		out = append(out, scheme...)
		out = append(out, "://"...)
		out = append(out, r.host...)
		out = append(out, authority...)
	}
	start := len(out)
	out = append(out, r.path...)
	out = append(out, r.prefix...)
	out = appendEncoded(out, path)
	if q.HasQuery && !r.dropQuery && r.path == "" {
		out = append(out, '?')
		out = appendEncoded(out, query)
	}
	if !absolute && len(out) > 1 && out[start+1] == '/' {
		// A reference that begins with two slashes leads to another host (RFC 3986
		// section 4.2); with a dot between them it is the same path of this one.
		out = append(out, "/."...)
		copy(out[2:], out)
		copy(out, "/.")
	}
	return out, true
}

// appendEncoded appends a path or query, percent-encoding what can't stand in a
// URL or what a browser takes for something else, such as a backslash for a slash.
func appendEncoded(out, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		if needsEncoding(c) {
			out = append(out, '%', digits[c>>4], digits[c&15])
			continue
		}
		out = append(out, c)
	}
	return out
}

func needsEncoding(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`"#<>\`, c) >= 0
}

// encoded is a text of the document as it may stand in a URL.
func encoded(s string) string { return string(appendEncoded(nil, []byte(s))) }
