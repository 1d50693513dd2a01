package main

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// Subsystems know neither each other nor the engine; here they are joined to it.

// part makes a subsystem of what a room offers.
type part struct {
	name    string
	claims  []string
	prepare func(context.Context, *config.Document) (apply.Plan, config.Problems)
}

func (p part) Name() string     { return p.name }
func (p part) Claims() []string { return p.claims }

func (p part) Prepare(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
	return p.prepare(ctx, next)
}

func (a *appliance) pkiPart() apply.Subsystem {
	return part{"pki", a.pki.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := a.pki.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		return apply.Plan{Switch: change.Switch, Undo: change.Undo}, problems
	}}
}

func (a *appliance) adminPart() apply.Subsystem {
	return part{"admin", a.listener.Claims(), func(ctx context.Context, next *config.Document) (apply.Plan, config.Problems) {
		change, problems := a.listener.Prepare(ctx, next)
		if change == nil {
			return apply.Plan{}, problems
		}
		plan := apply.Plan{Add: change.Add, Switch: change.Switch, Remove: change.Remove, Undo: change.Undo}
		if listeners, connections := change.Impact(); listeners > 0 {
			plan.Impact = []apply.Impact{{Path: "system.admin", Listeners: listeners, Connections: connections}}
		}
		return plan, problems
	}}
}

// authClaims are the fields of an administrator that auth brings about.
func authClaims() []string {
	return []string{
		"administrators[].full_name", "administrators[].role", "administrators[].objects", "administrators[].disabled",
		"administrators[].expires", "administrators[].password",
		"system.admin.session_timeout", "system.admin.login_protection",
	}
}

func (a *appliance) authPart(login *loginSettings) apply.Subsystem {
	return part{"auth", authClaims(), func(_ context.Context, next *config.Document) (apply.Plan, config.Problems) {
		var problems config.Problems
		accounts, err := control.Accounts(next, a.store.Secret)
		if err != nil {
			f := control.AsFault(err)
			problems.Add("administrators", text.M("a declared password can't be read: {reason}", "reason", f.Message)).Do(f.Hint)
			return apply.Plan{}, problems
		}
		settings := settingsOf(next)
		before, accountsBefore := login.current.Load(), a.auth.Accounts()
		set := func(context.Context) error {
			if err := a.auth.SetAccounts(accounts); err != nil {
				return err
			}
			login.current.Store(settings)
			return nil
		}
		undo := func(context.Context) error {
			login.current.Store(before)
			return a.auth.SetAccounts(accountsBefore)
		}
		return apply.Plan{Switch: set, Undo: undo}, problems
	}}
}

// clock is the time zone that the log is written in.
type clock struct{ zone atomic.Pointer[time.Location] }

// location is that zone; UTC before the boot has read it.
func (c *clock) location() *time.Location {
	if zone := c.zone.Load(); zone != nil {
		return zone
	}
	return time.UTC
}

// clockPart puts the time zone into effect. Answers and records are written in the
// running document's by control itself.
func (c *clock) part() apply.Subsystem {
	return part{"clock", []string{"system.timezone"}, func(_ context.Context, next *config.Document) (apply.Plan, config.Problems) {
		var problems config.Problems
		zone, err := time.LoadLocation(next.System.Timezone)
		if err != nil {
			problems.Add("system.timezone", text.M("there is no time zone {name}", "name", next.System.Timezone))
			return apply.Plan{}, problems
		}
		before := c.zone.Load()
		set := func(to *time.Location) func(context.Context) error {
			return func(context.Context) error {
				c.zone.Store(to)
				return nil
			}
		}
		return apply.Plan{Switch: set(zone), Undo: set(before)}, problems
	}}
}

// loginSettings are what the running document says about logins.
type loginSettings struct{ current atomic.Pointer[loginSnapshot] }

type loginSnapshot struct {
	protection auth.Protection
	idle       time.Duration
}

func settingsOf(doc *config.Document) *loginSnapshot {
	p := doc.System.Admin.LoginProtection
	pass, _ := config.Networks(doc, p.PassList)
	return &loginSnapshot{
		protection: auth.Protection{
			Threshold: p.Threshold, BlockTime: p.BlockTime.Std(), DetectionTime: p.DetectionTime.Std(),
			PassList: append([]netip.Prefix{}, pass...),
		},
		idle: doc.System.Admin.SessionTimeout.Std(),
	}
}

func (l *loginSettings) protection() auth.Protection {
	if s := l.current.Load(); s != nil {
		return s.protection
	}
	return auth.Protection{} // the defaults, until the boot has read the document
}

func (l *loginSettings) idleTimeout() time.Duration {
	if s := l.current.Load(); s != nil {
		return s.idle
	}
	return 0
}
