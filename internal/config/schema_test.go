package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// compileSchema makes a validator of the schema at a place of a JSON text.
func compileSchema(t *testing.T, text []byte, place string) *jsonschema.Schema {
	t.Helper()
	return schemaCompiler(t, text)(place)
}

// schemaCompiler makes validators of the schemas in a JSON text, by their places.
func schemaCompiler(t *testing.T, text []byte) func(place string) *jsonschema.Schema {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("sluis.json", value); err != nil {
		t.Fatal(err)
	}
	return func(place string) *jsonschema.Schema {
		schema, err := compiler.Compile("sluis.json" + place)
		if err != nil {
			t.Fatalf("the schema doesn't compile: %v", err)
		}
		return schema
	}
}

// schemaFaults validates YAML and lists the places that are refused.
func schemaFaults(t *testing.T, schema *jsonschema.Schema, document string) []string {
	t.Helper()
	text, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return jsonFaults(t, schema, text)
}

func jsonFaults(t *testing.T, schema *jsonschema.Schema, text []byte) []string {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	err = schema.Validate(value)
	if err == nil {
		return nil
	}
	var places []string
	var leaves func(*jsonschema.ValidationError)
	leaves = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			places = append(places, "/"+strings.Join(e.InstanceLocation, "/")+" "+strings.Join(e.ErrorKind.KeywordPath(), "/"))
		}
		for _, cause := range e.Causes {
			leaves(cause)
		}
	}
	leaves(err.(*jsonschema.ValidationError))
	return places
}

func TestJSONSchemaTakesGoodDocuments(t *testing.T) {
	schema := compileSchema(t, JSONSchema(), "")
	guide, err := os.ReadFile("testdata/guide-end-state.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, document := range map[string]string{
		"empty":     "{}",
		"required":  "error_pages: [{name: a}]", // what must not be empty may be left out where its default isn't
		"guide":     string(guide),
		"optional":  "{pair: null, frontends: [{name: a, binds: [{name: b, address: any}], tls: null}]}",
		"ports":     "firewall: {rules: [{name: a, destination_ports: [443, \"443\", 8000-8080, \"alias:web\"]}]}",
		"durations": "logging: {retention: 7d12h, max_size: 2GiB}",
		"time":      "administrators: [{name: a, expires: \"2030-01-31T12:00:00+01:00\", password: (set)}]",
	} {
		if faults := schemaFaults(t, schema, document); faults != nil {
			t.Errorf("%s is refused: %q", name, faults)
		}
	}
}

// What we write ourselves, with every value spelled out, is what the schema describes.
func TestJSONSchemaTakesWhatIsEncoded(t *testing.T) {
	schema := compileSchema(t, JSONSchema(), "")
	documents := map[string]*Document{"default": Default()}
	files, err := filepath.Glob("testdata/formats/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, "testdata/guide-end-state.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, problems := Decode(data)
		if problems.HasErrors() {
			t.Fatalf("%s: %v", name, problems)
		}
		documents[name] = doc
	}
	for name, doc := range documents {
		for _, text := range [][]byte{EncodeJSON(doc), EncodeJSONStored(doc)} {
			if faults := jsonFaults(t, schema, text); faults != nil {
				t.Errorf("%s is refused: %q", name, faults)
			}
		}
	}
}

