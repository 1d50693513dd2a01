package config

// Frontend is a site as clients see it: addresses, TLS, rules.
type Frontend struct {
	// Name identifies the frontend.
	Name string `json:"name" required:"true"`
	// Description says which site it is.
	Description string `json:"description"`
	// Disabled keeps the frontend without effect: it does not listen.
	Disabled bool `json:"disabled"`
	// Type is what it does with connections.
	Type FrontendType `json:"type"`
	// Binds are the addresses and ports on which it listens.
	Binds []Bind `json:"binds" required:"true"`
	// MaxConnections is how many client connections it takes at a time; 0 = as many
	// as the whole appliance.
	MaxConnections int `json:"max_connections" label:"Maximum connections" unit:"connections" range:"0..10000000"`
	// TLS is how its TLS binds speak; absent = it has none.
	TLS *FrontendTLS `json:"tls,omitempty" label:"TLS"`
	// ACLs are named questions about a request, for the conditions of its rules.
	ACLs []ACL `json:"acls" label:"ACLs"`
	// Rules are walked in order for each request.
	Rules []Rule `json:"rules"`
	// DefaultBackend takes what no rule decided; empty = such a request gets 503.
	DefaultBackend string `json:"default_backend" ref:"backends"`
	// Forwarded tells the servers who the client was.
	Forwarded Forwarded `json:"forwarded" label:"Forwarded headers"`
	// Timeouts bound what a client may take.
	Timeouts FrontendTimeouts `json:"timeouts"`
	// KeepAlive lets a client send several requests on one connection.
	KeepAlive bool `json:"keep_alive"`
	// Log is what is written down of its requests.
	Log FrontendLog `json:"log"`
	// ErrorPages replace answers that Sluis gives itself.
	ErrorPages []ErrorPageUse `json:"error_pages"`
	// Limits bound what a request may hold.
	Limits RequestLimits `json:"limits" advanced:"true"`
}

// FrontendType is what a frontend does with connections.
type FrontendType string

// The types of frontends.
const (
	FrontendHTTP           FrontendType = "http"            // understands HTTP, offloads TLS
	FrontendTLSPassthrough FrontendType = "tls_passthrough" // reads the name in the TLS handshake and passes the rest on
	FrontendTCP            FrontendType = "tcp"             // passes bytes on
)

// Values lists the types.
func (FrontendType) Values() []string { return []string{"http", "tls_passthrough", "tcp"} }

// Bind is an address and port on which a frontend listens.
type Bind struct {
	// Name identifies the bind within its frontend.
	Name string `json:"name" required:"true"`
	// Address is vip:NAME, interface:NAME (its own addresses), an address, or any.
	Address string `json:"address" refs:"vip interface" format:"bind_address" required:"true"`
	// Port is the port.
	Port uint16 `json:"port" range:"1..65535"`
	// TLS takes TLS off (offloading): clients speak HTTPS here.
	TLS bool `json:"tls" label:"TLS"`
	// AcceptProxy expects the PROXY protocol before each connection, from these
	// sources alone: prefixes, addresses or aliases; empty = nobody sends it.
	AcceptProxy []string `json:"accept_proxy" refs:"alias" format:"network" advanced:"true"`
	// MaxConnections is how many connections this bind takes at a time; 0 = as many
	// as its frontend.
	MaxConnections int `json:"max_connections" label:"Maximum connections" unit:"connections" range:"0..10000000" advanced:"true"`
}

// FrontendTLS is how a frontend's TLS binds speak.
type FrontendTLS struct {
	// Certificates are shown to clients: the one that fits the name in the handshake,
	// else the first.
	Certificates []string `json:"certificates" ref:"certificates" required:"true"`
	// HostRuleFromCertificate lets only requests through whose Host is one of the
	// certificates' names.
	HostRuleFromCertificate bool `json:"host_rule_from_certificate" label:"Add ACL for certificate names"`
	// UnknownHostStatus answers a request whose Host no certificate names: 503, as
	// HAProxy on pfSense does, or 421 (RFC 9110 15.5.20).
	UnknownHostStatus int `json:"unknown_host_status" range:"400..599" when:"host_rule_from_certificate=true"`
	// MinVersion is the oldest TLS that is spoken.
	MinVersion TLSVersion `json:"min_version"`
	// MaxVersion is the newest TLS that is spoken.
	MaxVersion TLSVersion `json:"max_version" advanced:"true"`
	// CipherSuites are those of TLS 1.2, by their IANA names, in order of preference;
	// empty = a safe choice. TLS 1.3 has its own.
	CipherSuites []string `json:"cipher_suites" format:"cipher_suite" advanced:"true"`
	// ALPN are the protocols offered inside TLS (RFC 7301).
	ALPN []string `json:"alpn" label:"ALPN" format:"alpn" advanced:"true"`
	// RequireSNI ends handshakes that name no host, or one that no certificate has.
	RequireSNI bool `json:"require_sni" label:"Require SNI" advanced:"true"`
	// OCSPStapling adds the authority's word that the certificate is still good.
	OCSPStapling bool `json:"ocsp_stapling" label:"OCSP stapling"`
	// ClientCertificates asks clients for a certificate; absent = they are not asked.
	ClientCertificates *ClientCertificates `json:"client_certificates,omitempty" protects:"true"`
}

