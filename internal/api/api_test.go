package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/store"
	"sluis/internal/text"
)

const loopback = "127.0.0.1:0"

// One administrator's day, by the client over the unix socket: everything that the
// command line does.
func TestClientOverUnixSocket(t *testing.T) {
	b := start(t, initial(t), loopback)
	ctx, c := t.Context(), b.local()
	check := func(what string, ok bool, got any) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %+v", what, got)
		}
	}

	status, err := c.Status(ctx)
	must(t, err)
	check("status", status.Running == 1 && status.Hostname == "lb1" && status.Changes == 0, status)

	saved, err := c.Set(ctx, "system.hostname", []byte("lb2"))
	must(t, err)
	check("set", saved.Path == "system.hostname" && saved.ETag != "" && saved.Problems != nil, saved)
	saved, err = c.Set(ctx, "backends[shop].servers[web3]", []byte("{address: 192.0.2.14, port: 80}"))
	must(t, err)
	_, err = c.Rename(ctx, "backends[news]", "papers")
	must(t, err)
	data, _, err := c.Value(ctx, "candidate", "frontends[news].default_backend", FormatJSON)
	must(t, err)
	check("rename rewrites references", string(data) == `"papers"`, string(data))
	_, err = c.Move(ctx, "backends[shop].servers[web3]", "web1")
	must(t, err)
	data, _, err = c.Value(ctx, "candidate", "backends[shop].servers", FormatBrief)
	must(t, err)
	check("move, brief", strings.Index(string(data), "web3") < strings.Index(string(data), "web1") && !strings.Contains(string(data), "weight"), string(data))
	_, err = c.Delete(ctx, "backends[shop].servers[web3]")
	must(t, err)
	document, etag, err := c.Document(ctx, "candidate", FormatYAML)
	must(t, err)
	check("document", strings.Contains(string(document), "papers") && etag != "", etag)

	diff, err := c.Diff(ctx, "running", "candidate")
	must(t, err)
	check("diff", strings.Contains(diff.Text, "lb2") && len(diff.Changes) > 0, diff.Text)
	problems, err := c.Check(ctx)
	must(t, err)
	check("check", problems != nil && !problems.HasErrors(), problems)
	impact, err := c.Impact(ctx)
	must(t, err)
	check("impact", len(impact.Changes) > 0 && impact.Changes[0].Mark.By == "root", impact)

	applied, err := c.Apply(ctx, time.Minute, "why", etag)
	must(t, err)
	check("apply", applied.Revision == 2 && !applied.Deadline.IsZero() && len(applied.Changes) > 0, applied)
	must(t, c.Confirm(ctx))
	b.set("system.hostname", "lb3")
	_, err = c.Apply(ctx, time.Minute, "", "")
	must(t, err)
	must(t, c.Rollback(ctx))
	must(t, c.Discard(ctx, ""))
	must(t, c.Retry(ctx))

	revisions, err := c.Revisions(ctx, control.Page{Limit: 2})
	must(t, err)
	check("revisions", len(revisions.Items) == 2 && revisions.Next != "", revisions)
	rest, err := c.Revisions(ctx, control.Page{Cursor: revisions.Next})
	must(t, err)
	check("the rest", len(rest.Items) == 1 && rest.Items[0].Number == 1 && rest.Next == "", rest)
	document, _, err = c.Document(ctx, "1", FormatJSON)
	must(t, err)
	check("revision's document", strings.Contains(string(document), `"lb1"`), string(document))
	data, _, err = c.Value(ctx, "1", "system.hostname", FormatYAML)
	must(t, err)
	check("revision's value", strings.TrimSpace(string(data)) == "lb1", string(data))
	must(t, c.Pin(ctx, 1, true))
	must(t, c.Pin(ctx, 1, false))
	must(t, c.Restore(ctx, 1, "system"))
	data, _, err = c.Value(ctx, "candidate", "system.hostname", FormatJSON)
	must(t, err)
	check("restore", string(data) == `"lb1"`, string(data))
	saved, err = c.Load(ctx, []byte(initialYAML))
	must(t, err)
	check("load", saved.ETag != "", saved)

	users, err := c.Users(ctx)
	must(t, err)
	check("users", len(users.Items) == 4 && users.Items[0].Name == "ann", users)
	must(t, c.SetPassword(ctx, "vera", "", password))
	once, err := c.ResetPassword(ctx, "vera")
	must(t, err)
	check("reset", once.Account == "vera" && once.Password != "" && once.Notes != nil, once)
	token, err := c.CreateToken(ctx, "vera", "monitor", "", time.Time{})
	must(t, err)
	check("token gets the account's role", token.Role == auth.Viewer && token.Secret != "", token.Token)
	tokens, err := c.Tokens(ctx)
	must(t, err)
	check("tokens", len(tokens.Items) == 4, tokens)
	must(t, c.DeleteToken(ctx, "vera", "monitor"))
	drained, err := c.Act(ctx, "shop", "web1", control.Drain, 0)
	must(t, err)
	check("drain says what is left", drained.Open == 2 && drained.WebSockets == 32 && drained.BoundSessions == 120 && !drained.LastSeen.IsZero(), drained)
	_, err = c.Act(ctx, "shop", "web1", control.Weight, 7)
	must(t, err)

	audit, err := c.Audit(ctx, control.Page{Limit: 1, Query: "server.weight"})
	must(t, err)
	check("audit", len(audit.Items) == 1 && audit.Items[0].Who == "root" && audit.Items[0].From == "local" && audit.Items[0].Via == "cli", audit)

	from, enough := b.events.Last(), errors.New("enough")
	b.set("system.hostname", "lb9")
	err = c.Events(ctx, from, func(e Event) error {
		check("events", e.Name == "control.candidate.changed", e)
		return enough
	})
	check("events end", errors.Is(err, enough), err)
}

