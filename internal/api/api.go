// Package api is the door for programs: REST with an OpenAPI 3.1 description and
// an event stream, the listeners that it is reached at (TLS for administrators'
// networks, a unix socket for the machine itself), and its Go client.
//
// A request goes this way:
//
//	Listener, Socket   who may come in at all; each connection gets a number
//	      │
//	API.ServeHTTP      bounds, who asks (token, session, password, peer), body
//	      │
//	an operation       a plain func: what the URL says → one call of control
//	      │
//	the answer         JSON or YAML with an ETag, or a problem (RFC 9457)
//
// It holds no rules: who may do what, what is checked and what is written down is
// control's. It promises bounds on whatever a client sends or keeps open, that
// neither a secret nor the cause of an internal fault gets into an answer, and
// that every route is in the description. Texts are rendered in English here, at
// one place.
//
// It does not serve pages, and it does not know cookies: a browser's session is
// the GUI's.
//
// Reading order: api.go (the way of a request), caller.go (who asks), problem.go
// (no), operation.go and openapi.go (description), place.go (objects of the
// document by URL), the operations (candidate.go, commit.go, history.go,
// people.go, events.go, status.go, metrics.go), server.go, listener.go, access.go and unix.go (the ways
// in), client.go.
package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// Bounds of one request.
const (
	maxBody      = 64 << 10           // bytes, but for documents
	maxDocument  = config.MaxDocument // bytes of a document or a part of one
	bodyTimeout  = time.Minute        // for the whole body to arrive
	writeTimeout = 30 * time.Second   // for the client to take each piece of an answer
)

// base is where the API begins.
const base = "/api/v1"

// Options are what the API stands on. Control and Auth are required.
type Options struct {
	Control *control.Control
	// Auth verifies credentials; what they allow is control's.
	Auth *auth.Auth
	// Metrics are the numbers of this moment as text, in the form that an Accept field
	// asks for; nil = there are none.
	Metrics func(ctx context.Context, accept string) (contentType string, body []byte, err error)
	// Log gets internal faults with their causes; nil = nobody does.
	Log *slog.Logger
}

// API answers requests. Its methods may be called from any goroutine.
type API struct {
	// Immutable.
	control   *control.Control
	auth      *auth.Auth
	log       *slog.Logger
	mux       *http.ServeMux
	huma      huma.API
	origin    *http.CrossOriginProtection
	heartbeat time.Duration // between signs of life of an event stream
	// describeJSON and describeYAML make the OpenAPI description once.
	describeJSON func() []byte
	describeYAML func() []byte

	// fresh is the number of the connection from which on connections are newer than
	// the last apply; answers on older ones end them.
	fresh atomic.Uint64
}

// New makes the API of a control that is ready.
func New(o Options) *API {
	a := &API{
		control: o.Control, auth: o.Auth, log: o.Log,
		mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(), heartbeat: heartbeatInterval,
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.huma = newHuma(a.mux)
	a.candidateOperations()
	a.objectOperations()
	a.commitOperations()
	a.historyOperations()
	a.peopleOperations()
	a.eventOperations()
	a.statusOperations()
	a.metricsOperation(o.Metrics)
	a.describeOperations()
	a.describeJSON = sync.OnceValue(a.openAPI)
	a.describeYAML = sync.OnceValue(func() []byte { return yamlOf(a.describeJSON()) })
	return a
}

// request is what ServeHTTP found out, for the operations.
type request struct {
	caller control.Caller
	from   netip.Addr // of the caller; auth.Local() for the machine itself
	body   []byte
}

type requestKey struct{}

func requestOf(ctx context.Context) request {
	r, ok := ctx.Value(requestKey{}).(request)
	if !ok {
		panic("BUG: an operation was called around ServeHTTP")
	}
	return r
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	c := connOf(r.Context())
	w := &answer{ResponseWriter: rw, control: http.NewResponseController(rw), last: func() bool { return a.old(c) }}
	defer a.recoverFrom(w, r)
	setHeaders(w.Header())
	// The deadline of the connection's answer before would fail a 100 Continue.
	_ = w.control.SetWriteDeadline(time.Time{})               // a writer without deadlines is a test's
	if r.URL.Path == "/healthz" || r.URL.Path == "/metrics" { // where programs look for them
		r = withPath(r, base+r.URL.Path)
	}
	if err := a.origin.Check(r); err != nil {
		a.refuse(w, &control.Fault{
			Kind: control.Forbidden, Message: text.M("a page of another site has sent this request"),
			Hint: text.M("send it from a page of this appliance, or by a program"),
		})
		return
	}
	found, err := a.admit(w, r)
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.dispatch(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, found)))
}

