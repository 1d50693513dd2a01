package auth

import (
	"time"

	"sluis/internal/text"
)

// LoginSucceeded tells that a session has begun.
type LoginSucceeded struct {
	Account string `json:"account"`
	From    string `json:"from"` // address, or "local"
	Session string `json:"session"`
}

// EventName implements event.Event.
func (LoginSucceeded) EventName() string { return "auth.login.succeeded" }

// Text implements event.Event.
func (e LoginSucceeded) Text() text.Msg {
	return text.M("{account} logged in from {from}", "account", e.Account, "from", e.From)
}

// LoginFailed tells that a name and password were wrong. Attempts that were refused
// unseen, by delay or block, are only counted.
type LoginFailed struct {
	// Account is empty when no account has the name that was typed: it is not told,
	// because people type passwords into the wrong field.
	Account string `json:"account"`
	From    string `json:"from"` // address, or "local"
	// Reason is for administrators; who tried is told nothing.
	Reason text.Msg `json:"reason"`
}

// EventName implements event.Event.
func (LoginFailed) EventName() string { return "auth.login.failed" }

// Text implements event.Event.
func (e LoginFailed) Text() text.Msg {
	if e.Account == "" {
		return text.M("a login from {from} failed: {reason}", "from", e.From, "reason", e.Reason)
	}
	return text.M("a login as {account} from {from} failed: {reason}", "account", e.Account, "from", e.From, "reason", e.Reason)
}

// SourceBlocked tells that a source may not log in for a while.
type SourceBlocked struct {
	Source   string    `json:"source"` // IPv4 /32 or IPv6 /64
	Failures int       `json:"failures"`
	Until    time.Time `json:"until"`
	Seconds  int64     `json:"seconds"`
}

// EventName implements event.Event.
func (SourceBlocked) EventName() string { return "auth.source.blocked" }

// Text implements event.Event.
func (e SourceBlocked) Text() text.Msg {
	return text.M("logins from {source} are blocked for {seconds} s after {failures} failures",
		"source", e.Source, "seconds", e.Seconds, "failures", e.Failures)
}

// PasswordChanged tells that an account has another password.
type PasswordChanged struct {
	Account string   `json:"account"`
	How     text.Msg `json:"how"`
}

// EventName implements event.Event.
func (PasswordChanged) EventName() string { return "auth.password.changed" }

// Text implements event.Event.
func (e PasswordChanged) Text() text.Msg {
	return text.M("the password of {account} was changed {how}", "account", e.Account, "how", e.How)
}

// TokenCreated tells that an account has one more token.
type TokenCreated struct {
	Account string    `json:"account"`
	Token   string    `json:"token"` // its name
	Role    Role      `json:"role"`
	Expires time.Time `json:"expires,omitzero"` // absent = never
}

// EventName implements event.Event.
func (TokenCreated) EventName() string { return "auth.token.created" }

// Text implements event.Event.
func (e TokenCreated) Text() text.Msg {
	return text.M("the token {token} of {account} was created with role {role}", "token", e.Token, "account", e.Account, "role", e.Role)
}

// TokenDeleted tells that a token no longer works.
type TokenDeleted struct {
	Account string `json:"account"`
	Token   string `json:"token"` // its name
}

// EventName implements event.Event.
func (TokenDeleted) EventName() string { return "auth.token.deleted" }

// Text implements event.Event.
func (e TokenDeleted) Text() text.Msg {
	return text.M("the token {token} of {account} was deleted", "token", e.Token, "account", e.Account)
}

// SessionRevoked tells that sessions of an account were ended before their time.
type SessionRevoked struct {
	Account  string   `json:"account"`
	Sessions []string `json:"sessions"` // their IDs
	Reason   text.Msg `json:"reason"`
}

// EventName implements event.Event.
func (SessionRevoked) EventName() string { return "auth.session.revoked" }

// Text implements event.Event.
func (e SessionRevoked) Text() text.Msg {
	return text.M("{count} sessions of {account} were ended: {reason}", "count", len(e.Sessions), "account", e.Account, "reason", e.Reason)
}
