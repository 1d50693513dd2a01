package config

// Backend is a group of servers that do the work of a site.
type Backend struct {
	// Name identifies the backend.
	Name string `json:"name" required:"true"`
	// Description says what the servers do.
	Description string `json:"description"`
	// Type is what it speaks: as the frontends that use it.
	Type BackendType `json:"type"`
	// Balance is how a server is chosen for a client that has none yet.
	Balance Balance `json:"balance"`
	// Hash says what is hashed where Balance hashes.
	Hash Hash `json:"hash" when:"balance=uri|header" advanced:"true"`
	// Servers do the work.
	Servers []Server `json:"servers"`
	// ServerTLS is how servers with TLS are spoken to.
	ServerTLS ServerTLS `json:"server_tls" label:"TLS to the servers"`
	// Check asks the servers whether they are well; absent = they are believed to be.
	Check *Check `json:"check,omitempty" label:"Health check"`
	// AgentCheck asks an agent on each server for its load; absent = there is none.
	AgentCheck *AgentCheck `json:"agent_check,omitempty"`
	// Persistence keeps a client on its server; it holds by cookie, by stick table,
	// or both.
	Persistence Persistence `json:"persistence"`
	// ACLs are named questions about a request, for the conditions of its rules.
	ACLs []ACL `json:"acls" label:"ACLs"`
	// Rules are walked in order for each request that comes to this backend.
	Rules []Rule `json:"rules"`
	// HSTS tells browsers to come over HTTPS alone; absent = they are told nothing.
	HSTS *HSTS `json:"hsts,omitempty" label:"HSTS"`
	// SecureCookies adds Secure to every cookie that a server sets over HTTPS.
	SecureCookies bool `json:"secure_cookies" advanced:"true"`
	// Timeouts bound what a server may take.
	Timeouts BackendTimeouts `json:"timeouts"`
	// Retries is how often a connection that failed is tried again.
	Retries int `json:"retries" unit:"retries" range:"0..100"`
	// Redispatch lets the last retry go to another server.
	Redispatch bool `json:"redispatch"`
	// Failback is how a recovered server gets its clients back.
	Failback Failback `json:"failback"`
	// Reuse is when a connection to a server may carry another client's requests.
	Reuse Reuse `json:"reuse" label:"Connection reuse" advanced:"true"`
	// IdleConnections is how many idle connections are kept to each server.
	IdleConnections int `json:"idle_connections" unit:"connections" range:"0..100000" advanced:"true"`
	// MaxQueue is how many requests may wait for a free place at this backend's
	// servers; 0 = as many as there are connections.
	MaxQueue int `json:"max_queue" unit:"requests" range:"0..10000000" advanced:"true"`
	// ErrorPages replace answers that Sluis gives itself.
	ErrorPages []ErrorPageUse `json:"error_pages"`
}

// BackendType is what a backend speaks.
type BackendType string

// The types of backends.
const (
	BackendHTTP BackendType = "http" // HTTP/1.1
	BackendTCP  BackendType = "tcp"  // bytes
)

// Values lists the types.
func (BackendType) Values() []string { return []string{"http", "tcp"} }

// Balance is how a server is chosen.
type Balance string

// The algorithms.
const (
	BalanceRoundRobin Balance = "roundrobin" // in turn, by weight
	BalanceStaticRR   Balance = "static_rr"  // in turn, with weights that never change at run time
	BalanceLeastConn  Balance = "leastconn"  // the one with the fewest connections, by weight
	BalanceFirst      Balance = "first"      // the first that has a free place
	BalanceRandom     Balance = "random"     // the less busy one of two drawn by chance
	BalanceSource     Balance = "source"     // by a hash of the client's address
	BalanceURI        Balance = "uri"        // by a hash of the path
	BalanceHeader     Balance = "header"     // by a hash of a header field
)

// Values lists the algorithms.
func (Balance) Values() []string {
	return []string{"roundrobin", "static_rr", "leastconn", "first", "random", "source", "uri", "header"}
}

// Hash says what is hashed.
type Hash struct {
	// Length is how many bytes of the path count; 0 = all.
	Length int `json:"length" unit:"bytes" range:"0..65535"`
	// Depth is how many segments of the path count; 0 = all.
	Depth int `json:"depth" unit:"segments" range:"0..100"`
	// Query counts the query too.
	Query bool `json:"query"`
	// Header is the header field that is hashed.
	Header string `json:"header" format:"field_name"`
}

