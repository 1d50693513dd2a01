package health

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"sluis/internal/config"
	"sluis/internal/text"
)

// Change is one prepared change of a Checker: Switch makes it, Undo takes it back.
type Change struct {
	checker *Checker
	desired []*spec
	// before are the checks that Undo brings back; nil = Switch was not called yet.
	before []*spec
	// gone are the checks that Switch ended, with what was known of their servers.
	gone map[key]*watch
}

// Prepare reads the checks of a document; it touches nothing and asks nobody. A
// check over TLS that no certificate could ever pass is an error.
func (c *Checker) Prepare(_ context.Context, next *config.Document) (*Change, config.Problems) {
	r := &reader{doc: next}
	change := &Change{checker: c, desired: []*spec{}}
	for i := range next.Backends {
		change.desired = append(change.desired, r.backend(&next.Backends[i], i)...)
	}
	return change, r.problems
}

// Switch starts, changes and ends checks. It may be called again.
func (c *Change) Switch(context.Context) error {
	if c.before == nil {
		c.before = c.checker.specs()
	}
	if c.gone == nil {
		c.gone = make(map[key]*watch)
	}
	maps.Copy(c.gone, c.checker.set(c.desired, nil))
	return nil
}

// Undo brings back the checks from before Switch with what was known of their
// servers. It may be called again, and without a Switch does nothing.
func (c *Change) Undo(context.Context) error {
	if c.before != nil {
		c.checker.set(c.before, c.gone)
	}
	return nil
}

// specs are the checks that run.
func (c *Checker) specs() []*spec {
	c.mu.Lock()
	defer c.mu.Unlock()
	specs := make([]*spec, 0, len(c.watches))
	for _, w := range c.watches {
		specs = append(specs, w.spec)
	}
	return specs
}

// Probe asks one server once, as the document's check would, and says what came
// back; nothing is counted or reported. The document need not be the one in
// effect. It fails where there is nothing to ask: no such server, no check, no
// address yet, or too many forced probes at once.
func (c *Checker) Probe(ctx context.Context, doc *config.Document, backend, server string) (*Transcript, error) {
	s, err := forcedSpec(doc, backend, server)
	if err != nil {
		return nil, err
	}
	select {
	case c.forced <- struct{}{}:
		defer func() { <-c.forced }()
	default:
		c.stats.refused.Add(1)
		return nil, fmt.Errorf("%d checks by hand are running already: try again when one has ended", maxForced)
	}
	to, ok := c.target(s, s.check.port)
	if !ok {
		return nil, fmt.Errorf("the name %s of server %s has no address yet", s.address, server)
	}
	return c.ask(ctx, s.check, to, s.pace.timeout), nil
}

// forcedSpec finds what the document asks a server, disabled and unchecked ones too.
func forcedSpec(doc *config.Document, backend, server string) (*spec, error) {
	r := &reader{doc: doc}
	for i := range doc.Backends {
		b := &doc.Backends[i]
		if b.Name != backend {
			continue
		}
		if b.Check == nil {
			return nil, fmt.Errorf("the backend %s has no health check", backend)
		}
		r.at = fmt.Sprintf("backends[%d]", i)
		trust := r.trust(b)
		if r.problems.HasErrors() {
			return nil, r.problems.Errors()
		}
		for j := range b.Servers {
			if b.Servers[j].Name == server {
				return r.server(b, &b.Servers[j], trust, true), nil
			}
		}
	}
	return nil, fmt.Errorf("there is no server %s in a backend %s", server, backend)
}

// reader makes specs of a document.
type reader struct {
	doc      *config.Document
	at       string // the path of the backend that is being read
	problems config.Problems
}

// backend makes the specs of one backend.
func (r *reader) backend(b *config.Backend, index int) []*spec {
	if b.Check == nil && b.AgentCheck == nil {
		return nil
	}
	r.at = "backends[" + b.Name + "]"
	if b.Name == "" || strings.ContainsAny(b.Name, "[]") {
		r.at = "backends[" + strconv.Itoa(index) + "]"
	}
	trust := r.trust(b)
	var specs []*spec
	for i := range b.Servers {
		s := &b.Servers[i]
		asked := b.Check != nil && !s.NoCheck
		if s.Disabled || !asked && b.AgentCheck == nil {
			continue
		}
		specs = append(specs, r.server(b, s, trust, asked))
	}
	return specs
}

// server makes the spec of one server.
func (r *reader) server(b *config.Backend, s *config.Server, trust *trust, asked bool) *spec {
	spec := &spec{backend: b.Name, server: s.Name, address: s.Address}
	if asked {
		spec.check = questionOf(b, s, trust)
		spec.pace = paceOf(b.Check)
	}
	if b.AgentCheck != nil {
		spec.agent = agentOf(b.AgentCheck)
	}
	return spec
}

// trust reads whom the backend's checks over TLS believe; nil where none goes over
// TLS.
func (r *reader) trust(b *config.Backend) *trust {
	if b.Check == nil || b.Check.Type == config.CheckTCP {
		return nil
	}
	overTLS := b.Check.Type == config.CheckTLS
	for i := range b.Servers {
		overTLS = overTLS || b.Servers[i].TLS
	}
	if !overTLS {
		return nil
	}
	t, problem := trustOf(r.doc, &b.ServerTLS)
	if !problem.IsZero() {
		r.problems.Add(r.at+".server_tls.authority", problem).
			Do(text.M("import the authority's certificate, or choose another authority"))
	}
	return t
}