// Every object of the document has URLs that do what they say: made of the
// document's own description, so that a new collection is tested when it comes.
func TestEveryObjectHasItsURLs(t *testing.T) {
	doc := initial(t)
	collections, parts := places()
	var problems config.Problems
	for _, p := range collections {
		if doc, problems = config.Set(doc, fill(t, p.of(), "x"), []byte("{}")); problems.HasErrors() {
			t.Fatal(problems)
		}
	}
	if doc, problems = config.Set(doc, "pair", []byte("{peer: 192.0.2.9}")); problems.HasErrors() {
		t.Fatal(problems)
	}
	b := start(t, doc, loopback)
	for _, p := range collections {
		list, x := urlWith(p), urlWith(p.of())
		b.admin("GET", "/running"+x, "").want(t, 200)
		b.admin("GET", "/running"+list, "").want(t, 200)
		got := b.admin("GET", "/candidate"+x, "").want(t, 200)
		etag := got.Header.Get("ETag")
		same := b.admin("PUT", "/candidate"+x, string(got.body), "If-Match", etag).want(t, 200)
		if answer := same.saved(t); answer.ETag != etag || same.Header.Get("ETag") != etag || string(answer.Value) != string(got.body) || answer.Path != fill(t, p.of(), "x") {
			t.Errorf("%s put back is another one: %s %s", x, same.Header.Get("ETag"), same.body)
		}
		b.admin("PATCH", "/candidate"+x, "{}", "If-Match", etag).want(t, 200)
		renamed := b.admin("POST", "/candidate"+x+"/rename", `{"name":"y"}`, "If-Match", etag)
		if renamed.StatusCode == 200 { // some names have rules of their own
			y := renamed.Header.Get("Location")
			if want := base + "/candidate" + list + "/y"; y != want {
				t.Errorf("renamed to %s, want %s", y, want)
			}
			b.admin("GET", "/candidate"+x, "").want(t, 404)
			b.admin("POST", strings.TrimPrefix(y, base)+"/rename", `{"name":"x"}`, "If-Match", "*").want(t, 200)
		} else {
			renamed.want(t, 409)
		}
		b.admin("PUT", "/candidate"+list+"/z", "{}", "If-None-Match", "*").want(t, 201)
		b.admin("POST", "/candidate"+list+"/z/move", `{"before":"x"}`, "If-Match", "*").want(t, 200)
		var names List[struct{ Name string }]
		must(t, json.Unmarshal(b.admin("GET", "/candidate"+list+"?limit=1", "").want(t, 200).body, &names))
		if names.Items[0].Name == "x" || names.Next == "" {
			t.Errorf("%s after the move, first page: %+v", list, names)
		}
		b.admin("DELETE", "/candidate"+list+"/z", "", "If-Match", "*").want(t, 204)
		b.admin("GET", "/candidate"+list+"/z", "").want(t, 404)
	}
	for _, p := range parts {
		got := b.admin("GET", "/candidate"+p.url, "").want(t, 200)
		b.admin("GET", "/running"+p.url, "").want(t, 200)
		b.admin("PUT", "/candidate"+p.url, string(got.body), "If-Match", got.Header.Get("ETag")).want(t, 200)
		b.admin("PATCH", "/candidate"+p.url, "{}", "If-Match", got.Header.Get("ETag")).want(t, 200)
	}
	b.admin("DELETE", "/candidate/pair", "", "If-Match", "*").want(t, 204)
	b.admin("GET", "/candidate/pair", "").want(t, 404)
}

func (r reply) saved(t *testing.T) (s Saved) {
	t.Helper()
	if err := json.Unmarshal(r.body, &s); err != nil || s.Problems == nil {
		t.Fatalf("%s %s answers no Saved: %s", r.Request.Method, r.Request.URL.Path, r.body)
	}
	return s
}

