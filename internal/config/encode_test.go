package config

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluis/internal/config/wire"
)

// awkward are texts that a form of writing may take for something else.
var awkward = sync.OnceValue(func() []string {
	data, err := os.ReadFile("wire/testdata/awkward.json")
	if err != nil {
		panic(err)
	}
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		panic(err)
	}
	return texts
})

func drawText(t *rapid.T) string {
	if rapid.IntRange(0, 9).Draw(t, "any") > 0 {
		return rapid.SampledFrom(awkward()).Draw(t, "text")
	}
	return strings.ReplaceAll(strings.ToValidUTF8(rapid.String().Draw(t, "text"), ""), "\x00", "")
}

// drawDocument fills a document at random, every field of every object.
func drawDocument(t *rapid.T) *Document {
	var doc Document
	drawValue(t, reflect.ValueOf(&doc).Elem())
	doc.Format = CurrentFormat
	return &doc
}

func drawValue(t *rapid.T, v reflect.Value) {
	switch value := v.Addr().Interface().(type) {
	case *Secret:
		*value = NewSecret(rapid.SampledFrom([]string{
			"", "key:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "secret:00112233445566778899aabbccddeeff", "file:a key.pem", "env:A",
		}).Draw(t, "secret"))
		return
	case *Duration:
		*value = Duration(rapid.Int64().Draw(t, "duration"))
		return
	case *Size:
		*value = Size(rapid.Int64Min(0).Draw(t, "size"))
		return
	case *time.Time:
		*value = time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "time"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
		return
	case *Port:
		*value = Port(rapid.SampledFrom([]string{"443", "0443", "0", "", "8000-8080", "alias:web", "1e3", "-1", "+1", "99999999999"}).Draw(t, "port"))
		return
	case enum:
		v.SetString(rapid.SampledFrom(value.Values()).Draw(t, "word"))
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			drawValue(t, v.Elem())
		}
	case v.Kind() == reflect.Slice:
		if n := rapid.IntRange(0, 2).Draw(t, "length"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			drawValue(t, v.Index(i))
		}
	case isObject(v.Type()):
		if rapid.Bool().Draw(t, "defaults") {
			v.Set(newOf(v.Type()))
		}
		for _, p := range properties(v.Type()) {
			if rapid.Bool().Draw(t, "given") {
				drawValue(t, v.Field(p.index))
			} else if _, ok := v.Field(p.index).Interface().(enum); ok && v.Field(p.index).String() == "" {
				drawValue(t, v.Field(p.index)) // no word is not one of the words
			} else if isObject(p.typ) {
				drawValue(t, v.Field(p.index))
			}
		}
	case v.Kind() == reflect.String:
		v.SetString(drawText(t))
	case v.Kind() == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case v.Kind() == reflect.Int:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case v.Kind() == reflect.Uint16:
		v.SetUint(uint64(rapid.Uint16().Draw(t, "uint16")))
	default:
		t.Fatalf("no way to draw a %v", v.Type())
	}
}

// sameDocument compares documents with their secrets.
var sameDocument = cmp.Comparer(func(a, b Secret) bool { return a == b })

func decodeAgain(t rapid.TB, form string, written []byte) *Document {
	t.Helper()
	doc, problems := Decode(written)
	if len(problems) > 0 {
		t.Fatalf("%s isn't read again: %v\n%s", form, problems, written)
	}
	return doc
}

func TestDocumentSurvivesEveryForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		fromYAML := decodeAgain(t, "YAML", EncodeYAML(doc))
		if diff := cmp.Diff(doc, fromYAML, sameDocument); diff != "" {
			t.Fatalf("YAML (-want +got)\n%s", diff)
		}
		fromJSON := decodeAgain(t, "JSON", EncodeJSONStored(fromYAML))
		if diff := cmp.Diff(doc, fromJSON, sameDocument); diff != "" {
			t.Fatalf("JSON (-want +got)\n%s", diff)
		}
		fromBrief := decodeAgain(t, "brief YAML", EncodeBrief(doc))
		if diff := cmp.Diff(doc, fromBrief, sameDocument); diff != "" {
			t.Fatalf("brief YAML (-want +got)\n%s", diff)
		}
		if !json.Valid(EncodeJSON(doc)) || !json.Valid(EncodeJSONStored(doc)) {
			t.Fatal("the JSON form isn't JSON")
		}
	})
}

func TestEncodeSpellsOutEveryValue(t *testing.T) {
	doc := Default()
	doc.Frontends = []Frontend{newOf(reflect.TypeFor[Frontend]()).Interface().(Frontend)}
	doc.Frontends[0].TLS = &FrontendTLS{MinVersion: TLS12, MaxVersion: TLS13}
	doc.Firewall.Rules = []FirewallRule{{DestinationPorts: []Port{"443", "8000-8080", "alias:web"}}}
	written := string(EncodeYAML(doc))
	n, problems := readTree([]byte(written))
	if problems != nil {
		t.Fatal(problems)
	}
	checkSpelledOut(t, reflect.TypeFor[Document](), n, "")
	for _, line := range []string{"        - 443\n", `        - "8000-8080"` + "\n", "        - alias:web\n", `      min_version: "1.2"` + "\n", "    binds: []\n", "    keep_alive: true\n"} {
		if !strings.Contains(written, line) {
			t.Errorf("the line %q isn't in\n%s", line, written)
		}
	}
}

