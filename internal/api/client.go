package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
)

// maxAnswer bounds what a client reads of one answer, in bytes.
const maxAnswer = 64 << 20

// Client speaks to an appliance's API, over its unix socket or over the network.
type Client struct {
	base      string
	transport *http.Transport
	// where is what messages call the other side.
	where string
	// authorize adds who asks; nil over the unix socket, where the kernel says so.
	authorize func(*http.Request)
}

// Remote says how to reach an appliance over the network.
type Remote struct {
	// URL is the appliance's address, such as https://lb1.example.net:8443.
	URL string
	// Token is an API token or a session's; empty = Username and Password are used.
	Token string
	// Username and Password are sent with each request.
	Username, Password string
	// Roots verify the appliance's certificate; nil = the system's.
	Roots *x509.CertPool
	// Fingerprint is the SHA-256 of the only certificate that is accepted, in
	// hexadecimal with or without colons; empty = Roots decide.
	Fingerprint string
}

// Local is a client of the appliance on this machine.
func Local(socket string) *Client {
	dialer := net.Dialer{}
	return &Client{
		base: "http://sluis", where: socket,
		transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}},
	}
}

// NewClient is a client of an appliance over the network.
func NewClient(r Remote) (*Client, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of an appliance: it looks like https://lb1.example.net:8443", r.URL)
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.Roots}
	if r.Fingerprint != "" {
		if err := pin(tlsConfig, r.Fingerprint); err != nil {
			return nil, err
		}
	}
	return &Client{
		base: u.Scheme + "://" + u.Host, where: u.Host,
		transport: &http.Transport{TLSClientConfig: tlsConfig, Proxy: http.ProxyFromEnvironment},
		authorize: func(request *http.Request) {
			switch {
			case r.Token != "":
				request.Header.Set("Authorization", "Bearer "+r.Token)
			case r.Username != "":
				request.SetBasicAuth(r.Username, r.Password)
			}
		},
	}, nil
}

// pin accepts one certificate alone, whoever signed it.
func pin(c *tls.Config, fingerprint string) error {
	want, err := hex.DecodeString(strings.ReplaceAll(fingerprint, ":", ""))
	if err != nil || len(want) != sha256.Size {
		return fmt.Errorf("a fingerprint is a SHA-256: 64 hexadecimal digits, with or without colons")
	}
	c.InsecureSkipVerify = true // VerifyConnection decides instead
	c.VerifyConnection = func(state tls.ConnectionState) error {
		got := sha256.Sum256(state.PeerCertificates[0].Raw)
		if !bytes.Equal(got[:], want) {
			return fmt.Errorf("the appliance shows another certificate, with the fingerprint %x", got)
		}
		return nil
	}
	return nil
}

// Close ends idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// call is one request.
type call struct {
	method, path string
	query        url.Values
	etag         string // If-Match; "-" = If-None-Match: *
	body         any    // []byte is sent as it is, anything else as JSON
	accept       string // empty = JSON
}

// send makes a request and reads its whole answer. An answer that is a problem
// comes back as a *Problem.
func (c *Client) send(ctx context.Context, r call, out any) (http.Header, error) {
	response, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.where, err)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = data
	default:
		if err := json.Unmarshal(data, out); err != nil {
			return nil, fmt.Errorf("read the answer of %s: %w", c.where, err)
		}
	}
	return response.Header, nil
}

func (c *Client) open(ctx context.Context, r call) (*http.Response, error) {
	request, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: c.transport}).Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode < 400 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	problem := &Problem{Status: response.StatusCode, Title: response.Status}
	data, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err := json.Unmarshal(data, problem); err != nil {
		problem.Detail = strings.TrimSpace(string(data))
	}
	return nil, problem
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	var body io.Reader
	contentType := "application/json"
	switch b := r.body.(type) {
	case nil:
	case []byte:
		body, contentType = bytes.NewReader(b), "application/yaml"
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	target := c.base + "/api/v1" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if r.body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	if r.accept != "" {
		request.Header.Set("Accept", r.accept)
	}
	switch r.etag {
	case "":
	case "-":
		request.Header.Set("If-None-Match", "*")
	default:
		request.Header.Set("If-Match", r.etag)
	}
	if c.authorize != nil {
		c.authorize(request)
	}
	return request, nil
}

