package control

import (
	"context"
	"net/netip"
	"time"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/text"
)

// User is an account of the running configuration.
type User struct {
	Name     string     `json:"name"`
	FullName string     `json:"full_name"`
	Role     auth.Role  `json:"role"`
	Objects  []string   `json:"objects"`
	Disabled bool       `json:"disabled"`
	Expires  *time.Time `json:"expires,omitempty"`
	// Declared says that the password stands in the configuration.
	Declared bool `json:"password_declared"`
	// Sessions and Tokens are how many there are.
	Sessions int `json:"sessions"`
	Tokens   int `json:"tokens"`
}

// Session is one login.
type Session struct {
	ID       string    `json:"id"`
	Account  string    `json:"account"`
	From     string    `json:"from"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used"`
	Ends     time.Time `json:"ends"`
	// Own says that it is the caller's own.
	Own bool `json:"own"`
}

// Login checks a name and a password and begins a session.
func (c *Control) Login(ctx context.Context, via, name, password string, from netip.Addr) (session auth.Session, err error) {
	record := c.begin(Caller{Identity: auth.Identity{Account: c.knownName(name)}, From: sourceName(from), Via: via}, "login", "")
	defer func() { record.end(err) }()
	return c.o.Auth.Login(ctx, name, password, from)
}

// LoginRefused writes down that a name and password that came with a request were
// wrong. Attempts that the login protection turns away unseen are only counted.
func (c *Control) LoginRefused(via, name string, from netip.Addr, err error) {
	if AsFault(err).Kind != Unauthenticated {
		return
	}
	record := c.begin(Caller{Identity: auth.Identity{Account: c.knownName(name)}, From: sourceName(from), Via: via}, "login", "")
	record.end(err)
}

// knownName keeps what was typed into the wrong field out of the records.
func (c *Control) knownName(name string) string {
	if _, known := c.o.Auth.Account(name); known {
		return name
	}
	return "?"
}

func sourceName(from netip.Addr) string {
	if from == auth.Local() {
		return "local"
	}
	return from.String()
}

// Logout ends the caller's session.
func (c *Control) Logout(caller Caller) (err error) {
	record := c.begin(caller, "logout", "")
	defer func() { record.end(err) }()
	if caller.Session == "" {
		return fault(Invalid, text.M("this request came with no session"))
	}
	return c.o.Auth.RevokeSession(caller.Session)
}

// Users are the accounts of the running configuration.
func (c *Control) Users(caller Caller) ([]User, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return nil, err
	}
	users := []User{}
	for _, a := range c.administrators() {
		users = append(users, User{
			Name: a.Name, FullName: a.FullName, Role: auth.Role(a.Role), Objects: a.Objects, Disabled: a.Disabled, Expires: a.Expires,
			Declared: !a.Password.IsZero(), Sessions: len(c.o.Auth.Sessions(a.Name)), Tokens: len(c.o.Auth.Tokens(a.Name)),
		})
	}
	return users, nil
}

func (c *Control) administrators() []config.Administrator {
	if list := c.running().Administrators; len(list) > 0 {
		return list
	}
	return []config.Administrator{{Name: ImpliedAdministrator, Role: config.RoleAdministrator}}
}

// SetPassword gives an account a new password: the caller's own, or another's for
// an administrator. current is the caller's present password, asked for when it is
// their own.
func (c *Control) SetPassword(ctx context.Context, caller Caller, account, current, password string) (err error) {
	record := c.begin(caller, "user.password", account)
	defer func() { record.end(err) }()
	kind := auth.ManageAccounts
	if account == caller.Account {
		kind = auth.ChangeOwnPassword
	}
	if err := caller.May(auth.Action{Kind: kind}); err != nil {
		return err
	}
	if kind == auth.ChangeOwnPassword {
		if err := c.proveAgain(ctx, caller, current); err != nil {
			return err
		}
	}
	return c.o.Auth.SetPassword(ctx, account, password, caller.Session)
}

// proveAgain asks for the present password, so that a session left open isn't
// enough to take an account over.
func (c *Control) proveAgain(ctx context.Context, caller Caller, current string) error {
	from, err := netip.ParseAddr(caller.From)
	if err != nil {
		from = auth.Local()
	}
	if _, err := c.o.Auth.Basic(ctx, caller.Account, current, from); err != nil {
		f := AsFault(err)
		if f.Kind == Unauthenticated {
			return fault(Forbidden, text.M("the present password is wrong"))
		}
		return f
	}
	return nil
}