// Whatever way an object is saved, the answer has what is wrong with it, each with
// its place, and it is saved all the same.
func TestSaveAnswersHints(t *testing.T) {
	b := start(t, initial(t), loopback)
	const at, byPath = "/candidate/frontends/shop", "/candidate/value?path=frontends[shop]"
	errorsOf := func(s Saved) string {
		var paths []string
		for _, p := range s.Problems.Errors() {
			paths = append(paths, p.Path)
		}
		return strings.Join(paths, " ")
	}
	missing, present := `{"default_backend":"none"}`, `{"default_backend":"news"}`
	whole := func(patch string) string { return `{"binds":[{"name":"http","address":"any","port":80}],` + patch[1:] }
	tests := []struct {
		name, method, path, body, match string
		status                          int
		want                            string // path of the error
		saved                           string // path of what was saved
	}{
		{"put", "PUT", at, whole(missing), "*", 200, "frontends[shop].default_backend", "frontends[shop]"},
		{"move what has a fault", "POST", at + "/move", `{}`, "*", 200, "frontends[shop].default_backend", "frontends[shop]"},
		{"rename what has a fault", "POST", at + "/rename", `{"name":"store"}`, "*", 200, "frontends[store].default_backend", "frontends[store]"},
		{"rename back", "POST", "/candidate/frontends/store/rename", `{"name":"shop"}`, "*", 200, "frontends[shop].default_backend", "frontends[shop]"},
		{"put, clean", "PUT", at, whole(present), "*", 200, "", "frontends[shop]"},
		{"patch", "PATCH", at, missing, "*", 200, "frontends[shop].default_backend", "frontends[shop]"},
		{"patch of a part that is clean", "PATCH", at + "/binds/http", `{"port":82}`, "*", 200, "", "frontends[shop].binds[http]"},
		{"patch, clean", "PATCH", at, present, "*", 200, "", "frontends[shop]"},
		{"by path", "PATCH", byPath, missing, "*", 200, "frontends[shop].default_backend", "frontends[shop]"},
		{"by path, clean", "PATCH", byPath, present, "*", 200, "", "frontends[shop]"},
		{"create", "PUT", "/candidate/frontends/new", `{"binds":[{"name":"http","address":"any","port":90}],` + missing[1:], "", 201, "frontends[new].default_backend", "frontends[new]"},
		{"create, clean", "PUT", "/candidate/frontends/other", `{"binds":[{"name":"http","address":"any","port":91}],` + present[1:], "", 201, "", "frontends[other]"},
		{"the whole document", "PUT", "/candidate", strings.Replace(initialYAML, "default_backend: news", "default_backend: none", 1), "*", 200, "frontends[news].default_backend", ""},
		{"the whole document, clean", "PUT", "/candidate", initialYAML, "*", 200, "", ""},
	}
	for _, tt := range tests {
		headers := []string{"If-Match", tt.match}
		if tt.match == "" {
			headers = []string{"If-None-Match", "*"}
		}
		got := b.admin(tt.method, tt.path, tt.body, headers...).want(t, tt.status)
		answer := got.saved(t)
		clean := tt.want == "" && tt.saved != "" // the whole document has a backend without a health check
		if errorsOf(answer) != tt.want || answer.Path != tt.saved || clean != strings.Contains(string(got.body), `"problems":[]`) {
			t.Errorf("%s: the answer is %s\nwant the path %s and an error at %q alone", tt.name, got.body, tt.saved, tt.want)
		}
		if answer.ETag == "" || answer.ETag != got.Header.Get("ETag") {
			t.Errorf("%s: ETag %q, in the head %q", tt.name, answer.ETag, got.Header.Get("ETag"))
		}
		if tt.saved == "" {
			if answer.Value != nil {
				t.Errorf("%s comes back: %.100s", tt.name, answer.Value)
			}
			continue
		}
		stands, etag, err := b.local().Value(t.Context(), "candidate", tt.saved, FormatJSON)
		must(t, err)
		if string(answer.Value) != string(stands) || etag != answer.ETag {
			t.Errorf("%s: answered %s, but there stands %s", tt.name, answer.Value, stands)
		}
	}
	// GET is the bare object, so that it can be sent back as it came.
	var bare struct{ Name, Path string }
	must(t, json.Unmarshal(b.admin("GET", at, "").want(t, 200).body, &bare))
	if bare.Name != "shop" || bare.Path != "" {
		t.Errorf("GET answers %+v", bare)
	}
}

// fill is the path of a place whose objects all have one name.
func fill(t *testing.T, p place, name string) string {
	t.Helper()
	path, err := p.path(func(string) string { return name })
	must(t, err)
	return path
}

func urlWith(p place) string {
	u := p.url
	for _, param := range p.params {
		u = strings.Replace(u, "{"+param+"}", "x", 1)
	}
	return u
}

// The rest of the shapes, as a program sees them.
func TestShapes(t *testing.T) {
	b := start(t, initial(t), loopback)
	get := func(path string, headers ...string) reply {
		t.Helper()
		return b.admin("GET", path, "", headers...).want(t, 200)
	}

	if got := ask(t, b.browser(), "GET", b.listener.URLs()[0]+"/healthz", "").want(t, 200); string(got.body) != "ok\n" {
		t.Errorf("healthz = %q", got.body)
	}
	if got := get("/candidate", "Accept", "application/yaml"); got.Header.Get("Content-Type") != mediaYAML || got.Header.Get("ETag") == "" {
		t.Errorf("candidate as YAML: %v", got.Header)
	}
	if got := get("/running?format=brief"); strings.Contains(string(got.body), "timezone") || !strings.Contains(string(got.body), "lb1") {
		t.Errorf("running, brief = %s", got.body)
	}
	if got := get("/running/value?path=system.hostname"); string(got.body) != `"lb1"` {
		t.Errorf("running value = %s", got.body)
	}
	b.set("system.hostname", "lb2")
	var changes List[control.Change]
	must(t, json.Unmarshal(get("/candidate/changes").body, &changes))
	if len(changes.Items) != 1 || changes.Items[0].Path != "system" || changes.Items[0].Mark == nil {
		t.Errorf("changes = %+v", changes)
	}
	if got := b.admin("POST", "/check-document", "frontends: [{name: a, default_backend: none}]").want(t, 200); !strings.Contains(string(got.body), "frontends[a].default_backend") {
		t.Errorf("check-document = %s", got.body)
	}
	var revision control.Revision
	must(t, json.Unmarshal(get("/revisions/1").body, &revision))
	if revision.Number != 1 || revision.State != "running" {
		t.Errorf("revision = %+v", revision)
	}
	if got := get("/schema"); !json.Valid(got.body) || !strings.Contains(got.Header.Get("Content-Type"), "schema+json") {
		t.Errorf("schema: %v", got.Header)
	}
	var fields List[config.Field]
	must(t, json.Unmarshal(get("/fields").body, &fields))
	if len(fields.Items) != len(config.Fields()) {
		t.Errorf("fields = %d, want %d", len(fields.Items), len(config.Fields()))
	}
	if got := get("/openapi.yaml"); !strings.HasPrefix(string(got.body), "components:") {
		t.Errorf("openapi.yaml begins %.40q", got.body)
	}
	var recent List[Event]
	must(t, json.Unmarshal(get("/events/recent?limit=1").body, &recent))
	if len(recent.Items) != 1 || recent.Items[0].Name == "" || recent.Items[0].ID != b.events.Last() {
		t.Errorf("recent = %+v", recent)
	}
}

