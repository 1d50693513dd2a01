package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// Change is one prepared change of a Set: Switch makes it, Undo takes it back.
// Its imported pairs are loaded already, so that Switch cannot fail over them.
type Change struct {
	set *Set
	// imported are the pairs of certificate and key that the document brings.
	imported map[string]*tls.Certificate
	// selfSigned are the certificates that Sluis makes.
	selfSigned []wanted
	// before is what Undo brings back; nil = Switch was not called yet.
	before *snapshot
}

// Prepare looks at a document's certificates and authorities and makes the change
// towards them; it touches nothing. What stands in the way of a certificate is an
// error at its path, and the change then leaves that certificate out. What the
// document alone shows, such as a certificate without a key, is for
// config.Validate to say.
func (s *Set) Prepare(_ context.Context, next *config.Document) (*Change, config.Problems) {
	p := &preparation{
		set: s, now: s.options.Now(), zone: zoneOf(next),
		change: &Change{set: s, imported: make(map[string]*tls.Certificate)},
	}
	if s.current.Load().lost {
		p.problems.Warn("certificates", text.M("the self-signed certificates that were kept cannot be read: they will be made anew"))
	}
	for i, a := range next.Authorities {
		p.authority(a, i)
	}
	for i, c := range next.Certificates {
		switch {
		case c.SelfSigned != nil:
			p.selfSigned(c, i)
		case c.Certificate != "" && !c.Key.IsZero():
			p.imported(c, i)
		}
	}
	return p.change, p.problems
}

// preparation is the state of one Prepare.
type preparation struct {
	set    *Set
	now    time.Time
	zone   *time.Location
	change *Change
	// issuers are the authorities' certificates; they complete chains.
	issuers  []*x509.Certificate
	problems config.Problems
}

// authority checks an imported authority.
func (p *preparation) authority(a config.Authority, index int) {
	if a.Certificate == "" {
		return
	}
	path := place("authorities", a.Name, index, "certificate")
	chain, problem := ParseChain(a.Certificate)
	if !problem.IsZero() {
		p.problems.Add(path, problem)
		return
	}
	for _, c := range chain {
		if !mayIssue(c) {
			p.problems.Add(path, text.M("the certificate of {subject} is no authority: use certificates for it", "subject", subjectOf(c)))
			continue
		}
		p.checkDates(path, c)
		p.issuers = append(p.issuers, c)
	}
}

// imported checks and loads a pair of certificate and key.
func (p *preparation) imported(c config.Certificate, index int) {
	path, keyPath := place("certificates", c.Name, index, "certificate"), place("certificates", c.Name, index, "key")
	chain, problem := ParseChain(c.Certificate)
	if !problem.IsZero() {
		p.problems.Add(path, problem)
	}
	key, hint, keyProblem := p.set.fetchKey(c.Key)
	if !keyProblem.IsZero() {
		p.problems.Add(keyPath, keyProblem).Do(hint)
	}
	if !problem.IsZero() || !keyProblem.IsZero() {
		return
	}
	leaf := FindLeaf(chain, key.Public())
	if leaf == nil {
		p.problems.Add(keyPath, wrongKey(FindLeaf(chain, nil)))
		return
	}
	sent := Order(leaf, slices.Concat(chain, p.issuers))
	for _, member := range sent {
		if slices.Contains(chain, member) { // the authorities' dates are said at theirs
			p.checkDates(path, member)
		}
	}
	p.change.imported[c.Name] = pair(sent, key)
}

// selfSigned checks that a description can be made into a certificate.
func (p *preparation) selfSigned(c config.Certificate, index int) {
	w, err := want(c.Name, *c.SelfSigned)
	if err != nil {
		p.problems.Add(place("certificates", c.Name, index, "self_signed"),
			text.M("no certificate can be made from this: {reason}", "reason", err))
		return
	}
	p.change.selfSigned = append(p.change.selfSigned, w)
}

// checkDates warns of a certificate outside its time. It is no error: the site
// may be better off with an expired certificate than with none.
func (p *preparation) checkDates(path string, c *x509.Certificate) {
	switch {
	case p.now.After(c.NotAfter):
		p.problems.Warn(path, text.M("the certificate of {subject} expired at {time}", "subject", subjectOf(c), "time", p.stamp(c.NotAfter))).
			Do(text.M("have it renewed and give the new one"))
	case p.now.Before(c.NotBefore):
		p.problems.Warn(path, text.M("the certificate of {subject} is not valid before {time}", "subject", subjectOf(c), "time", p.stamp(c.NotBefore))).
			Do(text.M("check the clock of this machine, or wait with this certificate"))
	}
}

func (p *preparation) stamp(t time.Time) string { return t.In(p.zone).Format(time.RFC3339) }

// zoneOf is the document's time zone; a name that is unknown here is said by
// Validate, and UTC stands in for it.
func zoneOf(doc *config.Document) *time.Location {
	zone, err := time.LoadLocation(doc.System.Timezone)
	if err != nil {
		return time.UTC
	}
	return zone
}
