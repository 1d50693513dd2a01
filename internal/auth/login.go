package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"time"

	"sluis/internal/text"
)

// Login checks a name and a password and begins a session; its Token is shown
// nowhere else. from is the caller's address, or Local().
//
// Whatever is wrong with the account or the password, the refusal is the same and
// takes as long. A caller who has failed too often is refused at once, with the
// time to wait. Login returns ctx's error when ctx ends while it waits for its turn.
func (a *Auth) Login(ctx context.Context, name, password string, from netip.Addr) (Session, error) {
	proof, err := a.prove(ctx, name, password, from)
	if err != nil {
		return Session{}, err
	}
	begun, ended, err := a.beginSession(proof, from)
	if err != nil {
		return Session{}, err
	}
	a.counts.logins.Add(1)
	a.publish(LoginSucceeded{Account: name, From: sourceName(from), Session: begun.ID})
	a.publish(ended...)
	return begun, nil
}

// Basic checks a name and a password that come with each request, as from curl -u,
// and begins no session. What was right is remembered for a minute, for the same
// source alone, so that a script doesn't pay for a hash with each call; a changed
// password, role or account counts at once. Calls that come together with the same
// name and password are checked once.
func (a *Auth) Basic(ctx context.Context, name, password string, from netip.Addr) (Identity, error) {
	key := a.checks.key(name, password, from)
	for {
		// Before the memory is asked: else it would answer guesses without limit.
		if err := a.guard.check(a.protection(), name, from, time.Now()); err != nil {
			return Identity{}, err
		}
		if known, ok := a.checks.known(key, time.Now()); ok {
			if identity, ok := a.identify(known); ok {
				a.counts.remembered.Add(1)
				return identity, nil
			}
		}
		running, first := a.checks.join(key)
		if first {
			return a.basicFirst(ctx, key, running, name, password, from)
		}
		select {
		case <-running.done:
		case <-ctx.Done():
			return Identity{}, ctx.Err()
		}
		if running.refusal != nil {
			return Identity{}, running.refusal
		}
		// It was right, or the first caller went away: look again.
	}
}

func (a *Auth) basicFirst(ctx context.Context, key checkKey, running *check, name, password string, from netip.Addr) (identity Identity, err error) {
	defer func() { a.checks.leave(key, running, err) }()
	proof, err := a.prove(ctx, name, password, from)
	if err != nil {
		return Identity{}, err
	}
	identity, ok := a.identify(proof)
	if !ok {
		return Identity{}, wrongLogin() // it changed while the hash was computed
	}
	a.checks.remember(key, proof, time.Now())
	return identity, nil
}

// proof is a password that was right: as long as the account still has this hash,
// whoever gave it is that account.
type proof struct {
	account string
	hash    string
}

// prove checks name and password under the login protection.
func (a *Auth) prove(ctx context.Context, name, password string, from netip.Addr) (proof, error) {
	attempt, err := a.guard.begin(a.protection(), name, from, time.Now())
	if err != nil {
		return proof{}, err
	}
	hash, obstacle := a.passwordOf(name)
	if len(password) > maxPasswordBytes {
		hash, password = "", ""
	}
	matches, err := a.hasher.verifyLogin(ctx, hash, password)
	if err != nil {
		attempt.dropped()
		if errors.Is(err, ErrBusy) {
			a.counts.refusedBusy.Add(1)
		}
		return proof{}, err
	}
	if matches && obstacle.IsZero() {
		attempt.succeeded()
		return proof{name, hash}, nil
	}
	a.counts.failures.Add(1)
	blocked := attempt.failed(time.Now())
	if obstacle.IsZero() {
		obstacle = text.M("wrong password")
	}
	a.publish(LoginFailed{Account: a.known(name), From: sourceName(from), Reason: obstacle})
	if blocked.Source != "" {
		a.publish(blocked)
	}
	return proof{}, wrongLogin()
}

