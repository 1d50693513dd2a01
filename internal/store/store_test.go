package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func open(t *testing.T, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What is saved comes back, whatever people write into a comment, and stays in
// comments of YAML.
func TestRevisionRoundTrip(t *testing.T) {
	s := open(t, filepath.Join(scratchDir(t), "state"), Options{})
	rapid.Check(t, func(t *rapid.T) {
		meta := Revision{
			Parent: rapid.IntRange(0, 9).Draw(t, "parent"), Author: rapid.String().Draw(t, "author"), From: "local",
			Comment: rapid.String().Draw(t, "comment") + "\u0085\x7f\n\u2028\ufeff'\"", Format: 1, Restores: rapid.IntRange(0, 9).Draw(t, "restores"),
			SecretRefs: []string{keyA, secretC}, Time: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 5).UTC(),
		}
		document := rapid.SliceOf(rapid.Byte()).Draw(t, "document")
		saved, err := s.SaveRevision(meta, document)
		if err != nil {
			t.Fatal(err)
		}
		got, gotDocument, err := s.Revision(saved.Number)
		if err != nil || !bytes.Equal(gotDocument, document) {
			t.Fatalf("Revision = %q, %v, want %q", gotDocument, err, document)
		}
		meta.Number, meta.SHA256, meta.Size = saved.Number, sum(document), int64(len(document))
		if diff := cmp.Diff([]Revision{meta, meta}, []Revision{saved, got}); diff != "" {
			t.Fatalf("(-given +saved, read):\n%s", diff)
		}
		file, _ := os.ReadFile(filepath.Join(s.Dir(), revisionFile(saved.Number)))
		head := bytes.TrimSuffix(file, document)
		strange := func(r rune) bool {
			return r != '\n' && (unicode.IsControl(r) || strings.ContainsRune("\u2028\u2029\ufeff", r))
		}
		if bytes.Count(head, []byte("\n")) != 2 || bytes.ContainsFunc(head, strange) {
			t.Fatalf("header %q is not two plain lines", head)
		}
	})
}

// No byte of a sealed file can change, and no end of it can be lost, unnoticed.
func TestDamageIsNoticed(t *testing.T) {
	s, _ := settle(t, filepath.Join(scratchDir(t), "state"))
	reads := map[string]func() error{
		revisionFile(1): func() error { _, _, err := s.Revision(1); return err },
		candidateFile:   func() error { _, _, _, err := s.Candidate(); return err },
	}
	for name, read := range reads {
		file := filepath.Join(s.Dir(), name)
		intact, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f := func(what string, content []byte) {
			t.Helper()
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := read(); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s with %s: %v, want ErrDamaged", name, what, err)
			}
		}
		for i := range intact {
			f(fmt.Sprintf("byte %d flipped", i), slices.Concat(intact[:i], []byte{intact[i] ^ 0x20}, intact[i+1:]))
			f(fmt.Sprintf("only %d bytes", i), intact[:i])
		}
		f("a byte more", append(slices.Clone(intact), '\n'))
		f("too much", make([]byte, MaxDocument+MaxMarks+2048))
		if err := os.WriteFile(file, intact, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(); err != nil {
			t.Errorf("%s, intact again: %v", name, err)
		}
	}
}

