package migrate

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

func (e *exporter) backend(b *config.Backend, index int) {
	path := place("backends", b.Name, index)
	o := e.report.object(path)
	defer o.done()
	if b.Type != config.BackendHTTP {
		o.leftOut("type", text.M("backends of type {type} are not exported yet", "type", b.Type))
		return
	}
	name := e.backendNames[index]
	called(o, b.Name, name)
	out := e.out
	out.open("backend", name)
	if b.Description != "" {
		out.add("description", b.Description)
	}
	e.balance(o, b)
	e.serverTimeouts(o, b)
	out.add("retries", count(b.Retries, 0))
	if b.Redispatch {
		out.add("option", "redispatch")
	} else {
		out.add("no", "option", "redispatch")
	}
	out.add("http-reuse", string(b.Reuse))
	if b.Failback == config.FailbackManual && (b.Check != nil || b.AgentCheck != nil) {
		o.leftOut("failback", text.M("in HAProxy a recovered server gets its clients back by itself"))
	}
	if b.MaxQueue > 0 {
		o.leftOut("max_queue", text.M("HAProxy bounds the queue of each server, not of a backend"))
	}
	e.cookie(o, b)
	e.stick(o, b)
	e.check(path, b, index)
	s := &scope{e: e, path: path, own: b.Name, pages: b.ErrorPages, tarpit: longestTarpit(b.Rules), encrypted: true, servers: map[string]string{}}
	var servers names
	for _, server := range b.Servers {
		there := servers.take(server.Name)
		if _, twice := s.servers[server.Name]; !twice {
			s.servers[server.Name] = there
		}
	}
	s.tarpitTimeout(o, b.Rules)
	e.errorPages(path, b.ErrorPages)
	s.define(b.ACLs, b.Rules)
	s.rules(b.Rules)
	s.finish()
	e.responseFields(b)
	w := &serverWriter{exporter: e, backend: b, path: path, there: servers.taken, serverTLS: e.serverTLS(path, b)}
	for i := range b.Servers {
		w.server(i)
	}
}

func (e *exporter) balance(o *object, b *config.Backend) {
	words := []string{"balance", "roundrobin"}
	switch b.Balance {
	case config.BalanceStaticRR:
		words[1] = "static-rr"
	case config.BalanceLeastConn, config.BalanceFirst, config.BalanceRandom, config.BalanceSource:
		words[1] = string(b.Balance)
	case config.BalanceURI:
		words[1] = "uri"
		if b.Hash.Query {
			words = append(words, "whole")
		}
		words = append(words, "path-only")
		if b.Hash.Length > 0 {
			words = append(words, "len", strconv.Itoa(b.Hash.Length))
		}
		if b.Hash.Depth > 0 {
			words = append(words, "depth", strconv.Itoa(b.Hash.Depth))
		}
	case config.BalanceHeader:
		if b.Hash.Header == "" || strings.ContainsAny(b.Hash.Header, "()") || strings.ContainsFunc(b.Hash.Header, func(r rune) bool { return r <= ' ' || r > '~' }) {
			o.leftOut("hash.header", text.M("HAProxy can't hash a field of this name, and goes in turn"))
		} else {
			words[1] = "hdr(" + b.Hash.Header + ")"
		}
	}
	e.out.add(words...)
	if slices.Contains([]config.Balance{config.BalanceSource, config.BalanceURI, config.BalanceHeader}, b.Balance) {
		e.out.add("hash-type", "consistent")
		o.approximated("balance", text.M("a client stays at one server, but not at the one that Sluis chooses"))
	}
}

func (e *exporter) serverTimeouts(o *object, b *config.Backend) {
	t := b.Timeouts
	e.out.add("timeout", "connect", e.milliseconds(o, "timeouts.connect", t.Connect))
	e.out.add("timeout", "server", e.milliseconds(o, "timeouts.server", t.Server))
	e.out.add("timeout", "tunnel", e.milliseconds(o, "timeouts.tunnel", t.Tunnel))
	if t.Queue > 0 { // else as long as connect, there as here
		e.out.add("timeout", "queue", e.milliseconds(o, "timeouts.queue", t.Queue))
	}
}

