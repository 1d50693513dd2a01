package main

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Frontend: G54 to G60, and what the browser gets of it: G61, G65.

func frontendName(g *guideStage) {
	f := g.running().Frontends[0]
	if f.Name != "ece" || f.Description != "ECE site" {
		g.t.Errorf("frontend %s, %q", f.Name, f.Description)
	}
	if got := g.peer.stat("ece", "FRONTEND", "status"); got != "OPEN" {
		g.t.Errorf("HAProxy's is %s", got)
	}
}

// externalAddress: the virtual address and no other.
func externalAddress(g *guideStage) {
	status, err := g.client.Frontends(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	want := net.JoinHostPort("127.0.0.80", strconv.Itoa(g.sluis.port("https")))
	if got := status.Items[0].Listening; !slices.Contains(got, want) {
		g.t.Errorf("it listens on %v, want %s", got, want)
	}
	for _, s := range g.sides() {
		if s.refused(ask{port: "https"}) || !s.refused(ask{port: "https", at: "127.0.0.1"}) {
			g.t.Errorf("%s listens elsewhere", s.name)
		}
		// Offloading: without TLS nobody is understood.
		if a, err := s.send(ask{host: "ece.example.net", port: "https", plain: true}); err == nil && a.Status == 200 {
			g.t.Errorf("%s answers without TLS on a port with TLS: %+v", s.name, a)
		}
	}
}

func frontendType(g *guideStage) {
	status, err := g.client.Frontends(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if f := g.running().Frontends[0]; f.Type != "http" || f.MaxConnections != 0 || status.Items[0].Limit != 0 {
		g.t.Errorf("type %s, maximum %d, in effect %d", f.Type, f.MaxConnections, status.Items[0].Limit)
	}
}

func defaultBackend(g *guideStage) {
	for _, target := range []string{"/", "/system/a.jsp?x=%20y", "/a/../b"} {
		a := g.both(ask{host: "ece.example.net", target: target, header: []string{"Cookie: ECELB=w1", "X-Forwarded-Proto: gopher"}})
		if a.Origin != "web1" {
			g.t.Errorf("%s: %+v", target, a)
		}
	}
	to2 := "Cookie: ECELB=w2"
	g.both(ask{host: "ece.example.net", method: "OPTIONS", target: "*", header: []string{to2}})
	for _, q := range []ask{
		{method: "PUT", header: []string{to2, "Content-Length: 5", "X-Own: 1", "Accept: a, b", "Accept: c"}, body: "hello"},
		{method: "POST", header: []string{to2, "Transfer-Encoding: chunked"}, body: "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"},
		{method: "GET", header: []string{to2, "Connection: close", "User-Agent: x", "Referer: https://ece.example.net/a?b"}},
		{method: "GET", header: []string{to2, "Authorization: Basic eDp5", "Cache-Control: no-cache", "If-None-Match: \"x\""}},
		{method: "GET", target: "/silent", header: []string{to2}},
		{method: "POST", target: "/silent", header: []string{to2, "Content-Length: 1"}, body: "x"},
	} {
		q.host = "ece.example.net"
		want := 200
		if q.target == "/silent" {
			want = 502
		}
		if a := g.both(q); a.Status != want || a.Seen != nil && a.Seen.Body != "hello" && q.body != "" {
			g.t.Errorf("%+v: %+v", q, a)
		}
	}
}

// certificateAndNames: the certificate is shown, and its names are let through.
func certificateAndNames(g *guideStage) {
	for _, host := range []string{"ece.example.net", "www.ece.example.net", "any.apps.example.net", "other.example.net"} {
		if a := g.both(ask{host: host, header: []string{"Cookie: ECELB=w1"}}); a.Status != 200 {
			g.t.Errorf("%s: %d", host, a.Status)
		}
	}
	for _, s := range g.sides() {
		leaf := s.chain("ece.example.net")[0]
		if leaf.Subject.CommonName != "ece.example.net" {
			g.t.Errorf("%s shows %s", s.name, leaf.Subject)
		}
	}
}

// applyFrontend: the whole runs, and whoever comes without TLS is led to it.
func applyFrontend(g *guideStage) {
	status, err := g.client.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if status.Changes != 0 || status.Pending != nil || len(status.Degraded) != 0 {
		g.t.Errorf("%d changes, pending %v, degraded %v", status.Changes, status.Pending, status.Degraded)
	}
	for _, q := range []ask{
		{host: "ece.example.net", target: "/a/b?c=d&e"},
		{host: "elsewhere.example.net", target: "/"},
	} {
		q.port, q.plain = "http", true
		if a := g.both(q); a.Status != 301 {
			g.t.Errorf("%+v: %+v", q, a)
		}
	}
	// A port in Host is that of http; HAProxy leads to it all the same.
	if a := g.sluis.mustSend(ask{host: "ece.example.net:8080", port: "http", plain: true}); a.Location != "https://ece.example.net/" {
		g.t.Errorf("the redirect leads to %s", a.Location)
	}
	// The exporter's configuration does the same as the one that pfSense writes, and
	// more: what a client says of itself is replaced.
	forwarded := func(all string) {
		g.put(object{"frontends[ece].forwarded.host", all}, object{"frontends[ece].forwarded.port", all})
		g.apply()
	}
	forwarded("true")
	g.startHAProxy(asExported)
	g.allUp("ece-web")
	for _, q := range []ask{
		{host: "ece.example.net"},
		{host: "ece.example.net", header: []string{"Cookie: ECELB=w2; a=b"}},
		{host: "ece.example.net:443", header: []string{"Cookie: ECELB=w2", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Forwarded-Host: x", "X-Forwarded-Port: 1", "X-Forwarded-Proto: gopher"}},
		{host: "ece.example.net", target: "/hsts", header: []string{"Cookie: ECELB=w2"}},
		{host: "EcE.example.net:443", header: []string{"Cookie: ECELB=nobody"}},
		{host: "unknown.example.net"},
		{host: "ece.example.net", port: "http", plain: true, target: "/a?b"},
	} {
		g.both(q)
	}
	if got, peer := g.sluis.lastCheck("web2"), g.haproxy.lastCheck("web2"); canonical(got) != canonical(peer) {
		g.t.Errorf("the check is %q, the exporter's HAProxy's %q", got, peer)
	}
	forwarded("false")
	g.startHAProxy(asPfSense)
	g.allUp("ece-web")
}

// chain asks openssl what certificates a side shows, for openssl shows all and
// judges none.
func (s *side) chain(sni string) (chain []*x509.Certificate) {
	t := s.stage.t
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		missing(t, "openssl")
	}
	cmd := exec.Command(program, "s_client", "-showcerts", "-connect", net.JoinHostPort(s.stage.at, strconv.Itoa(s.port("https"))), "-servername", sni)
	cmd.Stdin = strings.NewReader("")
	rest, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl s_client: %v", err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		t.Fatalf("%s shows no certificate for %s", s.name, sni)
	}
	return chain
}

// chainShown: the leaf, the intermediate, and not the root; whether the document has
// the leaf alone or all three in another order.
func chainShown(g *guideStage) {
	for _, host := range []string{"ece.example.net", "other.example.net"} {
		for _, s := range g.sides() {
			chain := s.chain(host)
			if len(chain) != 2 || chain[0].Subject.CommonName != host || !chain[1].Equal(g.lab.issuing.Leaf) {
				g.t.Errorf("%s shows %d certificates for %s: %v", s.name, len(chain), host, names(chain))
				continue
			}
			between := x509.NewCertPool()
			between.AddCert(chain[1])
			if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: g.lab.roots(), Intermediates: between}); err != nil {
				g.t.Errorf("%s: %v", s.name, err)
			}
		}
	}
}

