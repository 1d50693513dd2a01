package config

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// soundDocument is a document without an error, a warning or a hint. It uses
// most of what can be wrong.
func soundDocument() *Document {
	doc := Default()
	doc.System.Hostname, doc.System.Domain = "lb1", "example.net"
	doc.System.DNSServers = []string{"192.0.2.53"}
	doc.System.Admin.Sources = []string{"alias:office"}
	doc.System.Admin.Interfaces = []string{"lan"}
	doc.Administrators = []Administrator{
		{Name: "root", Role: RoleAdministrator, Password: NewSecret("secret:00112233445566778899aabbccddeeff")},
		{Name: "oper", Role: RoleOperator, Objects: []string{"backend:web"}},
	}
	doc.Notifications = Notifications{
		Channels: []NotificationChannel{{Name: "mail", Type: ChannelEmail}},
		Rules:    []NotificationRule{{Name: "all", Events: []string{"health.*"}, Channels: []string{"mail"}}},
	}
	doc.Interfaces = []Interface{
		{Name: "wan", Device: "eth0", IPv4: IPv4{IPv4Static, "192.0.2.10/24", "192.0.2.1"}, IPv6: IPv6{Method: IPv6None}},
		{Name: "lan", Device: "eth1", IPv4: IPv4{IPv4Static, "10.0.0.2/24", ""}, IPv6: IPv6{Method: IPv6None}},
	}
	doc.VirtualIPs = []VirtualIP{{Name: "shop", Type: VIPAlias, Interface: "wan", Address: "192.0.2.80/32"}}
	doc.Aliases = []Alias{{Name: "office", Type: AliasNetwork, Entries: []string{"198.51.100.0/24"}}}
	doc.Schedules = []Schedule{{Name: "nights", Ranges: []ScheduleRange{{Name: "n", From: "22:00", To: "05:00"}}}}
	rule := defaultFor[FirewallRule]()
	rule.Name, rule.Interface, rule.Family, rule.Protocol = "https", "wan", FamilyIPv4, ProtocolTCP
	rule.Destination, rule.DestinationPorts = "vip:shop", []Port{"80", "443"}
	doc.Firewall.Rules = []FirewallRule{rule}
	root := defaultFor[InternalAuthority]()
	root.Subject.CommonName = "Example root"
	doc.Authorities = []Authority{{Name: "root", Internal: &root, RandomSerial: true}}
	own, inner := defaultFor[CertificateSpec](), defaultFor[CertificateSpec]()
	own.CommonName, inner.CommonName = "lb1.example.net", "inner.example.net"
	doc.Certificates = []Certificate{
		{Name: "shop", Certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", Key: NewSecret("key:00112233445566778899aabbccddeeff")},
		{Name: "own", SelfSigned: &own},
		{Name: "inner", Internal: &IssuedCertificate{Authority: "root", Spec: inner}},
	}
	doc.Frontends = []Frontend{soundFrontend()}
	doc.Backends = []Backend{soundBackend("web"), soundBackend("api")}
	doc.Backends[0].Rules = []Rule{{Name: "canary", When: "tester", UseServer: "web2"}}
	doc.Backends[0].ACLs = []ACL{{Name: "tester", Match: MatchCookie, Field: "tester", Present: true}}
	doc.PolicyTests = []PolicyTest{{Name: "shop-front", Frontend: "shop", Bind: "https", Method: "GET", Path: "/", Host: "shop.example.net", ExpectBackend: "web"}}
	return doc
}

func defaultFor[T any]() T { return defaultOf(reflect.TypeFor[T]()).(T) }

func soundFrontend() Frontend {
	f := defaultFor[Frontend]()
	tls := defaultFor[FrontendTLS]()
	tls.Certificates = []string{"shop"}
	f.Name, f.TLS, f.DefaultBackend = "shop", &tls, "web"
	f.Binds = []Bind{{Name: "https", Address: "vip:shop", Port: 443, TLS: true}, {Name: "http", Address: "vip:shop", Port: 80}}
	f.ACLs = []ACL{{Name: "api", Match: MatchPath, Starts: []string{"/api/"}}}
	f.Rules = []Rule{
		{Name: "to-https", When: "not is_tls", Redirect: &Redirect{Scheme: "https", Code: 301}},
		{Name: "to-api", When: "api", UseBackend: "api"},
	}
	return f
}

func soundBackend(name string) Backend {
	b := defaultFor[Backend]()
	check := defaultFor[Check]()
	check.Path, check.ExpectStatus = "/health", []string{"200"}
	cookie := defaultFor[PersistenceCookie]()
	cookie.Name, cookie.Secure = "SRV", true
	b.Name, b.Check, b.Persistence.Cookie = name, &check, &cookie
	for i, server := range []string{"web1", "web2"} {
		s := defaultFor[Server]()
		s.Name, s.Port, s.TLS = server, 443, true
		s.Address, s.Cookie = "10.0.0.1"+string(rune('1'+i)), "w"+string(rune('1'+i))
		b.Servers = append(b.Servers, s)
	}
	return b
}

func TestValidateSoundDocument(t *testing.T) {
	for _, p := range Validate(soundDocument()) {
		t.Errorf("Validate of a sound document: %s %s", p.Severity, p)
	}
	for _, p := range Validate(Default()) {
		t.Errorf("Validate of the default document: %s %s", p.Severity, p)
	}
}

// The guide's end state, with its files not yet read: nothing stands in its way,
// and the two hints are true.
func TestValidateGuideEndState(t *testing.T) {
	data, err := os.ReadFile("testdata/guide-end-state.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := Decode(data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := []string{"system.ssh.key_only", "backends[ece-web].server_tls.verify"}
	var got []string
	for _, p := range Validate(doc) {
		got = append(got, p.Path)
		if p.Severity != Hint {
			t.Errorf("Validate of the guide's end state: %s %s", p.Severity, p)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hints on the guide's end state: -want +got\n%s", diff)
	}
}

// Problems come in the document's order, and one mistake is one problem.
func TestValidateOrder(t *testing.T) {
	doc := soundDocument()
	doc.Backends[0].Servers[1].Port = 0
	doc.System.Admin.Port = 0
	doc.Frontends[0].DefaultBackend = "gone"
	doc.Frontends[0].Binds[0].Port = 0
	doc.Pair = &Pair{Interface: "lan", Peer: "x"}
	doc.PolicyTests[0].Frontend = "gone" // its bind isn't said a second time
	var got []string
	for _, p := range Validate(doc) {
		got = append(got, p.Path)
	}
	want := []string{
		"system.admin.port", "frontends[shop].binds[https].port", "frontends[shop].default_backend",
		"backends[web]", // used by no frontend any more
		"backends[web].servers[web2].port", "policy_tests[shop-front].frontend", "pair.peer",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths: -want +got\n%s", diff)
	}
}

// Whatever a document holds, Validate says something and doesn't fall over, and
// says it about places that are there.
func TestValidateAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, p := range Validate(drawWired(t)) {
			if p.Message.IsZero() || strings.Contains(p.String(), "%!") {
				t.Fatalf("a problem says nothing: %+v", p)
			}
			if _, err := parsePath(p.Path); err != nil {
				t.Fatalf("problem %s: %v", p, err)
			}
		}
	})
}

