package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTextsOfNestedPartsAreFound(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"LICENSE", "NOTICE.md", "license.go", "readme.md", "a/b/COPYING", "a/c/LICENSE-MIT"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := component{Name: "example.org/m", Dir: root}
	for range 2 { // a second package of the same directory adds nothing
		if err := c.addTexts(filepath.Join(root, "a", "b")); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(c.Texts)
	want := []string{"LICENSE", "NOTICE.md", "a/b/COPYING"} // a/c is not linked
	if !slices.Equal(c.Texts, want) {
		t.Errorf("addTexts found %q, want %q", c.Texts, want)
	}
}

func TestFilesOfUnlinkedModulesGo(t *testing.T) {
	out := t.TempDir()
	for _, name := range []string{"kept.txt", "stale.txt"} {
		if err := os.WriteFile(filepath.Join(out, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeOthers(out, []component{{File: "kept.txt"}}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "kept.txt" {
		t.Errorf("after removeOthers %q (%v), want only kept.txt", left, err)
	}
}
