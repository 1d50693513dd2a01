package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/event"
	"sluis/internal/pki"
	"sluis/internal/store"
)

// box is an appliance without a data plane: real rooms, a real TLS listener and a
// real unix socket.
type box struct {
	t        *testing.T
	store    *store.Store
	events   *event.Log
	auth     *auth.Auth
	pki      *pki.Set
	recorder *applytest.Recorder
	engine   *apply.Engine
	control  *control.Control
	listener *Listener
	api      *API
	socket   *Socket
	logged   *logBuffer
	// fault fails the store's disk; nil = it works.
	fault error
	// metrics are the numbers; set by the test that reads them.
	metrics func(context.Context, string) (string, []byte, error)
	// client is for requests that need no connection of their own.
	client *http.Client
	// roots trust the listener's certificate of the start.
	roots *x509.CertPool
	// tokens by role, with everything that the role may do.
	tokens map[auth.Role]string
}

// password is everybody's.
const password = "correct horse battery"

// initialYAML is what runs at the start of most tests.
const initialYAML = `
system: {hostname: lb1}
administrators:
- {name: ann, role: administrator, full_name: Ann}
- {name: bob, role: administrator}
- {name: oscar, role: operator, objects: ["backend:shop"]}
- {name: vera, role: viewer}
backends:
- name: shop
  servers:
  - {name: web1, address: 192.0.2.11, port: 80}
  - {name: web2, address: 192.0.2.12, port: 80}
- name: news
  servers: [{name: web1, address: 192.0.2.13, port: 80}]
frontends:
- {name: shop, binds: [{name: http, address: any, port: 80}], default_backend: shop}
- {name: news, binds: [{name: http, address: any, port: 81}], default_backend: news}
`

func initial(t *testing.T) *config.Document {
	t.Helper()
	doc, problems := config.Decode([]byte(initialYAML))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	return doc
}

// start boots a box that runs the document. Its listener is on a free port of
// loopback unless an address is given.
func start(t *testing.T, running *config.Document, address string) *box {
	t.Helper()
	b := &box{t: t, events: event.New(100), logged: &logBuffer{}}
	dir := t.TempDir()
	var err error
	b.store, err = store.Open(filepath.Join(dir, "state"), store.Options{Fault: func(string, string) error { return b.fault }})
	must(t, err)
	publish := func(e event.Event) { b.events.Publish(e) }
	log := slog.New(slog.NewTextHandler(b.logged, nil))
	state := func(name string) ([]byte, error) {
		data, err := b.store.State(name)
		if errors.Is(err, store.ErrNotFound) {
			return nil, fs.ErrNotExist
		}
		return data, err
	}
	b.auth, err = auth.New(auth.Options{
		Load: func() ([]byte, error) { return state("auth.json") },
		Save: func(data []byte) error { return b.store.PutState("auth.json", data) }, Publish: publish,
	})
	must(t, err)
	b.pki, err = pki.New(pki.Options{
		Secret: b.store.Secret, SaveKey: b.store.PutSecret,
		LoadState: func() ([]byte, error) {
			data, err := state("pki.json")
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return data, err
		},
		SaveState: func(data []byte) error { return b.store.PutState("pki.json", data) },
	})
	must(t, err)
	var door handlerLater
	b.listener = NewListener(ListenerOptions{
		Address: address, Handler: &door, Certificate: b.pki.Certificate, DefaultCertificate: b.pki.Default,
		Accepted: func() uint64 { return b.engine.Accepted() }, Log: log,
	})
	machine, err := applytest.NewMachine("", nil)
	must(t, err)
	b.recorder = applytest.NewRecorder("rest", machine)
	b.engine = apply.New(apply.Options{
		Subsystems: []apply.Subsystem{b.recorder, b.pkiPart(), b.authPart(), b.adminPart()},
		Store:      b.store, Publish: publish, Initial: running,
	})
	must(t, b.engine.Boot(t.Context()))
	b.control = control.New(control.Options{
		Store: b.store, Engine: b.engine, Auth: b.auth, Events: b.events, FactKeys: b.pki.Keys, Version: "test",
		Balancer: balancer(),
		Admits:   Admits, AdminURLs: b.listener.URLs,
	})
	b.api = New(Options{
		Control: b.control, Auth: b.auth, Log: log,
		Metrics: func(ctx context.Context, accept string) (string, []byte, error) { return b.metrics(ctx, accept) },
	})
	door.set(b.api)
	b.socket, err = ListenUnix(filepath.Join(dir, "s"), b.api, b.engine.Accepted, log)
	must(t, err)
	t.Cleanup(b.stop)
	b.roots = x509.NewCertPool()
	if leaf := b.listener.Leaf(); leaf != nil {
		b.roots.AddCert(leaf)
	}
	b.client = b.browser()
	b.credentials()
	return b
}

