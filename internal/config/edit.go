package config

import (
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"sluis/internal/config/wire"
	"sluis/internal/text"
)

// This file edits documents by path. Every edit leaves the document that it is
// given alone and returns a changed copy, or problems; a copy never comes with
// errors. Whether the copy makes sense is for Validate to say.
//
// In what is put in, "(set)" in the place of a secret keeps the secret that
// stands there, so that what GetJSON gives can be put back.

// GetJSON is the value at a path as JSON, all values spelled out, secrets as
// "(set)"; an empty path means the whole document.
func GetJSON(doc *Document, path string) ([]byte, Problems) {
	n, problems := get(doc, path, Secret.String)
	if n == nil {
		return nil, problems
	}
	return wire.AppendJSON(nil, n), nil
}

// GetYAML is the value at a path in the form of EncodeYAML, secrets as their
// references.
func GetYAML(doc *Document, path string) ([]byte, Problems) {
	n, problems := get(doc, path, Secret.stored)
	if n == nil {
		return nil, problems
	}
	return wire.AppendYAML(nil, n), nil
}

func get(doc *Document, path string, secret func(Secret) string) (*wire.Node, Problems) {
	p, problems := locate(doc, path, false)
	if problems != nil {
		return nil, problems
	}
	return form{secret: secret}.value(p.value, p.def), nil
}

// Exists reports whether something stands at a path.
func Exists(doc *Document, path string) bool {
	_, problems := locate(doc, path, false)
	return problems == nil
}

// Names lists the names of the objects in the collection at a path, in order;
// nil where the path leads to no collection.
func Names(doc *Document, collection string) []string {
	p, problems := locate(doc, collection, false)
	if problems != nil || !isObjectList(p.value.Type()) {
		return nil
	}
	return namesIn(p.value)
}

// Set puts a value, given as YAML or JSON, in the place of what stands at a path.
// An object starts from its defaults, keeps its name, and is appended to its
// collection if it isn't there yet; optional parts on the way are made. null
// removes an optional value and empties a list.
func Set(doc *Document, path string, data []byte) (*Document, Problems) {
	return put(doc, path, data, false)
}

// Patch merges a value into what stands at a path (JSON Merge Patch, RFC 7396):
// what an object doesn't mention stays, null sets back to the default, a list is
// replaced as a whole. Where nothing stands yet it does what Set does.
func Patch(doc *Document, path string, data []byte) (*Document, Problems) {
	return put(doc, path, data, true)
}

func put(doc *Document, path string, data []byte, patch bool) (*Document, Problems) {
	root, problems := readTree(data)
	if root == nil {
		return nil, problems
	}
	next := Clone(doc)
	p, problems := locate(next, path, true)
	if problems != nil {
		return nil, problems
	}
	d := decoder{patch: patch}
	if path != "" || d.upgrade(root, upgrades) {
		d.place(p, root, path)
	}
	if path == "format" && !d.problems.HasErrors() && next.Format != CurrentFormat {
		d.problem(path, root.Line, root.Column, text.M("the format is the program's to set")).
			Do(text.M("write {format}, or leave it out", "format", CurrentFormat))
	}
	if d.problems.HasErrors() {
		return nil, d.problems
	}
	return finish(next, doc, d.problems)
}

// place decodes what is put in at a place.
func (d *decoder) place(p *spot, n *wire.Node, path string) {
	before := p.ownName()
	switch {
	case n.Kind == wire.Null && p.pointer.IsValid():
		p.pointer.SetZero()
		return
	case n.Kind == wire.Null && p.list.IsValid():
		d.wrongKind(path, n, kindOf(p.value.Type())).Do(text.M("delete the element instead"))
		return
	case n.Kind == wire.Null && p.value.Kind() == reflect.Slice && !d.patch:
		p.value.SetZero()
		return
	case !d.patch:
		p.value.Set(cloneValue(p.def))
	}
	if p.name != "" && n.Member("name") == nil {
		p.setName()
	}
	d.value(p.value, p.def, n, path)
	d.keepName(p, n, path)
	d.newName(p, n, path, before)
}

// newName refuses a name that Validate would refuse, where an object that had
// none, or another that can't stand in a path, is given one.
func (d *decoder) newName(p *spot, n *wire.Node, path, before string) {
	name := p.ownName()
	if d.problems.HasErrors() || name == before || name == "" {
		return
	}
	if p.nameIn == nil {
		n, path = n.Member("name"), join(path, "name")
	}
	if message, hint := nameProblem(p.named(), name); !message.IsZero() {
		d.problem(path, n.Line, n.Column, message).Do(hint)
	}
}

