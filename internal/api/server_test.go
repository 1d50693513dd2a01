package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory, so that time can be the test's.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// A drain lets requests finish for a while; one that is held gets its answer out
// however long that takes, unless the process ends.
func TestDrain(t *testing.T) {
	tests := []struct {
		name        string
		takes       time.Duration
		held, final bool
		whole       bool
	}{
		{"short", drainTime / 2, false, false, true},
		{"long", 2 * drainTime, false, false, false},
		{"long and held", 3 * drainTime, true, false, true},
		{"long and held at the end", 3 * drainTime, true, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if tt.held {
						defer connOf(r.Context()).server.hold()()
					}
					time.Sleep(tt.takes) // the bubble's time
					_, _ = io.WriteString(w, "whole")
				})
				s := newServer(handler, func() uint64 { return 1 }, slog.New(slog.DiscardHandler), func(net.Conn, *conn) {})
				s.serve(l)
				transport := &http.Transport{DialContext: l.dial}
				defer transport.CloseIdleConnections()
				answered := make(chan bool, 1)
				go func() {
					r, err := try(t, &http.Client{Transport: transport}, "GET", "http://sluis/", "")
					answered <- err == nil && string(r.body) == "whole"
				}()
				synctest.Wait()
				begun := time.Now()
				s.drain(tt.final)
				if whole := <-answered; whole != tt.whole {
					t.Errorf("answered whole: %v after %v, want %v", whole, time.Since(begun), tt.whole)
				}
				time.Sleep(tt.takes) // the handler's end, where it was cut off
			})
		})
	}
}