func (b *box) stop() {
	b.socket.Close()
	b.listener.Close()
	b.engine.Close()
	b.events.Close()
	_ = b.store.Close()
}

// credentials gives every role of the initial document a token.
func (b *box) credentials() {
	b.tokens = map[auth.Role]string{}
	for name, role := range map[string]auth.Role{"ann": auth.Administrator, "oscar": auth.Operator, "vera": auth.Viewer} {
		if _, ok := b.auth.Account(name); !ok {
			continue
		}
		_, secret, err := b.auth.CreateToken(name, "test", role, time.Time{})
		must(b.t, err)
		b.tokens[role] = secret
	}
}

// subsystem makes a subsystem of funcs.
type subsystem struct {
	name    string
	claims  []string
	prepare func(context.Context, *config.Document) (apply.Plan, config.Problems)
}

func (p subsystem) Name() string     { return p.name }
func (p subsystem) Claims() []string { return p.claims }

func (p subsystem) Prepare(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
	return p.prepare(ctx, next)
}

func (b *box) pkiPart() apply.Subsystem {
	return subsystem{"pki", b.pki.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := b.pki.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		return apply.Plan{Switch: change.Switch, Undo: change.Undo}, problems
	}}
}

func (b *box) authPart() apply.Subsystem {
	return subsystem{"auth", []string{"administrators"}, func(_ context.Context, next *config.Document) (apply.Plan, config.Problems) {
		accounts, err := control.Accounts(next, b.store.Secret)
		must(b.t, err)
		before := b.auth.Accounts()
		return apply.Plan{
			Switch: func(context.Context) error { return b.auth.SetAccounts(accounts) },
			Undo:   func(context.Context) error { return b.auth.SetAccounts(before) },
		}, nil
	}}
}

func (b *box) adminPart() apply.Subsystem {
	return subsystem{"admin", b.listener.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := b.listener.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		return apply.Plan{Add: change.Add, Switch: change.Switch, Remove: change.Remove, Undo: change.Undo}, problems
	}}
}

// handlerLater is a handler that is known only after the listener.
type handlerLater struct {
	mu sync.Mutex
	h  http.Handler
}

func (l *handlerLater) set(h http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h = h
}

func (l *handlerLater) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	h := l.h
	l.mu.Unlock()
	h.ServeHTTP(w, r)
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// local is a client over the unix socket.
func (b *box) local() *Client {
	c := Local(b.socket.Path())
	b.t.Cleanup(c.Close)
	return c
}

// browser is a keep-alive HTTPS client with connections of its own.
func (b *box) browser() *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// reply is what came back.
type reply struct {
	*http.Response
	body []byte
}

func (r reply) problem(t *testing.T) *Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(r.body, &p); err != nil || r.Header.Get("Content-Type") != problemMedia {
		t.Fatalf("answer %s of type %q is no problem: %s", r.Status, r.Header.Get("Content-Type"), r.body)
	}
	return &p
}

// ask makes a request. The headers are pairs; a URL without a host goes to the box.
func ask(t *testing.T, c *http.Client, method, url, body string, headers ...string) reply {
	t.Helper()
	r, err := try(t, c, method, url, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return r
}

func try(t *testing.T, c *http.Client, method, url, body string, headers ...string) (reply, error) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, reader)
	must(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	return reply{response, data}, err
}

// as asks as the holder of a role's token.
func (b *box) as(role auth.Role, method, path, body string, headers ...string) reply {
	b.t.Helper()
	if token := b.tokens[role]; token != "" {
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	return ask(b.t, b.client, method, b.url(path), body, headers...)
}

// admin asks as an administrator.
func (b *box) admin(method, path, body string, headers ...string) reply {
	b.t.Helper()
	return b.as(auth.Administrator, method, path, body, headers...)
}

func (b *box) url(path string) string { return b.listener.URLs()[0] + base + path }

// want fails unless the answer has the status.
func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("%s %s = %s, want %d; body: %s", r.Request.Method, r.Request.URL.Path, r.Status, status, r.body)
	}
	return r
}

// set puts a value into the candidate, whatever stands there.
func (b *box) set(path, value string) {
	b.t.Helper()
	if _, err := b.local().Set(b.t.Context(), path, []byte(value)); err != nil {
		b.t.Fatal(err)
	}
}

// apply brings the candidate about, over the unix socket.
func (b *box) apply(within time.Duration) control.Applied {
	b.t.Helper()
	applied, err := b.local().Apply(b.t.Context(), within, "", "")
	must(b.t, err)
	return applied
}

func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) != "" {
		holdPort()
		return
	}
	os.Exit(m.Run())
}
