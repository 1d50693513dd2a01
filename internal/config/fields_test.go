package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// commonHelp are the sentences that many objects rightly share.
var commonHelp = []string{
	"Description says what it is for.", "Description says whose it is.", "Keeps the rule in the list without effect.",
}

func TestEveryFieldHasHelp(t *testing.T) {
	said := map[string][]string{}
	for _, o := range described().objects {
		if !isSentence(o.help) {
			t.Errorf("type %s: its comment is no sentence: %q", o.name, o.help)
		}
		labels := map[string]string{}
		for _, i := range o.fields {
			f := described().fields[i]
			if !isSentence(f.Help) {
				t.Errorf("%s: its comment is no sentence of three words or more: %q", f.Path, f.Help)
			}
			if f.Object != "" && !isSentence(f.ObjectHelp) {
				t.Errorf("%s: the help of its objects is no sentence: %q", f.Path, f.ObjectHelp)
			}
			if other := labels[f.Label]; other != "" || f.Label == "" {
				t.Errorf("%s: the label %q is %s's, too", f.Path, f.Label, other)
			}
			labels[f.Label] = f.Path
			said[f.Help] = append(said[f.Help], f.Path)
		}
	}
	for help, paths := range said {
		if len(paths) > 4 && !slices.Contains(commonHelp, help) && !strings.HasPrefix(help, "Name identifies ") {
			t.Errorf("%d fields have the same help, %q: %s", len(paths), help, strings.Join(paths, ", "))
		}
	}
}

// isSentence reports whether a help text can stand alone.
func isSentence(s string) bool {
	return len(strings.Fields(s)) >= 3 && strings.HasSuffix(s, ".") && strings.ToUpper(s[:1]) == s[:1] && !strings.Contains(s, "  ")
}

// Words whose meaning is plain to everyone who uses them.
var plainEnums = []string{"Weekday", "RevocationReason"}

func TestEveryWordHasHelp(t *testing.T) {
	for path, typ := range typesOfFields() {
		f, _ := FieldAt(path)
		if f.Type != FieldEnum && f.Element != FieldEnum {
			if f.Values != nil {
				t.Errorf("%s is no enum and has values %v", path, f.Values)
			}
			continue
		}
		if len(f.Values) < 2 {
			t.Errorf("%s is an enum of %d values", path, len(f.Values))
		}
		for _, v := range f.Values {
			if v.Help == "" && !slices.Contains(plainEnums, typ.Name()) {
				t.Errorf("%s: the word %s has no comment behind its constant", path, v.Value)
			}
		}
	}
}

// typesOfFields is the Go type of the values of each field, without pointer and list.
func typesOfFields() map[string]reflect.Type {
	types := map[string]reflect.Type{}
	walkDocument(fullDocument(), func(n *node) bool {
		if typ := n.prop.typ; !n.element {
			for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			types[n.pattern] = typ
		}
		return true
	})
	return types
}

// fullDocument is the default document with everything in it that can be
// absent: each object by its own defaults, each list of objects with one.
func fullDocument() *Document {
	doc := Default()
	var fill func(reflect.Value)
	fill = func(object reflect.Value) {
		for _, p := range properties(object.Type()) {
			v := object.Field(p.index)
			switch {
			case v.Kind() == reflect.Pointer:
				v.Set(reflect.New(v.Type().Elem()))
				if isObject(v.Type().Elem()) {
					v.Elem().Set(reflect.ValueOf(defaultOf(v.Type().Elem())))
					fill(v.Elem())
				}
			case isObject(v.Type()):
				fill(v)
			case isObjectList(v.Type()):
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				v.Index(0).Set(reflect.ValueOf(defaultOf(v.Type().Elem())))
				fill(v.Index(0))
			}
		}
	}
	fill(reflect.ValueOf(doc).Elem())
	return doc
}

