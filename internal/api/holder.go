package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"sluis/internal/text"
)

func portText(port uint16) string { return strconv.FormatUint(uint64(port), 10) }

// explainListen says why an address can't be listened at, and what to do.
func explainListen(target string, err error) (message, hint text.Msg) {
	host, port, splitErr := net.SplitHostPort(target)
	if splitErr != nil {
		host = target
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		number, _ := strconv.ParseUint(port, 10, 16)
		hint = text.M("choose another port, or end what has it")
		if who := holder(uint16(number)); !who.IsZero() {
			return text.M("port {port} is taken by {who}", "port", port, "who", who), hint
		}
		return text.M("port {port} is taken by another program", "port", port), hint
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return text.M("Sluis may not listen on port {port}", "port", port),
			text.M("choose a port from 1024 on, or give Sluis the capability CAP_NET_BIND_SERVICE")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return text.M("this machine doesn't have the address {host}", "host", host),
			text.M("choose an address that it has, or all of them")
	default:
		return text.M("{address} can't be listened at: {reason}", "address", target, "reason", err), text.Msg{}
	}
}

// holder names the process that listens on a TCP port; zero where that can't be
// seen, as of other users' processes without root.
func holder(port uint16) text.Msg {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for _, inode := range listeners(string(data), port) {
			if who := owner(inode); !who.IsZero() {
				return who
			}
		}
	}
	return text.Msg{}
}

// listeners are the inodes of the sockets that listen on a port, from a table of
// the kernel (proc_net_tcp(5)).
func listeners(table string, port uint16) (inodes []string) {
	const local, state, inode, listen = 1, 3, 9, "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) > inode && f[state] == listen && strings.HasSuffix(f[local], suffix) {
			inodes = append(inodes, f[inode])
		}
	}
	return inodes
}

// owner finds the process that has a socket open.
func owner(inode string) text.Msg {
	want := "socket:[" + inode + "]"
	descriptors, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return text.Msg{}
	}
	for _, descriptor := range descriptors {
		if link, err := os.Readlink(descriptor); err != nil || link != want {
			continue
		}
		pid, _, _ := strings.Cut(strings.TrimPrefix(descriptor, "/proc/"), "/")
		if pid == strconv.Itoa(os.Getpid()) {
			return text.M("another part of this appliance")
		}
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return text.M("the process {pid}", "pid", pid)
		}
		return text.M("{name} (process {pid})", "name", strings.TrimSpace(string(name)), "pid", pid)
	}
	return text.Msg{}
}
