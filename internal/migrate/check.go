package migrate

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// check writes a backend's health check; each server's part is in checkWords.
func (e *exporter) check(path string, b *config.Backend, index int) {
	k := b.Check
	if k == nil {
		return
	}
	o := e.report.object(path + ".check")
	defer o.done()
	if k.Log {
		e.out.add("option", "log-health-checks")
	}
	timeout := k.Timeout
	if timeout == 0 {
		timeout = min(k.Interval, config.Duration(10*time.Second))
	}
	e.out.add("timeout", "check", e.milliseconds(o, "timeout", timeout))
	if k.Type != config.CheckHTTP {
		return
	}
	e.out.add("option", "httpchk")
	version := "HTTP/1.1"
	if k.Version == config.HTTP10 {
		version = "HTTP/1.0"
	}
	words := []string{"http-check", "send", "meth", orElse(k.Method, "GET"), "uri", orElse(k.Path, "/"), "ver", version}
	if host := e.checkHost(b, index); host != "" {
		words = append(words, "hdr", "Host", host)
	}
	for i, h := range k.Headers {
		if h.Name == "" || len(words) > maxWords-6 {
			o.leftOut(place("headers", h.Name, i), text.M("HAProxy can't send this field"))
			continue
		}
		words = append(words, "hdr", h.Name, orElse(format(h.Value), emptyFormat))
	}
	if k.Body != "" {
		words = append(words, "body", k.Body)
	}
	e.out.add(words...)
	e.expect(o, k)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// checkHost is the Host field of a check. Where each server has its own, a map from
// the servers' names says it.
func (e *exporter) checkHost(b *config.Backend, index int) string {
	if b.Check.Host != "{server}" {
		return format(b.Check.Host)
	}
	var asked names
	var hosts []string
	var list strings.Builder
	for i := range b.Servers {
		host := ownName(&b.Servers[i])
		if a, ok := parseAddress(host); ok && a.Is6() {
			host = "[" + host + "]"
		}
		if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) || host == "" {
			host = "-" // a name that no server has; its line is left out
		}
		list.WriteString(asked.take(b.Servers[i].Name) + " " + host + "\n")
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	switch len(hosts) {
	case 0:
		return ""
	case 1:
		return format(hosts[0])
	}
	file := e.file("hosts-"+fileName(e.backendNames[index])+".map", []byte(list.String()))
	return "%[srv_name,map_str(" + argument(file) + ")]"
}

// expect writes what a well server answers.
func (e *exporter) expect(o *object, k *config.Check) {
	var statuses []string
	for i, s := range k.ExpectStatus {
		if there, ok := statusRange(s); ok {
			statuses = append(statuses, there)
		} else {
			o.leftOut("expect_status["+strconv.Itoa(i)+"]", text.M("{status} is no status", "status", s))
		}
	}
	if len(statuses) == 0 {
		statuses = []string{"200-399"}
	}
	e.out.add("http-check", "expect", "status", strings.Join(statuses, ","))
	if k.ExpectText != "" {
		e.out.add("http-check", "expect", "string", k.ExpectText)
		o.approximated("expect_text", text.M("HAProxy wants the text in redirects too"))
	}
}

// statusRange is 200, 2xx or 200-299 as HAProxy reads it.
func statusRange(s string) (string, bool) {
	if len(s) == 3 && s[1:] == "xx" && s[0] >= '1' && s[0] <= '5' {
		return s[:1] + "00-" + s[:1] + "99", true
	}
	first, last, isRange := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(first, 10, 10)
	b, errB := a, error(nil)
	if isRange {
		b, errB = strconv.ParseUint(last, 10, 10)
	}
	if errA != nil || errB != nil || a < 100 || b > 599 || b < a {
		return "", false
	}
	return s, true
}

// checkWords is the part of a server line that checks it.
func (w *serverWriter) checkWords(o *object, s *config.Server) (words []string) {
	k := w.backend.Check
	if k != nil && !s.NoCheck {
		words = append(words, "check", "inter", w.milliseconds(o, "check", k.Interval), "rise", count(k.Rise, 1), "fall", count(k.Fall, 1))
		if k.Port > 0 {
			words = append(words, "port", strconv.Itoa(int(k.Port)))
		}
		switch {
		case s.TLS && k.Type == config.CheckTCP:
			words = append(words, "no-check-ssl")
		case !s.TLS && k.Type == config.CheckTLS:
			words = append(words, "check-ssl", "verify", "none")
		}
		if name := w.checkSNI(s, k); name != "" {
			words = append(words, "check-sni", name)
		}
	}
	if a := w.backend.AgentCheck; a != nil && a.Port > 0 {
		words = append(words, "agent-check", "agent-port", strconv.Itoa(int(a.Port)), "agent-inter", w.milliseconds(o, "agent_check", a.Interval))
		if a.Send != "" {
			words = append(words, "agent-send", a.Send)
		}
	}
	return words
}

// checkSNI is the name in the handshake of a check; empty = none is sent.
func (w *serverWriter) checkSNI(s *config.Server, k *config.Check) string {
	if !s.TLS && k.Type != config.CheckTLS {
		return ""
	}
	name := nameFor(k.SNI, s)
	if k.SNI == "" {
		name = nameFor(w.backend.ServerTLS.SNI, s)
		if name == "" { // requests send their own host's
			name = ownName(s)
		}
	}
	if !isHostName(name) {
		return ""
	}
	return name
}
