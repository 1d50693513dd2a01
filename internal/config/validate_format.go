package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sluis/internal/text"
)

// Bounds of texts.
const (
	maxName  = 63
	maxLine  = 4 << 10  // a text of one line without a syntax of its own
	maxText  = 64 << 10 // a text of several lines
	maxPEM   = 1 << 20
	maxRegex = 1 << 10
	maxHost  = 253 // RFC 1035 2.3.4, without the dot at the end
	maxLabel = 63
)

// complaint is what is wrong with a value, and what to do about it; the zero
// complaint means that nothing is.
type complaint struct{ message, hint text.Msg }

func wrong(message text.Msg) complaint { return complaint{message: message} }

func (c complaint) do(hint text.Msg) complaint {
	c.hint = hint
	return c
}

func (c complaint) near(name string, known []string) complaint {
	if nearest := Nearest(name, known); nearest != "" {
		c.hint = text.M("did you mean {name}?", "name", nearest)
	}
	return c
}

func (c complaint) none() bool { return c.message.IsZero() }

// formats are the syntaxes of texts, by the name that the format tag has for
// them. None of them is asked about an empty text, or about a reference where
// the field takes one.
var formats = map[string]func(string) complaint{
	"address":             checkAddress,
	"address4":            checkAddress4,
	"address6":            checkAddress6,
	"alpn":                checkALPN,
	"bind_address":        checkBindAddress,
	"certificate":         checkCertificate,
	"certificate_name":    checkCertificateName,
	"certificate_request": checkCertificateRequest,
	"cipher_suite":        checkCipherSuite,
	"condition":           checkCondition,
	"cookie_name":         checkCookieName,
	"cookie_value":        checkCookieValue,
	"country":             checkCountry,
	"device":              checkDevice,
	"domain":              checkDomain,
	"email":               checkEmail,
	"endpoint":            checkEndpoint,
	"event":               checkEvent,
	"field_name":          checkFieldName,
	"field_value":         checkFieldValue,
	"hex":                 checkHex,
	"host":                checkHost,
	"host_field":          checkHostPort,
	"host_or_server":      checkHostOrServer,
	"host_port":           checkHostPort,
	"interface_address":   checkInterfaceAddress,
	"interface_address4":  checkInterfaceAddress4,
	"interface_address6":  checkInterfaceAddress6,
	"label":               checkLabel,
	"method":              checkMethod,
	"network":             checkNetwork,
	"none":                checkNone,
	"path":                checkPath,
	"port":                checkPort,
	"prefix":              checkPrefix,
	"proxy_url":           checkProxyURL,
	"regex":               checkRegex,
	"request_target":      checkRequestTarget,
	"revocation_list":     checkRevocationList,
	"scheme":              checkScheme,
	"sni":                 checkSNI,
	"ssh_key":             checkSSHKey,
	"status":              checkStatus,
	"text":                checkText,
	"time_of_day":         checkTimeOfDay,
	"timezone":            checkTimezone,
	"url":                 checkURL,
	"visitor":             checkVisitor,
}

// shown is a value as a message quotes it: cut where it would drown the message.
func shown(s string) string {
	const limit = 60
	runes := []rune(strings.ToValidUTF8(s, "�")) // which may have fewer of them than s
	if len(runes) <= limit {
		return string(runes)
	}
	return string(runes[:limit]) + "…"
}

// checkName is the rule for names that have no format of their own: they stand in
// paths, conditions, file names and logs.
func checkName(s string) complaint {
	switch {
	case len(s) > maxName:
		return wrong(text.M("a name has at most {limit} characters, this one has {length}", "limit", maxName, "length", len(s)))
	case !isAlphanumeric(s[0]):
		return wrong(text.M("a name begins with a letter or digit, {name} doesn't", "name", shown(s)))
	}
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return wrong(text.M("a name holds letters, digits, dot, dash and underscore, {name} holds something else", "name", shown(s))).
				do(text.M("the description takes any text"))
		}
	}
	return complaint{}
}

// checkVisitor is the user-id of RFC 7617: no colon, no control characters.
func checkVisitor(s string) complaint {
	if len(s) > maxName || strings.ContainsAny(s, ":[]") || strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return wrong(text.M("a visitor's name has at most {limit} bytes and no colon, brackets or control characters", "limit", maxName))
	}
	return complaint{}
}

// checkLine is the rule for texts of one line without a format.
func checkLine(s string) complaint {
	if len(s) > maxLine {
		return tooLong(len(s), maxLine)
	}
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\t' {
			return wrong(text.M("a text of one line is expected, without control characters"))
		}
	}
	return complaint{}
}