func names(chain []*x509.Certificate) (names []string) {
	for _, c := range chain {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// unknownHosts: who asks for a name that no certificate has reaches no backend.
func unknownHosts(g *guideStage) {
	tests := []struct {
		host string
		pass bool
		// alone marks where HAProxy, with pfSense's expression, refuses though the name
		// is covered.
		alone bool
	}{
		{"ece.example.net", true, false},
		{"ece.example.net:443", true, false},
		{"ece.example.net:65535", true, false},
		{"ECE.Example.NET", true, false},
		{"any.apps.example.net", true, false},
		{"ANY.apps.example.net:8443", true, false},
		{"ece.example.net.", true, true},
		{"127.0.0.80", true, true},
		{"127.0.0.80:443", true, true},
		{"apps.example.net", false, false},
		{"a.b.apps.example.net", false, false},
		{"evil.example", false, false},
		{"ece.example.net.evil.example", false, false},
		{"evil-ece.example.net", false, false},
		{"eceXexample.net", false, false},
		{"127.0.0.1", false, false},
		{"[::1]", false, false},
		{"localhost", false, false},
	}
	defer func() {
		g.put(object{"frontends[ece].tls.unknown_host_status", "503"})
		g.apply()
	}()
	for _, refusal := range []int{503, 421} {
		if refusal != 503 { // which is what nothing said
			g.put(object{"frontends[ece].tls.unknown_host_status", strconv.Itoa(refusal)})
			g.apply()
		}
		for _, tt := range tests {
			q := ask{host: tt.host, sni: "ece.example.net", header: []string{"Cookie: ECELB=w1"}, target: "/g65/" + strconv.Itoa(refusal)}
			a := g.sluis.mustSend(q)
			want, reached := refusal, ""
			if tt.pass {
				want, reached = 200, "web1"
			}
			if a.Status != want || a.Origin != reached {
				g.t.Errorf("Host %s: %d from %q, want %d from %q", tt.host, a.Status, a.Origin, want, reached)
			}
			if refusal == 503 && !tt.alone {
				g.both(q)
			} else if b := g.haproxy.mustSend(q); tt.alone && b.Status != 503 {
				g.t.Errorf("Host %s: HAProxy answers %d: the remark about it is out of date", tt.host, b.Status)
			}
		}
		g.reasonShown(refusal, "no certificate name matches Host evil.example")
	}
}

// reasonShown wants a reason in the access log and in what the API tells of requests.
func (g *guideStage) reasonShown(status int, reason string) {
	g.t.Helper()
	var shown struct {
		Items []struct {
			Status                int
			Reason, Backend, Host string
		}
	}
	eventually(g.t, "the reason in the API: "+reason, func() bool {
		g.rest("GET", "/status/requests?limit=500&trouble=true&status="+strconv.Itoa(status), &shown)
		for _, r := range shown.Items {
			if r.Status == status && r.Reason == reason {
				return true
			}
		}
		return false
	})
	eventually(g.t, "the reason in the access log: "+reason, func() bool {
		for _, line := range g.requests(reason) {
			if line["status"] == float64(status) && line["reason"] == reason {
				return true
			}
		}
		return false
	})
}

// hostVariant: one frontend, several backends (G58).
func hostVariant(t *testing.T, l *lab) {
	g := newGuideStage(t, l, "web1", "web2")
	backend := func(n string) string {
		return `{server_tls: {verify: none}, servers: [{name: web` + n + `, address: 127.0.0.1, port: {{server "web` + n + `"}}, tls: true, cookie: w` + n + `}]}`
	}
	g.put(smallSettings, object{"backends[a]", backend("1")}, object{"backends[b]", backend("2")}, object{"frontends[variant]", `
binds: [{name: http, address: 127.0.0.1, port: {{port "http"}}}]
forwarded: {for: false, proto: false, host: false, port: false}
acls:
  - {name: starts-a, match: host, starts: ["a.example.net:443", a.example.net]}
  - {name: is-b, match: host, is: [b.example.net], any_port: true}
  - {name: is-c, match: host, is: [c.example.net]}
rules:
  - {name: a, when: starts-a, use_backend: a}
  - {name: b, when: is-b, use_backend: b}
  - {name: c, when: is-c, use_backend: b}
`})
	g.apply()
	for _, form := range []haproxyForm{asPfSense, asExported} {
		g.startHAProxy(form)
		for host, want := range map[string]string{
			"a.example.net": "web1", "a.example.net:443": "web1", "A.Example.NET": "web1", "a.example.net:8443": "web1",
			"a.example.net.evil.example": "web1", // why Sluis offers the next one first
			"b.example.net":              "web2", "b.example.net:443": "web2", "B.example.net:1": "web2",
			"b.example.net.evil.example": "", "xb.example.net": "", "b.example.netx": "",
			"c.example.net": "web2", "c.example.net:443": "", "evil.example": "",
		} {
			a := g.both(ask{host: host, port: "http", plain: true})
			if a.Origin != want || want == "" && a.Status != 503 {
				t.Errorf("Host %s: %d from %q, want %q", host, a.Status, a.Origin, want)
			}
		}
	}
	g.reasonShown(503, "no rule chose a backend and there is no default backend")
}
