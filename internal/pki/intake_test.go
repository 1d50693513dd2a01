package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"sluis/internal/config"

	"github.com/google/go-cmp/cmp"
)

func request(t *testing.T) (config.PEM, string) {
	t.Helper()
	key := newECDSA(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return config.PEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), keyPEM(t, key)
}

func TestIntakeMovesKeysIntoTheStore(t *testing.T) {
	root := newAuthority(t, "root")
	key := newECDSA(t)
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	inline := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
	asked, askedKey := request(t)
	alone := keyPEM(t, newECDSA(t))
	stored := "key:" + strings.Repeat("00", 32)
	doc := config.Default()
	doc.Authorities = []config.Authority{{Name: "root", Certificate: config.PEM(root.pem), Key: config.NewSecret(keyPEM(t, root.key))}}
	doc.Certificates = []config.Certificate{
		// The renewed certificate stands first, the chain behind it.
		{Name: "site", Certificate: config.PEM(root.pem + certificatePEM(root.site(t, "site", key))), Key: config.NewSecret(inline)},
		{Name: "alone", Key: config.NewSecret(alone)},
		{Name: "stored", Certificate: config.PEM(root.pem), Key: config.NewSecret(stored)},
		{Name: "kept", Key: config.NewSecret("(set)")},
		{Name: "made", SelfSigned: &config.CertificateSpec{}},
	}
	doc.CertificateRequests = []config.CertificateRequest{{Name: "asked", Request: asked, Key: config.NewSecret(askedKey)}}

	put := map[string]string{}
	if problems := Intake(doc, func(ref string, data []byte) error { put[ref] = string(data); return nil }); len(problems) > 0 {
		t.Fatal(problems)
	}
	refOf := func(text string) string {
		key, problem := ParseKey([]byte(text))
		if !problem.IsZero() {
			t.Fatal(problem)
		}
		return KeyRef(key.Public())
	}
	want := map[string]string{
		KeyRef(root.key.Public()): keyPEM(t, root.key), refOf(inline): keyPEM(t, key), refOf(alone): alone, refOf(askedKey): askedKey,
	}
	if diff := cmp.Diff(want, put); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	reference := func(s config.Secret) string { ref, _ := s.Reference(); return ref }
	got := []string{
		reference(doc.Authorities[0].Key), reference(doc.Certificates[0].Key), reference(doc.Certificates[1].Key),
		reference(doc.Certificates[2].Key), reference(doc.Certificates[3].Key), reference(doc.CertificateRequests[0].Key),
	}
	if diff := cmp.Diff([]string{KeyRef(root.key.Public()), refOf(inline), refOf(alone), stored, "", refOf(askedKey)}, got); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	before := slices.Sorted(maps.Keys(put))
	if problems := Intake(doc, func(ref string, _ []byte) error { t.Errorf("put again: %s", ref); return nil }); len(problems) > 0 {
		t.Error(problems)
	}
	if !slices.Equal(before, slices.Sorted(maps.Keys(put))) {
		t.Error("a second Intake changed the store")
	}
}

func TestIntakeRefusals(t *testing.T) {
	root := newAuthority(t, "root")
	key := newECDSA(t)
	leaf := config.PEM(certificatePEM(root.site(t, "site.example.net", key)) + root.pem)
	own, foreign := config.NewSecret(keyPEM(t, key)), config.NewSecret(keyPEM(t, newECDSA(t)))
	asked, _ := request(t)
	both := config.PEM(string(leaf) + keyPEM(t, key))
	tests := []struct {
		name   string
		change func(*config.Document)
		want   string
	}{
		{"not a key", func(d *config.Document) { d.Certificates[0].Key = config.NewSecret("hello") }, "certificates[site].key: there is no private key here"},
		{
			"another's key", func(d *config.Document) { d.Certificates[0].Key = foreign },
			"certificates[site].key: the private key does not belong to the certificate of site.example.net",
		},
		{
			"an authority's key", func(d *config.Document) {
				d.Authorities = []config.Authority{{Name: "[x]", Certificate: config.PEM(root.pem), Key: foreign}}
			},
			"authorities[0].key: the private key does not belong to the certificate of root",
		},
		{
			"a request's key", func(d *config.Document) {
				d.CertificateRequests = []config.CertificateRequest{{Name: "asked", Request: asked, Key: foreign}}
			},
			"certificate_requests[asked].key: the private key does not belong to the request",
		},
		{
			"a key among the certificates", func(d *config.Document) { d.Certificates[0].Certificate = both },
			"certificates[site].certificate: there is a private key among the certificates",
		},
		{
			"a key in a list", func(d *config.Document) {
				d.RevocationLists = []config.RevocationList{{Name: "list", List: both}}
			},
			"revocation_lists[list].list: there is a private key among the certificates",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := config.Default()
			doc.Certificates = []config.Certificate{
				{Name: "site", Certificate: leaf, Key: own}, {Name: "good", Key: config.NewSecret(keyPEM(t, newECDSA(t)))},
			}
			tt.change(doc)
			before := config.Clone(doc)
			problems := Intake(doc, func(ref string, _ []byte) error { t.Errorf("put %s in spite of a problem", ref); return nil })
			if len(problems) != 1 || !problems.HasErrors() || !strings.Contains(problems[0].String(), tt.want) {
				t.Errorf("problems are %v, want %q", problems, tt.want)
			}
			if diff := cmp.Diff(before, doc, cmp.Comparer(func(a, b config.Secret) bool { return a == b })); diff != "" {
				t.Errorf("the document changed (-before +after):\n%s", diff)
			}
		})
	}
	t.Run("store full", func(t *testing.T) {
		doc := config.Default()
		doc.Certificates = []config.Certificate{{Name: "site", Certificate: leaf, Key: own}}
		problems := Intake(doc, func(string, []byte) error { return errors.New("no space left") })
		if len(problems) != 1 || !strings.Contains(problems[0].String(), "certificates[site].key: the private key could not be stored: no space left") {
			t.Errorf("problems are %v", problems)
		}
		if doc.Certificates[0].Key != own {
			t.Error("the field refers to a key that was not stored")
		}
	})
}