func TestFieldsAreThePlacesOfADocument(t *testing.T) {
	var want, got []string
	walkDocument(fullDocument(), func(n *node) bool {
		if !n.element {
			want = append(want, n.pattern)
		}
		return true
	})
	for _, f := range Fields() {
		got = append(got, f.Path)
		if at, ok := FieldAt(f.Path); !ok || !reflect.DeepEqual(at, f) {
			t.Errorf("FieldAt(%q) = %+v, %t", f.Path, at, ok)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Fields() and the walk of a full document differ (-walk +fields):\n%s", diff)
	}
}

// fromText reads the text form of a value of a type.
func fromText(typ reflect.Type, s string) (reflect.Value, error) {
	v := reflect.New(typ).Elem()
	if reader, ok := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); ok {
		return v, reader.UnmarshalText([]byte(s))
	}
	switch typ.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		v.SetBool(b)
		return v, err
	case reflect.Int:
		n, err := strconv.ParseInt(s, 10, 64)
		v.SetInt(n)
		return v, err
	case reflect.Uint16:
		n, err := strconv.ParseUint(s, 10, 16)
		v.SetUint(n)
		return v, err
	case reflect.Slice:
		for _, part := range strings.Split(s, ", ") {
			element, err := fromText(typ.Elem(), part)
			if err != nil {
				return v, err
			}
			v.Set(reflect.Append(v, element))
		}
	default:
		return v, fmt.Errorf("a %s has no text form", typ)
	}
	return v, nil
}

func TestDefaultsReadBack(t *testing.T) {
	seen := 0
	walkDocument(fullDocument(), func(n *node) bool {
		if n.element || isObject(n.prop.typ) || isObjectList(n.prop.typ) || n.prop.typ.Kind() == reflect.Pointer {
			return true
		}
		f, _ := FieldAt(n.pattern)
		if f.Default == "" {
			if !n.value.IsZero() {
				t.Errorf("%s: Default is empty, the default value is %v", f.Path, n.value)
			}
			return true
		}
		seen++
		if got, err := fromText(n.prop.typ, f.Default); err != nil || !reflect.DeepEqual(got.Interface(), n.value.Interface()) {
			t.Errorf("%s: Default %q reads back as %v (%v), the default value is %v", f.Path, f.Default, got, err, n.value)
		}
		if f.Type == FieldEnum && !slices.ContainsFunc(f.Values, func(v EnumValue) bool { return v.Value == f.Default }) {
			t.Errorf("%s: Default %q is none of its values", f.Path, f.Default)
		}
		return true
	})
	if seen < 150 {
		t.Errorf("only %d fields have a default", seen)
	}
}

// What the schema and the manual say of a type must be true at all its places.
func TestOneTypeHasOneDefault(t *testing.T) {
	for _, o := range described().objects {
		for _, place := range o.places[1:] {
			for _, i := range o.fields {
				first := described().fields[i]
				if f, _ := FieldAt(join(place, first.Name)); f.Default != first.Default {
					t.Errorf("%s: Default = %q, but %s has %q", f.Path, f.Default, first.Path, first.Default)
				}
			}
		}
	}
}

func TestRanges(t *testing.T) {
	types := typesOfFields()
	number := func(f Field, s string) float64 {
		v, err := fromText(types[f.Path], s)
		if err != nil {
			t.Errorf("%s: the limit %q doesn't read: %v", f.Path, s, err)
		}
		return v.Convert(reflect.TypeFor[float64]()).Float()
	}
	for _, f := range Fields() {
		kind := f.Type
		if kind == FieldList {
			kind = f.Element
		}
		countable := slices.Contains([]FieldType{FieldInteger, FieldDuration, FieldSize}, kind)
		switch {
		case f.Min == "" && f.Max == "":
			if countable && f.Name != "format" {
				t.Errorf("%s: a %s without a range", f.Path, kind)
			}
		case !countable:
			t.Errorf("%s: a %s with a range", f.Path, kind)
		case f.Min != "" && f.Max != "" && number(f, f.Min) >= number(f, f.Max):
			t.Errorf("%s: no value is from %s to %s", f.Path, f.Min, f.Max)
		case f.Default != "" && (f.Min != "" && number(f, f.Default) < number(f, f.Min) || f.Max != "" && number(f, f.Default) > number(f, f.Max)):
			t.Errorf("%s: the default %s isn't from %s to %s", f.Path, f.Default, f.Min, f.Max)
		}
	}
}

