package loop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHotPathAllocates nothing.
func TestHotPathAllocates(t *testing.T) {
	l, clock := newLoop(t)
	var o owner
	theirs := o.open(t, l)
	o.do = func(Events) { o.told = o.told[:0] }
	var timer Timer
	fired := 0
	timer.Init(func() { fired++ })
	mailed := 0
	mail := Mail{Deliver: func() { mailed++ }}
	one, b := []byte("x"), make([]byte, 64)
	listener := listen(t, BindOptions{})
	var door owner
	if err := l.Listen(&door.File, listener, &door); err != nil {
		t.Fatal(err)
	}
	var accepted owner
	to := door.Local()
	p := NewPool(1, 4)
	defer p.Close()
	job := &countingJob{}
	cases := []struct {
		name string
		do   func()
	}{
		{"receive", func() { _, _ = unix.Write(theirs, one); l.Turn(0); o.Recv(l.ReadBuffer()) }},
		{"send", func() { o.Send(one); _, _ = unix.Read(theirs, b) }},
		{"send two", func() { o.SendTwo(one, one); _, _ = unix.Read(theirs, b) }},
		{"want write", func() { o.WantWrite(true); l.Turn(0); o.WantWrite(false) }},
		{"again", func() { o.Again(); l.Turn(0) }},
		{"arm and expire", func() { l.Arm(&timer, *clock+1); *clock += 2 * tick; l.Turn(0) }},
		{"arm later, disarm", func() { l.Arm(&timer, *clock+1e9); l.Arm(&timer, *clock+2e9); l.Arm(&timer, 0) }},
		{"mail", func() { l.PostMail(&mail); l.Turn(0) }},
		{"borrow and return", func() { l.Return(l.Borrow(10_000)) }},
		{"pipe", func() {
			pipe, _ := l.BorrowPipe()
			_, _ = unix.Write(theirs, one)
			o.SpliceIn(pipe, 1)
			o.SpliceOut(pipe)
			_, _ = unix.Read(theirs, b)
			l.ReturnPipe(pipe)
		}},
		{"connect, accept, register, close", func() {
			client, errno := l.Connect(to, to.Addr(), false)
			if errno != 0 {
				t.Fatal(errno)
			}
			fd, _, errno := door.Accept()
			if errno != 0 {
				t.Fatal(errno)
			}
			accepted.Adopt(l, fd, &accepted)
			_ = l.Register(&accepted.File, fd, &accepted)
			accepted.Abort()
			closeFD(int32(client))
		}},
		{"offload", func() {
			if !l.Offload(p, job) {
				t.Fatal("the pool is full")
			}
			for done := job.done; job.done == done; {
				l.Turn(-1)
			}
		}},
	}
	for _, c := range cases {
		if n := testing.AllocsPerRun(200, c.do); n != 0 {
			t.Errorf("%s: %v allocations, want 0", c.name, n)
		}
	}
	if fired == 0 || mailed == 0 {
		t.Errorf("fired %d, mailed %d: the test did not do what it says", fired, mailed)
	}
}

// TestCloseLeaksNothing: descriptors of open Files, of pipes, of the loop and of a
// pool, and their goroutines, are gone.
func TestCloseLeaksNothing(t *testing.T) {
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var theirs []int
	for i := range 3 {
		l, err := New(Options{Index: i})
		if err != nil {
			t.Fatal(err)
		}
		p := NewPool(2, 4)
		var registered, adopted owner
		theirs = append(theirs, registered.open(t, l))
		ours, other := pair(t)
		adopted.Adopt(l, ours, &adopted)
		theirs = append(theirs, other)
		l.Post(func() {
			pipe, _ := l.BorrowPipe()
			l.ReturnPipe(pipe)
			l.Offload(p, &countingJob{})
			l.Post(l.Stop)
		})
		l.Run()
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		p.Close()
		p.Close()
		if l.Post(func() { t.Error("a closed loop ran something") }) {
			t.Error("a closed loop accepted mail")
		}
	}
	if got := descriptors(t); got != before+len(theirs) {
		t.Errorf("%d descriptors after Close, want %d", got-len(theirs), before)
	}
	// A goroutine that has told it is done may still be ending.
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines after Close, want %d", n, goroutines)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func BenchmarkTurn(b *testing.B) {
	for _, sockets := range []int{1, 64} {
		b.Run(fmt.Sprintf("sockets=%d", sockets), func(b *testing.B) {
			l, err := New(Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			owners := make([]owner, sockets)
			theirs := make([]int32, sockets)
			for i := range owners {
				o := &owners[i]
				theirs[i] = int32(o.open(b, l))
				o.do = func(Events) { o.told = o.told[:0]; o.Recv(l.ReadBuffer()); o.Send([]byte("answer")) }
			}
			buffer := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				for _, fd := range theirs {
					send(fd, buffer[:1])
				}
				l.Turn(0)
				for _, fd := range theirs {
					recv(fd, buffer)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*sockets), "ns/echo")
		})
	}
}
