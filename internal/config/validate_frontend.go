package config

import (
	"slices"
	"strings"

	"sluis/internal/text"
)

func (c *checker) checkFrontends() {
	each("frontends", c.doc.Frontends, func(path string, f *Frontend) {
		c.frontendTLS(path, f)
		c.frontendBackends(path, f)
		c.rules(path, scope{frontend: f, acls: f.ACLs, rules: f.Rules})
		c.errorPages(path+".error_pages", f.ErrorPages, f.Type == FrontendHTTP)
		each(path+".binds", f.Binds, func(path string, b *Bind) { c.bind(path, f, b) })
		if limit := c.doc.LoadBalancer.MaxConnections; f.MaxConnections > limit && limit > 0 {
			c.hint(path+".max_connections", text.M("the whole appliance takes {limit} connections: this is never reached", "limit", limit))
		}
	})
}

func (c *checker) bind(path string, f *Frontend, b *Bind) {
	switch {
	case b.TLS && f.Type == FrontendTLSPassthrough:
		c.add(path+".tls", text.M("a frontend of type {type} passes TLS on and can't take it off", "type", f.Type)).
			Do(text.M("leave tls off here, or make the frontend one of type {type}", "type", FrontendHTTP))
	case b.TLS && f.TLS == nil:
		c.add(path+".tls", text.M("TLS is wanted here, and the frontend has no certificate to show")).
			Do(text.M("give the frontend a tls section with a certificate"))
	}
	eachOpenNetwork(path+".accept_proxy", b.AcceptProxy, func(path string) {
		c.warn(path, text.M("every client may claim to come from any address"))
	})
	if kind, _, name, ok := cutKind(b.Address); ok && kind == "vip" {
		if v := c.virtualIPs[name]; v != nil && v.Type == VIPProxyARP {
			c.warn(path+".address", text.M("{name} is no address of this machine (type {type}): nothing arrives here", "name", name, "type", v.Type))
		}
	}
}

func hasTLSBind(f *Frontend) bool {
	return slices.ContainsFunc(f.Binds, func(b Bind) bool { return b.TLS })
}

func (c *checker) frontendTLS(path string, f *Frontend) {
	if f.TLS == nil {
		return
	}
	t := f.TLS
	path += ".tls"
	switch {
	case f.Type == FrontendTLSPassthrough:
		c.add(path, text.M("a frontend of type {type} passes TLS on and can't take it off", "type", f.Type)).
			Do(text.M("remove the tls section, or make the frontend one of type {type}", "type", FrontendHTTP))
		return
	case !hasTLSBind(f):
		c.warn(path, text.M("this has no effect: no bind of the frontend has tls set"))
	}
	if t.MinVersion == TLS13 && t.MaxVersion == TLS12 {
		c.add(path+".max_version", text.M("the newest version ({max}) is older than the oldest one ({min})", "max", t.MaxVersion, "min", t.MinVersion))
	}
	if t.MinVersion == TLS13 && len(t.CipherSuites) > 0 {
		c.warn(path+".cipher_suites", text.M("this has no effect while {field} is {value}", "field", "min_version", "value", t.MinVersion))
	}
	if f.Type != FrontendHTTP && t.HostRuleFromCertificate {
		c.warn(path+".host_rule_from_certificate", text.M("this has no effect while {field} is {value}", "field", "the frontend's type", "value", f.Type))
	}
	each(path+".certificates", t.Certificates, func(path string, name *string) { c.serverCertificate(path, *name) })
	each(path+".alpn", t.ALPN, func(path string, protocol *string) {
		if known := []string{"http/1.1", "h2"}; f.Type == FrontendHTTP && *protocol != "" && !slices.Contains(known, *protocol) {
			c.add(path, text.M("{value} isn't known here: {words} are", "value", shown(*protocol), "words", strings.Join(known, ", "))).Near(*protocol, known)
		}
	})
}

// frontendBackends checks what the frontend sends requests to: backends that
// speak as it does, and for every request some.
func (c *checker) frontendBackends(path string, f *Frontend) {
	c.speaksAs(path+".default_backend", f, f.DefaultBackend)
	decides, always := false, ""
	each(path+".rules", f.Rules, func(path string, r *Rule) {
		c.speaksAs(path+".use_backend", f, r.UseBackend)
		if !r.Disabled && (decidesAlways(r) || r.Authenticate != nil) {
			decides = true
			if r.When == "" && decidesAlways(r) && always == "" {
				always = path
			}
		}
	})
	switch {
	case f.DefaultBackend == "" && !decides && !f.Disabled:
		message := text.M("no request is answered but with 503: there is no default_backend, and no rule decides")
		if f.Type != FrontendHTTP {
			message = text.M("every connection is closed: there is no default_backend, and no rule decides")
		}
		c.warn(path, message).Do(text.M("set default_backend"))
	case f.DefaultBackend != "" && always != "":
		c.hint(path+".default_backend", text.M("this is never used: {rule} decides every request before", "rule", always))
	}
}

func (c *checker) speaksAs(path string, f *Frontend, name string) {
	wanted := BackendTCP
	if f.Type == FrontendHTTP {
		wanted = BackendHTTP
	}
	if b := c.backends[name]; b != nil && b.Type != wanted {
		c.add(path, text.M("{name} is of type {type}, a frontend of type {frontend} needs one of type {wanted}",
			"name", name, "type", b.Type, "frontend", f.Type, "wanted", wanted))
	}
}

func (c *checker) errorPages(list string, uses []ErrorPageUse, isHTTP bool) {
	first := map[int]string{}
	each(list, uses, func(path string, u *ErrorPageUse) {
		if !isHTTP {
			c.warn(path, text.M("this has no effect: without HTTP there are no answers to replace"))
			return
		}
		for i, code := range u.Codes {
			if other := first[code]; other != "" && other != path {
				c.add(pathOfEntry(path+".codes", i), text.M("status {code} has another page already: {other}", "code", code, "other", other))
				continue
			}
			first[code] = path
		}
	})
}
