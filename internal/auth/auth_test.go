package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluis/internal/event"
	"sluis/internal/text"
)

// cheap makes tests that log in a thousand times quick; what a hash costs has its
// own test.
var cheap = cost{memoryKiB: 8, passes: 1, lanes: 1}

// box is an Auth with a disk and a list of events.
type box struct {
	*Auth
	mu         sync.Mutex
	disk       []byte // nil = nothing saved yet
	broken     error  // what Save answers
	events     []event.Event
	protection Protection
	idle       time.Duration
}

func newBox(t testing.TB, accounts ...Account) *box {
	t.Helper()
	b := &box{}
	b.restart(t)
	if err := b.SetAccounts(accounts); err != nil {
		t.Fatal(err)
	}
	return b
}

// restart makes a new Auth from what is on the disk; it has no accounts yet.
func (b *box) restart(t testing.TB) {
	t.Helper()
	a, err := New(Options{
		Load: func() ([]byte, error) {
			if b.disk == nil {
				return nil, fs.ErrNotExist
			}
			return b.disk, nil
		},
		Save: func(data []byte) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.broken == nil {
				b.disk = bytes.Clone(data)
			}
			return b.broken
		},
		Publish: func(e event.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
		Protection:  func() Protection { return b.protection },
		IdleTimeout: func() time.Duration { return b.idle },
	})
	if err != nil {
		t.Fatal(err)
	}
	a.hasher = newHasher(cheap)
	b.Auth = a
}

// told returns the events since the last call.
func (b *box) told() []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

func (b *box) login(name, password, from string) error {
	_, err := b.Login(context.Background(), name, password, source(from))
	return err
}

// source is the address, or the machine itself for "".
func source(from string) netip.Addr {
	if from == "" {
		return Local()
	}
	return netip.MustParseAddr(from)
}

// with is an account whose document brings a password.
func with(a Account, ref, password string) Account {
	a.PasswordRef, a.PasswordHash = ref, makePHC(password, cheap).String()
	return a
}

var (
	ann  = with(Account{Name: "ann", Role: Administrator}, "secret:01", "ann's password")
	olaf = with(Account{Name: "olaf", Role: Operator, Objects: []string{"backend:shop"}}, "secret:02", "olaf's password")
	vera = with(Account{Name: "vera", Role: Viewer}, "secret:03", "vera's password")
)

// kind returns the kind of a refusal; "" for no error. Another error is told as is.
func kind(err error) RefusalKind {
	var refusal *Refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Kind
	}
	return RefusalKind(err.Error())
}

// retryAfter returns how long a refusal says to wait; -1 when the login was let
// through to be checked.
func retryAfter(err error) time.Duration {
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Kind == Throttled {
		return refusal.RetryAfter
	}
	return -1
}

