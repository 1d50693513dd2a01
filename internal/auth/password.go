package auth

import (
	"context"
	_ "embed"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sluis/internal/event"
	"sluis/internal/text"
)

// Limits on a password, in characters. There are no rules about kinds of
// characters: NIST SP 800-63B advises length and a list of the too common ones.
const (
	MinPasswordLength = 12
	MaxPasswordLength = 256
)

// maxPasswordBytes is where a login stops reading: no account has a longer one.
const maxPasswordBytes = MaxPasswordLength * utf8.UTFMax

// leastDistinct is how many different characters a password needs at least.
const leastDistinct = 5

// commonPasswords are passwords that everybody tries, one a line, in lower case. The
// shorter ones need no place here.
//
//go:embed common.txt
var commonPasswords string

// CheckPassword returns nil when the password is fit for the account, else a
// *Refusal of kind Invalid.
func CheckPassword(account, password string) error {
	length := utf8.RuneCountInString(password)
	lowered := strings.ToLower(password)
	switch {
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return refuse(Invalid, text.M("the password contains characters that cannot be typed"), text.M("use letters, digits, spaces and signs"))
	case length < MinPasswordLength:
		return refuse(Invalid, text.M("the password has {length} characters; at least {least} are needed", "length", length, "least", MinPasswordLength), passwordHint())
	case length > MaxPasswordLength:
		return refuse(Invalid, text.M("the password has {length} characters; at most {most} are allowed", "length", length, "most", MaxPasswordLength), passwordHint())
	case lowered == strings.ToLower(account):
		return refuse(Invalid, text.M("the password is the account's name"), passwordHint())
	case isCommon(lowered):
		return refuse(Invalid, text.M("the password is one of those that everybody tries first"), passwordHint())
	case isRepetition(lowered) || distinct(lowered) < leastDistinct:
		return refuse(Invalid, text.M("the password repeats too few characters"), passwordHint())
	case isSequence(lowered):
		return refuse(Invalid, text.M("the password is a row of characters in order"), passwordHint())
	}
	return nil
}

func passwordHint() text.Msg {
	return text.M("four or five words that do not belong together make a good password")
}

func isCommon(lowered string) bool {
	for common := range strings.Lines(commonPasswords) {
		if strings.TrimSpace(common) == lowered {
			return true
		}
	}
	return false
}

// isRepetition reports whether the string is a shorter one, written several times.
// Such a string is found in itself twice over before its own length.
func isRepetition(s string) bool {
	return len(s) > 1 && strings.Contains((s + s)[1:2*len(s)-1], s)
}

func distinct(s string) int {
	seen := make(map[rune]bool)
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}

// isSequence reports whether each character follows the one before, up or down;
// after 9 comes 0.
func isSequence(s string) bool {
	runes := []rune(s)
	for _, step := range []rune{1, -1} {
		follows := true
		for i := 1; i < len(runes) && follows; i++ {
			a, b := runes[i-1], runes[i]
			wraps := step == 1 && a == '9' && b == '0' || step == -1 && a == '0' && b == '9'
			follows = b-a == step || wraps
		}
		if follows {
			return true
		}
	}
	return false
}

// Hash makes an argon2id hash of a password that is fit for the account: for
// passwords that the document brings. It waits for its turn among the logins.
func (a *Auth) Hash(ctx context.Context, account, password string) (string, error) {
	if err := CheckPassword(account, password); err != nil {
		return "", err
	}
	return a.hasher.hash(ctx, password)
}

// SetPassword gives an account of the document a new password. Its sessions end,
// but for the one whose ID is keep (empty keeps none); its tokens go on. The caller
// has made sure that whoever asks may do it.
func (a *Auth) SetPassword(ctx context.Context, account, password, keep string) error {
	if _, ok := a.Account(account); !ok {
		return noAccount(account)
	}
	hash, err := a.Hash(ctx, account, password)
	if err != nil {
		return err
	}
	if err := a.refuseSameOneTime(ctx, account, password); err != nil {
		return err
	}
	return a.replacePassword(account, hash, false, keep, text.M("by hand"))
}

