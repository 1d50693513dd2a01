package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"sluis/internal/demo"
)

// The tour shows in a terminal what the control room shows on a page. Its figures
// are measured while it runs.

const (
	// watchFor is how long the visitors are watched at the beginning, and after each
	// step.
	watchFor = 5 * time.Second
	// liveEvery is how often a terminal's line of figures is renewed.
	liveEvery = 200 * time.Millisecond
)

// tour is one walk through the demo.
type tour struct {
	s     *session
	demo  *demoRun
	begun time.Time
	// live says that standard output is a terminal, where a line can be renewed.
	live bool
	// faults are promises that did not hold.
	faults []string
}

// tour shows the demo in the terminal and ends.
func (s *session) tour(ctx context.Context, d *demoRun) error {
	t := &tour{s: s, demo: d, begun: time.Now(), live: isTerminal(s)}
	s.say("Three web servers, Sluis in front of them, %d chats and %d requests a second,\nall over TLS. The same on a page: %s", d.options.chats, d.options.requests, d.room.URL())
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Watch", t.watch},
		{"Stop a server, as a crash would", t.stopServer},
		{fmt.Sprintf("Apply %d changes in a row", demoChanges), t.apply},
		{"Drain a server", t.drain},
		{"Lock the administrator out", t.lockOut},
	} {
		t.heading(step.title)
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				s.say("\nEnded.")
				return nil
			}
			return err
		}
	}
	return t.summary()
}

// isTerminal reports whether figures can be renewed in place.
func isTerminal(s *session) bool {
	out, ok := s.stdout.(*os.File)
	return ok && term.IsTerminal(int(out.Fd())) && s.getenv("TERM") != "dumb"
}

func (t *tour) heading(title string) {
	if t.live && t.s.getenv("NO_COLOR") == "" {
		title = "\x1b[1m" + title + "\x1b[0m"
	}
	t.s.say("\n%s", title)
}

// say prints a line of the walk.
func (t *tour) say(format string, args ...any) { t.s.say("  "+format, args...) }

// wait shows the figures until something has come about; an error says that it
// hasn't in time, or that the tour was ended.
func (t *tour) wait(ctx context.Context, what string, within time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.clear()
			return fmt.Errorf("waited in vain: %s", what)
		case <-ticker.C:
			t.show()
		}
	}
	t.clear()
	return nil
}

// pause lets people look.
func (t *tour) pause(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	return t.wait(ctx, "the time to look", d+settleWithin, func() bool { return time.Now().After(end) })
}

// show renews the line of figures.
func (t *tour) show() {
	if !t.live {
		return
	}
	f := t.demo.visitors.Figures()
	fmt.Fprintf(t.s.stdout, "\r\x1b[K  %s | %d chats | cut %d | moved %d | %.0f requests/s, %d failed",
		spread(f.Chats, demoNames()), f.Chats.Open, f.Chats.Cut, f.Chats.Moved, f.Requests.Pace.PerSecond, f.Requests.Failed)
}

func (t *tour) clear() {
	if t.live {
		fmt.Fprint(t.s.stdout, "\r\x1b[K")
	}
}

// spread says how many chats there are at each server.
func spread(f demo.ChatFigures, names []string) string {
	parts := make([]string, 0, len(names))
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %d", name, f.Servers[name].Open))
	}
	return strings.Join(parts, ", ")
}

func (t *tour) watch(ctx context.Context) error {
	wanted := t.demo.options.chats
	all := func() bool { return t.demo.visitors.Figures().Chats.Open >= wanted*9/10 }
	if err := t.wait(ctx, "the chats are open", settleWithin, all); err != nil {
		return err
	}
	if err := t.pause(ctx, watchFor); err != nil {
		return err
	}
	f := t.demo.visitors.Figures()
	t.say("%d chats: %s.", f.Chats.Open, spread(f.Chats, demoNames()))
	t.say("%.0f requests a second: half of them answered within %.1f ms, 99 %% within %.1f ms.",
		f.Requests.Pace.PerSecond, f.Requests.Pace.P50, f.Requests.Pace.P99)
	return nil
}

func (t *tour) stopServer(ctx context.Context) error {
	const name = "web2"
	before, stopped := t.demo.visitors.Figures(), time.Now()
	if err := t.demo.stage.server(ctx, name, demo.Stop); err != nil {
		return err
	}
	lost := before.Chats.Servers[name].Open
	back := func() bool { return lost == 0 || t.demo.visitors.Figures().Chats.LastWave.Began.After(stopped) }
	if err := t.wait(ctx, "the chats have moved", settleWithin, back); err != nil {
		return err
	}
	if err := t.pause(ctx, watchFor); err != nil {
		return err
	}
	wave := t.demo.visitors.Figures().Chats.LastWave
	cut, failed := t.demo.stage.since(before)
	t.say("%s dropped dead with %s on it. All of them go on at %s, the last one after %.1f s.",
		name, counted(wave.Chats, "chat"), strings.Join(slices.Sorted(maps.Keys(wave.To)), " and "), wave.Took/1e3)
	t.say("Of the other servers' chats %d were cut. Failed requests: %d.", cut, failed)
	t.hold(cut == 0, "%s of the other servers cut while one was stopped", counted(cut, "chat"))
	started := time.Now()
	if err := t.demo.stage.server(ctx, name, demo.Start); err != nil {
		return err
	}
	up := func() bool { return t.demo.stage.health(name) == demo.Up }
	if err := t.wait(ctx, name+" is in service again", settleWithin, up); err != nil {
		return err
	}
	t.say("Started again, it is in service after %.1f s.", time.Since(started).Seconds())
	return nil
}

