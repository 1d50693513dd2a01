// Package store keeps what must outlive the process: the revisions of the
// configuration, which of them is running or pending, the shared candidate,
// secrets, the durable state of other rooms and the audit log. It owns one
// directory:
//
//	DIR/                       mode 0700, all files 0600
//	  format                   marks the directory as ours, with the layout's number
//	  lock                     flock'd by the running process; holds its process ID
//	  head.json                numbers of the running and of the pending revision
//	  candidate.yaml           the candidate, sealed (see sealed.go)
//	  revisions/000042.yaml    one revision, sealed
//	  secrets/key-HEX.pem      a private key, named by its public key
//	  secrets/secret-HEX       any other secret, named at random
//	  state/NAME               another room's state
//	  audit/000007.jsonl       audit log, one JSON value per line; the highest number is written to
//	  *.tmp                    a write under way; removed at Open
//
// It promises: when a method that changes something returns without an error,
// the change survives kill -9 and a power cut; when it returns an error, or the
// process dies within it, the next Open finds the old or the new, never a part.
// (Prune changes file by file, so there it holds for each file.) What a reader
// gets was checked against its SHA-256 where the layout has one. A full or
// read-only disk fails the change and nothing else: Open works on it too, so
// that the machine boots with its running configuration.
//
// It does not promise to understand a document: documents, edit marks and states
// are bytes to it. It does not encrypt: whoever reads as our user or root reads
// the secrets.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"sluis/internal/text"
)

// Limits of everything that is written and read. What is larger is refused with
// ErrTooLarge.
const (
	MaxDocument  = 16 << 20 // bytes of a revision's or the candidate's document
	MaxMarks     = 4 << 20  // bytes of the candidate's edit marks, and of any sealed file's header
	MaxSecret    = 1 << 20  // bytes of a secret
	MaxState     = 8 << 20  // bytes of one room's state
	MaxAuditLine = 64 << 10 // bytes of an audit line without its newline
	MaxAuditRead = 1000     // lines that one ReadAudit returns
	MaxPinned    = 100      // pinned revisions
)

// Options are the store's bounds. The zero value means the defaults.
type Options struct {
	// MaxRevisions and MaxRevisionBytes say what Prune keeps: 500 revisions and
	// 256 MiB of documents.
	MaxRevisions     int
	MaxRevisionBytes int64
	// AuditFileBytes and AuditFiles bound the audit log: 16 files of 4 MiB. When
	// a file is full a new one begins, and the oldest goes.
	AuditFileBytes int64
	AuditFiles     int
	// Fault is for crash tests: it is called before each operation that changes
	// the disk or makes a change durable, with the operation (create, write,
	// sync, rename, syncdir, remove, append, truncate, mkdir, chmod) and the path
	// in the directory. Its error is returned instead of doing the operation. It
	// is called by one goroutine at a time. nil in production.
	Fault func(op, path string) error
}

func (o Options) withDefaults() Options {
	if o.MaxRevisions <= 0 {
		o.MaxRevisions = 500
	}
	if o.MaxRevisionBytes <= 0 {
		o.MaxRevisionBytes = 256 << 20
	}
	if o.AuditFileBytes <= 0 {
		o.AuditFileBytes = 4 << 20
	}
	if o.AuditFiles <= 0 {
		o.AuditFiles = 16
	}
	return o
}

// Store is an open state directory. All methods may be called from any
// goroutine; changes wait for each other, and reading waits for no change.
type Store struct {
	dir  string // immutable; as given to Open
	opts Options
	disk disk
	lock *os.File // holds the flock until Close

	// writing is held over the disk work of one change: changes are rare, and
	// their order on disk is what this room is about. It is taken before mu.
	writing sync.Mutex
	closed  bool // guarded by writing

	// mu guards what follows, which mirrors the disk. It is never held over disk
	// work. Fields are changed only with both locks held, so holding either is
	// enough to read them.
	mu        sync.RWMutex
	head      head
	revisions []Revision // newest first
	highest   int        // highest revision number ever seen
	audit     []auditFile
	notes     []text.Msg
}

