package rule

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// asks holds one ACL against one request.
func asks(t *testing.T, a ACL, in *Input, want bool) {
	t.Helper()
	a.Name = "asked"
	l := compile(t, Spec{Backends: []string{"b0", "b1"}, ACLs: []ACL{a}, Rules: []Rule{{Name: "r", When: name("asked"), Deny: &Refusal{}}}})
	var held Holds
	if got := l.Request(in, &held).Kind == Deny; got != want {
		t.Errorf("%+v\nof %s %s %q = %t, want %t", a, in.Request.Method, in.Request.Target, in.Request.Fields, got, want)
	}
}

// many are values enough to be looked up.
func many(prefix, suffix string) (out []string) {
	for i := range 1000 {
		out = append(out, prefix+fmt.Sprint(i)+suffix)
	}
	return out
}

func get(target string) *Input { return input("GET " + target + " HTTP/1.1\nHost: a") }

// TestG58HostACLs: one frontend, several sites. What the guide asks for by two
// beginnings of the Host is better asked by the whole name with any port.
func TestG58HostACLs(t *testing.T) {
	starts := ACL{Match: MatchHost, Starts: values("name.example:443", "name.example")}
	is := ACL{Match: MatchHost, Is: values("name.example"), AnyPort: true}
	exact := ACL{Match: MatchHost, Is: values("name.example", "name.example:443")}
	v6 := ACL{Match: MatchHost, Is: values("2001:db8::1", "[2001:DB8:0::2]:8443")}
	host := func(authority string) *Input { return input("GET / HTTP/1.1\nHost: " + authority) }
	for authority, want := range map[string][3]bool{ // starts, is with any port, is as sent
		"name.example":                   {true, true, true},
		"NAME.Example":                   {true, true, true},
		"name.example:443":               {true, true, true},
		"name.example:8443":              {true, true, false},
		"name.example.":                  {true, true, true},
		"name.example.:443":              {true, true, true},
		"name.example.evil.example":      {true, false, false}, // why starts is the wrong question
		"name.example.evil.example:443":  {true, false, false},
		"www.name.example":               {false, false, false},
		"name.exampl":                    {false, false, false},
		"name.example:x":                 {true, false, false},
		"name.example@evil.example":      {true, false, false},
		"user@name.example":              {false, false, false},
		"name.example:":                  {true, true, true},
		"xn--nme-qla.example:443":        {false, false, false},
		strings.Repeat("a", 300) + ".ab": {false, false, false},
	} {
		asks(t, starts, host(authority), want[0])
		asks(t, is, host(authority), want[1])
		asks(t, exact, host(authority), want[2])
	}
	asks(t, is, host(""), false)
	asks(t, is, input("GET / HTTP/1.0"), false)
	asks(t, v6, host("[2001:db8::1]"), true)
	asks(t, v6, host("[2001:DB8:0:0::1]"), true)
	asks(t, v6, host("[2001:db8::1]:443"), false)
	asks(t, v6, host("[2001:db8::2]:8443"), true)
	asks(t, ACL{Match: MatchHost, Ends: values(".Example.NET."), Contains: values("Beta")}, host("a.example.net"), true)
	asks(t, ACL{Match: MatchHost, Ends: values(".example.net")}, host("example.net"), false)
	asks(t, ACL{Match: MatchHost, Contains: values("Beta")}, host("a.BETA.example"), true)
	asks(t, ACL{Match: MatchHost, Regex: values(`^[a-c]\.example$`), AnyPort: true, CaseSensitive: true}, host("B.example:80"), true)
	asks(t, ACL{Match: MatchHost, Is: many("site", ".example"), AnyPort: true}, host("Site999.example:8"), true)
	asks(t, ACL{Match: MatchHost, Is: many("site", ".example")}, host("site1000.example"), false)
}