func checkText(s string) complaint {
	if len(s) > maxText {
		return tooLong(len(s), maxText)
	}
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' {
			return wrong(text.M("the text holds a control character other than line ends and tabs"))
		}
	}
	return complaint{}
}

func tooLong(length, limit int) complaint {
	return wrong(text.M("this is {length} bytes long, at most {limit} are taken", "length", length, "limit", limit))
}

func checkNone(s string) complaint {
	return wrong(text.M("{value} doesn't say what it names", "value", shown(s))).
		do(text.M("write the kind, a colon and the name, such as backend:web"))
}

// Addresses.

func parseAddress(s string) (netip.Addr, complaint) {
	a, err := netip.ParseAddr(s)
	switch {
	case err == nil && a.Zone() != "":
		return a, wrong(text.M("an address here has no zone ({zone})", "zone", "%"+a.Zone()))
	case err == nil && a.Is4In6():
		return a, wrong(text.M("{value} is an IPv4 address in IPv6 clothing", "value", s)).do(text.M("write {value}", "value", a.Unmap()))
	case err == nil:
		return a, complaint{}
	}
	if before, _, found := strings.Cut(s, "/"); found {
		if p, err := netip.ParseAddr(before); err == nil {
			return a, wrong(text.M("an address without a prefix length is expected")).do(text.M("write {value}", "value", p))
		}
	}
	return a, wrong(text.M("{value} is no IP address", "value", shown(s)))
}

func checkAddress(s string) complaint {
	_, c := parseAddress(s)
	return c
}

func checkAddress4(s string) complaint { return checkFamily(s, "IPv4", netip.Addr.Is4) }
func checkAddress6(s string) complaint { return checkFamily(s, "IPv6", netip.Addr.Is6) }

func checkFamily(s, family string, is func(netip.Addr) bool) complaint {
	a, c := parseAddress(s)
	if c.none() && !is(a) {
		return wrong(text.M("{value} is no {family} address", "value", s, "family", family))
	}
	return c
}

func parsePrefix(s string) (netip.Prefix, complaint) {
	p, err := netip.ParsePrefix(s)
	if err == nil && !p.Addr().Is4In6() {
		return p, complaint{}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return p, wrong(text.M("a prefix length is missing")).do(text.M("for this one address, write {value}", "value", netip.PrefixFrom(a, a.BitLen())))
	}
	return p, wrong(text.M("{value} is no address with a prefix length", "value", shown(s))).
		do(text.M("write it such as 192.0.2.0/24 or 2001:db8::/64"))
}

func checkPrefix(s string) complaint {
	p, c := parsePrefix(s)
	if c.none() && p != p.Masked() {
		return wrong(text.M("{value} has bits set behind its prefix length", "value", s)).
			do(text.M("did you mean {name}?", "name", p.Masked()))
	}
	return c
}

func checkNetwork(s string) complaint {
	if strings.Contains(s, "/") {
		return checkPrefix(s)
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return complaint{}
	}
	return wrong(text.M("{value} is neither a network nor an address", "value", shown(s))).
		do(text.M("write it such as 192.0.2.0/24, 192.0.2.7 or 2001:db8::/64"))
}

func checkEndpoint(s string) complaint {
	switch s {
	case "any", "self":
		return complaint{}
	case "*":
		return wrong(text.M("{value} is neither a network nor an address", "value", s)).do(text.M("write {value}", "value", "any"))
	}
	return checkNetwork(s)
}

func checkBindAddress(s string) complaint {
	switch s {
	case "any":
		return complaint{}
	case "*":
		return wrong(text.M("{value} is no address to listen on", "value", s)).do(text.M("write {value}", "value", "any"))
	}
	a, c := parseAddress(s)
	if c.none() && a.IsMulticast() {
		return wrong(text.M("nothing can listen on {value}: it is a multicast address", "value", s))
	}
	return c
}

// checkInterfaceAddress takes an address with the length of its network.
func checkInterfaceAddress(s string) complaint {
	p, c := parsePrefix(s)
	a := p.Addr()
	switch {
	case !c.none():
		return c
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return wrong(text.M("{value} is no address that a machine can have", "value", a))
	case p.Bits() == 0:
		return wrong(text.M("a network of all addresses has no neighbours: the prefix length is wrong"))
	case a.Is4() && p.Bits() < 31 && a == p.Masked().Addr():
		return wrong(text.M("{value} is the address of the network itself", "value", a)).
			do(text.M("the first address that a machine can have there is {value}", "value", a.Next()))
	case a.Is4() && p.Bits() < 31 && a == lastAddress(p):
		return wrong(text.M("{value} is the broadcast address of its network", "value", a)).
			do(text.M("the last address that a machine can have there is {value}", "value", a.Prev()))
	}
	return complaint{}
}

