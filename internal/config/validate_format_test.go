package config

import (
	"slices"
	"strings"
	"testing"
)

const (
	validSSHKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f joe"
	pemOfKey    = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	pemOfCert   = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
)

// formatTests has a row for every format: what it takes, and what it refuses
// with a part of what is said, hint included.
var formatTests = map[string]struct {
	takes   []string
	refuses map[string]string
}{
	"address": {[]string{"192.0.2.1", "2001:db8::1", "fe80::1"}, map[string]string{
		"192.0.2.1/24": "write 192.0.2.1", "192.0.2": "no IP address", "fe80::1%eth0": "no zone (%eth0)", "::ffff:192.0.2.1": "write 192.0.2.1", "www": "no IP",
	}},
	"address4": {[]string{"192.0.2.1"}, map[string]string{"2001:db8::1": "no IPv4", "x": "no IP"}},
	"address6": {[]string{"2001:db8::1"}, map[string]string{"192.0.2.1": "no IPv6"}},
	"alpn":     {[]string{"h2", "http/1.1", "mqtt"}, map[string]string{"a b": "no name", strings.Repeat("x", 256): "no name"}},
	"bind_address": {[]string{"any", "0.0.0.0", "::", "192.0.2.1"}, map[string]string{
		"*": "write any", "ff02::1": "multicast", "localhost": "no IP",
	}},
	"certificate":         {[]string{pemOfCert, "Bag Attributes\n" + pemOfCert + pemOfCert, "file:a.pem"}, map[string]string{"x": "no block", pemOfKey: "private key", strings.Repeat("x", maxPEM+1): "bytes long"}},
	"certificate_request": {[]string{"-----BEGIN NEW CERTIFICATE REQUEST-----\nAAAA\n-----END NEW CERTIFICATE REQUEST-----\n"}, map[string]string{pemOfCert: "a block CERTIFICATE"}},
	"revocation_list":     {[]string{"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"}, map[string]string{pemOfCert: "X509 CRL is expected"}},
	"certificate_name": {[]string{"a", "*.example.net", "xn--bcher-kva.example"}, map[string]string{
		"*": "wrong place", "a*.example.net": "wrong place", "*.net": "all names below net", "bücher.example": "letters", "2001:db8::1": "no host name",
	}},
	"cipher_suite": {[]string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, map[string]string{
		"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "RC4", "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "Sweet32",
		"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "Lucky", "NULL": "no cipher suite",
	}},
	"condition":    {[]string{"not (a or b)"}, map[string]string{"a or": "at character 5: the name of an ACL is missing"}},
	"cookie_name":  {[]string{"SRV", "__Host-a"}, map[string]string{"a=b": "no name", "a;b": "no name"}},
	"cookie_value": {[]string{"w1", "a=b"}, map[string]string{`a"b`: "no value", "a b": "no value", strings.Repeat("x", 254): "bytes long"}},
	"country":      {[]string{"NL"}, map[string]string{"nl": "capital", "NLD": "capital"}},
	"device":       {[]string{"eth0", "eth0.20", "enp1s0f0"}, map[string]string{"a/b": "kernel", "a b": "kernel", "..": "kernel", "sixteen-letters!": "kernel"}},
	"domain":       {[]string{"example.net", "home.arpa", "local"}, map[string]string{".example.net": "write example.net", "a_b.net": "letters", "a..b": "between two dots", "a.": "dot at its end"}},
	"email":        {[]string{"joe@example.net"}, map[string]string{"joe": "no mail", "Joe <joe@example.net>": "no mail"}},
	"endpoint":     {[]string{"any", "self", "10.0.0.0/8", "192.0.2.1"}, map[string]string{"*": "write any", "10.0.0.1/8": "10.0.0.0/8", "www": "neither"}},
	"event":        {[]string{"*", "health.*", "apply.revision.confirmed"}, map[string]string{"Health.*": "no name", "health*": "no name", ".a": "no name"}},
	"field_name":   {[]string{"X-Forwarded-For"}, map[string]string{"X:": "no name", "X\r\nY": "no name"}},
	"field_value":  {[]string{"a b\tc", "größer"}, map[string]string{" a": "no blanks", "a\nb": "line ends", strings.Repeat("x", maxLine+1): "bytes long"}},
	"hex":          {[]string{"1a2", "00FF"}, map[string]string{"0a:1B": "write 0a1B", "0x1": "isn't hex", strings.Repeat("a", 41): "at most 40"}},
	"host": {[]string{"web", "web_1.example.net", "192.0.2.1", "2001:db8::1", strings.Repeat("a", 63)}, map[string]string{
		"192.0.2.300": "no IP", "10.0.0.1:80": "no IP", "-a": "hyphen", "a-.b": "hyphen", strings.Repeat("a", 64): "1 to 63", strings.Repeat("a.", 127) + "b": "bytes long", "web.": "dot at its end",
	}},
	"host_field": {[]string{"a.net", "a.net:8443", "[2001:db8::1]:443", "[2001:db8::1]", "2001:db8::1", "192.0.2.1:80"}, map[string]string{
		"a.net:": "no port", "a:70000": "no port", "[2001:db8::1]x": "write it such as", "[192.0.2.1]:80": "no IPv6", ":80": "missing", "a/b": "no IP",
	}},
	"host_or_server":     {[]string{"{server}", "a.net", "192.0.2.1"}, map[string]string{"{host}": "stands for nothing here", "{server}:80": "or {server}"}},
	"host_port":          {[]string{"log.example.net:6514", "192.0.2.1"}, map[string]string{"log:x": "no port"}},
	"interface_address":  {[]string{"192.0.2.80/32", "192.0.2.0/31", "2001:db8::/64", "10.0.0.1/8"}, map[string]string{"10.0.0.0/8": "10.0.0.1", "10.255.255.255/8": "10.255.255.254", "255.255.255.255/32": "can have", "0.0.0.0/0": "can have", "10.0.0.1/0": "prefix length is wrong", "10.0.0.1": "write 10.0.0.1/32", "x/8": "such as"}},
	"interface_address4": {[]string{"10.0.0.1/8"}, map[string]string{"2001:db8::1/64": "no IPv4", "10.0.0.0/8": "network itself"}},
	"interface_address6": {[]string{"2001:db8::1/64"}, map[string]string{"10.0.0.1/8": "no IPv6", "::/64": "can have"}},
	"label":              {[]string{"lb1"}, map[string]string{"lb1.net": "without a domain", "lb_1": "letters"}},
	"method":             {[]string{"GET", "PURGE"}, map[string]string{"get": "write GET", "G T": "no method", "GE T": "did you mean GET?"}},
	"network":            {[]string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32"}, map[string]string{"10.0.0.1/8": "10.0.0.0/8", "lan": "neither", "::ffff:1.2.3.4": "neither", "::ffff:1.2.3.4/128": "no address with"}},
	"none":               {nil, map[string]string{"web": "write the kind"}},
	"path":               {[]string{"/", "/a/%20"}, map[string]string{"a": "write /a", "/a?b": "without a query", "/é": "write /%C3%A9"}},
	"port":               {[]string{"1", "65535", "8000-8080"}, map[string]string{"0": "no port", "65536": "no port", "http": "no port", "80-80": "rise", "80-": "no port"}},
	"prefix":             {[]string{"0.0.0.0/0", "2001:db8::/32"}, map[string]string{"10.0.0.1/8": "10.0.0.0/8", "10.0.0.1": "write 10.0.0.1/32", "10.0.0.0/33": "no address"}},
	"proxy_url":          {[]string{"http://proxy:3128", "https://192.0.2.1/"}, map[string]string{"proxy": "no proxy's", "socks5://a:1": "no proxy's", "http://u@p:1": "logs", "http://p/x": "ends after the port", "http://a..b:1": "between two dots"}},
	"regex":              {[]string{"^/api/v[0-9]+$"}, map[string]string{"a(": "missing closing", "(?<=a)b": "look ahead or behind", strings.Repeat("x", 1025): "bytes long"}},
	"request_target":     {[]string{"/", "/a?b=c"}, map[string]string{"a": "write /a", "/a#b": "never sent", "/a b": "write /a%20b", "/" + strings.Repeat("x", maxLine): "bytes long"}},
	"scheme":             {[]string{"http", "https"}, map[string]string{"HTTP": "no scheme"}},
	"sni":                {[]string{"{server}", "{host}", "a.net"}, map[string]string{"192.0.2.1": "can't be sent", "2001:db8::1": "can't be sent", "{x}": "{server} or {host}"}},
	"ssh_key": {[]string{validSSHKey}, map[string]string{
		"ssh-dss AAAA": "too short", "joe": "no public key", pemOfKey: "one line", "-----BEGIN OPENSSH PRIVATE KEY-----": "keep it to yourself",
		"ssh-ed25519 A%A": "can't be read", strings.Replace(validSSHKey, "ssh-ed25519", "ssh-rsa", 1): "inside it isn't ssh-rsa", "ssh-ed25519": "no public key",
	}},
	"status":      {[]string{"200", "2xx", "200-299"}, map[string]string{"20": "no status", "6xx": "no status", "600": "no status", "299-200": "rise", "200-": "no status"}},
	"text":        {[]string{"two\nlines\t€"}, map[string]string{"a\x00b": "control character", "\xff": "control character", strings.Repeat("x", maxText+1): "bytes long"}},
	"time_of_day": {[]string{"00:00", "23:59"}, map[string]string{"24:00": "no time", "7:30": "no time", "noon": "no time"}},
	"timezone":    {[]string{"UTC", "Europe/Amsterdam"}, map[string]string{"Local": "no time zone", "Mars": "no time zone", "../etc/passwd": "no time zone"}},
	"url":         {[]string{"https://ca.example.net/dir", "urn:uuid:f81d4fae"}, map[string]string{"ca.example.net": "no complete", "https://": "no complete", "https://a b": "no complete"}},
	"visitor":     {[]string{"joe@example.net", "Joe Doe"}, map[string]string{"a:b": "no colon", "a]": "brackets", "a\n": "control", strings.Repeat("x", 64): "at most 63"}},
}

func TestTextFormats(t *testing.T) {
	for name, check := range formats {
		tt, ok := formatTests[name]
		if !ok {
			t.Errorf("the format %s has no test", name)
		}
		for _, value := range tt.takes {
			if said := check(value); !said.none() {
				t.Errorf("format %s refuses %.80q: %s", name, value, said.message)
			}
		}
		for value, want := range tt.refuses {
			if said := check(value); !strings.Contains(said.message.String()+" "+said.hint.String(), want) {
				t.Errorf("format %s on %.80q: %q (%q), want %q", name, value, said.message, said.hint, want)
			}
		}
	}
}

// Every format is used by some field, and every one that a field uses is known.
func TestFormatsAreThoseOfTheFields(t *testing.T) {
	var used []string
	for _, f := range Fields() {
		if f.Format == "" {
			continue
		}
		used = append(used, f.Format)
		if formats[f.Format] == nil {
			t.Errorf("%s has the unknown format %s", f.Path, f.Format)
		}
	}
	for name := range formats {
		if !slices.Contains(used, name) {
			t.Errorf("no field has the format %s", name)
		}
	}
}

func TestPrivateKeyArmour(t *testing.T) {
	for value, want := range map[string]string{
		pemOfKey: "", pemOfCert: "no private key", "x": "no private key",
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X\n\nAAAA\n-----END RSA PRIVATE KEY-----\n": "is encrypted",
	} {
		if said := checkPrivateKey(value); !strings.Contains(said.message.String(), want) || said.none() != (want == "") {
			t.Errorf("checkPrivateKey(%q) = %q, want %q", value, said.message, want)
		}
	}
}

// FuzzFormats: no check falls over, whatever stands there.
func FuzzFormats(f *testing.F) {
	for _, tt := range formatTests {
		for _, value := range tt.takes {
			f.Add(value)
		}
		for value := range tt.refuses {
			f.Add(value)
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		if value == "" {
			t.Skip("no check is asked about an empty text")
		}
		for name, check := range formats {
			if said := check(value); len(said.message.String()) > 1000 {
				t.Errorf("format %s answers with %d bytes", name, len(said.message.String()))
			}
		}
	})
}
