package control

import (
	"context"
	"net/netip"
	"time"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/text"
)

// Balancer is what the load balancer tells of itself, and what can be done with it
// while it runs. Each func may be nil where this build or mode has none of it.
type Balancer struct {
	// Status is the state and the numbers of everything. It waits for nothing.
	Status func() BalancerStatus
	// Server is one server with its check's transcripts; false = it isn't in effect.
	Server func(backend, server string) (ServerDetail, bool)
	// Names are the names of servers that are looked up.
	Names func() []NameStatus
	// Requests are the newest records of requests that match, oldest first.
	Requests func(RequestFilter) ([]Request, error)
	// Follow reads the records that come from now on.
	Follow func(RequestFilter) (RequestReader, error)
	// Act acts on a running server.
	Act func(context.Context, RuntimeAction) error
}

// BalancerStatus is the state of the load balancer at one moment. Numbers called
// total count since the process began.
type BalancerStatus struct {
	Time time.Time `json:"time"`
	// Loops carry the traffic, one on a core each.
	Loops       int   `json:"loops"`
	Connections int64 `json:"connections"` // of clients, now
	Limit       int64 `json:"limit"`       // of these; 0 = none
	// LimitReached connections had to wait in the kernel, AcceptErrors could not be
	// taken for lack of memory or descriptors.
	LimitReached uint64           `json:"limit_reached_total"`
	AcceptErrors uint64           `json:"accept_errors_total"`
	Frontends    []FrontendStatus `json:"frontends"`
	Backends     []BackendStatus  `json:"backends"`
}

// FrontendStatus is a frontend's state and its numbers.
type FrontendStatus struct {
	Name      string   `json:"name"`
	Listening []string `json:"listening"` // addresses with port

	Connections int64 `json:"connections"`
	WebSockets  int64 `json:"websockets"`
	Limit       int64 `json:"limit"` // of connections; 0 = none of its own

	TotalConnections  uint64 `json:"connections_total"`
	LimitReached      uint64 `json:"limit_reached_total"`
	Empty             uint64 `json:"empty_total"` // connections that never asked
	Handshakes        uint64 `json:"handshakes_total"`
	HandshakeErrors   uint64 `json:"handshake_errors_total"`
	HandshakeTimeouts uint64 `json:"handshake_timeouts_total"`
	Requests          uint64 `json:"requests_total"`
	BadRequests       uint64 `json:"bad_requests_total"`
	Denied            uint64 `json:"denied_total"` // by a rule
	// Challenges of certificate authorities (ACME) that were answered.
	Challenges uint64 `json:"challenges_total"`
	// UnknownNames are handshakes for a host name that no certificate has, and
	// AskedNames the names, at most 64 of them, what was asked for most first.
	UnknownNames uint64      `json:"unknown_names_total"`
	AskedNames   []AskedName `json:"asked_names"`
	BytesIn      uint64      `json:"bytes_in_total"`
	BytesOut     uint64      `json:"bytes_out_total"`
	Answers      Answers     `json:"answers_total"`
}

// AskedName is a host name that clients ask a frontend for and that none of its
// certificates has.
type AskedName struct {
	Name  string    `json:"name"`
	Count uint64    `json:"count_total"`
	Last  time.Time `json:"last"`
}

// Answers are counted by the class of their status.
type Answers struct {
	C1xx uint64 `json:"1xx"`
	C2xx uint64 `json:"2xx"`
	C3xx uint64 `json:"3xx"`
	C4xx uint64 `json:"4xx"`
	C5xx uint64 `json:"5xx"`
	None uint64 `json:"none"` // requests without an answer
}

// BackendState is what a backend is to its clients.
type BackendState string

// The states of a backend.
const (
	BackendUp   BackendState = "up"   // some server takes new clients
	BackendDown BackendState = "down" // none does
)

// BackendStatus is a backend's state and its numbers, beside its servers'.
type BackendStatus struct {
	Name    string       `json:"name"`
	Balance string       `json:"balance"`
	State   BackendState `json:"state"`
	Since   time.Time    `json:"since,omitzero"`
	// Active and Backups are servers that new clients could come to, of as many as
	// there are.
	Active       int `json:"active"`
	Backups      int `json:"backups"`
	TotalActive  int `json:"active_servers"`
	TotalBackups int `json:"backup_servers"`

	Open          int64 `json:"open_requests"`
	WebSockets    int64 `json:"websockets"`
	BoundSessions int   `json:"bound_sessions"`
	Queued        int   `json:"queued"`
	QueueMost     int   `json:"queue_most"`
	QueueLimit    int   `json:"queue_limit"` // 0 = none

	QueueFull     uint64          `json:"queue_full_total"`
	QueueTimeouts uint64          `json:"queue_timeouts_total"`
	NoServer      uint64          `json:"no_server_total"`
	Downtime      config.Duration `json:"downtime"` // without any server, since the start
	Servers       []ServerStatus  `json:"servers"`
}

