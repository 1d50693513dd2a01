package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Field describes one place of the document for whoever shows it: forms, the
// JSON Schema, the manual. Its texts come from the doc comments of the model's
// own source, its other half from the struct tags, its default from the values
// in defaults.go; nothing is written down twice.
//
// Texts are English; a catalogue is keyed by them, as by the ID of a text.Msg.
type Field struct {
	// Path is the pattern of the place: frontends[].binds[].port.
	Path string `json:"path"`
	// Name is the last key of the path.
	Name string `json:"name"`
	// Label is what forms print; unique among its siblings.
	Label string `json:"label"`
	// Help is one or more sentences. A switch's help says what it does when it is on.
	Help string `json:"help"`
	// Type is the kind of value.
	Type FieldType `json:"type"`
	// Element is the kind of a list's elements; empty for anything but a list. Of a
	// list of plain values, Values, Min, Max, Ref, Refs and Format say what holds for
	// each element.
	Element FieldType `json:"element,omitempty"`
	// Object is the name of the object type of an object or of a list of objects: the
	// key of its schema. Empty for anything else.
	Object string `json:"object,omitempty"`
	// ObjectHelp says what such an object is.
	ObjectHelp string `json:"object_help,omitempty"`
	// Default is the text form of the value that the field has when it isn't given,
	// in its object and at its place; the elements of a list are joined by a comma
	// and a space. It is empty for an empty text or list, an absent value, and objects,
	// whose fields have their own.
	Default string `json:"default"`
	// Values are the words that an enum takes; nil for anything else.
	Values []EnumValue `json:"values,omitempty"`
	// Min and Max are the text forms of the smallest and the largest number, duration
	// or size; empty = no limit.
	Min string `json:"min,omitempty"`
	Max string `json:"max,omitempty"`
	// Unit is what a plain number counts; empty = nothing with a name.
	Unit string `json:"unit,omitempty"`
	// Required means that the zero value is a problem.
	Required bool `json:"required,omitempty"`
	// Advanced means that forms fold the field away.
	Advanced bool `json:"advanced,omitempty"`
	// Optional means that the value may be absent, which isn't the same as empty.
	Optional bool `json:"optional,omitempty"`
	// AppliesWhen is the condition under which the field has an effect: the name of
	// a sibling, =, and its values joined by | (type=http|tcp); empty = always.
	AppliesWhen string `json:"applies_when,omitempty"`
	// Ref is the collection whose names the field takes, such as backends; within
	// another object frontends[.frontend].binds (the frontend that the sibling field
	// frontend names) or backends[.].servers (the backend that this place is in).
	// Empty = it takes none.
	Ref string `json:"ref,omitempty"`
	// Refs are the kinds of a reference with its kind in front (vip, alias); nil = it
	// takes none.
	Refs []string `json:"refs,omitempty"`
	// Format names the syntax of a text; empty = any text.
	Format string `json:"format,omitempty"`
	// Protects means that users count on being protected by it: where it has no
	// effect it must not be applied.
	Protects bool `json:"protects,omitempty"`
}

// EnumValue is one word that an enum takes.
type EnumValue struct {
	Value string `json:"value"`
	// Help says what it means; empty where the word says it all.
	Help string `json:"help,omitempty"`
}

// FieldType is the kind of a field's value.
type FieldType string

// The kinds of values.
const (
	FieldText     FieldType = "text"
	FieldInteger  FieldType = "integer"
	FieldBoolean  FieldType = "boolean"
	FieldDuration FieldType = "duration"
	FieldSize     FieldType = "size"
	FieldPort     FieldType = "port" // one port, a range of ports, or an alias
	FieldPEM      FieldType = "pem"
	FieldSecret   FieldType = "secret"
	FieldTime     FieldType = "time"
	FieldEnum     FieldType = "enum"
	FieldObject   FieldType = "object"
	FieldList     FieldType = "list"
)

