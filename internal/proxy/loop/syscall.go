package loop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw system calls. A call that cannot block goes past the Go scheduler
// (RawSyscall6): through it, it would cost 16 % of throughput. The one that blocks
// must go through the scheduler (Syscall6), or every stop-the-world would wait for
// it. Pointers become uintptr in the call expression itself and nowhere else: the
// compiler keeps them alive there.

// poll fetches a batch of events without waiting.
func (l *Loop) poll() int {
	l.count[countEpollWait]++
	// epoll_pwait: arm64 has no epoll_wait.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll),
		uintptr(unsafe.Pointer(&l.batch[0])), batchSize, 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// block waits for events, timeout milliseconds at most, -1 without end. A signal
// ends it early: the turn then finds nothing to do.
func (l *Loop) block(timeout int) int {
	l.count[countEpollWait]++
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll),
		uintptr(unsafe.Pointer(&l.batch[0])), batchSize, uintptr(timeout), 0, 0)
	if errno != 0 {
		if errno != unix.EINTR {
			panic("BUG: epoll_pwait: " + errno.Error())
		}
		return 0
	}
	return int(n)
}

func recv(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func send(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func sendTwo(fd int32, a, b []byte) (int, unix.Errno) {
	parts := [2]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	parts[0].SetLen(len(a))
	parts[1].SetLen(len(b))
	message := unix.Msghdr{Iov: &parts[0]}
	message.SetIovlen(len(parts))
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)),
		unix.MSG_NOSIGNAL, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func accept(fd int32, from *unix.RawSockaddrInet6) (int, unix.Errno) {
	size := uint32(unsafe.Sizeof(*from))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(from)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	if size < 2 {
		from.Family = unix.AF_UNSPEC // nothing was written: an unnamed socket
	}
	return int(n), 0
}

func getsockname(fd int32, to *unix.RawSockaddrInet6) unix.Errno {
	size := uint32(unsafe.Sizeof(*to))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(to)),
		uintptr(unsafe.Pointer(&size)), 0, 0, 0)
	return errno
}

func socketError(fd int32) unix.Errno {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return unix.Errno(value)
}

func setOption(fd int32, level, option int, value int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// setLinger makes close send a reset.
func setLinger(fd int32) {
	linger := unix.Linger{Onoff: 1}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
}

func shutdownWrite(fd int32) {
	unix.RawSyscall6(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0, 0, 0, 0)
}

func closeFD(fd int32) {
	unix.RawSyscall6(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
}

// connectTo starts a connect; one in progress is no error.
func connectTo(fd int32, to *unix.RawSockaddrInet6, size uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), size, 0, 0, 0)
	if errno == unix.EINPROGRESS {
		return 0
	}
	return errno
}

func bindTo(fd int32, to *unix.RawSockaddrInet6, size uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(to)), size, 0, 0, 0)
	return errno
}

func newSocket(family uint16) (int32, unix.Errno) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP, 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int32(fd), 0
}

// spliceBytes moves up to size bytes between a pipe and a socket in the kernel.
func spliceBytes(from, to int32, size int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size),
		unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// addOne adds 1 to an eventfd.
func addOne(fd int32) {
	one := uint64(1)
	unix.RawSyscall6(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one), 0, 0, 0)
}
