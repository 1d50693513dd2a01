package config

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluis/internal/config/wire"
	"sluis/internal/text"
)

// MaxDocument is the most bytes that a document may take, typed or stored.
const MaxDocument = wire.MaxBytes

// Decode reads a document from YAML or JSON. What the text leaves out has its
// default. It reports everything that it can't read, each with its path and its
// place in the text; the document is nil where one of the problems is an error.
//
// Secrets are taken in any input form: see KeepSecrets and ResolveSources for
// what has to happen to them before the document is stored.
func Decode(data []byte) (*Document, Problems) { return decodeWith(data, upgrades) }

// decodeWith is Decode for a build whose format is one more than the steps.
func decodeWith(data []byte, steps []upgradeStep) (*Document, Problems) {
	root, problems := readTree(data)
	if root == nil {
		return nil, problems
	}
	d := &decoder{}
	if root.Kind != wire.Object {
		d.wrongKind("", root, text.M("an object")).Do(text.M("a document has parts such as system and frontends"))
		return nil, d.problems
	}
	if !d.upgrade(root, steps) {
		return nil, d.problems
	}
	doc, defaults := Default(), Default()
	d.object(reflect.ValueOf(doc).Elem(), reflect.ValueOf(defaults).Elem(), root, "")
	if d.problems.HasErrors() {
		return nil, d.problems
	}
	if refused := checkStored(doc); refused != nil {
		return nil, append(d.problems, refused...)
	}
	return doc, d.problems
}

// readTree reads the text of a document or of a part of one. The tree is nil
// where there are problems.
func readTree(data []byte) (*wire.Node, Problems) {
	root, fault := wire.Parse(data)
	if fault != nil {
		return nil, Problems{{Severity: Error, Message: fault.Message, Hint: fault.Hint, Line: fault.Line, Column: fault.Column}}
	}
	return root, nil
}

// decoder turns trees into values.
type decoder struct {
	// patch leaves what an object doesn't mention as it is, and makes null the
	// default: a merge patch (RFC 7396). Lists are replaced as a whole.
	patch    bool
	problems Problems
}

// problem notes an error at a place of the text. Past the limit the rest is
// dropped, and the last one says so.
func (d *decoder) problem(path string, line, column int, message text.Msg) *Problem {
	if len(d.problems) == maxProblems {
		d.problems.Add("", text.M("there are more problems than these"))
	}
	if len(d.problems) > maxProblems {
		return &Problem{}
	}
	p := d.problems.Add(path, message)
	p.Line, p.Column = line, column
	return p
}

// wrongKind says that something else was expected.
func (d *decoder) wrongKind(path string, n *wire.Node, expected text.Msg) *Problem {
	return d.problem(path, n.Line, n.Column,
		text.M("{expected} is expected, here stands {found}", "expected", expected, "found", found(n)))
}

// found says what stands there, for problems: the value itself where it is short
// enough to be recognized.
func found(n *wire.Node) text.Msg {
	switch n.Kind {
	case wire.Text:
		return text.M(`the text "{value}"`, "value", shorten(n.Text))
	case wire.Number, wire.Bool:
		return text.M("{value}", "value", shorten(n.Text))
	case wire.Object:
		return text.M("an object")
	case wire.List:
		return text.M("a list")
	default:
		return text.M("nothing")
	}
}

