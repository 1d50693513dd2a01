package rule

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"sluis/internal/proxy/message"
)

// edit changes a message.
type edit struct {
	response bool
	do       editKind
	name     []byte     // of the field, as it is written
	lower    string     // the same in lower case
	id       message.ID // of the field
	value    template   // of a set or added field
	find     *regexp.Regexp
	with     []byte // in the form of regexp.Expand
	text     []byte // a new path, query or method
}

type editKind uint8

const (
	setField editKind = iota
	addField
	removeField
	replaceField
	setPath
	replacePath
	setQuery
	setMethod
)

func newEdit(spec *Rule) (edit, error) {
	switch {
	case spec.SetHeader != nil:
		return newFieldEdit(setField, spec.SetHeader.Of, spec.SetHeader.Field, spec.SetHeader.Value)
	case spec.AddHeader != nil:
		return newFieldEdit(addField, spec.AddHeader.Of, spec.AddHeader.Field, spec.AddHeader.Value)
	case spec.RemoveHeader != nil:
		return newFieldEdit(removeField, spec.RemoveHeader.Of, spec.RemoveHeader.Field, "")
	case spec.ReplaceHeader != nil:
		e, err := newFieldEdit(replaceField, spec.ReplaceHeader.Of, spec.ReplaceHeader.Field, "")
		if err != nil {
			return e, err
		}
		return e, e.replaces(spec.ReplaceHeader.Find, spec.ReplaceHeader.With)
	case spec.SetPath != "":
		if spec.SetPath[0] != '/' {
			return edit{}, fmt.Errorf("a path begins with a slash")
		}
		return edit{do: setPath, text: appendPath(nil, []byte(spec.SetPath))}, nil
	case spec.ReplacePath != nil:
		e := edit{do: replacePath}
		return e, e.replaces(spec.ReplacePath.Find, spec.ReplacePath.With)
	case spec.SetQuery != "":
		return edit{do: setQuery, text: appendEncoded(nil, []byte(strings.TrimPrefix(spec.SetQuery, "?")))}, nil
	case spec.SetMethod != "":
		return newMethodEdit(spec.SetMethod)
	}
	return edit{}, fmt.Errorf("it has no action")
}

func newFieldEdit(do editKind, of Direction, field, value string) (edit, error) {
	e := edit{
		do: do, response: of == OfResponse,
		name: []byte(field), lower: lowerString(field), id: message.Lookup([]byte(field)), value: newTemplate(value),
	}
	switch {
	case message.Framing().Has(e.id) || e.id == message.Trailer:
		return e, fmt.Errorf("%s says how a message travels: Sluis writes it itself", field)
	case of != OfRequest && of != OfResponse:
		return e, fmt.Errorf("%q is no direction", of)
	case !isToken(field):
		return e, fmt.Errorf("%q is no name of a field", field)
	case !isValue(value):
		return e, fmt.Errorf("the value holds a control character or has blanks around it")
	case e.id == message.Host && !e.response && (do == addField || do == removeField):
		return e, fmt.Errorf("a request has exactly one Host (RFC 9112 section 3.2)")
	}
	return e, nil
}

// newMethodEdit refuses CONNECT: it would make a tunnel of a request.
func newMethodEdit(method string) (edit, error) {
	if !isToken(method) || method == "CONNECT" {
		return edit{}, fmt.Errorf("%q is no method that a request can be given", method)
	}
	return edit{do: setMethod, text: []byte(method)}, nil
}

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// replaces compiles a search and what stands in its place.
func (e *edit) replaces(find, with string) (err error) {
	if e.find, err = regexp.Compile(find); err != nil {
		return fmt.Errorf("the expression %q: %w", find, err)
	}
	e.with = expandForm(with)
	return nil
}

