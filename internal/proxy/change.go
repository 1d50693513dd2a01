package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluis/internal/config"
	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/upstream"
	"sluis/internal/text"
)

// Change is one prepared change of a Proxy. Add binds new sockets, Switch lets the
// new snapshot take over, Remove closes what the document no longer has, Undo
// brings back what was.
type Change struct {
	p    *Proxy
	next *snapshot
	// before is what Undo brings back; nil before Switch, or at first.
	before *snapshot
	added  []*listener
	// switched tells that next is in effect.
	switched bool
	removed  []*listener
}

// Prepare looks at a document and makes the change towards it. It touches nothing.
func (p *Proxy) Prepare(_ context.Context, doc *config.Document) (*Change, config.Problems) {
	next, problems := p.compile(doc)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.workers); n > 0 && n != next.loops {
		problems.Warn("load_balancer.loops", text.M("{now} loops run; {next} will run after a restart", "now", n, "next", next.loops))
	}
	for address, b := range next.binds {
		if p.listeners[address] == nil {
			p.probe(b, &problems)
		}
	}
	return &Change{p: p, next: next}, problems
}

// probe says now what Add would stumble over.
func (p *Proxy) probe(b *bind, problems *config.Problems) {
	fd, err := loop.Bind(b.address, loop.BindOptions{FreeBind: b.freeBind})
	if err == nil {
		_ = unix.Close(fd)
		return
	}
	p.explain(b, err, problems)
}

// explain says why an address can't be bound. An address that one of our own
// listeners covers until this change is over is no problem.
func (p *Proxy) explain(b *bind, err error, problems *config.Problems) {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		if p.overlaps(b.address) {
			return
		}
		problems.Add(b.path, text.M("{address} is taken by another program", "address", b.address)).
			Do(text.M("end that program, or choose another port"))
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		problems.Add(b.path, text.M("this process may not listen on port {port}", "port", b.address.Port())).
			Do(text.M("use a port from 1024 on, or give it the capability CAP_NET_BIND_SERVICE"))
	case errors.Is(err, unix.EADDRNOTAVAIL):
		problems.Add(b.path, text.M("this machine does not have the address {address}", "address", b.address.Addr()))
	case errors.Is(err, unix.EAFNOSUPPORT) && b.address.Addr().IsUnspecified():
		// any means IPv4 alone where there is no IPv6.
	default:
		problems.Add(b.path, text.M("{address} can't be listened on: {reason}", "address", b.address, "reason", err))
	}
}

// Add binds the sockets that are new. They accept nothing yet; what connects waits
// in the kernel.
func (c *Change) Add(context.Context) error {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.workers) == 0 {
		if err := p.start(c.next.loops); err != nil {
			return err
		}
	}
	c.removed = nil
	for address, l := range p.listeners {
		if c.next.binds[address] == nil {
			c.removed = append(c.removed, l)
		}
	}
	for _, address := range slices.SortedFunc(maps.Keys(c.next.binds), listenAddress.Compare) {
		if p.listeners[address] != nil {
			continue
		}
		l, err := p.listen(c.next.binds[address])
		if errors.Is(err, unix.EAFNOSUPPORT) && address.Addr().IsUnspecified() {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.next.binds[address].path, err)
		}
		c.added = append(c.added, l)
	}
	return nil
}

// Switch lets the new snapshot take over.
func (c *Change) Switch(context.Context) error {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.ready(c.next); err != nil {
		return err
	}
	if !c.switched {
		c.before, c.switched = p.current.Load(), true
	}
	for _, l := range c.added {
		p.listeners[l.address] = l
	}
	p.install(c.next)
	return p.open(c.added)
}

// ready gives a snapshot its certificates and live objects. A snapshot is ready
// before anybody else sees it, and not touched after.
func (p *Proxy) ready(s *snapshot) error {
	for _, fe := range s.frontends {
		fe.live = p.numbers.frontend(fe.name)
		if err := p.loadCertificates(fe); err != nil {
			return fmt.Errorf("frontends[%s].tls: %w", fe.name, err)
		}
	}
	for _, be := range s.backends {
		be.live = p.numbers.backend(be.name)
		p.bindServers(be)
	}
	p.joinTickets(s)
	return nil
}

// joinTickets gives a snapshot's binds the keys of their session tickets. That is
// not part of compile: most documents that are looked at never come into effect.
func (p *Proxy) joinTickets(s *snapshot) {
	for _, b := range s.binds {
		if b.tls != nil {
			p.tickets.join(b.tls, b.demands)
		}
	}
}

// bindServers puts a backend's settings into effect and finds its live servers.
func (p *Proxy) bindServers(be *backend) {
	be.state = p.set.Backend(be.name)
	be.state.Configure(be.settings)
	be.byState = make(map[*upstream.Server]*server, len(be.servers))
	for _, srv := range be.servers {
		srv.state = be.state.Server(srv.name)
		srv.live = p.numbers.server(be.name, srv.name)
		be.byState[srv.state] = srv
	}
}

// loadCertificates makes the table that a frontend's handshakes choose from.
func (p *Proxy) loadCertificates(fe *frontend) error {
	if fe.certificates == nil {
		return nil
	}
	t, err := fe.certificates.load(p.options.Certificate)
	if err != nil {
		return err
	}
	if fe.hostRule {
		fe.hosts.Store(hostsOf(t))
	}
	fe.certificates.current.Store(t)
	fe.live.asked.forget(func(name string) bool { _, known := t.choose(name); return known })
	return nil
}

