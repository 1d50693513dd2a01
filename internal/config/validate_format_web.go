package config

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/text"
)

// Syntaxes of HTTP, TLS and keys; the table of all formats is in
// validate_format.go.

// isToken reports whether the text is a token of RFC 9110 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func checkScheme(s string) complaint {
	if s == "http" || s == "https" {
		return complaint{}
	}
	return wrong(text.M("{value} is no scheme: http or https is expected", "value", shown(s)))
}

func checkMethod(s string) complaint {
	known := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
	switch upper := strings.ToUpper(s); {
	case !isToken(s) || len(s) > maxName:
		return wrong(text.M("{value} is no method of HTTP", "value", shown(s))).near(s, known)
	case upper != s && slices.Contains(known, upper):
		return wrong(text.M("methods are told apart by case")).do(text.M("write {value}", "value", upper))
	}
	return complaint{}
}

// checkPath takes a path as it stands in a request (RFC 9112 3.2.1), without a
// query.
func checkPath(s string) complaint {
	if strings.Contains(s, "?") {
		return wrong(text.M("a path without a query is expected here"))
	}
	return checkRequestTarget(s)
}

func checkRequestTarget(s string) complaint {
	switch {
	case len(s) > maxLine:
		return tooLong(len(s), maxLine)
	case s[0] != '/':
		return wrong(text.M("a path begins with a slash")).do(text.M("write {value}", "value", shown("/"+s)))
	case strings.Contains(s, "#"):
		return wrong(text.M("what follows a # is never sent to a server"))
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return wrong(text.M("blanks and characters beyond ASCII stand percent-encoded in a path")).
				do(text.M("write {value}", "value", shown(escapeTarget(s))))
		}
	}
	return complaint{}
}

func escapeTarget(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			b.Write([]byte{'%', digits[s[i]>>4], digits[s[i]&15]})
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func checkFieldName(s string) complaint {
	if !isToken(s) || len(s) > maxHost {
		return wrong(text.M("{value} is no name of a field: it holds no blanks, colons, quotes or brackets", "value", shown(s)))
	}
	return complaint{}
}

// checkFieldValue is RFC 9110 5.5: no line ends, nothing blank around it.
func checkFieldValue(s string) complaint {
	if len(s) > maxLine {
		return tooLong(len(s), maxLine)
	}
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return wrong(text.M("the value of a header field holds no line ends or other control characters"))
		}
	}
	if strings.Trim(s, " \t") != s {
		return wrong(text.M("the value of a header field has no blanks around it"))
	}
	return complaint{}
}

func checkCookieName(s string) complaint {
	if !isToken(s) || len(s) > maxHost {
		return wrong(text.M("{value} is no name of a cookie: it holds no blanks, semicolons, commas, quotes or brackets", "value", shown(s)))
	}
	return complaint{}
}

