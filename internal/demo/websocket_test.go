package demo

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// pair is both ends of a connection, the first of them as a WebSocket.
func pair(t *testing.T, client bool) (*webSocket, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	return &webSocket{conn: ours, r: bufio.NewReader(ours), client: client}, theirs
}

func TestAcceptKey(t *testing.T) {
	if got, want := acceptKey("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; got != want { // RFC 6455 section 1.3
		t.Errorf("acceptKey = %s, want %s", got, want)
	}
}

// TestReceive reads frames as RFC 6455 has them, and others.
func TestReceive(t *testing.T) {
	long := strings.Repeat("x", 200)
	tests := []struct {
		name   string
		client bool // the end that reads
		sent   string
		want   string // the message; empty = there is none
		code   int    // of the end; 0 = there is none
		answer string // what goes back at once
	}{
		{"text (5.7)", true, "\x81\x05Hello", "Hello", 0, ""},
		{"masked text (5.7)", false, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "Hello", 0, ""},
		{"fragments (5.7)", true, "\x01\x03Hel\x80\x02lo", "Hello", 0, ""},
		{"ping (5.7)", true, "\x89\x05Hello\x81\x00", "", 0, "\x8a\x85"},
		{"ping between fragments (5.4)", true, "\x01\x03Hel\x89\x00\x80\x02lo", "Hello", 0, "\x8a\x80"},
		{"256 bytes (5.7)", true, "\x82\x7e\x01\x00" + strings.Repeat("b", 256), strings.Repeat("b", 256), 0, ""},
		{"65,536 bytes (5.7)", true, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("b", 65536), strings.Repeat("b", 65536), 0, ""},
		{"one byte too many", true, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x01", "", closeTooBig, "\x88"},
		{"too many in fragments", true, "\x02\x7e\xff\xff" + strings.Repeat("b", 65535) + "\x80\x02bb", "", closeTooBig, "\x88"},
		{"close (5.5.1)", true, "\x88\x06\x03\xe8done", "", closeNormal, "\x88\x86"},
		{"close without a code", true, "\x88\x00", "", closeNoStatus, "\x88\x80"},
		{"close with half a code", true, "\x88\x01\x03", "", closeProtocol, "\x88"},
		{"close with a code that may not be sent (7.4.1)", true, "\x88\x02\x03\xed", "", closeProtocol, "\x88"},
		{"unmasked to a server (5.1)", false, "\x81\x05Hello", "", closeProtocol, "\x88"},
		{"masked to a client (5.1)", true, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "", closeProtocol, "\x88"},
		{"reserved bit (5.2)", true, "\xc1\x05Hello", "", closeProtocol, "\x88"},
		{"unknown opcode (5.2)", true, "\x83\x00", "", closeProtocol, "\x88"},
		{"unknown control opcode (5.2)", true, "\x8b\x00", "", closeProtocol, "\x88"},
		{"ping in fragments (5.5)", true, "\x09\x00", "", closeProtocol, "\x88"},
		{"long ping (5.5)", true, "\x89\x7e\x00\xc8" + long, "", closeProtocol, "\x88"},
		{"rest of nothing (5.4)", true, "\x80\x02lo", "", closeProtocol, "\x88"},
		{"a message inside another (5.4)", true, "\x01\x03Hel\x81\x02lo", "", closeProtocol, "\x88"},
		{"length in three bytes that fits into one (5.2)", true, "\x81\x7e\x00\x05Hello", "", closeProtocol, "\x88"},
		{"length in nine bytes that fits into three (5.2)", true, "\x81\x7f\x00\x00\x00\x00\x00\x00\x00\xc8" + long, "", closeProtocol, "\x88"},
		{"text that is not UTF-8 (8.1)", true, "\x81\x02\xc3\x28", "", closeNotUTF8, "\x88"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket, other := pair(t, tt.client)
			answers := make(chan []byte, 1)
			go func() {
				_, _ = other.Write([]byte(tt.sent)) // receive may end before all is read
			}()
			go func() {
				b := make([]byte, 64)
				n, _ := other.Read(b)
				answers <- b[:n]
			}()
			_, message, err := socket.receive()
			if got := string(message); got != tt.want {
				t.Errorf("receive = %.40q, want %.40q", got, tt.want)
			}
			var end *closeError
			if code := 0; tt.code != code || err != nil {
				if errors.As(err, &end) {
					code = end.code
				}
				if code != tt.code {
					t.Errorf("receive = %v, want the end with code %d", err, tt.code)
				}
			}
			_ = socket.conn.Close()
			if got := string(<-answers); !strings.HasPrefix(got, tt.answer) || tt.answer == "" && got != "" {
				t.Errorf("answer is %q, want it to begin %q", got, tt.answer)
			}
		})
	}
}

