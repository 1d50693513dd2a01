package migrate

import (
	"slices"
	"strconv"
	"strings"

	"sluis/internal/text"
)

// Three readers take a line of HAProxy's configuration apart, one behind the
// other, and each has its own quoting (configuration manual 2.2):
//
//	word       blanks, quotes, #, $ and backslashes: every word of every line
//	format     % in a log-format string, such as a header field's value
//	argument   comma, parenthesis and quotes in an argument of a sample fetch
//
// A text is quoted from the inside out, for each reader that sees it. section.add
// quotes words, so that nobody can forget it.

// word is a text as one word of a line.
func word(s string) string {
	if s != "" && strings.Trim(s, bareBytes) == "" {
		return s
	}
	var b strings.Builder
	quoted := false
	quote := func(on bool) {
		if quoted != on {
			b.WriteByte('\'')
			quoted = on
		}
	}
	quote(true) // also the empty word is one
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'':
			quote(false)
			b.WriteString(`\'`)
		case c == '\n':
			quote(false)
			b.WriteString(`\n`)
		case c == '\r':
			quote(false)
			b.WriteString(`\r`)
		case c == 0: // ends a word for a program in C
			quote(false)
			b.WriteString(`\xff`)
		case c < ' ' || c == 0x7f:
			quote(false)
			b.WriteString(`\x` + hexByte(c))
		default:
			quote(true)
			b.WriteByte(c)
		}
	}
	quote(false)
	return b.String()
}

// bareBytes need no quotes anywhere in a word. Braces are conditions', which hold
// nothing of the document but names.
const bareBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@+,=*!{}|<>()%[]^?;~&"

func hexByte(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// format is a text, or a part of one, as it stands in a log-format string. Where
// blanks would be joined into one, a constant sample carries it.
func format(s string) string {
	if strings.ContainsAny(s, "\t\n\r\x00") || strings.Contains(s, "  ") {
		return "%[str(" + argument(s) + ")]"
	}
	return strings.ReplaceAll(s, "%", "%%")
}

// emptyFormat is a log-format string that gives nothing, where HAProxy wants one.
const emptyFormat = `%[str("")]`

// argument is a text as an argument of a sample fetch or converter.
func argument(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/") == "" {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// commentText is a text of the document in a comment.
func commentText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// names gives out names that HAProxy takes: letters, digits, dot, dash, underscore
// and colon, each once.
type names struct {
	taken []string
}

// reserved are words that conditions read otherwise.
var reserved = []string{"", "or", "if", "unless"}

// take is a name, or what comes near it and is free.
func (n *names) take(name string) string {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune(bareBytes[:len("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")], r) {
			return r
		}
		return '_'
	}, name)
	if slices.Contains(reserved, plain) {
		plain = "_" + plain
	}
	chosen := plain
	for i := 2; slices.Contains(n.taken, chosen); i++ {
		chosen = plain + "_" + strconv.Itoa(i)
	}
	n.taken = append(n.taken, chosen)
	return chosen
}

func (n names) with(other names) names { return names{slices.Concat(n.taken, other.taken)} }

// called reports a name that is another one in HAProxy.
func called(o *object, name, there string) {
	if name != there {
		o.approximated("name", text.M("it is called {name} there", "name", there))
	}
}