// Two administrators who edit different objects don't meet; of two who edit one,
// the second is shown both versions.
func TestTwoAdministrators(t *testing.T) {
	b := start(t, initial(t), loopback)
	read := func(path string) (etag, body string) {
		got := b.admin("GET", path, "").want(t, 200)
		return got.Header.Get("ETag"), string(got.body)
	}
	shop, shopBody := read("/candidate/frontends/shop")
	news, newsBody := read("/candidate/frontends/news")
	edit := func(body, to string) string {
		return strings.Replace(body, `"description":""`, `"description":"`+to+`"`, 1)
	}
	b.admin("PUT", "/candidate/frontends/shop", edit(shopBody, "first"), "If-Match", shop).want(t, 200)
	b.admin("PUT", "/candidate/frontends/news", edit(newsBody, "other"), "If-Match", news).want(t, 200)

	no := b.admin("PUT", "/candidate/frontends/shop", edit(shopBody, "second"), "If-Match", shop).want(t, 412).problem(t)
	if no.Kind() != control.Changed || no.ChangedBy == nil || no.ChangedBy.By != "ann (token test)" {
		t.Errorf("problem = %+v, want who changed it", no)
	}
	var theirs struct{ Description string }
	must(t, json.Unmarshal(no.Current, &theirs))
	if theirs.Description != "first" {
		t.Errorf("current = %s, want the first version", no.Current)
	}
	b.admin("PUT", "/candidate/frontends/shop", edit(shopBody, "second"), "If-Match", "W/"+no.ETag).want(t, 412)
	b.admin("PUT", "/candidate/frontends/shop", edit(shopBody, "second"), "If-Match", shop+`, W/"x" ,`+news).want(t, 412)
	b.admin("PUT", "/candidate/frontends/shop", edit(shopBody, "second"), "If-Match", shop+`, W/"x" ,`+no.ETag).want(t, 200)

	whole, _ := read("/candidate")
	b.set("system.hostname", "lb7")
	if no := b.admin("PUT", "/candidate", initialYAML, "If-Match", whole).want(t, 412).problem(t); no.Current != nil || no.ETag == "" {
		t.Errorf("problem of a whole document = %+v, want its ETag alone", no)
	}
	b.admin("POST", "/candidate/apply", "", "If-Match", whole).want(t, 412)
	b.admin("POST", "/candidate/apply", `{"etag":`+quote(whole)+`}`).want(t, 412)
	now, _ := read("/candidate")
	b.admin("PUT", "/candidate", initialYAML, "If-Match", now).want(t, 200)
}

func quote(s string) string {
	data, _ := json.Marshal(s)
	return string(data)
}

