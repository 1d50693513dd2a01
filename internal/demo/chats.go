package demo

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"
)

const (
	// pingEvery is how often a chat makes sure of its server.
	pingEvery = time.Second
	// pongWithin is how long nothing may come before a chat counts as cut.
	pongWithin = 15 * time.Second
	// connectWithin is how long a visitor waits for the site.
	connectWithin = 10 * time.Second
	// arriveWithin is the time over which the first visitors come.
	arriveWithin = 2 * time.Second
	// shortest and longest bound how long visitors chat: so that a server that drains
	// is seen to empty.
	shortest, longest = 10 * time.Second, 50 * time.Second
)

// chat is one visitor's conversation. It belongs to one goroutine.
type chat struct {
	cookies []*http.Cookie
	server  string    // where it is; empty before the first connection
	since   time.Time // when it came there
	moved   bool      // it came from another server
	until   time.Time // when its visitor leaves
}

// chatAll lets one visitor after another chat.
func (v *Visitors) chatAll(ctx context.Context, number int) {
	wait := arriveWithin * time.Duration(number) / time.Duration(max(v.options.Chats, 1))
	if !sleep(ctx, wait) {
		return
	}
	for ctx.Err() == nil {
		c := &chat{until: time.Now().Add(shortest + rand.N(longest-shortest))}
		v.converse(ctx, c)
	}
}

// converse holds one conversation: whenever it is cut, it is taken up again.
func (v *Visitors) converse(ctx context.Context, c *chat) {
	for reconnecting := false; ; reconnecting = true {
		socket := v.connect(ctx, c, reconnecting)
		if socket == nil {
			return
		}
		left, err := v.hold(ctx, c, socket)
		socket.close()
		if left || ctx.Err() != nil {
			v.note(func() { v.leaveLocked(c); v.chats.Ended++ })
			return
		}
		v.lose(c, err)
	}
}

func (v *Visitors) note(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// leaveLocked takes a chat out of its server's number. The caller holds mu.
func (v *Visitors) leaveLocked(c *chat) {
	at := v.chats.Servers[c.server]
	at.Open--
	if c.moved {
		at.Moved--
	}
	v.chats.Servers[c.server] = at
	v.chats.Open--
}

// enterLocked is its opposite.
func (v *Visitors) enterLocked(c *chat) {
	at := v.chats.Servers[c.server]
	at.Open++
	if c.moved {
		at.Moved++
	}
	v.chats.Servers[c.server] = at
	v.chats.Open++
}

// lose counts a chat that was closed by somebody else, and how.
func (v *Visitors) lose(c *chat, how error) {
	stopped := v.options.WasStopped(c.server, c.since)
	cut := fmt.Sprintf("a chat at %s was cut, though nobody had stopped that server: %v", c.server, how)
	v.note(func() {
		v.leaveLocked(c)
		v.chats.Reconnecting++
		if stopped {
			v.chats.Lost++
		} else {
			v.chats.Cut++
			v.chats.LastCut = cut
		}
		if v.wave == nil {
			v.wave = &Wave{Began: time.Now(), To: map[string]int{}}
		}
		v.wave.Chats++
		v.wave.lastLoss = time.Now()
	})
	if !stopped {
		v.trouble(cut)
	}
}

// regain counts a chat that goes on, at this server.
func (v *Visitors) regain(c *chat, server string) {
	v.note(func() {
		v.chats.Reconnecting--
		if server == c.server {
			v.chats.Returned++
		} else {
			v.chats.Moved++
			c.moved = true
		}
		c.server = server
		v.enterLocked(c)
		if w := v.wave; w != nil {
			w.back++
			w.To[server]++
			w.Took = Milliseconds(time.Since(w.Began))
		}
	})
}

// connect opens a conversation, however often that takes; nil when the visitors
// go home.
func (v *Visitors) connect(ctx context.Context, c *chat, reconnecting bool) *webSocket {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		socket, server, err := v.open(ctx, c)
		switch {
		case ctx.Err() != nil:
			if socket != nil {
				socket.close()
			}
			return nil
		case err != nil:
			v.trouble("a chat could not be opened: " + plain(err))
			if !sleep(ctx, wait) {
				return nil
			}
			continue
		case reconnecting:
			v.regain(c, server)
		default:
			c.server = server
			v.note(func() { v.enterLocked(c) })
		}
		return socket
	}
}

