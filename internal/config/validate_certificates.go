package config

import (
	"net/url"
	"slices"
	"strings"

	"sluis/internal/text"
)

const (
	maxCommonName = 64                  // RFC 5280 appendix A, ub-common-name
	maxServerLife = Duration(825 * day) // beyond it, Apple's clients refuse private authorities' certificates too
	maxACMENames  = 100
	serverKeyHint = "ecdsa_p256"
)

func (c *checker) checkCertificates() {
	c.checkAuthorities()
	each("certificates", c.doc.Certificates, c.certificate)
	each("certificate_requests", c.doc.CertificateRequests, func(path string, r *CertificateRequest) {
		c.spec(path+".spec", &r.Spec)
		if r.Request != "" && r.Key.IsZero() {
			c.add(path+".key", text.M("the request's private key is missing: its answer could never be used"))
		}
	})
	each("revocation_lists", c.doc.RevocationLists, c.revocationList)
	each("acme_accounts", c.doc.ACMEAccounts, c.acmeAccount)
}

// signs reports whether an authority can sign.
func (a *Authority) signs() bool { return a.Internal != nil || !a.Key.IsZero() }

func (c *checker) checkAuthorities() {
	each("authorities", c.doc.Authorities, func(path string, a *Authority) {
		switch {
		case a.Certificate == "" && a.Internal == nil:
			c.add(path, text.M("an authority needs its certificate, or a description to make it from")).
				Do(text.M("set certificate to import one, or internal to make one"))
		case a.Certificate != "" && a.Internal != nil:
			c.add(path, text.M("an authority is imported or made here: certificate and internal exclude each other"))
		}
		if a.Internal != nil {
			c.internalAuthority(path+".internal", a.Name, a.Internal)
		}
	})
	c.issuerCycles()
}

func (c *checker) internalAuthority(path, name string, a *InternalAuthority) {
	switch {
	case a.Subject.CommonName == "":
		c.add(path+".subject.common_name", text.M("an authority needs a name that its certificates can say"))
	case len(a.Subject.CommonName) > maxCommonName:
		c.complain(path+".subject.common_name", tooLong(len(a.Subject.CommonName), maxCommonName))
	}
	issuer := c.authorities[a.Issuer]
	if issuer == nil || issuer.Name == name {
		return // no issuer, or one that is said elsewhere
	}
	c.signer(path+".issuer", issuer, a.Lifetime)
	if issuer.Internal == nil || issuer.Internal.PathLength == nil {
		return
	}
	switch above := *issuer.Internal.PathLength; {
	case above == 0:
		c.add(path+".issuer", text.M("{name} may have no intermediate below it: its path_length is 0", "name", issuer.Name))
	case a.PathLength == nil || *a.PathLength >= above:
		c.warn(path+".path_length", text.M("{name} allows fewer intermediates below this one: at most {limit}", "name", issuer.Name, "limit", above-1))
	}
}

// signer checks that an authority can sign something that lives so long.
func (c *checker) signer(path string, a *Authority, lifetime Duration) {
	switch {
	case !a.signs():
		c.add(path, text.M("{name} can't sign: it has no key", "name", a.Name)).
			Do(text.M("name an authority that was made here, or give {name} its key", "name", a.Name))
	case a.Internal != nil && lifetime > a.Internal.Lifetime:
		c.warn(path, text.M("what it signs would live longer ({lifetime}) than {name} itself ({limit})",
			"lifetime", lifetime, "name", a.Name, "limit", a.Internal.Lifetime))
	}
}

// issuerCycles finds authorities that would sign for each other in a circle, each
// circle once.
func (c *checker) issuerCycles() {
	visited := map[string]int{} // authority → number of the walk that came by
	for i := range c.doc.Authorities {
		for a := &c.doc.Authorities[i]; a != nil && a.Internal != nil; a = c.authorities[a.Internal.Issuer] {
			if visited[a.Name] == i+1 {
				c.add("authorities["+a.Name+"].internal.issuer", text.M("an authority can't sign for itself, nor a circle of them for each other"))
			}
			if visited[a.Name] != 0 {
				break
			}
			visited[a.Name] = i + 1
		}
	}
}

func (c *checker) certificate(path string, cert *Certificate) {
	var ways []string
	for _, w := range []struct {
		name string
		set  bool
	}{
		{"certificate", cert.Certificate != ""},
		{"self_signed", cert.SelfSigned != nil},
		{"internal", cert.Internal != nil},
		{"acme", cert.ACME != nil},
	} {
		if w.set {
			ways = append(ways, w.name)
		}
	}
	switch {
	case len(ways) == 0:
		c.add(path, text.M("where the certificate comes from isn't said")).
			Do(text.M("set certificate and key to import one, or self_signed, internal or acme to make one"))
	case len(ways) > 1:
		c.add(path, text.M("a certificate comes from one place: {ways} exclude each other", "ways", strings.Join(ways, ", ")))
	case cert.Certificate != "" && cert.Key.IsZero() && !c.requested(cert.Name):
		c.add(path+".key", text.M("the private key is missing")).
			Do(text.M("give the key, or the certificate of a request that waits under the same name"))
	}
	if cert.SelfSigned != nil {
		c.spec(path+".self_signed", cert.SelfSigned)
	}
	if cert.Internal != nil {
		c.spec(path+".internal.spec", &cert.Internal.Spec)
		if a := c.authorities[cert.Internal.Authority]; a != nil {
			c.signer(path+".internal.authority", a, cert.Internal.Spec.Lifetime)
		}
	}
	if cert.ACME != nil {
		c.acme(path+".acme", cert.ACME)
	}
}

