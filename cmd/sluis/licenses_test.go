package main

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLicensesCoverEveryLinkedModule asks go list in a subprocess. The test
// cache can't see that, but it needn't: a new module or version is linked into
// this test binary too, and so makes the cached result stale.
func TestLicensesCoverEveryLinkedModule(t *testing.T) {
	format := "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}"
	cmd := exec.Command("go", "list", "-deps", "-f", format, ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]string{"sluis": "", "std": ""}
	for line := range strings.Lines(string(output)) {
		if path, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			linked[path] = version
		}
	}
	if diff := cmp.Diff(linked, collectedModules(t)); diff != "" {
		t.Errorf("licence texts are stale, run make licenses (-linked +collected):\n%s", diff)
	}
}

func TestLicenseTextsSayEverything(t *testing.T) {
	own, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	all := licenseTexts()
	if !strings.HasPrefix(all, "Module: sluis\n") {
		t.Errorf("licenseTexts begins %.40q, want Sluis itself first", all)
	}
	if !strings.Contains(all, strings.TrimSpace(string(own))) {
		t.Error("licenseTexts lacks the text of LICENSE, run make licenses")
	}
	for module := range maps.Keys(collectedModules(t)) {
		if strings.Count(all, "Module: "+module+"\n") != 1 {
			t.Errorf("licenseTexts does not name %s exactly once", module)
		}
	}
}

// collectedModules reads the heads of the embedded texts: module to version.
func collectedModules(t *testing.T) map[string]string {
	t.Helper()
	names, err := fs.Glob(licenseFiles, "licenses/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for _, name := range names {
		text, err := licenseFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		module, rest, _ := strings.Cut(strings.TrimPrefix(string(text), "Module: "), "\n")
		version, rest, _ := strings.Cut(strings.TrimPrefix(rest, "Version:"), "\n")
		modules[module] = strings.TrimSpace(version)
		if len(rest) < 200 {
			t.Errorf("%s holds no licence text", name)
		}
	}
	return modules
}