func checkSpelledOut(t *testing.T, typ reflect.Type, n *wire.Node, path string) {
	for _, p := range properties(typ) {
		value, at := n.Member(p.name), join(path, p.name)
		switch {
		case value == nil && p.typ.Kind() != reflect.Pointer:
			t.Errorf("%s is left out", at)
		case value != nil && isObject(p.typ):
			checkSpelledOut(t, p.typ, value, at)
		case isObjectList(p.typ):
			for _, item := range value.Items {
				checkSpelledOut(t, p.typ.Elem(), item, at)
			}
		}
	}
}

func TestEncodeBriefLeavesDefaultsOut(t *testing.T) {
	doc := Default()
	doc.System.Hostname = "lb1"
	bind := newOf(reflect.TypeFor[Bind]()).Interface().(Bind)
	bind.Name = "https"
	frontend := newOf(reflect.TypeFor[Frontend]()).Interface().(Frontend)
	frontend.Name, frontend.Binds, frontend.Forwarded.Port = "shop", []Bind{bind}, false
	frontend.Rules = []Rule{{Name: "no", Deny: &Deny{Status: 403}}}
	doc.Frontends = []Frontend{frontend}
	want := `format: 1
system:
  hostname: lb1
frontends:
  - name: shop
    binds:
      - name: https
    rules:
      - name: "no"
        deny: {}
    forwarded:
      port: false
`
	if diff := cmp.Diff(want, string(EncodeBrief(doc))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestNoFormTellsSecrets plants a secret everywhere one can stand.
func TestNoFormTellsSecrets(t *testing.T) {
	doc := fullDocument()
	planted := 0
	walkDocument(doc, func(n *node) bool {
		if n.value.Type() == secretType {
			n.value.Set(reflect.ValueOf(NewSecret(fmt.Sprintf("planted-%d", planted))))
			planted++
		}
		return true
	})
	if planted < 8 {
		t.Fatalf("only %d secrets planted", planted)
	}
	for form, written := range map[string][]byte{
		"EncodeYAML": EncodeYAML(doc), "EncodeBrief": EncodeBrief(doc), "EncodeJSON": EncodeJSON(doc), "EncodeJSONStored": EncodeJSONStored(doc),
		"%v": fmt.Appendf(nil, "%v %+v %#v", *doc, *doc, *doc),
	} {
		if strings.Contains(string(written), "planted") {
			t.Errorf("%s tells a secret", form)
		}
		if got := strings.Count(string(written), "(set)"); got < planted {
			t.Errorf("%s shows %d of %d secrets as set", form, got, planted)
		}
	}
	key := "key:00112233445566778899aabbccddeeff"
	doc.Certificates[0].Key = NewSecret(key)
	if strings.Contains(string(EncodeJSON(doc)), key) || !strings.Contains(string(EncodeYAML(doc)), key) {
		t.Error("a reference belongs in the stored form alone")
	}
}

// TestLargeDocumentsFit holds the bounds against the largest document that
// Sluis is meant for: ten thousand routes, each with a rule and an ACL.
func TestLargeDocumentsFit(t *testing.T) {
	doc, problems := Decode(manyRoutes(10000))
	if problems != nil {
		t.Fatal(problems)
	}
	n := form{secret: Secret.stored}.document(doc)
	size, count := len(wire.AppendYAML(nil, n)), n.Count()
	t.Logf("%d bytes, %d nodes", size, count)
	if size > MaxDocument/2 || count > wire.MaxNodes/2 {
		t.Errorf("the stored form has %d bytes and %d nodes, which is more than half of what can be read", size, count)
	}
}

// TestWhatIsTakenCanBeStored gives texts that grow when they are written.
func TestWhatIsTakenCanBeStored(t *testing.T) {
	body := strings.Repeat("\u0085", MaxDocument/5)
	_, problems := Decode([]byte("error_pages: [{name: down, body: '" + body + "'}]"))
	const want = "the document is too large"
	if !strings.HasPrefix(problems.Error(), want) {
		t.Errorf("Decode: problems %.200s, want %s", problems.Error(), want)
	}
	doc := decodeAgain(t, "the page", []byte("error_pages: [{name: down}]"))
	if _, problems = Set(doc, "error_pages[down].body", []byte("'"+body+"'")); !strings.HasPrefix(problems.Error(), want) {
		t.Errorf("Set: problems %.200s, want %s", problems.Error(), want)
	}
}

func manyRoutes(n int) []byte {
	var b strings.Builder
	b.WriteString("frontends:\n- name: shop\n  acls:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: host-%d, is: [site-%d.example.net]}\n", i, i)
	}
	b.WriteString("  rules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: route-%d, when: host-%d, use_backend: backend-%d}\n", i, i, i)
	}
	return []byte(b.String())
}

func BenchmarkDecode(b *testing.B) {
	for _, routes := range []int{10, 1000, 10000} {
		doc, problems := Decode(manyRoutes(routes))
		if problems != nil {
			b.Fatal(problems)
		}
		written := EncodeYAML(doc)
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			b.SetBytes(int64(len(written)))
			b.ReportAllocs()
			for b.Loop() {
				if _, problems := Decode(written); problems != nil {
					b.Fatal(problems)
				}
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	for _, routes := range []int{10, 10000} {
		doc, problems := Decode(manyRoutes(routes))
		if problems != nil {
			b.Fatal(problems)
		}
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, problems := Set(doc, "system.hostname", []byte("lb2")); problems != nil {
					b.Fatal(problems)
				}
			}
		})
	}
}

func BenchmarkEncodeYAML(b *testing.B) {
	doc, problems := Decode(manyRoutes(10000))
	if problems != nil {
		b.Fatal(problems)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(EncodeYAML(doc))))
	}
}
