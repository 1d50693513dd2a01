package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluis/internal/config"
)

// someDay is the time in these tests.
var someDay = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	key, err := generateKey(config.KeyType(kind))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyPEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	data, err := MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func certificatePEM(certificates ...*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range certificates {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.String()
}

// authority signs certificates for tests.
type authority struct {
	key         crypto.Signer
	certificate *x509.Certificate
	pem         string
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newECDSA(t)
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: someDay.AddDate(-1, 0, 0), NotAfter: someDay.AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: key, certificate: template}
	a.certificate = a.sign(t, template, key)
	a.pem = certificatePEM(a.certificate)
	return a
}

// sign issues a certificate for a key; unset dates are around someDay.
func (a *authority) sign(t testing.TB, template *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = someDay.AddDate(0, -1, 0), someDay.AddDate(0, 11, 0)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// site issues a certificate for one host name.
func (a *authority) site(t testing.TB, name string, key crypto.Signer) *x509.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, key)
}

// disk keeps keys and state in files, and fails on demand.
type disk struct {
	dir  string
	now  time.Time
	fail string // "key", "state": what cannot be written

	mu     sync.Mutex
	writes []string
}

var errDisk = errors.New("no space left")

func newDisk(t *testing.T) *disk {
	t.Helper()
	return &disk{dir: t.TempDir(), now: someDay}
}

func (d *disk) write(kind, name string, data []byte) error {
	if d.fail == kind {
		return errDisk
	}
	d.mu.Lock()
	d.writes = append(d.writes, kind)
	d.mu.Unlock()
	return os.WriteFile(filepath.Join(d.dir, name), data, 0o600)
}

func (d *disk) saveKey(ref string, data []byte) error { return d.write("key", ref, data) }

