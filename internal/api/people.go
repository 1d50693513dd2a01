package api

import (
	"context"
	"net/http"
	"time"

	"sluis/internal/auth"
	"sluis/internal/control"
)

// peopleOperations are about who may get in, and what they did.
func (a *API) peopleOperations() {
	get, post, remove := http.MethodGet, http.MethodPost, http.MethodDelete
	handle(a, operation(post, "/login", "log-in", tagPeople, "Begin a session with name and password; needs no login"), a.login)
	redeem := operation(post, "/login/handover", "redeem-handover", tagPeople, "Begin a session with the handover of an apply that moved the API; needs no login")
	redeem.Security = []map[string][]string{{}} // nothing is asked for
	handle(a, redeem, a.redeem)
	handle(a, operation(post, "/logout", "log-out", tagPeople, "End the session that the request comes with"),
		func(_ context.Context, c control.Caller, _ *nothing) (*nothing, error) {
			return &nothing{}, a.control.Logout(c)
		})
	handle(a, operation(get, "/whoami", "get-caller", tagPeople, "Read who is asking, and what they may do"), whoami)
	handle(a, operation(get, "/users", "list-users", tagPeople, "List the administrators of the running configuration"), a.listUsers)
	handle(a, operation(post, "/users/{name}/password", "set-password", tagPeople, "Give an administrator a new password, at once"), a.setPassword)
	handle(a, operation(post, "/users/{name}/reset", "reset-password", tagPeople, "Give an administrator a one-time password; on the machine itself only"), a.resetPassword)
	handle(a, operation(get, "/sessions", "list-sessions", tagPeople, "List sessions"), a.listSessions)
	handle(a, operation(remove, "/sessions/{id}", "end-session", tagPeople, "End a session"), a.endSession)
	handle(a, operation(get, "/tokens", "list-tokens", tagPeople, "List API tokens"), a.listTokens)
	handle(a, operation(post, "/tokens", "create-token", tagPeople, "Create an API token; its secret is shown once"), a.createToken)
	handle(a, operation(remove, "/tokens/{account}/{name}", "delete-token", tagPeople, "End an API token, at once"), a.deleteToken)
	handle(a, operation(get, "/audit", "list-audit", tagPeople, "List who did what, newest first"), a.listAudit)
}

type loginInput struct {
	Body struct {
		Username string `json:"username" maxLength:"256"`
		Password string `json:"password" maxLength:"1024"`
	}
}

// LoginAnswer is a session that has begun.
type LoginAnswer struct {
	Token              string    `json:"token" doc:"Proves the session, as Authorization: Bearer; it is shown once."`
	Account            string    `json:"account"`
	Role               auth.Role `json:"role"`
	MustChangePassword bool      `json:"must_change_password" doc:"The password was a one-time one: nothing but a new password can be set with this session."`
	Ends               time.Time `json:"ends" doc:"When the session ends if nobody uses it."`
}

func (a *API) login(ctx context.Context, c control.Caller, in *loginInput) (*value[LoginAnswer], error) {
	session, err := a.control.Login(ctx, c.Via, in.Body.Username, in.Body.Password, requestOf(ctx).from)
	if err != nil {
		return nil, err
	}
	return a.begun(session), nil
}

func (a *API) begun(session auth.Session) *value[LoginAnswer] {
	account, _ := a.auth.Account(session.Account)
	return &value[LoginAnswer]{LoginAnswer{
		Token: session.Token, Account: session.Account, Role: account.Role, MustChangePassword: session.MustChange,
		Ends: session.Ends.In(a.control.Location()),
	}}
}

type handoverInput struct {
	Body struct {
		Handover string `json:"handover" maxLength:"256" doc:"The secret; it works once, within an hour."`
	}
}

func (a *API) redeem(ctx context.Context, c control.Caller, in *handoverInput) (*value[LoginAnswer], error) {
	session, err := a.control.Redeem(ctx, c.Via, in.Body.Handover, requestOf(ctx).from)
	if err != nil {
		return nil, err
	}
	return a.begun(session), nil
}

