package config

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sluis/internal/text"
)

// EncodeYAML writes a document as it is stored: every value spelled out, so that
// a later default changes nothing; secrets as their references. Only what is
// optional and absent is left out. A secret whose value never reached the store
// is written as "(set)", not as itself.
func EncodeYAML(doc *Document) []byte {
	return writeYAML(form{secret: Secret.stored}.document(doc))
}

// EncodeBrief writes a document for people: YAML without what equals its default,
// but with the format and all names.
func EncodeBrief(doc *Document) []byte {
	return writeYAML(form{secret: Secret.stored, brief: true}.document(doc))
}

// EncodeJSON writes a document for answers: JSON, every value spelled out,
// secrets as "(set)".
func EncodeJSON(doc *Document) []byte {
	return appendJSON(nil, form{secret: Secret.String}.document(doc))
}

// EncodeJSONStored is EncodeJSON with secrets as in EncodeYAML: it decodes to the
// same document, and is for our own use alone.
func EncodeJSONStored(doc *Document) []byte {
	return appendJSON(nil, form{secret: Secret.stored}.document(doc))
}

// checkSize says whether the document can be read again once it is stored, which
// takes more room than what was typed.
func checkSize(doc *Document) Problems {
	root := form{secret: Secret.stored}.document(doc)
	size, count := len(writeYAML(root)), root.count()
	if size <= MaxDocument && count <= maxNodes {
		return nil
	}
	var problems Problems
	problems.Add("", text.M("the document is too large: with every value spelled out it has {size} bytes and {count} values", "size", size, "count", count)).
		Do(text.M("at most {size} bytes and {count} values can be read again", "size", MaxDocument, "count", maxNodes))
	return problems
}

// count is how many nodes there are.
func (n *tree) count() int {
	sum := 1
	for _, m := range n.members {
		sum += m.value.count()
	}
	for _, item := range n.items {
		sum += item.count()
	}
	return sum
}

// form is how values become a tree.
type form struct {
	// secret is the wire form of a secret.
	secret func(Secret) string
	// brief leaves out what equals its default, but for names and the format.
	brief bool
}

func (f form) document(doc *Document) *tree {
	return f.value(reflect.ValueOf(doc).Elem(), reflect.ValueOf(Default()).Elem())
}

// value turns a value, which is no nil pointer, into a tree. def is the default; it
// is looked at in the brief form alone.
func (f form) value(v, def reflect.Value) *tree {
	t := v.Type()
	switch {
	case t.Kind() == reflect.Pointer:
		return f.value(v.Elem(), f.defaultOf(t.Elem()))
	case isObject(t):
		return f.object(v, def)
	case t.Kind() == reflect.Slice:
		return f.list(v)
	default:
		return f.scalar(v)
	}
}

// defaultOf is the default that an object starts from, where it is looked at.
func (f form) defaultOf(t reflect.Type) reflect.Value {
	if !f.brief {
		return reflect.Value{}
	}
	return newOf(t)
}

func (f form) object(v, def reflect.Value) *tree {
	fields := properties(v.Type())
	n := &tree{kind: treeObject, members: make([]member, 0, len(fields))}
	for _, p := range fields {
		field := v.Field(p.index)
		if field.Kind() == reflect.Pointer && field.IsNil() {
			continue
		}
		var defField reflect.Value
		if f.brief {
			defField = def.Field(p.index)
			if p.name != "name" && p.name != "format" && equal(field, defField) {
				continue
			}
		}
		n.members = append(n.members, member{key: p.name, value: f.value(field, defField)})
	}
	return n
}

func (f form) list(v reflect.Value) *tree {
	n := &tree{kind: treeList}
	if v.Len() == 0 {
		return n
	}
	n.items = make([]*tree, v.Len())
	def := f.defaultOf(v.Type().Elem())
	for i := range n.items {
		n.items[i] = f.value(v.Index(i), def)
	}
	return n
}