// Unreachable is the error of an appliance that doesn't answer.
type Unreachable struct {
	Where string
	Err   error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("can't reach Sluis at %s: %v", e.Where, e.Err)
}

// Unwrap is the network's own error.
func (e *Unreachable) Unwrap() error { return e.Err }

func (c *Client) unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &Unreachable{Where: c.where, Err: err}
}

// Status is the state of the appliance.
func (c *Client) Status(ctx context.Context) (status control.Status, err error) {
	_, err = c.send(ctx, call{method: "GET", path: "/status"}, &status)
	return status, err
}

// Balancer is the state and the numbers of the load balancer.
func (c *Client) Balancer(ctx context.Context) (status control.BalancerStatus, err error) {
	_, err = c.send(ctx, call{method: "GET", path: "/status/balancer"}, &status)
	return status, err
}

// Frontends are the state and the numbers of all frontends in effect.
func (c *Client) Frontends(ctx context.Context) (List[control.FrontendStatus], error) {
	return list[control.FrontendStatus](ctx, c, "/status/frontends", control.Page{})
}

// Backends are the state and the numbers of all backends in effect.
func (c *Client) Backends(ctx context.Context) (List[control.BackendStatus], error) {
	return list[control.BackendStatus](ctx, c, "/status/backends", control.Page{})
}

// Backend is the state of one backend.
func (c *Client) Backend(ctx context.Context, name string) (status control.BackendStatus, err error) {
	_, err = c.send(ctx, call{method: "GET", path: "/status/backends/" + url.PathEscape(name)}, &status)
	return status, err
}

// Server is everything that is known of one server.
func (c *Client) Server(ctx context.Context, backend, name string) (detail control.ServerDetail, err error) {
	_, err = c.send(ctx, call{method: "GET", path: "/status/backends/" + url.PathEscape(backend) + "/servers/" + url.PathEscape(name)}, &detail)
	return detail, err
}

// Names are the names of servers that are looked up.
func (c *Client) Names(ctx context.Context) (List[control.NameStatus], error) {
	return list[control.NameStatus](ctx, c, "/status/names", control.Page{})
}

// Requests are the newest requests that a filter wants, oldest first.
func (c *Client) Requests(ctx context.Context, f control.RequestFilter) (answer List[control.Request], err error) {
	_, err = c.send(ctx, call{method: "GET", path: "/status/requests", query: queryOf(f)}, &answer)
	return answer, err
}

// FollowRequests calls back for each request that a filter wants, from now on. It
// comes back when the stream ends, as it does after an apply; what ends in between
// isn't seen. missed tells how many this reader was too slow for.
func (c *Client) FollowRequests(ctx context.Context, f control.RequestFilter, each func(control.Request) error, missed func(uint64)) error {
	f.Limit = 0
	r := call{method: "GET", path: "/status/requests/stream", query: queryOf(f)}
	return again(ctx, func() (bool, error) {
		event := ""
		return c.lines(ctx, r, func(field, data string) error {
			switch {
			case field == "event":
				event = data
			case field == "data" && event == "gap":
				if n, err := strconv.ParseUint(data, 10, 64); err == nil {
					missed(n)
				}
			case field == "data":
				var request control.Request
				if err := json.Unmarshal([]byte(data), &request); err != nil {
					return fmt.Errorf("read a request of %s: %w", c.where, err)
				}
				return each(request)
			}
			return nil
		})
	})
}

// Format is a form in which a document is fetched.
type Format string

// The formats.
const (
	FormatJSON  Format = "json"  // every value, secrets hidden
	FormatYAML  Format = "yaml"  // every value, secrets as references
	FormatBrief Format = "brief" // YAML without what equals its default
)

// Document fetches a document: "candidate", "running", or a revision's number.
func (c *Client) Document(ctx context.Context, name string, format Format) (data []byte, etag string, err error) {
	path := "/" + name
	if _, err := strconv.Atoi(name); err == nil {
		path = "/revisions/" + name + "/document"
	}
	header, err := c.send(ctx, call{method: "GET", path: path, query: url.Values{"format": {string(format)}}}, &data)
	return data, header.Get("ETag"), err
}

