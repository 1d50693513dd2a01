package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerdict runs the real go test on small modules and holds exit code, last
// line and text of the report against what happened in them.
func TestVerdict(t *testing.T) {
	strict := skipRules{strict: true}
	tests := []struct {
		name  string
		body  string // of a_test.go, after its imports
		rules skipRules
		code  int
		last  string
		says  string
	}{
		{"pass", "func TestA(t *testing.T) {}", strict, 0, "1 passed, 0 failed, 0 skipped", "TestA"},
		{
			"only leaves are counted",
			`func TestA(t *testing.T) { for _, n := range []string{"x", "y"} { t.Run(n, func(t *testing.T) {}) } }`,
			strict, 0, "2 passed, 0 failed, 0 skipped", "",
		},
		{
			"a failing subtest is one failure",
			`func TestA(t *testing.T) { t.Run("x", func(t *testing.T) { t.Error("the water is high") }); t.Run("y", func(t *testing.T) {}) }`,
			strict, 1, "1 passed, 1 failed, 0 skipped", "the water is high",
		},
		{
			"a parent that fails by itself counts",
			`func TestA(t *testing.T) { t.Run("x", func(t *testing.T) {}); t.Error("after its subtests") }`,
			strict, 1, "1 passed, 1 failed, 0 skipped", "after its subtests",
		},
		{"panic", `func TestA(t *testing.T) { panic("burst") }`, strict, 1, "0 passed, 1 failed, 0 skipped", "burst"},
		{
			"exit in the middle", "func TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { os.Exit(3) }",
			strict, 1, "1 passed, 1 failed, 0 skipped", "did not end",
		},
		{"exit of TestMain", "func TestMain(m *testing.M) { m.Run(); os.Exit(3) }\nfunc TestA(t *testing.T) {}", strict, 1, "1 passed, 1 failed, 0 skipped", "as a whole"},
		{"does not build", "func TestA(t *testing.T) { undefined() }", strict, 1, "0 passed, 1 failed, 0 skipped", "undefined: undefined"},
		{"nothing to run", "var _ = os.Exit", strict, 1, "0 passed, 1 failed, 0 skipped", "no test ran"},
		{
			"skips in CI, one for a good reason",
			"func TestA(t *testing.T) { t.Log(`looked`); t.Skip(`needs root`) }\nfunc TestB(t *testing.T) { t.Skip(`platform: no VLANs`) }",
			strict, 1, "0 passed, 1 failed, 1 skipped", "skipped: needs root",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			code := run(options{dirs: []string{module(t, tt.body)}, rules: tt.rules}, &out)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			last := lines[len(lines)-1]
			if code != tt.code || last != tt.last || !strings.Contains(out.String(), tt.says) {
				t.Errorf("exit code %d, last line %q; want %d, %q and %q in:\n%s", code, last, tt.code, tt.last, tt.says, &out)
			}
		})
	}
}

func TestSkipReasons(t *testing.T) {
	strict := skipRules{strict: true}
	tests := []struct {
		rules   skipRules
		reason  string
		refused bool
	}{
		{skipRules{}, "needs root", false},
		{strict, "needs root", true},
		{strict, "", true},
		{strict, "platform: no VLANs", false},
		{strict, "long: a thousand crashes", false},
		{skipRules{strict: true, long: true}, "long: a thousand crashes", true},
		{skipRules{strict: true, long: true}, "platform: no VLANs", false},
	}
	for _, tt := range tests {
		if why := tt.rules.refuse(tt.reason); (why != "") != tt.refused {
			t.Errorf("%+v.refuse(%q) = %q, want refused %t", tt.rules, tt.reason, why, tt.refused)
		}
	}
}

func TestOneBadModuleOfTwoFailsTheRun(t *testing.T) {
	good := module(t, "func TestA(t *testing.T) {}")
	var out bytes.Buffer
	if code := run(options{dirs: []string{good, t.TempDir()}}, &out); code != 1 {
		t.Errorf("exit code %d, want 1 for a directory without a module:\n%s", code, &out)
	}
}

// module makes a module with one test file and returns its directory.
func module(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":    "module fixture\n\ngo 1.26.0\n",
		"a_test.go": "package fixture\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\nvar _ *testing.T\n\n" + body + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
