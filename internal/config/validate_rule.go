package config

import (
	"net/netip"
	"slices"
	"strings"

	"sluis/internal/text"
)

// scope is where rules and ACLs stand: a frontend or a backend.
type scope struct {
	frontend *Frontend // nil in a backend
	backend  *Backend  // nil in a frontend
	acls     []ACL
	rules    []Rule
}

func (s scope) isHTTP() bool {
	if s.frontend != nil {
		return s.frontend.Type == FrontendHTTP
	}
	return s.backend.Type == BackendHTTP
}

// kind names the type of the frontend or backend for messages.
func (s scope) kind() string {
	if s.frontend != nil {
		return string(s.frontend.Type)
	}
	return string(s.backend.Type)
}

func (c *checker) rules(path string, s scope) {
	each(path+".acls", s.acls, func(aclPath string, a *ACL) {
		c.acl(aclPath, s, a)
		if !c.used[aclPath] && a.Name != "" {
			c.hint(aclPath, text.M("no condition asks this ACL"))
		}
	})
	last := ""
	each(path+".rules", s.rules, func(path string, r *Rule) {
		c.rule(path, s, r)
		switch {
		case r.Disabled:
		case last != "":
			c.warn(path, text.M("no request comes as far as this rule: {other} decides all of them", "other", last)).
				Do(text.M("move it up, or give {other} a condition", "other", last))
		case r.When == "" && decidesAlways(r):
			last = path
		}
	})
}

// action is one thing that a rule may do.
type action struct {
	name    string
	set     bool
	decides bool // no later rule is asked
	tcp     bool // has a meaning without HTTP
}

func actions(r *Rule) []action {
	return []action{
		{"use_backend", r.UseBackend != "", true, true},
		{"use_server", r.UseServer != "", true, true},
		{"redirect", r.Redirect != nil, true, false},
		{"deny", r.Deny != nil, true, true},
		{"tarpit", r.Tarpit != nil, true, false},
		{"authenticate", r.Authenticate != nil, false, false},
		{"set_header", r.SetHeader != nil, false, false},
		{"add_header", r.AddHeader != nil, false, false},
		{"remove_header", r.RemoveHeader != nil, false, false},
		{"replace_header", r.ReplaceHeader != nil, false, false},
		{"set_path", r.SetPath != "", false, false},
		{"replace_path", r.ReplacePath != nil, false, false},
		{"set_query", r.SetQuery != "", false, false},
		{"set_method", r.SetMethod != "", false, false},
	}
}

// decidesAlways reports whether no rule behind this one is asked once its
// condition holds.
func decidesAlways(r *Rule) bool {
	return slices.ContainsFunc(actions(r), func(a action) bool { return a.set && a.decides })
}

func (c *checker) rule(path string, s scope, r *Rule) {
	var set []action
	for _, a := range actions(r) {
		if a.set {
			set = append(set, a)
		}
	}
	switch len(set) {
	case 0:
		c.add(path, text.M("the rule does nothing: it has no action")).
			Do(text.M("give it one action, such as use_backend, redirect or deny"))
	case 1:
		c.action(path+"."+set[0].name, s, r, set[0])
	default:
		names := make([]string, len(set))
		for i, a := range set {
			names[i] = a.name
		}
		c.add(path, text.M("a rule has one action, this one has {count}: {names}", "count", len(set), "names", strings.Join(names, ", "))).
			Do(text.M("make one rule of each"))
	}
	c.conditionFits(path, s, r)
}

func (c *checker) action(path string, s scope, r *Rule, a action) {
	switch {
	case a.name == "use_server" && s.frontend != nil:
		c.add(path, text.M("a frontend chooses a backend, not a server")).Do(text.M("use use_backend here, or move the rule to the backend"))
	case a.name == "use_backend" && s.backend != nil:
		c.add(path, text.M("a backend can't send requests to another one")).Do(text.M("move the rule to the frontend"))
	case !a.tcp && !s.isHTTP():
		c.add(path, text.M("{action} needs HTTP, and the type here is {type}", "action", a.name, "type", s.kind()))
	case r.Redirect != nil:
		c.redirect(path, s, r)
	case r.Authenticate != nil && !s.encrypted():
		c.warn(path, text.M("names and passwords travel in clear text: not every way to this rule has TLS"))
	}
	for _, h := range []*SetHeader{r.SetHeader, r.AddHeader} {
		if h != nil {
			c.ownField(path+".field", h.Field)
			c.placeholders(path+".value", h.Value)
		}
	}
	if r.RemoveHeader != nil {
		c.ownField(path+".field", r.RemoveHeader.Field)
	}
	if r.ReplaceHeader != nil {
		c.ownField(path+".field", r.ReplaceHeader.Field)
	}
}

