package config

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"sluis/internal/text"
)

// Change is what happened to one object of a document, or to one of its parts
// that isn't a list of objects.
//
// Objects are the elements of the lists that stand in no other object:
// frontends[shop], firewall.rules[web], logging.targets[collector]. What is left
// of the document belongs to a part: system, load_balancer, firewall, pair.
// Lists within an object (its servers, binds, rules) belong to the object.
type Change struct {
	// Path is the object or part: frontends[shop], system. For an order that changed
	// without a meaning it is the list.
	Path string `json:"path"`
	// Kind is what it is, in words joined by underscores: frontend, virtual_ip; for a
	// part, its name.
	Kind string `json:"kind"`
	// Name is the object's name; empty for a part or a list.
	Name string `json:"name"`
	// Action is what happened to it.
	Action Action `json:"action"`
	// Fields are the places within it that differ. Of an added or removed object
	// they are what differs from an object's defaults.
	Fields []FieldChange `json:"fields"`
}

// Action is what happened to an object or a field.
type Action string

// The actions. An object that both changed and moved is changed, with the move
// among its fields.
const (
	Added   Action = "added"
	Removed Action = "removed"
	Changed Action = "changed"
	Moved   Action = "moved"
)

// FieldChange is one place within an object that differs.
type FieldChange struct {
	// Path is the whole path of the place.
	Path string `json:"path"`
	// Action is what happened to it: Changed for a field; Added, Removed and Moved for
	// the elements of a list within the object, and for what may be absent.
	Action Action `json:"action"`
	// From and To are the value before and after as short text; of something that
	// moved, the place. Secrets are "(set)" and "(changed)".
	From string `json:"from"`
	To   string `json:"to"`
}

// Diff says what must happen to one document so that it becomes the other, in
// the order of the second, with what is gone at the place of its list. It is
// empty if and only if both are encoded to the same text.
func Diff(from, to *Document) []Change {
	d := &differ{}
	d.document(reflect.ValueOf(from).Elem(), reflect.ValueOf(to).Elem())
	return d.changes
}

// Message says the change in one line.
func (c Change) Message() text.Msg {
	subject := text.M("{kind} {name}", "kind", strings.ReplaceAll(c.Kind, "_", " "), "name", c.Name)
	if c.Name == "" {
		subject = text.M("{path}", "path", c.Path)
	}
	switch c.Action {
	case Added:
		return text.M("{subject} was added", "subject", subject)
	case Removed:
		return text.M("{subject} was removed", "subject", subject)
	case Moved:
		if c.Name == "" {
			return text.M("{subject} stand in another order", "subject", subject)
		}
		return text.M("{subject} was moved", "subject", subject)
	}
	const shownFields = 3
	var places []string
	for _, f := range c.Fields {
		places = append(places, c.within(f.Path))
	}
	if more := len(places) - shownFields; more > 0 {
		return text.M("{subject} was changed: {fields} and {more} more", "subject", subject,
			"fields", strings.Join(places[:shownFields], ", "), "more", more)
	}
	return text.M("{subject} was changed: {fields}", "subject", subject, "fields", strings.Join(places, ", "))
}

// within is a path as seen from the object.
func (c Change) within(path string) string {
	if rest := strings.TrimPrefix(strings.TrimPrefix(path, c.Path), "."); rest != "" {
		return rest
	}
	return path
}

// RenderText writes changes for a terminal: a line for each object and, indented,
// one for each place in it, with + for what was added, - for what was removed
// and ~ for what was changed or moved.
func RenderText(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		subject := c.Path
		if c.Name != "" {
			subject = strings.ReplaceAll(c.Kind, "_", " ") + " " + c.Name
		}
		fmt.Fprintf(&b, "%s %s%s\n", c.Action.sign(), subject, c.moved())
		for _, f := range c.Fields {
			if c.Action != Moved {
				fmt.Fprintf(&b, "    %s %s\n", f.Action.sign(), f.line(c))
			}
		}
	}
	return b.String()
}

func (a Action) sign() string {
	switch a {
	case Added:
		return "+"
	case Removed:
		return "-"
	}
	return "~"
}

// moved says where a moved object went.
func (c Change) moved() string {
	switch {
	case c.Action != Moved:
		return ""
	case len(c.Fields) == 1 && c.Name != "":
		return ": moved " + c.Fields[0].To
	}
	return ": in another order"
}

