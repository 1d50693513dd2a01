package health

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// tlsSettings is how one server's checks speak TLS: the way that requests go.
type tlsSettings struct {
	sni        string // empty = none is sent
	name       string // what the certificate must be for
	oldest     uint16
	clientName string // of our certificate; empty = none
	trust      *trust // nil = nobody vouches
}

// trust is whom the checks of one backend believe. Its source is the text that it
// was made of: equal sources are equal trust.
type trust struct {
	source  string
	roots   *x509.CertPool  // nil = the system's
	revoked map[string]bool // by issuer and serial, see revocationKey
}

func (t *tlsSettings) equal(o *tlsSettings) bool {
	if t == nil || o == nil {
		return t == o
	}
	a, b := *t, *o
	a.trust, b.trust = nil, nil
	if a != b || (t.trust == nil) != (o.trust == nil) {
		return false
	}
	return t.trust == nil || t.trust.source == o.trust.source
}

// tlsSettingsOf applies the rules for names: the check's SNI, else that of
// requests, else the server's own; never an address (RFC 6066 section 3). The name
// that is verified is the one given for it, else the one sent, else the server's
// own, which may be an address.
func tlsSettingsOf(b *config.Backend, s *config.Server, trust *trust) *tlsSettings {
	own := ownName(s)
	host := own // stands for the request's host in a check
	if b.Check.Type == config.CheckHTTP && b.Check.Host != "" {
		host = strings.ReplaceAll(b.Check.Host, serverPlaceholder, own)
	}
	expand := strings.NewReplacer(serverPlaceholder, own, "{host}", host).Replace
	t := &tlsSettings{oldest: tls.VersionTLS12, clientName: b.ServerTLS.ClientCertificate}
	if b.ServerTLS.MinVersion == config.TLS13 {
		t.oldest = tls.VersionTLS13
	}
	switch {
	case b.Check.SNI != "":
		t.sni = expand(b.Check.SNI)
	case b.ServerTLS.SNI != "":
		t.sni = expand(b.ServerTLS.SNI)
	default:
		t.sni = own
	}
	if _, err := netip.ParseAddr(t.sni); err == nil {
		t.sni = ""
	}
	if b.ServerTLS.Verify == config.VerifyNone {
		return t
	}
	t.trust = trust
	switch {
	case b.ServerTLS.Name != "":
		t.name = expand(b.ServerTLS.Name)
	case t.sni != "":
		t.name = t.sni
	default:
		t.name = own
	}
	return t
}

// trustOf reads whom a backend believes; a problem is said where nobody can be.
func trustOf(doc *config.Document, t *config.ServerTLS) (*trust, text.Msg) {
	if t.Verify == config.VerifyNone {
		return nil, text.Msg{}
	}
	var source strings.Builder
	made := &trust{}
	source.WriteString(string(t.Verify))
	var extra []config.PEM
	for _, a := range doc.Authorities {
		if t.Verify == config.VerifyAuthority && a.Name == t.Authority || t.Verify == config.VerifySystem && a.Trust {
			extra = append(extra, a.Certificate)
			source.WriteString("\n" + string(a.Certificate))
		}
	}
	if t.Verify == config.VerifyAuthority || len(extra) > 0 {
		made.roots = x509.NewCertPool()
		if t.Verify == config.VerifySystem {
			if system, err := x509.SystemCertPool(); err == nil {
				made.roots = system
			}
		}
		found := false
		for _, pemText := range extra {
			found = made.roots.AppendCertsFromPEM([]byte(pemText)) || found
		}
		if !found && t.Verify == config.VerifyAuthority && t.Authority != "" { // Validate says that none is named
			return made, text.M("{name} has no certificate that servers could be held against: no check over TLS would ever be good", "name", t.Authority)
		}
	}
	made.revoked = revokedBy(doc, t.RevocationList, &source)
	made.source = source.String()
	return made, text.Msg{}
}