// Fields lists every place of the document, parents before their children, in
// the document's order. A list's elements are not places of their own here:
// frontends is followed by frontends[].name. The slices inside the fields are
// shared; nobody may change them.
func Fields() []Field { return slices.Clone(described().fields) }

// FieldAt describes the place of a pattern or path; ok is false where the
// document has none. frontends[] is one element of the list frontends.
func FieldAt(pattern string) (field Field, ok bool) {
	d := described()
	pattern = Pattern(pattern)
	if i, known := d.places[pattern]; known {
		return d.fields[i], true
	}
	list, isElement := strings.CutSuffix(pattern, "[]")
	if i, known := d.places[list]; known && isElement && d.fields[i].Type == FieldList {
		return element(d.fields[i]), true
	}
	return Field{}, false
}

// element describes one element of a list.
func element(list Field) Field {
	e := list
	e.Path += "[]"
	e.Type, e.Element, e.Default, e.Required, e.Optional = list.Element, "", "", false, false
	if e.Type == FieldObject {
		e.Label, e.Help = typeLabel(list.Object), list.ObjectHelp
	}
	return e
}

// description is everything there is to say about the document's form. It is
// made once and never changed.
type description struct {
	fields   []Field
	defaults []any          // the default of each field as a JSON value; nil for objects, secrets and what is absent
	places   map[string]int // pattern → index of fields
	objects  []*objectType  // in the order of their first places
	types    map[reflect.Type]*objectType
}

// objectType is one type of objects and the places where it stands.
type objectType struct {
	name      string // of the Go type: the key of its schema
	label     string // the same in words
	help      string
	templates []Field  // its fields without Path and Default, in the order of properties
	places    []string // patterns of its objects; "" is the document itself
	fields    []int    // its fields at the first place, indices of description.fields
}

var described = sync.OnceValue(describe)

// describe reads the model's source and walks the document type. It takes a few
// milliseconds, which a program pays when it first asks (BenchmarkDescribe).
func describe() *description {
	d := &describer{
		description: &description{places: map[string]int{}, types: map[reflect.Type]*objectType{}},
		docs:        readSourceDocs(),
	}
	document := reflect.TypeFor[Document]()
	d.object(document, reflect.ValueOf(defaultOf(document)), "", nil)
	return d.description
}

// describer makes a description.
type describer struct {
	*description
	docs *sourceDocs
}

// object describes the fields of an object type at one place. def is the object
// from which a document there starts; within are the types around it.
func (d *describer) object(t reflect.Type, def reflect.Value, place string, within []reflect.Type) {
	if slices.Contains(within, t) {
		panic("BUG: a " + t.Name() + " holds another one at " + place + ": the document's types may nest but not recurse")
	}
	within = append(within, t)
	o := d.objectType(t)
	o.places = append(o.places, place)
	for i, p := range properties(t) {
		f, value := o.templates[i], def.Field(p.index)
		f.Path = join(place, p.name)
		f.Default = defaultText(value)
		if len(o.places) == 1 {
			o.fields = append(o.fields, len(d.fields))
		}
		d.places[f.Path] = len(d.fields)
		d.fields = append(d.fields, f)
		d.defaults = append(d.defaults, defaultJSON(value))
		d.below(p.typ, value, f.Path, within)
	}
}

// below describes what a field of object type holds.
func (d *describer) below(t reflect.Type, value reflect.Value, path string, within []reflect.Type) {
	switch {
	case isObject(t):
		d.object(t, value, path, within)
	case t.Kind() == reflect.Pointer && isObject(t.Elem()):
		d.object(t.Elem(), reflect.ValueOf(defaultOf(t.Elem())), path, within)
	case isObjectList(t):
		d.object(t.Elem(), reflect.ValueOf(defaultOf(t.Elem())), path+"[]", within)
	}
}

