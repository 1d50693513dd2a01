package loop

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// newLoop is a loop with a clock that only the test moves; it is closed at the end.
func newLoop(t testing.TB) (l *Loop, clock *int64) {
	t.Helper()
	clock = new(int64)
	*clock = int64(time.Hour)
	l, err := New(Options{Now: func() int64 { return *clock }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, clock
}

// pair is two connected non-blocking sockets; the test closes them with others'.
func pair(t testing.TB) (ours, theirs int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// owner notes what it was told, then does what the test wants.
type owner struct {
	File
	told []Events
	do   func(Events)
}

func (o *owner) Ready(e Events) {
	o.told = append(o.told, e)
	if o.do != nil {
		o.do(e)
	}
}

// open registers one end of a new pair and returns the other.
func (o *owner) open(t testing.TB, l *Loop) int {
	t.Helper()
	ours, theirs := pair(t)
	if err := l.Register(&o.File, ours, o); err != nil {
		t.Fatal(err)
	}
	return theirs
}

func write(t testing.TB, fd int, text string) {
	t.Helper()
	if n, err := unix.Write(fd, []byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write(%d bytes) = %d, %v", len(text), n, err)
	}
}

func (e Events) String() string {
	var names []string
	for i, name := range []string{"readable", "writable", "hung up", "failed"} {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// TestReady drives one socket through a life and checks what each step tells.
func TestReady(t *testing.T) {
	l, _ := newLoop(t)
	var o owner
	ours, theirs := pair(t)
	write(t, theirs, "early")
	o.Adopt(l, ours, &o)
	b := make([]byte, 64)
	steps := []struct {
		name string
		do   func()
		want []Events
	}{
		{"adopted: no event, but bytes can be read", func() {
			if n, errno := o.Recv(b); n != 5 || errno != 0 {
				t.Errorf("Recv of an adopted File = %d, %v, want 5", n, errno)
			}
		}, nil},
		{"bytes between reading and registering are told", func() {
			write(t, theirs, "gap")
			if err := l.Register(&o.File, ours, &o); err != nil {
				t.Fatal(err)
			}
		}, []Events{Readable}},
		{"unread bytes are not told again", func() {}, nil},
		{"more bytes are", func() { write(t, theirs, "more") }, []Events{Readable}},
		{"writable is told when wanted", func() { o.WantWrite(true) }, []Events{Readable | Writable}},
		{"and no longer when not", func() { o.WantWrite(false); write(t, theirs, "!") }, []Events{Readable}},
		{"room after a full socket", func() {
			for _, errno := o.Send(make([]byte, 1<<16)); errno != unix.EAGAIN; _, errno = o.Send(make([]byte, 1<<16)) {
			}
			o.WantWrite(true)
			l.Turn(0)
			o.told = nil
			for n, _ := unix.Read(theirs, make([]byte, 1<<20)); n > 0; n, _ = unix.Read(theirs, make([]byte, 1<<20)) {
			}
		}, []Events{Readable | Writable}},
		{"Again is one more Readable", func() { o.Again(); o.Again() }, []Events{Readable}},
		{"and one in all where an event comes too", func() { o.Again(); write(t, theirs, "x") }, []Events{Readable | Writable}},
		{"FIN", func() { o.WantWrite(false); _ = unix.Shutdown(theirs, unix.SHUT_WR) }, []Events{Readable | HungUp}},
		// A socket that was full once goes on watching for room, see WantWrite.
		{"writing still works", func() {
			if n, errno := o.SendTwo([]byte("still "), []byte("here")); n != 10 || errno != 0 {
				t.Errorf("SendTwo = %d, %v", n, errno)
			}
			n, _ := unix.Read(theirs, b)
			if got := string(b[:n]); got != "still here" {
				t.Errorf("the other side read %q", got)
			}
		}, []Events{Readable | HungUp}},
		{"closed", func() { o.Again(); o.Close(); o.Close() }, nil},
	}
	for _, s := range steps {
		o.told = nil
		s.do()
		for l.Turn(0) > 0 {
		}
		if diff := cmp.Diff(s.want, o.told); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
	if n, errno := o.Recv(b); errno != unix.EBADF || o.IsOpen() || o.FD() != -1 {
		t.Errorf("Recv of a closed File = %d, %v; open %v, descriptor %d", n, errno, o.IsOpen(), o.FD())
	}
	if _, err := unix.FcntlInt(uintptr(ours), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor after Close: %v, want it closed", err)
	}
}

// TestCloseInsideBatch: the events of one batch name a File that was closed, and
// opened again on another descriptor, by the callback before it.
func TestCloseInsideBatch(t *testing.T) {
	l, _ := newLoop(t)
	var a, b owner
	aTheirs, bTheirs := a.open(t, l), b.open(t, l)
	numbers := map[*owner]int{&a: a.FD(), &b: b.FD()}
	reopened := 0
	reopen := func(other *owner) func(Events) {
		return func(Events) {
			reopened++
			other.Close()
			other.told = nil
			if _, err := unix.FcntlInt(uintptr(numbers[other]), unix.F_GETFD, 0); err != nil {
				t.Errorf("descriptor %d was closed inside the batch: %v", numbers[other], err)
			}
			other.do = func(Events) { t.Error("the new owner of a File got an event of the old one") }
			other.open(t, l)
		}
	}
	a.do, b.do = reopen(&b), reopen(&a)
	write(t, aTheirs, "x")
	write(t, bTheirs, "x")
	for l.Turn(0) > 0 {
	}
	if reopened != 1 {
		t.Errorf("%d callbacks ran, want that of one of the two", reopened)
	}
	if s := l.Stats(); s.Stale != 1 {
		t.Errorf("Stats.Stale = %d, want 1", s.Stale)
	}
}

// TestCloseKeptByDuplicate: a duplicate keeps the old socket in epoll, so its
// events go on coming after its slot has a new owner.
func TestCloseKeptByDuplicate(t *testing.T) {
	l, _ := newLoop(t)
	var old, young owner
	theirs := old.open(t, l)
	duplicate, err := unix.Dup(old.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(duplicate)
	oldSlot := old.slot
	old.Close()
	young.open(t, l)
	if young.slot != oldSlot {
		t.Fatalf("the new File is in slot %d, the test needs it in %d", young.slot, oldSlot)
	}
	write(t, theirs, "x")
	l.Turn(0)
	if len(young.told) != 0 || l.Stats().Stale != 1 {
		t.Errorf("the new File was told %v; %d stale events, want 1", young.told, l.Stats().Stale)
	}
	// A listener's duplicate would make level-triggered events without end.
	fd := listen(t, BindOptions{})
	var listener owner
	if err := l.Listen(&listener.File, fd, &listener); err != nil {
		t.Fatal(err)
	}
	duplicate2, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(duplicate2)
	address := listener.Local()
	listener.Close()
	client, errno := Connect(address, address.Addr())
	if errno != 0 {
		t.Fatal(errno)
	}
	defer unix.Close(client)
	for range 3 {
		l.Turn(0)
	}
	if n := l.Stats().Stale; n != 1 {
		t.Errorf("%d stale events, want none of the closed listener", n-1)
	}
}

// TestBudget: a connection with megabytes to read, which keeps to the budget,
// lets the others have their turn in between.
func TestBudget(t *testing.T) {
	l, _ := newLoop(t)
	var fast, slow owner
	fastTheirs, slowTheirs := fast.open(t, l), slow.open(t, l)
	var order []string
	fast.do = func(Events) {
		order = append(order, "fast")
		for moved := 0; moved < l.Budget(); {
			_, _ = unix.Write(fastTheirs, make([]byte, 1<<16)) // a peer that never lets it run dry
			n, errno := fast.Recv(l.ReadBuffer())
			if errno != 0 {
				t.Fatalf("Recv: %v", errno)
			}
			moved += n
		}
		fast.Again()
	}
	slow.do = func(Events) {
		order = append(order, "slow")
		slow.Recv(l.ReadBuffer())
	}
	write(t, fastTheirs, "go")
	for i := range 5 {
		if i%2 == 1 {
			write(t, slowTheirs, "x")
		}
		l.Turn(-1) // never blocks: work is waiting
	}
	got := strings.Join(order, " ")
	if want := "fast fast slow fast fast slow fast"; got != want && got != "fast slow fast fast slow fast fast" {
		t.Errorf("order = %s, want each slow one within a turn: %s", got, want)
	}
}

// TestWall is one reading per turn, and only if somebody asks.
func TestWall(t *testing.T) {
	readings := 0
	l, err := New(Options{Wall: func() time.Time { readings++; return time.Unix(int64(readings), 0) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Turn(0)
	first, second := l.Wall(), l.Wall()
	l.Turn(0)
	third := l.Wall()
	if readings != 2 || first != second || third == first {
		t.Errorf("%d readings: %v, %v, then %v", readings, first, second, third)
	}
}
