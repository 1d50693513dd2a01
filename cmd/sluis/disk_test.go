package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluis/internal/control"
)

// TestFullAndReadOnlyDisk runs an appliance on a small real disk in a mount
// namespace of its own: full, then read-only. Edits and applies get a clear
// error, what runs goes on, and with room again everything works.
func TestFullAndReadOnlyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	mount := t.TempDir()
	socket := filepath.Join(t.TempDir(), "s")
	script := fmt.Sprintf("/bin/mount --make-rprivate / && /bin/mount -t tmpfs -o size=1m tmpfs %s && exec %s run --state %s/state --socket %s --admin 127.0.0.1:0 --stats 127.0.0.1:0 --access-log %s", mount, self(t), mount, socket, filepath.Join(t.TempDir(), "access.log"))
	p := runProcess(t, socket, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}, "/bin/sh", "-c", script)
	inside := func(command string, args ...string) {
		t.Helper()
		pid := fmt.Sprint(p.cmd.Process.Pid)
		out, err := exec.Command("nsenter", append([]string{"-t", pid, "-m", command}, args...)...).CombinedOutput()
		if err != nil && command != "dd" { // dd fills the disk until it can't
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	ctx, c := context.Background(), p.client()
	set := func(value string) error {
		_, err := c.Set(ctx, "system.hostname", []byte(value))
		return err
	}
	apply := func() error {
		_, err := c.Apply(ctx, 0, "", "")
		return err
	}
	check := func(what string, err error, want string) {
		t.Helper()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	check("set", set("one"), "")
	check("apply", apply(), "")
	check("set", set("two"), "")
	filler := mount + "/filler"

	inside("dd", "if=/dev/zero", "of="+filler, "bs=4k")
	check("set on a full disk", set("three"), "is full")
	check("apply on a full disk", apply(), "is full")
	if got := p.hostname(); got != "one" {
		t.Errorf("on a full disk %s runs, want one", got)
	}
	inside("rm", filler)
	check("apply with room again", apply(), "")
	if got := p.hostname(); got != "two" {
		t.Errorf("with room again %s runs, want two", got)
	}

	check("set", set("four"), "")
	if _, err := c.Apply(ctx, control.MaxConfirm, "", ""); err != nil {
		t.Fatal(err)
	}
	inside("mount", "-o", "remount,ro", mount)
	check("set on a read-only disk", set("five"), "read-only")
	check("confirm on a read-only disk", c.Confirm(ctx), "read-only")
	check("roll back on a read-only disk", c.Rollback(ctx), "not wholly in effect")
	if got := p.hostname(); got != "two" {
		t.Errorf("on a read-only disk %s runs after the roll back, want two", got)
	}
	inside("mount", "-o", "remount,rw", mount)
	check("retry", c.Retry(ctx), "")
	check("set", set("six"), "")
	check("apply", apply(), "")
	if got := p.hostname(); got != "six" {
		t.Errorf("at the end %s runs, want six", got)
	}
}
