package loop

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Events says why a File is ready.
type Events uint8

const (
	// Readable: bytes or the end of the stream wait; on a listener, a connection.
	Readable Events = 1 << iota
	// Writable: told only while WantWrite, and once when a connect has ended.
	Writable
	// HungUp: the other side sent FIN, or both directions are closed.
	HungUp
	// Failed: the socket has an error; SocketError or the next call names it.
	Failed
)

// Handler owns a File.
type Handler interface {
	// Ready is called in the loop. Readable is told once per arrival
	// (edge-triggered): read until a call returns less than was asked for, or
	// until EAGAIN, or ask Again. An event may be told without cause.
	Ready(Events)
}

// File is a descriptor in a loop, embedded by value in its owner. Its zero value
// is not open. It belongs to the loop's goroutine.
//
//	         Adopt            Register, Listen
//	closed ─────────> adopted ───────────────> registered
//	   ^                 │ Close, Detach             │
//	   └─────────────────┴───────────────────────────┘
//
// An adopted File can receive and send; events come once it is registered.
type File struct {
	// Cause is what a slow turn of this File is counted under: "client".
	Cause string

	loop    *Loop // nil: not open
	handler Handler
	fd      int32
	slot    int32
	again   uint32 // serial of the pending Again; 0: none
	state   fileState
}

type fileState uint8

const (
	stateRegistered fileState = 1 << iota // epoll knows it
	stateListening                        // level-triggered, no EPOLLOUT
	stateWants                            // the owner wants Writable
)

// slot is an entry of the table of open Files.
type slot struct {
	file       *File // nil: free, or closed in this turn
	generation int32 // grows each time the slot is freed
}

// wakeSlot is the index that events of the eventfd carry.
const wakeSlot = -1

type deadFile struct{ fd, slot int32 }

type againFile struct {
	file   *File
	serial uint32
}

const (
	streamEvents   = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	listenerEvents = unix.EPOLLIN
)

// Adopt makes the File own fd, so that it can receive and send at once; Register
// then lets events come. Reading right after accept and registering afterwards
// spares an event. The descriptor must be non-blocking.
func (f *File) Adopt(l *Loop, fd int, h Handler) {
	if f.loop != nil {
		panic("BUG: an open File was given another descriptor")
	}
	index := int32(len(l.slots))
	if n := len(l.freeSlots); n > 0 {
		index = l.freeSlots[n-1]
		l.freeSlots = l.freeSlots[:n-1]
	} else {
		l.slots = append(l.slots, slot{})
	}
	l.slots[index].file = f
	f.loop, f.handler, f.fd, f.slot, f.again, f.state = l, h, int32(fd), index, 0, 0
}

// Register lets events of a connected or connecting socket come to h:
// edge-triggered, Writable only while WantWrite. What is readable already is
// reported. On error the File still owns the descriptor: Close it.
func (l *Loop) Register(f *File, fd int, h Handler) error {
	return l.register(f, fd, h, streamEvents, stateRegistered)
}

// Listen lets connections that wait at a listening socket come to h:
// level-triggered, so that h may accept as many as it likes.
func (l *Loop) Listen(f *File, fd int, h Handler) error {
	return l.register(f, fd, h, listenerEvents, stateRegistered|stateListening)
}

func (l *Loop) register(f *File, fd int, h Handler, events uint32, state fileState) error {
	switch {
	case f.loop == nil:
		f.Adopt(l, fd, h)
	case f.loop != l || f.fd != int32(fd) || f.state&stateRegistered != 0:
		panic("BUG: a File was registered twice, or with another descriptor than it adopted")
	}
	f.handler = h
	if f.state&stateWants != 0 {
		events |= unix.EPOLLOUT
	}
	if errno := f.control(unix.EPOLL_CTL_ADD, events); errno != 0 {
		return errno
	}
	f.state |= state
	return nil
}

func (f *File) control(operation int, events uint32) unix.Errno {
	l := f.loop
	l.count[countEpollCtl]++
	event := unix.EpollEvent{Events: events, Fd: f.slot, Pad: l.slots[f.slot].generation}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), uintptr(operation), uintptr(f.fd),
		uintptr(unsafe.Pointer(&event)), 0, 0)
	return errno
}

// translate turns epoll's events into ours.
func (f *File) translate(bits uint32) Events {
	var e Events
	if bits&unix.EPOLLIN != 0 {
		e |= Readable
	}
	if bits&unix.EPOLLOUT != 0 && f.state&stateWants != 0 {
		e |= Writable
	}
	if bits&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		e |= HungUp
	}
	if bits&unix.EPOLLERR != 0 {
		e |= Failed
	}
	return e
}

// WantWrite asks for Writable, or no longer. Wanting costs a system call, ceasing
// to want does not: epoll goes on watching, and its events are not passed on.
func (f *File) WantWrite(want bool) {
	if f.loop == nil || want == (f.state&stateWants != 0) {
		return
	}
	if !want {
		f.state &^= stateWants
		return
	}
	f.state |= stateWants
	if f.state&stateRegistered == 0 {
		return // Register will say so
	}
	// Also where epoll watches already: EPOLL_CTL_MOD looks at the socket anew, so
	// that one that became writable before this call is told.
	if errno := f.control(unix.EPOLL_CTL_MOD, streamEvents|unix.EPOLLOUT); errno != 0 {
		panic("BUG: epoll lost a registered descriptor: " + errno.Error())
	}
}

