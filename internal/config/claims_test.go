package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// siteDocument sets something in most parts of a document, as an appliance with
// one site and a firewall does.
func siteDocument() *Document {
	doc := Default()
	doc.System.Hostname = "lb1"
	doc.System.DNSServers = []string{"192.0.2.53"}
	doc.System.Timezone = "Europe/Amsterdam"
	doc.System.Admin.Interfaces = []string{"wan"}
	doc.System.SSH.Enabled = true
	doc.Interfaces = []Interface{{Name: "wan", Device: "eth0"}}
	doc.VirtualIPs = []VirtualIP{{Name: "shop", Type: VIPAlias, Interface: "wan", Address: "192.0.2.80/32"}}
	doc.Aliases = []Alias{{Name: "office", Type: AliasNetwork, Entries: []string{"198.51.100.0/24"}}}
	doc.Firewall.Rules = []FirewallRule{defaultOf(reflect.TypeFor[FirewallRule]()).(FirewallRule)}
	doc.Firewall.Rules[0].Name = "https"
	doc.Authorities = []Authority{{Name: "root"}}
	doc.Certificates = []Certificate{{Name: "shop"}}
	frontend := defaultOf(reflect.TypeFor[Frontend]()).(Frontend)
	frontend.Name, frontend.DefaultBackend = "shop", "web"
	frontend.Binds = []Bind{{Name: "https", Address: "vip:shop", Port: 443, TLS: true}}
	doc.Frontends = []Frontend{frontend}
	backend := defaultOf(reflect.TypeFor[Backend]()).(Backend)
	backend.Name = "web"
	doc.Backends = []Backend{backend}
	return doc
}