// ResetPassword gives an account a one-time password. Only who is on the machine
// itself may do that.
func (c *Control) ResetPassword(ctx context.Context, caller Caller, account string) (once auth.OneTime, err error) {
	record := c.begin(caller, "user.reset", account)
	defer func() { record.end(err) }()
	if err := caller.May(auth.Action{Kind: auth.ManageAccounts}); err != nil {
		return auth.OneTime{}, err
	}
	if caller.From != "local" {
		return auth.OneTime{}, fault(Forbidden, text.M("a password is reset on the machine itself")).
			do(text.M("run there: sluis passwd {name}", "name", account))
	}
	return c.o.Auth.ResetPassword(ctx, account)
}

// Sessions lists the caller's own sessions, or those of any account for an
// administrator; account empty = all that the caller may see.
func (c *Control) Sessions(caller Caller, account string) ([]Session, error) {
	account, err := c.mayManage(caller, account)
	if err != nil {
		return nil, err
	}
	sessions := []Session{}
	for _, s := range c.o.Auth.Sessions(account) {
		sessions = append(sessions, Session{
			ID: s.ID, Account: s.Account, From: sourceName(s.From), Created: c.inZone(s.Created),
			LastUsed: c.inZone(s.LastUsed), Ends: c.inZone(s.Ends), Own: s.ID == caller.Session,
		})
	}
	return sessions, nil
}

// mayManage says whose sessions and tokens the caller may see and end: their own,
// or for an administrator everybody's. The account that comes back is empty for
// all.
func (c *Control) mayManage(caller Caller, account string) (string, error) {
	all := caller.May(auth.Action{Kind: auth.ManageAccounts})
	if all == nil {
		return account, nil
	}
	if account == "" || account == caller.Account {
		return caller.Account, caller.May(auth.Action{Kind: auth.ManageOwn})
	}
	return "", all
}

// RevokeSession ends a session.
func (c *Control) RevokeSession(caller Caller, id string) (err error) {
	record := c.begin(caller, "session.revoke", id)
	defer func() { record.end(err) }()
	sessions, err := c.Sessions(caller, "")
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.ID == id {
			return c.o.Auth.RevokeSession(id)
		}
	}
	return fault(NotFound, text.M("there is no such session"))
}

// Tokens lists the caller's own tokens, or those of any account for an
// administrator; account empty = all that the caller may see.
func (c *Control) Tokens(caller Caller, account string) ([]auth.Token, error) {
	account, err := c.mayManage(caller, account)
	if err != nil {
		return nil, err
	}
	tokens := c.o.Auth.Tokens(account)
	for i, t := range tokens {
		tokens[i].Created, tokens[i].Expires, tokens[i].LastUsed = c.inZone(t.Created), c.inZone(t.Expires), c.inZone(t.LastUsed)
	}
	return tokens, nil
}

// CreateToken makes a token; its secret is returned here and nowhere else. account
// empty is the caller's own; role empty is what the account has.
func (c *Control) CreateToken(caller Caller, account, name string, role auth.Role, expires time.Time) (token auth.Token, secret string, err error) {
	record := c.begin(caller, "token.create", account+"/"+name)
	defer func() { record.end(err) }()
	account, err = c.mayManageOne(caller, account)
	if err != nil {
		return auth.Token{}, "", err
	}
	if owner, known := c.o.Auth.Account(account); role == "" && known {
		role = owner.Role
	} else if !known {
		return auth.Token{}, "", fault(NotFound, text.M("no administrator named {name} is in the running configuration", "name", account)).
			do(text.M("say whose token it is to be"))
	}
	return c.o.Auth.CreateToken(account, name, role, expires)
}

// DeleteToken ends a token.
func (c *Control) DeleteToken(caller Caller, account, name string) (err error) {
	record := c.begin(caller, "token.delete", account+"/"+name)
	defer func() { record.end(err) }()
	account, err = c.mayManageOne(caller, account)
	if err != nil {
		return err
	}
	return c.o.Auth.DeleteToken(account, name)
}

// mayManageOne is mayManage where no account means the caller's own.
func (c *Control) mayManageOne(caller Caller, account string) (string, error) {
	if account == "" {
		account = caller.Account
	}
	return c.mayManage(caller, account)
}
