package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"

	"sluis/internal/config"
	"sluis/internal/text"
)

// maxConnections is how many administrators' connections there are at most over
// the network, and maxOfSource how many of one source, so that none can take them
// all. The unix socket has its own way in.
const (
	maxConnections = 512
	maxOfSource    = 64
)

// ListenerOptions are what the admin listener stands on. Handler and Accepted are
// required; without the two certificate funcs only plain HTTP can be served.
type ListenerOptions struct {
	// Address replaces the document's port (host:port), or the addresses on which
	// the document's port is listened at (host); empty = all addresses.
	Address string
	Handler http.Handler
	// Certificate is the certificate of that name; nil = there is none.
	Certificate func(name string) *tls.Certificate
	// DefaultCertificate is the appliance's own for these names and addresses. With
	// an error it may come all the same.
	DefaultCertificate func(names []string, addresses []netip.Addr) (*tls.Certificate, error)
	// Accepted numbers each accepted connection.
	Accepted func() uint64
	// Log gets what administrators need not see; nil = nobody does.
	Log *slog.Logger
}

// Listener is the way in over the network: it serves on the admin port and puts
// system.admin into effect. It never touches a socket whose address stays, and
// opens the new one before it closes the old.
//
// Prepare and the steps of a change come one after another, as the commit engine
// calls them; all other methods may be called from any goroutine.
type Listener struct {
	options ListenerOptions // immutable
	tls     *tls.Config     // immutable; one for all connections, so that sessions resume
	current atomic.Pointer[access]
	counts  listenerCounts
	drains  sync.WaitGroup // of sockets that were closed

	mu      sync.Mutex
	sockets map[string]*socket // by target; guarded by mu

	ofSource sourceCounts
}

// socket is a listening socket with its server.
type socket struct {
	net.Listener
	owner  *Listener
	server *server
	// serving says that it has begun to accept; guarded by Listener.mu.
	serving bool
}

type listenerCounts struct {
	open, accepted, notAllowed, tooMany, tooManyOfSource atomic.Int64
}

// ListenerStats counts connections over the network.
type ListenerStats struct {
	// Open are there now.
	Open int64 `json:"open"`
	// Accepted were let in since the start.
	Accepted int64 `json:"accepted"`
	// NotAllowed came from a source, or through an interface, that isn't allowed.
	NotAllowed int64 `json:"not_allowed"`
	// TooMany were refused because there were too many.
	TooMany int64 `json:"too_many"`
	// TooManyOfSource were refused because their source had too many.
	TooManyOfSource int64 `json:"too_many_of_source"`
}

// NewListener makes a listener that doesn't listen before its first change.
func NewListener(o ListenerOptions) *Listener {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Certificate == nil {
		o.Certificate = func(string) *tls.Certificate { return nil }
	}
	l := &Listener{options: o, sockets: map[string]*socket{}}
	l.tls = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.certificate(), nil },
	}
	return l
}

// Claims are the places of the document that the listener puts into effect.
func (l *Listener) Claims() []string {
	return []string{
		"system.admin.protocol", "system.admin.port", "system.admin.certificate", "system.admin.other_names",
		"system.admin.interfaces", "system.admin.sources",
	}
}

// Stats returns the counters.
func (l *Listener) Stats() ListenerStats {
	return ListenerStats{
		Open: l.counts.open.Load(), Accepted: l.counts.accepted.Load(),
		NotAllowed: l.counts.notAllowed.Load(), TooMany: l.counts.tooMany.Load(),
		TooManyOfSource: l.counts.tooManyOfSource.Load(),
	}
}

// ListenerChange is the way from how the listener is to what a document says.
type ListenerChange struct {
	listener     *Listener
	before, next *access // before is nil at the first one
}

// Prepare looks what a document asks for. Binding a port for a moment is the only
// sure way to see whether it is free.
func (l *Listener) Prepare(_ context.Context, doc *config.Document) (*ListenerChange, config.Problems) {
	var problems config.Problems
	next, names := accessOf(doc, l.options.Address)
	l.checkSources(doc, next, names, &problems)
	checkDevices(doc, &problems)
	if next.https {
		l.checkCertificate(doc, &problems)
	}
	if !l.listens(next.target) {
		checkTarget(next.target, &problems)
	}
	if problems.HasErrors() {
		return nil, problems
	}
	change := &ListenerChange{listener: l, before: l.current.Load(), next: next}
	change.warn(&problems)
	return change, problems
}

