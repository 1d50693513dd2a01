package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// Problem is a "no" as it travels: problem details by RFC 9457 with members of our
// own. The server makes it of a control.Fault; the client returns it as an error.
type Problem struct {
	// Type is urn:sluis:problem: and the kind; programs branch on it.
	Type string `json:"type" doc:"What sort of problem it is, as a URN; programs branch on it."`
	// Title is the same for all problems of a type.
	Title string `json:"title" doc:"The same for all problems of a type."`
	// Status is the HTTP status.
	Status int `json:"status" doc:"The HTTP status."`
	// Detail says what was refused, and why.
	Detail string `json:"detail" doc:"What was refused, and why."`
	// Hint says what to do; empty where that is plain.
	Hint string `json:"hint,omitempty" doc:"What to do about it."`
	// Problems are the places of a document that are at fault.
	Problems config.Problems `json:"problems,omitempty" doc:"The places of the document that are at fault."`
	// Current is the object as it stands, where somebody else has changed it; absent
	// where it is gone, and for whole documents, which are fetched.
	Current json.RawMessage `json:"current,omitempty" doc:"The object as it stands now, where somebody else has changed it."`
	// ETag names the state of Current.
	ETag string `json:"etag,omitempty" doc:"The ETag of what stands there now."`
	// ChangedBy says who changed it last.
	ChangedBy *control.Mark `json:"changed_by,omitempty" doc:"Who changed it last, where that is known."`

	// retryAfter is how long to wait; zero where waiting doesn't help.
	retryAfter time.Duration
}

// maxCurrent is how large an object may be, in bytes, to be sent with a problem.
const maxCurrent = 256 << 10

// Error says the problem in English, in as many lines as it needs.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	if p.Detail == "" {
		b.WriteString(p.Title)
	}
	for _, problem := range p.Problems {
		where := problem.Path
		if problem.Line > 0 {
			where = strings.TrimSpace(fmt.Sprintf("line %d:%d  %s", problem.Line, problem.Column, where))
		}
		if where != "" {
			where += ": "
		}
		fmt.Fprintf(&b, "\n  %-8s %s%s", problem.Severity, where, problem.Message)
		if !problem.Hint.IsZero() {
			fmt.Fprintf(&b, "\n           → %s", problem.Hint)
		}
	}
	if p.Hint != "" {
		b.WriteString("\n" + p.Hint)
	}
	return b.String()
}

// Kind is the sort of fault that the problem was made of.
func (p *Problem) Kind() control.Kind { return control.Kind(strings.TrimPrefix(p.Type, problemType)) }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemMedia }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.Status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{`Bearer realm="Sluis"`, `Basic realm="Sluis", charset="UTF-8"`}
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((p.retryAfter+time.Second-1)/time.Second), 10))
	}
	return h
}

const (
	problemType  = "urn:sluis:problem:"
	problemMedia = "application/problem+json"
)

// form is how a kind of fault travels.
type form struct {
	status int
	title  text.Msg
	// retry is how long to wait where the fault doesn't say; zero = waiting doesn't
	// help.
	retry time.Duration
}

func formOf(kind control.Kind) form {
	switch kind {
	case control.Invalid:
		return form{status: http.StatusUnprocessableEntity, title: text.M("this can't be taken as it is")}
	case control.NotFound:
		return form{status: http.StatusNotFound, title: text.M("there is no such thing")}
	case control.Conflict:
		return form{status: http.StatusConflict, title: text.M("this doesn't fit what stands there")}
	case control.Changed:
		return form{status: http.StatusPreconditionFailed, title: text.M("it has changed in the meantime")}
	case control.MatchRequired:
		return form{status: http.StatusPreconditionRequired, title: text.M("a write needs the ETag of what was read")}
	case control.Unauthenticated:
		return form{status: http.StatusUnauthorized, title: text.M("nobody is logged in")}
	case control.Forbidden:
		return form{status: http.StatusForbidden, title: text.M("this isn't allowed")}
	case control.Throttled:
		return form{status: http.StatusTooManyRequests, title: text.M("too many attempts"), retry: time.Second}
	case control.Busy:
		return form{status: http.StatusServiceUnavailable, title: text.M("something else is going on"), retry: time.Second}
	case control.Refused:
		return form{status: http.StatusUnprocessableEntity, title: text.M("the checks say no")}
	case control.Failed:
		return form{status: http.StatusInternalServerError, title: text.M("it was tried, and did not work")}
	case control.Unavailable:
		return form{status: http.StatusNotImplemented, title: text.M("this build or mode can't do that")}
	case control.Storage:
		return form{status: http.StatusInsufficientStorage, title: text.M("the disk says no")}
	default:
		return form{status: http.StatusInternalServerError, title: text.M("something went wrong inside Sluis")}
	}
}

// render is the one place where texts become words. It is English until another
// catalogue stands here, chosen by Accept-Language.
func render(m text.Msg) string { return m.String() }

// problem makes of any error what is sent. The cause of a fault of our own goes
// into the log and nowhere else.
func (a *API) problem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	f := control.AsFault(err)
	if f.Kind == control.Internal {
		a.log.Error("internal fault", "cause", err)
	}
	return problemOfFault(f)
}

func problemOfFault(f *control.Fault) *Problem {
	form := formOf(f.Kind)
	p := &Problem{
		Type: problemType + string(f.Kind), Title: render(form.title), Status: form.status,
		Detail: render(f.Message), Hint: render(f.Hint), Problems: f.Problems, retryAfter: f.RetryAfter,
	}
	if p.retryAfter <= 0 {
		p.retryAfter = form.retry
	}
	if c := f.Current; c != nil {
		p.ETag, p.ChangedBy = c.ETag, c.Mark
		if c.Path != "" && len(c.JSON) <= maxCurrent {
			p.Current = c.JSON
		}
	}
	return p
}

// problemOf is a problem of the request itself, which control never saw.
func problemOf(status int, detail text.Msg) *Problem {
	title := http.StatusText(status)
	return &Problem{
		Type:  problemType + strings.ReplaceAll(strings.ToLower(title), " ", "_"),
		Title: title, Status: status, Detail: render(detail),
	}
}

// ofHuma turns huma's own errors, about parameters and bodies of requests, into
// problems. What was sent isn't repeated: it may have been a password.
func ofHuma(_ huma.Context, _ string, value any) (any, error) {
	model, ok := value.(*huma.ErrorModel)
	if !ok {
		return value, nil
	}
	p := problemOf(model.Status, text.M("this request can't be understood: {reason}", "reason", model.Detail))
	for _, e := range model.Errors {
		if e != nil {
			p.Problems.Add(e.Location, text.M("{reason}", "reason", e.Message))
		}
	}
	return p, nil
}

// refuse answers with what an error says.
func (a *API) refuse(w http.ResponseWriter, err error) { writeProblem(w, a.problem(err)) }

func writeProblem(w http.ResponseWriter, p *Problem) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemMedia)
	w.WriteHeader(p.Status)
	_ = writeJSON(w, p) // a client that has left doesn't read it
}