func (f FieldChange) line(c Change) string {
	place := c.within(f.Path)
	switch f.Action {
	case Added:
		return place + ": " + quoted(f.To)
	case Removed:
		return place + ": " + quoted(f.From)
	case Moved:
		if f.To == "" {
			return place + ": in another order"
		}
		return place + ": moved " + f.To
	}
	return place + ": " + quoted(f.From) + " -> " + quoted(f.To)
}

// quoted shows an empty text, and keeps one of several lines to one.
func quoted(s string) string {
	if s == "" {
		return `""`
	}
	return strings.NewReplacer("\r", `\r`, "\n", `\n`, "\t", `\t`).Replace(s)
}

// differ collects changes.
type differ struct{ changes []Change }

// document compares two documents part by part.
func (d *differ) document(from, to reflect.Value) {
	for _, p := range properties(from.Type()) {
		a, b := from.Field(p.index), to.Field(p.index)
		switch {
		case isObjectList(p.typ):
			d.objects(p.name, a, b)
		case isObject(p.typ):
			d.part(p.name, p.name, a, b)
		default:
			d.whole(p.name, a, b)
		}
	}
}

// part compares a part that isn't an object: its lists of objects one by one,
// the rest of it as one change of the part that stands at the top.
func (d *differ) part(top, path string, from, to reflect.Value) {
	c := Change{Path: top, Kind: top, Action: Changed}
	d.partFields(&c, path, from, to)
	if len(c.Fields) > 0 {
		d.changes = append(d.changes, c)
	}
	d.partObjects(path, from, to)
}

func (d *differ) partFields(c *Change, path string, from, to reflect.Value) {
	for _, p := range properties(from.Type()) {
		a, b := from.Field(p.index), to.Field(p.index)
		switch {
		case isObjectList(p.typ):
		case isObject(p.typ):
			d.partFields(c, join(path, p.name), a, b)
		default:
			c.Fields = appendDiff(c.Fields, join(path, p.name), a, b)
		}
	}
}

func (d *differ) partObjects(path string, from, to reflect.Value) {
	for _, p := range properties(from.Type()) {
		a, b := from.Field(p.index), to.Field(p.index)
		switch {
		case isObjectList(p.typ):
			d.objects(join(path, p.name), a, b)
		case isObject(p.typ):
			d.partObjects(join(path, p.name), a, b)
		}
	}
}

// whole compares a plain field at the top, or a part that may be absent.
func (d *differ) whole(path string, from, to reflect.Value) {
	fields := appendDiff(nil, path, from, to)
	if len(fields) == 0 {
		return
	}
	c := Change{Path: path, Kind: path, Action: Changed, Fields: fields}
	if len(fields) == 1 && fields[0].Path == path && from.Kind() == reflect.Pointer {
		c.Action = fields[0].Action
	}
	d.changes = append(d.changes, c)
}

// objects compares two lists of objects that stand in no other object.
func (d *differ) objects(list string, from, to reflect.Value) {
	p := pair(from, to)
	kind := strings.Join(camelParts(from.Type().Elem().Name()), "_")
	for i := range to.Len() {
		c := Change{Path: elementPath(list, to.Index(i), i), Kind: kind, Name: nameOf(to.Index(i))}
		j, old := p.before[i]
		switch {
		case !old:
			c.Action, c.Fields = Added, setFields(c.Path, to.Index(i), Added)
		default:
			c.Action, c.Fields = Changed, appendDiff(nil, c.Path, from.Index(j), to.Index(i))
			if p.moved[i] {
				if len(c.Fields) == 0 {
					c.Action = Moved
				}
				c.Fields = append(c.Fields, FieldChange{Path: c.Path, Action: Moved, From: placeIn(from, j), To: placeIn(to, i)})
			}
			if len(c.Fields) == 0 {
				continue
			}
		}
		d.changes = append(d.changes, c)
	}
	for _, j := range p.gone {
		path := elementPath(list, from.Index(j), j)
		d.changes = append(d.changes, Change{
			Path: path, Kind: kind, Name: nameOf(from.Index(j)), Action: Removed, Fields: setFields(path, from.Index(j), Removed),
		})
	}
	if p.shuffled {
		d.changes = append(d.changes, Change{Path: list, Kind: kind, Action: Moved})
	}
}

// setFields is what an object says beyond its defaults.
func setFields(path string, object reflect.Value, action Action) []FieldChange {
	blank := reflect.New(object.Type()).Elem()
	blank.Set(reflect.ValueOf(defaultOf(object.Type())))
	if p, ok := propertyNamed(object.Type(), "name"); ok {
		blank.Field(p.index).Set(object.Field(p.index))
	}
	fields := appendDiff(nil, path, blank, object)
	for i := range fields {
		if action == Removed {
			fields[i].From, fields[i].To = fields[i].To, ""
		}
		fields[i].Action = action
	}
	return fields
}

