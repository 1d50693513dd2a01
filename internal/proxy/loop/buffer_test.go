package loop

import "testing"

// TestBuffers: classes, bound of what is kept, and what is not kept.
func TestBuffers(t *testing.T) {
	l, _ := newLoop(t)
	for _, c := range []struct{ size, room int }{
		{0, 1 << 10}, {1 << 10, 1 << 10}, {1<<10 + 1, 4 << 10}, {16 << 10, 16 << 10}, {64 << 10, 64 << 10}, {64<<10 + 1, 64<<10 + 1},
	} {
		b := l.Borrow(c.size)
		if len(b.B) != 0 || cap(b.B) != c.room {
			t.Errorf("Borrow(%d) has length %d and room %d, want 0 and %d", c.size, len(b.B), cap(b.B), c.room)
		}
		l.Return(b)
	}
	grown := l.Borrow(1 << 10)
	grown.B = append(grown.B, make([]byte, 1500)...)
	l.Return(grown)
	var out []*Buffer
	for range 100 {
		out = append(out, l.Borrow(64<<10))
	}
	l.Turn(0)
	if s := l.Stats(); s.BuffersOut != 100 {
		t.Errorf("BuffersOut = %d, want 100", s.BuffersOut)
	}
	for _, b := range out {
		l.Return(b)
	}
	kept := 0
	for class, list := range l.buffers {
		for _, b := range list {
			kept += cap(b.B)
			if cap(b.B) != smallest<<(classShift*class) || b.lent {
				t.Errorf("class %d keeps a buffer of %d bytes, lent %v", class, cap(b.B), b.lent)
			}
		}
	}
	if kept > classes*keepBytes || len(l.buffers[3]) != keepBytes>>16 {
		t.Errorf("kept %d bytes, %d of 64 KiB, want at most %d and %d", kept, len(l.buffers[3]), classes*keepBytes, keepBytes>>16)
	}
	defer func() {
		if recover() == nil {
			t.Error("a buffer could be returned twice")
		}
	}()
	l.Return(out[0])
}
