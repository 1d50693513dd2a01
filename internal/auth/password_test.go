package auth

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/text"
)

func TestCheckPassword(t *testing.T) {
	tests := []struct{ password, want string }{
		{"correct horse battery", ""},
		{"zes woorden die niemand raadt", ""},
		{"пароль длинный", ""},
		{"k8#vQ2!mZx0p", ""},
		{"loadbalancer of my heart", ""}, // a common one inside doesn't matter
		{strings.Repeat("abcdefg.", 31) + "12345678", ""},
		{"", "the password has 0 characters; at least 12 are needed"},
		{"elevenchars", "the password has 11 characters; at least 12 are needed"},
		{"éééééééééé", "the password has 10 characters; at least 12 are needed"}, // characters, not bytes
		{strings.Repeat("abcdefg.", 32) + "1", "the password has 257 characters; at most 256 are allowed"},
		{"Long-Account-Name", "the password is the account's name"},
		{"Password1234", "the password is one of those that everybody tries first"},
		{"zxcvbnmasdfghjkl", "the password is one of those that everybody tries first"},
		{"aaaaaaaaaaaa", "the password repeats too few characters"},
		{"wxyzqrwxyzqr", "the password repeats too few characters"},
		{"abababababac", "the password repeats too few characters"},
		{"123456789012", "the password is a row of characters in order"},
		{"zyxwvutsrqponm", "the password is a row of characters in order"},
		{"a password\nwith lines", "the password contains characters that cannot be typed"},
		{"not utf-8 \xff at all", "the password contains characters that cannot be typed"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.20q", tt.password), func(t *testing.T) {
			got := ""
			if err := CheckPassword("long-account-name", tt.password); err != nil {
				got = err.Error()
				var refusal *Refusal
				if !errors.As(err, &refusal) || refusal.Kind != Invalid || refusal.Hint.IsZero() {
					t.Errorf("%#v, want an invalid one with a hint", err)
				}
			}
			if got != tt.want {
				t.Errorf("CheckPassword = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestCommonPasswords keeps lines out of the list that the other rules refuse.
func TestCommonPasswords(t *testing.T) {
	for line := range strings.Lines(commonPasswords) {
		password := strings.TrimSuffix(line, "\n")
		want := "the password is one of those that everybody tries first"
		if err := CheckPassword("x", strings.ToUpper(password)); err == nil || err.Error() != want {
			t.Errorf("CheckPassword(%q) = %v, want %s", password, err, want)
		}
	}
}

func TestFirstStart(t *testing.T) {
	admin := Account{Name: "admin", Role: Administrator}
	abel := Account{Name: "abel", Role: Administrator}
	tests := []struct {
		name     string
		accounts []Account
		want     string // account; "" = nothing to do
		wantErr  RefusalKind
	}{
		{"admin", []Account{abel, admin}, "admin", ""},
		{"no admin", []Account{{Name: "aad", Role: Viewer}, abel}, "abel", ""},
		{"admin is disabled", []Account{abel, {Name: "admin", Role: Administrator, Disabled: true}}, "abel", ""},
		{"a password is there", []Account{admin, vera}, "", ""},
		{"nobody", nil, "", NotFound},
		{"viewers alone", []Account{{Name: "admin", Role: Viewer}}, "", NotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, tt.accounts...)
			first, err := b.FirstStart(t.Context())
			if first.Account != tt.want || kind(err) != tt.wantErr {
				t.Fatalf("FirstStart = %q, %v, want %q, %q", first.Account, err, tt.want, tt.wantErr)
			}
			if tt.want == "" {
				return
			}
			b.restart(t)
			must(t, b.SetAccounts(tt.accounts))
			again, err := b.FirstStart(t.Context())
			if err != nil || again.Password != "" {
				t.Errorf("second FirstStart = %v, %v, want nothing to do", again.Account, err)
			}
			must(t, b.login(first.Account, first.Password, "192.0.2.1"))
		})
	}
}

// TestOneTimePassword goes the way of whoever lost the password.
func TestOneTimePassword(t *testing.T) {
	ctx := t.Context()
	b := newBox(t, ann)
	old, err := b.Login(ctx, "ann", "ann's password", Local())
	must(t, err)
	reset, err := b.ResetPassword(ctx, "ann")
	must(t, err)
	if !regexp.MustCompile(`^[a-km-np-z2-9]{4}(-[a-km-np-z2-9]{4}){3}$`).MatchString(reset.Password) {
		t.Errorf("one-time password %q has another form", reset.Password)
	}
	if _, err := b.VerifySession(old.Token, true); err == nil {
		t.Error("a session from before the reset goes on")
	}
	if err := b.login("ann", "ann's password", ""); kind(err) != Unauthenticated {
		t.Errorf("the old password: %v, want a refusal", err)
	}
	session, err := b.Login(ctx, "ann", reset.Password, Local())
	must(t, err)
	may := func() (can []Kind) {
		identity, err := b.VerifySession(session.Token, true)
		must(t, err)
		for _, kind := range []Kind{View, Operate, Configure, ManageAccounts, ManageOwn, ChangeOwnPassword} {
			if identity.May(Action{Kind: kind}) == nil {
				can = append(can, kind)
			}
		}
		return can
	}
	if diff := cmp.Diff([]Kind{ChangeOwnPassword}, may()); !session.MustChange || diff != "" {
		t.Errorf("before the change it may (-want +got):\n%s", diff)
	}
	if err := b.SetPassword(ctx, "ann", reset.Password, session.ID); kind(err) != Invalid {
		t.Errorf("the one-time password as the new one: %v, want it refused", err)
	}
	if err := b.SetPassword(ctx, "ann", "short", session.ID); kind(err) != Invalid {
		t.Errorf("a short password: %v, want it refused", err)
	}
	must(t, b.SetPassword(ctx, "ann", "a lasting password", session.ID))
	if can := may(); len(can) != 6 {
		t.Errorf("after the change it may only %v", can)
	}
	if err := b.login("ann", reset.Password, ""); kind(err) != Unauthenticated {
		t.Errorf("the one-time password again: %v, want a refusal", err)
	}
}

func TestResetSaysWhatElseIsWrong(t *testing.T) {
	b := newBox(t, Account{Name: "ann", Role: Viewer, Disabled: true, Expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	reset, err := b.ResetPassword(t.Context(), "ann")
	must(t, err)
	want := []text.Msg{
		text.M("{name} is disabled in the configuration and can log in only after that is changed", "name", "ann"),
		text.M("{name} expired at {time} and can log in only after that is changed", "name", "ann", "time", "2026-01-02T03:04:05Z"),
	}
	if diff := cmp.Diff(want, reset.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if _, err := b.ResetPassword(t.Context(), "bob"); kind(err) != NotFound {
		t.Errorf("nobody's password: %v, want not found", err)
	}
	if err := b.SetPassword(t.Context(), "bob", "a fine password", ""); kind(err) != NotFound {
		t.Errorf("nobody's password: %v, want not found", err)
	}
}

func TestHash(t *testing.T) {
	// From the README of the reference implementation of argon2.
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := VerifyHash(reference, "password"); !ok || err != nil {
		t.Errorf("the reference hash: %v, %v", ok, err)
	}
	hash := HashPassword("a password")
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s costs something else", hash)
	}
	if ok, err := VerifyHash(hash, "a password"); !ok || err != nil {
		t.Errorf("own hash: %v, %v", ok, err)
	}
	if ok, err := VerifyHash(hash, "a passwore"); ok || err != nil {
		t.Errorf("own hash, wrong password: %v, %v", ok, err)
	}
	if HashPassword("a password") == hash {
		t.Error("two hashes have one salt")
	}
}

func TestParsePHCRefuses(t *testing.T) {
	const salt, key = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	f := func(want, hash string) {
		t.Helper()
		_, err := parsePHC(hash)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parsePHC(%q) = %v, want an error with %q", hash, err, want)
		}
	}
	build := func(parameters, salt, key string) string {
		return "$argon2id$v=19$" + parameters + "$" + salt + "$" + key
	}
	f("form", "")
	f("form", "secret")
	f("form", "$argon2i$v=19$m=64,t=1,p=1$"+salt+"$"+key)
	f("form", build("m=64,t=1,p=1", salt, key)+"$")
	f("version", "$argon2id$v=16$m=64,t=1,p=1$"+salt+"$"+key)
	f("exactly", build("m=64,t=1", salt, key))
	f("exactly", build("m=64,t=1,p=1,x=1", salt, key))
	f("number at m=", build("t=1,m=64,p=1", salt, key))
	f("number at t=", build("m=64,t=-1,p=1", salt, key))
	f("number at t=", build("m=64,t=01,p=1", salt, key))
	f("number at m=", build("m=99999999999,t=1,p=1", salt, key))
	f("outside of 8 to 65536", build("m=4194304,t=1,p=1", salt, key))
	f("outside of 32 to 65536", build("m=16,t=1,p=4", salt, key))
	f("outside of 1 to 10", build("m=64,t=0,p=1", salt, key))
	f("outside of 1 to 10", build("m=64,t=11,p=1", salt, key))
	f("outside of 1 to 4", build("m=64,t=1,p=0", salt, key))
	f("outside of 1 to 4", build("m=64,t=1,p=255", salt, key))
	f("salt of the password hash: 0 bytes", build("m=64,t=1,p=1", "", key))
	f("salt of the password hash: not base64", build("m=64,t=1,p=1", "c29tZXNhbHQ=", key))
	f("password hash: 3 bytes", build("m=64,t=1,p=1", salt, "AAAA"))
	f("password hash: not base64", build("m=64,t=1,p=1", salt, key[:10]+"\n"+key[10:]))
	f("longer", build("m=64,t=1,p=1", salt, strings.Repeat("A", maxPHCBytes)))
}

// FuzzParsePHC holds the parser to one form per hash and to its bounds.
func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add(makePHC("a password", cheap).String())
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.String() != s {
			t.Errorf("%q is written as %q", s, p)
		}
		c := p.cost
		if c.memoryKiB < minMemoryKiB*uint32(c.lanes) || c.memoryKiB > maxMemoryKiB || c.passes < 1 || c.passes > maxPasses ||
			c.lanes < 1 || c.lanes > maxLanes || len(p.salt) < minSaltBytes || len(p.salt) > maxSaltBytes ||
			len(p.key) < minKeyBytes || len(p.key) > maxKeyBytes {
			t.Errorf("%q is out of bounds", s)
		}
	})
}

// FuzzDecodeState lets nothing but what encode writes in, in meaning.
func FuzzDecodeState(f *testing.F) {
	b := newBox(f, ann, vera)
	if _, _, err := b.CreateToken("ann", "script", Viewer, time.Time{}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.disk)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(data)
		if err != nil {
			return
		}
		once, err := s.encode()
		must(t, err)
		again, err := decodeState(once)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, once)
		}
		twice, err := again.encode()
		must(t, err)
		if string(once) != string(twice) {
			t.Errorf("written as\n%s\nthen as\n%s", once, twice)
		}
	})
}
