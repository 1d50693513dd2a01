package persist

import (
	"strings"
	"testing"
	"time"

	"sluis/internal/proxy/message"
)

// now is a moment for all tests, and dated what HAProxy writes for a moment: the
// quarter of the seconds as five signs of base64, rounded up when it is written.
const now = 1_700_000_002

func dated(seconds int64) string { return string(appendDate(nil, seconds)) }

func compile(t testing.TB, spec CookieSpec) *Cookie {
	t.Helper()
	if spec.Name == "" {
		spec.Name = "SRV"
	}
	if spec.Mode == "" {
		spec.Mode = Insert
	}
	if spec.Values == nil {
		spec.Values = []string{"w1", "w2", ""}
	}
	c, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(cookies ...string) *message.Request {
	r := &message.Request{}
	r.Reset()
	r.Add([]byte("Host"), []byte("x"))
	for _, c := range cookies {
		r.Add([]byte("cookie"), []byte(c))
	}
	return r
}

func texts(fields []message.Field, id message.ID) string {
	var values []string
	for _, f := range fields {
		if f.ID == id && len(f.Name) > 0 {
			values = append(values, string(f.Value))
		}
	}
	return strings.Join(values, "\n")
}

func TestDatesAreHAProxys(t *testing.T) {
	// Computed by its s30tob64.
	for text, seconds := range map[string]int64{"AAAAA": 0, "AAAAB": 4, "ZVPxA": 1_700_000_000, "////+": (1<<30 - 2) * 4, "/////": (1<<30 - 1) * 4} {
		if got := dated(seconds); got != text {
			t.Errorf("appendDate(%d) = %s, want %s", seconds, got, text)
		}
		if got := decodeDate([]byte(text + "x")); got != seconds {
			t.Errorf("decodeDate(%s) = %d, want %d", text, got, seconds)
		}
	}
	for _, bad := range []string{"", "AAAA", "AAA=A", "AAA-A", "AAAA|", "AAAA\xff"} {
		if got := decodeDate([]byte(bad)); got != 0 {
			t.Errorf("decodeDate(%q) = %d", bad, got)
		}
	}
}

func TestRequests(t *testing.T) {
	direct := CookieSpec{Indirect: true}
	limits := CookieSpec{Indirect: true, MaxIdle: 30 * time.Minute, MaxLife: 8 * time.Hour}
	prefix := CookieSpec{Mode: Prefix, Name: "JSESSIONID"}
	old, older := dated(now-1801), dated(now-8*3600-4)
	for _, test := range []struct {
		name    string
		spec    CookieSpec
		cookies string
		found   Found
		want    string // the Cookie fields that the server sees
	}{
		{"none", direct, "", Found{Server: -1}, ""},
		{"alone", direct, "SRV=w2", Found{Server: 1, Had: true}, ""},
		{"first", direct, "SRV=w1; a=1; b=2", Found{Server: 0, Had: true}, "a=1; b=2"},
		{"middle", direct, "a=1; SRV=w1; b=2", Found{Server: 0, Had: true}, "a=1; b=2"},
		{"last", direct, "a=1; b=2; SRV=w1", Found{Server: 0, Had: true}, "a=1; b=2"},
		{"odd blanks", direct, "a=1 ;SRV = w1\t;b=2", Found{Server: 0, Had: true}, "a=1; b=2"},
		{"empty parts go with it", direct, ";; a=1;; SRV=w1 ;;", Found{Server: 0, Had: true}, "a=1"},
		{"empty parts stay without it", direct, "a=1;; b=2", Found{Server: -1}, "a=1;; b=2"},
		{"several fields", direct, "a=1\nSRV=w1\nb=2; SRV=w2", Found{Server: 0, Had: true}, "a=1\nb=2"},
		{"the first that names a server", direct, "SRV=gone; SRV=; SRV=w2; SRV=w1", Found{Server: 1, Had: true}, ""},
		{"nobody's value", direct, "SRV=w3; a=1", Found{Server: -1, Had: true}, "a=1"},
		{"names like it", direct, "XSRV=w1; SRVX=w1; srv=w1; SRV; a=SRV=w1", Found{Server: -1}, "XSRV=w1; SRVX=w1; srv=w1; SRV; a=SRV=w1"},
		{"commas and quotes are bytes", direct, `a="x; SRV=w1; b=y", SRV=w2`, Found{Server: 0, Had: true}, `a="x; b=y", SRV=w2`},
		{"not indirect", CookieSpec{}, "a=1;SRV=w1;b=2", Found{Server: 0, Had: true}, "a=1;SRV=w1;b=2"},
		{"rewrite", CookieSpec{Mode: Rewrite, Indirect: true}, "SRV=w1", Found{Server: 0, Had: true}, "SRV=w1"},
		{"passive", CookieSpec{Mode: Passive}, "SRV=w2; a=1", Found{Server: 1, Had: true}, "SRV=w2; a=1"},
		{"prefix", prefix, "a=1; JSESSIONID=w2~abc~d; b=2", Found{Server: 1, Had: true}, "a=1; JSESSIONID=abc~d; b=2"},
		{"prefix of nobody", prefix, "JSESSIONID=w9~abc", Found{Server: -1, Had: true}, "JSESSIONID=abc"},
		{"prefix missing", prefix, "JSESSIONID = abc;x=1", Found{Server: -1, Had: true}, "JSESSIONID = abc; x=1"},
		{"prefix and nothing", prefix, "JSESSIONID=w1~", Found{Server: 0, Had: true}, "JSESSIONID="},
		{"dates", limits, "SRV=w1|" + dated(now) + "|" + dated(now-3600), Found{Server: 0, Had: true, Last: now - 2, First: now - 3602}, ""},
		{"dates where none are asked", direct, "SRV=w1|" + dated(now-99999) + "|" + dated(now-99999), Found{Server: 0, Had: true, Last: now - 100002, First: now - 100002}, ""},
		{"no dates", limits, "SRV=w1", Found{Server: 0, Had: true}, ""},
		{"broken dates", limits, "SRV=w1|AAA|????!", Found{Server: 0, Had: true}, ""},
		{"idle too long", limits, "SRV=w1|" + old + "|" + old, Found{Server: -1, Had: true, Expired: true}, ""},
		{"idle almost too long", limits, "SRV=w1|" + dated(now-1798), Found{Server: 0, Had: true, Last: now - 1798}, ""},
		{"lived too long", limits, "SRV=w1|" + dated(now) + "|" + older, Found{Server: -1, Had: true, Expired: true}, ""},
		{"a little ahead", limits, "SRV=w1|" + dated(now+86000) + "|" + dated(now+86000), Found{Server: 0, Had: true, Last: now + 85998, First: now + 85998}, ""},
		{"far ahead", limits, "SRV=w1|" + dated(now+86500), Found{Server: -1, Had: true, Expired: true}, ""},
		{"expired, then good", limits, "SRV=w1|" + old + "; SRV=w2", Found{Server: 1, Had: true}, ""},
	} {
		c := compile(t, test.spec)
		r := request()
		if test.cookies != "" {
			r = request(strings.Split(test.cookies, "\n")...)
		}
		found, _ := c.Request(nil, r, now)
		if found != test.found {
			t.Errorf("%s: found %+v, want %+v", test.name, found, test.found)
		}
		if got := texts(r.Fields, message.Cookie); got != test.want {
			t.Errorf("%s: the server sees %q, want %q", test.name, got, test.want)
		}
	}
}

func TestResponses(t *testing.T) {
	none, onFirst := Found{Server: -1}, Found{Server: 0, Had: true}
	limits := CookieSpec{MaxIdle: time.Hour, MaxLife: 8 * time.Hour}
	at, later := dated(now+3), Found{Server: 0, Had: true, Last: now - 10, First: now - 100}
	gone := "SRV=; Expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/"
	for _, test := range []struct {
		name   string
		spec   CookieSpec
		found  Found
		server int
		sets   string // the server's own Set-Cookie fields
		want   string // the client's
		cache  string // Cache-Control, - and then the server's own
	}{
		{"insert", CookieSpec{}, none, 1, "", "SRV=w2; path=/", "private"},
		{"insert beside others", CookieSpec{}, none, 1, "a=1; path=/x", "a=1; path=/x\nSRV=w2; path=/", "private"},
		{"known", CookieSpec{}, onFirst, 0, "", "", ""},
		{"another server", CookieSpec{}, onFirst, 1, "", "SRV=w2; path=/", "private"},
		{"a server without a value", CookieSpec{}, onFirst, 2, "", gone, "private"},
		{"our own answer", CookieSpec{}, none, -1, "SRV=x", "SRV=x", ""},
		{"in place of the server's", CookieSpec{}, none, 0, "SRV=x; Secure\nb=2", "b=2\nSRV=w1; path=/", "private"},
		{"the server's goes where it is known", CookieSpec{Indirect: true}, onFirst, 0, "SRV = x\nSRVX=y", "SRVX=y", ""},
		{"preserve", CookieSpec{Preserve: true, Indirect: true}, none, 0, "SRV=; Max-Age=0", "SRV=; Max-Age=0", ""},
		{"preserve without one", CookieSpec{Preserve: true}, none, 0, "a=1", "a=1\nSRV=w1; path=/", "private"},
		{"attributes", CookieSpec{Secure: true, HTTPOnly: true, Partitioned: true, SameSite: SameSiteNone, Domains: []string{".a.example", "b.example"}}, none, 0, "", "SRV=w1; path=/; domain=.a.example; domain=b.example; HttpOnly; Secure; SameSite=None; Partitioned", "private"},
		{"cacheable", CookieSpec{Cacheable: true}, none, 0, "", "SRV=w1; path=/", ""},
		{"kept from caches already", CookieSpec{}, none, 0, "-max-age=0, No-Store", "SRV=w1; path=/", "max-age=0, No-Store"},
		{"cached otherwise", CookieSpec{}, none, 0, `-public, max-age=60, no-cache="a"`, "SRV=w1; path=/", `public, max-age=60, no-cache="a"` + "\nprivate"},
		{"dates", limits, none, 0, "", "SRV=w1|" + at + "|" + at + "; path=/", "private"},
		{"idle alone", CookieSpec{MaxIdle: time.Hour}, none, 0, "", "SRV=w1|" + at + "; path=/", "private"},
		{"refreshed, the first date stays", limits, later, 0, "", "SRV=w1|" + at + "|" + dated(now-100) + "; path=/", "private"},
		{"moved, the first date stays", limits, later, 1, "", "SRV=w2|" + at + "|" + dated(now-100) + "; path=/", "private"},
		{"refreshed this moment", limits, Found{Server: 0, Had: true, Last: now, First: now}, 0, "", "", ""},
		{"dates are added", limits, onFirst, 0, "", "SRV=w1|" + at + "|" + at + "; path=/", "private"},
		{"dates are dropped", CookieSpec{}, later, 0, "", "SRV=w1; path=/", "private"},
		{"the first date is dropped", CookieSpec{}, Found{Server: 0, Had: true, Last: now, First: now - 100}, 0, "", "SRV=w1; path=/", "private"},
		{"expired", limits, Found{Server: -1, Had: true, Expired: true}, 0, "", "SRV=w1|" + at + "|" + at + "; path=/", "private"},
		{"rewrite", CookieSpec{Mode: Rewrite}, none, 1, "SRV=; Path=/; Expires=Thu, 01 Jan 2037 00:00:00 GMT\na=SRV", "SRV=w2; Path=/; Expires=Thu, 01 Jan 2037 00:00:00 GMT\na=SRV", ""},
		{"rewrite without one", CookieSpec{Mode: Rewrite}, none, 1, "", "", ""},
		{"rewrite, server without a value", CookieSpec{Mode: Rewrite}, none, 2, "SRV=x", "SRV=x", ""},
		{"rewrite, indirect", CookieSpec{Mode: Rewrite, Indirect: true}, onFirst, 0, "SRV=x", "", ""},
		{"prefix", CookieSpec{Mode: Prefix}, none, 0, "SRV=abc; Secure", "SRV=w1~abc; Secure", ""},
		{"prefix of nothing", CookieSpec{Mode: Prefix}, none, 0, "SRV=", "SRV=w1~", ""},
		{"passive", CookieSpec{Mode: Passive}, none, 0, "SRV=w1; path=/", "SRV=w1; path=/", ""},
		{"passive, indirect", CookieSpec{Mode: Passive, Indirect: true}, onFirst, 0, "SRV=w1\na=1", "a=1", ""},
	} {
		c := compile(t, test.spec)
		r := &message.Response{Status: 200}
		for sets := range strings.SplitSeq(test.sets, "\n") {
			if cache, ok := strings.CutPrefix(sets, "-"); ok {
				r.Add([]byte("cache-control"), []byte(cache))
			} else if sets != "" {
				r.Add([]byte("set-cookie"), []byte(sets))
			}
		}
		c.Response(nil, r, test.found, test.server, now, message.GET)
		if got := texts(r.Fields, message.SetCookie); got != test.want {
			t.Errorf("%s: the client gets %q, want %q", test.name, got, test.want)
		}
		if got := texts(r.Fields, message.CacheControl); got != test.cache {
			t.Errorf("%s: Cache-Control %q, want %q", test.name, got, test.cache)
		}
	}
}

func TestOnlySomeAnswersSetTheCookie(t *testing.T) {
	post := compile(t, CookieSpec{PostOnly: true})
	always := compile(t, CookieSpec{})
	f := func(c *Cookie, status int, method message.Method, want string) {
		t.Helper()
		r := &message.Response{Status: status}
		c.Response(nil, r, Found{Server: -1}, 0, now, method)
		if got := texts(r.Fields, message.SetCookie); got != want {
			t.Errorf("status %d of method %d sets %q, want %q", status, method, got, want)
		}
	}
	f(post, 200, message.GET, "")
	f(post, 200, message.POST, "SRV=w1; path=/")
	f(always, 404, message.HEAD, "SRV=w1; path=/")
	f(always, 100, message.GET, "")
	f(always, 103, message.GET, "")
	f(always, 101, message.GET, "SRV=w1; path=/")
}

func TestCompileRefuses(t *testing.T) {
	for want, spec := range map[string]CookieSpec{
		`"" is no name`:          {},
		`"a=b" is no name`:       {Name: "a=b"},
		`"a\r\nb: c" is no name`: {Name: "a\r\nb: c"},
		`there is no mode ""`:    {Name: "a"},
		`"x;y" is no value`:      {Name: "a", Mode: Insert, Values: []string{"x;y"}},
		`"x y" is no domain`:     {Name: "a", Mode: Insert, Domains: []string{"x y"}},
		`SameSite can't be "x"`:  {Name: "a", Mode: Insert, SameSite: "x"},
	} {
		if _, err := Compile(spec); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Compile: %v, want %s", err, want)
		}
	}
}

