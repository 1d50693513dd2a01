package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Patterns of values whose text form has rules of its own. They accept what
// UnmarshalText accepts but for signs and blanks, in the regular expressions
// that Go and ECMAScript have in common.
const (
	durationPattern = `^([0-9]{1,5}d)?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$`
	sizePattern     = `^[0-9]+ *(B|KiB|MiB|GiB|TiB)$`
	portPattern     = `^([0-9]{1,5}(-[0-9]{1,5})?|alias:.+)$`
)

// schemaDialect is JSON Schema's draft 2020-12, which OpenAPI 3.1 uses too.
const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// definitions is where a schema that stands alone keeps its object types.
const definitions = "#/$defs/"

// JSONSchema is the schema of the whole document (draft 2020-12), for editors
// and other programs that read or write it. It knows types, words, ranges and
// what is required; it doesn't know what only Validate can see, such as
// references and formats.
//
// What JSON Schema has no word for stands under x-label, x-type (the FieldType
// of a text with rules of its own), x-unit, x-minimum and x-maximum (of
// durations and sizes), x-values (word → meaning), x-format, x-ref, x-refs,
// x-when, x-advanced and x-protects, as in Field.
func JSONSchema() []byte {
	schema := SchemaOf("")
	schema["$schema"] = schemaDialect
	schema["title"] = fmt.Sprintf("Sluis document, format %d", CurrentFormat)
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic("BUG: the schema can't be written: " + err.Error())
	}
	return append(text, '\n')
}

// SchemaOf is the schema of one place, given as a pattern or path: a field, an
// object, an element of a list (frontends[]) or, for "", the whole document. The
// object types that it needs stand in its $defs. It is nil where the document
// has no such place. The caller owns the map.
func SchemaOf(pattern string) map[string]any {
	d := described()
	var schema map[string]any
	if pattern == "" {
		schema = d.objectSchema(d.objects[0], definitions)
	} else {
		f, ok := FieldAt(pattern)
		switch {
		case !ok:
			return nil
		case f.Type == FieldObject && !f.Optional:
			schema = d.objectSchema(d.objectNamed(f.Object), definitions)
		default:
			schema = fieldSchema(f, d.defaultAt(f.Path), definitions)
		}
	}
	if defs := d.needed(schema); len(defs) > 0 {
		schema["$defs"] = defs
	}
	return schema
}

// SchemaDefinitions are the schemas of all object types by their names
// (Field.Object); the document's own is Document. A reference between them is
// the prefix and a name: "#/components/schemas/" for OpenAPI. The caller owns the
// map.
func SchemaDefinitions(prefix string) map[string]any {
	d := described()
	defs := make(map[string]any, len(d.objects))
	for _, o := range d.objects {
		defs[o.name] = d.objectSchema(o, prefix)
	}
	return defs
}

func (d *description) objectNamed(name string) *objectType {
	i := slices.IndexFunc(d.objects, func(o *objectType) bool { return o.name == name })
	return d.objects[i]
}

// defaultAt is the default of a field as a JSON value; nil where it has none.
func (d *description) defaultAt(pattern string) any {
	if i, ok := d.places[pattern]; ok {
		return d.defaults[i]
	}
	return nil
}

// needed collects the schemas of the object types that a schema refers to,
// directly or through others.
func (d *description) needed(schema map[string]any) map[string]any {
	defs := map[string]any{}
	var collect func(any)
	collect = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, v := range value {
				collect(v)
			}
		case map[string]any:
			if ref, ok := value["$ref"].(string); ok {
				name := ref[len(definitions):]
				if defs[name] == nil {
					inner := d.objectSchema(d.objectNamed(name), definitions)
					defs[name] = inner
					collect(inner)
				}
			}
			for _, v := range value {
				collect(v)
			}
		}
	}
	collect(schema)
	return defs
}

// objectSchema describes the fields of an object type. A field may be left out
// where its default will do, and nothing else may be there.
func (d *description) objectSchema(o *objectType, prefix string) map[string]any {
	properties := make(map[string]any, len(o.fields))
	required := []any{}
	for _, i := range o.fields {
		f := d.fields[i]
		properties[f.Name] = fieldSchema(f, d.defaults[i], prefix)
		if mustBeGiven(f) {
			required = append(required, f.Name)
		}
	}
	if o == d.objects[0] {
		properties["format"].(map[string]any)["const"] = CurrentFormat
	}
	return map[string]any{
		"type":                 "object",
		"description":          o.help,
		"properties":           properties,
		"required":             required,
		"additionalProperties": false,
	}
}

