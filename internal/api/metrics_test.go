package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluis/internal/auth"
	"sluis/internal/control"
	"sluis/internal/text"
)

// Whoever may look gets the numbers, in the form that they ask for, at both places;
// nobody else makes them even be counted.
func TestMetrics(t *testing.T) {
	b := start(t, initial(t), loopback)
	numbers := "sluis_things 1\n"
	var failure error
	calls := 0
	b.metrics = func(_ context.Context, accept string) (string, []byte, error) {
		calls++
		return "text/plain; accept=" + accept, []byte(numbers), failure
	}
	root := b.listener.URLs()[0]
	for _, url := range []string{root + "/metrics", b.url("/metrics")} {
		for _, role := range []auth.Role{auth.Administrator, auth.Operator, auth.Viewer} {
			bearer := []string{"Authorization", "Bearer " + b.tokens[role], "Accept", "x/y"}
			got := ask(t, b.client, "GET", url, "", bearer...).want(t, 200)
			if string(got.body) != numbers || got.Header.Get("Content-Type") != "text/plain; accept=x/y" {
				t.Errorf("%s as %s = %q, %v", url, role, got.body, got.Header)
			}
			if got := ask(t, b.client, "HEAD", url, "", bearer...).want(t, 200); len(got.body) != 0 || got.Header.Get("Content-Type") != "text/plain; accept=x/y" {
				t.Errorf("HEAD %s as %s: %q, %v", url, role, got.body, got.Header)
			}
			for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
				got := ask(t, b.client, method, url, "", bearer...).want(t, 405)
				if allowed := got.Header.Get("Allow"); got.problem(t).Detail == "" || allowed != "GET, HEAD" {
					t.Errorf("%s %s: Allow is %q", method, url, allowed)
				}
			}
		}
	}
	local := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", b.socket.Path())
	}}}
	defer local.CloseIdleConnections()
	if got := ask(t, local, "GET", "http://sluis/metrics", "").want(t, 200); string(got.body) != numbers {
		t.Errorf("over the unix socket: %q", got.body)
	}

	must(t, b.auth.SetPassword(t.Context(), "vera", password, ""))
	session, err := b.auth.Login(t.Context(), "vera", password, auth.Local())
	must(t, err)
	ask(t, b.client, "GET", root+"/metrics", "", "Authorization", "Bearer "+session.Token).want(t, 200)

	before := calls
	once, err := b.auth.ResetPassword(t.Context(), "vera")
	must(t, err)
	session, err = b.auth.Login(t.Context(), "vera", once.Password, auth.Local())
	must(t, err)
	ask(t, b.client, "GET", root+"/metrics", "", "Authorization", "Bearer "+session.Token).want(t, 403).problem(t)
	ask(t, b.client, "GET", root+"/metrics", "").want(t, 401).problem(t)
	ask(t, b.client, "GET", root+"/metrics", "", "Authorization", "Bearer slt_x").want(t, 401).problem(t)
	ask(t, b.client, "GET", root+"/metrics/", "", "Authorization", "Bearer "+b.tokens[auth.Viewer]).want(t, 404).problem(t)
	if calls != before {
		t.Errorf("numbers were read %d times for who may not see them", calls-before)
	}

	failure = &control.Fault{Kind: control.Busy, Message: text.M("too many readers")}
	if got := b.as(auth.Viewer, "GET", "/metrics", "").want(t, 503); got.Header.Get("Retry-After") == "" || !strings.Contains(got.problem(t).Detail, "too many readers") {
		t.Errorf("too many scrapes: %v %s", got.Header, got.body)
	}
	failure = errors.New("secret cause")
	if p := b.as(auth.Viewer, "GET", "/metrics", "").want(t, 500).problem(t); strings.Contains(p.Error(), "secret") {
		t.Errorf("an internal fault says %v", p)
	}
}

func TestNoMetrics(t *testing.T) {
	b := start(t, initial(t), loopback)
	none := New(Options{Control: b.control, Auth: b.auth})
	socket, err := ListenUnix(b.socket.Path()+"2", none, b.engine.Accepted, nil)
	must(t, err)
	defer socket.Close()
	local := Local(socket.Path())
	defer local.Close()
	_, err = local.send(t.Context(), call{method: "GET", path: "/metrics"}, nil)
	var no *Problem
	if !errors.As(err, &no) || no.Status != 501 {
		t.Errorf("an API without numbers: %v", err)
	}
}