func checkInterfaceAddress4(s string) complaint {
	if p, c := parsePrefix(s); c.none() && !p.Addr().Is4() {
		return wrong(text.M("{value} is no {family} address", "value", s, "family", "IPv4"))
	}
	return checkInterfaceAddress(s)
}

func checkInterfaceAddress6(s string) complaint {
	if p, c := parsePrefix(s); c.none() && !p.Addr().Is6() {
		return wrong(text.M("{value} is no {family} address", "value", s, "family", "IPv6"))
	}
	return checkInterfaceAddress(s)
}

// lastAddress is the last address of an IPv4 network.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// Names in the DNS.

func checkLabel(s string) complaint {
	if strings.Contains(s, ".") {
		return wrong(text.M("the name of the machine alone is expected, without a domain"))
	}
	return checkNameInDNS(s, false)
}

func checkDomain(s string) complaint {
	if strings.HasPrefix(s, ".") {
		return wrong(text.M("a domain doesn't begin with a dot")).do(text.M("write {value}", "value", s[1:]))
	}
	return checkNameInDNS(s, false)
}

func checkHost(s string) complaint {
	if looksLikeAddress(s) {
		return checkAddress(s)
	}
	return checkNameInDNS(s, true)
}

// looksLikeAddress tells a mistyped address from a host name: nothing but digits
// at the end, or a colon, is no name.
func looksLikeAddress(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.ContainsAny(s, ":/") || last != "" && strings.Trim(last, "0123456789") == ""
}

// checkNameInDNS holds a name against RFC 1123 2.1. Underscores are no part of it
// but stand in many internal host names, and resolvers take them.
func checkNameInDNS(s string, underscores bool) complaint {
	if strings.HasSuffix(s, ".") {
		return wrong(text.M("a name is written without the dot at its end"))
	}
	if len(s) > maxHost {
		return tooLong(len(s), maxHost)
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "" || len(label) > maxLabel:
			return wrong(text.M("{value} is no host name: between two dots stand 1 to {limit} characters", "value", shown(s), "limit", maxLabel))
		case label[0] == '-' || label[len(label)-1] == '-':
			return wrong(text.M("{value} is no host name: no part of it begins or ends with a hyphen", "value", shown(s)))
		case strings.ContainsFunc(label, func(r rune) bool {
			return r > 127 || !isAlphanumeric(byte(r)) && r != '-' && (r != '_' || !underscores)
		}):
			return wrong(text.M("{value} is no host name: it holds letters, digits, hyphens and dots", "value", shown(s)))
		}
	}
	return complaint{}
}

func checkHostPort(s string) complaint {
	host, port := s, ""
	if _, err := netip.ParseAddr(s); err == nil {
		return checkAddress(s)
	}
	if rest, bracketed := strings.CutPrefix(s, "["); bracketed {
		inner, after, closed := strings.Cut(rest, "]")
		if !closed || after != "" && after[0] != ':' {
			return wrong(text.M("{value} is no host with a port", "value", shown(s))).do(text.M("write it such as [2001:db8::1]:514"))
		}
		if c := checkAddress6(inner); !c.none() {
			return c
		}
		host, port = inner, strings.TrimPrefix(after, ":")
		if after == "" {
			return complaint{}
		}
	} else if before, after, found := strings.Cut(s, ":"); found {
		host, port = before, after
	} else {
		return checkHost(s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return wrong(text.M("{value} is no port: a number from 1 to 65535 is expected", "value", shown(port)))
	}
	if host == "" {
		return wrong(text.M("the host before the port is missing"))
	}
	return checkHost(host)
}

const (
	serverPlaceholder = "{server}"
	hostPlaceholder   = "{host}"
)

func checkHostOrServer(s string) complaint {
	if strings.ContainsAny(s, "{}") {
		return checkPlaceholder(s, serverPlaceholder)
	}
	return checkHost(s)
}

func checkPlaceholder(s string, known ...string) complaint {
	if slices.Contains(known, s) {
		return complaint{}
	}
	return wrong(text.M("{value} stands for nothing here", "value", shown(s))).
		do(text.M("write a host name, or {known}", "known", strings.Join(known, " or ")))
}

func checkSNI(s string) complaint {
	if strings.ContainsAny(s, "{}") {
		return checkPlaceholder(s, serverPlaceholder, hostPlaceholder)
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return addressAsSNI(s)
	}
	return checkHost(s)
}

// addressAsSNI refuses an address as server name (RFC 6066 section 3).
func addressAsSNI(s string) complaint {
	return wrong(text.M("an address such as {value} can't be sent as SNI, only a host name", "value", s)).
		do(text.M("leave it empty, or write the server's host name"))
}

func checkCertificateName(s string) complaint {
	name, wildcard := strings.CutPrefix(s, "*.")
	switch {
	case strings.Contains(name, "*"):
		return wrong(text.M("the star of {value} stands at the wrong place: it takes the place of the whole first label", "value", shown(s)))
	case wildcard && !strings.Contains(name, "."):
		return wrong(text.M("no certificate may hold for all names below {value}", "value", shown(name)))
	case looksLikeAddress(name):
		return wrong(text.M("{value} is no host name", "value", shown(s))).do(text.M("addresses stand among the IP addresses of the alternative names"))
	}
	return checkNameInDNS(name, false)
}

// Ports, times and the rest.

func checkPort(s string) complaint {
	first, last, isRange := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := a, error(nil)
	if isRange {
		b, errB = strconv.ParseUint(last, 10, 16)
	}
	switch {
	case errA != nil || errB != nil || a == 0 || b == 0:
		return wrong(text.M("{value} is no port: a number from 1 to 65535, or a range such as 8000-8080, is expected", "value", shown(s)))
	case isRange && a >= b:
		return wrong(text.M("the range {value} doesn't rise", "value", s))
	}
	return complaint{}
}

// checkTimezone asks Go's time-zone database; main embeds a copy, so that the
// answer doesn't hang on the machine.
func checkTimezone(s string) complaint {
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		return wrong(text.M("{value} is no time zone", "value", shown(s))).do(text.M("write it such as Europe/Amsterdam or UTC"))
	}
	return complaint{}
}

