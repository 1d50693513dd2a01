package pki

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// openssl runs OpenSSL in a directory of its own: what others make is the
// measure of what we read, and what they accept of what we make.
type openssl struct {
	t   *testing.T
	dir string
}

func newOpenSSL(t *testing.T) *openssl {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing: make deps installs it")
	}
	return &openssl{t, t.TempDir()}
}

// in is the same directory for a subtest.
func (o *openssl) in(t *testing.T) *openssl { return &openssl{t, o.dir} }

// run runs one command, such as run("pkey", "-in", "a.key"), and fails the test
// where OpenSSL does.
func (o *openssl) run(args ...string) string {
	o.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = o.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func (o *openssl) read(name string) []byte {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	return data
}

func (o *openssl) write(name, data string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(data), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o *openssl) exists(name string) bool {
	_, err := os.Stat(filepath.Join(o.dir, name))
	return err == nil
}
