package health

import (
	"slices"
	"sync"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// maxTransitions is how many changes of a server's state are kept.
const maxTransitions = 32

// Status is what is known of one server.
type Status struct {
	Backend string `json:"backend"`
	Server  string `json:"server"`
	// Up is what the data plane was told last, or is believed while nothing was.
	Up bool `json:"up"`
	// Proven says that there was a verdict since the check began.
	Proven bool `json:"proven"`
	// Since is when Up last changed, or when the server was first known.
	Since time.Time `json:"since"`

	// Code, HTTPStatus, Reason, Duration and Last are of the last probe; a zero Last =
	// there was none.
	Code       Code            `json:"code,omitempty"`
	HTTPStatus int             `json:"http_status,omitempty"`
	Reason     text.Msg        `json:"reason,omitzero"`
	Duration   config.Duration `json:"duration"`
	Last       time.Time       `json:"last,omitzero"`
	// Running says that a probe is under way.
	Running bool `json:"running"`
	// Waiting says why nothing is asked; the zero Msg = it is asked.
	Waiting text.Msg `json:"waiting,omitzero"`

	// Health counts as HAProxy: below Rise the server is down, and each good answer
	// adds one; Rise+Fall-1 is full health, and each bad answer takes one.
	Health int `json:"health"`
	Rise   int `json:"rise"`
	Fall   int `json:"fall"`

	Probes uint64 `json:"probes"` // that ended with a verdict
	Bad    uint64 `json:"bad"`    // of these
	Downs  uint64 `json:"downs"`  // times it went down

	// Transitions are the last changes of Up, oldest first.
	Transitions []Transition `json:"transitions"`
	// LastGood and FirstBad are the last good probe, and the first bad one after a
	// good one (or at all); nil = there was none.
	LastGood *Transcript `json:"last_good,omitempty"`
	FirstBad *Transcript `json:"first_bad,omitempty"`

	// Agent is what the server's agent says; nil = it has none.
	Agent *AgentStatus `json:"agent,omitempty"`
}

// Transition is one change of a server between up and down.
type Transition struct {
	Time       time.Time `json:"time"`
	Up         bool      `json:"up"`
	Code       Code      `json:"code"`
	HTTPStatus int       `json:"http_status,omitempty"`
	Reason     text.Msg  `json:"reason"`
	// After is how long the state before it lasted.
	After config.Duration `json:"after"`
}

// AgentStatus is what came of the last question to an agent, and its last words.
type AgentStatus struct {
	Last     time.Time       `json:"last,omitzero"`
	Code     Code            `json:"code,omitempty"`
	Reason   text.Msg        `json:"reason,omitzero"`
	Duration config.Duration `json:"duration"`
	Word     AgentWord       `json:"word"`
	Down     bool            `json:"down"` // its word holds the server down
}

// state is what is known of one server over changes of its check. It is written by
// the goroutine of the server's watch, one after the other.
//
//	down                          up
//	0 … rise-1   |   rise … rise+fall-1
//	 good: +1, at rise full health |  bad: -1, below rise to 0
//
// A server begins at rise: up, but the first bad answer takes it out, and the
// first good one makes it fully healthy (HAProxy 2.6, check_health at the start).
type state struct {
	mu sync.Mutex
	// All below is guarded by mu.
	spec      *spec // that the state was last fitted to; nil = none yet
	health    int
	agentDown bool
	status    Status
	streak    bool // the last verdict was bad
}

// news is what there is to tell after a change of a state.
type news struct {
	report bool // to the data plane
	turned bool // up or down changed
	up     bool
	code   Code
	status int
	reason text.Msg
	after  time.Duration
}

// adopt fits the state to a spec: a question that changed starts anew but keeps up
// or down until it has a verdict, a change of pace alone keeps what was proven.
func (s *state) adopt(next *spec, now time.Time) news {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.spec
	s.spec = next
	if before == nil {
		s.status = Status{Backend: next.backend, Server: next.server, Up: true, Since: now}
		s.health = next.pace.rise
		s.refit()
		return news{}
	}
	anew := before.address != next.address || !before.check.equal(next.check)
	switch wasUp := s.health >= before.pace.rise; {
	case next.check == nil, wasUp && anew:
		s.health = next.pace.rise
	case wasUp && s.status.Proven && s.health > before.pace.rise:
		s.health = next.pace.rise + next.pace.fall - 1
	case wasUp:
		s.health = next.pace.rise
	default:
		s.health = 0
	}
	if anew {
		s.status.Proven = false
	}
	if next.agent == nil {
		s.agentDown = false
	}
	s.refit()
	if !s.up() {
		return news{report: true, code: s.status.Code, status: s.status.HTTPStatus, reason: s.lastReason()}
	}
	if !s.status.Up { // only what no longer speaks held it down
		return s.turn(now, news{code: L4OK, reason: text.M("nothing that is still asked holds the server down")})
	}
	return news{}
}

// refit writes what follows from the spec into the status.
func (s *state) refit() {
	s.status.Rise, s.status.Fall, s.status.Health = s.spec.pace.rise, s.spec.pace.fall, s.health
	if s.spec.agent == nil {
		s.status.Agent = nil
	} else if s.status.Agent == nil {
		s.status.Agent = &AgentStatus{}
	}
	s.status.Running, s.status.Waiting = false, text.Msg{}
}

func (s *state) up() bool { return s.health >= s.spec.pace.rise && !s.agentDown }

// lastReason is why the server is as it is.
func (s *state) lastReason() text.Msg {
	if n := len(s.status.Transitions); n > 0 {
		return s.status.Transitions[n-1].Reason
	}
	return s.status.Reason
}

// begins notes that a probe is under way.
func (s *state) begins() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Running, s.status.Waiting = true, text.Msg{}
}

