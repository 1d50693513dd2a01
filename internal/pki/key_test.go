package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
)

// genpkey are the arguments of openssl genpkey for every kind of key we take.
var genpkey = map[string][]string{
	"rsa_2048": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	"rsa_3072": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	"p256":     {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
	"p384":     {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	"p521":     {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
	"ed25519":  {"-algorithm", "ED25519"},
}

func TestParseKeyReadsWhatOpenSSLWrites(t *testing.T) {
	o := newOpenSSL(t)
	forms := map[string][]string{
		"pkcs8.pem":       {"pkey"},
		"pkcs8.der":       {"pkey", "-outform", "DER"},
		"traditional.pem": {"pkey", "-traditional"},
		"traditional.der": {"pkey", "-traditional", "-outform", "DER"},
	}
	for kind, args := range genpkey {
		o.run(append([]string{"genpkey", "-out", kind}, args...)...)
		o.run("pkey", "-in", kind, "-pubout", "-outform", "DER", "-out", "public")
		sum := sha256.Sum256(o.read("public"))
		wantRef := "key:" + hex.EncodeToString(sum[:])
		for form, convert := range forms {
			if kind == "ed25519" && strings.HasPrefix(form, "traditional") {
				continue // it has no other form
			}
			t.Run(kind+" "+form, func(t *testing.T) {
				o := o.in(t)
				o.run(append(convert, "-in", kind, "-out", form)...)
				key, problem := ParseKey(o.read(form))
				if !problem.IsZero() {
					t.Fatal(problem)
				}
				if got := KeyRef(key.Public()); got != wantRef {
					t.Errorf("KeyRef = %s, want %s", got, wantRef)
				}
				checkCanonical(t, key)
				canonical, err := MarshalKey(key)
				if err != nil {
					t.Fatal(err)
				}
				o.write("canonical", string(canonical))
				o.run("pkey", "-in", "canonical", "-check", "-noout")
			})
		}
	}
	t.Run("EC with its parameters before it", func(t *testing.T) {
		o := o.in(t)
		o.run("ecparam", "-name", "prime256v1", "-genkey", "-out", "ecparam")
		if _, problem := ParseKey(o.read("ecparam")); !problem.IsZero() {
			t.Error(problem)
		}
	})
	t.Run("as people paste it", func(t *testing.T) {
		plain := string(o.read("p256"))
		pasted := "\uFEFFBag Attributes\r\n  friendlyName: x\r\n" + strings.ReplaceAll(plain, "\n", "\r\n    ") + "thanks!"
		if _, problem := ParseKey([]byte(pasted)); !problem.IsZero() {
			t.Error(problem)
		}
		if _, problem := ParseKey([]byte(strings.ReplaceAll(plain, "\n", "\r"))); !problem.IsZero() {
			t.Error(problem)
		}
		mislabelled := strings.ReplaceAll(plain, "PRIVATE", "RSA PRIVATE")
		if _, problem := ParseKey([]byte(mislabelled)); !problem.IsZero() {
			t.Error(problem)
		}
	})
	t.Run("the largest", func(t *testing.T) {
		if os.Getenv("SLUIS_LONG") == "" {
			t.Skip("long: OpenSSL needs many seconds for 8192 bits")
		}
		o := o.in(t)
		o.run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:8192", "-out", "rsa_8192")
		key, problem := ParseKey(o.read("rsa_8192"))
		if !problem.IsZero() {
			t.Fatal(problem)
		}
		checkCanonical(t, key)
	})
}

// checkCanonical holds a key that ParseKey took against its promises: it signs,
// and its canonical form is the same key and stays as it is.
func checkCanonical(t testing.TB, key crypto.Signer) {
	t.Helper()
	canonical, err := MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	again, problem := ParseKey(canonical)
	if !problem.IsZero() {
		t.Fatalf("ParseKey of MarshalKey: %v", problem)
	}
	if !samePublic(key.Public(), again.Public()) || KeyRef(key.Public()) != KeyRef(again.Public()) {
		t.Fatal("ParseKey of MarshalKey is another key")
	}
	if twice, err := MarshalKey(again); err != nil || !bytes.Equal(twice, canonical) {
		t.Fatalf("MarshalKey is not canonical: %v\n%s%s", err, canonical, twice)
	}
	digest, hash := make([]byte, 32), crypto.Hash(crypto.SHA256)
	if _, ed := key.(ed25519.PrivateKey); ed {
		hash = crypto.Hash(0)
	}
	if _, err := again.Sign(rand.Reader, digest, hash); err != nil {
		t.Fatalf("the key does not sign: %v", err)
	}
}

func TestParseKeyRefusals(t *testing.T) {
	o := newOpenSSL(t)
	o.run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "good")
	o.run("req", "-new", "-x509", "-key", "good", "-subj", "/CN=a", "-out", "cert")
	o.run("req", "-new", "-key", "good", "-subj", "/CN=a", "-out", "csr")
	o.run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "short")
	made := func(args ...string) []byte {
		o.run(append(args, "-out", "made")...)
		return o.read("made")
	}
	good := o.read("good")
	huge, err := asn1.Marshal(pkcs1Form{Modulus: new(big.Int).Lsh(big.NewInt(1), 16383)})
	if err != nil {
		t.Fatal(err)
	}
	p12 := made("pkcs12", "-export", "-inkey", "good", "-in", "cert", "-passout", "pass:x")
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "only empty text"},
		{"blanks", []byte(" \n\t"), "only empty text"},
		{"prose", []byte("hello"), "there is no private key here"},
		{"zeros", make([]byte, 100), "there is no private key here"},
		{"too long", bytes.Repeat([]byte("x"), maxKeyBytes+1), "no private key is longer than 65536"},
		{"cut off", good[:len(good)/2], "cut off or damaged"},
		{"line breaks lost", bytes.ReplaceAll(good, []byte("\n"), []byte(" ")), "cut off or damaged"},
		{"letters changed", bytes.Replace(good, []byte("MIGH"), []byte("MIGX"), 1), "damaged"},
		{"empty block", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}), "damaged"},
		{"DER cut off", func() []byte { b, _ := pem.Decode(good); return b.Bytes[:40] }(), "damaged"},
		{"two keys", append(good, good...), "there are 2 private keys here"},
		{"encrypted PKCS#8", made("pkey", "-in", "good", "-aes256", "-passout", "pass:x"), "encrypted with a passphrase"},
		{"encrypted DER", made("pkcs8", "-topk8", "-in", "good", "-outform", "DER", "-passout", "pass:x"), "encrypted with a passphrase"},
		{"encrypted the old way", made("pkey", "-in", "good", "-traditional", "-aes256", "-passout", "pass:x"), "encrypted with a passphrase"},
		{"certificate", o.read("cert"), "this is a certificate, not"},
		{"certificate DER", made("x509", "-in", "cert", "-outform", "DER"), "this is a certificate, not"},
		{"request", o.read("csr"), "this is a certificate request"},
		{"request DER", made("req", "-in", "csr", "-outform", "DER"), "this is a certificate request"},
		{"public key", made("pkey", "-in", "good", "-pubout"), "this is a public key"},
		{"public key DER", made("pkey", "-in", "good", "-pubout", "-outform", "DER"), "this is a public key"},
		{"parameters", made("ecparam", "-name", "prime256v1"), "only the parameters"},
		{"PKCS#12", p12, "PKCS#12 file"},
		{"other block", pem.EncodeToMemory(&pem.Block{Type: "MESSAGE", Bytes: []byte("x")}), "named MESSAGE"},
		{"RSA too short", o.read("short"), "1024 bits is too short"},
		{"RSA too short, PKCS#1", made("rsa", "-traditional", "-in", "short"), "1024 bits is too short"},
		{"RSA too long", huge, "16384 bits is too long"},
		{"RSA-PSS", made("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"), "of the kind RSA-PSS"},
		{"secp256k1", made("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "ECDSA on secp256k1"},
		{"P-224, SEC 1", made("ecparam", "-name", "secp224r1", "-genkey", "-noout"), "ECDSA on P-224"},
		{"brainpool", made("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"), "ECDSA on brainpoolP256r1"},
		{"rare curve", made("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:sect283k1"), "the curve 1.3.132.0.16"},
		{"curve spelled out", made("ec", "-in", "good", "-param_enc", "explicit"), "spells its curve out"},
		{"Ed448", made("genpkey", "-algorithm", "ED448"), "of the kind Ed448"},
		{"X25519", made("genpkey", "-algorithm", "X25519"), "of the kind X25519"},
		{"DSA", pem.EncodeToMemory(&pem.Block{Type: "DSA PRIVATE KEY", Bytes: []byte("x")}), "of the kind DSA"},
		{"OpenSSH", pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")}), "an OpenSSH key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key, problem := ParseKey(tt.data)
			if key != nil && !problem.IsZero() {
				t.Errorf("ParseKey gives a key and the problem %q", problem)
			}
			if !strings.Contains(problem.String(), tt.want) {
				t.Errorf("ParseKey = %q, want %q", problem, tt.want)
			}
		})
	}
}

func FuzzParseKey(f *testing.F) {
	for _, kind := range []string{"ecdsa_p256", "ed25519"} {
		key := newKey(f, kind)
		data, err := MarshalKey(key)
		if err != nil {
			f.Fatal(err)
		}
		block, _ := pem.Decode(data)
		f.Add(data)
		f.Add(block.Bytes)
	}
	sec1, err := x509.MarshalECPrivateKey(newECDSA(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, problem := ParseKey(data)
		if (key == nil) == problem.IsZero() {
			t.Fatalf("ParseKey = %v, %q: want a key or a problem", key, problem)
		}
		if key != nil {
			checkCanonical(t, key)
		}
	})
}
