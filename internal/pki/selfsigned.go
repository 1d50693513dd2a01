package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

const (
	// renewBefore is how long before its end a made certificate is made anew; for a
	// short one it is a third of its time.
	renewBefore = 30 * 24 * time.Hour
	// backdate lets clients in whose clock is slow; for a short certificate it is a
	// part of its time.
	backdate = time.Hour
	// maxNames bounds the names of the appliance's own certificate, which every
	// handshake carries.
	maxNames = 128
	// maxCommonName is the longest common name (RFC 5280 appendix A.1).
	maxCommonName = 64

	applianceLifetime = config.Duration(397 * 24 * time.Hour)
)

// wanted is a certificate that the document describes and Sluis makes.
type wanted struct {
	name string
	// spec tells descriptions apart: a hash of all that stands in them.
	spec     string
	template x509.Certificate
	keyType  config.KeyType
	lifetime time.Duration
}

// want turns a description into what crypto/x509 needs.
func want(name string, spec config.CertificateSpec) (wanted, error) {
	w := wanted{name: name, spec: hashSpec(spec), keyType: spec.KeyType, lifetime: spec.Lifetime.Std()}
	if w.lifetime <= 0 {
		return w, fmt.Errorf("a lifetime of %s", spec.Lifetime)
	}
	if !slices.Contains(spec.KeyType.Values(), string(spec.KeyType)) {
		return w, fmt.Errorf("unknown key type %q", spec.KeyType)
	}
	t := &w.template
	t.Subject = subject(spec)
	t.BasicConstraintsValid = true
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if strings.HasPrefix(string(spec.KeyType), "rsa_") {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	switch spec.Usage {
	case config.UsageServer:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case config.UsageUser:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		return w, fmt.Errorf("unknown usage %q", spec.Usage)
	}
	var err error
	if t.SignatureAlgorithm, err = signatureAlgorithm(spec.KeyType, spec.Digest); err != nil {
		return w, err
	}
	return w, addNames(t, spec)
}

// subject is the distinguished name. A common name beyond the limit stands among
// the alternative names alone.
func subject(spec config.CertificateSpec) pkix.Name {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	name := pkix.Name{
		CommonName:         spec.CommonName,
		Organization:       one(spec.Subject.Organization),
		OrganizationalUnit: one(spec.Subject.OrganizationalUnit),
		Locality:           one(spec.Subject.Locality),
		Province:           one(spec.Subject.Province),
		Country:            one(spec.Subject.Country),
	}
	if len([]rune(name.CommonName)) > maxCommonName {
		name.CommonName = ""
	}
	return name
}

// addNames sets the alternative names. The common name joins them where it is a
// host name, an address or a mail address; clients look there alone (RFC 9525).
func addNames(t *x509.Certificate, spec config.CertificateSpec) error {
	names := spec.AlternativeNames
	dns, ips, emails := slices.Clone(names.DNS), slices.Clone(names.IP), slices.Clone(names.Email)
	switch kindOfName(spec.CommonName) {
	case nameIP:
		ips = slices.Insert(ips, 0, spec.CommonName)
	case nameDNS:
		dns = slices.Insert(dns, 0, spec.CommonName)
	case nameEmail:
		emails = slices.Insert(emails, 0, spec.CommonName)
	}
	t.DNSNames, t.EmailAddresses = once(dns), once(emails)
	for _, s := range append(slices.Clone(t.DNSNames), t.EmailAddresses...) {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("the name %q has letters beyond ASCII or none at all", s)
		}
	}
	for _, s := range once(ips) {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("%q is no IP address", s)
		}
		t.IPAddresses = append(t.IPAddresses, net.IP(addr.Unmap().AsSlice()))
	}
	for _, s := range once(names.URI) {
		u, err := url.Parse(s)
		if err != nil {
			return fmt.Errorf("%q is no URI", s)
		}
		t.URIs = append(t.URIs, u)
	}
	return nil
}

// Kinds of names that a common name may be.
const (
	nameOther = iota
	nameDNS
	nameIP
	nameEmail
)

