package config

import (
	"slices"
	"strings"

	"sluis/internal/text"
)

func (c *checker) checkBackends() {
	usedBy := c.frontendsOf()
	each("backends", c.doc.Backends, func(path string, b *Backend) {
		if b.Name != "" && len(usedBy[b.Name]) == 0 {
			c.hint(path, text.M("no frontend sends requests to this backend"))
		}
		c.servers(path, b)
		c.serverTLS(path+".server_tls", b)
		if b.Check != nil {
			c.check(path+".check", b)
		}
		c.cookie(path+".persistence.cookie", b, usedBy[b.Name])
		c.stick(path+".persistence.stick", b)
		c.hsts(path+".hsts", b, usedBy[b.Name])
		c.hash(path, b)
		c.backendMode(path, b)
		c.rules(path, scope{backend: b, acls: b.ACLs, rules: b.Rules})
		c.errorPages(path+".error_pages", b.ErrorPages, b.Type == BackendHTTP)
	})
}

// frontendsOf lists the enabled frontends that send to each backend. A disabled
// frontend counts as a user, but not as one that has TLS or lacks it.
func (c *checker) frontendsOf() map[string][]*Frontend {
	of := map[string][]*Frontend{}
	use := func(name string, f *Frontend) {
		if name != "" && !slices.Contains(of[name], f) {
			of[name] = append(of[name], f)
		}
	}
	for i := range c.doc.Frontends {
		f := &c.doc.Frontends[i]
		use(f.DefaultBackend, f)
		for j := range f.Rules {
			use(f.Rules[j].UseBackend, f)
		}
	}
	return of
}

func (c *checker) servers(path string, b *Backend) {
	up, active, heavy := 0, 0, 0
	for _, s := range b.Servers {
		if s.Disabled {
			continue
		}
		up++
		if s.Role != ServerBackup {
			active++
		}
		if s.Weight > 0 {
			heavy++
		}
	}
	list := path + ".servers"
	switch {
	case len(b.Servers) == 0:
		c.warn(list, text.M("the backend has no servers: its requests get 503"))
	case up == 0:
		c.warn(list, text.M("all servers are disabled: requests get 503"))
	case active == 0:
		c.warn(list, text.M("no server that is enabled is active: the backups do all the work"))
	case heavy == 0:
		c.warn(list, text.M("all servers have weight 0: no new client gets a server"))
	case len(b.Servers) > 1 && b.Check == nil && b.AgentCheck == nil:
		c.hint(path+".check", text.M("without a health check, a dead server goes on getting its share"))
	}
	if b.Failback == FailbackManual && b.Check == nil && b.AgentCheck == nil {
		c.hint(path+".failback", text.M("this has no effect: without a health check no server is ever taken out"))
	}
	c.sameServers(list, b)
	c.cookieValues(list, b)
}

func (c *checker) sameServers(list string, b *Backend) {
	type place struct {
		address string
		port    uint16
	}
	first := map[place]string{}
	each(list, b.Servers, func(path string, s *Server) {
		key := place{strings.ToLower(s.Address), s.Port}
		if other, twice := first[key]; twice && s.Address != "" {
			c.warn(path+".address", text.M("{other} has this address and port too: one machine passes for two", "other", other))
			return
		}
		first[key] = path
	})
}

// cookieValues checks that no two servers are marked by one value: without a
// value of its own a server is marked by its name.
func (c *checker) cookieValues(list string, b *Backend) {
	if cookie := b.Persistence.Cookie; cookie == nil || !cookie.DynamicKey.IsZero() {
		return
	}
	first := map[string]string{}
	each(list, b.Servers, func(path string, s *Server) {
		value := s.Cookie
		if value == "" {
			value = s.Name
		}
		if other, twice := first[value]; twice {
			c.add(path+".cookie", text.M("the cookie's value {value} marks {other} already: clients of one would be sent to the other", "value", value, "other", other))
			return
		}
		first[value] = path
	})
}

