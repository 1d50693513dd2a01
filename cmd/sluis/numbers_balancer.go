package main

import (
	"strconv"
	"strings"

	"sluis/internal/proxy"
	"sluis/internal/stats"
)

// The load balancer's numbers. Labels are names of the document and fixed words, so
// nothing that a client sends makes a new one.

func (a *appliance) balancerNumbers() {
	a.proxyNumbers()
	a.loopNumbers()
	a.logNumbers()
	a.healthNumbers()
	a.resolveNumbers()
}

// classes are the label values of proxy's Answers.
var classes = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (a *appliance) proxyNumbers() {
	s := a.stats.Source("proxy")
	connections := s.Gauge("connections", "Connections of clients now, over all frontends.")
	limit := s.Gauge("connections_limit", "Connections of clients that there may be; 0 = no limit.")
	waited := s.Counter("limit_reached_total", "Connections that waited in the kernel because the appliance was full.")
	acceptErrors := s.Counter("accept_errors_total", "Connections that could not be taken for lack of memory or descriptors.")
	signatures := s.Counter("signatures_total", "Signatures with slow keys outside the loops, by result.", "result")
	signing := s.Gauge("signatures_pending", "Signatures that wait or are in work.")
	sessions := s.Gauge("bound_sessions", "Clients that are remembered with their server.")
	evicted := s.Counter("evicted_sessions_total", "Clients that were forgotten early because the table was full.")
	frontend, server := frontendNumbers(s), serverNumbers(s)
	s.Collect(func(out *stats.Sample) {
		st := a.proxy.Status()
		out.Gauge(connections, float64(st.Connections))
		out.Gauge(limit, float64(st.Limit))
		out.Counter(waited, float64(st.LimitReached))
		out.Counter(acceptErrors, float64(st.AcceptErrors))
		signers := a.proxy.SignerStats()
		out.Counter(signatures, float64(signers.Done), "ok")
		out.Counter(signatures, float64(signers.Refused), "refused")
		out.Gauge(signing, float64(signers.Waiting+signers.Working))
		table := a.proxy.SessionStats()
		out.Gauge(sessions, float64(table.Bound))
		out.Counter(evicted, float64(table.Evicted))
		for i := range st.Frontends {
			frontend(out, &st.Frontends[i])
		}
		for i := range st.Backends {
			server(out, &st.Backends[i])
		}
	})
}

// frontendNumbers describes a frontend's numbers, and returns who puts them.
func frontendNumbers(s *stats.Source) func(*stats.Sample, *proxy.FrontendStatus) {
	open := s.Gauge("frontend_connections", "Connections of clients now.", "frontend")
	webSockets := s.Gauge("frontend_websockets", "WebSockets and other upgraded connections now.", "frontend")
	limit := s.Gauge("frontend_connections_limit", "Connections that there may be; 0 = no limit of its own.", "frontend")
	connections := s.Counter("frontend_connections_total", "Connections that were taken.", "frontend")
	waited := s.Counter("frontend_limit_reached_total", "Connections that waited because the frontend was full.", "frontend")
	handshakes := s.Counter("frontend_handshakes_total", "TLS handshakes, by how they ended.", "frontend", "result")
	requests := s.Counter("frontend_requests_total", "Requests.", "frontend")
	bad := s.Counter("frontend_bad_requests_total", "Requests that were malformed.", "frontend")
	denied := s.Counter("frontend_denied_requests_total", "Requests that a rule denied.", "frontend")
	challenges := s.Counter("frontend_acme_challenges_total", "Challenges of certificate authorities that were answered.", "frontend")
	asked := s.Counter("frontend_unknown_names_total", "Handshakes for a host name that no certificate has.", "frontend")
	answers := s.Counter("frontend_answers_total", "Answers by the class of their status; none = the request ended without one.", "frontend", "code")
	bytes := s.Counter("frontend_bytes_total", "Bytes from clients (in) and to them (out).", "frontend", "direction")
	return func(out *stats.Sample, f *proxy.FrontendStatus) {
		out.Gauge(open, float64(f.Connections), f.Name)
		out.Gauge(webSockets, float64(f.WebSockets), f.Name)
		out.Gauge(limit, float64(f.Limit), f.Name)
		out.Counter(connections, float64(f.TotalConnections), f.Name)
		out.Counter(waited, float64(f.LimitReached), f.Name)
		out.Counter(handshakes, float64(f.Handshakes), f.Name, "ok")
		out.Counter(handshakes, float64(f.HandshakeErrors), f.Name, "failed")
		out.Counter(handshakes, float64(f.HandshakeTimeouts), f.Name, "timeout")
		out.Counter(requests, float64(f.Requests), f.Name)
		out.Counter(bad, float64(f.BadRequests), f.Name)
		out.Counter(denied, float64(f.Denied), f.Name)
		out.Counter(challenges, float64(f.Challenges), f.Name)
		out.Counter(asked, float64(f.AskedTotal), f.Name)
		for i, class := range classes {
			out.Counter(answers, float64(f.Answers[i]), f.Name, class)
		}
		out.Counter(bytes, float64(f.BytesIn), f.Name, "in")
		out.Counter(bytes, float64(f.BytesOut), f.Name, "out")
	}
}

