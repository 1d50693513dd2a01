package config

// LoadBalancer holds what all frontends share.
type LoadBalancer struct {
	// Enabled lets the frontends listen; off = none does.
	Enabled bool `json:"enabled"`
	// MaxConnections is how many client connections the whole appliance takes at a
	// time; further ones wait in the kernel's queue.
	MaxConnections int `json:"max_connections" label:"Maximum connections" unit:"connections" range:"1..10000000"`
	// Stats is the internal statistics page.
	Stats Stats `json:"stats"`
	// Loops is how many event loops carry the traffic; 0 = one for each processor core.
	Loops int `json:"loops" range:"0..256" advanced:"true"`
	// DrainTimeout ends connections that outlive the frontend or server that they
	// belong to; 0s = they may live for ever.
	DrainTimeout Duration `json:"drain_timeout" range:"0s..168h" advanced:"true"`
}

// Stats is the internal statistics page and the metrics, reachable from the
// appliance itself alone.
type Stats struct {
	// Port is where it stands on the loopback address; 0 = nowhere.
	Port uint16 `json:"port" label:"Internal stats port" range:"0..65535"`
	// Refresh is how often the page renews itself; 0s = never.
	Refresh Duration `json:"refresh" label:"Internal stats refresh rate" range:"0s..1h"`
}

// ACL is a named question about a request, to be used in conditions. It holds
// when one of its values does.
type ACL struct {
	// Name is what conditions call it: letters, digits, dot, dash, underscore; and,
	// or, not and the built-in names (is_tls, is_websocket, is_http2) are taken.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// Match is the part of the request that is looked at.
	Match ACLMatch `json:"match"`
	// Field names the header field, cookie or query parameter that is looked at.
	Field string `json:"field" format:"field_name" when:"match=header|cookie|query_parameter"`
	// Is holds when the part equals one of these.
	Is []string `json:"is"`
	// Starts holds when the part starts with one of these.
	Starts []string `json:"starts"`
	// Ends holds when the part ends with one of these.
	Ends []string `json:"ends"`
	// Contains holds when the part contains one of these.
	Contains []string `json:"contains"`
	// Segments holds when one of these stands between two slashes of the path.
	Segments []string `json:"segments" when:"match=path"`
	// Regex holds when one of these regular expressions (RE2) matches.
	Regex []string `json:"regex" format:"regex"`
	// In holds when the client's address is in one of these: prefixes, addresses or
	// aliases.
	In []string `json:"in" refs:"alias" format:"network" when:"match=source"`
	// Present holds when the named field is there at all, whatever its value.
	Present bool `json:"present" when:"match=header|cookie|query_parameter"`
	// Backend is the backend whose usable servers are counted.
	Backend string `json:"backend" ref:"backends" when:"match=usable_servers"`
	// AtLeast holds when the number that is looked at is not below it.
	AtLeast int `json:"at_least" range:"0..1000000" when:"match=usable_servers"`
	// AnyPort ignores a port behind the host name.
	AnyPort bool `json:"any_port" when:"match=host"`
	// CaseSensitive tells upper case from lower case; host names never do.
	CaseSensitive bool `json:"case_sensitive"`
}

// ACLMatch is the part of a request that an ACL looks at.
type ACLMatch string

// The parts of a request.
const (
	MatchHost              ACLMatch = "host"                      // the Host field
	MatchPath              ACLMatch = "path"                      // the path without its query
	MatchQueryParameter    ACLMatch = "query_parameter"           // a parameter of the query
	MatchHeader            ACLMatch = "header"                    // a header field
	MatchCookie            ACLMatch = "cookie"                    // a cookie
	MatchMethod            ACLMatch = "method"                    // the method
	MatchSource            ACLMatch = "source"                    // the client's address
	MatchSNI               ACLMatch = "sni"                       // the name in the TLS handshake
	MatchClientCertificate ACLMatch = "client_certificate"        // the common name of the client's certificate
	MatchClientIssuer      ACLMatch = "client_certificate_issuer" // the common name of its issuer
	MatchUsableServers     ACLMatch = "usable_servers"            // how many servers of a backend can be used
)