// checkCookieValue is cookie-octet of RFC 6265 4.1.1.
func checkCookieValue(s string) complaint {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`",;\`, s[i]) >= 0 {
			return wrong(text.M("{value} is no value of a cookie: it holds no blanks, semicolons, commas, quotes or backslashes", "value", shown(s)))
		}
	}
	if len(s) > maxHost {
		return tooLong(len(s), maxHost)
	}
	return complaint{}
}

// checkStatus takes 200, 2xx and 200-299.
func checkStatus(s string) complaint {
	if len(s) == 3 && s[0] >= '1' && s[0] <= '5' && s[1:] == "xx" {
		return complaint{}
	}
	first, last, isRange := strings.Cut(s, "-")
	a, okA := statusNumber(first)
	b, okB := statusNumber(last)
	switch {
	case !okA || isRange && !okB:
		return wrong(text.M("{value} is no status: write it such as 200, 2xx or 200-299", "value", shown(s)))
	case isRange && a >= b:
		return wrong(text.M("the range {value} doesn't rise", "value", s))
	}
	return complaint{}
}

func statusNumber(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && len(s) == 3 && n >= 100 && n <= 599
}

func checkALPN(s string) complaint {
	if len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) {
		return wrong(text.M("{value} is no name of a protocol: such as http/1.1 or h2 is expected", "value", shown(s)))
	}
	return complaint{}
}

func checkCipherSuite(s string) complaint {
	var known []string
	for _, suite := range tls.CipherSuites() {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			if suite.Name == s {
				return wrong(text.M("{value} belongs to TLS 1.3, which chooses for itself", "value", s))
			}
			continue
		}
		if suite.Name == s {
			return complaint{}
		}
		known = append(known, suite.Name)
	}
	for _, suite := range tls.InsecureCipherSuites() {
		if suite.Name == s {
			return wrong(text.M("{value} is refused: {reason}", "value", s, "reason", weakness(s)))
		}
	}
	return wrong(text.M("{value} is no cipher suite that Sluis speaks", "value", shown(s))).
		near("TLS_"+strings.NewReplacer("-", "_").Replace(strings.TrimPrefix(s, "TLS_")), known)
}

// weakness says why a suite is among Go's insecure ones.
func weakness(suite string) text.Msg {
	switch {
	case strings.Contains(suite, "RC4"):
		return text.M("RC4 is broken (RFC 7465)")
	case strings.Contains(suite, "3DES"):
		return text.M("its blocks of 64 bits give away repeated text (Sweet32)")
	case strings.HasPrefix(suite, "TLS_RSA_"):
		return text.M("without an ephemeral key, whoever gets the private key can read all that was recorded before")
	}
	return text.M("its CBC mode can't be kept safe from timing attacks (Lucky Thirteen)")
}

// checkURL takes any absolute resource identifier.
func checkURL(s string) complaint {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" || len(s) > maxLine || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return wrong(text.M("{value} is no complete URL, such as https://ca.example.net/directory", "value", shown(s)))
	}
	return complaint{}
}

func checkProxyURL(s string) complaint {
	u, err := url.Parse(s)
	switch {
	case err != nil || !checkURL(s).none() || !checkScheme(u.Scheme).none() || u.Hostname() == "":
		return wrong(text.M("{value} is no proxy's address, such as http://proxy.example.net:3128", "value", shown(s)))
	case u.User != nil:
		return wrong(text.M("name and password don't stand in the address, where logs would show them")).
			do(text.M("use username and password beside it"))
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return wrong(text.M("a proxy's address ends after the port"))
	}
	return checkHost(u.Hostname())
}

func checkEmail(s string) complaint {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > maxHost || strings.ContainsAny(s, "\r\n") {
		return wrong(text.M("{value} is no mail address", "value", shown(s)))
	}
	return complaint{}
}

// PEM.

func checkCertificate(s string) complaint { return checkPEM(s, "CERTIFICATE") }

func checkCertificateRequest(s string) complaint {
	return checkPEM(s, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
}

func checkRevocationList(s string) complaint { return checkPEM(s, "X509 CRL") }

// checkPEM looks at the armour alone: what is inside is for those who know keys
// and certificates. A private key among certificates would be shown to everyone.
func checkPEM(s string, types ...string) complaint {
	if kind, _ := source(s); kind != "" {
		return complaint{}
	}
	if len(s) > maxPEM {
		return tooLong(len(s), maxPEM)
	}
	blocks := 0
	for rest := []byte(s); ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return wrong(text.M("a private key stands here, where everybody can read it")).do(text.M("move it to the field for the key"))
		case !slices.Contains(types, block.Type):
			return wrong(text.M("a block {found} stands here, {wanted} is expected", "found", shown(block.Type), "wanted", types[0]))
		}
	}
	if blocks == 0 {
		return wrong(text.M("no block -----BEGIN {wanted}----- that can be read stands here", "wanted", types[0]))
	}
	return complaint{}
}

// checkPrivateKey looks at the armour of a private key given inline.
func checkPrivateKey(s string) complaint {
	block, _ := pem.Decode([]byte(s))
	switch {
	case block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return wrong(text.M("no private key in PEM form stands here")).do(text.M("it begins with -----BEGIN PRIVATE KEY-----"))
	case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return wrong(text.M("the private key is encrypted")).do(text.M("decrypt it first: openssl pkey -in KEY -out PLAIN"))
	}
	return complaint{}
}

// sshKeyTypes are the kinds of public keys that OpenSSH takes and that aren't weak.
var sshKeyTypes = []string{
	"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
}

// checkSSHKey takes one line of authorized_keys, without options: kind, the key
// in base64, a comment. The key says its kind once more, inside.
func checkSSHKey(s string) complaint {
	if c := checkLine(s); !c.none() {
		return c
	}
	fields := strings.Fields(s)
	switch {
	case strings.Contains(s, "PRIVATE KEY"):
		return wrong(text.M("this is a private key: keep it to yourself")).do(text.M("give the line of the file that ends in .pub"))
	case len(fields) > 0 && fields[0] == "ssh-dss":
		return wrong(text.M("{value} is refused: {reason}", "value", "ssh-dss", "reason", text.M("keys of this kind are too short")))
	case len(fields) < 2 || !slices.Contains(sshKeyTypes, fields[0]):
		return wrong(text.M("this is no public key of SSH")).do(text.M("give the line of the file that ends in .pub, such as ssh-ed25519 AAAA… name"))
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(blob) < 4 {
		return wrong(text.M("the key isn't whole: its base64 text can't be read"))
	}
	length := binary.BigEndian.Uint32(blob)
	if uint64(length)+4 >= uint64(len(blob)) || string(blob[4:4+length]) != fields[0] {
		return wrong(text.M("the key isn't whole: inside it isn't {kind}", "kind", fields[0]))
	}
	return complaint{}
}
