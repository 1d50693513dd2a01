package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// stateVersion is the version of the durable state's form. A form that older
// programs would misread raises it.
const stateVersion = 1

// maxStateBytes bounds what is read as durable state.
const maxStateBytes = 8 << 20

// digest is the SHA-256 of a secret; secrets of 256 random bits need no slow hash.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// state is what must survive a restart. It is changed only as a private copy.
type state struct {
	credentials map[string]credential // by account
	tokens      map[digest]Token      // by the hash of the secret
}

// credential is how one account proves itself by password.
type credential struct {
	// Document is the password reference that the document has now; may be empty.
	Document string `json:"document"`
	// Taken is the document's reference that last became the password; empty when none
	// ever did. It stays when the document drops the reference.
	Taken string `json:"taken"`
	// Hash is the argon2id hash of the password; empty when there is none.
	Hash string `json:"hash"`
	// OneTime says that the password is good only for setting another one.
	OneTime bool `json:"one_time"`
	// Changed is when the password was set.
	Changed time.Time `json:"changed"`
	// Former is what held before the document brought the current reference; nil once
	// the apply is settled. It is replaced, never changed in place.
	Former *credential `json:"former,omitempty"`
}

func newState() *state {
	return &state{credentials: make(map[string]credential), tokens: make(map[digest]Token)}
}

func (s *state) clone() *state {
	return &state{credentials: maps.Clone(s.credentials), tokens: maps.Clone(s.tokens)}
}

// take follows the document's password references. It reports whether that changed
// anything, and the accounts whose password it changed. SetAccounts tells the rule.
func (s *state) take(accounts map[string]Account, now time.Time) (changed bool, passwords []string) {
	for _, name := range accountNames(accounts) {
		before := s.credentials[name]
		if accounts[name].PasswordRef == before.Document {
			continue
		}
		after := before.take(accounts[name], now)
		s.credentials[name] = after
		if after == (credential{}) {
			delete(s.credentials, name) // an undo leaves no trace
		}
		changed = true
		if after.Hash != before.Hash {
			passwords = append(passwords, name)
		}
	}
	return changed, passwords
}

// take returns the credential after the document's reference became another one.
func (c credential) take(account Account, now time.Time) credential {
	ref := account.PasswordRef
	switch {
	case c.Former != nil && c.Former.Document == ref:
		return *c.Former
	case ref == "" || ref == c.Taken:
		c.Document = ref
		return c
	default:
		former := c
		former.Former = nil
		return credential{Document: ref, Taken: ref, Hash: account.PasswordHash, Changed: now.UTC(), Former: &former}
	}
}

// settle forgets what only an undo would need and reports whether there was any.
func (s *state) settle(accounts map[string]Account) bool {
	changed := false
	for name, c := range s.credentials {
		if _, ok := accounts[name]; !ok {
			delete(s.credentials, name)
			changed = true
		} else if c.Former != nil {
			c.Former = nil
			s.credentials[name] = c
			changed = true
		}
	}
	for key, token := range s.tokens {
		if _, ok := accounts[token.Account]; !ok {
			delete(s.tokens, key)
			changed = true
		}
	}
	return changed
}

// setPassword gives the account a password that did not come from the document. It
// survives an undo of the document too: who set it expects it to hold.
func (s *state) setPassword(name, hash string, oneTime bool, now time.Time) {
	c := s.credentials[name]
	c.Hash, c.OneTime, c.Changed = hash, oneTime, now.UTC()
	if c.Former != nil {
		former := *c.Former
		former.Hash, former.OneTime, former.Changed = c.Hash, c.OneTime, c.Changed
		c.Former = &former
	}
	s.credentials[name] = c
}

// wireState is the form on disk.
type wireState struct {
	Version  int           `json:"version"`
	Accounts []wireAccount `json:"accounts"`
	Tokens   []wireToken   `json:"tokens"`
}

type wireAccount struct {
	Name string `json:"name"`
	credential
}

type wireToken struct {
	Token
	SHA256 string `json:"sha256"`
}

// encode writes the state; equal states give equal bytes.
func (s *state) encode() ([]byte, error) {
	wire := wireState{Version: stateVersion, Accounts: []wireAccount{}, Tokens: []wireToken{}}
	for _, name := range slices.Sorted(maps.Keys(s.credentials)) {
		wire.Accounts = append(wire.Accounts, wireAccount{name, s.credentials[name]})
	}
	for key, token := range s.tokens {
		wire.Tokens = append(wire.Tokens, wireToken{token, hex.EncodeToString(key[:])})
	}
	slices.SortFunc(wire.Tokens, func(a, b wireToken) int { return strings.Compare(a.SHA256, b.SHA256) })
	data, err := json.MarshalIndent(wire, "", " ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// decodeState reads what encode wrote and refuses everything else: half a state
// would let nobody in, or the wrong ones.
func decodeState(data []byte) (*state, error) {
	if len(data) > maxStateBytes {
		return nil, fmt.Errorf("the state has %d bytes, more than %d", len(data), maxStateBytes)
	}
	if err := checkVersion(data); err != nil {
		return nil, err
	}
	var wire wireState
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wire); err != nil {
		return nil, fmt.Errorf("the state is damaged: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("the state is damaged: something follows its end")
	}
	if wire.Accounts == nil || wire.Tokens == nil {
		return nil, errors.New("the state is damaged: accounts or tokens are missing")
	}
	s := newState()
	for _, account := range wire.Accounts {
		if err := s.addAccount(account); err != nil {
			return nil, fmt.Errorf("the state is damaged: account %q: %w", account.Name, err)
		}
	}
	for _, token := range wire.Tokens {
		if err := s.addToken(token); err != nil {
			return nil, fmt.Errorf("the state is damaged: token %q of %q: %w", token.Name, token.Account, err)
		}
	}
	return s, nil
}

// checkVersion looks at the version alone, so that a newer form is not called
// damaged.
func checkVersion(data []byte) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("the state is damaged: %w", err)
	}
	switch {
	case head.Version > stateVersion:
		return fmt.Errorf("the state has version %d, but this program knows only up to %d: use a newer Sluis",
			head.Version, stateVersion)
	case head.Version < 1:
		return errors.New("the state is damaged: it has no version")
	}
	return nil
}

func (s *state) addAccount(account wireAccount) error {
	if _, twice := s.credentials[account.Name]; twice {
		return errors.New("stands there twice")
	}
	if account.Name == "" {
		return errors.New("has no name")
	}
	if f := account.Former; f != nil && f.Former != nil {
		return errors.New("has more than one former password")
	}
	for c := &account.credential; c != nil; c = c.Former {
		if c.Hash == "" {
			continue
		}
		if _, err := parsePHC(c.Hash); err != nil {
			return err
		}
	}
	s.credentials[account.Name] = account.credential
	return nil
}

func (s *state) addToken(token wireToken) error {
	sum, err := hex.DecodeString(token.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("has no SHA-256")
	}
	if token.Account == "" || token.Name == "" || token.Role.rank() == 0 {
		return errors.New("lacks account, name or role")
	}
	key := digest(sum)
	if _, twice := s.tokens[key]; twice {
		return errors.New("stands there twice")
	}
	if _, twice := s.token(token.Account, token.Name); twice {
		return errors.New("stands there twice")
	}
	s.tokens[key] = token.Token
	return nil
}

// token finds a token by its name.
func (s *state) token(account, name string) (digest, bool) {
	for key, token := range s.tokens {
		if token.Account == account && token.Name == name {
			return key, true
		}
	}
	return digest{}, false
}