// mistake is one thing that is done to the sound document.
type mistake struct {
	do       func(*Document)
	severity Severity
	path     string
	say      string // part of the problem's line
}

func TestValidateMistakes(t *testing.T) {
	var all []mistake
	for _, part := range [][]mistake{systemMistakes, networkMistakes, firewallMistakes, certificateMistakes, frontendMistakes, ruleMistakes, backendMistakes, valueMistakes} {
		all = append(all, part...)
	}
	t.Logf("%d mistakes", len(all))
	for _, m := range all {
		doc := soundDocument()
		m.do(doc)
		problems := Validate(doc)
		found := false
		for _, p := range problems {
			found = found || p.Path == m.path && p.Severity == m.severity && strings.Contains(p.String(), m.say)
		}
		if !found {
			t.Errorf("want %s at %s: %s; got\n%s", m.severity, m.path, m.say, severities(problems))
		}
	}
}

func severities(problems Problems) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString("    " + string(p.Severity) + " " + p.String() + "\n")
	}
	return b.String()
}

// BenchmarkValidate is one site; BenchmarkValidateLarge is a document with a
// hundred frontends of a hundred rules each.
func BenchmarkValidate(b *testing.B) { benchmarkValidate(b, soundDocument()) }

func BenchmarkValidateLarge(b *testing.B) {
	doc := soundDocument()
	for i := range 100 {
		f := soundFrontend()
		f.Name, f.Binds[0].Port, f.Binds[1].Port = "site"+strconv.Itoa(i), uint16(10000+i), uint16(20000+i)
		f.Rules = nil
		for j := range 100 {
			f.Rules = append(f.Rules, Rule{Name: "r" + strconv.Itoa(j), When: "api and is_tls", UseBackend: "api"})
		}
		doc.Frontends = append(doc.Frontends, f)
	}
	benchmarkValidate(b, doc)
}