// Open takes the state directory, which it creates when it is missing. It
// removes what an interrupted write left, and makes durable what it found.
//
// It fails with a *LockedError when another process, or another Store of this
// one, has the directory; with ErrForeign, ErrOtherOwner or ErrWritableByOthers
// when the directory can't be trusted; with ErrNewer when a later version of
// Sluis wrote it; with ErrDamaged when head.json can't be read. Damaged
// revisions do not stop it: see Notes and Revision.Damaged. A disk that is full
// or read-only doesn't either, once the directory has been in use.
func Open(dir string, opts Options) (*Store, error) {
	s := &Store{dir: dir, opts: opts.withDefaults()}
	s.disk.fault = opts.Fault
	steps := []func() error{
		s.openDir, s.takeLock, s.claim, s.repair, s.loadRevisions, s.loadHead, s.loadAudit, s.makeDurable,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			s.release()
			return nil, s.fail("open", err)
		}
	}
	return s, nil
}

// Close waits for a change under way and gives the directory back. Every later
// call fails with ErrClosed, but for Close itself.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.release()
	return nil
}

func (s *Store) release() {
	if s.disk.root != nil {
		s.disk.root.Close()
	}
	if s.lock != nil {
		// Unlocked by hand: a child process that is just being started may hold a
		// copy of the file for a moment after it is closed here.
		_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
		s.lock.Close()
	}
}

// Dir returns the directory as it was given to Open.
func (s *Store) Dir() string { return s.dir }

// Notes says what Open found and repaired: leftovers, damaged revisions, a
// half-written audit line, a disk that can't be written.
func (s *Store) Notes() []text.Msg {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]text.Msg(nil), s.notes...)
}

// Usage returns the bytes that the directory's files hold, and the number of
// revisions.
func (s *Store) Usage() (bytes int64, revisions int) {
	for _, sub := range append([]string{"."}, subdirs...) {
		entries, _ := s.disk.list(sub)
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				bytes += info.Size()
			}
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return bytes, len(s.revisions)
}

// change runs one change of the disk, alone, and wraps its error.
func (s *Store) change(doing string, do func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return s.fail(doing, ErrClosed)
	}
	if err := do(); err != nil {
		return s.fail(doing, err)
	}
	return nil
}

// set changes the mirror of the disk; the caller holds writing.
func (s *Store) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *Store) note(m text.Msg) { s.set(func() { s.notes = append(s.notes, m) }) }

// tolerate is for repairs that a full, read-only or failing disk must not turn
// into a machine that doesn't start: such an error becomes a note.
func (s *Store) tolerate(err error) error {
	if err == nil || !isDiskTrouble(err) {
		return err
	}
	sentence, _ := Explain(s.fail("open", err))
	for _, n := range s.notes {
		if n.String() == sentence.String() {
			return nil
		}
	}
	s.note(sentence)
	return nil
}

// repair brings the directory into shape: its parts exist and are private, and
// nothing half-written lies in them. It runs before anything is read.
func (s *Store) repair() error {
	if err := s.tolerate(s.disk.chmod(".", dirMode)); err != nil {
		return err
	}
	for _, sub := range subdirs {
		if err := s.repairSubdir(sub); err != nil {
			return err
		}
	}
	for _, sub := range append([]string{"."}, subdirs...) {
		if err := s.repairFiles(sub); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) repairSubdir(sub string) error {
	info, err := s.disk.root.Lstat(sub)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.disk.mkdir(sub)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory: %w", sub, ErrForeign)
	}
	return s.tolerate(s.disk.chmod(sub, dirMode))
}

func (s *Store) repairFiles(sub string) error {
	entries, err := s.disk.list(sub)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(sub, e.Name())
		switch {
		case e.IsDir():
		case strings.HasSuffix(name, tmpSuffix):
			if err = s.disk.remove(name); err == nil {
				s.note(text.M("removed {file}, left by an interrupted write", "file", name))
			}
		case e.Type().IsRegular():
			err = s.disk.chmod(name, fileMode)
		}
		if err := s.tolerate(err); err != nil {
			return err
		}
	}
	return nil
}

// makeDurable syncs every directory: an earlier process may have been killed
// between a rename and its sync, and what this one has read and will act upon
// must not be gone after a power cut.
func (s *Store) makeDurable() error {
	for _, sub := range append([]string{"."}, subdirs...) {
		if err := s.tolerate(s.disk.syncDir(sub)); err != nil {
			return err
		}
	}
	return nil
}
