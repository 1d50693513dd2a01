package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/persist"
	"sluis/internal/proxy/upstream"
)

// Verb is what an operator does with a server.
type Verb string

// The verbs. They are operator state: no configuration, and no apply takes them
// back.
const (
	Drain       Verb = "drain"       // no new clients; bound ones still come
	Maintenance Verb = "maintenance" // no clients at all
	Ready       Verb = "ready"       // back to work, after a manual fail-back too
	Weight      Verb = "weight"      // another share of the work
)

// ErrUnknown says that no such backend or server is in effect.
var ErrUnknown = errors.New("not in effect")

// Act does something with a running server. weight is for Weight alone.
func (p *Proxy) Act(backend, server string, verb Verb, weight int) error {
	s, err := p.serverNamed(backend, server)
	if err != nil {
		return err
	}
	switch verb {
	case Drain:
		s.state.SetAdmin(upstream.Drain)
	case Maintenance:
		s.state.SetAdmin(upstream.Maintenance)
	case Ready:
		s.state.SetAdmin(upstream.Ready)
	case Weight:
		s.state.SetWeight(weight)
	default:
		return fmt.Errorf("verb %q is unknown", verb)
	}
	return nil
}

func (p *Proxy) serverNamed(backend, name string) (*server, error) {
	snap := p.current.Load()
	if snap == nil || snap.backends[backend] == nil {
		return nil, fmt.Errorf("backend %s: %w", backend, ErrUnknown)
	}
	for _, s := range snap.backends[backend].servers {
		if s.name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("server %s of backend %s: %w", name, backend, ErrUnknown)
}

// SetHealth tells what a check found. A server that no snapshot has is not an
// error: checks end a little later than servers go.
func (p *Proxy) SetHealth(backend, server string, up bool, reason string) {
	if s, err := p.serverNamed(backend, server); err == nil {
		s.state.SetHealth(up, reason)
	}
}

// SetWeight sets a server's weight as its agent asks: absolute (0 to 256) or in
// percent of the document's.
func (p *Proxy) SetWeight(backend, server string, weight int, percent bool) error {
	s, err := p.serverNamed(backend, server)
	if err != nil {
		return err
	}
	if percent {
		s.state.SetWeightPercent(weight)
		return nil
	}
	s.state.SetWeight(weight)
	return nil
}

// Address is where a server is, as far as is known.
func (p *Proxy) Address(backend, server string) (netip.Addr, bool) {
	s, err := p.serverNamed(backend, server)
	if err != nil {
		return netip.Addr{}, false
	}
	a := s.state.Addr()
	return a.Addr(), a.IsValid()
}

// SetAddress tells where a server given by name is found.
func (p *Proxy) SetAddress(backend, server string, a netip.Addr) {
	if s, err := p.serverNamed(backend, server); err == nil {
		s.state.SetAddr(netip.AddrPortFrom(a, s.port))
	}
}

// FrontendStatus is a frontend's present state and its numbers since the start.
type FrontendStatus struct {
	Name                                              string
	Listening                                         []string
	Connections, WebSockets, Limit                    int64
	TotalConnections, Handshakes, LimitReached, Empty uint64
	HandshakeErrors, HandshakeTimeouts                uint64
	Requests, BadRequests, Denied, BytesIn, BytesOut  uint64
	Answers                                           [6]uint64
	// Challenges of certificate authorities that were answered.
	Challenges uint64
	// Asked are names that handshakes asked for and no certificate has, at most 64;
	// AskedTotal counts all such handshakes.
	Asked      []AskedName
	AskedTotal uint64
}

// BackendStatus is a backend's.
type BackendStatus struct {
	Name                               string
	Balance                            string
	Usable, Queued                     int
	InUse, WebSockets                  int64
	QueueFull, QueueTimeouts, NoServer uint64
	Servers                            []ServerStatus
	// Active and Backups are servers that new clients could come to; Downtime is how
	// long there was none.
	Active, Backups int
	Downtime        time.Duration
	// Since is when the backend last began or ceased to be usable.
	Since time.Time
	// QueueMax is the longest queue there was, QueueLimit the longest there may be; 0 =
	// no limit.
	QueueMax, QueueLimit int
}

// ServerStatus is a server's.
type ServerStatus struct {
	Name, Address                                                  string
	State                                                          upstream.State
	Backup, Usable                                                 bool
	InUse, Queued, Limit                                           int
	Idle                                                           int
	WebSockets                                                     int64
	BoundSessions                                                  int
	Requests, Connects, Reused, Stale, ConnectErrors, AnswerErrors uint64
	Retries, Redispatched, BytesIn, BytesOut                       uint64
	Answers                                                        [6]uint64
	// Times are means over all answers, in ns.
	MeanConnect, MeanAnswer, MeanTotal int64
	// Since is when State last changed in health, admin or waiting; LastSeen when a
	// client that is bound to it last came, zero = none did.
	Since, LastSeen time.Time
	// Downs is how often its check took it out; Downtime how long it was out of service
	// over all, by health or by hand.
	Downs    uint64
	Downtime time.Duration
	// MaxInUse and QueueMax are the most there were; Balanced requests came by
	// balancing, the others of Chosen by persistence or a rule.
	MaxInUse, QueueMax int
	Balanced, Chosen   uint64
	// Unasked is how often bytes came that nobody had asked for.
	Unasked uint64
}

// Status is everything that the data plane can tell about itself.
type Status struct {
	Loops                      int
	Connections, Limit         int64
	LimitReached, AcceptErrors uint64
	SignaturesRefused          uint64
	LogLinesDropped            uint64
	Frontends                  []FrontendStatus
	Backends                   []BackendStatus
}

// Status reads all numbers. It costs time by the number of objects and waits for
// no loop.
func (p *Proxy) Status() Status {
	st := Status{
		Connections: p.connections.Load(), LimitReached: p.numbers.LimitReached.Load(), AcceptErrors: p.numbers.AcceptErrors.Load(),
		SignaturesRefused: p.signers.Stats().Refused,
	}
	snap := p.current.Load()
	if snap == nil {
		return st
	}
	st.Loops, st.Limit = snap.loops, snap.maxConnections
	for _, fe := range slices.SortedFunc(maps.Values(snap.frontends), func(a, b *frontend) int { return cmp.Compare(a.name, b.name) }) {
		st.Frontends = append(st.Frontends, p.frontendStatus(snap, fe))
	}
	for _, be := range snap.byIndex {
		st.Backends = append(st.Backends, p.backendStatus(be))
	}
	return st
}

func (p *Proxy) frontendStatus(snap *snapshot, fe *frontend) FrontendStatus {
	f := FrontendStatus{
		Name: fe.name, Connections: fe.live.connections.Load(), WebSockets: fe.live.webSockets.Load(), Limit: fe.maxConnections,
	}
	for _, b := range sortedBinds(snap) {
		if b.frontend == fe {
			f.Listening = append(f.Listening, b.address.String())
		}
	}
	f.Asked, f.AskedTotal = fe.live.asked.list()
	for i := range fe.live.perLoop {
		n := &fe.live.perLoop[i]
		f.TotalConnections += n.Connections.Get()
		f.Handshakes += n.Handshakes.Get()
		f.HandshakeErrors += n.HandshakeErrors.Get()
		f.HandshakeTimeouts += n.HandshakeTimeouts.Get()
		f.LimitReached += n.LimitReached.Get()
		f.Empty += n.Empty.Get()
		f.Requests += n.Requests.Get()
		f.BadRequests += n.BadRequests.Get()
		f.Denied += n.Denied.Get()
		f.Challenges += n.Challenges.Get()
		f.BytesIn += n.BytesIn.Get()
		f.BytesOut += n.BytesOut.Get()
		for k := range f.Answers {
			f.Answers[k] += n.Answers[k].Get()
		}
	}
	return f
}

func (p *Proxy) backendStatus(be *backend) BackendStatus {
	b := BackendStatus{
		Name: be.name, Balance: be.balanceName, WebSockets: be.live.webSockets.Load(), Usable: be.state.Usable(),
		Queued: be.state.Queued(), InUse: int64(be.state.InUse()),
	}
	more := be.state.Stats()
	b.Active, b.Backups, b.Downtime, b.Since = more.Active, more.Backups, time.Duration(more.Downtime), p.wall(more.LastChange)
	b.QueueMax, b.QueueLimit = more.QueueMax, more.MaxQueue
	for i := range be.live.perLoop {
		n := &be.live.perLoop[i]
		b.QueueFull += n.QueueFull.Get()
		b.QueueTimeouts += n.QueueTimeouts.Get()
		b.NoServer += n.NoServer.Get()
	}
	for _, s := range be.servers {
		b.Servers = append(b.Servers, p.serverStatus(s))
	}
	return b
}

func (p *Proxy) serverStatus(srv *server) ServerStatus {
	state := srv.state.State()
	s := ServerStatus{
		Name: srv.name, State: state, Backup: srv.backup, Usable: state.Usable, InUse: srv.state.InUse(), Queued: srv.state.Queued(),
		Limit: srv.limit, WebSockets: srv.live.webSockets.Load(), BoundSessions: p.boundTo(srv), Idle: srv.state.Idle(),
	}
	if a := srv.state.Addr(); a.IsValid() {
		s.Address = a.String()
	}
	more := srv.state.Stats()
	s.Downs, s.Downtime, s.MaxInUse, s.QueueMax = more.Downs, time.Duration(more.Downtime), more.MaxInUse, more.QueueMax
	s.Balanced, s.Chosen = more.Balanced, more.Total-more.Balanced
	s.Since, s.LastSeen = p.wall(state.Since), p.wall(p.sessions.LastSeen(srv.state.Index()))
	var connect, answer, total, answers uint64
	for i := range srv.live.perLoop {
		n := &srv.live.perLoop[i]
		s.Requests += n.Requests.Get()
		s.Connects += n.Connects.Get()
		s.Reused += n.Reused.Get()
		s.Stale += n.Stale.Get()
		s.ConnectErrors += n.ConnectErrors.Get()
		s.AnswerErrors += n.AnswerErrors.Get()
		s.Retries += n.Retries.Get()
		s.Redispatched += n.Redispatched.Get()
		s.BytesIn += n.BytesIn.Get()
		s.BytesOut += n.BytesOut.Get()
		s.Unasked += n.Unasked.Get()
		for k := range s.Answers {
			s.Answers[k] += n.Answers[k].Get()
			answers += n.Answers[k].Get()
		}
		connect += n.ConnectTime.Get()
		answer += n.AnswerTime.Get()
		total += n.TotalTime.Get()
	}
	if answers > 0 {
		s.MeanConnect, s.MeanAnswer, s.MeanTotal = int64(connect/answers), int64(answer/answers), int64(total/answers)
	}
	return s
}

// wall is the time of day of a moment of the data plane's clock; zero for 0.
func (p *Proxy) wall(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(at - p.clock())).Round(time.Millisecond)
}

