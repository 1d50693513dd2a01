package auth

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/event"
	"sluis/internal/text"
)

func TestSessionEndsByItself(t *testing.T) {
	tests := []struct {
		name   string
		idle   time.Duration
		every  time.Duration // how often it is used
		active bool
		want   time.Duration // how long it lives
	}{
		{"left alone", 0, 0, false, 4 * time.Hour},
		{"a page that polls", 0, time.Hour, false, 4 * time.Hour},
		{"in use", 0, time.Hour, true, 7 * 24 * time.Hour},
		{"own timeout", 90 * time.Minute, time.Hour + 45*time.Minute, true, 90 * time.Minute},
		{"no timeout", -1, 0, false, 7 * 24 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, ann)
				b.idle = tt.idle
				session, err := b.Login(t.Context(), "ann", "ann's password", Local())
				must(t, err)
				if tt.every > 0 {
					for time.Since(session.Created)+tt.every < tt.want {
						time.Sleep(tt.every)
						_, err := b.VerifySession(session.Token, tt.active)
						must(t, err)
					}
				}
				if got := b.Sessions("ann")[0].Ends.Sub(session.Created); got != tt.want {
					t.Errorf("listed to end after %v, want %v", got, tt.want)
				}
				time.Sleep(tt.want - time.Since(session.Created) - 1)
				if _, err := b.VerifySession(session.Token, false); err != nil {
					t.Errorf("1 ns before its end: %v", err)
				}
				time.Sleep(time.Nanosecond)
				if _, err := b.VerifySession(session.Token, true); kind(err) != Unauthenticated {
					t.Errorf("at its end: %v, want a refusal", err)
				}
				if got := b.Stats().Sessions; got != 0 {
					t.Errorf("%d sessions are kept", got)
				}
			})
		})
	}
}

// TestAccountChangesCountAtOnce changes the account under a session, a token and a
// remembered password.
func TestAccountChangesCountAtOnce(t *testing.T) {
	type doors struct{ Session, Token, Basic string } // role, or kind of refusal
	change := func(edit func(*Account)) func(*box) error {
		return func(b *box) error {
			changed := olaf
			edit(&changed)
			return b.SetAccounts([]Account{changed})
		}
	}
	all := func(result string) doors { return doors{result, result, result} }
	tests := []struct {
		name   string
		change func(*box) error
		want   doors
	}{
		{"nothing", change(func(*Account) {}), all("operator [backend:shop]")},
		{"other objects", change(func(a *Account) { a.Objects = []string{"backend:x"} }), all("operator [backend:x]")},
		{"more", change(func(a *Account) { a.Role = Administrator }), doors{"administrator []", "operator []", "administrator []"}},
		{"less", change(func(a *Account) { a.Role = Viewer }), all("viewer []")},
		{"disabled", change(func(a *Account) { a.Disabled = true }), all("unauthenticated")},
		{"expired", change(func(a *Account) { a.Expires = time.Now() }), all("unauthenticated")},
		{"expires later", change(func(a *Account) { a.Expires = time.Now().Add(time.Hour) }), all("operator [backend:shop]")},
		{"gone", func(b *box) error { return b.SetAccounts(nil) }, all("unauthenticated")},
		{
			"gone and back", func(b *box) error {
				if err := b.SetAccounts(nil); err != nil {
					return err
				}
				return b.SetAccounts([]Account{olaf})
			},
			doors{"unauthenticated", "operator [backend:shop]", "operator [backend:shop]"},
		},
		{
			"another under the same name", func(b *box) error {
				for _, step := range []func() error{
					func() error { return b.SetAccounts(nil) }, b.Settle,
					func() error { return b.SetAccounts([]Account{{Name: "olaf", Role: Viewer}}) },
				} {
					if err := step(); err != nil {
						return err
					}
				}
				return nil
			},
			all("unauthenticated"),
		},
		{
			"password from the document", change(func(a *Account) { *a = with(*a, "secret:99", "another one") }),
			doors{"unauthenticated", "operator [backend:shop]", "unauthenticated"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, olaf)
			session, err := b.Login(t.Context(), "olaf", "olaf's password", Local())
			must(t, err)
			_, secret, err := b.CreateToken("olaf", "script", Operator, time.Time{})
			must(t, err)
			_, err = b.Basic(t.Context(), "olaf", "olaf's password", Local())
			must(t, err)

			must(t, tt.change(b))
			describe := func(i Identity, err error) string {
				if err != nil {
					return string(kind(err))
				}
				return fmt.Sprint(i.Role, " ", i.Objects)
			}
			got := doors{
				Session: describe(b.VerifySession(session.Token, true)),
				Token:   describe(b.VerifyToken(secret, Local())),
				Basic:   describe(b.Basic(t.Context(), "olaf", "olaf's password", Local())),
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("what still works (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("time passes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			expires := olaf
			expires.Expires = time.Now().Add(time.Hour)
			b := newBox(t, expires)
			session, err := b.Login(t.Context(), "olaf", "olaf's password", Local())
			must(t, err)
			time.Sleep(time.Hour)
			if _, err := b.VerifySession(session.Token, true); kind(err) != Unauthenticated {
				t.Errorf("session of an account that has expired: %v", err)
			}
		})
	})
}