// Each kind of no has its status and a body that says what and why.
func TestProblems(t *testing.T) {
	b := start(t, initial(t), loopback)
	type no struct {
		method, path, body string
		headers            []string
		status             int
		kind               control.Kind
		says               string // a part of the body
	}
	shop := "/candidate/frontends/shop"
	tests := map[string]no{
		"unknown field":        {"PUT", shop, `{"descriptoin":"x"}`, []string{"If-Match", "*"}, 422, control.Invalid, `did you mean description?`},
		"place in the text":    {"PUT", shop, "description: x\nbinds: [}", []string{"If-Match", "*"}, 422, control.Invalid, `"line":2`},
		"not there":            {"GET", "/candidate/frontends/none", "", nil, 404, control.NotFound, "frontends[none]"},
		"name with brackets":   {"GET", "/candidate/frontends/shop%5D.binds%5Bhttp", "", nil, 404, control.NotFound, "no object can have the name"},
		"no condition":         {"PUT", shop, "{}", nil, 428, control.MatchRequired, "If-Match"},
		"both conditions":      {"PUT", shop, "{}", []string{"If-Match", "*", "If-None-Match", "*"}, 422, control.Invalid, "If-None-Match"},
		"there already":        {"PUT", shop, "{}", []string{"If-None-Match", "*"}, 412, control.Changed, "exists already"},
		"still used":           {"DELETE", "/candidate/backends/shop", "", []string{"If-Match", "*"}, 409, control.Conflict, "frontends[shop].default_backend"},
		"name taken":           {"POST", "/candidate/backends/shop/rename", `{"name":"news"}`, []string{"If-Match", "*"}, 409, control.Conflict, "news"},
		"nothing to apply":     {"POST", "/candidate/apply", "", nil, 409, control.Conflict, "nothing has changed"},
		"nothing pending":      {"POST", "/pending/confirm", "", nil, 409, control.Conflict, ""},
		"confirm too short":    {"POST", "/candidate/apply", `{"confirm_within":"1s"}`, nil, 422, control.Invalid, "10s"},
		"confirm without unit": {"POST", "/candidate/apply", `{"confirm_within":"60"}`, nil, 422, control.Invalid, "unit"},
		"value without path":   {"PUT", "/candidate/value?path=", "{}", []string{"If-Match", "*"}, 422, "unprocessable_entity", "path"},
		"malformed body":       {"POST", "/candidate/apply", `{"comment":`, nil, 400, "bad_request", "body"},
		"no body":              {"PUT", shop, "", []string{"If-Match", "*"}, 400, "bad_request", "body"},
		"unknown member":       {"POST", "/candidate/apply", `{"coment":"x"}`, nil, 422, "unprocessable_entity", "coment"},
		"number out of range":  {"POST", "/runtime/backends/shop/servers/web1/weight", `{"weight":999}`, nil, 422, "unprocessable_entity", "256"},
		"bad query":            {"GET", "/revisions?limit=many", "", nil, 422, "unprocessable_entity", "query.limit"},
		"bad cursor":           {"GET", "/revisions?cursor=x", "", nil, 422, control.Invalid, "cursor"},
		"cursor of nobody":     {"GET", "/candidate/frontends?cursor=gone", "", nil, 422, control.Invalid, "gone"},
		"unknown server":       {"POST", "/runtime/backends/shop/servers/web9/drain", "", nil, 404, control.NotFound, "web1"},
		"unknown document":     {"GET", "/diff?from=yesterday", "", nil, 422, control.Invalid, "yesterday"},
		"unknown revision":     {"GET", "/revisions/99/document", "", nil, 404, control.NotFound, ""},
		"no such route":        {"GET", "/frontends", "", nil, 404, control.NotFound, "openapi.json"},
		"wrong method":         {"DELETE", "/status", "", nil, 405, "method_not_allowed", "GET"},
		"reset from afar":      {"POST", "/users/vera/reset", "", nil, 403, control.Forbidden, "sluis passwd vera"},
		"weak password":        {"POST", "/users/vera/password", `{"new":"short"}`, nil, 422, control.Invalid, ""},
		"unknown account":      {"POST", "/tokens", `{"account":"nobody","name":"x"}`, nil, 404, control.NotFound, "nobody"},
		"no such session":      {"DELETE", "/sessions/none", "", nil, 404, control.NotFound, ""},
		"form of another site": {"POST", "/candidate/discard", "{}", []string{"Sec-Fetch-Site", "cross-site"}, 403, control.Forbidden, "another site"},
		"other origin":         {"POST", "/candidate/discard", "{}", []string{"Origin", "https://evil.example"}, 403, control.Forbidden, "another site"},
		"large body":           {"POST", "/login", `{"username":"` + strings.Repeat("a", maxBody) + `"}`, nil, 413, "request_entity_too_large", "65536"},
		"large document":       {"PUT", "/candidate", strings.Repeat("# sluis\n", maxDocument/8+1), []string{"If-Match", "*"}, 413, "request_entity_too_large", ""},
		"no login":             {"GET", "/status", "", []string{"Authorization", ""}, 401, control.Unauthenticated, ""},
		"unknown scheme":       {"GET", "/status", "", []string{"Authorization", "Digest x"}, 401, control.Unauthenticated, "Bearer"},
		"wrong token":          {"GET", "/status", "", []string{"Authorization", "Bearer slt_x"}, 401, control.Unauthenticated, "token"},
		"ended session":        {"GET", "/status", "", []string{"Authorization", "Bearer x"}, 401, control.Unauthenticated, "session"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			headers := tt.headers
			if !slices.Contains(headers, "Authorization") {
				headers = append(headers, "Authorization", "Bearer "+b.tokens[auth.Administrator])
			}
			got := ask(t, b.browser(), tt.method, b.url(tt.path), tt.body, headers...).want(t, tt.status)
			p := got.problem(t)
			if p.Kind() != tt.kind || p.Status != tt.status || p.Title == "" || p.Detail == "" || !strings.Contains(string(got.body), tt.says) {
				t.Errorf("problem = %s\nwant kind %s, and %q in it", got.body, tt.kind, tt.says)
			}
			if want := tt.status == 401; (len(got.Header.Values("WWW-Authenticate")) == 2) != want {
				t.Errorf("WWW-Authenticate = %q", got.Header.Values("WWW-Authenticate"))
			}
		})
	}
}

// Faults that need a machine in trouble, and the statuses of all kinds.
func TestTrouble(t *testing.T) {
	b := start(t, initial(t), loopback)
	b.set("system.hostname", "lb2")
	b.recorder.Inject(apply.StepAdd, applytest.Fault{Kind: applytest.Fail, Place: applytest.Before})
	if p := b.admin("POST", "/candidate/apply", "").want(t, 500).problem(t); p.Kind() != control.Failed || !strings.Contains(p.Detail, "rest") {
		t.Errorf("failed apply: %+v", p)
	}
	b.recorder.Heal()

	b.fault = &store.Error{Dir: "/x", Doing: "write", Err: syscall.ENOSPC}
	if p := b.admin("PUT", "/candidate/value?path=system.hostname", "lb3", "If-Match", "*").want(t, 507).problem(t); p.Kind() != control.Storage {
		t.Errorf("full disk: %+v", p)
	}
	b.fault = nil

	b.set("frontends[shop].default_backend", "none")
	p := b.admin("POST", "/candidate/apply", "").want(t, 422).problem(t)
	if p.Kind() != control.Refused || len(p.Problems) == 0 || !strings.Contains(p.Error(), "frontends[shop].default_backend") {
		t.Errorf("refused apply: %+v", p)
	}

	for _, kind := range []control.Kind{
		control.Invalid, control.NotFound, control.Conflict, control.Changed, control.MatchRequired, control.Unauthenticated, control.Forbidden,
		control.Throttled, control.Busy, control.Refused, control.Failed, control.Unavailable, control.Storage, control.Internal,
	} {
		p := problemOfFault(&control.Fault{Kind: kind, Message: text.M("why")})
		retry := p.GetHeaders().Get("Retry-After") != ""
		if http.StatusText(p.Status) == "" || p.Title == "" || retry != (p.Status == 503 || p.Status == 429) {
			t.Errorf("%s: %+v, Retry-After %v", kind, p, retry)
		}
	}
	secret := errors.New("open /root/key: permission denied")
	if p := b.api.problem(secret); p.Status != 500 || strings.Contains(p.Error(), "key") || !strings.Contains(b.logged.String(), "/root/key") {
		t.Errorf("internal fault: %+v; log: %s", p, b.logged)
	}
}

