package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// compareDocuments compares documents as their text does: a list that isn't
// there is empty, a time is what is written.
var compareDocuments = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b Secret) bool { return a == b }),
	cmp.Comparer(func(a, b time.Time) bool { return a.Format(time.RFC3339Nano) == b.Format(time.RFC3339Nano) }),
}

func TestDiffText(t *testing.T) {
	from := soundDocument()
	from.Firewall.Rules = append(from.Firewall.Rules, FirewallRule{Name: "ping"}, FirewallRule{Name: "rest"})
	to := Clone(from)
	to.System.Hostname = "lb2"
	to.System.DNSServers = []string{"192.0.2.54", "2001:db8::53"}
	to.Logging.Targets = []LogTarget{{Name: "syslog", Type: LogSyslogTLS, Address: "log.example.net"}}
	to.Aliases = nil
	to.Firewall.Rules[0], to.Firewall.Rules[2] = to.Firewall.Rules[2], to.Firewall.Rules[0]
	slices.Reverse(to.Certificates)
	f := &to.Frontends[0]
	f.Binds = append(f.Binds, Bind{Name: "alt", Address: "any", Port: 8444, TLS: true})
	f.Rules = append(f.Rules[1:], f.Rules[0])
	b := &to.Backends[0]
	b.Servers = b.Servers[1:]
	b.Servers[0].Weight = 5
	b.Timeouts.Server = 2 * minute
	b.Check = nil
	slices.Reverse(to.Backends[1].Servers)
	to.Backends[1].Check.ExpectStatus = []string{"204", "200"}
	to.Administrators[0].Password = NewSecret("secret:ffeeddccbbaa99887766554433221100")
	to.Certificates[2].Certificate = PEM("-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n")
	to.Pair = &Pair{Interface: "lan", Peer: "10.0.0.3"}
	want := `
~ system
    ~ hostname: lb1 -> lb2
    + dns_servers[0]: 192.0.2.54
    + dns_servers[1]: 2001:db8::53
    - dns_servers[0]: 192.0.2.53
~ administrator root
    ~ password: (set) -> (changed)
+ log target syslog
    + type: syslog_tls
    + address: log.example.net
- alias office
    - type: network
    - entries[0]: 198.51.100.0/24
~ firewall rule rest: moved to the beginning
~ firewall rule ping: moved behind rest
~ certificate shop
    ~ certificate: PEM of 1 blocks, 59 bytes, SHA-256 7cc358aa -> PEM of 1 blocks, 59 bytes, SHA-256 3ea0cbcc
~ certificates: in another order
~ frontend shop
    + binds[alt]: {address: any, port: 8444, tls: true}
    ~ rules[to-api]: moved to the beginning
~ backend web
    ~ servers[web2].weight: 1 -> 5
    - servers[web1]: {address: 10.0.0.11, port: 443, tls: true, cookie: w1}
    - check: {path: /health, expect_status: [200]}
    ~ timeouts.server: 30s -> 2m
~ backend api
    ~ servers: in another order
    + check.expect_status[0]: 204
+ pair
    + pair: {interface: lan, peer: 10.0.0.3}
`
	changes := Diff(from, to)
	if diff := cmp.Diff(want, "\n"+RenderText(changes)); diff != "" {
		t.Errorf("Diff: -want +got\n%s", diff)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.Message().String())
	}
	for _, line := range []string{
		"system was changed: hostname, dns_servers[0], dns_servers[1] and 1 more",
		"log target syslog was added", "alias office was removed", "firewall rule ping was moved", "certificates stand in another order",
		"backend web was changed: servers[web2].weight, servers[web1], check and 1 more",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("no change says %q; they say\n%s", line, strings.Join(lines, "\n"))
		}
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	from, to := soundDocument(), soundDocument()
	to.Administrators[0].Password = NewSecret("plain text")
	to.System.OutgoingProxy = OutgoingProxy{URL: "http://proxy:3128", Username: "u", Password: NewSecret("plain text")}
	to.Administrators = append(to.Administrators, Administrator{Name: "new", Password: NewSecret("plain text")})
	for _, changes := range [][]Change{Diff(from, to), Diff(to, from)} {
		if s := RenderText(changes); strings.Contains(s, "plain") || strings.Contains(s, "0011") {
			t.Errorf("a secret stands in\n%s", s)
		}
	}
}

// Two documents differ if and only if Diff says so, and applying Diff's own word
// for equality to a document and itself is always true.
func TestDiffIsEmptyIffEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := drawWired(t)
		if changes := Diff(from, Clone(from)); len(changes) > 0 {
			t.Fatalf("Diff of a document and its clone:\n%s", RenderText(changes))
		}
		to := Clone(from)
		mutate(t, to)
		equal := cmp.Equal(from, to, compareDocuments)
		for _, changes := range [][]Change{Diff(from, to), Diff(to, from)} {
			if (len(changes) == 0) != equal {
				t.Fatalf("the documents are equal: %v; Diff says\n%s%s", equal, RenderText(changes), cmp.Diff(from, to, compareDocuments))
			}
			for _, c := range changes {
				if c.Message().IsZero() || c.Kind == "" || c.Action == Changed && len(c.Fields) == 0 {
					t.Fatalf("a change says nothing: %+v", c)
				}
				for _, f := range c.Fields {
					if !Within(f.Path, c.Path) || f.Action == Changed && f.From == f.To {
						t.Fatalf("%s has the field %+v", c.Path, f)
					}
				}
			}
		}
	})
}

// mutate changes one place of a document: a value, or the members or order of a
// list. It may hit a value with itself.
func mutate(t *rapid.T, doc *Document) {
	var places []*node
	walkDocument(doc, func(n *node) bool {
		if n.prop.name != "name" && !isObject(n.value.Type()) {
			places = append(places, n)
		}
		return true
	})
	n := places[rapid.IntRange(0, len(places)-1).Draw(t, "place")]
	if n.value.Kind() == reflect.Slice && n.value.Len() > 1 {
		i := rapid.IntRange(0, n.value.Len()-1).Draw(t, "from")
		reflect.Swapper(n.value.Interface())(0, i)
		n.value.SetLen(rapid.IntRange(0, n.value.Len()).Draw(t, "length"))
		return
	}
	drawField(t, n.prop, n.value)
}

// One moment in two zones is two texts, and so two documents.
func TestDiffTimes(t *testing.T) {
	from, to := soundDocument(), soundDocument()
	utc := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	from.Administrators[1].Expires = &utc
	to.Administrators[1].Expires = new(utc.In(time.FixedZone("", 3600)))
	got := RenderText(Diff(from, to))
	if want := "expires: 2030-01-01T00:00:00Z -> 2030-01-01T01:00:00+01:00"; !strings.Contains(got, want) {
		t.Errorf("Diff = %s want %s", got, want)
	}
}

func TestDiffMovesFew(t *testing.T) {
	rules := func(names ...string) *Document {
		doc := Default()
		for _, n := range names {
			doc.Firewall.Rules = append(doc.Firewall.Rules, FirewallRule{Name: n})
		}
		return doc
	}
	got := Diff(rules("a", "b", "c", "d", "e"), rules("b", "c", "d", "a", "new", "e"))
	if want := "~ firewall rule a: moved behind d\n+ firewall rule new\n"; !strings.HasPrefix(RenderText(got), want) || len(got) != 2 {
		t.Errorf("Diff = \n%s want \n%s", RenderText(got), want)
	}
}