func (f form) scalar(v reflect.Value) *tree {
	switch v.Type() {
	case secretType:
		return &tree{kind: treeText, text: f.secret(v.Interface().(Secret))}
	case timeType:
		return &tree{kind: treeText, text: v.Interface().(time.Time).UTC().Format(time.RFC3339Nano)}
	case durationType:
		return &tree{kind: treeText, text: Duration(v.Int()).String()}
	case sizeType:
		return &tree{kind: treeText, text: Size(v.Int()).String()}
	case portType:
		return &tree{kind: portKind(v.String()), text: v.String()}
	}
	switch v.Kind() {
	case reflect.String:
		return &tree{kind: treeText, text: v.String()}
	case reflect.Bool:
		return &tree{kind: treeBool, text: strconv.FormatBool(v.Bool())}
	case reflect.Int:
		return &tree{kind: treeNumber, text: strconv.FormatInt(v.Int(), 10)}
	case reflect.Uint16:
		return &tree{kind: treeNumber, text: strconv.FormatUint(v.Uint(), 10)}
	default:
		panic("BUG: the document has a field of type " + v.Type().String() + " that has no wire form")
	}
}

var portType = reflect.TypeFor[Port]()

// portKind writes a single port as a number, as people do.
func portKind(port string) treeKind {
	if digits, rest := cutDigits(port); rest == "" && digits != "" && (digits == "0" || digits[0] != '0') {
		return treeNumber
	}
	return treeText
}

// equal compares values; a list without elements equals an absent one.
func equal(a, b reflect.Value) bool {
	switch {
	case a.Kind() == reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return equal(a.Elem(), b.Elem())
	case a.Kind() == reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case isObject(a.Type()):
		for _, p := range properties(a.Type()) {
			if !equal(a.Field(p.index), b.Field(p.index)) {
				return false
			}
		}
		return true
	case a.Type() == timeType:
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	default:
		return a.Interface() == b.Interface()
	}
}

// YAML. The writer is our own, as the reader is: what it writes is what every
// reader of YAML 1.1 and 1.2 takes for the same text.

// writeYAML is appendYAML with room made in advance.
func writeYAML(n *tree) []byte { return appendYAML(make([]byte, 0, 24*n.count()), n) }

// appendYAML writes a tree as a document of its own.
func appendYAML(dst []byte, n *tree) []byte {
	switch {
	case n.kind == treeObject && len(n.members) > 0:
		return appendMembers(dst, n, 0, false)
	case n.kind == treeList && len(n.items) > 0:
		return appendItems(dst, n, 0)
	default:
		return append(appendScalar(dst, n, 0), '\n')
	}
}

const indentation = 2

// appendMembers writes an object's members, each on a line of its own; the first
// may stand behind the dash of a list.
func appendMembers(dst []byte, n *tree, column int, behindDash bool) []byte {
	for i, m := range n.members {
		if i > 0 || !behindDash {
			dst = appendSpaces(dst, column)
		}
		dst = append(append(dst, m.key...), ':')
		switch {
		case len(m.value.members) > 0:
			dst = appendMembers(append(dst, '\n'), m.value, column+indentation, false)
		case len(m.value.items) > 0:
			dst = appendItems(append(dst, '\n'), m.value, column+indentation)
		default:
			dst = append(appendScalar(append(dst, ' '), m.value, column+indentation), '\n')
		}
	}
	return dst
}

func appendItems(dst []byte, n *tree, column int) []byte {
	for _, item := range n.items {
		dst = append(appendSpaces(dst, column), '-', ' ')
		if len(item.members) > 0 {
			dst = appendMembers(dst, item, column+indentation, true)
		} else {
			dst = append(appendScalar(dst, item, column+indentation), '\n')
		}
	}
	return dst
}

