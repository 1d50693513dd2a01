package health

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluis/internal/config"

	"github.com/google/go-cmp/cmp"
)

func TestParseAgent(t *testing.T) {
	number := func(n int) *int { return &n }
	f := func(line string, want AgentWord) {
		t.Helper()
		if diff := cmp.Diff(want, parseAgent(line)); diff != "" {
			t.Errorf("parseAgent(%q) (-want +got):\n%s", line, diff)
		}
	}
	f("", AgentWord{})
	f("75%", AgentWord{Weight: &AgentWeight{75, true}})
	f("up ready 100%", AgentWord{Health: "up", Admin: "ready", Weight: &AgentWeight{100, true}})
	f("DRAIN,maxconn:30\tUp", AgentWord{Health: "up", Admin: "drain", MaxConnections: number(30)})
	f("weight:12", AgentWord{Weight: &AgentWeight{12, false}})
	f("weight:12%", AgentWord{Weight: &AgentWeight{12, true}})
	f("99999%", AgentWord{Weight: &AgentWeight{25600, true}})
	f("down # disk  full\x1b[2J", AgentWord{Health: "down", Description: "disk  full[2J"})
	f("up fail stopped", AgentWord{Health: "stopped"})
	f("maint hello there", AgentWord{Admin: "maint", Unknown: "hello"})
	for _, bad := range []string{"weight:257", "12", "weight:", "%", "-5%", "1.5%", "maxconn:", "maxconn:-1", "maxconn:99999999999"} {
		f(bad, AgentWord{Unknown: bad})
	}
	long := parseAgent("fail #" + strings.Repeat("é", 200))
	if len(long.Description) > maxDescription || !strings.HasPrefix(long.Description, "éé") {
		t.Errorf("description of %d bytes", len(long.Description))
	}
}

func FuzzParseAgent(f *testing.F) {
	f.Add("up 75% maxconn:3 # all is well")
	f.Fuzz(func(t *testing.T, line string) {
		w := parseAgent(line)
		if w.Weight != nil && (w.Weight.Value < 0 || w.Weight.Value > 25600) || len(w.Description) > maxDescription || len(w.Unknown) > maxDescription {
			t.Errorf("parseAgent(%q) = %+v", line, w)
		}
	})
}

func TestAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, Options{})
		says, asked := "up 50%\n", ""
		b.serves(func(_ context.Context, to netip.AddrPort) (func(net.Conn), error) {
			if to.Port() != 9999 {
				return replies(status(200)), nil
			}
			answer := ""
			b.lock(func() { answer = says })
			if answer == "" {
				return nil, errRefused
			}
			return func(c net.Conn) {
				buf := make([]byte, 6)
				io.ReadFull(c, buf)
				b.lock(func() { asked = string(buf) })
				io.WriteString(c, answer)
			}, nil
		})
		doc := web("192.0.2.1:80")
		doc.Backends[0].AgentCheck = &config.AgentCheck{Port: 9999, Interval: config.Duration(2 * time.Second), Send: "hello\n"}
		b.apply(doc)
		next := func(answer string) Status {
			b.lock(func() { says = answer })
			time.Sleep(2 * time.Second)
			synctest.Wait()
			return b.must("a")
		}
		s := next("up 50%\n")
		if asked != "hello\n" || !s.Up || s.Agent.Word.Weight.Value != 50 || len(b.words) == 0 {
			t.Errorf("asked with %q, status %+v", asked, s.Agent)
		}
		if s = next("down # disk full\r\nmore"); s.Up || !s.Agent.Down || s.Health != 4 {
			t.Errorf("the agent says down: %+v", s)
		}
		if s = next(""); s.Up || s.Agent.Code != L4CON {
			t.Errorf("an agent that isn't reached takes nothing back: %+v", s)
		}
		if s = next("75%\n"); s.Up {
			t.Errorf("a weight alone takes nothing back: %+v", s)
		}
		if s = next("up"); s.Up || s.Agent.Code != L7RSP {
			t.Errorf("a line without end is ignored: %+v", s)
		}
		if s = next(strings.Repeat("up ", 3000) + "\n"); s.Up || s.Agent.Code != L7RSP {
			t.Errorf("a line without bound is ignored: %+v", s)
		}
		if s = next("up\n"); !s.Up {
			t.Errorf("the agent says up: %+v", s)
		}
		want := []string{"down L7STS: the server's agent says down: disk full", "up L7OK: the server's agent says up"}
		got := b.takeReports()
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "web/a ")
		}
		if diff := cmp.Diff(want, got[1:]); diff != "" { // the first is the check's first verdict
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		if st := b.Stats(); st.AgentErrors != 3 {
			t.Errorf("%d agent errors, want 3", st.AgentErrors)
		}
		// Without its agent the server isn't held down by it.
		next("down\n")
		without := clone(doc)
		without.Backends[0].AgentCheck = nil
		b.apply(without)
		synctest.Wait()
		if s := b.must("a"); !s.Up || s.Agent != nil {
			t.Errorf("status without an agent: %+v", s)
		}
		b.Close()
	})
}
