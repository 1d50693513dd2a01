package store

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// runScript opens the directory and runs the script, and reports each
// acknowledged step; 0 is Open.
func runScript(dir string, fault func(op, path string) error, acknowledged func(step int)) (*Store, error) {
	s, err := Open(dir, scriptOptions(fault))
	if err != nil {
		return nil, err
	}
	acknowledged(0)
	for i, st := range script() {
		if err := st.do(s); err != nil {
			return s, fmt.Errorf("%s: %w", st.name, err)
		}
		acknowledged(i + 1)
	}
	return s, nil
}

// countPoints returns how many times a whole script passes the fault hook.
func countPoints(t *testing.T) (n int) {
	t.Helper()
	s, err := runScript(filepath.Join(scratchDir(t), "state"), func(string, string) error { n++; return nil }, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	return n
}

// The process is really killed, by SIGKILL to itself, before each operation on
// the disk; then again while it repairs; and the next one finds all that the
// first acknowledged.
func TestKilledAtEveryPoint(t *testing.T) {
	if spec := os.Getenv("SLUIS_STORE_CRASH"); spec != "" {
		crash(t, spec)
		return
	}
	every := 1
	if testing.Short() {
		every = 9
	}
	all := worlds(script())
	scratch, points := scratchDir(t), countPoints(t)
	for k := 1; k <= points; k += every {
		dir := filepath.Join(scratch, strconv.Itoa(k))
		step := killedAt(t, dir, k)
		killedAt(t, dir, 1+k%7) // in the Open that repairs
		before, after := around(all, step)
		if err := checkWorld(dir, before, after); err != nil {
			t.Fatalf("killed at point %d, after step %d: %v", k, step, err)
		}
	}
}

// around returns what was there after a step, and what the next one, which was
// interrupted, was to make of it. Step 0 is Open; -1 means it was interrupted.
func around(all []world, step int) (before, after world) {
	return all[max(step, 0)], all[min(step+1, len(all)-1)]
}

// killedAt runs the script in a child that dies at point k, and returns the last
// acknowledged step; -1 if there is none.
func killedAt(t *testing.T, dir string, k int) (step int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledAtEveryPoint$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("SLUIS_STORE_CRASH=%d:%s", k, dir))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("child for point %d: %v, want it killed\n%s", k, err, out)
	}
	step = -1
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
			step, _ = strconv.Atoi(n)
		}
	}
	return step
}

// crash is the child. In a directory that an earlier child left it only repairs:
// the script is not repeated.
func crash(t *testing.T, spec string) {
	at, dir, _ := strings.Cut(spec, ":")
	k, _ := strconv.Atoi(at)
	die := func(string, string) error {
		if k--; k == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, formatFile)); err == nil {
		s, err := Open(dir, scriptOptions(die))
		if err != nil {
			t.Fatal(err)
		}
		for { // it takes at most a few points to die
			_ = s.disk.syncDir(".")
		}
	}
	_, err := runScript(dir, die, func(step int) {
		fmt.Fprintf(os.Stdout, "acknowledged %d\n", step)
	})
	t.Fatalf("the script ended: %v", err)
}

// Each operation in turn fails once: the change fails and leaves the old or the
// new, in memory and on disk, and works when it is tried again: then what the
// first try left undone is made good, as a power cut shows.
func TestFailureAtEveryPoint(t *testing.T) {
	all, steps := worlds(script()), script()
	broken := errors.New("broken")
	scratch, points := scratchDir(t), countPoints(t)
	for k := 1; k <= points; k++ {
		dir := filepath.Join(scratch, strconv.Itoa(k))
		rec := &recorder{dir: dir}
		n, done := 0, -1
		where := ""
		s, err := runScript(dir, func(op, path string) error {
			if n++; n == k {
				rec.finish()
				where = op + " " + path
				return broken
			}
			return rec.fault(op, path)
		}, func(step int) { done = step })
		switch {
		case err == nil:
			t.Fatalf("point %d (%s): nothing failed", k, where)
		case !errors.Is(err, broken):
			t.Fatalf("point %d (%s): %v, want the disk's error in it", k, where, err)
		case s == nil: // Open failed: the next one works
			if err := checkWorld(dir, all[0], all[0]); err != nil {
				t.Fatalf("point %d (%s): %v", k, where, err)
			}
			continue
		}
		got, err := observe(s)
		if err := errors.Join(err, between(all[done], all[done+1], got)); err != nil {
			t.Fatalf("point %d (%s), process went on after %s failed: %v", k, where, steps[done].name, err)
		}
		if err := retry(s, steps[done], all[done+1]); err != nil {
			t.Fatalf("point %d (%s): %v", k, where, err)
		}
		rec.finish()
		s.Close()
		if !strings.HasPrefix(steps[done].name, "save") { // it may have another number, see retry
			replay(rec.ops).powerCut(t, dir+"-cut", 0, nil)
			if err := checkWorld(dir+"-cut", all[done+1], all[done+1]); err != nil {
				t.Fatalf("point %d (%s), then a power cut: %v", k, where, err)
			}
		}
		if err := checkWorld(dir, all[done], all[done+1]); err != nil {
			t.Fatalf("point %d (%s), reopened: %v", k, where, err)
		}
	}
}

