package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// wiredNames are few, so that drawn documents name their own objects often, and
// objects of different kinds alike.
var wiredNames = []string{"a", "b", "c.d", "is_tls", "v-1"}

// drawWired draws a document full of references, most of which lead somewhere.
// It isn't valid in any other way.
func drawWired(t *rapid.T) *Document {
	doc := Default()
	drawObject(t, reflect.ValueOf(doc).Elem())
	return doc
}

func drawObject(t *rapid.T, v reflect.Value) {
	for _, p := range properties(v.Type()) {
		if p.name != "name" || v.Type() == reflect.TypeFor[PersistenceCookie]() {
			drawField(t, p, v.Field(p.index))
		}
	}
}

func drawField(t *rapid.T, p property, v reflect.Value) {
	switch {
	case isObjectList(v.Type()):
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(wiredNames), 0, 2, rapid.ID).Draw(t, p.name)
		v.Set(reflect.MakeSlice(v.Type(), len(names), len(names)))
		for i, name := range names {
			element := v.Index(i)
			element.Set(reflect.ValueOf(defaultOf(element.Type())))
			drawObject(t, element)
			if property, ok := propertyNamed(element.Type(), "name"); ok {
				element.Field(property.index).SetString(name)
			}
		}
	case isObject(v.Type()):
		drawObject(t, v)
	case v.Kind() == reflect.Pointer:
		v.SetZero()
		if rapid.Bool().Draw(t, p.name) {
			v.Set(reflect.New(v.Type().Elem()))
			v.Elem().Set(reflect.ValueOf(defaultOf(v.Type().Elem())))
			drawField(t, p, v.Elem())
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, p.name), 3))
		for i := range v.Len() {
			drawField(t, p, v.Index(i))
		}
	default:
		drawPlain(t, p, v)
	}
}

func drawPlain(t *rapid.T, p property, v reflect.Value) {
	name := rapid.SampledFrom(wiredNames)
	switch {
	case v.Type() == secretType:
		v.Set(reflect.ValueOf(NewSecret(rapid.SampledFrom([]string{"", "secret:00112233445566778899aabbccddeeff", "secret:ffeeddccbbaa99887766554433221100"}).Draw(t, p.name))))
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(time.Unix(int64(rapid.IntRange(0, 2).Draw(t, p.name)), 0).UTC()))
	case v.Kind() == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, p.name))
	case v.CanInt():
		v.SetInt(int64(rapid.IntRange(0, 2).Draw(t, p.name)))
	case v.CanUint():
		v.SetUint(uint64(rapid.IntRange(0, 2).Draw(t, p.name)))
	case p.tag.Get("refs") != "":
		kinds := strings.Fields(p.tag.Get("refs") + " 192.0.2.1")
		kind := rapid.SampledFrom(kinds).Draw(t, p.name)
		v.SetString(kind)
		if kind != "192.0.2.1" {
			v.SetString(kind + ":" + name.Draw(t, p.name))
		}
	case p.tag.Get("format") == "condition":
		v.SetString(drawCondition(t, append(wiredNames, "and", ""), 2))
	default:
		v.SetString(name.Draw(t, p.name))
	}
}

