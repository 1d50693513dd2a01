package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/api"
	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/config"
)

// machine is a whole appliance in this process with a command line of its own.
type machine struct {
	*appliance
	t   *testing.T
	dir string
	// env is the environment of its command line.
	env map[string]string
}

// newMachine starts an appliance. Recording subsystems may stand in for the rooms
// that are to come.
func newMachine(t *testing.T, subsystems ...apply.Subsystem) *machine {
	t.Helper()
	m := &machine{t: t, dir: filepath.Join(t.TempDir(), "state"), env: map[string]string{}}
	m.env["SLUIS_STATE"] = m.dir
	m.boot(subsystems...)
	return m
}

func (m *machine) boot(subsystems ...apply.Subsystem) {
	m.t.Helper()
	a, err := start(context.Background(), applianceOptions{
		State: m.dir, Admin: "127.0.0.1:0", Stats: "127.0.0.1:0", Subsystems: subsystems, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.appliance = a
	m.t.Cleanup(a.stop)
}

// tool runs a command line and returns its exit code and output.
func (m *machine) tool(stdin string, args ...string) (code int, stdout, stderr string) {
	m.t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &errs, func(name string) string { return m.env[name] })
	return code, out.String(), errs.String()
}

// do runs a command line that must succeed.
func (m *machine) do(args ...string) string {
	m.t.Helper()
	code, out, errs := m.tool("", args...)
	if code != exitOK {
		m.t.Fatalf("sluis %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// fails runs a command line that must end with a code, and returns what it says.
func (m *machine) fails(code int, args ...string) string {
	m.t.Helper()
	got, out, errs := m.tool("", args...)
	if got != code {
		m.t.Fatalf("sluis %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out + errs
}

// pair makes a certificate with its key as PEM files.
func pair(t *testing.T, dir, name string, authority bool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name + ".example.net"},
		DNSNames: []string{name + ".example.net"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: authority, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// recorder stands in for all rooms that are to come.
func recorder(t *testing.T) *applytest.Recorder {
	t.Helper()
	m, err := applytest.NewMachine(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return applytest.NewRecorder("recorder", m)
}

// TestEveryNounThroughEveryDoor takes a document that holds every noun of the
// model through command line and API: loaded, edited, checked, applied, confirmed,
// rolled back, restored, exported, and read again equal, on two appliances in one
// process.
func TestEveryNounThroughEveryDoor(t *testing.T) {
	files := t.TempDir()
	writeEverything(t, files)
	rec := recorder(t)
	one, two := newMachine(t, rec), newMachine(t, recorder(t))

	one.do("load", filepath.Join(files, "everything.yaml"))
	if out := one.do("check"); strings.Contains(out, "not in effect") {
		t.Errorf("check says that something isn't in effect, though every part is claimed:\n%s", out)
	}
	one.do("apply", "--comment", "everything")
	want := one.engine.Status().RunningDocument
	if diff := cmp.Diff(applytest.Want(want), rec.State()); diff != "" {
		t.Errorf("what is in effect (-want +got):\n%s", diff)
	}
	missingNouns(t, want)

	// Edited, applied with confirmation, and rolled back.
	one.do("rename", "backends[shop]", "store")
	one.do("set", "frontends[shop].description", "another")
	one.do("delete", "policy_tests[redirects]")
	one.do("move", "firewall.rules[drop-the-rest]", "--before", "https-to-shop")
	diff := one.do("diff", "--impact")
	for _, part := range []string{"+ backend store", "- policy test redirects", "an apply would end: 1 listener"} {
		if !strings.Contains(diff, part) {
			t.Errorf("diff doesn't say %q:\n%s", part, diff)
		}
	}
	one.do("apply", "--confirm-within", "10m")
	if out := one.do("status"); !strings.Contains(out, "waits to be confirmed") {
		t.Errorf("status while pending:\n%s", out)
	}
	one.do("rollback")
	equalDocuments(t, "after the roll back", want, one.engine.Status().RunningDocument)
	one.do("apply", "--confirm-within", "10m")
	one.do("confirm")

	// One object restored, then all.
	one.do("restore", "2", "policy_tests[redirects]")
	one.do("apply")
	one.do("restore", "2")
	one.do("apply")
	equalDocuments(t, "after restoring all", want, one.engine.Status().RunningDocument)

	// Exported and read again: on the same machine it is the same document.
	export := filepath.Join(files, "export.yaml")
	one.do("export", export)
	one.do("load", export)
	if out := one.do("diff"); !strings.Contains(out, "no difference") {
		t.Errorf("the export, read again, differs:\n%s", out)
	}

	// The other appliance in this process has seen none of it.
	if got := two.engine.Status().Running; got != 1 {
		t.Errorf("the second appliance runs revision %d, want its first", got)
	}
	two.do("load", filepath.Join(files, "everything.yaml"))
	one.stop() // its sites have the ports
	two.do("apply")
	equalButSecrets(t, want, two.engine.Status().RunningDocument)
	// There the export's keys are known, by their public key; other secrets aren't.
	if out := two.fails(exitNo, "load", filepath.Join(files, "missing.yaml")); !strings.Contains(out, "missing.yaml") {
		t.Errorf("loading a file that isn't there: %s", out)
	}
	two.do("load", export)
	out := two.fails(exitNo, "apply")
	if !strings.Contains(out, "doesn't have the value") || strings.Contains(out, "certificates[shop].key") {
		t.Errorf("applying another machine's secrets:\n%s", out)
	}

	// The restart finds what was applied.
	two.stop()
	one.boot(recorder(t))
	equalDocuments(t, "after a restart", want, one.engine.Status().RunningDocument)
}

// missingNouns says which collections and parts of the document are empty.
func missingNouns(t *testing.T, doc *config.Document) {
	t.Helper()
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(config.EncodeJSON(doc), &parts); err != nil {
		t.Fatal(err)
	}
	for name, part := range parts {
		if s := string(part); s == "[]" || s == "null" || s == "{}" {
			t.Errorf("the document has no %s", name)
		}
	}
}

func equalDocuments(t *testing.T, when string, want, got *config.Document) {
	t.Helper()
	if diff := cmp.Diff(string(config.EncodeYAML(want)), string(config.EncodeYAML(got))); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func equalButSecrets(t *testing.T, want, got *config.Document) {
	t.Helper()
	if diff := cmp.Diff(string(config.EncodeJSON(want)), string(config.EncodeJSON(got))); diff != "" {
		t.Errorf("the same file on another machine (-want +got):\n%s", diff)
	}
}

// TestGuideEndState applies the guide's end state on the real rooms: what nothing
// puts into effect yet is said once for each part, and Apply refuses exactly the
// firewall, which would protect.
func TestGuideEndState(t *testing.T) {
	files := t.TempDir()
	for _, name := range []string{"lab-root", "lab-issuing", "ece"} {
		pair(t, files, name, name != "ece")
	}
	write(t, filepath.Join(files, "guide.yaml"), read(t, "../../internal/config/testdata/guide-end-state.yaml"))
	m := newMachine(t)
	m.do("load", filepath.Join(files, "guide.yaml"))
	code, out, _ := m.tool("", "check", "--json")
	var answer struct{ Problems config.Problems }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != exitNo {
		t.Fatalf("check: exit code %d, %v\n%s", code, err, out)
	}
	var errors, warnings []string
	for _, p := range answer.Problems {
		switch {
		case p.Severity == config.Error:
			errors = append(errors, p.Path)
		case strings.Contains(p.Message.String(), "not in effect"):
			warnings = append(warnings, p.Path)
		}
	}
	if diff := cmp.Diff([]string{"firewall"}, errors); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	for _, part := range []string{"interfaces", "virtual_ips", "aliases", "system.ssh"} {
		if strings.Count(strings.Join(warnings, " ")+" ", part+" ") != 1 {
			t.Errorf("%s is named in %v, want once", part, warnings)
		}
	}
	for _, part := range warnings {
		if strings.HasPrefix(part, "frontends") || strings.HasPrefix(part, "backends") || strings.HasPrefix(part, "load_balancer") {
			t.Errorf("%s is not in effect, and the load balancer is all there", part)
		}
	}
	m.fails(exitNo, "apply")
	if got := m.engine.Status().Running; got != 1 {
		t.Errorf("a refused apply left revision %d running", got)
	}
	m.do("set", "firewall.rules", "null")
	m.do("apply")
	if got := m.engine.Status().RunningDocument.System.Hostname; got != "lb1" {
		t.Errorf("without the firewall the guide's document runs, but its host name is %q", got)
	}
}

// TestRemoteCommandLine speaks to an appliance over TLS: the one-time password
// leads to a password, that to a token, and the token's role holds.
func TestRemoteCommandLine(t *testing.T) {
	m := newMachine(t)
	url := m.listener.URLs()[0]
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := writeLeaf(ca, m.listener.Leaf()); err != nil {
		t.Fatal(err)
	}
	remote := func(user, password string) {
		m.env = map[string]string{"SLUIS_URL": url, "SLUIS_CA": ca, "SLUIS_USER": user, "SLUIS_PASSWORD": password}
	}
	remote(m.once.Account, m.once.Password)
	if out := m.fails(exitNo, "status"); !strings.Contains(out, "one-time password") {
		t.Errorf("a one-time password shows the status:\n%s", out)
	}
	if code, out, errs := m.tool(m.once.Password+"\nfour words of mine together\n", "user", "password", "admin"); code != exitOK {
		t.Fatalf("setting a password with the one-time password: %s%s", out, errs)
	}
	remote("admin", "four words of mine together")
	m.do("status")
	secret := strings.TrimSpace(m.do("token", "create", "admin", "monitoring", "--role", "viewer", "--expires-in", "30d"))
	m.env = map[string]string{"SLUIS_URL": url, "SLUIS_CA": ca, "SLUIS_TOKEN": secret}
	m.do("status")
	if out := m.fails(exitNo, "set", "system.hostname", "lb2"); !strings.Contains(out, "needs the role administrator") {
		t.Errorf("a viewer's token sets something:\n%s", out)
	}
	m.env["SLUIS_TOKEN"] = secret + "x"
	if out := m.fails(exitNo, "status"); strings.Contains(out, secret) {
		t.Errorf("the answer shows the token:\n%s", out)
	}
	delete(m.env, "SLUIS_CA")
	m.env["SLUIS_FINGERPRINT"] = strings.Repeat("00", 32)
	if out := m.fails(exitNo, "status"); !strings.Contains(out, "another certificate") {
		t.Errorf("another certificate than the pinned one is accepted:\n%s", out)
	}
}

// TestPasswdOffline gives a one-time password while no appliance runs.
func TestPasswdOffline(t *testing.T) {
	m := newMachine(t)
	m.stop()
	out := m.do("passwd")
	password := strings.TrimSpace(out[strings.LastIndex(out, ": ")+2:])
	m.boot()
	if m.once.Password != "" {
		t.Error("a second one-time password was made at the start")
	}
	c, err := api.NewClient(api.Remote{URL: m.listener.URLs()[0], Username: "admin", Password: password, Fingerprint: fingerprint(m)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetPassword(context.Background(), "admin", password, "another four words of mine"); err != nil {
		t.Errorf("the one-time password of sluis passwd: %v", err)
	}
	if out := m.fails(exitNo, "passwd", "nobody"); !strings.Contains(out, "no administrator named nobody") {
		t.Errorf("passwd for nobody: %s", out)
	}
}

func TestSetTakesTextAsItStands(t *testing.T) {
	m := newMachine(t)
	tests := []struct{ path, value, want string }{
		{"system.admin.login_banner", "Note: keep out # really", "Note: keep out # really"},
		{"system.admin.login_banner", `"with: quotes"`, "with: quotes"},
		{"system.hostname", "42", "42"},
		{"system.dns_servers", "[192.0.2.53, 192.0.2.54]", "192.0.2.53\n- 192.0.2.54"},
		{"system.admin.port", "9443", "9443"},
	}
	for _, tt := range tests {
		m.do("set", tt.path, tt.value)
		if got := m.do("show", tt.path); !strings.Contains(got, strings.ReplaceAll(tt.want, `\n`, "\n")) {
			t.Errorf("set %s %s: show prints %q, want %q", tt.path, tt.value, got, tt.want)
		}
	}
}

// TestSaveSaysWhatTheMachineShows: what is wrong on this machine is a hint at Save,
// long before it is the gate of an apply.
func TestSaveSaysWhatTheMachineShows(t *testing.T) {
	m := newMachine(t)
	if out := m.do("set", "virtual_ips[web]", "{address: 192.0.2.1/32}"); !strings.Contains(out, "virtual_ips: stored, not in effect") {
		t.Errorf("saving what nothing puts into effect says:\n%s", out)
	}
	if out := m.do("set", "firewall.rules[all]", "{action: block}"); !strings.Contains(out, "error    firewall: ") {
		t.Errorf("saving what would protect and doesn't says:\n%s", out)
	}
	m.do("set", "frontends[shop]", "{binds: [{name: http, address: any, port: 80}]}")
	var saved api.Saved
	if err := json.Unmarshal([]byte(m.do("set", "--json", "frontends[shop].default_backend", "none")), &saved); err != nil {
		t.Fatal(err)
	}
	if len(saved.Problems) == 0 || saved.Problems[0].Path != "frontends[shop].default_backend" || string(saved.Value) != `"none"` {
		t.Errorf("for a program it says %+v", saved)
	}
}

func TestUsage(t *testing.T) {
	m := newMachine(t)
	nowhere := &machine{t: t, env: map[string]string{"SLUIS_STATE": t.TempDir()}}
	tests := []struct {
		name string
		on   *machine
		args []string
		code int
		want string
	}{
		{"unknown command", m, []string{"frobnicate"}, exitUsage, "frobnicate"},
		{"unknown flag", m, []string{"apply", "--now"}, exitUsage, "--now"},
		{"missing argument", m, []string{"set", "system.hostname"}, exitUsage, "takes a path and a value"},
		{"unknown path", m, []string{"set", "system.hostnam", "x"}, exitNo, "hostname"},
		{"wrong value", m, []string{"set", "system.admin.port", "many"}, exitNo, "system.admin.port"},
		{"confirm nothing", m, []string{"confirm"}, exitNo, "no revision waits"},
		{"apply nothing", m, []string{"apply"}, exitNo, "nothing has changed"},
		{"too short to confirm", m, []string{"apply", "--confirm-within", "1s"}, exitNo, "between"},
		{"no appliance", nowhere, []string{"status"}, exitNo, "sluis run"},
		{"no such revision", m, []string{"restore", "77"}, exitNo, "77"},
		{"no revision's number", m, []string{"restore", "last"}, exitUsage, "last"},
		{"a server that isn't", m, []string{"server", "drain", "web", "w1"}, exitNo, "no backend named web"},
		{"remote without credentials", nowhere, []string{"--url", "https://127.0.0.1:1", "status"}, exitUsage, "SLUIS_TOKEN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.on.t = t
			if out := tt.on.fails(tt.code, tt.args...); !strings.Contains(out, tt.want) {
				t.Errorf("says %q, want something with %q", out, tt.want)
			}
		})
	}
}

// TestEveryCommandHasHelp holds the texts of --help together.
func TestEveryCommandHasHelp(t *testing.T) {
	m := &machine{t: t, env: map[string]string{}}
	for _, name := range strings.Fields(commandNames(m)) {
		out := m.do(append(strings.Split(name, "/"), "--help")...)
		if len(out) < 40 || !strings.Contains(out, "Usage:") {
			t.Errorf("help of %s:\n%s", name, out)
		}
	}
	if manual := m.do("help", "document"); !strings.Contains(manual, "block_private") {
		t.Error("help document doesn't describe the document")
	}
	if completion := m.do("completion", "bash"); !strings.Contains(completion, "sluis") {
		t.Error("no completion for bash")
	}
	if licenses := m.do("licenses"); !strings.Contains(licenses, "cobra") {
		t.Error("licenses don't name the libraries")
	}
}

func commandNames(m *machine) string {
	s := &session{getenv: func(string) string { return "" }}
	var names []string
	for _, c := range s.rootCommand().Commands() {
		if c.Name() == "document" {
			continue
		}
		names = append(names, c.Name())
		for _, sub := range c.Commands() {
			names = append(names, c.Name()+"/"+sub.Name())
		}
	}
	return strings.Join(names, " ")
}