func TestReferencesHaveTargets(t *testing.T) {
	collection := func(path string) bool {
		f, _ := FieldAt(path)
		_, named := FieldAt(path + "[].name")
		return f.Type == FieldList && f.Element == FieldObject && named
	}
	kinds := map[string]string{
		"vip": "virtual_ips", "alias": "aliases", "interface": "interfaces", "backend": "backends", "frontend": "frontends",
		"authority": "authorities", "certificate": "certificates",
	}
	for _, f := range Fields() {
		for _, kind := range f.Refs {
			if !collection(kinds[kind]) {
				t.Errorf("%s: refs has the kind %q, which names no collection", f.Path, kind)
			}
		}
		if f.Ref == "" {
			continue
		}
		outer, inner, scoped := strings.Cut(f.Ref, "[.")
		target := f.Ref
		if scoped {
			sibling, rest, _ := strings.Cut(inner, "].")
			target = outer + "[]." + rest
			by, ok := FieldAt(f.Path[:strings.LastIndexByte(f.Path, '.')+1] + sibling)
			if sibling != "" && (!ok || by.Ref != outer) {
				t.Errorf("%s: ref %q goes by a sibling %q that doesn't name one of %s", f.Path, f.Ref, sibling, outer)
			}
		}
		if !collection(target) {
			t.Errorf("%s: ref %q leads to %s, which is no list of named objects", f.Path, f.Ref, target)
		}
	}
}

func TestConditionsNameSiblings(t *testing.T) {
	seen := 0
	for _, f := range Fields() {
		if f.AppliesWhen == "" {
			continue
		}
		seen++
		sibling, values, ok := strings.Cut(f.AppliesWhen, "=")
		parent := f.Path[:strings.LastIndexByte(f.Path, '.')+1]
		for _, value := range strings.Split(values, "|") {
			if err := CheckClaims([]string{parent + sibling + "=" + value}); !ok || err != nil {
				t.Errorf("%s: when %q: %v", f.Path, f.AppliesWhen, err)
			}
		}
	}
	if seen == 0 {
		t.Error("no field has a condition")
	}
}