// Server is one server of a backend.
type Server struct {
	// Name identifies the server within its backend.
	Name string `json:"name" required:"true"`
	// Description says which machine it is.
	Description string `json:"description"`
	// Address is the server's address or host name; a name is asked for again as its
	// lifetime in the DNS says.
	Address string `json:"address" format:"host" required:"true"`
	// Host is the server's own host name, where {server} stands for it; empty = its
	// address as written.
	Host string `json:"host" format:"host"`
	// Port is the port.
	Port uint16 `json:"port" range:"1..65535"`
	// TLS encrypts the way to the server.
	TLS bool `json:"tls" label:"Encrypt (TLS)"`
	// Cookie is the value that marks this server in the persistence cookie; unique
	// in the backend; empty = the server's name.
	Cookie string `json:"cookie" format:"cookie_value"`
	// Weight is the server's share of the work; 0 = no new clients.
	Weight int `json:"weight" range:"0..256"`
	// Role says when the server works.
	Role ServerRole `json:"role"`
	// Disabled takes the server out of the configuration's effect.
	Disabled bool `json:"disabled"`
	// MaxConnections is how many requests it gets at a time, the rest waits; 0 = no
	// limit.
	MaxConnections int `json:"max_connections" label:"Maximum connections" unit:"connections" range:"0..1000000"`
	// SlowStart raises the share of a recovered server step by step; 0s = at once.
	SlowStart Duration `json:"slow_start" range:"0s..1h" advanced:"true"`
	// NoCheck leaves this server unasked by the backend's health check.
	NoCheck bool `json:"no_check" advanced:"true"`
	// SendProxy tells the server who the client was, before the first byte.
	SendProxy ProxyProtocol `json:"send_proxy" label:"Send PROXY protocol" advanced:"true"`
}

// ServerRole says when a server works.
type ServerRole string

// The roles of servers.
const (
	ServerActive ServerRole = "active" // always
	ServerBackup ServerRole = "backup" // when no active server is usable
)

// Values lists the roles.
func (ServerRole) Values() []string { return []string{"active", "backup"} }

// ProxyProtocol is a version of the PROXY protocol.
type ProxyProtocol string

// The versions.
const (
	ProxyOff ProxyProtocol = "off" // not sent
	ProxyV1  ProxyProtocol = "v1"  // as text
	ProxyV2  ProxyProtocol = "v2"  // as bytes
)

// Values lists the versions.
func (ProxyProtocol) Values() []string { return []string{"off", "v1", "v2"} }

// ServerTLS is how servers with TLS are spoken to.
type ServerTLS struct {
	// Verify is who vouches for a server's certificate.
	Verify Verify `json:"verify"`
	// Authority is the one that must vouch.
	Authority string `json:"authority" ref:"authorities" when:"verify=authority"`
	// RevocationList names certificates that are refused; empty = none.
	RevocationList string `json:"revocation_list" ref:"revocation_lists" when:"verify=system|authority"`
	// Name is the name that must stand in the certificate; {server} = each server's
	// own; empty = the name sent as SNI.
	Name string `json:"name" format:"host_or_server" when:"verify=system|authority"`
	// SNI is the name sent in the handshake; {server} = each server's own; {host} =
	// the request's; empty = each server's own, and none for an address (RFC 6066
	// section 3).
	SNI string `json:"sni" label:"SNI" format:"sni"`
	// ClientCertificate is shown to servers that ask for one; empty = none.
	ClientCertificate string `json:"client_certificate" ref:"certificates"`
	// MinVersion is the oldest TLS that is spoken.
	MinVersion TLSVersion `json:"min_version" advanced:"true"`
}

// Verify is who vouches for a server's certificate.
type Verify string

// The ways to verify.
const (
	VerifyNone      Verify = "none"      // nobody: encrypted, but perhaps with a stranger
	VerifySystem    Verify = "system"    // any authority that the appliance trusts
	VerifyAuthority Verify = "authority" // the one authority given here
)

// Values lists the ways.
func (Verify) Values() []string { return []string{"none", "system", "authority"} }

