package api

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"sluis/internal/auth"
	"sluis/internal/control"
	"sluis/internal/text"
)

// conn is the connection that a request came on.
type conn struct {
	// number grows with each accepted connection; 0 = it came through no listener of
	// ours.
	number uint64
	// local says that it came through the unix socket.
	local bool
	// uid is the user at the other end of the unix socket; -1 = the kernel didn't say.
	uid int
	// server is the one that it belongs to; nil = none of ours.
	server *server
}

type connKey struct{}

// connOf is the connection of a request; the zero conn where no listener of ours
// has numbered it.
func connOf(ctx context.Context) conn {
	c, _ := ctx.Value(connKey{}).(conn)
	return c
}

// tokenPrefix begins the secret of every API token; a session's never has it, as
// its alphabet and length are others.
const tokenPrefix = "slt_"

// Names of the ways in, for records.
const (
	viaAPI = "api"
	viaCLI = "cli"
)

// anonymous is a caller who needs no login for what they ask.
func (a *API) anonymous(r *http.Request) (control.Caller, netip.Addr, error) {
	c := connOf(r.Context())
	if c.local {
		return control.Caller{From: "local", Via: viaCLI, Conn: c.number}, auth.Local(), peerAllowed(c)
	}
	from, err := source(r)
	return control.Caller{From: from.String(), Via: viaAPI, Conn: c.number}, from, err
}

// caller finds out who asks. active says that the request shows somebody's
// presence, which keeps a session alive.
func (a *API) caller(r *http.Request, active bool) (control.Caller, netip.Addr, error) {
	caller, from, err := a.anonymous(r)
	if err != nil {
		return control.Caller{}, from, err
	}
	if connOf(r.Context()).local {
		caller.Identity = control.Local()
		return caller, from, nil
	}
	caller.Identity, err = a.identify(r, from, active)
	return caller, from, err
}

// source is the caller's address. One that can't be read must not pass for
// auth.Local(), which is the zero address.
func source(r *http.Request) (netip.Addr, error) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, &control.Fault{Kind: control.Forbidden, Message: text.M("the request comes from no network address")}
	}
	return from.Addr().Unmap().WithZone(""), nil
}

// peerAllowed lets root and the service's own user through the unix socket: both
// could read and write the state directory as well.
func peerAllowed(c conn) error {
	if c.uid == 0 || c.uid == os.Geteuid() {
		return nil
	}
	return &control.Fault{
		Kind:    control.Forbidden,
		Message: text.M("only root and the user that Sluis runs as may use this socket; the user with the ID {uid} may not", "uid", c.uid),
		Hint:    text.M("use the network address with a token, or become root"),
	}
}

// identify verifies what the Authorization field says.
func (a *API) identify(r *http.Request, from netip.Addr, active bool) (auth.Identity, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return auth.Identity{}, auth.Identity{}.May(auth.Action{Kind: auth.View}) // nobody is logged in
	}
	if name, password, ok := r.BasicAuth(); ok {
		identity, err := a.auth.Basic(r.Context(), name, password, from)
		if err != nil {
			a.control.LoginRefused(viaAPI, name, from, err)
		}
		return identity, err
	}
	scheme, secret, _ := strings.Cut(header, " ")
	secret = strings.TrimSpace(secret)
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return auth.Identity{}, &control.Fault{
			Kind: control.Unauthenticated, Message: text.M("this way to log in isn't known here"),
			Hint: text.M("send Authorization: Bearer with a token or session, or Basic with name and password"),
		}
	case strings.HasPrefix(secret, tokenPrefix):
		return a.auth.VerifyToken(secret, from)
	default:
		return a.auth.VerifySession(secret, active)
	}
}
