// Package pki owns certificates and private keys: it reads what people paste,
// orders chains, takes keys into the store, makes the self-signed certificates
// that the document describes, and hands out the certificate by its name.
//
// It promises that a key it accepts signs, that a certificate it hands out has
// its key, and that what it handed out stays as it is: a change swaps one
// immutable snapshot for the next. A certificate that Sluis makes is a fact, not
// configuration: it is made once, kept durably with its key in the store, and
// made anew only when its description changes or its end comes near.
//
// It does not judge whether a client will trust a chain, and it does not yet
// sign with its own authorities, fetch by ACME, or look at revocation lists.
//
// Reading order: pki.go (the set and its snapshot), prepare.go (a change),
// selfsigned.go (making), state.go (what is kept), then key.go, chain.go and
// intake.go (what people give).
package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluis/internal/event"
)

// Options are what a Set needs of others. All but Publish and Now are required.
type Options struct {
	// Secret reads a stored private key by its reference.
	Secret func(ref string) ([]byte, error)
	// SaveKey stores a private key durably under its reference; the same one may be
	// stored again.
	SaveKey func(ref string, pem []byte) error
	// LoadState reads what SaveState last kept; nothing and no error where there is
	// none yet.
	LoadState func() ([]byte, error)
	// SaveState keeps the facts durably.
	SaveState func([]byte) error
	// Publish tells an event; nil tells nobody.
	Publish func(event.Event)
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Set holds the certificates in effect. Reading it waits for nobody.
type Set struct {
	options Options

	// current is replaced as a whole, by whoever holds writing.
	current atomic.Pointer[snapshot]

	// writing serializes Switch, Undo and Default. They make keys and write to disk
	// under it, against the rule: two of them at once would each lose what the other
	// keeps. No reader takes it.
	writing sync.Mutex
	// saved is the state as last kept, guarded by writing; nil = not known.
	saved []byte
}

// snapshot is what is in effect, with the facts behind it. It is never changed.
type snapshot struct {
	// shown is what Certificate answers.
	shown map[string]*tls.Certificate
	// used are the facts of the document in effect.
	used []fact
	// former are the facts that only the document before it used: a roll back finds
	// its certificates again.
	former []fact
	// appliance is the machine's own certificate; none until it was asked for.
	appliance []fact
	// lost tells that the kept facts could not be read.
	lost bool
}

// New makes a set with nothing in effect and reads the kept facts. It fails when
// they cannot be fetched or a newer Sluis wrote them. Damaged ones do not keep an
// appliance from starting: Prepare warns, and the certificates are made anew.
func New(options Options) (*Set, error) {
	if options.Publish == nil {
		options.Publish = func(event.Event) {}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	data, err := options.LoadState()
	if err != nil {
		return nil, fmt.Errorf("load certificate state: %w", err)
	}
	s := &Set{options: options}
	first := &snapshot{}
	if len(data) > 0 {
		first, err = decodeState(data)
	}
	switch {
	case errors.Is(err, errNewer):
		return nil, fmt.Errorf("load certificate state: %w", err)
	case err != nil:
		first = &snapshot{lost: true}
	default:
		s.saved = encodeState(first)
	}
	s.current.Store(first)
	return s, nil
}

// Claims are the parts of the document that a Set puts into effect.
func (*Set) Claims() []string {
	return []string{
		"certificates[].certificate", "certificates[].key", "certificates[].self_signed",
		"authorities[].certificate",
	}
}

// Certificate is the certificate of that name with its chain and key, from the
// last Switch; nil = there is none. It must not be changed.
func (s *Set) Certificate(name string) *tls.Certificate {
	return s.current.Load().shown[name]
}

// Keys are the references of all keys that the facts need, sorted: pruning must
// keep them. A caller that prunes must not let a Switch or Default run between
// this call and the pruning.
func (s *Set) Keys() []string {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.current.Load()
	var refs []string
	for _, f := range slices.Concat(now.used, now.former, now.appliance) {
		refs = append(refs, f.Key)
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// Default is the appliance's own self-signed certificate, for when none is
// configured: ECDSA on P-256, 397 days. It is made once and then kept until its
// end comes near, so that administrators see the certificate that they have
// accepted, whatever is applied: the names and addresses say what stands in one
// that has to be made (none = localhost). When it can't be kept there is a
// certificate all the same, with the error that the next start will make another;
// the next call tries again to keep it.
func (s *Set) Default(hostnames []string, addresses []netip.Addr) (*tls.Certificate, error) {
	w, err := want("", applianceSpec(hostnames, addresses))
	if err != nil {
		return nil, fmt.Errorf("the appliance's own certificate: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	before := s.current.Load()
	f, found := s.usable(before.appliance)
	if !found {
		if f, err = s.make(w); err != nil {
			return nil, fmt.Errorf("make the appliance's own certificate: %w", err)
		}
	}
	if !f.kept {
		if err = s.keepKey(f); err == nil {
			f.kept = true
		}
	}
	next := *before
	next.appliance = []fact{f}
	s.current.Store(&next)
	if err = errors.Join(err, s.save(&next)); err != nil {
		err = fmt.Errorf("keep the appliance's own certificate: %w", err)
	}
	return f.loaded, err
}

// Switch puts the change into effect. It makes and keeps the self-signed
// certificates that are missing or near their end, then swaps all certificates at
// once; on an error nothing has been swapped. It may be called again.
func (c *Change) Switch(ctx context.Context) error {
	s := c.set
	s.writing.Lock()
	defer s.writing.Unlock()
	before := s.current.Load()
	if c.before == nil {
		c.before = before
	}
	next := &snapshot{shown: make(map[string]*tls.Certificate), appliance: before.appliance}
	for name, certificate := range c.imported {
		next.shown[name] = certificate
	}
	if err := s.realize(ctx, c.selfSigned, before, next); err != nil {
		return err
	}
	next.former = former(before, next)
	if err := s.save(next); err != nil {
		return err
	}
	s.current.Store(next)
	return nil
}

// Undo brings back the certificates from before Switch. The appliance's own stays
// as it is by now. It may be called again, and without a Switch does nothing.
func (c *Change) Undo(context.Context) error {
	if c.before == nil {
		return nil
	}
	s := c.set
	s.writing.Lock()
	defer s.writing.Unlock()
	back := *c.before
	back.appliance = s.current.Load().appliance
	s.current.Store(&back)
	return s.save(&back)
}

// save keeps the facts where they differ from what is kept.
func (s *Set) save(next *snapshot) error {
	data := encodeState(next)
	if s.saved != nil && string(data) == string(s.saved) {
		return nil
	}
	s.saved = nil
	if err := s.options.SaveState(data); err != nil {
		return fmt.Errorf("keep the made certificates: %w", err)
	}
	s.saved = data
	return nil
}

// former are the facts to keep for a roll back: those of the document before, or
// the former ones still, when the new document uses the same facts.
func former(before, next *snapshot) []fact {
	same := len(before.used) == len(next.used)
	var gone []fact
	for _, f := range before.used {
		if !slices.ContainsFunc(next.used, f.sameDescription) {
			gone = append(gone, f)
			same = false
		}
	}
	if !same {
		return gone
	}
	return before.former
}
