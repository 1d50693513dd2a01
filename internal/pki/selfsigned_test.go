package pki

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"

	"github.com/google/go-cmp/cmp"
)

func TestSelfSignedIsWhatItsDescriptionSays(t *testing.T) {
	o := newOpenSSL(t)
	for _, key := range []config.KeyType{config.KeyRSA2048, config.KeyECDSAP256, config.KeyECDSAP384, config.KeyECDSAP521, config.KeyEd25519} {
		t.Run(string(key), func(t *testing.T) {
			o, d := o.in(t), newDisk(t)
			c := described("own", "own.example.net")
			spec := c.SelfSigned
			spec.KeyType, spec.Digest = key, config.DigestSHA384
			spec.Subject = config.Subject{Organization: "Example", Country: "NL"}
			spec.AlternativeNames = config.AlternativeNames{
				DNS: []string{"*.example.net", "own.example.net"}, IP: []string{"192.0.2.1", "2001:db8::1"},
				Email: []string{"a@example.net"}, URI: []string{"urn:x"},
			}
			s := d.open(t)
			apply(t, s, document(c))
			own := s.Certificate("own")
			for _, name := range []string{"own.example.net", "www.example.net", "192.0.2.1", "2001:db8::1"} {
				if err := handshake(t, own, name, own.Leaf); err != nil {
					t.Errorf("handshake as %s: %v", name, err)
				}
			}
			want := []string{
				"CN=own.example.net,O=Example,C=NL", "own.example.net *.example.net", "192.0.2.1 2001:db8::1",
				"a@example.net", "urn:x", "9528h0m0s",
			}
			var ips []string
			for _, ip := range own.Leaf.IPAddresses {
				ips = append(ips, ip.String())
			}
			got := []string{
				own.Leaf.Subject.String(), strings.Join(own.Leaf.DNSNames, " "), strings.Join(ips, " "),
				strings.Join(own.Leaf.EmailAddresses, " "), own.Leaf.URIs[0].String(), own.Leaf.NotAfter.Sub(own.Leaf.NotBefore).String(),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("certificate (-want +got):\n%s", diff)
			}
			o.write("own.pem", certificatePEM(own.Leaf))
			o.run("verify", "-attime", "1803902400", "-x509_strict", "-purpose", "sslserver", "-CAfile", "own.pem", "own.pem")
			if out := o.run("x509", "-in", "own.pem", "-noout", "-fingerprint", "-sha256"); !strings.Contains(out, "="+Fingerprint(own.Leaf)+"\n") {
				t.Errorf("Fingerprint = %s, openssl says %s", Fingerprint(own.Leaf), out)
			}
		})
	}
}

func TestCommonNameJoinsTheAlternativeNames(t *testing.T) {
	for commonName, kind := range map[string]string{
		"a.example.net": "dns", "*.example.net": "dns", "localhost": "dns", "192.0.2.1": "ip", "2001:db8::1": "ip",
		"a@example.net": "email", "John Smith": "", "a b@c": "", "x@y@z": "", "": "",
		strings.Repeat("long.", 20) + "example.net": "dns",
	} {
		spec := *described("x", commonName).SelfSigned
		w, err := want("x", spec)
		if err != nil {
			t.Errorf("%q: %v", commonName, err)
			continue
		}
		got := ""
		switch {
		case len(w.template.DNSNames) > 0:
			got = "dns"
		case len(w.template.IPAddresses) > 0:
			got = "ip"
		case len(w.template.EmailAddresses) > 0:
			got = "email"
		}
		if got != kind {
			t.Errorf("%q joins %q, want %q", commonName, got, kind)
		}
		if n := len(w.template.Subject.CommonName); n > 64 {
			t.Errorf("%q: a common name of %d letters", commonName, n)
		}
	}
}

