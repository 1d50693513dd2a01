package config

import (
	"strings"

	"sluis/internal/text"
)

// Flow style (YAML 1.2.2 chapter 7.4) and JSON: structure by brackets.

// flow reads the collection whose bracket stands here. Its lines stand deeper
// than the block around it, but for the closing bracket.
func (r *reader) flow(indent int) *tree {
	start, kind, end := r.pos, treeList, byte(']')
	if r.src[start] == '{' {
		kind, end = treeObject, '}'
	}
	n := r.open(kind, start)
	defer func() { r.depth-- }()
	for separator := byte(','); !r.atEnd(); {
		r.pos++ // the opening bracket or a comma
		r.flowSpace(start, indent)
		if r.peek() == end {
			break
		}
		if kind == treeObject {
			n.members = append(n.members, r.flowMember(start, indent))
		} else {
			n.items = append(n.items, r.flowNode(indent))
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

func (r *reader) flowMember(open, indent int) member {
	var m member
	m.line, m.column = r.places.place(r.pos)
	start := r.pos
	if c := r.peek(); c == '"' || c == '\'' {
		m.key = r.quotedText(indent)
	} else if r.mayBeginPlain(true) {
		m.key = r.plainPart(true)
	}
	r.flowSpace(open, indent)
	if r.peek() != ':' {
		if r.atEnd() {
			r.failOpen(open)
		}
		p := r.fail(start, text.M("a colon and a value are expected after the name {name}", "name", m.key))
		if strings.Contains(m.key, ":") {
			p.Do(text.M("put a space behind the colon"))
		}
		return m
	}
	r.pos++
	r.checkKey(m, start)
	after := r.pos
	r.flowSpace(open, indent)
	if c := r.peek(); c == ',' || c == '}' {
		m.value = r.add(treeNull, after)
	} else {
		m.value = r.flowNode(indent)
	}
	return m
}

func (r *reader) flowNode(indent int) *tree {
	switch r.peek() {
	case 0:
		return r.add(treeNull, r.pos)
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
	p := r.fail(at, text.M("a comma or {bracket} is expected here", "bracket", string(end)))
	if r.src[at] == ':' {
		p.Do(text.M("an object needs braces, and a text with a colon and a space needs quotes"))
		return
	}
	p.Do(text.M("the bracket was opened in line {line}, column {column}", "line", line, "column", column))
}