// A damaged revision is listed as such, stops nothing, and keeps the secrets that
// it may name.
func TestDamagedRevisionsAreListed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := settle(t, dir)
	s.Close()
	for n, content := range map[int]string{1: "hostname: lost its header\n", 2: ""} {
		if err := os.WriteFile(filepath.Join(dir, revisionFile(n)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Options{})
	var got []string
	for _, r := range s.Revisions() {
		got = append(got, fmt.Sprint(r.Number, r.Damaged))
	}
	if diff := cmp.Diff([]string{"2 true", "1 true"}, got); diff != "" {
		t.Errorf("Revisions() (-want +got):\n%s", diff)
	}
	if n, ok := s.Running(); n != 1 || !ok {
		t.Errorf("Running() = %d, %v, want 1", n, ok)
	}
	if notes := fmt.Sprint(s.Notes()); !strings.Contains(notes, "revision 1 is damaged") {
		t.Errorf("Notes() = %s", notes)
	}
	if err := s.Pin(1, true); !errors.Is(err, ErrDamaged) {
		t.Errorf("Pin: %v, want ErrDamaged", err)
	}
	p, err := s.Prune(nil)
	if err != nil || !p.SecretsSpared || !s.HasSecret(keyA) {
		t.Errorf("Prune = %+v, %v, and key A kept: %v", p, err, s.HasSecret(keyA))
	}
}

// Files that are gone from under the head are said, and their numbers stay used.
func TestMissingRevisionsAreSaid(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := settle(t, dir)
	if err := s.SetPending(Pending{Revision: 2, Phase: Applying}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for n := 1; n <= 2; n++ {
		if err := os.Remove(filepath.Join(dir, revisionFile(n))); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Options{})
	want := "[revision 1 is in use, but its file is missing revision 2 is in use, but its file is missing]"
	if got := fmt.Sprint(s.Notes()); got != want {
		t.Errorf("Notes() = %s, want %s", got, want)
	}
	if _, _, err := s.Revision(1); !errors.Is(err, ErrNotFound) {
		t.Errorf("Revision(1): %v, want ErrNotFound", err)
	}
	if r, err := s.SaveRevision(Revision{}, nil); r.Number != 3 || err != nil {
		t.Errorf("the next revision has number %d, %v, want 3", r.Number, err)
	}
}

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	const total, limit = 520, 500
	s := open(t, filepath.Join(scratchDir(t), "state"), Options{})
	ref := func(n int) string { return fmt.Sprintf("secret:%032x", n) }
	for n := 1; n <= total; n++ {
		if err := s.PutSecret(ref(n), []byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SaveRevision(Revision{SecretRefs: []string{ref(n), keyA}}, []byte("d")); err != nil {
			t.Fatal(err)
		}
	}
	for _, extra := range []string{keyA, keyB, ref(total + 1), ref(total + 2)} {
		if err := s.PutSecret(extra, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(s.Pin(2, true), s.SetRunning(4), s.SetPending(Pending{Revision: 6, Phase: Waiting}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Prune([]string{ref(total + 1), ref(1)}) // the candidate's: one new, one of a revision that goes
	if err != nil {
		t.Fatal(err)
	}
	want := Pruned{Secrets: []string{keyB}}
	for n := 1; len(want.Revisions) < total-limit; n++ {
		if n == 2 || n == 4 || n == 6 {
			continue
		}
		want.Revisions = append(want.Revisions, n)
		if n != 1 {
			want.Secrets = append(want.Secrets, ref(n))
		}
	}
	want.Secrets = append(want.Secrets, ref(total+2))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Prune (-want +got):\n%s", diff)
	}
	if _, n := s.Usage(); n != limit {
		t.Errorf("%d revisions left, want %d", n, limit)
	}
	for _, n := range []int{2, 4, 6, total} {
		if _, _, err := s.Revision(n); err != nil || !s.HasSecret(ref(n)) {
			t.Errorf("revision %d: %v, with its secret: %v", n, err, s.HasSecret(ref(n)))
		}
	}
	if _, _, err := s.Revision(1); !errors.Is(err, ErrNotFound) {
		t.Errorf("pruned revision: %v, want ErrNotFound", err)
	}
}

func TestPruneByBytes(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state"), Options{MaxRevisionBytes: 250})
	for range 5 {
		if _, err := s.SaveRevision(Revision{}, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := s.Prune(nil); err != nil || !slices.Equal(p.Revisions, []int{1, 2, 3}) {
		t.Errorf("Prune = %v, %v, want 1, 2, 3 gone", p.Revisions, err)
	}
	s.opts.MaxRevisionBytes = 10
	if p, err := s.Prune(nil); err != nil || !slices.Equal(p.Revisions, []int{4}) {
		t.Errorf("Prune = %v, %v, want the newest kept", p.Revisions, err)
	}
}

func TestPinsAreLimited(t *testing.T) {
	s := open(t, filepath.Join(scratchDir(t), "state"), Options{})
	for n := 1; n <= MaxPinned+1; n++ {
		if _, err := s.SaveRevision(Revision{}, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Pin(n, true); (err != nil) != (n > MaxPinned) || err != nil && !errors.Is(err, ErrTooManyPinned) {
			t.Fatalf("Pin(%d): %v", n, err)
		}
	}
	if err := errors.Join(s.Pin(1, true), s.Pin(1, false), s.Pin(MaxPinned+1, true)); err != nil {
		t.Errorf("pin again, unpin, pin another: %v", err)
	}
}

func TestRefusedArguments(t *testing.T) {
	s, settled := settle(t, filepath.Join(t.TempDir(), "state"))
	save := func(meta Revision, size int) error {
		_, err := s.SaveRevision(meta, make([]byte, size))
		return err
	}
	err := errors.Join(s.PutSecret(secretC, []byte("C")), s.PutSecret(secretC, []byte("C")), s.PutSecret(keyA, []byte("key A, encoded anew")))
	if err != nil {
		t.Fatal(err)
	}
	settled.Secrets[secretC], settled.Secrets[keyA] = "C", "key A, encoded anew"
	tests := map[string]struct{ got, want error }{
		"document too large":      {save(Revision{}, MaxDocument+1), ErrTooLarge},
		"comment too large":       {save(Revision{Comment: strings.Repeat("x", MaxMarks)}, 1), ErrTooLarge},
		"reference in no form":    {save(Revision{SecretRefs: []string{"hunter2"}}, 1), ErrBadRef},
		"candidate too large":     {s.SaveCandidate(make([]byte, MaxDocument+1), nil), ErrTooLarge},
		"marks too large":         {s.SaveCandidate(nil, fmt.Appendf(nil, "%q", strings.Repeat("x", MaxMarks))), ErrTooLarge},
		"secret too large":        {s.PutSecret(keyB, make([]byte, MaxSecret+1)), ErrTooLarge},
		"secret of another value": {s.PutSecret(secretC, []byte("other")), ErrExists},
		"state too large":         {s.PutState("a", make([]byte, MaxState+1)), ErrTooLarge},
		"audit line too large":    {s.AppendAudit(fmt.Appendf(nil, "%q", strings.Repeat("x", MaxAuditLine))), ErrTooLarge},
		"running unknown":         {s.SetRunning(77), ErrNotFound},
		"running none":            {s.SetRunning(0), ErrNotFound},
		"pending unknown":         {s.SetPending(Pending{Revision: 77, Phase: Applying}), ErrNotFound},
		"pin unknown":             {s.Pin(77, true), ErrNotFound},
		"state unknown":           {second(s.State("nothing")), ErrNotFound},
		"secret unknown":          {second(s.Secret(keyB)), ErrNotFound},
		"prune with a bad ref":    {second(s.Prune([]string{"key:xyz"})), ErrBadRef},
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", "x.tmp", "A", ".hidden", "a b", strings.Repeat("x", 65)} {
		tests["state name "+name] = struct{ got, want error }{s.PutState(name, nil), errBadName}
	}
	for _, ref := range []string{"", "key:", "key:../../x", "secret:" + strings.Repeat("c", 31), "secret:" + strings.Repeat("C", 32), "key:" + secretC} {
		tests["reference "+ref] = struct{ got, want error }{s.PutSecret(ref, nil), ErrBadRef}
	}
	for name, tt := range tests {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
		if strings.Contains(fmt.Sprint(tt.got), "hunter2") {
			t.Errorf("%s: %v shows what may be a secret", name, tt.got)
		}
	}
	for name, err := range map[string]error{
		"pending in no phase": s.SetPending(Pending{Revision: 1}),
		"two audit lines":     s.AppendAudit([]byte("1\n2")),
		"audit line no JSON":  s.AppendAudit([]byte("applied")),
		"marks no JSON":       s.SaveCandidate(nil, []byte("ann")),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if diff := cmp.Diff(settled, look(t, s)); diff != "" {
		t.Errorf("what was refused left (-settled +now):\n%s", diff)
	}
}

func second[T any](_ T, err error) error { return err }

func TestClosed(t *testing.T) {
	s, _ := settle(t, filepath.Join(t.TempDir(), "state"))
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	changes := bigChanges()
	changes["Secret"] = func(s *Store) error { return second(s.Secret(keyA)) }
	changes["Revision"] = func(s *Store) error { _, _, err := s.Revision(1); return err }
	changes["Secrets"] = func(s *Store) error { return second(s.Secrets()) }
	changes["ReadAudit"] = func(s *Store) error { _, _, err := s.ReadAudit(1, "", nil); return err }
	for name, do := range changes {
		if err := do(s); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

func TestNewSecretRef(t *testing.T) {
	a, b := NewSecretRef(), NewSecretRef()
	if refs, err := normalRefs([]string{a, b}); err != nil || len(refs) != 2 {
		t.Errorf("normalRefs(%q, %q) = %q, %v, want two references", a, b, refs, err)
	}
}

// Reading the audit log page by page against its slow twin, a list.
func TestAuditPages(t *testing.T) {
	scratch, run := scratchDir(t), 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		s, err := Open(filepath.Join(scratch, fmt.Sprint(run)), Options{AuditFileBytes: 100})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		even := func(line []byte) bool { return line[len(line)-1]%2 == 0 }
		var all, want []string
		for n := range rapid.IntRange(0, 60).Draw(t, "lines") {
			line := fmt.Sprintf("%d%d", rapid.IntRange(1, 1e9).Draw(t, "line"), n)
			if err := s.AppendAudit([]byte(line)); err != nil {
				t.Fatal(err)
			}
			all = append(all, line)
		}
		match := map[bool]func([]byte) bool{true: even}[rapid.Bool().Draw(t, "only even")]
		for _, line := range slices.Backward(all) {
			if match == nil || match([]byte(line)) {
				want = append(want, line)
			}
		}
		limit := rapid.IntRange(1, 70).Draw(t, "limit")
		var got []string
		for next, pages := "", 0; pages == 0 || next != ""; pages++ {
			var lines [][]byte
			if lines, next, err = s.ReadAudit(limit, next, match); err != nil {
				t.Fatal(err)
			}
			if len(lines) > limit || len(lines) < limit && next != "" {
				t.Fatalf("page of %d lines, limit %d, next %q", len(lines), limit, next)
			}
			for _, line := range lines {
				got = append(got, string(line))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("all pages (-want +got):\n%s", diff)
		}
		for _, cursor := range []string{"x", "1", "-1-2", "1-", "0-0", "1--1"} {
			if _, _, err := s.ReadAudit(1, cursor, nil); !errors.Is(err, ErrBadCursor) {
				t.Fatalf("ReadAudit before %q: %v, want ErrBadCursor", cursor, err)
			}
		}
	})
}

func TestAuditIsBounded(t *testing.T) {
	s := open(t, filepath.Join(scratchDir(t), "state"), Options{AuditFileBytes: 100, AuditFiles: 3})
	for n := range 200 {
		if err := s.AppendAudit(fmt.Appendf(nil, "%d", 1_000_000_000+n)); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := os.ReadDir(filepath.Join(s.Dir(), "audit"))
	lines, _, err := s.ReadAudit(1000, "", nil)
	if len(files) != 3 || len(lines) < 19 || len(lines) > 27 || string(lines[0]) != "1000000199" {
		t.Errorf("%d files, %d lines from %s on, %v", len(files), len(lines), lines[0], err)
	}
}

// Whatever happened to the audit log, it is written on, and what is whole in it
// is read.
func TestAuditAfterDamage(t *testing.T) {
	tests := map[string]struct {
		content string
		want    []string
	}{
		"torn line":     {"1\n2\n{\"who\":\"an", []string{"1", "2"}},
		"zeros":         {"1\n\x00\x00\x00\x00", []string{"1"}},
		"garbage line":  {"1\n\x00gar\n3\n", []string{"1", "3"}},
		"only a part":   {"{\"who", nil},
		"not ours":      {strings.Repeat("x", 20<<20), nil},
		"nothing in it": {"", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			open(t, dir, Options{}).Close()
			if err := os.WriteFile(filepath.Join(dir, "audit", "000001.jsonl"), []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, Options{})
			if file, _ := os.ReadFile(filepath.Join(dir, "audit", "000001.jsonl")); len(file) > 0 && len(file) < 1000 && file[len(file)-1] != '\n' {
				t.Errorf("after Open the file ends in %q", file)
			}
			if err := s.AppendAudit([]byte(`"new"`)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append(slices.Clone(tt.want), `"new"`), look(t, s).Audit); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// failing makes a fault hook that fails the given operations, each once.
func failing(ops ...string) func(op, path string) error {
	return func(op, path string) error {
		if i := slices.Index(ops, op+" "+path); i >= 0 {
			ops = slices.Delete(ops, i, i+1)
			return syscall.EIO
		}
		return nil
	}
}

// A line that couldn't be synced, and couldn't be taken back either, is gone when
// the next one is written, also if that one is shorter.
func TestAuditAfterFailedAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	const file = "audit/000001.jsonl"
	s := open(t, dir, Options{Fault: failing("sync "+file, "truncate "+file)})
	if err := s.AppendAudit([]byte(`"a long line that fails"`)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("AppendAudit: %v, want EIO", err)
	}
	if err := s.AppendAudit([]byte(`"ok"`)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, file)); string(got) != "\"ok\"\n" {
		t.Errorf("the file reads %q, want only the line that was acknowledged", got)
	}
}

// A revision whose directory couldn't be synced doesn't come back after a
// restart, and its number isn't used again.
func TestFailedRevisionIsTakenBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir, Options{})
	s.disk.fault = failing("syncdir revisions")
	if _, err := s.SaveRevision(Revision{}, []byte("failed")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("SaveRevision: %v, want EIO", err)
	}
	if list, err := filepath.Glob(filepath.Join(dir, "revisions", "*")); len(list) > 0 || err != nil {
		t.Errorf("the failed revision left %q", list)
	}
	if r, err := s.SaveRevision(Revision{}, []byte("saved")); r.Number != 2 {
		t.Errorf("the next revision has number %d, %v, want 2", r.Number, err)
	}
}

// Readers and changes at once; run with -race.
func TestConcurrentUse(t *testing.T) {
	s, _ := settle(t, filepath.Join(scratchDir(t), "state"))
	const each = 30
	var changes, readers sync.WaitGroup
	done := make(chan struct{})
	for name, do := range map[string]func(n int) error{
		"save": func(n int) error { return second(s.SaveRevision(Revision{}, fmt.Append(nil, n))) },
		"head": func(n int) error {
			return errors.Join(s.SetPending(Pending{Revision: 2, Phase: Waiting}), s.SetRunning(2))
		},
		"audit": func(n int) error { return s.AppendAudit(fmt.Append(nil, n)) },
		"pin":   func(n int) error { return s.Pin(1, n%2 == 0) },
		"draft": func(n int) error { return s.SaveCandidate(fmt.Append(nil, n), nil) },
	} {
		changes.Go(func() {
			for n := range each {
				if err := do(n); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, r := range s.Revisions() {
					if _, _, err := s.Revision(r.Number); err != nil {
						t.Error(err)
					}
				}
				_, _, ok, err := s.Candidate()
				_, _, err2 := s.ReadAudit(10, "", nil)
				if !ok || err != nil || err2 != nil {
					t.Errorf("candidate %v, %v; audit %v", ok, err, err2)
				}
				s.Pending()
				s.Usage()
			}
		})
	}
	changes.Wait()
	close(done)
	readers.Wait()
	if got := look(t, s); len(got.Revisions) != each+2 || len(got.Audit) != each+1 || got.Head != "2|" {
		t.Errorf("%d revisions, %d audit lines, head %s", len(got.Revisions), len(got.Audit), got.Head)
	}
}

func TestExplainDiskErrors(t *testing.T) {
	s := &Store{dir: "/var/lib/sluis"}
	for cause, want := range map[error]string{
		syscall.ENOSPC:    "the disk of the state directory /var/lib/sluis is full; nothing was changed",
		syscall.EDQUOT:    "the disk quota for the state directory /var/lib/sluis is used up; nothing was changed",
		syscall.EROFS:     "the disk of the state directory /var/lib/sluis is read-only; nothing was changed",
		syscall.EACCES:    "Sluis may not write to the state directory /var/lib/sluis",
		syscall.EIO:       "the disk of the state directory /var/lib/sluis reports an error",
		ErrClosed:         "the state directory /var/lib/sluis is closed: Sluis is stopping",
		ErrTooManyPinned:  "100 revisions are pinned already",
		ErrBadRef:         "state directory /var/lib/sluis, save: not a reference of a secret",
		&LockedError{}:    "the state directory /var/lib/sluis is in use by another process",
		errors.New("odd"): "state directory /var/lib/sluis, save: odd",
	} {
		wrapped := fmt.Errorf("control: %w", s.fail("save", &os.PathError{Op: "openat", Path: "x", Err: cause}))
		if _, plain := cause.(syscall.Errno); !plain {
			wrapped = fmt.Errorf("control: %w", s.fail("save", cause))
		}
		if got, _ := Explain(wrapped); got.String() != want {
			t.Errorf("Explain(%v) = %q, want %q", cause, got, want)
		}
	}
}
