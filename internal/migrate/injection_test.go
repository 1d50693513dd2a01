package migrate

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"sluis/internal/config"
)

// nasty are texts that mean something to one of HAProxy's three readers.
var nasty = []string{
	"a b", `a"b`, "a'b", "a#b", `a\`, `\n`, "a\nbind :1", "a\r\nb", "${HOME}", `"$HOME"`, "%[env(HOME)]", "%", "%%", "%{+Q}o", "%ci",
	"a,b", "a)b", "a]b", "a}b", "if", "unless", "or", "||", "{", "!", "-i", "--", "-f", "x if { always_true }", "\x00", "a\x00b", "\t", "  ", "é", "\xff\xfe", "",
	"'; drop", `"),env(HOME),concat("`, "@system-ca", "a:b", "[::1]:80", "/a", "(?<!a)b", "(a{1000}b){1000}", `\Q#\E`, "$1$2", "${x}", "../../etc/passwd", ".", "*", "root:x", "127.0.0.1", "fd@3", "unix@/x", "0", strings.Repeat("x", 5000),
}

// Whatever stands in a text of the document: HAProxy accepts what comes out, and
// the text begins no line. Each text is put into all fields of an object at a time
// that nothing refers to; in long tests into each field alone.
func TestNothingIsInjected(t *testing.T) {
	base := load(t, "testdata/everything.yaml")
	count := len(textFields(base))
	if count < 150 {
		t.Fatalf("%d texts found in the document", count)
	}
	for i, text := range nasty {
		doc := config.Clone(base)
		for _, f := range textFields(doc) {
			if !f.refers {
				f.value.SetString(text)
			}
		}
		if holdsText(t, doc, text); t.Failed() {
			t.Fatalf("with %q in all texts", text)
		}
		if os.Getenv("SLUIS_LONG") == "" {
			continue
		}
		for n := range count {
			if (n+i)%40 != 0 { // one in forty, others for each text
				continue
			}
			doc := config.Clone(base)
			f := textFields(doc)[n]
			f.value.SetString(text)
			if holdsText(t, doc, text); t.Failed() {
				t.Fatalf("with %q in %s", text, f.path)
			}
		}
	}
}

// FuzzHAProxy puts a text into one field.
func FuzzHAProxy(f *testing.F) {
	base := load(f, "testdata/everything.yaml")
	for i, text := range nasty {
		f.Add(uint16(i*7), text)
	}
	f.Fuzz(func(t *testing.T, n uint16, text string) {
		doc := config.Clone(base)
		fields := textFields(doc)
		field := fields[int(n)%len(fields)]
		field.value.SetString(text)
		if holdsText(t, doc, text); t.Failed() {
			t.Logf("with %q in %s", text, field.path)
		}
	})
}

func holdsText(t *testing.T, doc *config.Document, text string) {
	t.Helper()
	c := HAProxy(doc, options())
	for line := range strings.Lines(string(c.Config)) {
		directive := strings.TrimSpace(line)
		if word, _, _ := strings.Cut(directive, " "); directive != "" && !directives[word] && !strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "    # ") {
			t.Errorf("a line begins with %q: %q", word, line)
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("a control character in %q", line)
		}
	}
	for name := range c.Files {
		if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." || name == "" {
			t.Errorf("a file is called %q", name)
		}
	}
	if out, ok := accepted(t, doc, options()); !ok {
		t.Errorf("HAProxy refuses:\n%s", out)
	}
}

// directives are all words that the exporter begins a line with.
var directives = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`global defaults resolvers userlist frontend backend maxconn nbthread hard-stop-after user group
		stats log tune.bufsize tune.http.maxhdr mode nameserver parse-resolv-conf description disabled bind timeout option no log-format
		http-error tcp-request acl http-request http-response use_backend use-server default_backend balance hash-type retries http-reuse
		cookie dynamic-cookie-key stick stick-table http-check server`) {
		m[w] = true
	}
	return m
}()

// textField is a text of a document.
type textField struct {
	path  string
	value reflect.Value
	// refers is set where other places name the text: a name, or a reference.
	refers bool
}

// textFields are the texts of the load balancer's part, and of what it refers to.
func textFields(doc *config.Document) (found []textField) {
	v := reflect.ValueOf(doc).Elem()
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; name {
		case "Frontends", "Backends", "StickTables", "ErrorPages", "LoadBalancer", "Aliases", "VirtualIPs", "Certificates", "Authorities", "Logging":
			collect(&found, name, v.Field(i), false)
		}
	}
	return found
}

func collect(found *[]textField, path string, v reflect.Value, refers bool) {
	switch v.Kind() {
	case reflect.String:
		if _, isEnum := v.Interface().(interface{ Values() []string }); !isEnum {
			*found = append(*found, textField{path, v, refers})
		}
	case reflect.Slice:
		for i := range v.Len() {
			collect(found, fmt.Sprintf("%s[%d]", path, i), v.Index(i), refers)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			collect(found, path, v.Elem(), refers)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() {
				tag := f.Tag
				collect(found, path+"."+f.Name, v.Field(i), f.Name == "Name" || tag.Get("ref") != "" || tag.Get("refs") != "" || tag.Get("format") == "condition")
			}
		}
	}
}
