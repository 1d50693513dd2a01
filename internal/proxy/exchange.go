package proxy

import (
	"bytes"
	"time"
	"unsafe"

	"sluis/internal/proxy/http1"
	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/message"
	"sluis/internal/proxy/persist"
	"sluis/internal/proxy/rule"
	"sluis/internal/proxy/upstream"
)

// exchange is one request and its answer. It is used again for others, by its
// loop alone.
//
//	begin ─ decide ─ place ─┬─► sending ─► answering ─► finish
//	                        ├─► queued ──► connecting ─► sending
//	                        └─► refused: our own answer ─► finish
type exchange struct {
	w *worker
	// waiter holds the place at a server. It stays where it is in memory: mail of its
	// last use may still be under way.
	waiter upstream.Waiter
	// countUsable is usable as a value, made once.
	countUsable func(int) int
	course
}

// course is all of an exchange that is new with each request.
type course struct {
	client *clientConn
	server *serverConn // nil until one is found
	snap   *snapshot
	fe     *frontend
	be     *backend // nil until decided
	target *server  // settings of the server that it goes to
	state  exchangeState

	// kept is the request's head as it came: it is read again when the exchange goes
	// on after waiting, and for another try.
	kept *loop.Buffer
	// What is known of the request for as long as it lasts; the texts lie in kept.
	method       message.Method // the client's
	sentMethod   message.Method // the server's: a rule may change it
	minor        uint8
	keepAlive    bool
	upgrade      bool
	expects      bool // the client waits for 100 before it sends the body
	body         message.Body
	methodText   []byte
	targetText   []byte
	hostText     []byte
	agentText    []byte
	refererText  []byte
	requestBody  http1.Transfer
	requestDone  bool  // the whole body was passed on
	sentBody     bool  // some of it was, so that it can't be sent again
	bodySize     int64 // of its bytes as they came, with their framing
	responseBody http1.Transfer
	interim      int // 1xx answers passed on

	placed bool // the waiter holds a place
	// found is the persistence cookie in the request.
	found persist.Found
	// held are the response edits whose conditions held at the request.
	heldFrontend, heldBackend rule.Holds
	// useServer is the server that a rule chose.
	useServer *server
	failed    *upstream.Server // where the last try failed

	retries      int
	redispatched bool
	// misses counts places at servers that no snapshot had yet.
	misses int
	// freshTries counts the idle connections that turned out dead.
	freshTries int
	// relaying tells that the kernel moves the answer's body.
	relaying bool
	// clientMark and serverMark are what each side had taken or given when its timer
	// was set: who moves at all is not timed out.
	clientMark, serverMark int64
	// clientKey is by what the client is counted as bound to a server.
	clientKey uint64
	// number tells the requests of a loop apart.
	number uint64

	// Times in ns of the loop's clock; 0 = not reached.
	started, asked, chosen, connected, answered int64
	wall                                        time.Time

	status      int
	reason      string
	rule        string
	termination [4]byte
	// sentBefore is how many bytes the client got before this exchange.
	sentBefore int64
	// How many waited before it when it had to wait.
	aheadAtServer, aheadAtBackend int
}

// exchangeState is what an exchange is at.
type exchangeState uint8

const (
	stateBegun      exchangeState = iota
	stateQueued                   // for a place at a server
	stateConnecting               // to the server
	stateDelayed                  // for the next try at the same server
	stateWaiting                  // for the answer's head; the request's body may still go out
	stateAnswering                // the answer's body goes out
	stateRefused                  // our own answer goes out
	stateHeld                     // a tarpit keeps the client waiting
)

// How and where an exchange ended, as HAProxy's termination state says it.
const (
	endNormal        = '-'
	endClient        = 'C' // the client broke off
	endClientTimeout = 'c' // the client was too slow
	endServer        = 'S' // the server broke off or refused
	endServerTimeout = 's' // the server was too slow
	endProxy         = 'P' // Sluis refused or ended it
	endLocal         = 'L' // Sluis answered itself
	endOperator      = 'K' // ended by the operator

	atEnd     = '-'
	atRequest = 'R'
	atQueue   = 'Q'
	atConnect = 'C'
	atHeaders = 'H'
	atData    = 'D'
	atLast    = 'L'
	atTarpit  = 'T'
)

