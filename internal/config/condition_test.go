package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestParseCondition(t *testing.T) {
	tests := []struct{ text, canonical string }{
		{"a", "a"},
		{"  not   is_tls\t", "not is_tls"},
		{"not not a", "not not a"},
		{"a and b and c", "a and b and c"},
		{"a or b and not c", "a or b and not c"},
		{"(a or b) and c", "(a or b) and c"},
		{"a and (b and (c))", "a and b and c"},
		{"(a or b) or c", "a or b or c"},
		{"(a and b) or c", "a and b or c"},
		{"not (a and b)", "not (a and b)"},
		{"not (a)", "not a"},
		{"(not a) and b", "not a and b"},
		{"0.a-b_c or\nandy", "0.a-b_c or andy"},
	}
	for _, tt := range tests {
		c, err := ParseCondition(tt.text)
		if err != nil {
			t.Errorf("ParseCondition(%q): %v", tt.text, err)
			continue
		}
		if got := c.String(); got != tt.canonical {
			t.Errorf("ParseCondition(%q) = %q, want %q", tt.text, got, tt.canonical)
		}
	}
}

func TestParseConditionSaysWhere(t *testing.T) {
	tests := []struct {
		text   string
		offset int
		say    string
	}{
		{"", 0, "missing at the end"},
		{"a and", 5, "missing at the end"},
		{"and a", 0, "missing before and"},
		{"a and or b", 6, "missing before or"},
		{"not", 3, "missing at the end"},
		{"()", 1, "missing before )"},
		{"(a or b", 0, "isn't closed"},
		{"a)", 1, "closes none"},
		{"a b", 2, "and or or is missing before b"},
		{"a not b", 2, "and or or is missing before not"},
		{"(a b)", 3, "and or or is missing before b"},
		{"a AND b", 2, "and is written in lower case"},
		{"a && b", 2, "& can't stand here (write and)"},
		{"!a", 0, "! can't stand here (write not)"},
		{"a || b", 2, "write or"},
		{"a and ä", 6, "ä can't stand here"},
		{"_a", 0, "_ can't stand here"},
		{"a adn b", 2, "did you mean and?"},
		{strings.Repeat("(", 60) + "a" + strings.Repeat(")", 60), 51, "nested more than 50 deep"},
		{strings.Repeat("not ", 60) + "a", 4 * 51, "nested more than 50 deep"},
		{strings.Repeat("a or ", 500) + "a", maxConditionLength, "longer than 2048 bytes"},
	}
	for _, tt := range tests {
		_, err := ParseCondition(tt.text)
		if err == nil {
			t.Errorf("ParseCondition(%.40q): no error, want %q", tt.text, tt.say)
			continue
		}
		if said := err.Error() + " (" + err.Hint.String() + ")"; err.Offset != tt.offset || !strings.Contains(said, tt.say) {
			t.Errorf("ParseCondition(%.40q): offset %d, %s; want offset %d, %q", tt.text, err.Offset, said, tt.offset, tt.say)
		}
	}
}

// conditionTwin answers a condition by rewriting its text until one digit is
// left. It knows no tree; ok is false where the text doesn't come down to one.
func conditionTwin(text string, holds func(string) bool) (answer, ok bool) {
	words := regexp.MustCompile(`[()]|[^\s()]+`).FindAllString(text, -1)
	for i, w := range words {
		switch {
		case regexp.MustCompile(`^([()]|and|or|not)$`).MatchString(w):
		case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(w),
			regexp.MustCompile(`(?i)^(and|or|not)$`).MatchString(w):
			return false, false
		case holds(w):
			words[i] = "+"
		default:
			words[i] = "-"
		}
	}
	s := " " + strings.Join(words, " ") + " "
	rules := []struct {
		pattern *regexp.Regexp
		with    string
	}{
		{regexp.MustCompile(` \( ([+-]) \) `), " $1 "},
		{regexp.MustCompile(` not \+ `), " - "},
		{regexp.MustCompile(` not - `), " + "},
		{regexp.MustCompile(` \+ and \+ `), " + "},
		{regexp.MustCompile(` [+-] and [+-] `), " - "},
		{regexp.MustCompile(` - or - ((?:or|\)|$))`), " - $1"},
		{regexp.MustCompile(` [+-] or [+-] ((?:or|\)|$))`), " + $1"},
	}
	for changed := true; changed; {
		changed = false
		for i, r := range rules {
			// An or waits until neither side belongs to an and or a not.
			at := r.pattern.FindStringSubmatchIndex(s)
			if i >= 5 && at != nil && !regexp.MustCompile(`(^| \(| or)$`).MatchString(strings.TrimSuffix(s[:at[0]], " ")) {
				at = nil
			}
			if at == nil {
				continue
			}
			s = s[:at[0]] + string(r.pattern.ExpandString(nil, r.with, s, at)) + s[at[1]:]
			changed = true
			break
		}
	}
	return s == " + ", s == " + " || s == " - "
}

