package rule

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"sluis/internal/proxy/message"
)

// List is a frontend's or backend's rules, compiled. It is never changed, but for
// its counters, and serves all loops.
type List struct {
	acls      []acl
	steps     []step
	rules     []compiled
	edits     []edit // of responses; a Holds says which hold
	slowTexts []slowText

	namesServer   bool
	responseNeeds bool

	slow    atomic.Uint64
	tooLong atomic.Uint64
}

// Stats are a list's counters.
type Stats struct {
	// Slow counts values over 4 KiB that met a regular expression.
	Slow uint64
	// TooLong counts edits that would have made a value over 64 KiB. Such a request
	// is refused with 500, as HAProxy does; in a response the field is removed.
	TooLong uint64
}

// Stats may be called from any goroutine.
func (l *List) Stats() Stats { return Stats{Slow: l.slow.Load(), TooLong: l.tooLong.Load()} }

// compiled is a rule.
type compiled struct {
	name  string
	entry int32 // the first step of its condition, or holds or fails
	do    action
	edit  edit     // where do is doEdit
	index int      // a place among backends, servers or response edits
	deny  Refusal  // where do is doDeny or doTarpit
	to    redirect // where do is doRedirect
	auth  auth     // where do is doAuthenticate
}

// action is what a rule does.
type action uint8

const (
	doEdit action = iota
	doEditResponse
	doUseBackend
	doUseServer
	doRedirect
	doDeny
	doTarpit
	doAuthenticate
)

// Kind is what a walk decided.
type Kind uint8

// The decisions.
const (
	None Kind = iota // no rule decided
	UseBackend
	UseServer
	Redirect
	Deny
	Tarpit
	Authenticate
)

// Input is what a walk looks at. Its owner uses it again for each request.
type Input struct {
	// Request is edited; nil where bytes or TLS are passed through.
	Request *message.Request
	// Source and SourcePort are the client's, unmapped.
	Source     netip.Addr
	SourcePort uint16
	// TLS is whether the client came over TLS, SNI the name in its handshake.
	TLS bool
	SNI string
	// ClientCommonName and ClientIssuer are of the client's certificate.
	ClientCommonName, ClientIssuer string
	HTTP2                          bool
	// Usable counts the usable servers of a backend of Spec.Backends.
	Usable func(backend int) int
	// Frontend, Backend and Server are names for {…} in values; empty while unknown.
	Frontend, Backend, Server string
	// Host and Path stand for {host} and {path} where Request is nil: the request's
	// head may be gone when the response comes.
	Host, Path []byte
	// Arena takes edited values. They are good until it is reset.
	Arena *Arena
}

// Verdict is what a walk decided.
type Verdict struct {
	Kind Kind
	// Rule is the rule that decided.
	Rule string
	// Index is the backend's or server's place in the Spec's list.
	Index int
	// Status is our answer's. A redirect from a request whose Host is missing or no
	// host is refused with 400.
	Status int
	// Location is where a redirect leads; it lies in the arena or the list.
	Location []byte
	// Delay is how long a tarpit keeps the client waiting.
	Delay time.Duration
	// Realm is what Authenticate asks for, Challenge the value of WWW-Authenticate.
	Realm     string
	Challenge []byte
}

// Holds says which response edits hold: those whose rules were passed, and whose
// conditions held, at the request.
type Holds [maxResponseEdits / 64]uint64

// maxResponseEdits bounds the rules of a list that edit responses.
const maxResponseEdits = 256

// Any reports whether any edit holds.
func (h *Holds) Any() bool { return *h != Holds{} }

func (h *Holds) set(i int)      { h[i/64] |= 1 << (i % 64) }
func (h *Holds) has(i int) bool { return h[i/64]&(1<<(i%64)) != 0 }

// Compile checks and compiles a list.
func Compile(spec Spec) (*List, error) {
	l := &List{}
	c := compiler{
		list:     l,
		backends: places(spec.Backends),
		servers:  places(spec.Servers),
		builder:  builder{names: map[string]int32{}},
	}
	for _, m := range []Match{matchTLS, matchWebSocket, matchHTTP2} {
		if err := c.acl(&ACL{Name: string(m), Match: m}); err != nil {
			return nil, err
		}
	}
	for i := range spec.ACLs {
		if err := c.acl(&spec.ACLs[i]); err != nil {
			return nil, fmt.Errorf("ACL %s: %w", spec.ACLs[i].Name, err)
		}
	}
	for i := range spec.Rules {
		if spec.Rules[i].Disabled {
			continue
		}
		if err := c.rule(&spec.Rules[i]); err != nil {
			return nil, fmt.Errorf("rule %s: %w", spec.Rules[i].Name, err)
		}
	}
	l.steps = c.steps
	return l, nil
}

