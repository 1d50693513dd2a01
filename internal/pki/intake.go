package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// Intake moves the private keys that a document holds in clear into the store:
// each inline key of certificates, authorities and requests is put in canonical
// form under its KeyRef, and its field becomes that reference. A key that cannot
// be read, or does not belong to the certificate or request beside it, is a
// problem at its path; so is a private key pasted among certificates, which the
// stored document would show. With any problem nothing is put and the document
// stays as it was; a put that fails is a problem too, and what was put before it
// is for the store's pruning to collect.
func Intake(doc *config.Document, put func(ref string, pem []byte) error) config.Problems {
	var problems config.Problems
	var taken []takenKey
	take := func(path string, field *config.Secret, belongs func(crypto.PublicKey) text.Msg) {
		if k, ok := readInline(path, field, belongs, &problems); ok {
			taken = append(taken, k)
		}
	}
	for i := range doc.Authorities {
		a := &doc.Authorities[i]
		checkOpen(place("authorities", a.Name, i, "certificate"), a.Certificate, &problems)
		take(place("authorities", a.Name, i, "key"), &a.Key, belongsToAny(a.Certificate))
	}
	for i := range doc.Certificates {
		c := &doc.Certificates[i]
		checkOpen(place("certificates", c.Name, i, "certificate"), c.Certificate, &problems)
		take(place("certificates", c.Name, i, "key"), &c.Key, belongsToAny(c.Certificate))
	}
	for i := range doc.CertificateRequests {
		r := &doc.CertificateRequests[i]
		checkOpen(place("certificate_requests", r.Name, i, "request"), r.Request, &problems)
		take(place("certificate_requests", r.Name, i, "key"), &r.Key, belongsToRequest(r.Request))
	}
	for i, l := range doc.RevocationLists {
		checkOpen(place("revocation_lists", l.Name, i, "list"), l.List, &problems)
	}
	if problems.HasErrors() {
		return problems
	}
	return putKeys(taken, put)
}

// takenKey is one inline key on its way into the store.
type takenKey struct {
	path  string
	field *config.Secret
	ref   string
	pem   []byte
}

func readInline(path string, field *config.Secret, belongs func(crypto.PublicKey) text.Msg, problems *config.Problems) (takenKey, bool) {
	value, inline := field.Inline()
	if !inline {
		return takenKey{}, false
	}
	key, problem := ParseKey([]byte(value))
	if problem.IsZero() {
		problem = belongs(key.Public())
	}
	if !problem.IsZero() {
		problems.Add(path, problem)
		return takenKey{}, false
	}
	canonical, err := MarshalKey(key)
	if err != nil {
		panic(fmt.Sprintf("BUG: a key that was read cannot be written: %v", err))
	}
	return takenKey{path: path, field: field, ref: KeyRef(key.Public()), pem: canonical}, true
}

// putKeys stores the keys and only then changes the document.
func putKeys(taken []takenKey, put func(ref string, pem []byte) error) config.Problems {
	var problems config.Problems
	for _, k := range taken {
		if err := put(k.ref, k.pem); err != nil {
			problems.Add(k.path, text.M("the private key could not be stored: {reason}", "reason", err))
			return problems
		}
	}
	for _, k := range taken {
		*k.field = config.NewSecret(k.ref)
	}
	return nil
}

// belongsToAny holds a key against the certificates beside it. Certificates that
// are absent or cannot be read are Prepare's to speak of.
func belongsToAny(armoured config.PEM) func(crypto.PublicKey) text.Msg {
	return func(public crypto.PublicKey) text.Msg {
		chain, problem := ParseChain(armoured)
		if !problem.IsZero() || FindLeaf(chain, public) != nil {
			return text.Msg{}
		}
		return wrongKey(FindLeaf(chain, nil))
	}
}

// wrongKey says that a key is not the certificate's. A loop of certificates that
// issued each other has no leaf to name.
func wrongKey(leaf *x509.Certificate) text.Msg {
	if leaf == nil {
		return text.M("the private key does not belong to the certificate: give the one that its request was made with")
	}
	return text.M("the private key does not belong to the certificate of {subject}: give the one that its request was made with",
		"subject", subjectOf(leaf))
}

func belongsToRequest(armoured config.PEM) func(crypto.PublicKey) text.Msg {
	return func(public crypto.PublicKey) text.Msg {
		for _, block := range readArmour([]byte(armoured)).blocks {
			request, err := x509.ParseCertificateRequest(block.Bytes)
			if err == nil && !samePublic(request.PublicKey, public) {
				return text.M("the private key does not belong to the request: it was made with another key")
			}
		}
		return text.Msg{}
	}
}

// checkOpen refuses a private key in a field that everybody may read.
func checkOpen(path string, armoured config.PEM, problems *config.Problems) {
	for _, line := range strings.Split(string(armoured), "\n") {
		if strings.Contains(line, "-----BEGIN ") && strings.Contains(line, "PRIVATE KEY-----") {
			problems.Add(path, keyInTheOpen())
			return
		}
	}
}

// place is the path of a field of a named object; one without a name that can
// stand in brackets is told by its index.
func place(collection, name string, index int, field string) string {
	if name == "" || strings.ContainsAny(name, "[]") {
		name = strconv.Itoa(index)
	}
	return collection + "[" + name + "]." + field
}

// subjectOf names a certificate in a sentence: its common name, else its first
// alternative name, else its whole subject.
func subjectOf(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.IPAddresses) > 0:
		return c.IPAddresses[0].String()
	}
	return c.Subject.String()
}
