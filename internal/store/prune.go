package store

import (
	"errors"
	"slices"
)

// Pruned is what one Prune removed.
type Pruned struct {
	Revisions []int    // numbers, oldest first
	Secrets   []string // references, sorted
	// SecretsSpared says that no secret was removed because a kept revision's
	// header is damaged, so that what it names isn't known.
	SecretsSpared bool
}

// Prune removes the oldest revisions until the rest is within
// Options.MaxRevisions and MaxRevisionBytes, and then the secrets that no kept
// revision and none of live names. It never removes the running, the pending, a
// pinned or the newest revision.
//
// live are the references that stand anywhere else: in the candidate, and in
// other rooms' state. A secret is often kept before anything names it, so the
// caller keeps other changes out while it collects live and while Prune runs: a
// secret that is put in between and not in live is gone.
func (s *Store) Prune(live []string) (Pruned, error) {
	var p Pruned
	err := s.change("remove old revisions", func() (err error) {
		live, err = normalRefs(live)
		if err != nil {
			return err
		}
		if err := s.pruneRevisions(&p); err != nil {
			return err
		}
		return s.pruneSecrets(&p, live)
	})
	return p, err
}

func (s *Store) pruneRevisions(p *Pruned) error {
	for _, r := range s.surplus() {
		err := s.disk.remove(revisionFile(r.Number))
		if err != nil && s.disk.exists(revisionFile(r.Number)) {
			return err
		}
		s.set(func() {
			if i, ok := s.find(r.Number); ok {
				s.revisions = slices.Delete(s.revisions, i, i+1)
			}
		})
		p.Revisions = append(p.Revisions, r.Number)
	}
	// Before any secret goes: a power cut must not bring a revision back whose
	// secrets are gone. Also when nothing was removed now: an earlier Prune may
	// have failed here.
	return s.disk.syncDir("revisions")
}

// surplus returns the revisions to remove, oldest first.
func (s *Store) surplus() (gone []Revision) {
	count, bytes := len(s.revisions), int64(0)
	for _, r := range s.revisions {
		bytes += r.Size
	}
	for i, r := range slices.Backward(s.revisions) {
		if count <= s.opts.MaxRevisions && bytes <= s.opts.MaxRevisionBytes {
			break
		}
		pending := s.head.Pending != nil && s.head.Pending.Revision == r.Number
		if i == 0 || r.Pinned || pending || s.head.Running == r.Number {
			continue
		}
		count--
		bytes -= r.Size
		gone = append(gone, r)
	}
	return gone
}

func (s *Store) pruneSecrets(p *Pruned, live []string) error {
	named := map[string]bool{}
	for _, ref := range live {
		named[ref] = true
	}
	for _, r := range s.revisions {
		if r.Damaged && r.SecretRefs == nil {
			p.SecretsSpared = true
			return nil
		}
		for _, ref := range r.SecretRefs {
			named[ref] = true
		}
	}
	refs, err := s.Secrets()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if named[ref] {
			continue
		}
		file, err := secretFile(ref)
		if err == nil {
			err = s.disk.remove(file)
		}
		if err != nil {
			return errors.Join(err, s.disk.syncDir("secrets"))
		}
		p.Secrets = append(p.Secrets, ref)
	}
	return s.disk.syncDir("secrets")
}