// revokedBy reads a revocation list: an imported one, or the entries of one that
// Sluis makes.
func revokedBy(doc *config.Document, name string, source *strings.Builder) map[string]bool {
	revoked := map[string]bool{}
	for _, l := range doc.RevocationLists {
		if l.Name != name || name == "" {
			continue
		}
		source.WriteString("\nrevoked " + string(l.List))
		if block, _ := pem.Decode([]byte(l.List)); block != nil {
			if list, err := x509.ParseRevocationList(block.Bytes); err == nil {
				for _, e := range list.RevokedCertificateEntries {
					revoked[revocationKey(list.RawIssuer, e.SerialNumber.Bytes())] = true
				}
			}
			continue
		}
		for _, a := range doc.Authorities {
			block, _ := pem.Decode([]byte(a.Certificate))
			if a.Name != l.Authority || block == nil {
				continue
			}
			issuer, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				continue
			}
			for _, e := range l.Revoked {
				source.WriteString("\n" + l.Authority + " " + e.Serial)
				serial := strings.ReplaceAll(e.Serial, ":", "")
				if len(serial)%2 != 0 {
					serial = "0" + serial
				}
				if number, err := hex.DecodeString(serial); err == nil {
					revoked[revocationKey(issuer.RawSubject, bytes.TrimLeft(number, "\x00"))] = true
				}
			}
		}
	}
	return revoked
}

func revocationKey(issuer, serial []byte) string { return string(issuer) + "\x00" + string(serial) }

// untrusted is why a certificate is not believed.
type untrusted struct {
	reason text.Msg
	err    error
}

func (u *untrusted) Error() string {
	if u.err != nil {
		return u.err.Error()
	}
	return u.reason.String()
}

func asUntrusted(err error, target **untrusted) bool { return errors.As(err, target) }

// clientConfig makes the configuration of one probe. crypto/tls holds a certificate
// against the name sent as SNI alone, and here they may differ: so it verifies
// nothing, and verify does in its place. show gets the state before that.
func (t *tlsSettings) clientConfig(certificate func(string) *tls.Certificate, now func() time.Time, show func(*tls.ConnectionState)) *tls.Config {
	cfg := &tls.Config{
		MinVersion: t.oldest, ServerName: t.sni, InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			show(&state)
			if t.trust == nil {
				return nil
			}
			return t.verify(&state, now())
		},
	}
	if t.clientName != "" {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := certificate(t.clientName); c != nil {
				return c, nil
			}
			return &tls.Certificate{}, nil // none is sent; the server decides (RFC 8446 4.4.2)
		}
	}
	return cfg
}

func (t *tlsSettings) verify(state *tls.ConnectionState, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return &untrusted{reason: text.M("the server showed no certificate")}
	}
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: t.trust.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, DNSName: t.name}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return &untrusted{reason: t.whyUntrusted(leaf, err), err: err}
	}
	for _, chain := range chains {
		if !slices.ContainsFunc(chain, t.trust.isRevoked) {
			return nil
		}
	}
	return &untrusted{reason: text.M("the certificate of {subject} has been revoked", "subject", leaf.Subject)}
}

func (t *trust) isRevoked(c *x509.Certificate) bool {
	return t.revoked[revocationKey(c.RawIssuer, c.SerialNumber.Bytes())]
}

func (t *tlsSettings) whyUntrusted(leaf *x509.Certificate, err error) text.Msg {
	var (
		wrongName x509.HostnameError
		unknown   x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &wrongName):
		return text.M("the certificate is not for {name}, but for {names}", "name", t.name, "names", shownNames(leaf))
	case errors.As(err, &unknown):
		return text.M("the certificate of {subject}, issued by {issuer}, is of no authority that is trusted here", "subject", leaf.Subject, "issuer", leaf.Issuer)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return text.M("a certificate is outside its time: that of {subject} is valid from {from} to {to}", "subject", leaf.Subject,
			"from", leaf.NotBefore.UTC().Format(time.RFC3339), "to", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return text.M("the certificate is not believed: {error}", "error", err)
}

func shownNames(leaf *x509.Certificate) string {
	names := certificateFacts(leaf).Names
	if len(names) == 0 {
		return "—"
	}
	return strings.Join(names, ", ")
}
