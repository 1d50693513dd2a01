package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"

	"sluis/internal/text"
)

// Sizes of RSA keys in bits: below is not safe, above costs a handshake seconds.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// ParseKey reads a private key: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC), as PEM text
// or DER. Certificates and parameters in the same text are passed over. The
// problem is a plain sentence about what was found instead; zero = none.
func ParseKey(data []byte) (key crypto.Signer, problem text.Msg) {
	switch {
	case len(data) > maxKeyBytes:
		return nil, text.M("this has {bytes} bytes; no private key is longer than {limit}", "bytes", len(data), "limit", maxKeyBytes)
	case len(strings.TrimSpace(string(data))) == 0:
		return nil, text.M("there is no private key here, only empty text")
	}
	der, label, problem := findKey(data)
	if !problem.IsZero() {
		return nil, problem
	}
	return parseKeyDER(der, label)
}

// MarshalKey writes a key in its canonical form, PKCS#8 in PEM: what is stored.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// KeyRef names a private key by its public half: key: and the SHA-256 of the
// public key's SubjectPublicKeyInfo in DER. It is empty for a kind of key that
// ParseKey does not take.
func KeyRef(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "key:" + hex.EncodeToString(sum[:])
}

// findKey finds the one private key in the text and what its PEM label says.
func findKey(data []byte) (der []byte, label string, problem text.Msg) {
	a := readArmour(data)
	if len(a.blocks) == 0 && !a.damaged {
		if data[0] == 0x30 { // an ASN.1 SEQUENCE
			return data, "", text.Msg{}
		}
		return nil, "", text.M("there is no private key here: it begins with -----BEGIN PRIVATE KEY-----")
	}
	var keys, others []*pem.Block
	for _, block := range a.blocks {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			keys = append(keys, block)
		} else {
			others = append(others, block)
		}
	}
	switch {
	case len(keys) == 0 && a.damaged:
		return nil, "", text.M("the PEM text is cut off or damaged: copy all of it, from its BEGIN line to its END line")
	case len(keys) == 0:
		return nil, "", notAKey(others[0].Type)
	case len(keys) > 1:
		return nil, "", text.M("there are {count} private keys here: give one", "count", len(keys))
	}
	if problem := foreignLabel(keys[0]); !problem.IsZero() {
		return nil, "", problem
	}
	return keys[0].Bytes, keys[0].Type, text.Msg{}
}

// notAKey says what a PEM block holds instead of a private key.
func notAKey(label string) text.Msg {
	switch {
	case label == "CERTIFICATE", label == "X509 CERTIFICATE", label == "TRUSTED CERTIFICATE":
		return text.M("this is a certificate, not the private key that belongs to it")
	case label == "CERTIFICATE REQUEST", label == "NEW CERTIFICATE REQUEST":
		return text.M("this is a certificate request, not the private key that belongs to it")
	case strings.HasSuffix(label, "PUBLIC KEY"):
		return text.M("this is a public key; the private one is needed")
	case strings.HasSuffix(label, "PARAMETERS"):
		return text.M("these are only the parameters of a key; the key itself is missing")
	}
	return text.M("this is no private key but a block named {label}", "label", label)
}

// foreignLabel refuses the forms of a private key that are not read.
func foreignLabel(block *pem.Block) text.Msg {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return encryptedKey()
	case block.Type == "OPENSSH PRIVATE KEY":
		return text.M("this is an OpenSSH key; TLS needs a PKCS#8 key: convert it with ssh-keygen -p -m PKCS8 -f FILE")
	case block.Type == "DSA PRIVATE KEY":
		return unsupported("DSA")
	case block.Type == "PRIVATE KEY", block.Type == "RSA PRIVATE KEY", block.Type == "EC PRIVATE KEY":
		return text.Msg{}
	}
	return text.M("a private key in the form {label} is not supported: convert it to PKCS#8", "label", block.Type)
}

func encryptedKey() text.Msg {
	return text.M("the private key is encrypted with a passphrase: decrypt it first, with openssl pkey -in FILE -out PLAIN")
}

func unsupported(kind string) text.Msg {
	return text.M("a private key of the kind {kind} is not supported: use RSA, ECDSA on P-256, P-384 or P-521, or Ed25519", "kind", kind)
}

func damagedKey() text.Msg {
	return text.M("the private key is damaged: it cannot be decoded")
}