// ServerState is what a server is, in one word; see ServerStatus for why.
type ServerState string

// The states of a server: the first that fits.
const (
	ServerDisabled    ServerState = "disabled"    // the document takes it out
	ServerMaintenance ServerState = "maintenance" // the operator does
	ServerUnresolved  ServerState = "unresolved"  // its name has no address yet
	ServerDown        ServerState = "down"        // its check says so
	ServerRecovered   ServerState = "recovered"   // its check says that it is back; it waits for the operator's ready
	ServerDrain       ServerState = "drain"       // bound clients alone, by the operator or by its weight of 0
	ServerChecking    ServerState = "checking"    // no answer yet; it is believed to be up
	ServerUnchecked   ServerState = "unchecked"   // nobody asks; it is believed to be up
	ServerUp          ServerState = "up"
)

// ServerStatus is a server's state and its numbers.
type ServerStatus struct {
	Backend string `json:"backend"`
	Name    string `json:"name"`
	Address string `json:"address,omitempty"` // empty = not known yet

	State ServerState `json:"state"`
	// Since is when the state began, Reason why it is so.
	Since  time.Time `json:"since,omitzero"`
	Reason text.Msg  `json:"reason,omitzero"`
	// Admin is what the operator set (ready, drain, maintenance), Health what checks
	// say (up, down, checking, unknown).
	Admin  string `json:"admin"`
	Health string `json:"health"`
	Backup bool   `json:"backup"`
	// NewClients says that new clients could come, Serving that they do: of the backups
	// that is the one in use.
	NewClients bool `json:"new_clients"`
	Serving    bool `json:"serving"`
	Weight     int  `json:"weight"`
	// Start is how much of its weight it has after it came back, in percent.
	Start int `json:"start_percent"`

	// Open, WebSockets and BoundSessions are who would notice if it went away. InUse
	// is Open and WebSockets together, which Limit bounds.
	Open          int   `json:"open_requests"`
	WebSockets    int64 `json:"websockets"`
	BoundSessions int   `json:"bound_sessions"`
	// LastSeen is when a client that is bound to it last came; zero = none has.
	LastSeen  time.Time `json:"last_seen,omitzero"`
	Queued    int       `json:"queued"`
	Idle      int       `json:"idle_connections"`
	InUse     int       `json:"in_use"`
	MostUsed  int       `json:"most_in_use"`
	Limit     int       `json:"limit"` // 0 = none
	QueueMost int       `json:"queue_most"`

	Requests      uint64  `json:"requests_total"`
	Balanced      uint64  `json:"balanced_total"` // of these; the others were bound to it
	BytesIn       uint64  `json:"bytes_in_total"`
	BytesOut      uint64  `json:"bytes_out_total"`
	Connects      uint64  `json:"connects_total"`
	Reused        uint64  `json:"reused_total"`
	Stale         uint64  `json:"stale_total"` // reused connections that were closed already
	ConnectErrors uint64  `json:"connect_errors_total"`
	AnswerErrors  uint64  `json:"answer_errors_total"`
	Retries       uint64  `json:"retries_total"`
	Redispatched  uint64  `json:"redispatched_total"`
	Answers       Answers `json:"answers_total"`
	// Means over all answers since the start.
	MeanConnect config.Duration `json:"mean_connect"`
	MeanAnswer  config.Duration `json:"mean_answer"`
	MeanTotal   config.Duration `json:"mean_total"`
	Downs       uint64          `json:"downs_total"`
	Downtime    config.Duration `json:"downtime"`

	// Check is what its health check last found; nil = it has none.
	Check *CheckStatus `json:"check,omitempty"`
}

