package rule

import (
	"fmt"
	"net/netip"
	"testing"

	"sluis/internal/proxy/message"
)

// typical is a list such as a busy site has.
func typical(t testing.TB) (*List, *Input) {
	l := compile(t, Spec{
		Backends: []string{"web", "api", "chat"},
		ACLs: []ACL{
			{Name: "office", Match: MatchSource, In: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}},
			{Name: "bots", Match: MatchHeader, Field: "User-Agent", Contains: values("Bot", "crawler")},
			{Name: "site", Match: MatchHost, Is: values("shop.example"), AnyPort: true},
			{Name: "admin", Match: MatchPath, Segments: values("admin")},
			{Name: "api", Match: MatchPath, Starts: values("/api/"), Regex: values(`^/v[0-9]+/`)},
			{Name: "beta", Match: MatchCookie, Field: "beta", Is: values("1")},
			{Name: "token", Match: MatchQueryParameter, Field: "token", Present: true},
		},
		Rules: []Rule{
			{Name: "to-https", When: not(name("is_tls")), Redirect: &RedirectTo{Scheme: "https"}},
			{Name: "no-bots", When: and(name("bots"), not(name("office"))), Deny: &Refusal{}},
			{Name: "admin", When: and(name("admin"), not(or(name("office"), name("token")))), Deny: &Refusal{}},
			{Name: "id", SetHeader: &Header{Of: OfRequest, Field: "X-Client", Value: "{source}:{source_port} {scheme}://{host}{path}"}},
			{Name: "clean", RemoveHeader: &HeaderName{Of: OfRequest, Field: "X-Debug"}},
			{Name: "frame", SetHeader: &Header{Of: OfResponse, Field: "X-Frame-Options", Value: "DENY"}},
			{Name: "query", When: name("beta"), SetQuery: "beta"},
			{Name: "api", When: and(name("site"), name("api")), UseBackend: "api"},
			{Name: "site", When: name("site"), UseBackend: "web"},
		},
	})
	in := input("GET /V2/Orders?page=3 HTTP/1.1\nHost: Shop.Example:443\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko\nX-Debug: 1\nCookie: a=b; beta=1\nAccept: text/html")
	in.TLS = true
	return l, in
}

func TestAWalkAllocatesNothing(t *testing.T) {
	l, in := typical(t)
	start := *in.Request
	fields := append([]message.Field(nil), start.Fields...)
	response := &message.Response{}
	response.Reset()
	var verdict Verdict
	var held Holds
	once := func() {
		request := start
		request.Fields = append(in.Request.Fields[:0], fields...)
		*in.Request = request
		in.Arena.Reset()
		verdict = l.Request(in, &held)
		response.Fields = response.Fields[:0]
		l.Response(response, &held, in)
	}
	if got := testing.AllocsPerRun(1000, once); got != 0 {
		t.Errorf("a walk allocates %v times", got)
	}
	if verdict.Rule != "api" || string(in.Request.Target) != "/V2/Orders?beta" || string(in.Request.Find("x-client")) != "198.51.100.7:4711 https://Shop.Example:443/V2/Orders" || fieldText(response.Fields) != "X-Frame-Options: DENY" {
		t.Errorf("verdict %+v, target %s, fields %q, response %q", verdict, in.Request.Target, fieldText(in.Request.Fields), fieldText(response.Fields))
	}
}

func BenchmarkWalk(b *testing.B) {
	l, in := typical(b)
	start := *in.Request
	fields := append([]message.Field(nil), start.Fields...)
	var held Holds
	b.ReportAllocs()
	for b.Loop() {
		request := start
		request.Fields = append(in.Request.Fields[:0], fields...)
		*in.Request = request
		in.Arena.Reset()
		l.Request(in, &held)
	}
}

func BenchmarkThousandSites(b *testing.B) {
	spec := Spec{Backends: []string{"web"}}
	for i := range 1000 {
		site := fmt.Sprintf("site%d.example", i)
		spec.ACLs = append(spec.ACLs, ACL{Name: site, Match: MatchHost, Is: values(site), AnyPort: true})
		spec.Rules = append(spec.Rules, Rule{Name: site, When: name(site), UseBackend: "web"})
	}
	l, in := compile(b, spec), input("GET / HTTP/1.1\nHost: site999.example:443")
	var held Holds
	b.ReportAllocs()
	for b.Loop() {
		in.Arena.Reset()
		l.Request(in, &held)
	}
}
