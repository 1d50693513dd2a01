package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	formatFile = "format"
	lockFile   = "lock"

	// layout is the number of the directory's layout. It rises when an older
	// Sluis could no longer work with the directory.
	layout       = 1
	formatPrefix = "sluis state directory, layout "
)

var subdirs = []string{"revisions", "secrets", "state", "audit"} // never changed

// openDir makes the directory if it is missing and opens it if it can be
// trusted. It does not touch a directory that isn't ours.
func (s *Store) openDir() error {
	if err := s.makeDir(filepath.Clean(s.dir)); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.IsDir():
		return fmt.Errorf("it is no directory: %w", ErrForeign)
	case int(owner) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d and this is user %d: %w", owner, os.Geteuid(), ErrOtherOwner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("its mode is %04o: %w", info.Mode().Perm(), ErrWritableByOthers)
	}
	s.disk.root, err = os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	return s.checkOurs()
}

// makeDir is os.MkdirAll with each new entry made durable.
func (s *Store) makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	if err := s.disk.step("mkdir", "."); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirMode); err != nil {
		return err
	}
	if err := s.disk.step("syncdir", ".."); err != nil {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// checkOurs refuses a directory without our mark that holds anything but what
// an interrupted first start, or making a file system, leaves there.
func (s *Store) checkOurs() error {
	if s.disk.exists(formatFile) {
		return nil
	}
	entries, err := s.disk.list(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case lockFile, formatFile + tmpSuffix, "lost+found":
		default:
			return fmt.Errorf("it holds %q and no file %q: %w", e.Name(), formatFile, ErrForeign)
		}
	}
	return nil
}

// takeLock takes the flock. The file is open for reading only, so that the disk
// can still be remounted read-only; the process ID in it is for people, is not
// written durably, and may be missing when the disk is full.
func (s *Store) takeLock() error {
	lock, err := s.disk.root.OpenFile(lockFile, os.O_RDONLY|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	s.lock = lock
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		content, _ := s.disk.read(lockFile, 64)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(content)))
		return &LockedError{PID: pid}
	}
	if err != nil {
		return err
	}
	return s.tolerate(s.disk.root.WriteFile(lockFile, fmt.Appendln(nil, os.Getpid()), fileMode))
}

// claim marks a new directory as ours, and refuses one of a later layout.
func (s *Store) claim() error {
	content, err := s.disk.read(formatFile, 256)
	if errors.Is(err, ErrNotFound) {
		return s.disk.replace(formatFile, fmt.Appendf(nil, "%s%d\n", formatPrefix, layout))
	}
	if err != nil {
		return err
	}
	number, ours := strings.CutPrefix(strings.TrimSpace(string(content)), formatPrefix)
	n, err := strconv.Atoi(number)
	switch {
	case !ours || err != nil || n < 1:
		return fmt.Errorf("its file %q reads %q: %w", formatFile, content, ErrForeign)
	case n > layout:
		return fmt.Errorf("its layout is %d, this version knows %d: %w", n, layout, ErrNewer)
	}
	return nil
}
