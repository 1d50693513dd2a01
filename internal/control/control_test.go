package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/apply"
	"sluis/internal/apply/applytest"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/event"
	"sluis/internal/store"
)

// box is a door with everything behind it: a real store, engine and auth, and one
// subsystem that records and claims the whole document.
type box struct {
	*control.Control
	t        *testing.T
	dir      string
	store    *store.Store
	engine   *apply.Engine
	auth     *auth.Auth
	recorder *applytest.Recorder
	events   *event.Log
	acted    []control.RuntimeAction
	// fault fails the store's disk.
	fault atomic.Pointer[error]
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, dir: filepath.Join(t.TempDir(), "state"), events: event.New(1000)}
	var err error
	b.store, err = store.Open(b.dir, store.Options{Fault: func(string, string) error {
		if e := b.fault.Load(); e != nil {
			return *e
		}
		return nil
	}})
	must(t, err)
	machine, err := applytest.NewMachine(t.TempDir(), nil)
	must(t, err)
	b.recorder = applytest.NewRecorder("recorder", machine)
	publish := func(e event.Event) { b.events.Publish(e) }
	credentials, err := auth.New(auth.Options{
		Load: func() ([]byte, error) {
			data, err := b.store.State("auth.json")
			if errors.Is(err, store.ErrNotFound) {
				err = fs.ErrNotExist
			}
			return data, err
		},
		Save:    func(data []byte) error { return b.store.PutState("auth.json", data) },
		Publish: publish,
	})
	must(t, err)
	b.auth = credentials
	b.engine = apply.New(apply.Options{Subsystems: []apply.Subsystem{b.recorder}, Store: b.store, Publish: publish})
	must(t, b.engine.Boot(context.Background()))
	b.Control = control.New(control.Options{
		Store: b.store, Engine: b.engine, Auth: credentials, Events: b.events, Version: "test",
		Balancer: control.Balancer{
			Act: func(_ context.Context, a control.RuntimeAction) error {
				b.acted = append(b.acted, a)
				return nil
			},
			Server: func(backend, server string) (control.ServerDetail, bool) {
				return control.ServerDetail{ServerStatus: control.ServerStatus{Backend: backend, Name: server, WebSockets: 3}}, true
			},
		},
		Admits: func(doc *config.Document, from netip.Addr) bool {
			sources, _ := config.Networks(doc, doc.System.Admin.Sources)
			return len(sources) == 0 || slices.ContainsFunc(sources, func(p netip.Prefix) bool { return p.Contains(from) })
		},
	})
	t.Cleanup(func() {
		b.engine.Close()
		b.events.Close()
		_ = b.store.Close()
	})
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *box) as(name string, role auth.Role, objects ...string) control.Caller {
	return control.Caller{
		Identity: auth.Identity{Account: name, Role: role, Objects: objects},
		From:     "198.51.100.7", Via: "api", Conn: b.Accepted(),
	}
}

func (b *box) admin(name string) control.Caller { return b.as(name, auth.Administrator) }

// put writes an object whatever stands there.
func (b *box) put(path, value string) {
	b.t.Helper()
	match := control.Match{ETag: "*"}
	if _, err := b.CandidateObject(b.admin("ann"), path); err != nil {
		match = control.Match{Absent: true}
	}
	_, err := b.Put(b.admin("ann"), path, []byte(value), match)
	must(b.t, err)
}

func (b *box) apply() control.Applied {
	b.t.Helper()
	applied, err := b.Apply(context.Background(), b.admin("ann"), control.ApplyRequest{})
	must(b.t, err)
	return applied
}

func kindOf(err error) control.Kind {
	if err == nil {
		return "ok"
	}
	return control.AsFault(err).Kind
}

// whatever matches any state of what is written.
var whatever = control.Match{ETag: "*"}

const shopBackend = `{servers: [{name: web1, address: 192.0.2.10}]}`