func TestUnclaimed(t *testing.T) {
	const warning, protection = "warning: stored, not in effect: nothing in this build or mode uses ", "error: "
	warn := func(path string) string { return path + ": " + warning + path }
	warnValue := func(path, value string) string { return warn(path) + " with the value " + value }
	protect := func(path, inside string) string {
		return path + ": " + protection + inside + " would protect, but nothing in this build or mode puts it into effect; applying it would feign safety"
	}
	everyPart := func() (parts []string) {
		for _, p := range properties(reflect.TypeFor[Document]()) {
			parts = append(parts, p.name)
		}
		return parts
	}()
	base := []string{"administrators", "system.admin", "system.timezone", "certificates", "authorities"}
	proxy := func(more ...string) []string { return append(more, "frontends") }
	tests := []struct {
		name   string
		change func(*Document)
		claims []string
		want   []string
	}{
		{"a default document sets nothing", func(d *Document) { *d = *Default() }, nil, nil},
		{"nor does a format", func(d *Document) { *d = *Default(); d.Format++ }, nil, nil},
		{"all is claimed", nil, everyPart, nil},
		{"nothing is claimed: each part once", nil, nil, []string{
			warn("system"), warn("interfaces"), warn("virtual_ips"), warn("aliases"), protect("firewall", "firewall"),
			warn("authorities"), warn("certificates"), warn("frontends"), warn("backends"),
		}},
		{"what the appliance itself uses: the firewall alone is refused", nil, base, []string{
			warn("system.hostname"), warn("system.dns_servers"), warn("system.ssh"), warn("interfaces"), warn("virtual_ips"), warn("aliases"),
			protect("firewall", "firewall"), warn("frontends"), warn("backends"),
		}},
		{"what is served is said field by field", nil, append([]string{"interfaces", "virtual_ips", "aliases", "firewall", "backends", "system", "frontends[].binds"}, base...), []string{
			warn("frontends[shop].default_backend"),
		}},
		{"below a part that protects", func(d *Document) {
			*d = *Default()
			d.Firewall.NAT.Outbound = []OutboundNAT{{Name: "lan"}}
		}, []string{"firewall.rules"}, []string{protect("firewall.nat", "firewall.nat")}},
		{"a field that protects, left out of what is served", func(d *Document) {
			d.Frontends[0].TLS = &FrontendTLS{ClientCertificates: &ClientCertificates{}}
			d.Frontends[0].DefaultBackend = ""
		}, slices.DeleteFunc(append([]string{"frontends[].binds", "frontends[].tls.certificates", "frontends[].tls.min_version", "frontends[].tls.max_version", "frontends[].tls.alpn", "frontends[].tls.unknown_host_status"}, everyPart...), func(s string) bool { return s == "frontends" }), []string{
			protect("frontends[shop].tls.client_certificates", "frontends[shop].tls.client_certificates"),
		}},
		{"one deep inside a list that is left out of what is served", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{{Name: "shop", Rules: []Rule{{Name: "to-https"}, {Name: "no-admin", Deny: &Deny{Status: 403}}}}}
			d.Frontends[0] = withDefaults(d.Frontends[0])
		}, []string{"frontends[].binds"}, []string{protect("frontends[shop].rules", "frontends[shop].rules[no-admin].deny")}},
		{"the same where nothing is served", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{{Name: "shop", Rules: []Rule{{Name: "no-admin", Deny: &Deny{Status: 403}}}}}
		}, []string{"backends"}, []string{warn("frontends")}},
		{"a value that nobody claims", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "web"}), withDefaults(Frontend{Name: "ssh"})}
			d.Frontends[1].Type = FrontendTCP
		}, proxy("frontends[].type=http"), []string{warnValue("frontends[ssh].type", "tcp")}},
		{"a default value that nobody claims", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "web"})}
		}, proxy("frontends[].type=tcp", "frontends[].type=tls_passthrough"), []string{warnValue("frontends[web].type", "http")}},
		{"a switch that works in one position", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "web", TLS: &FrontendTLS{OCSPStapling: true}})}
		}, proxy("frontends[].tls.ocsp_stapling=false"), []string{warnValue("frontends[web].tls.ocsp_stapling", "true")}},
		{"a value that nobody claims, of what protects", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "web", TLS: &FrontendTLS{ClientCertificates: &ClientCertificates{Mode: ClientCertificateOptional}}})}
		}, proxy("frontends[].tls.client_certificates.mode=required"), []string{
			protect("frontends[web].tls.client_certificates.mode", "frontends[web].tls.client_certificates.mode"),
		}},
		{"a claim with a value covers nothing", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "web"})}
		}, []string{"frontends[].type=http"}, []string{warn("frontends")}},
		{"an object that sets nothing but its name", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "a", Description: "empty"}), withDefaults(Frontend{Name: "b", DefaultBackend: "x"})}
		}, []string{"frontends[].default_backend"}, nil},
		{"an object whose role is the default", func(d *Document) {
			*d = *Default()
			d.Administrators = []Administrator{defaultFor[Administrator]()}
			d.Administrators[0].Name = "vi"
		}, []string{"administrators[].role", "administrators[].password"}, nil},
		{"a name that is more than a name", func(d *Document) {
			*d = *Default()
			d.Backends = []Backend{defaultOf(reflect.TypeFor[Backend]()).(Backend)}
			d.Backends[0].Name, d.Backends[0].ServerTLS.Name = "web", "web.example.net"
		}, []string{"backends[].server_tls.verify"}, []string{warn("backends[web].server_tls.name")}},
		{"a list that was emptied", func(d *Document) {
			*d = *Default()
			d.Frontends = []Frontend{withDefaults(Frontend{Name: "a", TLS: &FrontendTLS{}})}
			*d.Frontends[0].TLS = defaultOf(reflect.TypeFor[FrontendTLS]()).(FrontendTLS)
			d.Frontends[0].TLS.ALPN = nil
		}, []string{"frontends[].tls.min_version"}, []string{warn("frontends[a].tls.alpn")}},
		{"an absent part", nil, append([]string{"pear"}, slices.DeleteFunc(slices.Clone(everyPart), func(s string) bool { return s == "pair" })...), nil},
		{"an optional part", func(d *Document) { d.Pair = &Pair{} }, slices.DeleteFunc(slices.Clone(everyPart), func(s string) bool { return s == "pair" }), []string{warn("pair")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := siteDocument()
			if tt.change != nil {
				tt.change(doc)
			}
			var got []string
			for _, p := range Unclaimed(doc, tt.claims) {
				got = append(got, fmt.Sprintf("%s: %s: %s", p.Path, p.Severity, p.Message))
				if (p.Severity == Error) == p.Hint.IsZero() {
					t.Errorf("%s: severity %s with the hint %q", p.Path, p.Severity, p.Hint)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Unclaimed (-want +got):\n%s", diff)
			}
		})
	}
}

