package rule

import (
	"bytes"
	"net/netip"
	"strings"
)

// maxHost is the length of the longest host name in text form, with a dot at its
// end (RFC 1035 section 2.3.4, RFC 1123 section 2.1).
const maxHost = 254

// splitAuthority takes a Host field's value or an authority apart (RFC 9110
// section 7.2, RFC 3986 section 3.2): the name without the dot that may end it, an
// IPv6 address with its brackets, and the port, which may be empty. Anything but a
// host and digits, such as a user's name, makes it bad.
func splitAuthority(authority []byte) (name, port []byte, ok bool) {
	end := bytes.IndexByte(authority, ':')
	if len(authority) > 0 && authority[0] == '[' {
		if end = bytes.IndexByte(authority, ']') + 1; end == 0 {
			return nil, nil, false
		}
		if end == len(authority) {
			end = -1
		}
	}
	name = authority
	if end >= 0 {
		if authority[end] != ':' {
			return nil, nil, false
		}
		name, port = authority[:end], authority[end+1:]
	}
	if len(port) > 5 {
		return nil, nil, false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return nil, nil, false
		}
	}
	if len(name) > 0 && name[len(name)-1] == '.' {
		name = name[:len(name)-1]
	}
	return name, port, isHost(name)
}

// isHost reports whether a text can stand for a host in a URL without meaning
// anything else there: labels of letters, digits, dash, underscore and tilde, none
// of them empty, or the signs of an IPv6 address in brackets. Percent-encoding is allowed by RFC 3986
// section 3.2.2 and refused here: no host name has it, and whoever decodes it
// sees another name than we do.
func isHost(name []byte) bool {
	if len(name) == 0 || len(name) > maxHost {
		return false
	}
	if name[0] == '[' {
		if len(name) < len("[::]") || name[len(name)-1] != ']' {
			return false
		}
		for _, c := range name[1 : len(name)-1] {
			if c != ':' && c != '.' && !isHexDigit(c) {
				return false
			}
		}
		return true
	}
	last := byte('.')
	for _, c := range name {
		if !isAlphanumeric(c) && c != '-' && c != '_' && c != '~' && (c != '.' || last == '.') {
			return false
		}
		last = c
	}
	return last != '.'
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isHexDigit(c byte) bool {
	return 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || '0' <= c && c <= '9'
}

// normalHost is a host of an ACL as requests' hosts are compared with it: lower
// case, no dot at the end, an IPv6 address in brackets and in its shortest form
// (RFC 5952), with the port if there is one.
func normalHost(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return "[" + a.String() + "]"
	}
	name, port, ok := splitAuthority([]byte(s))
	if !ok {
		return lowerString(s)
	}
	normal := lowerString(string(name))
	if normal[0] == '[' {
		if a, err := netip.ParseAddr(normal[1 : len(normal)-1]); err == nil {
			normal = "[" + a.String() + "]"
		}
	}
	if len(port) > 0 {
		normal += ":" + string(port)
	}
	return normal
}

// host is a request's authority as ACLs compare it: what normalHost makes of a
// document's host, of the request's.
type host struct {
	name []byte // without a port
	full []byte // with the port, where there is one
}

func newHost(authority []byte, a *Arena) host {
	name, port, ok := splitAuthority(authority)
	if !ok {
		whole := a.lower(authority) // compared as it is
		return host{whole, whole}
	}
	if name[0] == '[' {
		if ip, err := netip.ParseAddr(string(name[1 : len(name)-1])); err == nil {
			room := append(a.Take(len("[]:65535")+netipLength), '[')
			name = append(ip.AppendTo(room), ']')
		}
	}
	name = a.lower(name)
	if len(port) == 0 {
		return host{name, name}
	}
	full := append(a.Take(len(name)+1+len(port)), name...)
	full = append(append(full, ':'), port...)
	return host{name, full}
}

// netipLength is room for an address as text.
const netipLength = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")

// HostNames are the names that a site's certificates cover. A request's Host is
// held against them whatever its case, its port and the dot that may end it.
type HostNames struct {
	// Ignored are names that no request can match: a star anywhere but as the whole
	// first label (RFC 9525 section 6.3), or what is no host name at all.
	Ignored []string

	exact     map[string]struct{} // names, IPv4 addresses, IPv6 addresses in brackets
	wildcards map[string]struct{} // by what follows the star: ".example.net"
	addresses map[netip.Addr]struct{}
}

// NewHostNames compiles names and addresses as they stand in certificates: exact
// names, *.example.net for exactly one label, addresses.
func NewHostNames(names []string) *HostNames {
	h := &HostNames{
		exact:     make(map[string]struct{}, len(names)),
		wildcards: map[string]struct{}{},
		addresses: map[netip.Addr]struct{}{},
	}
	for _, name := range names {
		h.add(name)
	}
	return h
}

func (h *HostNames) add(name string) {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		a = a.Unmap().WithZone("")
		text := a.String()
		if a.Is6() {
			text = "[" + text + "]"
		}
		h.exact[text] = struct{}{}
		h.addresses[a] = struct{}{}
		return
	}
	normal := strings.TrimSuffix(lowerString(name), ".")
	suffix, isWildcard := strings.CutPrefix(normal, "*")
	switch {
	case isWildcard && len(suffix) > 1 && suffix[0] == '.' && isHost([]byte(suffix[1:])):
		h.wildcards[suffix] = struct{}{}
	case isHost([]byte(normal)):
		h.exact[normal] = struct{}{}
	default:
		h.Ignored = append(h.Ignored, name)
	}
}

// Match reports whether one of the names covers a request's authority.
func (h *HostNames) Match(authority []byte) bool {
	name, _, ok := splitAuthority(authority)
	if !ok {
		return false
	}
	var room [maxHost]byte
	lower := room[:copy(room[:], name)]
	for i := range lower {
		lower[i] = lowerByte(lower[i])
	}
	if _, found := h.exact[string(lower)]; found {
		return true
	}
	if lower[0] == '[' {
		// Another spelling of the address: rare, since browsers write the shortest.
		a, err := netip.ParseAddr(string(lower[1 : len(lower)-1]))
		_, found := h.addresses[a.Unmap()]
		return err == nil && found
	}
	dot := bytes.IndexByte(lower, '.')
	if dot < 0 {
		return false
	}
	// One label and no more (RFC 9525 section 6.3).
	_, found := h.wildcards[string(lower[dot:])]
	return found
}
