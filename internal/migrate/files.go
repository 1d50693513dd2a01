package migrate

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// fileName is a name in the document as a part of a file's name.
func fileName(s string) string {
	var n names
	return strings.Trim(n.take(strings.NewReplacer("[", "-", "]", "").Replace(s)), ".-")
}

// certificateNamed is a certificate of the document.
func (e *exporter) certificateNamed(name string) *config.Certificate {
	for i := range e.doc.Certificates {
		if e.doc.Certificates[i].Name == name {
			return &e.doc.Certificates[i]
		}
	}
	return nil
}

// chain is a certificate's PEM text, from the document or from those who know.
func (e *exporter) chain(name string) []*x509.Certificate {
	c := e.certificateNamed(name)
	if c == nil {
		return nil
	}
	chain := parseCertificates([]byte(c.Certificate))
	if len(chain) == 0 && e.options.Certificate != nil {
		armoured, _ := e.options.Certificate(name)
		chain = parseCertificates(armoured)
	}
	return chain
}

func parseCertificates(armoured []byte) (found []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, armoured = pem.Decode(armoured); block == nil {
			return found
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, c)
		}
	}
}

// certificate is the path of a file with a certificate, its chain and its key;
// empty = the certificate isn't known.
func (e *exporter) certificate(name string) string {
	if file, done := e.secured[name]; done {
		return file
	}
	chain := e.chain(name)
	if len(chain) == 0 {
		e.secured[name] = ""
		return ""
	}
	key, known := e.key(name)
	var out bytes.Buffer
	leaf := leafOf(chain, key)
	for _, c := range append([]*x509.Certificate{leaf}, chain...) {
		if out.Len() == 0 || c != leaf && !bytes.Equal(c.RawIssuer, c.RawSubject) {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
		}
	}
	if known {
		out.Write(bytes.TrimSpace(key))
		out.WriteByte('\n')
	} else {
		out.WriteString("# Add the private key of this certificate here.\n")
	}
	file := e.file(fileName(name)+".pem", out.Bytes())
	o := e.report.object(place("certificates", name, 0))
	if !known {
		o.approximated("key", text.M("the private key isn't known here: add it to {file}, before HAProxy starts", "file", file))
	}
	o.done()
	e.secured[name] = file
	return file
}

func (e *exporter) key(name string) ([]byte, bool) {
	if e.options.Key != nil {
		if key, ok := e.options.Key(name); ok {
			return key, true
		}
	}
	if c := e.certificateNamed(name); c != nil {
		if value, ok := e.secret(c.Key); ok {
			if block, _ := pem.Decode([]byte(value)); block != nil {
				return []byte(value), true
			}
		}
	}
	return nil, false
}

// leafOf is the certificate of a chain, in whatever order, that the key belongs to;
// without a key the one that signs none of the others.
func leafOf(chain []*x509.Certificate, key []byte) *x509.Certificate {
	for _, c := range chain {
		alone := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if pair, err := tls.X509KeyPair(alone, key); err == nil && pair.PrivateKey.(crypto.Signer) != nil {
			return c
		}
	}
	for _, c := range chain {
		signs := false
		for _, other := range chain {
			signs = signs || other != c && bytes.Equal(other.RawIssuer, c.RawSubject)
		}
		if !signs {
			return c
		}
	}
	return chain[0]
}

// certificateNames are the names that a certificate vouches for.
func (e *exporter) certificateNames(name string) (found []string, ok bool) {
	if chain := e.chain(name); len(chain) > 0 {
		key, _ := e.key(name)
		leaf := leafOf(chain, key)
		found = append(found, leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			found = append(found, ip.String())
		}
		return found, true
	}
	c := e.certificateNamed(name)
	switch {
	case c == nil:
		return nil, false
	case c.SelfSigned != nil:
		return specNames(c.SelfSigned), true
	case c.Internal != nil:
		return specNames(&c.Internal.Spec), true
	case c.ACME != nil:
		return c.ACME.Names, true
	}
	return nil, false
}

func specNames(s *config.CertificateSpec) []string {
	found := append([]string{s.CommonName}, s.AlternativeNames.DNS...)
	return append(found, s.AlternativeNames.IP...)
}

