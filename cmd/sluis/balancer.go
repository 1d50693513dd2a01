package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluis/internal/apply"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/event"
	"sluis/internal/health"
	"sluis/internal/proxy"
	"sluis/internal/proxy/accesslog"
	"sluis/internal/resolve"
	"sluis/internal/stats/page"
	"sluis/internal/text"
)

// The load balancer: the data plane, the health checks and the names of servers,
// which know nothing of each other, joined here.

// accessLogKept is how many full files of the access log are kept, and accessLogSize
// how large one is; together at most what the document allows (logging.max_size).
const accessLogKept = 7

// startBalancer makes the rooms of the load balancer. They do nothing before the
// first change.
func (a *appliance) startBalancer(o applianceOptions) (err error) {
	if o.AccessLog != "" {
		if err := os.MkdirAll(filepath.Dir(o.AccessLog), 0o700); err != nil {
			return fmt.Errorf("make the folder of the access log: %w", err)
		}
	}
	a.accessLog, err = accesslog.New(accesslog.Options{
		Sink: o.accessLogSink(config.Default().Logging), Report: func(sink string, err error) { a.accessLogTold(o, sink, err) },
	})
	if err != nil {
		return err
	}
	publish := func(e event.Event) { a.events.Publish(e) }
	a.proxy = proxy.New(proxy.Options{
		Certificate: a.pki.Certificate, Secret: a.store.Secret, Publish: publish, Log: a.accessLog, Loops: runtime.NumCPU(),
	})
	a.resolver, err = resolve.New(resolve.Options{
		Set: a.proxy.SetAddress, Exclusive: func(f func()) { a.engine.Exclusive(f) }, Publish: publish,
		LoadState: func() ([]byte, error) { return optionalState(a.store, "names.json") },
		SaveState: func(data []byte) error { return a.store.PutState("names.json", data) },
	})
	if err != nil {
		return err
	}
	a.page = page.New(page.Options{
		Address: o.Stats, Metrics: a.stats, Version: version, Log: o.Log,
		Read: func() control.BalancerStatus {
			st := a.balancerStatus()
			st.Time = st.Time.In(o.Clock.location())
			return st
		},
	})
	a.checker = health.New(health.Options{
		Report: func(backend, server string, up bool, reason text.Msg) {
			a.proxy.SetHealth(backend, server, up, reason.String())
		},
		Agent:   a.obeyAgent,
		Address: a.proxy.Address, Certificate: a.pki.Certificate, Publish: publish,
	})
	return nil
}

// stopBalancer ends them in mirror order.
func (a *appliance) stopBalancer() {
	if a.page != nil {
		a.page.Close()
	}
	if a.checker != nil {
		a.checker.Close()
	}
	if a.resolver != nil {
		a.resolver.Close()
	}
	if a.proxy != nil {
		a.proxy.Close()
	}
	if a.accessLog != nil {
		_ = a.accessLog.Close() // what could not be written was told already
	}
}

// obeyAgent does what a server's agent asks for. A server that went meanwhile is
// no error: its agent is asked a little longer than it is there.
func (a *appliance) obeyAgent(backend, server string, word health.AgentWord) {
	if w := word.Weight; w != nil {
		_ = a.proxy.SetWeight(backend, server, w.Value, w.Percent)
	}
	verbs := map[string]proxy.Verb{"ready": proxy.Ready, "drain": proxy.Drain, "maint": proxy.Maintenance}
	if verb, ok := verbs[word.Admin]; ok {
		_ = a.proxy.Act(backend, server, verb, 0)
	}
}

func (o applianceOptions) accessLogSink(l config.Logging) accesslog.Sink {
	if o.AccessLog == "" {
		return accesslog.Sink{}
	}
	return accesslog.Sink{
		Path: o.AccessLog, MaxBytes: max(int64(l.MaxSize)/(accessLogKept+1), 1<<20), Keep: accessLogKept, MaxAge: l.Retention.Std(),
	}
}

func (a *appliance) accessLogTold(o applianceOptions, sink string, err error) {
	if err != nil {
		o.Log.Error("the access log can't be written", "sink", sink, "error", err)
		return
	}
	o.Log.Info("the access log is written again", "sink", sink)
}