// A panic ends one request, is logged, and says nothing to the client.
func TestPanic(t *testing.T) {
	b := start(t, initial(t), loopback)
	b.api.mux.HandleFunc("GET "+base+"/panic", func(http.ResponseWriter, *http.Request) { panic("secret cause") })
	b.api.mux.HandleFunc("GET "+base+"/panic-late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		panic("secret cause")
	})
	p := b.admin("GET", "/panic", "").want(t, 500).problem(t)
	if strings.Contains(p.Error(), "secret") || !strings.Contains(b.logged.String(), "secret cause") {
		t.Errorf("problem: %v; log: %s", p, b.logged)
	}
	if got, err := try(t, b.browser(), "GET", b.url("/panic-late"), "", "Authorization", "Bearer "+b.tokens[auth.Administrator]); err == nil {
		t.Errorf("half an answer looks whole: %s", got.body)
	}
}

// Who may do what, at the door: one operation of each sort, for each role.
func TestRoles(t *testing.T) {
	b := start(t, initial(t), loopback)
	b.set("system.hostname", "lb2")
	type operation struct {
		method, path, body string
		least              auth.Role // empty = nobody by token
	}
	operations := []operation{
		{"GET", "/status", "", auth.Viewer},
		{"GET", "/candidate", "", auth.Viewer},
		{"GET", "/candidate/changes", "", auth.Viewer},
		{"GET", "/candidate/frontends", "", auth.Viewer},
		{"GET", "/running/value?path=system", "", auth.Viewer},
		{"GET", "/revisions", "", auth.Viewer},
		{"GET", "/diff", "", auth.Viewer},
		{"GET", "/events/recent", "", auth.Viewer},
		{"GET", "/audit", "", auth.Viewer},
		{"GET", "/users", "", auth.Viewer},
		{"GET", "/openapi.json", "", auth.Viewer},
		{"POST", "/candidate/check", "", auth.Viewer},
		{"POST", "/candidate/impact", "", auth.Viewer},
		{"POST", "/runtime/backends/shop/servers/web1/drain", "", auth.Operator},
		{"POST", "/runtime/backends/news/servers/web1/drain", "", auth.Administrator}, // oscar has shop alone
		{"PUT", "/candidate/value?path=system.hostname", "lb3", auth.Administrator},
		{"PATCH", "/candidate/frontends/shop", "{}", auth.Administrator},
		{"DELETE", "/candidate/frontends/none", "", auth.Administrator},
		{"POST", "/candidate/frontends/none/rename", `{"name":"a"}`, auth.Administrator},
		{"PUT", "/candidate", initialYAML, auth.Administrator},
		{"POST", "/candidate/apply", "", auth.Administrator},
		{"POST", "/candidate/discard", "", auth.Administrator},
		{"POST", "/check-document", "{}", auth.Administrator},
		{"POST", "/pending/confirm", "", auth.Administrator},
		{"POST", "/pending/rollback", "", auth.Administrator},
		{"POST", "/degraded/retry", "", auth.Administrator},
		{"POST", "/revisions/1/restore", "", auth.Administrator},
		{"POST", "/revisions/1/pin", "", auth.Administrator},
		{"POST", "/users/bob/password", `{"new":"` + password + `"}`, auth.Administrator},
		{"POST", "/tokens", `{"account":"bob","name":"x"}`, auth.Administrator},
		{"DELETE", "/tokens/bob/none", "", auth.Administrator},
		{"GET", "/sessions?account=bob", "", auth.Administrator},
		{"POST", "/users/bob/reset", "", ""},
	}
	rank := map[auth.Role]int{auth.Viewer: 1, auth.Operator: 2, auth.Administrator: 3, "": 4}
	for _, o := range operations {
		for _, role := range []auth.Role{auth.Viewer, auth.Operator, auth.Administrator} {
			got := b.as(role, o.method, o.path, o.body, "If-Match", "*")
			refused, want := got.StatusCode == 403, rank[role] < rank[o.least]
			if refused != want || got.StatusCode == 401 {
				t.Errorf("%s %s as %s = %s, refused must be %v: %s", o.method, o.path, role, got.Status, want, got.body)
			}
		}
		if got := ask(t, b.browser(), o.method, b.url(o.path), o.body); got.StatusCode != 401 {
			t.Errorf("%s %s without login = %s", o.method, o.path, got.Status)
		}
	}
}