// TestFactsLiveThroughRestartsAndRollBacks follows one self-signed certificate:
// it is made once, and each state that Sluis can go back to finds its own again.
func TestFactsLiveThroughRestartsAndRollBacks(t *testing.T) {
	d := newDisk(t)
	s := d.open(t)
	docA, docB := document(described("own", "a.example.net")), document(described("own", "b.example.net"))

	change := apply(t, s, docA)
	a := fingerprint(t, s, "own")
	if err := change.Switch(t.Context()); err != nil || fingerprint(t, s, "own") != a {
		t.Fatalf("a second Switch made another certificate (%v)", err)
	}
	if want := []string{"key", "state"}; !slices.Equal(d.writes, want) {
		t.Fatalf("made once, but wrote %q, want %q", d.writes, want)
	}

	s = d.open(t) // restart
	apply(t, s, docA)
	if got := fingerprint(t, s, "own"); got != a {
		t.Fatal("a restart made another certificate")
	}

	apply(t, s, docB) // pending
	b := fingerprint(t, s, "own")
	if b == a {
		t.Fatal("another description, the same certificate")
	}
	s = d.open(t) // restart while pending: the pending document is in effect again
	apply(t, s, docB)
	if got := fingerprint(t, s, "own"); got != b {
		t.Fatal("a restart while pending made another certificate")
	}
	if got := len(s.Keys()); got != 2 {
		t.Fatalf("Keys lists %d keys while pending, want both", got)
	}
	apply(t, s, docA) // rolled back
	if got := fingerprint(t, s, "own"); got != a {
		t.Fatal("the roll back made another certificate")
	}

	apply(t, s, document(described("own", "c.example.net"))) // b is two documents ago
	if got := s.Keys(); len(got) != 2 || slices.Contains(got, "key:"+b) {
		t.Fatalf("Keys = %q, want those of this document and the one before", got)
	}
}

func TestRenamedCertificateStays(t *testing.T) {
	d := newDisk(t)
	s := d.open(t)
	apply(t, s, document(described("old", "a.example.net")))
	before := fingerprint(t, s, "old")
	apply(t, s, document(described("new", "a.example.net"), described("twin", "a.example.net")))
	if got := fingerprint(t, s, "new"); got != before {
		t.Error("renaming made another certificate")
	}
	if got := fingerprint(t, s, "twin"); got == before {
		t.Error("two certificates share a key because their descriptions are equal")
	}
	if s.Certificate("old") != nil {
		t.Error("the old name is still there")
	}
}

func TestMadeCertificateIsRenewedBeforeItsEnd(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name     string
		lifetime time.Duration
		later    time.Duration
		renewed  bool
	}{
		{"31 days before", 397 * day, 366*day - 2*time.Hour, false},
		{"29 days before", 397 * day, 368 * day, true},
		{"expired", 397 * day, 500 * day, true},
		{"short, early", 6 * time.Hour, 3 * time.Hour, false},
		{"short, late", 6 * time.Hour, 5 * time.Hour, true},
		{"clock a day behind", 397 * day, -day, true},
		{"clock starts in 1970", 397 * day, time.Unix(0, 0).Sub(someDay), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDisk(t)
			s := d.open(t)
			c := described("own", "own.example.net")
			c.SelfSigned.Lifetime = config.Duration(tt.lifetime)
			apply(t, s, document(c))
			first := fingerprint(t, s, "own")
			d.now = someDay.Add(tt.later)
			s = d.open(t)
			apply(t, s, document(c))
			if renewed := fingerprint(t, s, "own") != first; renewed != tt.renewed {
				t.Errorf("renewed = %v, want %v", renewed, tt.renewed)
			}
		})
	}
}

func TestLostKeyOfAFactIsMadeAnew(t *testing.T) {
	d := newDisk(t)
	s := d.open(t)
	doc := document(described("own", "a.example.net"))
	apply(t, s, doc)
	first := fingerprint(t, s, "own")
	if err := os.Remove(filepath.Join(d.dir, s.Keys()[0])); err != nil {
		t.Fatal(err)
	}
	s = d.open(t)
	apply(t, s, doc)
	if fingerprint(t, s, "own") == first {
		t.Error("a certificate without its key is in effect")
	}
}

