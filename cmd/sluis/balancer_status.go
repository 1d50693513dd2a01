package main

import (
	"context"
	"errors"
	"math"
	"time"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/health"
	"sluis/internal/proxy"
	"sluis/internal/proxy/accesslog"
	"sluis/internal/proxy/upstream"
	"sluis/internal/text"
)

// What the rooms of the load balancer tell, in control's words.

// balancer is the load balancer as control knows it.
func (a *appliance) balancer() control.Balancer {
	return control.Balancer{
		Status: a.balancerStatus, Server: a.serverDetail, Names: a.nameStatus,
		Requests: a.recentRequests, Follow: a.followRequests, Act: a.runtimeAction,
	}
}

func (a *appliance) balancerStatus() control.BalancerStatus {
	from := a.proxy.Status()
	st := control.BalancerStatus{
		Time: time.Now().Round(time.Millisecond), Loops: from.Loops, Connections: from.Connections, Limit: from.Limit,
		LimitReached: from.LimitReached, AcceptErrors: from.AcceptErrors,
		Frontends: []control.FrontendStatus{}, Backends: []control.BackendStatus{},
	}
	for _, f := range from.Frontends {
		st.Frontends = append(st.Frontends, frontendStatus(f))
	}
	checks := map[[2]string]health.Status{}
	for _, c := range a.checker.All() {
		checks[[2]string{c.Backend, c.Server}] = c
	}
	for _, b := range from.Backends {
		st.Backends = append(st.Backends, backendStatus(b, func(server string) *health.Status {
			if c, ok := checks[[2]string{b.Name, server}]; ok {
				return &c
			}
			return nil
		}))
	}
	return st
}

func frontendStatus(f proxy.FrontendStatus) control.FrontendStatus {
	asked := make([]control.AskedName, len(f.Asked))
	for i, n := range f.Asked {
		asked[i] = control.AskedName(n)
	}
	return control.FrontendStatus{
		Challenges: f.Challenges, UnknownNames: f.AskedTotal, AskedNames: asked,
		Name: f.Name, Listening: append([]string{}, f.Listening...),
		Connections: f.Connections, WebSockets: f.WebSockets, Limit: f.Limit,
		TotalConnections: f.TotalConnections, LimitReached: f.LimitReached, Empty: f.Empty,
		Handshakes: f.Handshakes, HandshakeErrors: f.HandshakeErrors, HandshakeTimeouts: f.HandshakeTimeouts,
		Requests: f.Requests, BadRequests: f.BadRequests, Denied: f.Denied, BytesIn: f.BytesIn, BytesOut: f.BytesOut,
		Answers: answersOf(f.Answers),
	}
}

func answersOf(n [6]uint64) control.Answers {
	return control.Answers{None: n[0], C1xx: n[1], C2xx: n[2], C3xx: n[3], C4xx: n[4], C5xx: n[5]}
}

func backendStatus(b proxy.BackendStatus, check func(server string) *health.Status) control.BackendStatus {
	out := control.BackendStatus{
		Name: b.Name, Balance: b.Balance, State: control.BackendDown, Since: b.Since,
		Active: b.Active, Backups: b.Backups, WebSockets: b.WebSockets,
		Queued: b.Queued, QueueMost: b.QueueMax, QueueLimit: b.QueueLimit,
		QueueFull: b.QueueFull, QueueTimeouts: b.QueueTimeouts, NoServer: b.NoServer,
		Downtime: rounded(b.Downtime), Servers: []control.ServerStatus{},
	}
	if b.Usable > 0 {
		out.State = control.BackendUp
	}
	for _, s := range b.Servers {
		server := serverStatus(b.Name, s, check(s.Name))
		out.Servers = append(out.Servers, server)
		out.Open += int64(server.Open)
		out.BoundSessions += server.BoundSessions
		if server.Backup {
			out.TotalBackups++
		} else {
			out.TotalActive++
		}
	}
	return out
}

