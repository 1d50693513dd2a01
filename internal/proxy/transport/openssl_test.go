package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
)

// openssl is a running program; its output is gathered.
type openssl struct {
	t     testing.TB
	stdin io.WriteCloser
	ended chan struct{}

	mu     sync.Mutex
	output bytes.Buffer // stdout and stderr; guarded by mu
	seen   int          // of output: expect looks behind it
}

func startOpenSSL(t testing.TB, arguments ...string) *openssl {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, program, arguments...)
	o := &openssl{t: t, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = o, o
	if o.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // its output says what went wrong
		close(o.ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-o.ended
	})
	return o
}

func (o *openssl) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.output.Write(p)
}

// end is the last part of the output, for messages.
func (o *openssl) end() string {
	text := o.text()
	return text[max(0, len(text)-3000):]
}

func (o *openssl) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.output.String()
}

// expect waits for a pattern in the output behind what was last expected, and
// returns its first group.
func (o *openssl) expect(pattern string) string {
	o.t.Helper()
	re := regexp.MustCompile(pattern)
	for ended := false; ; {
		text := o.text()[o.seen:]
		if m := re.FindStringSubmatchIndex(text); m != nil {
			o.seen += m[1]
			return text[m[len(m)-2]:m[len(m)-1]]
		}
		if ended {
			o.t.Fatalf("openssl never said %q, but:\n%s", pattern, o.end())
		}
		select {
		case <-o.ended:
			ended = true // look once more
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (o *openssl) say(line string) {
	o.t.Helper()
	if _, err := io.WriteString(o.stdin, line); err != nil {
		o.t.Fatalf("openssl takes no more input: %v\n%s", err, o.end())
	}
}

// step is a line for openssl and what it must show afterwards. Command letters of
// s_client: K and k update the keys, R renegotiates.
type step struct{ say, expect string }

// follow plays a script.
func (o *openssl) follow(script []step) {
	o.t.Helper()
	for _, s := range script {
		if s.say != "" {
			o.say(s.say)
		}
		o.expect(s.expect)
	}
}

// hello is answered with an echo.
var hello = []step{{"hello-there\n", "hello-there"}}

// Our server against openssl's client: versions, ciphers, certificates, messages in
// the middle of the connection. Each connection is closed by us at the end, which
// openssl must see as close_notify before FIN.
func TestServerWithOpenSSL(t *testing.T) {
	elliptic, large := ecdsaCredentials(t), rsaCredentials(t, 2048)
	askFor := func(c *credentials) func(*tls.Config) {
		return func(cfg *tls.Config) { cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, c.trust }
	}
	onlyX25519 := func(cfg *tls.Config) { cfg.CurvePreferences = []tls.CurveID{tls.X25519} }
	tests := map[string]struct {
		arguments string
		own       *credentials // nil: ECDSA
		inLoop    bool         // sign RSA in the loop
		change    func(*tls.Config)
		client    *credentials
		script    []step
		// ourError is why our side closes; empty: it does so itself, at the end.
		ourError string
	}{
		"1.3":                                 {arguments: "-tls1_3", script: []step{{"hello\n", "TLSv1.3"}}},
		"1.3 AES-256":                         {arguments: "-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384"},
		"1.3 ChaCha":                          {arguments: "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256"},
		"1.2 GCM":                             {arguments: "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", script: []step{{"hello\n", "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"}}},
		"1.2 CBC":                             {arguments: "-tls1_2 -cipher ECDHE-RSA-AES128-SHA", own: large, script: []step{{"hello\n", "Cipher is ECDHE-RSA-AES128-SHA"}}},
		"1.2 ChaCha":                          {arguments: "-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305"},
		"1.3 RSA in the pool":                 {arguments: "-tls1_3", own: large},
		"1.3 RSA in the loop":                 {arguments: "-tls1_3", own: large, inLoop: true},
		"1.2 RSA in the pool":                 {arguments: "-tls1_2", own: large},
		"1.2 RSA in the loop":                 {arguments: "-tls1_2", own: large, inLoop: true},
		"1.3 client certificate":              {arguments: "-tls1_3", change: askFor(elliptic), client: elliptic},
		"1.2 client certificate":              {arguments: "-tls1_2", change: askFor(elliptic), client: elliptic},
		"1.3 client certificate of 900 bytes": {arguments: "-tls1_3", change: askFor(large), client: large},
		"1.2 client certificate of 900 bytes": {arguments: "-tls1_2", change: askFor(large), client: large},
		"1.3 client certificate missing": {
			arguments: "-tls1_3", change: askFor(elliptic),
			script: []step{{"", "alert number 116"}}, ourError: "didn't provide a certificate",
		},
		"1.2 client certificate missing": {
			arguments: "-tls1_2", change: askFor(elliptic),
			script: []step{{"", "alert (bad certificate|handshake failure|number)"}}, ourError: "didn't provide a certificate",
		},
		"1.1 refused": {
			arguments: "-tls1_1 -cipher ALL:@SECLEVEL=0", script: []step{{"", "alert number 70"}}, ourError: "unsupported versions",
		},
		"no common cipher": {
			arguments: "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", script: []step{{"", "alert number 40"}}, ourError: "no cipher suite",
		},
		"HelloRetryRequest":       {arguments: "-tls1_3 -groups P-521:X25519", change: onlyX25519, script: []step{{"hello\n", "Server Temp Key: X25519"}}},
		"key update asked for":    {arguments: "-tls1_3", script: []step{hello[0], {"K\n", "KEYUPDATE"}, {"second-line\n", "second-line"}, {"K\n", "KEYUPDATE"}, {"third-line\n", "third-line"}}},
		"key update":              {arguments: "-tls1_3", script: []step{hello[0], {"k\n", "KEYUPDATE"}, {"second-line\n", "second-line"}}},
		"renegotiation":           {arguments: "-tls1_2", script: []step{hello[0], {"R\n", "RENEGOTIATING"}, {"", "alert number 10"}}, ourError: "unexpected handshake message|unexpected message"},
		"records of 16 KiB":       {arguments: "-tls1_3", script: []step{{string(text(40_000)) + "the-end\n", "the-end"}}},
		"records of 512 bytes":    {arguments: "-tls1_3 -max_send_frag 512", script: []step{{string(text(9_000)) + "the-end\n", "the-end"}}},
		"no session tickets, 1.2": {arguments: "-tls1_2 -no_ticket"},
	}
	for name, test := range tests {
		for way, cut := range map[string]struct{ segment, buffer int }{
			"whole": {}, "segments of 1": {segment: 1}, "segments of 7": {segment: 7}, "reads of 1": {buffer: 1},
		} {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, loop.Options{ReadBuffer: cut.buffer})
				own := elliptic
				if test.own != nil {
					own = test.own
				}
				cfg := r.serverConfig(own, test.change)
				if test.inLoop {
					cfg.GetCertificate, cfg.Certificates = nil, []tls.Certificate{own.Certificate}
				}
				addr := r.listen(cfg, func(e *end) { e.echo() })
				if cut.segment > 0 {
					addr = slicer(t, addr, cut.segment)
				}
				arguments := append([]string{"s_client", "-connect", addr.String(), "-CAfile", own.certFile}, strings.Fields(test.arguments)...)
				if c := test.client; c != nil {
					arguments = append(arguments, "-cert", c.certFile, "-key", c.keyFile)
				}
				o := startOpenSSL(t, arguments...)
				e := <-r.accepted
				script := test.script
				if test.ourError == "" {
					script = append(slices.Clip(script), hello...)
				}
				o.follow(script)
				if test.ourError != "" {
					if err := e.waitClosed(); err == nil || !regexp.MustCompile(test.ourError).MatchString(err.Error()) {
						t.Errorf("Closed(%v), want %q", err, test.ourError)
					}
					return
				}
				r.do(e.Close)
				o.expect(`(?m)^closed$`)
				if err := e.waitClosed(); err != nil {
					t.Errorf("Closed(%v) after Close", err)
				}
				if e.connected != 1 {
					t.Errorf("Connected %d times, want 1", e.connected)
				}
				want := uint64(1)
				if test.inLoop || own != large {
					want = 0
				}
				if got := r.pool.Stats().Done; got != want {
					t.Errorf("the pool made %d signatures, want %d", got, want)
				}
			})
		}
	}
}

