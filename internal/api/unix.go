package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is how long the path of a unix socket may be, in bytes
// (sun_path of unix(7), less its final zero).
const maxSocketPath = 107

// Socket is the way in for the machine itself: a unix socket, on which the kernel
// says who is at the other end. Its methods may be called from any goroutine.
type Socket struct {
	path   string
	bound  os.FileInfo // what we put at the path
	server *server
}

// ListenUnix serves on a unix socket that only its owner may use. A socket that
// nobody answers at any more is replaced. Log may be nil.
func ListenUnix(path string, handler http.Handler, accepted func() uint64, log *slog.Logger) (*Socket, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on unix socket: the path %s has %d bytes, the system takes at most %d: choose a shorter one", path, len(path), maxSocketPath)
	}
	if err := checkStale(path); err != nil {
		return nil, fmt.Errorf("listen on unix socket: %w", err)
	}
	l, err := bindUnix(path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix socket: %w", err)
	}
	s := &Socket{path: path}
	if s.bound, err = os.Lstat(path); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on unix socket: %w", err)
	}
	s.server = newServer(handler, accepted, log, describePeer)
	s.server.serve(l)
	return s, nil
}

// checkStale refuses a path where somebody answers, or where something stands that
// is no socket.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s exists and is no socket: move it away, or choose another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("another program answers at %s already", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s exists, and whether somebody answers there can't be seen: %w", path, err)
	}
	return nil
}

// bindUnix puts a socket at the path that has its mode from the first moment on:
// it is bound beside it, and renamed. The process's umask is left alone, since it
// belongs to other goroutines as well.
func bindUnix(path string) (net.Listener, error) {
	beside := filepath.Join(filepath.Dir(path), "."+rand.Text()[:8])
	if len(beside) > maxSocketPath {
		return nil, fmt.Errorf("the directory of %s has too long a name: choose a shorter one", path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: beside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(beside, 0o600)
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(beside)
		return nil, err
	}
	return l, nil
}

// describePeer notes who is at the other end.
func describePeer(c net.Conn, info *conn) {
	info.local = true
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // where it fails the user stays unknown, who may do nothing
		if peer, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			info.uid = int(peer.Uid)
		}
	})
}

// Path is where the socket is.
func (s *Socket) Path() string { return s.path }

// Close ends the socket and removes it, unless somebody else has put another one in
// its place. Requests have some seconds to finish.
func (s *Socket) Close() {
	s.server.drain(true)
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.bound) {
		_ = os.Remove(s.path)
	}
}
