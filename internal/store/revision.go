package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluis/internal/text"
)

// Revision describes one saved document.
type Revision struct {
	Number int `json:"number"` // from 1; never used twice
	Parent int `json:"parent"` // the revision it was made from; 0 means none
	// Time is when it was saved; zero when saving means now, in UTC.
	Time   time.Time `json:"time"`
	Author string    `json:"author"`
	From   string    `json:"from"` // address of the author, or "local"
	// Comment is the author's; may be empty.
	Comment string `json:"comment"`
	// Format is the document's format number.
	Format int `json:"format"`
	// Restores is the number of the revision that this one brings back; 0 means
	// it brings back none.
	Restores int `json:"restores,omitempty"`
	// Pinned keeps it from being pruned.
	Pinned bool `json:"pinned"`
	// SecretRefs are the secrets that the document names; Prune keeps those.
	SecretRefs []string `json:"secret_refs"`
	// SHA256 and Size, in bytes, are the document's.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Damaged says that the file can't be read. If the header is at fault then
	// only Number, Time (of the file) and Size are known, and SecretRefs is nil.
	Damaged bool `json:"damaged,omitempty"`
}

const (
	revisionKind   = "revision"
	revisionSuffix = ".yaml"
)

func revisionFile(number int) string {
	return fmt.Sprintf("revisions/%06d%s", number, revisionSuffix)
}

// numberOf returns the number in a file name such as 000042.yaml; false if the
// name isn't exactly the one that the number would get.
func numberOf(name, suffix string) (int, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0 && digits == fmt.Sprintf("%06d", n)
}

// SaveRevision saves a document as a new revision, durably, and returns its
// description. Of meta it takes all but Number, SHA256, Size, Pinned and
// Damaged; a zero Time means now. The number is one above the highest ever used.
func (s *Store) SaveRevision(meta Revision, document []byte) (Revision, error) {
	err := s.change("save a revision", func() (err error) {
		if meta.SecretRefs, err = normalRefs(meta.SecretRefs); err != nil {
			return err
		}
		if meta.Time.IsZero() {
			meta.Time = time.Now().UTC()
		}
		meta.Number = s.highest + 1
		meta.Time = meta.Time.Round(0)
		meta.SHA256, meta.Size = sum(document), int64(len(document))
		meta.Pinned, meta.Damaged = false, false
		if err := s.writeRevision(meta, document); err != nil {
			s.abandon(meta.Number)
			return err
		}
		s.set(func() {
			s.highest = meta.Number
			s.revisions = slices.Insert(s.revisions, 0, meta)
		})
		return nil
	})
	if err != nil {
		return Revision{}, err
	}
	return meta, nil
}

func (s *Store) writeRevision(meta Revision, document []byte) error {
	if len(document) > MaxDocument {
		return fmt.Errorf("document of %d bytes, at most %d: %w", len(document), MaxDocument, ErrTooLarge)
	}
	file, err := seal(revisionKind, meta, document)
	if err != nil {
		return err
	}
	return s.disk.replace(revisionFile(meta.Number), file)
}

// abandon takes back a revision whose directory couldn't be synced. The file was
// seen on disk, so its number is used.
func (s *Store) abandon(number int) {
	if s.disk.exists(revisionFile(number)) {
		s.set(func() { s.highest = number })
		_ = s.disk.remove(revisionFile(number)) // if it stays, it is one more whole revision
	}
}

// Revision returns a revision and its document. It fails with ErrNotFound, or
// with ErrDamaged when the file isn't what was saved.
func (s *Store) Revision(number int) (Revision, []byte, error) {
	r, document, err := s.readRevision(number)
	if err != nil {
		return Revision{}, nil, s.fail(fmt.Sprintf("read revision %d", number), err)
	}
	return r, document, nil
}

func (s *Store) readRevision(number int) (r Revision, document []byte, err error) {
	file, err := s.disk.readSealed(revisionFile(number))
	if err != nil {
		return Revision{}, nil, err
	}
	document, err = unsealAll(revisionKind, file, &r)
	if err != nil {
		return Revision{}, nil, err
	}
	if r.Number != number {
		return Revision{}, nil, fmt.Errorf("the file holds revision %d: %w", r.Number, ErrDamaged)
	}
	if sum(document) != r.SHA256 {
		return Revision{}, nil, fmt.Errorf("the document does not match its SHA-256: %w", ErrDamaged)
	}
	return r, document, nil
}

// Revisions returns the descriptions of all revisions, newest first. The
// documents are not read, so one may turn out damaged later.
func (s *Store) Revisions() []Revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := slices.Clone(s.revisions)
	for i := range list {
		list[i].SecretRefs = slices.Clone(list[i].SecretRefs)
	}
	return list
}

// Pin keeps a revision from being pruned, or no longer does. It fails with
// ErrNotFound, ErrDamaged, or ErrTooManyPinned.
func (s *Store) Pin(number int, pinned bool) error {
	return s.change(fmt.Sprintf("pin revision %d", number), func() error {
		r, document, err := s.readRevision(number)
		if err != nil {
			return err
		}
		if pinned && !r.Pinned && s.countPinned() >= MaxPinned {
			return ErrTooManyPinned
		}
		r.Pinned = pinned
		err = s.writeRevision(r, document)
		s.reload(number)
		return err
	})
}

// reload reads a header again: a failed write may have left the old or the new,
// and Prune must know.
func (s *Store) reload(number int) {
	r, err := s.loadRevision(number)
	i, ok := s.find(number)
	if err == nil && ok {
		s.set(func() { s.revisions[i] = r })
	}
}

func (s *Store) countPinned() (n int) {
	for _, r := range s.revisions {
		if r.Pinned {
			n++
		}
	}
	return n
}

// find returns the index of a revision; the caller holds a lock.
func (s *Store) find(number int) (int, bool) {
	return slices.BinarySearchFunc(s.revisions, number, func(r Revision, n int) int { return n - r.Number })
}

// loadRevisions reads the header of each revision.
func (s *Store) loadRevisions() error {
	entries, err := s.disk.list("revisions")
	if err != nil {
		return err
	}
	var found []Revision
	for _, e := range entries {
		n, ok := numberOf(e.Name(), revisionSuffix)
		if !ok {
			continue
		}
		r, err := s.loadRevision(n)
		if err != nil {
			return err
		}
		if r.Damaged {
			s.note(text.M("revision {number} is damaged", "number", n))
		}
		found = append(found, r)
	}
	slices.SortFunc(found, func(a, b Revision) int { return b.Number - a.Number })
	s.set(func() {
		s.revisions = found
		if len(found) > 0 {
			s.highest = found[0].Number
		}
	})
	return nil
}

func (s *Store) loadRevision(number int) (Revision, error) {
	f, info, err := s.disk.open(revisionFile(number))
	if errors.Is(err, ErrDamaged) {
		return Revision{Number: number, Damaged: true}, nil
	}
	if err != nil {
		return Revision{}, err
	}
	defer f.Close()
	var r Revision
	length, err := unseal(revisionKind, f, &r)
	if err != nil || r.Number != number {
		return Revision{Number: number, Time: info.ModTime().UTC(), Size: info.Size(), Damaged: true}, nil
	}
	r.Damaged = info.Size() != length+r.Size
	return r, nil
}