func hasTLSServer(b *Backend) bool {
	return slices.ContainsFunc(b.Servers, func(s Server) bool { return s.TLS })
}

func (c *checker) serverTLS(path string, b *Backend) {
	t := &b.ServerTLS
	switch {
	case t.Verify == VerifyAuthority && t.Authority == "":
		c.add(path+".authority", text.M("the authority that must vouch for the servers isn't said"))
	case t.Verify == VerifyNone && hasTLSServer(b):
		c.hint(path+".verify", text.M("the way to the servers is encrypted, but nobody vouches for who they are")).
			Do(text.M("import the authority that signed their certificates, and set verify to {value}", "value", VerifyAuthority))
	}
	if a := c.authorities[t.Authority]; a != nil && t.RevocationList != "" {
		for _, l := range c.doc.RevocationLists {
			if l.Name == t.RevocationList && l.Authority != t.Authority && t.Verify == VerifyAuthority {
				c.warn(path+".revocation_list", text.M("{name} is a list of {other}, and {authority} vouches for the servers", "name", l.Name, "other", l.Authority, "authority", t.Authority))
			}
		}
	}
}

func (c *checker) check(path string, b *Backend) {
	k := b.Check
	tls := hasTLSServer(b) || len(b.Servers) == 0
	switch {
	case k.Type == CheckTLS && !tls:
		c.warn(path+".type", text.M("a check of type {type} fails at servers without TLS, and none here has it", "type", k.Type))
	case k.SNI != "" && !tls:
		c.warn(path+".sni", text.M("this has no effect: no server here has TLS"))
	case isAddress(k.SNI):
		c.complain(path+".sni", addressAsSNI(k.SNI))
	}
	if k.Type == CheckHTTP && k.Version == HTTP11 && k.Host == "" {
		c.add(path+".host", text.M("a request of HTTP/1.1 without Host is refused by every server (RFC 9112 3.2)")).
			Do(text.M("write {value} for each server's own name", "value", serverPlaceholder))
	}
	each(path+".headers", k.Headers, func(path string, h *HeaderField) {
		if strings.EqualFold(h.Name, "host") {
			c.add(path, text.M("the Host field of a check has a field of its own: host"))
			return
		}
		c.ownField(path+".name", h.Name)
	})
	if k.Timeout > k.Interval {
		c.hint(path+".timeout", text.M("an answer may take longer ({timeout}) than the time between two checks ({interval}): a dead server is found later", "timeout", k.Timeout, "interval", k.Interval))
	}
	if len(b.Servers) > 0 && !slices.ContainsFunc(b.Servers, func(s Server) bool { return !s.NoCheck }) {
		c.hint(path, text.M("no server is asked: all have no_check set"))
	}
}

func (c *checker) cookie(path string, b *Backend, usedBy []*Frontend) {
	k := b.Persistence.Cookie
	if k == nil || b.Type != BackendHTTP {
		return
	}
	if k.SameSite == SameSiteNone && !k.Secure {
		c.add(path+".same_site", text.M("browsers drop a cookie with SameSite=None that isn't Secure: clients would lose their server")).
			Do(text.M("set secure too"))
	}
	if k.Partitioned && !k.Secure {
		c.add(path+".partitioned", text.M("browsers drop a Partitioned cookie that isn't Secure: clients would lose their server")).
			Do(text.M("set secure too"))
	}
	// RFC 6265bis 4.1.3: browsers hold these names to their word.
	switch lower := strings.ToLower(k.Name); {
	case strings.HasPrefix(lower, "__secure-") && !k.Secure, strings.HasPrefix(lower, "__host-") && !k.Secure:
		c.add(path+".name", text.M("browsers drop a cookie of this name that isn't Secure"))
	case strings.HasPrefix(lower, "__host-") && len(k.Domains) > 0:
		c.add(path+".domains", text.M("browsers drop a cookie with the name {name} that has a domain", "name", k.Name))
	}
	c.cookieMode(path, k)
	if k.Secure && servesPlainly(usedBy) {
		c.warn(path+".secure", text.M("no frontend of this backend has TLS: browsers don't send a Secure cookie back, and clients lose their server"))
	}
	if k.MaxIdle > 0 && k.MaxLife > 0 && k.MaxIdle > k.MaxLife {
		c.hint(path+".max_idle", text.M("this is never reached: max_life ends the cookie's effect before"))
	}
}