// Check asks servers whether they are well. It goes the way that requests go:
// over TLS where the server has TLS.
type Check struct {
	// Type is what is asked.
	Type CheckType `json:"type"`
	// Method is the request's method.
	Method string `json:"method" format:"method" when:"type=http"`
	// Path is the request's path, with its query if it has one.
	Path string `json:"path" format:"request_target" when:"type=http"`
	// Version is the version of HTTP.
	Version HTTPVersion `json:"version" when:"type=http"`
	// Host is the request's Host field; {server} = each server's own name.
	Host string `json:"host" format:"host_or_server" when:"type=http"`
	// SNI is the name sent in the TLS handshake; {server} = each server's own, none
	// for an address (RFC 6066 section 3); empty = as requests send it.
	SNI string `json:"sni" label:"SNI" format:"host_or_server"`
	// Headers are further header fields.
	Headers []HeaderField `json:"headers" when:"type=http" advanced:"true"`
	// Body is sent with the request; empty = none.
	Body string `json:"body" format:"text" when:"type=http" advanced:"true"`
	// ExpectStatus are the statuses of a well server: 200, 2xx, or 200-299; empty =
	// 2xx and 3xx.
	ExpectStatus []string `json:"expect_status" format:"status" when:"type=http"`
	// ExpectText must stand in the body; a redirect that ExpectStatus allows passes
	// without it. Empty = the body isn't read.
	ExpectText string `json:"expect_text" format:"text" when:"type=http"`
	// Port is asked instead of the server's own; 0 = the server's own.
	Port uint16 `json:"port" range:"0..65535" advanced:"true"`
	// Interval is the time between two checks.
	Interval Duration `json:"interval" label:"Check frequency" range:"100ms..24h"`
	// Timeout is how long an answer may take; 0s = as long as the interval, at most
	// 10s.
	Timeout Duration `json:"timeout" range:"0s..10m" advanced:"true"`
	// Rise is how many good answers in a row bring a server back.
	Rise int `json:"rise" unit:"checks" range:"1..100"`
	// Fall is how many bad answers in a row take a server out.
	Fall int `json:"fall" unit:"checks" range:"1..100"`
	// Log writes down each change of a server's state.
	Log bool `json:"log" label:"Log checks"`
}

// CheckType is what a check asks.
type CheckType string

// The types of checks.
const (
	CheckTCP  CheckType = "tcp"  // does the port take a connection
	CheckTLS  CheckType = "tls"  // does it answer a TLS handshake
	CheckHTTP CheckType = "http" // does it answer a request
)

// Values lists the types.
func (CheckType) Values() []string { return []string{"tcp", "tls", "http"} }

// HTTPVersion is a version of HTTP.
type HTTPVersion string

// The versions.
const (
	HTTP10 HTTPVersion = "1.0" // RFC 1945
	HTTP11 HTTPVersion = "1.1" // RFC 9112
)

// Values lists the versions.
func (HTTPVersion) Values() []string { return []string{"1.0", "1.1"} }

// AgentCheck asks an agent on each server for its load. The agent's answer is
// HAProxy's: up, down, drain, ready, maint, or a percentage of the weight.
type AgentCheck struct {
	// Port is the agent's port.
	Port uint16 `json:"port" range:"1..65535"`
	// Interval is the time between two questions.
	Interval Duration `json:"interval" range:"100ms..24h"`
	// Send is written to the agent first; empty = nothing.
	Send string `json:"send" format:"text" advanced:"true"`
}

// Persistence keeps a client on its server.
type Persistence struct {
	// Cookie keeps a client by a cookie; absent = none does.
	Cookie *PersistenceCookie `json:"cookie,omitempty"`
	// Stick keeps a client by a stick table; absent = none does.
	Stick *Stick `json:"stick,omitempty"`
}

// PersistenceCookie keeps a client on its server by a cookie.
type PersistenceCookie struct {
	// Name is the cookie's name.
	Name string `json:"name" format:"cookie_name" required:"true"`
	// Mode is who sets the cookie and what the server sees of it.
	Mode CookieMode `json:"mode"`
	// Indirect hides our cookie from the servers, and isn't set again where a client
	// has it.
	Indirect bool `json:"indirect"`
	// Preserve leaves a cookie alone that the server itself sets.
	Preserve bool `json:"preserve" advanced:"true"`
	// Cacheable lets shared caches keep answers that set the cookie.
	Cacheable bool `json:"cacheable" advanced:"true"`
	// PostOnly sets the cookie in answers to POST alone.
	PostOnly bool `json:"post_only" advanced:"true"`
	// Secure keeps the cookie to HTTPS.
	Secure bool `json:"secure"`
	// HTTPOnly hides the cookie from scripts.
	HTTPOnly bool `json:"http_only" label:"HttpOnly"`
	// SameSite is when a browser sends the cookie from another site's page; a site
	// inside another site's frame needs none, and Secure.
	SameSite SameSite `json:"same_site"`
	// Partitioned keeps one cookie for each site that shows this one in a frame.
	Partitioned bool `json:"partitioned"`
	// MaxIdle ends the cookie's effect that long after its last use; 0s = never.
	MaxIdle Duration `json:"max_idle" range:"0s..8760h" advanced:"true"`
	// MaxLife ends the cookie's effect that long after its first use; 0s = never.
	MaxLife Duration `json:"max_life" range:"0s..8760h" advanced:"true"`
	// Domains are sent as the cookie's domain; empty = the host alone.
	Domains []string `json:"domains" format:"domain" advanced:"true"`
	// DynamicKey makes the servers' values from their addresses and this key;
	// empty = the servers' own values are used.
	DynamicKey Secret `json:"dynamic_key" advanced:"true"`
}

