package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/config/wire"
)

var updateGolden = flag.Bool("update", false, "write golden files anew")

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDecodeProblems compares with golden pairs: the document above the line,
// what is said about it below.
func TestDecodeProblems(t *testing.T) {
	names, err := filepath.Glob("testdata/problems/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range names {
		const line = "\n==== problems ====\n"
		document, want, _ := strings.Cut(string(readFile(t, name)), line)
		doc, problems := Decode([]byte(document))
		if (doc == nil) != problems.HasErrors() {
			t.Errorf("%s: document %v with errors %v", name, doc != nil, problems.HasErrors())
		}
		got := problems.Error() + "\n"
		if *updateGolden {
			if err := os.WriteFile(name, []byte(document+line+got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// TestEveryObjectReportsUnknownNames misspells a name beside every field of
// every object.
func TestEveryObjectReportsUnknownNames(t *testing.T) {
	full := fullDocument()
	count := 0
	walkDocument(full, func(n *node) bool {
		at := n.prop.name + "x"
		var known []string
		for _, p := range properties(n.parent.Type()) {
			known = append(known, p.name)
		}
		if n.element || Nearest(at, known) != n.prop.name {
			return true
		}
		count++
		owner := n.owner.path
		root := form{secret: Secret.stored}.document(full)
		object := root
		if owner != "" {
			object = treeAt(t, root, owner)
		}
		object.Members = append(object.Members, wire.Member{Key: at, Value: &wire.Node{Kind: wire.Text}, Line: 7, Column: 3})
		d := decoder{}
		d.object(reflect.ValueOf(Default()).Elem(), reflect.ValueOf(Default()).Elem(), root, "")
		want := fmt.Sprintf("line 7, column 3: %s: there is no such name here (did you mean %s?)", join(owner, at), n.prop.name)
		if got := d.problems.Error(); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		return true
	})
	if fields := len(Fields()); count < fields*2/3 {
		t.Errorf("only %d of %d fields were misspelt", count, fields)
	}
}

// treeAt follows a path through a tree.
func treeAt(t *testing.T, n *wire.Node, path string) *wire.Node {
	segments, err := parsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		n = n.Member(s.key)
		if !s.hasSel {
			continue
		}
		for i, item := range n.Items {
			if itemSelector(item, i) == s.sel {
				n = item
				break
			}
		}
	}
	return n
}

func TestDecodeTakes(t *testing.T) {
	for _, c := range []struct {
		name, in string
		get      func(*Document) any
		want     any
	}{
		{"nothing left out has its default", "{}", func(d *Document) any { return *d }, *Default()},
		{
			"a number as text keeps its form", "backends: [{name: a, servers: [{name: 1, cookie: 007}]}]",
			func(d *Document) any { s := d.Backends[0].Servers[0]; return s.Name + " " + s.Cookie }, "1 007",
		},
		{"a version without quotes", "frontends: [{name: a, tls: {min_version: 1.3}}]", func(d *Document) any { return d.Frontends[0].TLS.MinVersion }, TLS13},
		{
			"ports as numbers, ranges and aliases", "firewall: {rules: [{name: a, destination_ports: [443, 8000-8080, alias:web]}]}",
			func(d *Document) any { return d.Firewall.Rules[0].DestinationPorts },
			[]Port{"443", "8000-8080", "alias:web"},
		},
		{
			"a time in another zone", "administrators: [{name: a, expires: 2031-04-01T00:00:00+02:00}]",
			func(d *Document) any { return d.Administrators[0].Expires.String() }, "2031-03-31 22:00:00 +0000 UTC",
		},
		{"an absent optional", "frontends: [{name: a, tls: null}]", func(d *Document) any { return d.Frontends[0].TLS == nil }, true},
		{"an optional with its defaults", "frontends: [{name: a, tls: {}}]", func(d *Document) any { return d.Frontends[0].TLS.ALPN }, []string{"http/1.1"}},
		{"a list in place of its default", "frontends: [{name: a, tls: {alpn: []}}]", func(d *Document) any { return d.Frontends[0].TLS.ALPN }, []string(nil)},
		{"an optional number", "authorities: [{name: a, internal: {path_length: 0}}]", func(d *Document) any { return *d.Authorities[0].Internal.PathLength }, 0},
		{"days", "logging: {retention: 7d12h}", func(d *Document) any { return d.Logging.Retention }, Duration(7*day + 12*time.Hour)},
		{"a missing format", "system: {hostname: a}", func(d *Document) any { return d.Format }, CurrentFormat},
	} {
		doc, problems := Decode([]byte(c.in))
		if problems != nil {
			t.Errorf("%s: %v", c.name, problems)
			continue
		}
		if diff := cmp.Diff(c.want, c.get(doc), sameDocument); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

// TestDefaultsAreNotShared changes one element of a list and looks at the other.
func TestDefaultsAreNotShared(t *testing.T) {
	doc := decodeAgain(t, "frontends", []byte("frontends: [{name: a, tls: {}}, {name: b, tls: {}}]"))
	doc.Frontends[0].TLS.ALPN[0] = "h2"
	if got := doc.Frontends[1].TLS.ALPN[0]; got != "http/1.1" {
		t.Errorf("the other frontend now has %s", got)
	}
	if got := decodeAgain(t, "tls", []byte("frontends: [{name: a, tls: {}}]")).Frontends[0].TLS.ALPN[0]; got != "http/1.1" {
		t.Errorf("the default is now %s", got)
	}
}

func TestDecodeBoundsItsProblems(t *testing.T) {
	_, problems := Decode([]byte(strings.Repeat("x: 1\n", 5000)))
	if len(problems) != maxProblems+1 || problems[maxProblems].Message.String() != "there are more problems than these" {
		t.Errorf("%d problems, the last %v", len(problems), problems[len(problems)-1])
	}
}

// TestGuideEndState reads what the guide leads to.
func TestGuideEndState(t *testing.T) {
	doc := decodeAgain(t, "the guide's end state", readFile(t, "testdata/guide-end-state.yaml"))
	if got := doc.Backends[0].Servers[1].Host; got != "web2.lab.example.net" {
		t.Errorf("the second server's host is %q", got)
	}
	for form, written := range map[string][]byte{"YAML": EncodeYAML(doc), "brief YAML": EncodeBrief(doc), "JSON": EncodeJSONStored(doc)} {
		if diff := cmp.Diff(doc, decodeAgain(t, form, written), sameDocument); diff != "" {
			t.Errorf("%s (-want +got)\n%s", form, diff)
		}
	}
}

// TestFormats reads one revision of every format that ever was. The newest one
// is as it is written today, and gives every field a value of its own somewhere.
func TestFormats(t *testing.T) {
	for format := 1; format <= CurrentFormat; format++ {
		written := readFile(t, fmt.Sprintf("testdata/formats/%d.yaml", format))
		doc := decodeAgain(t, "the revision", written)
		if problems := Validate(doc).Errors(); problems != nil {
			t.Errorf("format %d: %v", format, problems)
		}
		if format != CurrentFormat {
			continue
		}
		if diff := cmp.Diff(string(written), string(EncodeYAML(doc))); diff != "" {
			t.Errorf("format %d is written differently now: (-stored +now)\n%s", format, diff)
		}
		checkEveryFieldIsUsed(t, doc)
	}
}

// checkEveryFieldIsUsed looks for a field of a type that has its default in every
// object.
func checkEveryFieldIsUsed(t *testing.T, doc *Document) {
	used := map[string]bool{
		"Document.format": true,
		"Admin.protocol":  true, // the document has one Admin, whose other fields want https
	}
	checkUsed(reflect.ValueOf(doc).Elem(), reflect.ValueOf(Default()).Elem(), used)
	walkDocument(fullDocument(), func(n *node) bool {
		if field := n.parent.Type().Name() + "." + n.prop.name; !used[field] {
			used[field] = true
			t.Errorf("no %s differs from its default", field)
		}
		return true
	})
}

// checkUsed notes all fields that differ from their default.
func checkUsed(v, def reflect.Value, used map[string]bool) {
	for _, p := range properties(v.Type()) {
		field := v.Field(p.index)
		if equal(field, def.Field(p.index)) {
			continue
		}
		used[v.Type().Name()+"."+p.name] = true
		switch {
		case isObject(p.typ):
			checkUsed(field, def.Field(p.index), used)
		case p.typ.Kind() == reflect.Pointer && isObject(p.typ.Elem()):
			checkUsed(field.Elem(), newOf(p.typ.Elem()), used)
		case isObjectList(p.typ):
			for i := range field.Len() {
				checkUsed(field.Index(i), newOf(p.typ.Elem()), used)
			}
		}
	}
}

// FuzzDecode reads anything without panic; what it takes comes back the same.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"testdata/guide-end-state.yaml", "testdata/formats/1.yaml"} {
		f.Add(readFile(f, name))
	}
	f.Add([]byte(`{"format": 1, "frontends": [{"name": "shop", "tls": {"min_version": "1.2"}, "log": null}]}`))
	f.Add([]byte("administrators: [{name: 1, password: (set), expires: 2031-04-01T00:00:00Z}]\nlogging: {retention: 7d, max_size: 1MiB}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, problems := Decode(data)
		if (doc == nil) != problems.HasErrors() {
			t.Fatalf("document %v with %v", doc != nil, problems)
		}
		if doc == nil {
			return
		}
		for _, name := range collectSecrets(doc) {
			if strings.Contains(string(EncodeYAML(doc)), name) && len(name) > 12 {
				t.Fatalf("the stored form tells the secret %q", name)
			}
		}
		stored := EncodeYAML(doc)
		again, problems := Decode(stored)
		if problems != nil {
			t.Fatalf("%v in\n%s", problems, stored)
		}
		if diff := cmp.Diff(string(stored), string(EncodeYAML(again))); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func collectSecrets(doc *Document) []string {
	var inline []string
	EachSecret(doc, func(_ string, s *Secret) {
		if value, ok := s.Inline(); ok {
			inline = append(inline, value)
		}
	})
	return inline
}