func TestSendAfterClose(t *testing.T) {
	socket, other := pair(t, true)
	go func() { _, _ = other.Read(make([]byte, 64)) }()
	if err := socket.sendClose(closeNormal, "goodbye"); err != nil {
		t.Fatal(err)
	}
	if err := socket.send(opText, []byte("too late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send after a close frame: %v, want it refused (RFC 6455 section 5.5.1)", err)
	}
}

func TestSilenceEndsAWebSocket(t *testing.T) {
	socket, _ := pair(t, true)
	socket.idle = time.Millisecond
	if _, _, err := socket.receive(); err == nil {
		t.Error("a silent connection goes on for ever")
	}
}

func TestHandshakesThatAreRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := acceptWebSocket(w, r); err == nil {
			s.close()
		}
	}))
	defer server.Close()
	tests := []struct {
		name          string
		method        string
		field, value  string
		remove        bool
		want          int
		wantInVersion bool
	}{
		{"as it should be", "GET", "", "", false, http.StatusSwitchingProtocols, false},
		{"tokens in lists and another case", "GET", "Connection", "keep-alive, UPGRADE", false, http.StatusSwitchingProtocols, false},
		{"own page", "GET", "Origin", server.URL, false, http.StatusSwitchingProtocols, false},
		{"another site's page (10.2)", "GET", "Origin", "https://elsewhere.test", false, http.StatusForbidden, false},
		{"another method", "POST", "", "", false, http.StatusMethodNotAllowed, false},
		{"no upgrade", "GET", "Upgrade", "", true, http.StatusUpgradeRequired, true},
		{"another upgrade", "GET", "Upgrade", "h2c", false, http.StatusUpgradeRequired, true},
		{"an older version (4.4)", "GET", "Sec-Websocket-Version", "8", false, http.StatusUpgradeRequired, true},
		{"no key", "GET", "Sec-Websocket-Key", "", true, http.StatusBadRequest, false},
		{"short key", "GET", "Sec-Websocket-Key", "c2hvcnQ=", false, http.StatusBadRequest, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequest(tt.method, server.URL, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{
				"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
			}
			if tt.remove {
				r.Header.Del(tt.field)
			} else if tt.field != "" {
				r.Header.Set(tt.field, tt.value)
			}
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = answer.Body.Close() }()
			if answer.StatusCode != tt.want {
				t.Errorf("answered %d, want %d", answer.StatusCode, tt.want)
			}
			if got := answer.Header.Get("Sec-Websocket-Version") == "13"; got != tt.wantInVersion {
				t.Errorf("the version that is spoken is told: %v, want %v", got, tt.wantInVersion)
			}
		})
	}
}

// FuzzReceive feeds one end anything. What it takes for a frame is what appendFrame
// makes of that frame.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x81\x05Hello"), true)
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), false)
	f.Add([]byte("\x82\x7e\x01\x00"+strings.Repeat("b", 256)), true)
	f.Add([]byte("\x88\x02\x03\xe8"), true)
	f.Fuzz(func(t *testing.T, data []byte, client bool) {
		s := &webSocket{r: bufio.NewReader(bytes.NewReader(data)), client: client}
		for taken := 0; ; {
			got, err := s.readFrame(maxMessage)
			if err != nil {
				return
			}
			var mask *[4]byte
			head := appendFrame(nil, got.op, got.payload, nil)
			size := len(head)
			if !client {
				size += 4
				mask = (*[4]byte)(data[taken+len(head)-len(got.payload):])
			}
			want := appendFrame(nil, got.op, got.payload, mask)
			if !got.final {
				want[0] &^= 0x80
			}
			if !bytes.Equal(data[taken:taken+size], want) {
				t.Fatalf("readFrame(%q) = %v, which is written %q", data[taken:], got, want)
			}
			taken += size
		}
	})
}
