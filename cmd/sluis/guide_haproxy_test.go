package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluis/internal/config"
	"sluis/internal/migrate"
)

// haproxyProcess is a HAProxy with its control socket.
type haproxyProcess struct {
	cmd    *exec.Cmd
	socket string
	ended  chan struct{} // closed when it has
	mu     sync.Mutex
	output bytes.Buffer // guarded by mu
}

func (p *haproxyProcess) stop() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func (p *haproxyProcess) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(data)
}

func (p *haproxyProcess) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// haproxyForm writes a document for HAProxy, with a control socket.
type haproxyForm func(g *guideStage, doc *config.Document, socket string) []byte

// startHAProxy runs HAProxy with what the running document says, on the ports and
// with the web servers of its own side.
func (g *guideStage) startHAProxy(form haproxyForm) {
	g.t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/haproxy"); err != nil {
			missing(g.t, "haproxy, to compare with (Debian: haproxy)")
		}
		program = "/usr/sbin/haproxy"
	}
	g.stopHAProxy()
	p := &haproxyProcess{ended: make(chan struct{}), socket: filepath.Join(g.dir, "haproxy.sock")}
	name := filepath.Join(g.dir, "haproxy.cfg")
	write(g.t, name, form(g, g.theirs(g.running()), p.socket))
	p.cmd = exec.Command(program, "-db", "-f", name)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	g.peer = p
	g.owner.Cleanup(p.stop)
	eventually(g.t, "haproxy answers", func() bool {
		select {
		case <-p.ended:
			g.t.Fatalf("haproxy ended:\n%s\n%s", p.said(), read(g.t, name))
		default:
		}
		_, err := p.ask("show info")
		return err == nil
	})
}

func (g *guideStage) stopHAProxy() {
	if g.peer != nil {
		g.peer.stop()
		g.peer = nil
	}
}

// missing skips a test for which this machine lacks something; in CI nothing may
// lack.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("this machine has no " + what)
	}
	t.Skip("this machine has no " + what)
}

// ask sends a command to HAProxy's control socket.
func (p *haproxyProcess) ask(command string) (string, error) {
	conn, err := net.Dial("unix", p.socket)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(conn)
	return string(data), err
}

// stat is one field of "show stat".
func (p *haproxyProcess) stat(proxy, server, field string) string {
	text, err := p.ask("show stat")
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(text, "\n")
	column := slices.Index(strings.Split(strings.TrimPrefix(lines[0], "# "), ","), field)
	for _, line := range lines[1:] {
		if cells := strings.Split(line, ","); len(cells) > column && cells[0] == proxy && cells[1] == server {
			return cells[column]
		}
	}
	return ""
}

// theirs is the document for HAProxy's side: other ports, other web servers.
func (g *guideStage) theirs(doc *config.Document) *config.Document {
	ports := map[int]int{}
	for name, port := range g.sluis.ports {
		ports[port] = g.haproxy.port(name)
	}
	for name, o := range g.sluis.origins {
		ports[o.port] = g.haproxy.origins[name].port
	}
	move := func(port *uint16) {
		if other, ok := ports[int(*port)]; ok {
			*port = uint16(other)
		}
	}
	move(&doc.LoadBalancer.Stats.Port)
	for i := range doc.Frontends {
		for k := range doc.Frontends[i].Binds {
			move(&doc.Frontends[i].Binds[k].Port)
		}
	}
	for i := range doc.Backends {
		b := &doc.Backends[i]
		if b.AgentCheck != nil {
			move(&b.AgentCheck.Port)
		}
		for k := range b.Servers {
			move(&b.Servers[k].Port)
		}
	}
	return doc
}

