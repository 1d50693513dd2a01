// Package http1 turns the bytes of HTTP/1.1 (RFC 9112) into messages and messages
// into bytes, and carries bodies from one framing to another.
//
// It promises to be strict on the way in and canonical on the way out. A head
// that RFC 9112 calls malformed or ambiguous is an Error with a Reason, which
// says the section; nobody has to guess. What is written is written anew from
// the parsed form: no framing, no hop-by-hop field and no white space of the
// sender survives, so two readers of our bytes cannot understand them
// differently. The same bytes give the same result however they were cut into
// segments, since everything is decided in the order of the bytes. Nothing
// allocates, but for rare forms of an absolute target.
//
// It keeps no state but Transfer's, does no I/O, and does not judge what
// belongs together: that a 101 was asked for, that a server sent no byte before
// it was asked, how many 1xx came, are the caller's to watch.
//
// Where we are stricter than the RFC, or laxer, the line says so. Laxer in three
// points, all without ambiguity: a status line may lack the space after the
// status, HTTP/1.2 to 1.9 are read as 1.1 (RFC 9110 2.5), and a target may hold
// any visible ASCII but '#', as with HAProxy's default and as browsers send it.
//
// Read request.go (ParseRequest), target.go, fields.go and framing.go (the part
// that requests and responses share), response.go, write.go, transfer.go (bodies),
// trailer.go, and fault.go (every reason with its section).
package http1

import (
	"bytes"

	"sluis/internal/proxy/message"
)

// The bounds where Limits says 0.
const (
	DefaultHead   = 64 << 10
	DefaultLine   = 16 << 10
	DefaultFields = 100
)

// maxMethod is the longest method that is read. RFC 9112 section 3 wants 501 for
// one longer than any that is implemented; no registered one has more than 17
// letters.
const maxMethod = 64

// maxOptions is how many members all Connection fields of a message may have.
// Each is held against each field.
const maxOptions = 32

// Limits bound a head. The zero value and nil mean the defaults.
type Limits struct {
	// Head is the most bytes of a head, from start line to empty line; 0 = 64 KiB.
	Head int
	// Line is the most bytes of a request target; 0 = 16 KiB.
	Line int
	// Fields is the most field lines; 0 = 100.
	Fields int
}

// or fills in the defaults.
func (l *Limits) or() Limits {
	out := Limits{Head: DefaultHead, Line: DefaultLine, Fields: DefaultFields}
	if l == nil {
		return out
	}
	if l.Head > 0 {
		out.Head = l.Head
	}
	if l.Line > 0 {
		out.Line = l.Line
	}
	if l.Fields > 0 {
		out.Fields = l.Fields
	}
	return out
}

// Unfinished says that parsing b would find no more than it found when only the
// first seen bytes of it were there: no line has ended since, and no bound is
// reached. Callers with a slow sender ask it before they parse again; the cost of
// a head is then bounded by its lines, not by its segments.
func Unfinished(b []byte, seen int, lim *Limits) bool {
	l := lim.or()
	return seen > 0 && seen <= len(b) && len(b) < min(l.Head, l.Line) && bytes.IndexByte(b[seen:], '\n') < 0
}

// protected are the fields that a Connection field cannot name away: who is
// asked, and how the message is framed. The option is passed over, as RFC 9110
// section 7.6.1 forbids senders to give it; the field keeps its meaning.
const protected message.Set = 1<<message.Host | 1<<message.ContentLength | 1<<message.TransferEncoding