// shorten keeps a text that is shown in a problem readable.
func shorten(s string) string {
	const most = 40
	if line, _, cut := strings.Cut(s, "\n"); cut {
		s = line + "…"
	}
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// value decodes onto a value that holds its default, or with patch what is there
// already. def is the default.
func (d *decoder) value(v, def reflect.Value, n *wire.Node, path string) {
	t := v.Type()
	switch {
	case n.Kind == wire.Null && d.patch:
		v.Set(cloneValue(def))
	case t.Kind() == reflect.Pointer:
		d.pointer(v, n, path)
	case n.Kind == wire.Null:
		d.null(t, n, path)
	case isObject(t):
		d.object(v, def, n, path)
	case t.Kind() == reflect.Slice:
		d.list(v, n, path)
	default:
		d.scalar(v, n, path)
	}
}

func (d *decoder) pointer(v reflect.Value, n *wire.Node, path string) {
	if n.Kind == wire.Null {
		v.SetZero()
		return
	}
	fresh, def := newOf(v.Type().Elem()), newOf(v.Type().Elem())
	if d.patch && !v.IsNil() {
		fresh.Set(v.Elem())
	}
	d.value(fresh, def, n, path)
	v.Set(fresh.Addr())
}

// newOf makes a settable value of a type that holds its default.
func newOf(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if isObject(t) {
		v.Set(reflect.ValueOf(defaultOf(t)))
	}
	return v
}

// null refuses nothing where something must stand.
func (d *decoder) null(t reflect.Type, n *wire.Node, path string) {
	p := d.wrongKind(path, n, kindOf(t))
	switch {
	case isObject(t):
		p.Do(text.M("leave the name out to keep the defaults"))
	case t.Kind() == reflect.Slice:
		p.Do(text.M("write [] for an empty list"))
	case t.Kind() == reflect.String, t == secretType:
		p.Do(text.M(`write "" for an empty text`))
	default:
		p.Do(text.M("leave the name out to keep the default"))
	}
}

// kindOf says what is expected of a type.
func kindOf(t reflect.Type) text.Msg {
	switch {
	case isObject(t):
		return text.M("an object")
	case t.Kind() == reflect.Slice:
		return text.M("a list")
	case t == durationType:
		return text.M("a time span")
	case t == sizeType:
		return text.M("an amount of bytes")
	case t == timeType:
		return text.M("a time")
	case t.Kind() == reflect.Bool:
		return text.M("true or false")
	case t.Kind() == reflect.String, t == secretType:
		return text.M("a text")
	default:
		return text.M("a whole number")
	}
}

// object decodes an object's members onto a struct.
func (d *decoder) object(v, def reflect.Value, n *wire.Node, path string) {
	if n.Kind != wire.Object {
		d.wrongKind(path, n, kindOf(v.Type()))
		return
	}
	first := make([]int, v.NumField()) // line of each field; 0 = not yet
	for _, m := range n.Members {
		at := join(path, m.Key)
		p, known := propertyNamed(v.Type(), m.Key)
		switch {
		case !known:
			d.unknown(v.Type(), m, at)
		case first[p.index] > 0:
			d.problem(at, m.Line, m.Column, text.M("this stands twice, first in line {line}", "line", first[p.index]))
		default:
			first[p.index] = m.Line
			d.value(v.Field(p.index), def.Field(p.index), m.Value, at)
		}
	}
}

func (d *decoder) unknown(t reflect.Type, m wire.Member, path string) {
	p := d.problem(path, m.Line, m.Column, text.M("there is no such name here"))
	if len(d.problems) <= maxNearest {
		unknownName(p, t, m.Key)
	}
}

// unknownName hints at the names that a type has.
func unknownName(p *Problem, t reflect.Type, name string) {
	var known []string
	for _, p := range properties(t) {
		known = append(known, p.name)
	}
	hintAt(p, name, known)
}

// hintAt hints at the known word that is meant, else at all of them.
func hintAt(p *Problem, word string, known []string) {
	if Nearest(word, known) != "" {
		p.Near(word, known)
		return
	}
	p.Do(text.M("known are {names}", "names", strings.Join(known, ", ")))
}

// list decodes a list, in place of what was there.
func (d *decoder) list(v reflect.Value, n *wire.Node, path string) {
	if n.Kind != wire.List {
		d.notAList(v.Type(), n, path)
		return
	}
	inside := decoder{problems: d.problems}
	list, def := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items)), newOf(v.Type().Elem())
	for i, item := range n.Items {
		element := list.Index(i)
		element.Set(def)
		unshare(element)
		inside.value(element, def, item, path+"["+itemSelector(item, i)+"]")
	}
	d.problems = inside.problems
	if len(n.Items) == 0 {
		list = reflect.Zero(v.Type())
	}
	v.Set(list)
}

// notAList says how a list is written; one thing in its place is easily meant.
func (d *decoder) notAList(t reflect.Type, n *wire.Node, path string) {
	p := d.wrongKind(path, n, kindOf(t))
	switch {
	case isObject(t.Elem()):
		p.Do(text.M("write a dash before each object, which has its name within: - name: …"))
	case n.Kind == wire.Text || n.Kind == wire.Number:
		p.Do(text.M("put brackets around it: [{value}]", "value", shorten(n.Text)))
	}
}

// itemSelector is what selector will say of an element: its name or its index.
func itemSelector(item *wire.Node, index int) string {
	if name := item.Member("name"); name != nil && (name.Kind == wire.Text || name.Kind == wire.Number) &&
		name.Text != "" && !strings.ContainsAny(name.Text, "[]") {
		return name.Text
	}
	return strconv.Itoa(index)
}

// scalar decodes a plain value.
func (d *decoder) scalar(v reflect.Value, n *wire.Node, path string) {
	switch v := v.Addr().Interface().(type) {
	case *Secret:
		if d.notText(n, path) == nil {
			*v = NewSecret(n.Text)
		}
		return
	case *time.Time:
		d.time(v, n, path)
		return
	case encoding.TextUnmarshaler:
		d.measure(v, n, path)
		return
	}
	switch v.Kind() {
	case reflect.String:
		d.text(v, n, path)
	case reflect.Bool:
		d.bool(v, n, path)
	case reflect.Int, reflect.Int64:
		d.integer(v, n, path)
	default:
		d.unsigned(v, n, path)
	}
}

