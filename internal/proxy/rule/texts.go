package rule

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// slowLength is the length from which on a regular expression is slow work.
const slowLength = 4 << 10

// fewTexts is how many texts are compared one by one; more are looked up.
const fewTexts = 8

// texts are the values of an ACL that a text is compared with. Where fold is set
// all of them but the expressions are in lower case, and so is what they meet.
type texts struct {
	fold     bool
	is       textSet
	starts   affixes
	ends     affixes
	contains [][]byte
	regex    []*regexp.Regexp
}

func newTexts(a *ACL) (texts, error) {
	t := texts{fold: !a.CaseSensitive || a.Match == MatchHost}
	prepare := func(values []string, normal func(string) string) []string {
		out := make([]string, len(values))
		for i, v := range values {
			if t.fold {
				v = lowerString(v)
			}
			if a.Match == MatchHost && normal != nil {
				v = normal(v)
			}
			out[i] = v
		}
		return out
	}
	t.is = newTextSet(prepare(a.Is, normalHost))
	t.starts = newAffixes(prepare(a.Starts, nil))
	t.ends = newAffixes(prepare(a.Ends, func(s string) string { return strings.TrimSuffix(s, ".") }))
	for _, part := range prepare(a.Contains, nil) {
		t.contains = append(t.contains, []byte(part))
	}
	for _, expression := range a.Regex {
		flags := ""
		if t.fold {
			flags = "(?i)"
		}
		compiled, err := regexp.Compile(flags + expression)
		if err != nil {
			return texts{}, fmt.Errorf("the expression %q: %w", expression, err)
		}
		t.regex = append(t.regex, compiled)
	}
	return t, nil
}

// hold reports whether a text is one of the values. It is as it was sent.
func (t *texts) hold(text []byte, w *walk) bool {
	if !t.fold {
		return t.holdFolded(text, text, w)
	}
	before := w.in.Arena.mark()
	found := t.holdFolded(text, w.in.Arena.lower(text), w)
	w.in.Arena.release(before)
	return found
}

// holdFolded is hold for a text whose folded form is known.
func (t *texts) holdFolded(text, folded []byte, w *walk) bool {
	if t.is.has(folded) || t.starts.start(folded) || t.ends.end(folded) {
		return true
	}
	for _, part := range t.contains {
		if bytes.Contains(folded, part) {
			return true
		}
	}
	if len(t.regex) == 0 {
		return false
	}
	if len(text) > slowLength {
		w.list.slow.Add(1)
	}
	for _, expression := range t.regex {
		if expression.Match(text) {
			return true
		}
	}
	return false
}

// textSet is a set of whole texts.
type textSet struct {
	few  []string
	many map[string]struct{} // nil where few has them
}

func newTextSet(values []string) textSet {
	if len(values) <= fewTexts {
		return textSet{few: values}
	}
	s := textSet{many: make(map[string]struct{}, len(values))}
	for _, v := range values {
		s.many[v] = struct{}{}
	}
	return s
}

func (s *textSet) has(text []byte) bool {
	if s.many != nil {
		_, found := s.many[string(text)]
		return found
	}
	for _, v := range s.few {
		if string(text) == v {
			return true
		}
	}
	return false
}

// affixes is a set of beginnings or ends. Many are looked up once for each length
// that occurs.
type affixes struct {
	set     textSet
	lengths []int // rising; used where set has many
}

func newAffixes(values []string) affixes {
	a := affixes{set: newTextSet(values)}
	for _, v := range values {
		a.lengths = append(a.lengths, len(v))
	}
	slices.Sort(a.lengths)
	a.lengths = slices.Compact(a.lengths)
	return a
}

func (a *affixes) start(text []byte) bool {
	for _, v := range a.set.few {
		if len(text) >= len(v) && string(text[:len(v)]) == v {
			return true
		}
	}
	if a.set.many == nil {
		return false
	}
	for _, n := range a.lengths {
		if n > len(text) {
			return false
		}
		if a.set.has(text[:n]) {
			return true
		}
	}
	return false
}

func (a *affixes) end(text []byte) bool {
	for _, v := range a.set.few {
		if len(text) >= len(v) && string(text[len(text)-len(v):]) == v {
			return true
		}
	}
	if a.set.many == nil {
		return false
	}
	for _, n := range a.lengths {
		if n > len(text) {
			return false
		}
		if a.set.has(text[len(text)-n:]) {
			return true
		}
	}
	return false
}