// asPfSense writes a document of the guide as pfSense's package does: the same
// directives in the same order, with nothing that the guide leaves alone.
func asPfSense(g *guideStage, doc *config.Document, socket string) []byte {
	g.t.Helper()
	w := &pfSense{stage: g, doc: doc}
	w.line("global")
	w.line("\tmaxconn %d", doc.LoadBalancer.MaxConnections)
	w.line("\tlog stdout format raw local0")
	w.line("\tstats socket %s mode 600 level admin", socket)
	w.line("listen HAProxyLocalStats")
	w.line("\tbind 127.0.0.1:%d", doc.LoadBalancer.Stats.Port)
	w.line("\tmode http\n\tstats enable\n\tstats uri /")
	w.line("\tstats refresh %d", time.Duration(doc.LoadBalancer.Stats.Refresh)/time.Second)
	w.line("\ttimeout client 5000\n\ttimeout connect 5000\n\ttimeout server 5000")
	for i := range doc.Frontends {
		w.frontend(&doc.Frontends[i])
	}
	for i := range doc.Backends {
		w.backend(&doc.Backends[i])
	}
	return []byte(w.text.String())
}

// asExported writes it with Sluis's own exporter.
func asExported(g *guideStage, doc *config.Document, socket string) []byte {
	g.t.Helper()
	dir := filepath.Join(g.dir, "exported")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		g.t.Fatal(err)
	}
	out := migrate.HAProxy(doc, migrate.HAProxyOptions{
		CertificateDir: dir, Log: "stdout format raw local0", StatsSocket: socket,
		Key: func(name string) ([]byte, bool) { return []byte(keyOf(g.t, g.certificates[name])), true },
	})
	for name, content := range out.Files {
		write(g.t, filepath.Join(dir, name), content)
	}
	return out.Config
}

// pfSense is a configuration that is being written.
type pfSense struct {
	stage *guideStage
	doc   *config.Document
	text  strings.Builder
}

func (w *pfSense) line(format string, args ...any) { fmt.Fprintf(&w.text, format+"\n", args...) }

func (w *pfSense) frontend(f *config.Frontend) {
	w.line("frontend %s", f.Name)
	for _, b := range f.Binds {
		address := b.Address
		if vip, ok := strings.CutPrefix(address, "vip:"); ok {
			for _, v := range w.doc.VirtualIPs {
				if v.Name == vip {
					address, _, _ = strings.Cut(v.Address, "/")
				}
			}
		}
		offload := ""
		if b.TLS {
			offload = " ssl crt-list " + w.certificates(f)
		}
		w.line("\tbind %s:%d%s", address, b.Port, offload)
	}
	w.line("\tmode http\n\tlog global\n\toption httplog\n\toption http-keep-alive\n\ttimeout client %d", milliseconds64(f.Timeouts.Client))
	if f.MaxConnections > 0 {
		w.line("\tmaxconn %d", f.MaxConnections)
	}
	if f.Forwarded.For {
		w.line("\toption forwardfor")
	}
	if f.Forwarded.Proto {
		w.line("\thttp-request set-header X-Forwarded-Proto https if { ssl_fc }\n\thttp-request set-header X-Forwarded-Proto http if !{ ssl_fc }")
	}
	w.line("\thttp-request set-var(txn.txnhost) hdr(host)")
	covered := ""
	if f.TLS != nil && f.TLS.HostRuleFromCertificate {
		covered = "aclcrt_" + f.Name
		for _, name := range f.TLS.Certificates {
			for _, host := range w.stage.certificates[name].Leaf.DNSNames {
				pattern := strings.Replace(regexp.QuoteMeta(host), `\*`, `([^\.]*)`, 1)
				w.line("\tacl %s var(txn.txnhost) -m reg -i ^%s(:([0-9]){1,5})?$", covered, pattern)
			}
		}
	}
	for _, a := range f.ACLs {
		w.acl(&a)
	}
	for _, r := range f.Rules {
		conditions := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(r.When, "not ", "!"), "is_tls", "{_ssl_fc_}"))
		if r.UseBackend != "" {
			w.line("\tuse_backend %s%s", r.UseBackend, condition(append(conditions, covered)))
		}
		if r.Redirect != nil {
			w.line("\thttp-request redirect scheme %s code %d%s", r.Redirect.Scheme, r.Redirect.Code, condition(conditions))
		}
	}
	if f.DefaultBackend != "" {
		w.line("\tuse_backend %s%s", f.DefaultBackend, condition([]string{covered}))
	}
}

func condition(names []string) string {
	joined := strings.TrimSpace(strings.Join(names, " "))
	if joined == "" {
		return ""
	}
	return " if " + strings.ReplaceAll(joined, "_ssl_fc_", " ssl_fc ")
}