// startServer starts openssl's server on a free port.
func startServer(t testing.TB, own *credentials, arguments string) (*openssl, netip.AddrPort) {
	t.Helper()
	o := startOpenSSL(t, append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", own.certFile, "-key", own.keyFile},
		strings.Fields(arguments)...)...)
	port, err := strconv.ParseUint(o.expect(`ACCEPT 127\.0\.0\.1:(\d+)`), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return o, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
}

// Our client against openssl's server: what a server may ask of us. Command letters
// of s_server: K and k update the keys, r asks for a renegotiation.
func TestClientWithOpenSSL(t *testing.T) {
	elliptic, large := ecdsaCredentials(t), rsaCredentials(t, 2048)
	tests := map[string]struct {
		arguments string
		own       *credentials // nil: ECDSA
		client    *credentials // shown when asked for
		change    func(*tls.Config)
		script    []step
		ourError  string // why our side closes; empty: the server does
		version   uint16
	}{
		"1.3":                         {arguments: "-tls1_3", version: tls.VersionTLS13},
		"1.2":                         {arguments: "-tls1_2", version: tls.VersionTLS12},
		"1.2 CBC":                     {arguments: "-tls1_2 -cipher ECDHE-RSA-AES256-SHA", own: large},
		"1.2 ChaCha":                  {arguments: "-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305"},
		"1.3 RSA":                     {arguments: "-tls1_3", own: large},
		"HelloRetryRequest":           {arguments: "-tls1_3 -groups P-521", change: func(cfg *tls.Config) { cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP521} }},
		"1.3 certificate asked":       {arguments: "-tls1_3 -Verify 1 -verify_return_error", client: elliptic},
		"1.2 certificate asked":       {arguments: "-tls1_2 -Verify 1 -verify_return_error", client: elliptic},
		"1.3 RSA certificate asked":   {arguments: "-tls1_3 -Verify 1 -verify_return_error", client: large},
		"1.2 RSA certificate asked":   {arguments: "-tls1_2 -Verify 1 -verify_return_error", client: large},
		"certificate asked, none":     {arguments: "-tls1_3 -Verify 1 -verify_return_error", ourError: "certificate required"},
		"1.2 certificate asked, none": {arguments: "-tls1_2 -Verify 1 -verify_return_error", ourError: "handshake failure|handshake_failure"},
		"key update asked for":        {arguments: "-tls1_3", script: []step{{"K\n", "SSL_do_handshake -> 1"}}},
		"key update":                  {arguments: "-tls1_3", script: []step{{"k\n", ""}}},
		"HelloRequest":                {arguments: "-tls1_2", script: []step{{"r\n", "SSL_do_handshake"}}, ourError: "no renegotiation"},
		"untrusted":                   {arguments: "-tls1_3", change: func(cfg *tls.Config) { cfg.RootCAs = large.trust }, ourError: "unknown authority"},
		"another name":                {arguments: "-tls1_2", change: func(cfg *tls.Config) { cfg.ServerName = "other" }, ourError: "not other"},
		"1.1 refused":                 {arguments: "-tls1_1 -cipher ALL:@SECLEVEL=0", ourError: "protocol version"},
	}
	for name, test := range tests {
		for way, cut := range map[string]struct{ segment, buffer int }{
			"whole": {}, "segments of 7": {segment: 7}, "reads of 1": {buffer: 1},
		} {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, loop.Options{ReadBuffer: cut.buffer})
				own := elliptic
				if test.own != nil {
					own = test.own
				}
				arguments := test.arguments
				cfg := clientConfig(own)
				if c := test.client; c != nil {
					arguments += " -CAfile " + c.certFile
					cfg.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
						return tlsio.BindClient(asked, &c.Certificate, r.pool), nil
					}
				}
				if test.change != nil {
					test.change(cfg)
				}
				o, addr := startServer(t, own, arguments)
				if cut.segment > 0 {
					addr = slicer(t, addr, cut.segment)
				}
				e := r.dial(addr, cfg, DialOptions{}, func(e *end) { e.Write([]byte("before-connected\n")) })
				if test.ourError == "" || test.script != nil {
					o.expect("before-connected") // the server has it, so the handshake is over
				}
				o.follow(test.script)
				if test.ourError != "" {
					if err := e.waitClosed(); err == nil || !regexp.MustCompile(test.ourError).MatchString(err.Error()) {
						t.Errorf("Closed(%v), want %q", err, test.ourError)
					}
					return
				}
				// Once the server shows this it has done what the script said before.
				r.do(func() { e.Write([]byte("sync-line\n")) })
				o.expect("sync-line")
				o.say("to-client-too\n")
				r.await("the server's line", func() bool { return bytes.HasSuffix(e.got, []byte("to-client-too\n")) })
				r.do(func() { e.Write([]byte("to-server-too\n")) })
				o.expect("to-server-too")
				r.do(func() {
					if v := e.TLS().Version; test.version != 0 && v != test.version {
						t.Errorf("version %x, want %x", v, test.version)
					}
				})
				o.say("Q\n") // the server leaves, without close_notify
				if err := e.waitClosed(); err != nil {
					t.Errorf("Closed(%v) after the server's end", err)
				}
				if !e.Cut() || e.ended != 1 {
					t.Errorf("Cut %v, Ended %d times, want it cut and 1", e.Cut(), e.ended)
				}
			})
		}
	}
}

