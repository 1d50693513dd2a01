package migrate

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluis/internal/config"

	"pgregory.net/rapid"
)

// Random conditions, as written for HAProxy and read back by a small machine that
// knows its or of ands and its variables, say the same as the condition itself, for
// every answer that the ACLs can give.
func TestConditionsSayTheSame(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f"}
	var draw func(t *rapid.T, depth int) string
	draw = func(t *rapid.T, depth int) string {
		switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
		case depth == 0 || kind <= 1:
			return rapid.SampledFrom(names).Draw(t, "name")
		case kind == 2:
			return "not " + "(" + draw(t, depth-1) + ")"
		default:
			word := []string{" and ", " or "}[kind%2]
			n := rapid.IntRange(2, 6).Draw(t, "operands")
			parts := make([]string, n)
			for i := range parts {
				parts[i] = "(" + draw(t, depth-1) + ")"
			}
			return strings.Join(parts, word)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		when := draw(t, rapid.IntRange(0, 4).Draw(t, "depth"))
		c, err := config.ParseCondition(when)
		if err != nil {
			t.Skip("too long")
		}
		e := &exporter{out: &section{}}
		tr, ok := treeOf(c, func(name string) (tree, bool) { return leafTree(named(name)), true })
		if !ok {
			t.Fatal("not read")
		}
		condition := e.condition(tr)
		e.out.add(append([]string{"http-request", "deny"}, condition...)...)
		lines := strings.Split(strings.TrimSpace(string(e.out.text)), "\n")
		for answers := range 1 << len(names) {
			holds := func(name string) bool { return answers>>slices.Index(names, name)&1 == 1 }
			if got, want := runLines(t, lines, holds), c.Eval(holds); got != want {
				t.Fatalf("%s with %06b = %v, want %v:\n%s", when, answers, got, want, strings.Join(lines, "\n"))
			}
		}
		for _, line := range lines {
			if n := len(strings.Fields(line)); n > maxWords {
				t.Fatalf("a line has %d words", n)
			}
		}
	})
}

// runLines walks http-request lines and reports whether the last one's condition
// holds.
func runLines(t *rapid.T, lines []string, holds func(string) bool) (last bool) {
	set := map[string]bool{}
	for _, line := range lines {
		action, condition, conditional := strings.Cut(strings.TrimSpace(line), " if ")
		last = !conditional
		for term := range strings.SplitSeq(condition, " || ") {
			all := conditional
			words := strings.Fields(strings.NewReplacer("{ var(", "var(", ") -m found }", ")").Replace(term))
			for _, w := range words {
				plain, negated := strings.CutPrefix(w, "!")
				answer := holds
				if strings.HasPrefix(plain, "var(") {
					plain = strings.TrimSuffix(strings.TrimPrefix(plain, "var("), ")")
					answer = func(name string) bool { return set[name] }
				}
				all = all && answer(plain) != negated
			}
			last = last || all
		}
		if name, isSet := strings.CutPrefix(action, "http-request set-var("); isSet && last {
			set[strings.TrimSuffix(name, ") bool(true)")] = true
		}
	}
	return last
}

// The expressions as PCRE2 reads them, asked by grep, match the same texts as Go's.
func TestRegexesMatchTheSame(t *testing.T) {
	grep, err := exec.LookPath("grep")
	if err != nil || exec.Command(grep, "-P", "-q", "a", "/dev/null").Run().(*exec.ExitError).ExitCode() != 1 {
		t.Skip("needs grep -P")
	}
	texts := []string{
		"", "a", "b", "ab", "aab", "abab", "A", "AB", "/", "/a/b", "a/b?c", "a.b", "a-b", "a]b", `a\b`, "a b", "xyz", "é", "aé", "É", "日本", "foo123bar", "foo", "_", "0", "a{2}", "aa{,2}", "a|b", "(a)", "$", "^",
		"www.example.net", "wwwXexample.net", "/index.html", "/INDEX.HTML", "---", "&&", "#x", "a#b", "a\tb", "\x7f", "\xff",
	}
	for _, expression := range []string{
		"a", "^a$", "a.b", "^/a", "[a-c]+", "[^/]+", "^[^/]$", "a{2}", "a{2,}", "(ab){2}", "a|b", "(?:a|b)c?", "(?i)ab", "(?i:A)b", "^$", "\\.", "[.]", "[]a]", "[^]a]", "[a\\]]", "[-a]", "\\d+", "\\D", "\\w+", "^\\W+$", "\\s", "[[:alpha:]]+", "[[:^alpha:]]",
		"(?P<x>a)b", "\\bfoo\\b", "o\\B", "\\Aa\\z", "(?s)a.b", "(?m)^a$", "a*?b", "(a*)+", "x*", "\\x41", "\\x{e9}", "é", "[é]", "[a-é]", "\\pL+$", "[^é]", "日", "\\Qa.b\\E", "a{,2}", "\\{2", "(|a)b", "a||b", "()", "[a&&b]", "#", "&&", "(?U)a+", "-+", "[+--]", "www\\.[a-z]+\\.net$", "(?i)\\.HTML$", "[\\x00-\\x1f]", "[^\\x00-\\x7f]",
	} {
		perl, ok := perlRegex(expression)
		if !ok {
			if expression != "\\pL+$" && expression != "[a-é]" && expression != "[^é]" {
				t.Errorf("%q can't be said", expression)
			}
			continue
		}
		want := regexp.MustCompile(expression)
		cmd := exec.Command(grep, "-n", "-a", "-P", "-e", perl)
		cmd.Env = []string{"LC_ALL=C"}
		cmd.Stdin = strings.NewReader(strings.Join(texts, "\n") + "\n")
		out, err := cmd.Output()
		if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() > 1 {
			t.Errorf("%q became %q, which grep refuses: %s", expression, perl, exit.Stderr)
			continue
		}
		matched := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			number, _, _ := strings.Cut(line, ":")
			matched[number] = true
		}
		for i, text := range texts {
			if got := matched[fmt.Sprint(i+1)]; got != want.MatchString(text) {
				t.Errorf("%q became %q: %q matches %v, want %v", expression, perl, text, got, !got)
			}
		}
	}
	for _, tooMuch := range []string{"(a{500}){2}(bcdefghij){1000}", "(((abc){10}){10}){10}x", "(?i)é", "[", "\\p{Greek}"} {
		if perl, ok := perlRegex(tooMuch); ok {
			t.Errorf("%q became %q, want that it can't be said", tooMuch, perl)
		}
	}
}

func TestBackReferences(t *testing.T) {
	names := []string{"", "first", "", "third"}
	for in, want := range map[string]string{
		"": "", "a": "a", "$1": `\1`, "$1a": `\1a`, "${1}0": `\10`, "$$": "$", "$": "$", "$x": "$x", "${first}": `\1`, "${third}x": `\3x`, "${none}": "", "$7": "", `\1`: `\\1`, "a$0b": `a\0b`, "${": "${", "${}": "${}", "$01": `\1`,
	} {
		if got, ok := backReferences(in, names); got != want || !ok {
			t.Errorf("backReferences(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
	if got, ok := backReferences("$12", make([]string, 20)); ok {
		t.Errorf("group 12 became %q", got)
	}
}
