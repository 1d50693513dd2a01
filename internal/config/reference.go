package config

import (
	"reflect"
	"slices"
	"strings"

	"sluis/internal/text"
)

// Reference is one place of a document that names an object at another place.
type Reference struct {
	// From is the field, or the element of a list of names, that holds the name; for
	// an ACL in a condition it is the condition (frontends[shop].rules[api].when).
	From string `json:"from"`
	// To is the path of the object that is named: backends[web].servers[a].
	To string `json:"to"`
	// Missing means that nothing stands at To.
	Missing bool `json:"missing,omitempty"`
}

// References lists what names what, in the document's order. What isn't in it:
// the names that a condition has for itself (is_tls), and a name within an
// object that isn't named in turn, such as a server of no backend.
func References(doc *Document) []Reference {
	var list []Reference
	known := namesOf(doc)
	eachLink(doc, known, func(l link) {
		list = append(list, Reference{From: l.from, To: l.to(), Missing: !known.has(l.collection, l.name)})
	})
	return list
}

// UsedBy lists the places that name the object at a path, or an object below it,
// each once. Places within the object itself don't count.
func UsedBy(doc *Document, path string) []string {
	var from []string
	for _, r := range References(doc) {
		if Within(r.To, path) && !Within(r.From, path) {
			from = append(from, r.From)
		}
	}
	return slices.Compact(from)
}

// Rename gives the object at a path another name, and says the new name in every
// place that named it: plainly, with its kind in front, or within a condition.
// The document itself stays as it is; the clone is nil where there are problems.
func Rename(doc *Document, path, newName string) (*Document, Problems) {
	problems := checkPathText(path)
	if problems != nil {
		return nil, problems
	}
	renamed := Clone(doc)
	object := namedObject(renamed, path)
	if object == nil {
		nearest := Nearest(path, objectPaths(doc, Pattern(path)))
		p := problems.Add(path, text.M("there is no object {path} to rename", "path", path))
		if nearest != "" {
			p.Do(text.M("did you mean {name}?", "name", nearest))
		}
		return nil, problems
	}
	known := namesOf(renamed)
	list, oldName := listOf(object.path), nameOf(object.value)
	if message, hint := nameProblem(object.value.Type(), newName); !message.IsZero() {
		problems.Add(path, message).Do(hint)
		return nil, problems
	}
	if newName != oldName && known.taken(object.value.Type(), list, newName, oldName) {
		problems.Add(path, text.M("the name {name} is taken", "name", newName)).
			Do(text.M("choose a name that nothing else in {list} has", "list", list))
		return nil, problems
	}
	// All links are found before the first is changed: a link into an object is
	// found by the object's name.
	var links []link
	eachLink(renamed, known, func(l link) {
		if l.collection == list && l.name == oldName {
			links = append(links, l)
		}
	})
	for _, l := range links {
		l.rename(newName)
	}
	property, _ := propertyNamed(object.value.Type(), "name")
	object.value.Field(property.index).SetString(newName)
	if problems = checkStored(renamed); problems != nil {
		return nil, problems
	}
	return renamed, nil
}

// namedObject is the named object at a path; nil where there is none.
func namedObject(doc *Document, path string) *node {
	var found *node
	walkDocument(doc, func(n *node) bool {
		if found == nil && n.element && n.path == path && nameOf(n.value) != "" {
			found = n
		}
		return found == nil && Within(path, n.path)
	})
	return found
}

// objectPaths are the paths of all objects of one pattern.
func objectPaths(doc *Document, pattern string) []string {
	var paths []string
	walkDocument(doc, func(n *node) bool {
		if n.element && n.pattern == pattern {
			paths = append(paths, n.path)
		}
		return Within(pattern, n.pattern)
	})
	return paths
}

// listOf is the path of the list that an element stands in.
func listOf(element string) string {
	return element[:strings.LastIndexByte(element, '[')]
}

// elementPath is the path of an object in a list, as walk says it.
func elementPath(list string, element reflect.Value, index int) string {
	return list + "[" + selector(element, index) + "]"
}

// objectNames are the names that stand in each list of objects, by the list's path.
type objectNames map[string]*nameList

type nameList struct {
	names []string // in order, duplicates too
	index map[string]bool
}

// namesOf collects the names of all objects. It goes where objects are and
// nowhere else, so that it costs little beside a walk.
func namesOf(doc *Document) objectNames {
	known := objectNames{}
	known.collect("", reflect.ValueOf(doc).Elem())
	return known
}

func (o objectNames) collect(path string, object reflect.Value) {
	for _, p := range properties(object.Type()) {
		v := object.Field(p.index)
		if v.Kind() == reflect.Pointer && isObject(v.Type().Elem()) && !v.IsNil() {
			v = v.Elem()
		}
		switch {
		case isObjectList(v.Type()):
			list := join(path, p.name)
			for i := range v.Len() {
				if name := nameOf(v.Index(i)); name != "" {
					o.add(list, name)
				}
				o.collect(elementPath(list, v.Index(i), i), v.Index(i))
			}
		case isObject(v.Type()):
			o.collect(join(path, p.name), v)
		}
	}
}

func (o objectNames) add(list, name string) {
	l := o[list]
	if l == nil {
		l = &nameList{index: map[string]bool{}}
		o[list] = l
	}
	l.names = append(l.names, name)
	l.index[name] = true
}

