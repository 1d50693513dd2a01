package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func get(t *testing.T, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRequestsReachServersAndComeBack(t *testing.T) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			b := newBox(t, loops)
			big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
			o := b.origin("web1", func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/echo":
					_ = http.NewResponseController(w).EnableFullDuplex()
					_, _ = io.Copy(w, r.Body)
				case "/big":
					_, _ = w.Write(big)
				case "/chunked":
					for range 3 {
						_, _ = io.WriteString(w, "part ")
						w.(http.Flusher).Flush()
					}
				default:
					fmt.Fprintf(w, "%s %s", r.Method, r.URL)
				}
			})
			doc, address := b.site("", "", o)
			b.apply(doc)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range 3 {
				if _, body := get(t, client, "http://"+address+"/x?y=1"); body != "GET /x?y=1" {
					t.Errorf("got %q", body)
				}
			}
			if _, body := get(t, client, "http://"+address+"/big"); body != string(big) {
				t.Errorf("a large body came as %d bytes, want %d", len(body), len(big))
			}
			if _, body := get(t, client, "http://"+address+"/chunked"); body != "part part part " {
				t.Errorf("a chunked body came as %q", body)
			}
			for _, sized := range []bool{true, false} {
				var in io.Reader = bytes.NewReader(big)
				if !sized {
					in = io.MultiReader(in)
				}
				resp, err := client.Post("http://"+address+"/echo", "text/plain", in)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(body, big) {
					t.Errorf("sized %v: an uploaded body came back as %d bytes (%v), want %d", sized, len(body), err, len(big))
				}
			}
			if got := o.requests.Load(); got != 7 {
				t.Errorf("the server saw %d requests, want 7", got)
			}
			eventually(t, "the count of the requests", func() bool {
				st := b.Status()
				return st.Frontends[0].Requests == 7 && st.Backends[0].Servers[0].Requests == 7
			})
		})
	}
}

func TestTLSToClientsAndServers(t *testing.T) {
	b := newBox(t, 2)
	b.certificate("site", "shop.example", "*.wild.example", "127.0.0.1")
	b.certificate("other", "other.example")
	o := b.origin("web1", nil)
	doc, address := b.site("    tls: {certificates: [site, other], host_rule_from_certificate: true}\n", "    hsts: {max_age: 300s}\n", o)
	doc = strings.Replace(doc, "port: ", "tls: true, port: ", 1)
	b.apply(doc)
	for _, tt := range []struct {
		host, sni string
		status    int
		shows     string
	}{
		{"shop.example", "shop.example", 200, "shop.example"},
		{"shop.example:443", "shop.example", 200, "shop.example"},
		{"SHOP.example.", "shop.example", 200, "shop.example"},
		{"a.wild.example", "a.wild.example", 200, "shop.example"},
		{"a.b.wild.example", "shop.example", 503, "shop.example"},
		{"other.example", "other.example", 200, "other.example"},
		{"127.0.0.1", "", 200, "shop.example"},
		{"evil.example", "shop.example", 503, "shop.example"},
		{"shop.example.evil.example", "shop.example", 503, "shop.example"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c, err := tls.Dial("tcp", address, &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if err != nil {
				t.Fatalf("%s: %v", tt.host, err)
			}
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", tt.host)
			resp, _ := answer(t, bufio.NewReader(c), "GET")
			if resp.StatusCode != tt.status {
				t.Errorf("Host %s: status %d, want %d", tt.host, resp.StatusCode, tt.status)
			}
			if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != tt.shows {
				t.Errorf("SNI %q: certificate of %s, want %s", tt.sni, got, tt.shows)
			}
			if tt.status == 200 && resp.Header.Get("Strict-Transport-Security") != "max-age=300" {
				t.Errorf("HSTS is %q", resp.Header.Get("Strict-Transport-Security"))
			}
			c.Close()
		}
	}
	eventually(t, "the reason in the log", func() bool {
		return strings.Contains(b.lines.String(), "no certificate name matches Host evil.example")
	})
}

func TestWebSocketIsATunnel(t *testing.T) {
	b := newBox(t, 1)
	o := b.origin("web1", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	})
	doc, address := b.site("", "", o)
	b.apply(doc)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("got %v, %v", resp, err)
	}
	want := "firstearly"
	for i := range 100 {
		s := strings.Repeat(fmt.Sprint(i), 100)
		fmt.Fprint(c, s)
		want += s
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(r)
	if string(got) != want {
		t.Errorf("through the tunnel came %d bytes, want %d", len(got), len(want))
	}
	eventually(t, "the tunnel's end", func() bool { return b.Status().Frontends[0].WebSockets == 0 && b.Status().Connections == 0 })
	if st := b.Status().Backends[0].Servers[0]; st.InUse != 0 {
		t.Errorf("%d places are in use after the end", st.InUse)
	}
}
