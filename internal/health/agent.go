package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sluis/internal/config"
	"sluis/internal/text"
)

const (
	// maxAgentLine is how long an agent's answer may be.
	maxAgentLine = 4 << 10
	// maxDescription is how much of an agent's description is kept.
	maxDescription = 128
)

// AgentWord is what an agent's answer asks for. What it does not say stays as it
// is: only the agent takes its own words back.
type AgentWord struct {
	// Health is up, down, stopped or fail; empty = not said. It is part of what
	// Report tells already.
	Health string `json:"health,omitempty"`
	// Admin is ready, drain or maint; empty = not said.
	Admin string `json:"admin,omitempty"`
	// Weight is the server's weight; nil = not said.
	Weight *AgentWeight `json:"weight,omitempty"`
	// MaxConnections is how many requests the server takes at a time; nil = not said.
	MaxConnections *int `json:"max_connections,omitempty"`
	// Description says why, in the agent's own words.
	Description string `json:"description,omitempty"`
	// Unknown is the first word that means nothing.
	Unknown string `json:"unknown,omitempty"`
}

// AgentWeight is a weight, absolute (0 to 256) or in percent of the document's.
type AgentWeight struct {
	Value   int  `json:"value"`
	Percent bool `json:"percent"`
}

// agentQuestion is how an agent is asked.
type agentQuestion struct {
	port     uint16
	interval time.Duration
	send     string
}

func agentOf(a *config.AgentCheck) *agentQuestion {
	return &agentQuestion{port: a.Port, interval: max(a.Interval.Std(), minInterval), send: a.Send}
}

// agentAnswer is what came of asking an agent.
type agentAnswer struct {
	at       time.Time
	duration time.Duration
	verdict  verdict
	word     AgentWord
}

var (
	errNoLine   = errors.New("the answer has no end of line")
	errLongLine = fmt.Errorf("the answer is longer than %d bytes", maxAgentLine)
)

// askAgent asks an agent once.
func (c *Checker) askAgent(ctx context.Context, q *agentQuestion, to netip.AddrPort) *agentAnswer {
	timeout := min(q.interval, 10*time.Second)
	begin := time.Now()
	a := &agentAnswer{at: c.options.Now()}
	line, v := c.agentLine(ctx, q, to, timeout)
	a.duration, a.verdict = time.Since(begin), v
	if v.good {
		a.word = parseAgent(line)
		if a.word.Unknown != "" {
			a.verdict.reason = text.M("the agent says {word}, which means nothing", "word", a.word.Unknown)
		}
	}
	return a
}

func (c *Checker) agentLine(ctx context.Context, q *agentQuestion, to netip.AddrPort, timeout time.Duration) (string, verdict) {
	conn, err := c.dial(ctx, to, time.Now().Add(timeout))
	if err != nil {
		return "", connecting(timeout).failed(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if q.send != "" {
		if _, err := io.WriteString(conn, q.send); err != nil && isTimeout(err) {
			return "", answering(timeout).failed(err)
		}
	}
	line, err := readLine(bufio.NewReader(io.LimitReader(conn, maxAgentLine)))
	if err != nil {
		if isTimeout(err) {
			return "", answering(timeout).failed(err)
		}
		return "", bad(L7RSP, text.M("the agent's answer cannot be read: {error}", "error", err), err)
	}
	return line, good(L7OK, text.M("the agent answered"))
}

// readLine reads to the first CR or LF; an answer without one is not whole, and
// HAProxy ignores it too.
func readLine(r *bufio.Reader) (string, error) {
	var line strings.Builder
	for {
		b, err := r.ReadByte()
		switch {
		case err == io.EOF && line.Len() >= maxAgentLine:
			return "", errLongLine
		case err == io.EOF:
			return "", errNoLine
		case err != nil:
			return "", err
		case b == '\r' || b == '\n' || b == 0:
			return line.String(), nil
		}
		line.WriteByte(b)
	}
}

// parseAgent reads an answer as HAProxy does: words between blanks and commas, the
// last of a kind counts, and after # comes a description.
func parseAgent(line string) AgentWord {
	var w AgentWord
	for line != "" {
		line = strings.TrimLeft(line, " \t,")
		if rest, ok := strings.CutPrefix(line, "#"); ok {
			w.Description = describe(rest)
			break
		}
		end := strings.IndexAny(line, " \t,")
		if end < 0 {
			end = len(line)
		}
		if end > 0 && !w.take(line[:end]) && w.Unknown == "" {
			w.Unknown = describe(line[:end])
		}
		line = line[end:]
	}
	return w
}

// take reads one word; false = it means nothing.
func (w *AgentWord) take(word string) bool {
	lower := strings.ToLower(word)
	switch lower {
	case "up", "down", "stopped", "fail":
		w.Health = lower
		return true
	case "ready", "drain", "maint":
		w.Admin = lower
		return true
	}
	if n, ok := strings.CutPrefix(lower, "maxconn:"); ok {
		limit, err := strconv.ParseUint(n, 10, 31)
		if err != nil {
			return false
		}
		value := int(limit)
		w.MaxConnections = &value
		return true
	}
	number, named := strings.CutPrefix(lower, "weight:")
	number, percent := strings.CutSuffix(number, "%")
	if !named && !percent {
		return false
	}
	n, err := strconv.ParseUint(number, 10, 31)
	switch {
	case err != nil, !percent && n > 256:
		return false
	case percent:
		n = min(n, 25600) // as HAProxy
	}
	w.Weight = &AgentWeight{Value: int(n), Percent: percent}
	return true
}

// describe makes an agent's own words fit to be shown.
func describe(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(strings.TrimSpace(s), ""))
	if len(s) > maxDescription {
		s = strings.ToValidUTF8(s[:maxDescription], "")
	}
	return s
}

// reason is the sentence for what an agent says of the server's health.
func (w *AgentWord) reason() text.Msg {
	if w.Description == "" {
		return text.M("the server's agent says {word}", "word", w.Health)
	}
	return text.M("the server's agent says {word}: {description}", "word", w.Health, "description", w.Description)
}
