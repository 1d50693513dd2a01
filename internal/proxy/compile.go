package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sluis/internal/config"
	"sluis/internal/proxy/accesslog"
	"sluis/internal/proxy/http1"
	"sluis/internal/proxy/persist"
	"sluis/internal/proxy/rule"
	"sluis/internal/proxy/upstream"
	"sluis/internal/text"
)

// Claims are the parts of the document that a Proxy puts into effect.
func (*Proxy) Claims() []string {
	return []string{
		"load_balancer.enabled", "load_balancer.max_connections", "load_balancer.loops", "load_balancer.drain_timeout",
		"frontends[].disabled", "frontends[].type=http", "frontends[].binds[].address", "frontends[].binds[].port",
		"frontends[].binds[].tls", "frontends[].binds[].max_connections", "frontends[].max_connections",
		"frontends[].tls.certificates", "frontends[].tls.host_rule_from_certificate", "frontends[].tls.unknown_host_status",
		"frontends[].tls.min_version", "frontends[].tls.max_version", "frontends[].tls.cipher_suites",
		"frontends[].tls.alpn=http/1.1", "frontends[].tls.require_sni",
		"frontends[].tls.client_certificates.mode", "frontends[].tls.client_certificates.authorities",
		"frontends[].acls", "frontends[].rules", "frontends[].default_backend", "frontends[].forwarded", "frontends[].timeouts",
		"frontends[].keep_alive", "frontends[].log", "frontends[].error_pages", "frontends[].limits",
		"backends[].type=http", "backends[].balance", "backends[].hash",
		"backends[].servers[].address", "backends[].servers[].host", "backends[].servers[].port", "backends[].servers[].tls",
		"backends[].servers[].cookie", "backends[].servers[].weight", "backends[].servers[].role", "backends[].servers[].disabled",
		"backends[].servers[].max_connections", "backends[].servers[].slow_start", "backends[].servers[].send_proxy",
		"backends[].server_tls.verify", "backends[].server_tls.authority", "backends[].server_tls.name", "backends[].server_tls.sni",
		"backends[].server_tls.client_certificate", "backends[].server_tls.min_version",
		"backends[].persistence.cookie", "backends[].acls", "backends[].rules", "backends[].hsts", "backends[].secure_cookies",
		"backends[].timeouts", "backends[].retries", "backends[].redispatch", "backends[].failback", "backends[].reuse",
		"backends[].idle_connections", "backends[].max_queue", "backends[].error_pages",
		"error_pages",
	}
}

// compiler is the state of one translation.
type compiler struct {
	p        *Proxy
	doc      *config.Document
	snap     *snapshot
	previous *snapshot // nil at first
	problems config.Problems
}

// compile translates the balancer's part of a document. It touches nothing: live
// objects are looked for when the snapshot is put into effect.
func (p *Proxy) compile(doc *config.Document) (*snapshot, config.Problems) {
	lb := doc.LoadBalancer
	c := &compiler{p: p, doc: doc, previous: p.current.Load(), snap: &snapshot{
		maxConnections: int64(lb.MaxConnections), drainTimeout: lb.DrainTimeout.Std(), loops: lb.Loops,
		frontends: map[string]*frontend{}, backends: map[string]*backend{}, binds: map[listenAddress]*bind{},
	}}
	if c.snap.loops == 0 {
		c.snap.loops = max(1, p.options.Loops)
	}
	for i := range doc.Backends {
		c.backend(&doc.Backends[i], i)
	}
	for i := range doc.Frontends {
		f := &doc.Frontends[i]
		if lb.Enabled && !f.Disabled && f.Type == config.FrontendHTTP {
			c.frontend(f)
		}
	}
	return c.snap, c.problems
}

func ns(d config.Duration) int64 { return int64(d.Std()) }

func (c *compiler) frontend(f *config.Frontend) {
	path := "frontends[" + f.Name + "]"
	fe := &frontend{
		snap: c.snap, hosts: new(atomic.Pointer[rule.HostNames]),
		name: f.Name, maxConnections: int64(f.MaxConnections), defaultBackend: c.snap.backends[f.DefaultBackend],
		forwardFor: f.Forwarded.For, forwardProto: f.Forwarded.Proto, forwardHost: f.Forwarded.Host, forwardPort: f.Forwarded.Port,
		handshakeTimeout: ns(f.Timeouts.Handshake), requestTimeout: ns(f.Timeouts.Request),
		keepAliveTimeout: ns(f.Timeouts.KeepAlive), clientTimeout: ns(f.Timeouts.Client), keepAlive: f.KeepAlive,
		limits:    http1.Limits{Head: int(f.Limits.HeadSize), Line: int(f.Limits.HeadSize), Fields: f.Limits.HeaderFields},
		bodyLimit: int64(f.Limits.BodySize),
		log:       logSettings{enabled: f.Log.Enabled, normal: f.Log.Normal, empty: f.Log.Empty, redact: f.Log.Redact},
		pages:     c.errorPages(f.ErrorPages),
	}
	if f.Log.Format == config.LogHTTPLog {
		fe.log.format = accesslog.HTTPLog
	}
	fe.rules = c.rules(path, f.ACLs, f.Rules, nil)
	if f.TLS != nil {
		fe.certificates = &certificateIndex{names: f.TLS.Certificates}
		fe.hostRule, fe.unknownHostStatus = f.TLS.HostRuleFromCertificate, f.TLS.UnknownHostStatus
	}
	c.snap.frontends[f.Name] = fe
	for i := range f.Binds {
		c.bind(fe, f, &f.Binds[i], path+".binds["+f.Binds[i].Name+"]")
	}
}