// placeIn says where an element of a list stands.
func placeIn(list reflect.Value, i int) string {
	if i == 0 {
		return "to the beginning"
	}
	return "behind " + cmp.Or(nameOf(list.Index(i-1)), fmt.Sprint(i-1))
}

// appendDiff compares two values of one type and appends what differs.
func appendDiff(fields []FieldChange, path string, a, b reflect.Value) []FieldChange {
	t := a.Type()
	switch {
	case isObject(t):
		for _, p := range properties(t) {
			fields = appendDiff(fields, join(path, p.name), a.Field(p.index), b.Field(p.index))
		}
		return fields
	case t.Kind() == reflect.Pointer:
		return appendPointerDiff(fields, path, a, b)
	case isObjectList(t):
		return appendObjectsDiff(fields, path, a, b)
	case t.Kind() == reflect.Slice:
		return appendEntriesDiff(fields, path, a, b)
	case samePlain(a, b):
		return fields
	case t == secretType:
		return append(fields, secretDiff(path, a.Interface().(Secret), b.Interface().(Secret)))
	}
	return append(fields, FieldChange{Path: path, Action: Changed, From: brief(a), To: brief(b)})
}

func secretDiff(path string, from, to Secret) FieldChange {
	f := FieldChange{Path: path, Action: Changed, From: from.String(), To: to.String()}
	if f.From == f.To {
		f.To = "(changed)"
	}
	return f
}

func appendPointerDiff(fields []FieldChange, path string, a, b reflect.Value) []FieldChange {
	switch {
	case a.IsNil() && b.IsNil():
		return fields
	case a.IsNil():
		return append(fields, FieldChange{Path: path, Action: Added, To: brief(b.Elem())})
	case b.IsNil():
		return append(fields, FieldChange{Path: path, Action: Removed, From: brief(a.Elem())})
	}
	return appendDiff(fields, path, a.Elem(), b.Elem())
}

// appendObjectsDiff compares a list of objects within an object, by their names.
func appendObjectsDiff(fields []FieldChange, list string, from, to reflect.Value) []FieldChange {
	p := pair(from, to)
	for i := range to.Len() {
		path := elementPath(list, to.Index(i), i)
		j, old := p.before[i]
		if !old {
			fields = append(fields, FieldChange{Path: path, Action: Added, To: brief(to.Index(i))})
			continue
		}
		fields = appendDiff(fields, path, from.Index(j), to.Index(i))
		if p.moved[i] {
			fields = append(fields, FieldChange{Path: path, Action: Moved, From: placeIn(from, j), To: placeIn(to, i)})
		}
	}
	for _, j := range p.gone {
		fields = append(fields, FieldChange{Path: elementPath(list, from.Index(j), j), Action: Removed, From: brief(from.Index(j))})
	}
	if p.shuffled {
		fields = append(fields, FieldChange{Path: list, Action: Moved})
	}
	return fields
}

// appendEntriesDiff compares two lists of plain values: each that is new or gone,
// and whether the rest stands in another order.
func appendEntriesDiff(fields []FieldChange, list string, from, to reflect.Value) []FieldChange {
	p := pair(from, to)
	for i := range to.Len() {
		if _, old := p.before[i]; !old {
			fields = append(fields, FieldChange{Path: pathOfEntry(list, i), Action: Added, To: brief(to.Index(i))})
		}
	}
	for _, j := range p.gone {
		fields = append(fields, FieldChange{Path: pathOfEntry(list, j), Action: Removed, From: brief(from.Index(j))})
	}
	if p.shuffled {
		fields = append(fields, FieldChange{Path: list, Action: Moved, From: brief(from), To: brief(to)})
	}
	return fields
}

// pairing says which elements of two lists are the same one.
type pairing struct {
	before   map[int]int  // index in the second list → index in the first
	gone     []int        // indices in the first list
	moved    map[int]bool // indices in the second list of what moved, in lists whose order decides
	shuffled bool         // the order changed, in any other list
}

// orderDecides lists the objects that are asked in their order. Other lists of
// objects may stand in any order and mean the same.
var orderDecides = []reflect.Type{reflect.TypeFor[Rule](), reflect.TypeFor[FirewallRule]()}

