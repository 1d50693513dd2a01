package message

// Field is one header field line, or a trailer field.
type Field struct {
	// Name is as the sender wrote it, a token. Empty says that the field was
	// removed: readers and writers pass over it.
	Name []byte
	// Value is without the white space around it. It holds no control byte but
	// the tab.
	Value []byte
	// ID is Lookup(Name).
	ID ID
}

// ID names the fields that Sluis itself looks at, so that nobody has to compare
// names on the hot path. Everything else is Other.
type ID uint8

// The fields with a name of their own. There are fewer than 64, so that a set of
// them is one word (Set).
const (
	Other ID = iota
	Accept
	AcceptEncoding
	AcceptLanguage
	Age
	Authorization
	CacheControl
	Connection
	ContentEncoding
	ContentLength
	ContentRange
	ContentType
	Cookie
	Date
	ETag
	Expect
	Expires
	Forwarded
	Host
	HTTP2Settings
	KeepAlive
	LastModified
	Location
	Origin
	Pragma
	ProxyAuthenticate
	ProxyAuthorization
	ProxyConnection
	Range
	Referer
	SecWebSocketAccept
	SecWebSocketExtensions
	SecWebSocketKey
	SecWebSocketProtocol
	SecWebSocketVersion
	Server
	SetCookie
	StrictTransportSecurity
	TE
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	Vary
	Via
	WWWAuthenticate
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XRealIP
	numIDs
)

// Set is a set of field names.
type Set uint64