func TestJSONSchemaRefusesBadDocuments(t *testing.T) {
	schema := compileSchema(t, JSONSchema(), "")
	tests := []struct{ name, document, want string }{
		{"not an object", "[]", "/ type"},
		{"unknown part", "frontend: []", "/ additionalProperties"},
		{"unknown field in an object of a list", "aliases: [{name: a, entires: []}]", "/aliases/0 additionalProperties"},
		{"name left out", "aliases: [{type: port}]", "/aliases/0 required"},
		{"empty name", "aliases: [{name: \"\"}]", "/aliases/0/name minLength"},
		{"empty list that is required", "frontends: [{name: a, binds: []}]", "/frontends/0/binds minItems"},
		{"unknown word", "aliases: [{name: a, type: hosts}]", "/aliases/0/type enum"},
		{"unknown word in a list", "schedules: [{name: a, ranges: [{name: r, days: [someday]}]}]", "/schedules/0/ranges/0/days/0 enum"},
		{"text for a number", "load_balancer: {max_connections: many}", "/load_balancer/max_connections type"},
		{"fraction", "load_balancer: {max_connections: 1.5}", "/load_balancer/max_connections type"},
		{"number too small", "system: {admin: {port: 0}}", "/system/admin/port minimum"},
		{"number too large", "system: {admin: {port: 65536}}", "/system/admin/port maximum"},
		{"number in a list", "frontends: [{name: a, binds: [{name: b, address: any}], error_pages: [{name: e, page: p, codes: [200]}]}]", "/frontends/0/error_pages/0/codes/0 minimum"},
		{"duration without a unit", "logging: {retention: \"30\"}", "/logging/retention pattern"},
		{"number for a duration", "logging: {retention: 30}", "/logging/retention type"},
		{"empty duration", "logging: {retention: \"\"}", "/logging/retention minLength"},
		{"size in decimal units", "logging: {max_size: 5MB}", "/logging/max_size pattern"},
		{"port out of range", "firewall: {rules: [{name: a, destination_ports: [70000]}]}", "/firewall/rules/0/destination_ports/0 maximum"},
		{"port by a name", "firewall: {rules: [{name: a, destination_ports: [https]}]}", "/firewall/rules/0/destination_ports/0 pattern"},
		{"word for a switch", "load_balancer: {enabled: \"yes\"}", "/load_balancer/enabled type"},
		{"nothing for what can't be absent", "system: null", "/system type"},
		{"object for a list", "frontends: {}", "/frontends type"},
		{"optional object with a mistake", "pair: {interface: lan}", "/pair required"},
		{"another format", "format: 2", "/format const"},
	}
	for _, tt := range tests {
		if got := schemaFaults(t, schema, tt.document); !slices.Contains(got, tt.want) {
			t.Errorf("%s: faults %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A default that its own schema refuses would be refused when it is spelled out.
func TestSchemaTakesItsDefaults(t *testing.T) {
	text := JSONSchema()
	var document struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Default json.RawMessage
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	compile, seen := schemaCompiler(t, text), 0
	for typ, object := range document.Defs {
		for name, field := range object.Properties {
			if field.Default == nil {
				continue
			}
			seen++
			place := "#/$defs/" + typ + "/properties/" + name
			if faults := jsonFaults(t, compile(place), field.Default); faults != nil {
				t.Errorf("%s refuses its default %s: %q", place, field.Default, faults)
			}
		}
	}
	if seen < 200 {
		t.Errorf("only %d fields have a default", seen)
	}
}

func TestSchemaOfEveryPlaceStandsAlone(t *testing.T) {
	for _, f := range Fields() {
		if f.Object == "" && f.Type != FieldList {
			continue
		}
		for _, place := range []string{f.Path, f.Path + "[]"} {
			if _, ok := FieldAt(place); !ok {
				continue
			}
			text, err := json.Marshal(SchemaOf(place))
			if err != nil {
				t.Fatal(err)
			}
			compileSchema(t, text, "")
		}
	}
	if got := SchemaOf("frontends.binds"); got != nil {
		t.Errorf("SchemaOf a place that doesn't exist = %v", got)
	}
}

func TestSchemaOfAnElement(t *testing.T) {
	text, err := json.Marshal(SchemaOf("frontends[shop].rules[deny-all]"))
	if err != nil {
		t.Fatal(err)
	}
	schema := compileSchema(t, text, "")
	for document, want := range map[string][]string{
		"{name: a, deny: {status: 403}}": nil,
		"{name: a, deny: {status: 200}}": {"/deny/status minimum", "/deny type"}, // neither an object that fits nor absent
		"{deny: {}}":                     {"/ required"},
	} {
		if diff := cmp.Diff(want, schemaFaults(t, schema, document)); diff != "" {
			t.Errorf("%s: faults (-want +got):\n%s", document, diff)
		}
	}
}

func TestSchemaDefinitionsReferToEachOther(t *testing.T) {
	const prefix = "#/components/schemas/"
	text, err := json.Marshal(map[string]any{"components": map[string]any{"schemas": SchemaDefinitions(prefix)}})
	if err != nil {
		t.Fatal(err)
	}
	schema := compileSchema(t, text, prefix+"Document")
	if faults := schemaFaults(t, schema, "pair: {interface: lan, peer: 192.0.2.2}"); faults != nil {
		t.Errorf("faults %q", faults)
	}
	if faults := schemaFaults(t, schema, "pair: {interface: lan, pear: 192.0.2.2}"); faults == nil {
		t.Error("an unknown field is taken")
	}
}

func TestSchemaOfAField(t *testing.T) {
	tests := map[string]map[string]any{
		"system.admin.interfaces": {
			"type": "array", "items": map[string]any{"type": "string"}, "default": []any{},
			"description": "Management interfaces are the only ones on which GUI and API answer; empty = all.",
			"x-label":     "Management interfaces", "x-ref": "interfaces", "x-protects": true,
		},
		"frontends[].timeouts.client": {
			"type": "string", "pattern": durationPattern, "minLength": 1, "default": "30s",
			"description": "Client is for a client that neither sends nor takes anything in the middle of an exchange.",
			"x-label":     "Client", "x-type": "duration", "x-minimum": "1s", "x-maximum": "24h",
		},
		"system.outgoing_proxy.password": {
			"type": "string", "format": "password", "x-label": "Password", "x-type": "secret",
			"description": "Password is given to the proxy. It reads as (set); (set) in what is written keeps it.",
		},
		"backends[].hash": nil, // below: an object has its own fields, not those of a field
		"backends[].failback": {
			"type": "string", "enum": []any{"automatic", "manual"}, "default": "automatic",
			"description": "Failback is how a recovered server gets its clients back.", "x-label": "Failback",
			"x-values": map[string]any{"automatic": "as soon as its checks are good", "manual": "when the operator says ready"},
		},
		"frontends[].binds[].max_connections": {
			"type": "integer", "minimum": 0, "maximum": 10000000, "default": 0, "x-label": "Maximum connections",
			"description": "Maximum connections is how many connections this bind takes at a time; 0 = as many as its frontend.",
			"x-unit":      "connections", "x-advanced": true,
		},
		"firewall.rules[].destination": {
			"type": "string", "default": "any", "x-label": "Destination", "x-format": "endpoint", "x-refs": []any{"alias", "interface", "vip"},
			"description": "Destination is where the packet goes: as Source, and self (this appliance).",
		},
	}
	for at, want := range tests {
		got := SchemaOf(at)
		if want == nil {
			if got["additionalProperties"] != false || got["properties"] == nil {
				t.Errorf("SchemaOf(%q) = %v, want an object", at, got)
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("SchemaOf(%q) (-want +got):\n%s", at, diff)
		}
	}
}

// The patterns and the text forms are two descriptions of the same language.
func TestPatternsAgreeWithTextForms(t *testing.T) {
	duration, size := regexp.MustCompile(durationPattern), regexp.MustCompile(sizePattern)
	rapid.Check(t, func(t *rapid.T) {
		// Seven letters hold no span that overflows.
		s := rapid.StringOfN(rapid.RuneFrom([]rune("0123459..dhmsunµ")), 0, 7, 8).Draw(t, "duration")
		var d Duration
		err := d.UnmarshalText([]byte(s))
		if got := s != "" && duration.MatchString(s); got != (err == nil) {
			t.Fatalf("pattern takes %q: %t; UnmarshalText: %v", s, got, err)
		}
		d = Duration(rapid.Int64Min(0).Draw(t, "any duration"))
		if !duration.MatchString(d.String()) {
			t.Fatalf("the pattern refuses %q", d)
		}
		s = fmt.Sprint(rapid.StringOfN(rapid.RuneFrom([]rune("0159 ")), 0, 4, -1).Draw(t, "number"),
			rapid.SampledFrom([]string{"B", "KiB", "MiB", "GiB", "TiB", "kB", "iB", "", "M"}).Draw(t, "unit"))
		var n Size
		err = n.UnmarshalText([]byte(s))
		if got := size.MatchString(s); got != (err == nil && strings.TrimLeft(s, " ") == s) {
			t.Fatalf("pattern takes %q: %t; UnmarshalText: %v", s, got, err)
		}
		n = Size(rapid.Int64Min(0).Draw(t, "any size"))
		if !size.MatchString(n.String()) {
			t.Fatalf("the pattern refuses %q", n)
		}
	})
}
