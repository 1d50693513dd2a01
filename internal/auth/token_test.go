package auth

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/event"
)

func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		b.told()
		expires := time.Now().Add(24 * time.Hour).UTC()
		token, secret, err := b.CreateToken("ann", "script", Operator, expires)
		must(t, err)
		if !regexp.MustCompile(`^slt_[0-9A-Za-z]{43}$`).MatchString(secret) {
			t.Errorf("secret %q has another form", secret)
		}
		want := Token{Account: "ann", Name: "script", Role: Operator, Created: time.Now().UTC(), Expires: expires}
		if diff := cmp.Diff([]Token{want}, b.Tokens("ann")); diff != "" || token != want {
			t.Errorf("Tokens (-want +got):\n%s", diff)
		}
		accounts := b.accounts
		b.restart(t) // tokens survive
		b.accounts = accounts

		identity, err := b.VerifyToken(secret, source("192.0.2.1"))
		must(t, err)
		if diff := cmp.Diff(Identity{Account: "ann", Role: Operator, Token: "script"}, identity); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
		for _, wrong := range []string{"", "slt_", secret[:len(secret)-1], secret + "0", strings.ToLower(secret)} {
			if _, err := b.VerifyToken(wrong, source("192.0.2.1")); kind(err) != Unauthenticated {
				t.Errorf("VerifyToken(%q) = %v, want a refusal", wrong, err)
			}
		}
		time.Sleep(24*time.Hour - 1)
		_, err = b.VerifyToken(secret, source("192.0.2.1"))
		must(t, err)
		time.Sleep(time.Nanosecond)
		if _, err := b.VerifyToken(secret, source("192.0.2.1")); kind(err) != Unauthenticated {
			t.Errorf("after its end: %v, want a refusal", err)
		}
		must(t, b.DeleteToken("ann", "script"))
		if err := b.DeleteToken("ann", "script"); kind(err) != NotFound {
			t.Errorf("second delete: %v, want not found", err)
		}
		wantEvents := []event.Event{
			TokenCreated{Account: "ann", Token: "script", Role: Operator, Expires: expires},
			TokenDeleted{Account: "ann", Token: "script"},
		}
		if diff := cmp.Diff(wantEvents, b.told()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestCreateTokenRefuses(t *testing.T) {
	tests := []struct {
		test, account, name string
		role                Role
		expires             time.Time
		want                RefusalKind
	}{
		{"equal role", "olaf", "a", Operator, time.Time{}, ""},
		{"lower role", "olaf", "a", Viewer, time.Time{}, ""},
		{"higher role", "olaf", "a", Administrator, time.Time{}, Invalid},
		{"no role", "olaf", "a", "", time.Time{}, Invalid},
		{"no account", "nobody", "a", Viewer, time.Time{}, NotFound},
		{"name taken", "olaf", "taken", Viewer, time.Time{}, Conflict},
		{"name taken by another", "ann", "taken", Viewer, time.Time{}, ""},
		{"no name", "olaf", "", Viewer, time.Time{}, Invalid},
		{"slash", "olaf", "a/b", Viewer, time.Time{}, Invalid},
		{"inner blank", "olaf", "a b", Viewer, time.Time{}, Invalid},
		{"longest name", "olaf", strings.Repeat("n", maxTokenName), Viewer, time.Time{}, ""},
		{"longer name", "olaf", strings.Repeat("n", maxTokenName+1), Viewer, time.Time{}, Invalid},
		{"past", "olaf", "a", Viewer, time.Now().Add(-time.Minute), Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.test, func(t *testing.T) {
			b := newBox(t, ann, olaf)
			_, _, err := b.CreateToken("olaf", "taken", Viewer, time.Time{})
			must(t, err)
			before := b.state()
			_, secret, err := b.CreateToken(tt.account, tt.name, tt.role, tt.expires)
			if kind(err) != tt.want || (secret == "") != (tt.want != "") {
				t.Errorf("CreateToken = %q, %v, want %q", secret, err, tt.want)
			}
			if tt.want != "" && b.state() != before {
				t.Error("the state has changed")
			}
		})
	}
	t.Run("too many", func(t *testing.T) {
		b := newBox(t, ann, olaf)
		for i := range maxTokensPerAccount {
			_, _, err := b.CreateToken("olaf", fmt.Sprint(i), Viewer, time.Time{})
			must(t, err)
		}
		if _, _, err := b.CreateToken("olaf", "one-more", Viewer, time.Time{}); kind(err) != Full {
			t.Errorf("token %d: %v, want full", maxTokensPerAccount+1, err)
		}
		_, _, err := b.CreateToken("ann", "first", Viewer, time.Time{})
		must(t, err)
	})
}

// TestLastUse writes the use of a token down once an hour, and uses it also when it
// can't.
func TestLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		_, secret, err := b.CreateToken("ann", "script", Viewer, time.Time{})
		must(t, err)
		use := func(from string) (last time.Time, where string) {
			t.Helper()
			_, err := b.VerifyToken(secret, source(from))
			must(t, err)
			token := b.Tokens("ann")[0]
			return token.LastUsed, token.LastFrom
		}
		first := time.Now()
		if last, from := use("192.0.2.1"); !last.Equal(first) || from != "192.0.2.1" {
			t.Errorf("first use at %v from %v", last, from)
		}
		time.Sleep(noteEvery - 1)
		if last, _ := use(""); !last.Equal(first) {
			t.Error("written down twice within the hour")
		}
		time.Sleep(time.Nanosecond)
		b.broken = errors.New("no space left on device")
		for range 5 {
			if last, _ := use(""); !last.Equal(first) {
				t.Error("not saved, but told")
			}
		}
		if got := b.Stats().SaveFailures; got != 1 {
			t.Errorf("tried to save %d times, want once an hour", got)
		}
		b.broken = nil
		time.Sleep(noteEvery)
		if last, from := use(""); !last.Equal(first.Add(2*noteEvery)) || from != "local" {
			t.Errorf("use on a good disk at %v from %v", last, from)
		}
		must(t, b.DeleteToken("ann", "script"))
		if len(b.noted) != 0 {
			t.Error("a token that is gone is remembered")
		}
	})
}