// CheckStatus is what a health check found.
type CheckStatus struct {
	// Code is HAProxy's word for the result (L7OK, L4CON); empty = no answer yet.
	Code       string          `json:"code,omitempty"`
	HTTPStatus int             `json:"http_status,omitempty"`
	Good       bool            `json:"good"`
	Reason     text.Msg        `json:"reason,omitzero"`
	Duration   config.Duration `json:"duration"`
	Last       time.Time       `json:"last,omitzero"`
	Running    bool            `json:"running"` // a probe is under way
	// Waiting says why nothing is asked; zero = it is.
	Waiting text.Msg `json:"waiting,omitzero"`
	// Health rises with good answers and falls with bad ones; from Rise on the server
	// is up.
	Health int    `json:"health"`
	Rise   int    `json:"rise"`
	Fall   int    `json:"fall"`
	Probes uint64 `json:"probes_total"`
	Bad    uint64 `json:"bad_total"`
	// Agent is the last word of its agent; nil = it has none, or none was said yet.
	Agent *AgentStatus `json:"agent,omitempty"`
}

// AgentStatus is what a server's agent last said.
type AgentStatus struct {
	Last     time.Time       `json:"last,omitzero"`
	Code     string          `json:"code,omitempty"`
	Reason   text.Msg        `json:"reason,omitzero"`
	Duration config.Duration `json:"duration"`
	Down     bool            `json:"down"`
}

// ServerDetail is a server with the history of its check.
type ServerDetail struct {
	ServerStatus
	// Transitions are the last changes between up and down, oldest first.
	Transitions []Transition `json:"transitions"`
	// LastGood is the last good check, FirstBad the first bad one after a good one.
	LastGood *Transcript `json:"last_good,omitempty"`
	FirstBad *Transcript `json:"first_bad,omitempty"`
}

// Transition is one change between up and down.
type Transition struct {
	Time       time.Time       `json:"time"`
	Up         bool            `json:"up"`
	Code       string          `json:"code,omitempty"`
	HTTPStatus int             `json:"http_status,omitempty"`
	Reason     text.Msg        `json:"reason"`
	After      config.Duration `json:"after"` // how long the state before it lasted
}

// Transcript is one check from beginning to end.
type Transcript struct {
	Start      time.Time      `json:"start"`
	To         netip.AddrPort `json:"to"`
	Good       bool           `json:"good"`
	Code       string         `json:"code"`
	HTTPStatus int            `json:"http_status,omitempty"`
	Reason     text.Msg       `json:"reason"`
	Error      string         `json:"error,omitempty"` // the system's own word
	// Request and Response are the first bytes of what was sent and received, the
	// sizes those of the whole.
	Request      string          `json:"request,omitempty"`
	RequestSize  int             `json:"request_size"`
	Response     string          `json:"response,omitempty"`
	ResponseSize int             `json:"response_size"`
	Connect      config.Duration `json:"connect"`
	Handshake    config.Duration `json:"handshake"`
	FirstByte    config.Duration `json:"first_byte"`
	Total        config.Duration `json:"total"`
	// TLS is what the handshake showed; nil = there was none.
	TLS *TranscriptTLS `json:"tls,omitempty"`
}

// TranscriptTLS is what a check's handshake showed.
type TranscriptTLS struct {
	Version      string              `json:"version,omitempty"`
	Cipher       string              `json:"cipher,omitempty"`
	ServerName   string              `json:"server_name"` // as sent; empty = none was
	Certificates []ServerCertificate `json:"certificates"`
}

// ServerCertificate is what a server has shown.
type ServerCertificate struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names,omitempty"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 in hexadecimal
}

