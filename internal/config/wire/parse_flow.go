package wire

import (
	"strings"

	"sluis/internal/text"
)

// Flow style (YAML 1.2.2 chapter 7.4) and JSON: structure by brackets.

// flow reads the collection whose bracket stands here. Its lines stand deeper
// than the block around it, but for the closing bracket.
func (r *reader) flow(indent int) *Node {
	start, kind, end := r.pos, List, byte(']')
	if r.src[start] == '{' {
		kind, end = Object, '}'
	}
	n := r.open(kind, start)
	defer func() { r.depth-- }()
	for separator := byte(','); !r.atEnd(); {
		r.pos++ // the opening bracket or a comma
		r.flowSpace(start, indent)
		if r.peek() == end {
			break
		}
		if kind == Object {
			n.Members = append(n.Members, r.flowMember(start, indent))
		} else {
			n.Items = append(n.Items, r.flowNode(indent))
		}
		r.flowSpace(start, indent)
		if separator = r.peek(); separator == end {
			break
		}
		if separator != ',' {
			r.failSeparator(start, end)
		}
	}
	if r.peek() != end {
		r.failOpen(start)
		return n
	}
	r.pos++
	return n
}

func (r *reader) flowMember(open, indent int) Member {
	var m Member
	m.Line, m.Column = r.places.place(r.pos)
	start := r.pos
	if c := r.peek(); c == '"' || c == '\'' {
		m.Key = r.quotedText(indent)
	} else if r.mayBeginPlain(true) {
		m.Key = r.plainPart(true)
	}
	r.flowSpace(open, indent)
	if r.peek() != ':' {
		if r.atEnd() {
			r.failOpen(open)
		}
		f := r.fail(start, text.M("a colon and a value are expected after the name {name}", "name", m.Key))
		if strings.Contains(m.Key, ":") {
			f.do(text.M("put a space behind the colon"))
		}
		return m
	}
	r.pos++
	r.checkKey(m, start)
	after := r.pos
	r.flowSpace(open, indent)
	if c := r.peek(); c == ',' || c == '}' {
		m.Value = r.add(Null, after)
	} else {
		m.Value = r.flowNode(indent)
	}
	return m
}

func (r *reader) flowNode(indent int) *Node {
	switch r.peek() {
	case 0:
		return r.add(Null, r.pos)
	case '{', '[':
		return r.flow(indent)
	case '"', '\'':
		return r.quoted(indent)
	default:
		return r.plain(indent, true)
	}
}

// flowSpace skips white space, line ends and comments within brackets. A line
// that stands no deeper than the block around the brackets shows that one of
// them isn't closed.
func (r *reader) flowSpace(open, indent int) {
	for {
		r.blanks()
		if r.atEnd() || !r.endsLine() {
			break
		}
		r.skipLine()
		r.lineStart = r.pos
	}
	if c := r.peek(); c != 0 && c != ']' && c != '}' && r.column() <= indent && r.lineStart > open {
		r.failOpen(open)
	}
}

func (r *reader) failOpen(open int) {
	r.fail(open, text.M("the bracket {bracket} that opens here isn't closed", "bracket", r.src[open:open+1]))
}

func (r *reader) failSeparator(open int, end byte) {
	if r.atEnd() {
		r.failOpen(open)
		return
	}
	line, column := r.places.place(open)
	at := r.pos
	f := r.fail(at, text.M("a comma or {bracket} is expected here", "bracket", string(end)))
	if r.src[at] == ':' {
		f.do(text.M("an object needs braces, and a text with a colon and a space needs quotes"))
		return
	}
	f.do(text.M("the bracket was opened in line {line}, column {column}", "line", line, "column", column))
}
