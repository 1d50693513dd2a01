package proxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestHTTPChallenge asks as an authority does (RFC 8555 section 8.3). What the site
// does with all other requests must not stand in the way, and the site keeps the
// tokens that aren't ours.
func TestHTTPChallenge(t *testing.T) {
	b := newBox(t, 2)
	o := b.origin("web", nil)
	doc, address := b.site("    rules: [{name: none, deny: {status: 403}}]\n", "", o)
	b.apply(doc)
	const path = "/.well-known/acme-challenge/"
	for _, tt := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET " + path + "open_token-1", 200, "open_token-1.thumbprint"},
		{"GET " + path + "open_token-1?x=1", 200, "open_token-1.thumbprint"},
		{"HEAD " + path + "open_token-1", 200, ""},
		{"POST " + path + "open_token-1", 403, ""},
		{"GET " + path + "other", 403, ""},
		{"GET " + path, 403, ""},
		{"GET " + path + "open_token-1/../x", 403, ""},
		{"GET " + path + strings.Repeat("a", 129), 403, ""},
	} {
		c, r := dial(t, address)
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n", tt.request)
		method, _, _ := strings.Cut(tt.request, " ")
		resp, body := answer(t, r, method)
		if resp.StatusCode != tt.status || tt.status == 200 && body != tt.body {
			t.Errorf("%s: %d %q, want %d %q", tt.request, resp.StatusCode, body, tt.status, tt.body)
		}
		c.Close()
	}
	if n := o.requests.Load(); n != 0 {
		t.Errorf("%d requests went to the server", n)
	}
	eventually(t, "three challenges are counted", func() bool { return b.Status().Frontends[0].Challenges == 3 })
}

// TestALPNChallenge asks by a handshake of its own kind (RFC 8737 section 3), beside
// others that must notice nothing of it.
func TestALPNChallenge(t *testing.T) {
	b := newBox(t, 2)
	b.certificate("site", "shop.example")
	b.certificate("challenge", "challenged.example")
	doc, address := b.site("    tls: {certificates: [site], require_sni: true}\n", "", b.origin("web", nil))
	b.apply(strings.Replace(doc, "port: ", "tls: true, port: ", 1))
	shake := func(name string, protocols ...string) (*tls.Conn, error) {
		tcp, _ := dial(t, address)
		c := tls.Client(tcp, &tls.Config{ServerName: name, RootCAs: b.roots, NextProtos: protocols})
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		return c, c.Handshake()
	}
	c, err := shake("challenged.example", "acme-tls/1")
	if err != nil {
		t.Fatal(err)
	}
	if p := c.ConnectionState().NegotiatedProtocol; p != "acme-tls/1" {
		t.Errorf("the protocol is %q", p)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: challenged.example\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a challenge's connection was served")
	}
	if _, err := shake("shop.example", "acme-tls/1"); err == nil {
		t.Error("a challenge that is not open was answered")
	}
	if _, err := shake("challenged.example", "acme-tls/1", "http/1.1"); err == nil {
		t.Error("a client that also speaks HTTP got the challenge's certificate")
	}
	c, err = shake("shop.example", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	if resp, _ := answer(t, bufio.NewReader(c), "GET"); resp.StatusCode != 200 {
		t.Errorf("another client got %d", resp.StatusCode)
	}
	eventually(t, "one challenge is counted", func() bool { return b.Status().Frontends[0].Challenges == 1 })
}

// TestAskedNames sees what clients ask for and no certificate has, until one has it.
func TestAskedNames(t *testing.T) {
	b := newBox(t, 2)
	b.certificate("site", "shop.example", "*.club.example")
	doc, address := b.site("    tls: {certificates: [site]}\n", "", b.origin("web", nil))
	b.apply(strings.Replace(doc, "port: ", "tls: true, port: ", 1))
	ask := func(name string) {
		tcp, _ := dial(t, address)
		defer tcp.Close()
		c := tls.Client(tcp, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(name, err)
		}
	}
	for _, name := range []string{"shop.example", "a.club.example", "Old.Example", "old.example", "new.example", "not a host", "127.0.0.1"} {
		ask(name)
	}
	for i := range 70 {
		ask(fmt.Sprintf("n%d.example", i))
	}
	st := b.Status().Frontends[0]
	if len(st.Asked) != 64 || st.AskedTotal != 73 || st.Asked[0].Name != "old.example" || st.Asked[0].Count != 2 {
		t.Errorf("%d names, %d in all, first %+v", len(st.Asked), st.AskedTotal, st.Asked[0])
	}
	b.certificate("site", "shop.example", "old.example")
	if err := b.CertificatesChanged(); err != nil {
		t.Fatal(err)
	}
	if st := b.Status().Frontends[0]; len(st.Asked) != 63 || st.Asked[0].Name == "old.example" {
		t.Errorf("after the new certificate there are %d names, first %+v", len(st.Asked), st.Asked[0])
	}
}