// cookie writes the persistence cookie.
func (e *exporter) cookie(o *object, b *config.Backend) {
	k := b.Persistence.Cookie
	if k == nil {
		return
	}
	const path = "persistence.cookie"
	if k.Name == "" {
		o.leftOut(path+".name", text.M("the cookie isn't named"))
		return
	}
	insert := k.Mode == config.CookieInsert
	words := []string{"cookie", k.Name}
	if k.Mode != config.CookiePassive {
		words = append(words, string(k.Mode))
	}
	flag := func(name string, set, fits bool, word ...string) {
		switch {
		case set && fits:
			words = append(words, word...)
		case set:
			o.leftOut(path+"."+name, text.M("it has no effect in mode {mode}", "mode", k.Mode))
		}
	}
	flag("indirect", k.Indirect, insert || k.Mode == config.CookiePrefix, "indirect")
	flag("preserve", k.Preserve, insert, "preserve")
	flag("cacheable", !k.Cacheable && insert, insert, "nocache")
	flag("post_only", k.PostOnly, insert, "postonly")
	flag("secure", k.Secure, insert, "secure")
	flag("http_only", k.HTTPOnly && insert, insert, "httponly")
	if k.SameSite != config.SameSiteUnset && k.SameSite != "" {
		site := string(k.SameSite)
		flag("same_site", true, insert, "attr", "SameSite="+strings.ToUpper(site[:1])+site[1:])
	}
	flag("partitioned", k.Partitioned, insert, "attr", "Partitioned")
	seconds := func(d config.Duration) string { return strconv.FormatInt(max(int64(d.Std()/time.Second), 1), 10) + "s" }
	flag("max_idle", k.MaxIdle > 0, insert, "maxidle", seconds(k.MaxIdle))
	flag("max_life", k.MaxLife > 0, insert, "maxlife", seconds(k.MaxLife))
	for i, d := range k.Domains {
		field := "domains[" + strconv.Itoa(i) + "]"
		switch {
		case !isDNSName(strings.TrimPrefix(d, ".")) || len(words) > maxWords-6:
			o.leftOut(path+"."+field, text.M("HAProxy can't send this domain"))
		default:
			flag(field, true, insert, "domain", d)
		}
	}
	if !k.DynamicKey.IsZero() {
		if key, ok := e.secret(k.DynamicKey); ok && insert && key != "" {
			words = append(words, "dynamic")
			e.out.add("dynamic-cookie-key", key)
			o.approximated(path+".dynamic_key", text.M("HAProxy makes other values of the same key: clients change their server once"))
		} else {
			o.leftOut(path+".dynamic_key", text.M("the key isn't known here: the servers' own values are used"))
		}
	}
	e.out.add(words...)
}

// dynamic reports whether the servers' cookie values are made by HAProxy.
func (e *exporter) dynamic(b *config.Backend) bool {
	k := b.Persistence.Cookie
	if k == nil || k.DynamicKey.IsZero() || k.Mode != config.CookieInsert {
		return false
	}
	key, ok := e.secret(k.DynamicKey)
	return ok && key != ""
}

func (e *exporter) stick(o *object, b *config.Backend) {
	k := b.Persistence.Stick
	if k == nil {
		return
	}
	const path = "persistence.stick"
	table, known := e.stickNames[k.Table]
	if !known {
		o.leftOut(path+".table", text.M("the table {name} isn't known here", "name", k.Table))
		return
	}
	fetch := ""
	switch k.On {
	case config.StickOnSource:
		fetch = "src"
	case config.StickOnCookie:
		fetch = "req.cook(" + argument(k.Cookie) + ")"
		e.out.add("stick", "store-response", "res.cook("+argument(k.Cookie)+")", "table", table)
	case config.StickOnTLS:
		fetch = "ssl_fc_session_id"
	default:
		o.leftOut(path+".on", text.M("HAProxy reads that in frontends of type tcp alone"))
		return
	}
	if key, fits := e.stickKey(k.Table), map[config.StickOn]config.StickKey{
		config.StickOnSource: config.StickIP, config.StickOnCookie: config.StickString, config.StickOnTLS: config.StickBinary,
	}[k.On]; key != fits {
		o.approximated(path+".table", text.M("{on} is of another kind than the table's key", "on", k.On))
	}
	e.out.add("stick", "on", fetch, "table", table)
	e.usesStick[k.Table] = true
}

func (e *exporter) stickKey(table string) config.StickKey {
	for _, t := range e.doc.StickTables {
		if t.Name == table {
			return t.Key
		}
	}
	return ""
}

// responseFields writes what a backend adds to answers over TLS.
func (e *exporter) responseFields(b *config.Backend) {
	overTLS := []string{"if", "{", "ssl_fc", "}"}
	if h := b.HSTS; h != nil {
		value := "max-age=" + strconv.FormatInt(int64(h.MaxAge.Std()/time.Second), 10)
		if h.IncludeSubdomains {
			value += "; includeSubDomains"
		}
		if h.Preload {
			value += "; preload"
		}
		e.out.add(slices.Concat([]string{"http-response", "set-header", "Strict-Transport-Security", value}, overTLS)...)
	}
	if b.SecureCookies {
		e.out.add(slices.Concat([]string{"http-response", "replace-header", "Set-Cookie", `^((?i)(?!.*;\s*secure\s*(?:;|$)).*)$`, `\1; Secure`}, overTLS)...)
	}
}

// serverWriter writes the server lines of a backend.
type serverWriter struct {
	*exporter
	backend   *config.Backend
	path      string
	there     []string // the servers' names
	serverTLS func(*config.Server) []string
}