// cookieMode warns of attributes that only a cookie which we set can have.
func (c *checker) cookieMode(path string, k *PersistenceCookie) {
	if k.Mode == CookieInsert {
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"indirect", k.Indirect && k.Mode != CookiePrefix},
		{"preserve", k.Preserve},
		{"post_only", k.PostOnly},
		{"max_idle", k.MaxIdle > 0},
		{"max_life", k.MaxLife > 0},
	} {
		if f.set {
			c.warn(path+"."+f.name, text.M("this has no effect while {field} is {value}", "field", "mode", "value", k.Mode))
		}
	}
}

// servesPlainly reports whether the frontends are reached without TLS alone.
func servesPlainly(frontends []*Frontend) bool {
	enabled := 0
	for _, f := range frontends {
		if f.Disabled {
			continue
		}
		if hasTLSBind(f) {
			return false
		}
		enabled++
	}
	return enabled > 0
}

func (c *checker) stick(path string, b *Backend) {
	k := b.Persistence.Stick
	if k == nil {
		return
	}
	wanted := map[StickOn]StickKey{
		StickOnSource: StickIP, StickOnCookie: StickString, StickOnTLS: StickBinary, StickOnRDPCookie: StickString,
	}[k.On]
	if t := c.stickTables[k.Table]; t != nil && wanted != "" && t.Key != wanted {
		c.add(path+".table", text.M("{name} tells clients apart by {key}, and {on} is a value of kind {wanted}", "name", t.Name, "key", t.Key, "on", k.On, "wanted", wanted)).
			Do(text.M("use a stick table whose key is {key}", "key", wanted))
	}
	switch {
	case k.On == StickOnCookie && k.Cookie == "":
		c.add(path+".cookie", text.M("the cookie whose value is used isn't said"))
	case k.On == StickOnCookie && b.Type != BackendHTTP:
		c.add(path+".on", text.M("{action} needs HTTP, and the type here is {type}", "action", k.On, "type", b.Type))
	}
}

// preloadAge is what the browsers' list asks for (hstspreload.org).
const preloadAge = year

func (c *checker) hsts(path string, b *Backend, usedBy []*Frontend) {
	h := b.HSTS
	if h == nil || b.Type != BackendHTTP {
		return
	}
	if h.Preload && (h.MaxAge < preloadAge || !h.IncludeSubdomains) {
		c.add(path+".preload", text.M("browsers take a site into their list only with include_subdomains and a max_age of a year")).
			Do(text.M("set include_subdomains, and max_age to {age}", "age", preloadAge))
	}
	if servesPlainly(usedBy) {
		c.hint(path, text.M("this has no effect: no frontend of this backend has TLS (RFC 6797 7.2)"))
	}
}

func (c *checker) hash(path string, b *Backend) {
	switch {
	case b.Balance == BalanceHeader && b.Hash.Header == "":
		c.add(path+".hash.header", text.M("the header field that is hashed isn't said"))
	case b.Balance == BalanceURI && b.Hash.Header != "":
		c.warn(path+".hash.header", text.M("this has no effect while {field} is {value}", "field", "balance", "value", b.Balance))
	}
}

// backendMode refuses what a backend without HTTP can't do.
func (c *checker) backendMode(path string, b *Backend) {
	if b.Type == BackendHTTP {
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"persistence.cookie", b.Persistence.Cookie != nil},
		{"hsts", b.HSTS != nil},
		{"secure_cookies", b.SecureCookies},
		{"balance", b.Balance == BalanceURI || b.Balance == BalanceHeader},
	} {
		if f.set {
			c.add(path+"."+f.name, text.M("{action} needs HTTP, and the type here is {type}", "action", f.name, "type", b.Type))
		}
	}
}