// Password, session, token, one-time password, as a person goes through them.
func TestWaysToLogIn(t *testing.T) {
	b := start(t, initial(t), loopback)
	ctx := t.Context()
	must(t, b.auth.SetPassword(ctx, "ann", password, ""))
	browser := b.browser()
	basic := func(name, pass string) reply {
		c, err := NewClient(Remote{URL: b.listener.URLs()[0], Username: name, Password: pass, Roots: b.roots})
		must(t, err)
		defer c.Close()
		request, err := c.request(ctx, call{method: "GET", path: "/whoami"})
		must(t, err)
		return ask(t, browser, "GET", b.url("/whoami"), "", "Authorization", request.Header.Get("Authorization"))
	}
	var me Identity
	must(t, json.Unmarshal(basic("ann", password).want(t, 200).body, &me))
	want := Identity{Account: "ann", FullName: "Ann", Role: auth.Administrator, Objects: []string{}, From: "127.0.0.1"}
	if diff := cmp.Diff(want, me); diff != "" {
		t.Errorf("whoami (-want +got):\n%s", diff)
	}
	basic("ann", "wrong").want(t, 401)
	basic("nobody", password).want(t, 401)

	login := func(pass string) LoginAnswer {
		t.Helper()
		var answer LoginAnswer
		got := ask(t, browser, "POST", b.url("/login"), `{"username":"ann","password":"`+pass+`"}`).want(t, 200)
		must(t, json.Unmarshal(got.body, &answer))
		return answer
	}
	session := login(password)
	bearer := []string{"Authorization", "Bearer " + session.Token}
	if session.Account != "ann" || session.Role != auth.Administrator || session.MustChangePassword || session.Ends.IsZero() {
		t.Errorf("login = %+v", session)
	}
	var sessions List[control.Session]
	must(t, json.Unmarshal(ask(t, browser, "GET", b.url("/sessions"), "", bearer...).want(t, 200).body, &sessions))
	if len(sessions.Items) != 1 || !sessions.Items[0].Own {
		t.Errorf("sessions = %+v", sessions)
	}
	ask(t, browser, "POST", b.url("/logout"), "", bearer...).want(t, 204)
	ask(t, browser, "GET", b.url("/status"), "", bearer...).want(t, 401)
	other := login(password)
	b.admin("DELETE", "/sessions/"+sessionID(t, b), "").want(t, 204)
	ask(t, browser, "GET", b.url("/status"), "", "Authorization", "Bearer "+other.Token).want(t, 401)

	once, err := b.auth.ResetPassword(ctx, "ann")
	must(t, err)
	session = login(once.Password)
	bearer = []string{"Authorization", "Bearer " + session.Token}
	if !session.MustChangePassword {
		t.Error("a one-time password must be changed")
	}
	for _, path := range []string{"/status", "/candidate", "/openapi.json", "/fields", "/events", "/tokens"} {
		ask(t, browser, "GET", b.url(path), "", bearer...).want(t, 403)
	}
	ask(t, browser, "GET", b.url("/whoami"), "", bearer...).want(t, 200)
	body := `{"current":"` + once.Password + `","new":"` + password + ` 2"}`
	ask(t, browser, "POST", b.url("/users/ann/password"), body, bearer...).want(t, 204)
	ask(t, browser, "GET", b.url("/status"), "", bearer...).want(t, 200)

	for range 20 {
		if got := basic("ann", "guess"); got.StatusCode == 429 {
			if got.Header.Get("Retry-After") == "" {
				t.Error("throttled without Retry-After")
			}
			return
		}
	}
	t.Error("twenty guesses in a row are never throttled")
}

func sessionID(t *testing.T, b *box) string {
	t.Helper()
	list := b.auth.Sessions("ann")
	if len(list) != 1 {
		t.Fatalf("sessions = %+v, want one", list)
	}
	return list[0].ID
}

// The description is OpenAPI 3.1 whose references resolve, has every route, and
// every route has what a reader needs.
func TestDescription(t *testing.T) {
	b := start(t, initial(t), loopback)
	var doc struct {
		OpenAPI    string
		Info       struct{ Title, Version string }
		Paths      map[string]map[string]map[string]any
		Components struct {
			Schemas map[string]any
		}
	}
	data := b.admin("GET", "/openapi.json", "").want(t, 200).body
	must(t, json.Unmarshal(data, &doc))
	if doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version == "" {
		t.Errorf("head: %s %+v", doc.OpenAPI, doc.Info)
	}
	ids := map[string]string{}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			where := method + " " + path
			id, _ := o["operationId"].(string)
			if summary, _ := o["summary"].(string); id == "" || summary == "" || ids[id] != "" {
				t.Errorf("%s: operationId %q (also of %q), summary %q", where, id, ids[id], o["summary"])
			}
			ids[id] = where
			responses, _ := o["responses"].(map[string]any)
			if responses["default"] == nil || len(responses) < 2 {
				t.Errorf("%s: responses %v", where, slices.Collect(maps.Keys(responses)))
			}
			for status, response := range responses {
				if text, _ := response.(map[string]any)["description"].(string); text == "" {
					t.Errorf("%s: the response %s has no description, which OpenAPI wants", where, status)
				}
			}
			checkParameters(t, where, path, o)
			if got := b.api.route(strings.ToUpper(method), path); got != strings.ToUpper(method)+" "+base+path {
				t.Errorf("%s is described, but its route is %q", where, got)
			}
		}
	}
	for path, open := range map[string]bool{"/login": true, "/healthz": true, "/status": false} {
		for method, o := range doc.Paths[path] {
			if list, set := o["security"].([]any); (set && len(list) == 0) != open {
				t.Errorf("%s %s needs no login: %v, want %v", method, path, !open, open)
			}
		}
	}
	var whole any
	must(t, json.Unmarshal(data, &whole))
	used := map[string]bool{}
	eachRef(whole, func(ref string) {
		name, ok := strings.CutPrefix(ref, schemaPrefix)
		if !ok || doc.Components.Schemas[name] == nil {
			t.Errorf("$ref %q leads nowhere", ref)
		}
		used[name] = true
	})
	for name := range doc.Components.Schemas {
		if !used[name] && name != "Document" {
			t.Errorf("the schema %s is used nowhere", name)
		}
	}
	for _, id := range []string{"get-candidate-frontends-binds", "apply-candidate", "stream-events", "log-in", "drain-server", "list-running-firewall-nat-port-forwards"} {
		if ids[id] == "" {
			t.Errorf("no operation is named %s", id)
		}
	}
	if strings.Contains(string(data), `"$schema"`) || strings.Contains(string(data), "ErrorModel") {
		t.Error("the description holds what huma adds by itself")
	}
}

// route is the pattern that a described path leads to.
func (a *API) route(method, path string) string {
	r, err := http.NewRequestWithContext(context.Background(), method, base+strings.NewReplacer("{", "", "}", "").Replace(path), nil)
	if err != nil {
		return err.Error()
	}
	_, pattern := a.mux.Handler(r)
	return pattern
}

