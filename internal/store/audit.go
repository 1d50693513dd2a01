package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/text"
)

// auditFile is one file of the audit log: lines of JSON, oldest first.
type auditFile struct {
	number int
	size   int64 // bytes that were acknowledged; the file may end with a failed append
}

const auditSuffix = ".jsonl"

func (a auditFile) name() string { return fmt.Sprintf("audit/%06d%s", a.number, auditSuffix) }

// AppendAudit adds one line to the audit log, durably. The line is a JSON value
// without a newline.
func (s *Store) AppendAudit(line []byte) error {
	return s.change("write the audit log", func() error {
		switch {
		case len(line) > MaxAuditLine:
			return fmt.Errorf("line of %d bytes, at most %d: %w", len(line), MaxAuditLine, ErrTooLarge)
		case bytes.IndexByte(line, '\n') >= 0 || !json.Valid(line):
			return errors.New("the line is not one line of JSON")
		}
		files, err := s.rotated(int64(len(line)) + 1)
		if err != nil {
			return err
		}
		last := &files[len(files)-1]
		if err := s.disk.appendTo(last.name(), last.size, append(slices.Clone(line), '\n')); err != nil {
			return err
		}
		if last.size == 0 {
			if err := s.disk.syncDir("audit"); err != nil {
				return err
			}
		}
		last.size += int64(len(line)) + 1
		s.set(func() { s.audit = files })
		return nil
	})
}

// rotated returns the files with one at the end that has room for so many bytes;
// a new one is not yet on disk. Surplus files are removed.
func (s *Store) rotated(room int64) ([]auditFile, error) {
	files := slices.Clone(s.audit)
	if len(files) == 0 {
		return []auditFile{{number: 1}}, nil
	}
	last := files[len(files)-1]
	if last.size > 0 && last.size+room > s.opts.AuditFileBytes {
		files = append(files, auditFile{number: last.number + 1})
	}
	for len(files) > s.opts.AuditFiles {
		if err := s.disk.remove(files[0].name()); err != nil && s.disk.exists(files[0].name()) {
			return nil, err
		}
		files = files[1:]
		s.set(func() { s.audit = s.audit[1:] })
	}
	return files, nil
}

// ReadAudit returns lines of the audit log, newest first, at most limit (and at
// most MaxAuditRead) of those that match accepts; nil accepts all. match gets a
// line that it must not keep. before is "" for the newest lines, or the next of
// an earlier call for the ones before those; next is "" when there are no more.
// It fails with ErrBadCursor when before is not such a value.
func (s *Store) ReadAudit(limit int, before string, match func(line []byte) bool) (lines [][]byte, next string, err error) {
	at, err := parseCursor(before)
	if err != nil {
		return nil, "", s.fail("read the audit log", err)
	}
	s.mu.RLock()
	files := slices.Clone(s.audit)
	s.mu.RUnlock()
	limit = min(max(limit, 1), MaxAuditRead)
	for i, file := range slices.Backward(files) {
		if file.number > at.file {
			continue
		}
		end := file.size
		if file.number == at.file {
			end = min(end, at.offset)
		}
		rest, err := s.readAuditFile(file, end, limit, match, &lines)
		if err != nil {
			return nil, "", s.fail("read the audit log", err)
		}
		if len(lines) == limit {
			if rest == 0 && i == 0 {
				return lines, "", nil
			}
			return lines, cursor{file.number, rest}.String(), nil
		}
	}
	return lines, "", nil
}

// readAuditFile adds lines of the first end bytes, last first, and returns where
// it stopped.
func (s *Store) readAuditFile(file auditFile, end int64, limit int, match func([]byte) bool, lines *[][]byte) (rest int64, err error) {
	data, err := s.disk.read(file.name(), s.maxAuditFile())
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrTooLarge) { // rotated away since, or not written by us
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	data = data[:min(end, int64(len(data)))]
	data = data[:bytes.LastIndexByte(data, '\n')+1] // a failed append may have left a part of a line
	for len(data) > 0 && len(*lines) < limit {
		start := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
		line := data[start : len(data)-1]
		data = data[:start]
		if json.Valid(line) && (match == nil || match(line)) {
			*lines = append(*lines, bytes.Clone(line))
		}
	}
	return int64(len(data)), nil
}

// maxAuditFile is the size of an audit file that is still read: a file may have
// been begun under larger Options.
func (s *Store) maxAuditFile() int64 { return max(s.opts.AuditFileBytes, 4<<20)*4 + MaxAuditLine + 1 }

// cursor is a place in the audit log: the start of the line that was read last.
type cursor struct {
	file   int
	offset int64
}

func (c cursor) String() string { return fmt.Sprintf("%d-%d", c.file, c.offset) }

func parseCursor(text string) (cursor, error) {
	if text == "" {
		return cursor{file: math.MaxInt}, nil
	}
	file, offset, ok := strings.Cut(text, "-")
	f, err1 := strconv.Atoi(file)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if !ok || err1 != nil || err2 != nil || f < 1 || o < 0 {
		return cursor{}, ErrBadCursor
	}
	return cursor{f, o}, nil
}

// loadAudit finds the files, and cuts the last one behind its last whole line: a
// crash can leave a part of a line that was never acknowledged.
func (s *Store) loadAudit() error {
	entries, err := s.disk.list("audit")
	if err != nil {
		return err
	}
	var files []auditFile
	for _, e := range entries {
		n, ok := numberOf(e.Name(), auditSuffix)
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files = append(files, auditFile{number: n, size: info.Size()})
	}
	slices.SortFunc(files, func(a, b auditFile) int { return a.number - b.number })
	files, err = s.mendAudit(files)
	s.set(func() { s.audit = files })
	return err
}

// mendAudit makes the last file fit to be written to; where it can't be read, a
// new one begins.
func (s *Store) mendAudit(files []auditFile) ([]auditFile, error) {
	if len(files) == 0 {
		return nil, nil
	}
	last := &files[len(files)-1]
	data, err := s.disk.read(last.name(), s.maxAuditFile())
	if err != nil {
		s.note(text.M("the audit log goes on in a new file, because {file} can't be read: {error}", "file", last.name(), "error", err))
		return append(files, auditFile{number: last.number + 1}), nil
	}
	return files, s.cutTornLine(last, data)
}

func (s *Store) cutTornLine(last *auditFile, data []byte) error {
	whole := int64(bytes.LastIndexByte(data, '\n') + 1)
	if torn := last.size - whole; torn > 0 {
		s.note(text.M("cut {bytes} bytes off the audit log: a line that was being written when Sluis stopped", "bytes", torn))
	}
	last.size = whole
	f, err := s.disk.root.OpenFile(last.name(), os.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		err = s.disk.cut(f, last.name(), whole)
	}
	if err == nil {
		err = s.disk.sync(f, last.name())
	}
	return s.tolerate(err)
}
