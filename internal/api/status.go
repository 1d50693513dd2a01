package api

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sluis/internal/control"
)

// statusOperations tell what the load balancer does.
func (a *API) statusOperations() {
	get := func(path, id, summary string) huma.Operation {
		return operation(http.MethodGet, "/status/"+path, id, tagOperate, summary)
	}
	handle(a, get("balancer", "get-balancer-status", "Read the state and the numbers of the whole load balancer"),
		func(_ context.Context, c control.Caller, _ *nothing) (*value[control.BalancerStatus], error) {
			return valueOf(a.control.BalancerStatus(c))
		})
	handle(a, get("frontends", "list-frontend-status", "Read the state and the numbers of all frontends in effect"),
		func(_ context.Context, c control.Caller, _ *nothing) (*value[List[control.FrontendStatus]], error) {
			all, err := a.control.BalancerStatus(c)
			return listOf(all.Frontends, "", err)
		})
	handle(a, get("backends", "list-backend-status", "Read the state and the numbers of all backends in effect, with their servers"),
		func(_ context.Context, c control.Caller, _ *nothing) (*value[List[control.BackendStatus]], error) {
			all, err := a.control.BalancerStatus(c)
			return listOf(all.Backends, "", err)
		})
	handle(a, get("backends/{backend}", "get-backend-status", "Read the state and the numbers of a backend, with its servers"),
		func(_ context.Context, c control.Caller, in *backendInput) (*value[control.BackendStatus], error) {
			return valueOf(a.control.BackendStatus(c, in.Backend))
		})
	server := get("backends/{backend}/servers/{server}", "get-server-status", "Read everything about a server: state, numbers, what its check found and when it changed")
	server.Description = "last_good is the last good health check from its first byte to its last, first_bad the first bad one after a good one: what changed stands between them."
	handle(a, server, func(_ context.Context, c control.Caller, in *serverInput) (*value[control.ServerDetail], error) {
		return valueOf(a.control.ServerDetail(c, in.Backend, in.Server))
	})
	handle(a, get("names", "list-name-status", "Read where the names of servers are found"),
		func(_ context.Context, c control.Caller, _ *nothing) (*value[List[control.NameStatus]], error) {
			names, err := a.control.Names(c)
			return listOf(names, "", err)
		})
	handle(a, get("requests", "list-requests", "List the newest requests that are still kept, oldest first"),
		func(_ context.Context, c control.Caller, in *requestsInput) (*value[List[control.Request]], error) {
			filter := in.filter()
			filter.Limit = in.Limit
			requests, err := a.control.Requests(c, filter)
			return listOf(requests, "", err)
		})
	stream := bytesOf(get("requests/stream", "stream-requests", "Read requests as they end (server-sent events)"), "text/event-stream")
	stream.Description = "Each event is named request, with the same JSON as /status/requests as its data. An event named gap has as its data how many requests were missed: the reader was too slow. " +
		"The stream ends when the reader may no longer read, and after an apply."
	handle(a, stream, a.streamRequests)
}

type backendInput struct {
	Backend string `path:"backend" doc:"Name of the backend."`
}

// RequestFilterInput says which requests are wanted.
type RequestFilterInput struct {
	Frontend string `query:"frontend" doc:"Only those of this frontend."`
	Backend  string `query:"backend" doc:"Only those of this backend."`
	Server   string `query:"server" doc:"Only those of the server of this name."`
	Status   string `query:"status" doc:"Only those with this status (404) or of this class (5xx)."`
	Client   string `query:"client" doc:"Only those from this address or network."`
	Query    string `query:"q" doc:"Only those with this text in host, target, user agent, referer, request ID, rule or reason, whatever the case."`
	Trouble  bool   `query:"trouble" doc:"Only those that did not go well: no answer, a status from 500 on, an end before its time, a retry."`
}

func (in RequestFilterInput) filter() control.RequestFilter {
	return control.RequestFilter{
		Frontend: in.Frontend, Backend: in.Backend, Server: in.Server, Status: in.Status, Client: in.Client, Text: in.Query, Trouble: in.Trouble,
	}
}

type requestsInput struct {
	RequestFilterInput
	Limit int `query:"limit" minimum:"0" maximum:"500" doc:"How many requests; 0 or absent is 50."`
}

type requestStreamInput struct{ RequestFilterInput }

func (a *API) streamRequests(_ context.Context, c control.Caller, in *requestStreamInput) (*huma.StreamResponse, error) {
	filter := in.filter()
	requests, err := a.control.FollowRequests(c, filter)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer requests.Close()
		r, w := humago.Unwrap(ctx)
		reader := reader{
			api: a, r: r,
			next: func(ctx context.Context) ([]byte, error) {
				found, missed, err := requests.Next(ctx)
				return encodeRequests(found, missed), err
			},
			may: func(c control.Caller) error { return a.control.MayRead(c) },
		}
		reader.stream(w, []byte(": these are the requests\n\n"))
	}}, nil
}

func encodeRequests(requests []control.Request, missed uint64) []byte {
	var b bytes.Buffer
	if missed > 0 {
		b.WriteString("event: gap\ndata: " + strconv.FormatUint(missed, 10) + "\n\n")
	}
	for _, r := range requests {
		b.WriteString("event: request\ndata: ")
		if err := writeJSON(&b, r); err != nil {
			panic("BUG: a request can't be written: " + err.Error())
		}
		b.WriteByte('\n') // writeJSON has ended the line of data
	}
	return b.Bytes()
}

// queryOf is a filter as the client sends it.
func queryOf(f control.RequestFilter) url.Values {
	query := url.Values{}
	for name, v := range map[string]string{
		"frontend": f.Frontend, "backend": f.Backend, "server": f.Server, "status": f.Status, "client": f.Client, "q": f.Text,
	} {
		if v != "" {
			query.Set(name, v)
		}
	}
	if f.Trouble {
		query.Set("trouble", "true")
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return query
}
