package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const editBase = `
system: {hostname: lb1, dns_servers: [192.0.2.53, 192.0.2.54], admin: {port: 9443, sources: [192.0.2.0/24]}}
administrators: [{name: anna, role: administrator, password: "secret:00112233445566778899aabbccddeeff"}]
frontends:
- {name: shop, description: The shop, max_connections: 7, binds: [{name: https, port: 8443, tls: true}, {name: http, port: 80}], tls: {certificates: [ece], alpn: [h2]}}
- name: api.v2
  rules: [{name: a, deny: {status: 404}}, {name: b}, {name: c}]
policy_tests: [{frontend: shop}]
`

// TestEdits shows each edit by what it changes in the brief form of the document.
func TestEdits(t *testing.T) {
	set := func(path, data string) func(*Document) (*Document, Problems) {
		return func(d *Document) (*Document, Problems) { return Set(d, path, []byte(data)) }
	}
	patch := func(path, data string) func(*Document) (*Document, Problems) {
		return func(d *Document) (*Document, Problems) { return Patch(d, path, []byte(data)) }
	}
	remove := func(path string) func(*Document) (*Document, Problems) {
		return func(d *Document) (*Document, Problems) { return Delete(d, path) }
	}
	move := func(path, before string) func(*Document) (*Document, Problems) {
		return func(d *Document) (*Document, Problems) { return Move(d, path, before) }
	}
	for _, c := range []struct {
		name      string
		edit      func(*Document) (*Document, Problems)
		from, got string // path that is looked at, and its JSON afterwards
	}{
		{"set a field", set("system.hostname", "lb2"), "system.hostname", `"lb2"`},
		{"set a field from JSON", set("system.admin.port", "443"), "system.admin.port", `443`},
		{"set an element of a plain list", set("system.dns_servers[1]", `"192.0.2.55"`), "system.dns_servers", `["192.0.2.53","192.0.2.55"]`},
		{"append to a plain list", set("system.dns_servers[2]", "192.0.2.55"), "system.dns_servers[2]", `"192.0.2.55"`},
		{"set a list", set("system.dns_servers", "[192.0.2.1]"), "system.dns_servers", `["192.0.2.1"]`},
		{"empty a list", set("system.dns_servers", "null"), "system.dns_servers", `[]`},
		{
			"replace an object: the rest has its defaults", set("frontends[shop].binds[https]", "{tls: true}"),
			"frontends[shop].binds[https]", `{"name":"https","address":"","port":443,"tls":true,"accept_proxy":[],"max_connections":0}`,
		},
		{"replace a part: the rest has its defaults", set("system.ssh", "{enabled: true}"), "system.ssh", `{"enabled":true,"port":22,"key_only":true}`},
		{
			"create an object", set("frontends[shop].binds[alt]", "{port: 444}"),
			"frontends[shop].binds[alt]", `{"name":"alt","address":"","port":444,"tls":false,"accept_proxy":[],"max_connections":0}`,
		},
		{"create an object by one field's path", set("virtual_ips[ece]", "{name: ece, address: 192.0.2.80/32}"), "virtual_ips[ece].type", `"ip_alias"`},
		{"make an optional part on the way", set("frontends[api.v2].tls.min_version", "1.3"), "frontends[api.v2].tls.alpn", `["http/1.1"]`},
		{"remove an optional part", set("frontends[shop].tls", "null"), "frontends[shop].tls", ""},
		{"set the whole", set("", "{system: {hostname: new}}"), "frontends", `[]`},
		{
			"merge", patch("frontends[shop]", `{"description": "new", "binds": [{"name": "one"}], "max_connections": null, "tls": {"alpn": null}}`),
			"frontends[shop].tls.certificates", `["ece"]`,
		},
		{"merge: null is the default", patch("frontends[shop]", `{"tls": {"alpn": null}}`), "frontends[shop].tls.alpn", `["http/1.1"]`},
		{
			"merge: a list is replaced", patch("frontends[shop]", `{"binds": [{"name": "one"}]}`),
			"frontends[shop].binds", `[{"name":"one","address":"","port":443,"tls":false,"accept_proxy":[],"max_connections":0}]`,
		},
		{"merge: what isn't mentioned stays", patch("frontends[shop]", `{"description": "new"}`), "frontends[shop].max_connections", `7`},
		{"merge: null removes a part", patch("frontends[shop]", `{"tls": null}`), "frontends[shop].tls", ""},
		{"merge into what isn't there", patch("frontends[new]", `{"description": "new"}`), "frontends[new].keep_alive", `true`},
		{"merge into the whole", patch("", `{"system": {"admin": {"port": 1}}}`), "system.admin.sources", `["192.0.2.0/24"]`},
		{"keep a secret", set("administrators[anna]", `{role: viewer, password: (set)}`), "administrators[anna].password", `"(set)"`},
		{"clear a secret", set("administrators[anna]", `{role: viewer, password: ""}`), "administrators[anna].password", `""`},
		{"delete an object", remove("frontends[api.v2].rules[b]"), "frontends[api.v2].rules[c].name", `"c"`},
		{"delete an optional part", remove("frontends[shop].tls"), "frontends[shop].tls", ""},
		{"delete an element", remove("system.dns_servers[0]"), "system.dns_servers", `["192.0.2.54"]`},
		{"delete the last of a list", remove("administrators[anna]"), "administrators", `[]`},
		{"delete a list", remove("system.dns_servers"), "system.dns_servers", `[]`},
		{"delete a field's value", remove("system.admin.port"), "system.admin.port", `8443`},
		{"name what has no name", set("policy_tests[0]", "{name: a}"), "policy_tests[a].name", `"a"`},
		{"create a device's object", set("vlans[eth0.20_long+]", "{parent: eth0, tag: 20}"), "vlans[eth0.20_long+].tag", `20`},
		{"set the format that is", set("format", "1"), "format", `1`},
		{"delete the format's value", remove("format"), "format", `1`},
		{"move back", move("frontends[api.v2].rules[c]", "a"), "frontends[api.v2].rules", "c a b"},
		{"move forth", move("frontends[api.v2].rules[a]", "c"), "frontends[api.v2].rules", "b a c"},
		{"move to the end", move("frontends[api.v2].rules[a]", ""), "frontends[api.v2].rules", "b c a"},
		{"move nowhere", move("frontends[api.v2].rules[b]", "b"), "frontends[api.v2].rules", "a b c"},
	} {
		base := decodeAgain(t, "the base", []byte(editBase))
		before := string(EncodeYAML(base))
		next, problems := c.edit(base)
		if problems != nil {
			t.Errorf("%s: %v", c.name, problems)
			continue
		}
		if string(EncodeYAML(base)) != before {
			t.Errorf("%s: the document that was given has changed", c.name)
		}
		got, _ := GetJSON(next, c.from)
		if strings.HasPrefix(c.name, "move") {
			got = []byte(strings.Join(Names(next, c.from), " "))
		}
		if string(got) != c.got || Exists(next, c.from) != (c.got != "") {
			t.Errorf("%s: %s is %s, want %s", c.name, c.from, got, c.got)
		}
		decodeAgain(t, c.name, EncodeYAML(next))
	}
}

