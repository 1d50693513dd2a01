package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluis/internal/api"
	"sluis/internal/control"
)

// The commands that look at the load balancer.

// showBalancer is the load balancer in a line, and what isn't well in one each.
func (s *session) showBalancer(ctx context.Context, c *api.Client) {
	st, err := c.Balancer(ctx)
	if err != nil || len(st.Frontends)+len(st.Backends) == 0 {
		return // an appliance of another build, or nothing to balance
	}
	servers, well := 0, 0
	var chats int64
	var lines []string
	for _, f := range st.Frontends {
		chats += f.WebSockets
	}
	for _, b := range st.Backends {
		if b.State == control.BackendDown && len(b.Servers) > 0 {
			lines = append(lines, fmt.Sprintf("  backend %s: no server takes clients", b.Name))
		}
		for _, v := range b.Servers {
			servers++
			if v.NewClients {
				well++
				continue
			}
			lines = append(lines, fmt.Sprintf("  %s/%s: %s", b.Name, v.Name, stateSentence(v, st.Time)))
		}
	}
	s.say("balancing: %s, %d of %s take clients; %s, %s", count(len(st.Frontends), "frontend", "frontends"), well,
		count(servers, "server", "servers"), count(int(st.Connections), "connection", "connections"), count(int(chats), "WebSocket", "WebSockets"))
	for _, line := range lines {
		s.say("%s", line)
	}
}

// stateSentence is a server's state with since when and why.
func stateSentence(v control.ServerStatus, now time.Time) string {
	text := string(v.State)
	if !v.Since.IsZero() {
		text += " for " + ago(now.Sub(v.Since))
	}
	if !v.Reason.IsZero() {
		text += ", " + v.Reason.String()
	}
	return text
}

// ago is a time span as one reads it: its two largest units at most.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

func (s *session) serversCommand() *cobra.Command {
	return &cobra.Command{
		Use: "servers [BACKEND]", Short: "List the servers: state, load, what their checks say", Args: between(0, 1, "at most one backend"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			st, err := c.Balancer(cmd.Context())
			if err == nil && len(args) == 1 {
				var b control.BackendStatus
				b, err = c.Backend(cmd.Context(), args[0])
				st.Backends = []control.BackendStatus{b}
			}
			if err != nil {
				return err
			}
			servers := []control.ServerStatus{}
			for _, b := range st.Backends {
				servers = append(servers, b.Servers...)
			}
			return s.print(api.List[control.ServerStatus]{Items: servers}, func() { s.showServers(servers, st.Time) })
		}),
	}
}

func (s *session) showServers(servers []control.ServerStatus, now time.Time) {
	if len(servers) == 0 {
		s.say("no backend with servers is in effect")
		return
	}
	s.table("BACKEND\tSERVER\tADDRESS\tSTATE\tFOR\tOPEN\tCHATS\tBOUND\tQUEUE\tREQUESTS\tERRORS\tWEIGHT\tCHECK", func(row func(string, ...any)) {
		for _, v := range servers {
			name := v.Name
			if v.Backup {
				name += " (backup)"
			}
			row("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s", v.Backend, name, cmp.Or(v.Address, "-"), v.State, since(v.Since, now),
				v.Open, v.WebSockets, v.BoundSessions, v.Queued, v.Requests, v.ConnectErrors+v.AnswerErrors, v.Weight, checkResult(v.Check))
		}
	})
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(now.Sub(t))
}

// checkResult is HAProxy's form: L7OK/200 in 3ms.
func checkResult(c *control.CheckStatus) string {
	switch {
	case c == nil:
		return "-"
	case !c.Waiting.IsZero():
		return c.Waiting.String()
	case c.Code == "":
		return "no answer yet"
	}
	result := c.Code
	if c.HTTPStatus > 0 {
		result += fmt.Sprintf("/%d", c.HTTPStatus)
	}
	return result + " in " + c.Duration.Std().Round(100*time.Microsecond).String()
}

func (s *session) showServer(cmd *cobra.Command, c *api.Client, args []string) error {
	d, err := c.Server(cmd.Context(), args[0], args[1])
	if err != nil {
		return err
	}
	return s.print(d, func() { s.showDetail(d) })
}

