package wire

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"sluis/internal/text"
)

// Scalars (YAML 1.2.2 chapters 7.3 and 8.1).

// plain reads a text without quotes. In block style it goes on over lines that
// are indented deeper than the collection it stands in; within brackets it ends
// with its line, since a comma is missing there more often than a text is long.
func (r *reader) plain(indent int, flow bool) *Node {
	n := r.add(Null, r.pos)
	if !r.mayBeginPlain(flow) {
		return n
	}
	content := []byte(r.plainPart(flow))
	for !flow {
		r.failColon()
		breaks := r.continuation(indent)
		if breaks == 0 {
			break
		}
		content = appendFold(content, breaks)
		content = append(content, r.plainPart(flow)...)
	}
	n.Text = string(content)
	n.Kind = PlainKind(n.Text)
	return n
}

// plainPart reads what a line holds of a text without quotes.
func (r *reader) plainPart(flow bool) string {
	start := r.pos
	for ; !r.atEnd() && r.src[r.pos] != '\n'; r.pos++ {
		c := r.src[r.pos]
		if c == ':' && (r.endsWord(r.pos+1) || flow && r.endsFlow(r.pos+1)) ||
			c == '#' && r.pos > start && isBlank(r.src[r.pos-1]) || flow && r.endsFlow(r.pos) {
			break
		}
	}
	return strings.TrimRight(r.src[start:r.pos], " \t")
}

// failColon refuses a second colon on the line of a key: the first says what the
// second can't.
func (r *reader) failColon() {
	if r.peek() == ':' {
		r.fail(r.pos, text.M("a colon before a space can't stand in a text without quotes")).
			do(text.M("put the text in quotes, or begin the object on the next line"))
	}
}

// continuation goes to the next line if it continues a text without quotes, and
// says how many line ends lie between; 0 = the text has ended, nothing is read.
func (r *reader) continuation(indent int) int {
	if r.peek() != '\n' {
		return 0
	}
	pos, lineStart := r.pos, r.lineStart
	breaks := r.lineEnds()
	if c := r.peek(); c == 0 || c == '#' || r.column() <= indent {
		r.pos, r.lineStart = pos, lineStart
		return 0
	}
	return breaks
}

// mayBeginPlain refuses what begins with an indicator of YAML.
func (r *reader) mayBeginPlain(flow bool) bool {
	c := r.peek()
	word := !r.endsWord(r.pos+1) && (!flow || !r.endsFlow(r.pos+1))
	switch {
	case c == 0:
		return false
	case c == '&':
		r.fail(r.pos, text.M("anchors are not taken")).do(text.M("write the value out, or put a text in quotes"))
	case c == '*':
		r.fail(r.pos, text.M("aliases are not taken")).do(text.M("write the value out, or put a text in quotes"))
	case c == '!':
		r.fail(r.pos, text.M("tags are not taken")).do(text.M("leave the tag out, or put a text in quotes"))
	case strings.IndexByte("-?:", c) >= 0 && !word, strings.IndexByte(",[]{}#|>@`%\"'", c) >= 0:
		r.fail(r.pos, text.M("a value can't begin with {character}", "character", string(c))).do(text.M("put a text in quotes"))
	default:
		return true
	}
	return false
}

// quoted reads a text in quotes.
func (r *reader) quoted(indent int) *Node {
	n := r.add(Text, r.pos)
	n.Text = r.quotedText(indent)
	return n
}

func (r *reader) quotedText(indent int) string {
	start := r.pos
	quote := r.src[start]
	var content []byte
	end := 0 // of what stays when blanks before a line end are dropped
	for r.pos++; !r.atEnd(); {
		switch c := r.src[r.pos]; {
		case c == quote && quote == '\'' && strings.HasPrefix(r.src[r.pos:], "''"):
			content = append(content, quote)
			r.pos += 2
			end = len(content)
		case c == quote:
			r.pos++
			return string(content)
		case c == '\\' && quote == '"':
			content = r.escape(content)
			end = len(content)
		case c == '\n':
			content = appendFold(content[:end], r.lineEnds())
			end = len(content)
			if c := r.peek(); c != 0 && c != quote && r.column() <= indent {
				r.fail(start, text.M("the quote that opens here isn't closed"))
			}
		default:
			content = append(content, c)
			r.pos++
			if !isBlank(c) {
				end = len(content)
			}
		}
	}
	r.fail(start, text.M("the quote that opens here isn't closed"))
	return ""
}

// lineEnds skips line ends and the blanks that begin the lines behind them, and
// counts the line ends.
func (r *reader) lineEnds() int {
	breaks := 0
	for r.peek() == '\n' {
		r.pos++
		r.lineStart = r.pos
		breaks++
		r.blanks()
	}
	return breaks
}

// appendFold folds line ends: one becomes a space, of more the first is dropped.
func appendFold(content []byte, breaks int) []byte {
	if breaks == 1 {
		return append(content, ' ')
	}
	for range breaks - 1 {
		content = append(content, '\n')
	}
	return content
}

// escapes are the characters that a backslash stands before in double quotes:
// YAML's (5.7), which include JSON's.
var escapes = map[byte]string{
	'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r", 'e': "\x1b",
	' ': " ", '"': "\"", '/': "/", '\\': "\\", 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029",
}

