package rule

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"sluis/internal/proxy/message"
)

func TestEditsOfRequests(t *testing.T) {
	set := func(field, value string) Rule {
		return Rule{SetHeader: &Header{Of: OfRequest, Field: field, Value: value}}
	}
	replace := func(field, find, with string) Rule {
		return Rule{ReplaceHeader: &HeaderReplace{Of: OfRequest, Field: field, Find: find, With: with}}
	}
	for _, test := range []struct {
		name string
		rule Rule
		head string
		want string // method, target and fields
	}{
		{"set in place of all", set("X-A", "new"), "GET / 1\nx-a: 1\nB: 2\nX-A: 3", "GET /\nB: 2\nX-A: new"},
		{"set a known name", set("User-Agent", "x"), "GET / 1\nuser-agent: 1", "GET /\nUser-Agent: x"},
		{"add", Rule{AddHeader: &Header{Of: OfRequest, Field: "X-A", Value: "new"}}, "GET / 1\nX-A: 1", "GET /\nX-A: 1\nX-A: new"},
		{"remove", Rule{RemoveHeader: &HeaderName{Of: OfRequest, Field: "x-a"}}, "GET / 1\nX-A: 1\nX-Ab: 2\nX-A: 3", "GET /\nX-Ab: 2"},
		{"replace each match in each field", replace("X-A", "b+", "<$0>"), "GET / 1\nX-A: abbab\nX-A: c\nX-A: b", "GET /\nX-A: a<bb>a<b>\nX-A: c\nX-A: <b>"},
		{"a group with text behind it", replace("X-A", "(a)(b)", "$2x$1$$$"), "GET / 1\nX-A: ab", "GET /\nX-A: bxa$$"},
		{"named groups", replace("X-A", "(?P<n>a)", "${n}${1}${x y}$n"), "GET / 1\nX-A: a", "GET /\nX-A: aa${x y}$n"},
		{"no line end gets in", replace("X-A", "b", "\r\nEvil:\x7f1\x00"), "GET / 1\nX-A: ab", "GET /\nX-A: a  Evil: 1"},
		{"names in braces", set("X-A", "{source} {source_port} {host} {path} {scheme} {frontend} {backend} {server}"), "GET /p?q 1\nHost: h:1", "GET /p?q\nHost: h:1\nX-A: 198.51.100.7 4711 h:1 /p http fe be srv"},
		{"other braces stand for themselves", set("X-A", "{{source}} {nobody} { {host"), "GET / 1\nHost: h", "GET /\nHost: h\nX-A: {198.51.100.7} {nobody} { {host"},
		{"a value of blanks", set("X-A", "{host}"), "GET / 1", "GET /\nX-A: "},
		{"host", set("Host", "new.example:80"), "GET / 1\nHost: h\nA: 1", "GET /\nHost: new.example:80\nA: 1"},
		{"a bad host is not sent", set("Host", "{path}"), "GET /x@y 1\nHost: h", "GET /x@y\nHost: h"},
		{"host replaced", replace("host", `^[^.]+\.`, "www."), "GET / 1\nHost: a.example", "GET /\nHost: www.example"},
		{"path", Rule{SetPath: "/new"}, "GET /old?q=1 1", "GET /new?q=1"},
		{"path of everything", Rule{SetPath: "/new"}, "OPTIONS * 1", "OPTIONS *"},
		{"path replaced", Rule{ReplacePath: &Replace{Find: "^/api/v([0-9])", With: "/v$1"}}, "GET /api/v2/x? 1", "GET /v2/x?"},
		{"path without a slash", Rule{ReplacePath: &Replace{Find: "^/a/", With: ""}}, "GET /a/b 1", "GET /b"},
		{"path with signs that end it", Rule{ReplacePath: &Replace{Find: "b", With: "?x y#\r\n"}}, "GET /abc?q 1", "GET /a%3Fx%20y%23%0D%0Ac?q"},
		{"path not found", Rule{ReplacePath: &Replace{Find: "x", With: "y"}}, "GET /a%2f%41?q 1", "GET /a%2f%41?q"},
		{"query", Rule{SetQuery: "a=1&b"}, "GET /p?q=1 1", "GET /p?a=1&b"},
		{"query with its sign", Rule{SetQuery: "?a b"}, "GET /p 1", "GET /p?a%20b"},
		{"query removed", Rule{SetQuery: "?"}, "GET /p?q=1 1", "GET /p"},
		{"method", Rule{SetMethod: "PUT"}, "POST / 1", "PUT /"},
	} {
		l := compile(t, Spec{Rules: []Rule{test.rule}})
		in := input(test.head)
		in.Frontend, in.Backend, in.Server = "fe", "be", "srv"
		var held Holds
		if v := l.Request(in, &held); v.Kind != None {
			t.Errorf("%s: verdict %+v", test.name, v)
		}
		r := in.Request
		got := strings.TrimRight(string(r.Method)+" "+string(r.Target)+"\n"+fieldText(r.Fields), "\n")
		if got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
		if host := r.Get(message.Host); host != nil && string(host) != string(r.Authority) {
			t.Errorf("%s: the authority is %q and the host %q", test.name, r.Authority, host)
		}
		if r.MethodID != message.LookupMethod(r.Method) {
			t.Errorf("%s: method %s has the number %d", test.name, r.Method, r.MethodID)
		}
	}
	if !compile(t, Spec{Rules: []Rule{set("X-A", "{backend}")}}).NamesServer() {
		t.Error("a list that names the backend does not say so")
	}
}