// keepName refuses a name other than the one in the path: references to the
// object would be left behind.
func (d *decoder) keepName(p *spot, n *wire.Node, path string) {
	switch {
	case p.name != "" && nameOf(p.value) != p.name:
		n, path = n.Member("name"), join(path, "name")
	case p.nameOf == "" || p.value.String() == p.nameOf:
		return
	}
	d.problem(path, n.Line, n.Column, text.M("the name differs from the one in the path")).
		Do(text.M("rename the object, which changes the references to it too"))
}

// finish checks what holds for every edited copy.
func finish(next, base *Document, problems Problems) (*Document, Problems) {
	problems = append(problems, KeepSecrets(next, base)...)
	problems = append(problems, checkStored(next)...)
	if problems.HasErrors() {
		return nil, problems
	}
	next.Format = CurrentFormat
	return next, problems
}

// Delete removes an object or element from its list, makes an optional value
// absent, empties a list, and sets a plain field back to its default. A part that is
// in every document, such as system.admin, can't be deleted.
func Delete(doc *Document, path string) (*Document, Problems) {
	next := Clone(doc)
	p, problems := locate(next, path, false)
	switch {
	case problems != nil:
		return nil, problems
	case path == "":
		return nil, refusal(path, text.M("the whole document can't be deleted"))
	case p.list.IsValid():
		p.remove()
	case p.pointer.IsValid():
		p.pointer.SetZero()
	case p.nameOf != "":
		return nil, refusal(path, text.M("a name can't be deleted"))
	case p.value.Kind() == reflect.Slice:
		p.value.SetZero()
	case isObject(p.value.Type()):
		problems.Add(path, text.M("this part is in every document and can't be deleted")).
			Do(text.M("set its fields instead"))
		return nil, problems
	default:
		p.value.Set(cloneValue(p.def))
	}
	return finish(next, doc, nil)
}

// Move puts an object before another one of its list, to the end where before is
// empty.
func Move(doc *Document, path, before string) (*Document, Problems) {
	next := Clone(doc)
	p, problems := locate(next, path, false)
	if problems != nil {
		return nil, problems
	}
	if !p.list.IsValid() || !isObjectList(p.list.Type()) {
		return nil, refusal(path, text.M("only an object of a list can be moved"))
	}
	names := namesIn(p.list)
	target := len(names)
	if before != "" {
		if target = slices.Index(names, before); target < 0 {
			problems.Add(path, text.M("there is no {name} to move it before", "name", before)).Near(before, names)
			return nil, problems
		}
	}
	sorted := reflect.MakeSlice(p.list.Type(), 0, len(names))
	for i := range len(names) + 1 {
		if i == target {
			sorted = reflect.Append(sorted, p.value)
		}
		if i < len(names) && i != p.index {
			sorted = reflect.Append(sorted, p.list.Index(i))
		}
	}
	p.list.Set(sorted)
	return finish(next, doc, nil)
}

func refusal(path string, message text.Msg) Problems {
	var problems Problems
	problems.Add(path, message)
	return problems
}

func namesIn(list reflect.Value) []string {
	names := make([]string, list.Len())
	for i := range names {
		names[i] = nameOf(list.Index(i))
	}
	return names
}

// spot is where a path leads.
type spot struct {
	value   reflect.Value // settable; what an optional value points to
	def     reflect.Value // the value's default
	name    string        // the object's name, where its path ends in it
	nameOf  string        // the name of the object whose name this is; else empty
	nameIn  reflect.Type  // the type of the list's object whose name this is; else nil
	list    reflect.Value // the list whose element the value is; else invalid
	index   int           // within that list
	pointer reflect.Value // the optional value itself; else invalid
}

// named is the type of the list's object that the place is, or whose name it is;
// nil elsewhere.
func (p *spot) named() reflect.Type {
	if p.nameIn == nil && p.list.IsValid() && isObjectList(p.list.Type()) {
		return p.value.Type()
	}
	return p.nameIn
}

// ownName is the name of that object; empty elsewhere.
func (p *spot) ownName() string {
	switch {
	case p.nameIn != nil:
		return p.value.String()
	case p.named() != nil:
		return nameOf(p.value)
	}
	return ""
}