// bind adds the addresses on which a bind listens.
func (c *compiler) bind(fe *frontend, f *config.Frontend, b *config.Bind, path string) {
	for _, a := range c.addresses(b.Address, path+".address") {
		made := &bind{
			name: b.Name, path: path, frontend: fe, address: netip.AddrPortFrom(a.addr, b.Port), freeBind: a.free,
			port: strconv.AppendUint(nil, uint64(b.Port), 10), maxConnections: int64(b.MaxConnections),
		}
		if b.TLS {
			if f.TLS == nil {
				continue // config.Validate says it
			}
			made.tls, made.demands = c.serverTLS(fe, f.TLS)
		}
		if other := c.snap.binds[made.address]; other != nil {
			c.problems.Add(path, text.M("{address} is taken by {other} already", "address", made.address, "other", other.path))
			continue
		}
		c.snap.binds[made.address] = made
	}
}

type ownAddress struct {
	addr netip.Addr
	free bool // it may not be here yet
}

// addresses are those that a bind's address stands for.
func (c *compiler) addresses(s, path string) []ownAddress {
	if s == "any" {
		return []ownAddress{{netip.IPv4Unspecified(), false}, {netip.IPv6Unspecified(), false}}
	}
	if name, ok := strings.CutPrefix(s, "vip:"); ok {
		for _, v := range c.doc.VirtualIPs {
			if prefix, err := netip.ParsePrefix(v.Address); v.Name == name && err == nil {
				return []ownAddress{{prefix.Addr(), true}}
			}
		}
		return nil // config.Validate says it
	}
	if name, ok := strings.CutPrefix(s, "interface:"); ok {
		return c.interfaceAddresses(name, path)
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return nil
	}
	return []ownAddress{{addr.Unmap(), true}}
}

// interfaceAddresses are an interface's own: those of the document where they are
// static, else those that the kernel shows now.
func (c *compiler) interfaceAddresses(name, path string) []ownAddress {
	var found []ownAddress
	for _, i := range c.doc.Interfaces {
		if i.Name != name {
			continue
		}
		for _, static := range []string{i.IPv4.Address, i.IPv6.Address} {
			if prefix, err := netip.ParsePrefix(static); err == nil {
				found = append(found, ownAddress{prefix.Addr(), true})
			}
		}
		device, err := net.InterfaceByName(i.Device)
		if err != nil {
			c.problems.Warn(path, text.M("this machine has no device {name} now", "name", i.Device))
			return found
		}
		shown, _ := device.Addrs()
		for _, a := range shown {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || prefix.Addr().IsLinkLocalUnicast() || hasAddress(found, prefix.Addr()) {
				continue
			}
			found = append(found, ownAddress{prefix.Addr(), false})
		}
	}
	if len(found) == 0 {
		c.problems.Add(path, text.M("the interface {name} has no address to listen on", "name", name))
	}
	return found
}

func hasAddress(list []ownAddress, a netip.Addr) bool {
	for _, o := range list {
		if o.addr == a {
			return true
		}
	}
	return false
}

func (c *compiler) backend(b *config.Backend, index int) {
	path := "backends[" + b.Name + "]"
	be := &backend{
		name: b.Name, index: index, secureCookies: b.SecureCookies,
		connectTimeout: ns(b.Timeouts.Connect), serverTimeout: ns(b.Timeouts.Server),
		tunnelTimeout: ns(b.Timeouts.Tunnel), queueTimeout: ns(b.Timeouts.Queue),
		retries: b.Retries, redispatch: b.Redispatch, reuse: reuseOf(b.Reuse), pages: c.errorPages(b.ErrorPages),
		balance: balanceOf(b), settings: upstreamSettings(b), balanceName: string(b.Balance),
	}
	if be.queueTimeout == 0 {
		be.queueTimeout = be.connectTimeout
	}
	if b.HSTS != nil {
		be.hsts = hstsValue(b.HSTS)
	}
	ways := c.ways(b, path)
	for i := range b.Servers {
		s := &b.Servers[i]
		be.servers = append(be.servers, &server{
			name: s.Name, index: i, backend: be, way: ways(s), port: s.Port, limit: s.MaxConnections,
			backup: s.Role == config.ServerBackup, disabled: s.Disabled,
		})
	}
	be.cookie = c.cookie(b, path)
	be.rules = c.rules(path, b.ACLs, b.Rules, b.Servers)
	c.snap.backends[b.Name] = be
	c.snap.byIndex = append(c.snap.byIndex, be)
}