// ServerStatus is one server's state and numbers. It fails with ErrUnknown.
func (p *Proxy) ServerStatus(backend, name string) (ServerStatus, error) {
	s, err := p.serverNamed(backend, name)
	if err != nil {
		return ServerStatus{}, err
	}
	return p.serverStatus(s), nil
}

// LoopStats are the counters of each loop; none before the first change.
func (p *Proxy) LoopStats() []loop.Stats {
	var stats []loop.Stats
	if p.current.Load() == nil {
		return nil // the loops may be starting
	}
	for _, w := range p.workers { // their number stays once there is a snapshot
		stats = append(stats, w.loop.Stats())
	}
	return stats
}

// SignerStats are the counters of the workers that sign with slow keys.
func (p *Proxy) SignerStats() loop.PoolStats { return p.signers.Stats() }

// SessionStats are the counters of the table of bound sessions.
func (p *Proxy) SessionStats() persist.SessionStats { return p.sessions.Stats(p.clock()) }

// boundTo is how many clients are bound to a server.
func (p *Proxy) boundTo(s *server) int { return p.sessions.Count(s.state.Index(), p.clock()) }

func sortedBinds(s *snapshot) []*bind {
	return slices.SortedFunc(maps.Values(s.binds), func(a, b *bind) int {
		if a.frontend.name != b.frontend.name {
			return cmp.Compare(a.frontend.name, b.frontend.name)
		}
		return a.address.Compare(b.address)
	})
}

func (p *Proxy) listenerAt(a listenAddress) *listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listeners[a]
}