// setHeaders keeps browsers from making anything of an answer but showing it.
func setHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
}

func withPath(r *http.Request, path string) *http.Request {
	moved := r.Clone(r.Context())
	moved.URL.Path, moved.URL.RawPath = path, ""
	return moved
}

// public reports whether a request needs no login.
func public(r *http.Request) bool {
	switch r.URL.Path {
	case base + "/healthz":
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	case base + "/login", base + "/login/handover":
		return r.Method == http.MethodPost
	}
	return false
}

// admit finds out who asks, then takes the body: who isn't known sends no
// documents.
func (a *API) admit(w *answer, r *http.Request) (found request, err error) {
	if public(r) {
		found.caller, found.from, err = a.anonymous(r)
	} else {
		found.caller, found.from, err = a.caller(r, true)
	}
	if err != nil {
		return request{}, err
	}
	found.body, err = readBody(w, r)
	if err != nil {
		return request{}, err
	}
	r.Body = io.NopCloser(bytes.NewReader(found.body))
	return found, nil
}

// bodyLimit is how many bytes a request may bring.
func bodyLimit(r *http.Request) int64 {
	if strings.HasPrefix(r.URL.Path, base+"/candidate") || r.URL.Path == base+"/check-document" {
		return maxDocument
	}
	return maxBody
}

func readBody(w *answer, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	_ = w.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // a writer without deadlines is a test's
	limit := bodyLimit(r)
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = w.control.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, problemOf(http.StatusRequestEntityTooLarge, text.M("the request's body is too large; the limit is {most} bytes", "most", limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, problemOf(http.StatusRequestTimeout, text.M("the request's body didn't arrive in time"))
	case err != nil:
		return nil, problemOf(http.StatusBadRequest, text.M("the request's body could not be read to its end"))
	}
	return data, nil
}

// dispatch calls the operation of the route.
func (a *API) dispatch(w *answer, r *http.Request) {
	handler, pattern := a.mux.Handler(r)
	if pattern != "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	probe := &probe{header: http.Header{}}
	handler.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allowed := probe.header.Get("Allow")
		w.Header().Set("Allow", allowed)
		a.refuse(w, problemOf(http.StatusMethodNotAllowed, text.M("{path} can't be used with {method}; it takes {allowed}",
			"path", r.URL.Path, "method", r.Method, "allowed", allowed)))
		return
	}
	a.refuse(w, &control.Fault{
		Kind: control.NotFound, Message: text.M("there is nothing at {path}", "path", r.URL.Path),
		Hint: text.M("{path} describes everything that there is", "path", base+"/openapi.json"),
	})
}

// probe takes the mux's own answer, which is no problem document.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header { return p.header }

func (p *probe) WriteHeader(status int) { p.status = status }

func (p *probe) Write(data []byte) (int, error) { return len(data), nil }

// recoverFrom ends a request whose operation has panicked.
func (a *API) recoverFrom(w *answer, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) || r.Context().Err() != nil && w.begun {
		panic(http.ErrAbortHandler) // the client left while the answer was written
	}
	a.log.Error("panic in an operation", "method", r.Method, "path", r.URL.Path, "cause", cause, "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler) // half of an answer must not look like a whole one
	}
	writeProblem(w, problemOfFault(control.AsFault(errPanic)))
}

// errPanic stands for whatever an operation has panicked with.
var errPanic = errors.New("panic in an operation")

// old reports whether a connection is older than the last apply.
func (a *API) old(c conn) bool { return c.number < a.fresh.Load() }

// renew makes all connections there are old ones: whoever goes on does so on a
// fresh one, which shows that the way in still works.
func (a *API) renew(ctx context.Context) {
	a.fresh.Store(a.control.Accepted())
	connOf(ctx).server.closeIdle()
}

// answer is a ResponseWriter that gives the client a bounded time for each piece,
// and ends connections that are past their time.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	last    func() bool // whether this is the connection's last answer
	begun   bool
}

// Unwrap lets a ResponseController find the writer.
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *answer) WriteHeader(status int) {
	if !w.begun {
		w.begun = true
		if w.last() {
			w.Header().Set("Connection", "close")
		}
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *answer) Write(data []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	w.extend()
	return w.ResponseWriter.Write(data)
}

func (w *answer) extend() { _ = w.control.SetWriteDeadline(time.Now().Add(writeTimeout)) }
