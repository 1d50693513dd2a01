package auth

import (
	"encoding/base64"
	"net/netip"
	"time"

	"sluis/internal/text"
)

// Bounds of handovers. A full table gives up its oldest entry.
const (
	handoverLife = time.Hour
	maxHandovers = 64
)

// handover lets its account begin one session without a password: for somebody
// whose browser doesn't bring its session along to another address. Auth.mu guards
// it.
type handover struct {
	proof   proof
	session string // the one that it was made from; empty = a password
	made    time.Time
}

// Handover makes a secret that is good for one session of the caller's account,
// within an hour. It ends with the password that the account has now, with the
// account, and with the session that it was made from. Only who came with a password
// or a session gets one: a token must not grow into more than it is.
func (a *Auth) Handover(i Identity) (secret string, err error) {
	secret = base64.RawURLEncoding.EncodeToString(randomBytes(32))
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	made := handover{proof{i.Account, a.durable.credentials[i.Account].Hash}, i.Session, now}
	current, ok := a.identifyLocked(made.proof)
	switch {
	case i.Token != "":
		return "", refuse(Forbidden, text.M("a token can't be handed over"), text.M("log in with name and password"))
	case !ok || i.Session != "" && !a.hasSession(i.Session, i.Account):
		return "", sessionOver()
	case i.MustChange || current.MustChange:
		current.MustChange = true
		return "", current.May(Action{Kind: View})
	}
	a.sweepHandovers(now)
	if len(a.handovers) >= maxHandovers {
		a.dropOldestHandover()
	}
	a.handovers[digestOf(secret)] = made
	return secret, nil
}

// Redeem uses a handover up and begins a session. Whatever is wrong with the secret,
// the refusal is the same; it counts as a failed login of its source.
func (a *Auth) Redeem(secret string, from netip.Addr) (Session, error) {
	// The secret stands where a login has its name: who guesses has a delay per source
	// and keeps no account waiting.
	attempt, err := a.guard.begin(a.protection(), secret, from, time.Now())
	if err != nil {
		return Session{}, err
	}
	used, obstacle := a.useHandover(secret, time.Now())
	if !obstacle.IsZero() {
		return Session{}, a.handoverFailed(attempt, used.proof.account, from, obstacle)
	}
	begun, ended, err := a.beginSession(used.proof, from)
	if err != nil { // the account changed since
		return Session{}, a.handoverFailed(attempt, used.proof.account, from, text.M("the account or its password has changed"))
	}
	attempt.dropped() // no name was tried whose delay could end
	a.counts.logins.Add(1)
	a.publish(LoginSucceeded{Account: begun.Account, From: sourceName(from), Session: begun.ID})
	a.publish(ended...)
	return begun, nil
}

// useHandover takes a handover out of the table, with what keeps it from being used;
// zero when nothing does.
func (a *Auth) useHandover(secret string, now time.Time) (handover, text.Msg) {
	key := digestOf(secret)
	a.mu.Lock()
	defer a.mu.Unlock()
	used, known := a.handovers[key]
	delete(a.handovers, key)
	switch {
	case !known:
		return handover{}, text.M("no such handover is open")
	case used.over(now):
		return used, text.M("the handover has expired")
	}
	if _, ok := a.identifyLocked(used.proof); !ok {
		return used, text.M("the account or its password has changed")
	}
	return used, text.Msg{}
}

func (a *Auth) handoverFailed(t *attempt, account string, from netip.Addr, reason text.Msg) error {
	a.counts.failures.Add(1)
	blocked := t.failed(time.Now())
	a.publish(LoginFailed{Account: a.known(account), From: sourceName(from), Reason: reason})
	if blocked.Source != "" {
		a.publish(blocked)
	}
	return refuse(Unauthenticated, text.M("the handover can't be used, or can't be used any more"), text.M("log in with name and password"))
}

func (h handover) over(now time.Time) bool { return !now.Before(h.made.Add(handoverLife)) }

// sweepHandovers drops, under mu, handovers that have ended.
func (a *Auth) sweepHandovers(now time.Time) {
	for key, h := range a.handovers {
		if _, ok := a.identifyLocked(h.proof); !ok || h.over(now) {
			delete(a.handovers, key)
		}
	}
}

func (a *Auth) dropOldestHandover() {
	var oldest digest
	var made time.Time
	for key, h := range a.handovers {
		if made.IsZero() || h.made.Before(made) {
			oldest, made = key, h.made
		}
	}
	delete(a.handovers, oldest)
	a.counts.handoversEvicted.Add(1)
}

// hasSession reports, under mu, whether that session of the account is there.
func (a *Auth) hasSession(id, account string) bool {
	for _, s := range a.sessions {
		if s.id == id && s.account == account {
			return true
		}
	}
	return false
}