func reuseOf(r config.Reuse) reuse {
	switch r {
	case config.ReuseNever:
		return reuseNever
	case config.ReuseSafe:
		return reuseSafe
	}
	return reuseAlways
}

func balanceOf(b *config.Backend) balanceKey {
	k := balanceKey{length: b.Hash.Length, depth: b.Hash.Depth, query: b.Hash.Query, header: b.Hash.Header}
	switch b.Balance {
	case config.BalanceSource:
		k.of = hashSource
	case config.BalanceURI:
		k.of = hashPath
	case config.BalanceHeader:
		k.of = hashHeader
	}
	return k
}

// hstsValue is the field of RFC 6797 section 6.1.
func hstsValue(h *config.HSTS) []byte {
	v := "max-age=" + strconv.FormatInt(int64(h.MaxAge.Std()/time.Second), 10)
	if h.IncludeSubdomains {
		v += "; includeSubDomains"
	}
	if h.Preload {
		v += "; preload"
	}
	return []byte(v)
}

func (c *compiler) errorPages(uses []config.ErrorPageUse) errorPages {
	pages := errorPages{}
	for _, u := range uses {
		for i := range c.doc.ErrorPages {
			if p := &c.doc.ErrorPages[i]; p.Name == u.Page {
				for _, code := range u.Codes {
					pages[code] = &errorPage{contentType: p.ContentType, body: p.Body}
				}
			}
		}
	}
	return pages
}

func (c *compiler) cookie(b *config.Backend, path string) *persist.Cookie {
	k := b.Persistence.Cookie
	if k == nil {
		return nil
	}
	spec := persist.CookieSpec{
		Name: k.Name, Mode: persist.Mode(k.Mode), Indirect: k.Indirect, Preserve: k.Preserve, Cacheable: k.Cacheable,
		PostOnly: k.PostOnly, Secure: k.Secure, HTTPOnly: k.HTTPOnly, Partitioned: k.Partitioned,
		MaxIdle: k.MaxIdle.Std(), MaxLife: k.MaxLife.Std(), Domains: k.Domains,
	}
	if k.SameSite != config.SameSiteUnset {
		spec.SameSite = persist.SameSite(k.SameSite)
	}
	var key []byte
	if !k.DynamicKey.IsZero() {
		var ok bool
		if key, ok = c.secret(k.DynamicKey, path+".persistence.cookie.dynamic_key"); !ok {
			return nil
		}
	}
	for _, s := range b.Servers {
		spec.Values = append(spec.Values, cookieValue(&s, key))
	}
	cookie, err := persist.Compile(spec)
	if err != nil {
		c.problems.Add(path+".persistence.cookie", text.M("the cookie can't be used: {reason}", "reason", err))
		return nil
	}
	return cookie
}

// secret is the content of a secret, stored or as given.
func (c *compiler) secret(s config.Secret, path string) ([]byte, bool) {
	if inline, ok := s.Inline(); ok {
		return []byte(inline), true
	}
	ref, ok := s.Reference()
	if !ok {
		return nil, false
	}
	content, err := c.p.options.Secret(ref)
	if err != nil {
		c.problems.Add(path, text.M("the secret can't be read: {reason}", "reason", err))
		return nil, false
	}
	return content, true
}

// rules translates ACLs and rules, field by field.
func (c *compiler) rules(path string, acls []config.ACL, rules []config.Rule, servers []config.Server) *rule.List {
	if len(rules) == 0 {
		return nil
	}
	spec := rule.Spec{}
	for _, b := range c.doc.Backends {
		spec.Backends = append(spec.Backends, b.Name)
	}
	for _, s := range servers {
		spec.Servers = append(spec.Servers, s.Name)
	}
	for i := range acls {
		spec.ACLs = append(spec.ACLs, c.acl(&acls[i]))
	}
	for i := range rules {
		r, ok := c.rule(path, &rules[i])
		if !ok {
			return nil
		}
		spec.Rules = append(spec.Rules, r)
	}
	list, err := rule.Compile(spec)
	if err != nil {
		c.problems.Add(path+".rules", text.M("the rules can't be used: {reason}", "reason", err))
		return nil
	}
	return list
}