func serverStatus(backend string, s proxy.ServerStatus, check *health.Status) control.ServerStatus {
	out := control.ServerStatus{
		Backend: backend, Name: s.Name, Address: s.Address, State: serverState(s.State), Since: s.Since,
		Admin: s.State.Admin.String(), Health: s.State.Health.String(), Backup: s.Backup,
		NewClients: s.State.Usable, Serving: s.State.Serving, Weight: s.State.Weight, Start: s.State.Start,
		// An upgraded connection keeps its place until it ends.
		Open: max(s.InUse-int(s.WebSockets), 0), InUse: s.InUse, WebSockets: s.WebSockets, BoundSessions: s.BoundSessions,
		LastSeen: s.LastSeen, Queued: s.Queued, Idle: s.Idle, MostUsed: s.MaxInUse, Limit: s.Limit, QueueMost: s.QueueMax,
		Requests: s.Requests, Balanced: s.Balanced, BytesIn: s.BytesIn, BytesOut: s.BytesOut,
		Connects: s.Connects, Reused: s.Reused, Stale: s.Stale, ConnectErrors: s.ConnectErrors, AnswerErrors: s.AnswerErrors,
		Retries: s.Retries, Redispatched: s.Redispatched, Answers: answersOf(s.Answers),
		MeanConnect: rounded(time.Duration(s.MeanConnect)), MeanAnswer: rounded(time.Duration(s.MeanAnswer)), MeanTotal: rounded(time.Duration(s.MeanTotal)),
		Downs: s.Downs, Downtime: rounded(s.Downtime),
	}
	if check != nil {
		out.Check = checkStatus(check)
	}
	out.Reason = serverReason(out.State, s.State, check)
	return out
}

// rounded leaves out what nobody reads.
func rounded(d time.Duration) config.Duration {
	switch {
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(time.Millisecond)
	default:
		d = d.Round(time.Microsecond)
	}
	return config.Duration(d)
}

// serverState is the table of upstream's state.go in one word.
func serverState(s upstream.State) control.ServerState {
	switch {
	case s.Disabled:
		return control.ServerDisabled
	case s.Admin == upstream.Maintenance:
		return control.ServerMaintenance
	case !s.Address.IsValid():
		return control.ServerUnresolved
	case s.Health == upstream.Down:
		return control.ServerDown
	case s.AwaitsReady:
		return control.ServerRecovered
	case s.Admin == upstream.Drain || s.Weight == 0:
		return control.ServerDrain
	case s.Health == upstream.Checking:
		return control.ServerChecking
	case s.Health == upstream.Unknown:
		return control.ServerUnchecked
	}
	return control.ServerUp
}

func serverReason(state control.ServerState, s upstream.State, check *health.Status) text.Msg {
	switch state {
	case control.ServerDisabled:
		return text.M("the configuration takes it out")
	case control.ServerMaintenance:
		return text.M("set to maintenance at run time: it gets no clients")
	case control.ServerUnresolved:
		return text.M("its name has no address yet")
	case control.ServerRecovered:
		return text.M("it is back, and waits to be set to ready")
	case control.ServerDrain:
		if s.Admin == upstream.Drain {
			return text.M("set to drain at run time: bound clients alone come")
		}
		return text.M("its weight is 0: bound clients alone come")
	case control.ServerUnchecked:
		return text.M("no health check asks it")
	}
	if check == nil {
		return text.Msg{}
	}
	if n := len(check.Transitions); n > 0 && state == control.ServerDown {
		return check.Transitions[n-1].Reason
	}
	return check.Reason
}

func checkStatus(c *health.Status) *control.CheckStatus {
	out := &control.CheckStatus{
		Code: string(c.Code), HTTPStatus: c.HTTPStatus, Reason: c.Reason, Duration: rounded(c.Duration.Std()), Last: c.Last,
		Running: c.Running, Waiting: c.Waiting, Health: c.Health, Rise: c.Rise, Fall: c.Fall, Probes: c.Probes, Bad: c.Bad,
	}
	switch c.Code {
	case health.L4OK, health.L6OK, health.L7OK:
		out.Good = true
	}
	if agent := c.Agent; agent != nil && !agent.Last.IsZero() {
		out.Agent = &control.AgentStatus{
			Last: agent.Last, Code: string(agent.Code), Reason: agent.Reason, Duration: rounded(agent.Duration.Std()), Down: agent.Down,
		}
	}
	return out
}

func (a *appliance) serverDetail(backend, server string) (control.ServerDetail, bool) {
	s, err := a.proxy.ServerStatus(backend, server)
	if err != nil {
		return control.ServerDetail{}, false
	}
	var check *health.Status
	if c, ok := a.checker.Status(backend, server); ok {
		check = &c
	}
	detail := control.ServerDetail{ServerStatus: serverStatus(backend, s, check), Transitions: []control.Transition{}}
	if check == nil {
		return detail, true
	}
	for _, t := range check.Transitions {
		detail.Transitions = append(detail.Transitions, control.Transition{
			Time: t.Time, Up: t.Up, Code: string(t.Code), HTTPStatus: t.HTTPStatus, Reason: t.Reason, After: rounded(t.After.Std()),
		})
	}
	detail.LastGood, detail.FirstBad = transcript(check.LastGood), transcript(check.FirstBad)
	return detail, true
}

