package api

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sluis/internal/control"
)

// hello answers every request, with the number of its connection.
func hello(w http.ResponseWriter, r *http.Request) {
	c := connOf(r.Context())
	if c.number == 0 || !c.local || c.uid != os.Geteuid() || c.server == nil {
		http.Error(w, "the connection isn't described", http.StatusTeapot)
	}
}

func listen(path string) (*Socket, error) {
	var number atomic.Uint64
	return ListenUnix(path, http.HandlerFunc(hello), func() uint64 { return number.Add(1) }, nil)
}

func overUnix(t *testing.T, path string) reply {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	return ask(t, &http.Client{Transport: transport}, "GET", "http://sluis/", "")
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	s, err := listen(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode = %v, want a socket for its owner alone", info.Mode())
	}
	overUnix(t, path).want(t, 200)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files, want the socket alone", len(entries))
	}
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "answers at") {
		t.Errorf("a second one on the path: %v", err)
	}
	overUnix(t, path).want(t, 200)
	s.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("a closed socket is left behind: %v", err)
	}

	// A process that was killed leaves its socket.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	s, err = listen(path)
	must(t, err)
	overUnix(t, path).want(t, 200)

	// Whoever comes next has replaced ours; closing leaves theirs.
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	s.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error("closing has removed what isn't its own")
	}
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("the file in the way = %q, %v", data, err)
	}
	if _, err := listen(filepath.Join(dir, strings.Repeat("s", 108))); err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("a path too long: %v", err)
	}
}

func TestPeers(t *testing.T) {
	f := func(c conn, want bool) {
		t.Helper()
		err := peerAllowed(c)
		if (err == nil) != want {
			t.Errorf("uid %d: %v, want allowed %v", c.uid, err, want)
		}
		if err != nil && control.AsFault(err).Kind != control.Forbidden {
			t.Errorf("uid %d: %v", c.uid, err)
		}
	}
	f(conn{local: true, uid: 0}, true)
	f(conn{local: true, uid: os.Geteuid()}, true)
	f(conn{local: true, uid: 65534}, os.Geteuid() == 65534)
	f(conn{local: true, uid: -1}, false)
}

// A request that comes through no listener of ours, or from nowhere, must not pass
// for one from the machine itself.
func TestUnknownSourceIsNotLocal(t *testing.T) {
	b := start(t, initial(t), loopback)
	r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/status", nil)
	must(t, err)
	for _, address := range []string{"", "@", "nonsense"} {
		r.RemoteAddr = address
		w := &probe{header: http.Header{}}
		b.api.ServeHTTP(w, r)
		if w.status != http.StatusForbidden {
			t.Errorf("a request from %q = %d, want 403", address, w.status)
		}
	}
}
