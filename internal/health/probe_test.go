package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluis/internal/config"

	"github.com/google/go-cmp/cmp"
)

// G49: the bytes on the wire, as HAProxy 2.6 sends them for the guide's settings.
func TestRequestOnTheWire(t *testing.T) {
	tests := []struct {
		name   string
		server config.Server
		change func(*config.Check)
		want   string
	}{
		{"the guide's", config.Server{Address: "192.0.2.1", Host: "web1.example.net"}, func(k *config.Check) {
			k.Path = "/system/web/view/platform/common/login/root.jsp?partitionId=1"
		}, "GET /system/web/view/platform/common/login/root.jsp?partitionId=1 HTTP/1.1\r\nHost: web1.example.net\r\nConnection: close\r\n\r\n"},
		{"the address as name", config.Server{Address: "web2.example.net"}, func(*config.Check) {}, "GET / HTTP/1.1\r\nHost: web2.example.net\r\nConnection: close\r\n\r\n"},
		{"an IPv6 address as name", config.Server{Address: "2001:DB8::1"}, func(*config.Check) {}, "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\nConnection: close\r\n\r\n"},
		{"a fixed host, fields and a body", config.Server{Address: "192.0.2.1"}, func(k *config.Check) {
			k.Method, k.Host, k.Body = "POST", "h.example", "hello"
			k.Headers = []config.HeaderField{{Name: "X-A", Value: "b"}}
		}, "POST / HTTP/1.1\r\nHost: h.example\r\nX-A: b\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"},
		{"an empty body of a method that has one", config.Server{Address: "192.0.2.1"}, func(k *config.Check) {
			k.Method = "PUT"
		}, "PUT / HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"HTTP/1.0 without Host", config.Server{Address: "192.0.2.1"}, func(k *config.Check) {
			k.Method, k.Version, k.Host = "OPTIONS", config.HTTP10, ""
		}, "OPTIONS / HTTP/1.0\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			to := listen(t, nil, func(c net.Conn) {
				b := make([]byte, len(tt.want))
				n, _ := io.ReadFull(c, b)
				got <- string(b[:n])
				io.WriteString(c, status(200))
			})
			doc := web(to)
			s := &doc.Backends[0].Servers[0]
			tt.server.Name, tt.server.Port = s.Name, s.Port
			*s = tt.server
			tt.change(doc.Backends[0].Check)
			b := newBox(t, Options{Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", to)
			}})
			b.addresses["a"] = netip.MustParseAddr("127.0.0.1")
			transcript, err := b.Probe(t.Context(), doc, "web", "a")
			if err != nil || !transcript.Good {
				t.Fatalf("Probe = %+v, %v", transcript, err)
			}
			if diff := cmp.Diff(tt.want, <-got); diff != "" {
				t.Errorf("bytes on the wire (-want +got):\n%s", diff)
			}
			if transcript.Request != tt.want || transcript.RequestSize != len(tt.want) {
				t.Errorf("the transcript has %d bytes %q", transcript.RequestSize, transcript.Request)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	ca := newAuthority(t, "ca")
	serverCertificate := ca.issue(2, time.Now().Add(time.Hour), "127.0.0.1")
	bare, overTLS := (*tls.Config)(nil), &tls.Config{Certificates: []tls.Certificate{serverCertificate}}
	text200 := func(body string) string { return "HTTP/1.1 200 OK\r\n\r\n" + body }
	expectText := func(k *config.Check) { k.ExpectText = "all is well" }
	isTLS := func(k *config.Check) { k.Type = config.CheckTLS }
	isTCP := func(k *config.Check) { k.Type = config.CheckTCP }
	soon := func(k *config.Check) { k.Timeout = config.Duration(50 * time.Millisecond) }
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	tests := []struct {
		name   string
		cfg    *tls.Config
		serve  func(net.Conn)
		change func(*config.Check)
		want   Code
		status int
		reason string
	}{
		{"good", bare, replies(status(204)), nil, L7OK, 204, "status 204"},
		{"good over TLS", overTLS, replies(status(200)), nil, L7OK, 200, "status 200"},
		{"redirect by default", bare, replies(status(302)), nil, L7OK, 302, ""},
		{"404", bare, replies(status(404)), nil, L7STS, 404, "status 404, and 200-399 is expected"},
		{"an expected 4xx", bare, replies(status(404)), func(k *config.Check) { k.ExpectStatus = []string{"200", "4xx"} }, L7OK, 404, ""},
		{"outside a range", bare, replies(status(205)), func(k *config.Check) { k.ExpectStatus = []string{"200-204", "301"} }, L7STS, 205, "200-204, 301"},
		{"text", bare, replies(text200("so all is well here")), expectText, L7OK, 200, "expected text"},
		{"text in chunks", bare, replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "6\r\n all i\r\n", "7\r\ns well.\r\n"), expectText, L7OK, 200, ""},
		{"text missing", bare, replies(text200("all is ill")), expectText, L7RSP, 200, "doesn't have the text all is well"},
		{"text in the head alone", bare, replies("HTTP/1.1 200 OK\r\nX: all is well\r\n\r\n"), expectText, L7RSP, 200, "doesn't have"},
		{"text across the reader's buffer", bare, replies(text200(strings.Repeat("x", 8180)), "all is", " well"), expectText, L7OK, 200, ""},
		{"text too far behind", bare, replies(text200(strings.Repeat("x", 70<<10) + "all is well")), expectText, L7RSP, 200, "the first 64KiB"},
		{"text before the body breaks off", bare, replies("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nall is well"), expectText, L7OK, 200, ""},
		{"body breaks off", bare, replies("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nall"), expectText, L7RSP, 200, "before its answer was complete"},
		{"text of a redirect isn't asked for (G81)", bare, replies(status(302)), expectText, L7OK, 302, ""},
		{"a redirect that isn't allowed", bare, replies(status(302)), func(k *config.Check) { k.ExpectText, k.ExpectStatus = "a", []string{"200"} }, L7STS, 302, ""},
		{"304 is no redirect", bare, replies(status(304)), expectText, L7RSP, 304, ""},
		{"interim answers first", bare, replies("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", status(200)), nil, L7OK, 200, ""},
		{"interim answers without end", bare, replies(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50)), nil, L7RSP, 0, "1xx"},
		{"garbage", bare, replies("SSH-2.0-OpenSSH_9\r\n"), nil, L7RSP, 0, "is no HTTP"},
		{"another major version", bare, replies("HTTP/2.0 200 OK\r\n\r\n"), nil, L7RSP, 0, "HTTP/2.0"},
		{"a head without end", bare, replies("HTTP/1.1 200 OK\r\n", strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 80)), nil, L7RSP, 0, "longer than 64KiB"},
		{"closes without an answer", bare, replies(), nil, L7RSP, 0, "closed the connection"},
		{"breaks off in the head", bare, replies("HTTP/1.1 200 OK\r\nConte"), nil, L7RSP, 0, "before its answer was complete"},
		{"resets", bare, func(c net.Conn) { io.ReadFull(c, make([]byte, 10)); reset(c) }, nil, L7RSP, 0, "reset"},
		{"hangs", bare, hang, soon, L7TOUT, 0, "no complete answer within 50ms"},
		{"body hangs", bare, func(c net.Conn) { replies("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nall")(c); hang(c) }, func(k *config.Check) { soon(k); expectText(k) }, L7TOUT, 200, ""},
		{"body hangs unread", bare, func(c net.Conn) { replies("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nall")(c); hang(c) }, nil, L7OK, 200, ""},
		{"HEAD", bare, replies("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), func(k *config.Check) { k.Method = "HEAD"; k.ExpectText = "x" }, L7RSP, 200, ""},
		{"tcp", bare, func(net.Conn) {}, isTCP, L4OK, 0, "took the connection"},
		{"tcp never looks at TLS", overTLS, func(net.Conn) {}, isTCP, L4OK, 0, ""},
		{"tls", overTLS, func(c net.Conn) { c.(*tls.Conn).Handshake(); hang(c) }, isTLS, L6OK, 0, "TLS handshake"},
		{"tls of a server without", bare, func(c net.Conn) { io.ReadFull(c, make([]byte, 10)); io.WriteString(c, status(400)); hang(c) }, isTLS, L6RSP, 0, "does not look like a TLS handshake"},
		{"tls hangs", bare, hang, func(k *config.Check) { soon(k); isTLS(k) }, L6TOUT, 0, "not done within 50ms"},
		{"tls resets", bare, func(c net.Conn) { io.ReadFull(c, make([]byte, 10)); reset(c) }, isTLS, L6RSP, 0, "reset"},
		{"tls too old", &tls.Config{Certificates: overTLS.Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, func(c net.Conn) { c.(*tls.Conn).Handshake() }, isTLS, L6RSP, 0, "protocol version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := web(listen(t, tt.cfg, tt.serve))
			doc.Backends[0].Servers[0].TLS = tt.cfg != nil
			doc.Backends[0].Check.Timeout = config.Duration(10 * time.Second)
			if tt.change != nil {
				tt.change(doc.Backends[0].Check)
			}
			got, err := newBox(t, Options{}).Probe(t.Context(), doc, "web", "a")
			if err != nil {
				t.Fatal(err)
			}
			if got.Code != tt.want || got.HTTPStatus != tt.status || !strings.Contains(got.Reason.String(), tt.reason) {
				t.Errorf("Probe = %s/%d %q (%s), want %s/%d with %q", got.Code, got.HTTPStatus, got.Reason, got.Error, tt.want, tt.status, tt.reason)
			}
			if isOK := strings.HasSuffix(string(tt.want), "OK"); got.Good != isOK {
				t.Errorf("Good = %v", got.Good)
			}
			if len(got.Response) > maxKept || got.Total <= 0 || got.Total.Std() > 5*time.Second || got.Connect <= 0 {
				t.Errorf("transcript with %d bytes of answer, total %s, connect %s", len(got.Response), got.Total, got.Connect)
			}
			if tt.cfg != nil && got.Good && tt.want != L4OK {
				if got.TLS == nil || len(got.TLS.Certificates) != 1 || got.Handshake <= 0 {
					t.Errorf("the transcript says of TLS %+v, handshake %s", got.TLS, got.Handshake)
				}
			}
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	doc := web(l.Addr().String())
	l.Close()
	got, err := newBox(t, Options{}).Probe(t.Context(), doc, "web", "a")
	if err != nil || got.Good || got.Code != L4CON || got.Reason.String() != "the server refuses connections" {
		t.Errorf("Probe = %+v, %v", got, err)
	}
}

// The way to a server over TLS: which name is sent, which is verified, who vouches.
func TestTrustAndNames(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	hour := time.Now().Add(time.Hour)
	forName, forIP := ca.issue(10, hour, "web1.example.net"), ca.issue(11, hour, "127.0.0.1")
	client := ca.issue(12, hour, "sluis")
	expired := ca.issue(13, time.Now().Add(-time.Hour), "web1.example.net")
	type want struct {
		code   Code
		sni    string
		reason string
	}
	tests := []struct {
		name   string
		shown  tls.Certificate
		change func(d *config.Document, b *config.Backend, s *config.Server)
		want   want
	}{
		{"nobody vouches", forName, func(d *config.Document, b *config.Backend, s *config.Server) { b.ServerTLS.Verify = config.VerifyNone }, want{L7OK, "", ""}},
		{"own name", forName, func(d *config.Document, b *config.Backend, s *config.Server) { s.Host = "web1.example.net" }, want{L7OK, "web1.example.net", ""}},
		{"own address", forIP, func(*config.Document, *config.Backend, *config.Server) {}, want{L7OK, "", ""}},
		{"wrong name", forName, func(d *config.Document, b *config.Backend, s *config.Server) { s.Host = "web2.example.net" }, want{L6RSP, "web2.example.net", "not for web2.example.net, but for web1.example.net"}},
		{"another name is verified", forName, func(d *config.Document, b *config.Backend, s *config.Server) {
			s.Host, b.ServerTLS.Name = "web2.example.net", "web1.example.net"
		}, want{L7OK, "web2.example.net", ""}},
		{"server's own name is verified, another sent", forName, func(d *config.Document, b *config.Backend, s *config.Server) {
			s.Host, b.ServerTLS.Name, b.ServerTLS.SNI = "web1.example.net", "{server}", "site.example.net"
		}, want{L7OK, "site.example.net", ""}},
		{"the check's own SNI", forName, func(d *config.Document, b *config.Backend, s *config.Server) {
			s.Host, b.ServerTLS.SNI, b.Check.SNI = "web1.example.net", "site.example.net", "{server}"
		}, want{L7OK, "web1.example.net", ""}},
		{"SNI as the request's host", forName, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.ServerTLS.SNI, b.Check.Host = "{host}", "web1.example.net"
		}, want{L7OK, "web1.example.net", ""}},
		{"no SNI for an address", forIP, func(d *config.Document, b *config.Backend, s *config.Server) { b.Check.SNI = "{server}" }, want{L7OK, "", ""}},
		{"another authority", forIP, func(d *config.Document, b *config.Backend, s *config.Server) { b.ServerTLS.Authority = "other" }, want{L6RSP, "", "of no authority"}},
		{"the system's", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.ServerTLS.Verify = config.VerifySystem
		}, want{L6RSP, "", "of no authority"}},
		{"the system's with one of ours", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.ServerTLS.Verify, d.Authorities[0].Trust = config.VerifySystem, true
		}, want{L7OK, "", ""}},
		{"expired", expired, func(d *config.Document, b *config.Backend, s *config.Server) { s.Host = "web1.example.net" }, want{L6RSP, "web1.example.net", "outside its time"}},
		{"revoked", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.ServerTLS.RevocationList = "list"
			d.RevocationLists = []config.RevocationList{{Name: "list", Authority: "ca", List: ca.revocationList(3, 11)}}
		}, want{L6RSP, "", "revoked"}},
		{"revoked by a list of ours", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.ServerTLS.RevocationList = "list"
			d.RevocationLists = []config.RevocationList{{Name: "list", Authority: "ca", Revoked: []config.RevokedCertificate{{Name: "x", Serial: "b"}}}}
		}, want{L6RSP, "", "revoked"}},
		{"another one is revoked", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.ServerTLS.RevocationList = "list"
			d.RevocationLists = []config.RevocationList{{Name: "list", Authority: "ca", List: ca.revocationList(3)}}
		}, want{L7OK, "", ""}},
		{"a server that wants a certificate gets none", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.Check.Path = "/private"
		}, want{L7RSP, "", "certificate required"}},
		{"a server that wants a certificate gets it", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.Check.Path, b.ServerTLS.ClientCertificate = "/private", "mine"
		}, want{L7OK, "", ""}},
		{"oldest version", forIP, func(d *config.Document, b *config.Backend, s *config.Server) {
			b.Check.Path, b.ServerTLS.MinVersion = "/old", config.TLS13
		}, want{L6RSP, "", "protocol version"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &tls.Config{Certificates: []tls.Certificate{tt.shown}, ClientCAs: x509.NewCertPool()}
			cfg.ClientCAs.AddCert(ca.cert)
			sni := make(chan string, 1)
			cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				sni <- hello.ServerName
				return nil, nil
			}
			doc := &config.Document{Authorities: []config.Authority{{Name: "ca", Certificate: ca.pem()}, {Name: "other", Certificate: other.pem()}}}
			doc.Backends = web("127.0.0.1:1").Backends
			b, s := &doc.Backends[0], &doc.Backends[0].Servers[0]
			b.ServerTLS.Verify, b.ServerTLS.Authority, s.TLS = config.VerifyAuthority, "ca", true
			tt.change(doc, b, s)
			switch b.Check.Path {
			case "/private":
				cfg.ClientAuth = tls.RequireAndVerifyClientCert
			case "/old":
				cfg.MaxVersion = tls.VersionTLS12
			}
			to := listen(t, cfg, replies(status(200)))
			s.Port = web(to).Backends[0].Servers[0].Port
			got, err := newBox(t, Options{Certificate: func(name string) *tls.Certificate {
				if name == "mine" {
					return &client
				}
				return nil
			}}).Probe(t.Context(), doc, "web", "a")
			if err != nil {
				t.Fatal(err)
			}
			if got.Code != tt.want.code || !strings.Contains(got.Reason.String(), tt.want.reason) {
				t.Errorf("Probe = %s %q (%s), want %s with %q", got.Code, got.Reason, got.Error, tt.want.code, tt.want.reason)
			}
			if sent := <-sni; sent != tt.want.sni {
				t.Errorf("SNI = %q, want %q", sent, tt.want.sni)
			}
			if b.Check.Path == "/" && (got.TLS == nil || len(got.TLS.Certificates) == 0) {
				t.Error("the transcript has no certificate")
			}
		})
	}
}