func checkParameters(t *testing.T, where, path string, o map[string]any) {
	t.Helper()
	list, _ := o["parameters"].([]any)
	described := map[string]bool{}
	for _, p := range list {
		m := p.(map[string]any)
		if m["description"] == nil || m["schema"] == nil {
			t.Errorf("%s: parameter without description or schema: %v", where, m)
		}
		if m["in"] == "path" {
			described[m["name"].(string)] = true
		}
	}
	for _, s := range strings.Split(path, "/") {
		if name, ok := strings.CutPrefix(s, "{"); ok && !described[strings.TrimSuffix(name, "}")] {
			t.Errorf("%s: %s is not described", where, s)
		}
	}
}

func eachRef(v any, visit func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if ref, ok := inner.(string); ok && key == "$ref" {
				visit(ref)
			}
			eachRef(inner, visit)
		}
	case []any:
		for _, inner := range v {
			eachRef(inner, visit)
		}
	}
}

// What was planted as a secret is in no answer of any read, of any format.
func TestSecretsStaySecret(t *testing.T) {
	const planted = "planted-s3cret-value"
	doc := initial(t)
	b := start(t, doc, loopback)
	b.set("system.outgoing_proxy", "{url: 'http://192.0.2.9:3128', username: u, password: "+planted+"}")
	b.set("administrators[vera].password", planted)
	b.set("certificates[own]", "{self_signed: {common_name: own.example}}")
	b.apply(0)
	b.set("system.outgoing_proxy.password", planted+"-2")
	must(t, b.auth.SetPassword(t.Context(), "ann", planted+"-3", ""))
	session, err := b.auth.Login(t.Context(), "ann", planted+"-3", auth.Local())
	must(t, err)

	var paths struct {
		Paths map[string]map[string]json.RawMessage
	}
	must(t, json.Unmarshal(b.admin("GET", "/openapi.json", "").body, &paths))
	fill := strings.NewReplacer("{number}", "2", "{administrator}", "vera", "{certificate}", "own", "{frontend}", "shop", "{backend}", "shop", "{server}", "web1", "{bind}", "http")
	seen := 0
	for path, methods := range paths.Paths {
		if methods["get"] == nil || path == "/events" || path == "/status/requests/stream" {
			continue
		}
		for _, form := range []string{"json", "yaml", "brief"} {
			got := b.admin("GET", fill.Replace(path)+"?format="+form+"&path=system&limit=500", "")
			for _, secret := range []string{planted, "$argon2", "PRIVATE KEY", session.Token, b.tokens[auth.Administrator]} {
				if strings.Contains(string(got.body), secret) {
					t.Errorf("GET %s as %s holds %q", path, form, secret)
				}
			}
			if got.StatusCode == 200 {
				seen++
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d answers were looked at", seen)
	}
	if strings.Contains(b.logged.String(), planted) || strings.Contains(b.logged.String(), "Bearer") {
		t.Errorf("log holds a secret: %s", b.logged)
	}
	// A password in a body that can't be understood isn't sent back either.
	got := ask(t, b.browser(), "POST", b.url("/login"), `{"username":"ann","password":{"is":"`+planted+`"}}`).want(t, 422)
	if strings.Contains(string(got.body), planted) {
		t.Errorf("a malformed login is answered with its password: %s", got.body)
	}
	// What was read can be written back: "(set)" keeps the secret.
	system := b.admin("GET", "/candidate/system", "").want(t, 200)
	if !strings.Contains(string(system.body), `"(set)"`) {
		t.Errorf("the secret doesn't read as set: %s", system.body)
	}
	b.admin("PUT", "/candidate/system", string(system.body), "If-Match", system.Header.Get("ETag")).want(t, 200)
}

// Errors of the client say what is wrong and where.
func TestClientErrors(t *testing.T) {
	var unreachable *Unreachable
	_, err := Local(t.TempDir() + "/none").Status(t.Context())
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "none") {
		t.Errorf("no socket: %v", err)
	}
	if _, err := NewClient(Remote{URL: "lb1.example.net"}); err == nil {
		t.Error("an address without a scheme is taken")
	}
	b := start(t, initial(t), loopback)
	leaf := b.listener.Leaf()
	remote := Remote{URL: b.listener.URLs()[0], Token: b.tokens[auth.Viewer], Fingerprint: strings.ToUpper(fingerprint(leaf))}
	pinned, err := NewClient(remote)
	must(t, err)
	defer pinned.Close()
	_, err = pinned.Status(t.Context())
	must(t, err)
	remote.Fingerprint = strings.Repeat("00", 32)
	wrong, err := NewClient(remote)
	must(t, err)
	if _, err := wrong.Status(t.Context()); err == nil || !strings.Contains(err.Error(), fingerprint(leaf)) {
		t.Errorf("another certificate: %v, want its fingerprint", err)
	}
	_, err = b.local().Set(t.Context(), "frontends[shop].bindz", []byte("x"))
	var p *Problem
	if !errors.As(err, &p) || !strings.Contains(err.Error(), "binds") {
		t.Errorf("unknown field: %v", err)
	}
	want := "it can't be\n  error    line 2:3  a.b: wrong\n           → right\ndo so"
	made := &Problem{Detail: "it can't be", Hint: "do so"}
	made.Problems.Add("a.b", text.M("wrong")).Do(text.M("right"))
	made.Problems[0].Line, made.Problems[0].Column = 2, 3
	if diff := cmp.Diff(want, made.Error()); diff != "" {
		t.Errorf("Error() (-want +got):\n%s", diff)
	}
}
