package accesslog

import (
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchDatagrams is how many datagrams go with one system call.
const batchDatagrams = 64

// batcher sends many datagrams at once over a connected UDP socket: sendmmsg(2).
type batcher struct {
	raw     syscall.RawConn
	headers [batchDatagrams]mmsghdr
	vectors [batchDatagrams]unix.Iovec
}

// mmsghdr is struct mmsghdr of Linux on 64 bits. The kernel writes behind the
// header how many bytes went; of a datagram it is all or nothing.
type mmsghdr struct {
	header unix.Msghdr
	_      [8]byte
}

func (u *batcher) open(conn net.Conn) error {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return fmt.Errorf("BUG: a UDP target has a %T", conn)
	}
	var err error
	u.raw, err = udp.SyscallConn()
	return err
}

// send sends messages, each with its length in front (4 bytes), in one call, and
// says how many went. An error with none of them sent is about the first, or an
// answer that came for an earlier datagram.
func (u *batcher) send(messages []byte) (sent int, err error) {
	n := 0
	for ; n < batchDatagrams && len(messages) > 0; n++ {
		size := binary.LittleEndian.Uint32(messages)
		u.vectors[n].Base = &messages[4]
		u.vectors[n].SetLen(int(size))
		u.headers[n].header.Iov = &u.vectors[n]
		u.headers[n].header.SetIovlen(1)
		messages = messages[4+size:]
	}
	var errno unix.Errno
	err = u.raw.Write(func(fd uintptr) bool {
		var done uintptr
		done, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&u.headers)), uintptr(n), unix.MSG_NOSIGNAL, 0, 0)
		sent = int(done)
		return errno != unix.EAGAIN
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return 0, err
	}
	return sent, nil
}