func benchmarkValidate(b *testing.B, doc *Document) {
	b.ReportAllocs()
	for b.Loop() {
		if problems := Validate(doc); problems.HasErrors() {
			b.Fatal(problems)
		}
	}
}

// misspeltDocuments are large documents in which every reference is wrong, each in
// its own way.
func misspeltDocuments() map[string]*Document {
	backends, acls, one := Default(), Default(), Default()
	site := defaultFor[Frontend]()
	site.Name = "site"
	acls.Frontends, one.Frontends = []Frontend{site}, []Frontend{site}
	var when []string
	for i := range maxObjects {
		n := strconv.Itoa(i)
		b, f := defaultFor[Backend](), defaultFor[Frontend]()
		b.Name, f.Name, f.DefaultBackend = "bk"+n, "f"+n, "bx"+n
		backends.Backends, backends.Frontends = append(backends.Backends, b), append(backends.Frontends, f)
		acls.Frontends[0].ACLs = append(acls.Frontends[0].ACLs, ACL{Name: "acl" + n, Match: MatchPath, Starts: []string{"/"}})
		acls.Frontends[0].Rules = append(acls.Frontends[0].Rules, Rule{Name: "r" + n, When: "acx" + n, UseBackend: "x"})
		when = append(when, "acx"+n)
	}
	one.Frontends[0].ACLs = acls.Frontends[0].ACLs
	one.Frontends[0].Rules = []Rule{{Name: "r", When: strings.Join(when, " or "), UseBackend: "x"}}
	return map[string]*Document{"backends": backends, "acls": acls, "one condition": one}
}

// The search for nearest names is what grows with the square of a document.
func TestValidateBoundsItsSearchForNames(t *testing.T) {
	for name, doc := range misspeltDocuments() {
		c := newChecker(doc)
		c.checkPlaces()
		hints := 0
		for _, p := range c.problems {
			if strings.HasPrefix(p.Hint.ID, "did you mean") {
				hints++
			}
		}
		if hints == 0 || hints > maxNearest || c.compared > 2*maxCompared || len(c.problems) > 3*maxProblems {
			t.Errorf("%s: %d hints, %d letters compared, %d problems kept", name, hints, c.compared, len(c.problems))
		}
		problems := Validate(doc)
		if last := problems[len(problems)-1]; len(problems) != maxProblems || !strings.Contains(last.Message.String(), "further problems") {
			t.Errorf("%s: %d problems, the last %v", name, len(problems), last)
		}
	}
}

func BenchmarkValidateMisspelt(b *testing.B) {
	for name, doc := range misspeltDocuments() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Validate(doc)
			}
		})
	}
}