// withDefaults fills in what a frontend in a test leaves out.
func withDefaults(f Frontend) Frontend {
	full := defaultOf(reflect.TypeFor[Frontend]()).(Frontend)
	full.Name, full.Description, full.Rules, full.TLS, full.DefaultBackend = f.Name, f.Description, f.Rules, f.TLS, f.DefaultBackend
	return full
}

// Until the firewall exists, an appliance refuses the guide's document for its
// firewall alone.
func TestUnclaimedOfTheGuide(t *testing.T) {
	data, err := os.ReadFile("testdata/guide-end-state.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := Decode(data)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	got := map[string]Severity{}
	unclaimed := Unclaimed(doc, []string{"administrators", "system.admin", "system.timezone", "certificates", "authorities"})
	for _, p := range unclaimed {
		got[p.Path] = p.Severity
	}
	want := map[string]Severity{
		"firewall": Error, "system.hostname": Warning, "system.domain": Warning, "system.dns_servers": Warning, "system.time_servers": Warning,
		"system.ssh": Warning, "system.outgoing_proxy": Warning, "interfaces": Warning, "virtual_ips": Warning, "aliases": Warning,
		"frontends": Warning, "backends": Warning,
	}
	if diff := cmp.Diff(want, got); diff != "" || len(unclaimed) != len(want) {
		t.Errorf("%d problems (-want +got):\n%s", len(unclaimed), diff)
	}
}

// The rule of what is claimed, place by place, against random documents and claims.
func TestUnclaimedSaysEachPlaceOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := Default()
		leaves, present := map[string]bool{}, map[string]bool{}
		setSomething(t, reflect.ValueOf(doc).Elem(), "", leaves, present)
		patterns := []string{"system.admin", "frontends[]"}
		for path := range leaves {
			for patterns = append(patterns, Pattern(path)); strings.Contains(path, "."); {
				path = path[:strings.LastIndexByte(path, '.')]
				patterns = append(patterns, Pattern(path))
			}
		}
		slices.Sort(patterns)
		claims := rapid.SliceOfN(rapid.SampledFrom(slices.Compact(patterns)), 0, 8).Draw(t, "claims")
		claimed := func(path string) bool {
			return slices.ContainsFunc(claims, func(c string) bool { return isBelow(Pattern(path), c) })
		}
		touched := func(path string) bool {
			return slices.ContainsFunc(claims, func(c string) bool { return isBelow(c, Pattern(path)) })
		}
		problems := Unclaimed(doc, claims)
		for path := range leaves {
			said := 0
			for _, p := range problems {
				if isBelow(path, p.Path) {
					said++
				}
			}
			if want := map[bool]int{true: 0, false: 1}[claimed(path)]; said != want {
				t.Fatalf("claims %q: %s is said %d times, want %d: %v", claims, path, said, want, problems)
			}
		}
		for _, p := range problems {
			isSetBelow := func(set string) bool { return isBelow(set, p.Path) }
			if !slices.ContainsFunc(slices.Collect(maps.Keys(leaves)), isSetBelow) && !slices.ContainsFunc(slices.Collect(maps.Keys(present)), isSetBelow) {
				t.Fatalf("claims %q: %s isn't set", claims, p.Path)
			}
			if touched(p.Path) {
				t.Fatalf("claims %q: %s isn't wholly unclaimed", claims, p.Path)
			}
			if dot := strings.LastIndexByte(p.Path, '.'); dot > 0 && !touched(p.Path[:dot]) {
				t.Fatalf("claims %q: %s should be said higher up", claims, p.Path)
			}
		}
	})
}