// A server that says close_notify has not been cut, and gets ours.
func TestServerSaysCloseNotify(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		own := ecdsaCredentials(t)
		r := newRig(t, loop.Options{})
		o, addr := startServer(t, own, "-rev "+version)
		e := r.dial(addr, clientConfig(own), DialOptions{}, func(e *end) { e.Write([]byte("reverse\n")) })
		r.await("the line reversed", func() bool { return string(e.got) == "esrever\n" })
		r.do(func() { e.Write([]byte("CLOSE\n")) })
		o.expect("CLOSED")
		if err := e.waitClosed(); err != nil || e.Cut() || e.ended != 1 {
			t.Errorf("%s: Closed(%v), Cut %v, Ended %d times, want nil, no, 1", version, err, e.Cut(), e.ended)
		}
	}
}

// A megabyte each way through openssl, towards a client and towards a server.
func TestMegabyteWithOpenSSL(t *testing.T) {
	const size = 1 << 20
	own := ecdsaCredentials(t)
	data := text(size)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run("client "+version, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			addr := r.listen(r.serverConfig(own, nil), func(e *end) {
				e.echo()
				take := e.data
				e.data = func(b []byte) int {
					n := take(b)
					if e.Received() == size {
						e.Close()
					}
					return n
				}
			})
			// It reads while it writes, and stays until we close.
			o := startOpenSSL(t, "s_client", "-connect", addr.String(), "-quiet", "-nocommands", version)
			o.say(string(data))
			<-o.ended
			if got := o.text(); !strings.HasSuffix(got, string(data)) {
				t.Errorf("openssl got %d bytes, not our %d", len(got), size)
			}
			if err := (<-r.accepted).waitClosed(); err != nil {
				t.Errorf("Closed(%v)", err)
			}
		})
		t.Run("server "+version, func(t *testing.T) {
			r := newRig(t, loop.Options{})
			// With -quiet it would not say where it listens.
			o, addr := startServer(t, own, version)
			e := r.dial(addr, clientConfig(own), DialOptions{}, func(e *end) {
				for rest := data; len(rest) > 0; rest = rest[1<<16:] {
					e.Write(rest[:1<<16])
				}
				e.Write([]byte("the-end"))
			})
			o.say(string(data))
			o.expect("the-end")
			r.await("the server's bytes", func() bool { return len(e.got) == size })
			if err := same(e.got, data); err != nil {
				t.Error(err)
			}
			if !strings.Contains(o.text(), string(data)+"the-end") {
				t.Error("the server did not get our bytes as they were")
			}
		})
	}
}