func TestTwoAdministratorsEdit(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	b.put("backends[news]", shopBackend)
	ann, bob := b.admin("ann"), b.admin("bob")
	shop, err := b.CandidateObject(ann, "backends[shop]")
	must(t, err)
	news, err := b.CandidateObject(bob, "backends[news]")
	must(t, err)

	if _, err := b.Patch(ann, "backends[shop]", []byte(`{retries: 5}`), control.Match{ETag: shop.ETag}); err != nil {
		t.Errorf("ann edits shop: %v", err)
	}
	if _, err := b.Patch(bob, "backends[news]", []byte(`{retries: 6}`), control.Match{ETag: news.ETag}); err != nil {
		t.Errorf("bob edits another object: %v", err)
	}
	_, err = b.Patch(bob, "backends[shop]", []byte(`{retries: 7}`), control.Match{ETag: shop.ETag})
	f := control.AsFault(err)
	if f.Kind != control.Changed || f.Current == nil || !strings.Contains(string(f.Current.JSON), `"retries":5`) {
		t.Errorf("bob edits what ann has changed: %+v, want the fault changed with ann's version", f)
	}
	if f.Current != nil && (f.Current.Mark == nil || f.Current.Mark.By != "ann") {
		t.Errorf("the fault names %+v, want ann", f.Current.Mark)
	}
	if _, err := b.Patch(bob, "backends[shop]", []byte(`{retries: 7}`), control.Match{}); kindOf(err) != control.MatchRequired {
		t.Errorf("a write without a condition: %v", err)
	}
	if _, err := b.Put(bob, "backends[shop]", []byte(shopBackend), control.Match{Absent: true}); kindOf(err) != control.Changed {
		t.Errorf("creating what is there: %v", err)
	}
	view, err := b.Candidate(bob)
	must(t, err)
	by := map[string]string{}
	for _, c := range view.Changes {
		by[c.Path] = c.Mark.By
	}
	if diff := cmp.Diff(map[string]string{"backends[shop]": "ann", "backends[news]": "bob"}, by); diff != "" {
		t.Errorf("who changed what (-want +got):\n%s", diff)
	}
}

func TestTwoAdministratorsApplyAtOnce(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	var wg sync.WaitGroup
	kinds := make([]control.Kind, 8)
	for i := range kinds {
		wg.Go(func() {
			_, err := b.Apply(context.Background(), b.admin("ann"), control.ApplyRequest{})
			kinds[i] = kindOf(err)
		})
	}
	wg.Wait()
	done := 0
	for _, k := range kinds {
		switch k {
		case "ok":
			done++
		case control.Busy, control.Conflict:
		default:
			t.Errorf("an apply beside another ended with %s", k)
		}
	}
	if done != 1 {
		t.Errorf("%d of %d applies of the same candidate went through, want 1: %v", done, len(kinds), kinds)
	}
	if got := b.engine.Status().Running; got != 2 {
		t.Errorf("running revision %d, want 2", got)
	}
}

func TestSaveChangesNothingAtRunTime(t *testing.T) {
	b := newBox(t)
	before := b.recorder.State()
	b.put("backends[shop]", shopBackend)
	if diff := cmp.Diff(before, b.recorder.State()); diff != "" {
		t.Errorf("Save reached the machine:\n%s", diff)
	}
	b.apply()
	if diff := cmp.Diff(applytest.Want(b.engine.Status().RunningDocument), b.recorder.State()); diff != "" {
		t.Errorf("after Apply (-want +got):\n%s", diff)
	}
}

