package proxy

import (
	"crypto/tls"
	"time"

	"sluis/internal/proxy/accesslog"
)

// account counts an exchange that is over and writes its line.
func (x *exchange) account() {
	w, c := x.w, x.client
	now := w.loop.Now()
	in, out := uint64(x.bodySize), uint64(c.Sent()-x.sentBefore)
	if x.kept != nil {
		in += uint64(len(x.kept.B))
	}
	class := min(x.status/100, 5)
	f := x.fe.live.of(w.index)
	f.Requests.add(1)
	f.BytesIn.add(in)
	f.BytesOut.add(out)
	f.Answers[class].add(1)
	if x.target != nil {
		s := x.target.live.of(w.index)
		s.Requests.add(1)
		s.BytesIn.add(in)
		s.BytesOut.add(out)
		if x.answered != 0 {
			s.Answers[class].add(1)
			s.ConnectTime.add(uint64(x.connected - x.chosen))
			s.AnswerTime.add(uint64(x.answered - x.connected))
			s.TotalTime.add(uint64(now - x.asked))
		}
	}
	x.countRefusal(f)
	if x.fe.log.enabled && w.log != nil && (x.fe.log.normal || x.status >= 400 || x.termination[0] != endNormal && x.termination[0] != endLocal) {
		x.writeLine(in, out, now)
	}
}

func (x *exchange) countRefusal(f *frontendCounts) {
	switch {
	case x.termination[0] != endProxy:
	case x.kept == nil:
		f.BadRequests.add(1)
	case x.termination[1] == atRequest:
		f.Denied.add(1)
	}
}

// remember counts the client as bound to the server that its cookie names.
func (x *exchange) remember() {
	if x.be == nil || x.be.cookie == nil || x.target == nil || x.status == 0 || x.status >= 500 {
		return
	}
	s := x.w.proxy.sessions
	s.Touch(x.clientKey, x.target.state.Index(), x.w.loop.Now())
}

// writeLine gives the exchange's line to the log.
func (x *exchange) writeLine(in, out uint64, now int64) {
	w, c := x.w, x.client
	r := &w.record
	*r = accesslog.Record{
		Wall: x.wall.Add(time.Duration(x.started - x.asked)), Client: c.Remote(), Frontend: x.fe.name, Bind: c.bind.name,
		Method: x.methodText, Target: x.targetText, Host: x.hostText, UserAgent: x.agentText, Referer: x.refererText,
		Proto: protocolOf(x.minor), Status: x.status, BytesIn: int64(in), BytesOut: int64(out),
		Request: x.asked - x.started, Queue: -1, Connect: -1, Response: -1, Total: now - x.started,
		Termination: x.termination, Retries: x.retries, Redispatched: x.redispatched,
		Active: int(w.proxy.connections.Load()), FrontendActive: int(x.fe.live.connections.Load()),
		ServerQueue: x.aheadAtServer, BackendQueue: x.aheadAtBackend,
		Reason: x.reason, Rule: x.rule, RequestID: x.id(),
	}
	if x.be != nil {
		r.Backend = x.be.name
		r.BackendActive = x.be.state.InUse()
	}
	if x.target != nil {
		r.Server = x.target.name
		r.ServerActive = x.target.state.InUse()
		r.Queue = x.chosen - x.asked
	}
	if x.connected != 0 {
		r.Connect = x.connected - x.chosen
	}
	if x.answered != 0 && x.connected != 0 {
		r.Response = x.answered - x.connected
	}
	if state := c.TLS(); state != nil {
		r.TLSVersion, r.Cipher, r.SNI = versionName(state.Version), c.cipherName(state), state.ServerName
	}
	w.log.Append(x.fe.log.format, r, x.fe.log.redact)
}

// cipherName is the cipher suite's name. crypto/tls makes its whole list for it, so
// it is asked once a connection.
func (c *clientConn) cipherName(state *tls.ConnectionState) string {
	if c.cipher == "" {
		c.cipher = tls.CipherSuiteName(state.CipherSuite)
	}
	return c.cipher
}

// versionName is a version of TLS as logs have it.
func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	}
	return "unknown"
}

func protocolOf(minor uint8) string {
	if minor == 0 {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// logEmpty writes the line of a connection that sent nothing.
func (c *clientConn) logEmpty() {
	fe, w := c.bind.frontend, c.w
	if !fe.log.enabled || !fe.log.empty || w.log == nil {
		return
	}
	now := w.loop.Now()
	w.record = accesslog.Record{
		Wall: w.loop.Wall(), Client: c.Remote(), Frontend: fe.name, Bind: c.bind.name,
		Request: -1, Queue: -1, Connect: -1, Response: -1, Total: now - c.since,
		Termination: [4]byte{endClient, atRequest, '-', '-'}, Reason: "the client sent nothing",
	}
	w.log.Append(fe.log.format, &w.record, fe.log.redact)
}

// countTunnel counts an upgraded connection in or out.
func (x *exchange) countTunnel(d int64) {
	x.fe.live.webSockets.Add(d)
	x.client.socket.listener.webSockets.Add(d)
	x.be.live.webSockets.Add(d)
	x.target.live.webSockets.Add(d)
}