// warn says where the API will be: who applies this must know before.
func (c *ListenerChange) warn(problems *config.Problems) {
	if !c.Moves() {
		return
	}
	path := "system.admin.protocol"
	if c.leaves() {
		path = "system.admin.port"
	}
	problems.Warn(path, text.M("after this apply GUI and API answer at {url}", "url", c.URLs()[0])).
		Do(text.M("apply with a time to confirm, so that the old address comes back by itself if nobody gets in at the new one"))
}

// leaves reports whether the address or the port changes.
func (c *ListenerChange) leaves() bool { return c.before != nil && c.before.target != c.next.target }

// Moves reports whether GUI and API answer at other URLs after the change, so that
// a browser may not bring its session along.
func (c *ListenerChange) Moves() bool {
	return c.before != nil && (c.leaves() || c.before.https != c.next.https)
}

// Impact is how many listeners are closed, and how many connections there are now
// that have to come back at the new address.
func (c *ListenerChange) Impact() (listeners, connections int) {
	if !c.leaves() {
		return 0, 0
	}
	return 1, int(c.listener.counts.open.Load())
}

// URLs are where GUI and API answer after the change, the most useful one first;
// never empty.
func (c *ListenerChange) URLs() []string {
	if urls := c.listener.urlsOf(c.next); urls != nil {
		return urls // it is bound already
	}
	host, port, _ := net.SplitHostPort(c.next.target) // it could be listened at
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "":
		addr = netip.IPv6Unspecified()
	case err != nil:
		return []string{c.next.url(host, port)}
	}
	return c.next.urls(addr, port)
}

func (l *Listener) checkSources(doc *config.Document, next *access, names []string, problems *config.Problems) {
	const path = "system.admin.sources"
	for _, name := range names {
		problems.Warn(path, text.M("{name} lets nobody in: only addresses and networks do here, names aren't looked up", "name", name)).
			Do(text.M("write the address"))
	}
	if len(doc.System.Admin.Sources) > 0 && len(next.sources) == 0 {
		problems.Warn(path, text.M("no address is allowed, so only this machine itself can reach its API"))
	}
}

func checkDevices(doc *config.Document, problems *config.Problems) {
	byName := map[string]string{}
	for _, i := range doc.Interfaces {
		byName[i.Name] = i.Device
	}
	for n, name := range doc.System.Admin.Interfaces {
		device, known := byName[name]
		if _, err := net.InterfaceByName(device); known && err != nil {
			problems.Warn(fmt.Sprintf("system.admin.interfaces[%d]", n),
				text.M("this machine has no device {device}, so nobody gets in through {name}", "device", device, "name", name)).
				Do(text.M("as long as there is no other one, only this machine itself can reach its API"))
		}
	}
}

// checkCertificate refuses a name that has no certificate to show. One that this
// document brings along is as good as there: whether its key fits is said by whoever
// installs it.
func (l *Listener) checkCertificate(doc *config.Document, problems *config.Problems) {
	const path = "system.admin.certificate"
	name := doc.System.Admin.Certificate
	if name == "" {
		if l.options.DefaultCertificate == nil {
			problems.Add(path, text.M("no certificate is named, and this build makes none of its own"))
		}
		return
	}
	for _, c := range doc.Certificates {
		brings := c.SelfSigned != nil || c.Certificate != "" && !c.Key.IsZero()
		if c.Name == name && (brings || l.options.Certificate(name) != nil) {
			return
		}
	}
	problems.Add(path, text.M("{name} can't be shown: it has no certificate with its key yet", "name", name)).
		Do(text.M("choose another certificate, or none for the appliance's own"))
}

func (l *Listener) listens(target string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sockets[target] != nil
}