// wrongLogin is the same whatever was wrong, so that nobody learns which names
// exist.
func wrongLogin() *Refusal {
	return refuse(Unauthenticated, text.M("the name or the password is wrong, or the account may not log in"),
		text.M("check both; someone at the machine can set a new password with: sluis passwd NAME"))
}

// passwordOf returns the hash of an account, and what keeps the account from
// logging in whatever its password is; zero when nothing does.
func (a *Auth) passwordOf(name string) (hash string, obstacle text.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account, ok := a.accounts[name]
	hash = a.durable.credentials[name].Hash
	switch {
	case !ok:
		return "", text.M("no account has that name")
	case account.Disabled:
		return hash, text.M("the account is disabled")
	case !account.active(time.Now()):
		return hash, text.M("the account has expired")
	case hash == "":
		return "", text.M("the account has no password")
	}
	return hash, text.Msg{}
}

// identify returns who the proof stands for, if it still holds.
func (a *Auth) identify(p proof) (Identity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.identifyLocked(p)
}

func (a *Auth) identifyLocked(p proof) (Identity, bool) {
	account, credential := a.accounts[p.account], a.durable.credentials[p.account]
	if !account.active(time.Now()) || p.hash == "" || credential.Hash != p.hash {
		return Identity{}, false
	}
	return account.identity(credential.OneTime), true
}

func (a Account) identity(mustChange bool) Identity {
	identity := Identity{Account: a.Name, FullName: a.FullName, Role: a.Role, MustChange: mustChange}
	if a.Role == Operator {
		identity.Objects = a.Objects
	}
	return identity
}

// Bounds of what Basic remembers.
const (
	rememberFor   = time.Minute
	maxRemembered = 256
)

// checkKey stands for source, name and password; the key of the HMAC is random for
// each process, so that a dump of the table helps nobody.
type checkKey digest

// checks is what Basic has checked lately and is checking now.
type checks struct {
	secret []byte

	mu      sync.Mutex
	right   map[checkKey]rememberedProof
	running map[checkKey]*check
}

type rememberedProof struct {
	proof proof
	until time.Time
}

// check is a password that is being checked. refusal is set before done is closed;
// it stays nil when the password was right or nothing was learned.
type check struct {
	done    chan struct{}
	refusal error
}

func newChecks() *checks {
	return &checks{
		secret:  randomBytes(sha256.Size),
		right:   make(map[checkKey]rememberedProof),
		running: make(map[checkKey]*check),
	}
}

func (c *checks) key(name, password string, from netip.Addr) checkKey {
	mac := hmac.New(sha256.New, c.secret)
	for _, part := range []string{sourceOf(from).String(), name, password} {
		sum := sha256.Sum256([]byte(part)) // of one length, so that parts can't run together
		mac.Write(sum[:])
	}
	return checkKey(mac.Sum(nil))
}

func (c *checks) known(key checkKey, now time.Time) (proof, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	remembered, ok := c.right[key]
	if !ok || !now.Before(remembered.until) {
		delete(c.right, key)
		return proof{}, false
	}
	return remembered.proof, true
}

// remember keeps a proof. A full table drops what has ended, and else the entry
// that ends first: that costs its owner one hash.
func (c *checks) remember(key checkKey, p proof, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.right) >= maxRemembered {
		var first checkKey
		until := now.Add(2 * rememberFor)
		for k, r := range c.right {
			if r.until.Before(until) {
				first, until = k, r.until
			}
		}
		delete(c.right, first)
	}
	c.right[key] = rememberedProof{p, now.Add(rememberFor)}
}

// join returns the running check of the key, or starts one and says so.
func (c *checks) join(key checkKey) (running *check, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if running := c.running[key]; running != nil {
		return running, false
	}
	running = &check{done: make(chan struct{})}
	c.running[key] = running
	return running, true
}

// leave ends a check and lets those who joined go on. Only a refusal is shared: a
// context that ended was the first caller's own.
func (c *checks) leave(key checkKey, running *check, err error) {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		running.refusal = refusal
	}
	c.mu.Lock()
	delete(c.running, key)
	c.mu.Unlock()
	close(running.done)
}