var (
	conditionSeeds = []string{
		"a", "not a and b or c", "(a or b) and not (c or not a)", "a or b and c or a", "((a))", "a b", ") (", "not not (a)", "a and", "or", "a AND b", "x.1-_ or y",
	}
	wordOfCondition = []string{"a", "b", "c", "and", "or", "not", "(", ")"}
)

// checkConditionText holds one text against the twin and the printed form.
func checkConditionText(t rapid.TB, text string) {
	c, err := ParseCondition(text)
	for world := range 8 {
		holds := func(name string) bool { return strings.Contains("abc", name[:1]) && world>>(name[0]-'a')&1 == 1 }
		want, ok := conditionTwin(text, holds)
		if ok != (err == nil) {
			t.Fatalf("ParseCondition(%q): error %v, the twin reads it: %v", text, err, ok)
		}
		if ok && c.Eval(holds) != want {
			t.Fatalf("(%q).Eval = %v, want %v in world %d", text, !want, want, world)
		}
	}
	if err != nil {
		if err.Offset < 0 || err.Offset > len(text) {
			t.Fatalf("ParseCondition(%q): offset %d is outside", text, err.Offset)
		}
		return
	}
	again, err := ParseCondition(c.String())
	if err != nil {
		t.Fatalf("ParseCondition(%q), printed from %q: %v", c.String(), text, err)
	}
	if diff := cmp.Diff(c, again, cmpopts.IgnoreFields(Condition{}, "Offset")); diff != "" {
		t.Fatalf("%q printed and read again differs: %s", text, diff)
	}
	if diff := cmp.Diff(c.Rename("a", "z"), mustParse(t, renameInCondition(text, "a", "z")), cmpopts.IgnoreFields(Condition{}, "Offset")); diff != "" {
		t.Fatalf("%q renamed as a tree and as a text differ: %s", text, diff)
	}
	for _, name := range c.Names() {
		if !slices.ContainsFunc(conditionNames(text), func(t conditionToken) bool { return t.text == name }) {
			t.Fatalf("%q asks %q", text, name)
		}
	}
}

func mustParse(t rapid.TB, text string) *Condition {
	c, err := ParseCondition(text)
	if err != nil {
		t.Fatalf("ParseCondition(%q): %v", text, err)
	}
	return c
}

func TestConditionAgainstTwin(t *testing.T) {
	for _, s := range conditionSeeds {
		checkConditionText(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom(wordOfCondition), 0, 14).Draw(t, "words")
		checkConditionText(t, strings.Join(words, " "))
		checkConditionText(t, drawCondition(t, []string{"a", "b", "c"}, 4))
	})
}

// drawCondition makes a text that is a condition.
func drawCondition(t *rapid.T, names []string, depth int) string {
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 || kind < 2 {
		return rapid.SampledFrom(names).Draw(t, "name")
	}
	left := drawCondition(t, names, depth-1)
	switch kind {
	case 2:
		return "not  " + left
	case 3:
		return "(" + left + ")"
	case 4:
		return left + " and " + drawCondition(t, names, depth-1)
	}
	return left + " or " + drawCondition(t, names, depth-1)
}

func FuzzCondition(f *testing.F) {
	for _, s := range conditionSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 200 || strings.Count(text, "(")+strings.Count(text, "not") > 40 || strings.ContainsAny(text, "\v\f\u0085\u00a0+") {
			t.Skip("beyond what the twin knows")
		}
		checkConditionText(t, text)
	})
}