// mustBeGiven reports whether a document that leaves the field out is refused.
func mustBeGiven(f Field) bool { return f.Required && f.Default == "" }

// fieldSchema describes one field; def is its default as a JSON value.
func fieldSchema(f Field, def any, prefix string) map[string]any {
	var schema map[string]any
	if f.Type == FieldList {
		schema = map[string]any{"type": "array", "items": valueSchema(f, f.Element, prefix)}
		if f.Required {
			schema["minItems"] = 1
		}
	} else {
		schema = valueSchema(f, f.Type, prefix)
	}
	if f.Optional {
		allowAbsence(schema)
	} else if def != nil && !mustBeGiven(f) {
		schema["default"] = def
	}
	schema["description"] = f.Help
	if f.Type == FieldSecret {
		schema["description"] = f.Help + " It reads as (set); (set) in what is written keeps it."
	}
	maps.Copy(schema, extensions(f))
	return schema
}

// allowAbsence lets null stand for an absent value.
func allowAbsence(schema map[string]any) {
	null := map[string]any{"type": "null"}
	if ref, ok := schema["$ref"]; ok {
		delete(schema, "$ref")
		schema["anyOf"] = []any{map[string]any{"$ref": ref}, null}
	} else {
		schema["type"] = []any{schema["type"], "null"}
	}
	schema["default"] = nil
}

// valueSchema describes the values of one kind, with the field's limits.
func valueSchema(f Field, kind FieldType, prefix string) map[string]any {
	schema := map[string]any{"type": "string"}
	switch kind {
	case FieldObject:
		return map[string]any{"$ref": prefix + f.Object}
	case FieldBoolean:
		schema["type"] = "boolean"
	case FieldInteger:
		schema["type"] = "integer"
		setLimit(schema, "minimum", f.Min)
		setLimit(schema, "maximum", f.Max)
	case FieldDuration:
		schema["pattern"], schema["minLength"] = durationPattern, 1
	case FieldSize:
		schema["pattern"] = sizePattern
	case FieldPort:
		schema["type"] = []any{"string", "integer"}
		schema["pattern"], schema["minimum"], schema["maximum"] = portPattern, 1, 65535
	case FieldTime:
		schema["format"] = "date-time"
	case FieldSecret:
		schema["format"] = "password"
	case FieldEnum:
		schema["enum"] = enumWords(f.Values)
	}
	if textual := kind == FieldText || kind == FieldPEM || kind == FieldSecret; textual && f.Required && f.Type == kind {
		schema["minLength"] = 1
	}
	return schema
}

func setLimit(schema map[string]any, keyword, limit string) {
	if n, err := strconv.Atoi(limit); err == nil {
		schema[keyword] = n
	}
}

func enumWords(values []EnumValue) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v.Value
	}
	return list
}

// extensions are what JSON Schema has no word for.
func extensions(f Field) map[string]any {
	x := map[string]any{"x-label": f.Label}
	kind := f.Type
	if kind == FieldList {
		kind = f.Element
	}
	switch kind {
	case FieldDuration, FieldSize:
		setText(x, "x-minimum", f.Min)
		setText(x, "x-maximum", f.Max)
		x["x-type"] = string(kind)
	case FieldPort, FieldPEM, FieldSecret, FieldTime:
		x["x-type"] = string(kind)
	}
	meanings := map[string]any{}
	for _, v := range f.Values {
		setText(meanings, v.Value, v.Help)
	}
	if len(meanings) > 0 {
		x["x-values"] = meanings
	}
	if len(f.Refs) > 0 {
		kinds := make([]any, len(f.Refs))
		for i, kind := range f.Refs {
			kinds[i] = kind
		}
		x["x-refs"] = kinds
	}
	setText(x, "x-unit", f.Unit)
	setText(x, "x-format", f.Format)
	setText(x, "x-ref", f.Ref)
	setText(x, "x-when", f.AppliesWhen)
	setFlag(x, "x-advanced", f.Advanced)
	setFlag(x, "x-protects", f.Protects)
	return x
}

func setText(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

func setFlag(m map[string]any, key string, value bool) {
	if value {
		m[key] = true
	}
}