// TLSVersion is a version of TLS.
type TLSVersion string

// The versions.
const (
	TLS12 TLSVersion = "1.2" // RFC 5246
	TLS13 TLSVersion = "1.3" // RFC 8446
)

// Values lists the versions, oldest first.
func (TLSVersion) Values() []string { return []string{"1.2", "1.3"} }

// ClientCertificates asks clients for a certificate.
type ClientCertificates struct {
	// Mode says whether a client without a certificate may go on.
	Mode ClientCertificateMode `json:"mode"`
	// Authorities must have signed the certificate.
	Authorities []string `json:"authorities" ref:"authorities" required:"true"`
	// RevocationLists name certificates that are refused.
	RevocationLists []string `json:"revocation_lists" ref:"revocation_lists"`
	// AllowInvalid lets a certificate through that doesn't verify; ACLs can tell.
	AllowInvalid bool `json:"allow_invalid" advanced:"true"`
}

// ClientCertificateMode says whether a client without a certificate may go on.
type ClientCertificateMode string

// The modes.
const (
	ClientCertificateRequired ClientCertificateMode = "required" // no certificate, no connection
	ClientCertificateOptional ClientCertificateMode = "optional" // ACLs can tell
)

// Values lists the modes.
func (ClientCertificateMode) Values() []string { return []string{"required", "optional"} }

// Forwarded tells the servers who the client was. What a client itself sent in
// these fields is replaced, never passed on.
type Forwarded struct {
	// For sends the client's address as X-Forwarded-For.
	For bool `json:"for" label:"X-Forwarded-For"`
	// Proto sends http or https as X-Forwarded-Proto.
	Proto bool `json:"proto" label:"X-Forwarded-Proto"`
	// Host sends the request's Host as X-Forwarded-Host.
	Host bool `json:"host" label:"X-Forwarded-Host"`
	// Port sends the port that the client came to as X-Forwarded-Port.
	Port bool `json:"port" label:"X-Forwarded-Port"`
}

// FrontendTimeouts bound what a client may take.
type FrontendTimeouts struct {
	// Handshake is for the TLS handshake.
	Handshake Duration `json:"handshake" label:"TLS handshake" range:"1s..10m"`
	// Request is for the whole head of a request to arrive.
	Request Duration `json:"request" range:"1s..10m"`
	// KeepAlive is for the next request on an idle connection.
	KeepAlive Duration `json:"keep_alive" range:"1s..1h"`
	// Client is for a client that neither sends nor takes anything in the middle of an
	// exchange.
	Client Duration `json:"client" range:"1s..24h"`
}

// FrontendLog is what is written down of a frontend's requests.
type FrontendLog struct {
	// Enabled writes a line for each request.
	Enabled bool `json:"enabled"`
	// Format is the form of a line.
	Format LogFormat `json:"format"`
	// Normal writes also what went well; off = errors alone.
	Normal bool `json:"normal" label:"Log normal requests"`
	// Empty writes also connections that sent nothing.
	Empty bool `json:"empty" label:"Log empty connections"`
	// Redact leaves out query values, cookies and authorization.
	Redact bool `json:"redact"`
}

// LogFormat is the form of a log line.
type LogFormat string

// The forms of log lines.
const (
	LogJSON    LogFormat = "json"    // one JSON object a line
	LogHTTPLog LogFormat = "httplog" // HAProxy's httplog
)

// Values lists the forms.
func (LogFormat) Values() []string { return []string{"json", "httplog"} }

// RequestLimits bound what a request may hold.
type RequestLimits struct {
	// HeadSize is for the request line and all header fields together.
	HeadSize Size `json:"head_size" range:"1KiB..1MiB"`
	// HeaderFields is how many header fields there may be.
	HeaderFields int `json:"header_fields" unit:"fields" range:"10..1000"`
	// BodySize is for the body; 0B = no limit.
	BodySize Size `json:"body_size" range:"0B..1024GiB"`
}
