package proxy

import (
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"time"

	"sluis/internal/proxy/accesslog"
	"sluis/internal/proxy/http1"
	"sluis/internal/proxy/persist"
	"sluis/internal/proxy/rule"
	"sluis/internal/proxy/upstream"
)

// snapshot is the balancer's part of one document, ready for use. It is never
// changed; what outlives it (states, counts, sockets) it points to.
type snapshot struct {
	maxConnections int64
	drainTimeout   time.Duration
	loops          int
	frontends      map[string]*frontend
	backends       map[string]*backend
	// byIndex are the backends as rules name them.
	byIndex []*backend
	// binds are where it listens.
	binds map[listenAddress]*bind
}

// listenAddress is one listening socket's place.
type listenAddress = netip.AddrPort

// bind is one address of a frontend.
type bind struct {
	name     string
	path     string // in the document: frontends[shop].binds[https]
	frontend *frontend
	address  listenAddress
	// freeBind lets the socket stand on an address that this machine does not have
	// yet, as virtual addresses may be.
	freeBind bool
	tls      *tls.Config // nil = bare
	// demands tells handshakes apart that are not good for each other: bare, TLS, and
	// TLS with these authorities for clients' certificates.
	demands        string
	port           []byte // for X-Forwarded-Port
	maxConnections int64  // 0 = no limit of its own
}

// continues tells whether a connection that came in by b may go on by next, its
// listener's later bind: it is the same site, and what it asked for in the
// handshake is still all that is asked.
func (b *bind) continues(next *bind) bool {
	return next != nil && next.frontend.name == b.frontend.name && next.demands == b.demands
}

// frontend is a site as clients see it.
type frontend struct {
	name string
	// snap is where it belongs: its rules name backends by their place there.
	snap           *snapshot
	live           *liveFrontend
	maxConnections int64 // 0 = as many as the appliance
	rules          *rule.List
	// certificates chooses what a handshake shows; nil = no bind has TLS.
	certificates *certificateIndex
	// hosts are the names that requests over TLS may ask for, where hostRule is set.
	hosts             *atomic.Pointer[rule.HostNames]
	hostRule          bool
	unknownHostStatus int
	defaultBackend    *backend

	forwardFor, forwardProto, forwardHost, forwardPort bool

	handshakeTimeout, requestTimeout, keepAliveTimeout, clientTimeout int64 // ns

	keepAlive bool
	limits    http1.Limits
	bodyLimit int64 // bytes; 0 = none
	log       logSettings
	pages     errorPages
}

// copy is the same frontend as another object; what may change in it (the names
// and certificates in effect) it shares.
func (f *frontend) copy() *frontend {
	same := *f
	return &same
}

// logSettings are what is written down of a frontend's requests.
type logSettings struct {
	enabled, normal, empty, redact bool
	format                         accesslog.Format
}

// backend is a group of servers.
type backend struct {
	name    string
	index   int
	live    *liveBackend
	state   *upstream.Backend
	rules   *rule.List
	servers []*server
	// byState finds a server's settings by its live state.
	byState     map[*upstream.Server]*server
	balance     balanceKey
	balanceName string
	settings    upstream.BackendSettings
	cookie      *persist.Cookie // nil = none

	hsts          []byte // the field's value; nil = not sent
	secureCookies bool

	connectTimeout, serverTimeout, tunnelTimeout, queueTimeout int64 // ns

	retries    int
	redispatch bool
	reuse      reuse
	pages      errorPages
}

// server is one server's settings.
type server struct {
	name     string
	index    int // in its backend, and in the persistence cookie's values
	backend  *backend
	state    *upstream.Server
	live     *liveServer
	port     uint16
	limit    int // requests at a time; 0 = none
	backup   bool
	disabled bool
	// way is how it is spoken to. Settings that did not change keep their way over
	// snapshots, so that idle connections stay in use.
	way *way
}

// way is everything that a connection to a server depends on but its address.
type way struct {
	key       string // two ways with the same key are the same
	tls       *tls.Config
	sniOfHost bool // the request's host is the name in the handshake
	proxy     proxyProtocol
}

// reuse is when a connection may carry another client's requests.
type reuse uint8

const (
	reuseNever reuse = iota
	reuseSafe
	reuseAlways
)

// proxyProtocol is the version of the PROXY protocol that a server wants.
type proxyProtocol uint8

const (
	proxyOff proxyProtocol = iota
	proxyV1
	proxyV2
)

// balanceKey is what a server is chosen by, where it is chosen by a hash.
type balanceKey struct {
	of     hashOf
	header string
	length int
	depth  int
	query  bool
}

type hashOf uint8

const (
	hashNothing hashOf = iota
	hashSource
	hashPath
	hashHeader
)

// errorPages replace answers that Sluis gives itself, by status.
type errorPages map[int]*errorPage

type errorPage struct {
	contentType string
	body        string
}

// certificateIndex chooses the certificate for a handshake. It is made anew when
// certificates change and swapped as a whole.
type certificateIndex struct {
	names   []string // of the certificates in the document
	current atomic.Pointer[certificateTable]
}