// waits notes why no probe is made.
func (s *state) waits(why text.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Running, s.status.Waiting = false, why
}

// answered counts a probe.
func (s *state) answered(t *Transcript, now time.Time) news {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &s.status
	k.Running = false
	k.Code, k.HTTPStatus, k.Reason, k.Duration, k.Last = t.Code, t.HTTPStatus, t.Reason, t.Total, t.Start
	if t.shortage {
		return news{}
	}
	p := s.spec.pace
	first := !k.Proven
	k.Proven = true
	k.Probes++
	if t.Good {
		k.LastGood = t
		s.streak = false
		s.health = min(s.health+1, p.rise+p.fall-1)
		if s.health >= p.rise {
			s.health = p.rise + p.fall - 1
		}
	} else {
		k.Bad++
		if !s.streak {
			k.FirstBad = t
		}
		s.streak = true
		s.health = max(s.health-1, 0)
		if s.health < p.rise {
			s.health = 0
		}
	}
	k.Health = s.health
	n := news{report: first, up: s.up(), code: t.Code, status: t.HTTPStatus, reason: t.Reason}
	if n.up != k.Up {
		return s.turn(now, n)
	}
	return n
}

// agentAnswered takes what an agent says. Not reaching it is no word of it (HAProxy
// 5.2, agent-check).
func (s *state) agentAnswered(a *agentAnswer, now time.Time) news {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.Agent
	next := &AgentStatus{
		Last: a.at, Code: a.verdict.code, Reason: a.verdict.reason, Duration: micros(a.duration),
		Word: before.Word, Down: s.agentDown,
	}
	s.status.Agent = next
	if !a.verdict.good {
		return news{}
	}
	next.Word = a.word
	switch a.word.Health {
	case "":
		return news{}
	case "up":
		s.agentDown = false
	default:
		s.agentDown = true
		next.Code = L7STS
	}
	next.Down, next.Reason = s.agentDown, a.word.reason()
	n := news{report: s.spec.check == nil && !s.status.Proven, up: s.up(), code: next.Code, reason: next.Reason}
	if s.spec.check == nil {
		s.status.Proven = true
	}
	if n.up != s.status.Up {
		return s.turn(now, n)
	}
	return n
}

// turn notes that the server went up or down.
func (s *state) turn(now time.Time, n news) news {
	k := &s.status
	n.report, n.turned, n.up, n.after = true, true, !k.Up, now.Sub(k.Since).Round(time.Millisecond)
	k.Up, k.Since = n.up, now
	if !n.up {
		k.Downs++
	}
	if len(k.Transitions) == maxTransitions {
		k.Transitions = slices.Delete(k.Transitions, 0, 1)
	}
	k.Transitions = append(k.Transitions, Transition{
		Time: now, Up: n.up, Code: n.code, HTTPStatus: n.status, Reason: n.reason, After: config.Duration(n.after),
	})
	return n
}

// read copies the status.
func (s *state) read() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.status
	k.Transitions = slices.Clone(k.Transitions)
	if k.Agent != nil {
		agent := *k.Agent
		k.Agent = &agent
	}
	return k
}
