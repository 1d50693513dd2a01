package main

import (
	"path/filepath"
	"testing"

	"sluis/internal/config"
	"sluis/internal/pki"
)

func fingerprint(m *machine) string { return pki.Fingerprint(m.listener.Leaf()) }

// writeEverything writes a document that holds every noun of the model, with the
// files that it takes certificates, keys and passwords from.
func writeEverything(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"lab", "shop"} {
		pair(t, dir, name, name == "lab")
	}
	write(t, filepath.Join(dir, "proxy-password"), []byte("swordfish at the gate\n"))
	text := string(read(t, "testdata/everything.yaml"))
	write(t, filepath.Join(dir, "everything.yaml"), []byte(text))
	doc, problems := config.Decode([]byte(text))
	if !problems.HasErrors() {
		problems = config.Validate(doc)
	}
	if problems.HasErrors() {
		t.Fatalf("testdata/everything.yaml:\n%v", problems)
	}
}