// SetOf makes a set.
func SetOf(ids ...ID) Set {
	var s Set
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

// Has says whether the set holds id.
func (s Set) Has(id ID) bool { return s>>id&1 != 0 }

// framing are the fields that belong to one hop: the codecs read them into
// Body, KeepAlive, Upgrade and Trailers and write their own. They are never
// taken from Fields when a message is written (RFC 9110 7.6.1, RFC 9112 6).
const framing Set = 1<<Connection | 1<<ContentLength | 1<<HTTP2Settings | 1<<KeepAlive |
	1<<ProxyConnection | 1<<TE | 1<<TransferEncoding | 1<<Upgrade

// Framing are the fields that belong to one hop; see Fields of a message.
func Framing() Set { return framing }

// names are the fields' names in lower case, by ID.
var names = [numIDs]string{
	Accept: "accept", AcceptEncoding: "accept-encoding", AcceptLanguage: "accept-language", Age: "age",
	Authorization: "authorization", CacheControl: "cache-control", Connection: "connection",
	ContentEncoding: "content-encoding", ContentLength: "content-length", ContentRange: "content-range",
	ContentType: "content-type", Cookie: "cookie", Date: "date", ETag: "etag", Expect: "expect",
	Expires: "expires", Forwarded: "forwarded", Host: "host", HTTP2Settings: "http2-settings",
	KeepAlive: "keep-alive", LastModified: "last-modified", Location: "location", Origin: "origin",
	Pragma: "pragma", ProxyAuthenticate: "proxy-authenticate", ProxyAuthorization: "proxy-authorization",
	ProxyConnection: "proxy-connection", Range: "range", Referer: "referer",
	SecWebSocketAccept: "sec-websocket-accept", SecWebSocketExtensions: "sec-websocket-extensions",
	SecWebSocketKey: "sec-websocket-key", SecWebSocketProtocol: "sec-websocket-protocol",
	SecWebSocketVersion: "sec-websocket-version", Server: "server", SetCookie: "set-cookie",
	StrictTransportSecurity: "strict-transport-security", TE: "te", Trailer: "trailer",
	TransferEncoding: "transfer-encoding", Upgrade: "upgrade", UserAgent: "user-agent", Vary: "vary",
	Via: "via", WWWAuthenticate: "www-authenticate", XForwardedFor: "x-forwarded-for",
	XForwardedHost: "x-forwarded-host", XForwardedPort: "x-forwarded-port",
	XForwardedProto: "x-forwarded-proto", XRealIP: "x-real-ip",
}

// String is the field's name in lower case; of Other it is empty.
func (id ID) String() string {
	if id >= numIDs {
		return ""
	}
	return names[id]
}

// Lookup finds the ID of a field's name, in any case, without allocating: the
// length and the first letter leave one candidate, rarely two.
func Lookup(name []byte) ID {
	if len(name) < len("te") || len(name) > len("strict-transport-security") {
		return Other
	}
	a, b := candidates(len(name), name[0]|0x20)
	switch {
	case a == Other:
		return Other
	case EqualFold(name, names[a]):
		return a
	case b != Other && EqualFold(name, names[b]):
		return b
	}
	return Other
}

// candidates are the names of this length that begin with this letter. The test
// holds it against names, every pair.
func candidates(length int, first byte) (ID, ID) {
	switch length {
	case 2:
		return only(first, 't', TE)
	case 3:
		if first == 'a' {
			return Age, Other
		}
		return only(first, 'v', Via)
	case 4:
		switch first {
		case 'd':
			return Date, Other
		case 'e':
			return ETag, Other
		case 'h':
			return Host, Other
		case 'v':
			return Vary, Other
		}
	case 5:
		return only(first, 'r', Range)
	case 6:
		switch first {
		case 'a':
			return Accept, Other
		case 'c':
			return Cookie, Other
		case 'e':
			return Expect, Other
		case 'o':
			return Origin, Other
		case 'p':
			return Pragma, Other
		case 's':
			return Server, Other
		}
	case 7:
		switch first {
		case 'e':
			return Expires, Other
		case 'r':
			return Referer, Other
		case 't':
			return Trailer, Other
		case 'u':
			return Upgrade, Other
		}
	case 8:
		return only(first, 'l', Location)
	case 9:
		if first == 'f' {
			return Forwarded, Other
		}
		return only(first, 'x', XRealIP)
	case 10:
		return candidates10(first)
	}
	return longCandidates(length, first)
}

func candidates10(first byte) (ID, ID) {
	switch first {
	case 'c':
		return Connection, Other
	case 'k':
		return KeepAlive, Other
	case 's':
		return SetCookie, Other
	case 'u':
		return UserAgent, Other
	}
	return Other, Other
}

// longCandidates goes on where candidates ends.
func longCandidates(length int, first byte) (ID, ID) {
	switch length {
	case 12:
		return only(first, 'c', ContentType)
	case 13:
		switch first {
		case 'a':
			return Authorization, Other
		case 'c':
			return CacheControl, ContentRange
		case 'l':
			return LastModified, Other
		}
	case 14:
		if first == 'c' {
			return ContentLength, Other
		}
		return only(first, 'h', HTTP2Settings)
	case 15:
		if first == 'a' {
			return AcceptEncoding, AcceptLanguage
		}
		return only(first, 'x', XForwardedFor)
	case 16:
		switch first {
		case 'c':
			return ContentEncoding, Other
		case 'p':
			return ProxyConnection, Other
		case 'w':
			return WWWAuthenticate, Other
		case 'x':
			return XForwardedHost, XForwardedPort
		}
	case 17:
		switch first {
		case 's':
			return SecWebSocketKey, Other
		case 't':
			return TransferEncoding, Other
		case 'x':
			return XForwardedProto, Other
		}
	case 18:
		return only(first, 'p', ProxyAuthenticate)
	case 19:
		return only(first, 'p', ProxyAuthorization)
	case 20:
		return only(first, 's', SecWebSocketAccept)
	case 21:
		return only(first, 's', SecWebSocketVersion)
	case 22:
		return only(first, 's', SecWebSocketProtocol)
	case 24:
		return only(first, 's', SecWebSocketExtensions)
	case 25:
		return only(first, 's', StrictTransportSecurity)
	}
	return Other, Other
}

func only(first, want byte, id ID) (ID, ID) {
	if first == want {
		return id, Other
	}
	return Other, Other
}