// begin takes a request whose head has been read into the loop's scratch.
func (x *exchange) begin(c *clientConn, head []byte) {
	w, r := x.w, &x.w.request
	x.reset(c)
	w.arena.Reset()
	c.enter(phaseExchange)
	w.loop.Arm(&c.timer, 0)
	x.kept = w.loop.Borrow(len(head))
	x.kept.B = append(x.kept.B[:0], head...)
	x.method, x.sentMethod, x.minor, x.keepAlive = r.MethodID, r.MethodID, r.Minor, r.KeepAlive
	x.upgrade, x.expects, x.body = r.Upgrade != nil, r.Expect100, r.Body
	x.methodText, x.targetText = x.own(head, r.Method), x.own(head, r.Target)
	x.hostText = x.own(head, r.Authority)
	x.agentText = x.own(head, r.Get(message.UserAgent))
	if x.fe.log.enabled {
		x.refererText = x.own(head, r.Get(message.Referer))
	}
	w.requests++
	x.number = w.requests
}

// beginBroken begins an exchange for a request that was not understood.
func (x *exchange) beginBroken(c *clientConn) {
	x.reset(c)
	c.enter(phaseExchange)
	x.w.loop.Arm(&c.timer, 0)
	x.minor, x.keepAlive = 1, false
}

// reset makes a used exchange new. What holds memory or identity stays.
func (x *exchange) reset(c *clientConn) {
	w := x.w
	x.course = course{}
	// The frontend's own snapshot, not the current one: its rules name backends by
	// their place in it.
	x.client, x.fe, x.snap = c, c.bind.frontend, c.bind.frontend.snap
	x.asked = w.loop.Now()
	if x.started = x.asked; c.phase == phaseHead { // else it came at once
		x.started = c.since
	}
	x.wall = w.loop.Wall()
	x.termination = [4]byte{endNormal, atEnd, '-', '-'}
	x.sentBefore = c.Sent()
}

// own is part of the head in the copy that the exchange keeps.
func (x *exchange) own(head, part []byte) []byte {
	if len(part) == 0 {
		return nil
	}
	offset := int(uintptr(unsafe.Pointer(unsafe.SliceData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(head))))
	if offset < 0 || offset+len(part) > len(head) {
		return append([]byte(nil), part...) // it does not come from the head: rare
	}
	return x.kept.B[offset : offset+len(part) : offset+len(part)]
}

// run takes a request from its head to a server, as far as it goes at once. rest
// are the bytes behind the head; it returns how many of them it took.
func (x *exchange) run(rest []byte) int {
	if x.answersChallenge() || !x.admissible() || !x.decide() {
		return 0
	}
	return x.place(rest)
}

// admissible holds a request to what its frontend takes.
func (x *exchange) admissible() bool {
	fe, r := x.fe, &x.w.request
	if fe.hostRule && x.client.IsTLS() && !fe.hosts.Load().Match(r.Authority) {
		x.refuse(fe.unknownHostStatus, "no certificate name matches Host "+shown(r.Authority), endProxy, atRequest)
		return false
	}
	if fe.bodyLimit > 0 && x.body.Kind == message.Sized && x.body.Length > fe.bodyLimit {
		x.refuse(413, "the body is larger than the frontend takes", endProxy, atRequest)
		return false
	}
	return true
}

// decide walks the rules. It returns false when the exchange has been answered.
func (x *exchange) decide() bool {
	verdict := x.walk(x.fe.rules, &x.heldFrontend, "")
	x.be = x.fe.defaultBackend
	switch verdict.Kind {
	case rule.None:
	case rule.UseBackend:
		x.be = x.snap.byIndex[verdict.Index]
	default:
		x.obey(verdict)
		return false
	}
	if x.be == nil {
		x.refuse(503, "no rule chose a backend and there is no default backend", endProxy, atRequest)
		return false
	}
	verdict = x.walk(x.be.rules, &x.heldBackend, "")
	switch verdict.Kind {
	case rule.None:
	case rule.UseServer:
		x.useServer = x.be.servers[verdict.Index]
	default:
		x.obey(verdict)
		return false
	}
	x.readCookie()
	return true
}

// readCookie finds out which server the client is bound to, and hides what the
// servers should not see.
func (x *exchange) readCookie() {
	if w := x.w; x.be.cookie != nil {
		x.clientKey = w.proxy.sessions.Key(x.be.name, x.client.Remote().Addr(), clientMark(&w.request))
		x.found, w.cookies = x.be.cookie.Request(w.cookies[:0], &w.request, x.wall.Unix())
	}
}