// FuzzHiding: all other cookies reach the server byte for byte and in their order,
// ours does not, and no part is empty.
func FuzzHiding(f *testing.F) {
	for _, s := range []string{"a=1; SRV=w1; b=2", "SRV=w1", ";;SRV=w1;;", " SRV = w1 ;\ta", "a=b;; c=d", `a="x;SRV=w1";SRV`, "SRV=1;SRV=2;;SRV"} {
		f.Add(s, byte(0))
		f.Add(strings.ReplaceAll(s, "w1", "w1~x"), byte(1))
	}
	f.Fuzz(func(t *testing.T, value string, mode byte) {
		spec := CookieSpec{Indirect: true}
		if mode&1 != 0 {
			spec = CookieSpec{Mode: Prefix}
		}
		var want []string
		ours := false
		for part := range strings.SplitSeq(value, ";") {
			part = strings.Trim(part, " \t")
			name, own, pair := strings.Cut(part, "=")
			if pair && strings.Trim(name, " \t") == "SRV" {
				ours = true
				_, behind, prefixed := strings.Cut(own, "~")
				switch {
				case spec.Mode != Prefix:
					continue
				case prefixed:
					part = "SRV=" + behind
				}
			}
			if part != "" {
				want = append(want, part)
			}
		}
		wanted := strings.Join(want, "; ")
		if !ours {
			wanted = value
		}
		r := request(value)
		sent := string(r.Fields[1].Value)
		found, _ := compile(t, spec).Request(make([]byte, 3, 5), r, now)
		if found.Had != ours || sent != value {
			t.Fatalf("had %t, want %t; the value is now %q", found.Had, ours, sent)
		}
		if got := texts(r.Fields, message.Cookie); got != wanted {
			t.Errorf("%q reaches the server as %q, want %q", value, got, wanted)
		}
		if ours && wanted == "" && len(r.Fields[1].Name) > 0 {
			t.Errorf("%q leaves an empty field", value)
		}
	})
}

