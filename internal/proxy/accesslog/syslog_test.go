package accesslog

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func wantMessage(severity int) (message string, r Record) {
	r = sample()
	if severity == severityInfo {
		r.Retries, r.Redispatched = 0, false
	}
	return fmt.Sprintf("<%d>1 2026-02-03T14:05:06.789123Z lb?1 sluis - access - ", 16<<3|severity) + string(AppendJSON(nil, &r, true)), r
}

func TestSyslogUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_ = server.SetReadDeadline(time.Now().Add(20 * time.Second))
	g := newLog(t, Options{Hostname: "lb 1", FlushEvery: time.Hour, Targets: []Target{{Name: "a", Network: "udp", Address: server.LocalAddr().String()}}})
	w := g.Writer()
	buffer := make([]byte, 64<<10)
	for _, severity := range []int{severityInfo, severityWarning} {
		want, r := wantMessage(severity)
		for range 70 { // more than go with one call, less than the kernel keeps
			w.Append(JSON, &r, true)
		}
		flush(t, g)
		for range 70 {
			n, _, err := server.ReadFrom(buffer)
			if err != nil || string(buffer[:n]) != want {
				t.Fatalf("%v, datagram:\n%s\nwant:\n%s", err, buffer[:n], want)
			}
		}
	}
	g.Close()
	if s := g.Stats().Targets[0]; s.Sent != 140 || s.Lost != 0 || s.Waiting != 0 || !s.Connected {
		t.Errorf("stats are %+v", s)
	}
}

// Nobody listens: messages are lost, which is counted and told once.
func TestSyslogUDPRefused(t *testing.T) {
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	told := make(chan error, 100)
	g := newLog(t, Options{
		FlushEvery: time.Hour, Targets: []Target{{Name: "a", Network: "udp", Address: gone.LocalAddr().String()}},
		Report: func(_ string, err error) { told <- err },
	})
	w := g.Writer()
	r := sample()
	for waiting := true; waiting; { // the answer to one datagram is told to the next
		w.Append(JSON, &r, true)
		flush(t, g)
		select {
		case err := <-told:
			waiting = false
			if err == nil {
				t.Error("told of no error")
			}
		case <-time.After(time.Millisecond):
		}
	}
	g.Close()
	if s := g.Stats().Targets[0]; s.Lost == 0 || s.Connected || len(told) > 0 {
		t.Errorf("stats are %+v, and told %d times more", s, len(told))
	}
}

// syslogServer takes messages with octet counting; it can hang up.
type syslogServer struct {
	listener net.Listener
	messages chan string
	mu       sync.Mutex
	conns    []net.Conn
}

func serveSyslog(t *testing.T, l net.Listener) *syslogServer {
	s := &syslogServer{listener: l, messages: make(chan string, 1000)}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			done.Go(func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					length, err := r.ReadString(' ')
					if err != nil {
						return
					}
					n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
					if err != nil {
						s.messages <- "bad length " + length
						return
					}
					message := make([]byte, n)
					if _, err := io.ReadFull(r, message); err != nil {
						return
					}
					s.messages <- string(message)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); s.hangUp(); done.Wait() })
	return s
}

func (s *syslogServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func TestSyslogStreams(t *testing.T) {
	certificate, pool := selfSigned(t)
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			target := Target{Name: "a", Network: network, Address: l.Addr().String()}
			if network == "tls" {
				l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}})
				target.TLS = &tls.Config{RootCAs: pool, ServerName: "log.example"}
			}
			server := serveSyslog(t, l)
			back := make(chan error, 10)
			g := newLog(t, Options{Hostname: "lb 1", FlushEvery: time.Hour, Targets: []Target{target}, Report: func(_ string, err error) { back <- err }})
			w := g.Writer()
			want, r := wantMessage(severityInfo)
			put := func() {
				w.Append(JSON, &r, true)
				flush(t, g)
			}
			put()
			if got := <-server.messages; got != want {
				t.Errorf("message:\n%s\nwant:\n%s", got, want)
			}
			// The server hangs up, comes back, and gets what was written in between.
			g.waitTarget(t, true)
			server.hangUp()
			g.waitTarget(t, false)
			put()
			if err := <-back; err == nil {
				t.Error("told of recovery before the failure")
			}
			put()
			for range 2 {
				if got := <-server.messages; got != want {
					t.Errorf("after the server came back:\n%s\nwant:\n%s", got, want)
				}
			}
			if err := <-back; err != nil {
				t.Errorf("told %v, want that it is back", err)
			}
			g.Close()
			if s := g.Stats().Targets[0]; s.Sent != 3 || s.Lost != 0 {
				t.Errorf("stats are %+v", s)
			}
		})
	}
}

// waitTarget waits until the first target is connected, or isn't.
func (g *Log) waitTarget(t *testing.T, connected bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); g.Stats().Targets[0].Connected != connected; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the target is connected: %v, want %v", !connected, connected)
		}
	}
}

// A target that takes nothing costs the others nothing: its queue fills, further
// messages are lost and counted, and the end of the log waits a second for it.
func TestATargetThatHangs(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts or reads
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	s := &lineSink{}
	g := newLog(t, Options{
		Sink: Sink{Writer: s}, FlushEvery: time.Hour,
		Targets: []Target{{Name: "a", Network: "tcp", Address: hanging.Addr().String(), QueueBytes: 100 << 10}},
	})
	w := g.Writer()
	r := sample()
	r.UserAgent = []byte(strings.Repeat("x", maxUserAgent))
	const records = 20_000 // far above what the sockets of both sides hold
	for range records / 500 {
		for range 500 {
			w.Append(JSON, &r, true)
		}
		flush(t, g)
	}
	if n := len(s.lines()); n != records {
		t.Errorf("%d lines in the file, want %d", n, records)
	}
	start := time.Now()
	g.Close()
	if took := time.Since(start); took > endTimeout+5*time.Second {
		t.Errorf("Close took %v", took)
	}
	stats := g.Stats().Targets[0]
	if stats.Lost == 0 || stats.Sent+stats.Lost != records {
		t.Errorf("stats are %+v, want %d in all", stats, records)
	}
}

func TestConfigureKeepsTargets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := serveSyslog(t, l)
	kept := Target{Name: "kept", Network: "tcp", Address: l.Addr().String()}
	other := Target{Name: "other", Network: "udp", Address: "127.0.0.1:9"}
	g := newLog(t, Options{FlushEvery: time.Hour, Targets: []Target{other, kept}})
	w := g.Writer()
	r := sample()
	for _, targets := range [][]Target{{other, kept}, {kept}, {kept, other}} {
		if err := g.Configure(Options{Targets: targets}); err != nil {
			t.Fatal(err)
		}
		w.Append(JSON, &r, true)
		flush(t, g)
		<-server.messages
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.conns) != 1 {
		t.Errorf("the target that stayed had %d connections, want 1", len(server.conns))
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"log.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
