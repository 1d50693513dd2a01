package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inNamespace runs the test again in a mount namespace of its own, where body
// gets a small file system in memory.
func inNamespace(t *testing.T, body func(t *testing.T, mount string)) {
	t.Helper()
	if mount := os.Getenv("SLUIS_STORE_MOUNT"); mount != "" {
		if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
			t.Fatal(err)
		}
		body(t, mount)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "SLUIS_STORE_MOUNT="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Fatalf("in a mount namespace: %v\n%s", err, out)
	}
}

// bigChanges is one of each change; each needs room on the disk.
func bigChanges() map[string]func(s *Store) error {
	big := bytes.Repeat([]byte("x"), 8<<10)
	return map[string]func(s *Store) error{
		"SaveRevision":  func(s *Store) error { _, err := s.SaveRevision(Revision{}, big); return err },
		"SetRunning":    func(s *Store) error { return s.SetRunning(2) },
		"SetPending":    func(s *Store) error { return s.SetPending(Pending{Revision: 2, Phase: Waiting}) },
		"Pin":           func(s *Store) error { return s.Pin(2, true) },
		"SaveCandidate": func(s *Store) error { return s.SaveCandidate(big, nil) },
		"PutSecret":     func(s *Store) error { return s.PutSecret(keyB, big) },
		"PutState":      func(s *Store) error { return s.PutState("auth.json", big) },
		"AppendAudit":   func(s *Store) error { return s.AppendAudit(fmt.Appendf(nil, "%q", big)) },
	}
}

