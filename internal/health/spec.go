package health

import (
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"sluis/internal/config"
)

// serverPlaceholder stands for each server's own name.
const serverPlaceholder = "{server}"

// spec says everything about how one server is asked. It is never changed, and
// two equal ones are the same check.
type spec struct {
	backend, server string
	address         string    // as the document has it
	check           *question // nil = only the agent is asked
	pace            pace
	agent           *agentQuestion // nil = there is no agent
}

// question is what a check asks.
type question struct {
	kind  config.CheckType
	port  uint16
	proxy config.ProxyProtocol
	tls   *tlsSettings // nil = bare

	// For HTTP alone.
	method  string
	request []byte
	expect  []statusRange
	text    string // empty = the body isn't read
}

// pace is how often a check asks, how long it waits, and how many answers make a
// verdict.
type pace struct {
	interval   time.Duration
	timeout    time.Duration // for one probe
	rise, fall int
	log        bool
}

// statusRange holds the statuses from first to last.
type statusRange struct{ first, last int }

func (s *spec) equal(o *spec) bool {
	return s.backend == o.backend && s.server == o.server && s.address == o.address &&
		s.pace == o.pace && s.check.equal(o.check) && reflect.DeepEqual(s.agent, o.agent)
}

func (q *question) equal(o *question) bool {
	if q == nil || o == nil {
		return q == o
	}
	if !q.tls.equal(o.tls) {
		return false
	}
	a, b := *q, *o
	a.tls, b.tls = nil, nil
	return reflect.DeepEqual(a, b)
}

// questionOf reads what a server is asked.
func questionOf(b *config.Backend, s *config.Server, trust *trust) *question {
	k := b.Check
	q := &question{kind: k.Type, port: s.Port, proxy: config.ProxyOff}
	switch {
	case k.Port != 0:
		// As with HAProxy, a port of the check's own gets no PROXY protocol: what
		// listens there is not what requests meet.
		q.port = k.Port
	case s.SendProxy != "":
		q.proxy = s.SendProxy
	}
	if k.Type == config.CheckTLS || k.Type == config.CheckHTTP && s.TLS {
		q.tls = tlsSettingsOf(b, s, trust)
	}
	if k.Type == config.CheckHTTP {
		q.method = k.Method
		q.request = requestOf(k, ownName(s))
		q.expect = expectedOf(k.ExpectStatus)
		q.text = k.ExpectText
	}
	return q
}

// timeoutOf: 0 = as long as the interval, at most 10 s.
func timeoutOf(k *config.Check) time.Duration {
	if k.Timeout > 0 {
		return k.Timeout.Std()
	}
	return min(k.Interval.Std(), 10*time.Second)
}

func paceOf(k *config.Check) pace {
	return pace{interval: max(k.Interval.Std(), minInterval), timeout: timeoutOf(k), rise: max(k.Rise, 1), fall: max(k.Fall, 1), log: k.Log}
}

// ownName is what {server} stands for.
func ownName(s *config.Server) string {
	if s.Host != "" {
		return s.Host
	}
	return s.Address
}

// requestOf writes the bytes of an HTTP check, as HAProxy orders them: the start
// line, Host, the document's fields, and how the message travels.
func requestOf(k *config.Check, own string) []byte {
	var b []byte
	line := func(parts ...string) {
		for _, p := range parts {
			b = append(b, p...)
		}
		b = append(b, "\r\n"...)
	}
	line(k.Method, " ", k.Path, " HTTP/", string(k.Version))
	if k.Host != "" {
		line("Host: ", hostField(strings.ReplaceAll(k.Host, serverPlaceholder, own)))
	}
	for _, h := range k.Headers {
		line(h.Name, ": ", h.Value)
	}
	// RFC 9110 8.6: a method that has a use for content says that there is none.
	if k.Body != "" || k.Method == "POST" || k.Method == "PUT" || k.Method == "PATCH" {
		line("Content-Length: ", strconv.Itoa(len(k.Body)))
	}
	if k.Version != config.HTTP10 { // RFC 9112 9.6: one connection, one answer
		line("Connection: close")
	}
	line()
	return append(b, k.Body...)
}

// hostField puts an IPv6 address into brackets (RFC 9110 7.2, RFC 3986 3.2.2).
func hostField(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return net.JoinHostPort(a.String(), "")[:len(a.String())+2]
	}
	return host
}

// expectedOf reads 200, 2xx and 200-299; nothing = 2xx and 3xx.
func expectedOf(statuses []string) []statusRange {
	if len(statuses) == 0 {
		return []statusRange{{200, 399}}
	}
	var ranges []statusRange
	for _, s := range statuses {
		first, last, isRange := strings.Cut(s, "-")
		if hundred, ok := strings.CutSuffix(s, "xx"); ok {
			first, last, isRange = hundred+"00", hundred+"99", true
		}
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(first)
		z, errZ := strconv.Atoi(last)
		if errA == nil && errZ == nil { // Validate has said the others
			ranges = append(ranges, statusRange{a, z})
		}
	}
	return ranges
}

func (q *question) expects(status int) bool {
	for _, r := range q.expect {
		if r.first <= status && status <= r.last {
			return true
		}
	}
	return false
}

// expected is the list of expected statuses as people read it.
func (q *question) expected() string {
	var parts []string
	for _, r := range q.expect {
		if r.first == r.last {
			parts = append(parts, strconv.Itoa(r.first))
		} else {
			parts = append(parts, strconv.Itoa(r.first)+"-"+strconv.Itoa(r.last))
		}
	}
	return strings.Join(parts, ", ")
}
