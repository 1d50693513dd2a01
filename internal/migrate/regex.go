package migrate

import (
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxRegexSize bounds an expression with its repetitions written out: PCRE2 refuses
// what compiles to more than 64 KiB.
const maxRegexSize = 4000

// perlRegex is an RE2 expression in PCRE2's words, for HAProxy matches bytes and
// knows no Unicode. ok is false for what can't be said there.
func perlRegex(expression string) (perl string, ok bool) {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil || regexSize(tree) > maxRegexSize {
		return "", false
	}
	if expression != "" && isPlainRegex(expression) {
		return expression, true
	}
	var w regexWriter
	w.write(tree, 0)
	return w.b.String(), !w.failed
}

// isPlainRegex reports whether an expression reads the same in both languages.
func isPlainRegex(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		next := byte(0)
		if i+1 < len(s) {
			next = s[i+1]
		}
		switch {
		case c < ' ' || c >= 0x7f || c == '{' || c == '#':
			return false
		case c == '\\':
			if next == 0 || strings.IndexByte(`.*+?()[]|^$/\-dw`, next) < 0 {
				return false
			}
			i++
		case c == '.' && next != '*' && next != '+', c == '[' && next == '^':
			return false // a character may be several bytes
		case c == '(' && next == '?', c == '[' && (next == ':' || next == ']' || next == '['):
			return false
		}
	}
	return true
}

// regexSize is about how many steps an expression has, written out.
func regexSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		size += regexSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, 1<<20)
}

// Bindings of a regular expression's parts, the loosest first.
const (
	bindAlternate = iota
	bindConcat
	bindRepeat
)

type regexWriter struct {
	b      strings.Builder
	failed bool
}

// write writes an expression that stands where something of that binding must.
func (w *regexWriter) write(re *syntax.Regexp, binding int) {
	switch re.Op {
	case syntax.OpNoMatch:
		w.b.WriteString("(?!)")
	case syntax.OpEmptyMatch:
		w.b.WriteString("(?:)")
	case syntax.OpLiteral:
		w.literal(re)
	case syntax.OpCharClass:
		w.class(re.Rune, false)
	case syntax.OpAnyCharNotNL:
		w.class([]rune{0, '\n' - 1, '\n' + 1, utf8.MaxRune}, false)
	case syntax.OpAnyChar:
		w.class([]rune{0, utf8.MaxRune}, false)
	case syntax.OpBeginLine:
		w.b.WriteString("(?m:^)")
	case syntax.OpEndLine:
		w.b.WriteString("(?m:$)")
	case syntax.OpBeginText:
		w.b.WriteString(`\A`)
	case syntax.OpEndText:
		w.b.WriteString(`\z`)
	case syntax.OpWordBoundary:
		w.b.WriteString(`\b`)
	case syntax.OpNoWordBoundary:
		w.b.WriteString(`\B`)
	case syntax.OpCapture:
		w.b.WriteByte('(')
		w.write(re.Sub[0], bindAlternate)
		w.b.WriteByte(')')
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		w.repeat(re, binding)
	case syntax.OpConcat:
		w.join(re, "", binding, bindConcat)
	case syntax.OpAlternate:
		w.join(re, "|", binding, bindAlternate)
	default:
		w.failed = true
	}
}

// join writes several expressions, in a group where the place binds tighter.
func (w *regexWriter) join(re *syntax.Regexp, between string, place, own int) {
	if place > own {
		w.b.WriteString("(?:")
		defer w.b.WriteByte(')')
	}
	for i, sub := range re.Sub {
		if i > 0 {
			w.b.WriteString(between)
		}
		w.write(sub, own+1)
	}
}

func (w *regexWriter) repeat(re *syntax.Regexp, binding int) {
	if binding > bindConcat+1 {
		w.b.WriteString("(?:")
		defer w.b.WriteByte(')')
	}
	// What is repeated stands in a group of its own: one star behind another means
	// something else there.
	many := re.Op == syntax.OpStar || re.Op == syntax.OpPlus
	switch sub := re.Sub[0]; {
	case sub.Op == syntax.OpCharClass && many:
		w.class(sub.Rune, true)
	case sub.Op == syntax.OpAnyCharNotNL && many:
		w.b.WriteString(`[^\n]`)
	case sub.Op == syntax.OpCapture:
		w.write(sub, bindRepeat)
	default:
		w.b.WriteString("(?:")
		w.write(sub, bindAlternate)
		w.b.WriteByte(')')
	}
	switch re.Op {
	case syntax.OpStar:
		w.b.WriteByte('*')
	case syntax.OpPlus:
		w.b.WriteByte('+')
	case syntax.OpQuest:
		w.b.WriteByte('?')
	default:
		w.b.WriteString("{" + strconv.Itoa(re.Min) + ",")
		if re.Max >= 0 {
			w.b.WriteString(strconv.Itoa(re.Max))
		}
		w.b.WriteByte('}')
	}
	if re.Flags&syntax.NonGreedy != 0 {
		w.b.WriteByte('?')
	}
}