func TestCookiesAllocateNothing(t *testing.T) {
	c := compile(t, CookieSpec{Indirect: true, MaxIdle: time.Hour, MaxLife: time.Hour})
	cookies := []byte("a=1; SRV=w1|" + dated(now-60) + "; b=2")
	r, response := request("x"), &message.Response{Status: 200}
	response.Reset()
	name, room := []byte("Cookie"), make([]byte, 0, 512)
	if got := testing.AllocsPerRun(100, func() {
		r.Fields[1].Name, r.Fields[1].Value = name, cookies
		found, dst := c.Request(room, r, now)
		response.Status, response.Fields = 200, response.Fields[:0]
		c.Response(dst, response, found, 0, now, message.GET)
	}); got != 0 {
		t.Errorf("a request and its response allocate %v times", got)
	}
	if got := texts(r.Fields, message.Cookie) + "\n" + texts(response.Fields, message.SetCookie); got != "a=1; b=2\nSRV=w1|"+dated(now+3)+"|"+dated(now+3)+"; path=/" {
		t.Error(got)
	}
}

func BenchmarkRequestAndResponse(b *testing.B) {
	c := compile(b, CookieSpec{Indirect: true})
	cookies := []byte("JSESSIONID=0123456789ABCDEF; SRV=w1; lang=nl")
	r, response := request("x"), &message.Response{}
	response.Reset()
	name, room := []byte("Cookie"), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		r.Fields[1].Name, r.Fields[1].Value = name, cookies
		found, dst := c.Request(room, r, now)
		response.Status, response.Fields = 200, response.Fields[:0]
		c.Response(dst, response, found, 0, now, message.GET)
	}
}