// NameStatus is what is known of a name that servers are given by.
type NameStatus struct {
	Name    string   `json:"name"`
	Servers []string `json:"servers"` // as backend/server
	// Address is the one in use; not valid = there was never one.
	Address   netip.Addr   `json:"address"`
	Addresses []netip.Addr `json:"addresses"`
	Source    string       `json:"source,omitempty"` // dns, hosts or localhost
	// Good is when the addresses were last found so, perhaps before a restart.
	Good     time.Time `json:"good,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Next     time.Time `json:"next,omitzero"`
	Failures int       `json:"failures"` // since a good lookup
	Error    text.Msg  `json:"error,omitzero"`
}

// Request is one request and what became of it, as the access log has it. Values
// of queries, cookies and credentials were taken out before.
type Request struct {
	Time     time.Time `json:"time"`
	Client   string    `json:"client"` // address and port
	Frontend string    `json:"frontend"`
	Bind     string    `json:"bind"`
	Backend  string    `json:"backend,omitempty"` // empty = none was chosen
	Server   string    `json:"server,omitempty"`
	// Method is empty where no request could be read.
	Method    string `json:"method,omitempty"`
	Host      string `json:"host,omitempty"`
	Target    string `json:"target,omitempty"`
	Proto     string `json:"proto,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
	Referer   string `json:"referer,omitempty"`
	Status    int    `json:"status"` // 0 = no answer was sent
	BytesIn   int64  `json:"bytes_in"`
	BytesOut  int64  `json:"bytes_out"`
	// Times in milliseconds: reading the request, waiting for a place, connecting,
	// waiting for the answer, in all; absent where it didn't get so far.
	RequestTime  *float64 `json:"request_ms,omitempty"`
	QueueTime    *float64 `json:"queue_ms,omitempty"`
	ConnectTime  *float64 `json:"connect_ms,omitempty"`
	ResponseTime *float64 `json:"response_ms,omitempty"`
	TotalTime    *float64 `json:"total_ms,omitempty"`
	// Termination says who ended it in which phase, as in HAProxy's log.
	Termination  string `json:"termination"`
	Retries      int    `json:"retries"`
	Redispatched bool   `json:"redispatched"`
	// Reason says why Sluis answered itself; Rule is the rule that decided.
	Reason     string `json:"reason,omitempty"`
	Rule       string `json:"rule,omitempty"`
	TLSVersion string `json:"tls_version,omitempty"`
	Cipher     string `json:"cipher,omitempty"`
	SNI        string `json:"sni,omitempty"`
	RequestID  string `json:"request_id,omitempty"`
}

// RequestFilter says which requests are wanted; its zero value wants the newest of
// all.
type RequestFilter struct {
	// Frontend, Backend and Server are compared; empty = any.
	Frontend, Backend, Server string
	// Status is a status (404) or a class of them (5xx); empty = any.
	Status string
	// Client is an address or a network; empty = any.
	Client string
	// Text stands in host, target, user agent, referer, request ID, rule or reason,
	// whatever the case; empty = anything.
	Text string
	// Trouble leaves out what went well.
	Trouble bool
	// Limit is how many; 0 = 50, at most 500. Followers have none.
	Limit int
}

