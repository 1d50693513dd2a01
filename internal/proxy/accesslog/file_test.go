package accesslog

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// diskLog is a file under a clock that the test moves.
type diskLog struct {
	*file
	t     *testing.T
	clock time.Time
}

func newDiskLog(t *testing.T, s Sink) *diskLog {
	t.Helper()
	d := &diskLog{t: t, clock: time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)}
	if s.Path == "" {
		s.Path = filepath.Join(t.TempDir(), "access.log")
	}
	var err error
	d.file, err = openFile(s, func() time.Time { return d.clock }, new(atomic.Uint64))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func (d *diskLog) put(lines string) {
	d.t.Helper()
	if n, err := d.write([]byte(lines)); err != nil || n != len(lines) {
		d.t.Fatalf("write %q = %d, %v", lines, n, err)
	}
}

// want compares all files of the log, by the end of their names.
func (d *diskLog) want(want map[string]string) {
	d.t.Helper()
	got := map[string]string{}
	names, _ := filepath.Glob(d.Path + "*")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			d.t.Fatal(err)
		}
		got[strings.TrimPrefix(name, d.Path)] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestRotationBySize(t *testing.T) {
	d := newDiskLog(t, Sink{MaxBytes: 10, Keep: 2})
	d.put("1234\n6789\n") // to the last byte
	d.want(map[string]string{"": "1234\n6789\n"})
	d.put("a\nb\nc\nd\ne\nf\ng\n") // over two files
	d.want(map[string]string{"": "f\ng\n", ".1": "a\nb\nc\nd\ne\n", ".2": "1234\n6789\n"})
	d.put("a line that fits nowhere\nx\n") // has a file of its own
	d.want(map[string]string{"": "x\n", ".1": "a line that fits nowhere\n", ".2": "f\ng\n"})
	if n := d.rotations.Load(); n != 4 {
		t.Errorf("%d rotations counted, want 4", n)
	}
	d.Keep = 0
	d.retain()
	d.put("123456789\n")
	d.want(map[string]string{"": "123456789\n"})
}

func TestRotationByTime(t *testing.T) {
	d := newDiskLog(t, Sink{RotateEvery: 24 * time.Hour, Keep: 3, MaxAge: 36 * time.Hour})
	stamp := func() { // the file system's clock isn't ours
		names, _ := filepath.Glob(d.Path + "*")
		for _, name := range names {
			if info, _ := os.Stat(name); time.Since(info.ModTime()) < time.Hour {
				_ = os.Chtimes(name, d.clock, d.clock)
			}
		}
	}
	d.put("monday\n")
	stamp()
	d.clock = d.clock.Add(11*time.Hour + 59*time.Minute)
	d.put("before midnight\n")
	stamp()
	// A restart doesn't forget the day of the last line.
	d.close()
	d.clock = d.clock.Add(2 * time.Minute)
	if err := d.reopen(); err != nil {
		t.Fatal(err)
	}
	d.put("tuesday\n")
	stamp()
	d.want(map[string]string{"": "tuesday\n", ".1": "monday\nbefore midnight\n"})
	d.clock = d.clock.Add(24 * time.Hour)
	d.tend() // without a line
	d.want(map[string]string{"": "", ".1": "tuesday\n", ".2": "monday\nbefore midnight\n"})
	d.clock = d.clock.Add(12 * time.Hour)
	d.tend() // an empty file isn't rotated, an old one goes
	d.want(map[string]string{"": "", ".1": "tuesday\n"})
}

// A write that fails in the middle of a line leaves no torn line, counts what is
// lost, and the log goes on when there is room again.
func TestADiskThatIsFull(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	d := newDiskLog(t, Sink{})
	limit := func(n uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: ^uint64(0)}); err != nil {
			t.Skipf("needs to change the largest size of a file: %v", err)
		}
	}
	limit(12)
	n, err := d.write([]byte("12345\n12345\n12345\n"))
	again, errAgain := d.write([]byte("x\n"))
	limit(^uint64(0))
	if n != 12 || err == nil || again != 0 || errAgain == nil {
		t.Fatalf("writes on a full disk: %d, %v, then %d, %v", n, err, again, errAgain)
	}
	d.want(map[string]string{"": "12345\n12345\n"})
	d.clock = d.clock.Add(reopenEvery)
	limit(15)
	n, err = d.write([]byte("abcdef\n"))
	limit(^uint64(0))
	if n != 0 || err == nil {
		t.Errorf("a line was torn and counted: %d, %v", n, err)
	}
	d.want(map[string]string{"": "12345\n12345\n"})
	d.clock = d.clock.Add(reopenEvery)
	d.put("after\n")
	d.want(map[string]string{"": "12345\n12345\nafter\n"})
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte("torn by a power cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newLog(t, Options{Sink: Sink{Path: path}, FlushEvery: time.Hour})
	w := g.Writer()
	r := sample()
	put := func() {
		w.Append(HTTPLog, &r, true)
		flush(t, g)
	}
	put()
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	put() // still into the moved one
	if err := g.Reopen(); err != nil {
		t.Fatal(err)
	}
	put()
	line := string(AppendHTTPLog(nil, &r, true)) + "\n"
	for name, want := range map[string]string{path + ".moved": "torn by a power cut\n" + line + line, path: line} {
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", filepath.Base(name), err, got)
		}
	}

	// Another sink gets what comes after; one that can't be opened changes nothing.
	if err := g.Configure(Options{Sink: Sink{Path: filepath.Join(path, "no directory")}}); err == nil {
		t.Error("Configure with a path below a file gives no error")
	}
	put()
	second := path + "2"
	if err := g.Configure(Options{Sink: Sink{Path: second, MaxBytes: int64(2 * len(line)), Keep: 1}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		put()
	}
	got, _ := os.ReadFile(path)
	got2, _ := os.ReadFile(second + ".1")
	got3, _ := os.ReadFile(second)
	if !bytes.Equal(got, []byte(line+line)) || string(got2) != line+line || string(got3) != line {
		t.Errorf("after Configure: %q, %q, %q", got, got2, got3)
	}
	if stats := g.Stats(); stats.Written != 7 || stats.Lost != 0 || stats.Rotations != 1 || fmt.Sprint(stats.Bytes) != fmt.Sprint(7*len(line)) {
		t.Errorf("stats are %+v", stats)
	}
}