func TestLogin(t *testing.T) {
	disabled, expired := ann, ann
	disabled.Name, disabled.Disabled = "dora", true
	expired.Name, expired.Expires = "emil", time.Now().Add(-time.Second)
	accounts := []Account{ann, disabled, expired, {Name: "nora", Role: Viewer}}
	tests := []struct {
		test, name, password string
		wantAccount, reason  string // of the event
	}{
		{"wrong password", "ann", "Ann's password", "ann", "wrong password"},
		{"empty password", "ann", "", "ann", "wrong password"},
		{"endless password", "ann", strings.Repeat("x", maxPasswordBytes+1), "ann", "wrong password"},
		{"no such name", "ann's password", "ann", "", "no account has that name"},
		{"no name", "", "", "", "no account has that name"},
		{"disabled", "dora", "ann's password", "dora", "the account is disabled"},
		{"expired", "emil", "ann's password", "emil", "the account has expired"},
		{"no password set", "nora", "", "nora", "the account has no password"},
	}
	for _, tt := range tests {
		t.Run(tt.test, func(t *testing.T) {
			b := newBox(t, accounts...)
			b.told()
			_, err := b.Login(t.Context(), tt.name, tt.password, source("192.0.2.1"))
			if diff := cmp.Diff(error(wrongLogin()), err); diff != "" {
				t.Errorf("the refusal tells something (-generic +got):\n%s", diff)
			}
			want := []event.Event{LoginFailed{Account: tt.wantAccount, From: "192.0.2.1", Reason: text.M(tt.reason)}}
			if diff := cmp.Diff(want, b.told()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("right", func(t *testing.T) {
		b := newBox(t, accounts...)
		b.told()
		session, err := b.Login(t.Context(), "ann", "ann's password", source("::ffff:192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.VerifySession(session.Token, true)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Identity{Account: "ann", Role: Administrator, Session: session.ID}, got); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
		want := []event.Event{LoginSucceeded{Account: "ann", From: "192.0.2.1", Session: session.ID}}
		if diff := cmp.Diff(want, b.told()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestLoginDuringChange lets the account change while the hash is computed.
func TestLoginDuringChange(t *testing.T) {
	for name, change := range map[string]func(b *box) error{
		"disabled":     func(b *box) error { d := ann; d.Disabled = true; return b.SetAccounts([]Account{d}) },
		"gone":         func(b *box) error { return b.SetAccounts(nil) },
		"new password": func(b *box) error { return b.replacePassword("ann", ann.PasswordHash[:40], false, "", text.M("")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, ann)
				b.hasher.slots <- struct{}{}
				b.hasher.slots <- struct{}{}
				var loginErr, basicErr error
				go func() { loginErr = b.login("ann", "ann's password", "192.0.2.1") }()
				go func() { _, basicErr = b.Basic(t.Context(), "ann", "ann's password", source("192.0.2.2")) }()
				synctest.Wait()
				if err := change(b); err != nil {
					t.Fatal(err)
				}
				b.hasher.release()
				b.hasher.release()
				synctest.Wait()
				if kind(loginErr) != Unauthenticated || kind(basicErr) != Unauthenticated || b.Stats().Sessions != 0 {
					t.Errorf("Login = %v, Basic = %v, %d sessions, want refusals and none", loginErr, basicErr, b.Stats().Sessions)
				}
			})
		})
	}
}

// TestPasswordFollowsDocument goes through the rule of SetAccounts. The password
// that holds after each step is found by logging in.
func TestPasswordFollowsDocument(t *testing.T) {
	doc := func(ref string) func(*box) error {
		account := Account{Name: "ann", Role: Administrator}
		if ref != "" {
			account = with(account, ref, ref+" password")
		}
		return func(b *box) error { return b.SetAccounts([]Account{account}) }
	}
	nobody := func(b *box) error { return b.SetAccounts(nil) }
	typed := func(b *box) error { return b.SetPassword(context.Background(), "ann", "typed-in password", "") }
	settle := func(b *box) error { return b.Settle() }
	type steps = []func(*box) error
	tests := []struct {
		name  string
		steps steps
		want  string // password; "" = none works
	}{
		{"document brings it", steps{doc("A")}, "A password"},
		{"document without", steps{doc("")}, ""},
		{"another reference", steps{doc("A"), settle, doc("B")}, "B password"},
		{"the same reference again", steps{doc("A"), settle, typed, doc("A")}, "typed-in password"},
		{"reference taken out", steps{doc("A"), settle, doc("")}, "A password"},
		{"reference out and in", steps{doc("A"), settle, doc(""), settle, typed, doc("A")}, "typed-in password"},
		{"rollback to a reference", steps{doc("A"), settle, doc("B"), doc("A")}, "A password"},
		{"rollback to a newer password", steps{doc("A"), settle, typed, doc("B"), doc("A")}, "typed-in password"},
		{"rollback to no reference", steps{doc(""), settle, typed, doc("B"), doc("")}, "typed-in password"},
		{"rollback to no password", steps{doc(""), settle, doc("B"), doc("")}, ""},
		{"confirmed", steps{doc(""), typed, doc("B"), settle, doc("")}, "B password"},
		{"typed before rollback", steps{doc("A"), settle, doc("B"), typed, doc("A")}, "typed-in password"},
		{"removed and rolled back", steps{doc("A"), settle, typed, nobody, doc("A")}, "typed-in password"},
		{"removed for good", steps{doc(""), typed, nobody, settle, doc("")}, ""},
	}
	for _, tt := range tests {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restarts=%v", tt.name, restarts), func(t *testing.T) {
				b := newBox(t)
				for i, step := range tt.steps {
					if err := step(b); err != nil {
						t.Fatalf("step %d: %v", i+1, err)
					}
					if restarts {
						accounts := b.accounts
						b.restart(t)
						b.accounts = accounts
					}
				}
				var works string
				for _, password := range []string{"A password", "B password", "typed-in password"} {
					if b.login("ann", password, "") == nil {
						works += password
					}
				}
				if works != tt.want {
					t.Errorf("password = %q, want %q", works, tt.want)
				}
			})
		}
	}
}

// TestUndoIsExact applies any documents and goes back before Settle: what was saved
// is then what had been saved before.
func TestUndoIsExact(t *testing.T) {
	hash := makePHC("any password at all", cheap).String()
	rapid.Check(t, func(r *rapid.T) {
		document := func(label string) []Account {
			return rapid.SliceOfNDistinct(rapid.Custom(func(r *rapid.T) Account {
				a := Account{Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "name"), Role: Viewer}
				if ref := rapid.SampledFrom([]string{"", "1", "2"}).Draw(r, "reference"); ref != "" {
					a.PasswordRef, a.PasswordHash = ref, hash
				}
				return a
			}), 0, 3, func(a Account) string { return a.Name }).Draw(r, label)
		}
		b := newBox(t, document("past")...)
		must(t, b.Settle())
		running := document("running")
		must(t, b.SetAccounts(running))
		if len(running) > 0 && rapid.Bool().Draw(r, "typed") {
			must(t, b.SetPassword(t.Context(), running[0].Name, "typed-in password", ""))
		}
		must(t, b.Settle())
		before := b.state()
		next := document("next")
		for range rapid.IntRange(1, 2).Draw(r, "times") { // a setter may be called twice
			must(t, b.SetAccounts(next))
		}
		if rapid.Bool().Draw(r, "crash") {
			b.restart(t)
		}
		must(t, b.SetAccounts(running))
		must(t, b.Settle())
		if diff := cmp.Diff(before, b.state(), cmp.AllowUnexported(state{})); diff != "" {
			r.Fatalf("after the undo (-before +after):\n%s", diff)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSetAccountsRefuses(t *testing.T) {
	for name, accounts := range map[string][]Account{
		"no name":                {{Role: Viewer}},
		"no role":                {{Name: "x"}},
		"twice":                  {{Name: "x", Role: Viewer}, {Name: "x", Role: Viewer}},
		"reference without hash": {{Name: "x", Role: Viewer, PasswordRef: "secret:01"}},
		"hash without reference": {{Name: "x", Role: Viewer, PasswordHash: ann.PasswordHash}},
		"hash that is none":      {{Name: "x", Role: Viewer, PasswordRef: "secret:01", PasswordHash: "hunter2"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, ann)
			err := b.SetAccounts(accounts)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("SetAccounts = %v, want an error that hides the hash", err)
			}
			must(t, b.login("ann", "ann's password", ""))
		})
	}
}

// TestLostWrite makes the disk fail: each change then fails as a whole.
func TestLostWrite(t *testing.T) {
	full := errors.New("no space left on device")
	tests := map[string]func(b *box) error{
		"SetAccounts": func(b *box) error {
			return b.SetAccounts([]Account{with(ann, "secret:99", "another password")})
		},
		"Settle":        func(b *box) error { return b.Settle() },
		"SetPassword":   func(b *box) error { return b.SetPassword(context.Background(), "ann", "another password", "") },
		"ResetPassword": func(b *box) error { _, err := b.ResetPassword(context.Background(), "ann"); return err },
		"CreateToken": func(b *box) error {
			_, _, err := b.CreateToken("ann", "second", Viewer, time.Time{})
			return err
		},
		"DeleteToken": func(b *box) error { return b.DeleteToken("ann", "first") },
	}
	for name, operation := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, ann)
			_, secret, err := b.CreateToken("ann", "first", Viewer, time.Time{})
			must(t, err)
			_, err = b.VerifyToken(secret, Local())
			must(t, err)
			session, err := b.Login(t.Context(), "ann", "ann's password", Local())
			must(t, err)
			b.told()
			before, account := b.state(), b.accounts["ann"]

			b.broken = full
			if err := operation(b); !errors.Is(err, full) {
				t.Errorf("with a full disk: %v, want %v", err, full)
			}
			if b.state() != before || b.accounts["ann"].PasswordRef != account.PasswordRef {
				t.Error("the change that was not saved holds in memory")
			}
			if _, err := b.VerifySession(session.Token, true); err != nil {
				t.Errorf("the session ended: %v", err)
			}
			if events := b.told(); len(events) > 0 {
				t.Errorf("told of what did not happen: %v", events)
			}
			if got := b.Stats().SaveFailures; got != 1 {
				t.Errorf("SaveFailures = %d, want 1", got)
			}
			b.broken = nil
			must(t, operation(b))
		})
	}
}

// TestNoSecretLeaves plants secrets everywhere and looks for them in all that is
// written, told or printed.
func TestNoSecretLeaves(t *testing.T) {
	b := newBox(t, ann, vera)
	ctx := t.Context()
	secrets := []string{"ann's password", "vera's new password", "typed into the name field", "a wrong password"}
	session, err := b.Login(ctx, "ann", "ann's password", source("192.0.2.1"))
	must(t, err)
	_, token, err := b.CreateToken("ann", "script", Administrator, time.Time{})
	must(t, err)
	_, err = b.VerifyToken(token, Local())
	must(t, err)
	_, err = b.Basic(ctx, "ann", "ann's password", source("192.0.2.1"))
	must(t, err)
	must(t, b.SetPassword(ctx, "vera", "vera's new password", ""))
	oneTime, err := b.ResetPassword(ctx, "ann")
	must(t, err)
	secrets = append(secrets, session.Token, token, strings.TrimPrefix(token, tokenPrefix), oneTime.Password)

	var out bytes.Buffer
	fmt.Fprintln(&out, b.login("typed into the name field", "a wrong password", "192.0.2.1"))
	fmt.Fprintln(&out, b.SetAccounts([]Account{{Name: "x", Role: Viewer, PasswordRef: "r", PasswordHash: "a wrong password"}}))
	for _, e := range b.told() {
		data, err := json.Marshal(e)
		must(t, err)
		fmt.Fprintln(&out, e.EventName(), e.Text(), string(data))
	}
	fmt.Fprintf(&out, "%+v %+v %+v\n%s", b.Sessions(""), b.Tokens(""), b.Stats(), b.disk)
	for _, secret := range secrets {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in:\n%s", secret, &out)
		}
	}
	if want := digestOf(token); !strings.Contains(out.String(), fmt.Sprintf("%x", want[:])) {
		t.Error("the search looks in the wrong place: the token's hash is not there either")
	}
}