func TestReferences(t *testing.T) {
	doc := soundDocument()
	doc.Frontends[0].Rules = append(doc.Frontends[0].Rules, Rule{Name: "lost", When: "is_tls and (nobody or api)", UseBackend: "gone"})
	doc.VLANs = []VLAN{{Name: "eth0.20", Parent: "eth0", Tag: 20}, {Name: "q", Parent: "eth0.20", Tag: 21}}
	doc.MaintenanceWindows = []MaintenanceWindow{
		{Name: "w", Backend: "web", Servers: []string{"web1", "web9"}, Schedule: "nights"}, {Name: "x", Backend: "gone", Servers: []string{"web1"}},
	}
	got := map[string]string{}
	for _, r := range References(doc) {
		to := r.To
		if r.Missing {
			to += " missing"
		}
		got[r.From] += to + "\n"
	}
	want := map[string]string{
		"system.admin.sources[0]":                 "aliases[office]\n",
		"firewall.rules[https].destination":       "virtual_ips[shop]\n",
		"firewall.rules[https].interface":         "interfaces[wan]\n",
		"vlans[q].parent":                         "vlans[eth0.20]\n",
		"frontends[shop].binds[https].address":    "virtual_ips[shop]\n",
		"frontends[shop].tls.certificates[0]":     "certificates[shop]\n",
		"frontends[shop].default_backend":         "backends[web]\n",
		"frontends[shop].rules[lost].when":        "frontends[shop].acls[nobody] missing\nfrontends[shop].acls[api]\n",
		"frontends[shop].rules[lost].use_backend": "backends[gone] missing\n",
		"backends[web].rules[canary].use_server":  "backends[web].servers[web2]\n",
		"maintenance_windows[w].servers[0]":       "backends[web].servers[web1]\n",
		"maintenance_windows[w].servers[1]":       "backends[web].servers[web9] missing\n",
		"maintenance_windows[x].servers[0]":       "backends[gone].servers[web1] missing\n",
		"administrators[oper].objects[0]":         "backends[web]\n",
		"policy_tests[shop-front].bind":           "frontends[shop].binds[https]\n",
		"notifications.rules[all].channels[0]":    "notifications.channels[mail]\n",
		"certificates[inner].internal.authority":  "authorities[root]\n",
	}
	for from, to := range want {
		if got[from] != to {
			t.Errorf("References: %s leads to %q, want %q", from, got[from], to)
		}
	}
}

func TestUsedBy(t *testing.T) {
	doc := soundDocument()
	tests := []struct {
		path string
		want []string
	}{
		{"frontends[shop]", []string{"policy_tests[shop-front].frontend", "policy_tests[shop-front].bind"}},
		{"frontends[shop].acls[api]", []string{"frontends[shop].rules[to-api].when"}},
		{"virtual_ips[shop]", []string{"firewall.rules[https].destination", "frontends[shop].binds[https].address", "frontends[shop].binds[http].address"}},
		{"virtual_ips[sho]", nil},
		{"backends[web].servers[web2]", []string{"backends[web].rules[canary].use_server"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, UsedBy(doc, tt.path)); diff != "" {
			t.Errorf("UsedBy(%s): -want +got\n%s", tt.path, diff)
		}
	}
}

func TestRename(t *testing.T) {
	doc := soundDocument()
	doc.VLANs = []VLAN{{Name: "eth0.20", Parent: "eth0", Tag: 20}}
	doc.Interfaces = append(doc.Interfaces, Interface{Name: "dmz", Device: "eth0.20"})
	doc.Frontends[0].Rules[1].When = "not  api\tor (api and is_tls)"
	before := Clone(doc)
	rename := func(path, name string) *Document {
		t.Helper()
		renamed, problems := Rename(doc, path, name)
		if len(problems) > 0 {
			t.Fatalf("Rename(%s, %s): %v", path, name, problems)
		}
		if got := References(renamed); slices.ContainsFunc(got, func(r Reference) bool { return r.Missing }) {
			t.Errorf("Rename(%s, %s) left places that lead nowhere: %v", path, name, got)
		}
		return renamed
	}
	got := rename("backends[web]", "farm")
	if f := got.Frontends[0]; got.Backends[0].Name != "farm" || f.DefaultBackend != "farm" || got.Administrators[1].Objects[0] != "backend:farm" {
		t.Errorf("Rename of a backend: %+v", f)
	}
	if got := rename("frontends[shop].acls[api]", "rest").Frontends[0].Rules[1].When; got != "not  rest\tor (rest and is_tls)" {
		t.Errorf("Rename of an ACL: %q", got)
	}
	if got := rename("vlans[eth0.20]", "dmz20"); got.VLANs[0].Name != "dmz20" || got.Interfaces[2].Device != "dmz20" {
		t.Errorf("Rename of a VLAN: %+v %+v", got.VLANs, got.Interfaces)
	}
	if got := rename("frontends[shop].binds[https]", "tls"); got.PolicyTests[0].Bind != "tls" {
		t.Errorf("Rename of a bind: %+v", got.PolicyTests)
	}
	if diff := cmp.Diff(before, doc, compareDocuments); diff != "" {
		t.Errorf("Rename changed its argument: %s", diff)
	}
	for _, tt := range []struct{ path, name, want string }{
		{"backends[wbe]", "x", "backends[wbe]: there is no object backends[wbe] to rename (did you mean backends[web]?)"},
		{"system", "x", "there is no object system"},
		{"backends[web].name", "x", "there is no object"},
		{"backends[web]", "api", "the name api is taken"},
		{"backends[web]", "two words", "a name holds letters"},
		{"backends[web]", "", "a name is missing"},
		{"frontends[shop].acls[api]", "is_tls", "conditions have already"},
		{"frontends[shop].acls[api]", "not", "a word of conditions"},
		{"vlans[eth0.20]", "far-too-long-for-the-kernel", "can't be a device"},
	} {
		renamed, problems := Rename(doc, tt.path, tt.name)
		if renamed != nil || !strings.Contains(problems.Error(), tt.want) {
			t.Errorf("Rename(%s, %q) = %v, want %q", tt.path, tt.name, problems, tt.want)
		}
	}
}

// After a rename no place leads nowhere that led somewhere before, and renaming
// back gives the same document.
func TestRenameAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawWired(t)
		paths := renamable(doc)
		if len(paths) == 0 {
			return
		}
		path := rapid.SampledFrom(paths).Draw(t, "path")
		const fresh = "fresh"
		renamed, problems := Rename(doc, path, fresh)
		if len(problems) > 0 {
			t.Fatalf("Rename(%s): %v", path, problems)
		}
		if before, after := dangling(doc), dangling(renamed); before != after {
			t.Fatalf("Rename(%s): %d places led nowhere before, %d do now", path, before, after)
		}
		if uses := UsedBy(renamed, path); len(uses) > 0 && !slices.Contains(renamable(renamed), path) {
			t.Fatalf("Rename(%s): the old name is still used by %v", path, uses)
		}
		back, problems := Rename(renamed, Renamed(path, fresh), path[strings.LastIndexByte(path, '[')+1:len(path)-1])
		if len(problems) > 0 {
			t.Fatalf("Rename(%s) back: %v", path, problems)
		}
		if diff := cmp.Diff(doc, back, compareDocuments); diff != "" {
			t.Fatalf("Rename(%s) and back: %s", path, diff)
		}
	})
}

