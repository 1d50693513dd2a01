package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sluis/internal/text"
)

// This file, parse_flow.go and parse_scalar.go read the text of a document into a
// tree. YAML and JSON have one reader, since JSON is YAML's flow style: a document
// that begins with a brace is one flow collection.
//
// It is our own because what it reads comes from outside and must be bounded:
// goccy/go-yaml, the library of choice, takes 84 seconds for 128 KiB of empty
// lines in a block text, 85 for 1 MiB of a repeated key, more than 100 for 100,000
// brackets, and reads the list [vip:ece] as one of objects. This reader's time
// grows with the length of the text alone. What it takes is checked against
// that library and against encoding/json, in its tests.
//
// It takes YAML 1.2 without what a document has no use for, each refused in a
// sentence of its own: anchors, aliases, merge keys, tags, directives, keys
// that aren't plain, several documents in one text, tabs as indentation, and
// within brackets a text without quotes that goes on over the end of its line.

// Bounds of what is read. A stored revision spells out every value, which makes
// it larger than what was typed: a document with ten thousand rules and as many
// ACLs takes 5.8 MB and 280,000 nodes (config's TestLargeDocumentsFit).
const (
	// MaxBytes is the most bytes that a text may have.
	MaxBytes = 16 << 20
	// MaxNodes is the most values that may stand in it.
	MaxNodes = 1 << 20
	maxDepth = 32
)

// reader reads one text. After a fault it stands at the end of the text, which
// ends every loop; what it returns is then of no use.
type reader struct {
	src       string // line ends are \n
	pos       int
	lineStart int // where the line of pos begins
	// fresh is where settle has found the first character of a line. While pos is
	// still there, nothing of that line has been read.
	fresh  int
	depth  int
	nodes  int
	places locator
	fault  *Fault // the first one
}

// Parse reads YAML or JSON. It gives a tree or the first fault, never both; a text
// without a value is a null.
func Parse(data []byte) (*Node, *Fault) {
	if len(data) > MaxBytes {
		return nil, &Fault{Message: text.M("the text is larger than {limit}", "limit", fmt.Sprintf("%dMiB", MaxBytes>>20))}
	}
	src := strings.TrimPrefix(string(data), "\ufeff")
	if strings.Contains(src, "\r") {
		src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	}
	r := &reader{src: src, fresh: -1, places: newLocator(src)}
	r.checkCharacters()
	root := r.document()
	if r.fault != nil {
		return nil, r.fault
	}
	return root, nil
}