func TestDamagedState(t *testing.T) {
	b := newBox(t, ann, vera)
	_, _, err := b.CreateToken("ann", "script", Viewer, time.Time{})
	must(t, err)
	good := string(b.disk)
	replace := func(old, replacement string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the state has no %s:\n%s", old, good)
		}
		return strings.Replace(good, old, replacement, 1)
	}
	tests := []struct{ name, data, want string }{
		{"empty", "", "damaged"},
		{"cut", good[:len(good)/2], "damaged"},
		{"more", good + "{}", "damaged"},
		{"null", "null", "no version"},
		{"no version", replace(`"version": 1`, `"version": 0`), "no version"},
		{"newer", replace(`"version": 1`, `"version": 2, "faces": []`), "use a newer Sluis"},
		{"unknown field", replace(`"one_time"`, `"one_tine"`), "one_tine"},
		{"lists missing", `{"version": 1}`, "missing"},
		{"account twice", replace(`"name": "vera"`, `"name": "ann"`), `account "ann": stands there twice`},
		{"account without name", replace(`"name": "vera"`, `"name": ""`), "has no name"},
		{"hash", replace("argon2id", "argon2ix"), `account "ann": the password hash`},
		{"token's hash", replace(`"sha256": "`, `"sha256": "00`), `token "script" of "ann": has no SHA-256`},
		{"token's role", replace(`"role": "viewer"`, `"role": "root"`), "role"},
		{"too long", good + strings.Repeat(" ", maxStateBytes), "bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			load := func() ([]byte, error) { return []byte(tt.data), nil }
			_, err := New(Options{Load: load, Save: func([]byte) error { return nil }})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want an error with %q", err, tt.want)
			}
		})
	}
	unreadable := errors.New("input/output error")
	_, err = New(Options{Load: func() ([]byte, error) { return nil, unreadable }, Save: func([]byte) error { return nil }})
	if !errors.Is(err, unreadable) {
		t.Errorf("New on a bad disk = %v, want %v", err, unreadable)
	}
}