// open connects once: a new visitor fetches the page first, on the same connection,
// and comes to the chat with the cookies of it.
func (v *Visitors) open(ctx context.Context, c *chat) (*webSocket, string, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	conn, err := dialTLS(ctx, v.options.Site, v.tls)
	if err != nil {
		return nil, "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	r := bufio.NewReader(conn)
	if c.cookies == nil {
		if err := v.fetchPage(conn, r, c); err != nil {
			_ = conn.Close()
			return nil, "", err
		}
	}
	socket, header, err := openWebSocket(conn, r, v.options.Site, chatPath, cookieHeader(c.cookies))
	c.take(header)
	if err != nil {
		_ = conn.Close()
		return nil, "", err
	}
	c.since = time.Now()
	return socket, header.Get(serverField), nil
}

func (v *Visitors) fetchPage(conn net.Conn, r *bufio.Reader, c *chat) error {
	request, err := http.NewRequest(http.MethodGet, "https://"+v.options.Site+"/", http.NoBody)
	if err != nil {
		return err
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	response, err := http.ReadResponse(r, request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the chat's page was answered %d", response.StatusCode)
	}
	c.take(response.Header)
	return nil
}

// take keeps the cookies of an answer, each in place of its former one.
func (c *chat) take(header http.Header) {
	for _, cookie := range (&http.Response{Header: header}).Cookies() {
		c.cookies = slices.DeleteFunc(c.cookies, func(old *http.Cookie) bool { return old.Name == cookie.Name })
		c.cookies = append(c.cookies, cookie)
	}
}

func cookieHeader(cookies []*http.Cookie) http.Header {
	r := &http.Request{Header: http.Header{}}
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value, Quoted: c.Quoted})
	}
	return r.Header
}

// hold keeps a conversation until its visitor leaves, or somebody else ends it in
// the way that the error says.
func (v *Visitors) hold(ctx context.Context, c *chat, socket *webSocket) (left bool, err error) {
	socket.idle = pongWithin
	socket.pong = func(payload []byte) {
		if len(payload) == 8 {
			sent := int64(binary.BigEndian.Uint64(payload))
			v.roundTrips.add(time.Duration(time.Now().UnixNano() - sent))
		}
	}
	stop := context.AfterFunc(ctx, socket.close)
	defer stop()
	ended := make(chan struct{})
	leaving := make(chan struct{}) // closed when the visitor has said goodbye
	defer close(ended)
	v.running.Go(func() { pingUntil(socket, c.until, ended, leaving) })
	for {
		_, _, err := socket.receive()
		if err == nil {
			continue // what an agent says
		}
		select {
		case <-leaving:
			return true, nil
		default:
			return false, err
		}
	}
}

// pingUntil keeps a conversation alive until it is time to leave.
func pingUntil(socket *webSocket, until time.Time, ended <-chan struct{}, leaving chan<- struct{}) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case now := <-ticker.C:
			if now.After(until) {
				close(leaving)
				_ = socket.sendClose(closeNormal, "goodbye") // the reader sees how it ends
				return
			}
			_ = socket.send(opPing, binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))) // as above
		}
	}
}

// plain is an error in words for the story.
func plain(err error) string {
	var refused *refusedError
	if errors.As(err, &refused) && refused.server != "" {
		return fmt.Sprintf("%s answered %d", refused.server, refused.status)
	}
	return err.Error()
}

// sleep waits; false when the visitors go home meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
