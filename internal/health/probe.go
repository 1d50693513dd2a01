package health

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	// A check shall not keep a connection alive, nor wait for a second address.
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, "tcp", to.String())
}

// dial connects; everything on the connection has the same deadline.
func (c *Checker) dial(ctx context.Context, to netip.AddrPort, deadline time.Time) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := c.options.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// target is where a spec's question goes now; false = its name has no address yet.
func (c *Checker) target(s *spec, port uint16) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(s.address)
	if err != nil {
		var known bool
		if a, known = c.options.Address(s.backend, s.server); !known || !a.IsValid() {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(a.Unmap(), port), true
}

// ask makes one probe: connect, PROXY protocol, TLS, request and answer, as far as
// the question goes, all within the timeout.
func (c *Checker) ask(ctx context.Context, q *question, to netip.AddrPort, timeout time.Duration) *Transcript {
	p := &probe{
		checker: c, question: q, timeout: timeout, began: time.Now(),
		transcript: &Transcript{Start: c.options.Now(), To: to},
	}
	c.stats.running.Add(1)
	v := p.run(ctx)
	c.stats.running.Add(-1)
	p.finish(v)
	return p.transcript
}

// probe is one probe under way.
type probe struct {
	checker    *Checker
	question   *question
	timeout    time.Duration
	began      time.Time
	asked      time.Time // the request was sent; zero = not yet
	recorder   recorder  // around the innermost connection
	transcript *Transcript
}

func (p *probe) run(ctx context.Context) verdict {
	conn, err := p.checker.dial(ctx, p.transcript.To, p.began.Add(p.timeout))
	if err != nil {
		return connecting(p.timeout).failed(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // Close of the checker ends a probe
	p.transcript.Connect = micros(time.Since(p.began))
	if first := proxyHeader(p.question.proxy, conn); first != nil {
		if _, err := conn.Write(first); err != nil {
			return connecting(p.timeout).failed(err)
		}
	}
	p.recorder.Conn = conn
	if p.question.tls != nil {
		secure, v := p.handshake(ctx, conn)
		if secure == nil {
			return v
		}
		defer secure.Close()
		p.recorder.Conn = secure
	}
	switch p.question.kind {
	case config.CheckHTTP:
		return p.http()
	case config.CheckTLS:
		return good(L6OK, text.M("the server answered the TLS handshake"))
	}
	return good(L4OK, text.M("the server took the connection"))
}

// finish writes the transcript.
func (p *probe) finish(v verdict) {
	t := p.transcript
	t.Good, t.Code, t.HTTPStatus, t.Reason, t.shortage = v.good, v.code, v.status, v.reason, v.shortage
	if v.err != nil {
		t.Error = v.err.Error()
	}
	r := &p.recorder
	t.Request, t.RequestSize = string(r.sent), r.sentSize
	t.Response, t.ResponseSize = string(r.received), r.receivedSize
	if !r.firstByte.IsZero() {
		t.FirstByte = micros(r.firstByte.Sub(p.asked))
	}
	t.Total = micros(time.Since(p.began))
}

// micros is a span as people read it: never 0 for what happened.
func micros(d time.Duration) config.Duration {
	return config.Duration(max(d.Round(time.Microsecond), time.Microsecond))
}

func (p *probe) handshake(ctx context.Context, conn net.Conn) (*tls.Conn, verdict) {
	begin := time.Now()
	settings := p.question.tls
	secure := tls.Client(conn, settings.clientConfig(p.checker.options.Certificate, p.checker.options.Now, func(s *tls.ConnectionState) {
		p.transcript.TLS = tlsFacts(s, settings.sni)
	}))
	if err := secure.HandshakeContext(ctx); err != nil {
		var refused *untrusted
		if asUntrusted(err, &refused) {
			return nil, bad(L6RSP, refused.reason, refused)
		}
		return nil, handshaking(p.timeout).failed(err)
	}
	p.transcript.Handshake = micros(time.Since(begin))
	return secure, verdict{}
}

// proxyHeader is what a server that wants the PROXY protocol gets first. Version 1
// names the ends of the check's own connection, as HAProxy's checks do; version 2
// says LOCAL (PROXY protocol 2.2), which is made for checks.
func proxyHeader(version config.ProxyProtocol, conn net.Conn) []byte {
	switch version {
	case config.ProxyV1:
		from, okFrom := conn.LocalAddr().(*net.TCPAddr)
		to, okTo := conn.RemoteAddr().(*net.TCPAddr)
		if !okFrom || !okTo {
			return []byte("PROXY UNKNOWN\r\n")
		}
		a, b := from.AddrPort(), to.AddrPort()
		family := "TCP6"
		if a.Addr().Unmap().Is4() {
			family = "TCP4"
		}
		return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, a.Addr().Unmap().WithZone(""), b.Addr().Unmap().WithZone(""), a.Port(), b.Port())
	case config.ProxyV2:
		b := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00")
		return binary.BigEndian.AppendUint16(b, 0)
	}
	return nil
}