func TestMay(t *testing.T) {
	limited := Identity{Account: "olaf", Role: Operator, Objects: []string{"backend:shop"}}
	identities := []struct {
		name     string
		identity Identity
	}{
		{"nobody", Identity{}},
		{"viewer", Identity{Role: Viewer}},
		{"operator", Identity{Role: Operator}},
		{"limited", limited},
		{"administrator", Identity{Role: Administrator}},
		{"one-time", Identity{Role: Administrator, MustChange: true}},
		{"token", Identity{Role: Administrator, Token: "t"}},
	}
	tests := []struct {
		action Action
		want   string // who may
	}{
		{Action{Kind: View}, "viewer operator limited administrator token"},
		{Action{Operate, "backend:shop"}, "operator limited administrator token"},
		{Action{Operate, "backend:shop/web1"}, "operator limited administrator token"},
		{Action{Operate, "backend:shop2"}, "operator administrator token"},
		{Action{Operate, "frontend:shop"}, "operator administrator token"},
		{Action{Operate, ""}, "operator administrator token"},
		{Action{Kind: Configure}, "administrator token"},
		{Action{Kind: ManageAccounts}, "administrator token"},
		{Action{Kind: ManageOwn}, "viewer operator limited administrator"},
		{Action{Kind: ChangeOwnPassword}, "viewer operator limited administrator one-time"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.action), func(t *testing.T) {
			var may []string
			for _, i := range identities {
				err := i.identity.May(tt.action)
				if err == nil {
					may = append(may, i.name)
					continue
				}
				var refusal *Refusal
				if !errors.As(err, &refusal) || refusal.Message.IsZero() || refusal.Hint.IsZero() {
					t.Errorf("%s: %v, want a refusal with message and hint", i.name, err)
				}
				wantKind := Forbidden
				if i.name == "nobody" {
					wantKind = Unauthenticated
				}
				if kind(err) != wantKind {
					t.Errorf("%s: kind %q, want %q", i.name, kind(err), wantKind)
				}
			}
			if got := strings.Join(may, " "); got != tt.want {
				t.Errorf("may: %s, want %s", got, tt.want)
			}
		})
	}
}