// Value fetches the part of a document that stands at a path; the document is
// named as for Document.
func (c *Client) Value(ctx context.Context, document, path string, format Format) (data []byte, etag string, err error) {
	if _, err := strconv.Atoi(document); err == nil {
		document = "revisions/" + document
	}
	header, err := c.send(ctx, call{
		method: "GET", path: "/" + document + "/value", query: url.Values{"path": {path}, "format": {string(format)}},
	}, &data)
	return data, header.Get("ETag"), err
}

// Saved is the answer to an edit. It is saved, whatever its problems say.
type Saved struct {
	// Path is the place that was edited, under its new name after a rename.
	Path string `json:"path" doc:"The place that was edited; the new one after a rename. Empty = the whole document."`
	// ETag names the new state of what stands there; empty = nothing does any more.
	ETag string `json:"etag" doc:"Names the new state; empty = nothing stands there any more."`
	// Problems are hints: what is wrong with what was saved. It is an apply that an
	// error keeps back. Never nil.
	Problems config.Problems `json:"problems" doc:"What is wrong at and below that place, by itself and on this machine. It is saved all the same; an error keeps it from being applied."`
	// Value is what stands there now, with every value, secrets hidden; nil for the
	// whole document, and where nothing does any more.
	Value json.RawMessage `json:"value,omitempty" doc:"What stands there now, with every value and secrets hidden; absent for the whole document and after a removal."`
}

// Load replaces the candidate, whatever stands there.
func (c *Client) Load(ctx context.Context, document []byte) (saved Saved, err error) {
	_, err = c.send(ctx, call{method: "PUT", path: "/candidate", etag: "*", body: document}, &saved)
	return saved, err
}

// Set puts a value at a path of the candidate. An object or value that isn't there
// is created.
func (c *Client) Set(ctx context.Context, path string, value []byte) (Saved, error) {
	return c.editValue(ctx, call{method: "PUT", path: "/candidate/value", query: url.Values{"path": {path}}, body: value}, path)
}

// Delete removes what stands at a path of the candidate.
func (c *Client) Delete(ctx context.Context, path string) (Saved, error) {
	return c.editValue(ctx, call{method: "DELETE", path: "/candidate/value", query: url.Values{"path": {path}}}, path)
}

// Rename gives an object of the candidate another name, everywhere.
func (c *Client) Rename(ctx context.Context, path, name string) (Saved, error) {
	return c.editValue(ctx, call{
		method: "POST", path: "/candidate/value/rename", query: url.Values{"path": {path}}, body: map[string]string{"name": name},
	}, path)
}

// Move puts an element of a list before another one; before empty = at the end.
func (c *Client) Move(ctx context.Context, path, before string) (Saved, error) {
	return c.editValue(ctx, call{
		method: "POST", path: "/candidate/value/move", query: url.Values{"path": {path}}, body: map[string]string{"before": before},
	}, path)
}

// editValue makes an edit of what stands at a path at this moment: who types a
// command has seen no earlier state that could have changed.
func (c *Client) editValue(ctx context.Context, edit call, path string) (saved Saved, err error) {
	for attempt := 0; ; attempt++ {
		_, etag, err := c.Value(ctx, "candidate", path, FormatJSON)
		var problem *Problem
		switch {
		case errors.As(err, &problem) && problem.Status == http.StatusNotFound:
			edit.etag = "-"
		case err != nil:
			return saved, err
		default:
			edit.etag = etag
		}
		_, err = c.send(ctx, edit, &saved)
		if !errors.As(err, &problem) || problem.Status != http.StatusPreconditionFailed || attempt == 3 {
			return saved, err
		}
	}
}

// Discard takes back what the candidate would change; path empty = all of it.
func (c *Client) Discard(ctx context.Context, path string) error {
	_, err := c.send(ctx, call{method: "POST", path: "/candidate/discard", etag: "*", body: map[string]string{"path": path}}, nil)
	return err
}

// Check says what is wrong with the candidate.
func (c *Client) Check(ctx context.Context) (config.Problems, error) {
	var answer struct{ Problems config.Problems }
	_, err := c.send(ctx, call{method: "POST", path: "/candidate/check"}, &answer)
	return answer.Problems, err
}

// Impact says what an apply of the candidate would change and end.
func (c *Client) Impact(ctx context.Context) (impact control.Impact, err error) {
	_, err = c.send(ctx, call{method: "POST", path: "/candidate/impact"}, &impact)
	return impact, err
}