// serverNumbers describes the numbers of backends and servers, and returns who puts
// them.
func serverNumbers(s *stats.Source) func(*stats.Sample, *proxy.BackendStatus) {
	backend, server := []string{"backend"}, []string{"backend", "server"}
	with := func(label string) []string { return []string{"backend", "server", label} }
	usable := s.Gauge("backend_usable_servers", "Servers that new clients come to.", backend...)
	queued := s.Gauge("backend_queued_requests", "Requests that wait for a server.", backend...)
	turnedAway := s.Counter("backend_turned_away_total", "Requests that got no server: the queue was full, they waited too long, there was none.", "backend", "reason")
	backendDown := s.Counter("backend_downtime_seconds_total", "How long no server took clients.", backend...)
	up := s.Gauge("server_up", "1 while the health check does not say that it is down, or nobody asks it.", server...)
	takes := s.Gauge("server_takes_clients", "1 while new clients may come to it.", server...)
	admin := s.Gauge("server_admin", "1 for what the operator set it to.", with("state")...)
	weight := s.Gauge("server_weight", "Its share of the work.", server...)
	inUse := s.Gauge("server_in_use", "Open requests and WebSockets.", server...)
	webSockets := s.Gauge("server_websockets", "WebSockets and other upgraded connections now.", server...)
	bound := s.Gauge("server_bound_sessions", "Clients that are bound to it.", server...)
	waiting := s.Gauge("server_queued_requests", "Requests that wait for it alone.", server...)
	idle := s.Gauge("server_idle_connections", "Connections that are kept for reuse.", server...)
	requests := s.Counter("server_requests_total", "Requests that it got.", server...)
	connects := s.Counter("server_connections_total", "Connections to it for a request, by whether it was a new one.", with("kind")...)
	errs := s.Counter("server_errors_total", "Connections that failed, answers that were no good, reused connections that were closed already.", with("kind")...)
	retries := s.Counter("server_retries_total", "Requests that were tried again, by where.", with("at")...)
	answers := s.Counter("server_answers_total", "Answers by the class of their status.", with("code")...)
	bytes := s.Counter("server_bytes_total", "Bytes from clients to it (in) and back (out).", with("direction")...)
	downs := s.Counter("server_downs_total", "How often its health check took it out.", server...)
	downtime := s.Counter("server_downtime_seconds_total", "How long it was out of service, by health or by hand.", server...)
	return func(out *stats.Sample, b *proxy.BackendStatus) {
		out.Gauge(usable, float64(b.Usable), b.Name)
		out.Gauge(queued, float64(b.Queued), b.Name)
		out.Counter(turnedAway, float64(b.QueueFull), b.Name, "queue_full")
		out.Counter(turnedAway, float64(b.QueueTimeouts), b.Name, "queue_timeout")
		out.Counter(turnedAway, float64(b.NoServer), b.Name, "no_server")
		out.Counter(backendDown, b.Downtime.Seconds(), b.Name)
		for i := range b.Servers {
			v := &b.Servers[i]
			gauge := func(g stats.Gauge, n int) { out.Gauge(g, float64(n), b.Name, v.Name) }
			counter := func(c stats.Counter, n uint64, label string) { out.Counter(c, float64(n), b.Name, v.Name, label) }
			out.Gauge(up, oneIf(v.State.Health.String() != "down"), b.Name, v.Name)
			out.Gauge(takes, oneIf(v.State.Usable), b.Name, v.Name)
			for _, state := range []string{"ready", "drain", "maintenance"} {
				out.Gauge(admin, oneIf(v.State.Admin.String() == state), b.Name, v.Name, state)
			}
			gauge(weight, v.State.Weight)
			gauge(inUse, v.InUse)
			gauge(webSockets, int(v.WebSockets))
			gauge(bound, v.BoundSessions)
			gauge(waiting, v.Queued)
			gauge(idle, v.Idle)
			out.Counter(requests, float64(v.Requests), b.Name, v.Name)
			counter(connects, v.Connects, "new")
			counter(connects, v.Reused, "reused")
			counter(errs, v.ConnectErrors, "connect")
			counter(errs, v.AnswerErrors, "answer")
			counter(errs, v.Stale, "stale")
			counter(retries, v.Retries, "same_server")
			counter(retries, v.Redispatched, "other_server")
			for i, class := range classes {
				counter(answers, v.Answers[i], class)
			}
			counter(bytes, v.BytesIn, "in")
			counter(bytes, v.BytesOut, "out")
			out.Counter(downs, float64(v.Downs), b.Name, v.Name)
			out.Counter(downtime, v.Downtime.Seconds(), b.Name, v.Name)
		}
	}
}

