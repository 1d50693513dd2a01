package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/auth"
	"sluis/internal/control"
	"sluis/internal/text"
)

var statusTime = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// balancer is a load balancer that says the same each time, and which requests it
// was asked for.
func balancer() control.Balancer {
	server := control.ServerStatus{
		Backend: "shop", Name: "web1", Address: "192.0.2.11:80", State: control.ServerDrain, Admin: "drain", Health: "up", Since: statusTime,
		Open: 2, WebSockets: 32, BoundSessions: 120, LastSeen: statusTime, Check: &control.CheckStatus{Code: "L7OK", HTTPStatus: 200, Good: true, Last: statusTime},
	}
	backend := control.BackendStatus{Name: "shop", Balance: "leastconn", State: control.BackendUp, Servers: []control.ServerStatus{server}}
	asked := func(f control.RequestFilter) control.Request {
		return control.Request{
			Time: statusTime, Frontend: f.Frontend, Backend: f.Backend, Server: f.Server, Reason: strings.Join([]string{f.Status, f.Client, f.Text}, " "), Retries: f.Limit,
			Redispatched: f.Trouble, Status: 200,
		}
	}
	return control.Balancer{
		Status: func() control.BalancerStatus {
			return control.BalancerStatus{
				Time: statusTime, Frontends: []control.FrontendStatus{{Name: "shop", WebSockets: 32, Answers: control.Answers{C2xx: 9}}}, Backends: []control.BackendStatus{backend},
			}
		},
		Server: func(b, s string) (control.ServerDetail, bool) {
			return control.ServerDetail{
				ServerStatus: server, Transitions: []control.Transition{{Time: statusTime, Up: true, Reason: text.M("back")}},
				LastGood: &control.Transcript{Start: statusTime, To: netip.MustParseAddrPort("192.0.2.11:80"), Good: true, Code: "L7OK", Response: "HTTP/1.1 200 OK\r\n"},
			}, b == "shop" && s == "web1"
		},
		Names: func() []control.NameStatus {
			return []control.NameStatus{{Name: "web.example", Servers: []string{"shop/web1"}, Address: netip.MustParseAddr("192.0.2.11"), Last: statusTime}}
		},
		Requests: func(f control.RequestFilter) ([]control.Request, error) { return []control.Request{asked(f)}, nil },
		Follow: func(f control.RequestFilter) (control.RequestReader, error) {
			pieces := make(chan uint64, 2)
			pieces <- 0
			pieces <- 5
			return control.RequestReader{
				Next: func(ctx context.Context) ([]control.Request, uint64, error) {
					select {
					case missed := <-pieces:
						return []control.Request{asked(f)}, missed, nil
					case <-ctx.Done():
						return nil, 0, ctx.Err()
					}
				},
				Close: func() {},
			}, nil
		},
		Act: func(context.Context, control.RuntimeAction) error { return nil },
	}
}

// What the load balancer tells goes through the door whole, to whoever may look, and
// names that aren't there are refused with the nearest one.
func TestStatusByClient(t *testing.T) {
	b := start(t, initial(t), loopback)
	ctx, c := t.Context(), b.local()
	all, err := c.Balancer(ctx)
	must(t, err)
	frontends, err := c.Frontends(ctx)
	must(t, err)
	backends, err := c.Backends(ctx)
	must(t, err)
	backend, err := c.Backend(ctx, "shop")
	must(t, err)
	server, err := c.Server(ctx, "shop", "web1")
	must(t, err)
	names, err := c.Names(ctx)
	must(t, err)
	if len(frontends.Items) != 1 || frontends.Items[0].Answers.C2xx != 9 || len(backends.Items) != 1 || len(all.Backends) != 1 || len(names.Items) != 1 {
		t.Fatalf("status: %+v %+v %+v", frontends, backends, names)
	}
	if diff := cmp.Diff(backends.Items[0], backend); diff != "" {
		t.Errorf("a backend by itself and in the list:\n%s", diff)
	}
	if diff := cmp.Diff(backend.Servers[0], server.ServerStatus); diff != "" {
		t.Errorf("a server by itself and in its backend:\n%s", diff)
	}
	if server.LastGood == nil || server.LastGood.Response != "HTTP/1.1 200 OK\r\n" || server.LastGood.To.String() != "192.0.2.11:80" || len(server.Transitions) != 1 {
		t.Errorf("the server's detail: %+v", server)
	}
	for name, err := range map[string]error{
		"shop":  second(c.Backend(ctx, "shpo")),
		"web1":  second(c.Server(ctx, "shop", "web2")),
		"a net": second(c.Requests(ctx, control.RequestFilter{Client: "office"})),
		"5xx":   second(c.Requests(ctx, control.RequestFilter{Status: "6xx"})),
	} {
		var problem *Problem
		if !errors.As(err, &problem) || problem.Status != 404 && problem.Status != 422 && problem.Status != 400 || !strings.Contains(problem.Error(), name) {
			t.Errorf("what isn't there: %v, want a hint that says %s", err, name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Every filter gets from the client to whoever looks for requests, in the list and in
// the stream; the stream says what it missed.
func TestRequestsByClient(t *testing.T) {
	b := start(t, initial(t), loopback)
	c := b.local()
	filter := control.RequestFilter{
		Frontend: "shop", Backend: "shop", Server: "web 1", Status: "5xx", Client: "192.0.2.0/24", Text: "a&b", Trouble: true, Limit: 7,
	}
	want := control.Request{
		Frontend: "shop", Backend: "shop", Server: "web 1", Reason: "5xx 192.0.2.0/24 a&b", Redispatched: true, Retries: 7, Status: 200,
	}
	list, err := c.Requests(t.Context(), filter)
	must(t, err)
	if len(list.Items) != 1 {
		t.Fatalf("requests: %+v", list)
	}
	want.Time = list.Items[0].Time
	if diff := cmp.Diff(want, list.Items[0]); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
	want.Retries = 0 // a follower has no limit
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var missed uint64
	n := 0
	err = c.FollowRequests(ctx, filter, func(r control.Request) error {
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("the stream (-want +got):\n%s", diff)
		}
		if n++; n == 2 {
			stop()
		}
		return nil
	}, func(k uint64) { missed += k })
	if !errors.Is(err, context.Canceled) || n != 2 || missed != 5 {
		t.Errorf("the stream ended with %v after %d requests, %d missed", err, n, missed)
	}
}

// Whoever isn't logged in reads nothing; a viewer reads everything.
func TestStatusNeedsAViewer(t *testing.T) {
	b := start(t, initial(t), loopback)
	for _, path := range []string{
		"/status/balancer", "/status/frontends", "/status/backends", "/status/backends/shop", "/status/backends/shop/servers/web1", "/status/names", "/status/requests", "/status/requests/stream",
	} {
		for token, want := range map[string]int{"": http.StatusUnauthorized, b.tokens[auth.Viewer]: http.StatusOK} {
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
			q, err := http.NewRequestWithContext(ctx, "GET", b.listener.URLs()[0]+base+path, nil)
			must(t, err)
			if token != "" {
				q.Header.Set("Authorization", "Bearer "+token)
			}
			answer, err := b.client.Do(q)
			must(t, err)
			_ = answer.Body.Close()
			stop()
			if answer.StatusCode != want {
				t.Errorf("%s with token %v = %s", path, token != "", answer.Status)
			}
		}
	}
}