// authorities are the certificates of authorities, as PEM.
func (e *exporter) authorities(wanted []string) []byte {
	var out bytes.Buffer
	for _, a := range e.doc.Authorities {
		for _, name := range wanted {
			if name != a.Name {
				continue
			}
			certificates := parseCertificates([]byte(a.Certificate))
			if len(certificates) == 0 && e.options.Authority != nil {
				armoured, _ := e.options.Authority(name)
				certificates = parseCertificates(armoured)
			}
			for _, c := range certificates {
				_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
			}
		}
	}
	return out.Bytes()
}

// revocationLists are imported lists, as PEM; those that Sluis makes are reported.
func (e *exporter) revocationLists(o *object, field string, wanted []string) []byte {
	var out bytes.Buffer
	for i, name := range wanted {
		found := false
		for _, l := range e.doc.RevocationLists {
			if l.Name != name {
				continue
			}
			for rest := []byte(l.List); ; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				if _, err := x509.ParseRevocationList(block.Bytes); err == nil {
					_ = pem.Encode(&out, &pem.Block{Type: "X509 CRL", Bytes: block.Bytes})
					found = true
				}
			}
		}
		if !found {
			o.leftOut(field+"["+strconv.Itoa(i)+"]", text.M("the list {name} isn't known here", "name", name))
		}
	}
	return out.Bytes()
}

// pageUse is an error page for one status.
type pageUse struct {
	page   string
	status int
}

// maxPage is what fits into HAProxy's buffer with a head.
const maxPage = 14 << 10

// errorPage is the path of an error page's file and its content type; ok is false
// where there is no such page or it is too large. o is told once what differs; nil
// = nobody.
func (e *exporter) errorPage(o *object, name string, status int) (file, contentType string, ok bool) {
	for i, p := range e.doc.ErrorPages {
		if p.Name != name || p.ContentType == "" {
			continue
		}
		if o == nil {
			o = new(report).object("")
		}
		path := place("error_pages", name, i)
		body := strings.NewReplacer("{status}", strconv.Itoa(status), "{reason}", http.StatusText(status), "{request_id}", "").Replace(p.Body)
		if len(body) > maxPage {
			o.leftOut("page", text.M("{page} is larger than {size}, which HAProxy's buffers hold", "page", path, "size", config.Size(maxPage)))
			return "", "", false
		}
		if strings.Contains(p.Body, "{request_id}") {
			o.approximated("page", text.M("{page} can't name the request there", "page", path))
		}
		use := pageUse{name, status}
		if e.pages[use] == "" {
			e.pages[use] = e.file("error-"+fileName(name)+"-"+strconv.Itoa(status)+".html", []byte(body))
		}
		return e.pages[use], p.ContentType, true
	}
	return "", "", false
}

// errorPages writes the answers that a frontend or backend replaces.
func (e *exporter) errorPages(path string, uses []config.ErrorPageUse) {
	for i, use := range uses {
		o := e.report.object(place(path+".error_pages", use.Name, i))
		var seen []int
		for j, code := range use.Codes {
			if !ownStatus(code) {
				o.leftOut("codes["+strconv.Itoa(j)+"]", text.M("HAProxy gives no answer of status {code} by itself; rules that refuse with it use the page", "code", code))
				continue
			}
			file, kind, ok := e.errorPage(o, use.Page, code)
			if !ok {
				o.leftOut("page", text.M("the page {name} isn't known here", "name", use.Page))
				break
			}
			if len(seen) == 0 {
				e.out.note("error page " + use.Name + describe(e.pageDescription(use.Page)))
			}
			seen = append(seen, code)
			words := []string{"http-error", "status", strconv.Itoa(code)}
			e.out.add(append(words, "content-type", kind, "file", file)...)
		}
		if len(seen) == 0 && !o.said {
			o.leftOut("codes", text.M("no status is named"))
		}
		o.done()
	}
}

func (e *exporter) pageDescription(name string) string {
	for _, p := range e.doc.ErrorPages {
		if p.Name == name {
			return p.Description
		}
	}
	return ""
}

func ownStatus(code int) bool {
	for _, own := range ownStatuses {
		if own == code {
			return true
		}
	}
	return false
}