func TestConfirmRollbackRestore(t *testing.T) {
	b := newBox(t)
	ctx := context.Background()
	ann := b.admin("ann")
	b.put("backends[shop]", shopBackend)
	b.put("backends[news]", shopBackend)
	b.apply() // revision 2
	b.put("backends[shop].retries", "9")
	b.put("backends[news].retries", "9")
	old := b.admin("ann")
	if _, err := b.Apply(ctx, ann, control.ApplyRequest{ConfirmWithin: control.MaxConfirm}); err != nil {
		t.Fatal(err)
	}
	if err := b.Confirm(ctx, old); kindOf(err) != control.Conflict {
		t.Errorf("confirm on an old connection: %v", err)
	}
	must(t, b.Rollback(ctx, ann))
	if got := b.engine.Status().RunningDocument.Backends[0].Retries; got != 3 {
		t.Errorf("after the roll back retries are %d, want 3", got)
	}
	view, err := b.Candidate(ann)
	must(t, err)
	if len(view.Changes) != 2 {
		t.Errorf("after the roll back the candidate holds %d changes, want both to be mended", len(view.Changes))
	}
	if _, err := b.Apply(ctx, ann, control.ApplyRequest{ConfirmWithin: control.MaxConfirm}); err != nil {
		t.Fatal(err)
	}
	must(t, b.Confirm(ctx, b.admin("ann")))

	must(t, b.Restore(ann, 2, "backends[shop]", whatever))
	b.apply()
	doc := b.engine.Status().RunningDocument
	if doc.Backends[0].Retries != 3 || doc.Backends[1].Retries != 9 {
		t.Errorf("restoring one object gave retries %d and %d, want 3 and 9", doc.Backends[0].Retries, doc.Backends[1].Retries)
	}
	must(t, b.Restore(ann, 1, "", whatever))
	b.apply()
	if n := len(b.engine.Status().RunningDocument.Backends); n != 0 {
		t.Errorf("restoring the first revision left %d backends", n)
	}
	if err := b.Restore(ann, 999, "", whatever); kindOf(err) != control.NotFound {
		t.Errorf("restoring a revision that isn't there: %v", err)
	}
}

func TestRestoreKeepsItsPlaceAmongRules(t *testing.T) {
	b := newBox(t)
	for _, rule := range []string{"first", "second", "third"} {
		b.put("firewall.rules["+rule+"]", `{action: pass}`)
	}
	b.apply()
	must(t, b.Delete(b.admin("ann"), "firewall.rules[second]", control.Match{ETag: "*"}))
	b.apply()
	must(t, b.Restore(b.admin("ann"), 2, "firewall.rules[second]", whatever))
	view, err := b.Candidate(b.admin("ann"))
	must(t, err)
	if diff := cmp.Diff([]string{"first", "second", "third"}, config.Names(view.Document, "firewall.rules")); diff != "" {
		t.Errorf("order of the rules (-want +got):\n%s", diff)
	}
}

func TestDiscardOneObject(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	b.put("backends[news]", shopBackend)
	must(t, b.Discard(b.admin("ann"), "backends[shop]", whatever))
	view, err := b.Candidate(b.admin("ann"))
	must(t, err)
	if diff := cmp.Diff([]string{"news"}, config.Names(view.Document, "backends")); diff != "" {
		t.Errorf("backends after discarding one (-want +got):\n%s", diff)
	}
	must(t, b.Discard(b.admin("ann"), "", whatever))
	if _, err := b.Apply(context.Background(), b.admin("ann"), control.ApplyRequest{}); kindOf(err) != control.Conflict {
		t.Errorf("applying nothing: %v", err)
	}
}

func TestDeleteAndRenameFollowReferences(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	b.put("frontends[web]", `{binds: [{name: http, address: 192.0.2.1, port: 80}], default_backend: shop}`)
	ann := b.admin("ann")
	err := b.Delete(ann, "backends[shop]", control.Match{ETag: "*"})
	f := control.AsFault(err)
	if f.Kind != control.Conflict || len(f.Problems) != 1 || f.Problems[0].Path != "frontends[web].default_backend" {
		t.Errorf("deleting what is in use: %+v", f)
	}
	if _, err := b.Rename(ann, "backends[shop]", "store", control.Match{ETag: "*"}); err != nil {
		t.Fatal(err)
	}
	view, err := b.Candidate(ann)
	must(t, err)
	if got := view.Document.Frontends[0].DefaultBackend; got != "store" {
		t.Errorf("after the rename the frontend uses %q", got)
	}
}