func (w *serverWriter) server(index int) {
	b := w.backend
	s := &b.Servers[index]
	o := w.report.object(place(w.path+".servers", s.Name, index))
	defer o.done()
	called(o, s.Name, w.there[index])
	address, ok := w.address(o, s)
	if !ok {
		return
	}
	if s.TLS && w.serverTLS == nil {
		o.leftOut("tls", text.M("it can't be spoken to as the document wants: see server_tls"))
		return
	}
	w.out.note(s.Description)
	words := append([]string{"server", w.there[index]}, address...)
	words = append(words, "weight", strconv.Itoa(min(max(s.Weight, 0), 256)))
	if s.Role == config.ServerBackup {
		words = append(words, "backup")
	}
	if s.Disabled {
		words = append(words, "disabled")
	}
	if s.MaxConnections > 0 {
		words = append(words, "maxconn", strconv.Itoa(s.MaxConnections))
	}
	words = append(words, "pool-max-conn", count(b.IdleConnections, 0))
	if s.SlowStart > 0 {
		words = append(words, "slowstart", w.milliseconds(o, "slow_start", s.SlowStart))
	}
	switch s.SendProxy {
	case config.ProxyV1:
		words = append(words, "send-proxy")
	case config.ProxyV2:
		words = append(words, "send-proxy-v2")
	}
	if k := b.Persistence.Cookie; k != nil && !w.dynamic(b) {
		value := s.Cookie
		if value == "" {
			value = s.Name
		}
		words = append(words, "cookie", value)
	}
	if s.TLS {
		words = append(words, w.serverTLS(s)...)
	}
	w.out.add(append(words, w.checkWords(o, s)...)...)
}

func (w *serverWriter) address(o *object, s *config.Server) (words []string, ok bool) {
	a, isAddress := parseAddress(s.Address)
	switch {
	case s.Port == 0:
		o.leftOut("port", text.M("there is no port 0"))
		return nil, false
	case isAddress:
		return []string{bindAddress(a, s.Port)}, true
	case isDNSName(s.Address):
		return []string{s.Address + ":" + strconv.Itoa(int(s.Port)), "resolvers", resolversName, "init-addr", "last,libc,none"}, true
	}
	o.leftOut("address", text.M("{address} is no address and no host name", "address", s.Address))
	return nil, false
}

// ownName is a server's own name, where {server} stands for it.
func ownName(s *config.Server) string {
	if s.Host != "" {
		return s.Host
	}
	return s.Address
}

// nameFor is a name that may be a placeholder; empty where it is the request's
// host.
func nameFor(name string, s *config.Server) string {
	switch name {
	case "", "{server}":
		return ownName(s)
	case "{host}":
		return ""
	}
	return name
}

// serverTLS prepares the words by which a server with TLS is spoken to.
//
// nil = they can't be spoken to as the document wants.
func (e *exporter) serverTLS(path string, b *config.Backend) func(*config.Server) []string {
	t := b.ServerTLS
	if !slices.ContainsFunc(b.Servers, func(s config.Server) bool { return s.TLS }) {
		return nil
	}
	o := e.report.object(path + ".server_tls")
	defer o.done()
	verify, ok := e.verify(o, path, t)
	if !ok {
		return nil
	}
	words := append([]string{"ssl"}, verify...)
	words = append(words, "ssl-min-ver", versionName(t.MinVersion))
	if t.ClientCertificate != "" {
		if file := e.certificate(t.ClientCertificate); file != "" {
			words = append(words, "crt", file)
		} else {
			o.leftOut("client_certificate", text.M("the certificate {name} isn't known here", "name", t.ClientCertificate))
		}
	}
	return func(s *config.Server) []string {
		own := slices.Clone(words)
		sni := nameFor(t.SNI, s)
		switch {
		case t.SNI == "{host}":
			own = append(own, "sni", "req.hdr(host),host_only")
		case isHostName(sni):
			own = append(own, "sni", "str("+argument(sni)+")")
		}
		if t.Verify == config.VerifyNone {
			return own
		}
		verified := sni
		if t.Name != "" {
			verified = nameFor(t.Name, s)
		}
		if verified != "" && (verified != sni || !isHostName(sni)) {
			own = append(own, "verifyhost", verified)
			if _, isAddress := parseAddress(verified); isAddress {
				o.approximated("name", text.M("HAProxy knows no addresses in certificates, and refuses such a server"))
			}
		}
		return own
	}
}

// verify is who vouches for servers; false = nobody that is known here does.
func (e *exporter) verify(o *object, path string, t config.ServerTLS) (words []string, ok bool) {
	if t.Verify == config.VerifyNone {
		return []string{"verify", "none"}, true
	}
	authority := "@system-ca"
	switch {
	case t.Verify == config.VerifyAuthority:
		certificates := e.authorities([]string{t.Authority})
		if len(certificates) == 0 {
			o.leftOut("authority", text.M("the authority {name} isn't known here: servers with TLS are left out", "name", t.Authority))
			return nil, false
		}
		authority = e.file("authority-"+fileName(t.Authority)+".pem", certificates)
	case slices.ContainsFunc(e.doc.Authorities, func(a config.Authority) bool { return a.Trust }):
		o.approximated("verify", text.M("authorities that the document trusts must be added to those of HAProxy's machine"))
	}
	words = []string{"verify", "required", "ca-file", authority}
	if t.RevocationList != "" {
		if list := e.revocationLists(o, "revocation_list", []string{t.RevocationList}); len(list) > 0 {
			words = append(words, "crl-file", e.file("revoked-"+fileName(path)+".pem", list))
		}
	}
	return words, true
}