// encrypted reports whether all of a frontend's binds have TLS. Of a backend
// nothing is said here.
func (s scope) encrypted() bool {
	return s.frontend == nil || !slices.ContainsFunc(s.frontend.Binds, func(b Bind) bool { return !b.TLS })
}

// ownField refuses header fields that belong to one connection or frame the
// message (RFC 9110 7.6.1, RFC 9112 6): Sluis writes them itself.
func (c *checker) ownField(path, field string) {
	own := []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
	if slices.Contains(own, strings.ToLower(field)) {
		c.add(path, text.M("{field} says how a message travels: Sluis writes it itself", "field", field))
	}
}

// placeholders warns of a word in braces that looks like a placeholder and is none.
func (c *checker) placeholders(path, value string) {
	known := []string{"source", "source_port", "host", "path", "scheme", "frontend", "backend", "server"}
	for rest := value; ; {
		_, after, open := strings.Cut(rest, "{")
		word, behind, closed := strings.Cut(after, "}")
		if !open || !closed {
			return
		}
		rest = behind
		isWord := word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") == ""
		if isWord && !slices.Contains(known, word) {
			c.warn(path, text.M("{word} stands for nothing and is sent as it is", "word", "{"+word+"}")).Near(word, known)
		}
	}
}

func (c *checker) redirect(path string, s scope, r *Rule) {
	to := r.Redirect
	switch {
	case to.Scheme == "" && to.Host == "" && to.Path == "" && to.Prefix == "" && !to.DropQuery:
		c.add(path, text.M("the redirect leads to where the request came from")).Do(text.M("set scheme, host, path or prefix"))
		return
	case to.Path != "" && to.Prefix != "":
		c.add(path+".prefix", text.M("path replaces the path, prefix keeps it: they exclude each other"))
	case to.Code >= 304 && to.Code <= 306:
		c.add(path+".code", text.M("{code} is no redirect: 301, 302, 303, 307 or 308 is expected", "code", to.Code))
	}
	if s.frontend == nil || r.Disabled || to.Host != "" {
		return
	}
	for _, b := range s.frontend.Binds {
		if holdsAlways(r, b.TLS) && (to.Scheme == "" || (to.Scheme == "https") == b.TLS) {
			c.warn(path, text.M("clients that come to {bind} are led in a circle: the redirect holds for the place it leads to", "bind", b.Name)).
				Do(text.M("give the rule a condition, such as not is_tls"))
			return
		}
	}
}

// holdsAlways reports whether a rule's condition holds for every request that
// comes with TLS, or without.
func holdsAlways(r *Rule, tls bool) bool {
	if r.When == "" {
		return true
	}
	condition, err := ParseCondition(r.When)
	if err != nil {
		return false
	}
	for _, name := range condition.Names() {
		if name != "is_tls" {
			return false
		}
	}
	return condition.Eval(func(string) bool { return tls })
}

// conditionFits checks the built-in names that a condition asks.
func (c *checker) conditionFits(path string, s scope, r *Rule) {
	if s.isHTTP() {
		return
	}
	for _, t := range conditionNames(r.When) {
		if t.text == "is_websocket" || t.text == "is_http2" {
			c.add(path+".when", text.M("{action} needs HTTP, and the type here is {type}", "action", t.text, "type", s.kind()))
			return
		}
	}
}

// aclTexts are the fields that hold texts to compare with.
var aclTexts = []string{"is", "starts", "ends", "contains", "regex"}

// aclFields says which fields of an ACL each match takes.
func aclFields(m ACLMatch) (takes []string) {
	switch m {
	case MatchSource:
		return []string{"in"}
	case MatchUsableServers:
		return []string{"backend", "at_least"}
	case MatchHost:
		return append([]string{"any_port"}, aclTexts...)
	case MatchPath:
		return append([]string{"segments"}, aclTexts...)
	case MatchHeader, MatchCookie, MatchQueryParameter:
		return append([]string{"field", "present"}, aclTexts...)
	}
	return aclTexts
}

// aclValue is one field of an ACL beside its match and case.
type aclValue struct {
	name   string
	set    bool
	values bool // it says what holds; the others say more about it
}

func aclValues(a *ACL) []aclValue {
	return []aclValue{
		{"field", a.Field != "", false},
		{"is", len(a.Is) > 0, true},
		{"starts", len(a.Starts) > 0, true},
		{"ends", len(a.Ends) > 0, true},
		{"contains", len(a.Contains) > 0, true},
		{"segments", len(a.Segments) > 0, true},
		{"regex", len(a.Regex) > 0, true},
		{"in", len(a.In) > 0, true},
		{"present", a.Present, true},
		{"backend", a.Backend != "", false},
		{"at_least", a.AtLeast != 0, true},
		{"any_port", a.AnyPort, false},
	}
}

