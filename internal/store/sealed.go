package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A sealed file is a document with what belongs to it in front, as two comments
// of YAML, so that one rename writes both and people can read, compare and load
// the file as it is:
//
//	# sluis revision {"number":42,"author":"ann",…,"sha256":"…","size":1234}
//	# sealed 9f86d081884c7d65…      SHA-256 of the line above with its newline
//	format: 1
//	…
//
// The header has the document's size and SHA-256; the seal guards the header, so
// that a list of revisions needs no document.

const sealPrefix = "# sealed "

// seal makes a sealed file. The header is written as JSON on one line.
func seal(kind string, header any, document []byte) ([]byte, error) {
	meta, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	line := headerPrefix(kind) + escapeBreaks(string(meta)) + "\n"
	if len(line) > MaxMarks {
		return nil, fmt.Errorf("header of %d bytes, at most %d: %w", len(line), MaxMarks, ErrTooLarge)
	}
	file := append([]byte(line), sealPrefix+sum([]byte(line))+"\n"...)
	return append(file, document...), nil
}

// readSealed returns a sealed file as it is; one that is too large wasn't written
// by us and is ErrDamaged.
func (d *disk) readSealed(name string) ([]byte, error) {
	file, err := d.read(name, MaxDocument+MaxMarks+1024)
	if errors.Is(err, ErrTooLarge) {
		return nil, fmt.Errorf("%s is too large: %w", name, ErrDamaged)
	}
	return file, err
}

// unseal reads the header of a sealed file into header and returns the length of
// both comment lines. Whatever is wrong with it is ErrDamaged.
func unseal(kind string, r io.Reader, header any) (length int64, err error) {
	lines := bufio.NewReader(io.LimitReader(r, MaxMarks+1024))
	line, err := lines.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("header ends early: %w", ErrDamaged)
	}
	seal, err := lines.ReadString('\n')
	if err != nil || seal != sealPrefix+sum([]byte(line))+"\n" {
		return 0, fmt.Errorf("header does not match its seal: %w", ErrDamaged)
	}
	meta, ok := strings.CutPrefix(line, headerPrefix(kind))
	if !ok || json.Unmarshal([]byte(meta), header) != nil {
		return 0, fmt.Errorf("header is not of a %s: %w", kind, ErrDamaged)
	}
	return int64(len(line) + len(seal)), nil
}

// unsealAll is unseal with the document behind it, not yet checked.
func unsealAll(kind string, file []byte, header any) (document []byte, err error) {
	length, err := unseal(kind, bytes.NewReader(file), header)
	if err != nil {
		return nil, err
	}
	return file[length:], nil
}

func headerPrefix(kind string) string { return "# sluis " + kind + " " }

// escapeBreaks escapes the characters that JSON leaves alone in a string and
// that YAML takes for a line break or refuses in a comment.
func escapeBreaks(meta string) string {
	var b strings.Builder
	for _, r := range meta {
		if r >= 0x7f && r < 0xa0 || r == '\ufeff' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
