package helper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// activationFD is the first descriptor that systemd passes (sd_listen_fds(3)).
const activationFD = 3

// Listener is the socket that the helper answers on: the one that systemd passed
// (socket activation), else a new one at the path, which only its owner may
// connect to. getenv is os.Getenv; main keeps the environment, and should remove
// the LISTEN variables before it starts other programs.
//
// A socket that a dead helper left at the path is replaced; one that is alive, or
// a file that is no socket, is refused. Two helpers that start at the same moment
// at the same path are for systemd to prevent.
func Listener(path string, getenv func(string) string) (net.Listener, error) {
	passed, err := passedSockets(getenv)
	switch {
	case err != nil:
		return nil, err
	case passed == 1:
		return adopt(activationFD)
	case passed > 1:
		return nil, fmt.Errorf("socket activation: %d sockets were passed, want 1", passed)
	}
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	return listen(path)
}

// passedSockets counts the sockets that were passed to this very process; the
// variables may also be those of a parent.
func passedSockets(getenv func(string) string) (int, error) {
	pid, count := getenv("LISTEN_PID"), getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("socket activation: LISTEN_FDS is %q, want a number", count)
	}
	return n, nil
}

// adopt makes a listener of a passed descriptor. Closing it leaves the socket's
// file to systemd.
func adopt(fd uintptr) (net.Listener, error) {
	file := os.NewFile(fd, "socket activation")
	if file == nil {
		return nil, errors.New("socket activation: the descriptor is not open")
	}
	defer file.Close() // FileListener works on a copy, which is closed on exec
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	if _, ok := listener.(*net.UnixListener); !ok {
		_ = listener.Close()
		return nil, fmt.Errorf("socket activation: a socket of the kind %s was passed, want unix", listener.Addr().Network())
	}
	return listener, nil
}

// makeRoom removes what is at the path, if it is the socket of a dead process.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen on %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen on %s: there is a file that is no socket: remove it or choose another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("listen on %s: another process answers there", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen on %s: there is a socket that may be alive: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	return nil
}

// listen makes the socket with mode 0600 from its first moment: Linux gives the
// file the mode that the socket has at bind, so there is no gap as with chmod, and
// no umask, which belongs to the whole process.
func listen(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		controlErr := conn.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(controlErr, err)
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("root helper: %w", err)
	}
	return listener, nil
}