// settle makes a directory with something in all its parts.
func settle(t *testing.T, dir string) (*Store, world) {
	t.Helper()
	s := open(t, dir, Options{})
	for _, n := range []int{1, 2} {
		if _, err := s.SaveRevision(Revision{SecretRefs: []string{keyA}}, fmt.Appendf(nil, "hostname: box%d\n", n)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(s.PutSecret(keyA, []byte("key A")), s.SetRunning(1), s.SaveCandidate([]byte("c"), nil),
		s.PutState("auth.json", []byte("{}")), s.AppendAudit([]byte("1")))
	if err != nil {
		t.Fatal(err)
	}
	return s, look(t, s)
}

func look(t *testing.T, s *Store) world {
	t.Helper()
	w, err := observe(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// refuses checks that every change fails for the given reason, is explained, and
// changes nothing; not for this process, and not for the next.
func refuses(t *testing.T, s *Store, settled world, reason error, sentence string) *Store {
	t.Helper()
	for _, life := range []string{"this process", "the next process"} {
		for name, do := range bigChanges() {
			err := do(s)
			if !errors.Is(err, reason) {
				t.Errorf("%s in %s: %v, want %v", name, life, err, reason)
			}
			if got, hint := Explain(err); !strings.Contains(got.String(), sentence) || hint.IsZero() {
				t.Errorf("%s is explained as %q, hint %q, want %q in it", name, got, hint, sentence)
			}
		}
		if diff := cmp.Diff(settled, look(t, s)); diff != "" {
			t.Errorf("%s sees (-settled +now):\n%s", life, diff)
		}
		if life == "this process" {
			s.Close()
			s = open(t, s.Dir(), Options{})
		}
	}
	return s
}

func worksAgain(t *testing.T, s *Store) {
	t.Helper()
	for name, do := range bigChanges() {
		if err := do(s); err != nil {
			t.Errorf("%s on a healthy disk again: %v", name, err)
		}
	}
	s.Close()
	look(t, open(t, s.Dir(), Options{}))
}

func TestFullDisk(t *testing.T) {
	inNamespace(t, func(t *testing.T, mount string) {
		s, settled := settle(t, filepath.Join(mount, "state"))
		filler := filepath.Join(mount, "filler")
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
		s = refuses(t, s, settled, syscall.ENOSPC, "is full")
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		worksAgain(t, s)
	})
}

func TestReadOnlyDisk(t *testing.T) {
	inNamespace(t, func(t *testing.T, mount string) {
		s, settled := settle(t, filepath.Join(mount, "state"))
		remount := func(flags uintptr) {
			t.Helper()
			if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT|flags, ""); err != nil {
				t.Fatalf("remount: %v", err) // busy if a file is open for writing
			}
		}
		remount(syscall.MS_RDONLY)
		s = refuses(t, s, settled, syscall.EROFS, "is read-only")
		if _, err := s.Prune(nil); !errors.Is(err, syscall.EROFS) && err != nil {
			t.Errorf("Prune: %v, want EROFS or nothing to do", err)
		}
		if notes := fmt.Sprint(s.Notes()); !strings.Contains(notes, "read-only") {
			t.Errorf("Notes() = %s, want the read-only disk said", notes)
		}
		remount(0)
		worksAgain(t, s)
	})
}

func TestOnlyOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("second Open: %v, want it locked by process %d", err, os.Getpid())
	}
	want := fmt.Sprintf("the state directory %s is in use by process %d", dir, os.Getpid())
	if got, _ := Explain(err); got.String() != want {
		t.Errorf("Explain = %q, want %q", got, want)
	}
	if err := s.SaveCandidate([]byte("still ours"), nil); err != nil {
		t.Error(err)
	}
	s.Close()
	open(t, dir, Options{})
}

func TestNobodyElseCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	defer syscall.Umask(syscall.Umask(0))
	s, err := runScript(dir, nil, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	checkModes(t, dir)
	// a backup was unpacked carelessly: Open mends it
	for _, file := range []string{"secrets/key-" + keyB[4:] + ".pem", "head.json", "revisions"} {
		if err := os.Chmod(filepath.Join(dir, file), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, Options{})
	checkModes(t, dir)
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		want := os.FileMode(fileMode)
		if e.IsDir() {
			want = dirMode
		}
		files++
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("walked over %d files: %v", files, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	write := func(name, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	ok := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		inUse  bool // the directory was a state directory
		spoil  func(t *testing.T, dir string)
		want   error
		saying string
	}{
		"somebody's directory": {false, write("thesis.txt", "…"), ErrForeign, "not Sluis's"},
		"mark of others":       {true, write(formatFile, "1.8\n"), ErrForeign, "not Sluis's"},
		"a file": {false, func(t *testing.T, dir string) {
			ok(t, os.Remove(dir))
			ok(t, os.WriteFile(dir, nil, 0o600))
		}, ErrForeign, "not Sluis's"},
		"newer layout": {true, write(formatFile, formatPrefix+"2\n"), ErrNewer, "newer version"},
		"writable by others": {true, func(t *testing.T, dir string) {
			ok(t, os.Chmod(dir, 0o777))
		}, ErrWritableByOthers, "other users may write"},
		"of another user": {true, func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a directory away")
			}
			ok(t, os.Chown(dir, 65534, 65534))
		}, ErrOtherOwner, "belongs to another user"},
		"a part led elsewhere": {true, func(t *testing.T, dir string) {
			ok(t, os.Rename(filepath.Join(dir, "secrets"), dir+"-elsewhere"))
			ok(t, os.Symlink(dir+"-elsewhere", filepath.Join(dir, "secrets")))
		}, ErrForeign, "not Sluis's"},
		"head unreadable": {true, write(headFile, "{\"runn"), ErrDamaged, `write {"running": 42} into it`},
		"head absurd":     {true, write(headFile, `{"running":-1}`), ErrDamaged, "head.json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			if tt.inUse {
				s, _ := settle(t, dir)
				s.Close()
			} else if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, dir)
			before, _ := os.ReadDir(dir)
			_, err := Open(dir, Options{})
			if !errors.Is(err, tt.want) {
				t.Fatalf("Open: %v, want %v", err, tt.want)
			}
			sentence, hint := Explain(err)
			if said := fmt.Sprint(sentence, "; ", hint); !strings.Contains(said, tt.saying) || !strings.Contains(said, dir) || hint.IsZero() {
				t.Errorf("explained as %q, want %q and the directory in it, and a hint", said, tt.saying)
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Errorf("Open left %v in a directory that it refused, before %v", after, before)
			}
		})
	}
}

func TestOpenTakesAFreshFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}

// Symbolic links in the directory are never followed out of it, for reading or
// for writing.
func TestLinksAreNotFollowed(t *testing.T) {
	base := t.TempDir()
	s := open(t, filepath.Join(base, "state"), Options{})
	victim := filepath.Join(base, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Dir(), "secrets", "key-"+keyA[4:]+".pem")
	for _, name := range []string{file, file + tmpSuffix} {
		if err := os.Symlink(victim, name); err != nil {
			t.Fatal(err)
		}
	}
	if value, err := s.Secret(keyA); err == nil {
		t.Errorf("Secret read %q through a link", value)
	}
	if err := s.PutSecret(keyA, []byte("key A")); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("the file behind the link reads %q", got)
	}
	if value, err := s.Secret(keyA); err != nil || string(value) != "key A" {
		t.Errorf("Secret = %q, %v", value, err)
	}
}