// checkCharacters refuses what is no text. JSON (RFC 8259 section 7) and YAML
// (section 5.1) both want other control characters escaped.
func (r *reader) checkCharacters() {
	if !utf8.ValidString(r.src) {
		at := 0
		for at < len(r.src) {
			c, size := utf8.DecodeRuneInString(r.src[at:])
			if c == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		r.fail(at, notUTF8())
		return
	}
	for i := range len(r.src) {
		if c := r.src[i]; c < ' ' && c != '\n' && c != '\t' {
			r.fail(i, controlCharacter(int(c)))
			return
		}
	}
}

func notUTF8() text.Msg { return text.M("this is not UTF-8 text") }

func controlCharacter(code int) text.Msg {
	return text.M("the control character {code} can't stand in a document", "code", code)
}

// Unreadable says why a content can't stand in a document, however it is written;
// the zero Msg where it can. The writers have no form for it: U+0000 comes out as
// an escape that Parse refuses, and what isn't UTF-8 as U+FFFD.
func Unreadable(content string) text.Msg {
	switch {
	case !utf8.ValidString(content):
		return notUTF8()
	case strings.IndexByte(content, 0) >= 0:
		return controlCharacter(0)
	}
	return text.Msg{}
}

// document reads the one document of the text.
func (r *reader) document() *Node {
	if i := strings.IndexFunc(r.src, func(c rune) bool { return !strings.ContainsRune(" \t\n", c) }); i >= 0 &&
		(r.src[i] == '{' || r.src[i] == '[') && r.fault == nil {
		r.pos, r.lineStart = i, strings.LastIndexByte(r.src[:i], '\n')+1
	}
	r.oneDocument()
	root := r.value(-1, 0)
	r.nextLine()
	if !r.atEnd() {
		r.fail(r.pos, text.M("this doesn't belong to what stands before it")).
			do(text.M("is the indentation right, or a bracket or quote closed too early?"))
	}
	return root
}

// oneDocument takes the markers of YAML off: a line of dashes before the
// document, one of dots behind it.
func (r *reader) oneDocument() {
	all, begun, ended := r.src, r.pos > 0, false
	for start := r.pos; start < len(all); {
		line, _, _ := strings.Cut(all[start:], "\n")
		content := strings.TrimLeft(line, " \t")
		switch {
		case content == "" || content[0] == '#':
		case isMarker(line, "..."):
			if !ended {
				r.src, ended = all[:start], true
			}
		case ended || begun && isMarker(line, "---"):
			r.fail(start, text.M("a second document begins here; only one can be read"))
			return
		case isMarker(line, "---"):
			begun, r.pos, r.lineStart = true, start+len("---"), start
		case line[0] == '%' && !begun:
			r.fail(start, text.M("YAML directives are not taken"))
			return
		default:
			begun = true
		}
		start += len(line) + 1
	}
}

func isMarker(line, marker string) bool {
	return strings.HasPrefix(line, marker) && (len(line) == 3 || line[3] == ' ' || line[3] == '\t')
}

// fail notes a fault and ends the reading.
func (r *reader) fail(at int, message text.Msg) *Fault {
	f := &Fault{Message: message}
	f.Line, f.Column = r.places.place(at)
	if r.fault == nil {
		r.fault = f
	}
	r.pos = len(r.src)
	return f
}

// add makes a node for what stands at a place.
func (r *reader) add(kind Kind, at int) *Node {
	n := &Node{Kind: kind}
	if r.nodes++; r.nodes > MaxNodes {
		r.fail(at, text.M("the document has more than {limit} values", "limit", MaxNodes))
		return n
	}
	n.Line, n.Column = r.places.place(at)
	return n
}

// open begins an object or a list; the caller counts r.depth down at its end.
func (r *reader) open(kind Kind, at int) *Node {
	if r.depth++; r.depth > maxDepth {
		r.fail(at, text.M("lists and objects stand in one another more than {limit} deep", "limit", maxDepth))
	}
	return r.add(kind, at)
}

// Block style (YAML 1.2.2 chapter 8): structure by indentation.

// value reads what stands behind an indicator of a collection: after is ':' for
// the value of a key, '-' for an element of a list, 0 for the document. indent
// is the column of that collection, -1 at the top.
func (r *reader) value(indent int, after byte) *Node {
	start := r.pos
	tab := r.blanks()
	if r.endsLine() {
		r.nextLine()
		deeper := r.column() > indent || after == ':' && r.column() == indent && r.isDash()
		if r.atEnd() || !deeper {
			return r.add(Null, start)
		}
		return r.node(indent, true)
	}
	if tab && after != ':' && (r.isDash() || r.isKey()) {
		r.failTab(start)
	}
	return r.node(indent, after != ':')
}

// node reads the value that begins here. collections says whether a list or an
// object without brackets may begin on this line.
func (r *reader) node(indent int, collections bool) *Node {
	switch {
	case r.atEnd():
		return r.add(Null, r.pos)
	case r.isDash():
		if !collections {
			r.fail(r.pos, text.M("a list can't begin on the line of its key")).do(text.M("begin it on the next line"))
		}
		return r.sequence(r.column())
	case collections && r.isKey():
		return r.mapping(r.column())
	}
	switch r.src[r.pos] {
	case '{', '[':
		return r.flow(indent)
	case '"', '\'':
		return r.quoted(indent)
	case '|', '>':
		return r.block(indent)
	default:
		return r.plain(indent, false)
	}
}

func (r *reader) mapping(column int) *Node {
	n := r.open(Object, r.pos)
	defer func() { r.depth-- }()
	for {
		m := r.key()
		m.Value = r.value(column, ':')
		n.Members = append(n.Members, m)
		r.nextLine()
		switch {
		case r.atEnd() || r.column() < column:
			return n
		case r.column() > column:
			r.fail(r.pos, text.M("this line is indented deeper than the one it follows")).
				do(text.M("the names of one object stand below one another"))
		case !r.isKey():
			r.fail(r.pos, text.M("a name and a colon are expected here"))
		}
	}
}

func (r *reader) sequence(column int) *Node {
	n := r.open(List, r.pos)
	defer func() { r.depth-- }()
	for r.isDash() && r.column() == column {
		r.pos++
		n.Items = append(n.Items, r.value(column, '-'))
		r.nextLine()
		if !r.atEnd() && r.column() > column {
			r.fail(r.pos, text.M("this line is indented deeper than the one it follows")).
				do(text.M("the dashes of one list stand below one another"))
		}
	}
	return n
}

// key reads a name and its colon.
func (r *reader) key() Member {
	var m Member
	m.Line, m.Column = r.places.place(r.pos)
	start := r.pos
	if c := r.peek(); c == '"' || c == '\'' {
		m.Key = r.quotedText(-1)
		r.blanks()
	} else if r.mayBeginPlain(false) {
		m.Key = r.plainPart(false)
	}
	if r.peek() != ':' {
		r.fail(start, text.M("a name and a colon are expected here"))
		return m
	}
	r.pos++
	r.checkKey(m, start)
	return m
}

func (r *reader) checkKey(m Member, at int) {
	switch m.Key {
	case "":
		r.fail(at, text.M("a name is missing before the colon"))
	case "<<":
		r.fail(at, text.M("merge keys are not taken")).do(text.M("write the values out"))
	}
}

// isKey reports whether the line begins with a name and a colon.
func (r *reader) isKey() bool {
	i := r.pos
	switch r.peek() {
	case 0, '{', '[', '&', '*', '!', '|', '>':
		return false
	case '"', '\'':
		if i = r.quoteEnd(); i < 0 {
			return false
		}
		for i < len(r.src) && isBlank(r.src[i]) {
			i++
		}
		return i < len(r.src) && r.src[i] == ':' && r.endsWord(i+1)
	}
	for ; i < len(r.src) && r.src[i] != '\n'; i++ {
		switch {
		case r.src[i] == ':' && r.endsWord(i+1):
			return true
		case r.src[i] == '#' && i > r.pos && isBlank(r.src[i-1]):
			return false
		}
	}
	return false
}

// quoteEnd is where the quoted text that begins here has ended; -1 = not on
// this line.
func (r *reader) quoteEnd() int {
	quote := r.src[r.pos]
	for i := r.pos + 1; i < len(r.src) && r.src[i] != '\n'; i++ {
		switch {
		case r.src[i] == '\\' && quote == '"':
			i++
		case r.src[i] == quote:
			return i + 1
		}
	}
	return -1
}

// isDash reports whether an element of a list begins here.
func (r *reader) isDash() bool { return r.peek() == '-' && r.endsWord(r.pos+1) }

// Lines and characters.

// nextLine ends the line, on which nothing may be left but a comment, and goes
// to the first character of the next one that isn't empty.
func (r *reader) nextLine() {
	if r.pos == r.fresh {
		return
	}
	r.blanks()
	if !r.endsLine() {
		r.fail(r.pos, text.M("the value has ended before this")).
			do(text.M("put a text in quotes as a whole, or leave out what follows"))
		return
	}
	r.skipLine()
	r.settle()
}

// settle goes from the start of a line to the first character that is neither
// white space nor comment.
func (r *reader) settle() {
	for !r.atEnd() {
		r.lineStart = r.pos
		for r.peek() == ' ' {
			r.pos++
		}
		start := r.pos
		if r.blanks(); !r.endsLine() {
			if r.pos > start {
				r.failTab(start)
			}
			break
		}
		r.skipLine()
	}
	r.fresh = r.pos
}

func (r *reader) failTab(at int) {
	r.fail(at, text.M("a tab can't indent")).do(text.M("use spaces"))
}

// blanks skips spaces and tabs, and reports whether a tab was among them.
func (r *reader) blanks() (tab bool) {
	for !r.atEnd() && isBlank(r.src[r.pos]) {
		tab = tab || r.src[r.pos] == '\t'
		r.pos++
	}
	return tab
}

// endsLine reports whether nothing is left of the line but a comment.
func (r *reader) endsLine() bool {
	c := r.peek()
	return c == 0 || c == '\n' || c == '#' && (r.pos == 0 || isBlank(r.src[r.pos-1]) || r.src[r.pos-1] == '\n')
}

func (r *reader) skipLine() {
	if i := strings.IndexByte(r.src[r.pos:], '\n'); i >= 0 {
		r.pos += i + 1
	} else {
		r.pos = len(r.src)
	}
}

// column is the column of the current place, from 0. Indentation is spaces, so
// bytes will do.
func (r *reader) column() int { return r.pos - r.lineStart }

func (r *reader) atEnd() bool { return r.pos >= len(r.src) }

// peek is the character that stands here; 0 at the end of the text.
func (r *reader) peek() byte {
	if r.atEnd() {
		return 0
	}
	return r.src[r.pos]
}

// endsWord reports whether a blank or the end of a line stands there.
func (r *reader) endsWord(at int) bool {
	return at >= len(r.src) || isBlank(r.src[at]) || r.src[at] == '\n'
}

// endsFlow reports whether a sign of flow style stands there.
func (r *reader) endsFlow(at int) bool {
	return at < len(r.src) && strings.IndexByte(",[]{}", r.src[at]) >= 0
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// locator turns offsets into lines and columns. It goes forward from the last
// place asked for, so that asking in the order of the text costs one pass.
type locator struct {
	src          string
	offset       int
	line, column int
}

func newLocator(src string) locator { return locator{src: src, line: 1, column: 1} }

func (l *locator) place(offset int) (line, column int) {
	if offset < l.offset {
		*l = newLocator(l.src)
	}
	between := l.src[l.offset:offset]
	if end := strings.LastIndexByte(between, '\n'); end >= 0 {
		l.line += strings.Count(between, "\n")
		l.column, between = 1, between[end+1:]
	}
	l.column += utf8.RuneCountInString(between)
	l.offset = offset
	return l.line, l.column
}