// expandForm writes a replacement so that regexp.Expand reads it as meant: $1 is
// the first group whatever follows, and a dollar sign that names none is itself.
func expandForm(with string) []byte {
	var out []byte
	for i := 0; i < len(with); i++ {
		if with[i] != '$' {
			out = append(out, with[i])
			continue
		}
		end := i + 1
		for end < len(with) && end < i+3 && '0' <= with[end] && with[end] <= '9' {
			end++
		}
		closing := strings.IndexByte(with[i:], '}')
		switch {
		case end > i+1:
			out = append(append(append(out, "${"...), with[i+1:end]...), '}')
			i = end - 1
		case end < len(with) && with[end] == '{' && closing > 2 && strings.Trim(lowerString(with[end+1:i+closing]), "abcdefghijklmnopqrstuvwxyz0123456789_") == "":
			out = append(out, with[i:i+closing+1]...)
			i += closing
		case end < len(with) && with[end] == '$':
			out = append(out, "$$"...)
			i++
		default:
			out = append(out, "$$"...)
		}
	}
	return out
}

// subject is what a search looks at.
func (e *edit) subject() subject {
	if e.do == replacePath {
		return subjectPath
	}
	return subjectHeader
}

// request changes the request; it is false where a value would be too long.
func (e *edit) request(w *walk) bool {
	in, r := w.in, w.in.Request
	switch e.do {
	case setPath:
		setTarget(r, e.text, r.Query, r.HasQuery, in.Arena)
	case replacePath:
		if len(r.Path) > slowLength {
			w.list.slow.Add(1)
		}
		if !e.find.Match(r.Path) {
			return true
		}
		path := e.find.ReplaceAll(r.Path, e.with)
		if len(path) > maxValue {
			return false
		}
		setTarget(r, appendPath(in.Arena.Take(3*len(path)+1), path), r.Query, r.HasQuery, in.Arena)
	case setQuery:
		setTarget(r, r.Path, e.text, len(e.text) > 0, in.Arena)
	case setMethod:
		r.Method, r.MethodID = e.text, message.LookupMethod(e.text)
	default:
		if e.id == message.Host {
			return e.host(in)
		}
		return e.fields(&r.Fields, in)
	}
	return true
}

// appendPath appends a path that a rule made: it begins with a slash, and holds
// nothing that would end it.
func appendPath(out, path []byte) []byte {
	if len(path) == 0 || path[0] != '/' {
		out = append(out, '/')
	}
	for {
		before, behind, found := bytes.Cut(path, []byte("?"))
		out = appendEncoded(out, before)
		if !found {
			return out
		}
		out, path = append(out, "%3F"...), behind
	}
}

// setTarget gives a request another path and query. OPTIONS * has neither
// (RFC 9112 section 3.2.4).
func setTarget(r *message.Request, path, query []byte, hasQuery bool, a *Arena) {
	if len(r.Path) > 0 && r.Path[0] == '*' {
		return
	}
	target := append(a.Take(len(path)+1+len(query)), path...)
	if hasQuery {
		target = append(append(target, '?'), query...)
	}
	r.SetTarget(target)
}

// host changes the request's host. What is no host is not sent: the request keeps
// the one it has.
func (e *edit) host(in *Input) bool {
	r := in.Request
	var value []byte
	var ok bool
	if e.do == replaceField {
		if !e.find.Match(r.Authority) {
			return true
		}
		value = clean(e.find.ReplaceAll(r.Authority, e.with))
	} else if value, ok = e.value.expand(in); !ok {
		return false
	}
	if _, _, ok := splitAuthority(value); !ok {
		return true
	}
	r.Set(e.name, value)
	return true
}

// fields changes header fields; it is false where a value would be too long.
func (e *edit) fields(fields *[]message.Field, in *Input) bool {
	switch e.do {
	case setField, addField:
		value, ok := e.value.expand(in)
		if !ok {
			return false
		}
		if e.do == setField {
			*fields = removeFields(*fields, e.id, e.lower)
		}
		*fields = append(*fields, message.Field{Name: e.name, Value: value, ID: e.id})
	case removeField:
		*fields = removeFields(*fields, e.id, e.lower)
	case replaceField:
		for i := range *fields {
			f := &(*fields)[i]
			if !named(f, e.id, e.lower) || !e.find.Match(f.Value) {
				continue
			}
			value := clean(e.find.ReplaceAll(f.Value, e.with))
			if len(value) > maxValue {
				return false
			}
			f.Value = value
		}
	}
	return true
}

// removeFields takes all fields of a name away.
func removeFields(fields []message.Field, id message.ID, lower string) []message.Field {
	for i := range fields {
		if f := &fields[i]; named(f, id, lower) {
			*f = message.Field{}
		}
	}
	return fields
}
