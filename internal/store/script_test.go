package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The script is a life of a state directory that passes every kind of change. A
// world says what a reader must find after each step: the slow twin of the store.

type world struct {
	Head      string            // running and pending
	Candidate string            // document and marks
	Revisions map[int]string    // number → pinned, references, document
	Secrets   map[string]string // reference → value
	States    map[string]string // name → data
	Audit     []string          // all lines ever acknowledged, oldest first
}

func (w world) clone() world {
	w.Revisions, w.Secrets, w.States = maps.Clone(w.Revisions), maps.Clone(w.Secrets), maps.Clone(w.States)
	w.Audit = slices.Clone(w.Audit)
	return w
}

type step struct {
	name   string
	do     func(s *Store) error
	effect func(w *world)
}

var (
	keyA    = "key:" + strings.Repeat("a", 64)
	keyB    = "key:" + strings.Repeat("b", 64)
	secretC = "secret:" + strings.Repeat("c", 32)
	due     = time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
)

const auditPerFile = 3 // lines of the script that fit a file

func scriptOptions(fault func(op, path string) error) Options {
	return Options{
		MaxRevisions: 3, AuditFiles: 3,
		AuditFileBytes: int64(auditPerFile * (len(auditLine(0)) + 1)),
		Fault:          fault,
	}
}

func auditLine(n int) string { return fmt.Sprintf(`{"n":%04d,"what":"applied"}`, n+1000) }

func script() []step {
	var steps []step
	add := func(name string, do func(s *Store) error, effect func(w *world)) {
		steps = append(steps, step{name, do, effect})
	}
	secret := func(ref, value string) {
		add("put "+ref[:8], func(s *Store) error { return s.PutSecret(ref, []byte(value)) },
			func(w *world) { w.Secrets[ref] = value })
	}
	save := func(n int, refs ...string) {
		document := fmt.Sprintf("format: 1\nhostname: box%d\n", n)
		add(fmt.Sprintf("save %d", n), func(s *Store) error {
			_, err := s.SaveRevision(Revision{Parent: n - 1, Time: due, Author: "ann", SecretRefs: refs}, []byte(document))
			return err
		}, func(w *world) { w.Revisions[n] = describe(false, refs, document) })
	}
	pending := func(n int, phase Phase) {
		p := Pending{Revision: n, Phase: phase}
		if phase == Waiting {
			p.Deadline = due
		}
		add(fmt.Sprintf("pending %d %s", n, phase), func(s *Store) error { return s.SetPending(p) },
			func(w *world) { w.Head = strings.Split(w.Head, "|")[0] + "|" + fmt.Sprint(p) })
	}
	running := func(n int) {
		add(fmt.Sprintf("running %d", n), func(s *Store) error { return s.SetRunning(n) },
			func(w *world) { w.Head = fmt.Sprint(n, "|") })
	}
	candidate := func(document, marks string) {
		add("candidate "+marks, func(s *Store) error { return s.SaveCandidate([]byte(document), []byte(marks)) },
			func(w *world) { w.Candidate = document + marks })
	}
	state := func(name, data string) {
		add("state "+name, func(s *Store) error { return s.PutState(name, []byte(data)) },
			func(w *world) { w.States[name] = data })
	}
	pin := func(n int, pinned bool) {
		add(fmt.Sprintf("pin %d %v", n, pinned), func(s *Store) error { return s.Pin(n, pinned) },
			func(w *world) {
				_, rest, _ := strings.Cut(w.Revisions[n], " ")
				w.Revisions[n] = fmt.Sprint(pinned, " ", rest)
			})
	}
	lines := 0
	audit := func() {
		line := auditLine(lines)
		lines++
		add("audit "+line, func(s *Store) error { return s.AppendAudit([]byte(line)) },
			func(w *world) { w.Audit = append(w.Audit, line) })
	}
	prune := func(live, goneRefs []string, gone ...int) {
		add(fmt.Sprintf("prune %v", gone), func(s *Store) error { _, err := s.Prune(live); return err },
			func(w *world) {
				for _, n := range gone {
					delete(w.Revisions, n)
				}
				for _, ref := range goneRefs {
					delete(w.Secrets, ref)
				}
			})
	}

	secret(keyA, "key A")
	save(1, keyA)
	pending(1, Applying)
	pending(1, Waiting)
	running(1)
	audit()
	candidate("a: 1\n", `{"a":"ann"}`)
	secret(secretC, "secret C")
	candidate("a: 2\nb: 3\n", `{"a":"bob"}`)
	save(2, keyA, secretC)
	pending(2, Waiting)
	add("roll back", func(s *Store) error { return s.ClearPending() }, func(w *world) { w.Head = "1|" })
	audit()
	state("auth.json", `{"v":1}`)
	state("auth.json", `{"v":2,"more":true}`)
	save(3, keyA)
	pin(3, true)
	running(3)
	add("drop candidate", func(s *Store) error { return s.DropCandidate() }, func(w *world) { w.Candidate = "" })
	secret(keyB, "key B")
	save(4, keyB)
	save(5, keyB)
	prune(nil, []string{secretC}, 1, 2)
	pin(3, false)
	pending(5, Applying)
	running(5)
	for range 3 * auditPerFile {
		audit()
	}
	save(6)
	prune([]string{keyB}, []string{keyA}, 3)
	add("drop state", func(s *Store) error { return s.DropState("auth.json") }, func(w *world) { delete(w.States, "auth.json") })
	return steps
}