func kindOfName(s string) int {
	if _, err := netip.ParseAddr(s); err == nil {
		return nameIP
	}
	foreign := strings.ContainsFunc(strings.TrimPrefix(s, "*."), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
	switch {
	case s == "":
		return nameOther
	case !foreign:
		return nameDNS
	case strings.Count(s, "@") == 1 && !strings.ContainsAny(s, " <>"):
		return nameEmail
	}
	return nameOther
}

// once drops what repeats.
func once(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func signatureAlgorithm(key config.KeyType, digest config.Digest) (x509.SignatureAlgorithm, error) {
	kind, _, _ := strings.Cut(string(key), "_")
	if kind == "ed25519" {
		return x509.PureEd25519, nil // brings its own hash
	}
	switch kind + " " + string(digest) {
	case "rsa sha256":
		return x509.SHA256WithRSA, nil
	case "rsa sha384":
		return x509.SHA384WithRSA, nil
	case "rsa sha512":
		return x509.SHA512WithRSA, nil
	case "ecdsa sha256":
		return x509.ECDSAWithSHA256, nil
	case "ecdsa sha384":
		return x509.ECDSAWithSHA384, nil
	case "ecdsa sha512":
		return x509.ECDSAWithSHA512, nil
	}
	return 0, fmt.Errorf("unknown digest %q", digest)
}

// hashSpec names a description by its content. Only what is set counts, under
// names of its own: a field that a later model adds must not make every
// certificate look changed.
func hashSpec(spec config.CertificateSpec) string {
	h := sha256.New()
	add := func(what string, values ...string) {
		for _, v := range values {
			if v != "" {
				fmt.Fprintf(h, "%s=%q\n", what, v)
			}
		}
	}
	add("cn", spec.CommonName)
	add("o", spec.Subject.Organization)
	add("ou", spec.Subject.OrganizationalUnit)
	add("l", spec.Subject.Locality)
	add("st", spec.Subject.Province)
	add("c", spec.Subject.Country)
	add("dns", spec.AlternativeNames.DNS...)
	add("ip", spec.AlternativeNames.IP...)
	add("email", spec.AlternativeNames.Email...)
	add("uri", spec.AlternativeNames.URI...)
	add("usage", string(spec.Usage))
	add("key", string(spec.KeyType))
	add("digest", string(spec.Digest))
	add("lifetime", spec.Lifetime.String())
	return hex.EncodeToString(h.Sum(nil))
}

// applianceSpec describes the appliance's own certificate. The names are sorted,
// so that their order makes no difference; of too many the last ones are left out.
func applianceSpec(hostnames []string, addresses []netip.Addr) config.CertificateSpec {
	dns := once(hostnames)
	var ips []string
	for _, a := range addresses {
		ips = append(ips, a.Unmap().WithZone("").String())
	}
	if len(dns) == 0 && len(ips) == 0 {
		dns = []string{"localhost"}
	}
	dns = dns[:min(len(dns), maxNames)]
	ips = once(ips)
	ips = ips[:min(len(ips), maxNames-len(dns))]
	slices.Sort(dns)
	slices.Sort(ips)
	return config.CertificateSpec{
		CommonName:       "Sluis",
		AlternativeNames: config.AlternativeNames{DNS: dns, IP: ips},
		Usage:            config.UsageServer,
		KeyType:          config.KeyECDSAP256,
		Digest:           config.DigestSHA256,
		Lifetime:         applianceLifetime,
	}
}

// realize fills next with the facts of all wanted certificates: those kept, those
// of a certificate that was renamed, and for the rest new ones.
func (s *Set) realize(ctx context.Context, all []wanted, before, next *snapshot) error {
	kept := slices.Concat(before.used, before.former)
	isWanted := func(f fact) bool { return slices.ContainsFunc(all, f.describedBy) }
	for _, w := range all {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("make the certificate %s: %w", w.name, err)
		}
		f, found := s.find(w, kept)
		if !found {
			f, found = s.findRenamed(w, kept, func(f fact) bool { return !isWanted(f) && !shares(next.used, f) })
		}
		if !found {
			var err error
			if f, err = s.make(w); err == nil {
				err = s.keepKey(f)
			}
			if err != nil {
				return fmt.Errorf("make the certificate %s: %w", w.name, err)
			}
			f.kept = true
		}
		next.used = append(next.used, f)
		next.shown[w.name] = f.loaded
	}
	return nil
}

func shares(facts []fact, f fact) bool {
	return slices.ContainsFunc(facts, func(other fact) bool { return other.Key == f.Key })
}

// find looks for the kept certificate that is wanted and loads it. One that can
// no longer be loaded, or is due, is not found: a new one takes its place.
func (s *Set) find(w wanted, kept []fact) (fact, bool) {
	return s.usable(slices.DeleteFunc(slices.Clone(kept), func(f fact) bool { return !f.describedBy(w) }))
}

// usable is the first fact whose key is there and whose end isn't near.
func (s *Set) usable(kept []fact) (fact, bool) {
	for _, f := range kept {
		loaded, err := s.load(f)
		if err == nil && !due(loaded.loaded.Leaf, s.options.Now()) {
			return loaded, true
		}
	}
	return fact{}, false
}

// findRenamed looks for a certificate of the same description whose name the
// document no longer has: renaming must not change what clients have accepted.
func (s *Set) findRenamed(w wanted, kept []fact, free func(fact) bool) (fact, bool) {
	for _, f := range kept {
		if f.Spec == w.spec && free(f) {
			former := w
			former.name = f.Name
			if found, ok := s.find(former, []fact{f}); ok {
				found.Name = w.name
				return found, true
			}
		}
	}
	return fact{}, false
}

// earliest is a time that any right clock has passed. A machine without a battery
// starts in 1970; that is no reason to replace a certificate.
var earliest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// due reports whether a made certificate should be made anew: near or past its
// end, or from the future, made while the clock was wrong.
func due(c *x509.Certificate, now time.Time) bool {
	if now.Before(c.NotBefore) {
		return now.After(earliest)
	}
	lifetime := c.NotAfter.Sub(c.NotBefore)
	return now.After(c.NotAfter.Add(-min(renewBefore, lifetime/3)))
}

// make makes a key and a certificate for it that signs itself.
func (s *Set) make(w wanted) (fact, error) {
	key, err := generateKey(w.keyType)
	if err != nil {
		return fact{}, err
	}
	t := w.template
	t.NotBefore = s.options.Now().Add(-min(backdate, w.lifetime/24))
	t.NotAfter = t.NotBefore.Add(w.lifetime)
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, key.Public(), key)
	if err != nil {
		return fact{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fact{}, err
	}
	// Told under the lock, against the rule: Publish never waits.
	s.options.Publish(CertificateMade{Name: w.name, Fingerprint: Fingerprint(leaf), Ends: leaf.NotAfter})
	return fact{
		Name: w.name, Spec: w.spec, Key: KeyRef(key.Public()),
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		loaded:      pair([]*x509.Certificate{leaf}, key),
	}, nil
}

func generateKey(kind config.KeyType) (crypto.Signer, error) {
	switch kind {
	case config.KeyRSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case config.KeyRSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case config.KeyRSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case config.KeyRSA8192:
		return rsa.GenerateKey(rand.Reader, 8192)
	case config.KeyECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case config.KeyECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case config.KeyECDSAP521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case config.KeyEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("unknown key type %q", kind)
}

// keepKey stores the key of a new fact.
func (s *Set) keepKey(f fact) error {
	key, ok := f.loaded.PrivateKey.(crypto.Signer)
	if !ok {
		panic("BUG: a loaded certificate without a key")
	}
	data, err := MarshalKey(key)
	if err != nil {
		return err
	}
	if err := s.options.SaveKey(f.Key, data); err != nil {
		return fmt.Errorf("store its key: %w", err)
	}
	return nil
}

// load reads a kept certificate and its key; a loaded one is taken as it is.
func (s *Set) load(f fact) (fact, error) {
	if f.loaded != nil {
		return f, nil
	}
	chain, problem := ParseChain(config.PEM(f.Certificate))
	if !problem.IsZero() {
		return f, errors.New(problem.String())
	}
	key, _, problem := s.fetchKey(config.NewSecret(f.Key))
	if !problem.IsZero() {
		return f, errors.New(problem.String())
	}
	if !samePublic(chain[0].PublicKey, key.Public()) {
		return f, errors.New("the key does not belong to the certificate")
	}
	f.loaded = pair(chain[:1], key)
	return f, nil
}

// fetchKey reads a private key from where the document says it is. A key that was
// given inline and not stored yet, as when a file is only checked, is taken as is.
func (s *Set) fetchKey(secret config.Secret) (key crypto.Signer, hint, problem text.Msg) {
	again := text.M("give the private key again, or restore the store from a backup")
	if value, inline := secret.Inline(); inline {
		key, problem = ParseKey([]byte(value))
		return key, text.Msg{}, problem
	}
	ref, stored := secret.Reference()
	if !stored || !strings.HasPrefix(ref, "key:") {
		return nil, again, text.M("there is no stored private key behind this field")
	}
	data, err := s.options.Secret(ref)
	if err != nil {
		return nil, again, text.M("the private key {key} is not to be had from the store: {reason}", "key", short(ref), "reason", err)
	}
	key, problem = ParseKey(data)
	switch {
	case !problem.IsZero():
		return nil, again, text.M("the stored private key {key} cannot be used: {reason}", "key", short(ref), "reason", problem)
	case KeyRef(key.Public()) != ref:
		return nil, again, text.M("the store holds another private key in the place of {key}", "key", short(ref))
	}
	return key, text.Msg{}, text.Msg{}
}

// short is a reference that fits a sentence.
func short(ref string) string { return ref[:min(len(ref), len("key:")+12)] }

// pair joins a chain, leaf first, and its key.
func pair(chain []*x509.Certificate, key crypto.Signer) *tls.Certificate {
	p := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		p.Certificate = append(p.Certificate, c.Raw)
	}
	return p
}
