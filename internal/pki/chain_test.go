package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"

	"pgregory.net/rapid"
)

// TestOrderSatisfiesOpenSSL gives a chain in the wrong order, with its root, a
// stranger and a stale twin of the intermediate, and lets OpenSSL verify ours.
func TestOrderSatisfiesOpenSSL(t *testing.T) {
	o := newOpenSSL(t)
	authority := func(name, issuer, days string) {
		ext := name + ".ext"
		o.write(ext, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
		if !o.exists(name + ".key") {
			o.run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name+".key")
		}
		o.run("req", "-new", "-key", name+".key", "-subj", "/CN="+name, "-out", name+".csr")
		args := []string{"x509", "-req", "-in", name + ".csr", "-days", days, "-extfile", ext, "-out", name + days + ".pem"}
		if issuer == "" {
			args = append(args, "-key", name+".key")
		} else {
			args = append(args, "-CA", issuer+".pem", "-CAkey", strings.TrimRight(issuer, "0123456789")+".key", "-CAcreateserial")
		}
		o.run(args...)
	}
	authority("root", "", "99")
	authority("policy", "root99", "98")
	authority("issuing", "policy98", "9") // the stale twin
	authority("issuing", "policy98", "97")
	authority("stranger", "", "96")
	o.run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "site.key")
	o.run("req", "-new", "-key", "site.key", "-subj", "/CN=site.example.net", "-out", "site.csr")
	o.run("x509", "-req", "-in", "site.csr", "-CA", "issuing97.pem", "-CAkey", "issuing.key", "-CAcreateserial", "-days", "90", "-out", "site.pem")

	key, problem := ParseKey(o.read("site.key"))
	if !problem.IsZero() {
		t.Fatal(problem)
	}
	pasted := []string{"root99.pem", "issuing9.pem", "stranger96.pem", "policy98.pem", "site.pem", "issuing97.pem"}
	rapid.Check(t, func(rt *rapid.T) {
		var all bytes.Buffer
		for _, name := range rapid.Permutation(pasted).Draw(rt, "order") {
			all.Write(o.read(name))
		}
		chain, problem := ParseChain(config.PEM(all.String()))
		if !problem.IsZero() {
			rt.Fatal(problem)
		}
		leaf := FindLeaf(chain, key.Public())
		if leaf == nil || FindLeaf(chain, nil) != leaf {
			rt.Fatalf("FindLeaf = %v by key, %v without", leaf, FindLeaf(chain, nil))
		}
		if got, want := describe(Order(leaf, chain)), "site.example.net 90, issuing 97, policy 98"; got != want {
			rt.Fatalf("Order = %s, want %s", got, want)
		}
	})

	chain, _ := ParseChain(config.PEM(bytes.Join([][]byte{o.read("issuing97.pem"), o.read("policy98.pem"), o.read("site.pem")}, nil)))
	var sent bytes.Buffer
	for _, c := range Order(FindLeaf(chain, key.Public()), chain)[1:] {
		_ = pem.Encode(&sent, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	o.write("sent.pem", sent.String())
	if out := o.run("verify", "-CAfile", "root99.pem", "-untrusted", "sent.pem", "site.pem"); !strings.Contains(out, "site.pem: OK") {
		t.Errorf("openssl verify: %s", out)
	}
}

func describe(chain []*x509.Certificate) string {
	var names []string
	for _, c := range chain {
		names = append(names, fmt.Sprint(c.Subject.CommonName, " ", int(c.NotAfter.Sub(c.NotBefore)/(24*time.Hour))))
	}
	return strings.Join(names, ", ")
}

func TestParseChainToleratesHowPeoplePaste(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	for name, text := range map[string]string{
		"plain":         a.pem + b.pem,
		"CRLF":          strings.ReplaceAll(a.pem+b.pem, "\n", "\r\n"),
		"CR":            strings.ReplaceAll(a.pem+b.pem, "\n", "\r"),
		"BOM":           "\uFEFF" + a.pem + b.pem,
		"text around":   "subject=/CN=a\n" + a.pem + "\n# and the next\n" + b.pem + "\ndone\n",
		"indented":      "  " + strings.ReplaceAll(a.pem+b.pem, "\n", " \n\t"),
		"twice":         a.pem + b.pem + a.pem,
		"no end":        strings.TrimSuffix(a.pem+b.pem, "\n"),
		"X509 label":    strings.ReplaceAll(a.pem+b.pem, "CERTIFICATE", "X509 CERTIFICATE"),
		"no line break": a.pem + strings.TrimSpace(b.pem),
	} {
		chain, problem := ParseChain(config.PEM(text))
		if !problem.IsZero() || len(chain) != 2 || !chain[0].Equal(a.certificate) || !chain[1].Equal(b.certificate) {
			t.Errorf("%s: ParseChain = %s, %q, want a and b", name, describe(chain), problem)
		}
	}
}

func TestParseChainRefusals(t *testing.T) {
	a := newAuthority(t, "a")
	key, err := MarshalKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(label string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: []byte("x")}))
	}
	var many strings.Builder
	for range maxChain + 1 {
		many.WriteString(newAuthority(t, "x").pem)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "there is no certificate here"},
		{"prose", "certificate follows", "there is no certificate here"},
		{"a file not read", "file:site.pem", "there is no certificate here"},
		{"too long", strings.Repeat(a.pem, maxChainBytes/len(a.pem)+1), "may have 262144"},
		{"too many", many.String(), "more than 64 certificates"},
		{"cut off", a.pem + a.pem[:len(a.pem)/2], "cut off or damaged"},
		{"letters lost", strings.Replace(a.pem, "M", "", 1), "cut"},
		{"not a certificate inside", block("CERTIFICATE"), "certificate 1 in the text cannot be read"},
		{"second one damaged", a.pem + block("CERTIFICATE"), "certificate 2 in the text cannot be read"},
		{"private key", a.pem + string(key), "private key among the certificates"},
		{"request", block("CERTIFICATE REQUEST"), "certificate request"},
		{"PKCS#7", block("PKCS7"), "PKCS#7 bundle"},
		{"OpenSSL's own", block("TRUSTED CERTIFICATE"), "OpenSSL's own"},
		{"something else", a.pem + block("MESSAGE"), "block 2 in the text is no certificate but named MESSAGE"},
	} {
		if _, problem := ParseChain(config.PEM(tt.text)); !strings.Contains(problem.String(), tt.want) {
			t.Errorf("%s: ParseChain = %q, want %q", tt.name, problem, tt.want)
		}
	}
}