func TestFieldAt(t *testing.T) {
	tests := []struct {
		at   string
		want Field
	}{
		{"system.admin.certificate", Field{
			Path: "system.admin.certificate", Name: "certificate", Label: "Certificate", Type: FieldText,
			Help:        "Certificate is shown to administrators' browsers; empty = a self-signed one that Sluis makes for itself.",
			AppliesWhen: "protocol=https", Ref: "certificates", Refs: []string{},
		}},
		{"frontends[shop].binds[https].port", Field{
			Path: "frontends[].binds[].port", Name: "port", Label: "Port", Type: FieldInteger, Help: "Port is the port.",
			Default: "443", Min: "1", Max: "65535", Refs: []string{},
		}},
		{"system.ssh.enabled", Field{
			Path: "system.ssh.enabled", Name: "enabled", Label: "Enabled", Type: FieldBoolean,
			Help: "Starts the secure shell server.", Default: "false", Refs: []string{},
		}},
		{"frontends[].tls", Field{
			Path: "frontends[].tls", Name: "tls", Label: "TLS", Type: FieldObject, Object: "FrontendTLS", Optional: true,
			Help: "TLS is how its TLS binds speak; absent = it has none.", ObjectHelp: "Frontend TLS is how a frontend's TLS binds speak.", Refs: []string{},
		}},
		{"frontends[].tls.alpn", Field{
			Path: "frontends[].tls.alpn", Name: "alpn", Label: "ALPN", Type: FieldList, Element: FieldText, Default: "http/1.1",
			Help: "ALPN are the protocols offered inside TLS (RFC 7301).", Format: "alpn", Advanced: true, Refs: []string{},
		}},
		{"frontends[shop].tls.alpn[0]", Field{
			Path: "frontends[].tls.alpn[]", Name: "alpn", Label: "ALPN", Type: FieldText,
			Help: "ALPN are the protocols offered inside TLS (RFC 7301).", Format: "alpn", Advanced: true, Refs: []string{},
		}},
		{"firewall", Field{
			Path: "firewall", Name: "firewall", Label: "Firewall", Type: FieldObject, Object: "Firewall", Protects: true,
			Help: "Firewall decides which packets pass.", ObjectHelp: "Firewall decides which packets pass.", Refs: []string{},
		}},
		{"virtual_ips[ece]", Field{
			Path: "virtual_ips[]", Name: "virtual_ips", Label: "Virtual IP", Type: FieldObject, Object: "VirtualIP", Refs: []string{},
			Help:       "Virtual IP is an address that sites listen on, beside the interfaces' own.",
			ObjectHelp: "Virtual IP is an address that sites listen on, beside the interfaces' own.",
		}},
		{"logging.max_size", Field{
			Path: "logging.max_size", Name: "max_size", Label: "Max size", Type: FieldSize, Default: "512MiB", Min: "1MiB", Max: "1024GiB",
			Help: "Max size is how much room logs may take on this machine.", Refs: []string{},
		}},
		{"firewall.rules[].destination_ports", Field{
			Path: "firewall.rules[].destination_ports", Name: "destination_ports", Label: "Destination ports", Type: FieldList, Element: FieldPort,
			Help:        "Destination ports are ports, ranges such as 8000-8080, or alias:NAME; empty = any.",
			AppliesWhen: "protocol=tcp|udp|tcp_udp", Refs: []string{"alias"}, Format: "port",
		}},
		{"system.admin.protocol", Field{
			Path: "system.admin.protocol", Name: "protocol", Label: "Protocol", Type: FieldEnum, Default: "https",
			Help: "Protocol is how the GUI and the API are spoken to.", Refs: []string{},
			Values: []EnumValue{
				{"https", "with a certificate"},
				{"http", "in clear: only for a network that nobody else can listen to"},
			},
		}},
		{"backends[].servers[].max_connections", Field{
			Path: "backends[].servers[].max_connections", Name: "max_connections", Label: "Maximum connections", Type: FieldInteger,
			Help:    "Maximum connections is how many requests it gets at a time, the rest waits; 0 = no limit.",
			Default: "0", Min: "0", Max: "1000000", Unit: "connections", Refs: []string{},
		}},
	}
	for _, tt := range tests {
		if got, ok := FieldAt(tt.at); !ok {
			t.Errorf("FieldAt(%q) finds nothing", tt.at)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("FieldAt(%q) (-want +got):\n%s", tt.at, diff)
		}
	}
	for _, nowhere := range []string{"", "frontend", "frontends.type", "frontends[].type[]", "system[]", "frontends[].", "[]"} {
		if got, ok := FieldAt(nowhere); ok {
			t.Errorf("FieldAt(%q) = %+v, want nothing", nowhere, got)
		}
	}
}

func TestHelpNamesSiblingsByTheirLabels(t *testing.T) {
	f, _ := FieldAt("backends[].check.expect_text")
	want := `Expect text must stand in the body; a redirect that "Expect status" allows passes without it. Empty = the body isn't read.`
	if f.Help != want {
		t.Errorf("help = %q, want %q", f.Help, want)
	}
}

func TestLabels(t *testing.T) {
	for goName, want := range map[string]string{
		"VirtualIP": "Virtual IP", "ACMEAccount": "ACME account", "IPv4": "IPv4", "HSTS": "HSTS", "OutboundNAT": "Outbound NAT",
		"FrontendTLS": "Frontend TLS", "LogTarget": "Log target", "ACL": "ACL", "Pair": "Pair",
	} {
		if got := typeLabel(goName); got != want {
			t.Errorf("typeLabel(%q) = %q, want %q", goName, got, want)
		}
	}
	for name, want := range map[string]string{
		"max_connections": "Max connections", "dns_servers": "DNS servers", "peer_url": "Peer URL", "vlans": "VLANs", "id": "ID",
	} {
		if got := fieldLabel(property{name: name}); got != want {
			t.Errorf("fieldLabel(%q) = %q, want %q", name, got, want)
		}
	}
}

type loop struct {
	Inner []knot `json:"inner"`
}

type knot struct {
	Back *loop `json:"back"`
}

func TestDescribeRefusesRecursion(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "may nest but not recurse") {
			t.Errorf("describing a type that holds itself: %s", got)
		}
	}()
	d := &describer{description: &description{places: map[string]int{}, types: map[reflect.Type]*objectType{}}, docs: readSourceDocs()}
	d.object(reflect.TypeFor[loop](), reflect.ValueOf(loop{}), "", nil)
}

// What a program pays when it first asks for a field.
func BenchmarkDescribe(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		describe()
	}
}
