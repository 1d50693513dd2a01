package control

import (
	"context"
	"net/netip"

	"sluis/internal/auth"
	"sluis/internal/text"
)

// Handover makes a secret that takes the caller's login along to another address,
// once: for an apply that moves the API. See auth.Auth.Handover for who gets one.
func (c *Control) Handover(caller Caller) (string, error) {
	if caller.From == "local" {
		return "", fault(Forbidden, text.M("who is on the machine itself needs no handover"))
	}
	secret, err := c.o.Auth.Handover(caller.Identity)
	if err != nil {
		return "", AsFault(err)
	}
	return secret, nil
}

// Redeem uses a handover up and begins a session.
func (c *Control) Redeem(_ context.Context, via, secret string, from netip.Addr) (session auth.Session, err error) {
	record := c.begin(Caller{Identity: auth.Identity{Account: "?"}, From: sourceName(from), Via: via}, "login.handover", "")
	defer func() { record.end(err) }()
	session, err = c.o.Auth.Redeem(secret, from)
	if err == nil {
		record.Who = session.Account
	}
	return session, err
}