// Values lists the parts.
func (ACLMatch) Values() []string {
	return []string{
		"host", "path", "query_parameter", "header", "cookie", "method", "source", "sni",
		"client_certificate", "client_certificate_issuer", "usable_servers",
	}
}

// BuiltinACLs are the names that conditions may use without defining them, with
// what they hold for.
func BuiltinACLs() map[string]string {
	return map[string]string{
		"is_tls":       "the client came over TLS",
		"is_websocket": "the request asks for a WebSocket",
		"is_http2":     "the client speaks HTTP/2",
	}
}

// Rule is one step of a frontend's or backend's rules: an optional condition and
// exactly one action. In order, the first deny, tarpit, redirect, authenticate
// (when it asks), use_backend or use_server that applies decides; the others
// change the message and go on.
type Rule struct {
	// Name identifies the rule, in logs too.
	Name string `json:"name" required:"true"`
	// Description says why the rule is there.
	Description string `json:"description"`
	// Disabled keeps the rule in the list without effect.
	Disabled bool `json:"disabled"`
	// When is the condition: names of ACLs joined by and, or, not and parentheses;
	// empty = always.
	When string `json:"when" format:"condition"`
	// UseBackend sends the request to a backend; in a frontend's rules only.
	UseBackend string `json:"use_backend" ref:"backends"`
	// UseServer sends the request to a server; in a backend's rules only.
	UseServer string `json:"use_server" ref:"backends[.].servers"`
	// Redirect answers with another place to go to.
	Redirect *Redirect `json:"redirect,omitempty"`
	// Deny refuses the request.
	Deny *Deny `json:"deny,omitempty" protects:"true"`
	// Tarpit keeps the client waiting before it refuses.
	Tarpit *Deny `json:"tarpit,omitempty" protects:"true"`
	// Authenticate asks for a name and password (RFC 7617) of an administrator's
	// choosing.
	Authenticate *Authenticate `json:"authenticate,omitempty" protects:"true"`
	// SetHeader sets a header field, in place of what was there.
	SetHeader *SetHeader `json:"set_header,omitempty"`
	// AddHeader adds a header field beside what is there.
	AddHeader *SetHeader `json:"add_header,omitempty"`
	// RemoveHeader removes a header field.
	RemoveHeader *RemoveHeader `json:"remove_header,omitempty"`
	// ReplaceHeader rewrites a header field's value.
	ReplaceHeader *ReplaceHeader `json:"replace_header,omitempty"`
	// SetPath replaces the path and keeps the query.
	SetPath string `json:"set_path" format:"path"`
	// ReplacePath rewrites the path.
	ReplacePath *Replace `json:"replace_path,omitempty"`
	// SetQuery replaces the query; a lone question mark removes it.
	SetQuery string `json:"set_query"`
	// SetMethod replaces the method.
	SetMethod string `json:"set_method" format:"method"`
}

// Redirect answers with another place to go to. What is empty is taken from the
// request.
type Redirect struct {
	// Scheme is http or https; empty = as it was.
	Scheme string `json:"scheme" format:"scheme"`
	// Host is the host name, with a port if it needs one; empty = as it was, without
	// a port when the scheme changes.
	Host string `json:"host" format:"host_field"`
	// Path replaces the path and the query; empty = both as they were.
	Path string `json:"path" format:"request_target"`
	// Prefix is put before the path; empty = nothing.
	Prefix string `json:"prefix" format:"path"`
	// DropQuery leaves the query out.
	DropQuery bool `json:"drop_query"`
	// Code is the status: 301, 302, 303, 307 or 308.
	Code int `json:"code" range:"301..308"`
}

// Deny refuses a request.
type Deny struct {
	// Status is the answer's status.
	Status int `json:"status" range:"400..599"`
	// Delay is how long the client waits before it is refused, where it is kept
	// waiting at all.
	Delay Duration `json:"delay" range:"0s..10m" advanced:"true"`
}

