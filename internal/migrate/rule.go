package migrate

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// rules writes a scope's rules in their order.
//
// HAProxy asks use_backend and use_server after all http-request rules. Where one
// of ours stands before a rule of another kind, it only notes its choice in a
// variable, and rules behind it hold while there is none. Edits of a response are
// decided at the request, when the document's rules are walked, and noted in a
// variable too.
func (s *scope) rules(rules []config.Rule) {
	switched := false
	for i := range rules {
		r := &rules[i]
		if r.Disabled {
			continue
		}
		switches := r.UseBackend != "" || r.UseServer != ""
		if switched && !switches {
			s.chosen = s.e.variable("chosen")
			break
		}
		switched = switched || switches
	}
	s.keepForResponses(rules)
	for i := range rules {
		s.rule(&rules[i], i)
	}
	if s.chosen != "" {
		s.later(&s.last, append([]string{s.keyword(), "%[var(" + s.chosen + ")]"}, s.e.condition(leafTree(isSet(s.chosen)))...))
	}
}

// deferred is a line that stands behind all http-request lines, with the name of
// its rule.
type deferred struct {
	note  string
	words []string
}

func (s *scope) later(list *[]deferred, words []string) {
	*list = append(*list, deferred{s.noteText, words})
	s.noteText = ""
}

// finish writes what stands behind all http-request lines.
func (s *scope) finish() {
	for _, d := range slices.Concat(s.response, s.last) {
		s.e.out.note(d.note)
		s.e.out.add(d.words...)
	}
}

// tell writes the name of the present rule before its first line.
func (s *scope) tell() {
	s.e.out.note(s.noteText)
	s.noteText = ""
}

// keepForResponses notes what edits of the response say of the request, before
// any rule changes it.
func (s *scope) keepForResponses(rules []config.Rule) {
	for i := range rules {
		for _, h := range []*config.SetHeader{rules[i].SetHeader, rules[i].AddHeader} {
			if h == nil || h.Of != config.OfResponse || rules[i].Disabled {
				continue
			}
			if strings.Contains(h.Value, "{host}") {
				s.keep(&s.keepHost, "req.hdr(host)")
			}
			if strings.Contains(h.Value, "{path}") {
				s.keep(&s.keepPath, "path")
			}
		}
	}
}

// keyword is what sends a request somewhere.
func (s *scope) keyword() string {
	if s.inFrontend {
		return "use_backend"
	}
	return "use-server"
}

func (s *scope) rule(r *config.Rule, index int) {
	o := s.e.report.object(place(s.path+".rules", r.Name, index))
	defer o.done()
	if r.Disabled {
		s.e.out.note("rule " + r.Name + " is disabled")
		return
	}
	holds, ok := s.when(o, r)
	if !ok {
		return
	}
	if s.chosen != "" && s.switched {
		holds = holds.and(leafTree(isSet(s.chosen).not()))
	}
	s.noteText = "rule " + r.Name + describe(r.Description)
	defer func() { s.noteText = "" }()
	switch {
	case r.UseBackend != "":
		name, known := s.e.backends[r.UseBackend]
		s.choose(o, "use_backend", name, known && s.inFrontend, holds)
	case r.UseServer != "":
		name, known := s.servers[r.UseServer]
		s.choose(o, "use_server", name, known && !s.inFrontend, holds)
	case r.Redirect != nil:
		s.redirect(o, r, holds)
	case r.Deny != nil:
		s.request(append([]string{"deny"}, s.refusal(r.Deny.Status)...), holds)
		if r.Deny.Delay > 0 {
			o.leftOut("deny.delay", text.M("a refusal waits for nothing, there as here"))
		}
	case r.Tarpit != nil:
		s.request(append([]string{"tarpit"}, s.refusal(r.Tarpit.Status)...), holds)
		s.tarpitDelay(o, r)
	case r.Authenticate != nil:
		s.authenticate(o, r, holds)
	default:
		s.edit(o, r, holds)
	}
}