func TestFindLeafTakesTheRenewedCertificate(t *testing.T) {
	root := newAuthority(t, "root")
	key := newECDSA(t)
	old := root.sign(t, &x509.Certificate{NotBefore: someDay, NotAfter: someDay.AddDate(1, 0, 0)}, key)
	renewed := root.sign(t, &x509.Certificate{NotBefore: someDay.AddDate(0, 11, 0), NotAfter: someDay.AddDate(2, 0, 0)}, key)
	for _, chain := range [][]*x509.Certificate{{old, renewed, root.certificate}, {root.certificate, renewed, old}} {
		if got := FindLeaf(chain, key.Public()); got != renewed {
			t.Errorf("FindLeaf = %v, want the renewed one", got)
		}
	}
	if got := FindLeaf([]*x509.Certificate{old, root.certificate}, newECDSA(t).Public()); got != nil {
		t.Errorf("FindLeaf for a foreign key = %v, want none", got.Subject)
	}
}

// TestOrderOfALoop: two authorities that signed each other have no root to stop at.
func TestOrderOfALoop(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	crossA := b.sign(t, &x509.Certificate{Subject: a.certificate.Subject, IsCA: true, BasicConstraintsValid: true}, a.key)
	crossB := a.sign(t, &x509.Certificate{Subject: b.certificate.Subject, IsCA: true, BasicConstraintsValid: true}, b.key)
	leaf := a.sign(t, &x509.Certificate{}, newECDSA(t))
	if got := Order(leaf, []*x509.Certificate{crossA, crossB, leaf}); len(got) != 3 || got[0] != leaf {
		t.Errorf("Order = %s, want the leaf and each authority once", describe(got))
	}
	if got := FindLeaf([]*x509.Certificate{crossA, crossB}, nil); got != nil {
		t.Errorf("FindLeaf of a loop = %v, want none", got.Subject)
	}
}

func FuzzParseChain(f *testing.F) {
	a := newAuthority(f, "a")
	f.Add(a.pem, int64(1))
	f.Add(a.pem+newAuthority(f, "b").pem, int64(2))
	f.Add("\uFEFF-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----", int64(3))
	f.Fuzz(func(t *testing.T, text string, seed int64) {
		chain, problem := ParseChain(config.PEM(text))
		if (len(chain) == 0) == problem.IsZero() {
			t.Fatalf("ParseChain = %d certificates, %q: want some or a problem", len(chain), problem)
		}
		if len(chain) == 0 {
			return
		}
		shuffled := append([]*x509.Certificate(nil), chain...)
		rand.New(rand.NewPCG(uint64(seed), 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		ordered := Order(chain[0], shuffled)
		if ordered[0] != chain[0] || len(ordered) > len(chain) {
			t.Fatalf("Order = %s of %s", describe(ordered), describe(chain))
		}
	})
}