// Authenticate asks for a name and password (RFC 7617).
type Authenticate struct {
	// Realm is shown to the user.
	Realm string `json:"realm" required:"true"`
	// Users may pass: name and password of each.
	Users []BasicUser `json:"users" required:"true"`
}

// BasicUser is a visitor's name and password.
type BasicUser struct {
	// Name is typed by the visitor.
	Name string `json:"name" format:"visitor" required:"true"`
	// Password is typed by the visitor.
	Password Secret `json:"password" required:"true"`
}

// Direction is the way of a message.
type Direction string

// The directions.
const (
	OfRequest  Direction = "request"  // on its way to the server
	OfResponse Direction = "response" // on its way to the client
)

// Values lists the directions.
func (Direction) Values() []string { return []string{"request", "response"} }

// HeaderField is a header field with its value.
type HeaderField struct {
	// Name is the field's name.
	Name string `json:"name" format:"field_name" required:"true"`
	// Value is the field's value.
	Value string `json:"value" format:"field_value"`
}

// SetHeader sets or adds a header field.
type SetHeader struct {
	// Of is the message that is changed.
	Of Direction `json:"of"`
	// Field is the field's name.
	Field string `json:"field" format:"field_name" required:"true"`
	// Value is the field's value. {source}, {source_port}, {host}, {path}, {scheme},
	// {frontend}, {backend} and {server} stand for what they say.
	Value string `json:"value" format:"field_value"`
}

// RemoveHeader removes a header field.
type RemoveHeader struct {
	// Of is the message that is changed.
	Of Direction `json:"of"`
	// Field is the field's name.
	Field string `json:"field" format:"field_name" required:"true"`
}

// ReplaceHeader rewrites a header field's value.
type ReplaceHeader struct {
	// Of is the message that is changed.
	Of Direction `json:"of"`
	// Field is the field's name.
	Field string `json:"field" format:"field_name" required:"true"`
	// Find is a regular expression (RE2) for what is replaced.
	Find string `json:"find" format:"regex" required:"true"`
	// With stands in its place; $1 is the first group.
	With string `json:"with"`
}

// Replace rewrites a text.
type Replace struct {
	// Find is a regular expression (RE2) for what is replaced.
	Find string `json:"find" format:"regex" required:"true"`
	// With stands in its place; $1 is the first group.
	With string `json:"with"`
}

// ErrorPage replaces an answer that Sluis gives itself.
type ErrorPage struct {
	// Name identifies the page.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// ContentType is the kind of text.
	ContentType string `json:"content_type" format:"field_value" required:"true"`
	// Body is the page; {status}, {reason} and {request_id} stand for what they say.
	Body string `json:"body" format:"text"`
}

// ErrorPageUse says which answers a page replaces.
type ErrorPageUse struct {
	// Name identifies the use.
	Name string `json:"name" required:"true"`
	// Codes are the statuses that it replaces.
	Codes []int `json:"codes" range:"400..599" required:"true"`
	// Page is the page.
	Page string `json:"page" ref:"error_pages" required:"true"`
}

// StickTable remembers which server a client was sent to.
type StickTable struct {
	// Name identifies the table.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// Key is what clients are told apart by.
	Key StickKey `json:"key"`
	// KeyLength is how much of a text key is kept.
	KeyLength int `json:"key_length" unit:"bytes" range:"1..1024" when:"key=string|binary"`
	// Size is how many clients are remembered; the longest unseen gives way.
	Size int `json:"size" unit:"entries" range:"1..10000000"`
	// Expire forgets a client that long after its last request.
	Expire Duration `json:"expire" range:"1s..720h"`
}

// StickKey is what clients are told apart by.
type StickKey string

// The keys of stick tables.
const (
	StickIP     StickKey = "ip"     // an IPv4 or IPv6 address
	StickString StickKey = "string" // a text
	StickBinary StickKey = "binary" // bytes
)

// Values lists the keys.
func (StickKey) Values() []string { return []string{"ip", "string", "binary"} }
