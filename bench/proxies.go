package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The names of the proxies, in the order of the table.
const (
	nameSluis        = "sluis"
	nameHAProxy      = "haproxy"
	nameNginx        = "nginx"
	nameReverseProxy = "reverseproxy"
)

func proxyNames() []string { return []string{nameSluis, nameHAProxy, nameNginx, nameReverseProxy} }

// find is the program of a proxy; an error says why it can't be measured.
func (r *runner) find(name string) (string, error) {
	switch name {
	case nameSluis:
		return filepath.Abs(r.settings.sluis)
	case nameReverseProxy:
		return os.Executable()
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := "/usr/sbin/" + name // not in everybody's PATH
	if _, err := os.Stat(path); err != nil {
		return "", errors.New(name + " is not installed: make deps")
	}
	return path, nil
}

// knows tells whether a proxy can do what a workload asks for.
func knows(name string, w workload) bool {
	switch name {
	case nameNginx, nameReverseProxy:
		return !w.MostFeatures && !w.TwoLoops
	}
	return true
}

const (
	firstPort = 2000 // below the ports that connections come from
	portsEach = int(siteKinds) + 1
)

// running is a process that was started.
type running struct {
	name string
	plan plan
	cmd  *exec.Cmd
	dead chan struct{} // closed when it has ended
}

func (p *running) pid() int { return p.cmd.Process.Pid }

// startProxy starts one and waits until it listens.
func (r *runner) startProxy(name string, loops int, cores []int) (*running, error) {
	program, err := r.find(name)
	if err != nil {
		return nil, err
	}
	p := r.plan
	first := firstPort + portsEach*len(r.processes) // several run side by side
	p.ports, p.loops, p.admin = portsFrom(first), loops, address(first+int(siteKinds))
	if p.dir, err = os.MkdirTemp(r.plan.dir, name+"-"); err != nil {
		return nil, err
	}
	var config string
	var args []string
	switch name {
	case nameSluis:
		config = p.sluisDocument()
		args = []string{"run", "--config", "FILE", "--admin", p.admin, "--access-log", filepath.Join(p.dir, "access.log"), "--log-level", "warn"}
	case nameHAProxy:
		if config, err = p.haproxyConfig(); err != nil {
			return nil, err
		}
		args = []string{"-db", "-f", "FILE"}
	case nameNginx:
		config = p.nginxConfig()
		args = []string{"-p", p.dir, "-c", "FILE", "-e", filepath.Join(p.dir, "error.log")}
	case nameReverseProxy:
		args = []string{
			"reverseproxy", "-first", strconv.Itoa(first), "-origin", strconv.Itoa(p.origin), "-origin-tls", strconv.Itoa(p.secure),
			"-loops", strconv.Itoa(loops), "-ecdsa", p.ecdsa, "-ecdsa-key", p.ecdsaKey, "-rsa", p.rsa, "-rsa-key", p.rsaKey,
		}
	}
	file, err := p.write("config", []byte(config))
	if err != nil {
		return nil, err
	}
	for i := range args {
		if args[i] == "FILE" {
			args[i] = file
		}
	}
	proxy, err := r.start(name, program, args, cores)
	if err != nil {
		return nil, err
	}
	proxy.plan = p
	if err := proxy.listening(p.port(sitePlain)); err != nil {
		r.stop(proxy)
		return nil, err
	}
	return proxy, nil
}

// start starts a process whose messages go to a file.
func (r *runner) start(name, program string, args []string, cores []int) (*running, error) {
	log, err := os.CreateTemp(r.plan.dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	return r.startCommand(name, cmd, cores)
}

func (r *runner) startCommand(name string, cmd *exec.Cmd, cores []int) (*running, error) {
	// Ctrl-C is for the runner, which stops the others.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := startOn(cmd, cores); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &running{name: name, cmd: cmd, dead: make(chan struct{})}
	r.processes = append(r.processes, p)
	go func() {
		_ = cmd.Wait() // how it ended is in its messages
		close(p.dead)
	}()
	return p, nil
}

// listening waits until a port takes connections.
func (p *running) listening(port int) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		select {
		case <-p.dead:
			return fmt.Errorf("%s ended at its start: %s", p.name, p.messages())
		case <-time.After(50 * time.Millisecond):
		}
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Second)
		if err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("%s does not listen on port %d: %s", p.name, port, p.messages())
}

// messages are the last of what a process said.
func (p *running) messages() string {
	f, ok := p.cmd.Stderr.(*os.File)
	if !ok {
		return ""
	}
	text, _ := os.ReadFile(f.Name())
	return strings.TrimSpace(string(text[max(0, len(text)-1000):]))
}

// stop ends a process that the runner has started.
func (r *runner) stop(p *running) {
	for _, s := range []os.Signal{syscall.SIGTERM, os.Kill} {
		_ = p.cmd.Process.Signal(s)
		select {
		case <-p.dead:
			return
		case <-time.After(3 * time.Second):
		}
	}
}