func (s *session) showDetail(d control.ServerDetail) {
	now := time.Now()
	w := tabwriter.NewWriter(s.stdout, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("server", "%s/%s, %s", d.Backend, d.Name, cmp.Or(d.Address, "address not known yet"))
	row("state", "%s", stateSentence(d.ServerStatus, now))
	row("set to", "%s, weight %d%s", d.Admin, d.Weight, backupWord(d.Backup))
	row("now", "%s", load(d.ServerStatus, now))
	row("so far", "%s, %s, %d B in, %d B out", count(int(d.Requests), "request", "requests"),
		count(int(d.ConnectErrors+d.AnswerErrors), "error", "errors"), d.BytesIn, d.BytesOut)
	row("mean times", "connect %s, answer %s, total %s", d.MeanConnect, d.MeanAnswer, d.MeanTotal)
	row("down", "%s, out of service for %s in all", count(int(d.Downs), "time", "times"), ago(d.Downtime.Std()))
	if d.Check != nil {
		row("check", "%s; health %d of %d, %d of %d checks were bad", checkResult(d.Check), d.Check.Health, d.Check.Rise+d.Check.Fall-1, d.Check.Bad, d.Check.Probes)
	}
	_ = w.Flush()
	if len(d.Transitions) > 0 {
		s.say("\nchanges, oldest first:")
		for _, t := range d.Transitions {
			s.say("  %s  %-4s after %s: %s", t.Time.Format(time.RFC3339), upWord(t.Up), ago(t.After.Std()), t.Reason)
		}
	}
	s.showTranscript("last good check", d.LastGood)
	s.showTranscript("first bad check", d.FirstBad)
}

func backupWord(backup bool) string {
	if backup {
		return ", backup"
	}
	return ""
}

func upWord(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// load is who would notice if the server went away.
func load(v control.ServerStatus, now time.Time) string {
	text := fmt.Sprintf("%s, %s, %s, %d waiting", count(v.Open, "open request", "open requests"), count(int(v.WebSockets), "WebSocket", "WebSockets"),
		count(v.BoundSessions, "bound session", "bound sessions"), v.Queued)
	if !v.LastSeen.IsZero() {
		text += fmt.Sprintf("; a bound client was last seen %s ago", ago(now.Sub(v.LastSeen)))
	}
	return text
}

func (s *session) showTranscript(what string, t *control.Transcript) {
	if t == nil {
		return
	}
	status := t.Code
	if t.HTTPStatus > 0 {
		status += fmt.Sprintf("/%d", t.HTTPStatus)
	}
	s.say("\n%s: %s at %s, to %s, in %s: %s", what, status, t.Start.Format(time.RFC3339), t.To, t.Total, t.Reason)
	if t.Error != "" {
		s.say("  %s", printable(t.Error))
	}
	if t.TLS != nil && len(t.TLS.Certificates) > 0 {
		leaf := t.TLS.Certificates[0]
		s.say("  %s, certificate of %s until %s", t.TLS.Version, printable(leaf.Subject), leaf.NotAfter.Format(time.DateOnly))
	}
	s.quote("  > ", t.Request, t.RequestSize)
	s.quote("  < ", t.Response, t.ResponseSize)
}

// quote prints the first lines of what was sent or received.
func (s *session) quote(mark, text string, size int) {
	const most = 24
	if text == "" {
		return
	}
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	for i, line := range lines {
		if i == most {
			s.say("%s… %s in all", mark, count(size, "byte", "bytes"))
			return
		}
		s.say("%s%s", mark, printable(line))
	}
}

// printable keeps what a server or client has sent from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '·'
		}
		return r
	}, text)
}

func (s *session) requestsCommand() *cobra.Command {
	var f control.RequestFilter
	var follow bool
	cmd := &cobra.Command{
		Use: "requests", Short: "List the newest requests, and what became of them", Args: exactly(0, "no arguments"),
		Long: `List the newest requests that are kept in memory, oldest first, or follow them as
they end. Values of queries, cookies and credentials aren't kept. The access log
has all requests.`,
		Example: "  sluis requests --backend shop --status 5xx\n  sluis requests --follow --trouble",
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "print requests as they end")
	flags.StringVar(&f.Frontend, "frontend", "", "only those of the frontend of this `name`")
	flags.StringVar(&f.Backend, "backend", "", "only those of the backend of this `name`")
	flags.StringVar(&f.Server, "server", "", "only those of the server of this `name`")
	flags.StringVar(&f.Status, "status", "", "only those with this `status` (404) or of this class (5xx)")
	flags.StringVar(&f.Client, "client", "", "only those from this `address` or network")
	flags.StringVarP(&f.Text, "query", "q", "", "only those with this `text` in host, target, user agent, rule or reason")
	flags.BoolVar(&f.Trouble, "trouble", false, "only those that did not go well")
	flags.IntVarP(&f.Limit, "limit", "n", 20, "how many `requests`, at most 500")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
		if follow {
			return s.followRequests(cmd.Context(), c, f)
		}
		list, err := c.Requests(cmd.Context(), f)
		if err != nil {
			return err
		}
		return s.print(list, func() {
			if len(list.Items) == 0 {
				s.say("no request that is kept matches")
				return
			}
			s.table(requestColumns, func(row func(string, ...any)) {
				for _, r := range list.Items {
					row("%s", strings.Join(requestCells(r), "\t"))
				}
			})
		})
	})
	return cmd
}

const requestColumns = "TIME\tCLIENT\tFRONTEND\tSERVER\tSTATUS\tTOOK\tBYTES\tREQUEST"

func requestCells(r control.Request) []string {
	took := "-"
	if r.TotalTime != nil {
		took = time.Duration(*r.TotalTime * 1e6).Round(10 * time.Microsecond).String()
	}
	status := "-"
	if r.Status > 0 {
		status = fmt.Sprint(r.Status)
	}
	server := "-"
	if r.Server != "" {
		server = r.Backend + "/" + r.Server
	}
	request := cmp.Or(r.Method, "?") + " " + r.Host + r.Target
	if why := cmp.Or(r.Reason, r.Rule); why != "" {
		request += "  (" + why + ")"
	}
	return []string{
		r.Time.Format("2006-01-02 15:04:05.000"), cmp.Or(r.Client, "-"), r.Frontend, server, status, took, fmt.Sprint(r.BytesOut), printable(request),
	}
}

// followRequests prints requests as they end. Columns have fixed widths: nobody knows
// the next row.
func (s *session) followRequests(ctx context.Context, c *api.Client, f control.RequestFilter) error {
	if !s.json {
		s.say("%s", followLine(strings.Split(requestColumns, "\t")))
	}
	err := c.FollowRequests(ctx, f, func(r control.Request) error {
		if s.json {
			return json.NewEncoder(s.stdout).Encode(r)
		}
		s.say("%s", followLine(requestCells(r)))
		return nil
	}, func(n uint64) {
		fmt.Fprintf(s.stderr, "sluis: %s came too fast to be shown\n", count(int(n), "request", "requests"))
	})
	if ctx.Err() != nil {
		return nil // ended by the user
	}
	return err
}

func followLine(cells []string) string {
	return fmt.Sprintf("%-23s  %-21s  %-12s  %-16s  %-6s  %-9s  %-8s  %s",
		cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7])
}
