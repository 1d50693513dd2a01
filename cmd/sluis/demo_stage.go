package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"sluis/internal/control"
	"sluis/internal/demo"
	"sluis/internal/proxy/upstream"
)

const (
	// demoChanges is how many changes one press applies.
	demoChanges = 50
	// lockOutFor is how long a lock-out waits for a confirmation that can't come.
	lockOutFor = 10 * time.Second
	// lookEvery is how often the stage looks at the servers.
	lookEvery = 100 * time.Millisecond
)

// stage does what the control room's buttons and the tour ask for, and measures
// what comes of it.
type stage struct {
	demo   *demoRun
	begun  time.Time
	site   *http.Client // asks whether a change has taken effect
	ctx    context.Context
	cancel context.CancelFunc
	// running is everything that goes on in the background.
	running sync.WaitGroup

	mu sync.Mutex
	// What follows is guarded by mu.
	busy     string // what is under way; empty = nothing is
	value    int    // of the header field that changes
	apply    demo.ApplyState
	lockOut  demo.LockOutState
	deadline time.Time
	views    map[string]demo.ServerView
	changed  map[string]time.Time // since when a view is as it is
}

// newStage begins to look at the servers. The stage lives until close, so its
// context is its own.
func newStage(d *demoRun) *stage {
	s := &stage{demo: d, begun: time.Now(), views: map[string]demo.ServerView{}, changed: map[string]time.Time{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.site = &http.Client{Timeout: settleWithin, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: d.authority.Roots(),
	}}}
	s.lockOut.URL, s.lockOut.Reachable = d.apiURL(), true
	s.look()
	s.running.Go(s.watch)
	return s
}

func (s *stage) close() {
	s.cancel()
	s.running.Wait()
	s.site.CloseIdleConnections()
}

func (s *stage) actions() demo.Actions {
	return demo.Actions{
		Server:  s.server,
		Apply:   func() error { return s.begin("changes are being applied", s.applyMany) },
		LockOut: func() error { return s.begin("a change waits for its confirmation", s.lockOutOnce) },
		Return:  s.takeBack,
	}
}

// state is everything that the control room shows.
func (s *stage) state() demo.State {
	st := demo.State{Figures: s.demo.visitors.Figures(), Story: s.demo.story.Lines()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.demo.servers {
		view := s.views[server.Name()]
		view.ServerState = server.State()
		view.Since = time.Since(s.changed[server.Name()]).Seconds()
		st.Servers = append(st.Servers, view)
	}
	st.Apply, st.LockOut = s.apply, s.lockOut
	if st.LockOut.Active {
		st.LockOut.Left = max(time.Until(s.deadline), 0).Seconds()
	}
	return st
}

// server does something to one server.
func (s *stage) server(ctx context.Context, name string, verb demo.Verb) error {
	server := s.demo.server(name)
	if server == nil {
		return demo.ErrNoServer
	}
	switch verb {
	case demo.Stop:
		server.Stop()
	case demo.Start:
		return server.Start()
	case demo.Fail:
		server.SetFailing(true)
	case demo.Recover:
		server.SetFailing(false)
	case demo.Drain:
		return s.act(ctx, name, control.Drain)
	case demo.Ready:
		return s.act(ctx, name, control.Ready)
	}
	return nil
}

// act does what an operator does with a server.
func (s *stage) act(ctx context.Context, name string, verb control.RuntimeVerb) error {
	_, err := s.demo.appliance.control.Act(ctx, demoCaller(), control.RuntimeAction{Backend: demoBackend, Server: name, Verb: verb})
	return err
}

// watch looks at the servers until the stage closes.
func (s *stage) watch() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
			s.look()
		}
	}
}

// look notes how each server is and what Sluis makes of it, and tells what has
// changed, whoever did it.
func (s *stage) look() {
	for _, server := range s.demo.servers {
		s.seeServer(server.State())
	}
	for _, b := range s.demo.appliance.proxy.Status().Backends {
		if b.Name != demoBackend {
			continue
		}
		for _, server := range b.Servers {
			s.seeHealth(server.Name, healthOf(server.State), server.State.Reason)
		}
	}
}

func (s *stage) seeServer(now demo.ServerState) {
	s.mu.Lock()
	view := s.views[now.Name]
	was := view.ServerState
	view.ServerState = now
	s.views[now.Name] = view
	s.mu.Unlock()
	tell := s.demo.story.Tell
	switch {
	case was.Name == "": // the first look
	case was.Running && !now.Running:
		tell(demo.Bad, "Stopped", fmt.Sprintf("%s dropped dead, with %s", now.Name, counted(was.Chats, "chat")))
	case !was.Running && now.Running:
		tell(demo.Moving, "Started", now.Name+" listens again; Sluis lets chats in after two good checks")
	case !was.Failing && now.Failing:
		tell(demo.Bad, "Failing", now.Name+" answers 500 to everything")
	case was.Failing && !now.Failing:
		tell(demo.Moving, "Healed", now.Name+" answers as it should again")
	}
}

