package config

import (
	"reflect"
	"time"
)

// Default is the document of a machine that nobody has configured yet. Decode
// starts from it, and from the defaults of each object below.
func Default() *Document {
	doc := defaultOf(reflect.TypeFor[Document]()).(Document)
	return &doc
}

const (
	second = Duration(time.Second)
	minute = Duration(time.Minute)
	hour   = Duration(time.Hour)
	year   = Duration(365 * day)
)

var (
	defaultForwarded = Forwarded{For: true, Proto: true, Host: true, Port: true}
	defaultSpec      = CertificateSpec{
		Usage: UsageServer, KeyType: KeyECDSAP256, Digest: DigestSHA256, Lifetime: Duration(397 * day),
	}
)

// defaults holds the default value of every object type whose zero value isn't
// its default. A nested struct's default is spelled out by the struct that
// holds it; a pointer that is given at all starts from its type's entry here.
var defaults = []any{
	Document{
		Format: CurrentFormat,
		System: System{
			Hostname: "sluis", Domain: "home.arpa", Timezone: "UTC",
			Admin: Admin{
				Protocol: AdminHTTPS, Port: 8443, CheckFormOrigin: true, SessionTimeout: 4 * hour,
				LoginProtection: LoginProtection{Threshold: 10, BlockTime: 2 * minute, DetectionTime: 30 * minute},
			},
			SSH: SSH{Port: 22, KeyOnly: true},
		},
		Logging:      Logging{Retention: Duration(30 * day), MaxSize: 512 << 20},
		LoadBalancer: LoadBalancer{Enabled: true, MaxConnections: 10000, Stats: Stats{Port: 8404, Refresh: 10 * second}},
	},
	Administrator{Role: RoleViewer},
	NotificationChannel{Type: ChannelEmail},
	LogTarget{Type: LogSyslogUDP},
	Interface{IPv4: IPv4{Method: IPv4None}, IPv6: IPv6{Method: IPv6None}},
	VLAN{Tag: 1},
	VirtualIP{Type: VIPAlias},
	Alias{Type: AliasHost},
	FirewallRule{
		Action: FirewallPass, Family: FamilyAny, Protocol: ProtocolAny,
		Source: "any", Destination: "any", Log: FirewallLogOff,
	},
	Authority{RandomSerial: true},
	InternalAuthority{KeyType: KeyECDSAP256, Digest: DigestSHA256, Lifetime: 10 * year},
	defaultSpec,
	IssuedCertificate{Spec: defaultSpec},
	CertificateRequest{Spec: defaultSpec},
	ACMECertificate{Challenge: ACMEHTTP01, KeyType: KeyECDSAP256},
	RevocationList{Lifetime: Duration(30 * day)},
	RevokedCertificate{Reason: "unspecified"},
	ACL{Match: MatchHost},
	Redirect{Code: 302},
	Deny{Status: 403},
	SetHeader{Of: OfRequest},
	RemoveHeader{Of: OfRequest},
	ReplaceHeader{Of: OfRequest},
	ErrorPage{ContentType: "text/html; charset=utf-8"},
	StickTable{Key: StickIP, KeyLength: 32, Size: 50000, Expire: 30 * minute},
	Frontend{
		Type: FrontendHTTP, Forwarded: defaultForwarded, KeepAlive: true,
		Timeouts: FrontendTimeouts{Handshake: 10 * second, Request: 10 * second, KeepAlive: 60 * second, Client: 30 * second},
		Log:      FrontendLog{Enabled: true, Format: LogJSON, Normal: true, Redact: true},
		Limits:   RequestLimits{HeadSize: 16 << 10, HeaderFields: 100},
	},
	Bind{Port: 443},
	FrontendTLS{UnknownHostStatus: 503, MinVersion: TLS12, MaxVersion: TLS13, ALPN: []string{"http/1.1"}},
	ClientCertificates{Mode: ClientCertificateRequired},
	Backend{
		Type: BackendHTTP, Balance: BalanceRoundRobin,
		ServerTLS: ServerTLS{Verify: VerifySystem, MinVersion: TLS12},
		Timeouts:  BackendTimeouts{Connect: 30 * second, Server: 30 * second, Tunnel: hour},
		Retries:   3, Redispatch: true, Failback: FailbackAutomatic, Reuse: ReuseSafe, IdleConnections: 100,
	},
	Server{Port: 80, Weight: 1, Role: ServerActive, SendProxy: ProxyOff},
	Check{
		Type: CheckHTTP, Method: "GET", Path: "/", Version: HTTP11, Host: "{server}",
		Interval: second, Rise: 2, Fall: 3, Log: true,
	},
	AgentCheck{Port: 9999, Interval: 2 * second},
	PersistenceCookie{Mode: CookieInsert, HTTPOnly: true, SameSite: SameSiteUnset},
	Stick{On: StickOnSource},
	HSTS{MaxAge: 5 * minute},
	PolicyTest{Method: "GET", Path: "/"},
}

// defaultOf is the default value of an object type.
func defaultOf(t reflect.Type) any {
	for _, d := range defaults {
		if reflect.TypeOf(d) == t {
			return cloneValue(reflect.ValueOf(d)).Interface()
		}
	}
	return reflect.Zero(t).Interface()
}
