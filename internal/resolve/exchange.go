package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"sluis/internal/config"
	"sluis/internal/text"
)

// udpSize is the longest answer over UDP: it is never cut into fragments, which
// can be forged (DNS flag day 2020; RFC 6891 6.2.5).
const udpSize = 1232

// exchange asks one server one question over UDP, and over TCP where the answer
// doesn't fit (RFC 7766 5). A server that doesn't know EDNS is asked without it
// (RFC 6891 7).
func (r *Resolver) exchange(ctx context.Context, server netip.AddrPort, name string, kind uint16) (*dns.Msg, error) {
	reply, err := r.once(ctx, "udp", server, name, kind, true)
	edns := true
	if err == nil && reply.IsEdns0() == nil && (reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented) {
		edns = false
		reply, err = r.once(ctx, "udp", server, name, kind, edns)
	}
	if err == nil && reply.Truncated {
		r.stats.overTCP.Add(1)
		reply, err = r.once(ctx, "tcp", server, name, kind, edns)
	}
	return reply, err
}

// once sends one message from a socket of its own, so that its port is one that the
// kernel drew (RFC 5452 9.2) and no other machine's answer reaches it, and waits for
// the answer to it.
func (r *Resolver) once(ctx context.Context, network string, server netip.AddrPort, name string, kind uint16, edns bool) (*dns.Msg, error) {
	r.stats.queries.Add(1)
	deadline := time.Now().Add(r.try)
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	socket, err := (&net.Dialer{}).DialContext(dialing, network, server.String())
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	if err := socket.SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: socket, UDPSize: udpSize}
	question := new(dns.Msg).SetQuestion(name, kind) // with an identifier drawn by chance
	if edns {
		question.SetEdns0(udpSize, false)
	}
	if err := conn.WriteMsg(question); err != nil {
		return nil, err
	}
	for {
		data, err := conn.ReadMsgHeader(nil)
		if err != nil && !isMessageError(err) {
			return nil, err
		}
		reply := new(dns.Msg)
		if err == nil && reply.Unpack(data) == nil && answers(reply, question) {
			return reply, nil
		}
		r.stats.mismatched.Add(1)
		if network == "tcp" {
			return nil, errors.New("an answer to another question")
		}
		// RFC 5452 9.1: what doesn't match is as if it had not come; the true answer
		// may still do.
	}
}

// isMessageError tells a message that can't be one from a failure of the socket.
func isMessageError(err error) bool {
	var wrong *dns.Error
	return errors.As(err, &wrong)
}

// answers holds a reply against what was asked (RFC 5452 9.1).
func answers(reply, asked *dns.Msg) bool {
	if reply.Id != asked.Id || !reply.Response || reply.Opcode != asked.Opcode {
		return false
	}
	if len(reply.Question) == 0 { // some say so when they can't read the question
		return reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented
	}
	q, a := reply.Question[0], asked.Question[0]
	return len(reply.Question) == 1 && q.Qtype == a.Qtype && q.Qclass == a.Qclass && strings.EqualFold(q.Name, a.Name)
}

// unanswered says in plain words why a server gave no answer.
func (r *Resolver) unanswered(server netip.AddrPort, err error) text.Msg {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return text.M("the DNS server {server} doesn't answer within {time}", "server", server, "time", config.Duration(r.try))
	case errors.Is(err, syscall.ECONNREFUSED):
		return text.M("no DNS server answers at {server}", "server", server)
	}
	return text.M("the DNS server {server} can't be asked: {error}", "server", server, "error", err)
}
