package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"sluis/internal/text"
)

// Errors that a caller can tell apart with errors.Is.
var (
	ErrNotFound         = errors.New("not found")
	ErrDamaged          = errors.New("damaged")
	ErrTooLarge         = errors.New("too large")
	ErrExists           = errors.New("exists with another value")
	ErrBadRef           = errors.New("not a reference of a secret")
	ErrBadCursor        = errors.New("not a place in the audit log")
	ErrTooManyPinned    = errors.New("too many pinned revisions")
	ErrClosed           = errors.New("closed")
	ErrForeign          = errors.New("not a state directory of Sluis")
	ErrOtherOwner       = errors.New("belongs to another user")
	ErrWritableByOthers = errors.New("other users may write to it")
	ErrNewer            = errors.New("written by a newer version of Sluis")
)

// LockedError says that the directory is in use.
type LockedError struct {
	PID int // of the process that uses it; 0 if unknown
}

func (e *LockedError) Error() string { return fmt.Sprintf("in use by process %d", e.PID) }

// Error is what every method of this room fails with.
type Error struct {
	Dir   string // the state directory
	Doing string // what was being done, such as "save a revision"
	Err   error
}

func (e *Error) Error() string {
	return fmt.Sprintf("state directory %s: %s: %v", e.Dir, e.Doing, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail wraps a cause, once.
func (s *Store) fail(doing string, err error) error {
	var wrapped *Error
	if errors.As(err, &wrapped) {
		return err
	}
	if errors.Is(err, fs.ErrClosed) {
		err = ErrClosed
	}
	return &Error{Dir: s.dir, Doing: doing, Err: err}
}

// isDiskTrouble reports whether a write failed for a reason that need not keep
// the disk from being read.
func isDiskTrouble(err error) bool {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Explain turns an error of this room into a sentence for administrators and a
// hint on what to do; the hint may be empty.
func Explain(err error) (sentence, hint text.Msg) {
	dir, doing := "", ""
	var e *Error
	if errors.As(err, &e) {
		dir, doing = e.Dir, e.Doing
	}
	var locked *LockedError
	if errors.As(err, &locked) {
		return explainLocked(dir, locked.PID)
	}
	for _, explain := range []func(error, string) (text.Msg, text.Msg){explainDisk, explainDir, explainContent} {
		if sentence, hint = explain(err, dir); !sentence.IsZero() {
			return sentence, hint
		}
	}
	if e != nil {
		err = e.Err
	}
	return text.M("state directory {dir}, {doing}: {error}", "dir", dir, "doing", doing, "error", err), text.Msg{}
}

func explainLocked(dir string, pid int) (sentence, hint text.Msg) {
	hint = text.M("stop that process first, or choose another state directory")
	if pid == 0 {
		return text.M("the state directory {dir} is in use by another process", "dir", dir), hint
	}
	return text.M("the state directory {dir} is in use by process {pid}", "dir", dir, "pid", pid), hint
}

func explainDisk(err error, dir string) (sentence, hint text.Msg) {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return text.M("the disk of the state directory {dir} is full; nothing was changed", "dir", dir),
			text.M("free space there and try again")
	case errors.Is(err, syscall.EDQUOT):
		return text.M("the disk quota for the state directory {dir} is used up; nothing was changed", "dir", dir),
			text.M("free space there or raise the quota, and try again")
	case errors.Is(err, syscall.EROFS):
		return text.M("the disk of the state directory {dir} is read-only; nothing was changed", "dir", dir),
			text.M("a disk becomes read-only after errors: look into the system log, then mount it writable again")
	case errors.Is(err, fs.ErrPermission):
		return text.M("Sluis may not write to the state directory {dir}", "dir", dir),
			text.M("the directory and all in it must belong to the user that Sluis runs as")
	case errors.Is(err, syscall.EIO):
		return text.M("the disk of the state directory {dir} reports an error", "dir", dir),
			text.M("look into the system log and make a backup; the disk may be failing")
	}
	return text.Msg{}, text.Msg{}
}

func explainDir(err error, dir string) (sentence, hint text.Msg) {
	switch {
	case errors.Is(err, ErrForeign):
		return text.M("{dir} holds something that is not Sluis's", "dir", dir),
			text.M("give a new or an empty directory")
	case errors.Is(err, ErrOtherOwner):
		return text.M("the state directory {dir} belongs to another user", "dir", dir),
			text.M("run Sluis as the user that the directory belongs to")
	case errors.Is(err, ErrWritableByOthers):
		return text.M("other users may write to the state directory {dir}", "dir", dir),
			text.M("take that right away with: chmod 700 {dir}", "dir", dir)
	case errors.Is(err, ErrNewer):
		return text.M("the state directory {dir} was written by a newer version of Sluis", "dir", dir),
			text.M("run that version, or restore a backup into a new directory")
	case errors.Is(err, ErrClosed):
		return text.M("the state directory {dir} is closed: Sluis is stopping", "dir", dir), text.Msg{}
	}
	return text.Msg{}, text.Msg{}
}

func explainContent(err error, dir string) (sentence, hint text.Msg) {
	detail := err
	var e *Error
	if errors.As(err, &e) {
		detail = e.Err
	}
	switch {
	case errors.Is(err, errHeadDamaged):
		return text.M("the file {file} in the state directory {dir} is damaged: it says which revision is running", "file", headFile, "dir", dir),
			text.M("restore it from a backup, or write {example} into it, with a number from the folder revisions", "example", `{"running": 42}`)
	case errors.Is(err, ErrDamaged):
		return text.M("a file in the state directory {dir} is damaged: {detail}", "dir", dir, "detail", detail),
			text.M("restore the file from a backup, or go on with another revision")
	case errors.Is(err, ErrNotFound):
		return text.M("not found in the state directory {dir}: {detail}", "dir", dir, "detail", detail), text.Msg{}
	case errors.Is(err, ErrTooLarge):
		return text.M("too large for the state directory {dir}: {detail}", "dir", dir, "detail", detail), text.Msg{}
	case errors.Is(err, ErrTooManyPinned):
		return text.M("{max} revisions are pinned already", "max", MaxPinned), text.M("unpin one first")
	}
	return text.Msg{}, text.Msg{}
}
