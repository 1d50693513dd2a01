package page

import (
	"bytes"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"sluis/internal/control"
)

// view is what the template shows.
type view struct {
	Host, Version string
	Verdict       string   // what the page says at a glance
	Troubles      []string // what isn't well
	Aside         []string // what somebody has taken out of service
	Now           string
	Refresh       string // every so often; empty = never
	RefreshSecs   int
	Paused        bool
	Connections   string
	Limit         string
	Chats, Bound  string
	Requests      string
	In, Out       quantity
	Loops         int
	Frontends     []frontendView
	Backends      []backendView
}

// quantity is a number of bytes for people, with its exact value.
type quantity struct{ Short, Exact string }

type frontendView struct {
	control.FrontendStatus
	In, Out     quantity
	Full        bool
	Listening   string
	TLSFailures uint64
}

type backendView struct {
	control.BackendStatus
	Up       bool
	For      string
	Downtime string
	Servers  []serverView
	Sum      control.ServerStatus
	In, Out  quantity
}

type serverView struct {
	control.ServerStatus
	Icon, Class, Word string
	For, Why, Seen    string
	Check, CheckAge   string
	Bad               bool // the last check was bad
	In, Out           quantity
	Down, Share       string
}

func viewOf(st control.BalancerStatus, shown *settings, version string, renew bool) view {
	v := view{
		Host: "sluis", Version: version, Now: st.Time.Format("2006-01-02 15:04:05 MST"), Loops: st.Loops,
		Connections: grouped(uint64(st.Connections)), Limit: groupedLimit(st.Limit),
	}
	if shown != nil {
		v.Host = shown.hostname
		if every := shown.refresh.Std(); every > 0 {
			v.Refresh, v.Paused = shown.refresh.String(), !renew
			v.RefreshSecs = max(int(every/time.Second), 1)
		}
	}
	var chats int64
	var requests, in, out uint64
	for _, f := range st.Frontends {
		v.Frontends = append(v.Frontends, frontendView{
			FrontendStatus: f, In: size(f.BytesIn), Out: size(f.BytesOut), Full: f.Limit > 0 && f.Connections >= f.Limit,
			Listening: strings.Join(f.Listening, ", "), TLSFailures: f.HandshakeErrors + f.HandshakeTimeouts,
		})
		chats, requests, in, out = chats+f.WebSockets, requests+f.Requests, in+f.BytesIn, out+f.BytesOut
	}
	bound := 0
	for _, b := range st.Backends {
		v.Backends = append(v.Backends, backendOf(b, st.Time))
		bound += b.BoundSessions
	}
	v.Chats, v.Bound, v.Requests, v.In, v.Out = grouped(uint64(chats)), grouped(uint64(bound)), grouped(requests), size(in), size(out)
	v.judge(st)
	return v
}

// judge says what an administrator wants to know first.
func (v *view) judge(st control.BalancerStatus) {
	servers, well, away := 0, 0, 0
	for _, b := range st.Backends {
		if b.State != control.BackendUp && len(b.Servers) > 0 {
			v.Troubles = append(v.Troubles, "Backend "+b.Name+": no server takes clients.")
		}
		for _, s := range b.Servers {
			servers++
			switch {
			case s.NewClients:
				well++
			default:
				away++
				if byHand(s.State) {
					v.Aside = append(v.Aside, exception(s, st.Time))
				} else {
					v.Troubles = append(v.Troubles, exception(s, st.Time))
				}
			}
		}
	}
	if st.Limit > 0 && st.Connections >= st.Limit {
		v.Troubles = append(v.Troubles, "All "+grouped(uint64(st.Limit))+" connections are in use; new clients wait.")
	}
	switch {
	case len(st.Frontends) == 0 && servers == 0:
		v.Verdict = "Nothing is balanced yet"
	case servers == 0:
		v.Verdict = "No servers"
	case away == 0 && servers == 1:
		v.Verdict = "The server takes clients"
	case away == 0:
		v.Verdict = fmt.Sprintf("All %d servers take clients", servers)
	case well == 0:
		v.Verdict = "No server takes clients"
	default:
		v.Verdict = fmt.Sprintf("%d of %d servers take clients", well, servers)
	}
}

// byHand reports whether it takes an administrator to change the state.
func byHand(s control.ServerState) bool {
	switch s {
	case control.ServerDrain, control.ServerMaintenance, control.ServerDisabled, control.ServerRecovered:
		return true
	}
	return false
}

// exception is a server that gets no new clients, in a sentence.
func exception(s control.ServerStatus, now time.Time) string {
	text := s.Backend + "/" + s.Name + ": " + strings.ToLower(stateWord(s.State))
	if !s.Since.IsZero() {
		text += " for " + span(now.Sub(s.Since))
	}
	if !s.Reason.IsZero() {
		text += ", " + s.Reason.String()
	}
	if n := s.WebSockets; n > 0 {
		text += fmt.Sprintf(" (%d chats)", n)
	}
	return text + "."
}