func transcript(t *health.Transcript) *control.Transcript {
	if t == nil {
		return nil
	}
	out := &control.Transcript{
		Start: t.Start, To: t.To, Good: t.Good, Code: string(t.Code), HTTPStatus: t.HTTPStatus, Reason: t.Reason, Error: t.Error,
		Request: t.Request, RequestSize: t.RequestSize, Response: t.Response, ResponseSize: t.ResponseSize,
		Connect: rounded(t.Connect.Std()), Handshake: rounded(t.Handshake.Std()), FirstByte: rounded(t.FirstByte.Std()), Total: rounded(t.Total.Std()),
	}
	if t.TLS != nil {
		out.TLS = &control.TranscriptTLS{
			Version: t.TLS.Version, Cipher: t.TLS.Cipher, ServerName: t.TLS.ServerName, Certificates: []control.ServerCertificate{},
		}
		for _, c := range t.TLS.Certificates {
			out.TLS.Certificates = append(out.TLS.Certificates, control.ServerCertificate(c))
		}
	}
	return out
}

func (a *appliance) nameStatus() []control.NameStatus {
	names := []control.NameStatus{}
	for _, n := range a.resolver.Status() {
		names = append(names, control.NameStatus{
			Name: n.Name, Servers: n.Servers, Address: n.Address, Addresses: n.Addresses, Source: string(n.Source),
			Good: n.Good, Last: n.Last, Next: n.Next, Failures: n.Failures, Error: n.Error,
		})
	}
	return names
}

func (a *appliance) recentRequests(f control.RequestFilter) ([]control.Request, error) {
	filter, err := logFilter(f)
	if err != nil {
		return nil, err
	}
	if err := a.accessLog.Flush(); err != nil && !errors.Is(err, accesslog.ErrClosed) {
		return nil, err
	}
	return requestsOf(a.accessLog.Recent(f.Limit, filter)), nil
}

func (a *appliance) followRequests(f control.RequestFilter) (control.RequestReader, error) {
	filter, err := logFilter(f)
	if err != nil {
		return control.RequestReader{}, err
	}
	follower, err := a.accessLog.Follow(filter)
	if errors.Is(err, accesslog.ErrTooManyFollowers) {
		err = &control.Fault{
			Kind: control.Busy, Message: text.M("too many readers follow the requests already"),
			Hint: text.M("close those that nobody looks at"), RetryAfter: 5 * time.Second,
		}
	}
	if err != nil {
		return control.RequestReader{}, err
	}
	return control.RequestReader{
		Next: func(ctx context.Context) ([]control.Request, uint64, error) {
			records, missed, err := follower.Next(ctx)
			return requestsOf(records), missed, err
		},
		Close: follower.Close,
	}, nil
}

func logFilter(f control.RequestFilter) (out accesslog.Filter, err error) {
	out = accesslog.Filter{Frontend: f.Frontend, Backend: f.Backend, Server: f.Server, Text: f.Text, Trouble: f.Trouble}
	if out.From, out.To, err = f.Bounds(); err != nil {
		return out, err
	}
	out.Client, err = f.Network()
	return out, err
}

func requestsOf(records []accesslog.Record) []control.Request {
	requests := make([]control.Request, len(records))
	for i := range records {
		requests[i] = requestOf(&records[i])
	}
	return requests
}

func requestOf(r *accesslog.Record) control.Request {
	out := control.Request{
		Time: r.Wall, Frontend: r.Frontend, Bind: r.Bind, Backend: r.Backend, Server: r.Server,
		Method: string(r.Method), Host: string(r.Host), Target: string(r.Target), Proto: r.Proto,
		UserAgent: string(r.UserAgent), Referer: string(r.Referer), Status: r.Status, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
		RequestTime: milliseconds(r.Request), QueueTime: milliseconds(r.Queue), ConnectTime: milliseconds(r.Connect),
		ResponseTime: milliseconds(r.Response), TotalTime: milliseconds(r.Total),
		Termination: termination(r.Termination), Retries: r.Retries, Redispatched: r.Redispatched,
		Reason: r.Reason, Rule: r.Rule, TLSVersion: r.TLSVersion, Cipher: r.Cipher, SNI: r.SNI, RequestID: string(r.RequestID),
	}
	if r.Client.IsValid() {
		out.Client = r.Client.String()
	}
	return out
}

// milliseconds is a time in ns, to the microsecond; nil where it didn't get so far.
func milliseconds(ns int64) *float64 {
	if ns < 0 {
		return nil
	}
	ms := math.Round(float64(ns)/1e3) / 1e3
	return &ms
}

func termination(t [4]byte) string {
	for i, c := range t {
		if c == 0 {
			t[i] = '-'
		}
	}
	return string(t[:])
}