func TestDamagedState(t *testing.T) {
	for _, state := range []string{"{", "{}", `{"version":1,"used":[],"former":[],"appliance":[]} x`, `{"version":1,"other":1}`} {
		d := newDisk(t)
		if err := os.WriteFile(filepath.Join(d.dir, "state"), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		s := d.open(t)
		doc := document(described("own", "a.example.net"))
		if _, problems := s.Prepare(t.Context(), doc); len(problems) != 1 || problems.HasErrors() {
			t.Errorf("state %q: problems are %v, want one warning", state, problems)
		}
		apply(t, s, doc)
		if _, problems := s.Prepare(t.Context(), doc); len(problems) != 0 {
			t.Errorf("state %q: still %v after Switch", state, problems)
		}
		apply(t, d.open(t), doc)
	}
	d := newDisk(t)
	if err := os.WriteFile(filepath.Join(d.dir, "state"), []byte(`{"version":2,"new":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(d.options()); !errors.Is(err, errNewer) {
		t.Errorf("New on a newer state = %v, want %v", err, errNewer)
	}
	options := d.options()
	options.LoadState = func() ([]byte, error) { return nil, errDisk }
	if _, err := New(options); !errors.Is(err, errDisk) {
		t.Errorf("New = %v, want %v", err, errDisk)
	}
}

func TestDefault(t *testing.T) {
	d := newDisk(t)
	s := d.open(t)
	own := func(names []string, ips ...string) *tls.Certificate {
		t.Helper()
		var addresses []netip.Addr
		for _, ip := range ips {
			addresses = append(addresses, netip.MustParseAddr(ip))
		}
		c, err := s.Default(names, addresses)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := own([]string{"box", "box.home.arpa"}, "192.0.2.1", "fe80::1%eth0")
	for _, name := range []string{"box", "box.home.arpa", "192.0.2.1", "fe80::1"} {
		if err := handshake(t, first, name, first.Leaf); err != nil {
			t.Errorf("handshake as %s: %v", name, err)
		}
	}
	if got := own([]string{"box.home.arpa", "box", "box"}, "fe80::1", "192.0.2.1"); got != first {
		t.Error("the same names in another order made another certificate")
	}
	if got := own([]string{"renamed"}); got != first {
		t.Error("another name made another certificate than the one that administrators have accepted")
	}
	s = d.open(t)
	if got := own([]string{"renamed"}); !got.Leaf.Equal(first.Leaf) {
		t.Error("after a restart, another certificate")
	}
	if got := len(s.Keys()); got != 1 {
		t.Errorf("Keys lists %d keys, want this one", got)
	}
	d.now = someDay.AddDate(2, 0, 0)
	if got := own(nil); got.Leaf.NotAfter.Before(d.now) || got.Leaf.VerifyHostname("localhost") != nil {
		t.Errorf("near its end: a certificate until %s for %q, want a new one for localhost", got.Leaf.NotAfter, got.Leaf.DNSNames)
	}
	if _, err := s.Default([]string{"bad name"}, nil); err == nil {
		t.Error("a name with a space went through")
	}
}

// TestDefaultOnAFullDisk: administrators get in all the same, and as soon as
// there is room the certificate they have accepted is kept.
func TestDefaultOnAFullDisk(t *testing.T) {
	for _, kind := range []string{"key", "state"} {
		d := newDisk(t)
		s := d.open(t)
		d.fail = kind
		first, err := s.Default([]string{"box"}, nil)
		if first == nil || !errors.Is(err, errDisk) {
			t.Fatalf("Default = %v, %v, want a certificate and %v", first, err, errDisk)
		}
		if got := d.open(t).Keys(); len(got) > 0 {
			t.Errorf("the disk knows %q, a certificate whose key it lacks", got)
		}
		d.fail = ""
		again, err := s.Default([]string{"box"}, nil)
		if err != nil || again != first {
			t.Fatalf("Default = %v, %v, want the same certificate", again, err)
		}
		if kept, err := d.open(t).Default([]string{"box"}, nil); err != nil || !kept.Leaf.Equal(first.Leaf) {
			t.Errorf("after a restart another certificate (%v)", err)
		}
	}
}
