// Package wire is the form in which a document travels and is kept: text in YAML
// or JSON, and between the text and its meaning a tree of values.
//
// It owns the tree (Node), its reader (Parse) and its writers (AppendYAML and
// AppendJSON). It promises that a text which a writer wrote is read again as the
// same text, and is one for every reader of YAML 1.1 and 1.2 too (but for U+0000
// and what isn't UTF-8, which no document holds); that every value that was read
// has its place, and so has every fault but that of a text too large; and that
// reading takes time and memory that grow with the length of the text alone,
// within fixed bounds, whatever it holds.
//
// It does not promise what a value means: it knows no field and no Go type, it
// keeps a number as it was written, and a name that stands twice in one object
// stands twice in the tree. Comments and styles of writing are not kept. It takes
// and writes no more of YAML than a document has a use for: parse.go lists what is
// refused, AppendYAML says what has no form.
package wire

import (
	"strings"

	"sluis/internal/text"
)

// Node is one value as it was written, before it means anything: the common form
// of YAML and JSON, with its place in the text. The zero Node is a null that is
// written as nothing.
type Node struct {
	Kind Kind
	// Text is the content of a text, and for numbers, true, false and null what was
	// written.
	Text string
	// Members are those of an object, in the order in which they were written.
	Members []Member
	// Items are those of a list.
	Items []*Node
	// Line and Column are the place in the text, from 1; 0 = made, not read.
	Line, Column int
}

// Member is one key of an object with its value, and the place of the key.
type Member struct {
	Key          string
	Value        *Node
	Line, Column int
}

// Kind is what a value is.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Bool
	Number
	Text
	Object
	List
)

// Fault is why a text can't be read.
type Fault struct {
	// Line and Column are its place in the text, from 1; 0 = the text as a whole.
	Line, Column int
	// Message is a plain sentence.
	Message text.Msg
	// Hint says what to do; the zero Msg where that is plain.
	Hint text.Msg
}

// do sets what to do about the fault.
func (f *Fault) do(hint text.Msg) { f.Hint = hint }

// Member is the value of a key; nil where there is none.
func (n *Node) Member(key string) *Node {
	for _, m := range n.Members {
		if m.Key == key {
			return m.Value
		}
	}
	return nil
}

// Set gives a key a value, in the place of the one it had.
func (n *Node) Set(key string, value *Node) {
	for i := range n.Members {
		if n.Members[i].Key == key {
			n.Members[i].Value = value
			return
		}
	}
	n.Members = append(n.Members, Member{Key: key, Value: value})
}

// Count is how many nodes there are, this one among them.
func (n *Node) Count() int {
	sum := 1
	for _, m := range n.Members {
		sum += m.Value.Count()
	}
	for _, item := range n.Items {
		sum += item.Count()
	}
	return sum
}

// PlainKind says what a text without quotes is, by the core schema of YAML 1.2:
// yes, no, on and off are texts. Infinity and not-a-number are texts too, since
// JSON has neither.
func PlainKind(plain string) Kind {
	switch plain {
	case "", "~", "null", "Null", "NULL":
		return Null
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return Bool
	}
	if isNumber(plain) {
		return Number
	}
	return Text
}

// isNumber reports whether a text without quotes is a number: 12, -1.5, 1e3, .5,
// 0x1f, 0o17.
func isNumber(s string) bool {
	if digits, found := strings.CutPrefix(s, "0x"); found {
		return digits != "" && strings.Trim(digits, "0123456789abcdefABCDEF") == ""
	}
	if digits, found := strings.CutPrefix(s, "0o"); found {
		return digits != "" && strings.Trim(digits, "01234567") == ""
	}
	s = strings.TrimLeft(s[:1], "+-") + s[1:]
	whole, rest := cutDigits(s)
	var fraction string
	if after, found := strings.CutPrefix(rest, "."); found {
		fraction, rest = cutDigits(after)
	}
	if whole == "" && fraction == "" {
		return false
	}
	if rest == "" {
		return true
	}
	if rest[0] != 'e' && rest[0] != 'E' {
		return false
	}
	exponent := rest[1:]
	if exponent != "" && (exponent[0] == '+' || exponent[0] == '-') {
		exponent = exponent[1:]
	}
	digits, rest := cutDigits(exponent)
	return digits != "" && rest == ""
}

func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