// checkTarget binds for a moment. The listener of a site of ours counts, too: a
// port that it is leaving in the same apply isn't free when the new one is added.
func checkTarget(target string, problems *config.Problems) {
	probe, err := net.Listen("tcp", target)
	if err == nil {
		_ = probe.Close()
		return
	}
	message, hint := explainListen(target, err)
	problems.Add("system.admin.port", message).Do(hint)
}

// Add listens at a new address, beside the old one. Nobody is answered there yet.
func (c *ListenerChange) Add(context.Context) error { return c.listener.open(c.next.target) }

// Switch makes the new rules and certificate take effect, and answers at the new
// address.
func (c *ListenerChange) Switch(context.Context) error {
	l := c.listener
	if err := l.certify(c.next); err != nil {
		return err
	}
	l.current.Store(c.next)
	l.begin(c.next.target)
	return nil
}

// Remove closes the old address. Requests that came through it finish meanwhile:
// this apply itself may be one of them.
func (c *ListenerChange) Remove(context.Context) error {
	c.listener.keepOnly(c.next.target)
	return nil
}

// Undo brings the former address, rules and certificate back.
func (c *ListenerChange) Undo(context.Context) error {
	l := c.listener
	if c.before == nil {
		l.current.Store(nil)
		l.keepOnly("")
		return nil
	}
	l.current.Store(c.before)
	err := l.open(c.before.target)
	if err == nil {
		l.begin(c.before.target)
		l.keepOnly(c.before.target)
	}
	return err
}

// open listens at an address, unless that is done already.
func (l *Listener) open(target string) error {
	if l.listens(target) {
		return nil
	}
	bound, err := net.Listen("tcp", target)
	if err != nil {
		message, _ := explainListen(target, err)
		return listenError{message, err}
	}
	s := &socket{Listener: bound, owner: l}
	s.server = newServer(l.options.Handler, l.options.Accepted, l.options.Log, func(net.Conn, *conn) {})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets[target] = s
	return nil
}

// begin answers at an address that is listened at.
func (l *Listener) begin(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sockets[target]; s != nil && !s.serving {
		s.serving = true
		s.server.serve(s)
	}
}

// keepOnly closes all sockets but one; they drain by themselves.
func (l *Listener) keepOnly(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t, s := range l.sockets {
		if t != target {
			delete(l.sockets, t)
			_ = s.Listener.Close() // at once, so that the address is free
			l.drains.Go(func() { s.server.drain(false) })
		}
	}
}

// certify finds the certificate to show.
func (l *Listener) certify(a *access) error {
	if !a.https {
		return nil
	}
	if a.certificate != "" {
		if a.shown = l.options.Certificate(a.certificate); a.shown == nil {
			return listenError{text.M("the certificate {name} isn't there", "name", a.certificate), nil}
		}
		return nil
	}
	shown, err := l.options.DefaultCertificate(a.names, a.addresses)
	switch {
	case shown == nil && err == nil:
		err = errors.New("no certificate came")
	case shown != nil && err != nil:
		l.options.Log.Warn("the appliance's own certificate will be another one after a restart", "cause", err)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("make the appliance's own certificate: %w", err)
	}
	a.shown = shown
	return nil
}

// listenError is an error with words for administrators.
type listenError struct {
	message text.Msg
	cause   error
}

func (e listenError) Error() string { return e.message.String() }

// Text says it to administrators.
func (e listenError) Text() text.Msg { return e.message }

// Unwrap is what the system said.
func (e listenError) Unwrap() error { return e.cause }

// certificate is what a handshake shows: the named certificate as it is now, since
// it may have been renewed.
func (l *Listener) certificate() *tls.Certificate {
	a := l.current.Load()
	if a == nil || !a.https {
		return nil
	}
	if a.certificate != "" {
		if now := l.options.Certificate(a.certificate); now != nil {
			return now
		}
	}
	return a.shown
}

// Accept waits for a connection that may get in. TLS is decided for each one, so
// that the protocol can change while the socket stays.
func (s *socket) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := s.owner.admit(c); admitted != nil {
			return admitted, nil
		}
		_ = c.Close() // nobody is told why: who may get in is not for strangers
	}
}