func TestPathAndQueryACLs(t *testing.T) {
	path := ACL{Match: MatchPath, Is: values("/login"), Starts: values("/api/"), Ends: values(".PNG"), Contains: values("/../"), Segments: values("admin")}
	asks(t, path, get("/login"), true)
	asks(t, path, get("/LOGIN?x"), true)
	asks(t, path, get("/login/"), false)
	asks(t, path, get("/api/"), true)
	asks(t, path, get("/api"), false)
	asks(t, path, get("/x.png"), true)
	asks(t, path, get("/x?y=.png"), false)
	asks(t, path, get("/a/../b"), true)
	asks(t, path, get("/a/Admin/b"), true)
	asks(t, path, get("/a/admin"), true) // as HAProxy's path_dir
	asks(t, path, get("/a/administrator"), false)
	asks(t, path, get("/%61dmin"), false) // nothing is decoded
	asks(t, path, input("OPTIONS * HTTP/1.1\nHost: a"), false)
	asks(t, ACL{Match: MatchPath, Is: values("/Login"), CaseSensitive: true}, get("/login"), false)
	asks(t, ACL{Match: MatchPath, Segments: values("Admin"), CaseSensitive: true}, get("/Admin"), true)
	asks(t, ACL{Match: MatchPath, Starts: many("/s", "/")}, get("/s77/x"), true)
	asks(t, ACL{Match: MatchPath, Starts: many("/s", "/")}, get("/s999/"), true)
	asks(t, ACL{Match: MatchPath, Segments: values("")}, get("//"), false)
	asks(t, ACL{Match: MatchPath, Starts: many("/s", "/")}, get("/s77x/"), false)
	asks(t, ACL{Match: MatchPath, Ends: many(".s", "")}, get("/x.s77"), true)
	asks(t, ACL{Match: MatchPath, Ends: many(".s", "")}, get("/s77"), false)
	asks(t, ACL{Match: MatchPath, Regex: values(`^/(img|css)/`)}, get("/IMG/x"), true)
	asks(t, ACL{Match: MatchPath, Regex: values(`^/(img|css)/`), CaseSensitive: true}, get("/IMG/x"), false)

	query := ACL{Match: MatchQueryParameter, Field: "id", Is: values("7", "")}
	asks(t, query, get("/?a=1&id=7"), true)
	asks(t, query, get("/?id=8&id=7"), true)
	asks(t, query, get("/?id=8;id=7"), true)
	asks(t, query, get("/?xid=7"), false)
	asks(t, query, get("/?ID=7"), false)
	asks(t, query, get("/?id"), true)
	asks(t, query, get("/id=7"), false)
	asks(t, ACL{Match: MatchQueryParameter, Field: "id", Present: true}, get("/?id=9"), true)
}

func TestFieldACLs(t *testing.T) {
	list := ACL{Match: MatchHeader, Field: "Accept-Encoding", Is: values("gzip"), Ends: values("deflate")}
	accept := func(values ...string) *Input {
		return input("GET / HTTP/1.1\naccept-encoding: " + strings.Join(values, "\nACCEPT-ENCODING: "))
	}
	asks(t, list, accept("gzip"), true)
	asks(t, list, accept("br, GZIP ,x"), true)
	asks(t, list, accept("br", "gzip"), true)
	asks(t, list, accept(`br, "a, gzip", x`), false)
	asks(t, list, accept("br, deflate, x"), true)
	asks(t, list, accept("gzipped"), false)
	asks(t, ACL{Match: MatchHeader, Field: "X-Unknown-Name", Present: true}, input("GET / HTTP/1.1\nx-unknown-NAME:"), true)
	asks(t, ACL{Match: MatchHeader, Field: "X-Unknown-Name", Present: true}, input("GET / HTTP/1.1\nx-unknown-other: 1"), false)
	asks(t, ACL{Match: MatchHeader, Field: "x-a", Regex: values("^b")}, input("GET / HTTP/1.1\nX-A: a,b"), true)

	cookie := ACL{Match: MatchCookie, Field: "lang", Is: values("nl")}
	asks(t, cookie, input("GET / HTTP/1.1\nCookie: a=1; lang=NL"), true)
	asks(t, cookie, input("GET / HTTP/1.1\nCookie: a=1\nCookie: lang = nl"), true)
	asks(t, cookie, input("GET / HTTP/1.1\nCookie: a=lang=nl; LANG=nl; lang"), false)
	asks(t, ACL{Match: MatchCookie, Field: "lang", Present: true}, input("GET / HTTP/1.1\nCookie: lang="), true)
}

func TestOriginACLs(t *testing.T) {
	networks := func(texts ...string) (out []netip.Prefix) {
		for _, s := range texts {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	asks(t, ACL{Match: MatchMethod, Is: values("post")}, input("POST / HTTP/1.1"), true)
	asks(t, ACL{Match: MatchMethod, Is: values("post"), CaseSensitive: true}, input("POST / HTTP/1.1"), false)
	source := ACL{Match: MatchSource, In: networks("198.51.100.0/24", "::ffff:192.0.2.0/120", "2001:db8::/32", "10.0.0.0/8", "10.1.0.0/16")}
	for address, want := range map[string]bool{
		"198.51.100.255": true, "198.51.101.0": false, "192.0.2.9": true, "::ffff:192.0.2.9": true, "10.255.0.1": true,
		"2001:db8:ffff::1": true, "2001:db9::": false, "2001:db8::1%eth0": true, "0.0.0.0": false,
	} {
		in := get("/")
		in.Source = netip.MustParseAddr(address)
		asks(t, source, in, want)
	}

	in := get("/")
	in.TLS, in.SNI, in.ClientCommonName, in.ClientIssuer, in.HTTP2 = true, "WWW.example.net", "Jan", "Lab CA", true
	in.Usable = func(backend int) int { return backend }
	asks(t, ACL{Match: MatchSNI, Ends: values(".example.net")}, in, true)
	asks(t, ACL{Match: MatchSNI, Starts: values("")}, get("/"), false)
	asks(t, ACL{Match: MatchClientCertificate, Is: values("jan")}, in, true)
	asks(t, ACL{Match: MatchClientIssuer, Is: values("lab ca"), CaseSensitive: true}, in, false)
	asks(t, ACL{Match: MatchUsableServers, Backend: "b1", AtLeast: 1}, in, true)
	asks(t, ACL{Match: MatchUsableServers, Backend: "b0", AtLeast: 1}, in, false)
}
