package proxy_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// talker is a client's connection, bare or under TLS.
type talker struct {
	net.Conn
	r *bufio.Reader
}

// ask sends a request and says whether an answer came, and whether the connection is
// to go on.
func (c talker) ask(t *testing.T) (answered, goesOn bool) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"); err != nil {
		return false, false
	}
	if _, err := c.r.Peek(1); err != nil {
		return false, false
	}
	resp, _ := answer(t, c.r, "GET")
	return resp.StatusCode == 200, !resp.Close
}

// closed tells whether the other side has ended the connection.
func (c talker) closed() bool {
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	_, err := c.r.ReadByte()
	return err != nil && !strings.Contains(err.Error(), "timeout")
}

// demanding is a document for a frontend that asks for client certificates.
func (b *box) demanding(doc string) string {
	b.t.Helper()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.certs["clients"].Certificate[0]}))
	doc = strings.Replace(doc, "certificates: [site]", "certificates: [site], client_certificates: {authorities: [clients]}", 1)
	return doc + "authorities:\n  - name: clients\n    certificate: |\n      " + strings.ReplaceAll(strings.TrimSpace(ca), "\n", "\n      ") + "\n"
}

// TestChangedDemands changes what a listener asks for in the handshake. A connection
// that has not shown it must not go on, not even by a session ticket.
func TestChangedDemands(t *testing.T) {
	const secured = "    tls: {certificates: [site]}\n"
	withTLS := func(doc string) string { return strings.Replace(doc, "port: ", "tls: true, port: ", 1) }
	tests := []struct {
		name          string
		tls           bool // before
		before, after func(b *box, doc string) string
	}{
		{"client certificates", true, func(_ *box, doc string) string { return withTLS(doc) }, func(b *box, doc string) string { return b.demanding(withTLS(doc)) }},
		{"bare to TLS", false, func(_ *box, doc string) string { return doc }, func(_ *box, doc string) string { return withTLS(doc) }},
		{"another site that asks for them", true, func(_ *box, doc string) string { return withTLS(doc) }, func(b *box, doc string) string {
			other := fmt.Sprintf("  - name: site\n    binds: [{name: main, address: 127.0.0.1, port: %d}]\n    default_backend: web\nbackends:", freePort(b.t))
			doc = strings.Replace(withTLS(doc), "name: site", "name: club", 1)
			return b.demanding(strings.Replace(doc, "backends:", other, 1))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, 2)
			b.certificate("site", "shop.example")
			b.certificate("clients", "clients.example")
			o := newRecorder(t, nil)
			doc, address := siteTo(t, secured, "", o.port)
			b.apply(tt.before(b, doc))
			config := &tls.Config{ServerName: "shop.example", RootCAs: b.roots, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
			connect := func() talker {
				tcp, _ := dial(t, address)
				if !tt.tls {
					return talker{tcp, bufio.NewReader(tcp)}
				}
				c := tls.Client(tcp, config)
				return talker{c, bufio.NewReader(c)}
			}
			idle, busy, shaking := connect(), connect(), connect()
			for _, c := range []talker{idle, busy} {
				if answered, goesOn := c.ask(t); !answered || !goesOn {
					t.Fatal("no answer before the change")
				}
			}
			change, err := b.prepare(tt.after(b, doc))
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "all are counted", func() bool { return b.Status().Connections == 3 })
			if impact := change.Impact(); len(impact) != 1 || impact[0].Connections != 3 || impact[0].Listeners != 0 {
				t.Errorf("the impact is %+v, want 3 connections", impact)
			}
			ctx := context.Background()
			for _, step := range []func(context.Context) error{change.Add, change.Switch} {
				if err := step(ctx); err != nil {
					t.Fatal(err)
				}
			}
			// A request in the middle of the change counts as one from before it.
			if answered, goesOn := busy.ask(t); !answered || goesOn {
				t.Errorf("in the middle of the change: answered %v, goes on %v", answered, goesOn)
			}
			if err := change.Remove(ctx); err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]talker{"an idle connection": idle, "a busy one": busy} {
				if !c.closed() {
					t.Errorf("%s goes on after the change", name)
				}
			}
			if answered, _ := shaking.ask(t); answered {
				t.Error("a handshake from before the change leads to an answer")
			}
			if tt.tls {
				if answered, _ := connect().ask(t); answered {
					t.Error("a session ticket from before the change leads to an answer")
				}
			}
		})
	}
}

