package health

import (
	"context"
	"time"

	"sluis/internal/text"
)

const (
	// minInterval keeps a document that was not validated from asking without a pause.
	minInterval = 10 * time.Millisecond
	// spread is the time over which the first probes of checks that start together
	// are spread.
	spread = time.Second
	// addressPause is when a name that has no address yet is looked at again.
	addressPause = time.Second
)

// watch asks one server after one spec, in a goroutine of its own that starts and
// awaits each probe.
type watch struct {
	checker *Checker
	spec    *spec
	state   *state        // handed on from the watch before, once that one is done
	before  chan struct{} // closed when that one is done; nil = there was none
	done    chan struct{} // closed when this one is done
	cancel  context.CancelFunc
}

func newWatch(c *Checker, s *spec, before *watch) *watch {
	w := &watch{checker: c, spec: s, done: make(chan struct{})}
	if before != nil {
		w.state, w.before = before.state, before.done
		return w
	}
	w.state = &state{}
	w.state.adopt(s, c.options.Now())
	return w
}

// start begins the watch as the one with this index among those that start now.
func (w *watch) start(index, of int) {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go w.run(ctx, float64(index)/float64(of))
}

// stop ends the watch soon; done tells when.
func (w *watch) stop() { w.cancel() }

func (w *watch) status() Status { return w.state.read() }

// run is the watch's goroutine. share, from 0 to 1, is where its probes lie among
// those that started with it.
func (w *watch) run(ctx context.Context, share float64) {
	defer close(w.done)
	if w.before != nil {
		<-w.before
		w.tell(w.state.adopt(w.spec, w.checker.options.Now()))
	}
	check := newRhythm(w.spec.check != nil, w.spec.pace.interval, share)
	defer check.stop()
	agent := newRhythm(w.spec.agent != nil, w.agentInterval(), share)
	defer agent.stop()
	probed, answered := make(chan *Transcript), make(chan *agentAnswer)
	for running := 0; ; {
		select {
		case <-ctx.Done():
			for ; running > 0; running-- {
				select {
				case <-probed:
				case <-answered:
				}
			}
			return
		case <-check.due():
			check.begins()
			running++
			go func() { probed <- w.probe(ctx) }()
		case t := <-probed:
			running--
			if ctx.Err() == nil {
				check.ends(t == nil)
				w.judge(t)
			}
		case <-agent.due():
			agent.begins()
			running++
			go func() { answered <- w.askAgent(ctx) }()
		case a := <-answered:
			running--
			if ctx.Err() == nil {
				agent.ends(a == nil)
				w.hear(a)
			}
		}
	}
}

func (w *watch) agentInterval() time.Duration {
	if w.spec.agent == nil {
		return 0
	}
	return w.spec.agent.interval
}

// probe makes one probe, when there is a place and an address for it; nil = there
// was not.
func (w *watch) probe(ctx context.Context) *Transcript {
	c := w.checker
	to, known := c.target(w.spec, w.spec.check.port)
	if !known {
		w.state.waits(text.M("the name {name} has no address yet", "name", w.spec.address))
		return nil
	}
	if !c.enter(ctx) {
		return nil
	}
	defer c.leave()
	w.state.begins()
	return c.ask(ctx, w.spec.check, to, w.spec.pace.timeout)
}

// askAgent asks the agent once; nil = there was no address or place.
func (w *watch) askAgent(ctx context.Context) *agentAnswer {
	c := w.checker
	to, known := c.target(w.spec, w.spec.agent.port)
	if !known || !c.enter(ctx) {
		return nil
	}
	defer c.leave()
	return c.askAgent(ctx, w.spec.agent, to)
}

// enter waits for a place among the probes.
func (c *Checker) enter(ctx context.Context) bool {
	select {
	case c.places <- struct{}{}:
		return true
	default:
	}
	c.stats.waited.Add(1)
	select {
	case c.places <- struct{}{}:
		if ctx.Err() == nil {
			return true
		}
		c.leave()
	case <-ctx.Done():
	}
	return false
}

func (c *Checker) leave() { <-c.places }

// judge counts a probe and tells what follows.
func (w *watch) judge(t *Transcript) {
	if t == nil {
		return
	}
	stats := &w.checker.stats
	switch {
	case t.shortage:
		stats.unanswered.Add(1)
	case !t.Good:
		stats.bad.Add(1)
		fallthrough
	default:
		stats.probes.Add(1)
	}
	w.tell(w.state.answered(t, w.checker.options.Now()))
}

// hear takes an agent's answer and tells what follows.
func (w *watch) hear(a *agentAnswer) {
	if a == nil {
		return
	}
	w.checker.stats.agentProbes.Add(1)
	if !a.verdict.good {
		w.checker.stats.agentErrors.Add(1)
	}
	w.tell(w.state.agentAnswered(a, w.checker.options.Now()))
	if a.verdict.good {
		w.checker.options.Agent(w.spec.backend, w.spec.server, a.word)
	}
}

// tell hands news to the data plane and to the event log.
func (w *watch) tell(n news) {
	if !n.report {
		return
	}
	w.checker.options.Report(w.spec.backend, w.spec.server, n.up, text.M("{code}: {reason}", "code", string(n.code), "reason", n.reason))
	if !n.turned {
		return
	}
	if n.up {
		w.checker.stats.ups.Add(1)
	} else {
		w.checker.stats.downs.Add(1)
	}
	if w.spec.check == nil || w.spec.pace.log {
		w.checker.options.Publish(w.eventOf(n))
	}
}

// rhythm is when something is asked: from beginning to beginning one interval, the
// next at once where an answer took longer. HAProxy counts from the end of a check;
// so a server that doesn't answer is found sooner here, and the frequency is what
// the document says.
type rhythm struct {
	timer    *time.Timer // nil = never
	interval time.Duration
	share    float64
	begun    time.Time
	second   bool // the first was made
}

// newRhythm spreads the first ones over a second at most, so that a dead server is
// found soon, and the second ones over half an interval, so that they stay apart.
func newRhythm(wanted bool, interval time.Duration, share float64) *rhythm {
	r := &rhythm{interval: interval, share: share}
	if wanted {
		r.timer = time.NewTimer(time.Duration(share * float64(min(interval, spread))))
	}
	return r
}

func (r *rhythm) due() <-chan time.Time {
	if r.timer == nil {
		return nil
	}
	return r.timer.C
}

func (r *rhythm) begins() { r.begun = time.Now() }

// ends arms the timer; an idle round, in which nothing could be asked, is repeated
// soon.
func (r *rhythm) ends(idle bool) {
	pause := r.interval
	switch {
	case idle:
		pause = min(pause, addressPause)
	case !r.second && r.interval > spread:
		pause = time.Duration(float64(r.interval) * (1 + r.share) / 2)
	}
	r.second = r.second || !idle
	r.timer.Reset(max(pause-time.Since(r.begun), 0))
}

func (r *rhythm) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}