func (c *checker) acl(path string, s scope, a *ACL) {
	takes := aclFields(a.Match)
	asks, fits := false, true
	for _, v := range aclValues(a) {
		if v.set && !slices.Contains(takes, v.name) {
			c.add(path+"."+v.name, text.M("{field} can't be asked of {match}", "field", v.name, "match", a.Match)).
				Do(text.M("with {match} go: {fields}", "match", a.Match, "fields", strings.Join(takes, ", ")))
			fits = false
		}
		asks = asks || v.set && v.values
	}
	if slices.Contains(takes, "field") && a.Field == "" {
		c.add(path+".field", text.M("whose value is asked isn't said")).Do(text.M("name the {match}", "match", a.Match))
	}
	if a.Match == MatchUsableServers && a.Backend == "" {
		c.add(path+".backend", text.M("the backend whose servers are counted isn't said"))
	}
	if !asks && fits {
		c.add(path, text.M("the ACL holds for nothing: it has no value")).
			Do(text.M("with {match} go: {fields}", "match", a.Match, "fields", strings.Join(takes, ", ")))
	}
	c.aclMode(path, s, a)
	switch a.Match {
	case MatchHost:
		c.hostACL(path, a)
	case MatchPath:
		c.pathACL(path, a)
	case MatchMethod:
		each(path+".is", a.Is, func(path string, method *string) {
			if upper := strings.ToUpper(*method); a.CaseSensitive && upper != *method {
				c.warn(path, text.M("methods are told apart by case")).Do(text.M("write {value}", "value", upper))
			}
		})
	case MatchHeader:
		if strings.EqualFold(a.Field, "host") {
			c.hint(path+".field", text.M("match {match} asks the Host field and knows about ports", "match", MatchHost))
		}
	}
}

// aclMode refuses what the frontend's or backend's type can't see. An ACL that is
// left out without a word would turn "not office" into "always".
func (c *checker) aclMode(path string, s scope, a *ACL) {
	fits := slices.Contains([]ACLMatch{MatchSource, MatchUsableServers, MatchSNI, MatchClientCertificate, MatchClientIssuer}, a.Match)
	if !s.isHTTP() && !fits {
		c.add(path+".match", text.M("{action} needs HTTP, and the type here is {type}", "action", a.Match, "type", s.kind()))
		return
	}
	if s.frontend == nil {
		return
	}
	f := s.frontend
	switch a.Match {
	case MatchSNI:
		if f.Type != FrontendTLSPassthrough && !hasTLSBind(f) {
			c.warn(path+".match", text.M("this never holds: no bind of the frontend has tls set"))
		}
	case MatchClientCertificate, MatchClientIssuer:
		if f.TLS == nil || f.TLS.ClientCertificates == nil {
			c.warn(path+".match", text.M("this never holds: the frontend asks for no client certificates"))
		}
	}
}

func (c *checker) hostACL(path string, a *ACL) {
	if len(a.Starts) > 0 {
		c.hint(path+".starts", text.M("this holds for {value} too", "value", shown(a.Starts[0]+".evil.example"))).
			Do(text.M("use is and any_port: the whole name, whatever the port"))
	}
	each(path+".is", a.Is, func(path string, host *string) {
		switch name, found := strings.CutPrefix(*host, "*."); {
		case *host == "":
		case found:
			c.add(path, text.M("is compares the whole name, a star has no meaning in it")).Do(text.M("use ends with {value}", "value", "."+name))
		case !checkHostPort(*host).none():
			c.complain(path, checkHostPort(*host))
		case a.AnyPort && !checkHost(*host).none() && !isAddress(*host):
			c.warn(path, text.M("this never holds: any_port takes the port away before it compares")).Do(text.M("write the name alone"))
		}
	})
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func (c *checker) pathACL(path string, a *ACL) {
	for _, field := range []struct {
		name   string
		values []string
	}{{"is", a.Is}, {"starts", a.Starts}} {
		each(path+"."+field.name, field.values, func(path string, value *string) {
			if *value != "" && (*value)[0] != '/' && (*value)[0] != '*' {
				c.warn(path, text.M("this never holds: a path begins with a slash")).Do(text.M("write {value}", "value", shown("/"+*value)))
			}
		})
	}
	each(path+".segments", a.Segments, func(path string, value *string) {
		if strings.Contains(*value, "/") {
			c.add(path, text.M("a segment stands between two slashes and holds none")).Do(text.M("use contains for a part of the path"))
		}
	})
	for _, field := range []struct {
		name   string
		values []string
	}{{"is", a.Is}, {"starts", a.Starts}, {"ends", a.Ends}, {"contains", a.Contains}} {
		each(path+"."+field.name, field.values, func(path string, value *string) {
			if strings.Contains(*value, "?") {
				c.warn(path, text.M("this never holds: the query is no part of the path")).Do(text.M("use an ACL with match {match}", "match", MatchQueryParameter))
			}
		})
	}
}
