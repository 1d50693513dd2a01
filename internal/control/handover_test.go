package control_test

import (
	"net/netip"
	"testing"

	"sluis/internal/auth"
	"sluis/internal/control"
)

func TestHandover(t *testing.T) {
	b := newBox(t)
	b.put("administrators[ann]", "{role: administrator}")
	b.apply()
	must(t, b.auth.SetAccounts([]auth.Account{{Name: "ann", Role: auth.Administrator}}))
	must(t, b.auth.SetPassword(t.Context(), "ann", "correct horse battery", ""))
	identity, err := b.auth.Basic(t.Context(), "ann", "correct horse battery", auth.Local())
	must(t, err)
	from := netip.MustParseAddr("198.51.100.7")
	secret, err := b.Handover(control.Caller{Identity: identity, From: from.String(), Via: "gui"})
	must(t, err)
	session, err := b.Redeem(t.Context(), "api", secret, from)
	must(t, err)
	if session.Account != "ann" || session.Token == "" {
		t.Errorf("session = %+v", session)
	}
	if _, err := b.Redeem(t.Context(), "api", secret, from); kindOf(err) != control.Unauthenticated {
		t.Errorf("the second use: %v", err)
	}
	records, _, err := b.Audit(b.admin("ann"), control.Page{Query: "login.handover"})
	must(t, err)
	if len(records) != 2 || records[1].Who != "ann" || records[1].Result != "ok" || records[1].From != from.String() ||
		records[0].Who != "?" || records[0].Result != string(control.Unauthenticated) {
		t.Errorf("records = %+v", records)
	}
	token := identity
	token.Token = "script"
	for name, c := range map[string]control.Caller{
		"token": {Identity: token, From: from.String()},
		"local": {Identity: control.Local(), From: "local"},
	} {
		if _, err := b.Handover(c); kindOf(err) != control.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
}