// Apply brings the candidate about.
func (c *Client) Apply(ctx context.Context, confirmWithin time.Duration, comment, etag string) (applied control.Applied, err error) {
	body := map[string]string{"comment": comment}
	if confirmWithin != 0 {
		body["confirm_within"] = config.Duration(confirmWithin).String()
	}
	_, err = c.send(ctx, call{method: "POST", path: "/candidate/apply", body: body, etag: etag}, &applied)
	return applied, err
}

// Confirm makes the pending revision the running one. It comes on a fresh
// connection, since only that shows that the way in still works.
func (c *Client) Confirm(ctx context.Context) error {
	c.transport.CloseIdleConnections()
	_, err := c.send(ctx, call{method: "POST", path: "/pending/confirm"}, nil)
	return err
}

// Rollback takes the pending revision back.
func (c *Client) Rollback(ctx context.Context) error {
	_, err := c.send(ctx, call{method: "POST", path: "/pending/rollback"}, nil)
	return err
}

// Retry tries again to bring about what a degraded box lacks.
func (c *Client) Retry(ctx context.Context) error {
	_, err := c.send(ctx, call{method: "POST", path: "/degraded/retry"}, nil)
	return err
}

// List is a part of a long list.
type List[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the rest; empty = this is the end.
	Next string `json:"next"`
}

func list[T any](ctx context.Context, c *Client, path string, page control.Page) (answer List[T], err error) {
	query := url.Values{}
	if page.Limit > 0 {
		query.Set("limit", strconv.Itoa(page.Limit))
	}
	if page.Cursor != "" {
		query.Set("cursor", page.Cursor)
	}
	if page.Query != "" {
		query.Set("q", page.Query)
	}
	_, err = c.send(ctx, call{method: "GET", path: path, query: query}, &answer)
	return answer, err
}

// Revisions lists the kept revisions, newest first.
func (c *Client) Revisions(ctx context.Context, page control.Page) (List[control.Revision], error) {
	return list[control.Revision](ctx, c, "/revisions", page)
}

// Difference is what differs between two documents.
type Difference struct {
	Changes []config.Change `json:"changes"`
	// Text is the same for people.
	Text string `json:"text"`
}

// Diff compares two documents: "running", "candidate" or numbers of revisions.
func (c *Client) Diff(ctx context.Context, from, to string) (answer Difference, err error) {
	_, err = c.send(ctx, call{method: "GET", path: "/diff", query: url.Values{"from": {from}, "to": {to}}}, &answer)
	return answer, err
}

// Restore makes a revision, or one object of it, the candidate.
func (c *Client) Restore(ctx context.Context, revision int, path string) error {
	_, err := c.send(ctx, call{method: "POST", path: fmt.Sprintf("/revisions/%d/restore", revision), etag: "*", body: map[string]string{"path": path}}, nil)
	return err
}

// Pin keeps a revision from being removed, or lets it go again.
func (c *Client) Pin(ctx context.Context, revision int, pinned bool) error {
	verb := "pin"
	if !pinned {
		verb = "unpin"
	}
	_, err := c.send(ctx, call{method: "POST", path: fmt.Sprintf("/revisions/%d/%s", revision, verb)}, nil)
	return err
}

// Users are the accounts of the running configuration.
func (c *Client) Users(ctx context.Context) (List[control.User], error) {
	return list[control.User](ctx, c, "/users", control.Page{})
}

// SetPassword gives an account a new password; current is asked for when it is the
// caller's own.
func (c *Client) SetPassword(ctx context.Context, account, current, password string) error {
	_, err := c.send(ctx, call{
		method: "POST", path: "/users/" + url.PathEscape(account) + "/password",
		body: map[string]string{"current": current, "new": password},
	}, nil)
	return err
}

// OneTimePassword is good for one login, which may only set a new password.
type OneTimePassword struct {
	Account  string   `json:"account"`
	Password string   `json:"password"`
	Notes    []string `json:"notes"`
}

// ResetPassword gives an account a one-time password; on the machine itself only.
func (c *Client) ResetPassword(ctx context.Context, account string) (once OneTimePassword, err error) {
	_, err = c.send(ctx, call{method: "POST", path: "/users/" + url.PathEscape(account) + "/reset"}, &once)
	return once, err
}