// TestCertificatesChanged shows the new certificate to new connections and lets the
// old ones be.
func TestCertificatesChanged(t *testing.T) {
	b := newBox(t, 2)
	b.certificate("site", "shop.example")
	o := newRecorder(t, nil)
	doc, address := siteTo(t, "    tls: {certificates: [site]}\n", "", o.port)
	b.apply(strings.Replace(doc, "port: ", "tls: true, port: ", 1))
	connect := func() (talker, *big.Int) {
		c, err := tls.Dial("tcp", address, &tls.Config{ServerName: "shop.example", RootCAs: b.roots})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return talker{c, bufio.NewReader(c)}, c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	old, before := connect()
	b.certificate("site", "shop.example")
	if err := b.CertificatesChanged(); err != nil {
		t.Fatal(err)
	}
	if answered, goesOn := old.ask(t); !answered || !goesOn {
		t.Error("a connection from before does not go on")
	}
	if _, after := connect(); after.Cmp(before) == 0 {
		t.Error("a new connection is shown the old certificate")
	}
}

// TestSlowKeys signs with RSA outside of the loops; a client that leaves meanwhile
// leaves nothing behind.
func TestSlowKeys(t *testing.T) {
	b := newBox(t, 1)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"shop.example"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	b.roots.AddCert(leaf)
	b.certs["site"] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	o := newRecorder(t, nil)
	doc, address := siteTo(t, "    tls: {certificates: [site]}\n", "    idle_connections: 0\n", o.port)
	b.apply(strings.Replace(doc, "port: ", "tls: true, port: ", 1))
	b.leaks(func() {
		var clients sync.WaitGroup
		for i := range 40 {
			clients.Go(func() {
				tcp, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				defer tcp.Close()
				c := tls.Client(tcp, &tls.Config{ServerName: "shop.example", RootCAs: b.roots})
				if i%2 == 0 { // its hello is out, the signature under way
					_ = tcp.SetDeadline(time.Now().Add(time.Duration(i) * 200 * time.Microsecond))
					_ = c.Handshake()
					_ = tcp.(*net.TCPConn).SetLinger(i%4/2 - 1)
					return
				}
				_, _ = io.WriteString(c, closingGet)
				if all, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 200 OK") {
					t.Errorf("got %q, %v", all, err)
				}
			})
		}
		clients.Wait()
	})
	if done := b.SignerStats().Done; done == 0 {
		t.Errorf("no signature was made outside: %+v", b.SignerStats())
	}
}

// TestEndOfTLSClients: one that says close_notify after its request gets its answer.
func TestEndOfTLSClients(t *testing.T) {
	b := newBox(t, 1)
	b.certificate("site", "shop.example")
	o := newRecorder(t, func(string) string {
		time.Sleep(50 * time.Millisecond)
		return "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: c=d; secure\r\nContent-Length: 2\r\n\r\nok"
	})
	doc, address := siteTo(t, "    tls: {certificates: [site]}\n", "    secure_cookies: true\n    hsts: {max_age: 60s, include_subdomains: true}\n", o.port)
	b.apply(strings.Replace(doc, "port: ", "tls: true, port: ", 1))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c, err := tls.Dial("tcp", address, &tls.Config{ServerName: "shop.example", RootCAs: b.roots, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(all), "ok") {
			t.Errorf("version %x: got %q, %v", version, all, err)
		}
		for _, want := range []string{"Set-Cookie: a=b; Path=/; Secure\r\n", "Set-Cookie: c=d; secure\r\n", "Strict-Transport-Security: max-age=60; includeSubDomains\r\n"} {
			if !strings.Contains(string(all), want) {
				t.Errorf("%q is missing in %q", want, all)
			}
		}
		c.Close()
	}
	b.quiet()
}
