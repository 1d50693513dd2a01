package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"sluis/internal/api"
	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/event"
	"sluis/internal/health"
	"sluis/internal/pki"
	"sluis/internal/proxy"
	"sluis/internal/proxy/accesslog"
	"sluis/internal/resolve"
	"sluis/internal/stats"
	"sluis/internal/stats/page"
	"sluis/internal/store"
	"sluis/internal/text"
)

// applianceOptions are what the command line says about an appliance.
type applianceOptions struct {
	// State is the state directory.
	State string
	// Socket is the path of the unix socket; empty = sluis.sock in State.
	Socket string
	// Admin overrides the address and port of the admin listener (host:port);
	// empty = as the document says.
	Admin string
	// File is the name of the file that the configuration comes from, and Document
	// what stands in it; empty = it comes from the state directory.
	File     string
	Document *config.Document
	// Stats replaces the address and port of the statistics page (host:port, a loopback
	// address) where the document wants it at all; empty = as the document says.
	Stats string
	// AccessLog is the file of the requests' lines; empty = they are kept in memory
	// alone.
	AccessLog string
	// Helper is the socket of the root helper, for a service that isn't root.
	Helper string
	// Subsystems are further ones, before our own; tests record with them.
	Subsystems []apply.Subsystem
	// Fault is the store's, for crash tests.
	Fault func(op, path string) error
	Log   *slog.Logger
	// Clock is the one that Log writes its times by; nil = the log's times are its own.
	Clock *clock
}

// appliance is one whole Sluis. Two of them can live in one process.
type appliance struct {
	events    *event.Log
	stats     *stats.Registry
	store     *store.Store
	auth      *auth.Auth
	pki       *pki.Set
	accessLog *accesslog.Log
	proxy     *proxy.Proxy
	resolver  *resolve.Resolver
	checker   *health.Checker
	page      *page.Page
	listener  *api.Listener
	engine    *apply.Engine
	control   *control.Control
	socket    *api.Socket

	// once is the one-time password of a first start; zero otherwise.
	once auth.OneTime

	stopping   sync.Once
	ending     chan struct{} // closed when the appliance stops
	following  sync.WaitGroup
	background sync.WaitGroup
}

// eventsKept is how many events a reader who was away can catch up with.
const eventsKept = 4096

// start builds the rooms in the order in which they need each other, boots, and
// opens the doors.
func start(ctx context.Context, o applianceOptions) (a *appliance, err error) {
	a = &appliance{
		events: event.New(eventsKept), ending: make(chan struct{}),
		stats: stats.New(stats.Options{Version: version, Log: o.Log}),
	}
	if o.Clock == nil {
		o.Clock = &clock{}
	}
	defer func() {
		if err != nil {
			a.stop()
		}
	}()
	if a.store, err = store.Open(o.State, store.Options{Fault: o.Fault}); err != nil {
		return a, explained(err)
	}
	a.follow(o.Log, o.Clock)
	login := &loginSettings{}
	if a.auth, err = auth.New(a.authOptions(login)); err != nil {
		return a, fmt.Errorf("%w\nmove %s away to start without passwords and tokens; a one-time password is then printed", err, filepath.Join(o.State, "state", "auth.json"))
	}
	if a.pki, err = pki.New(a.pkiOptions()); err != nil {
		return a, err
	}
	if err = a.startBalancer(o); err != nil {
		return a, err
	}
	door := newGate()
	a.listener = api.NewListener(api.ListenerOptions{
		Address: o.Admin, Handler: door, Certificate: a.pki.Certificate, DefaultCertificate: a.pki.Default,
		Accepted: func() uint64 { return a.engine.Accepted() }, Log: o.Log,
	})
	a.engine = apply.New(apply.Options{
		Subsystems: append(o.Subsystems, o.Clock.part(), a.accessLogPart(o), a.pkiPart(), a.proxyPart(), a.resolvePart(), a.healthPart(), a.statsPart(), a.authPart(login), a.adminPart()),
		Store:      a.store, Publish: func(e event.Event) { a.events.Publish(e) }, Initial: o.initial(), Log: o.Log,
	})
	if err = a.engine.Boot(ctx); err != nil {
		return a, err
	}
	a.control = control.New(control.Options{
		Store: a.store, Engine: a.engine, Auth: a.auth, Events: a.events,
		FactKeys: a.pki.Keys, ReadOnly: o.readOnly(), Version: version, Root: rootOf(privileged(o.Helper)),
		Admits: api.Admits, Balancer: a.balancer(), AdminURLs: a.listener.URLs,
	})
	if o.File != "" {
		if _, err = a.control.ApplyFile(ctx, o.Document, o.File); err != nil {
			return a, faultProblems(err)
		}
	}
	if a.once, err = a.auth.FirstStart(ctx); err != nil {
		return a, err
	}
	a.joinNumbers()
	handler := api.New(api.Options{Control: a.control, Auth: a.auth, Metrics: a.metrics, Log: o.Log})
	if a.socket, err = api.ListenUnix(socketOf(o), handler, a.engine.Accepted, o.Log); err != nil {
		return a, err
	}
	door.open(handler)
	a.renewDaily(o.Log)
	a.collectWhenIdle()
	return a, nil
}