// TestTogether lets everything run at once, for the race detector, and looks
// whether the sums are right in the end.
func TestTogether(t *testing.T) {
	b := newBox(t, ann, olaf, vera)
	b.protection.PassList = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx, from := t.Context(), source(fmt.Sprintf("192.0.2.%d", i))
			for j := range 20 {
				name := fmt.Sprintf("token-%d-%d", i, j)
				_, secret, err := b.CreateToken("olaf", name, Viewer, time.Time{})
				if err == nil {
					_, err = b.VerifyToken(secret, from)
				}
				if err == nil {
					err = b.DeleteToken("olaf", name)
				}
				if err != nil {
					t.Error(err)
				}
				if session, err := b.Login(ctx, "ann", "ann's password", from); err == nil {
					_, _ = b.VerifySession(session.Token, true)
				}
				_, _ = b.Basic(ctx, "vera", "vera's password", from)
				_ = b.login("nobody", "nothing", fmt.Sprintf("198.51.100.%d", j))
				_, _, _, _ = b.Sessions(""), b.Tokens(""), b.BlockedSources(), b.Stats()
				if err := b.SetAccounts([]Account{ann, olaf, vera}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stats := b.Stats()
	if stats.Tokens != 0 || stats.Sessions > maxSessionsPerAccount || stats.Sessions == 0 {
		t.Errorf("%d tokens and %d sessions are left", stats.Tokens, stats.Sessions)
	}
	for _, o := range b.guard.sources {
		if o.inFlight != 0 {
			t.Errorf("an attempt never ended: %+v", o)
		}
	}
	names := func(tokens []Token) (names []string) {
		for _, token := range tokens {
			names = append(names, token.Name)
		}
		return names
	}
	memory, memoryTokens := b.state(), names(b.Tokens(""))
	b.restart(t)
	if diff := cmp.Diff(memory, b.state(), cmp.AllowUnexported(state{}), cmpopts.EquateEmpty()); diff != "" || !slices.Equal(memoryTokens, names(b.Tokens(""))) {
		t.Errorf("disk and memory differ (-memory +disk):\n%s", diff)
	}
}