// objectType describes what is the same about a type of objects at all places.
func (d *describer) objectType(t reflect.Type) *objectType {
	if o, known := d.types[t]; known {
		return o
	}
	o := &objectType{name: t.Name(), label: typeLabel(t.Name())}
	d.types[t] = o
	d.objects = append(d.objects, o)
	siblings := siblingNames(t)
	o.help = helpText(d.docs.types[o.name], o.name, o.label, siblings)
	for _, p := range properties(t) {
		o.templates = append(o.templates, d.template(t, p, siblings))
	}
	return o
}

// template describes one field of an object type, wherever it stands.
func (d *describer) template(owner reflect.Type, p property, siblings []sibling) Field {
	goName := owner.Field(p.index).Name
	f := Field{
		Name: p.name, Label: fieldLabel(p),
		Unit: p.tag.Get("unit"), AppliesWhen: p.tag.Get("when"), Ref: p.tag.Get("ref"), Format: p.tag.Get("format"),
		Refs:     strings.Fields(p.tag.Get("refs")),
		Required: p.tag.Get("required") == "true", Advanced: p.tag.Get("advanced") == "true", Protects: protects(p),
	}
	f.Min, f.Max, _ = strings.Cut(p.tag.Get("range"), "..")
	t := p.typ
	if f.Optional = t.Kind() == reflect.Pointer; f.Optional {
		t = t.Elem()
	}
	f.Type = fieldType(t)
	if f.Type == FieldList {
		t = t.Elem()
		f.Element = fieldType(t)
	}
	switch {
	case isObject(t):
		o := d.objectType(t)
		f.Object, f.ObjectHelp = o.name, o.help
	case f.Type == FieldEnum || f.Element == FieldEnum:
		f.Values = d.enumValues(t)
	}
	subject := f.Label
	if f.Type == FieldBoolean {
		subject = "" // "Starts the secure shell server." reads better beside a switch than with its name in front
	}
	f.Help = helpText(d.docs.fields[owner.Name()][goName], goName, subject, siblings)
	return f
}

func (d *describer) enumValues(t reflect.Type) []EnumValue {
	var values []EnumValue
	for _, word := range reflect.Zero(t).Interface().(enum).Values() {
		values = append(values, EnumValue{Value: word, Help: d.docs.values[t.Name()][word]})
	}
	return values
}

// fieldType is the kind of a Go type's values.
func fieldType(t reflect.Type) FieldType {
	switch t {
	case timeType:
		return FieldTime
	case secretType:
		return FieldSecret
	case reflect.TypeFor[Duration]():
		return FieldDuration
	case reflect.TypeFor[Size]():
		return FieldSize
	case reflect.TypeFor[Port]():
		return FieldPort
	case reflect.TypeFor[PEM]():
		return FieldPEM
	}
	if t.Implements(reflect.TypeFor[enum]()) {
		return FieldEnum
	}
	switch t.Kind() {
	case reflect.Struct:
		return FieldObject
	case reflect.Slice:
		return FieldList
	case reflect.Bool:
		return FieldBoolean
	case reflect.Int, reflect.Uint16:
		return FieldInteger
	case reflect.String:
		return FieldText
	}
	panic("BUG: the document has no values of type " + t.String())
}

// defaultText is the text form of a default, as Field.Default describes it.
func defaultText(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Pointer || v.Kind() == reflect.Struct:
		return ""
	case v.Kind() == reflect.Slice:
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = defaultText(v.Index(i))
		}
		return strings.Join(texts, ", ")
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	}
	return fmt.Sprint(v.Interface())
}

// defaultJSON is a default as the JSON value that a document would hold; nil for
// objects, secrets and what is absent.
func defaultJSON(v reflect.Value) any {
	switch fieldType := v.Type(); {
	case v.Kind() == reflect.Pointer || v.Kind() == reflect.Struct:
		return nil
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = defaultJSON(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Bool:
		return v.Bool()
	case fieldType == reflect.TypeFor[int]() || fieldType == reflect.TypeFor[uint16]():
		return v.Interface()
	}
	return defaultText(v)
}