// Tokens lists API tokens; account empty = all that the caller may see.
func (c *Client) Tokens(ctx context.Context) (List[auth.Token], error) {
	return list[auth.Token](ctx, c, "/tokens", control.Page{})
}

// NewToken is a token with its secret, which is shown once.
type NewToken struct {
	auth.Token
	Secret string `json:"secret"`
}

// CreateToken makes a token. account empty = the caller's own; role empty = as the
// account's; expires zero = never.
func (c *Client) CreateToken(ctx context.Context, account, name string, role auth.Role, expires time.Time) (token NewToken, err error) {
	body := map[string]any{"account": account, "name": name, "role": role}
	if !expires.IsZero() {
		body["expires"] = expires
	}
	_, err = c.send(ctx, call{method: "POST", path: "/tokens", body: body}, &token)
	return token, err
}

// DeleteToken ends a token.
func (c *Client) DeleteToken(ctx context.Context, account, name string) error {
	_, err := c.send(ctx, call{method: "DELETE", path: "/tokens/" + url.PathEscape(account) + "/" + url.PathEscape(name)}, nil)
	return err
}

// Audit lists audit records, newest first.
func (c *Client) Audit(ctx context.Context, page control.Page) (List[control.AuditRecord], error) {
	return list[control.AuditRecord](ctx, c, "/audit", page)
}

// Act acts on a running server, and returns what it has then.
func (c *Client) Act(ctx context.Context, backend, server string, verb control.RuntimeVerb, weight int) (after control.ServerStatus, err error) {
	r := call{method: "POST", path: "/runtime/backends/" + url.PathEscape(backend) + "/servers/" + url.PathEscape(server) + "/" + string(verb)}
	if verb == control.Weight {
		r.body = map[string]int{"weight": weight}
	}
	_, err = c.send(ctx, r, &after)
	return after, err
}

// Event is one fact of the event stream.
type Event struct {
	ID   uint64          `json:"id"`
	Time time.Time       `json:"time"`
	Name string          `json:"name"`
	Text json.RawMessage `json:"text"`
	Data json.RawMessage `json:"data"`
}

// How a reader of events comes back after the stream has ended.
const (
	eventsPause    = time.Second // before each attempt
	eventsAttempts = 60          // without any success, before it is given up
)

// Events calls back for each event after the one with that number; 0 = from now
// on. When the stream ends, as it does after an apply, it goes on where it was. It
// returns when the context ends, each fails, or the appliance can't be reached
// again or says no.
func (c *Client) Events(ctx context.Context, after uint64, each func(Event) error) error {
	return again(ctx, func() (bool, error) { return c.follow(ctx, &after, each) })
}

// again reads a stream, and comes back when it ends.
func again(ctx context.Context, read func() (connected bool, err error)) error {
	begun, failures := false, 0
	for {
		connected, err := read()
		var stop *stopped
		var no *Problem
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.err
		case errors.As(err, &no) && no.Status != http.StatusServiceUnavailable, !begun && !connected:
			return err
		}
		begun, failures = true, failures+1
		if connected {
			failures = 0
		}
		if failures == eventsAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(eventsPause):
		}
	}
}

// stopped says that the caller wanted no more events.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }

// follow reads one stream to its end and keeps the number to go on from.
func (c *Client) follow(ctx context.Context, after *uint64, each func(Event) error) (connected bool, err error) {
	query := url.Values{}
	if *after > 0 {
		query.Set("after", strconv.FormatUint(*after, 10))
	}
	return c.lines(ctx, call{method: "GET", path: "/events", query: query}, func(field, data string) error {
		switch field {
		case "id":
			if n, err := strconv.ParseUint(data, 10, 64); err == nil {
				*after = n
			}
		case "data":
			var e Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return fmt.Errorf("read an event of %s: %w", c.where, err)
			}
			return each(e)
		}
		return nil
	})
}

// lines reads the fields of one stream of server-sent events to its end.
func (c *Client) lines(ctx context.Context, r call, each func(field, data string) error) (connected bool, err error) {
	r.accept = "text/event-stream"
	response, err := c.open(ctx, r)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, data, ok := strings.Cut(lines.Text(), ": ")
		if !ok || field == "" {
			continue
		}
		if err := each(field, data); err != nil {
			return true, &stopped{err}
		}
	}
	return true, lines.Err()
}
