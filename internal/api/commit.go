package api

import (
	"context"
	"net/http"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// commitOperations bring the candidate about and act on what runs.
func (a *API) commitOperations() {
	post := http.MethodPost
	handle(a, operation(post, "/candidate/check", "check-candidate", tagApply, "Say everything that is wrong with the candidate, by itself and on this machine"), a.check)
	handle(a, takes(operation(post, "/check-document", "check-document", tagApply, "Say what is wrong with a document, which isn't kept"), refTo("Document"), mediaJSON), a.checkDocument)
	handle(a, operation(post, "/candidate/impact", "preview-impact", tagApply, "Say what an apply of the candidate would change and end"), a.impact)
	handle(a, operation(post, "/candidate/apply", "apply-candidate", tagApply, "Bring the candidate about, over everything at once"), a.apply)
	handle(a, operation(post, "/candidate/discard", "discard-candidate", tagCandidate, "Take back what the candidate would change: all, or one object"), a.discard)
	handle(a, operation(post, "/pending/confirm", "confirm-pending", tagApply, "Keep what was applied for a time; only on a connection newer than the apply"), a.confirm)
	handle(a, operation(post, "/pending/rollback", "roll-back-pending", tagApply, "Take back what was applied for a time, at once"), a.rollback)
	handle(a, operation(post, "/degraded/retry", "retry-degraded", tagApply, "Try again to bring about what a degraded appliance lacks"), a.retry)
	handle(a, operation(http.MethodGet, "/status", "get-status", tagOperate, "Read the state of the appliance"),
		func(ctx context.Context, c control.Caller, _ *nothing) (*value[control.Status], error) {
			return valueOf(a.control.Status(ctx, c))
		})
	for _, verb := range control.RuntimeVerbs() {
		a.runtimeOperation(verb)
	}
}

// problemsBody is what checks find.
type problemsBody struct {
	Problems config.Problems `json:"problems"`
}

func problemsAnswer(problems config.Problems, err error) (*value[problemsBody], error) {
	return valueOf(problemsBody{append(config.Problems{}, problems...)}, err)
}

func (a *API) check(ctx context.Context, c control.Caller, _ *nothing) (*value[problemsBody], error) {
	return problemsAnswer(a.control.Check(ctx, c))
}

func (a *API) checkDocument(ctx context.Context, c control.Caller, _ *nothing) (*value[problemsBody], error) {
	return problemsAnswer(a.control.CheckDocument(ctx, c, requestOf(ctx).body))
}

func (a *API) impact(ctx context.Context, c control.Caller, _ *nothing) (*value[control.Impact], error) {
	impact, err := a.control.Impact(ctx, c)
	if impact.Changes == nil {
		impact.Changes = []control.Change{}
	}
	impact.Ends = append(impact.Ends[:0:0], impact.Ends...)
	return valueOf(impact, err)
}

// applyBody says how the candidate is brought about.
type applyBody struct {
	ConfirmWithin string `json:"confirm_within,omitempty" doc:"Take it back after this time, such as 2m, unless it is confirmed; from 10s to 1h. Empty = it needs no confirmation."`
	Comment       string `json:"comment,omitempty" maxLength:"1000" doc:"Kept with the revision."`
	ETag          string `json:"etag,omitempty" doc:"The candidate that was reviewed; another one is refused. The same as If-Match."`
}

type applyInput struct {
	IfMatch string     `header:"If-Match" doc:"The ETag of the candidate that was reviewed; another one is refused."`
	Body    *applyBody `required:"false"`
}

func (in *applyInput) request() (control.ApplyRequest, error) {
	request := control.ApplyRequest{ETag: in.IfMatch}
	if in.Body == nil {
		return request, nil
	}
	request.Comment = in.Body.Comment
	if request.ETag == "" {
		request.ETag = in.Body.ETag
	}
	if in.Body.ConfirmWithin == "" {
		return request, nil
	}
	var within config.Duration
	if err := within.UnmarshalText([]byte(in.Body.ConfirmWithin)); err != nil {
		return request, &control.Fault{Kind: control.Invalid, Message: text.M("confirm_within: {reason}", "reason", err)}
	}
	request.ConfirmWithin = within.Std()
	return request, nil
}

func (a *API) apply(ctx context.Context, c control.Caller, in *applyInput) (*value[control.Applied], error) {
	request, err := in.request()
	if err != nil {
		return nil, err
	}
	var applied control.Applied
	err = a.settle(ctx, func() error {
		applied, err = a.control.Apply(ctx, c, request)
		return err
	})
	applied.Changes = append([]config.Change{}, applied.Changes...)
	applied.Problems = append(config.Problems{}, applied.Problems...)
	return valueOf(applied, err)
}

// settle runs what may change the way in. Its own connection is kept until the
// answer is out, and when it went through, all connections there are become old.
func (a *API) settle(ctx context.Context, do func() error) error {
	defer connOf(ctx).server.hold()()
	err := do()
	if err == nil {
		a.renew(ctx)
	}
	return err
}

func (a *API) confirm(ctx context.Context, c control.Caller, _ *nothing) (*nothing, error) {
	return &nothing{}, a.settle(ctx, func() error { return a.control.Confirm(ctx, c) })
}

func (a *API) rollback(ctx context.Context, c control.Caller, _ *nothing) (*nothing, error) {
	return &nothing{}, a.settle(ctx, func() error { return a.control.Rollback(ctx, c) })
}

func (a *API) retry(ctx context.Context, c control.Caller, _ *nothing) (*nothing, error) {
	return &nothing{}, a.settle(ctx, func() error { return a.control.Retry(ctx, c) })
}

// placeBody names an object of the document; empty = all of it.
type placeBody struct {
	Path string `json:"path,omitempty" doc:"The object, by the path of its change; empty = everything."`
}

func (b *placeBody) path() string {
	if b == nil {
		return ""
	}
	return b.Path
}

type discardInput struct {
	IfMatch string     `header:"If-Match" doc:"The ETag of the candidate that was seen; * for whatever stands there."`
	Body    *placeBody `required:"false"`
}

func (a *API) discard(_ context.Context, c control.Caller, in *discardInput) (*nothing, error) {
	return &nothing{}, a.control.Discard(c, in.Body.path(), control.Match{ETag: in.IfMatch})
}

// serverInput names a server of a running backend.
type serverInput struct {
	Backend string `path:"backend" doc:"Name of the running backend."`
	Server  string `path:"server" doc:"Name of its server."`
}

type weightInput struct {
	Backend string `path:"backend" doc:"Name of the running backend."`
	Server  string `path:"server" doc:"Name of its server."`
	Body    struct {
		Weight int `json:"weight" minimum:"0" maximum:"256" doc:"The new share of the work; 0 = none for new clients."`
	}
}

func (a *API) runtimeOperation(verb control.RuntimeVerb) {
	summaries := map[control.RuntimeVerb]string{
		control.Drain:       "Send no new clients to a server; those that are bound to it still come",
		control.Maintenance: "Send no clients at all to a server",
		control.Ready:       "Take a server back to work",
		control.Weight:      "Give a server another share of the work, until it is given another one",
	}
	o := operation(http.MethodPost, "/runtime/backends/{backend}/servers/{server}/"+string(verb), string(verb)+"-server", tagOperate, summaries[verb])
	o.Description = "The answer is what the server has now: the open requests, WebSockets and bound sessions that a drain waits for are counted, not guessed. " +
		"They go on changing: read /status/backends/{backend}/servers/{server} again."
	act := func(ctx context.Context, c control.Caller, backend, server string, weight int) (*value[control.ServerStatus], error) {
		return valueOf(a.control.Act(ctx, c, control.RuntimeAction{Backend: backend, Server: server, Verb: verb, Weight: weight}))
	}
	if verb == control.Weight {
		handle(a, o, func(ctx context.Context, c control.Caller, in *weightInput) (*value[control.ServerStatus], error) {
			return act(ctx, c, in.Backend, in.Server, in.Body.Weight)
		})
		return
	}
	handle(a, o, func(ctx context.Context, c control.Caller, in *serverInput) (*value[control.ServerStatus], error) {
		return act(ctx, c, in.Backend, in.Server, 0)
	})
}