func TestAValueThatGrowsTooLongIsRefused(t *testing.T) {
	grow := strings.Repeat("$0", 100)
	l := compile(t, Spec{Rules: []Rule{
		{Name: "out", ReplaceHeader: &HeaderReplace{Of: OfResponse, Field: "X-A", Find: ".+", With: grow}},
		{Name: "in", ReplaceHeader: &HeaderReplace{Of: OfRequest, Field: "X-A", Find: ".+", With: grow}},
	}})
	long := strings.Repeat("a", 1000)
	in := input("GET / 1\nX-A: " + long)
	var held Holds
	if v := l.Request(in, &held); v.Kind != Deny || v.Status != 500 || v.Rule != "in" {
		t.Errorf("verdict %+v", v)
	}
	r := &message.Response{}
	r.Add([]byte("x-a"), []byte(long))
	l.Response(r, &held, in)
	if got := fieldText(r.Fields); got != "" {
		t.Errorf("the response keeps %.20q", got)
	}
	path := compile(t, Spec{Rules: []Rule{{Name: "in", SetHeader: &Header{Of: OfRequest, Field: "X-A", Value: strings.Repeat("{path}", 100)}}}})
	if v := path.Request(input("GET /"+long+" 1"), &held); v.Status != 500 {
		t.Errorf("verdict %+v", v)
	}
	if got := l.Stats().TooLong + path.Stats().TooLong; got != 3 {
		t.Errorf("counted %d, want 3", got)
	}
}

func TestLongValuesBeforeExpressionsAreSlow(t *testing.T) {
	acl := func(a ACL) *List {
		a.Name, a.Regex = "a", values("x$")
		return compile(t, Spec{ACLs: []ACL{a}, Rules: []Rule{{Name: "r", When: name("a"), Deny: &Refusal{}}}})
	}
	long := strings.Repeat("y", slowLength)
	for _, test := range []struct {
		list *List
		head string
	}{
		{acl(ACL{Match: MatchPath}), "GET /" + long + " 1"},
		{acl(ACL{Match: MatchQueryParameter, Field: "a"}), "GET /?a=" + long + "z 1"},
		{acl(ACL{Match: MatchHeader, Field: "X-A"}), "GET / 1\nx-a: " + long + "z"},
		{acl(ACL{Match: MatchCookie, Field: "a"}), "GET / 1\nCookie: a=" + long + "z"},
		{compile(t, Spec{Rules: []Rule{{ReplacePath: &Replace{Find: "x"}}}}), "GET /" + long + " 1"},
	} {
		var held Holds
		if in := input(strings.Replace(test.head, long, "short", 1)); test.list.Slow(in) {
			t.Errorf("slow already: %.30s", test.head)
		}
		in := input(test.head)
		if !test.list.Slow(in) {
			t.Errorf("not slow: %.30s", test.head)
		}
		if test.list.Request(in, &held); test.list.Stats().Slow != 1 {
			t.Errorf("counted %d: %.30s", test.list.Stats().Slow, test.head)
		}
	}
}

