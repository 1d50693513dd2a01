// Package rule decides over requests: ACLs, conditions and actions of a frontend
// or backend, compiled once for each snapshot and walked for each request.
//
// It owns the meaning of ACLs and rules, the edits that rules make, where a
// redirect leads, and which hosts a certificate's names cover.
//
// It promises:
//   - The walk is the document's order; the first decision ends it. An edit is
//     seen by the conditions behind it.
//   - Nothing is allocated for a request, but by a regular expression that
//     replaces, and for a host that is an IPv6 address in an unusual spelling.
//   - A Location and an edited value hold no line end and no other control
//     character, whatever the request held; no redirect leads to another host
//     because of what stood in a path, and none repeats a Host that is no host.
//   - Work for a request is linear in the rules and in the request's size: regular
//     expressions are RE2.
//
// It does not:
//   - decode or normalise. Paths and parameters are compared as they were sent: no
//     percent-decoding, no merging of slashes, no removal of dot segments, as in
//     HAProxy. /%61dmin and //admin are not /admin. Whoever guards a path by deny
//     names what is let through rather than what is not, since servers differ in
//     what they decode.
//   - fold the case of letters beyond ASCII.
//   - know servers, time or connections. What it needs of them is in Input.
//
// Read spec.go (what is compiled), list.go (the walk), condition.go, acl.go and
// texts.go (questions), edit.go, redirect.go and basic.go (answers), hosts.go.
package rule

import (
	"net/netip"
	"time"
)

// Spec is what a frontend or backend says about requests. Its types repeat the
// document's, which this room does not see.
type Spec struct {
	// Backends are the names that rules and ACLs use; Verdict.Index and Input.Usable
	// speak of places in this list.
	Backends []string
	// Servers are the names that rules use; Verdict.Index is a place in this list.
	// Empty in a frontend.
	Servers []string
	// ACLs are the named questions.
	ACLs []ACL
	// Rules are walked in order.
	Rules []Rule
}

// ACL is a named question about a request. It holds when one of its values does.
type ACL struct {
	// Name is what conditions call it.
	Name string
	// Match is the part of the request that is looked at.
	Match Match
	// Field names the header field, cookie or query parameter.
	Field string
	// Is, Starts, Ends, Contains and Regex hold values for a text; Segments for a path.
	Is, Starts, Ends, Contains, Segments, Regex []string
	// In holds the networks of a source, aliases resolved.
	In []netip.Prefix
	// Present holds when the named field is there at all.
	Present bool
	// Backend is the backend whose usable servers are counted, AtLeast the number
	// from which on it holds.
	Backend string
	AtLeast int
	// AnyPort ignores a port behind a host name.
	AnyPort bool
	// CaseSensitive tells upper case from lower case; host names never do.
	CaseSensitive bool
}

// Match is the part of a request that an ACL looks at.
type Match string

// The parts of a request. Host is the Host field in lower case, without the dot
// that may end a name; its port counts unless AnyPort is set. A header field, a
// cookie and a query parameter hold when any of their occurrences does. A header
// field is asked as a whole and, as HAProxy's hdr does, by the members of its
// list (RFC 9110 section 5.6.1).
const (
	MatchHost              Match = "host"
	MatchPath              Match = "path"
	MatchQueryParameter    Match = "query_parameter"
	MatchHeader            Match = "header"
	MatchCookie            Match = "cookie"
	MatchMethod            Match = "method"
	MatchSource            Match = "source"
	MatchSNI               Match = "sni"
	MatchClientCertificate Match = "client_certificate"
	MatchClientIssuer      Match = "client_certificate_issuer"
	MatchUsableServers     Match = "usable_servers"

	// Questions that need no ACL in the document; their names are taken.
	matchTLS       Match = "is_tls"
	matchWebSocket Match = "is_websocket"
	matchHTTP2     Match = "is_http2"
)

// Condition is a rule's when, as a tree. Nil always holds.
type Condition struct {
	Op   ConditionOp
	Name string       // of the ACL; set where Op is ConditionName
	Of   []*Condition // one of a not, two or more of an and or or
}

// ConditionOp is what stands at a node of a condition.
type ConditionOp string

// The nodes of a condition.
const (
	ConditionName ConditionOp = "name"
	ConditionNot  ConditionOp = "not"
	ConditionAnd  ConditionOp = "and"
	ConditionOr   ConditionOp = "or"
)

// Rule is a condition and exactly one action: the one that is not empty.
type Rule struct {
	Name     string
	Disabled bool
	When     *Condition

	UseBackend    string
	UseServer     string
	Redirect      *RedirectTo
	Deny          *Refusal
	Tarpit        *Refusal
	Authenticate  *BasicAuth
	SetHeader     *Header
	AddHeader     *Header
	RemoveHeader  *HeaderName
	ReplaceHeader *HeaderReplace
	SetPath       string
	ReplacePath   *Replace
	SetQuery      string
	SetMethod     string
}

// RedirectTo answers with another place to go to. What is empty is taken from the
// request.
type RedirectTo struct {
	Scheme    string // http or https
	Host      string // may have a port; empty = the request's, without its port when the scheme changes
	Path      string // replaces path and query
	Prefix    string // stands before the path; "/" alone adds nothing, as in HAProxy
	DropQuery bool
	Code      int // 301, 302, 303, 307 or 308; 0 = 302
}

// Refusal refuses a request.
type Refusal struct {
	Status int           // 0 = 403
	Delay  time.Duration // of a tarpit
}

// BasicAuth asks for a name and password (RFC 7617).
type BasicAuth struct {
	Realm string
	Users []User
}

// User may pass.
type User struct {
	Name     string
	Password string
}

// Direction is the way of a message.
type Direction string

// The directions.
const (
	OfRequest  Direction = "request"
	OfResponse Direction = "response"
)

// Header is a header field that is set or added. In Value {source}, {source_port},
// {host}, {path}, {scheme}, {frontend}, {backend} and {server} stand for what they
// say; any other word in braces stands for itself.
type Header struct {
	Of    Direction
	Field string
	Value string
}

// HeaderName is a header field that is removed.
type HeaderName struct {
	Of    Direction
	Field string
}

// HeaderReplace rewrites a header field's value wherever Find matches. $1 to $99
// and ${name} in With are groups, $$ is a dollar sign.
type HeaderReplace struct {
	Of    Direction
	Field string
	Find  string
	With  string
}

// Replace rewrites a text wherever Find matches, as HeaderReplace does.
type Replace struct {
	Find string
	With string
}