func (a *appliance) loopNumbers() {
	s := a.stats.Source("loop")
	turns := s.Counter("turns_total", "Batches of work of an event loop.", "loop")
	events := s.Counter("events_total", "Readiness that the kernel told.", "loop")
	timers := s.Counter("timers_total", "Timers that expired.", "loop")
	mail := s.Counter("mail_total", "Messages from other goroutines.", "loop")
	calls := s.Counter("system_calls_total", "System calls.", "loop", "call")
	slow := s.Counter("slow_turns_total", "Turns of more than 5 ms, by what took longest.", "loop", "cause")
	buffers := s.Gauge("buffers", "Buffers that are lent to connections now.", "loop")
	misses := s.Counter("buffer_misses_total", "Buffers that had to be made anew.", "loop")
	refused := s.Counter("refused_total", "What a bound refused: messages, pipes, jobs for workers.", "loop", "what")
	s.Collect(func(out *stats.Sample) {
		for i, n := range a.proxy.LoopStats() {
			loop := strconv.Itoa(i)
			out.Counter(turns, float64(n.Turns), loop)
			out.Counter(events, float64(n.Events), loop)
			out.Counter(timers, float64(n.Timers), loop)
			out.Counter(mail, float64(n.Posted), loop)
			for call, v := range map[string]uint64{
				"recv": n.Recv, "send": n.Send, "accept": n.Accept, "connect": n.Connect,
				"epoll_wait": n.EpollWait, "epoll_ctl": n.EpollCtl, "close": n.Close, "splice": n.Splice,
			} {
				out.Counter(calls, float64(v), loop, call)
			}
			for cause, v := range n.SlowCauses { // bounded by the loop
				out.Counter(slow, float64(v), loop, strings.ReplaceAll(cause, " ", "_"))
			}
			out.Gauge(buffers, float64(n.BuffersOut), loop)
			out.Counter(misses, float64(n.BufferMisses), loop)
			out.Counter(refused, float64(n.PostsRefused), loop, "messages")
			out.Counter(refused, float64(n.PipesRefused), loop, "pipes")
			out.Counter(refused, float64(n.JobsRefused), loop, "jobs")
		}
	})
}

