package loop

// Buffer is memory lent by a loop: for input that is not complete yet and output
// that could not be sent.
type Buffer struct {
	// B is empty when borrowed and has at least the room that was asked for. It
	// may grow by append; grown beyond its class it is not kept on Return.
	B []byte

	lent bool
}

// The classes of buffers, and how many of each a loop keeps for the next borrower:
// 10 MiB at most.
const (
	smallest   = 1 << 10
	classes    = 4 // 1, 4, 16, 64 KiB
	classShift = 2
	keepBytes  = 4 << 20 // per class
	keepMost   = 1024
)

type freeBuffers [classes][]*Buffer

// classOf is the smallest class with room for size; classes if none has.
func classOf(size int) int {
	for class := range classes {
		if size <= smallest<<(classShift*class) {
			return class
		}
	}
	return classes
}

// Borrow lends an empty buffer with room for size bytes. It never fails; what it
// could not take from a free list is counted.
func (l *Loop) Borrow(size int) *Buffer {
	l.count[countBorrowed]++
	class := classOf(size)
	if class < classes {
		if list := l.buffers[class]; len(list) > 0 {
			b := list[len(list)-1]
			list[len(list)-1] = nil
			l.buffers[class] = list[:len(list)-1]
			b.lent = true
			return b
		}
		size = smallest << (classShift * class)
	}
	l.count[countBufferMisses]++
	return &Buffer{B: make([]byte, 0, size), lent: true}
}

// Return takes a buffer back; its contents are no longer the borrower's.
func (l *Loop) Return(b *Buffer) {
	if !b.lent {
		panic("BUG: a buffer was returned twice")
	}
	b.lent = false
	l.count[countReturned]++
	class := classOf(cap(b.B))
	if class == classes || cap(b.B) != smallest<<(classShift*class) {
		return
	}
	if list := l.buffers[class]; len(list) < min(keepBytes>>(10+classShift*class), keepMost) {
		b.B = b.B[:0]
		l.buffers[class] = append(list, b)
	}
}
