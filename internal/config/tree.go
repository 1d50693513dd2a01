package config

import (
	"strings"

	"sluis/internal/text"
)

// tree is a document as it was written, before it means anything: the common
// form of YAML and JSON, with the place of every value in the text.
type tree struct {
	kind treeKind
	// text is the content of a text, and for numbers, true, false and null what was
	// written.
	text string
	// members are those of an object, in the order in which they were written.
	members []member
	// items are those of a list.
	items []*tree
	// line and column are the place in the text, from 1; 0 = made, not read.
	line, column int
}

// member is one key of an object with its value.
type member struct {
	key          string
	value        *tree
	line, column int
}

type treeKind uint8

const (
	treeNull treeKind = iota
	treeBool
	treeNumber
	treeText
	treeObject
	treeList
)

// found says what stands there, for problems: the value itself where it is short
// enough to be recognized.
func (n *tree) found() text.Msg {
	switch n.kind {
	case treeText:
		return text.M(`the text "{value}"`, "value", shorten(n.text))
	case treeNumber, treeBool:
		return text.M("{value}", "value", shorten(n.text))
	case treeObject:
		return text.M("an object")
	case treeList:
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

// member is the value of a key; nil where there is none.
func (n *tree) member(key string) *tree {
	for _, m := range n.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// set gives a key a value, in the place of the one it had.
func (n *tree) set(key string, value *tree) {
	for i := range n.members {
		if n.members[i].key == key {
			n.members[i].value = value
			return
		}
	}
	n.members = append(n.members, member{key: key, value: value})
}

// resolve says what a text without quotes is, by the core schema of YAML 1.2:
// yes, no, on and off are texts. Infinity and not-a-number are texts too, since
// no field takes them.
func resolve(plain string) treeKind {
	switch plain {
	case "", "~", "null", "Null", "NULL":
		return treeNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return treeBool
	}
	if isNumber(plain) {
		return treeNumber
	}
	return treeText
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