func (t *tour) apply(ctx context.Context) error {
	st := t.demo.stage
	if err := t.perform(ctx, "changes are being applied", st.applyMany); err != nil {
		return err
	}
	a := st.state().Apply
	t.say("%d of %d changes, each seen in the next answer: %.1f ms each, the slowest %.1f ms.", a.Done, a.Of, a.Mean, a.Slowest)
	t.say("Chats cut: %d. Failed requests: %d.", a.Cut, a.Failed)
	t.hold(a.Problem == "", "%s", a.Problem)
	t.hold(a.Cut == 0 && a.Failed == 0, "%s cut and %s during the changes", counted(a.Cut, "chat"), counted(a.Failed, "failed request"))
	return nil
}

func (t *tour) drain(ctx context.Context) error {
	const name = "web3"
	before := t.demo.visitors.Figures()
	if err := t.demo.stage.server(ctx, name, demo.Drain); err != nil {
		return err
	}
	if err := t.pause(ctx, watchFor); err != nil {
		return err
	}
	cut, failed := t.demo.stage.since(before)
	had, has := before.Chats.Servers[name].Open, t.demo.visitors.Figures().Chats.Servers[name].Open
	t.say("New chats go elsewhere, those at %s may finish: of %d there are %d left after %.0f s.", name, had, has, watchFor.Seconds())
	t.say("Chats cut: %d. Failed requests: %d.", cut, failed)
	t.hold(cut == 0 && failed == 0, "%s cut and %s while a server drained", counted(cut, "chat"), counted(failed, "failed request"))
	return t.demo.stage.server(ctx, name, demo.Ready)
}

func (t *tour) lockOut(ctx context.Context) error {
	st := t.demo.stage
	t.say("The API moves to a port that nobody knows, to be confirmed within %.0f s. Nobody can.", lockOutFor.Seconds())
	if err := t.perform(ctx, "a change waits for its confirmation", st.lockOutOnce); err != nil {
		return err
	}
	l := st.state().LockOut
	if t.hold(l.Problem == "", "%s", l.Problem) {
		t.say("%s", l.Outcome)
	}
	t.hold(l.Cut == 0 && l.Failed == 0, "%s cut and %s during the lock-out", counted(l.Cut, "chat"), counted(l.Failed, "failed request"))
	return nil
}

// perform does something that the stage does in the background, and waits for it.
func (t *tour) perform(ctx context.Context, what string, do func()) error {
	done := make(chan struct{})
	err := t.demo.stage.begin(what, func() {
		defer close(done)
		do()
	})
	if err != nil {
		return err
	}
	return t.wait(ctx, what, lockOutFor+4*settleWithin, func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

// hold notes a promise that did not hold.
func (t *tour) hold(held bool, format string, args ...any) bool {
	if !held {
		t.faults = append(t.faults, fmt.Sprintf(format, args...))
		t.say("This should not be: "+format+".", args...)
	}
	return held
}

func (t *tour) summary() error {
	st := t.demo.stage.state()
	t.heading("In all")
	for _, line := range []struct {
		what  string
		value string
	}{
		{"chats cut by Sluis", fmt.Sprint(st.Chats.Cut)},
		{"chats that moved from a stopped server", fmt.Sprint(st.Chats.Moved)},
		{"requests", fmt.Sprintf("%d, of which %d failed", st.Requests.Total, st.Requests.Failed)},
		{"changes applied", fmt.Sprint(st.Apply.Total)},
		{"the tour took", fmt.Sprintf("%.0f s", time.Since(t.begun).Seconds())},
	} {
		t.say("%-40s %s", line.what, line.value)
	}
	if st.Requests.Failed > 0 {
		t.say("%-40s %s", "the last request that failed", st.Requests.LastFailure)
	}
	if t.hold(st.Chats.Cut == 0, "%s cut by Sluis, the last one: %s", counted(st.Chats.Cut, "chat"), st.Chats.LastCut); len(t.faults) > 0 {
		return errors.New("a promise did not hold: " + t.faults[0])
	}
	t.s.say("\nPlay with it yourself: %s demo", me())
	return nil
}
