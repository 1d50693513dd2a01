package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"sluis/internal/config/wire"
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
	return wire.AppendJSON(nil, form{secret: Secret.String}.document(doc))
}

// EncodeJSONStored is EncodeJSON with secrets as in EncodeYAML: it decodes to the
// same document, and is for our own use alone.
func EncodeJSONStored(doc *Document) []byte {
	return wire.AppendJSON(nil, form{secret: Secret.stored}.document(doc))
}

// checkStored says whether the document can be read again once it is stored, which
// takes more room than what was typed. The texts are looked at before they are
// written: what can't be read must not be looked for among escapes.
func checkStored(doc *Document) Problems {
	root := form{secret: Secret.stored}.document(doc)
	if path, reason := unreadable(root); !reason.IsZero() {
		return refusal(path, reason)
	}
	size, count := len(writeYAML(root)), root.Count()
	if size <= MaxDocument && count <= wire.MaxNodes {
		return nil
	}
	var problems Problems
	problems.Add("", text.M("the document is too large: with every value spelled out it has {size} bytes and {count} values", "size", size, "count", count)).
		Do(text.M("at most {size} bytes and {count} values can be read again", "size", MaxDocument, "count", wire.MaxNodes))
	return problems
}

// unreadable is the path of the first text of a tree that can't be read again,
// with the reason; the zero Msg where there is none.
func unreadable(n *wire.Node) (path string, reason text.Msg) {
	for _, m := range n.Members {
		if path, reason = unreadable(m.Value); !reason.IsZero() {
			if path == "" || path[0] == '[' {
				return m.Key + path, reason
			}
			return join(m.Key, path), reason
		}
	}
	for i, item := range n.Items {
		if path, reason = unreadable(item); !reason.IsZero() {
			at := "[" + itemSelector(item, i) + "]"
			if path == "" {
				return at, reason
			}
			return join(at, path), reason
		}
	}
	return "", wire.Unreadable(n.Text)
}

// form is how values become a tree.
type form struct {
	// secret is the wire form of a secret.
	secret func(Secret) string
	// brief leaves out what equals its default, but for names and the format.
	brief bool
}

func (f form) document(doc *Document) *wire.Node {
	return f.value(reflect.ValueOf(doc).Elem(), reflect.ValueOf(Default()).Elem())
}

// value turns a value, which is no nil pointer, into a tree. def is the default; it
// is looked at in the brief form alone.
func (f form) value(v, def reflect.Value) *wire.Node {
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

func (f form) object(v, def reflect.Value) *wire.Node {
	fields := properties(v.Type())
	n := &wire.Node{Kind: wire.Object, Members: make([]wire.Member, 0, len(fields))}
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
		n.Members = append(n.Members, wire.Member{Key: p.name, Value: f.value(field, defField)})
	}
	return n
}

func (f form) list(v reflect.Value) *wire.Node {
	n := &wire.Node{Kind: wire.List}
	if v.Len() == 0 {
		return n
	}
	n.Items = make([]*wire.Node, v.Len())
	def := f.defaultOf(v.Type().Elem())
	for i := range n.Items {
		n.Items[i] = f.value(v.Index(i), def)
	}
	return n
}

func (f form) scalar(v reflect.Value) *wire.Node {
	switch v.Type() {
	case secretType:
		return &wire.Node{Kind: wire.Text, Text: f.secret(v.Interface().(Secret))}
	case timeType:
		return &wire.Node{Kind: wire.Text, Text: v.Interface().(time.Time).UTC().Format(time.RFC3339Nano)}
	case durationType:
		return &wire.Node{Kind: wire.Text, Text: Duration(v.Int()).String()}
	case sizeType:
		return &wire.Node{Kind: wire.Text, Text: Size(v.Int()).String()}
	case portType:
		return &wire.Node{Kind: portKind(v.String()), Text: v.String()}
	}
	switch v.Kind() {
	case reflect.String:
		return &wire.Node{Kind: wire.Text, Text: v.String()}
	case reflect.Bool:
		return &wire.Node{Kind: wire.Bool, Text: strconv.FormatBool(v.Bool())}
	case reflect.Int:
		return &wire.Node{Kind: wire.Number, Text: strconv.FormatInt(v.Int(), 10)}
	case reflect.Uint16:
		return &wire.Node{Kind: wire.Number, Text: strconv.FormatUint(v.Uint(), 10)}
	default:
		panic("BUG: the document has a field of type " + v.Type().String() + " that has no wire form")
	}
}

var portType = reflect.TypeFor[Port]()

// portKind writes a single port as a number, as people do.
func portKind(port string) wire.Kind {
	if port != "" && strings.Trim(port, "0123456789") == "" && (port == "0" || port[0] != '0') {
		return wire.Number
	}
	return wire.Text
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

// writeYAML is wire.AppendYAML with room made in advance.
func writeYAML(n *wire.Node) []byte { return wire.AppendYAML(make([]byte, 0, 24*n.Count()), n) }
