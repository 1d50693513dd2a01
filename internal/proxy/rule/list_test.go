package rule

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/proxy/message"
)

// input is a request as a parser leaves it: head is its request line and fields.
func input(head string) *Input {
	lines := strings.Split(head, "\n")
	words := strings.Fields(lines[0])
	r := &message.Request{}
	r.Reset()
	r.Method, r.MethodID = []byte(words[0]), message.LookupMethod([]byte(words[0]))
	r.SetTarget([]byte(words[1]))
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		r.Fields = append(r.Fields, message.Field{Name: []byte(name), Value: []byte(strings.TrimSpace(value)), ID: message.Lookup([]byte(name))})
	}
	r.Authority = r.Get(message.Host)
	return &Input{Request: r, Source: netip.MustParseAddr("198.51.100.7"), SourcePort: 4711, Arena: &Arena{}}
}

func compile(t testing.TB, spec Spec) *List {
	t.Helper()
	l, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func name(s string) *Condition        { return &Condition{Op: ConditionName, Name: s} }
func not(c *Condition) *Condition     { return &Condition{Op: ConditionNot, Of: []*Condition{c}} }
func and(of ...*Condition) *Condition { return &Condition{Op: ConditionAnd, Of: of} }
func or(of ...*Condition) *Condition  { return &Condition{Op: ConditionOr, Of: of} }
func values(of ...string) []string    { return of }

func TestRequestsThatArePassedThroughHaveOnlyAnOrigin(t *testing.T) {
	l := compile(t, Spec{
		Backends: []string{"a", "b"},
		ACLs: []ACL{
			{Name: "root", Match: MatchPath, Starts: values("/")},
			{Name: "mail", Match: MatchSNI, Is: values("mail.example")},
		},
		Rules: []Rule{
			{Name: "edit", SetPath: "/x"},
			{Name: "path", When: or(name("root"), name("is_websocket")), UseBackend: "a"},
			{Name: "sni", When: name("mail"), UseBackend: "b"},
		},
	})
	var held Holds
	got := l.Request(&Input{Source: netip.MustParseAddr("192.0.2.1"), SNI: "mail.example", Arena: &Arena{}}, &held)
	if want := (Verdict{Kind: UseBackend, Rule: "sni", Index: 1}); !cmp.Equal(got, want) {
		t.Errorf("verdict %+v, want %+v", got, want)
	}
}

func TestTheFirstDecisionEndsTheWalk(t *testing.T) {
	spec := Spec{
		Backends: []string{"web", "api"}, Servers: []string{"s1", "s2"},
		ACLs: []ACL{
			{Name: "api", Match: MatchPath, Starts: values("/api/")},
			{Name: "marked", Match: MatchHeader, Field: "X-Mark", Is: values("yes")},
			{Name: "slow", Match: MatchPath, Is: values("/slow")},
			{Name: "second", Match: MatchPath, Is: values("/second")},
			{Name: "old", Match: MatchPath, Is: values("/old")},
			{Name: "posts", Match: MatchMethod, Is: values("POST")},
		},
		Rules: []Rule{
			{Name: "off", Disabled: true, Deny: &Refusal{}},
			{Name: "early", SetHeader: &Header{Of: OfResponse, Field: "X-Early", Value: "1"}},
			{Name: "to-https", When: and(not(name("is_tls")), not(or(name("posts"), name("slow"), name("second")))), Redirect: &RedirectTo{Scheme: "https", Code: 301}},
			{Name: "tarpit", When: name("slow"), Tarpit: &Refusal{Status: 500, Delay: 3 * time.Second}},
			{Name: "server", When: name("second"), UseServer: "s2"},
			{Name: "mark", When: name("posts"), SetHeader: &Header{Of: OfRequest, Field: "X-Mark", Value: "yes"}},
			{Name: "rename", When: name("old"), SetPath: "/api/new"},
			{Name: "marked-api", When: and(name("marked"), name("api")), UseBackend: "api"},
			{Name: "plain-api", When: name("api"), Deny: &Refusal{}},
			{Name: "late", SetHeader: &Header{Of: OfResponse, Field: "X-Late", Value: "{scheme} {server} {host}{path}"}},
		},
	}
	l := compile(t, spec)
	for _, test := range []struct {
		head     string
		tls      bool
		want     Verdict
		response string
	}{
		{"GET /a?b HTTP/1.1\nHost: x.example:80", false, Verdict{Kind: Redirect, Rule: "to-https", Status: 301, Location: []byte("https://x.example/a?b")}, "X-Early: 1"},
		{"GET /slow HTTP/1.1", false, Verdict{Kind: Tarpit, Rule: "tarpit", Status: 500, Delay: 3 * time.Second}, "X-Early: 1"},
		{"GET /second HTTP/1.1", true, Verdict{Kind: UseServer, Rule: "server", Index: 1}, "X-Early: 1"},
		{"POST /api/x HTTP/1.1", true, Verdict{Kind: UseBackend, Rule: "marked-api", Index: 1}, "X-Early: 1"},
		{"GET /api/x HTTP/1.1\nX-Mark: no", true, Verdict{Kind: Deny, Rule: "plain-api", Status: 403}, "X-Early: 1"},
		{"POST /old HTTP/1.1", true, Verdict{Kind: UseBackend, Rule: "marked-api", Index: 1}, "X-Early: 1"}, // edits are seen
		{"GET /rest HTTP/1.1", true, Verdict{}, "X-Early: 1\nX-Late: https srv kept.example/kept"},
		{"GET /a HTTP/1.1", false, Verdict{Kind: Deny, Rule: "to-https", Status: 400}, "X-Early: 1"}, // no Host to go to
	} {
		in := input(test.head)
		in.TLS = test.tls
		held := Holds{2} // of another request
		if diff := cmp.Diff(test.want, l.Request(in, &held)); diff != "" {
			t.Errorf("%s:\n%s", test.head, diff)
		}
		in.Request, in.Server, in.Host, in.Path = nil, "srv", []byte("kept.example"), []byte("/kept")
		response := &message.Response{}
		l.Response(response, &held, in)
		if got := fieldText(response.Fields); got != test.response {
			t.Errorf("%s: response fields %q, want %q", test.head, got, test.response)
		}
	}
	if !l.ResponseNeedsRequest() || l.NamesServer() {
		t.Errorf("ResponseNeedsRequest, NamesServer = %t, %t, want true, false", l.ResponseNeedsRequest(), l.NamesServer())
	}
}

func fieldText(fields []message.Field) string {
	var lines []string
	for _, f := range fields {
		if len(f.Name) > 0 {
			lines = append(lines, string(f.Name)+": "+string(f.Value))
		}
	}
	return strings.Join(lines, "\n")
}

func TestCompileRefuses(t *testing.T) {
	rule := func(r Rule) Spec { r.Name = "r"; return Spec{Rules: []Rule{r}} }
	acl := func(a ACL) Spec { a.Name = "a"; return Spec{ACLs: []ACL{a}} }
	header := func(of Direction, field, value string) Spec {
		return rule(Rule{SetHeader: &Header{Of: of, Field: field, Value: value}})
	}
	for want, spec := range map[string]Spec{
		`rule r: there is no ACL "x"`:                        rule(Rule{When: not(name("x")), Deny: &Refusal{}}),
		`rule r: the condition has a node "not" with 2`:      rule(Rule{When: &Condition{Op: ConditionNot, Of: []*Condition{name("is_tls"), name("is_tls")}}}),
		`rule r: the condition has a node "and" without`:     rule(Rule{When: and(name("is_tls"), nil)}),
		`rule r: the condition has a node "or" with 0`:       rule(Rule{When: or()}),
		`rule r: there is no backend "x"`:                    rule(Rule{UseBackend: "x"}),
		`rule r: there is no server "x"`:                     rule(Rule{UseServer: "x"}),
		`rule r: it has no action`:                           rule(Rule{}),
		`rule r: 200 refuses nothing`:                        rule(Rule{Deny: &Refusal{Status: 200}}),
		`rule r: 304 is no redirect`:                         rule(Rule{Redirect: &RedirectTo{Scheme: "https", Code: 304}}),
		`rule r: "ftp" is no scheme`:                         rule(Rule{Redirect: &RedirectTo{Scheme: "ftp"}}),
		`rule r: "a/b" is no host`:                           rule(Rule{Redirect: &RedirectTo{Host: "a/b"}}),
		`rule r: a path begins`:                              rule(Rule{Redirect: &RedirectTo{Path: "http://evil"}}),
		`rule r: nobody may pass`:                            rule(Rule{Authenticate: &BasicAuth{Realm: "x"}}),
		`rule r: Content-Length says how`:                    header(OfRequest, "Content-Length", "1"),
		`rule r: trailer says how`:                           header(OfResponse, "trailer", "1"),
		`rule r: "a b" is no name`:                           header(OfRequest, "a b", "1"),
		`rule r: the value holds`:                            header(OfRequest, "a", "b\r\nc: d"),
		`rule r: "" is no direction`:                         header("", "a", "b"),
		`rule r: a request has exactly one Host`:             rule(Rule{RemoveHeader: &HeaderName{Of: OfRequest, Field: "host"}}),
		`rule r: "CONNECT" is no method`:                     rule(Rule{SetMethod: "CONNECT"}),
		`rule r: the expression "("`:                         rule(Rule{ReplacePath: &Replace{Find: "("}}),
		`ACL a: there is no part "x"`:                        acl(ACL{Match: "x"}),
		`ACL a: the cookie isn't named`:                      acl(ACL{Match: MatchCookie}),
		`ACL a: there is no backend "x"`:                     acl(ACL{Match: MatchUsableServers, Backend: "x"}),
		`ACL a: the expression "("`:                          acl(ACL{Match: MatchPath, Regex: values("(")}),
		`ACL a: a network is empty`:                          acl(ACL{Match: MatchSource, In: []netip.Prefix{{}}}),
		`ACL is_tls: there are two of that name`:             {ACLs: []ACL{{Name: "is_tls", Match: MatchHost}}},
		`rule r: the condition is nested more than 500 deep`: rule(Rule{When: nested(600)}),
		`rule r: more than 256 rules change responses`:       {Rules: repeated(257)},
	} {
		if _, err := Compile(spec); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Compile: %v, want %s", err, want)
		}
	}
}

func nested(n int) *Condition {
	c := name("is_tls")
	for range n {
		c = not(c)
	}
	return c
}

func repeated(n int) (rules []Rule) {
	for range n {
		rules = append(rules, Rule{Name: "r", RemoveHeader: &HeaderName{Of: OfResponse, Field: "Server"}})
	}
	return rules
}