func TestProxyProtocol(t *testing.T) {
	for version, want := range map[config.ProxyProtocol]string{
		config.ProxyV1: "PROXY TCP4 127.0.0.1 127.0.0.1 ", config.ProxyV2: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00GET /", config.ProxyOff: "GET / HTTP/1.1\r\n",
	} {
		t.Run(string(version), func(t *testing.T) {
			got := make(chan string, 1)
			doc := web(listen(t, nil, func(c net.Conn) {
				b := make([]byte, len(want))
				io.ReadFull(c, b)
				got <- string(b)
				io.WriteString(c, status(200))
			}))
			doc.Backends[0].Servers[0].SendProxy = version
			if _, err := newBox(t, Options{}).Probe(t.Context(), doc, "web", "a"); err != nil {
				t.Fatal(err)
			}
			if g := <-got; g != want {
				t.Errorf("the server got %q, want %q", g, want)
			}
		})
	}
}

func TestProbeThatCannotBe(t *testing.T) {
	b := newBox(t, Options{})
	doc := web("name.example")
	for name, ask := range map[string]func() (*Transcript, error){
		"no backend": func() (*Transcript, error) { return b.Probe(t.Context(), doc, "other", "a") },
		"no server":  func() (*Transcript, error) { return b.Probe(t.Context(), doc, "web", "z") },
		"no address": func() (*Transcript, error) { return b.Probe(t.Context(), doc, "web", "a") },
		"no check": func() (*Transcript, error) {
			return b.Probe(t.Context(), &config.Document{Backends: []config.Backend{{Name: "web"}}}, "web", "a")
		},
		"no authority": func() (*Transcript, error) {
			d := web("127.0.0.1:1")
			d.Backends[0].Servers[0].TLS = true
			d.Backends[0].ServerTLS = config.ServerTLS{Verify: config.VerifyAuthority, Authority: "gone"}
			return b.Probe(t.Context(), d, "web", "a")
		},
	} {
		if got, err := ask(); err == nil {
			t.Errorf("%s: Probe = %+v, want an error", name, got)
		}
	}
}

func FuzzContains(f *testing.F) {
	f.Add("so all is well", "all is well", uint8(3))
	f.Add("aaaaaaab", "aaab", uint8(1))
	f.Fuzz(func(t *testing.T, body, want string, step uint8) {
		if want == "" {
			t.Skip()
		}
		got, err := contains(&steps{body, int(step)%7 + 1}, want)
		if slow := strings.Contains(body, want); got != slow || err != nil {
			t.Errorf("contains(%q, %q) = %v, %v, want %v", body, want, got, err, slow)
		}
	})
}

// steps yields a few bytes at each read.
type steps struct {
	rest string
	size int
}

func (s *steps) Read(b []byte) (int, error) {
	if s.rest == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.size)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