// appendScalar writes what fits on a line, or a block text at a column. It leaves
// the last line end to the caller.
func appendScalar(dst []byte, n *tree, column int) []byte {
	switch {
	case n.kind == treeObject:
		return append(dst, "{}"...)
	case n.kind == treeList:
		return append(dst, "[]"...)
	case n.kind != treeText:
		return append(dst, n.text...)
	case isPlain(n.text):
		return append(dst, n.text...)
	case isLiteral(n.text):
		return appendLiteral(dst, n.text, max(column, indentation))
	default:
		return appendQuoted(dst, n.text)
	}
}

func appendSpaces(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, ' ')
	}
	return dst
}

// isPlain reports whether a text needs no quotes: it begins with a letter, a
// digit or a slash, holds no sign that means something in any style, and no
// reader takes it for anything but a text.
func isPlain(s string) bool {
	if s == "" || s[len(s)-1] == ' ' || s[len(s)-1] == ':' || strings.Contains(s, ": ") {
		return false
	}
	for i, c := range s {
		letter := c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c))
		if !letter && c != '/' && (i == 0 || !strings.ContainsRune(" -_.:@%+=~()*", c)) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return !seemsNumber(s)
}

// seemsNumber reports whether some reader may take a text for a number, a time or
// a date: YAML 1.1 knows 1:30, 0b1, 1_000 and 2001-12-14. Addresses are told from
// them by what no number has: three dots, or two colons in a row.
func seemsNumber(s string) bool {
	switch {
	case s[0] < '0' || s[0] > '9':
		return false
	case len(s) > 2 && strings.ContainsRune("xXbBoO", rune(s[1])):
		return true
	case strings.Trim(s, "0123456789.:_+- eEtTzZ") != "":
		return false
	}
	addr, err := netip.ParseAddr(s)
	return err != nil || addr.Is6() && !strings.Contains(s, "::")
}

// isLiteral reports whether a text of several lines comes back exactly from a
// literal block: it begins with something visible, no line holds spaces alone,
// and at most one line end closes it.
func isLiteral(s string) bool {
	if !strings.Contains(s, "\n") || s[0] == '\n' || s[0] == ' ' || s[0] == '\t' || strings.HasSuffix(s, "\n\n") {
		return false
	}
	for line := range strings.SplitSeq(s, "\n") {
		if line != "" && strings.Trim(line, " \t") == "" {
			return false
		}
	}
	for _, c := range s {
		if c != '\n' && c != '\t' && needsEscape(c) {
			return false
		}
	}
	return utf8.ValidString(s)
}

func appendLiteral(dst []byte, s string, column int) []byte {
	body, ended := strings.CutSuffix(s, "\n")
	dst = append(dst, '|')
	if !ended {
		dst = append(dst, '-')
	}
	for line := range strings.SplitSeq(body, "\n") {
		dst = append(dst, '\n')
		if line != "" {
			dst = append(appendSpaces(dst, column), line...)
		}
	}
	return dst
}

// needsEscape reports whether a character can't be seen or would be changed: in
// YAML a line end is also U+0085, U+2028 and U+2029.
func needsEscape(c rune) bool {
	return c < ' ' || c >= 0x7f && c <= 0x9f || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff
}

// appendQuoted writes a text in double quotes, in the form that YAML and JSON
// share. What is not UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case needsEscape(c):
			dst = append(dst, '\\', 'u', digits[c>>12&15], digits[c>>8&15], digits[c>>4&15], digits[c&15])
		default:
			dst = utf8.AppendRune(dst, c)
		}
	}
	return append(dst, '"')
}

// appendJSON writes a tree as JSON (RFC 8259), without white space.
func appendJSON(dst []byte, n *tree) []byte {
	switch n.kind {
	case treeObject:
		dst = append(dst, '{')
		for i, m := range n.members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, m.key), ':')
			dst = appendJSON(dst, m.value)
		}
		return append(dst, '}')
	case treeList:
		dst = append(dst, '[')
		for i, item := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, item)
		}
		return append(dst, ']')
	case treeText:
		return appendQuoted(dst, n.text)
	default:
		return append(dst, n.text...)
	}
}