// WantAccept switches the events of a listening File off and on: while off,
// connections wait in the kernel's queue.
func (f *File) WantAccept(want bool) {
	if f.state&stateListening == 0 {
		return
	}
	var events uint32
	if want {
		events = listenerEvents
	}
	if errno := f.control(unix.EPOLL_CTL_MOD, events); errno != 0 {
		panic("BUG: epoll lost a registered descriptor: " + errno.Error())
	}
}

// Again asks for Ready(Readable) once more in the next turn: the owner has used up
// its budget and there may be more to read.
func (f *File) Again() {
	if f.loop == nil || f.again != 0 {
		return
	}
	l := f.loop
	l.serial++
	if l.serial == 0 {
		l.serial = 1 // 0 means none
	}
	f.again = l.serial
	l.again = append(l.again, againFile{file: f, serial: f.again})
}

// FD is the descriptor, -1 if the File is not open.
func (f *File) FD() int {
	if f.loop == nil {
		return -1
	}
	return int(f.fd)
}

// IsOpen says whether the File owns a descriptor.
func (f *File) IsOpen() bool { return f.loop != nil }

// Close gives the descriptor up. Inside a turn it is closed at the turn's end, so
// that its number cannot be used again while events of the old one may be in the
// batch. No callback comes after Close. Closing a closed File does nothing.
func (f *File) Close() {
	l := f.loop
	if l == nil {
		return
	}
	if f.state&stateListening != 0 {
		// A listening socket may have a duplicate in another process, which would
		// keep it in our epoll.
		f.control(unix.EPOLL_CTL_DEL, 0)
	}
	l.dead = append(l.dead, deadFile{fd: f.fd, slot: f.slot})
	f.forget()
	if !l.inTurn {
		l.bury()
	}
}

// Abort closes without a farewell: the other side gets a reset, and what was not
// sent yet is dropped.
func (f *File) Abort() {
	if f.loop == nil {
		return
	}
	setLinger(f.fd)
	f.Close()
}

// Detach takes the descriptor out of the loop and gives it to the caller; -1 if
// the File is not open. No callback comes after it.
func (f *File) Detach() int {
	l := f.loop
	if l == nil {
		return -1
	}
	if f.state&stateRegistered != 0 {
		f.control(unix.EPOLL_CTL_DEL, 0)
	}
	fd := f.fd
	l.dead = append(l.dead, deadFile{fd: -1, slot: f.slot})
	f.forget()
	if !l.inTurn {
		l.bury()
	}
	return int(fd)
}

func (f *File) forget() {
	f.loop.slots[f.slot].file = nil
	f.loop, f.handler, f.again, f.state = nil, nil, 0, 0
}

// bury closes what was closed in this turn.
func (l *Loop) bury() {
	for _, d := range l.dead {
		if d.fd >= 0 {
			l.count[countClose]++
			closeFD(d.fd)
		}
		l.slots[d.slot].generation++
		l.freeSlots = append(l.freeSlots, d.slot)
	}
	l.dead = l.dead[:0]
}

// Recv reads what is there. 0 and no error is the end of the stream.
func (f *File) Recv(b []byte) (int, unix.Errno) {
	if f.loop == nil {
		return 0, unix.EBADF
	}
	if len(b) == 0 {
		return 0, unix.EINVAL // it would look like the end of the stream
	}
	f.loop.count[countRecv]++
	return recv(f.fd, b)
}

// Send writes as much as goes. Where it takes less than all, WantWrite tells of
// room.
func (f *File) Send(b []byte) (int, unix.Errno) {
	if f.loop == nil {
		return 0, unix.EBADF
	}
	if len(b) == 0 {
		return 0, 0
	}
	f.loop.count[countSend]++
	return send(f.fd, b)
}

// SendTwo writes a and then b, as much as goes, in one call.
func (f *File) SendTwo(a, b []byte) (int, unix.Errno) {
	switch {
	case f.loop == nil:
		return 0, unix.EBADF
	case len(b) == 0:
		return f.Send(a)
	case len(a) == 0:
		return f.Send(b)
	}
	f.loop.count[countSend]++
	return sendTwo(f.fd, a, b)
}

// Accept takes one connection from a listening File: non-blocking, closed on
// exec, TCP_NODELAY if Bind made the listener. An IPv4 client of an IPv6 socket
// has its IPv4 address; zones are not told. EAGAIN: none waits.
func (f *File) Accept() (fd int, from netip.AddrPort, errno unix.Errno) {
	l := f.loop
	if l == nil {
		return -1, netip.AddrPort{}, unix.EBADF
	}
	l.count[countAccept]++
	fd, errno = accept(f.fd, &l.address)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return fd, addrPort(&l.address), 0
}

// Local is the socket's own address; the zero value if it has none.
func (f *File) Local() netip.AddrPort {
	if f.loop == nil {
		return netip.AddrPort{}
	}
	if getsockname(f.fd, &f.loop.address) != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&f.loop.address)
}

// SocketError fetches and clears the error of the socket; after the first Writable
// of a connecting one it is the result of the connect.
func (f *File) SocketError() unix.Errno {
	if f.loop == nil {
		return unix.EBADF
	}
	return socketError(f.fd)
}

// ShutdownWrite sends FIN after what was sent; reading goes on.
func (f *File) ShutdownWrite() {
	if f.loop != nil {
		shutdownWrite(f.fd)
	}
}