// isBelow reports whether a path or pattern is another one or below it. The
// list and its element are the same place to a claim.
func isBelow(path, above string) bool {
	rest, found := strings.CutPrefix(path, above)
	if !found {
		rest, found = strings.CutPrefix(path, strings.TrimSuffix(above, "[]"))
	}
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// setSomething sets random fields of an object to what isn't their default, and
// notes the plain values and the objects that it set.
func setSomething(t *rapid.T, object reflect.Value, path string, leaves, present map[string]bool) {
	for _, p := range properties(object.Type()) {
		v, at := object.Field(p.index), join(path, p.name)
		if isRemark(p, strings.HasSuffix(path, "]")) || path == "" && p.name == "format" || rapid.IntRange(0, 3).Draw(t, "skip") > 0 {
			continue
		}
		switch {
		case isObject(v.Type()):
			setSomething(t, v, at, leaves, present)
		case v.Kind() == reflect.Pointer && isObject(v.Type().Elem()):
			present[at] = true
			v.Set(reflect.New(v.Type().Elem()))
			v.Elem().Set(reflect.ValueOf(defaultOf(v.Type().Elem())))
			setSomething(t, v.Elem(), at, leaves, present)
		case isObjectList(v.Type()):
			v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 2).Draw(t, "length"), 2))
			for i := range v.Len() {
				v.Index(i).Set(reflect.ValueOf(defaultOf(v.Type().Elem())))
				name, _ := propertyNamed(v.Type().Elem(), "name")
				v.Index(i).Field(name.index).SetString(string(rune('a' + i)))
				present[at+"["+string(rune('a'+i))+"]"] = true
				setSomething(t, v.Index(i), at+"["+string(rune('a'+i))+"]", leaves, present)
			}
		default:
			leaves[at] = true
			setLeaf(v)
		}
	}
}

// setLeaf sets a plain value to what is no default.
func setLeaf(v reflect.Value) {
	switch {
	case v.Type() == secretType:
		v.Set(reflect.ValueOf(NewSecret("secret:0123456789abcdef")))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	default:
		v.SetInt(v.Int() + 1)
	}
}

func TestCheckClaims(t *testing.T) {
	tests := []struct{ claim, want string }{
		{"frontends", ""},
		{"frontends[]", ""},
		{"system.admin", ""},
		{"frontends[].tls.client_certificates", ""},
		{"frontends[].type=http", ""},
		{"load_balancer.enabled=true", ""},
		{"frontend", `claim "frontend" names no place of the document`},
		{"frontends.tls", "names no place"},
		{"frontends[shop].tls", "names no place"},
		{"system.admin.", "names no place"},
		{"", "names no place"},
		{"frontends[].type=https", `frontends[].type never has the value "https"`},
		{"load_balancer.enabled=on", "never has the value"},
		{"system.hostname=lb1", "system.hostname is neither an enum nor a boolean"},
		{"nowhere=true", "names no place"},
	}
	for _, tt := range tests {
		err := CheckClaims([]string{"backends", tt.claim})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("CheckClaims(%q) = %v, want nil", tt.claim, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("CheckClaims(%q) = %v, want %q", tt.claim, err, tt.want)
		}
	}
	if err := CheckClaims([]string{"a", "b"}); err == nil || strings.Count(err.Error(), "names no place") != 2 {
		t.Errorf("CheckClaims of two typos = %v, want both", err)
	}
}
