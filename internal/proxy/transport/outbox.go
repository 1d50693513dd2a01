package transport

import "sluis/internal/proxy/loop"

// outbox holds what the socket did not take, in borrowed buffers, oldest first.
// An empty one holds none.
type outbox struct {
	buffers []*loop.Buffer
	at      int // bytes of the first that were sent
	size    int // bytes not yet sent
}

func (o *outbox) empty() bool { return o.size == 0 }

// append copies p to the end. Buffers have room to spare, so that small writes
// gather in one.
func (o *outbox) append(l *loop.Loop, p []byte) {
	o.size += len(p)
	if n := len(o.buffers); n > 0 {
		last := o.buffers[n-1]
		taken := min(len(p), cap(last.B)-len(last.B))
		last.B = append(last.B, p[:taken]...)
		p = p[taken:]
	}
	for len(p) > 0 {
		b := l.Borrow(min(len(p), largestBuffer))
		taken := min(len(p), cap(b.B))
		b.B = append(b.B[:0], p[:taken]...)
		p = p[taken:]
		o.buffers = append(o.buffers, b)
	}
}

// largestBuffer is the loop's largest class of buffers that are used again.
const largestBuffer = 64 << 10

// push takes over a buffer, of which sent bytes are gone already if the outbox was
// empty. One that finds room behind the last is copied there.
func (o *outbox) push(l *loop.Loop, b *loop.Buffer, sent int) {
	left := len(b.B) - sent
	n := len(o.buffers)
	switch {
	case n == 0:
		o.at = sent
	case cap(o.buffers[n-1].B)-len(o.buffers[n-1].B) >= left:
		o.append(l, b.B[sent:])
		l.Return(b)
		return
	}
	o.size += left
	o.buffers = append(o.buffers, b)
}

// front is what to send next: the first two pieces.
func (o *outbox) front() (a, b []byte) {
	switch len(o.buffers) {
	case 0:
		return nil, nil
	case 1:
		return o.buffers[0].B[o.at:], nil
	}
	return o.buffers[0].B[o.at:], o.buffers[1].B
}

// sent takes n bytes from the front.
func (o *outbox) sent(l *loop.Loop, n int) {
	o.size -= n
	o.at += n
	gone := 0
	for gone < len(o.buffers) && o.at >= len(o.buffers[gone].B) {
		o.at -= len(o.buffers[gone].B)
		l.Return(o.buffers[gone])
		gone++
	}
	left := copy(o.buffers, o.buffers[gone:])
	clear(o.buffers[left:])
	o.buffers = o.buffers[:left]
}

// drop gives all up.
func (o *outbox) drop(l *loop.Loop) {
	for i, b := range o.buffers {
		l.Return(b)
		o.buffers[i] = nil
	}
	o.buffers, o.at, o.size = o.buffers[:0], 0, 0
}
