package control

import (
	"context"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/text"
)

// RuntimeAction acts on a running server. It is operator state: no part of the
// configuration, and not undone by an apply.
type RuntimeAction struct {
	Backend string
	Server  string
	Verb    RuntimeVerb
	// Weight is the new share of the work, for the verb weight.
	Weight int
	// By is who wants it.
	By string
}

// RuntimeVerb is what is done with a server.
type RuntimeVerb string

// The verbs.
const (
	Drain       RuntimeVerb = "drain"       // no new clients; those that are bound to it still come
	Maintenance RuntimeVerb = "maintenance" // no clients at all
	Ready       RuntimeVerb = "ready"       // back to work
	Weight      RuntimeVerb = "weight"      // another share of the work
)

// RuntimeVerbs lists the verbs.
func RuntimeVerbs() []RuntimeVerb { return []RuntimeVerb{Drain, Maintenance, Ready, Weight} }

// Act acts on a running server. It returns what the server has then: the open
// requests, WebSockets and bound sessions of a drain, which end by themselves.
func (c *Control) Act(ctx context.Context, caller Caller, action RuntimeAction) (after ServerStatus, err error) {
	object := "backend:" + action.Backend + "/" + action.Server
	record := c.begin(caller, "server."+string(action.Verb), object)
	defer func() { record.end(err) }()
	if err := caller.May(auth.Action{Kind: auth.Operate, Object: object}); err != nil {
		return after, err
	}
	if err := runningServer(c.running(), action.Backend, action.Server); err != nil {
		return after, err
	}
	if action.Verb == Weight && (action.Weight < 0 || action.Weight > 256) {
		return after, fault(Invalid, text.M("a weight is a number from 0 to 256"))
	}
	if c.o.Balancer.Act == nil || c.o.Balancer.Server == nil {
		return after, fault(Unavailable, text.M("no load balancer runs in this build or mode, so there is no server to act on"))
	}
	action.By = caller.Who()
	if err := c.o.Balancer.Act(ctx, action); err != nil {
		return after, err
	}
	c.o.Events.Publish(ServerActed{Backend: action.Backend, Server: action.Server, Verb: action.Verb, By: action.By})
	found, ok := c.o.Balancer.Server(action.Backend, action.Server)
	if !ok { // an apply took it away meanwhile
		return after, notInEffect(action)
	}
	return c.detailInZone(found).ServerStatus, nil
}

func notInEffect(action RuntimeAction) *Fault {
	return fault(NotFound, text.M("server {server} of {backend} is not in effect any more", "server", action.Server, "backend", action.Backend))
}

func runningServer(doc *config.Document, backend, server string) error {
	var backends, servers []string
	for _, b := range doc.Backends {
		backends = append(backends, b.Name)
		if b.Name != backend {
			continue
		}
		for _, s := range b.Servers {
			if s.Name == server {
				return nil
			}
			servers = append(servers, s.Name)
		}
		return unknownName(text.M("the running backend {backend} has no server named {server}", "backend", backend, "server", server), server, servers)
	}
	return unknownName(text.M("no backend named {backend} is running", "backend", backend), backend, backends)
}

func unknownName(message text.Msg, name string, known []string) *Fault {
	f := fault(NotFound, message)
	if near := config.Nearest(name, known); near != "" {
		f.Hint = text.M("did you mean {name}?", "name", near)
	}
	return f
}
