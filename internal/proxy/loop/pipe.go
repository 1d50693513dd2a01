package loop

import "golang.org/x/sys/unix"

const (
	pipeSize = 1 << 20
	// maxPipes bounds the pipes of a loop, keptPipes those that wait for a
	// borrower. Each takes two descriptors and, when full, pipeSize of the kernel's
	// memory.
	maxPipes  = 512
	keptPipes = 32
)

// Pipe carries bytes from one socket to another inside the kernel.
type Pipe struct {
	// Held is how many bytes are in the pipe.
	Held int

	read, write int32
}

type freePipes struct {
	free []*Pipe
	open int // lent and free
}

// BorrowPipe lends an empty pipe, of 1 MiB where the kernel allows it. It says
// false where none can be had: relay through a buffer then.
func (l *Loop) BorrowPipe() (*Pipe, bool) {
	p := &l.pipes
	if n := len(p.free); n > 0 {
		pipe := p.free[n-1]
		p.free[n-1] = nil
		p.free = p.free[:n-1]
		return pipe, true
	}
	var fds [2]int
	if p.open >= maxPipes || unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		l.count[countPipesRefused]++
		return nil, false
	}
	// Beyond fs.pipe-user-pages-soft only root gets a large one; a small one works.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	p.open++
	return &Pipe{read: int32(fds[0]), write: int32(fds[1])}, true
}

// ReturnPipe takes a pipe back. One that still holds bytes is closed: they must
// not reach the next borrower's connection.
func (l *Loop) ReturnPipe(pipe *Pipe) {
	if pipe.Held != 0 || len(l.pipes.free) >= keptPipes {
		l.closePipe(pipe)
		return
	}
	l.pipes.free = append(l.pipes.free, pipe)
}

func (l *Loop) closePipe(pipe *Pipe) {
	if pipe.read < 0 {
		panic("BUG: a pipe was returned twice")
	}
	closeFD(pipe.read)
	closeFD(pipe.write)
	l.count[countClose] += 2
	pipe.read, pipe.write = -1, -1
	l.pipes.open--
}

func (p *freePipes) close(l *Loop) {
	for _, pipe := range p.free {
		l.closePipe(pipe)
	}
	p.free = nil
}

// SpliceIn moves up to most bytes from the socket into the pipe. 0 and no error is
// the end of the stream. EAGAIN also means that the pipe is full: SpliceOut first
// what it holds.
func (f *File) SpliceIn(p *Pipe, most int) (int, unix.Errno) {
	if f.loop == nil {
		return 0, unix.EBADF
	}
	f.loop.count[countSplice]++
	n, errno := spliceBytes(f.fd, p.write, most)
	p.Held += n
	return n, errno
}

// SpliceOut moves what the pipe holds to the socket, as much as goes.
func (f *File) SpliceOut(p *Pipe) (int, unix.Errno) {
	if f.loop == nil {
		return 0, unix.EBADF
	}
	if p.Held == 0 {
		return 0, 0
	}
	f.loop.count[countSplice]++
	// Without MSG_NOSIGNAL, which splice does not have, a closed connection raises
	// SIGPIPE; the Go runtime ignores it for descriptors above 2.
	n, errno := spliceBytes(p.read, f.fd, p.Held)
	p.Held -= n
	return n, errno
}