func TestEditsRefuse(t *testing.T) {
	for _, c := range []struct{ verb, path, data, want string }{
		{"set", "system.hostnme", "x", "system.hostnme: there is no such name here (did you mean hostname?)"},
		{"set", "frontends[shpo].description", "x", "frontends[shpo]: there is no shpo here (did you mean shop?)"},
		{"set", "frontends[shop", "x", `frontends[shop: this is no path: path "frontends[shop": the bracket at "[shop" isn't closed`},
		{"set", "frontends.description", "x", "frontends: this is a list: say which element is meant (such as frontends[shop])"},
		{"set", "frontends[]", "{}", "frontends[]: there is no  here"},
		{"set", "system.hostname.x", "x", "system.hostname: there is nothing below this: it is a text"},
		{"set", "system[x]", "x", "system: this is no list, so nothing in brackets can follow"},
		{"set", "system.dns_servers[5]", "x", "system.dns_servers[5]: there is no such element; the list has 2, counted from 0"},
		{"set", "system.admin.port", "x", `line 1, column 1: system.admin.port: a whole number is expected, here stands the text "x"`},
		{"set", "system.admin.port", "null", "line 1, column 1: system.admin.port: a whole number is expected, here stands nothing (leave the name out to keep the default)"},
		{"set", "frontends[shop]", "null", "line 1, column 1: frontends[shop]: an object is expected, here stands nothing (delete the element instead)"},
		{"set", "frontends[shop]", "{\nname: other}", "line 2, column 7: frontends[shop].name: the name differs from the one in the path (rename the object, which changes the references to it too)"},
		{"set", "frontends[shop].name", "other", "line 1, column 1: frontends[shop].name: the name differs from the one in the path (rename the object, which changes the references to it too)"},
		{"patch", "frontends[shop]", "{name: null}", "line 1, column 8: frontends[shop].name: the name differs from the one in the path (rename the object, which changes the references to it too)"},
		{"patch", "frontends[shop]", "{binds: [{port: null}]}", "line 1, column 17: frontends[shop].binds[0].port: a whole number is expected, here stands nothing (leave the name out to keep the default)"},
		{"set", "frontends[shop].binds", "[{nam: x}]", "line 1, column 3: frontends[shop].binds[0].nam: there is no such name here (did you mean name?)"},
		{"set", "", "{format: 9}", "line 1, column 10: format: this document has format 9, this Sluis understands up to 1 (update Sluis first)"},
		{"set", "system.hostname", "[", "line 1, column 1: the bracket [ that opens here isn't closed"},
		{"set", "system.hostname", "&x", "line 1, column 1: anchors are not taken (write the value out, or put a text in quotes)"},
		{"set", "administrators[bert]", "{password: (set)}", "administrators[bert].password: (set) keeps a secret, but none is stored here (give the secret again; it doesn't move along when an object is renamed in a file)"},
		{"delete", "frontends[none]", "", "frontends[none]: there is no none here"},
		{"delete", "frontends[api.v2].tls", "", "frontends[api.v2].tls: nothing is set here"},
		{"delete", "frontends[shop].name", "", "frontends[shop].name: a name can't be deleted"},
		{"delete", "", "", "the whole document can't be deleted"},
		{"delete", "system", "", "system: this part is in every document and can't be deleted (set its fields instead)"},
		{"delete", "system.admin", "", "system.admin: this part is in every document and can't be deleted (set its fields instead)"},
		{"set", "format", "7", "line 1, column 1: format: the format is the program's to set (write 1, or leave it out)"},
		{"patch", "format", "0", "line 1, column 1: format: the format is the program's to set (write 1, or leave it out)"},
		{"set", "backends[a\x00b]", "{}", `backends[a\x00b]: a name holds letters, digits, dot, dash and underscore, a\x00b holds something else (the description takes any text)`},
		{"patch", "backends[a b]", "{}", "backends[a b]: a name holds letters, digits, dot, dash and underscore, a b holds something else (the description takes any text)"},
		{"set", "backends[a\xffb]", "{}", `backends[a\xffb]: this is no path: it is not UTF-8 text`},
		{"move", "frontends[\xff]", "", `frontends[\xff]: this is no path: it is not UTF-8 text`},
		{"delete", "frontends[a\nb\u202ec]", "", `frontends[a\nb\u202ec]: there is no a\nb\u202ec here`},
		{"set", "vlans[eth0/20]", "{}", "vlans[eth0/20]: eth0/20 can't be a device: the kernel takes up to 15 characters, without blanks, slashes, colons"},
		{"set", "policy_tests[0].name", "a b", "line 1, column 1: policy_tests[0].name: a name holds letters, digits, dot, dash and underscore, a b holds something else (the description takes any text)"},
		{"set", "policy_tests[0]", "{name: a b}", "line 1, column 8: policy_tests[0].name: a name holds letters, digits, dot, dash and underscore, a b holds something else (the description takes any text)"},
		{"rename", "frontends[shop]", "a\x00b", `frontends[shop]: a name holds letters, digits, dot, dash and underscore, a\x00b holds something else (the description takes any text)`},
		{"rename", "frontends[\xff]", "a", `frontends[\xff]: this is no path: it is not UTF-8 text`},
		{"move", "frontends[api.v2].rules[a]", "d", "frontends[api.v2].rules[a]: there is no d to move it before (did you mean a?)"},
		{"move", "system.dns_servers[0]", "", "system.dns_servers[0]: only an object of a list can be moved"},
		{"move", "system", "", "system: only an object of a list can be moved"},
		{"get", "frontends[api.v2].tls.alpn", "", "frontends[api.v2].tls: nothing is set here"},
	} {
		base := decodeAgain(t, "the base", []byte(editBase))
		var next *Document
		var problems Problems
		switch c.verb {
		case "set":
			next, problems = Set(base, c.path, []byte(c.data))
		case "patch":
			next, problems = Patch(base, c.path, []byte(c.data))
		case "delete":
			next, problems = Delete(base, c.path)
		case "move":
			next, problems = Move(base, c.path, c.data)
		case "rename":
			next, problems = Rename(base, c.path, c.data)
		default:
			_, problems = GetYAML(base, c.path)
		}
		if got := problems.Error(); got != c.want || next != nil {
			t.Errorf("%s %s %q: document %v, problems\n got %s\nwant %s", c.verb, c.path, c.data, next != nil, got, c.want)
		}
	}
}