// pair finds the same objects by their names and the same plain values by
// themselves; of several with one name, the first with the first, and so on.
func pair(from, to reflect.Value) pairing {
	type key struct {
		value any
		nth   int
	}
	keys := func(list reflect.Value) []key {
		seen := map[any]int{}
		out := make([]key, list.Len())
		for i := range out {
			var value any
			if isObject(list.Type().Elem()) {
				value = nameOf(list.Index(i))
			} else {
				value = list.Index(i).Interface()
			}
			out[i] = key{value, seen[value]}
			seen[value]++
		}
		return out
	}
	places := map[key]int{}
	for j, k := range keys(from) {
		places[k] = j
	}
	p := pairing{before: map[int]int{}}
	stays := map[int]bool{}
	var order []int // places in the first list, in the order of the second
	var at []int    // their places in the second
	for i, k := range keys(to) {
		if j, old := places[k]; old {
			p.before[i] = j
			stays[j] = true
			order, at = append(order, j), append(at, i)
		}
	}
	for j := range from.Len() {
		if !stays[j] {
			p.gone = append(p.gone, j)
		}
	}
	p.reorder(order, at, slices.Contains(orderDecides, from.Type().Elem()))
	return p
}

// reorder notes what moved: as few elements as possible, which is all but a
// longest rising sequence.
func (p *pairing) reorder(order, at []int, decides bool) {
	if slices.IsSorted(order) {
		return
	}
	if p.shuffled = !decides; p.shuffled {
		return
	}
	p.moved = map[int]bool{}
	kept := risingSequence(order)
	for k, i := range at {
		p.moved[i] = !kept[k]
	}
}

// risingSequence marks the places of a longest rising sequence (patience sorting).
func risingSequence(values []int) map[int]bool {
	var ends []int // ends[n] is the place of the smallest end of a sequence of n+1
	previous := make([]int, len(values))
	for i, v := range values {
		n := sort.Search(len(ends), func(n int) bool { return values[ends[n]] >= v })
		previous[i] = -1
		if n > 0 {
			previous[i] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, i)
		} else {
			ends[n] = i
		}
	}
	kept := map[int]bool{}
	if len(ends) > 0 {
		for i := ends[len(ends)-1]; i >= 0; i = previous[i] {
			kept[i] = true
		}
	}
	return kept
}

// sameValue reports whether two values are encoded to the same text.
func sameValue(a, b reflect.Value) bool {
	return len(appendDiff(nil, "", a, b)) == 0
}

// samePlain compares two plain values. Times are compared as they are written:
// one moment in two zones is two texts.
func samePlain(a, b reflect.Value) bool {
	if a.Type() == timeType {
		return brief(a) == brief(b)
	}
	return a.Interface() == b.Interface()
}

const (
	maxBrief   = 200 // characters of one value in a change
	briefStart = 120 // characters that are shown of a longer one
)

// brief is a value in one short text.
func brief(v reflect.Value) string {
	switch t := v.Type(); {
	case t == timeType:
		return v.Interface().(time.Time).Format(time.RFC3339Nano)
	case t == reflect.TypeFor[PEM]():
		return briefPEM(v.String())
	case isObject(t):
		return cut(briefObject(v, reflect.ValueOf(defaultOf(t))))
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return brief(v.Elem())
	case t.Kind() == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = brief(v.Index(i))
		}
		return cut("[" + strings.Join(parts, ", ") + "]")
	}
	return cut(fmt.Sprint(v.Interface()))
}

// briefPEM says enough about PEM text to tell two of them apart.
func briefPEM(s string) string {
	if kind, _ := source(s); kind != "" || s == "" {
		return s
	}
	blocks := strings.Count(s, "-----BEGIN ")
	return fmt.Sprintf("PEM of %d blocks, %d bytes, SHA-256 %.4x", blocks, len(s), sha256.Sum256([]byte(s)))
}

// briefObject is what an object says beyond its defaults, but for its name, which
// stands in its path.
func briefObject(v, def reflect.Value) string {
	var parts []string
	for _, p := range properties(v.Type()) {
		field, usual := v.Field(p.index), def.Field(p.index)
		switch {
		case p.name == "name" || sameValue(field, usual):
		case isObject(p.typ):
			parts = append(parts, p.name+": "+briefObject(field, usual))
		default:
			parts = append(parts, p.name+": "+brief(field))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// cut shortens a long text and leaves enough to tell two of them apart.
func cut(s string) string {
	if utf8.RuneCountInString(s) <= maxBrief {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes, SHA-256 %.4x)", string([]rune(s)[:briefStart]), len(s), sha256.Sum256([]byte(s)))
}
