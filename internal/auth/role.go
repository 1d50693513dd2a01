package auth

import (
	"slices"
	"strings"

	"sluis/internal/text"
)

// Role says what an account may do. Each role may do what the lower ones may.
type Role string

// The roles, from most to least.
const (
	// Administrator may do everything.
	Administrator Role = "administrator"
	// Operator may look, and act on running objects: drain a server, end a block.
	Operator Role = "operator"
	// Viewer may look.
	Viewer Role = "viewer"
)

// rank orders the roles; 0 is no role.
func (r Role) rank() int {
	switch r {
	case Administrator:
		return 3
	case Operator:
		return 2
	case Viewer:
		return 1
	default:
		return 0
	}
}

// lower returns the role that may do less.
func lower(a, b Role) Role {
	if a.rank() < b.rank() {
		return a
	}
	return b
}

// Kind is a kind of action.
type Kind string

// The kinds of action.
const (
	// View reads configuration, state, history and events; secrets are never shown.
	View Kind = "view"
	// Operate acts on a running object and leaves the configuration as it is.
	Operate Kind = "operate"
	// Configure edits, applies, confirms, rolls back and restores.
	Configure Kind = "configure"
	// ManageAccounts sets passwords, tokens and sessions of every account.
	ManageAccounts Kind = "manage_accounts"
	// ManageOwn manages the caller's own tokens and sessions.
	ManageOwn Kind = "manage_own"
	// ChangeOwnPassword sets the caller's own password.
	ChangeOwnPassword Kind = "change_own_password"
)

// Action is something that a caller wants to do.
type Action struct {
	Kind Kind
	// Object names what Operate acts on, with the kind in front: "backend:shop", or
	// "backend:shop/web1" for a part of it. Empty is an action on the whole machine,
	// which an operator limited to named objects may not do.
	Object string
}

// Identity is a caller who has proved who they are, as of the moment of the proof.
// It is made anew for each request; the zero Identity may do nothing.
type Identity struct {
	// Account is the account's name.
	Account string
	// FullName is for people; may be empty.
	FullName string
	// Role is the account's role, or the token's when that may do less.
	Role Role
	// Objects limits an operator to named objects; empty is all.
	Objects []string
	// MustChange says that the password is a one-time one: nothing may be done before
	// a new one is set.
	MustChange bool
	// Token is the name of the token that was used; empty when none was.
	Token string
	// Session is the ID of the session that was used; empty when none was.
	Session string
}

// May returns nil when the caller may do the action, else a *Refusal that says why
// not.
func (i Identity) May(action Action) error {
	if i.Role.rank() == 0 {
		return refuse(Unauthenticated, text.M("nobody is logged in"), text.M("log in first"))
	}
	if i.MustChange && action.Kind != ChangeOwnPassword {
		return refuse(Forbidden, text.M("{account} has logged in with a one-time password, which is good only for setting a new one", "account", i.Account),
			text.M("set a new password first"))
	}
	switch action.Kind {
	case View:
		return nil
	case ManageOwn, ChangeOwnPassword:
		return i.mayOwn()
	case Operate:
		return i.mayOperate(action.Object)
	case Configure, ManageAccounts:
		return i.mustBe(Administrator)
	default:
		panic("BUG: no such kind of action: " + string(action.Kind))
	}
}

// mayOwn keeps a stolen token from making itself another one, or a password.
func (i Identity) mayOwn() error {
	if i.Token == "" {
		return nil
	}
	return refuse(Forbidden, text.M("a token may not change its own account's password, tokens or sessions"),
		text.M("log in with name and password for that"))
}

func (i Identity) mayOperate(object string) error {
	if err := i.mustBe(Operator); err != nil {
		return err
	}
	if i.Role == Administrator || len(i.Objects) == 0 || slices.ContainsFunc(i.Objects, func(named string) bool {
		return object == named || strings.HasPrefix(object, named+"/")
	}) {
		return nil
	}
	if object == "" {
		return refuse(Forbidden, text.M("{account} may act only on {objects}, not on the whole machine", "account", i.Account, "objects", strings.Join(i.Objects, ", ")),
			text.M("ask an administrator to do it"))
	}
	return refuse(Forbidden, text.M("{account} may act only on {objects}, not on {object}", "account", i.Account, "objects", strings.Join(i.Objects, ", "), "object", object),
		text.M("ask an administrator to do it, or to add {object} to the account's objects", "object", object))
}

func (i Identity) mustBe(least Role) error {
	if i.Role.rank() >= least.rank() {
		return nil
	}
	if i.Token != "" {
		return refuse(Forbidden, text.M("this needs the role {needed}; the token {token} of {account} has {role}", "needed", least, "token", i.Token, "account", i.Account, "role", i.Role),
			text.M("use a token with that role"))
	}
	return refuse(Forbidden, text.M("this needs the role {needed}; {account} has {role}", "needed", least, "account", i.Account, "role", i.Role),
		text.M("ask an administrator to do it"))
}