func (o objectNames) has(list, name string) bool {
	l := o[list]
	return l != nil && l.index[name]
}

func (o objectNames) in(list string) []string {
	if l := o[list]; l != nil {
		return l.names
	}
	return nil
}

// taken reports whether an object in a list has a name already, other than the
// one that is about to give up its own.
func (o objectNames) taken(t reflect.Type, list, name, own string) bool {
	for _, other := range o.in(list) {
		if other != own && sameName(t, other, name) {
			return true
		}
	}
	return false
}

// sameName reports whether two objects of a type can't have these names at once.
// Header fields differ by more than case (RFC 9110 5.1).
func sameName(t reflect.Type, a, b string) bool {
	if t == reflect.TypeFor[HeaderField]() {
		return strings.EqualFold(a, b)
	}
	return a == b
}

// reference kinds: the word in front of a name, and the list that it stands for.
var referenceKinds = []struct{ kind, list string }{
	{"alias", "aliases"},
	{"authority", "authorities"},
	{"backend", "backends"},
	{"certificate", "certificates"},
	{"frontend", "frontends"},
	{"interface", "interfaces"},
	{"vip", "virtual_ips"},
}

// cutKind splits alias:office into its kind, the list that the kind stands for,
// and the name; ok is false where no known kind stands in front.
func cutKind(value string) (kind, list, name string, ok bool) {
	kind, name, found := strings.Cut(value, ":")
	if found {
		for _, k := range referenceKinds {
			if k.kind == kind {
				return kind, k.list, name, true
			}
		}
	}
	return "", "", "", false
}

// link is a reference with its place in memory.
type link struct {
	from       string
	value      reflect.Value // the string that holds the name
	kind       string        // what stands before the name and a colon; empty = nothing
	collection string        // path of the list of objects that are meant
	name       string
	condition  bool // the value is a condition that asks the name
}

func (l link) to() string { return l.collection + "[" + l.name + "]" }

func (l link) rename(name string) {
	switch {
	case l.condition:
		l.value.SetString(renameInCondition(l.value.String(), l.name, name))
	case l.kind != "":
		l.value.SetString(l.kind + ":" + name)
	default:
		l.value.SetString(name)
	}
}

// eachLink visits every place that names an object, in the document's order.
func eachLink(doc *Document, known objectNames, visit func(link)) {
	walkDocument(doc, func(n *node) bool {
		eachLinkAt(n, known, visit)
		return true
	})
}

// eachLinkAt visits what one place names.
func eachLinkAt(n *node, known objectNames, visit func(link)) {
	if n.value.Kind() != reflect.String || n.value.Len() == 0 {
		return
	}
	value := n.value.String()
	if list := linkedList(n); list != "" {
		visit(link{from: n.path, value: n.value, collection: list, name: value})
		return
	}
	if kinds := n.prop.tag.Get("refs"); kinds != "" {
		kind, list, name, ok := cutKind(value)
		if ok && name != "" && slices.Contains(strings.Fields(kinds), kind) {
			visit(link{from: n.path, value: n.value, kind: kind, collection: list, name: name})
		}
		return
	}
	switch n.prop.tag.Get("format") {
	case "condition":
		conditionLinks(n, visit)
	case "device":
		// A VLAN's name is a device. Other devices are the kernel's and none of ours.
		if n.prop.name != "name" && known.has("vlans", value) {
			visit(link{from: n.path, value: n.value, collection: "vlans", name: value})
		}
	}
}

// conditionLinks visits the ACLs that a condition asks, each once.
func conditionLinks(n *node, visit func(link)) {
	list := aclList(n)
	if list == "" {
		return
	}
	builtin := BuiltinACLs()
	seen := map[string]bool{}
	for _, t := range conditionNames(n.value.String()) {
		if _, ok := builtin[t.text]; ok || seen[t.text] {
			continue
		}
		seen[t.text] = true
		visit(link{from: n.path, value: n.value, collection: list, name: t.text, condition: true})
	}
}

// aclList is the list of ACLs that a condition asks: its frontend's or backend's.
func aclList(n *node) string {
	for o := n.owner; o != nil; o = o.owner {
		if o.pattern == "frontends[]" || o.pattern == "backends[]" {
			return o.path + ".acls"
		}
	}
	return ""
}

// linkedList resolves the ref tag at a place; empty where there is none, or where
// the object that it goes through isn't named.
//
//	backends                     that list
//	frontends[.frontend].binds   the list of the frontend that the sibling names
//	backends[.].servers          the list of the backend that the place is in
func linkedList(n *node) string {
	ref := n.prop.tag.Get("ref")
	list, rest, scoped := strings.Cut(ref, "[.")
	if !scoped {
		return ref
	}
	sibling, below, _ := strings.Cut(rest, "]")
	if sibling == "" {
		for o := n.owner; o != nil; o = o.owner {
			if o.pattern == list+"[]" {
				return o.path + below
			}
		}
		return ""
	}
	p, ok := propertyNamed(n.parent.Type(), sibling)
	if !ok {
		panic("BUG: the ref tag " + ref + " names no sibling")
	}
	name := n.parent.Field(p.index).String()
	if name == "" {
		return ""
	}
	return list + "[" + name + "]" + below
}