// Bounds returns the first and last status that the filter wants; 0, 0 = any.
func (f RequestFilter) Bounds() (from, to int, err error) {
	s := f.Status
	switch {
	case s == "":
		return 0, 0, nil
	case len(s) == 3 && s[0] >= '1' && s[0] <= '5' && s[1:] == "xx":
		from = int(s[0]-'0') * 100
		return from, from + 99, nil
	case len(s) == 3 && s[0] >= '1' && s[0] <= '5' && digit(s[1]) && digit(s[2]):
		from = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
		return from, from, nil
	}
	return 0, 0, fault(Invalid, text.M("{status} is no status", "status", s)).
		do(text.M("write a status such as 404, or a class of them such as 5xx"))
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// Network returns the clients that the filter wants; not valid = any.
func (f RequestFilter) Network() (netip.Prefix, error) {
	if f.Client == "" {
		return netip.Prefix{}, nil
	}
	if prefix, err := netip.ParsePrefix(f.Client); err == nil {
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(f.Client)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fault(Invalid, text.M("{client} is no address of a client", "client", f.Client)).
			do(text.M("write an address or a network such as 192.0.2.0/24"))
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// RequestReader reads requests as they come.
type RequestReader struct {
	// Next waits for records, and tells how many were missed before them. It belongs
	// to one goroutine at a time.
	Next func(context.Context) (requests []Request, missed uint64, err error)
	// Close ends it, and a Next that waits.
	Close func()
}

const (
	requestsDefault = 50
	requestsMost    = 500
)

// BalancerStatus is the state of the whole load balancer.
func (c *Control) BalancerStatus(caller Caller) (BalancerStatus, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return BalancerStatus{}, err
	}
	if c.o.Balancer.Status == nil {
		return BalancerStatus{}, noBalancer()
	}
	return c.statusInZone(c.o.Balancer.Status()), nil
}

func noBalancer() *Fault {
	return fault(Unavailable, text.M("no load balancer runs in this build or mode"))
}

// BackendStatus is the state of one backend.
func (c *Control) BackendStatus(caller Caller, backend string) (BackendStatus, error) {
	all, err := c.BalancerStatus(caller)
	if err != nil {
		return BackendStatus{}, err
	}
	var names []string
	for _, b := range all.Backends {
		if b.Name == backend {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return BackendStatus{}, unknownName(text.M("no backend named {backend} is in effect", "backend", backend), backend, names)
}

// ServerDetail is the state of one server, with the history of its check.
func (c *Control) ServerDetail(caller Caller, backend, server string) (ServerDetail, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return ServerDetail{}, err
	}
	if c.o.Balancer.Server == nil {
		return ServerDetail{}, noBalancer()
	}
	if found, ok := c.o.Balancer.Server(backend, server); ok {
		return c.detailInZone(found), nil
	}
	b, err := c.BackendStatus(caller, backend)
	if err != nil {
		return ServerDetail{}, err
	}
	var names []string
	for _, s := range b.Servers {
		names = append(names, s.Name)
	}
	return ServerDetail{}, unknownName(text.M("backend {backend} has no server named {server} in effect", "backend", backend, "server", server), server, names)
}

// Names are the names of servers that are looked up.
func (c *Control) Names(caller Caller) ([]NameStatus, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return nil, err
	}
	if c.o.Balancer.Names == nil {
		return nil, noBalancer()
	}
	names := c.o.Balancer.Names()
	for i := range names {
		n := &names[i]
		n.Good, n.Last, n.Next = c.inZone(n.Good), c.inZone(n.Last), c.inZone(n.Next)
	}
	return names, nil
}

// Requests are the newest requests that a filter wants, oldest first.
func (c *Control) Requests(caller Caller, f RequestFilter) ([]Request, error) {
	if err := c.mayFilter(caller, f); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = requestsDefault
	}
	f.Limit = min(f.Limit, requestsMost)
	if c.o.Balancer.Requests == nil {
		return nil, noBalancer()
	}
	requests, err := c.o.Balancer.Requests(f)
	c.requestsInZone(requests)
	return requests, err
}

// FollowRequests reads the requests that a filter wants from now on. The caller
// closes the reader.
func (c *Control) FollowRequests(caller Caller, f RequestFilter) (RequestReader, error) {
	if err := c.mayFilter(caller, f); err != nil {
		return RequestReader{}, err
	}
	if c.o.Balancer.Follow == nil {
		return RequestReader{}, noBalancer()
	}
	reader, err := c.o.Balancer.Follow(f)
	if err != nil {
		return RequestReader{}, err
	}
	next := reader.Next
	reader.Next = func(ctx context.Context) ([]Request, uint64, error) {
		requests, missed, err := next(ctx)
		c.requestsInZone(requests)
		return requests, missed, err
	}
	return reader, nil
}

// MayRead says whether a caller may go on reading a stream of facts.
func (c *Control) MayRead(caller Caller) error { return caller.May(auth.Action{Kind: auth.View}) }

func (c *Control) mayFilter(caller Caller, f RequestFilter) error {
	if err := c.MayRead(caller); err != nil {
		return err
	}
	if _, _, err := f.Bounds(); err != nil {
		return err
	}
	_, err := f.Network()
	return err
}

// Times of facts are shown in the zone of the document.

func (c *Control) statusInZone(st BalancerStatus) BalancerStatus {
	st.Time = c.inZone(st.Time)
	for i := range st.Frontends {
		for k := range st.Frontends[i].AskedNames {
			n := &st.Frontends[i].AskedNames[k]
			n.Last = c.inZone(n.Last)
		}
	}
	for i := range st.Backends {
		b := &st.Backends[i]
		b.Since = c.inZone(b.Since)
		for k := range b.Servers {
			c.serverInZone(&b.Servers[k])
		}
	}
	return st
}

func (c *Control) serverInZone(s *ServerStatus) {
	s.Since, s.LastSeen = c.inZone(s.Since), c.inZone(s.LastSeen)
	if s.Check == nil {
		return
	}
	s.Check.Last = c.inZone(s.Check.Last)
	if s.Check.Agent != nil {
		s.Check.Agent.Last = c.inZone(s.Check.Agent.Last)
	}
}

func (c *Control) detailInZone(d ServerDetail) ServerDetail {
	c.serverInZone(&d.ServerStatus)
	for i := range d.Transitions {
		d.Transitions[i].Time = c.inZone(d.Transitions[i].Time)
	}
	for _, t := range []*Transcript{d.LastGood, d.FirstBad} {
		if t != nil {
			t.Start = c.inZone(t.Start)
		}
	}
	return d
}

func (c *Control) requestsInZone(requests []Request) {
	for i := range requests {
		requests[i].Time = c.inZone(requests[i].Time)
	}
}
