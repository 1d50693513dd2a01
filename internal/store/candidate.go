package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
)

// candidateHeader stands in front of the candidate, the document that
// administrators are editing: sealed like a revision, with the marks of who
// edited what.
type candidateHeader struct {
	SHA256 string          `json:"sha256"`
	Marks  json.RawMessage `json:"marks"`
}

const (
	candidateKind = "candidate"
	candidateFile = "candidate.yaml"
	asideFile     = "candidate.damaged.yaml"
)

// SaveCandidate replaces the candidate and its edit marks, in one step. The marks
// are JSON, or nil for none.
func (s *Store) SaveCandidate(document, marks []byte) error {
	return s.change("save the candidate", func() error {
		if len(document) > MaxDocument {
			return fmt.Errorf("document of %d bytes, at most %d: %w", len(document), MaxDocument, ErrTooLarge)
		}
		if marks == nil {
			marks = []byte("null")
		}
		file, err := seal(candidateKind, candidateHeader{SHA256: sum(document), Marks: marks}, document)
		if err != nil {
			return err
		}
		return s.disk.replace(candidateFile, file)
	})
}

// Candidate returns the candidate and its marks as JSON, nil if it has none; ok
// is false if there is no candidate. It fails with ErrDamaged.
func (s *Store) Candidate() (document, marks []byte, ok bool, err error) {
	file, err := s.disk.readSealed(candidateFile)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, false, nil
	}
	var header candidateHeader
	if err == nil {
		document, err = unsealAll(candidateKind, file, &header)
	}
	if err == nil && sum(document) != header.SHA256 {
		err = fmt.Errorf("the document does not match its SHA-256: %w", ErrDamaged)
	}
	if err != nil {
		return nil, nil, false, s.fail("read the candidate", err)
	}
	if !bytes.Equal(header.Marks, []byte("null")) {
		marks = header.Marks
	}
	return document, marks, true, nil
}

// SetCandidateAside moves a candidate that is of no use out of the way, for people
// to look at, in the place of one that was set aside before. It returns the file's
// path.
func (s *Store) SetCandidateAside() (string, error) {
	err := s.change("set the candidate aside", func() error {
		if err := s.disk.rename(candidateFile, asideFile); err != nil {
			return err
		}
		return s.disk.syncDir(".")
	})
	return filepath.Join(s.dir, asideFile), err
}

// DropCandidate removes the candidate and its marks; there may be none.
func (s *Store) DropCandidate() error {
	return s.change("drop the candidate", func() error {
		return s.disk.drop(candidateFile)
	})
}