func places(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, name := range names {
		m[name] = i
	}
	return m
}

// compiler makes a list.
type compiler struct {
	builder
	list              *List
	backends, servers map[string]int
}

func (c *compiler) acl(spec *ACL) error {
	if _, twice := c.names[spec.Name]; twice {
		return fmt.Errorf("there are two of that name")
	}
	a, err := newACL(spec, c.backends)
	if err != nil {
		return err
	}
	c.names[spec.Name] = int32(len(c.list.acls))
	c.list.acls = append(c.list.acls, a)
	if len(a.texts.regex) > 0 {
		c.list.slowTexts = append(c.list.slowTexts, slowText{kind: a.kind, id: a.fieldID, field: a.field})
	}
	return nil
}

func (c *compiler) rule(spec *Rule) error {
	entry, err := c.build(spec.When, holds, fails, 0)
	if err != nil {
		return err
	}
	r := compiled{name: spec.Name, entry: entry}
	if err := c.action(spec, &r); err != nil {
		return err
	}
	c.list.rules = append(c.list.rules, r)
	return nil
}

// action compiles what a rule does; the checks of the document see to it that it
// is one thing.
func (c *compiler) action(spec *Rule, r *compiled) (err error) {
	known := true
	switch {
	case spec.UseBackend != "":
		r.do = doUseBackend
		if r.index, known = c.backends[spec.UseBackend]; !known {
			return fmt.Errorf("there is no backend %q", spec.UseBackend)
		}
	case spec.UseServer != "":
		r.do = doUseServer
		if r.index, known = c.servers[spec.UseServer]; !known {
			return fmt.Errorf("there is no server %q", spec.UseServer)
		}
	case spec.Redirect != nil:
		r.do = doRedirect
		r.to, err = newRedirect(spec.Redirect)
	case spec.Deny != nil:
		r.do = doDeny
		r.deny, err = newRefusal(spec.Deny)
	case spec.Tarpit != nil:
		r.do = doTarpit
		r.deny, err = newRefusal(spec.Tarpit)
	case spec.Authenticate != nil:
		r.do = doAuthenticate
		r.auth, err = newAuth(spec.Authenticate)
	default:
		return c.edit(spec, r)
	}
	return err
}

// edit compiles a rule that changes a message and goes on.
func (c *compiler) edit(spec *Rule, r *compiled) error {
	e, err := newEdit(spec)
	if err != nil {
		return err
	}
	if !e.response {
		r.do, r.edit = doEdit, e
		c.list.namesServer = c.list.namesServer || e.value.has(placeBackend) || e.value.has(placeServer)
		if e.find != nil {
			c.list.slowTexts = append(c.list.slowTexts, slowText{kind: e.subject(), id: e.id, field: e.lower})
		}
		return nil
	}
	if len(c.list.edits) == maxResponseEdits {
		return fmt.Errorf("more than %d rules change responses", maxResponseEdits)
	}
	r.do, r.index = doEditResponse, len(c.list.edits)
	c.list.edits = append(c.list.edits, e)
	c.list.responseNeeds = c.list.responseNeeds || e.value.has(placeHost) || e.value.has(placePath)
	return nil
}

func newRefusal(spec *Refusal) (Refusal, error) {
	r := *spec
	if r.Status == 0 {
		r.Status = 403
	}
	if r.Status < 400 || r.Status > 599 {
		return r, fmt.Errorf("%d refuses nothing: a status from 400 to 599 is expected", r.Status)
	}
	return r, nil
}

// NamesServer reports whether a request edit names the server or the backend: the
// list is walked again, over the request as it came, when they are known.
func (l *List) NamesServer() bool { return l.namesServer }

// ResponseNeedsRequest reports whether a response edit names the request's host or
// path: whoever calls Response keeps them for Input.Host and Input.Path.
func (l *List) ResponseNeedsRequest() bool { return l.responseNeeds }

// walk is one walk over a list.
type walk struct {
	list *List
	in   *Input
	// asked are the ACLs whose answer is known, in answers. The first 256 have room;
	// the others are asked each time.
	asked, answers [4]uint64
	// Parts of the request as they are compared, made when first asked for.
	hostKnown, pathKnown bool
	hostForm             host
	pathForm             []byte
}

