package proxy

// What a change leaves behind: connections whose frontend, listener or server went.
// Requests under way are answered; idle connections close; a tunnel lives on until
// the time to leave is over, or for ever where the document gives none.

// leave sorts the loop's connections by what a new snapshot still has.
func (w *worker) leave(next *snapshot) {
	by := int64(0)
	if next.drainTimeout > 0 {
		by = w.loop.Now() + int64(next.drainTimeout)
	}
	for c := w.clients.first; c != nil; {
		following := c.next
		switch {
		case c.orphaned():
			c.leaveBy = by
			c.retire()
		case c.serverGone(next):
			c.leaveBy = by
		default:
			c.leaveBy = 0
		}
		c = following
	}
	for s := w.servers.first; s != nil; {
		following := s.next
		if s.phase == serverIdle && next.serverOf(s.target) == nil {
			s.discard()
		}
		s = following
	}
}

// orphaned tells whether the listener of a connection went, or serves another site
// now, or asks for other things in the handshake than this one has shown.
func (c *clientConn) orphaned() bool { return !c.bind.continues(c.socket.listener.bind.Load()) }

// serverGone tells whether the server that a connection is bound to went.
func (c *clientConn) serverGone(next *snapshot) bool {
	x := c.x
	if c.tunnel != nil {
		x = c.tunnel.x
	}
	return x != nil && x.target != nil && next.serverOf(x.target) == nil
}

// serverOf is the snapshot's server of the same name; nil = it has none, or has it
// disabled.
func (s *snapshot) serverOf(t *server) *server {
	be := s.backends[t.backend.name]
	if be == nil {
		return nil
	}
	for _, srv := range be.servers {
		if srv.name == t.name && !srv.disabled {
			return srv
		}
	}
	return nil
}

// endOverdue ends the connections whose time to leave is over.
func (w *worker) endOverdue() {
	now := w.loop.Now()
	for c := w.clients.first; c != nil; {
		following := c.next
		if c.leaveBy != 0 && now >= c.leaveBy {
			c.end()
		}
		c = following
	}
}

// Ending counts what a change would end, by the object of the document.
type Ending struct {
	// Path is the object: frontends[shop], backends[web].servers[web1].
	Path string
	// Listeners are sockets that would be closed, Connections client connections,
	// WebSockets upgraded ones among them, BoundSessions clients that hold on to a
	// server that goes.
	Listeners, Connections, WebSockets, BoundSessions int
}

// Impact is what the change would end now. Connections in a tunnel only count
// where the document gives them a time to leave.
func (c *Change) Impact() []Ending {
	now := c.p.current.Load()
	if now == nil {
		return nil
	}
	drains := c.next.drainTimeout > 0
	endings := c.goneFrontends(now, drains)
	for _, be := range now.byIndex {
		for _, s := range be.servers {
			if s.disabled || c.next.serverOf(s) != nil {
				continue
			}
			e := Ending{Path: "backends[" + be.name + "].servers[" + s.name + "]", BoundSessions: c.p.boundTo(s)}
			if drains {
				e.WebSockets = int(s.live.webSockets.Load())
				e.Connections = e.WebSockets
			}
			if e.Connections+e.BoundSessions > 0 {
				endings = append(endings, e)
			}
		}
	}
	return endings
}

func (c *Change) goneFrontends(now *snapshot, drains bool) []Ending {
	var endings []Ending
	for _, b := range sortedBinds(now) {
		next := c.next.binds[b.address]
		if b.continues(next) {
			continue
		}
		path := "frontends[" + b.frontend.name + "]"
		if n := len(endings); n == 0 || endings[n-1].Path != path {
			endings = append(endings, Ending{Path: path})
		}
		e := &endings[len(endings)-1]
		if next == nil {
			e.Listeners++
		}
		l := c.p.listenerAt(b.address)
		if l == nil {
			continue
		}
		sockets := int(l.webSockets.Load())
		e.Connections += int(l.connections.Load())
		if drains {
			e.WebSockets += sockets
		} else {
			e.Connections -= sockets
		}
	}
	return endings
}