// refuseSameOneTime keeps a one-time password, which others may have seen, from
// becoming the lasting one.
func (a *Auth) refuseSameOneTime(ctx context.Context, account, password string) error {
	current := a.state().credentials[account]
	if !current.OneTime {
		return nil
	}
	same, err := a.hasher.verify(ctx, current.Hash, password)
	if err != nil || !same {
		return err
	}
	return refuse(Invalid, text.M("the new password is the one-time password"), passwordHint())
}

// OneTime is a password that is good only for setting another one. It is shown
// once and kept as a hash.
type OneTime struct {
	Account  string
	Password string
	// Notes say what else keeps the account from being used; usually empty.
	Notes []text.Msg
}

// FirstStart makes a one-time password when no account has any password, so that a
// new machine can be entered: for the account "admin", or else the first active one
// with the role administrator. It returns the zero OneTime when there is a password
// already. It doesn't expire; who lost it calls ResetPassword on the machine.
func (a *Auth) FirstStart(ctx context.Context) (OneTime, error) {
	name, needed := a.firstAccount()
	if !needed {
		return OneTime{}, nil
	}
	if name == "" {
		return OneTime{}, refuse(NotFound, text.M("nobody can log in: no active account has the role administrator"),
			text.M("add an administrator to the configuration and apply it"))
	}
	return a.makeOneTime(ctx, name, text.M("at the first start"))
}

// firstAccount chooses the account for FirstStart; needed is false when any account
// has a password.
func (a *Auth) firstAccount() (name string, needed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, candidate := range accountNames(a.accounts) {
		if a.durable.credentials[candidate].Hash != "" {
			return "", false
		}
		account := a.accounts[candidate]
		if account.Role == Administrator && account.active(now) && (name == "" || candidate == "admin") {
			name = candidate
		}
	}
	return name, true
}

// ResetPassword replaces the password of an account by a one-time one, for whoever
// stands at the machine. It works for a disabled or expired account too, and says
// in the notes that this alone doesn't let it in. All sessions of the account end.
func (a *Auth) ResetPassword(ctx context.Context, account string) (OneTime, error) {
	if _, ok := a.Account(account); !ok {
		return OneTime{}, noAccount(account)
	}
	return a.makeOneTime(ctx, account, text.M("to a one-time password"))
}

func (a *Auth) makeOneTime(ctx context.Context, account string, how text.Msg) (OneTime, error) {
	password := oneTimePassword()
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return OneTime{}, err
	}
	if err := a.replacePassword(account, hash, true, "", how); err != nil {
		return OneTime{}, err
	}
	return OneTime{Account: account, Password: password, Notes: a.obstacles(account)}, nil
}

// obstacles says what keeps an account with a password from being used.
func (a *Auth) obstacles(name string) []text.Msg {
	account, _ := a.Account(name)
	var notes []text.Msg
	if account.Disabled {
		notes = append(notes, text.M("{name} is disabled in the configuration and can log in only after that is changed", "name", name))
	}
	if !account.Expires.IsZero() && !time.Now().Before(account.Expires) {
		notes = append(notes, text.M("{name} expired at {time} and can log in only after that is changed", "name", name, "time", account.Expires.Format(time.RFC3339)))
	}
	return notes
}

func (a *Auth) replacePassword(account, hash string, oneTime bool, keep string, how text.Msg) error {
	var ended []event.Event
	err := a.change(
		func(s *state) (bool, error) {
			if _, ok := a.Account(account); !ok {
				return false, noAccount(account) // it went while the hash was made
			}
			s.setPassword(account, hash, oneTime, time.Now())
			return true, nil
		},
		func() {
			ended = a.endSessions(text.M("the password was changed"), func(s *session) bool {
				return s.account == account && s.id != keep
			})
		})
	if err != nil {
		return err
	}
	a.guard.pardon(account)
	a.publish(PasswordChanged{Account: account, How: how})
	a.publish(ended...)
	return nil
}

// oneTimeAlphabet has 32 characters, none of which looks like another: no l, o, 0
// or 1.
const oneTimeAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// oneTimePassword returns 80 random bits in four groups of four, as a person can
// copy them from a screen.
func oneTimePassword() string {
	var b strings.Builder
	for i, r := range randomBytes(16) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(oneTimeAlphabet[int(r)%len(oneTimeAlphabet)])
	}
	return b.String()
}