// notText notes a problem where no text stands. A number without quotes counts
// as the text that was written: serial: 0123 keeps its zero.
func (d *decoder) notText(n *wire.Node, path string) *Problem {
	if n.Kind == wire.Text || n.Kind == wire.Number {
		return nil
	}
	p := d.wrongKind(path, n, text.M("a text"))
	if n.Kind == wire.Bool {
		p.Do(text.M(`put it in quotes: "{value}"`, "value", n.Text))
	}
	return p
}

func (d *decoder) text(v reflect.Value, n *wire.Node, path string) {
	p := d.notText(n, path)
	if p == nil {
		v.SetString(n.Text)
	}
	words, ok := v.Interface().(enum)
	if !ok || p == nil && slices.Contains(words.Values(), n.Text) {
		return
	}
	if p == nil {
		p = d.problem(path, n.Line, n.Column, text.M("{value} is none of the words known here", "value", shorten(n.Text)))
	}
	if len(d.problems) <= maxNearest {
		hintAt(p, n.Text, words.Values())
	}
}

// bool takes true and false alone, which everybody reads the same way.
func (d *decoder) bool(v reflect.Value, n *wire.Node, path string) {
	if n.Kind == wire.Bool && (n.Text == "true" || n.Text == "false") {
		v.SetBool(n.Text == "true")
		return
	}
	p := d.wrongKind(path, n, text.M("true or false"))
	switch strings.ToLower(n.Text) {
	case "true", "yes", "on", "1", "y":
		p.Do(text.M("write true, in small letters and without quotes"))
	case "false", "no", "off", "0", "n":
		p.Do(text.M("write false, in small letters and without quotes"))
	}
}

func (d *decoder) integer(v reflect.Value, n *wire.Node, path string) {
	if !d.isInteger(n, path) {
		return
	}
	number, err := strconv.ParseInt(n.Text, 10, v.Type().Bits())
	if err != nil {
		bits := v.Type().Bits()
		d.outOfRange(n, path, -1<<(bits-1), 1<<(bits-1)-1)
		return
	}
	v.SetInt(number)
}

func (d *decoder) unsigned(v reflect.Value, n *wire.Node, path string) {
	if !d.isInteger(n, path) {
		return
	}
	number, err := strconv.ParseUint(n.Text, 10, v.Type().Bits())
	if err != nil {
		d.outOfRange(n, path, 0, 1<<v.Type().Bits()-1)
		return
	}
	v.SetUint(number)
}

// isInteger reports whether a whole number stands here in plain digits, without
// leading zeros, which some readers take for octal.
func (d *decoder) isInteger(n *wire.Node, path string) bool {
	digits := strings.TrimPrefix(n.Text, "-")
	if n.Kind == wire.Number && strings.Trim(digits, "0123456789") == "" && (digits == "0" || digits[0] != '0') {
		return true
	}
	p := d.wrongKind(path, n, text.M("a whole number"))
	switch {
	case n.Kind == wire.Text && wire.PlainKind(n.Text) == wire.Number:
		p.Do(text.M("write it without quotes"))
	case n.Kind == wire.Number:
		p.Do(text.M("write plain digits without leading zeros"))
	}
	return false
}

func (d *decoder) outOfRange(n *wire.Node, path string, least, most int) {
	d.problem(path, n.Line, n.Column, text.M("{value} is out of range", "value", shorten(n.Text))).
		Do(text.M("the least is {least}, the most {most}", "least", least, "most", most))
}

// measure decodes a time span or an amount of bytes.
func (d *decoder) measure(v encoding.TextUnmarshaler, n *wire.Node, path string) {
	if n.Kind == wire.Text && v.UnmarshalText([]byte(n.Text)) == nil {
		return
	}
	t := reflect.TypeOf(v).Elem()
	p := d.wrongKind(path, n, kindOf(t))
	if t == sizeType {
		p.Do(text.M("write a whole number with its unit, such as 512B, 16KiB, 2MiB or 1GiB"))
	} else {
		p.Do(text.M("write numbers with their units, such as 500ms, 30s, 1h30m or 7d"))
	}
}

// time decodes a time. It is kept in UTC, so that one instant has one form.
func (d *decoder) time(v *time.Time, n *wire.Node, path string) {
	if n.Kind == wire.Text {
		if parsed, err := time.Parse(time.RFC3339Nano, n.Text); err == nil {
			*v = parsed.UTC()
			return
		}
	}
	d.wrongKind(path, n, kindOf(timeType)).
		Do(text.M("write it as RFC 3339 does: 2027-01-31T18:00:00+01:00"))
}

var (
	durationType = reflect.TypeFor[Duration]()
	sizeType     = reflect.TypeFor[Size]()
)