func TestRevoke(t *testing.T) {
	b := newBox(t, ann, vera)
	begin := func(name string) Session {
		session, err := b.Login(t.Context(), name, name+"'s password", Local())
		must(t, err)
		return session
	}
	first, second, third, other := begin("ann"), begin("ann"), begin("ann"), begin("vera")
	open := func() (ids []string) {
		for _, s := range []Session{first, second, third, other} {
			if _, err := b.VerifySession(s.Token, true); err == nil {
				ids = append(ids, s.ID)
			}
		}
		return ids
	}
	check := func(after string, want ...Session) {
		t.Helper()
		var ids []string
		for _, s := range want {
			ids = append(ids, s.ID)
		}
		if diff := cmp.Diff(ids, open()); diff != "" {
			t.Errorf("open after %s (-want +got):\n%s", after, diff)
		}
	}
	b.told()
	must(t, b.RevokeSession(first.ID))
	check("logout of the first", second, third, other)
	want := []event.Event{SessionRevoked{Account: "ann", Sessions: []string{first.ID}, Reason: text.M("it was logged out")}}
	if diff := cmp.Diff(want, b.told()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if err := b.RevokeSession(first.ID); kind(err) != NotFound {
		t.Errorf("second logout: %v, want not found", err)
	}
	must(t, b.SetPassword(t.Context(), "ann", "a new password", second.ID))
	check("a new password", second, other)
	if got := b.RevokeSessions("ann", ""); got != 1 {
		t.Errorf("RevokeSessions = %d, want 1", got)
	}
	check("the end of all of ann's", other)
}

func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accounts []Account
		for i := range maxSessions/maxSessionsPerAccount + 1 {
			accounts = append(accounts, with(Account{Name: fmt.Sprint("user-", i), Role: Viewer}, "secret:01", "the same password"))
		}
		b := newBox(t, accounts...)
		begin := func(name string) Session {
			time.Sleep(time.Second)
			session, err := b.Login(t.Context(), name, "the same password", Local())
			must(t, err)
			return session
		}
		first, second := begin("user-0"), begin("user-0")
		for range maxSessionsPerAccount - 2 {
			begin("user-0")
		}
		_, err := b.VerifySession(first.Token, true)
		must(t, err)
		begin("user-0")
		if _, err := b.VerifySession(second.Token, true); kind(err) != Unauthenticated {
			t.Errorf("the session that was left alone the longest: %v, want it ended", err)
		}
		for _, account := range accounts {
			for range maxSessionsPerAccount {
				begin(account.Name)
			}
		}
		if got := b.Stats().Sessions; got != maxSessions {
			t.Errorf("%d sessions, want %d", got, maxSessions)
		}
		time.Sleep(DefaultIdleTimeout)
		b.told()
		begin("user-0")
		if got, events := b.Stats().Sessions, b.told(); got != 1 || len(events) != 1 {
			t.Errorf("%d sessions and %d events after all others ended by themselves, want 1 login", got, len(events))
		}
	})
}

func TestBasicRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		basic := func(password, from string) string {
			before := b.Stats()
			_, err := b.Basic(t.Context(), "ann", password, source(from))
			if b.Stats().Remembered > before.Remembered {
				return "remembered"
			}
			if err == nil {
				return "checked"
			}
			return string(kind(err))
		}
		check := func(when, password, from, want string) {
			t.Helper()
			if got := basic(password, from); got != want {
				t.Errorf("%s: %s, want %s", when, got, want)
			}
		}
		check("first call", "ann's password", "192.0.2.1", "checked")
		check("next call", "ann's password", "192.0.2.1", "remembered")
		check("another source", "ann's password", "192.0.2.2", "checked")
		check("wrong password", "ann's passwore", "192.0.2.1", "unauthenticated")
		time.Sleep(rememberFor - 1)
		check("within the minute", "ann's password", "192.0.2.1", "remembered")
		time.Sleep(time.Nanosecond)
		check("after it", "ann's password", "192.0.2.1", "checked")

		must(t, b.SetPassword(t.Context(), "ann", "a new password", ""))
		check("old password", "ann's password", "192.0.2.1", "unauthenticated")
		check("new password", "a new password", "192.0.2.1", "checked")

		// What is remembered answers nobody who must wait.
		check("third failure", "ann's password", "192.0.2.1", "unauthenticated")
		check("in the delay", "a new password", "192.0.2.1", "throttled")
		time.Sleep(time.Second)
		check("after the delay", "a new password", "192.0.2.1", "remembered")

		for i := range maxRemembered + 10 {
			b.checks.remember(checkKey{byte(i), byte(i >> 8)}, proof{}, time.Now())
		}
		if got := len(b.checks.right); got != maxRemembered {
			t.Errorf("%d are remembered, want %d", got, maxRemembered)
		}
	})
}

// TestBasicTogether starts a script many times at once, on a machine that has
// nothing remembered: one hash answers all, also when the first caller goes away.
func TestBasicTogether(t *testing.T) {
	for _, tt := range []struct {
		name, password string
		firstLeaves    bool
		wantKind       RefusalKind
		wantFailures   uint64
	}{
		{"right", "ann's password", false, "", 0},
		{"wrong", "bob's password", false, Unauthenticated, 1},
		{"first leaves", "ann's password", true, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, ann)
				b.hasher.slots <- struct{}{}
				b.hasher.slots <- struct{}{}
				results := make(chan error, 50)
				leave, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.firstLeaves {
					go func() { _, _ = b.Basic(leave, "ann", tt.password, source("192.0.2.1")) }()
					synctest.Wait()
				}
				for range cap(results) {
					go func() {
						_, err := b.Basic(t.Context(), "ann", tt.password, source("192.0.2.1"))
						results <- err
					}()
				}
				synctest.Wait()
				if got := b.hasher.logins.Load(); got != 1 {
					t.Errorf("%d hashes are under way, want 1", got)
				}
				cancel()
				synctest.Wait()
				b.hasher.release()
				b.hasher.release()
				for range cap(results) {
					if err := <-results; kind(err) != tt.wantKind {
						t.Errorf("Basic = %v, want %q", err, tt.wantKind)
					}
				}
				if got := b.Stats().Failures; got != tt.wantFailures {
					t.Errorf("%d failures are counted, want %d", got, tt.wantFailures)
				}
				if got := len(b.checks.running); got != 0 {
					t.Errorf("%d checks never ended", got)
				}
			})
		})
	}
}