func backendOf(b control.BackendStatus, now time.Time) backendView {
	v := backendView{BackendStatus: b, Up: b.State == control.BackendUp, Sum: sumOf(b)}
	v.In, v.Out = size(v.Sum.BytesIn), size(v.Sum.BytesOut)
	if !b.Since.IsZero() {
		v.For = span(now.Sub(b.Since))
	}
	if b.Downtime > 0 {
		v.Downtime = span(b.Downtime.Std())
	}
	for _, s := range b.Servers {
		v.Servers = append(v.Servers, serverOf(s, now))
	}
	return v
}

func serverOf(s control.ServerStatus, now time.Time) serverView {
	v := serverView{ServerStatus: s, Word: stateWord(s.State), In: size(s.BytesIn), Out: size(s.BytesOut)}
	v.Icon, v.Class = stateLook(s.State)
	if !s.Since.IsZero() {
		v.For = span(now.Sub(s.Since))
	}
	if s.State != control.ServerUp && s.State != control.ServerUnchecked && !s.Reason.IsZero() {
		v.Why = s.Reason.String()
	}
	if !s.LastSeen.IsZero() {
		v.Seen = span(now.Sub(s.LastSeen)) + " ago"
	}
	if s.Downtime > 0 {
		v.Down = span(s.Downtime.Std())
	}
	if s.Start < 100 {
		v.Share = strconv.Itoa(s.Start) + " %"
	}
	v.check(s.Check, now)
	return v
}

func (v *serverView) check(c *control.CheckStatus, now time.Time) {
	switch {
	case c == nil:
		return
	case !c.Waiting.IsZero():
		v.Check = c.Waiting.String()
	case c.Code == "":
		v.Check = "no answer yet"
	default:
		v.Check = c.Code
		if c.HTTPStatus > 0 {
			v.Check += "/" + strconv.Itoa(c.HTTPStatus)
		}
		v.Check += " in " + took(c.Duration.Std())
		v.CheckAge = span(now.Sub(c.Last)) + " ago"
		v.Bad = !c.Good
	}
}

func stateWord(s control.ServerState) string {
	switch s {
	case control.ServerUp:
		return "Up"
	case control.ServerUnchecked:
		return "Not checked"
	case control.ServerChecking:
		return "Checking"
	case control.ServerDown:
		return "Down"
	case control.ServerDrain:
		return "Draining"
	case control.ServerMaintenance:
		return "Maintenance"
	case control.ServerDisabled:
		return "Disabled"
	case control.ServerRecovered:
		return "Recovered, waits for ready"
	case control.ServerUnresolved:
		return "No address"
	}
	return "Unknown"
}

// stateLook is a state's icon, which has a shape of its own, and its colour.
func stateLook(s control.ServerState) (icon, class string) {
	switch s {
	case control.ServerUp:
		return "up", "up"
	case control.ServerChecking:
		return "check", "check"
	case control.ServerDown, control.ServerUnresolved:
		return "down", "down"
	case control.ServerDrain:
		return "drain", "drain"
	case control.ServerRecovered:
		return "pending", "drain"
	case control.ServerUnchecked:
		return "ring", "off"
	}
	return "maint", "off"
}

// span is a time as one reads it: its two largest units.
func span(d time.Duration) string {
	switch s := int64(max(d, 0) / time.Second); {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
	}
}

// took is a short time in its unit.
func took(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(float64(d.Round(100*time.Microsecond))/1e6, 'f', -1, 64) + " ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	return strconv.FormatFloat(float64(d.Round(10*time.Millisecond))/1e9, 'f', -1, 64) + " s"
}

// grouped is a number in groups of three digits, with narrow spaces between.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func groupedLimit(n int64) string {
	if n <= 0 {
		return ""
	}
	return grouped(uint64(n))
}

func size(n uint64) quantity {
	exact := grouped(n) + " bytes"
	if n < 1000 {
		return quantity{strconv.FormatUint(n, 10) + " B", exact}
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		f /= 1024
		switch {
		case f < 9.95:
			return quantity{strconv.FormatFloat(f, 'f', 1, 64) + " " + unit, exact}
		case f < 999.5:
			return quantity{strconv.FormatFloat(f, 'f', 0, 64) + " " + unit, exact}
		}
	}
	return quantity{strconv.FormatFloat(f/1024, 'f', 1, 64) + " PiB", exact}
}

// parsePage makes the page's template.
func parsePage() *template.Template {
	return template.Must(template.New("page.html").Funcs(template.FuncMap{"n": numeral}).ParseFS(files, "page.html"))
}

// numeral is a number in groups; a zero steps back, so that the eye finds the others.
func numeral(v any) template.HTML {
	var u uint64
	switch n := v.(type) {
	case int:
		u = uint64(max(n, 0))
	case int64:
		u = uint64(max(n, 0))
	case uint64:
		u = n
	}
	if u == 0 {
		return `<span class="zero">0</span>`
	}
	return template.HTML(grouped(u)) // digits and spaces
}

func (p *Page) render(v view) []byte {
	var b bytes.Buffer
	if err := p.template.Execute(&b, v); err != nil {
		panic("BUG: the page can't be drawn: " + err.Error())
	}
	return b.Bytes()
}