// worlds returns what must be found before the first step, after it, and so on.
func worlds(steps []step) []world {
	w := world{Head: "0|", Revisions: map[int]string{}, Secrets: map[string]string{}, States: map[string]string{}}
	all := []world{w}
	for _, st := range steps {
		w = w.clone()
		st.effect(&w)
		all = append(all, w)
	}
	return all
}

func describe(pinned bool, refs []string, document string) string {
	return fmt.Sprint(pinned, " ", refs, " ", document)
}

// observe reads all that a store gives; whatever it lists must be readable.
func observe(s *Store) (w world, err error) {
	w = worlds(nil)[0]
	number, _ := s.Running()
	w.Head = fmt.Sprint(number, "|")
	if p, ok := s.Pending(); ok {
		w.Head += fmt.Sprint(p)
	}
	document, marks, _, err := s.Candidate()
	w.Candidate = string(document) + string(marks)
	for _, r := range s.Revisions() {
		full, document, err1 := s.Revision(r.Number)
		if err1 == nil && !cmp.Equal(full, r) {
			err1 = fmt.Errorf("revision %d listed as %+v, read as %+v", r.Number, r, full)
		}
		err = errors.Join(err, err1)
		w.Revisions[r.Number] = describe(r.Pinned, r.SecretRefs, string(document))
		for _, ref := range r.SecretRefs {
			if !s.HasSecret(ref) {
				err = errors.Join(err, fmt.Errorf("revision %d names %s, which is gone", r.Number, ref))
			}
		}
	}
	refs, err1 := s.Secrets()
	err = errors.Join(err, err1)
	for _, ref := range refs {
		value, err1 := s.Secret(ref)
		err = errors.Join(err, err1)
		w.Secrets[ref] = string(value)
	}
	if data, err1 := s.State("auth.json"); err1 == nil {
		w.States["auth.json"] = string(data)
	} else if !errors.Is(err1, ErrNotFound) {
		err = errors.Join(err, err1)
	}
	lines, _, err1 := s.ReadAudit(MaxAuditRead, "", nil)
	for _, line := range slices.Backward(lines) {
		w.Audit = append(w.Audit, string(line))
	}
	return w, errors.Join(err, err1)
}