// renewDaily looks once a day whether a certificate that Sluis made for itself
// comes near its end, and makes it anew.
func (a *appliance) renewDaily(log *slog.Logger) {
	a.background.Go(func() {
		ticker := time.NewTicker(24 * time.Hour)
		defer ticker.Stop()
		for {
			select {
			case <-a.ending:
				return
			case <-ticker.C:
				a.engine.Exclusive(func() { a.renew(log) })
			}
		}
	})
}

// renew sets the certificates of the document in effect again, which makes those
// anew that need it.
func (a *appliance) renew(log *slog.Logger) {
	status := a.engine.Status()
	doc := status.RunningDocument
	if status.Pending != nil {
		doc = status.Pending.Document
	}
	ctx := context.Background()
	for _, p := range []apply.Subsystem{a.pkiPart(), a.adminPart()} {
		plan, problems := p.Prepare(ctx, doc)
		if problems.HasErrors() || plan.Switch == nil {
			continue
		}
		if err := plan.Switch(ctx); err != nil {
			log.Error("certificates could not be renewed", "room", p.Name(), "error", err)
		}
	}
	if err := a.proxy.CertificatesChanged(); err != nil {
		log.Error("renewed certificates could not be taken in use", "error", err)
	}
}

// initial is the document of the first start. Where the configuration comes from a
// file, it lets in from the first moment only whom the file lets in.
func (o applianceOptions) initial() *config.Document {
	first := config.Default()
	if o.File != "" {
		first.System.Admin = o.Document.System.Admin
		first.System.Admin.Certificate = ""
		first.Interfaces, first.Aliases = o.Document.Interfaces, o.Document.Aliases
	}
	return first
}

func (o applianceOptions) readOnly() text.Msg {
	if o.File == "" {
		return text.Msg{}
	}
	return text.M("this appliance runs from the file {name}", "name", o.File)
}

func socketOf(o applianceOptions) string {
	if o.Socket != "" {
		return o.Socket
	}
	return filepath.Join(o.State, "sluis.sock")
}

// stop closes the doors and ends the rooms in mirror order. What is pending stays
// pending, for the next start.
func (a *appliance) stop() {
	a.stopping.Do(func() {
		close(a.ending)
		if a.socket != nil {
			a.socket.Close()
		}
		if a.listener != nil {
			a.listener.Close()
		}
		a.stats.Close()
		if a.engine != nil {
			a.engine.Close()
		}
		a.stopBalancer()
		a.background.Wait()
		a.events.Close()
		a.following.Wait()
		if a.store != nil {
			_ = a.store.Close() // nothing is left to write
		}
	})
}

// follow writes every event into the log, and into the audit log what nobody asked
// for.
func (a *appliance) follow(log *slog.Logger, zone *clock) {
	subscription, err := a.events.Subscribe(0)
	if err != nil {
		return // closed already
	}
	a.following.Go(func() {
		for {
			record, err := subscription.Next(context.Background())
			if err != nil {
				return
			}
			log.Info(record.Event.Text().String(), "event", record.Name)
			if returned, ok := record.Event.(apply.RevisionReturned); ok {
				if err := control.AuditReturned(a.store, zone.location(), returned); err != nil {
					log.Error("an audit record could not be written", "error", err)
				}
			}
		}
	})
}

func (a *appliance) authOptions(login *loginSettings) auth.Options {
	return auth.Options{
		Load:       func() ([]byte, error) { return state(a.store, "auth.json") },
		Save:       func(data []byte) error { return a.store.PutState("auth.json", data) },
		Publish:    func(e event.Event) { a.events.Publish(e) },
		Protection: login.protection, IdleTimeout: login.idleTimeout,
	}
}

func (a *appliance) pkiOptions() pki.Options {
	return pki.Options{
		Secret:    a.store.Secret,
		LoadState: func() ([]byte, error) { return optionalState(a.store, "pki.json") },
		SaveState: func(data []byte) error { return a.store.PutState("pki.json", data) },
		SaveKey:   a.store.PutSecret,
		Publish:   func(e event.Event) { a.events.Publish(e) },
	}
}

// state reads a room's durable state; what isn't there yet is fs.ErrNotExist.
func state(s *store.Store, name string) ([]byte, error) {
	data, err := s.State(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fs.ErrNotExist
	}
	return data, err
}

// optionalState is the same, with nothing for what isn't there yet.
func optionalState(s *store.Store, name string) ([]byte, error) {
	data, err := state(s, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the first start
	}
	return data, err
}

// explained adds the store's plain sentence to its error.
func explained(err error) error {
	sentence, hint := store.Explain(err)
	if hint.IsZero() {
		return fmt.Errorf("%s", sentence)
	}
	return fmt.Errorf("%s\n%s", sentence, hint)
}

// gate lets requests wait until the appliance has booted.
type gate struct {
	opened  chan struct{}
	handler http.Handler // set before opened is closed
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open(h http.Handler) {
	g.handler = h
	close(g.opened)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-g.opened:
		g.handler.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}
