package pki

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// ParseChain reads the certificates in PEM text, in the order they stand there
// and each once. Text around them is passed over. The problem is a plain
// sentence; zero = none.
func ParseChain(armoured config.PEM) ([]*x509.Certificate, text.Msg) {
	if len(armoured) > maxChainBytes {
		return nil, text.M("this has {bytes} bytes; certificates with their chain may have {limit}", "bytes", len(armoured), "limit", maxChainBytes)
	}
	a := readArmour([]byte(armoured))
	var chain []*x509.Certificate
	for i, block := range a.blocks {
		if problem := checkBlock(block, i+1); !problem.IsZero() {
			return nil, problem
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, text.M("certificate {number} in the text cannot be read: {reason}", "number", i+1, "reason", reason(err))
		}
		if slices.ContainsFunc(chain, certificate.Equal) {
			continue
		}
		if len(chain) == maxChain {
			return nil, text.M("there are more than {limit} certificates here", "limit", maxChain)
		}
		chain = append(chain, certificate)
	}
	switch {
	case a.damaged:
		return nil, text.M("the PEM text is cut off or damaged: copy all of it, from its BEGIN line to its END line")
	case len(chain) == 0:
		return nil, text.M("there is no certificate here: it begins with -----BEGIN CERTIFICATE-----")
	}
	return chain, text.Msg{}
}

// checkBlock says what a block holds that is no certificate.
func checkBlock(block *pem.Block, number int) text.Msg {
	switch label := block.Type; {
	case label == "CERTIFICATE", label == "X509 CERTIFICATE":
		return text.Msg{}
	case strings.HasSuffix(label, "PRIVATE KEY"):
		return keyInTheOpen()
	case label == "CERTIFICATE REQUEST", label == "NEW CERTIFICATE REQUEST":
		return text.M("this is a certificate request: give the certificate that the authority issued for it")
	case label == "PKCS7":
		return text.M("this is a PKCS#7 bundle (.p7b): convert it with openssl pkcs7 -in FILE -print_certs")
	case label == "TRUSTED CERTIFICATE":
		return text.M("this is a certificate in OpenSSL's own trusted form: convert it with openssl x509 -in FILE")
	default:
		return text.M("block {number} in the text is no certificate but named {label}", "number", number, "label", label)
	}
}

func keyInTheOpen() text.Msg {
	return text.M("there is a private key among the certificates, where everybody could read it: move it to the key field")
}

// FindLeaf chooses the certificate that the others stand behind. With a public
// key it is the one for that key, and the newest if it was renewed with the same
// key; nil = none belongs to the key. Without one it is the first that issued no
// other, an end entity before an authority.
func FindLeaf(chain []*x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	var leaf *x509.Certificate
	better := func(c *x509.Certificate) bool {
		switch {
		case leaf == nil:
			return true
		case public != nil:
			return c.NotBefore.After(leaf.NotBefore)
		}
		return leaf.IsCA && !c.IsCA
	}
	for _, c := range chain {
		if public != nil && !samePublic(c.PublicKey, public) || public == nil && issuedAny(c, chain) {
			continue
		}
		if better(c) {
			leaf = c
		}
	}
	return leaf
}

func issuedAny(issuer *x509.Certificate, chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return c != issuer && issuedBy(c, issuer) })
}

// Order builds the chain that a TLS server sends (RFC 8446 section 4.4.2): the
// leaf, then each one's issuer out of the rest, as far as they are there. The
// root is left out, since a client that trusts it has it; so is what does not
// belong. Of several certificates of one issuer the one that is valid longest is
// taken. A leaf that signed itself stands alone.
func Order(leaf *x509.Certificate, rest []*x509.Certificate) []*x509.Certificate {
	ordered := []*x509.Certificate{leaf}
	for last := leaf; !selfSigned(last); {
		var issuer *x509.Certificate
		for _, c := range rest {
			if slices.ContainsFunc(ordered, c.Equal) || selfSigned(c) || !issuedBy(last, c) {
				continue
			}
			if issuer == nil || c.NotAfter.After(issuer.NotAfter) {
				issuer = c
			}
		}
		if issuer == nil || len(ordered) == maxChain {
			break
		}
		ordered = append(ordered, issuer)
		last = issuer
	}
	return ordered
}

// selfSigned reports whether a certificate names itself as its issuer.
func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// issuedBy reports whether issuer signed c. The names and key identifiers are
// compared first, since they cost nothing. A signature with an outdated hash is
// taken at its word: whether to trust it is for the client to say.
func issuedBy(c, issuer *x509.Certificate) bool {
	if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
		return false
	}
	if len(c.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
		return false
	}
	err := c.CheckSignatureFrom(issuer)
	var outdated x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &outdated)
}

// mayIssue reports whether a certificate is an authority's (RFC 5280 section
// 4.2.1.9). Certificates before version 3 cannot say so; a root among them is
// taken for one.
func mayIssue(c *x509.Certificate) bool {
	if c.Version < 3 {
		return selfSigned(c)
	}
	return c.BasicConstraintsValid && c.IsCA && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0)
}

// Fingerprint is the SHA-256 of a certificate as browsers show it: AB:CD:…
func Fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	pairs := make([]string, 0, len(sum))
	for pair := range slices.Chunk([]byte(digits), 2) {
		pairs = append(pairs, string(pair))
	}
	return strings.Join(pairs, ":")
}

// reason is an error of crypto/x509 or encoding/asn1 without its package's name.
func reason(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "x509: "), "asn1: ")
}