func (w *regexWriter) literal(re *syntax.Regexp) {
	fold := re.Flags&syntax.FoldCase != 0
	if fold {
		w.b.WriteString("(?i:")
		defer w.b.WriteByte(')')
	}
	for _, r := range re.Rune {
		if fold && r >= utf8.RuneSelf {
			w.failed = true // bytes have no case
		}
		w.rune(r)
	}
}

func (w *regexWriter) rune(r rune) {
	for _, c := range utf8.AppendRune(nil, r) {
		w.b.WriteString(regexByte(c))
	}
}

func regexByte(c byte) string {
	if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/' || c == '_' {
		return string([]byte{c})
	}
	return `\x` + hexByte(c)
}

// anyBeyond is any character beyond ASCII, as a whole.
const anyBeyond = `[\x80-\xff][\x80-\xbf]*+`

// maxClassRunes is how many characters beyond ASCII a class may name one by one.
const maxClassRunes = 64

// class writes a character class. One that holds all beyond ASCII, such as [^/],
// holds any sequence of bytes that can be one; where many may follow each other,
// any byte will do. Others are written as the bytes of each character.
func (w *regexWriter) class(pairs []rune, many bool) {
	var ascii strings.Builder
	var beyond []rune
	all := false
	for i := 0; i+1 < len(pairs); i += 2 {
		low, high := pairs[i], pairs[i+1]
		if low < utf8.RuneSelf {
			ascii.WriteString(regexByte(byte(low)) + "-" + regexByte(byte(min(high, utf8.RuneSelf-1))))
		}
		if high < utf8.RuneSelf {
			continue
		}
		low = max(low, utf8.RuneSelf)
		if low == utf8.RuneSelf && high == utf8.MaxRune {
			all = true
			continue
		}
		if int(high-low) >= maxClassRunes || len(beyond) > maxClassRunes {
			w.failed = true
			return
		}
		for r := low; r <= high; r++ {
			beyond = append(beyond, r)
		}
	}
	switch {
	case all && many && len(beyond) == 0:
		w.b.WriteString("[" + ascii.String() + `\x80-\xff]`)
		return
	case all && ascii.Len() == 0:
		w.b.WriteString(anyBeyond)
		return
	case all:
		w.b.WriteString("(?:[" + ascii.String() + "]|" + anyBeyond + ")")
		return
	}
	switch {
	case len(beyond) == 0 && ascii.Len() == 0:
		w.b.WriteString("(?!)")
	case len(beyond) == 0:
		w.b.WriteString("[" + ascii.String() + "]")
	default:
		w.b.WriteString("(?:")
		if ascii.Len() > 0 {
			w.b.WriteString("[" + ascii.String() + "]|")
		}
		for i, r := range slices.Compact(beyond) {
			if i > 0 {
				w.b.WriteByte('|')
			}
			w.rune(r)
		}
		w.b.WriteByte(')')
	}
}

// backReferences is a replacement in HAProxy's words: \1 for a group, a backslash
// for itself by two. names are those of the expression's groups. ok is false where
// a group beyond the ninth is asked, which HAProxy can't.
func backReferences(with string, names []string) (out string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(with); i++ {
		c := with[i]
		if c == '\\' {
			b.WriteString(`\\`)
			continue
		}
		if c != '$' {
			b.WriteByte(c)
			continue
		}
		group, length := groupAt(with[i+1:], names)
		switch {
		case length == 0:
			b.WriteByte('$')
		case group > 9:
			return "", false
		case group == groupDollar:
			b.WriteByte('$')
		case group != groupNone:
			b.WriteString(`\` + strconv.Itoa(group))
		}
		i += length
	}
	return b.String(), true
}

// What groupAt finds where it finds no number.
const (
	groupNone   = -1 // a group that isn't there: nothing
	groupDollar = -2 // a second dollar sign
)

// groupAt reads what follows a dollar sign: one or two digits, a name or number in
// braces, or another dollar sign. A length of 0 says that it means nothing.
func groupAt(s string, names []string) (group, length int) {
	digits := 0
	for digits < len(s) && digits < 2 && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		n, _ := strconv.Atoi(s[:digits])
		return numbered(n, names), digits
	}
	if strings.HasPrefix(s, "$") {
		return groupDollar, 1
	}
	closing := strings.IndexByte(s, '}')
	if !strings.HasPrefix(s, "{") || closing < 2 {
		return 0, 0
	}
	inner := s[1:closing]
	if strings.Trim(strings.ToLower(inner), "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return 0, 0
	}
	if n, err := strconv.Atoi(inner); err == nil {
		return numbered(n, names), closing + 1
	}
	return slices.Index(names, inner), closing + 1 // -1 is groupNone
}

func numbered(n int, names []string) int {
	if n >= len(names) {
		return groupNone
	}
	return n
}