func (l *Listener) admit(c net.Conn) net.Conn {
	a := l.current.Load()
	if a == nil || !a.allows(addrOf(c.RemoteAddr()), addrOf(c.LocalAddr())) {
		l.counts.notAllowed.Add(1)
		return nil
	}
	leave, ok := l.ofSource.enter(addrOf(c.RemoteAddr()))
	if !ok {
		l.counts.tooManyOfSource.Add(1)
		return nil
	}
	if l.counts.open.Add(1) > maxConnections {
		l.counts.open.Add(-1)
		l.counts.tooMany.Add(1)
		leave()
		return nil
	}
	l.counts.accepted.Add(1)
	counted := &countedConn{Conn: c, leave: func() {
		l.counts.open.Add(-1)
		leave()
	}}
	if !a.https {
		return counted
	}
	// A plain request on this port gets a plain 400 that says https, from net/http.
	return tls.Server(counted, l.tls)
}

func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}

// countedConn counts itself out when it is closed.
type countedConn struct {
	net.Conn
	leave func()
	once  sync.Once
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// sourceCounts counts the open connections of each source. It holds no more entries
// than there are connections.
type sourceCounts struct {
	mu   sync.Mutex
	open map[netip.Prefix]int // never 0; guarded by mu
}

// enter counts a connection in, unless its source has too many; leave counts it out.
// The machine itself is not counted.
func (s *sourceCounts) enter(from netip.Addr) (leave func(), ok bool) {
	from = from.Unmap().WithZone("")
	if from.IsLoopback() {
		return func() {}, true
	}
	source := networkOf(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[source] >= maxOfSource {
		return nil, false
	}
	if s.open == nil {
		s.open = map[netip.Prefix]int{}
	}
	s.open[source]++
	return func() { s.leave(source) }, true
}

func (s *sourceCounts) leave(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[source]--; s.open[source] == 0 {
		delete(s.open, source)
	}
}

// networkOf is what counts as one source: an IPv4 address or an IPv6 /64, which is
// what one subscriber has.
func networkOf(from netip.Addr) netip.Prefix {
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	prefix, _ := from.Prefix(bits) // an address has as many bits
	return prefix
}

// Leaf is the certificate that is shown now; nil where none is.
func (l *Listener) Leaf() *x509.Certificate {
	shown := l.certificate()
	if shown == nil {
		return nil
	}
	if shown.Leaf != nil {
		return shown.Leaf
	}
	leaf, err := x509.ParseCertificate(shown.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// URLs are where the API answers; empty while it doesn't.
func (l *Listener) URLs() []string {
	a := l.current.Load()
	if a == nil {
		return nil
	}
	return l.urlsOf(a)
}

// urlsOf are the URLs at an address that is listened at; nil where it isn't.
func (l *Listener) urlsOf(a *access) []string {
	l.mu.Lock()
	s := l.sockets[a.target]
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	bound, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	return a.urls(bound.AddrPort().Addr(), strconv.Itoa(bound.Port))
}

func (a *access) urls(bound netip.Addr, port string) (urls []string) {
	for _, host := range hosts(bound, a) {
		urls = append(urls, a.url(host.String(), port))
	}
	return urls
}

func (a *access) url(host, port string) string {
	scheme := "http"
	if a.https {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// hosts are the addresses at which a bound address is reached: those of the
// machine where it is bound to all of them.
func hosts(bound netip.Addr, a *access) []netip.Addr {
	if !bound.IsUnspecified() {
		return []netip.Addr{bound.Unmap()}
	}
	var list []netip.Addr
	addresses, _ := net.InterfaceAddrs() // without them there is still the machine itself
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() || bound.Is4() && !prefix.Addr().Is4() {
			continue
		}
		if a.doors == nil || a.throughDoor(prefix.Addr()) {
			list = append(list, prefix.Addr())
		}
	}
	return append(list, netip.MustParseAddr("127.0.0.1"))
}

// Close ends the listener. Requests have some seconds to finish.
func (l *Listener) Close() {
	l.mu.Lock()
	sockets := l.sockets
	l.sockets = map[string]*socket{}
	l.mu.Unlock()
	for _, s := range sockets {
		_ = s.Listener.Close()
		l.drains.Go(func() { s.server.drain(true) })
	}
	l.drains.Wait()
}