// requested reports whether a request with a key waits under a name.
func (c *checker) requested(name string) bool {
	return slices.ContainsFunc(c.doc.CertificateRequests, func(r CertificateRequest) bool {
		return r.Name == name && !r.Key.IsZero()
	})
}

// spec checks what stands in a certificate that is made or asked for.
func (c *checker) spec(path string, s *CertificateSpec) {
	if len(s.CommonName) > maxCommonName {
		c.complain(path+".common_name", tooLong(len(s.CommonName), maxCommonName))
	}
	if s.Subject.CommonName != "" && s.Subject.CommonName != s.CommonName {
		c.warn(path+".subject.common_name", text.M("this has no effect: the common name stands beside the subject"))
	}
	if s.Usage != UsageServer || s.CommonName == "" {
		return
	}
	if !checkCertificateName(s.CommonName).none() && !checkAddress(s.CommonName).none() {
		c.complain(path+".common_name", checkCertificateName(s.CommonName))
	}
	c.serverKey(path+".key_type", s.KeyType)
	if s.Lifetime > maxServerLife {
		c.hint(path+".lifetime", text.M("some clients refuse servers' certificates of more than {limit} days", "limit", int64(maxServerLife/Duration(day))))
	}
}

// serverKey warns of keys that browsers don't take from a server.
func (c *checker) serverKey(path string, k KeyType) {
	switch k {
	case KeyECDSAP521, KeyEd25519:
		c.warn(path, text.M("browsers refuse servers with a key of type {type}", "type", k)).Do(text.M("use {type}", "type", serverKeyHint))
	case KeyRSA8192:
		c.warn(path, text.M("each handshake with a key of type {type} costs as much as hundreds with a smaller one", "type", k)).
			Do(text.M("use {type}", "type", serverKeyHint))
	}
}

func (c *checker) acme(path string, a *ACMECertificate) {
	c.serverKey(path+".key_type", a.KeyType)
	if len(a.Names) > maxACMENames {
		c.add(path+".names", text.M("{count} entries stand here, at most {limit} are taken", "count", len(a.Names), "limit", maxACMENames))
		return
	}
	each(path+".names", a.Names, func(namePath string, name *string) {
		if strings.HasPrefix(*name, "*.") && a.Challenge != ACMEDNS01 {
			c.add(namePath, text.M("a name with a star can't be shown to be ours by {challenge}", "challenge", a.Challenge)).
				Do(text.M("set challenge to {challenge}", "challenge", ACMEDNS01))
		}
	})
}

func (c *checker) acmeAccount(path string, a *ACMEAccount) {
	if u, err := url.Parse(a.Directory); a.Directory != "" && err == nil && u.Scheme != "" && (u.Scheme != "https" || u.Host == "") {
		c.add(path+".directory", text.M("a directory is reached by https alone (RFC 8555 6.1)"))
	}
	switch {
	case a.ExternalKeyID != "" && a.ExternalKey.IsZero():
		c.add(path+".external_key", text.M("the key that belongs to external_key_id is missing"))
	case a.ExternalKeyID == "" && !a.ExternalKey.IsZero():
		c.add(path+".external_key_id", text.M("the identifier that belongs to external_key is missing"))
	}
}

func (c *checker) revocationList(path string, l *RevocationList) {
	if l.List != "" && len(l.Revoked) > 0 {
		c.add(path+".revoked", text.M("an imported list can't be added to: list and revoked exclude each other"))
	}
	if a := c.authorities[l.Authority]; a != nil && l.List == "" && !a.signs() {
		c.add(path+".authority", text.M("{name} can't sign: it has no key", "name", a.Name)).
			Do(text.M("import the list that the authority itself has made"))
	}
	first := map[string]string{}
	each(path+".revoked", l.Revoked, func(path string, r *RevokedCertificate) {
		serial := strings.TrimLeft(strings.ToLower(r.Serial), "0")
		if other, twice := first[serial]; twice && r.Serial != "" {
			c.add(path+".serial", text.M("{other} has this serial number already", "other", other))
			return
		}
		first[serial] = path
	})
}

// serverCertificate checks that a certificate which is shown to clients was made
// to be.
func (c *checker) serverCertificate(path, name string) {
	cert := c.certs[name]
	if cert == nil {
		return
	}
	if cert.SelfSigned != nil && cert.SelfSigned.Usage == UsageUser || cert.Internal != nil && cert.Internal.Spec.Usage == UsageUser {
		c.add(path, text.M("clients refuse {name}: it is made for a user, not for a server", "name", name)).
			Do(text.M("set its usage to {usage}", "usage", UsageServer))
	}
}
