package migrate

import (
	"crypto/tls"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

func (e *exporter) frontend(f *config.Frontend, index int) {
	path := place("frontends", f.Name, index)
	o := e.report.object(path)
	defer o.done()
	if f.Type != config.FrontendHTTP {
		o.leftOut("type", text.M("frontends of type {type} are not exported yet", "type", f.Type))
		return
	}
	name := e.frontendNames[index]
	called(o, f.Name, name)
	out := e.out
	out.open("frontend", name)
	if f.Description != "" {
		out.add("description", f.Description)
	}
	if f.Disabled || !e.doc.LoadBalancer.Enabled {
		out.add("disabled")
	}
	for i := range f.Binds {
		e.bind(path, f, &f.Binds[i], i)
	}
	if f.MaxConnections > 0 {
		out.add("maxconn", strconv.Itoa(f.MaxConnections))
	}
	e.clientTimeouts(o, f)
	e.frontendLog(o, f)
	e.limits(o, f)
	s := &scope{
		e: e, path: path, inFrontend: true, own: f.Name, pages: f.ErrorPages, tarpit: longestTarpit(f.Rules),
		encrypted: slices.ContainsFunc(f.Binds, func(b config.Bind) bool { return b.TLS }),
	}
	s.tarpitTimeout(o, f.Rules)
	e.errorPages(path, f.ErrorPages)
	e.expectProxy(path, f)
	s.define(f.ACLs, f.Rules)
	e.hostRule(o, s, f)
	if f.Limits.BodySize > 0 {
		out.add("http-request", "deny", "deny_status", "413", "if", "{", "req.body_size", "gt", strconv.FormatInt(int64(f.Limits.BodySize), 10), "}")
		o.approximated("limits.body_size", text.M("HAProxy can't bound a body that comes in chunks"))
	}
	host := s.hostBeforeEdits(f)
	s.rules(f.Rules)
	e.forwarded(f, host)
	s.finish()
	if backend, known := e.backends[f.DefaultBackend]; known {
		out.add("default_backend", backend)
	} else if f.DefaultBackend != "" {
		o.leftOut("default_backend", text.M("there is no such {kind} in HAProxy's configuration", "kind", "backend"))
	}
}

func longestTarpit(rules []config.Rule) (longest config.Duration) {
	for _, r := range rules {
		if r.Tarpit != nil && !r.Disabled {
			longest = max(longest, r.Tarpit.Delay)
		}
	}
	return longest
}

func (s *scope) tarpitTimeout(o *object, rules []config.Rule) {
	if !slices.ContainsFunc(rules, func(r config.Rule) bool { return r.Tarpit != nil && !r.Disabled }) {
		return
	}
	delay := max(s.tarpit, 1) // HAProxy's 0 is the time for connecting
	s.e.out.add("timeout", "tarpit", s.e.milliseconds(o, "rules", delay))
}

// bind writes a line for each address of a bind.
func (e *exporter) bind(path string, f *config.Frontend, b *config.Bind, index int) {
	o := e.report.object(place(path+".binds", b.Name, index))
	defer o.done()
	var security []string
	if b.TLS {
		var ok bool
		if security, ok = e.bindTLS(path, f); !ok {
			o.leftOut("", text.M("it has no certificate to show, or can't ask for the clients'"))
			return
		}
	}
	addresses := e.bindAddresses(o, b)
	for _, address := range addresses {
		var bound names
		words := []string{"bind", address, "name", bound.take(b.Name)}
		if strings.HasPrefix(address, "[::]") {
			words = append(words, "v6only")
		}
		if b.MaxConnections > 0 {
			words = append(words, "maxconn", strconv.Itoa(b.MaxConnections))
		}
		e.out.add(append(words, security...)...)
	}
	if b.MaxConnections > 0 && len(addresses) > 1 {
		o.approximated("max_connections", text.M("HAProxy counts the connections of each address apart"))
	}
}

// bindAddresses are the addresses with the port that a bind's address stands for.
func (e *exporter) bindAddresses(o *object, b *config.Bind) []string {
	kind, name, isRef := strings.Cut(b.Address, ":")
	switch {
	case b.Port == 0:
		o.leftOut("port", text.M("there is no port 0"))
		return nil
	case b.Address == "any":
		return []string{bindAddress(netip.IPv4Unspecified(), b.Port), bindAddress(netip.IPv6Unspecified(), b.Port)}
	case isRef && kind == "vip":
		for _, v := range e.doc.VirtualIPs {
			if p, err := netip.ParsePrefix(v.Address); v.Name == name && err == nil {
				o.approximated("address", text.M("the machine must have the address before HAProxy starts (or net.ipv4.ip_nonlocal_bind)"))
				return []string{bindAddress(p.Addr().Unmap(), b.Port)}
			}
		}
	case isRef && kind == "interface":
		return e.interfaceAddresses(o, name, b.Port)
	}
	if a, ok := parseAddress(b.Address); ok {
		return []string{bindAddress(a, b.Port)}
	}
	o.leftOut("address", text.M("the document doesn't say which address {name} is", "name", b.Address))
	return nil
}

func (e *exporter) interfaceAddresses(o *object, name string, port uint16) (addresses []string) {
	for _, i := range e.doc.Interfaces {
		if i.Name != name {
			continue
		}
		if i.IPv4.Method == config.IPv4DHCP || i.IPv6.Method == config.IPv6DHCP || i.IPv6.Method == config.IPv6SLAAC {
			o.leftOut("address", text.M("addresses that {name} gets from the network are not known here", "name", name))
		}
		for _, static := range []string{i.IPv4.Address, i.IPv6.Address} {
			if p, err := netip.ParsePrefix(static); err == nil {
				addresses = append(addresses, bindAddress(p.Addr().Unmap(), port))
			}
		}
	}
	if len(addresses) == 0 && !o.said {
		o.leftOut("address", text.M("the document doesn't say which address {name} is", "name", name))
	}
	return addresses
}

// bindTLS is the part of a bind line that takes TLS off; false = it has no
// certificate. What differs is said once, with the first of the binds.
func (e *exporter) bindTLS(path string, f *config.Frontend) (words []string, ok bool) {
	t := f.TLS
	if t == nil {
		return nil, false
	}
	if words, known := e.bindWords[path]; known {
		return words, len(words) > 0
	}
	o := e.report.object(path + ".tls")
	defer o.done()
	defer func() { e.bindWords[path] = words }()
	var certificates []string
	for i, name := range t.Certificates {
		if file := e.certificate(name); file != "" {
			certificates = append(certificates, file)
		} else {
			o.leftOut("certificates["+strconv.Itoa(i)+"]", text.M("the certificate {name} isn't known here", "name", name))
		}
	}
	if len(certificates) == 0 {
		return nil, false
	}
	words = []string{"ssl"}
	for _, c := range certificates[:min(len(certificates), maxCertificates)] {
		words = append(words, "crt", c)
	}
	if len(certificates) > maxCertificates {
		words = []string{"ssl", "crt", certificates[0], "crt-list", e.certificateList(path, certificates)}
	}
	if len(t.ALPN) > 0 {
		words = append(words, "alpn", strings.Join(t.ALPN, ","))
	}
	words = append(words, "ssl-min-ver", versionName(t.MinVersion), "ssl-max-ver", versionName(t.MaxVersion))
	if ciphers := cipherNames(o, t.CipherSuites); ciphers != "" {
		words = append(words, "ciphers", ciphers)
	}
	if t.RequireSNI {
		words = append(words, "strict-sni")
	}
	if t.OCSPStapling {
		o.leftOut("ocsp_stapling", text.M("HAProxy 2.6 doesn't fetch the authority's word by itself"))
	}
	demand, ok := e.clientCertificates(o, path, t.ClientCertificates)
	if !ok {
		return nil, false
	}
	return append(words, demand...), true
}

// maxCertificates is how many stand on a bind line; more are in a list.
const maxCertificates = 15

func (e *exporter) certificateList(path string, files []string) string {
	return e.file("list-"+fileName(path)+".crtlist", []byte(strings.Join(files, "\n")+"\n"))
}

func versionName(v config.TLSVersion) string {
	if v == config.TLS13 {
		return "TLSv1.3"
	}
	return "TLSv1.2"
}

var suitePattern = regexp.MustCompile(`^TLS_(ECDHE)_(RSA|ECDSA)_WITH_(AES_128_GCM_SHA256|AES_256_GCM_SHA384|CHACHA20_POLY1305)(_SHA256)?$`)

// cipherNames are suites by OpenSSL's names.
func cipherNames(o *object, suites []string) string {
	var there []string
	for i, s := range suites {
		m := suitePattern.FindStringSubmatch(s)
		if m == nil || !slices.ContainsFunc(tls.CipherSuites(), func(known *tls.CipherSuite) bool { return known.Name == s }) {
			o.leftOut("cipher_suites["+strconv.Itoa(i)+"]", text.M("the cipher suite {name} has no name there", "name", s))
			continue
		}
		cipher := strings.NewReplacer("AES_128_GCM", "AES128-GCM", "AES_256_GCM", "AES256-GCM", "_", "-").Replace(m[3])
		there = append(there, m[1]+"-"+m[2]+"-"+cipher)
	}
	return strings.Join(there, ":")
}

// clientCertificates asks clients for a certificate; false = it can't, and those
// who must have one are not let in without.
func (e *exporter) clientCertificates(o *object, path string, c *config.ClientCertificates) (words []string, ok bool) {
	if c == nil {
		return nil, true
	}
	authorities := e.authorities(c.Authorities)
	if len(authorities) == 0 {
		o.leftOut("client_certificates", text.M("no authority of clients' certificates is known here"))
		return nil, c.Mode == config.ClientCertificateOptional
	}
	mode := "required"
	if c.Mode == config.ClientCertificateOptional {
		mode = "optional"
	}
	words = []string{"verify", mode, "ca-file", e.file("clients-"+fileName(path)+".pem", authorities)}
	if len(c.RevocationLists) > 0 {
		if lists := e.revocationLists(o, "client_certificates.revocation_lists", c.RevocationLists); len(lists) > 0 {
			words = append(words, "crl-file", e.file("revoked-"+fileName(path)+".pem", lists))
			o.approximated("client_certificates.revocation_lists", text.M("HAProxy refuses clients of every authority that has no list"))
		}
	}
	if c.AllowInvalid {
		words = append(words, "ca-ignore-err", "all", "crt-ignore-err", "all")
	}
	return words, true
}

// expectProxy reads the PROXY protocol from those who may send it.
func (e *exporter) expectProxy(path string, f *config.Frontend) {
	for i, b := range f.Binds {
		if len(b.AcceptProxy) == 0 {
			continue
		}
		prefixes, unresolved := config.Networks(e.doc, b.AcceptProxy)
		if len(unresolved) > 0 {
			o := e.report.object(place(path+".binds", b.Name, i) + ".accept_proxy")
			o.approximated("", text.M("host names are left out of it: {names}", "names", strings.Join(unresolved, ", ")))
		}
		var bound names
		name := bound.take(b.Name)
		for chunk := range slices.Chunk(prefixes, patternsPerLine) {
			words := []string{"tcp-request", "connection", "expect-proxy", "layer4", "if", "{", "src"}
			for _, p := range chunk {
				words = append(words, p.String())
			}
			words = append(words, "}")
			if len(f.Binds) > 1 {
				words = append(words, "{", "so_name", "-m", "str", "--", name, "}")
			}
			e.out.add(words...)
		}
	}
}

func (e *exporter) clientTimeouts(o *object, f *config.Frontend) {
	t := f.Timeouts
	e.out.add("timeout", "client", e.milliseconds(o, "timeouts.client", t.Client))
	e.out.add("timeout", "http-request", e.milliseconds(o, "timeouts.request", t.Request))
	e.out.add("timeout", "http-keep-alive", e.milliseconds(o, "timeouts.keep_alive", t.KeepAlive))
	if slices.ContainsFunc(f.Binds, func(b config.Bind) bool { return b.TLS }) {
		o.leftOut("timeouts.handshake", text.M("HAProxy 2.6 bounds a TLS handshake by timeout client"))
	}
	if f.KeepAlive {
		e.out.add("option", "http-keep-alive")
	} else {
		e.out.add("option", "httpclose")
	}
}

// redactedLog is option httplog with the request's path in place of its target.
const redactedLog = `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs "%HM %HPO %HV"`

func (e *exporter) frontendLog(o *object, f *config.Frontend) {
	l := f.Log
	if !l.Enabled {
		e.out.add("no", "log")
		return
	}
	if l.Redact {
		e.out.add("log-format", redactedLog)
		o.approximated("log.redact", text.M("HAProxy leaves the whole query out"))
	} else {
		e.out.add("option", "httplog")
	}
	if l.Format != config.LogHTTPLog {
		o.approximated("log.format", text.M("HAProxy writes its own form of lines"))
	}
	if !l.Normal {
		e.out.add("option", "dontlog-normal")
	}
	if !l.Empty {
		e.out.add("option", "dontlognull")
	}
}

// limits reports bounds that HAProxy has for all frontends together.
func (e *exporter) limits(o *object, f *config.Frontend) {
	if int64(f.Limits.HeadSize) != e.headSize {
		o.approximated("limits.head_size", text.M("HAProxy has one bound for all frontends: {size}", "size", config.Size(e.headSize)))
	}
	if f.Limits.HeaderFields != e.headFields {
		o.approximated("limits.header_fields", text.M("HAProxy has one bound for all frontends: {count}", "count", e.headFields))
	}
}

// hostBeforeEdits is the sample of the request's Host as it came, where a rule
// changes it.
func (s *scope) hostBeforeEdits(f *config.Frontend) string {
	const host = "req.hdr(host)"
	if !f.Forwarded.Host || !slices.ContainsFunc(f.Rules, editsHost) {
		return host
	}
	return "var(" + s.keep(&s.keepHost, host) + ")"
}

func editsHost(r config.Rule) bool {
	return r.SetHeader != nil && strings.EqualFold(r.SetHeader.Field, "host") ||
		r.ReplaceHeader != nil && strings.EqualFold(r.ReplaceHeader.Field, "host")
}

// forwarded tells the servers who the client was, in place of what it says itself.
func (e *exporter) forwarded(f *config.Frontend, host string) {
	if f.Forwarded.For {
		e.out.add("http-request", "del-header", "Forwarded")
		e.out.add("http-request", "del-header", "X-Forwarded-For")
		e.out.add("option", "forwardfor")
	}
	if f.Forwarded.Proto {
		e.out.add("http-request", "set-header", "X-Forwarded-Proto", "%[ssl_fc,iif(https,http)]")
	}
	if f.Forwarded.Host {
		e.out.add("http-request", "set-header", "X-Forwarded-Host", "%["+host+"]")
	}
	if f.Forwarded.Port {
		e.out.add("http-request", "set-header", "X-Forwarded-Port", "%[dst_port]")
	}
}

// hostRule lets only requests over TLS through whose Host a certificate names.
func (e *exporter) hostRule(o *object, s *scope, f *config.Frontend) {
	if f.TLS == nil || !f.TLS.HostRuleFromCertificate || !s.encrypted {
		return
	}
	var hosts, wildcards []string
	for i, name := range f.TLS.Certificates {
		found, ok := e.certificateNames(name)
		if !ok {
			o.leftOut("tls.host_rule_from_certificate", text.M("the names of certificate {name} (number {number}) aren't known here: all hosts are let through", "name", name, "number", i+1))
			return
		}
		for _, n := range found {
			if domain, isWildcard := strings.CutPrefix(n, "*."); isWildcard {
				wildcards = append(wildcards, `^[^.]+\.`+regexp.QuoteMeta(domain)+`\.?$`)
			} else {
				hosts = append(hosts, n)
			}
		}
	}
	acl := s.names.take("sluis_certificate_names")
	w := aclWriter{scope: s, name: acl, fold: true}
	w.values("req.hdr(host),host_only", "str", dotted(hosts))
	w.values("req.hdr(host),host_only", "reg", wildcards)
	if !w.written {
		e.out.add("acl", acl, "always_false")
	}
	status := f.TLS.UnknownHostStatus
	e.out.add(slices.Concat([]string{"http-request", "deny"}, s.refusal(status), []string{"if", "{", "ssl_fc", "}", "!" + acl})...)
}