// TestEditsRefuseWhatCantBeReadAgain edits documents that hold a text which has no
// form; whatever the edit, they don't get past it.
func TestEditsRefuseWhatCantBeReadAgain(t *testing.T) {
	for content, reason := range map[string]string{
		"a\x00b": "the control character 0 can't stand in a document", "a\xffb": "this is not UTF-8 text", "a\x01\u2028\ufffdb\\u0000": "",
	} {
		for path, change := range map[string]func(*Document){
			"frontends[shop].description":   func(d *Document) { d.Frontends[0].Description = content },
			"system.dns_servers[1]":         func(d *Document) { d.System.DNSServers[1] = content },
			"administrators[anna].password": func(d *Document) { d.Administrators[0].Password = NewSecret("file:" + content) },
		} {
			base := decodeAgain(t, "the base", []byte(editBase))
			change(base)
			for name, edit := range map[string]func() (*Document, Problems){
				"set":    func() (*Document, Problems) { return Set(base, "system.hostname", []byte("x")) },
				"move":   func() (*Document, Problems) { return Move(base, "frontends[shop]", "") },
				"rename": func() (*Document, Problems) { return Rename(base, "frontends[api.v2]", "x") },
			} {
				next, problems := edit()
				want := path + ": " + reason
				if reason == "" {
					want = ""
				}
				if got := problems.Error(); got != want || (next == nil) != (reason != "") {
					t.Errorf("%s with %q: document %v, problems %s, want %s", name, content, next != nil, got, want)
				}
				if next != nil {
					decodeAgain(t, name, EncodeYAML(next))
				}
			}
		}
	}
}

