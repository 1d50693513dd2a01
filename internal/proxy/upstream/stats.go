package upstream

// Event is something that happened with a server and is counted there.
type Event uint8

// The events, with HAProxy's column.
const (
	ConnectError  Event = iota // econ
	ResponseError              // eresp
	Retry                      // wretr
	Redispatch                 // wredis
	eventCount
)

// Count counts an event. It is called from any loop.
func (s *Server) Count(e Event) { s.events[e].Add(1) }

// ServerStats are a server's numbers at one moment, with HAProxy's columns.
type ServerStats struct {
	InUse, MaxInUse, Limit int    // scur, smax, slim; limit 0 = none
	Total, Balanced        uint64 // stot, lbtot
	Queued, QueueMax       int    // qcur, qmax: those who wait for it alone
	Idle, IdleLimit        int
	ConnectErrors          uint64 // econ
	ResponseErrors         uint64 // eresp
	Retries                uint64 // wretr
	Redispatches           uint64 // wredis
	Downs                  uint64 // chkdown
	LastChange             int64  // lastchg: when, in ns of the set's clock
	Downtime               int64  // downtime: ns down, in maintenance or awaiting ready
}

// Stats are the server's numbers.
func (s *Server) Stats() ServerStats {
	b := s.backend
	b.changing.Lock()
	r := ServerStats{Limit: s.settings.MaxConnections, Downs: s.downs, LastChange: s.since, Downtime: s.downtime}
	if s.wasStopped {
		r.Downtime += b.set.now() - s.stoppedAt
	}
	b.mu.Lock()
	r.Queued, r.QueueMax = s.queue.n, s.queueMax
	b.mu.Unlock()
	b.changing.Unlock()
	r.InUse, r.MaxInUse = s.places.InUse(), s.places.Max()
	r.Balanced = s.balanced.Load()
	r.Total = r.Balanced + s.chosen.Load()
	r.Idle, r.IdleLimit = s.Idle(), int(s.idleLimit.Load())
	r.ConnectErrors = s.events[ConnectError].Load()
	r.ResponseErrors = s.events[ResponseError].Load()
	r.Retries = s.events[Retry].Load()
	r.Redispatches = s.events[Redispatch].Load()
	return r
}

// BackendStats are a backend's own numbers at one moment. Sums over its servers are
// its caller's to make.
type BackendStats struct {
	Queued, QueueMax int    // those who wait for any server: qcur, qmax
	Waiting          int    // in all queues
	MaxQueue         int    // 0 = no limit
	Waited           uint64 // requests that had to wait, ever
	Refused          uint64 // because the queue was full
	NoServer         uint64 // because no server was usable
	GivenUp          uint64 // waits that were cancelled
	Usable           int    // servers that new clients come to
	Active, Backups  int    // act, bck: servers that new clients could come to
	LastChange       int64  // lastchg: of being usable or not; ns of the set's clock
	Downtime         int64  // downtime: ns without a usable server
}

// Stats are the backend's numbers.
func (b *Backend) Stats() BackendStats {
	b.changing.Lock()
	r := BackendStats{Usable: b.Usable(), LastChange: b.lastChange, Downtime: b.downtime}
	if b.everUsable && !b.wasUsable {
		r.Downtime += b.set.now() - b.downSince
	}
	for _, s := range b.servers {
		switch {
		case !s.Usable():
		case s.settings.Backup:
			r.Backups++
		default:
			r.Active++
		}
	}
	b.mu.Lock()
	r.Queued, r.QueueMax, r.Waiting, r.MaxQueue, r.Waited = b.queue.n, b.queueMax, b.waiting, b.maxQueue, b.waited
	b.mu.Unlock()
	b.changing.Unlock()
	r.Refused, r.NoServer, r.GivenUp = b.refused.Load(), b.noServer.Load(), b.givenUp.Load()
	return r
}