func TestRedirects(t *testing.T) {
	https := RedirectTo{Scheme: "https", Code: 301}
	for _, test := range []struct {
		name string
		to   RedirectTo
		head string
		tls  bool
		want string // status and Location, or 400
	}{
		{"scheme", https, "GET /a/b?c=d 1\nHost: x.example", false, "301 https://x.example/a/b?c=d"},
		{"scheme drops a port that speaks the other", https, "GET / 1\nHost: X.example:8080", false, "301 https://X.example/"},
		{"the same scheme keeps the port", RedirectTo{Scheme: "https", Prefix: "/x"}, "GET /a 1\nHost: x.example:8443", true, "302 https://x.example:8443/x/a"},
		{"IPv6", https, "GET / 1\nHost: [2001:db8::1]:80", false, "301 https://[2001:db8::1]/"},
		{"a dot at the end", https, "GET / 1\nHost: x.example.", false, "301 https://x.example/"},
		{"an empty port", RedirectTo{Scheme: "http"}, "GET / 1\nHost: x.example:", false, "302 http://x.example/"},
		{"empty query stays", https, "GET /a? 1\nHost: x", false, "301 https://x/a?"},
		{"query dropped", RedirectTo{Scheme: "https", DropQuery: true}, "GET /a?b 1\nHost: x", false, "302 https://x/a"},
		{"everything", https, "OPTIONS * 1\nHost: x", false, "301 https://x/"},
		{"no host", https, "GET / 1", false, "400"},
		{"host with a user", https, "GET / 1\nHost: good.example@evil.example", false, "400"},
		{"host of a dot", https, "GET / 1\nHost: .", false, "400"},
		{"host with an empty label", https, "GET / 1\nHost: x..example", false, "400"},
		{"host with two dots at its end", https, "GET / 1\nHost: x..", false, "400"},
		{"host with a path", https, "GET / 1\nHost: good.example/evil", false, "400"},
		{"host with a backslash", https, `GET / 1` + "\nHost: good.example\\evil", false, "400"},
		{"host with a line end", https, "GET / 1\nHost: x\rSet-Cookie: a=b", false, "400"},
		{"host and code", RedirectTo{Host: "new.example", Code: 308}, "GET /a?b 1\nHost: x:80", false, "308 http://new.example/a?b"},
		{"host alone needs no Host", RedirectTo{Host: "new.example:8443"}, "GET /a 1", true, "302 https://new.example:8443/a"},
		{"host that is IPv6", RedirectTo{Host: "2001:db8::1"}, "GET / 1", false, "302 http://[2001:db8::1]/"},
		{"path", RedirectTo{Path: "/login?from=x", Code: 303}, "GET /a?b 1\nHost: x", false, "303 /login?from=x"},
		{"path at a host", RedirectTo{Host: "n.example", Path: "/new", Code: 307}, "GET /a?b 1\nHost: x", false, "307 http://n.example/new"},
		{"prefix", RedirectTo{Prefix: "/app"}, "GET /a?b 1\nHost: x", false, "302 /app/a?b"},
		{"prefix and drop-query", RedirectTo{Prefix: "/app", DropQuery: true}, "GET /a?b 1\nHost: x", false, "302 /app/a"},
		{"prefix / adds nothing", RedirectTo{Prefix: "/", DropQuery: true}, "GET /a?b 1\nHost: x", false, "302 /a"},
		{"another host in the path", RedirectTo{DropQuery: true}, "GET //evil.example/%2e?b 1\nHost: x", false, "302 /.//evil.example/%2e"},
		{"a backslash is no slash", RedirectTo{DropQuery: true}, `GET /\evil.example?b 1`, false, "302 /%5Cevil.example"},
		{"bytes beyond ASCII", RedirectTo{Prefix: "/é"}, "GET /\xff\"<> 1\nHost: x", false, "302 /%C3%A9/%FF%22%3C%3E"},
	} {
		to := test.to
		l := compile(t, Spec{Rules: []Rule{{Name: "r", Redirect: &to}}})
		in := input(test.head)
		in.TLS = test.tls
		var held Holds
		v := l.Request(in, &held)
		got := strings.TrimSpace(string([]byte{byte('0' + v.Status/100), byte('0' + v.Status/10%10), byte('0' + v.Status%10)}) + " " + string(v.Location))
		if got != test.want || (v.Kind == Redirect) != (v.Location != nil) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// FuzzRedirects: no request leads its client out of the site, or writes a second
// field.
func FuzzRedirects(f *testing.F) {
	for _, host := range []string{"x.example:80", "a@b", "[::1]:8", "x.example.", "é", "."} {
		for _, target := range []string{"/a?b", "//evil.example", "/\\evil", "/..//evil", "*", "/\r\nSet-Cookie: a=b", "/\t/evil.example"} {
			f.Add(host, target, byte(0))
			f.Add(host, target, byte(7))
		}
	}
	f.Fuzz(func(t *testing.T, authority, target string, kind byte) {
		if target == "" {
			t.Skip()
		}
		to := RedirectTo{DropQuery: kind&1 != 0}
		if kind&2 != 0 {
			to.Scheme = "https"
		}
		if kind&4 != 0 {
			to.Prefix = "/app"
		}
		if kind&8 != 0 {
			to.Host = "other.example"
		}
		l := compile(t, Spec{Rules: []Rule{{Name: "r", Redirect: &to}}})
		in := &Input{Request: &message.Request{Authority: []byte(authority)}, Arena: &Arena{}}
		in.Request.SetTarget([]byte(target))
		var held Holds
		v := l.Request(in, &held)
		if v.Kind != Redirect {
			return
		}
		for _, c := range v.Location {
			if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
				t.Fatalf("Location %q holds %q", v.Location, c)
			}
		}
		base := &url.URL{Scheme: "http", Host: "base.example", Path: "/x/y"}
		u, err := base.Parse(string(v.Location))
		if err != nil {
			if strings.Contains(err.Error(), "invalid URL escape") || strings.Contains(err.Error(), "invalid IPv6") || strings.Contains(err.Error(), "in host") {
				return // the request's own escapes are left alone
			}
			t.Fatalf("Location %q: %v", v.Location, err)
		}
		want := "base.example"
		switch {
		case to.Host != "":
			want = to.Host
		case to.Scheme != "":
			want, _, _ = strings.Cut(authority, ":")
			if strings.HasPrefix(authority, "[") {
				want = authority[:strings.IndexByte(authority, ']')+1]
			}
			want = strings.TrimSuffix(want, ".")
		}
		if u.Host != want || u.User != nil {
			t.Errorf("a request for %q at %q is led to %q: host %q, want %q", target, authority, v.Location, u.Host, want)
		}
	})
}

func TestBasicAuthentication(t *testing.T) {
	l := compile(t, Spec{Rules: []Rule{
		{Name: "visitors", Authenticate: &BasicAuth{Realm: `the "lab"`, Users: []User{{"jan", "geheim"}, {"eva", "a:b é"}}}},
		{Name: "in", Deny: &Refusal{Status: 418}},
	}})
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for fields, want := range map[string]bool{
		"": false,
		"Authorization: Basic " + encode("jan:geheim"):                                                    true,
		"authorization: bAsIC   " + encode("jan:geheim"):                                                  true,
		"Authorization: Basic " + encode("eva:a:b é"):                                                     true,
		"Authorization: Basic " + encode("jan:Geheim"):                                                    false,
		"Authorization: Basic " + encode("jan:"):                                                          false,
		"Authorization: Basic " + encode("jan:a:b é"):                                                     false,
		"Authorization: Basic " + encode("jan"):                                                           false,
		"Authorization: Basic " + encode(""):                                                              false,
		"Authorization: Basic ":                                                                           false,
		"Authorization: Basic " + encode("jan:geheim")[1:]:                                                false,
		"Authorization: Bearer " + encode("jan:geheim"):                                                   false,
		"Authorization: Basic " + encode("jan:"+strings.Repeat("x", 4096)):                                false,
		"Authorization: Basic " + encode("eva:x") + "\nAuthorization: Basic " + encode("jan:geheim"):      false,
		"Authorization: Basic " + encode("jan:geheim") + "\nAuthorization: Basic " + encode("jan:geheim"): false,
	} {
		in := input(strings.TrimSpace("GET / 1\n" + fields))
		var held Holds
		var v Verdict
		allocs := testing.AllocsPerRun(10, func() { v = l.Request(in, &held) })
		if (v.Status == 418) != want || (v.Status == 401) == want || allocs != 0 {
			t.Errorf("%s: %+v, want passed %t; %v allocations", fields, v, want, allocs)
		}
		if v.Kind == Authenticate && (v.Realm != `the "lab"` || string(v.Challenge) != `Basic realm="the \"lab\"", charset="UTF-8"`) {
			t.Errorf("realm %q, challenge %q", v.Realm, v.Challenge)
		}
	}
}

func TestArenaLetsGoOfMuch(t *testing.T) {
	var a Arena
	first := append(a.Take(3), "abc"...)
	big := a.Take(maxKept + 1)
	if string(first) != "abc" || cap(big) != maxKept+1 {
		t.Fatalf("%q, %d", first, cap(big))
	}
	if a.Reset(); a.Dropped != 1 || a.room != nil {
		t.Errorf("dropped %d, kept %d", a.Dropped, len(a.room))
	}
	if a.Take(10); testing.AllocsPerRun(10, func() { a.Reset(); a.Take(1000) }) != 0 {
		t.Error("the arena allocates again")
	}
}

func TestQuestionsGiveTheirRoomBack(t *testing.T) {
	spec := Spec{}
	for i := range 50 {
		acl := string(rune('a'+i%26)) + string(rune('a'+i/26))
		spec.ACLs = append(spec.ACLs, ACL{Name: acl, Match: MatchHeader, Field: "X-A", Contains: values("no")})
		spec.Rules = append(spec.Rules, Rule{Name: acl, When: name(acl), Deny: &Refusal{}})
	}
	l, in := compile(t, spec), input("GET / 1\nX-A: "+strings.Repeat("A", 10_000))
	var held Holds
	l.Request(in, &held)
	if in.Arena.used != 0 || len(in.Arena.room) > 20_000 {
		t.Errorf("50 questions use %d of %d bytes", in.Arena.used, len(in.Arena.room))
	}
}