// secrets that must be found nowhere but in the store.
const (
	plantedPassword = "correct horse battery staple planted"
	plantedProxy    = "planted-proxy-password"
)

func TestSecretsStayInTheStore(t *testing.T) {
	b := newBox(t)
	ann := b.admin("ann")
	b.put("administrators[ann]", `{role: administrator, password: "`+plantedPassword+`"}`)
	b.put("system.outgoing_proxy", `{url: "http://proxy.example.net:3128", username: u, password: `+plantedProxy+`}`)
	applied := b.apply()

	shown := &strings.Builder{}
	show := func(v any, err error) {
		must(t, err)
		must(t, json.NewEncoder(shown).Encode(v))
	}
	show(b.CandidateObject(ann, "system"))
	show(b.CandidateObject(ann, "administrators[ann]"))
	show(b.Diff(ann, "1", "running"))
	show(applied, nil)
	show(b.Status(context.Background(), ann))
	audit, _, err := b.Audit(ann, control.Page{})
	show(audit, err)
	show(b.events.Recent(100), nil)
	for _, planted := range []string{plantedPassword, plantedProxy} {
		if strings.Contains(shown.String(), planted) {
			t.Errorf("an answer holds the secret %q", planted)
		}
	}
	if !strings.Contains(shown.String(), "(set)") {
		t.Error("nothing says that a secret is set")
	}
	must(t, filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), plantedPassword) {
			t.Errorf("%s holds the password in plain", path)
		}
		if strings.Contains(string(data), plantedProxy) && !strings.Contains(path, "/secrets/") {
			t.Errorf("%s holds the proxy's password", path)
		}
		return err
	}))

	object, err := b.CandidateObject(ann, "system.outgoing_proxy")
	must(t, err)
	if _, err := b.Put(ann, "system.outgoing_proxy", object.JSON, control.Match{ETag: object.ETag}); err != nil {
		t.Fatalf("putting back what was read: %v", err)
	}
	if _, err := b.Apply(context.Background(), ann, control.ApplyRequest{}); kindOf(err) != control.Conflict {
		t.Errorf("putting back what was read changed something: %v", err)
	}
	again, err := b.Put(ann, "system.outgoing_proxy.password", []byte("another"), control.Match{ETag: "*"})
	must(t, err)
	if again.ETag == object.ETag {
		t.Error("a new secret left the ETag as it was")
	}
	if _, err := b.Put(ann, "system.outgoing_proxy.password", []byte("file:/etc/shadow"), control.Match{ETag: "*"}); kindOf(err) != control.Invalid {
		t.Errorf("a file of the appliance could be named: %v", err)
	}
}

func TestMissingSecretIsRefusedAtApply(t *testing.T) {
	b := newBox(t)
	b.put("system.outgoing_proxy.password", "secret:00112233445566778899aabbccddeeff")
	_, err := b.Apply(context.Background(), b.admin("ann"), control.ApplyRequest{})
	f := control.AsFault(err)
	if f.Kind != control.Refused || f.Problems.Errors()[0].Path != "system.outgoing_proxy.password" {
		t.Errorf("apply with a reference that the store can't follow: %+v", f)
	}
}

