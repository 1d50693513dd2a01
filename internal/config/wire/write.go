package wire

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The writer is our own, as the reader is: what it writes is what every reader of
// YAML 1.1 and 1.2 takes for the same text.

// AppendYAML writes a tree as a document of its own, in block style. Keys are
// written as they are, so each must be a word that needs no quotes; and there is
// no form for a list right inside a list, unless it is empty. What is neither text,
// object nor list is written as its Text.
func AppendYAML(dst []byte, n *Node) []byte {
	switch {
	case n.Kind == Object && len(n.Members) > 0:
		return appendMembers(dst, n, 0, false)
	case n.Kind == List && len(n.Items) > 0:
		return appendItems(dst, n, 0)
	default:
		return append(appendScalar(dst, n, 0), '\n')
	}
}

const indentation = 2

// appendMembers writes an object's members, each on a line of its own; the first
// may stand behind the dash of a list.
func appendMembers(dst []byte, n *Node, column int, behindDash bool) []byte {
	for i, m := range n.Members {
		if i > 0 || !behindDash {
			dst = appendSpaces(dst, column)
		}
		dst = append(append(dst, m.Key...), ':')
		switch {
		case len(m.Value.Members) > 0:
			dst = appendMembers(append(dst, '\n'), m.Value, column+indentation, false)
		case len(m.Value.Items) > 0:
			dst = appendItems(append(dst, '\n'), m.Value, column+indentation)
		default:
			dst = append(appendScalar(append(dst, ' '), m.Value, column+indentation), '\n')
		}
	}
	return dst
}

func appendItems(dst []byte, n *Node, column int) []byte {
	for _, item := range n.Items {
		dst = append(appendSpaces(dst, column), '-', ' ')
		if len(item.Members) > 0 {
			dst = appendMembers(dst, item, column+indentation, true)
		} else {
			dst = append(appendScalar(dst, item, column+indentation), '\n')
		}
	}
	return dst
}

// appendScalar writes what fits on a line, or a block text at a column. It leaves
// the last line end to the caller.
func appendScalar(dst []byte, n *Node, column int) []byte {
	switch {
	case n.Kind == Object:
		return append(dst, "{}"...)
	case n.Kind == List:
		return append(dst, "[]"...)
	case n.Kind != Text:
		return append(dst, n.Text...)
	case isPlain(n.Text):
		return append(dst, n.Text...)
	case isLiteral(n.Text):
		return appendLiteral(dst, n.Text, max(column, indentation))
	default:
		return appendQuoted(dst, n.Text)
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

// AppendJSON writes a tree as JSON (RFC 8259), without white space. What is
// neither text, object nor list is written as its Text, which must be JSON's.
func AppendJSON(dst []byte, n *Node) []byte {
	switch n.Kind {
	case Object:
		dst = append(dst, '{')
		for i, m := range n.Members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, m.Key), ':')
			dst = AppendJSON(dst, m.Value)
		}
		return append(dst, '}')
	case List:
		dst = append(dst, '[')
		for i, item := range n.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, item)
		}
		return append(dst, ']')
	case Text:
		return appendQuoted(dst, n.Text)
	default:
		return append(dst, n.Text...)
	}
}