// accessLogPart puts into effect how long access logs are kept and in which zone
// their times are.
func (a *appliance) accessLogPart(o applianceOptions) apply.Subsystem {
	claims := []string{"logging.retention", "logging.max_size"}
	var before accesslog.Options
	return part{"log", claims, func(_ context.Context, next *config.Document) (apply.Plan, config.Problems) {
		zone, err := time.LoadLocation(next.System.Timezone)
		if err != nil {
			zone = time.UTC // the part named clock says it
		}
		want := accesslog.Options{Sink: o.accessLogSink(next.Logging), Location: zone}
		was := before
		return apply.Plan{
			Switch: func(context.Context) error { before = want; return a.accessLog.Configure(want) },
			Undo:   func(context.Context) error { before = was; return a.accessLog.Configure(was) },
		}, nil
	}}
}

func (a *appliance) proxyPart() apply.Subsystem {
	return part{"proxy", a.proxy.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := a.proxy.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		plan := apply.Plan{Add: change.Add, Switch: change.Switch, Remove: change.Remove, Undo: change.Undo}
		for _, e := range change.Impact() {
			plan.Impact = append(plan.Impact, apply.Impact{
				Path: e.Path, Listeners: e.Listeners, Connections: e.Connections, WebSockets: e.WebSockets, BoundSessions: e.BoundSessions,
			})
		}
		return plan, problems
	}}
}

func (a *appliance) statsPart() apply.Subsystem {
	return part{"stats", a.page.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := a.page.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		return apply.Plan{Add: change.Add, Switch: change.Switch, Remove: change.Remove, Undo: change.Undo}, problems
	}}
}

func (a *appliance) resolvePart() apply.Subsystem {
	return part{"resolve", a.resolver.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := a.resolver.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		return apply.Plan{Switch: change.Switch, Undo: change.Undo}, problems
	}}
}

func (a *appliance) healthPart() apply.Subsystem {
	return part{"health", a.checker.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := a.checker.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		return apply.Plan{Switch: change.Switch, Undo: change.Undo}, problems
	}}
}

// runtimeAction is what an operator does with a running server.
func (a *appliance) runtimeAction(_ context.Context, action control.RuntimeAction) error {
	err := a.proxy.Act(action.Backend, action.Server, proxy.Verb(action.Verb), action.Weight)
	if errors.Is(err, proxy.ErrUnknown) {
		return &control.Fault{
			Kind:    control.NotFound,
			Message: text.M("server {server} of {backend} is not in effect", "server", action.Server, "backend", action.Backend),
			Hint:    text.M("see what is in effect with: sluis servers"),
		}
	}
	return err
}

// defaultAccessLog is where the access log of an appliance with state stands.
func defaultAccessLog(state string) string { return filepath.Join(state, "log", "access.log") }

// tune sets the Go runtime for a data plane: one processor more than there are
// loops, so that the API answers while they are busy, and a collector that runs
// seldom, with a bound on memory as its safety net.
func tune() {
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if total := memoryTotal(); total > 0 {
			debug.SetMemoryLimit(total / 10 * 7)
		}
	}
}

const gcPercent = 400

// collectWhenIdle gives memory back after a burst: with a collector that runs
// seldom, what thousands of handshakes have left would stay for minutes.
func (a *appliance) collectWhenIdle() {
	a.background.Go(func() {
		ticker := time.NewTicker(idleLook)
		defer ticker.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
		var before uint64
		for {
			select {
			case <-a.ending:
				return
			case <-ticker.C:
			}
			metrics.Read(sample)
			allocated, held, live := sample[0].Value.Uint64(), sample[1].Value.Uint64(), sample[2].Value.Uint64()
			if allocated-before < idleAllocation && held > live+worthCollecting {
				debug.FreeOSMemory()
			}
			before = allocated
		}
	})
}

const (
	idleLook        = 2 * time.Second
	idleAllocation  = 4 << 20 // bytes in that time: nothing much happens
	worthCollecting = 8 << 20
)

// memoryTotal is how many bytes this process may have: the machine's memory or its
// control group's, whichever is less; 0 = unknown.
func memoryTotal() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	total := int64(info.Totalram) * int64(info.Unit)
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit < total {
			return limit
		}
	}
	return total
}