func TestRolesAtTheDoor(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	b.put("backends[news]", shopBackend)
	b.apply()
	ctx := context.Background()
	drain := func(backend string) func(control.Caller) error {
		return func(c control.Caller) error {
			_, err := b.Act(ctx, c, control.RuntimeAction{Backend: backend, Server: "web1", Verb: control.Drain})
			return err
		}
	}
	get := func(c control.Caller) error { _, err := b.Candidate(c); return err }
	edit := func(c control.Caller) error {
		_, err := b.Patch(c, "system", []byte(`{}`), control.Match{ETag: "*"})
		return err
	}
	users := func(c control.Caller) error {
		return b.SetPassword(ctx, c, "nobody-there", "", "a password for nobody")
	}
	const ok, no = control.Kind("ok"), control.Forbidden
	mustChange := b.admin("new")
	mustChange.MustChange = true
	tests := []struct {
		name   string
		caller control.Caller
		// get, edit, drain shop, drain news, somebody else's password
		want [5]control.Kind
	}{
		{"administrator", b.admin("ann"), [5]control.Kind{ok, ok, ok, ok, control.NotFound}},
		{"operator", b.as("olga", auth.Operator), [5]control.Kind{ok, no, ok, ok, no}},
		{"operator of one backend", b.as("otto", auth.Operator, "backend:shop"), [5]control.Kind{ok, no, ok, no, no}},
		{"viewer", b.as("vera", auth.Viewer), [5]control.Kind{ok, no, no, no, no}},
		{"one-time password", mustChange, [5]control.Kind{no, no, no, no, no}},
		{"nobody", control.Caller{}, [5]control.Kind{
			control.Unauthenticated, control.Unauthenticated, control.Unauthenticated, control.Unauthenticated, control.Unauthenticated,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [5]control.Kind
			for i, do := range []func(control.Caller) error{get, edit, drain("shop"), drain("news"), users} {
				got[i] = kindOf(do(tt.caller))
			}
			if got != tt.want {
				t.Errorf("get, edit, drain shop, drain news, password = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEveryChangeIsAudited(t *testing.T) {
	b := newBox(t)
	ctx := context.Background()
	ann, vera := b.admin("ann"), b.as("vera", auth.Viewer)
	b.put("backends[shop]", shopBackend)
	b.apply()
	_, _ = b.Patch(vera, "system", []byte(`{}`), control.Match{ETag: "*"})
	_, _ = b.Act(ctx, ann, control.RuntimeAction{Backend: "shop", Server: "web1", Verb: control.Weight, Weight: 7})
	_ = b.Rollback(ctx, ann)

	records, next, err := b.Audit(ann, control.Page{})
	must(t, err)
	var got []string
	for _, r := range records {
		if r.From != "198.51.100.7" || r.Via != "api" || r.Time.IsZero() {
			t.Errorf("a record lacks where from or when: %+v", r)
		}
		got = append(got, strings.TrimSpace(r.Who+" "+r.Action+" "+r.Object+" "+r.Result))
	}
	want := []string{
		"ann rollback  conflict", "ann server.weight backend:shop/web1 ok", "vera candidate.patch system forbidden",
		"ann apply  ok", "ann candidate.put backends[shop] ok",
	}
	if diff := cmp.Diff(want, got); diff != "" || next != "" {
		t.Errorf("audit (-want +got), next %q:\n%s", next, diff)
	}
	b.put("backends[shop].retries", "7")
	edits, _, err := b.Audit(ann, control.Page{Limit: 1})
	must(t, err)
	if diff := cmp.Diff([]string{"changed backends[shop].retries: 3 -> 7"}, edits[0].Changes); diff != "" {
		t.Errorf("the edit's record:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"added backends[shop]"}, records[3].Changes); diff != "" || records[3].Revision != 2 {
		t.Errorf("the apply's record (revision %d):\n%s", records[3].Revision, diff)
	}
	found, _, err := b.Audit(ann, control.Page{Query: "VERA"})
	must(t, err)
	if len(found) != 1 {
		t.Errorf("a search found %d records, want 1", len(found))
	}
}

func TestRecordsOfLargeChangesAreBounded(t *testing.T) {
	b := newBox(t)
	var entries []string
	for i := range 3000 {
		entries = append(entries, fmt.Sprintf("2001:db8::%x", i))
	}
	b.put("aliases[many]", "{type: network}")
	b.put("aliases[many].entries", "["+strings.Join(entries, ", ")+"]")
	b.put("system.admin.login_banner", `"`+strings.Repeat(`\n`, 4000)+`"`)
	records, _, err := b.Audit(b.admin("ann"), control.Page{})
	must(t, err)
	if len(records) != 3 || records[1].Changes[len(records[1].Changes)-1] != "…" {
		t.Errorf("%d records, want all three, with the rest of many changes left out: %v", len(records), records)
	}
}

func TestFullDiskLeavesEverythingAsItWas(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	b.apply()
	before, err := b.Candidate(b.admin("ann"))
	must(t, err)
	state := b.recorder.State()
	var full error = syscall.ENOSPC
	b.fault.Store(&full)

	_, err = b.Put(b.admin("ann"), "backends[news]", []byte(shopBackend), control.Match{Absent: true})
	f := control.AsFault(err)
	if f.Kind != control.Storage || !strings.Contains(f.Message.String(), "full") {
		t.Errorf("saving on a full disk: %s %s", f.Kind, f.Message)
	}
	after, err := b.Candidate(b.admin("ann"))
	must(t, err)
	if after.ETag != before.ETag {
		t.Error("what could not be saved stands in the candidate")
	}
	if diff := cmp.Diff(state, b.recorder.State()); diff != "" {
		t.Errorf("the machine changed:\n%s", diff)
	}

	b.fault.Store(nil)
	b.put("backends[news]", shopBackend)
	b.apply()
}

func TestCandidateSurvivesARestart(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	view, err := b.Candidate(b.admin("ann"))
	must(t, err)
	again := control.New(control.Options{Store: b.store, Engine: b.engine, Auth: b.auth, Events: b.events})
	later, err := again.Candidate(b.admin("ann"))
	must(t, err)
	if diff := cmp.Diff(view.Changes, later.Changes); diff != "" || view.ETag != later.ETag {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
}

// TestPruneKeepsWhatIsNamed lets secrets go only when nothing names them.
func TestPruneKeepsWhatIsNamed(t *testing.T) {
	b := newBox(t)
	count := func() int {
		refs, err := b.store.Secrets()
		must(t, err)
		return len(refs)
	}
	b.put("system.outgoing_proxy.password", "first")
	b.apply()
	b.put("system.outgoing_proxy.password", "never applied")
	b.put("system.outgoing_proxy.password", "third")
	if got := count(); got != 3 {
		t.Fatalf("%d secrets are kept before an apply, want 3", got)
	}
	b.apply()
	if got := count(); got != 2 {
		t.Errorf("%d secrets are kept after an apply, want those of the two revisions", got)
	}
	must(t, b.Restore(b.admin("ann"), 2, "", whatever))
	b.apply()
	ref, _ := b.engine.Status().RunningDocument.System.OutgoingProxy.Password.Reference()
	if value, err := b.store.Secret(ref); err != nil || string(value) != "first" {
		t.Errorf("the restored revision's secret is %q, %v", value, err)
	}
}

// TestNobodyShutsThemselvesOut: what shuts the caller out needs a time to confirm.
func TestNobodyShutsThemselvesOut(t *testing.T) {
	b := newBox(t)
	b.put("system.admin.sources", "[203.0.113.0/24]")
	ctx, ann := context.Background(), b.admin("ann") // from 198.51.100.7
	_, err := b.Apply(ctx, ann, control.ApplyRequest{})
	f := control.AsFault(err)
	if f.Kind != control.Refused || f.Problems.Errors()[0].Path != "system.admin.sources" {
		t.Errorf("an apply that shuts its caller out: %+v", f)
	}
	problems, err := b.Check(ctx, ann)
	must(t, err)
	if problems.HasErrors() || !strings.Contains(problems.Error(), "198.51.100.7") {
		t.Errorf("check says %v, want a warning that names the caller's address", problems)
	}
	if _, err := b.Apply(ctx, ann, control.ApplyRequest{ConfirmWithin: control.MinConfirm}); err != nil {
		t.Errorf("with a time to confirm: %v", err)
	}
	local := ann
	local.From = "local"
	must(t, b.Rollback(ctx, ann))
	if _, err := b.Apply(ctx, local, control.ApplyRequest{}); err != nil {
		t.Errorf("from the machine itself: %v", err)
	}
}

// TestDamagedCandidateIsSetAside: it must not keep what runs from running.
func TestDamagedCandidateIsSetAside(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	file := filepath.Join(b.dir, "candidate.yaml")
	must(t, os.WriteFile(file, []byte("nonsense"), 0o600))
	again := control.New(control.Options{Store: b.store, Engine: b.engine, Auth: b.auth, Events: b.events})
	view, err := again.Candidate(b.admin("ann"))
	must(t, err)
	status, err := again.Status(context.Background(), b.admin("ann"))
	must(t, err)
	if len(view.Changes) != 0 || len(status.Notes) != 1 || !strings.Contains(status.Notes[0].String(), "candidate.damaged.yaml") {
		t.Errorf("after a damaged candidate: changes %v, notes %v", view.Changes, status.Notes)
	}
	if data, err := os.ReadFile(filepath.Join(b.dir, "candidate.damaged.yaml")); err != nil || string(data) != "nonsense" {
		t.Errorf("what was set aside: %q, %v", data, err)
	}
}

func TestDiscardNeedsTheCandidateThatWasSeen(t *testing.T) {
	b := newBox(t)
	view, err := b.Candidate(b.admin("ann"))
	must(t, err)
	b.put("backends[shop]", shopBackend) // somebody else, meanwhile
	if err := b.Discard(b.admin("bob"), "", control.Match{ETag: view.ETag}); kindOf(err) != control.Changed {
		t.Errorf("discarding what bob hasn't seen: %v", err)
	}
	if err := b.Restore(b.admin("bob"), 1, "", control.Match{}); kindOf(err) != control.MatchRequired {
		t.Errorf("restoring without saying over what: %v", err)
	}
}

func TestRuntimeActionsNameWhatIsThere(t *testing.T) {
	b := newBox(t)
	b.put("backends[shop]", shopBackend)
	b.apply()
	tests := []struct {
		backend, server string
		verb            control.RuntimeVerb
		weight          int
		want            control.Kind
		hint            string
	}{
		{"shop", "web1", control.Drain, 0, "ok", ""},
		{"shop", "web1", control.Weight, 256, "ok", ""},
		{"shop", "web1", control.Weight, 257, control.Invalid, ""},
		{"shop", "web2", control.Drain, 0, control.NotFound, "web1"},
		{"shpo", "web1", control.Drain, 0, control.NotFound, "shop"},
	}
	for _, tt := range tests {
		after, err := b.Act(context.Background(), b.admin("ann"), control.RuntimeAction{Backend: tt.backend, Server: tt.server, Verb: tt.verb, Weight: tt.weight})
		if kindOf(err) != tt.want {
			t.Errorf("%s %s/%s = %v, want %s", tt.verb, tt.backend, tt.server, err, tt.want)
		}
		if err == nil && after.WebSockets != 3 {
			t.Errorf("%s %s/%s doesn't say what the server has: %+v", tt.verb, tt.backend, tt.server, after)
		}
		if tt.hint != "" && !strings.Contains(control.AsFault(err).Hint.String(), tt.hint) {
			t.Errorf("%s %s/%s hints %q, want %s", tt.verb, tt.backend, tt.server, control.AsFault(err).Hint, tt.hint)
		}
	}
	if len(b.acted) != 2 || b.acted[0].By != "ann" {
		t.Errorf("acted: %+v", b.acted)
	}
}