func (c *compiler) acl(a *config.ACL) rule.ACL {
	networks, _ := config.Networks(c.doc, a.In)
	return rule.ACL{
		Name: a.Name, Match: rule.Match(a.Match), Field: a.Field, Is: a.Is, Starts: a.Starts, Ends: a.Ends, Contains: a.Contains,
		Segments: a.Segments, Regex: a.Regex, In: networks, Present: a.Present, Backend: a.Backend, AtLeast: a.AtLeast,
		AnyPort: a.AnyPort, CaseSensitive: a.CaseSensitive,
	}
}

func (c *compiler) rule(path string, r *config.Rule) (rule.Rule, bool) {
	out := rule.Rule{
		Name: r.Name, Disabled: r.Disabled, UseBackend: r.UseBackend, UseServer: r.UseServer,
		SetPath: r.SetPath, SetQuery: r.SetQuery, SetMethod: r.SetMethod,
	}
	if r.When != "" {
		tree, err := config.ParseCondition(r.When)
		if err != nil {
			return out, false // config.Validate says it
		}
		out.When = conditionOf(tree)
	}
	if d := r.Redirect; d != nil {
		out.Redirect = &rule.RedirectTo{Scheme: d.Scheme, Host: d.Host, Path: d.Path, Prefix: d.Prefix, DropQuery: d.DropQuery, Code: d.Code}
	}
	if d := r.Deny; d != nil {
		out.Deny = &rule.Refusal{Status: d.Status, Delay: d.Delay.Std()}
	}
	if d := r.Tarpit; d != nil {
		out.Tarpit = &rule.Refusal{Status: d.Status, Delay: d.Delay.Std()}
	}
	if h := r.SetHeader; h != nil {
		out.SetHeader = &rule.Header{Of: rule.Direction(h.Of), Field: h.Field, Value: h.Value}
	}
	if h := r.AddHeader; h != nil {
		out.AddHeader = &rule.Header{Of: rule.Direction(h.Of), Field: h.Field, Value: h.Value}
	}
	if h := r.RemoveHeader; h != nil {
		out.RemoveHeader = &rule.HeaderName{Of: rule.Direction(h.Of), Field: h.Field}
	}
	if h := r.ReplaceHeader; h != nil {
		out.ReplaceHeader = &rule.HeaderReplace{Of: rule.Direction(h.Of), Field: h.Field, Find: h.Find, With: h.With}
	}
	if h := r.ReplacePath; h != nil {
		out.ReplacePath = &rule.Replace{Find: h.Find, With: h.With}
	}
	if a := r.Authenticate; a != nil {
		out.Authenticate = &rule.BasicAuth{Realm: a.Realm}
		for i, u := range a.Users {
			password, ok := c.secret(u.Password, path+".rules["+r.Name+"].authenticate.users["+a.Users[i].Name+"].password")
			if !ok {
				return out, false
			}
			out.Authenticate.Users = append(out.Authenticate.Users, rule.User{Name: u.Name, Password: string(password)})
		}
	}
	return out, true
}

func conditionOf(t *config.Condition) *rule.Condition {
	c := &rule.Condition{Op: rule.ConditionOp(t.Op), Name: t.Name}
	for _, o := range t.Of {
		c.Of = append(c.Of, conditionOf(o))
	}
	return c
}

// upstreamSettings is the part of a backend that lives on over snapshots.
func upstreamSettings(b *config.Backend) upstream.BackendSettings {
	s := upstream.BackendSettings{
		Balance: string(b.Balance), MaxQueue: b.MaxQueue, ManualFailback: b.Failback == config.FailbackManual, Checked: b.Check != nil,
	}
	for i := range b.Servers {
		srv := &b.Servers[i]
		settings := upstream.ServerSettings{
			Name: srv.Name, Weight: srv.Weight, Backup: srv.Role == config.ServerBackup, MaxConnections: srv.MaxConnections,
			SlowStart: srv.SlowStart.Std(), IdleLimit: b.IdleConnections, Disabled: srv.Disabled,
			Checked: b.Check != nil && !srv.NoCheck,
		}
		if a, err := netip.ParseAddr(srv.Address); err == nil {
			settings.Addr = netip.AddrPortFrom(a.Unmap(), srv.Port)
		}
		s.Servers = append(s.Servers, settings)
	}
	return s
}

// cookieValue marks a server in the persistence cookie: its own value, or one made
// of its address and a key, which is the same on every appliance with that key.
func cookieValue(s *config.Server, key []byte) string {
	switch {
	case len(key) > 0:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(s.Address + ":" + strconv.Itoa(int(s.Port))))
		return hex.EncodeToString(mac.Sum(nil)[:8])
	case s.Cookie != "":
		return s.Cookie
	}
	return s.Name
}
