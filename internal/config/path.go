package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A path names a place in a document: keys joined by dots, an element of a list
// of objects by its name, an element of a list of plain values by its index:
//
//	frontends[shop].binds[https].port
//	system.dns_servers[0]
//
// A pattern is a path without the selections: frontends[].binds[].port.

// segment is one step of a path.
type segment struct {
	key    string // name of the field
	sel    string // what stands in brackets
	hasSel bool
}

func parsePath(path string) ([]segment, error) {
	var segments []segment
	for rest := path; rest != ""; {
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		s := segment{key: rest[:end]}
		if s.key == "" {
			return nil, fmt.Errorf("path %q: a name is missing at %q", path, rest)
		}
		rest = rest[end:]
		if strings.HasPrefix(rest, "[") {
			sel, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				return nil, fmt.Errorf("path %q: the bracket at %q isn't closed", path, rest)
			}
			s.sel, s.hasSel, rest = sel, true, after
		}
		segments = append(segments, s)
		switch {
		case rest == "":
		case rest[0] == '.' && len(rest) > 1:
			rest = rest[1:]
		default:
			return nil, fmt.Errorf("path %q: a dot and a name are missing at %q", path, rest)
		}
	}
	return segments, nil
}

// join builds the path of a field below a parent.
func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

func (s segment) String() string {
	if s.hasSel {
		return s.key + "[" + s.sel + "]"
	}
	return s.key
}

// Pattern is the path without its selections.
func Pattern(path string) string {
	var b strings.Builder
	for rest := path; ; {
		before, after, open := strings.Cut(rest, "[")
		b.WriteString(before)
		if !open {
			return b.String()
		}
		b.WriteString("[]")
		_, rest, _ = strings.Cut(after, "]")
	}
}

// property is the description of one struct field, from its tags.
type property struct {
	index int
	name  string // wire name
	tag   reflect.StructTag
	typ   reflect.Type
	flat  bool // a copy of the field shares nothing with the original
}

var propertyCache sync.Map // reflect.Type → []property; a cache of what never changes

// properties lists the fields of a struct type in their order.
func properties(t reflect.Type) []property {
	if cached, ok := propertyCache.Load(t); ok {
		return cached.([]property)
	}
	var list []property
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		list = append(list, property{index: i, name: name, tag: f.Tag, typ: f.Type, flat: isFlat(f.Type)})
	}
	propertyCache.Store(t, list)
	return list
}

// isFlat reports whether a copy of a value shares nothing with the original.
func isFlat(t reflect.Type) bool {
	if !isObject(t) {
		return t.Kind() != reflect.Pointer && t.Kind() != reflect.Slice
	}
	return !slices.ContainsFunc(properties(t), func(p property) bool { return !p.flat })
}

func propertyNamed(t reflect.Type, name string) (property, bool) {
	for _, p := range properties(t) {
		if p.name == name {
			return p, true
		}
	}
	return property{}, false
}

// isObject reports whether values of the type are objects with properties of
// their own, rather than plain values with a text form.
func isObject(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && t != secretType
}

// isObjectList reports whether the type is a list of named objects.
func isObjectList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && isObject(t.Elem())
}

// node is one place of a document as the walk comes by.
type node struct {
	path    string
	pattern string
	prop    property      // the field; for a list's element, the list's field
	value   reflect.Value // settable when the document was given by pointer
	parent  reflect.Value // the struct that holds the field
	owner   *node         // the node of that struct; nil at the top
	element bool          // the value is an element of the list that prop names
}

// walk visits every place of the value below it, parents first, in document
// order: fields, then the elements of lists. A nil pointer is visited itself but
// has nothing below. visit returns false to stay out of what is below a place.
func walk(v reflect.Value, path, pattern string, visit func(*node) bool) {
	walkStruct(&node{path: path, pattern: pattern, value: v}, visit)
}

// walkDocument visits every place of a document.
func walkDocument(doc *Document, visit func(*node) bool) {
	walk(reflect.ValueOf(doc).Elem(), "", "", visit)
}

func walkStruct(owner *node, visit func(*node) bool) {
	for _, p := range properties(owner.value.Type()) {
		n := &node{
			path: join(owner.path, p.name), pattern: join(owner.pattern, p.name),
			prop: p, value: owner.value.Field(p.index), parent: owner.value, owner: owner,
		}
		if !visit(n) {
			continue
		}
		walkBelow(n, visit)
	}
}

func walkBelow(n *node, visit func(*node) bool) {
	v := n.value
	switch {
	case v.Kind() == reflect.Pointer && isObject(v.Type().Elem()):
		if !v.IsNil() {
			inner := *n
			inner.value = v.Elem()
			walkStruct(&inner, visit)
		}
	case isObject(v.Type()):
		walkStruct(n, visit)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			e := &node{
				path: n.path + "[" + selector(v.Index(i), i) + "]", pattern: n.pattern + "[]",
				prop: n.prop, value: v.Index(i), parent: n.parent, owner: n.owner, element: true,
			}
			if visit(e) && isObject(e.value.Type()) {
				walkStruct(e, visit)
			}
		}
	}
}

// selector is what stands in brackets for an element: an object's name where it
// has one that can be written there, else the index.
func selector(element reflect.Value, index int) string {
	if name := nameOf(element); name != "" && !strings.ContainsAny(name, "[]") {
		return name
	}
	return strconv.Itoa(index)
}

// nameOf is the name of an object, empty for anything else.
func nameOf(v reflect.Value) string {
	if !isObject(v.Type()) {
		return ""
	}
	p, ok := propertyNamed(v.Type(), "name")
	if !ok || p.typ.Kind() != reflect.String {
		return ""
	}
	return v.Field(p.index).String()
}

// Clone copies a document with everything in it.
func Clone(doc *Document) *Document {
	copied := cloneValue(reflect.ValueOf(*doc)).Interface().(Document)
	return &copied
}

func cloneValue(v reflect.Value) reflect.Value {
	copied := reflect.New(v.Type()).Elem()
	copied.Set(v)
	unshare(copied)
	return copied
}

// unshare replaces what a copied value still shares with its original.
func unshare(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			v.Set(cloneValue(v.Elem()).Addr())
		}
	case v.Kind() == reflect.Slice:
		if v.IsNil() {
			return
		}
		copied := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(copied, v)
		for i := range v.Len() {
			unshare(copied.Index(i))
		}
		v.Set(copied)
	case isObject(v.Type()):
		for _, p := range properties(v.Type()) {
			if !p.flat {
				unshare(v.Field(p.index))
			}
		}
	}
}