// locate finds the place that a path leads to. With create it makes what is
// missing on the way: optional parts, and the last object or element.
func locate(doc *Document, path string, create bool) (*spot, Problems) {
	if problems := checkPathText(path); problems != nil {
		return nil, problems
	}
	segments, err := parsePath(path)
	if err != nil {
		return nil, refusal(path, text.M("this is no path: {reason}", "reason", err))
	}
	p := &spot{value: reflect.ValueOf(doc).Elem(), def: reflect.ValueOf(Default()).Elem()}
	at := ""
	for i, s := range segments {
		last := i == len(segments)-1
		if problems := p.enter(s.key, at, create); problems != nil {
			return nil, problems
		}
		at = join(at, s.key)
		switch {
		case s.hasSel:
			if problems := p.choose(s.sel, at, create && last); problems != nil {
				return nil, problems
			}
			at += "[" + s.sel + "]"
		case !last && p.value.Kind() == reflect.Slice:
			return nil, p.chooseWhich(at)
		}
	}
	return p, nil
}

// checkPathText refuses a path that isn't UTF-8: no document holds its names.
func checkPathText(path string) Problems {
	if utf8.ValidString(path) {
		return nil
	}
	return refusal(path, text.M("this is no path: it is not UTF-8 text"))
}

// enter goes to a field of the object at the place.
func (p *spot) enter(key, at string, create bool) Problems {
	if !isObject(p.value.Type()) {
		return refusal(at, text.M("there is nothing below this: it is {kind}", "kind", kindOf(p.value.Type())))
	}
	field, known := propertyNamed(p.value.Type(), key)
	if !known {
		var problems Problems
		unknownName(problems.Add(join(at, key), text.M("there is no such name here")), p.value.Type(), key)
		return problems
	}
	next := spot{value: p.value.Field(field.index), def: p.def.Field(field.index)}
	if key == "name" {
		next.nameOf, next.nameIn = p.name, p.named()
	}
	if next.value.Kind() == reflect.Pointer {
		next.pointer = next.value
		if next.pointer.IsNil() {
			if !create {
				return refusal(join(at, key), text.M("nothing is set here"))
			}
			next.pointer.Set(newOf(field.typ.Elem()).Addr())
		}
		next.value, next.def = next.pointer.Elem(), newOf(field.typ.Elem())
	}
	*p = next
	return nil
}

// choose goes to the element of the list at the place that brackets select.
func (p *spot) choose(sel, at string, create bool) Problems {
	list := p.value
	if list.Kind() != reflect.Slice {
		return refusal(at, text.M("this is no list, so nothing in brackets can follow"))
	}
	objects := isObject(list.Type().Elem())
	index := indexOf(list, sel)
	created := false
	switch {
	case index >= 0:
	case create && (objects && sel != "" || sel == strconv.Itoa(list.Len())):
		if objects {
			if message, hint := nameProblem(list.Type().Elem(), sel); !message.IsZero() {
				var problems Problems
				problems.Add(at+"["+sel+"]", message).Do(hint)
				return problems
			}
		}
		index, created = list.Len(), true
		list.Set(reflect.Append(list, newOf(list.Type().Elem())))
	case objects:
		var problems Problems
		problems.Add(at+"["+sel+"]", text.M("there is no {name} here", "name", sel)).Near(sel, namesIn(list))
		return problems
	default:
		return refusal(at+"["+sel+"]", text.M("there is no such element; the list has {count}, counted from 0", "count", list.Len()))
	}
	*p = spot{value: list.Index(index), def: newOf(list.Type().Elem()), list: list, index: index}
	if objects && (created || nameOf(p.value) == sel) {
		p.name = sel
		p.setName()
	}
	return nil
}

// indexOf is the index of the element that a selector means; -1 = there is none.
// An object without a name that can stand in brackets is selected by its index.
func indexOf(list reflect.Value, sel string) int {
	for i := range list.Len() {
		if selector(list.Index(i), i) == sel {
			return i
		}
	}
	return -1
}

func (p *spot) setName() {
	if field, ok := propertyNamed(p.value.Type(), "name"); ok {
		p.value.Field(field.index).SetString(p.name)
	}
}

// remove takes the element out of its list.
func (p *spot) remove() {
	if p.list.Len() == 1 {
		p.list.SetZero()
		return
	}
	p.list.Set(reflect.AppendSlice(p.list.Slice(0, p.index), p.list.Slice(p.index+1, p.list.Len())))
}

func (p *spot) chooseWhich(at string) Problems {
	var problems Problems
	problem := problems.Add(at, text.M("this is a list: say which element is meant"))
	if isObjectList(p.value.Type()) && p.value.Len() > 0 {
		problem.Do(text.M("such as {path}", "path", at+"["+selector(p.value.Index(0), 0)+"]"))
	}
	return problems
}