// acl writes the kinds that the guide names: host starts with, host matches.
func (w *pfSense) acl(a *config.ACL) {
	for _, value := range a.Starts {
		w.line("\tacl %s var(txn.txnhost) -m beg -i %s", a.Name, value)
	}
	for _, value := range a.Is {
		if a.AnyPort {
			value = "^" + regexp.QuoteMeta(value) + "(:[0-9]{1,5})?$"
			w.line("\tacl %s var(txn.txnhost) -m reg -i %s", a.Name, value)
			continue
		}
		w.line("\tacl %s var(txn.txnhost) -m str -i %s", a.Name, value)
	}
}

// certificates writes a frontend's certificates: key, leaf and chain without the root.
func (w *pfSense) certificates(f *config.Frontend) string {
	g := w.stage
	var list strings.Builder
	for _, name := range f.TLS.Certificates {
		c := g.certificates[name]
		file := filepath.Join(g.dir, name+".pem")
		write(g.t, file, []byte(keyOf(g.t, c)+pemOf(c, g.lab.issuing)))
		list.WriteString(file + "\n")
	}
	file := filepath.Join(g.dir, f.Name+".crt_list")
	write(g.t, file, []byte(list.String()))
	return file
}

func (w *pfSense) backend(b *config.Backend) {
	w.line("backend %s\n\tmode http\n\tlog global", b.Name)
	if b.Check != nil && b.Check.Log {
		w.line("\toption log-health-checks")
	}
	if c := b.Persistence.Cookie; c != nil {
		httpOnly := ""
		if c.HTTPOnly {
			httpOnly = " httponly"
		}
		w.line("\tcookie %s insert nocache%s", c.Name, httpOnly)
	}
	w.line("\tbalance %s", b.Balance)
	w.line("\ttimeout connect %d\n\ttimeout server %d\n\tretries %d", milliseconds64(b.Timeouts.Connect), milliseconds64(b.Timeouts.Server), b.Retries)
	if b.Redispatch {
		w.line("\toption redispatch")
	}
	w.check(b)
	if b.HSTS != nil {
		w.line("\thttp-response set-header Strict-Transport-Security max-age=%d;", time.Duration(b.HSTS.MaxAge)/time.Second)
	}
	for i := range b.Servers {
		w.server(b, &b.Servers[i])
	}
}

// check writes the guide's own trick, with the Host in the version's place (G49).
func (w *pfSense) check(b *config.Backend) {
	c := b.Check
	if c == nil || c.Type != config.CheckHTTP {
		return
	}
	if c.Host == "{server}" {
		// One text for all servers is all that the package knows.
		w.line("\toption httpchk\n\thttp-check send meth %s uri %s ver HTTP/%s hdr Host %%[srv_name].lab.example.net", c.Method, c.Path, c.Version)
	} else {
		w.line("\toption httpchk %s %s HTTP/%s\\r\\nHost:\\ %s", c.Method, c.Path, c.Version, c.Host)
	}
	for _, status := range c.ExpectStatus {
		if c.ExpectText == "" {
			w.line("\thttp-check expect status %s", status)
		}
	}
	if c.ExpectText != "" {
		w.line("\thttp-check expect rstring %s", c.ExpectText)
	}
}

func (w *pfSense) server(b *config.Backend, s *config.Server) {
	line := "server " + s.Name + " " + net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port)))
	if s.TLS {
		line += " ssl verify none"
	}
	if b.Persistence.Cookie != nil {
		line += " cookie " + s.Cookie
	}
	if c := b.Check; c != nil {
		line += fmt.Sprintf(" check inter %d rise %d fall %d", milliseconds64(c.Interval), c.Rise, c.Fall)
	}
	if a := b.AgentCheck; a != nil {
		line += fmt.Sprintf(" agent-check agent-inter %d agent-port %d", milliseconds64(a.Interval), a.Port)
	}
	if s.Role == config.ServerBackup {
		line += " backup"
	}
	w.line("\t%s weight %d", line, s.Weight)
}

func milliseconds64(d config.Duration) int64 { return time.Duration(d).Milliseconds() }
