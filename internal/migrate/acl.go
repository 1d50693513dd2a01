package migrate

import (
	"slices"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// scope is a frontend or backend on its way: its ACLs and what its rules need.
type scope struct {
	e     *exporter
	path  string
	names names
	// acls are the trees that names in conditions stand for; a name that is not here
	// could not be said.
	acls map[string]tree
	// inFrontend tells the two kinds apart.
	inFrontend bool
	// servers are the names of a backend's servers there, by those of the document.
	servers map[string]string
	// own is the name of the frontend or backend in the document.
	own string
	// pages are the error pages, for answers of rules.
	pages []config.ErrorPageUse
	// tarpit is the longest delay of a rule.
	tarpit config.Duration
	// encrypted reports whether a client can come over TLS at all.
	encrypted bool

	// The rest is of the rules: see rule.go.
	chosen   string // the variable of the backend or server that was chosen; empty = not needed
	switched bool   // a rule has set it
	noteText string // the name of the rule whose lines are being written; empty = is written
	last     []deferred
	response []deferred
	keepHost string // variables of what responses need of the request
	keepPath string
}

// patternsPerLine is how many values stand on a line of an ACL.
const patternsPerLine = 40

// define writes all ACLs of a scope and those that its conditions use without
// defining them.
func (s *scope) define(acls []config.ACL, rules []config.Rule) {
	s.acls = map[string]tree{}
	for i := range acls {
		a := &acls[i]
		o := s.e.report.object(place(s.path+".acls", a.Name, i))
		name := s.names.take(a.Name)
		called(o, a.Name, name)
		s.e.out.note(a.Description)
		if s.acl(o, name, a) {
			if _, twice := s.acls[a.Name]; !twice {
				s.acls[a.Name] = leafTree(named(name))
			}
		}
		o.done()
	}
	for i := range rules {
		if c, err := config.ParseCondition(rules[i].When); rules[i].When != "" && err == nil {
			for _, name := range c.Names() {
				s.builtin(name)
			}
		}
	}
}

// builtin defines one of the names that need no ACL, where it is used.
func (s *scope) builtin(name string) {
	_, isBuiltin := config.BuiltinACLs()[name]
	if _, known := s.acls[name]; known || !isBuiltin {
		return
	}
	define := func(name string, words ...string) tree {
		there := s.names.take(name)
		s.e.out.add(append([]string{"acl", there}, words...)...)
		return leafTree(named(there))
	}
	switch name {
	case "is_tls":
		s.acls[name] = define(name, "ssl_fc")
	case "is_http2":
		s.acls[name] = define(name, "fc_http_major", "2")
	case "is_websocket":
		s.acls[name] = allOf(
			define("is_websocket_upgrade", "req.hdr(Upgrade)", "-m", "str", "-i", "websocket"),
			define("is_websocket_connection", "req.hdr(Connection)", "-m", "str", "-i", "upgrade"),
		)
	}
}

// acl writes one ACL; false = it can't be said, and rules that ask it neither.
func (s *scope) acl(o *object, name string, a *config.ACL) bool {
	w := aclWriter{scope: s, o: o, name: name, acl: a, fold: !a.CaseSensitive || a.Match == config.MatchHost}
	switch a.Match {
	case config.MatchSource:
		w.source()
	case config.MatchUsableServers:
		return w.usableServers()
	case config.MatchHost:
		w.host()
	case config.MatchPath:
		w.texts("path")
		w.values("path", "dir", a.Segments)
	case config.MatchHeader:
		return w.header()
	case config.MatchCookie:
		w.present("req.cook(" + argument(a.Field) + ")")
		w.texts("req.cook(" + argument(a.Field) + ")")
	case config.MatchQueryParameter:
		fetch := "urlp(" + argument(a.Field) + ")"
		w.present(fetch)
		w.texts(fetch)
		o.approximated("match", text.M("HAProxy looks at a parameter's first occurrence alone"))
	case config.MatchMethod:
		w.texts("method")
	case config.MatchSNI:
		w.texts("ssl_fc_sni")
	case config.MatchClientCertificate:
		w.texts("ssl_c_s_dn(CN)")
	case config.MatchClientIssuer:
		w.texts("ssl_c_i_dn(CN)")
	default:
		o.leftOut("match", text.M("HAProxy has no such question"))
		return false
	}
	if !w.failed && !w.written {
		s.e.out.add("acl", name, "always_false") // no value: it holds for nothing
	}
	return !w.failed
}

// aclWriter writes the lines of one ACL: it holds when one of them does.
type aclWriter struct {
	*scope
	o       *object
	name    string
	acl     *config.ACL
	fold    bool
	written bool
	failed  bool
}

// values writes lines for one way of comparing.
func (w *aclWriter) values(fetch, match string, values []string) {
	for chunk := range slices.Chunk(values, patternsPerLine) {
		words := []string{"acl", w.name, fetch, "-m", match}
		if w.fold && match != "ip" {
			words = append(words, "-i")
		}
		w.e.out.add(append(append(words, "--"), chunk...)...)
		w.written = true
	}
}

// texts writes all the ways to compare a text.
func (w *aclWriter) texts(fetch string) {
	w.values(fetch, "str", w.acl.Is)
	w.values(fetch, "beg", w.acl.Starts)
	w.values(fetch, "end", w.acl.Ends)
	w.values(fetch, "sub", w.acl.Contains)
	w.regexes(fetch)
}

func (w *aclWriter) regexes(fetch string) {
	var perl []string
	for i, expression := range w.acl.Regex {
		p, ok := perlRegex(expression)
		if !ok {
			w.failed = true
			w.o.leftOut("regex["+strconv.Itoa(i)+"]", text.M("HAProxy's regular expressions can't say this one, so that the ACL and rules that ask it are left out"))
			continue
		}
		perl = append(perl, p)
	}
	w.values(fetch, "reg", perl)
}

func (w *aclWriter) present(fetch string) {
	if w.acl.Present {
		w.e.out.add("acl", w.name, fetch, "-m", "found")
		w.written = true
	}
}

// host compares the Host field. A dot may end a name, and means nothing: values
// that reach the end stand there with and without it.
func (w *aclWriter) host() {
	fetch := "req.hdr(host)"
	if w.acl.AnyPort {
		fetch = "req.hdr(host),host_only"
	}
	w.values(fetch, "str", dotted(w.acl.Is))
	w.values(fetch, "beg", w.acl.Starts)
	w.values(fetch, "end", dotted(w.acl.Ends))
	w.values(fetch, "sub", w.acl.Contains)
	w.regexes(fetch)
	if len(w.acl.Regex) > 0 {
		w.o.approximated("regex", text.M("HAProxy keeps a dot at the end of the host name"))
	}
}

// dotted adds to each host its spelling with a dot at the end.
func dotted(hosts []string) []string {
	var out []string
	for _, h := range hosts {
		h = strings.TrimSuffix(h, ".")
		name, port, hasPort := strings.Cut(h, ":")
		switch {
		case strings.HasPrefix(h, "["):
			out = append(out, h)
		case strings.Count(h, ":") > 1: // an IPv6 address stands in brackets in a request
			out = append(out, "["+h+"]")
		case hasPort:
			out = append(out, h, name+".:"+port)
		default:
			out = append(out, h, h+".")
		}
	}
	return out
}

// header compares the members of a field's list, and where a value could reach
// over a comma the field as a whole.
func (w *aclWriter) header() bool {
	name := argument(w.acl.Field)
	if w.acl.Field == "" {
		w.o.leftOut("field", text.M("the field isn't named"))
		return false
	}
	w.present("req.fhdr(" + name + ")")
	w.texts("req.hdr(" + name + ")")
	whole := func(values []string) []string {
		return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !strings.Contains(v, ",") })
	}
	fetch := "req.fhdr(" + name + ")"
	w.values(fetch, "str", whole(w.acl.Is))
	w.values(fetch, "beg", whole(w.acl.Starts))
	w.values(fetch, "end", whole(w.acl.Ends))
	w.values(fetch, "sub", whole(w.acl.Contains))
	if !w.failed {
		w.regexes(fetch)
	}
	return !w.failed
}

func (w *aclWriter) source() {
	prefixes, unresolved := config.Networks(w.e.doc, w.acl.In)
	var values []string
	for _, p := range prefixes {
		if p.IsValid() {
			values = append(values, p.String())
		}
	}
	w.values("src", "ip", values)
	if len(unresolved) > 0 {
		w.o.approximated("in", text.M("host names are left out of it: {names}", "names", strings.Join(unresolved, ", ")))
	}
}

func (w *aclWriter) usableServers() bool {
	backend, known := w.e.backends[w.acl.Backend]
	if !known {
		w.o.leftOut("backend", text.M("there is no backend {name} in HAProxy's configuration", "name", w.acl.Backend))
		return false
	}
	w.e.out.add("acl", w.name, "nbsrv("+backend+")", "ge", count(w.acl.AtLeast, 0))
	return true
}
