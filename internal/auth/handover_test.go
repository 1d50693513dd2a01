package auth

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/event"
	"sluis/internal/text"
)

// inSession is who has logged in as the account.
func (b *box) inSession(t *testing.T, name string) (Identity, Session) {
	t.Helper()
	session, err := b.Login(t.Context(), name, name+"'s password", source("192.0.2.1"))
	must(t, err)
	identity, err := b.VerifySession(session.Token, true)
	must(t, err)
	return identity, session
}

func (b *box) handover(t *testing.T, i Identity) string {
	t.Helper()
	secret, err := b.Handover(i)
	must(t, err)
	return secret
}

func TestHandover(t *testing.T) {
	b := newBox(t, ann)
	identity, _ := b.inSession(t, "ann")
	secret := b.handover(t, identity)
	if len(secret) != 43 || strings.Contains(string(b.disk), secret) {
		t.Errorf("secret %q", secret)
	}
	b.told()
	session, err := b.Redeem(secret, source("192.0.2.2"))
	must(t, err)
	if session.Account != "ann" || session.From != source("192.0.2.2") {
		t.Errorf("session = %+v", session)
	}
	_, err = b.VerifySession(session.Token, true)
	must(t, err)
	if _, err := b.Redeem(secret, source("192.0.2.2")); kind(err) != Unauthenticated {
		t.Errorf("the second use: %v", err)
	}
	want := []event.Event{
		LoginSucceeded{Account: "ann", From: "192.0.2.2", Session: session.ID},
		LoginFailed{From: "192.0.2.2", Reason: text.M("no such handover is open")},
	}
	if diff := cmp.Diff(want, b.told()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestHandoverExpires(t *testing.T) {
	for after, want := range map[time.Duration]RefusalKind{time.Hour - 1: "", time.Hour: Unauthenticated} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, ann)
			identity, err := b.Basic(t.Context(), "ann", "ann's password", Local())
			must(t, err)
			secret := b.handover(t, identity)
			time.Sleep(after)
			if _, err := b.Redeem(secret, Local()); kind(err) != want {
				t.Errorf("after %v: %v, want %q", after, err, want)
			}
		})
	}
}

func TestWhoGetsAHandover(t *testing.T) {
	b := newBox(t, ann, vera)
	identity, session := b.inSession(t, "ann")
	_, token, err := b.CreateToken("ann", "script", Administrator, time.Time{})
	must(t, err)
	byToken, err := b.VerifyToken(token, Local())
	must(t, err)
	once, err := b.ResetPassword(t.Context(), "vera")
	must(t, err)
	oneTime, err := b.Basic(t.Context(), "vera", once.Password, Local())
	must(t, err)
	must(t, b.RevokeSession(session.ID))
	for name, tt := range map[string]struct {
		identity Identity
		want     RefusalKind
	}{
		"token":                {byToken, Forbidden},
		"one-time password":    {oneTime, Forbidden},
		"session that is over": {identity, Unauthenticated},
		"must change":          {Identity{Account: "ann", Role: Administrator, MustChange: true}, Forbidden},
		"nobody":               {Identity{}, Unauthenticated},
		"no account":           {Identity{Account: "root", Role: Administrator}, Unauthenticated},
	} {
		if secret, err := b.Handover(tt.identity); secret != "" || kind(err) != tt.want {
			t.Errorf("%s: %q, %v, want %s", name, secret, err, tt.want)
		}
	}
}

// What takes an account's sessions takes its handovers, and going back doesn't bring
// them back.
func TestHandoverEndsWithItsAccount(t *testing.T) {
	disabled := ann
	disabled.Disabled = true
	for name, change := range map[string]func(*box, Identity) error{
		"disabled": func(b *box, _ Identity) error { return b.SetAccounts([]Account{disabled}) },
		"gone":     func(b *box, _ Identity) error { return b.SetAccounts(nil) },
		"password of the document": func(b *box, _ Identity) error {
			return b.SetAccounts([]Account{with(ann, "secret:99", "another one")})
		},
		"password by hand": func(b *box, i Identity) error {
			return b.SetPassword(t.Context(), "ann", "quite another one", i.Session)
		},
		"reset": func(b *box, _ Identity) error {
			_, err := b.ResetPassword(t.Context(), "ann")
			return err
		},
		"logout": func(b *box, i Identity) error { return b.RevokeSession(i.Session) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, ann)
			identity, _ := b.inSession(t, "ann")
			secret := b.handover(t, identity)
			must(t, change(b, identity))
			if got := b.Stats().Handovers; got != 0 {
				t.Errorf("%d handovers are kept", got)
			}
			must(t, b.SetAccounts([]Account{ann}))
			if _, err := b.Redeem(secret, Local()); kind(err) != Unauthenticated {
				t.Errorf("redeemed: %v", err)
			}
		})
	}
}

func TestHandoversAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		identity, _ := b.inSession(t, "ann")
		first := b.handover(t, identity)
		time.Sleep(time.Second)
		second := b.handover(t, identity)
		for range maxHandovers - 1 {
			time.Sleep(time.Second)
			b.handover(t, identity)
		}
		if s := b.Stats(); s.Handovers != maxHandovers || s.HandoversEvicted != 1 {
			t.Errorf("stats = %+v", s)
		}
		if _, err := b.Redeem(first, Local()); kind(err) != Unauthenticated {
			t.Errorf("the oldest: %v", err)
		}
		_, err := b.Redeem(second, Local())
		must(t, err)
	})
}

// Guesses block their source and keep no account waiting.
func TestHandoverGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		identity, _ := b.inSession(t, "ann")
		secret := b.handover(t, identity)
		throttled := false
		for i := range 20 {
			_, err := b.Redeem(strings.Repeat("a", i), source("192.0.2.9"))
			throttled = throttled || kind(err) == Throttled
		}
		if !throttled || b.Stats().Failures == 0 {
			t.Errorf("twenty guesses are never throttled: %+v", b.Stats())
		}
		must(t, b.login("ann", "ann's password", "192.0.2.1"))
		_, err := b.Redeem(secret, source("192.0.2.1"))
		must(t, err)
	})
}
