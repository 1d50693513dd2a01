// Package migrate translates the load balancer's part of a document into other
// programs' configuration: at present into HAProxy's (2.6, Debian 12).
//
// It owns the translation and the report of what it could not say. It promises:
//   - HAProxy accepts what comes out, once the private keys are added that Key did
//     not give; whatever it would not accept is left out and reported.
//   - Nothing that stands in a document becomes a directive, a sample expression or
//     a variable: each text is quoted for the place where it stands.
//   - Rules are walked in the same order with the same outcome. Where HAProxy's own
//     order is another one (use_backend and use_server come last there), variables
//     keep ours.
//   - Each object of the document has a line in the report: exact, or what differs,
//     or why it was left out. A rule that protects is never weakened silently.
//
// It does not promise that two load balancers do the same with the last byte: what
// HAProxy answers itself has its own words, and hashes fall on other servers. Parts
// of the document other than load_balancer, frontends, backends and what they refer
// to are not looked at.
//
// It does no I/O and looks at no clock; two equal documents give equal texts.
//
// Read quote.go (why nothing gets out of its word), section.go, frontend.go,
// acl.go, condition.go, rule.go, edit.go, backend.go, check.go, files.go, regex.go.
package migrate

import (
	"bytes"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// HAProxyOptions are what the document does not say.
type HAProxyOptions struct {
	// CertificateDir is where HAProxy finds the Files; empty = /etc/haproxy/sluis.
	CertificateDir string
	// User and Group are what HAProxy becomes after its start; empty = it stays what
	// it was.
	User, Group string
	// Log is where HAProxy logs, its directive's arguments: "/dev/log local0" (which
	// empty means) or "stdout format raw local0". Each blank separates two.
	Log string
	// StatsSocket is the path of HAProxy's control socket; empty = none.
	StatsSocket string
	// Key gives the private key of the certificate of that name as PEM; nil, and what
	// it doesn't know, leave a note where the key must be added.
	Key func(certificate string) (pem []byte, ok bool)
	// Certificate gives a certificate with its chain as PEM that the document only
	// describes (self-signed, internal, ACME); nil knows none.
	Certificate func(name string) (pem []byte, ok bool)
	// Authority gives the certificate of an authority that the document only describes;
	// nil knows none.
	Authority func(name string) (pem []byte, ok bool)
	// Secret gives the value of a secret; nil gives those alone that stand in the
	// document themselves.
	Secret func(config.Secret) (value string, ok bool)
}

// HAProxyConfig is a document in HAProxy's words.
type HAProxyConfig struct {
	// Config is haproxy.cfg.
	Config []byte
	// Files are what it refers to, by their names in CertificateDir: certificates
	// with keys, authorities, revocation lists, error pages, maps. Those with keys
	// are for HAProxy's eyes alone.
	Files map[string][]byte
	// Report has a line for each object, and for each field that is not the same.
	Report []Line
}

// Line is what became of one part of the document.
type Line struct {
	// Path is the part's place: an object, or a field that differs.
	Path string `json:"path"`
	// Outcome says how well it could be said.
	Outcome Outcome `json:"outcome"`
	// Note says what differs or why it is left out; the zero Msg where it is exact.
	Note text.Msg `json:"note"`
}

// Outcome is how well a part of the document could be said.
type Outcome string

// The outcomes.
const (
	Exact        Outcome = "exact"
	Approximated Outcome = "approximated" // something differs
	LeftOut      Outcome = "left out"     // it has no effect there
)

// RenderReport writes the report as text, a line each.
func RenderReport(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s: %s", l.Path, l.Outcome)
		if !l.Note.IsZero() {
			b.WriteString(": " + l.Note.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// HAProxy writes a document for HAProxy. The document is not changed; one that
// Validate finds errors in is translated as far as it makes sense.
func HAProxy(doc *config.Document, o HAProxyOptions) HAProxyConfig {
	if o.CertificateDir == "" {
		o.CertificateDir = "/etc/haproxy/sluis"
	}
	if o.Log == "" {
		o.Log = "/dev/log local0"
	}
	e := &exporter{doc: doc, options: o, files: map[string][]byte{}, bindWords: map[string][]string{}, pages: map[pageUse]string{}, secured: map[string]string{}}
	e.choose()
	e.global()
	e.defaults()
	e.resolvers()
	// Userlists stand before the sections that ask them, and are known after.
	lists := &section{}
	rest := &section{}
	e.out, e.userlists = rest, lists
	for i := range doc.Frontends {
		e.frontend(&doc.Frontends[i], i)
	}
	for i := range doc.Backends {
		e.backend(&doc.Backends[i], i)
	}
	e.stickTables()
	e.stats()
	e.head.text = append(append(e.head.text, lists.text...), rest.text...)
	return HAProxyConfig{Config: e.head.text, Files: e.files, Report: e.report.lines()}
}

// exporter is the state of one translation.
type exporter struct {
	doc     *config.Document
	options HAProxyOptions
	head    section
	out     *section // what is being written
	// userlists are the sections for rules that ask for a password.
	userlists *section
	report    report
	files     map[string][]byte

	// The names in HAProxy of what the document names, by its place in its list.
	frontendNames, backendNames []string
	proxyNames                  names // of sections without a document's name
	backends                    map[string]string
	stickNames                  map[string]string
	usesStick                   map[string]bool

	bindWords map[string][]string // the TLS part of a frontend's binds, by its path
	pages     map[pageUse]string  // the file of an error page
	secured   map[string]string   // the file of a certificate; empty = it can't be used
	variables int                 // variables so far

	// The bounds of a request's head, for all frontends.
	headSize   int64
	headFields int
}

// choose gives each frontend, backend and stick table its name, so that they can
// refer to each other in any order.
func (e *exporter) choose() {
	var frontends, backends names
	for _, f := range e.doc.Frontends {
		e.frontendNames = append(e.frontendNames, frontends.take(f.Name))
	}
	e.backends = map[string]string{}
	for _, b := range e.doc.Backends {
		name := backends.take(b.Name)
		e.backendNames = append(e.backendNames, name)
		if _, twice := e.backends[b.Name]; b.Type == config.BackendHTTP && !twice {
			e.backends[b.Name] = name
		}
	}
	e.proxyNames = frontends.with(backends)
	e.stickNames, e.usesStick = map[string]string{}, map[string]bool{}
	for _, t := range e.doc.StickTables {
		e.stickNames[t.Name] = e.proxyNames.take("table-" + t.Name)
	}
}

func (e *exporter) global() {
	s, lb := &e.head, e.doc.LoadBalancer
	o := e.report.object("load_balancer")
	s.comment("Written by Sluis from its document. HAProxy 2.6 or newer.")
	s.comment("Names that begin with sluis_ keep the order of the document's rules.")
	s.open("global")
	s.add("maxconn", count(lb.MaxConnections, 1))
	if lb.Loops > 0 {
		s.add("nbthread", count(min(lb.Loops, 64), 1))
		if lb.Loops > 64 {
			o.approximated("loops", text.M("HAProxy has at most {count} threads", "count", 64))
		}
	}
	if lb.DrainTimeout > 0 {
		s.add("hard-stop-after", e.milliseconds(o, "drain_timeout", lb.DrainTimeout))
		o.approximated("drain_timeout", text.M("HAProxy ends old connections by time only when it is reloaded or stopped"))
	}
	if e.options.User != "" {
		s.add("user", e.options.User)
	}
	if e.options.Group != "" {
		s.add("group", e.options.Group)
	}
	if e.options.StatsSocket != "" {
		s.add("stats", "socket", e.options.StatsSocket, "mode", "600", "level", "admin")
	}
	e.logTargets()
	e.headSize, e.headFields = e.largestHead()
	if e.headSize > 0 {
		// What is reserved for edits (tune.maxrewrite) comes on top.
		s.add("tune.bufsize", strconv.FormatInt(e.headSize+1024, 10))
		s.add("tune.http.maxhdr", strconv.Itoa(e.headFields))
	}
	if !lb.Enabled {
		s.comment("load_balancer.enabled is off: no frontend listens")
	}
	o.done()
}

// logTargets says where lines go, where a frontend logs at all.
func (e *exporter) logTargets() {
	if !slices.ContainsFunc(e.doc.Frontends, func(f config.Frontend) bool { return f.Log.Enabled }) {
		return
	}
	e.head.add(append([]string{"log"}, strings.Fields(e.options.Log)...)...)
	for i, t := range e.doc.Logging.Targets {
		o := e.report.object(place("logging.targets", t.Name, i))
		server, err := netip.ParseAddrPort(t.Address)
		if a, alone := parseAddress(t.Address); alone {
			server, err = netip.AddrPortFrom(a, 514), nil
		}
		switch {
		case t.Type != config.LogSyslogUDP:
			o.leftOut("type", text.M("HAProxy sends to log servers over UDP alone"))
		case err != nil || server.Addr().Zone() != "" || server.Port() == 0:
			o.leftOut("address", text.M("HAProxy asks for a log server's name once, and does not start where there is no answer"))
		default:
			e.head.add("log", server.String(), "format", "rfc5424", "local0")
		}
		o.done()
	}
}

// largestHead is the bound of a request's head: HAProxy has one for all frontends.
func (e *exporter) largestHead() (size int64, fields int) {
	for _, f := range e.doc.Frontends {
		if f.Type == config.FrontendHTTP {
			size, fields = max(size, int64(f.Limits.HeadSize)), max(fields, f.Limits.HeaderFields)
		}
	}
	if size == 0 {
		return 0, 0
	}
	return min(max(size, leastHead), 1<<20), min(max(fields, 1), 32767)
}

// leastHead is what HAProxy's buffers hold at least: smaller ones it does not like.
const leastHead = 15 << 10

func (e *exporter) defaults() {
	s := &e.head
	s.open("defaults")
	s.add("mode", "http")
	if slices.ContainsFunc(e.doc.Frontends, func(f config.Frontend) bool { return f.Log.Enabled }) {
		s.add("log", "global")
	}
}

// resolvers is the section that asks for servers' names again, where one has a
// name.
func (e *exporter) resolvers() {
	if !slices.ContainsFunc(e.doc.Backends, func(b config.Backend) bool {
		return slices.ContainsFunc(b.Servers, func(s config.Server) bool { return isHostName(s.Address) })
	}) {
		return
	}
	s := &e.head
	s.open("resolvers", resolversName)
	known := 0
	for i, address := range e.doc.System.DNSServers {
		if a, ok := parseAddress(address); ok {
			s.add("nameserver", "dns"+strconv.Itoa(i+1), bindAddress(a, 53))
			known++
		}
	}
	if known == 0 {
		s.add("parse-resolv-conf")
	}
}

const resolversName = "sluis"

// stats is the internal page.
func (e *exporter) stats() {
	st := e.doc.LoadBalancer.Stats
	if st.Port == 0 {
		return
	}
	o := e.report.object("load_balancer.stats")
	s := e.out
	s.open("frontend", e.proxyNames.take("sluis_stats"))
	s.add("bind", "127.0.0.1:"+strconv.Itoa(int(st.Port)))
	s.add("no", "log")
	s.add("timeout", "client", "30s")
	s.add("stats", "enable")
	s.add("stats", "uri", "/")
	if st.Refresh > 0 {
		s.add("stats", "refresh", e.milliseconds(o, "refresh", st.Refresh))
	}
	s.add("http-request", "use-service", "prometheus-exporter", "if", "{", "path", "/metrics", "}")
	o.approximated("", text.M("the page and the names of the metrics are HAProxy's"))
	o.done()
}

// stickTables writes a backend for each table that is in use, as HAProxy keeps them.
func (e *exporter) stickTables() {
	for i, t := range e.doc.StickTables {
		o := e.report.object(place("stick_tables", t.Name, i))
		if !e.usesStick[t.Name] {
			o.leftOut("", text.M("no backend uses the table"))
			o.done()
			continue
		}
		delete(e.usesStick, t.Name) // a second one of the name is not reached
		s := e.out
		s.open("backend", e.stickNames[t.Name])
		s.note(t.Description)
		words := []string{"stick-table", "type"}
		switch t.Key {
		case config.StickString:
			words = append(words, "string", "len", count(t.KeyLength, 1))
		case config.StickBinary:
			words = append(words, "binary", "len", count(t.KeyLength, 1))
		default:
			words = append(words, "ipv6") // takes IPv4 addresses too, mapped
		}
		words = append(words, "size", count(t.Size, 1))
		if t.Expire > 0 {
			words = append(words, "expire", e.milliseconds(o, "expire", t.Expire))
		}
		s.add(words...)
		o.done()
	}
}

// file puts a file among the others and returns its path. A name that is taken by
// other content gets a number.
func (e *exporter) file(name string, content []byte) string {
	for n := 1; ; n++ {
		candidate := name
		if n > 1 {
			ending := path.Ext(name)
			candidate = strings.TrimSuffix(name, ending) + "-" + strconv.Itoa(n) + ending
		}
		if there, taken := e.files[candidate]; !taken || bytes.Equal(there, content) {
			e.files[candidate] = content
			return path.Join(e.options.CertificateDir, candidate)
		}
	}
}

// variable is the name of a new variable of a request.
func (e *exporter) variable(of string) string {
	e.variables++
	return "txn.sluis_" + of + strconv.Itoa(e.variables)
}

// secret is the value of a secret.
func (e *exporter) secret(s config.Secret) (string, bool) {
	if value, ok := s.Inline(); ok {
		return value, true
	}
	if s.IsZero() || e.options.Secret == nil {
		return "", false
	}
	return e.options.Secret(s)
}
