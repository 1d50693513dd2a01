package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sluis/internal/text"
)

// Phase says how far a pending revision is.
type Phase string

// Phases of a pending revision.
const (
	Applying Phase = "applying" // its steps are being done or undone
	Waiting  Phase = "waiting"  // all steps are done; it waits for confirmation
)

// Pending is the revision that is being applied or waits for confirmation.
type Pending struct {
	Revision int `json:"revision"`
	// Deadline is when the running revision returns unless this one is confirmed;
	// the zero time means there is none.
	Deadline time.Time `json:"deadline,omitzero"`
	Phase    Phase     `json:"phase"`
}

// head is head.json: both numbers in one file, so that each step from one state
// to the next is one rename.
//
//	         SetPending               SetRunning
//	(r, –)  ────────────►  (r, p)  ────────────►  (p, –)
//	   ▲                      │
//	   └──────────────────────┘
//	         ClearPending
type head struct {
	Running int      `json:"running"` // 0 means none yet
	Pending *Pending `json:"pending,omitempty"`
}

const (
	headFile = "head.json"
	maxHead  = 4 << 10 // bytes
)

var errHeadDamaged = fmt.Errorf("%s: %w", headFile, ErrDamaged)

// Running returns the number of the running revision; false before the first.
// Its document may still be damaged or missing: Revision says.
func (s *Store) Running() (number int, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head.Running, s.head.Running != 0
}

// Pending returns the pending revision, false if there is none.
func (s *Store) Pending() (Pending, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.head.Pending == nil {
		return Pending{}, false
	}
	return *s.head.Pending, true
}

// SetPending makes a revision pending, or changes its deadline or phase. The
// running one stays. It fails with ErrNotFound if there is no such revision.
func (s *Store) SetPending(p Pending) error {
	return s.change("set the pending revision", func() error {
		if p.Phase != Applying && p.Phase != Waiting {
			return fmt.Errorf("phase %q is not known", p.Phase)
		}
		if err := s.mustExist(p.Revision); err != nil {
			return err
		}
		p.Deadline = p.Deadline.Round(0).UTC()
		return s.writeHead(head{Running: s.head.Running, Pending: &p})
	})
}

// SetRunning makes a revision the running one, and none pending, in one step. It
// fails with ErrNotFound if there is no such revision.
func (s *Store) SetRunning(number int) error {
	return s.change("set the running revision", func() error {
		if err := s.mustExist(number); err != nil {
			return err
		}
		return s.writeHead(head{Running: number})
	})
}

// ClearPending makes none pending; the running one stays. It writes even if none
// is pending: after a failed SetPending the disk may know one that memory
// doesn't.
func (s *Store) ClearPending() error {
	return s.change("clear the pending revision", func() error {
		return s.writeHead(head{Running: s.head.Running})
	})
}

func (s *Store) mustExist(number int) error {
	if _, ok := s.find(number); !ok {
		return fmt.Errorf("revision %d: %w", number, ErrNotFound)
	}
	return nil
}

func (s *Store) writeHead(next head) error {
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := s.disk.replace(headFile, append(data, '\n')); err != nil {
		return err
	}
	s.set(func() { s.head = next })
	return nil
}

func (s *Store) loadHead() error {
	data, err := s.disk.read(headFile, maxHead)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var h head
	if err := json.Unmarshal(data, &h); err != nil || h.Running < 0 || h.Pending != nil && h.Pending.Revision < 1 {
		return errHeadDamaged
	}
	s.set(func() { s.head = h })
	numbers := []int{h.Running}
	if h.Pending != nil {
		numbers = append(numbers, h.Pending.Revision)
	}
	for _, n := range numbers {
		if _, ok := s.find(n); !ok && n != 0 {
			s.note(text.M("revision {number} is in use, but its file is missing", "number", n))
		}
		s.set(func() { s.highest = max(s.highest, n) })
	}
	return nil
}