func describe(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// when is a rule's condition; false = it asks what could not be said, and the rule
// is left out.
func (s *scope) when(o *object, r *config.Rule) (tree, bool) {
	if r.When == "" {
		return tree{}, true
	}
	c, err := config.ParseCondition(r.When)
	if err != nil {
		o.leftOut("when", text.M("the condition can't be read, so that the rule is left out"))
		return tree{}, false
	}
	missing := ""
	t, ok := treeOf(c, func(name string) (tree, bool) {
		t, known := s.acls[name]
		if !known {
			missing = name
		}
		return t, known
	})
	if !ok {
		o.leftOut("", text.M("it asks {name}, which could not be said", "name", missing))
	}
	return t, ok
}

// request writes an http-request line.
func (s *scope) request(words []string, holds tree) {
	s.tell()
	condition := s.e.condition(holds) // may write lines of its own, before
	s.e.out.add(slices.Concat([]string{"http-request"}, words, condition)...)
}

// choose sends a request to a backend or server, at once or, where rules of other
// kinds follow, at the end.
func (s *scope) choose(o *object, field, name string, known bool, holds tree) {
	switch {
	case !known:
		o.leftOut(field, text.M("there is no such {kind} in HAProxy's configuration", "kind", strings.TrimPrefix(field, "use_")))
	case s.chosen != "":
		s.request([]string{"set-var(" + s.chosen + ")", "str(" + argument(name) + ")"}, holds)
		s.switched = true
	default:
		condition := s.e.condition(holds)
		if condition == nil && !s.inFrontend { // use-server takes no line without a condition
			condition = []string{"if", "{", "always_true", "}"}
		}
		s.later(&s.last, append([]string{s.keyword(), name}, condition...))
	}
}

// ownStatuses are those for which HAProxy has answers that error pages can replace.
var ownStatuses = []int{400, 401, 403, 404, 405, 407, 408, 410, 413, 425, 429, 500, 501, 502, 503, 504}

// refusal is what follows deny and tarpit.
func (s *scope) refusal(status int) []string {
	if slices.Contains(ownStatuses, status) {
		return []string{"deny_status", strconv.Itoa(status)}
	}
	status = min(max(status, 200), 599)
	words := []string{"status", strconv.Itoa(status), "content-type"}
	for _, use := range s.pages {
		if slices.Contains(use.Codes, status) {
			if file, kind, ok := s.e.errorPage(nil, use.Page, status); ok {
				return append(words, kind, "file", file)
			}
		}
	}
	return append(words, "text/plain", "string", strconv.Itoa(status)+" "+http.StatusText(status)+"\n")
}

// tarpitDelay reports a delay that isn't the frontend's longest: HAProxy has one
// for all.
func (s *scope) tarpitDelay(o *object, r *config.Rule) {
	switch longest := s.tarpit; {
	case r.Tarpit.Delay != longest:
		o.approximated("tarpit.delay", text.M("HAProxy has one delay for all: {delay}", "delay", longest))
	case longest == 0:
		o.approximated("tarpit.delay", text.M("HAProxy waits a millisecond at least"))
	}
}

// redirect writes where a redirect leads as a location: SCHEME://HOST PREFIX PATH.
func (s *scope) redirect(o *object, r *config.Rule, holds tree) {
	to := r.Redirect
	code := to.Code
	if !slices.Contains([]int{301, 302, 303, 307, 308}, code) {
		o.approximated("redirect.code", text.M("HAProxy does not know {code}, and sends 302", "code", code))
		code = 302
	}
	line := func(location string, holds tree) {
		s.request([]string{"redirect", "code", strconv.Itoa(code), "location", location}, holds)
	}
	behind := "%[pathq]"
	prefix := to.Prefix
	if prefix == "/" {
		prefix = ""
	}
	switch {
	case to.Path != "":
		behind = format(encoded(to.Path))
	case to.DropQuery:
		behind = format(encoded(prefix)) + "%[path]"
	default:
		behind = format(encoded(prefix)) + behind
	}
	scheme := "%[ssl_fc,iif(https,http)]"
	if to.Scheme != "" {
		scheme = format(to.Scheme)
	}
	host := to.Host
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	const asked, askedName = "%[req.hdr(host)]", "%[req.hdr(host),host_only]"
	switch {
	case host != "":
		line(scheme+"://"+format(host)+behind, holds)
	case to.Scheme == "" && to.Path+prefix != "":
		line(behind, holds)
	case to.Scheme == "":
		// A path that begins with two slashes would lead to another host.
		line(scheme+"://"+asked+behind, holds)
	default:
		// The port of another scheme is of no use; that of the same one is kept.
		same := leafTree(literal{words: []string{"{", "ssl_fc", "}"}, negated: to.Scheme == "http"})
		if s.possible(r, to.Scheme == "https") {
			line(scheme+"://"+asked+behind, holds.and(same))
			holds = holds.and(same.not())
		}
		line(scheme+"://"+askedName+behind, holds)
	}
}

// possible reports whether a rule can hold for a client with TLS, or without. It
// looks at what the condition says of is_tls itself, as an operand of its outermost
// and.
func (s *scope) possible(r *config.Rule, tls bool) bool {
	if tls && !s.encrypted {
		return false
	}
	c, err := config.ParseCondition(r.When)
	if r.When == "" || err != nil {
		return true
	}
	operands := []*config.Condition{c}
	if c.Op == config.ConditionAnd {
		operands = c.Of
	}
	return !slices.ContainsFunc(operands, func(c *config.Condition) bool {
		if c.Op == config.ConditionNot {
			return tls && c.Of[0].Op == config.ConditionName && c.Of[0].Name == "is_tls"
		}
		return !tls && c.Op == config.ConditionName && c.Name == "is_tls"
	})
}

// encoded percent-encodes what can't stand in a URL.
func encoded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"#<>\`, c) >= 0 {
			b.WriteString("%" + strings.ToUpper(hexByte(c)))
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// neverPassword is a hash of no password: it stands in place of one that isn't
// known, so that nobody passes.
const neverPassword = "$6$sluis$!"

func (s *scope) authenticate(o *object, r *config.Rule, holds tree) {
	a := r.Authenticate
	list := s.e.proxyNames.take("sluis_users_" + s.own + "_" + r.Name)
	u := s.e.userlists
	u.open("userlist", list)
	var seen []string
	for i, user := range a.Users {
		path := place("authenticate.users", user.Name, i)
		password, known := s.e.secret(user.Password)
		switch {
		case user.Name == "" || slices.Contains(seen, user.Name) || strings.ContainsAny(user.Name, ":"):
			o.leftOut(path, text.M("HAProxy does not take a visitor of this name"))
			continue
		case !known:
			o.approximated(path+".password", text.M("the password isn't known here: nobody passes until it stands in userlist {name}", "name", list))
			u.note("add the password: user NAME insecure-password PASSWORD")
			u.add("user", user.Name, "password", neverPassword)
		default:
			u.add("user", user.Name, "insecure-password", password)
		}
		seen = append(seen, user.Name)
	}
	realm := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '"' || r == '\\' {
			return '\''
		}
		return r
	}, a.Realm)
	if realm != a.Realm {
		o.approximated("authenticate.realm", text.M("HAProxy can't quote it, and shows {realm}", "realm", realm))
	}
	passes := leafTree(literal{words: []string{"{", "http_auth(" + list + ")", "}"}, negated: true})
	words := []string{"auth"}
	if realm != "" {
		words = append(words, "realm", realm)
	}
	s.request(words, holds.and(passes))
}
