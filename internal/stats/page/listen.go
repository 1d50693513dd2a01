package page

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// Bounds of what a client can keep.
const (
	maxConnections = 64 // of one socket
	maxHeader      = 16 << 10
	readTime       = 5 * time.Second
	writeTime      = 30 * time.Second
	idleTime       = time.Minute
	drainTime      = 2 * time.Second
)

// socket is a listening socket with its server.
type socket struct {
	net.Listener
	server *http.Server
	open   atomic.Int64
	// serving says that it has begun to accept; guarded by Page.mu.
	serving bool
}

// Claims are the parts of the document that a Page puts into effect.
func (*Page) Claims() []string { return []string{"load_balancer.stats"} }

// Change is the way from how the page is to what a document says.
type Change struct {
	page         *Page
	before, next *settings // before is nil at the first one
}

const portPath = "load_balancer.stats.port"

// Prepare looks what a document asks for. Binding a port for a moment is the only
// sure way to see whether it is free.
func (p *Page) Prepare(_ context.Context, doc *config.Document) (*Change, config.Problems) {
	var problems config.Problems
	next := p.settingsOf(doc)
	for _, address := range next.addresses {
		if p.listens(address) {
			continue
		}
		probe, err := net.Listen("tcp", address)
		if err != nil {
			if !absent(address, err) {
				message, hint := explain(address, err)
				problems.Add(portPath, message).Do(hint)
			}
			continue
		}
		_ = probe.Close()
	}
	if problems.HasErrors() {
		return nil, problems
	}
	return &Change{page: p, before: p.shown.Load(), next: next}, problems
}

func (p *Page) settingsOf(doc *config.Document) *settings {
	s := &settings{hostname: doc.System.Hostname, refresh: doc.LoadBalancer.Stats.Refresh}
	port := doc.LoadBalancer.Stats.Port
	switch {
	case port == 0:
	case p.options.Address != "":
		s.addresses = []string{p.options.Address}
	default:
		number := strconv.Itoa(int(port))
		s.addresses = []string{net.JoinHostPort("127.0.0.1", number), net.JoinHostPort("::1", number)}
	}
	return s
}

// Loopback reports whether host:port is an address that nobody outside reaches.
func Loopback(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// absent says that this machine has no IPv6: it does without.
func absent(address string, err error) bool {
	a, parseErr := netip.ParseAddrPort(address)
	return parseErr == nil && a.Addr().Is6() && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT))
}

func explain(address string, err error) (message, hint text.Msg) {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return text.M("{address} is taken by another program", "address", address), text.M("choose another port, or 0 for no statistics page")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return text.M("this process may not listen at {address}", "address", address), text.M("choose a port from 1024 on")
	}
	return text.M("{address} can't be listened at: {reason}", "address", address, "reason", err), text.Msg{}
}

// listenError is an error with words for administrators.
type listenError struct {
	message text.Msg
	cause   error
}

func (e listenError) Error() string  { return e.message.String() }
func (e listenError) Text() text.Msg { return e.message }
func (e listenError) Unwrap() error  { return e.cause }

func (p *Page) listens(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sockets[address] != nil
}

// Add listens at new addresses, beside the old ones.
func (c *Change) Add(context.Context) error { return c.page.open(c.next.addresses) }

// Switch answers at the new addresses, by the new settings.
func (c *Change) Switch(context.Context) error {
	c.page.shown.Store(c.next)
	c.page.begin()
	return nil
}

// Remove closes the old addresses.
func (c *Change) Remove(context.Context) error {
	c.page.keepOnly(c.next.addresses)
	return nil
}

// Undo brings the former addresses and settings back.
func (c *Change) Undo(context.Context) error {
	p := c.page
	p.shown.Store(c.before)
	var former []string
	if c.before != nil {
		former = c.before.addresses
	}
	err := p.open(former)
	p.begin()
	p.keepOnly(former)
	return err
}

func (p *Page) open(addresses []string) error {
	for _, address := range addresses {
		if p.listens(address) {
			continue
		}
		bound, err := net.Listen("tcp", address)
		if err != nil {
			if absent(address, err) {
				continue
			}
			message, _ := explain(address, err)
			return listenError{message, err}
		}
		s := &socket{Listener: bound}
		s.server = &http.Server{
			Handler: p, ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
			MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(p.options.Log.Handler(), slog.LevelDebug),
		}
		p.mu.Lock()
		p.sockets[address] = s
		p.mu.Unlock()
	}
	return nil
}

// begin answers at all addresses that are listened at.
func (p *Page) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if !s.serving {
			s.serving = true
			p.drains.Go(func() { _ = s.server.Serve(s) }) // ends when it is closed
		}
	}
}

// keepOnly closes all other sockets; answers under way are written to their end.
func (p *Page) keepOnly(addresses []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, s := range p.sockets {
		if slices.Contains(addresses, address) {
			continue
		}
		delete(p.sockets, address)
		_ = s.Listener.Close() // at once, so that the address is free
		p.drains.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), drainTime)
			defer cancel()
			if s.server.Shutdown(ctx) != nil {
				_ = s.server.Close() // who reads that slowly has had its time
			}
		})
	}
}

// Close ends everything and waits for it. It may be called twice.
func (p *Page) Close() {
	p.keepOnly(nil)
	p.drains.Wait()
}

// URLs are where the page stands; nil = nowhere.
func (p *Page) URLs() (urls []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		urls = append(urls, "http://"+s.Addr().String()+"/")
	}
	slices.Sort(urls) // 127.0.0.1 before [::1]
	return urls
}

// Accept waits for a connection; one too many is closed.
func (s *socket) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if s.open.Add(1) <= maxConnections {
			return &counted{Conn: c, socket: s}, nil
		}
		s.open.Add(-1)
		_ = c.Close()
	}
}

// counted is a connection that gives its place back once.
type counted struct {
	net.Conn
	socket *socket
	closed atomic.Bool
}

func (c *counted) Close() error {
	if !c.closed.Swap(true) {
		c.socket.open.Add(-1)
	}
	return c.Conn.Close()
}
