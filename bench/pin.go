package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideNamespace tells a runner that it is in its namespace already.
const insideNamespace = "SLUIS_BENCH_INSIDE"

// enterNamespace runs this program again in a network namespace of its own, where
// no other traffic is and the congestion control is reno: BBR's pacing would
// distort what loopback shows. It returns true in the process that is to measure.
// Without root that is this one.
func enterNamespace(args []string) (inside bool, err error) {
	if os.Geteuid() != 0 {
		return true, nil
	}
	if os.Getenv(insideNamespace) != "" {
		return true, furnishNamespace()
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	// A session of its own: Linux shares processors between sessions first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setsid: true, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // Pdeathsig follows the thread
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: no network namespace of its own, so other traffic may disturb:", err)
		return true, nil
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var status *exec.ExitError
	if err = cmd.Wait(); errors.As(err, &status) {
		err = errors.New("no result")
	}
	return false, err
}

// furnishNamespace brings loopback up, and puts this session before others.
func furnishNamespace() error {
	_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(urgent)), 0) // not every kernel has it
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	for name, value := range map[string]string{"tcp_congestion_control": "reno", "ip_local_port_range": "10000 65000"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s stays as it is: %v\n", name, err)
		}
	}
	return nil
}

func congestionControl() string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return "unknown congestion control"
	}
	return strings.TrimSpace(string(b))
}

// cores are the processors that this process may use, in order.
func cores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read the processors: %w", err)
	}
	var all []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all, nil
}

// startOn starts a process that may use these processors alone and, if we may say
// so, comes before whatever else runs there. It inherits both from the thread that
// starts it.
func startOn(cmd *exec.Cmd, cores []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	for _, c := range cores {
		wanted.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return fmt.Errorf("pin to processors %v: %w", cores, err)
	}
	// Without root it stays as it is; on Linux this is of the thread alone.
	hurried := unix.Setpriority(unix.PRIO_PROCESS, 0, urgent) == nil
	err := cmd.Start()
	if hurried {
		err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, 0, 0))
	}
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// urgent is the niceness of what is measured and of what measures.
const urgent = -19

// cpuTime is how long a process has run on processors, over all its threads, by the
// scheduler's count.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var sum time.Duration
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has just ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// residentBytes is how much memory a process has.
func residentBytes(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("statm is short")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
