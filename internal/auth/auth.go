// Package auth knows who may do what: the credentials of the administrators,
// their sessions and tokens, what each role may do, and the protection of the
// login against guessing.
//
// Who the administrators are stands in the document; SetAccounts brings it. How
// they prove it is auth's own durable state and is no part of a revision:
//
//	document ──SetAccounts──► accounts ─┐
//	                                    ├─► Identity ──May──► yes or a reason
//	state ──► password hashes, tokens ──┘
//	memory ─► sessions, handovers, counts of failed logins
//
// It promises that no password, token or session secret is written anywhere or
// told in an event: passwords are kept as argon2id hashes, tokens, sessions and
// handovers as SHA-256 of 256 random bits. A change that could not be saved has not happened.
// Each use of a session or token looks its account up again, so that a new role,
// a disabled account or a new password counts at once. Every table is bounded and
// counts what it refused.
//
// It does not promise that sessions survive a restart: they live in memory, and
// everybody logs in again. It does not decide for the callers: they ask
// Identity.May before they act. It does not know second factors yet.
package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluis/internal/event"
	"sluis/internal/text"
)

// Account is an administrator as the document describes one.
type Account struct {
	// Name is what is typed at the login; unique.
	Name string
	// FullName is for people; may be empty.
	FullName string
	// Role says what the account may do.
	Role Role
	// Objects limits an operator to named objects, such as "backend:shop"; empty is
	// all of them. Other roles ignore it.
	Objects []string
	// Disabled refuses every login, session and token of the account.
	Disabled bool
	// Expires is when the account stops working; zero is never.
	Expires time.Time
	// PasswordRef is the document's reference to a password; empty when the document
	// brings none.
	PasswordRef string
	// PasswordHash is the argon2id hash that PasswordRef stands for; empty exactly
	// when PasswordRef is.
	PasswordHash string
}

// active reports whether the account may be used at that time.
func (a Account) active(now time.Time) bool {
	return a.Name != "" && !a.Disabled && (a.Expires.IsZero() || now.Before(a.Expires))
}

// Options are what auth needs from outside.
type Options struct {
	// Load reads the durable state that Save wrote; an error that is fs.ErrNotExist
	// says that there is none yet.
	Load func() ([]byte, error)
	// Save replaces the durable state; when it returns, the state is on the disk.
	Save func([]byte) error
	// Publish tells an event; nil tells nobody. It must not wait.
	Publish func(event.Event)
	// Protection returns the current settings of the login protection; nil means the
	// defaults.
	Protection func() Protection
	// IdleTimeout returns how long a session lasts without use. Nil or 0 means
	// DefaultIdleTimeout; a negative value switches it off.
	IdleTimeout func() time.Duration
}

// Auth is the administrators' accounts with their credentials, sessions and
// tokens. Its methods may be called from any goroutine.
//
// Lock order: write, then mu. The guard has a lock of its own that is never held
// together with another.
type Auth struct {
	options Options
	guard   *guard
	hasher  *hasher
	checks  *checks
	counts  *counts

	// write lets one durable change in at a time. It is held while the state is
	// saved, on purpose: the next change starts from what this one has saved. Of what
	// only reads, VerifyToken alone waits for it, once an hour for each token.
	write sync.Mutex

	mu        sync.Mutex
	accounts  map[string]Account   // the document's
	durable   *state               // never changed in place, only replaced
	sessions  map[digest]*session  // by the hash of the secret
	handovers map[digest]handover  // by the hash of the secret
	noted     map[digest]time.Time // when a token's use was last written down
}

// New reads the durable state. It fails when there is a state that cannot be
// understood, because starting without it would forget every password.
func New(options Options) (*Auth, error) {
	if options.Load == nil || options.Save == nil {
		panic("BUG: auth needs Load and Save")
	}
	durable, err := load(options.Load)
	if err != nil {
		return nil, err
	}
	counts := new(counts)
	return &Auth{
		options:   options,
		guard:     newGuard(counts),
		hasher:    newHasher(currentCost),
		checks:    newChecks(),
		counts:    counts,
		durable:   durable,
		sessions:  make(map[digest]*session),
		handovers: make(map[digest]handover),
		noted:     make(map[digest]time.Time),
	}, nil
}

