package loop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BindOptions say how to listen.
type BindOptions struct {
	// ReusePort lets several listeners share the address, one per loop. A bind
	// without it, before the first one with it, finds out whether another process
	// holds the port.
	ReusePort bool
	// FreeBind allows an address that this machine does not have yet.
	FreeBind bool
	// Backlog is the length of the kernel's queue of connections; 0 is 4096. The
	// kernel cuts it to net.core.somaxconn.
	Backlog int
}

const defaultBacklog = 4096

// Bind makes a non-blocking listening socket. An IPv6 address takes IPv6 clients
// alone. Accepted connections inherit TCP_NODELAY. The error names address and
// port, and is unix.EADDRINUSE, EACCES, EADDRNOTAVAIL, … by errors.Is.
func Bind(addr netip.AddrPort, o BindOptions) (fd int, err error) {
	raw, size, family, err := rawAddress(addr)
	if err != nil {
		return -1, err
	}
	socket, errno := newSocket(family)
	if errno != 0 {
		return -1, bindError(addr, errno)
	}
	if errno := bindSocket(socket, family, &raw, size, o); errno != 0 {
		closeFD(socket)
		return -1, bindError(addr, errno)
	}
	return int(socket), nil
}

func bindSocket(fd int32, family uint16, raw *unix.RawSockaddrInet6, size uintptr, o BindOptions) unix.Errno {
	type option struct {
		wanted       bool
		level, which int
	}
	options := []option{
		{true, unix.SOL_SOCKET, unix.SO_REUSEADDR},
		{true, unix.IPPROTO_TCP, unix.TCP_NODELAY},
		{o.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT},
		{family == unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY},
		{o.FreeBind && family == unix.AF_INET, unix.IPPROTO_IP, unix.IP_FREEBIND},
		{o.FreeBind && family == unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND},
	}
	for _, opt := range options {
		if !opt.wanted {
			continue
		}
		if errno := setOption(fd, opt.level, opt.which, 1); errno != 0 {
			return errno
		}
	}
	if errno := bindTo(fd, raw, size); errno != 0 {
		return errno
	}
	backlog := o.Backlog
	if backlog == 0 {
		backlog = defaultBacklog
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_LISTEN, uintptr(fd), uintptr(backlog), 0, 0, 0, 0)
	return errno
}

func bindError(addr netip.AddrPort, errno unix.Errno) error {
	why := ""
	switch {
	case errors.Is(errno, unix.EADDRINUSE):
		why = "something else listens there: "
	case errors.Is(errno, unix.EACCES):
		why = "ports below 1024 need root or CAP_NET_BIND_SERVICE: "
	case errors.Is(errno, unix.EADDRNOTAVAIL):
		why = "this machine has no such address: "
	}
	return fmt.Errorf("listen on address %s port %d: %s%w", addr.Addr(), addr.Port(), why, errno)
}

// Connect starts a TCP connection, from source if it is valid. The descriptor is
// non-blocking and has TCP_NODELAY; it becomes writable when the connect has
// ended, and File.SocketError is its result. Any goroutine.
func Connect(to netip.AddrPort, source netip.Addr) (fd int, errno unix.Errno) {
	return connect(to, source, false)
}

// Connect is the package's Connect, counted. With transparent, source may be an
// address of another machine (IP_TRANSPARENT; needs CAP_NET_ADMIN and routes).
func (l *Loop) Connect(to netip.AddrPort, source netip.Addr, transparent bool) (fd int, errno unix.Errno) {
	l.count[countConnect]++
	return connect(to, source, transparent)
}

func connect(to netip.AddrPort, source netip.Addr, transparent bool) (int, unix.Errno) {
	raw, size, family, err := rawAddress(to)
	if err != nil {
		return -1, unix.EADDRNOTAVAIL
	}
	fd, errno := newSocket(family)
	if errno != 0 {
		return -1, errno
	}
	errno = setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if errno == 0 && source.IsValid() {
		errno = bindSource(fd, family, source, transparent)
	}
	if errno == 0 {
		errno = connectTo(fd, &raw, size)
	}
	if errno != 0 {
		closeFD(fd)
		return -1, errno
	}
	return int(fd), 0
}

func bindSource(fd int32, family uint16, source netip.Addr, transparent bool) unix.Errno {
	raw, size, sourceFamily, err := rawAddress(netip.AddrPortFrom(source, 0))
	if err != nil {
		return unix.EADDRNOTAVAIL
	}
	if sourceFamily != family {
		return unix.EAFNOSUPPORT
	}
	if transparent {
		level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT
		if family == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
		}
		if errno := setOption(fd, level, option, 1); errno != 0 {
			return errno
		}
	}
	// The port is chosen at connect, when the other end is known: otherwise each
	// source address could have only one connection per port in all.
	if errno := setOption(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); errno != 0 {
		return errno
	}
	return bindTo(fd, &raw, size)
}

// rawAddress is the kernel's form of an address. The form of IPv6 holds that of
// IPv4 too; size says how much of it counts.
func rawAddress(a netip.AddrPort) (raw unix.RawSockaddrInet6, size uintptr, family uint16, err error) {
	addr := a.Addr()
	port := binary.NativeEndian.Uint16([]byte{byte(a.Port() >> 8), byte(a.Port())})
	switch {
	case addr.Is4() || addr.Is4In6():
		raw4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		raw4.Family, raw4.Port, raw4.Addr = unix.AF_INET, port, addr.Unmap().As4()
		return raw, unsafe.Sizeof(*raw4), unix.AF_INET, nil
	case addr.Is6():
		raw.Family, raw.Port, raw.Addr = unix.AF_INET6, port, addr.As16()
		raw.Scope_id, err = scope(addr.Zone())
		return raw, unsafe.Sizeof(raw), unix.AF_INET6, err
	}
	return raw, 0, 0, fmt.Errorf("%q is no address", addr)
}

// scope is the interface's number of a zone such as "eth0" or "2".
func scope(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("find interface %q: %w", zone, err)
	}
	return uint32(i.Index), nil
}

// addrPort reads an address of the kernel; the zero value if it is no IP address.
func addrPort(raw *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&raw.Port))
	p := uint16(port[0])<<8 | uint16(port[1])
	switch raw.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(raw)).Addr), p)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), p)
	}
	return netip.AddrPort{}
}