// between checks that each file was found as it was before a step or as it is
// after it.
func between(before, after, got world) error {
	var errs []error
	either := func(what string, got, before, after any) {
		if !cmp.Equal(got, before) && !cmp.Equal(got, after) {
			errs = append(errs, fmt.Errorf("%s is %q, want %q or %q", what, got, before, after))
		}
	}
	either("head", got.Head, before.Head, after.Head)
	either("candidate", got.Candidate, before.Candidate, after.Candidate)
	eitherOf(either, "revision", got.Revisions, before.Revisions, after.Revisions)
	eitherOf(either, "secret", got.Secrets, before.Secrets, after.Secrets)
	eitherOf(either, "state", got.States, before.States, after.States)
	if !isAudit(got.Audit, before.Audit) && !isAudit(got.Audit, after.Audit) {
		errs = append(errs, fmt.Errorf("audit is %q, want the end of %q or %q", got.Audit, before.Audit, after.Audit))
	}
	return errors.Join(errs...)
}

func eitherOf[K comparable](either func(string, any, any, any), what string, got, before, after map[K]string) {
	keys := maps.Clone(got)
	maps.Copy(keys, before)
	maps.Copy(keys, after)
	for k := range keys {
		either(fmt.Sprint(what, " ", k), got[k], before[k], after[k])
	}
}

// isAudit reports whether got is all lines, but for files that rotation may have
// removed: with three files, two of them full, or one when a fourth was begun.
func isAudit(got, all []string) bool {
	kept := min(len(all), 2*auditPerFile)
	return len(got) >= kept && len(got) <= len(all) && slices.Equal(got, all[len(all)-len(got):])
}

// checkWorld opens a directory in which a step was interrupted, and checks what
// is there and that the store can be used on.
func checkWorld(dir string, before, after world) error {
	s, err := Open(dir, scriptOptions(nil))
	if err != nil {
		return err
	}
	defer s.Close()
	got, err := observe(s)
	if err := errors.Join(err, between(before, after, got)); err != nil {
		return err
	}
	if leftovers, _ := filepath.Glob(filepath.Join(dir, "*", "*"+tmpSuffix)); len(leftovers) > 0 {
		return fmt.Errorf("leftovers %q", leftovers)
	}
	return goOn(s, got, before)
}

// goOn makes one of each change after a crash: the numbers go on above all that
// were acknowledged or found.
func goOn(s *Store, found, acknowledged world) error {
	used := append(slices.Collect(maps.Keys(found.Revisions)), slices.Collect(maps.Keys(acknowledged.Revisions))...)
	r, err := s.SaveRevision(Revision{}, []byte("on"))
	if err != nil {
		return err
	}
	if len(used) > 0 && r.Number <= slices.Max(used) {
		return fmt.Errorf("new revision has number %d, but %d was used", r.Number, slices.Max(used))
	}
	err = errors.Join(s.SetRunning(r.Number), s.AppendAudit([]byte(`"on"`)), s.PutSecret(keyA, []byte("on")), s.PutState("auth.json", nil),
		s.SaveCandidate([]byte("on"), nil))
	if err != nil {
		return err
	}
	got, err := observe(s)
	want := fmt.Sprint(r.Number, "|")
	if got.Head != want || got.Candidate != "on" || got.Secrets[keyA] != "on" || got.Audit[len(got.Audit)-1] != `"on"` {
		return errors.Join(err, fmt.Errorf("going on after a crash gave %+v", got))
	}
	return err
}

func TestScriptMatchesItsWorlds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	steps := script()
	all := worlds(steps)
	for i, st := range steps {
		s, err := Open(dir, scriptOptions(nil)) // each step on a fresh Open: nothing hides in memory
		if err != nil {
			t.Fatal(err)
		}
		if err := st.do(s); err != nil {
			t.Fatalf("%s: %v", st.name, err)
		}
		got, err := observe(s)
		if err != nil {
			t.Fatalf("after %s: %v", st.name, err)
		}
		if err := between(all[i+1], all[i+1], got); err != nil {
			t.Fatalf("after %s: %v", st.name, err)
		}
		if notes := s.Notes(); len(notes) > 0 {
			t.Errorf("%s: notes %v on a healthy directory", st.name, notes)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