func load(read func() ([]byte, error)) (*state, error) {
	data, err := read()
	if errors.Is(err, fs.ErrNotExist) {
		return newState(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("load credentials: %w", err)
	}
	durable, err := decodeState(data)
	if err != nil {
		return nil, fmt.Errorf("load credentials: %w", err)
	}
	return durable, nil
}

// SetAccounts takes the accounts of the document that takes effect: all of them,
// each time, at boot, apply and undo alike. Called again with the same accounts it
// changes nothing.
//
// A password comes from the document when its reference is another one than the
// document last brought for this account; an empty reference, or the same one,
// leaves the current password, which may be newer. Until Settle is called, the
// former password is kept, and a document that goes back to the former reference
// gets it back: so an undo or rollback is exact, even after a restart.
//
// Sessions of accounts that are gone, disabled or expired end, as do those of
// accounts whose password changed. Credentials and tokens of an account that is
// gone are kept, without use, until Settle.
//
// An error means that nothing has changed.
func (a *Auth) SetAccounts(accounts []Account) error {
	desired, err := checkAccounts(accounts)
	if err != nil {
		return fmt.Errorf("set accounts: %w", err)
	}
	var passwords []string
	var ended []event.Event
	err = a.change(
		func(s *state) (bool, error) {
			var changed bool
			changed, passwords = s.take(desired, time.Now())
			return changed, nil
		},
		func() {
			a.accounts = desired
			ended = a.endUnfounded(passwords)
		})
	if err != nil {
		return err
	}
	for _, name := range passwords {
		a.publish(PasswordChanged{Account: name, How: text.M("by the applied configuration")})
	}
	a.publish(ended...)
	return nil
}

// Settle makes the accounts of the last SetAccounts final: former passwords, and
// credentials and tokens of accounts that are gone, are forgotten. It is called
// when an apply is confirmed, or needed no confirmation, and at boot when no apply
// is pending. From then on an account that is added under an old name starts
// without password and tokens.
func (a *Auth) Settle() error {
	a.mu.Lock()
	accounts := a.accounts
	a.mu.Unlock()
	return a.change(func(s *state) (bool, error) { return s.settle(accounts), nil }, nil)
}

// Account returns the account of the document with that name.
func (a *Auth) Account(name string) (Account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account, ok := a.accounts[name]
	return account, ok
}

// change makes one durable change. edit works on a copy of the state and says
// whether it changed anything; the copy is saved and only then takes the state's
// place. swapped, if not nil, runs under mu in the same moment.
func (a *Auth) change(edit func(*state) (bool, error), swapped func()) error {
	a.write.Lock()
	defer a.write.Unlock()
	next := a.state().clone()
	changed, err := edit(next)
	if err != nil {
		return err
	}
	if changed {
		if err := a.save(next); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if changed {
		a.durable = next
		maps.DeleteFunc(a.noted, func(key digest, _ time.Time) bool {
			_, kept := next.tokens[key]
			return !kept
		})
	}
	if swapped != nil {
		swapped()
	}
	a.sweepHandovers(time.Now())
	return nil
}

func (a *Auth) save(s *state) error {
	data, err := s.encode()
	if len(data) > maxStateBytes {
		return refuse(Full, text.M("there are too many administrators and tokens to keep"), text.M("delete tokens that are no longer used"))
	}
	if err == nil {
		err = a.options.Save(data)
	}
	if err != nil {
		a.counts.saveFailures.Add(1)
		return fmt.Errorf("save credentials: %w", err)
	}
	return nil
}

func (a *Auth) state() *state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable
}

// publish tells events; it is never called under a lock.
func (a *Auth) publish(events ...event.Event) {
	if a.options.Publish == nil {
		return
	}
	for _, e := range events {
		a.options.Publish(e)
	}
}

func (a *Auth) protection() Protection {
	var p Protection
	if a.options.Protection != nil {
		p = a.options.Protection()
	}
	return p.withDefaults()
}

// checkAccounts holds the caller to the contract. The document was validated
// before, so an error here is a fault of ours and says so in plain words.
func checkAccounts(accounts []Account) (map[string]Account, error) {
	byName := make(map[string]Account, len(accounts))
	for _, account := range accounts {
		if err := checkAccount(account); err != nil {
			return nil, fmt.Errorf("account %q: %w", account.Name, err)
		}
		if _, twice := byName[account.Name]; twice {
			return nil, fmt.Errorf("account %q: stands there twice", account.Name)
		}
		account.Objects = slices.Clone(account.Objects)
		byName[account.Name] = account
	}
	return byName, nil
}

func checkAccount(account Account) error {
	switch {
	case account.Name == "":
		return errors.New("has no name")
	case account.Role.rank() == 0:
		return fmt.Errorf("has no role that exists: %q", account.Role)
	case (account.PasswordRef == "") != (account.PasswordHash == ""):
		return errors.New("needs both or neither of password reference and hash")
	case account.PasswordHash == "":
		return nil
	}
	_, err := parsePHC(account.PasswordHash)
	return err
}

// accountNames returns the names in order, so that what goes over all accounts
// does so the same way each time.
func accountNames(accounts map[string]Account) []string {
	return slices.Sorted(maps.Keys(accounts))
}

// Local is the source of callers on the machine itself, who came through the unix
// socket or the console: the zero Addr. They are never slowed down or blocked.
// Addresses of the loopback interface are not Local: anything may forward to them.
func Local() netip.Addr { return netip.Addr{} }

// sourceName names a source for people and events.
func sourceName(from netip.Addr) string {
	if !from.IsValid() {
		return "local"
	}
	return from.Unmap().String()
}

// randomBytes returns n bytes nobody can guess.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

// known returns the name if an account has it, else nothing: what is typed into
// the name field of a failed login may be a password.
func (a *Auth) known(name string) string {
	account, _ := a.Account(name)
	return account.Name
}
