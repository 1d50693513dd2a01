package rule

import (
	"bytes"
	"fmt"

	"sluis/internal/proxy/message"
)

// acl is a compiled ACL.
type acl struct {
	match    Match
	kind     subject
	name     string
	field    string     // lower case for a header field
	fieldID  message.ID // of a header field
	present  bool
	anyPort  bool
	texts    texts
	segments texts // whole segments of a path
	sources  networks
	backend  int
	atLeast  int
}

// subject is a Match as a small number.
type subject uint8

const (
	subjectHost subject = iota
	subjectPath
	subjectQueryParameter
	subjectHeader
	subjectCookie
	subjectMethod
	subjectSource
	subjectSNI
	subjectClientCertificate
	subjectClientIssuer
	subjectUsableServers
	subjectTLS
	subjectWebSocket
	subjectHTTP2
)

// subjects are the parts of a request, in the order of their numbers.
var subjects = [...]Match{
	MatchHost, MatchPath, MatchQueryParameter, MatchHeader, MatchCookie, MatchMethod, MatchSource, MatchSNI,
	MatchClientCertificate, MatchClientIssuer, MatchUsableServers, matchTLS, matchWebSocket, matchHTTP2,
}

func newACL(spec *ACL, backends map[string]int) (acl, error) {
	a := acl{match: spec.Match, name: spec.Name, field: spec.Field, present: spec.Present, anyPort: spec.AnyPort, atLeast: spec.AtLeast}
	found := false
	for i, m := range subjects {
		if m == spec.Match {
			a.kind, found = subject(i), true
		}
	}
	if !found {
		return acl{}, fmt.Errorf("there is no part %q of a request", spec.Match)
	}
	switch a.kind {
	case subjectHeader:
		a.field = lowerString(spec.Field)
		a.fieldID = message.Lookup([]byte(spec.Field))
		fallthrough
	case subjectCookie, subjectQueryParameter:
		if spec.Field == "" {
			return acl{}, fmt.Errorf("the %s isn't named", spec.Match)
		}
	case subjectSource:
		for _, p := range spec.In {
			if !p.IsValid() {
				return acl{}, fmt.Errorf("a network is empty")
			}
		}
		a.sources = newNetworks(spec.In)
	case subjectUsableServers:
		index, known := backends[spec.Backend]
		if !known {
			return acl{}, fmt.Errorf("there is no backend %q", spec.Backend)
		}
		a.backend = index
	}
	var err error
	if a.texts, err = newTexts(spec); err != nil {
		return acl{}, err
	}
	segments := ACL{Match: spec.Match, Is: spec.Segments, CaseSensitive: spec.CaseSensitive}
	a.segments, err = newTexts(&segments)
	return a, err
}

// holds answers an ACL for the request as it is now.
func (a *acl) holds(w *walk) bool {
	in := w.in
	switch a.kind {
	case subjectTLS:
		return in.TLS
	case subjectHTTP2:
		return in.HTTP2
	case subjectSource:
		return a.sources.contain(in.Source)
	case subjectUsableServers:
		return in.Usable != nil && in.Usable(a.backend) >= a.atLeast
	case subjectSNI:
		return a.holdsText(in.SNI, w)
	case subjectClientCertificate:
		return a.holdsText(in.ClientCommonName, w)
	case subjectClientIssuer:
		return a.holdsText(in.ClientIssuer, w)
	}
	r := in.Request
	if r == nil {
		return false // bytes or TLS passed through: there is no request
	}
	switch a.kind {
	case subjectWebSocket:
		return r.WebSocket
	case subjectHost:
		if len(r.Authority) == 0 {
			return false // HTTP/1.0 knows requests without a host
		}
		h := w.host()
		if a.anyPort {
			return a.texts.holdFolded(h.name, h.name, w)
		}
		return a.texts.holdFolded(h.full, h.full, w)
	case subjectPath:
		folded := r.Path
		if a.texts.fold {
			folded = w.path()
		}
		return a.texts.holdFolded(r.Path, folded, w) || a.holdsSegment(folded)
	case subjectQueryParameter:
		return r.HasQuery && a.holdsParameter(r.Query, w)
	case subjectHeader:
		return a.holdsHeader(r.Fields, w)
	case subjectCookie:
		return a.holdsCookie(r.Fields, w)
	case subjectMethod:
		return a.texts.hold(r.Method, w)
	}
	panic("BUG: an ACL looks at " + string(a.match))
}

// holdsText asks a text of the TLS handshake; an empty one was not there.
func (a *acl) holdsText(s string, w *walk) bool {
	return s != "" && a.texts.hold(w.in.Arena.text(s), w)
}

// holdsSegment asks the segments of a path: what stands between two slashes, or
// behind the last, as HAProxy's path_dir does.
func (a *acl) holdsSegment(path []byte) bool {
	if len(a.segments.is.few) == 0 && a.segments.is.many == nil {
		return false
	}
	for len(path) > 0 {
		segment := path
		end := bytes.IndexByte(path, '/')
		if end >= 0 {
			segment, path = path[:end], path[end+1:]
		} else {
			path = nil
		}
		if len(segment) > 0 && a.segments.is.has(segment) {
			return true
		}
	}
	return false
}

// holdsParameter asks every occurrence of a parameter. Parameters stand between
// ampersands or, as HAProxy takes them, semicolons.
func (a *acl) holdsParameter(query []byte, w *walk) bool {
	for len(query) > 0 {
		part := query
		if end := bytes.IndexAny(query, "&;"); end >= 0 {
			part, query = query[:end], query[end+1:]
		} else {
			query = nil
		}
		name, value, _ := bytes.Cut(part, []byte("="))
		if string(name) == a.field && (a.present || a.texts.hold(value, w)) {
			return true
		}
	}
	return false
}

// holdsHeader asks every field of a name: its value as a whole, and where it is a
// list the members.
func (a *acl) holdsHeader(fields []message.Field, w *walk) bool {
	for i := range fields {
		f := &fields[i]
		if !named(f, a.fieldID, a.field) {
			continue
		}
		if a.present || a.texts.hold(f.Value, w) {
			return true
		}
		if bytes.IndexByte(f.Value, ',') < 0 {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var member []byte
			if member, rest = message.NextToken(rest); len(member) > 0 && a.texts.hold(member, w) {
				return true
			}
		}
	}
	return false
}

// holdsCookie asks every cookie of a name (RFC 6265 section 4.2.1).
func (a *acl) holdsCookie(fields []message.Field, w *walk) bool {
	for i := range fields {
		f := &fields[i]
		if f.ID != message.Cookie || len(f.Name) == 0 {
			continue
		}
		for rest, more := f.Value, true; more; {
			var pair []byte
			pair, rest, more = bytes.Cut(rest, []byte(";"))
			name, value, isPair := bytes.Cut(pair, []byte("="))
			if isPair && string(message.Trim(name)) == a.field && (a.present || a.texts.hold(message.Trim(value), w)) {
				return true
			}
		}
	}
	return false
}

// named reports whether a field that is still there has a name: its number, or
// where the name has none of its own the text.
func named(f *message.Field, id message.ID, lower string) bool {
	return f.ID == id && len(f.Name) > 0 && (id != message.Other || message.EqualFold(f.Name, lower))
}