// Request walks the rules over a request, which their edits change, and notes in
// held which response edits hold.
func (l *List) Request(in *Input, held *Holds) Verdict {
	w := walk{list: l, in: in}
	*held = Holds{}
	for i := range l.rules {
		r := &l.rules[i]
		if !w.holds(r.entry) {
			continue
		}
		switch r.do {
		case doEdit:
			if in.Request == nil {
				continue
			}
			if !r.edit.request(&w) {
				l.tooLong.Add(1)
				return Verdict{Kind: Deny, Rule: r.name, Status: 500}
			}
			w.edited()
		case doEditResponse:
			held.set(r.index)
		case doAuthenticate:
			if in.Request == nil || !r.auth.pass(in.Request) {
				return Verdict{Kind: Authenticate, Rule: r.name, Status: 401, Realm: r.auth.realm, Challenge: r.auth.challenge}
			}
		default:
			return r.decide(in)
		}
	}
	return Verdict{}
}

// decide is a decision whose condition holds.
func (r *compiled) decide(in *Input) Verdict {
	v := Verdict{Rule: r.name}
	switch r.do {
	case doUseBackend:
		v.Kind, v.Index = UseBackend, r.index
	case doUseServer:
		v.Kind, v.Index = UseServer, r.index
	case doDeny:
		v.Kind, v.Status = Deny, r.deny.Status
	case doTarpit:
		v.Kind, v.Status, v.Delay = Tarpit, r.deny.Status, r.deny.Delay
	case doRedirect:
		v.Kind, v.Status = Redirect, r.to.code
		var ok bool
		if v.Location, ok = r.to.location(in); !ok {
			v.Kind, v.Status = Deny, 400
		}
	}
	return v
}

// Response makes the response edits that hold, in the order of their rules. Of in
// it reads the names, addresses and the arena.
func (l *List) Response(r *message.Response, held *Holds, in *Input) {
	for i := range l.edits {
		if held.has(i) && !l.edits[i].fields(&r.Fields, in) {
			l.tooLong.Add(1)
			r.Fields = removeFields(r.Fields, l.edits[i].id, l.edits[i].lower)
		}
	}
}

// holds answers a condition.
func (w *walk) holds(at int32) bool {
	for at >= 0 {
		s := &w.list.steps[at]
		if w.ask(s.acl) {
			at = s.yes
		} else {
			at = s.no
		}
	}
	return at == holds
}

// ask answers an ACL, once until the request changes.
func (w *walk) ask(i int32) bool {
	a := &w.list.acls[i]
	if i >= int32(len(w.asked)*64) {
		return a.holds(w)
	}
	word, bit := i/64, uint64(1)<<(i%64)
	if w.asked[word]&bit == 0 {
		w.asked[word] |= bit
		if a.holds(w) {
			w.answers[word] |= bit
		}
	}
	return w.answers[word]&bit != 0
}

// edited forgets what was known of the request.
func (w *walk) edited() {
	w.asked, w.answers = [4]uint64{}, [4]uint64{}
	w.hostKnown, w.pathKnown = false, false
}

// host is the request's host as ACLs compare it.
func (w *walk) host() host {
	if !w.hostKnown {
		w.hostKnown, w.hostForm = true, newHost(w.in.Request.Authority, w.in.Arena)
	}
	return w.hostForm
}

// path is the request's path in lower case.
func (w *walk) path() []byte {
	if !w.pathKnown {
		w.pathKnown, w.pathForm = true, w.in.Arena.lower(w.in.Request.Path)
	}
	return w.pathForm
}

// slowText is a text that a regular expression meets.
type slowText struct {
	kind  subject
	id    message.ID
	field string // lower case where it is a header field's name
}

// Slow reports whether a walk would hold a value over 4 KiB against a regular
// expression: it belongs out of the loop.
func (l *List) Slow(in *Input) bool {
	r := in.Request
	if r == nil {
		return false
	}
	for i := range l.slowTexts {
		s := &l.slowTexts[i]
		switch s.kind {
		case subjectPath:
			if len(r.Path) > slowLength {
				return true
			}
		case subjectQueryParameter:
			if len(r.Query) > slowLength {
				return true
			}
		case subjectHeader, subjectCookie:
			for j := range r.Fields {
				f := &r.Fields[j]
				if len(f.Value) > slowLength && (s.kind == subjectCookie && f.ID == message.Cookie || named(f, s.id, s.field)) {
					return true
				}
			}
		}
	}
	return false
}