// healthOf says a server's state in one word.
func healthOf(state upstream.State) demo.Health {
	switch {
	case state.Health == upstream.Down:
		return demo.Down
	case state.Admin == upstream.Maintenance || state.Disabled:
		return demo.Maintenance
	case state.Admin == upstream.Drain:
		return demo.Draining
	case state.Health == upstream.Checking:
		return demo.Checking
	default:
		return demo.Up
	}
}

func (s *stage) seeHealth(name string, health demo.Health, reason string) {
	s.mu.Lock()
	view := s.views[name]
	was := view.Health
	if was != health {
		s.changed[name] = time.Now()
	}
	view.Health, view.Reason = health, reason
	s.views[name] = view
	s.mu.Unlock()
	tell := s.demo.story.Tell
	switch {
	case was == health, was == "", was == demo.Checking && health == demo.Up:
	case health == demo.Down:
		tell(demo.Bad, "Down", fmt.Sprintf("%s is out of service: %s", name, reason))
	case health == demo.Draining:
		tell(demo.Moving, "Draining", name+" gets no new chats; those that it has may finish")
	case health == demo.Maintenance:
		tell(demo.Moving, "Maintenance", name+" gets nothing any more")
	case health == demo.Up:
		tell(demo.Good, "Up", name+" is in service")
	}
}

// health is what Sluis makes of a server.
func (s *stage) health(name string) demo.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[name].Health
}

// begin starts something that may not overlap with another.
func (s *stage) begin(what string, do func()) error {
	if err := s.othersChanges(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy != "" {
		return fmt.Errorf("%s; wait until that is over", s.busy)
	}
	s.busy = what
	s.running.Go(func() {
		defer s.end()
		do()
	})
	return nil
}

func (s *stage) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = ""
}

// othersChanges refuses to apply what somebody else has saved and not applied.
func (s *stage) othersChanges() error {
	if s.demo.appliance.engine.Status().Pending != nil {
		return errors.New("a change waits for its confirmation; wait until that is over")
	}
	view, err := s.demo.appliance.control.Candidate(demoCaller())
	if err != nil {
		return err
	}
	if len(view.Changes) > 0 {
		return errors.New("changes of yours wait to be applied, and would go along: apply or discard them first")
	}
	return nil
}

// since is what the visitors have suffered since they were counted before.
func (s *stage) since(before demo.Figures) (cut, failed int) {
	now := s.demo.visitors.Figures()
	return now.Chats.Cut - before.Chats.Cut, now.Requests.Failed - before.Requests.Failed
}

// applyMany applies changes one after another, and looks each time whether the
// next answer shows it.
func (s *stage) applyMany() {
	before := s.demo.visitors.Figures()
	s.mu.Lock()
	s.apply = demo.ApplyState{Running: true, Of: demoChanges, Total: s.apply.Total}
	s.mu.Unlock()
	var all time.Duration
	for done := 1; done <= demoChanges && s.ctx.Err() == nil; done++ {
		revision, took, err := s.applyOne()
		cut, failed := s.since(before)
		s.mu.Lock()
		a := &s.apply
		a.Cut, a.Failed = cut, failed
		if err != nil {
			a.Problem = err.Error()
		} else {
			all += took
			a.Done, a.Revision = done, revision
			a.Total++
			a.Mean = demo.Milliseconds(all / time.Duration(done))
			a.Slowest = max(a.Slowest, demo.Milliseconds(took))
		}
		s.mu.Unlock()
		if err != nil {
			break
		}
	}
	s.settle()
	cut, failed := s.since(before)
	s.mu.Lock()
	s.apply.Running, s.apply.Cut, s.apply.Failed = false, cut, failed
	a := s.apply
	s.mu.Unlock()
	if a.Problem != "" {
		s.demo.story.Tell(demo.Bad, "Failed", fmt.Sprintf("%d of %d changes were applied: %s", a.Done, a.Of, a.Problem))
		return
	}
	s.demo.story.Tell(demo.Good, "Applied", fmt.Sprintf("%d of %d changes, up to revision %d, %.1f ms each; %s cut, %s",
		a.Done, a.Of, a.Revision, a.Mean, counted(cut, "chat"), counted(failed, "failed request")))
}

// settle waits until a chat that was cut just now would have been noticed.
func (s *stage) settle() {
	select {
	case <-time.After(300 * time.Millisecond):
	case <-s.ctx.Done():
	}
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// applyOne changes the header field of all answers, and says how long the apply
// took.
func (s *stage) applyOne() (revision int, took time.Duration, err error) {
	s.mu.Lock()
	s.value++
	value := s.value
	s.mu.Unlock()
	if err := s.demo.changeTo(value); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	applied, err := s.demo.appliance.control.Apply(s.ctx, demoCaller(), control.ApplyRequest{Comment: "change " + strconv.Itoa(value) + " of the demo"})
	took = time.Since(begin)
	if err != nil {
		return 0, took, err
	}
	got, err := s.shownChange()
	if err == nil && got != strconv.Itoa(value) {
		err = fmt.Errorf("the next answer shows change %q, want %d", got, value)
	}
	return applied.Revision, took, err
}

// shownChange is the number that an answer of the site holds now.
func (s *stage) shownChange() (string, error) {
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.demo.siteURL()+"chat.css", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := s.site.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Header.Get(changeField), err
}
