package migrate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluis/internal/config"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// load reads a document; errors of its form end the test, problems do not.
func load(t testing.TB, path string) *config.Document {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		t.Fatalf("%s: %v", path, problems)
	}
	return doc
}

// Each document with its configuration and report; HAProxy itself accepts each.
func TestGolden(t *testing.T) {
	documents, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(documents) == 0 {
		t.Fatal(documents, err)
	}
	for _, path := range append(documents, "../config/testdata/guide-end-state.yaml") {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			doc := load(t, path)
			before := config.EncodeYAML(doc)
			got := HAProxy(doc, options())
			golden(t, "testdata/"+name+".cfg", got.Config)
			golden(t, "testdata/"+name+".report", []byte(RenderReport(got.Report)))
			acceptWith(t, doc, options())
			if !bytes.Equal(before, config.EncodeYAML(doc)) {
				t.Error("the document was changed")
			}
			if again := HAProxy(doc, options()); !bytes.Equal(again.Config, got.Config) {
				t.Error("the same document gives another configuration")
			}
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}

// options know a certificate and key for every name.
func options() HAProxyOptions {
	certificate, key := keyPair()
	return HAProxyOptions{
		User: "haproxy", Group: "haproxy", StatsSocket: "/run/haproxy.sock",
		Certificate: func(string) ([]byte, bool) { return certificate, true },
		Key:         func(string) ([]byte, bool) { return key, true },
		Authority:   func(string) ([]byte, bool) { return certificate, true },
	}
}

// keyPair is a certificate that serves as a site's and as an authority's.
var keyPair = sync.OnceValues(func() (certificate, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example.net"}, DNSNames: []string{"shop.example.net", "*.shop.example.net"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
})

// acceptWith has HAProxy check a document's configuration.
func acceptWith(t testing.TB, doc *config.Document, o HAProxyOptions) {
	t.Helper()
	if out, ok := accepted(t, doc, o); !ok {
		t.Errorf("HAProxy refuses the configuration:\n%s", out)
	}
}

func accepted(t testing.TB, doc *config.Document, o HAProxyOptions) (output string, ok bool) {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("needs haproxy")
	}
	dir := t.TempDir()
	o.CertificateDir = dir
	cfg := HAProxy(doc, o)
	for name, content := range cfg.Files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "haproxy.cfg")
	// Nobody is asked for the addresses of servers: there may be no DNS here.
	text := bytes.ReplaceAll(cfg.Config, []byte(" init-addr last,libc,none "), []byte(" init-addr none "))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "-c", "-f", path).CombinedOutput()
	var shown strings.Builder
	for i, line := range strings.Split(string(cfg.Config), "\n") {
		if strings.Contains(string(out), ":"+strconv.Itoa(i+1)+"]") {
			shown.WriteString(strconv.Itoa(i+1) + ": " + line + "\n")
		}
	}
	return shown.String() + string(out), err == nil
}