func (a *appliance) logNumbers() {
	s := a.stats.Source("accesslog")
	records := s.Counter("records_total", "Requests to be logged, by what became of it: kept, or dropped because the ring of their loop was full.", "result")
	lines := s.Counter("lines_total", "Lines for the file, by whether it took them.", "result")
	bytes := s.Counter("written_bytes_total", "Bytes that went into the file.")
	rotations := s.Counter("rotations_total", "Rotations of the file.")
	failing := s.Gauge("failing", "1 while the file can't be written.")
	followers := s.Gauge("followers", "Readers that follow the requests now.")
	s.Collect(func(out *stats.Sample) {
		n := a.accessLog.Stats()
		out.Counter(records, float64(n.Appended), "kept")
		out.Counter(records, float64(n.Dropped), "dropped")
		out.Counter(lines, float64(n.Written), "written")
		out.Counter(lines, float64(n.Lost), "lost")
		out.Counter(bytes, float64(n.Bytes))
		out.Counter(rotations, float64(n.Rotations))
		out.Gauge(failing, oneIf(n.Failing))
		out.Gauge(followers, float64(n.Memory.Followers))
	})
}

func (a *appliance) healthNumbers() {
	s := a.stats.Source("health")
	servers := s.Gauge("checked_servers", "Servers that are asked now.")
	running := s.Gauge("running_checks", "Health checks under way now.")
	checks := s.Counter("checks_total", "Health checks by result; unanswered ones met a shortage of this machine.", "result")
	waited := s.Counter("waited_checks_total", "Health checks that waited for others.")
	turns := s.Counter("turns_total", "Servers that went down or came back.", "to")
	agents := s.Counter("agent_questions_total", "Questions to agents, by whether the answer could be read.", "result")
	s.Collect(func(out *stats.Sample) {
		n := a.checker.Stats()
		out.Gauge(servers, float64(n.Servers))
		out.Gauge(running, float64(n.Running))
		out.Counter(checks, float64(n.Probes-n.Bad), "good")
		out.Counter(checks, float64(n.Bad), "bad")
		out.Counter(checks, float64(n.Unanswered), "unanswered")
		out.Counter(waited, float64(n.Waited))
		out.Counter(turns, float64(n.Downs), "down")
		out.Counter(turns, float64(n.Ups), "up")
		out.Counter(agents, float64(n.AgentProbes-min(n.AgentErrors, n.AgentProbes)), "ok")
		out.Counter(agents, float64(n.AgentErrors), "failed")
	})
}

func (a *appliance) resolveNumbers() {
	s := a.stats.Source("resolve")
	names := s.Gauge("names", "Names of servers that are looked up.")
	failing := s.Gauge("failing_names", "Names whose last lookup failed.")
	lookups := s.Counter("lookups_total", "Lookups of names, by result.", "result")
	queries := s.Counter("queries_total", "Questions to DNS servers, by whether an answer came.", "result")
	mismatched := s.Counter("mismatched_messages_total", "Messages that answered no question of ours.")
	s.Collect(func(out *stats.Sample) {
		n := a.resolver.Stats()
		bad := 0
		for _, name := range a.resolver.Status() {
			if name.Failures > 0 {
				bad++
			}
		}
		out.Gauge(names, float64(n.Names))
		out.Gauge(failing, float64(bad))
		out.Counter(lookups, float64(n.Lookups-min(n.Failures, n.Lookups)), "ok")
		out.Counter(lookups, float64(n.Failures), "failed")
		out.Counter(queries, float64(n.Queries-min(n.Unanswered, n.Queries)), "answered")
		out.Counter(queries, float64(n.Unanswered), "unanswered")
		out.Counter(mismatched, float64(n.Mismatched))
	})
}