// The outer ASN.1 forms, as far as they tell what a key is before it is parsed.
type (
	pkcs8Form struct { // RFC 5958 section 2
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	pkcs1Form struct { // RFC 8017 appendix A.1.2
		Version int
		Modulus *big.Int
	}
	sec1Form struct { // RFC 5915 section 3
		Version int
		Key     []byte
		Curve   asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	encryptedForm struct { // RFC 5958 section 3
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pkcs12Form struct { // RFC 7292 section 4
		Version  int
		AuthSafe struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
		}
	}
)

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// foreignKinds are algorithms and curves that are refused by name.
var foreignKinds = map[string]string{
	"1.2.840.10040.4.1":     "DSA",
	"1.2.840.10046.2.1":     "Diffie-Hellman",
	"1.2.840.113549.1.3.1":  "Diffie-Hellman",
	"1.2.840.113549.1.1.10": "RSA-PSS",
	"1.3.101.110":           "X25519",
	"1.3.101.111":           "X448",
	"1.3.101.113":           "Ed448",
	"1.2.840.10045.3.1.1":   "ECDSA on P-192",
	"1.3.132.0.33":          "ECDSA on P-224",
	"1.3.132.0.10":          "ECDSA on secp256k1",
	"1.3.36.3.3.2.8.1.1.7":  "ECDSA on brainpoolP256r1",
	"1.3.36.3.3.2.8.1.1.11": "ECDSA on brainpoolP384r1",
	"1.3.36.3.3.2.8.1.1.13": "ECDSA on brainpoolP512r1",
	"1.2.156.10197.1.301":   "SM2",
}

var knownCurves = []string{"1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"}

// parseKeyDER reads a key whose form its bytes tell; people's labels are often wrong.
func parseKeyDER(der []byte, label string) (crypto.Signer, text.Msg) {
	var (
		pkcs8     pkcs8Form
		pkcs1     pkcs1Form
		sec1      sec1Form
		encrypted encryptedForm
		pkcs12    pkcs12Form
	)
	switch {
	case is(der, &pkcs8):
		if problem := checkAlgorithm(pkcs8); !problem.IsZero() {
			return nil, problem
		}
		key, err := x509.ParsePKCS8PrivateKey(der)
		return checkKey(key, err)
	case is(der, &pkcs1):
		if problem := checkModulus(pkcs1); !problem.IsZero() {
			return nil, problem
		}
		key, err := x509.ParsePKCS1PrivateKey(der)
		return checkKey(key, err)
	case is(der, &sec1):
		if problem := checkCurve(sec1.Curve.Bytes); !problem.IsZero() {
			return nil, problem
		}
		key, err := x509.ParseECPrivateKey(der)
		return checkKey(key, err)
	case is(der, &encrypted) && label == "":
		return nil, encryptedKey()
	case is(der, &pkcs12) && pkcs12.Version == 3:
		return nil, text.M("this is a PKCS#12 file (.pfx, .p12): extract the key with openssl pkcs12 -in FILE -nocerts -nodes")
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		return nil, notAKey("CERTIFICATE")
	}
	if _, err := x509.ParseCertificateRequest(der); err == nil {
		return nil, notAKey("CERTIFICATE REQUEST")
	}
	if _, err := x509.ParsePKIXPublicKey(der); err == nil {
		return nil, notAKey("PUBLIC KEY")
	}
	return nil, damagedKey()
}

func is(der []byte, form any) bool {
	_, err := asn1.Unmarshal(der, form)
	return err == nil
}

// checkAlgorithm looks at a PKCS#8 key's algorithm before the key itself is
// parsed: the parser's error would not name it, and an RSA key of absurd size
// would cost it minutes.
func checkAlgorithm(form pkcs8Form) text.Msg {
	switch id := form.Algorithm.Algorithm; {
	case id.Equal(oidRSA):
		var inner pkcs1Form
		if !is(form.Key, &inner) {
			return damagedKey()
		}
		return checkModulus(inner)
	case id.Equal(oidEC):
		return checkCurve(form.Algorithm.Parameters.FullBytes)
	case foreignKinds[id.String()] != "":
		return unsupported(foreignKinds[id.String()])
	}
	return text.Msg{}
}

func checkModulus(form pkcs1Form) text.Msg {
	switch bits := form.Modulus.BitLen(); {
	case bits < minRSABits:
		return text.M("an RSA key of {bits} bits is too short: use at least {limit}", "bits", bits, "limit", minRSABits)
	case bits > maxRSABits:
		return text.M("an RSA key of {bits} bits is too long: use at most {limit}", "bits", bits, "limit", maxRSABits)
	}
	return text.Msg{}
}

// checkCurve looks at the parameters of an EC key: the name of its curve, or,
// which RFC 5480 section 2.1.1 forbids, the curve itself.
func checkCurve(parameters []byte) text.Msg {
	if len(parameters) == 0 {
		return text.M("the private key does not say on which curve it is: convert it to PKCS#8 together with its parameters")
	}
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(parameters, &id); err != nil {
		return text.M("the private key spells its curve out instead of naming it: " +
			"convert it with openssl ec -in FILE -param_enc named_curve")
	}
	if name := foreignKinds[id.String()]; name != "" {
		return unsupported(name)
	}
	for _, known := range knownCurves {
		if id.String() == known {
			return text.Msg{}
		}
	}
	return unsupported("ECDSA on the curve " + id.String())
}

// checkKey takes a parser's result.
func checkKey(key any, err error) (crypto.Signer, text.Msg) {
	if err != nil {
		return nil, damagedKey()
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, checkModulus(pkcs1Form{Modulus: key.N})
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P224() {
			return nil, unsupported("ECDSA on P-224")
		}
		return key, text.Msg{}
	case ed25519.PrivateKey:
		return key, text.Msg{}
	}
	return nil, unsupported(fmt.Sprintf("%T", key))
}

// samePublic reports whether two public keys are the same.
func samePublic(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}
