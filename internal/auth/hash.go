package auth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"

	"sluis/internal/text"
)

// cost is what one argon2id hash costs.
type cost struct {
	memoryKiB uint32
	passes    uint32
	lanes     uint8
}

// currentCost is what new hashes cost: 19 MiB and two passes on one core, which
// OWASP advises as the least and which fits a machine of 1 GB beside its traffic.
var currentCost = cost{memoryKiB: 19 << 10, passes: 2, lanes: 1}

// Bounds on a hash that we did not make ourselves. A hash outside of them is
// refused: verifying it could take the machine's memory or minutes of its time.
const (
	maxPHCBytes  = 256
	minMemoryKiB = 8
	maxMemoryKiB = 64 << 10
	maxPasses    = 10
	maxLanes     = 4
	minSaltBytes = 8
	maxSaltBytes = 64
	minKeyBytes  = 16
	maxKeyBytes  = 64
)

const (
	newSaltBytes = 16
	newKeyBytes  = 32
)

// phc is a hash with its salt and cost, as in the PHC string
// $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH.
type phc struct {
	cost cost
	salt []byte
	key  []byte
}

// HashPassword makes an argon2id hash with a new salt. It takes 19 MiB of memory
// for some tens of milliseconds; where clients can trigger it, use Auth.Hash, which
// bounds how many run at once. It doesn't judge the password: see CheckPassword.
func HashPassword(password string) string { return makePHC(password, currentCost).String() }

// VerifyHash reports whether the hash was made of the password. It fails when the
// hash isn't an argon2id PHC string or costs more than this room allows.
func VerifyHash(hash, password string) (bool, error) {
	p, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	return p.matches(password), nil
}

func makePHC(password string, c cost) phc {
	p := phc{cost: c, salt: randomBytes(newSaltBytes)}
	p.key = p.derive(password, newKeyBytes)
	return p
}

func (p phc) derive(password string, keyBytes uint32) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.cost.passes, p.cost.memoryKiB, p.cost.lanes, keyBytes)
}

func (p phc) matches(password string) bool {
	return subtle.ConstantTimeCompare(p.derive(password, uint32(len(p.key))), p.key) == 1
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		p.cost.memoryKiB, p.cost.passes, p.cost.lanes,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.key))
}

// parsePHC reads the one form that String writes: parameters in that order, numbers
// without signs or leading zeros. The errors never show the hash.
func parsePHC(s string) (phc, error) {
	var p phc
	if len(s) > maxPHCBytes {
		return p, fmt.Errorf("the password hash is longer than %d bytes", maxPHCBytes)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, errors.New("the password hash is not of the form $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	}
	if parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return p, errors.New("the password hash is of another version of argon2")
	}
	var err error
	if p.cost, err = parseCost(parts[3]); err != nil {
		return p, err
	}
	if p.salt, err = parseBase64(parts[4], minSaltBytes, maxSaltBytes); err != nil {
		return p, fmt.Errorf("salt of the password hash: %w", err)
	}
	if p.key, err = parseBase64(parts[5], minKeyBytes, maxKeyBytes); err != nil {
		return p, fmt.Errorf("password hash: %w", err)
	}
	return p, nil
}

func parseCost(s string) (cost, error) {
	values := strings.Split(s, ",")
	if len(values) != 3 {
		return cost{}, errors.New("the password hash needs exactly the parameters m, t and p")
	}
	lanes, err := parseParameter(values[2], "p=", 1, maxLanes)
	if err != nil {
		return cost{}, err
	}
	memory, err := parseParameter(values[0], "m=", minMemoryKiB*lanes, maxMemoryKiB)
	if err != nil {
		return cost{}, err
	}
	passes, err := parseParameter(values[1], "t=", 1, maxPasses)
	if err != nil {
		return cost{}, err
	}
	return cost{memoryKiB: memory, passes: passes, lanes: uint8(lanes)}, nil
}

func parseParameter(s, prefix string, least, most uint32) (uint32, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || strconv.FormatUint(n, 10) != digits {
		return 0, fmt.Errorf("the password hash has no number at %s", prefix)
	}
	if n < uint64(least) || n > uint64(most) {
		return 0, fmt.Errorf("the password hash has %s%d, outside of %d to %d", prefix, n, least, most)
	}
	return uint32(n), nil
}

func parseBase64(s string, least, most int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not base64")
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("%d bytes, outside of %d to %d", len(b), least, most)
	}
	return b, nil
}

// Bounds on hashing: two at once take 38 MiB at the current cost.
const (
	maxHashes  = 2
	maxWaiters = 16
)

// hasher bounds how many hashes are computed at once and how many logins wait for
// their turn.
type hasher struct {
	cost   cost
	slots  chan struct{} // a token per running hash
	logins atomic.Int32  // in verifyLogin
	// decoy is verified for accounts that have no password, so that the answer to a
	// wrong name takes as long as the answer to a wrong password. No password matches
	// it: its key is random.
	decoy phc
}

func newHasher(c cost) *hasher {
	return &hasher{
		cost:  c,
		slots: make(chan struct{}, maxHashes),
		decoy: phc{cost: c, salt: randomBytes(newSaltBytes), key: randomBytes(newKeyBytes)},
	}
}

// acquire waits for a turn, or until ctx ends; release gives it back.
func (h *hasher) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) release() { <-h.slots }

// hash makes a new hash. Its callers have proved who they are or stand at the
// machine, so they wait however many strangers wait to log in; turns go in order.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.acquire(ctx); err != nil {
		return "", err
	}
	defer h.release()
	return makePHC(password, h.cost).String(), nil
}

// verifyLogin is verify for callers who have proved nothing yet. It refuses as Busy
// when too many of them wait already.
func (h *hasher) verifyLogin(ctx context.Context, hash, password string) (bool, error) {
	defer h.logins.Add(-1)
	if h.logins.Add(1) > maxHashes+maxWaiters {
		busy := refuse(Busy, text.M("too many logins are being checked right now"), text.M("try again in a few seconds"))
		busy.RetryAfter = busyRetry
		return false, busy
	}
	return h.verify(ctx, hash, password)
}

// verify compares a password with a hash of the state. With an empty hash it does
// the same work and says no.
func (h *hasher) verify(ctx context.Context, hash, password string) (bool, error) {
	p := h.decoy
	if hash != "" {
		parsed, err := parsePHC(hash)
		if err != nil {
			return false, err
		}
		p = parsed
	}
	if err := h.acquire(ctx); err != nil {
		return false, err
	}
	defer h.release()
	return p.matches(password), nil
}
