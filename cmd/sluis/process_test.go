package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluis/internal/api"
	"sluis/internal/control"
)

// TestMain lets this test binary be sluis itself, for tests that need a process of
// its own: to be killed, to get signals, to live in an empty root.
func TestMain(m *testing.M) {
	if os.Getenv("SLUIS_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a sluis that runs as a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	mu     sync.Mutex
	output bytes.Buffer // guarded by mu
}

func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(data)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// runProcess starts sluis and waits until it answers on its socket.
func runProcess(t *testing.T, socket string, attributes *syscall.SysProcAttr, command string, args ...string) *process {
	t.Helper()
	p := &process{t: t, socket: socket, cmd: exec.Command(command, args...)}
	p.cmd.Env = []string{"SLUIS_TEST_MAIN=1", "HOME=/nonexistent", "PATH=/nonexistent"}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = p, p, attributes
	p.cmd.Dir = "/" // the working directory must lie within another root
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.until("sluis answers", func() bool {
		_, err := p.status()
		return err == nil
	})
	return p
}

// until waits for something that the process does by itself; what it waits for is
// never a matter of time, but a process that hangs must not hang the tests.
func (p *process) until(what string, done func() bool) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("waited for this in vain: %s\n%s", what, p.said())
		}
	}
}

func (p *process) client() *api.Client { return api.Local(p.socket) }

func (p *process) status() (control.Status, error) {
	c := p.client()
	defer c.Close()
	return c.Status(context.Background())
}

func (p *process) hostname() string {
	p.t.Helper()
	status, err := p.status()
	if err != nil {
		p.t.Fatal(err)
	}
	return status.Hostname
}

// kill ends the process as a power cut would, and waits for its end.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// isDynamic reports whether this test binary needs libraries of the system.
func isDynamic() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "CGO_ENABLED" && s.Value == "1"
	})
}

func TestKilledProcessKeepsWhatWasApplied(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	socket := filepath.Join(dir, "sluis.sock")
	ctx := context.Background()
	start := func() *process {
		return runProcess(t, socket, nil, self(t), "run", "--state", dir, "--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0")
	}
	applied := "sluis"
	for i := range 6 {
		p := start()
		if got := p.hostname(); got != applied {
			t.Fatalf("after kill %d the host name is %q, want the one applied last, %q", i, got, applied)
		}
		c := p.client()
		next := fmt.Sprintf("lock%d", i)
		if i > 0 && i%2 == 0 {
			if err := c.Rollback(ctx); err != nil { // what waited when the power went still does
				t.Fatal(err)
			}
		}
		if _, err := c.Set(ctx, "system.hostname", []byte(next)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Apply(ctx, 0, "", ""); err != nil {
			t.Fatal(err)
		}
		applied = next
		// A change that waits for its confirmation, and edits beyond it, are under way
		// when the power goes. Past the deadline the confirmed one returns.
		if _, err := c.Set(ctx, "system.hostname", []byte("never-confirmed")); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			if _, err := c.Apply(ctx, control.MaxConfirm, "", ""); err != nil {
				t.Fatal(err)
			}
		}
		p.kill()
	}

	p := start()
	status, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if status.Pending == nil || status.Hostname != applied {
		t.Errorf("after a restart before the deadline: %+v, want a pending revision beside %s", status, applied)
	}
	second := exec.Command(self(t), "run", "--state", dir)
	second.Env = p.cmd.Env
	out, err := second.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), fmt.Sprint(p.cmd.Process.Pid)) {
		t.Errorf("a second sluis on the same state: %v, want a refusal that names process %d\n%s", err, p.cmd.Process.Pid, out)
	}
	if err := p.client().Rollback(ctx); err != nil {
		t.Errorf("roll back after a restart: %v", err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, p.said())
	}
}

// TestContainerForm runs from a file alone, in a root that holds nothing but the
// binary and the file: no time zones, no authorities, no place for temporary files.
func TestContainerForm(t *testing.T) {
	if isDynamic() {
		t.Skip("needs a static test binary: set CGO_ENABLED=0, as make test does")
	}
	root, binary, prefix := t.TempDir(), self(t), ""
	var attributes *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		data := read(t, binary)
		if err := os.WriteFile(filepath.Join(root, "sluis"), data, 0o700); err != nil {
			t.Fatal(err)
		}
		attributes, binary, prefix = &syscall.SysProcAttr{Chroot: root}, "/sluis", "/"
	} else {
		t.Log("without root the file form is tested on the whole machine, not in an empty root")
		prefix = root + "/"
	}
	file := filepath.Join(root, "sluis.yaml")
	document := func(hostname, more string) {
		text := "format: 1\nsystem: {hostname: " + hostname + ", timezone: Asia/Kolkata" + more + "}\n" +
			"administrators: [{name: admin, role: administrator, password: \"file:password\"}]\n"
		write(t, file+".new", []byte(text))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "password"), []byte("four words in a file\n"))
	document("one", "")
	p := runProcess(t, filepath.Join(root, "s"), attributes, binary,
		"run", "--config", prefix+"sluis.yaml", "--socket", prefix+"s", "--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0")
	status, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if status.Hostname != "one" || status.Time.Format("-07:00") != "+05:30" {
		t.Errorf("host name %s, time %s; want one, in the zone of the file", status.Hostname, status.Time)
	}
	p.until("the log is written in the zone of the file", func() bool { return strings.Contains(p.said(), "+05:30 level=") })
	if status.ReadOnly.IsZero() {
		t.Error("nothing says that the configuration comes from a file")
	}
	if _, err := p.client().Set(context.Background(), "system.hostname", []byte("other")); err == nil {
		t.Error("the candidate can be edited beside the file")
	}

	document("two", "")
	p.until("a changed file takes effect", func() bool { return p.hostname() == "two" })
	before := p.said()
	document("three", ", hostnaem: x, ssh: {port: 0}")
	p.until("a file with errors is refused", func() bool { return strings.Contains(p.said()[len(before):], "is refused") })
	if said := p.said()[len(before):]; !strings.Contains(said, "hostname") || !strings.Contains(said, "line 2") {
		t.Errorf("the refusal doesn't say where or what is near:\n%s", said)
	}
	if got := p.hostname(); got != "two" {
		t.Errorf("a file with errors took effect: %s", got)
	}
	document("four", "")
	p.until("the mended file takes effect", func() bool { return p.hostname() == "four" })

	// The password's file changes; SIGHUP reads it.
	revisions := func() int {
		list, err := p.client().Revisions(context.Background(), control.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	had := revisions()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until("SIGHUP is taken", func() bool { return strings.Count(p.said(), "has been applied") >= 3 })
	if got := revisions(); got != had {
		t.Errorf("reading the same file again made revision %d of %d", got, had)
	}
	write(t, filepath.Join(root, "password"), []byte("four other words in a file\n"))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until("a changed secret takes effect", func() bool { return revisions() == had+1 })
}
