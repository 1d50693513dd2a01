package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sluis/internal/text"
)

// Severity says what a problem stands in the way of.
type Severity string

// The severities. An error refuses Apply (and Save, where the document can't be
// read at all); a warning and a hint are shown.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Hint    Severity = "hint"
)

// Problem is one thing that is wrong with a document: where, what, and what to
// do about it. Every room that checks a document says so in this form.
type Problem struct {
	// Path is the place in the document: frontends[shop].binds[https].port; empty
	// when it is the whole.
	Path string `json:"path"`
	// Severity says what it stands in the way of.
	Severity Severity `json:"severity"`
	// Message is a plain sentence.
	Message text.Msg `json:"message"`
	// Hint says what to do; the zero Msg where that is plain.
	Hint text.Msg `json:"hint,omitzero"`
	// Line and Column are the place in the text that was read, from 1; 0 = none.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// String renders the problem in one line of English. What can't be printed, such
// as a control character in a name, stands there as its escape.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message.String())
	if !p.Hint.IsZero() {
		b.WriteString(" (" + p.Hint.String() + ")")
	}
	return printable(b.String())
}

// printable escapes what can't be printed as Go does.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteString(s[i : i+size])
		} else {
			quoted := strconv.Quote(s[i : i+size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// Problems is everything that is wrong with a document.
type Problems []Problem

// HasErrors reports whether any problem is an error.
func (ps Problems) HasErrors() bool {
	for _, p := range ps {
		if p.Severity == Error {
			return true
		}
	}
	return false
}

// Errors are the problems that are errors.
func (ps Problems) Errors() Problems {
	var errors Problems
	for _, p := range ps {
		if p.Severity == Error {
			errors = append(errors, p)
		}
	}
	return errors
}

// Error says all problems in English, one a line, so that Problems can travel as
// an error.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Add notes an error at a path.
func (ps *Problems) Add(path string, message text.Msg) *Problem {
	return ps.add(path, Error, message)
}

// Warn notes a warning at a path.
func (ps *Problems) Warn(path string, message text.Msg) *Problem {
	return ps.add(path, Warning, message)
}

func (ps *Problems) add(path string, severity Severity, message text.Msg) *Problem {
	*ps = append(*ps, Problem{Path: path, Severity: severity, Message: message})
	return &(*ps)[len(*ps)-1]
}

// Do sets what to do about the problem.
func (p *Problem) Do(hint text.Msg) *Problem {
	p.Hint = hint
	return p
}

// Near hints at the known name that is nearest to the one given, if any is near
// enough to be meant.
func (p *Problem) Near(name string, known []string) *Problem {
	if nearest := Nearest(name, known); nearest != "" {
		p.Hint = text.M("did you mean {name}?", "name", nearest)
	}
	return p
}

// Nearest is the known name that needs the fewest changed letters to become the
// given one; empty where none is near enough to be meant.
func Nearest(name string, known []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k), bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts inserted, removed, replaced and swapped letters (restricted
// Damerau-Levenshtein); lengths that differ by the limit or more are not compared.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 64 || len(b) > 64 {
		return limit
	}
	previous2, previous, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := previous[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, previous[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], previous2[j-2]+1)
			}
		}
		previous2, previous, row = previous, row, previous2
	}
	return previous[len(b)]
}