// CertificatesChanged takes certificates in use that were made anew. The next
// handshakes show them; open connections are not touched.
func (p *Proxy) CertificatesChanged() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.current.Load()
	if s == nil {
		return nil
	}
	var errs []error
	for _, fe := range s.frontends {
		errs = append(errs, p.loadCertificates(fe))
	}
	return errors.Join(errs...)
}

// install makes a snapshot the one that new requests are served by.
func (p *Proxy) install(s *snapshot) {
	p.current.Store(s)
	for address, l := range p.listeners {
		if b := s.binds[address]; b != nil {
			l.bind.Store(b)
		}
	}
}

// open lets new sockets accept, each in its loop.
func (p *Proxy) open(added []*listener) error {
	var failed atomic.Pointer[error]
	p.everyWorker(func(w *worker) {
		for _, l := range added {
			s := l.sockets[w.index]
			if s.IsOpen() {
				continue
			}
			if err := s.open(); err != nil {
				failed.Store(&err)
			}
		}
	})
	if err := failed.Load(); err != nil {
		return fmt.Errorf("let new sockets accept: %w", *err)
	}
	return nil
}

// Remove closes the listeners that the document no longer has and lets the
// connections of what went leave.
func (c *Change) Remove(context.Context) error {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut(c.removed)
	p.tickets.keep(func(cfg *tls.Config) bool { return c.next.hasTLS(cfg) })
	if c.before != nil {
		for name := range c.before.backends {
			if c.next.backends[name] == nil {
				p.set.Forget(name)
			}
		}
	}
	p.everyWorker(func(w *worker) { w.leave(c.next) })
	return nil
}

// shut closes listeners.
func (p *Proxy) shut(gone []*listener) {
	for _, l := range gone {
		if p.listeners[l.address] != l {
			continue
		}
		delete(p.listeners, l.address)
		l.going.Store(l.bind.Load())
		l.bind.Store(nil)
	}
	p.turnAway(gone)
	p.everyWorker(func(w *worker) {
		for _, l := range gone {
			l.sockets[w.index].close()
		}
	})
	for _, l := range gone {
		l.closeSockets()
	}
}

// turnAway lets new connections pass by listeners that go while another one covers
// their address: they come again and find that one. Without it those whose
// handshake ends between the last accept and the close would be reset.
func (p *Proxy) turnAway(gone []*listener) {
	covered := slices.DeleteFunc(slices.Clone(gone), func(l *listener) bool { return !p.overlaps(l.address) })
	if len(covered) == 0 {
		return
	}
	p.everyWorker(func(w *worker) {
		for _, l := range covered {
			l.sockets[w.index].refuseSYN()
		}
	})
	time.Sleep(handshakesEnd)
}

// handshakesEnd is how long the TCP handshakes under way get to end.
const handshakesEnd = 50 * time.Millisecond

// Undo brings back the snapshot from before and closes the new sockets. Listeners
// that Remove closed already are bound anew.
func (c *Change) Undo(context.Context) error {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	if c.switched {
		errs = append(errs, c.bindAgain())
		if c.before != nil {
			p.install(p.restored(c.before))
		} else {
			p.current.Store(nothing())
		}
	}
	p.shut(c.added)
	if now := p.current.Load(); c.switched {
		p.everyWorker(func(w *worker) { w.leave(now) }) // who was told to leave may stay
	}
	for _, l := range c.added {
		l.closeSockets()
	}
	c.added = nil
	return errors.Join(errs...)
}

// bindAgain binds the listeners that this change had closed.
func (c *Change) bindAgain() error {
	p := c.p
	var errs []error
	var again []*listener
	for _, gone := range c.removed {
		if p.listeners[gone.address] != nil || c.before == nil {
			continue
		}
		b := c.before.binds[gone.address]
		l, err := p.listen(b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.path, err))
			continue
		}
		l.bind.Store(b)
		p.listeners[l.address] = l
		again = append(again, l)
	}
	errs = append(errs, p.open(again))
	return errors.Join(errs...)
}

// restored is a snapshot that was in effect, to be so again: requests may still be
// served by the old one while servers that went have come back as others.
func (p *Proxy) restored(s *snapshot) *snapshot {
	again := *s
	again.backends, again.byIndex = make(map[string]*backend, len(s.backends)), nil
	again.frontends, again.binds = make(map[string]*frontend, len(s.frontends)), make(map[listenAddress]*bind, len(s.binds))
	for _, old := range s.byIndex {
		be := *old
		be.servers = nil
		for _, srv := range old.servers {
			same := *srv
			same.backend = &be
			be.servers = append(be.servers, &same)
		}
		p.bindServers(&be)
		again.backends[be.name] = &be
		again.byIndex = append(again.byIndex, &be)
	}
	for name, old := range s.frontends {
		fe := old.copy()
		fe.snap = &again
		if old.defaultBackend != nil {
			fe.defaultBackend = again.backends[old.defaultBackend.name]
		}
		again.frontends[name] = fe
	}
	for address, old := range s.binds {
		b := *old
		b.frontend = again.frontends[old.frontend.name]
		again.binds[address] = &b
	}
	p.joinTickets(&again)
	return &again
}

// nothing is a snapshot in which nothing listens.
func nothing() *snapshot {
	return &snapshot{frontends: map[string]*frontend{}, backends: map[string]*backend{}, binds: map[listenAddress]*bind{}}
}

func (s *snapshot) hasTLS(cfg *tls.Config) bool {
	for _, b := range s.binds {
		if b.tls == cfg {
			return true
		}
	}
	return false
}