// escape reads a backslash and what it stands for.
func (r *reader) escape(content []byte) []byte {
	start := r.pos
	r.pos++
	c := r.peek()
	if c == '\n' {
		return appendLineEnds(content, r.lineEnds()-1)
	}
	if s, known := escapes[c]; known {
		r.pos++
		return append(content, s...)
	}
	code, ok := r.hexEscape()
	switch {
	case !ok && c == '0', ok && code == 0:
		r.fail(start, controlCharacter(0))
	case !ok:
		r.fail(start, text.M("an unknown escape begins with this backslash")).
			do(text.M("write two backslashes for one, or use single quotes"))
	default:
		content = utf8.AppendRune(content, code)
	}
	return content
}

// hexEscape reads x41, u00e9 or U0001f600, and two u that are a UTF-16 pair, as
// JSON writes them. Half a pair becomes U+FFFD, as encoding/json has it.
func (r *reader) hexEscape() (rune, bool) {
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[r.peek()]
	code, ok := r.hex(r.pos+1, digits)
	if !ok {
		return 0, false
	}
	r.pos += 1 + digits
	if utf16.IsSurrogate(code) {
		low := rune(utf8.RuneError)
		if strings.HasPrefix(r.src[r.pos:], `\u`) {
			low, _ = r.hex(r.pos+2, 4)
		}
		if code = utf16.DecodeRune(code, low); code != utf8.RuneError {
			r.pos += 6
		}
	}
	return code, code <= utf8.MaxRune
}

func (r *reader) hex(start, digits int) (rune, bool) {
	if digits == 0 || start+digits > len(r.src) {
		return 0, false
	}
	code, err := strconv.ParseUint(r.src[start:start+digits], 16, 31)
	return rune(code), err == nil
}

// block reads a text that is marked by its indentation: literal behind |, folded
// behind > (YAML 1.2.2 chapter 8.1).
func (r *reader) block(indent int) *Node {
	n := r.add(Text, r.pos)
	folded := r.src[r.pos] == '>'
	r.pos++
	column, chomp := r.blockHeader(max(indent, 0))
	if r.blanks(); !r.endsLine() {
		r.fail(r.pos, text.M("the text begins on the line after this one"))
		return n
	}
	r.skipLine()
	if column == 0 {
		column = r.blockColumn(indent)
	}
	n.Text = r.blockText(column, folded, chomp)
	r.settle()
	return n
}

// blockHeader reads the signs behind | and >: a digit for the indentation, plus
// or minus for the line ends at the end. The column is 0 where none is given.
func (r *reader) blockHeader(indent int) (column int, chomp byte) {
	for {
		switch c := r.peek(); {
		case c >= '1' && c <= '9' && column == 0:
			column = indent + int(c-'0')
		case (c == '+' || c == '-') && chomp == 0:
			chomp = c
		default:
			return column, chomp
		}
		r.pos++
	}
}

// blockColumn is the indentation of the first line that isn't empty, if it
// belongs to the text; else one that only empty lines don't reach. Spaces before
// the text must not reach beyond it (8.1.1.1), or it is unclear where it begins.
func (r *reader) blockColumn(indent int) int {
	longest := 0
	for i := r.pos; i < len(r.src); {
		line, _, _ := strings.Cut(r.src[i:], "\n")
		content := strings.TrimLeft(line, " ")
		column := len(line) - len(content)
		switch {
		case content == "":
			longest = max(longest, column)
		case column <= indent:
			return math.MaxInt
		case column < longest:
			r.fail(i, text.M("this line is indented less than the empty line before it")).
				do(text.M("leave no spaces in empty lines"))
			return column
		default:
			return column
		}
		i += len(line) + 1
	}
	return math.MaxInt
}

func (r *reader) blockText(column int, folded bool, chomp byte) string {
	var content []byte
	breaks := 0          // line ends since the last line that isn't empty
	deeperBefore := true // whether that line begins with a blank; true before the first
	for !r.atEnd() {
		line, _, _ := strings.Cut(r.src[r.pos:], "\n")
		spaces := len(line) - len(strings.TrimLeft(line, " "))
		if spaces < column && spaces < len(line) {
			break
		}
		if len(line) > column {
			part := line[column:]
			deeper := isBlank(part[0])
			if folded && breaks > 0 && !deeper && !deeperBefore {
				content = appendFold(content, breaks)
			} else {
				content = appendLineEnds(content, breaks)
			}
			content, breaks, deeperBefore = append(content, part...), 0, deeper
		}
		r.pos += len(line)
		if !r.atEnd() {
			r.pos++
			breaks++
		}
	}
	return string(chompEnd(content, breaks, chomp))
}

// chompEnd ends a block text: without line ends, with all, or with one at most.
func chompEnd(content []byte, breaks int, chomp byte) []byte {
	switch {
	case chomp == '-':
		return content
	case chomp == '+':
		return appendLineEnds(content, breaks)
	case len(content) == 0:
		return content
	default:
		return appendLineEnds(content, min(breaks, 1))
	}
}

func appendLineEnds(content []byte, n int) []byte {
	for range n {
		content = append(content, '\n')
	}
	return content
}