func checkTimeOfDay(s string) complaint {
	if _, err := time.Parse("15:04", s); err != nil || len(s) != len("15:04") {
		return wrong(text.M("{value} is no time of day: 00:00 to 23:59 is expected", "value", shown(s))).
			do(text.M("for the end of the day, leave the field empty"))
	}
	return complaint{}
}

// checkDevice is the kernel's rule for names of network devices (dev_valid_name).
func checkDevice(s string) complaint {
	const limit = 15 // IFNAMSIZ without its NUL
	if len(s) > limit || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/:[]", r)
	}) {
		return wrong(text.M("{value} can't be a device: the kernel takes up to {limit} characters, without blanks, slashes, colons", "value", shown(s), "limit", limit))
	}
	return complaint{}
}

func checkHex(s string) complaint {
	const limit = 40 // 20 bytes: RFC 5280 4.1.2.2
	plain := strings.NewReplacer(":", "", " ", "").Replace(s)
	digits := strings.TrimLeft(s, "0123456789abcdefABCDEF") == ""
	switch {
	case digits && len(s) <= limit:
		return complaint{}
	case digits:
		return wrong(text.M("a serial number has at most {limit} digits", "limit", limit))
	case plain != s && checkHex(plain).none():
		return wrong(text.M("hexadecimal digits alone are expected")).do(text.M("write {value}", "value", plain))
	}
	return wrong(text.M("{value} isn't hexadecimal", "value", shown(s)))
}

func checkCountry(s string) complaint {
	if len(s) == 2 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return complaint{}
	}
	return wrong(text.M("{value} is no country code: two capital letters are expected, such as NL", "value", shown(s)))
}

var eventPattern = regexp.MustCompile(`^(\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?)$`)

func checkEvent(s string) complaint {
	if len(s) > maxLine || !eventPattern.MatchString(s) {
		return wrong(text.M("{value} is no name of an event", "value", shown(s))).
			do(text.M("write it such as health.server.down, or health.* for all that begin so"))
	}
	return complaint{}
}

func checkCondition(s string) complaint {
	if _, err := ParseCondition(s); err != nil {
		return wrong(err.message()).do(err.Hint)
	}
	return complaint{}
}

// checkRegex takes RE2, in which no expression can run away on a long text.
func checkRegex(s string) complaint {
	if len(s) > maxRegex {
		return tooLong(len(s), maxRegex)
	}
	if _, err := regexp.Compile(s); err != nil {
		c := wrong(text.M("this is no regular expression (RE2): {problem}", "problem", strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		if strings.Contains(s, "(?=") || strings.Contains(s, "(?!") || strings.Contains(s, "(?<") {
			c = c.do(text.M("RE2 can't look ahead or behind: use two ACLs joined by and, or and not"))
		}
		return c
	}
	return complaint{}
}