func TestNames(t *testing.T) {
	base := decodeAgain(t, "the base", []byte(editBase))
	for path, want := range map[string][]string{
		"frontends": {"shop", "api.v2"}, "frontends[api.v2].rules": {"a", "b", "c"}, "backends": {}, "frontends[none].rules": nil, "system": nil, "system.dns_servers": nil,
	} {
		if diff := cmp.Diff(want, Names(base, path)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", path, diff)
		}
	}
}

// TestWhatIsReadCanBePutBack reads every place of random documents and sets it
// to what was read, which changes nothing.
func TestWhatIsReadCanBePutBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		EachSecret(doc, func(_ string, s *Secret) { *s = NewSecret("secret:00112233445566778899aabbccddeeff") })
		nameAll(doc)
		var paths []string
		walkDocument(doc, func(n *node) bool { paths = append(paths, n.path); return true })
		path := rapid.SampledFrom(paths).Draw(t, "path")
		if !Exists(doc, path) { // an optional part that isn't there
			return
		}
		for _, get := range []func(*Document, string) ([]byte, Problems){GetJSON, GetYAML} {
			for _, put := range []func(*Document, string, []byte) (*Document, Problems){Set, Patch} {
				data, problems := get(doc, path)
				if problems != nil {
					t.Fatal(problems)
				}
				next, problems := put(doc, path, data)
				if problems != nil {
					t.Fatalf("%s: %v in\n%s", path, problems, data)
				}
				if diff := cmp.Diff(doc, next, sameDocument); diff != "" {
					t.Fatalf("%s: (-before +after)\n%s", path, diff)
				}
			}
		}
	})
}

// nameAll gives every object of every list a name of its own.
func nameAll(doc *Document) {
	walkDocument(doc, func(n *node) bool {
		if n.element && nameOf(n.value) == "" && isObject(n.value.Type()) {
			if p, ok := propertyNamed(n.value.Type(), "name"); ok {
				n.value.Field(p.index).SetString("object")
			}
		}
		return true
	})
}

// FuzzPath parses any path; what it takes is written the same way again, and
// editing there neither panics nor changes the document.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"", "frontends[shop].binds[https].port", "system.dns_servers[0]", "a..b", "a[", "a[]b", "frontends[[].x", "frontends[api.v2].rules[a].deny.status"} {
		f.Add(path, "{name: x}")
	}
	f.Fuzz(func(t *testing.T, path, data string) {
		segments, err := parsePath(path)
		if err == nil {
			var written []string
			for _, s := range segments {
				written = append(written, s.String())
			}
			if got := strings.Join(written, "."); got != path {
				t.Fatalf("parsePath(%q) is written %q", path, got)
			}
		}
		base := decodeAgain(t, "the base", []byte(editBase))
		before := string(EncodeYAML(base))
		for _, put := range []func(*Document, string, []byte) (*Document, Problems){Set, Patch} {
			next, problems := put(base, path, []byte(data))
			if (next == nil) != problems.HasErrors() {
				t.Fatalf("document %v with %v", next != nil, problems)
			}
		}
		_, _ = Delete(base, path)
		_, _ = Move(base, path, "a")
		if string(EncodeYAML(base)) != before {
			t.Fatalf("an edit at %q changed the document that was given", path)
		}
	})
}