// retry does a failed step again. A revision may then have another number: the
// one that it had was seen on the disk.
func retry(s *Store, st step, want world) error {
	if err := st.do(s); err != nil {
		return fmt.Errorf("%s again: %w", st.name, err)
	}
	got, err := observe(s)
	if newest := s.Revisions(); strings.HasPrefix(st.name, "save") {
		n, _ := strconv.Atoi(strings.TrimPrefix(st.name, "save "))
		if newest[0].Number == n+1 {
			got.Revisions[n] = got.Revisions[n+1]
			delete(got.Revisions, n+1)
			err = errors.Join(err, s.disk.root.Rename(revisionFile(n+1), revisionFile(n)+".away"))
		}
	}
	return errors.Join(err, between(want, want, got))
}

// The power is cut: what was not synced is lost, kept or torn, in any mixture.
// The operations of the script are recorded and replayed on a model of a disk
// that promises what POSIX promises and no more:
//
//   - a file's content is safe after its sync; before, it may be missing, cut
//     short, or zeros of the right length;
//   - a name that was made, changed or removed is so for sure after the sync of
//     its directory; before, each such change may be there or not.
func TestPowerCutAtEveryPoint(t *testing.T) {
	rec := &recorder{dir: filepath.Join(scratchDir(t), "state")}
	var acknowledgedAt []int // per step, the operations done by then
	s, err := runScript(rec.dir, rec.fault, func(int) {
		rec.finish()
		acknowledgedAt = append(acknowledgedAt, len(rec.ops))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	all := worlds(script())
	random := 4
	if os.Getenv("SLUIS_LONG") != "" {
		random = 60
	}
	scratch := scratchDir(t)
	step := -1
	for k := 0; k <= len(rec.ops); k++ {
		for step+1 < len(acknowledgedAt) && acknowledgedAt[step+1] <= k {
			step++
		}
		before, after := around(all, step)
		for variant := range 4 + random {
			dir := filepath.Join(scratch, fmt.Sprintf("%d-%d", k, variant))
			rng := rand.New(rand.NewPCG(uint64(k), uint64(variant)))
			replay(rec.ops[:k]).powerCut(t, dir, variant, rng)
			if err := interruptedOpen(dir, rng); err != nil {
				t.Fatalf("%v, in the Open after a power cut", err)
			}
			if err := checkWorld(dir, before, after); err != nil {
				t.Fatalf("power cut before operation %d, variant %d, after step %d, operations %v: %v",
					k, variant, step, rec.ops[max(0, k-6):k], err)
			}
			os.RemoveAll(dir)
		}
	}
}

// The process dies, another opens the directory and acts on what it finds; then
// the power is cut. What was found must still be there.
func TestWhatOpenFoundSurvivesPowerCut(t *testing.T) {
	scratch, points := scratchDir(t), countPoints(t)
	dead := errors.New("dead")
	for k := 2; k <= points; k++ {
		rec := &recorder{dir: filepath.Join(scratch, strconv.Itoa(k))}
		n := 0
		s, err := runScript(rec.dir, func(op, path string) error {
			if n++; n >= k {
				rec.finish()
				return dead
			}
			return rec.fault(op, path)
		}, func(int) {})
		if !errors.Is(err, dead) {
			t.Fatalf("point %d: %v", k, err)
		}
		if s != nil {
			s.Close()
		}
		s, err = Open(rec.dir, scriptOptions(rec.fault))
		if err != nil {
			t.Fatalf("point %d: %v", k, err)
		}
		rec.finish()
		found, err := observe(s)
		s.Close()
		for variant := range 8 {
			dir := filepath.Join(scratch, fmt.Sprintf("%d-%d", k, variant))
			replay(rec.ops).powerCut(t, dir, variant, rand.New(rand.NewPCG(uint64(k), uint64(variant))))
			if err := errors.Join(err, checkWorld(dir, found, found)); err != nil {
				t.Fatalf("died at point %d, then opened, then power cut, variant %d: %v", k, variant, err)
			}
		}
	}
}

// interruptedOpen opens the directory with a disk that stops working at a random
// point.
func interruptedOpen(dir string, rng *rand.Rand) error {
	stop, n := 1+rng.IntN(12), 0
	s, err := Open(dir, scriptOptions(func(string, string) error {
		if n++; n >= stop {
			return syscall.ENODEV
		}
		return nil
	}))
	if err == nil {
		return s.Close()
	}
	if !errors.Is(err, syscall.ENODEV) {
		return err
	}
	return nil
}

// scratchDir is in memory where there is such a place: the model knows what is
// synced, so the test need not wait for a disk.
func scratchDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sluis-store-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// operation is one recorded change; content is what the file held after it.
type operation struct {
	op, path string
	content  []byte
}

func (o operation) String() string { return o.op + " " + o.path }

// recorder is a fault hook that looks at the real directory to see what the
// operation before did.
type recorder struct {
	dir  string
	last *operation
	ops  []operation
}

func (r *recorder) fault(op, path string) error {
	r.finish()
	r.last = &operation{op: op, path: path}
	return nil
}

func (r *recorder) finish() {
	if r.last == nil {
		return
	}
	switch r.last.op {
	case "write", "append", "truncate":
		r.last.content, _ = os.ReadFile(filepath.Join(r.dir, r.last.path))
	}
	r.ops = append(r.ops, *r.last)
	r.last = nil
}

// model is a disk: what is on it for sure, and what happened since.
type model struct {
	live    map[string]*inode            // path → file, as the process sees it
	durable map[string]map[string]*inode // directory → name → file, for sure
	changes map[string][]change          // directory → changes since its sync
}

type inode struct {
	dir              bool
	content, durable []byte
	synced           bool
}

// change sets names in a directory; nil removes one.
type change map[string]*inode

func replay(ops []operation) *model {
	m := &model{live: map[string]*inode{}, durable: map[string]map[string]*inode{}, changes: map[string][]change{}}
	for _, o := range ops {
		m.do(o)
	}
	return m
}

func (m *model) do(o operation) {
	switch o.op {
	case "create", "append":
		if o.op == "append" && m.live[o.path] != nil {
			m.write(o)
			return
		}
		m.enter(o.path, &inode{synced: true})
		m.write(o)
	case "mkdir":
		if o.path != "." {
			m.enter(o.path, &inode{dir: true})
		}
	case "write", "truncate":
		m.write(o)
	case "sync":
		file := m.live[o.path]
		file.durable, file.synced = file.content, true
	case "rename":
		dir, name := path.Split(o.path)
		file := m.live[o.path+tmpSuffix]
		delete(m.live, o.path+tmpSuffix)
		m.live[o.path] = file
		m.note(dir, change{name: file, name + tmpSuffix: nil})
	case "remove":
		dir, name := path.Split(o.path)
		delete(m.live, o.path)
		m.note(dir, change{name: nil})
	case "syncdir":
		dir := path.Clean(o.path)
		for _, c := range m.changes[dir] {
			m.apply(dir, c)
		}
		m.changes[dir] = nil
	}
}

func (m *model) enter(name string, file *inode) {
	m.live[name] = file
	dir, base := path.Split(name)
	m.note(dir, change{base: file})
}

func (m *model) write(o operation) {
	file := m.live[o.path]
	file.content, file.synced = o.content, false
}

func (m *model) note(dir string, c change) {
	dir = path.Clean(dir)
	m.changes[dir] = append(m.changes[dir], c)
}

func (m *model) apply(dir string, c change) {
	if m.durable[dir] == nil {
		m.durable[dir] = map[string]*inode{}
	}
	for name, file := range c {
		m.durable[dir][name] = file
		if file == nil {
			delete(m.durable[dir], name)
		}
	}
}

// powerCut writes what is left to a fresh directory. Variants 0 to 3 lose or keep
// all changes of names and lose or keep all unsynced content; the others decide
// each by chance, with torn content too.
func (m *model) powerCut(t *testing.T, root string, variant int, rng *rand.Rand) {
	t.Helper()
	for _, dir := range slices.Sorted(maps.Keys(m.changes)) { // sorted: what is by chance repeats with its seed
		for _, c := range m.changes[dir] {
			if variant == 1 || variant == 3 || variant > 3 && rng.IntN(2) == 0 {
				m.apply(dir, c)
			}
		}
	}
	if err := os.Mkdir(root, dirMode); err != nil {
		t.Fatal(err)
	}
	for _, dir := range append([]string{"."}, subdirs...) {
		if dir != "." {
			if m.durable["."][dir] == nil {
				continue // lost with all that is in it
			}
			if err := os.Mkdir(filepath.Join(root, dir), dirMode); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(m.durable[dir])) {
			file := m.durable[dir][name]
			if file.dir {
				continue
			}
			content := file.afterCut(variant, rng)
			if err := os.WriteFile(filepath.Join(root, dir, name), content, fileMode); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (f *inode) afterCut(variant int, rng *rand.Rand) []byte {
	fate := variant / 2 // 0: lost, 1: kept
	if variant > 3 {
		fate = rng.IntN(4)
	}
	grown := max(0, len(f.content)-len(f.durable))
	switch {
	case f.synced || fate == 0:
		return f.durable
	case fate == 1:
		return f.content
	case fate == 2:
		return f.content[:len(f.content)-grown/2]
	default:
		return append(append([]byte{}, f.content[:len(f.content)-grown]...), make([]byte, grown)...)
	}
}
