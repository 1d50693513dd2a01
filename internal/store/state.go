package store

import (
	"errors"
	"fmt"
	"strings"
)

// PutState keeps another room's state, durably, in place of what it kept before.
// The name has lower-case letters, digits, ".", "_" and "-", like "auth.json".
func (s *Store) PutState(name string, data []byte) error {
	return s.change("keep state", func() error {
		file, err := stateFile(name)
		if err != nil {
			return err
		}
		if len(data) > MaxState {
			return fmt.Errorf("state %s has %d bytes, at most %d: %w", name, len(data), MaxState, ErrTooLarge)
		}
		return s.disk.replace(file, data)
	})
}

// State returns what PutState kept under the name. It fails with ErrNotFound.
func (s *Store) State(name string) ([]byte, error) {
	file, err := stateFile(name)
	if err == nil {
		var data []byte
		if data, err = s.disk.read(file, MaxState); err == nil {
			return data, nil
		}
	}
	return nil, s.fail("read state", err)
}

// DropState removes what PutState kept under the name; there may be none.
func (s *Store) DropState(name string) error {
	return s.change("drop state", func() error {
		file, err := stateFile(name)
		if err != nil {
			return err
		}
		return s.disk.drop(file)
	})
}

func stateFile(name string) (string, error) {
	const chars = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	if name == "" || len(name) > 64 || name[0] == '.' ||
		strings.Trim(name, chars) != "" || strings.HasSuffix(name, tmpSuffix) {
		return "", fmt.Errorf("state name %q: %w", name, errBadName)
	}
	return "state/" + name, nil
}

var errBadName = errors.New("not a name for state")
