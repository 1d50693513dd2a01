// Package persist keeps clients on their servers by a cookie, and counts the
// clients that are bound to each server.
//
// It owns the persistence cookie as HAProxy's cookie directive describes it: what
// is read from requests and hidden from servers, what is set in responses, and the
// dates inside the value. It owns the table of bound sessions.
//
// It promises that no other cookie is touched by a byte, that a request never
// holds an empty place where a cookie was, and that nothing is allocated as long
// as the caller's room is large enough.
//
// It does not know which servers are usable: that the cookie names a server binds
// nobody to it. It takes time as an argument.
//
// Where it differs from HAProxy:
//   - Cookies are told apart by semicolons alone (RFC 6265 section 4.2.1), not by
//     commas, and quotation marks are bytes like others: as browsers write them.
//   - A response that sets our cookie gets "Cache-Control: private" also where it
//     has neither a date nor a validator: caches may keep such an answer for a
//     while (RFC 9111 section 4.2.2).
//
// Read cookie.go (the directive), request.go, response.go, then sessions.go.
package persist

import (
	"fmt"
	"strings"
	"time"
)

// CookieSpec is a backend's persistence cookie. Its fields repeat the document's.
type CookieSpec struct {
	Name string
	Mode Mode
	// Indirect hides an inserted cookie from the servers, and takes one that a server
	// sets out of its response where the client has it already.
	Indirect bool
	// Preserve leaves a cookie of this name alone that the server itself sets.
	Preserve bool
	// Cacheable leaves out "Cache-Control: private" where we set the cookie.
	Cacheable bool
	// PostOnly sets the cookie in answers to POST alone.
	PostOnly    bool
	Secure      bool
	HTTPOnly    bool
	Partitioned bool
	SameSite    SameSite
	// MaxIdle and MaxLife end the cookie's effect that long after its last and first
	// use; 0 = never. Whole seconds count.
	MaxIdle, MaxLife time.Duration
	// Domains are sent as the cookie's domain, in their order.
	Domains []string
	// Values mark the servers, by their index; empty = the server has none, and a
	// client that gets to it loses its cookie.
	Values []string
}

// Mode is who sets the cookie.
type Mode string

// The modes.
const (
	Insert  Mode = "insert"  // we set it
	Rewrite Mode = "rewrite" // the server sets it, we put our value in
	Prefix  Mode = "prefix"  // we put our value before the server's own
	Passive Mode = "passive" // the server sets it, we only read it
)

// SameSite is when a browser sends the cookie from another site's page.
type SameSite string

// The values of SameSite; the empty one is SameSiteUnset too.
const (
	SameSiteUnset  SameSite = "unset"
	SameSiteStrict SameSite = "strict"
	SameSiteLax    SameSite = "lax"
	SameSiteNone   SameSite = "none"
)

// Cookie is a compiled CookieSpec. It is never changed and serves all loops.
type Cookie struct {
	name     string
	mode     Mode
	indirect bool
	preserve bool
	private  bool
	postOnly bool
	maxIdle  int64 // s
	maxLife  int64 // s

	byValue map[string]int // servers
	values  []string       // by server
	// heads are "NAME=VALUE" by server, and tail is all that follows the value and its
	// dates: "; path=/; HttpOnly". wholes are both together; of a server without a
	// value it is what makes a client forget the cookie.
	heads  []string
	tail   string
	wholes [][]byte

	setCookie, cacheControl, privateValue []byte // names and values as they are written
}

// Found is what a request's cookies say.
type Found struct {
	// Server is the server that the cookie names; -1 = none: there was no cookie, its
	// value is nobody's, or it has expired.
	Server int
	// Had is whether the cookie was there, whatever it said.
	Had bool
	// Expired is whether its effect has ended.
	Expired bool
	// First and Last are the dates of its first and last use, in seconds since 1970 to
	// four seconds; 0 = not said.
	First, Last int64
}

// Compile checks and compiles a cookie.
func Compile(spec CookieSpec) (*Cookie, error) {
	c := &Cookie{
		name: spec.Name, mode: spec.Mode, indirect: spec.Indirect, preserve: spec.Preserve, private: !spec.Cacheable,
		postOnly: spec.PostOnly, maxIdle: int64(spec.MaxIdle / time.Second), maxLife: int64(spec.MaxLife / time.Second),
		byValue: make(map[string]int, len(spec.Values)), values: append([]string(nil), spec.Values...),
		setCookie: []byte("Set-Cookie"), cacheControl: []byte("Cache-Control"), privateValue: []byte("private"),
	}
	if !isCookieText(spec.Name) || spec.Name == "" || strings.Contains(spec.Name, "=") {
		return nil, fmt.Errorf("%q is no name of a cookie", spec.Name)
	}
	switch spec.Mode {
	case Insert, Rewrite, Prefix, Passive:
	default:
		return nil, fmt.Errorf("there is no mode %q", spec.Mode)
	}
	tail, err := attributes(&spec)
	if err != nil {
		return nil, err
	}
	c.tail = "; path=/" + tail
	for i, value := range spec.Values {
		if !isCookieText(value) {
			return nil, fmt.Errorf("%q is no value of a cookie", value)
		}
		head := c.name + "=" + value
		whole := head + c.tail
		if value == "" {
			// HAProxy's text, with the date that all browsers have passed.
			whole = head + "; Expires=Thu, 01-Jan-1970 00:00:01 GMT" + c.tail
		} else if _, twice := c.byValue[value]; !twice {
			c.byValue[value] = i
		}
		c.heads, c.wholes = append(c.heads, head), append(c.wholes, []byte(whole))
	}
	return c, nil
}

// attributes are those of RFC 6265 section 4.1.2 and its successor draft, in
// HAProxy's order.
func attributes(spec *CookieSpec) (string, error) {
	var b strings.Builder
	for _, domain := range spec.Domains {
		if !isCookieText(domain) {
			return "", fmt.Errorf("%q is no domain", domain)
		}
		b.WriteString("; domain=" + domain)
	}
	if spec.HTTPOnly {
		b.WriteString("; HttpOnly")
	}
	if spec.Secure {
		b.WriteString("; Secure")
	}
	switch spec.SameSite {
	case SameSiteStrict:
		b.WriteString("; SameSite=Strict")
	case SameSiteLax:
		b.WriteString("; SameSite=Lax")
	case SameSiteNone:
		b.WriteString("; SameSite=None")
	case SameSiteUnset, "":
	default:
		return "", fmt.Errorf("SameSite can't be %q", spec.SameSite)
	}
	if spec.Partitioned {
		b.WriteString("; Partitioned")
	}
	return b.String(), nil
}

// isCookieText reports whether a text can be written into a cookie: cookie-octet
// of RFC 6265 section 4.1.1.
func isCookieText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`",;\`, s[i]) >= 0 {
			return false
		}
	}
	return true
}
