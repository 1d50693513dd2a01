package migrate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sluis/internal/config"
)

// Every field of the load balancer does something in HAProxy's configuration, or
// the report says that it doesn't: it is given other values in a document that
// uses all of them, and either the output changes or the report has a line for it.
func TestEveryFieldIsExportedOrReported(t *testing.T) {
	base := load(t, "testdata/everything.yaml")
	for _, f := range config.Fields() {
		list, _, _ := strings.Cut(f.Path, "[")
		top, _, _ := strings.Cut(list, ".")
		if !slices.Contains([]string{"load_balancer", "frontends", "backends", "stick_tables", "error_pages"}, top) {
			continue
		}
		if f.Type == config.FieldObject || f.Type == config.FieldList && f.Element == config.FieldObject {
			continue // its fields are asked
		}
		paths := places(base, f.Path)
		if len(paths) == 0 {
			t.Errorf("%s: testdata/everything.yaml has no such place", f.Path)
			continue
		}
		if !exportedOrReported(t, base, f, paths) {
			t.Errorf("%s: other values change nothing, and the report has no line for it", f.Path)
		}
	}
}

func exportedOrReported(t *testing.T, base *config.Document, f config.Field, paths []string) bool {
	t.Helper()
	o := options()
	o.Key = nil // nobody looks at the keys here
	before := rendered(HAProxy(base, o))
	for _, path := range paths {
		for _, value := range otherValues(f) {
			encoded, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			changed, problems := config.Set(base, path, encoded)
			if strings.HasSuffix(f.Path, "[].name") {
				changed, problems = config.Rename(base, strings.TrimSuffix(path, ".name"), "another")
			}
			if problems.HasErrors() {
				t.Fatalf("%s = %s: %v", path, encoded, problems)
			}
			after := HAProxy(changed, o)
			if rendered(after) != before {
				return true
			}
			for _, line := range after.Report {
				if line.Outcome == LeftOut && (config.Within(path, line.Path) || config.Within(line.Path, path)) ||
					line.Outcome == Approximated && line.Path == path {
					return true
				}
			}
		}
	}
	return false
}

func rendered(c HAProxyConfig) string {
	var b strings.Builder
	b.Write(c.Config)
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		fmt.Fprintf(&b, "%s\n%s", name, c.Files[name])
	}
	return b.String()
}

// places are the paths in a document that a pattern stands for.
func places(doc *config.Document, pattern string) []string {
	before, after, more := strings.Cut(pattern, "[]")
	if !more {
		if config.Exists(doc, pattern) {
			return []string{pattern}
		}
		return nil
	}
	var found []string
	for _, name := range config.Names(doc, before) {
		found = append(found, places(doc, before+"["+name+"]"+after)...)
	}
	return found
}

// otherValues are values of a field's kind that no document here has.
func otherValues(f config.Field) []any {
	var texts []any
	switch f.Type {
	case config.FieldBoolean:
		return []any{true, false}
	case config.FieldInteger:
		return []any{0, 1, 3, 302, 451, 999}
	case config.FieldDuration:
		return []any{"0s", "17s"}
	case config.FieldSize:
		return []any{"77KiB"}
	case config.FieldEnum:
		for _, v := range f.Values {
			texts = append(texts, v.Value)
		}
		return texts
	case config.FieldList:
		inner := f
		inner.Type = f.Element
		for _, v := range otherValues(inner) {
			texts = append(texts, []any{v})
		}
		return append(texts, []any{})
	}
	return []any{"another", "", "/another", "192.0.2.200", "a.example.org", "shop", "client", "hashed", "web", "web1", "clients", "busy", "handshakes", "https", "PATCH", "5xx", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}
}