// clientMark tells clients behind one address apart: by the session that the
// application gave them where it gave one, else by their program.
func clientMark(r *message.Request) []byte {
	for i := range r.Fields {
		if r.Fields[i].ID != message.Cookie {
			continue
		}
		for rest, more := r.Fields[i].Value, true; more; {
			var pair []byte
			pair, rest, more = bytes.Cut(rest, semicolon)
			name, value, _ := bytes.Cut(message.Trim(pair), equalSign)
			if isSessionName(name) {
				return value
			}
		}
	}
	return r.Get(message.UserAgent)
}

var semicolon, equalSign = []byte(";"), []byte("=")

// isSessionName tells whether an application's cookie is by its name one that holds
// a session: JSESSIONID, PHPSESSID, ASP.NET_SessionId, sid, connect.sid …
func isSessionName(name []byte) bool {
	for i := 0; i+4 <= len(name); i++ {
		if message.EqualFold(name[i:i+4], "sess") {
			return true
		}
	}
	return len(name) >= 3 && message.EqualFold(name[len(name)-3:], "sid")
}

// walk applies a list of rules to the request. server is the chosen one's name,
// empty before it is known.
func (x *exchange) walk(list *rule.List, held *rule.Holds, server string) rule.Verdict {
	if list == nil {
		return rule.Verdict{}
	}
	w, c := x.w, x.client
	in := &w.input
	in.Request, in.Source, in.SourcePort = &w.request, c.Remote().Addr(), c.Remote().Port()
	in.TLS, in.SNI, in.ClientCommonName, in.ClientIssuer = c.IsTLS(), "", "", ""
	if state := c.TLS(); state != nil {
		in.SNI = state.ServerName
		if len(state.PeerCertificates) > 0 {
			in.ClientCommonName = state.PeerCertificates[0].Subject.CommonName
			in.ClientIssuer = state.PeerCertificates[0].Issuer.CommonName
		}
	}
	in.Usable = x.countUsable
	in.Frontend, in.Backend, in.Server = x.fe.name, "", server
	if x.be != nil {
		in.Backend = x.be.name
	}
	in.Arena = &w.arena
	verdict := list.Request(in, held)
	if verdict.Rule != "" {
		x.rule = verdict.Rule
	}
	return verdict
}

// usable counts the usable servers of a backend, for rules.
func (x *exchange) usable(index int) int { return x.snap.byIndex[index].state.Usable() }

// obey answers as a rule says.
func (x *exchange) obey(v rule.Verdict) {
	switch v.Kind {
	case rule.Redirect:
		x.redirect(v.Status, v.Location)
	case rule.Authenticate:
		x.authenticate(v.Challenge)
	case rule.Tarpit:
		x.tarpit(v)
	default:
		x.refuse(v.Status, "denied by the rule "+x.rule, endProxy, atRequest)
	}
}

// readAgain brings a kept request back into the loop's scratch, with all that the
// rules change in it.
func (x *exchange) readAgain() {
	w := x.w
	w.request.Reset()
	w.arena.Reset()
	if _, fault := http1.ParseRequest(x.kept.B, &w.request, &x.fe.limits); fault != nil {
		panic("BUG: a head that was read once cannot be read again: " + fault.Reason.String())
	}
	server := ""
	if x.placed {
		server = x.waiter.Server.Name()
	}
	saved := x.rule
	x.walk(x.fe.rules, &x.heldFrontend, server)
	x.walk(x.be.rules, &x.heldBackend, server)
	x.rule = saved
	x.readCookie()
}

// forward sends the request's head, and as much of its body as is there.
func (x *exchange) forward(rest []byte) int {
	w, r, s := x.w, &x.w.request, x.server
	x.introduce(r)
	x.sentMethod = r.MethodID
	x.state = stateWaiting
	out := http1.AppendRequest(w.output[:0], r)
	x.requestBody.Start(x.body, x.body.Kind)
	out, pass, taken, done, fault := x.requestBody.Step(out, rest)
	if fault != nil {
		x.brokenBody(fault)
		return len(rest)
	}
	if x.overLimit() {
		x.tooLarge()
		return len(rest)
	}
	x.sentBody = taken > 0
	x.bodySize += int64(taken)
	x.requestDone = done
	w.write(&s.Conn, out, pass)
	x.armServer()
	if !done {
		x.expectBody()
	}
	return taken
}

// namesServer tells whether a rule writes the server's name into the request, which
// is known only once there is a place.
func (x *exchange) namesServer() bool {
	return x.fe.rules != nil && x.fe.rules.NamesServer() || x.be.rules != nil && x.be.rules.NamesServer()
}
