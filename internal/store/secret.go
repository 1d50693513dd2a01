package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A reference names a secret from a document:
//
//	key:HEX       a private key; HEX is the SHA-256 of its public key (64 digits)
//	secret:HEX    anything else; HEX is random (32 digits)
const (
	keyPrefix    = "key:"
	secretPrefix = "secret:"
)

// NewSecretRef makes a reference for a secret that isn't a key.
func NewSecretRef() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return secretPrefix + hex.EncodeToString(id[:])
}

// PutSecret keeps a secret under its reference, durably. Keeping the same again
// does nothing. A key may come again in another encoding, which then replaces
// the first; another value under a secret: reference is refused with ErrExists,
// because revisions that name it would change.
func (s *Store) PutSecret(ref string, value []byte) error {
	return s.change("keep a secret", func() error {
		file, err := secretFile(ref)
		if err != nil {
			return err
		}
		if len(value) > MaxSecret {
			return fmt.Errorf("%s has %d bytes, at most %d: %w", ref, len(value), MaxSecret, ErrTooLarge)
		}
		old, err := s.disk.read(file, MaxSecret)
		switch {
		case err == nil && bytes.Equal(old, value):
			return s.disk.syncDir(path.Dir(file)) // an earlier try may have failed at this
		case err == nil && strings.HasPrefix(ref, secretPrefix):
			return fmt.Errorf("%s: %w", ref, ErrExists)
		}
		return s.disk.replace(file, value)
	})
}

// Secret returns a secret. It fails with ErrNotFound, or ErrBadRef.
func (s *Store) Secret(ref string) ([]byte, error) {
	file, err := secretFile(ref)
	if err == nil {
		var value []byte
		if value, err = s.disk.read(file, MaxSecret); err == nil {
			return value, nil
		}
	}
	return nil, s.fail("read a secret", err)
}

// HasSecret reports whether there is a secret of that reference.
func (s *Store) HasSecret(ref string) bool {
	file, err := secretFile(ref)
	return err == nil && s.disk.exists(file)
}

// Secrets returns the references of all secrets, sorted.
func (s *Store) Secrets() ([]string, error) {
	entries, err := s.disk.list("secrets")
	if err != nil {
		return nil, s.fail("list the secrets", err)
	}
	var refs []string
	for _, e := range entries {
		if ref, ok := refOf(e.Name()); ok {
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	return refs, nil
}

func secretFile(ref string) (string, error) {
	if id, ok := strings.CutPrefix(ref, keyPrefix); ok && isHex(id, 64) {
		return "secrets/key-" + id + ".pem", nil
	}
	if id, ok := strings.CutPrefix(ref, secretPrefix); ok && isHex(id, 32) {
		return "secrets/secret-" + id, nil
	}
	return "", fmt.Errorf("%d characters: %w", len(ref), ErrBadRef) // it may be a secret in the wrong place
}

// refOf is the inverse of secretFile, of the name without its directory.
func refOf(name string) (string, bool) {
	for prefix, of := range map[string]string{"key-": keyPrefix, "secret-": secretPrefix} {
		id, ok := strings.CutPrefix(name, prefix)
		ref := of + strings.TrimSuffix(id, ".pem")
		if file, err := secretFile(ref); ok && err == nil && path.Base(file) == name {
			return ref, true
		}
	}
	return "", false
}

func isHex(id string, digits int) bool {
	return len(id) == digits && strings.Trim(id, "0123456789abcdef") == ""
}

// normalRefs checks references and returns them sorted, each once, never nil.
func normalRefs(refs []string) ([]string, error) {
	refs = append([]string{}, refs...)
	for _, ref := range refs {
		if _, err := secretFile(ref); err != nil {
			return nil, err
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs), nil
}
