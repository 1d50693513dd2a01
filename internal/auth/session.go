package auth

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sluis/internal/event"
	"sluis/internal/text"
)

// Bounds of sessions. A session past a bound isn't refused: the one that was left
// alone the longest makes room, so that nobody is locked out by old sessions.
const (
	DefaultIdleTimeout    = 4 * time.Hour
	sessionLife           = 7 * 24 * time.Hour
	maxSessions           = 1024
	maxSessionsPerAccount = 32
)

// Session is one login of an account, for lists and for whoever has just begun it.
type Session struct {
	// ID names the session; it is no secret.
	ID string
	// Token is the secret that proves the session. Only Login and Redeem fill it.
	Token string `json:"-"`
	// Account is the name of the account.
	Account string
	// From is the address of the login; Local() for the machine itself.
	From netip.Addr
	// Created and LastUsed are times of the login and of the last use.
	Created, LastUsed time.Time
	// Ends is when the session ends if nobody uses it again.
	Ends time.Time
	// MustChange says that the session may do nothing but set a new password.
	MustChange bool
}

// session is the same in memory; Auth.mu guards it. Its account is looked up at
// each use.
type session struct {
	id       string
	account  string
	from     netip.Addr
	created  time.Time
	lastUsed time.Time
}

func (s *session) ends(idle time.Duration) time.Time {
	end := s.created.Add(sessionLife)
	if left := s.lastUsed.Add(idle); idle > 0 && left.Before(end) {
		return left
	}
	return end
}

func (a *Auth) idleTimeout() time.Duration {
	if a.options.IdleTimeout == nil {
		return DefaultIdleTimeout
	}
	return cmp.Or(a.options.IdleTimeout(), DefaultIdleTimeout)
}

// beginSession begins a session for a proof that still holds. It returns the
// events about sessions that had to make room.
func (a *Auth) beginSession(p proof, from netip.Addr) (Session, []event.Event, error) {
	idle, now := a.idleTimeout(), time.Now()
	secret := base64.RawURLEncoding.EncodeToString(randomBytes(32))
	begun := &session{
		id: hex.EncodeToString(randomBytes(8)), account: p.account, from: from.Unmap(),
		created: now, lastUsed: now,
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	identity, ok := a.identifyLocked(p)
	if !ok {
		return Session{}, nil, wrongLogin() // it changed while the hash was computed
	}
	a.sweepSessions(idle, now)
	ended := a.makeRoom(p.account)
	a.sessions[digestOf(secret)] = begun
	shown := begun.show(idle, identity.MustChange)
	shown.Token = secret
	return shown, ended, nil
}

func (s *session) show(idle time.Duration, mustChange bool) Session {
	return Session{
		ID: s.id, Account: s.account, From: s.from,
		Created: s.created, LastUsed: s.lastUsed, Ends: s.ends(idle), MustChange: mustChange,
	}
}

// VerifySession returns who the secret of a session stands for. active says that a
// person did something; requests that a page makes by itself pass false and don't
// keep the session alive. A session that has ended is refused as Unauthenticated.
func (a *Auth) VerifySession(secret string, active bool) (Identity, error) {
	key, idle, now := digestOf(secret), a.idleTimeout(), time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[key]
	if s == nil {
		return Identity{}, sessionOver()
	}
	account := a.accounts[s.account]
	if !account.active(now) || !now.Before(s.ends(idle)) {
		delete(a.sessions, key)
		return Identity{}, sessionOver()
	}
	if active {
		s.lastUsed = now
	}
	identity := account.identity(a.durable.credentials[s.account].OneTime)
	identity.Session = s.id
	return identity, nil
}

func sessionOver() *Refusal {
	return refuse(Unauthenticated, text.M("the session has ended"), text.M("log in again"))
}

// Sessions lists the sessions of an account, or of all when account is empty, the
// newest first.
func (a *Auth) Sessions(account string) []Session {
	idle, now := a.idleTimeout(), time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweepSessions(idle, now)
	var list []Session
	for _, s := range a.sessions {
		if account == "" || s.account == account {
			list = append(list, s.show(idle, a.durable.credentials[s.account].OneTime))
		}
	}
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// RevokeSession ends the session with that ID: logout, or an administrator who ends
// another's.
func (a *Auth) RevokeSession(id string) error {
	if a.revoke(text.M("it was logged out"), func(s *session) bool { return s.id == id }) == 0 {
		return refuse(NotFound, text.M("no session has the ID {id}", "id", id), text.M("it may have ended by itself"))
	}
	return nil
}

// RevokeSessions ends all sessions of an account, but for the one with the ID keep
// (empty keeps none), and returns how many there were.
func (a *Auth) RevokeSessions(account, keep string) int {
	return a.revoke(text.M("all of the account's sessions were logged out"), func(s *session) bool {
		return s.account == account && s.id != keep
	})
}

func (a *Auth) revoke(reason text.Msg, which func(*session) bool) int {
	a.mu.Lock()
	before := len(a.sessions)
	ended := a.endSessions(reason, which)
	count := before - len(a.sessions)
	a.mu.Unlock()
	a.publish(ended...)
	return count
}

// endSessions ends sessions, and the handovers that were made from them, under mu
// and returns one event per account.
func (a *Auth) endSessions(reason text.Msg, which func(*session) bool) []event.Event {
	ids := make(map[string][]string)
	for key, s := range a.sessions {
		if which(s) {
			delete(a.sessions, key)
			ids[s.account] = append(ids[s.account], s.id)
		}
	}
	maps.DeleteFunc(a.handovers, func(_ digest, h handover) bool { return slices.Contains(ids[h.proof.account], h.session) })
	var events []event.Event
	for _, account := range slices.Sorted(maps.Keys(ids)) {
		slices.Sort(ids[account])
		events = append(events, SessionRevoked{Account: account, Sessions: ids[account], Reason: reason})
	}
	return events
}

// endUnfounded ends, under mu, the sessions of accounts that may no longer be used
// or whose password is another one now.
func (a *Auth) endUnfounded(changed []string) []event.Event {
	now := time.Now()
	events := a.endSessions(text.M("the account is gone, disabled or expired"), func(s *session) bool {
		return !a.accounts[s.account].active(now)
	})
	return append(events, a.endSessions(text.M("the password was changed"), func(s *session) bool {
		return slices.Contains(changed, s.account)
	})...)
}

// sweepSessions drops, under mu, sessions that have ended by themselves.
func (a *Auth) sweepSessions(idle time.Duration, now time.Time) {
	for key, s := range a.sessions {
		if !now.Before(s.ends(idle)) || !a.accounts[s.account].active(now) {
			delete(a.sessions, key)
		}
	}
}

// makeRoom ends, under mu, the session that was left alone the longest when the
// account, or the whole machine, has too many.
func (a *Auth) makeRoom(account string) []event.Event {
	var events []event.Event
	evict := func(limit int, of func(*session) bool) {
		count := 0
		var oldest *session
		for _, s := range a.sessions {
			if !of(s) {
				continue
			}
			count++
			if oldest == nil || s.lastUsed.Before(oldest.lastUsed) {
				oldest = s
			}
		}
		if count >= limit {
			a.counts.sessionsEvicted.Add(1)
			events = append(events, a.endSessions(text.M("it made room for a newer one"), func(s *session) bool { return s == oldest })...)
		}
	}
	evict(maxSessionsPerAccount, func(s *session) bool { return s.account == account })
	evict(maxSessions, func(*session) bool { return true })
	return events
}
