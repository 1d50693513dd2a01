package migrate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"
)

// made is a certificate with its key.
type made struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func makeCertificate(t *testing.T, name string, issuer *made) made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "*." + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: !strings.Contains(name, "."),
		KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made{c, key}
}

func (m made) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.certificate.Raw}))
}

func (m made) keyPEM(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(m.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// Imported certificates go into files that HAProxy takes: the leaf first, then its
// chain without the root, then the key; authorities and revocation lists beside.
func TestCertificateFiles(t *testing.T) {
	root := makeCertificate(t, "root", nil)
	issuing := makeCertificate(t, "issuing", &root)
	leaf := makeCertificate(t, "shop.example.net", &issuing)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, root.certificate, root.key)
	if err != nil {
		t.Fatal(err)
	}
	doc := config.Default()
	doc.LoadBalancer.MaxConnections = 100
	doc.Certificates = []config.Certificate{{Name: "shop", Certificate: config.PEM(root.pem() + leaf.pem() + "text between\n" + issuing.pem()), Key: config.NewSecret(leaf.keyPEM(t))}}
	doc.Authorities = []config.Authority{{Name: "root", Certificate: config.PEM(root.pem())}}
	doc.RevocationLists = []config.RevocationList{{Name: "list", Authority: "root", List: config.PEM(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))}}
	doc.Frontends = []config.Frontend{{
		Name: "shop", Type: config.FrontendHTTP, Binds: []config.Bind{{Name: "https", Address: "127.0.0.1", Port: 8443, TLS: true}},
		TLS: &config.FrontendTLS{
			Certificates: []string{"shop"}, HostRuleFromCertificate: true, UnknownHostStatus: 421,
			ClientCertificates: &config.ClientCertificates{Mode: config.ClientCertificateRequired, Authorities: []string{"root"}, RevocationLists: []string{"list"}},
		},
	}}
	none := HAProxyOptions{}
	got := HAProxy(doc, none)
	for name, want := range map[string]string{
		"shop.pem":                   leaf.pem() + issuing.pem() + leaf.keyPEM(t),
		"clients-frontends-shop.pem": root.pem(),
		"revoked-frontends-shop.pem": string(doc.RevocationLists[0].List),
	} {
		if string(got.Files[name]) != want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got.Files[name], want)
		}
	}
	for _, want := range []string{"verify required ca-file /etc/haproxy/sluis/clients-frontends-shop.pem crl-file /etc/haproxy/sluis/revoked-frontends-shop.pem", `'^[^.]+\.shop\.example\.net\.?$'`, "-- shop.example.net shop.example.net."} {
		if !strings.Contains(string(got.Config), want) {
			t.Errorf("%q isn't in:\n%s", want, got.Config)
		}
	}
	acceptWith(t, doc, none)

	// Without its key the file says where it belongs, and without authorities nobody
	// is let in.
	doc.Certificates[0].Key = config.NewSecret("key:0123456789abcdef")
	got = HAProxy(doc, none)
	if want := leaf.pem() + issuing.pem() + "# Add the private key of this certificate here.\n"; string(got.Files["shop.pem"]) != want {
		t.Errorf("shop.pem:\n%s", got.Files["shop.pem"])
	}
	wantLine(t, got, "certificates[shop].key", Approximated)
	doc.Authorities = nil
	got = HAProxy(doc, none)
	wantLine(t, got, "frontends[shop].binds[https]", LeftOut)
	if strings.Contains(string(got.Config), "bind 127.0.0.1:8443") {
		t.Errorf("clients are let in without a certificate:\n%s", got.Config)
	}
}

func wantLine(t *testing.T, c HAProxyConfig, path string, outcome Outcome) {
	t.Helper()
	if !slices.ContainsFunc(c.Report, func(l Line) bool { return l.Path == path && l.Outcome == outcome }) {
		t.Errorf("the report has no line %s: %s\n%s", path, outcome, RenderReport(c.Report))
	}
}

// A rule that asks what can't be said is left out, and so is what it refers to.
func TestWhatCannotBeSaidIsReported(t *testing.T) {
	doc := load(t, "testdata/everything.yaml")
	f := &doc.Frontends[0]
	f.ACLs[0].Regex = []string{`\p{Greek}`}
	f.Rules = append(f.Rules, config.Rule{Name: "guard", When: "not shop-host", Deny: &config.Deny{Status: 403}})
	f.DefaultBackend = "bytes"
	doc.Backends[0].ServerTLS.Authority = "unknown"
	o := options()
	o.Authority = nil
	got := HAProxy(doc, o)
	for path, outcome := range map[string]Outcome{
		"frontends[shop].acls[shop-host].regex[0]":          LeftOut,
		"frontends[shop].rules[guard]":                      LeftOut,
		"frontends[shop].default_backend":                   LeftOut,
		"backends[web].server_tls.authority":                LeftOut,
		"backends[web].servers[web1].tls":                   LeftOut,
		"frontends[shop].tls.client_certificates":           LeftOut,
		"frontends[shop].rules[set-early].set_header.value": LeftOut,
	} {
		wantLine(t, got, path, outcome)
	}
	if strings.Contains(string(got.Config), "server web1") {
		t.Error("a server is spoken to without its authority")
	}
	acceptWith(t, doc, o)
}