func (d *disk) open(t *testing.T) *Set {
	t.Helper()
	s, err := New(d.options())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (d *disk) options() Options {
	return Options{
		Secret:  func(ref string) ([]byte, error) { return os.ReadFile(filepath.Join(d.dir, ref)) },
		SaveKey: d.saveKey,
		LoadState: func() ([]byte, error) {
			data, err := os.ReadFile(filepath.Join(d.dir, "state"))
			if errors.Is(err, os.ErrNotExist) {
				return nil, nil
			}
			return data, err
		},
		SaveState: func(data []byte) error { return d.write("state", "state", data) },
		Now:       func() time.Time { return d.now },
	}
}

// store puts a key where the document refers to it.
func (d *disk) store(t *testing.T, key crypto.Signer) config.Secret {
	t.Helper()
	ref := KeyRef(key.Public())
	if err := os.WriteFile(filepath.Join(d.dir, ref), []byte(keyPEM(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.NewSecret(ref)
}

func document(certificates ...config.Certificate) *config.Document {
	doc := config.Default()
	doc.System.Timezone = "Etc/GMT-2"
	doc.Certificates = certificates
	return doc
}

// described is a certificate that Sluis makes for a name.
func described(name, commonName string) config.Certificate {
	return config.Certificate{Name: name, SelfSigned: &config.CertificateSpec{
		CommonName: commonName, Usage: config.UsageServer, KeyType: config.KeyECDSAP256,
		Digest: config.DigestSHA256, Lifetime: config.Duration(397 * 24 * time.Hour),
	}}
}

func prepare(t *testing.T, s *Set, doc *config.Document) *Change {
	t.Helper()
	change, problems := s.Prepare(t.Context(), doc)
	if problems.HasErrors() {
		t.Fatalf("Prepare: %v", problems)
	}
	return change
}

func apply(t *testing.T, s *Set, doc *config.Document) *Change {
	t.Helper()
	change := prepare(t, s, doc)
	if err := change.Switch(t.Context()); err != nil {
		t.Fatalf("Switch: %v", err)
	}
	return change
}

func fingerprint(t *testing.T, s *Set, name string) string {
	t.Helper()
	c := s.Certificate(name)
	if c == nil {
		t.Fatalf("Certificate(%q) = nil", name)
	}
	return Fingerprint(c.Leaf)
}

// handshake serves a certificate and lets crypto/tls verify it by name.
func handshake(t *testing.T, served *tls.Certificate, name string, roots ...*x509.Certificate) error {
	t.Helper()
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	clientSide, serverSide := net.Pipe()
	done := make(chan error, 1)
	go func() {
		server := tls.Server(serverSide, &tls.Config{Certificates: []tls.Certificate{*served}})
		_, err := io.Copy(io.Discard, server)
		serverSide.Close()
		done <- err
	}()
	client := tls.Client(clientSide, &tls.Config{RootCAs: pool, ServerName: name, Time: func() time.Time { return someDay }})
	err := client.HandshakeContext(t.Context())
	clientSide.Close()
	<-done
	return err
}

func TestPrepareProblems(t *testing.T) {
	d := newDisk(t)
	root := newAuthority(t, "lab root")
	key, otherKey := newECDSA(t), newECDSA(t)
	leaf := root.site(t, "site.example.net", key)
	good := config.Certificate{Name: "site", Certificate: config.PEM(certificatePEM(leaf)), Key: d.store(t, key)}
	with := func(change func(*config.Certificate)) *config.Document {
		c := good
		change(&c)
		return document(c)
	}
	trust := func(pem string) *config.Document {
		doc := document(good)
		doc.Authorities = []config.Authority{{Name: "lab", Certificate: config.PEM(pem)}}
		return doc
	}
	signed := func(from, to time.Time) config.PEM {
		return config.PEM(certificatePEM(root.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "site"}, NotBefore: from, NotAfter: to}, key)))
	}
	describeIt := func(change func(*config.CertificateSpec)) *config.Document {
		c := described("own", "own.example.net")
		change(c.SelfSigned)
		return document(c)
	}
	misplaced := config.NewSecret("key:" + strings.Repeat("ab", 32))
	if err := os.WriteFile(filepath.Join(d.dir, "key:"+strings.Repeat("ab", 32)), []byte(keyPEM(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := config.NewSecret("key:" + strings.Repeat("cd", 32))
	if err := os.WriteFile(filepath.Join(d.dir, "key:"+strings.Repeat("cd", 32)), []byte("oh"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		doc  *config.Document
		want []string // "severity path: message" in part, one per problem
	}{
		{"good", document(good), nil},
		{"good with its root", trust(root.pem), nil},
		{"inline key", with(func(c *config.Certificate) { c.Key = config.NewSecret(keyPEM(t, key)) }), nil},
		{"no certificate yet", with(func(c *config.Certificate) { c.Certificate = "" }), nil},
		{
			"key not in the store",
			with(func(c *config.Certificate) { c.Key = config.NewSecret("key:" + strings.Repeat("00", 32)) }),
			[]string{"error certificates[site].key: the private key key:000000000000 is not to be had from the store"},
		},
		{
			"key that nobody stored",
			with(func(c *config.Certificate) { c.Key = config.NewSecret("(set)") }),
			[]string{"error certificates[site].key: there is no stored private key behind this field"},
		},
		{
			"reference of another kind",
			with(func(c *config.Certificate) { c.Key = config.NewSecret("secret:" + strings.Repeat("00", 16)) }),
			[]string{"error certificates[site].key: there is no stored private key behind this field"},
		},
		{
			"key in the wrong place", with(func(c *config.Certificate) { c.Key = misplaced }),
			[]string{"error certificates[site].key: the store holds another private key in the place of key:abababababab"},
		},
		{
			"key damaged", with(func(c *config.Certificate) { c.Key = damaged }),
			[]string{"error certificates[site].key: the stored private key key:cdcdcdcdcdcd cannot be used: there is no private key here"},
		},
		{
			"key of another certificate", with(func(c *config.Certificate) { c.Key = d.store(t, otherKey) }),
			[]string{"error certificates[site].key: the private key does not belong to the certificate of site.example.net"},
		},
		{
			"certificate and key unreadable",
			with(func(c *config.Certificate) { c.Certificate, c.Key = "file:x", damaged }),
			[]string{"error certificates[site].certificate: there is no certificate here", "error certificates[site].key: the stored private key"},
		},
		{
			"expired", with(func(c *config.Certificate) {
				c.Certificate = signed(someDay.AddDate(-1, 0, 0), someDay.Add(-time.Hour))
			}),
			[]string{"warning certificates[site].certificate: the certificate of site expired at 2027-03-01T13:00:00+02:00"},
		},
		{
			"not yet valid", with(func(c *config.Certificate) { c.Certificate = signed(someDay.Add(time.Hour), someDay.AddDate(1, 0, 0)) }),
			[]string{"warning certificates[site].certificate: the certificate of site is not valid before 2027-03-01T15:00:00+02:00"},
		},
		{
			"an authority that is none", trust(certificatePEM(leaf, root.certificate)),
			[]string{"error authorities[lab].certificate: the certificate of site.example.net is no authority: use certificates for it"},
		},
		{
			"an authority that may not sign", trust(certificatePEM(root.sign(t, &x509.Certificate{
				Subject: pkix.Name{CommonName: "odd"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign,
			}, otherKey))),
			[]string{"error authorities[lab].certificate: the certificate of odd is no authority"},
		},
		{"an authority unreadable", trust("x"), []string{"error authorities[lab].certificate: there is no certificate here"}},
		{"described well", document(described("own", "own.example.net")), nil},
		{
			"described with a bad address", describeIt(func(s *config.CertificateSpec) { s.AlternativeNames.IP = []string{"1.2.3"} }),
			[]string{`error certificates[own].self_signed: no certificate can be made from this: "1.2.3" is no IP address`},
		},
		{
			"described with an unknown key", describeIt(func(s *config.CertificateSpec) { s.KeyType = "rsa_1" }),
			[]string{"error certificates[own].self_signed: no certificate can be made from this: unknown key type"},
		},
		{
			"described without a lifetime", describeIt(func(s *config.CertificateSpec) { s.Lifetime = 0 }),
			[]string{"error certificates[own].self_signed: no certificate can be made from this: a lifetime of 0s"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := d.open(t)
			_, problems := s.Prepare(t.Context(), tt.doc)
			for i, p := range problems {
				got := string(p.Severity) + " " + p.String()
				if i >= len(tt.want) || !strings.Contains(got, tt.want[i]) {
					t.Errorf("problem %d is %q, want %q", i, got, tt.want)
				}
			}
			if len(problems) < len(tt.want) {
				t.Errorf("%d problems, want %q", len(problems), tt.want)
			}
			if len(d.writes) > 0 {
				t.Errorf("Prepare wrote %q", d.writes)
			}
		})
	}
}

// TestImportedPairIsServedWithItsChain completes a lone leaf from the document's
// authorities, as a client that knows the root alone needs it.
func TestImportedPairIsServedWithItsChain(t *testing.T) {
	d := newDisk(t)
	root := newAuthority(t, "root")
	middle := &authority{key: newECDSA(t)}
	middle.certificate = root.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "issuing"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, middle.key)
	key := newECDSA(t)
	leaf := middle.site(t, "site.example.net", key)
	doc := document(config.Certificate{Name: "site", Certificate: config.PEM(certificatePEM(leaf)), Key: d.store(t, key)})
	doc.Authorities = []config.Authority{
		{Name: "root", Certificate: config.PEM(root.pem)},
		{Name: "issuing", Certificate: config.PEM(certificatePEM(middle.certificate))},
	}
	s := d.open(t)
	if got := s.Certificate("site"); got != nil {
		t.Errorf("Certificate before Switch = %v, want nil", got.Leaf.Subject)
	}
	change := apply(t, s, doc)
	served := s.Certificate("site")
	if err := handshake(t, served, "site.example.net", root.certificate); err != nil {
		t.Errorf("handshake: %v", err)
	}
	if err := handshake(t, served, "other.example.net", root.certificate); err == nil {
		t.Error("handshake for another name went through")
	}
	if len(served.Certificate) != 2 {
		t.Errorf("%d certificates are sent, want leaf and issuer", len(served.Certificate))
	}
	if s.Certificate("other") != nil {
		t.Error("there is a certificate for an unknown name")
	}
	for range 2 {
		if err := change.Undo(t.Context()); err != nil || s.Certificate("site") != nil {
			t.Errorf("after Undo: %v, certificate %v, want none", err, s.Certificate("site"))
		}
	}
	if len(d.writes) > 0 {
		t.Errorf("imported pairs alone wrote %q", d.writes)
	}
}

func TestFailedSwitchChangesNothing(t *testing.T) {
	for _, kind := range []string{"key", "state"} {
		t.Run(kind, func(t *testing.T) {
			d := newDisk(t)
			s := d.open(t)
			docA := document(described("own", "a.example.net"))
			apply(t, s, docA)
			a := fingerprint(t, s, "own")
			change := prepare(t, s, document(described("own", "b.example.net")))
			d.fail = kind
			if err := change.Switch(t.Context()); !errors.Is(err, errDisk) {
				t.Fatalf("Switch = %v, want %v", err, errDisk)
			}
			if fingerprint(t, s, "own") != a {
				t.Error("the failed Switch changed the certificate")
			}
			d.fail = ""
			if err := change.Undo(t.Context()); err != nil {
				t.Errorf("Undo: %v", err)
			}
			s = d.open(t)
			apply(t, s, docA)
			if fingerprint(t, s, "own") != a {
				t.Error("the certificate was lost on the disk")
			}
		})
	}
	t.Run("state written, then an error", func(t *testing.T) {
		d := newDisk(t)
		options := d.options()
		fail := false
		options.SaveState = func(data []byte) error {
			err := d.write("state", "state", data)
			if fail {
				return errDisk
			}
			return err
		}
		s, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		change := prepare(t, s, document(described("own", "a.example.net")))
		fail = true
		if err := change.Switch(t.Context()); !errors.Is(err, errDisk) {
			t.Fatalf("Switch = %v, want %v", err, errDisk)
		}
		fail = false
		if err := change.Undo(t.Context()); err != nil {
			t.Error(err)
		}
		if got := d.open(t).Keys(); len(got) != 0 {
			t.Errorf("after Undo the disk still knows the keys %q", got)
		}
	})
	t.Run("given up", func(t *testing.T) {
		s := newDisk(t).open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := prepare(t, s, document(described("own", "a"))).Switch(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Switch = %v, want %v", err, context.Canceled)
		}
	})
}

func TestUndoBringsBackFactsToo(t *testing.T) {
	d := newDisk(t)
	s := d.open(t)
	docA := document(described("own", "a.example.net"))
	apply(t, s, docA)
	a := fingerprint(t, s, "own")
	change := apply(t, s, document(described("own", "b.example.net")))
	own, err := s.Default([]string{"box"}, nil) // between Switch and Undo
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fingerprint(t, s, "own") != a {
		t.Error("Undo left another certificate")
	}
	s = d.open(t)
	if got := len(s.Keys()); got != 2 {
		t.Errorf("Undo keeps %d keys, want that of the document and the appliance's own", got)
	}
	apply(t, s, docA)
	if fingerprint(t, s, "own") != a {
		t.Error("Undo did not keep the certificate")
	}
	if again, err := s.Default([]string{"box"}, nil); err != nil || Fingerprint(again.Leaf) != Fingerprint(own.Leaf) {
		t.Errorf("Undo took the appliance's own certificate away (%v)", err)
	}
	if err := prepare(t, s, docA).Undo(t.Context()); err != nil || s.Certificate("own") == nil {
		t.Errorf("Undo without Switch did something (%v)", err)
	}
}

// TestReadersNeverSeeHalfAChange runs readers beside changes: two certificates
// that always change together are never seen apart within one snapshot, and a
// certificate always comes with its key. It is for the race detector, too.
func TestReadersNeverSeeHalfAChange(t *testing.T) {
	d := newDisk(t)
	s := d.open(t)
	apply(t, s, document(described("one", "c.example.net"), described("two", "c.example.net")))
	changes := make([]*Change, 2)
	for i, name := range []string{"a.example.net", "b.example.net"} {
		changes[i] = prepare(t, s, document(described("one", name), described("two", name)))
		if err := changes[i].Switch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap := s.current.Load()
				if one, two := snap.shown["one"], snap.shown["two"]; one.Leaf.Subject.CommonName != two.Leaf.Subject.CommonName {
					t.Error("one snapshot holds half a change")
					return
				}
				c := s.Certificate("one")
				if key := c.PrivateKey.(crypto.Signer); !samePublic(key.Public(), c.Leaf.PublicKey) {
					t.Error("a certificate without its key")
					return
				}
				s.Keys()
			}
		})
	}
	for i := range 100 {
		if err := changes[i%2].Switch(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.Default([]string{"box"}, nil); err != nil {
			t.Error(err)
		}
		if i%7 == 0 {
			if err := changes[i%2].Undo(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}
