package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strconv"

	"sluis/internal/proxy/loop"
	"sluis/internal/proxy/tlsio"
	"sluis/internal/proxy/transport"
)

// origin is the server behind the proxies: it answers GET /SIZE/… with a body of
// that size, as fast as it can.
type origin struct {
	loop    *loop.Loop
	tls     *tls.Config
	answers []answer

	served, sampled, forwarded uint64
}

// answer is a whole answer, made once.
type answer struct {
	size  int
	bytes []byte
}

// bodySizes are what may be asked for.
var bodySizes = []int{200, 64 << 10, 1 << 20}

// pattern is what bodies are made of: no part of it looks like the end of a head.
const pattern = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-."

func newOrigin(l *loop.Loop, certificate, key string) (*origin, error) {
	o := &origin{loop: l}
	for _, size := range bodySizes {
		b := []byte("HTTP/1.1 200 OK\r\nServer: origin/1.0\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n" +
			"Content-Type: text/html; charset=utf-8\r\nContent-Length: " + strconv.Itoa(size) +
			"\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n\r\n")
		o.answers = append(o.answers, answer{size: size, bytes: append(b, body(size)...)})
	}
	if certificate == "" {
		return o, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	o.tls = tlsio.Prepare(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	return o, nil
}

func body(size int) []byte {
	return bytes.Repeat([]byte(pattern), size/len(pattern)+1)[:size]
}

// door is a listening socket of the origin.
type door struct {
	loop.File
	origin *origin
	secure bool
}

func (o *origin) listen(address string, secure bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address of the origin: %w", err)
	}
	fd, err := loop.Bind(at, loop.BindOptions{})
	if err != nil {
		return err
	}
	d := &door{origin: o, secure: secure}
	return o.loop.Listen(&d.File, fd, d)
}

// Ready takes the connections that wait.
func (d *door) Ready(loop.Events) {
	for {
		fd, from, errno := d.Accept()
		if errno != 0 {
			return
		}
		c := &originConn{origin: d.origin}
		cfg := d.origin.tls
		if !d.secure {
			cfg = nil
		}
		c.Accept(d.origin.loop, c, fd, from, cfg)
	}
}

// originConn is a proxy's connection to the origin.
type originConn struct {
	transport.Conn
	origin *origin
	// left is what of an answer is not written yet.
	left []byte
}

// sampleEvery is how many messages share one close look.
const sampleEvery = 64

// headEnd ends a message's head.
var headEnd = []byte("\r\n\r\n")

// Data answers a request. Proxies send one at a time, so that the end of what came
// is the end of a head.
func (c *originConn) Data(b []byte) int {
	if !bytes.HasSuffix(b, headEnd) {
		return 0
	}
	o := c.origin
	o.served++
	if o.served%sampleEvery == 0 {
		o.sampled++
		if bytes.Contains(b, []byte("\r\nx-forwarded-for: 127.")) || bytes.Contains(b, []byte("\r\nX-Forwarded-For: 127.")) {
			o.forwarded++
		}
	}
	c.left = o.answerTo(b)
	if c.left == nil {
		c.Abort()
		return len(b)
	}
	c.write()
	return len(b)
}

// answerTo is the answer to GET /SIZE/…; nil = there is none.
func (o *origin) answerTo(request []byte) []byte {
	const before = len("GET /")
	size := 0
	for i := before; i < len(request) && request[i] >= '0' && request[i] <= '9'; i++ {
		size = size*10 + int(request[i]-'0')
	}
	for i := range o.answers {
		if o.answers[i].size == size {
			return o.answers[i].bytes
		}
	}
	return nil
}

// writePiece is how much of a large answer is written at once: what a socket does
// not take is copied.
const writePiece = tlsio.MaxWrite

func (c *originConn) write() {
	for len(c.left) > 0 && c.Pending() == 0 && c.IsOpen() {
		n := min(len(c.left), writePiece)
		c.Write(c.left[:n])
		c.left = c.left[n:]
	}
}

// Connected follows a handshake.
func (c *originConn) Connected() {}

// Drained goes on with a large answer.
func (c *originConn) Drained() { c.write() }

// Ended follows the proxy's end.
func (c *originConn) Ended() { c.CloseShort() }

// Closed follows a connection that is gone.
func (c *originConn) Closed(error) {}