// renamable lists the objects that have a name which may be given again.
func renamable(doc *Document) []string {
	var paths []string
	walkDocument(doc, func(n *node) bool {
		if n.element && isObject(n.value.Type()) {
			name := nameOf(n.value)
			if message, _ := nameProblem(n.value.Type(), name); name != "" && message.IsZero() {
				paths = append(paths, n.path)
			}
		}
		return true
	})
	return paths
}

func dangling(doc *Document) int {
	n := 0
	for _, r := range References(doc) {
		if r.Missing {
			n++
		}
	}
	return n
}

// Every ref and refs tag leads to a list of named objects.
func TestReferenceTagsLeadSomewhere(t *testing.T) {
	lists := map[string]bool{}
	check := func(tag string, list string) {
		if !lists[list] {
			t.Errorf("%s leads to %q, which is no list of objects", tag, list)
		}
	}
	for _, f := range Fields() {
		if f.Type == FieldList && f.Element == FieldObject {
			lists[f.Path] = true
		}
	}
	for _, f := range Fields() {
		if list, rest, scoped := strings.Cut(f.Ref, "[."); scoped {
			_, below, _ := strings.Cut(rest, "]")
			check(f.Path, list+"[]"+below)
		} else if f.Ref != "" {
			check(f.Path, f.Ref)
		}
		for _, kind := range f.Refs {
			if _, list, _, ok := cutKind(kind + ":x"); !ok {
				t.Errorf("%s takes the unknown kind %s", f.Path, kind)
			} else {
				check(fmt.Sprint(f.Path, " ", kind), list)
			}
		}
	}
}