// CookieMode is who sets a persistence cookie.
type CookieMode string

// The modes, after HAProxy's cookie directive.
const (
	CookieInsert  CookieMode = "insert"  // we set it
	CookieRewrite CookieMode = "rewrite" // the server sets it, we put our value in
	CookiePrefix  CookieMode = "prefix"  // we put our value before the server's own
	CookiePassive CookieMode = "passive" // the server sets it, we only read it
)

// Values lists the modes.
func (CookieMode) Values() []string { return []string{"insert", "rewrite", "prefix", "passive"} }

// SameSite is when a browser sends a cookie from another site's page.
type SameSite string

// The values of SameSite.
const (
	SameSiteUnset  SameSite = "unset"  // the browser's default
	SameSiteStrict SameSite = "strict" // never
	SameSiteLax    SameSite = "lax"    // on following a link
	SameSiteNone   SameSite = "none"   // always; browsers want Secure with it
)

// Values lists the values.
func (SameSite) Values() []string { return []string{"unset", "strict", "lax", "none"} }

// Stick keeps a client on its server by a stick table.
type Stick struct {
	// Table is the stick table that remembers.
	Table string `json:"table" ref:"stick_tables" required:"true"`
	// On is what a client is known by.
	On StickOn `json:"on"`
	// Cookie names the cookie where a cookie's value is used.
	Cookie string `json:"cookie" format:"cookie_name" when:"on=cookie"`
}

// StickOn is what a client is known by in a stick table.
type StickOn string

// The ways to know a client.
const (
	StickOnSource    StickOn = "source"      // its address
	StickOnCookie    StickOn = "cookie"      // the value of a cookie that the server sets
	StickOnTLS       StickOn = "tls_session" // its TLS session
	StickOnRDPCookie StickOn = "rdp_cookie"  // the cookie of a remote desktop connection
)

// Values lists the ways.
func (StickOn) Values() []string { return []string{"source", "cookie", "tls_session", "rdp_cookie"} }

// HSTS tells browsers to come over HTTPS alone (RFC 6797).
type HSTS struct {
	// MaxAge is how long a browser remembers it; 0s tells browsers to forget. Start
	// small: it can't be taken back before it ends.
	MaxAge Duration `json:"max_age" range:"0s..87600h"`
	// IncludeSubdomains holds it for all names below the site's, too.
	IncludeSubdomains bool `json:"include_subdomains"`
	// Preload agrees to be listed in browsers for good.
	Preload bool `json:"preload" advanced:"true"`
}

// BackendTimeouts bound what a server may take.
type BackendTimeouts struct {
	// Connect is for the connection to come up, with TLS where there is TLS.
	Connect Duration `json:"connect" label:"Connection timeout" range:"100ms..10m"`
	// Server is for a server that neither sends nor takes anything in the middle of an
	// exchange.
	Server Duration `json:"server" label:"Server timeout" range:"100ms..24h"`
	// Tunnel is for a WebSocket or other tunnel in which nothing moves.
	Tunnel Duration `json:"tunnel" range:"1s..168h"`
	// Queue is for a free place at a server; 0s = as long as Connect.
	Queue Duration `json:"queue" range:"0s..10m"`
}

// Failback is how a recovered server gets its clients back.
type Failback string

// The ways back.
const (
	FailbackAutomatic Failback = "automatic" // as soon as its checks are good
	FailbackManual    Failback = "manual"    // when the operator says ready
)

// Values lists the ways back.
func (Failback) Values() []string { return []string{"automatic", "manual"} }

// Reuse is when a server's connection may carry another client's requests.
type Reuse string

// The degrees of reuse, after HAProxy's http-reuse.
const (
	ReuseNever      Reuse = "never"      // a connection belongs to one client
	ReuseSafe       Reuse = "safe"       // not for a client's first request
	ReuseAggressive Reuse = "aggressive" // also for first requests, on connections that have proved to last
	ReuseAlways     Reuse = "always"     // whenever one is idle
)

// Values lists the degrees.
func (Reuse) Values() []string { return []string{"never", "safe", "aggressive", "always"} }