// Identity is who is asking.
type Identity struct {
	Account            string    `json:"account"`
	FullName           string    `json:"full_name"`
	Role               auth.Role `json:"role"`
	Objects            []string  `json:"objects" doc:"What an operator may act on; empty = everything."`
	MustChangePassword bool      `json:"must_change_password"`
	Token              string    `json:"token,omitempty" doc:"Name of the API token that was used."`
	Session            string    `json:"session,omitempty" doc:"ID of the session that was used."`
	From               string    `json:"from" doc:"The caller's address, or local."`
}

func whoami(_ context.Context, c control.Caller, _ *nothing) (*value[Identity], error) {
	return valueOf(Identity{
		Account: c.Account, FullName: c.FullName, Role: c.Role, Objects: append([]string{}, c.Objects...),
		MustChangePassword: c.MustChange, Token: c.Token, Session: c.Session, From: c.From,
	}, nil)
}

func (a *API) listUsers(_ context.Context, c control.Caller, _ *nothing) (*value[List[control.User]], error) {
	users, err := a.control.Users(c)
	for i := range users {
		users[i].Objects = append([]string{}, users[i].Objects...)
	}
	return listOf(users, "", err)
}

// UserInput names an account.
type UserInput struct {
	Name string `path:"name" doc:"Name of the administrator."`
}

type passwordInput struct {
	UserInput
	Body struct {
		Current string `json:"current,omitempty" doc:"The present password, where the account is the caller's own."`
		New     string `json:"new" doc:"The new password."`
	}
}

func (a *API) setPassword(ctx context.Context, c control.Caller, in *passwordInput) (*nothing, error) {
	return &nothing{}, a.control.SetPassword(ctx, c, in.Name, in.Body.Current, in.Body.New)
}

func (a *API) resetPassword(ctx context.Context, c control.Caller, in *UserInput) (*value[OneTimePassword], error) {
	once, err := a.control.ResetPassword(ctx, c, in.Name)
	answer := OneTimePassword{Account: once.Account, Password: once.Password, Notes: []string{}}
	for _, note := range once.Notes {
		answer.Notes = append(answer.Notes, render(note))
	}
	return valueOf(answer, err)
}

type accountInput struct {
	Account string `query:"account" doc:"Only those of this account; empty = all that the caller may see."`
}

func (a *API) listSessions(_ context.Context, c control.Caller, in *accountInput) (*value[List[control.Session]], error) {
	sessions, err := a.control.Sessions(c, in.Account)
	return listOf(sessions, "", err)
}

type sessionInput struct {
	ID string `path:"id" doc:"ID of the session."`
}

func (a *API) endSession(_ context.Context, c control.Caller, in *sessionInput) (*nothing, error) {
	return &nothing{}, a.control.RevokeSession(c, in.ID)
}

func (a *API) listTokens(_ context.Context, c control.Caller, in *accountInput) (*value[List[auth.Token]], error) {
	tokens, err := a.control.Tokens(c, in.Account)
	return listOf(tokens, "", err)
}

type createTokenInput struct {
	Body struct {
		Account string    `json:"account,omitempty" doc:"Whose token it is; empty = the caller's own."`
		Name    string    `json:"name" doc:"Unique among the account's tokens."`
		Role    auth.Role `json:"role,omitempty" doc:"What the token may do at most; empty = what the account may."`
		Expires time.Time `json:"expires,omitzero" doc:"When it ends; absent = never."`
	}
}

func (a *API) createToken(_ context.Context, c control.Caller, in *createTokenInput) (*value[NewToken], error) {
	token, secret, err := a.control.CreateToken(c, in.Body.Account, in.Body.Name, in.Body.Role, in.Body.Expires)
	return valueOf(NewToken{Token: token, Secret: secret}, err)
}

type tokenInput struct {
	Account string `path:"account" doc:"Whose token it is."`
	Name    string `path:"name" doc:"Name of the token."`
}

func (a *API) deleteToken(_ context.Context, c control.Caller, in *tokenInput) (*nothing, error) {
	return &nothing{}, a.control.DeleteToken(c, in.Account, in.Name)
}

func (a *API) listAudit(_ context.Context, c control.Caller, in *PageInput) (*value[List[control.AuditRecord]], error) {
	return listOf(a.control.Audit(c, in.page()))
}
