package migrate

import (
	"regexp/syntax"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// edit writes a rule that changes a message and goes on.
func (s *scope) edit(o *object, r *config.Rule, holds tree) {
	switch {
	case r.SetHeader != nil:
		s.field(o, "set-header", "set_header", r.SetHeader.Of, r.SetHeader, holds)
	case r.AddHeader != nil:
		s.field(o, "add-header", "add_header", r.AddHeader.Of, r.AddHeader, holds)
	case r.RemoveHeader != nil && r.RemoveHeader.Field == "":
		o.leftOut("remove_header.field", text.M("the field isn't named"))
	case r.RemoveHeader != nil:
		s.message(r.RemoveHeader.Of, []string{"del-header", r.RemoveHeader.Field}, holds)
	case r.ReplaceHeader != nil:
		s.replaceHeader(o, r.ReplaceHeader, holds)
	case r.SetPath != "":
		s.request([]string{"set-path", format(encoded(r.SetPath))}, holds)
	case r.ReplacePath != nil:
		if converter, ok := substitution(o, "replace_path", r.ReplacePath.Find, r.ReplacePath.With); ok {
			s.request([]string{"set-path", "%[path," + converter + "]"}, holds)
		}
	case r.SetQuery != "":
		query := strings.TrimPrefix(r.SetQuery, "?")
		if query == "" {
			s.request([]string{"set-pathq", "%[path]"}, holds)
		} else {
			s.request([]string{"set-query", format(encoded(query))}, holds)
		}
	case r.SetMethod != "":
		s.request([]string{"set-method", format(r.SetMethod)}, holds)
	default:
		o.leftOut("", text.M("the rule has no action"))
	}
}

// message writes an edit of a request or response.
func (s *scope) message(of config.Direction, words []string, holds tree) {
	if of != config.OfResponse {
		s.request(words, holds)
		return
	}
	line := append([]string{"http-response"}, words...)
	note := s.noteText
	if !holds.isTrue() {
		held := s.e.variable("held")
		s.request([]string{"set-var(" + held + ")", "bool(true)"}, holds)
		line = append(line, s.e.condition(leafTree(isSet(held)))...)
	}
	s.noteText = note
	s.later(&s.response, line)
}

// field sets or adds a header field.
func (s *scope) field(o *object, action, path string, of config.Direction, h *config.SetHeader, holds tree) {
	value, ok := s.value(h.Value, of)
	if !ok {
		o.leftOut(path+".value", text.M("HAProxy chooses backend and server after the request was edited"))
		return
	}
	if h.Field == "" {
		o.leftOut(path+".field", text.M("the field isn't named"))
		return
	}
	s.message(of, []string{action, h.Field, orElse(value, emptyFormat)}, holds)
}

// value is a header field's value with its placeholders. false = one of them isn't
// known at that time.
func (s *scope) value(value string, of config.Direction) (string, bool) {
	var out, literal strings.Builder
	for rest := value; rest != ""; {
		before, after, open := strings.Cut(rest, "{")
		name, behind, closed := strings.Cut(after, "}")
		literal.WriteString(before)
		if !open {
			break
		}
		there, known, ok := s.placeholder(name, of)
		if !ok {
			return "", false
		}
		if !closed || !known {
			literal.WriteByte('{')
			rest = after
			continue
		}
		out.WriteString(format(literal.String()) + there)
		literal.Reset()
		rest = behind
	}
	out.WriteString(format(literal.String()))
	return out.String(), true
}

// placeholder is what a word in braces is there; known = it stands for something,
// ok = HAProxy can say it at that time.
func (s *scope) placeholder(name string, of config.Direction) (there string, known, ok bool) {
	response := of == config.OfResponse
	switch name {
	case "source":
		return "%[src]", true, true
	case "source_port":
		return "%[src_port]", true, true
	case "scheme":
		return "%[ssl_fc,iif(https,http)]", true, true
	case "host":
		if response {
			return "%[var(" + s.keep(&s.keepHost, "req.hdr(host)") + ")]", true, true
		}
		return "%[req.hdr(host)]", true, true
	case "path":
		if response {
			return "%[var(" + s.keep(&s.keepPath, "path") + ")]", true, true
		}
		return "%[path]", true, true
	case "frontend":
		if s.inFrontend {
			return format(s.own), true, true
		}
		return "%f", true, true
	case "backend":
		if !s.inFrontend {
			return format(s.own), true, true
		}
		return "%b", true, response
	case "server":
		return "%s", true, response
	}
	return "", false, true
}

// keep notes a part of the request in a variable for the response, once.
func (s *scope) keep(variable *string, fetch string) string {
	if *variable == "" {
		*variable = s.e.variable("kept")
		s.e.out.add("http-request", "set-var("+*variable+")", fetch)
	}
	return *variable
}

func (s *scope) replaceHeader(o *object, h *config.ReplaceHeader, holds tree) {
	converter, ok := substitution(o, "replace_header", h.Find, h.With)
	switch {
	case !ok:
		return
	case h.Field == "":
		o.leftOut("replace_header.field", text.M("the field isn't named"))
		return
	}
	o.approximated("replace_header", text.M("of several fields of the name, HAProxy keeps the last alone"))
	if h.Of != config.OfResponse {
		fetch := "req.fhdr(" + argument(h.Field) + ")"
		there := leafTree(literal{words: []string{"{", fetch, "-m", "found", "}"}})
		s.request([]string{"set-header", h.Field, "%[" + fetch + "," + converter + "]"}, holds.and(there))
		return
	}
	fetch := "res.fhdr(" + argument(h.Field) + ")"
	line := []string{"http-response", "set-header", h.Field, "%[" + fetch + "," + converter + "]", "if", "{", fetch, "-m", "found", "}"}
	note := s.noteText
	if !holds.isTrue() {
		held := s.e.variable("held")
		s.request([]string{"set-var(" + held + ")", "bool(true)"}, holds)
		line = isSet(held).append(line)
	}
	s.noteText = note
	s.later(&s.response, line)
}

// substitution is HAProxy's converter that replaces every match.
func substitution(o *object, field, find, with string) (converter string, ok bool) {
	perl, ok := perlRegex(find)
	if !ok {
		o.leftOut(field+".find", text.M("HAProxy's regular expressions can't say this one, so that the rule is left out"))
		return "", false
	}
	tree, err := syntax.Parse(find, syntax.Perl)
	if err != nil {
		return "", false // perlRegex has read it
	}
	there, ok := backReferences(with, tree.CapNames())
	if !ok {
		o.leftOut(field+".with", text.M("HAProxy knows nine groups, so that the rule is left out"))
		return "", false
	}
	return "regsub(" + argument(perl) + "," + argument(there) + ",g)", true
}
