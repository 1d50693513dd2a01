package loop

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSplice: bytes go from one socket to another through a pipe; a pipe that is
// not empty never comes back.
func TestSplice(t *testing.T) {
	l, _ := newLoop(t)
	var from, to owner
	source, sink := from.open(t, l), to.open(t, l)
	text := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	write(t, source, string(text))
	_ = unix.Shutdown(source, unix.SHUT_WR)
	pipe, ok := l.BorrowPipe()
	if !ok {
		t.Fatal("no pipe")
	}
	var got []byte
	b := make([]byte, 1<<20)
	for {
		n, errno := from.SpliceIn(pipe, 1<<20)
		if errno != 0 {
			t.Fatalf("SpliceIn: %v", errno)
		}
		if n == 0 {
			break // the end
		}
		for pipe.Held > 0 {
			if _, errno := to.SpliceOut(pipe); errno != 0 && errno != unix.EAGAIN {
				t.Fatalf("SpliceOut: %v", errno)
			}
			n, _ := unix.Read(sink, b)
			got = append(got, b[:max(n, 0)]...)
		}
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%d bytes came through, want the %d that were sent", len(got), len(text))
	}
	if _, errno := from.SpliceOut(pipe); errno != 0 {
		t.Errorf("SpliceOut of an empty pipe: %v", errno)
	}
	l.ReturnPipe(pipe)
	again, _ := l.BorrowPipe()
	if again != pipe {
		t.Error("an empty pipe was not kept")
	}
	write(t, sink, "leftover")
	if n, errno := to.SpliceIn(again, 100); n != 8 || errno != 0 {
		t.Fatalf("SpliceIn = %d, %v", n, errno)
	}
	l.ReturnPipe(again)
	if fresh, _ := l.BorrowPipe(); fresh == again {
		t.Error("a pipe with bytes of another connection came back")
	}
	l.pipes.open = maxPipes
	if _, ok := l.BorrowPipe(); ok {
		t.Error("more pipes than the bound")
	}
	l.Turn(0)
	if s := l.Stats(); s.PipesRefused != 1 {
		t.Errorf("PipesRefused = %d, want 1", s.PipesRefused)
	}
}
