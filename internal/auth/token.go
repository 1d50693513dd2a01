package auth

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluis/internal/text"
)

// Bounds of tokens.
const (
	maxTokensPerAccount = 100
	maxTokenName        = 64
)

// tokenPrefix lets people, and programs that look for leaked secrets, see what a
// token is.
const tokenPrefix = "slt_"

// noteEvery is how exactly the last use of a token is known: each note is a write
// to the disk.
const noteEvery = time.Hour

// Token is a named secret that stands for an account in programs, without its
// secret.
type Token struct {
	// Account is the account that the token stands for.
	Account string `json:"account"`
	// Name is unique among the account's tokens.
	Name string `json:"name"`
	// Role limits what the token may do; the account's own role limits it too, at
	// each use.
	Role Role `json:"role"`
	// Created is when the token was made.
	Created time.Time `json:"created"`
	// Expires is when the token stops working; zero is never.
	Expires time.Time `json:"expires,omitzero"`
	// LastUsed is when the token was used, at most an hour before its last use; zero
	// is never.
	LastUsed time.Time `json:"last_used,omitzero"`
	// LastFrom is where LastUsed came from, an address or "local".
	LastFrom string `json:"last_from,omitempty"`
}

// CreateToken makes a token for an account and returns its secret, which is shown
// nowhere else. The role is at most the account's; expires zero is never. The
// caller has made sure that whoever asks may do it.
func (a *Auth) CreateToken(account, name string, role Role, expires time.Time) (Token, string, error) {
	now := time.Now().UTC().Truncate(time.Second)
	token := Token{Account: account, Name: name, Role: role, Created: now}
	if !expires.IsZero() {
		token.Expires = expires.UTC()
	}
	if err := token.check(now); err != nil {
		return Token{}, "", err
	}
	secret := newTokenSecret()
	err := a.change(func(s *state) (bool, error) {
		owner, ok := a.Account(account)
		if !ok {
			return false, noAccount(account)
		}
		if err := s.mayAdd(token, owner); err != nil {
			return false, err
		}
		s.tokens[digestOf(secret)] = token
		return true, nil
	}, nil)
	if err != nil {
		return Token{}, "", err
	}
	a.publish(TokenCreated{Account: account, Token: name, Role: role, Expires: token.Expires})
	return token, secret, nil
}

// check looks at the token alone.
func (t Token) check(now time.Time) error {
	switch {
	case t.Name == "" || len(t.Name) > maxTokenName || strings.Trim(t.Name, tokenNameCharacters) != "":
		return refuse(Invalid, text.M("{name} is no name for a token", "name", fmt.Sprintf("%.64q", t.Name)),
			text.M("use 1 to {most} letters, digits, dots, dashes and underscores", "most", maxTokenName))
	case t.Role.rank() == 0:
		return refuse(Invalid, text.M("there is no role {role}", "role", t.Role), text.M("use administrator, operator or viewer"))
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return refuse(Invalid, text.M("the token would have expired already, at {time}", "time", t.Expires.Format(time.RFC3339)),
			text.M("choose a time in the future, or none"))
	}
	return nil
}

// tokenNameCharacters fit into a path of the API without escapes.
const tokenNameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// mayAdd holds a token against its owner and the owner's other tokens.
func (s *state) mayAdd(token Token, owner Account) error {
	if lower(token.Role, owner.Role) != token.Role {
		return refuse(Invalid, text.M("{account} has the role {role}; a token cannot have more", "account", owner.Name, "role", owner.Role),
			text.M("use the role {role} or a lower one", "role", owner.Role))
	}
	if _, taken := s.token(token.Account, token.Name); taken {
		return refuse(Conflict, text.M("{account} has a token named {name} already", "account", token.Account, "name", token.Name),
			text.M("choose another name, or delete that token first"))
	}
	count := 0
	for _, other := range s.tokens {
		if other.Account == token.Account {
			count++
		}
	}
	if count >= maxTokensPerAccount {
		return refuse(Full, text.M("{account} has {count} tokens, as many as are allowed", "account", token.Account, "count", count),
			text.M("delete tokens that have expired or are no longer used"))
	}
	return nil
}

// newTokenSecret returns 256 random bits in base 62, always of one length.
func newTokenSecret() string {
	const width = 43 // 62^43 > 2^256
	digits := new(big.Int).SetBytes(randomBytes(32)).Text(62)
	return tokenPrefix + strings.Repeat("0", width-len(digits)) + digits
}

// VerifyToken returns who the secret of a token stands for. A token cannot be
// guessed, so failures are counted but block nobody, and a block on logins doesn't
// stop programs that have their token.
func (a *Auth) VerifyToken(secret string, from netip.Addr) (Identity, error) {
	key, now := digestOf(secret), time.Now()
	a.mu.Lock()
	token, ok := a.durable.tokens[key]
	account := a.accounts[token.Account]
	valid := ok && account.active(now) && (token.Expires.IsZero() || now.Before(token.Expires))
	due := valid && now.Sub(later(token.LastUsed, a.noted[key])) >= noteEvery
	if due {
		a.noted[key] = now // also when saving fails: a full disk is not tried at each use
	}
	a.mu.Unlock()
	if !valid {
		a.counts.tokenFailures.Add(1)
		return Identity{}, refuse(Unauthenticated, text.M("the token is wrong, has expired or was deleted, or its account may not be used"),
			text.M("create a new token"))
	}
	if due {
		a.noteUse(key, now, from)
	}
	identity := account.identity(false)
	identity.Role, identity.Token = lower(token.Role, account.Role), token.Name
	return identity, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// noteUse writes down that a token was used. That it fails is counted, and no
// reason to refuse the token.
func (a *Auth) noteUse(key digest, now time.Time, from netip.Addr) {
	_ = a.change(func(s *state) (bool, error) {
		token, ok := s.tokens[key]
		if !ok {
			return false, nil
		}
		token.LastUsed, token.LastFrom = now.UTC().Truncate(time.Second), sourceName(from)
		s.tokens[key] = token
		return true, nil
	}, nil)
}

// Tokens lists the tokens of an account, or of all when account is empty, by
// account and name. Expired ones stay in the list until they are deleted.
func (a *Auth) Tokens(account string) []Token {
	var list []Token
	for _, token := range a.state().tokens {
		if _, ok := a.Account(token.Account); ok && (account == "" || token.Account == account) {
			list = append(list, token)
		}
	}
	slices.SortFunc(list, func(a, b Token) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// DeleteToken ends a token of an account.
func (a *Auth) DeleteToken(account, name string) error {
	err := a.change(func(s *state) (bool, error) {
		key, ok := s.token(account, name)
		if !ok {
			return false, refuse(NotFound, text.M("{account} has no token named {name}", "account", account, "name", name),
				text.M("list the tokens to see their names"))
		}
		delete(s.tokens, key)
		return true, nil
	}, nil)
	if err != nil {
		return err
	}
	a.publish(TokenDeleted{Account: account, Token: name})
	return nil
}
