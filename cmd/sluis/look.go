package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluis/internal/api"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// plain is a command without arguments whose answer is that it was done.
func (s *session) plain(name, short string, do func(*api.Client, context.Context) error, done string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: exactly(0, "no arguments"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			if err := do(c, cmd.Context()); err != nil {
				return err
			}
			return s.print(map[string]bool{"done": true}, func() { s.say("%s", done) })
		}),
	}
}

func (s *session) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say what the appliance does", Args: exactly(0, "no arguments"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return s.print(status, func() {
				s.showStatus(status)
				s.showBalancer(cmd.Context(), c)
			})
		}),
	}
}

func (s *session) showStatus(st control.Status) {
	s.say("%s: revision %d is running (sluis %s, started %s)", st.Hostname, st.Running, st.Version, st.Started.Format(time.RFC3339))
	if p := st.Pending; p != nil {
		s.say("revision %d by %s is in effect and waits to be confirmed until %s", p.Revision, p.Author, p.Deadline.Format(time.RFC3339))
	}
	if st.Applying {
		s.say("an apply is under way")
	}
	if len(st.Degraded) == 0 {
		s.say("everything that is configured and supported is in effect")
	} else {
		s.say("degraded: not everything is in effect (sluis retry tries again):")
		for _, d := range st.Degraded {
			s.say("  %s, %s: %s", d.Subsystem, d.Step, d.Message)
		}
	}
	if len(st.NotInEffect) > 0 {
		s.say("stored, not in effect:")
		for _, p := range st.NotInEffect {
			s.say("  %s", p.Path)
		}
	}
	if st.Changes > 0 {
		s.say("%s not applied yet: sluis diff", count(st.Changes, "change is", "changes are"))
	}
	if !st.ReadOnly.IsZero() {
		s.say("%s", st.ReadOnly)
	}
	for _, n := range st.Notes {
		s.say("note: %s", n)
	}
}

func (s *session) eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "events", Short: "Print what happens, as it happens", Args: exactly(0, "no arguments"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			err := c.Events(cmd.Context(), 0, func(e api.Event) error {
				if s.json {
					return json.NewEncoder(s.stdout).Encode(e)
				}
				var m text.Msg
				if err := json.Unmarshal(e.Text, &m); err != nil {
					return err
				}
				s.say("%s  %-28s %s", e.Time.Format(time.RFC3339), e.Name, m)
				return nil
			})
			if cmd.Context().Err() != nil {
				return nil // ended by the user
			}
			return err
		}),
	}
}

// table prints rows in columns.
func (s *session) table(header string, rows func(row func(format string, args ...any))) {
	w := tabwriter.NewWriter(s.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, header)
	rows(func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) })
	_ = w.Flush()
}

// pageFlags are the flags of commands that print long lists.
func pageFlags(cmd *cobra.Command, page *control.Page) {
	cmd.Flags().IntVarP(&page.Limit, "limit", "n", 20, "how many `entries`, at most 500")
	cmd.Flags().StringVarP(&page.Query, "query", "q", "", "only entries that contain this `text`")
	cmd.Flags().StringVar(&page.Cursor, "cursor", "", "go on at this `cursor`, which the list before ended with")
}

func (s *session) more(next string) {
	if next != "" {
		s.say("more with: --cursor %s", next)
	}
}

func (s *session) historyCommand() *cobra.Command {
	var page control.Page
	cmd := &cobra.Command{Use: "history", Short: "List the revisions, newest first", Args: exactly(0, "no arguments")}
	pageFlags(cmd, &page)
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
		list, err := c.Revisions(cmd.Context(), page)
		if err != nil {
			return err
		}
		return s.print(list, func() {
			s.table("REVISION\tSTATE\tTIME\tAUTHOR\tFROM\tCOMMENT", func(row func(string, ...any)) {
				for _, r := range list.Items {
					row("%d\t%s\t%s\t%s\t%s\t%s", r.Number, revisionState(r), r.Time.Format(time.RFC3339), r.Author, r.From, r.Comment)
				}
			})
			s.more(list.Next)
		})
	})
	return cmd
}

func revisionState(r control.Revision) string {
	switch {
	case r.Damaged:
		return "damaged"
	case r.State == "" && r.Pinned:
		return "pinned"
	default:
		return r.State
	}
}

func revisionNumber(arg string) (int, error) {
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 {
		return 0, usageError{fmt.Errorf("%q is no number of a revision; sluis history lists them", arg)}
	}
	return n, nil
}

func (s *session) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore REVISION [PATH]", Short: "Make a revision, or one object of it, the candidate",
		Long:    "Make a revision, or one object of it, the candidate. It takes effect with: sluis apply",
		Example: "  sluis restore 41\n  sluis restore 41 'frontends[ece]'",
		Args:    between(1, 2, "a revision's number and at most one path"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			n, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			path := ""
			if len(args) == 2 {
				path = args[1]
			}
			if err := c.Restore(cmd.Context(), n, path); err != nil {
				return err
			}
			diff, err := c.Diff(cmd.Context(), "running", "candidate")
			if err != nil {
				return err
			}
			problems, err := c.Check(cmd.Context())
			if err != nil {
				return err
			}
			return s.print(diff, func() {
				s.say("restored into the candidate; it takes effect with: sluis apply")
				s.showDiff(diff.Text)
				s.printProblems(s.stdout, problems.Errors())
			})
		}),
	}
}

func (s *session) pinCommand() *cobra.Command {
	var off bool
	cmd := &cobra.Command{
		Use: "pin REVISION", Short: "Keep a revision for good", Args: exactly(1, "a revision's number"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			n, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			if err := c.Pin(cmd.Context(), n, !off); err != nil {
				return err
			}
			return s.print(map[string]any{"revision": n, "pinned": !off}, func() { s.say("revision %d: pinned %v", n, !off) })
		}),
	}
	cmd.Flags().BoolVar(&off, "off", false, "let it go again")
	return cmd
}

func (s *session) exportCommand() *cobra.Command {
	var revision int
	cmd := &cobra.Command{
		Use: "export [FILE]", Short: "Write the running configuration into a file",
		Long: `Write the running configuration, with every value, into a file, or to standard
output. Secrets are references into this appliance's store: read back here, they
are found again.`,
		Args: between(0, 1, "at most one file"),
	}
	cmd.Flags().IntVar(&revision, "revision", 0, "that of revision `N` instead")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
		document, format := "running", api.FormatYAML
		if revision != 0 {
			document = fmt.Sprint(revision)
		}
		if s.json {
			format = api.FormatJSON
		}
		data, _, err := c.Document(cmd.Context(), document, format)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			_, err = s.stdout.Write(endLine(data))
			return err
		}
		return os.WriteFile(args[0], endLine(data), 0o600)
	})
	return cmd
}

func (s *session) auditCommand() *cobra.Command {
	var page control.Page
	cmd := &cobra.Command{Use: "audit", Short: "List who did what, newest first", Args: exactly(0, "no arguments")}
	pageFlags(cmd, &page)
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
		list, err := c.Audit(cmd.Context(), page)
		if err != nil {
			return err
		}
		return s.print(list, func() {
			s.table("TIME\tWHO\tFROM\tACTION\tOBJECT\tRESULT", func(row func(string, ...any)) {
				for _, r := range list.Items {
					result := r.Result
					if r.Reason != "" {
						result += ": " + r.Reason
					}
					row("%s\t%s\t%s\t%s\t%s\t%s", r.Time.Format(time.RFC3339), r.Who, r.From, r.Action, r.Object, result)
				}
			})
			s.more(list.Next)
		})
	})
	return cmd
}

func (s *session) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "server BACKEND SERVER", Short: "Show a running server, or act on it: drain, maintenance, ready, weight",
		Long: `Show a running server with what its health check found and when it changed, or act
on it. What you set is the operator's state: it is no part of the configuration,
and an apply leaves it alone.`,
		Example: "  sluis server shop web1\n  sluis server drain shop web1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil // says what there is
			}
			return exactly(2, "a backend and a server, or a verb before them")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return s.with(s.showServer)(cmd, args)
		},
	}
	verbs := []struct {
		verb  control.RuntimeVerb
		short string
	}{
		{control.Drain, "Send no new clients; those that are bound to it still come"},
		{control.Maintenance, "Send no clients at all"},
		{control.Ready, "Put it back to work"},
	}
	for _, v := range verbs {
		cmd.AddCommand(&cobra.Command{
			Use: string(v.verb) + " BACKEND SERVER", Short: v.short, Args: exactly(2, "a backend and a server"),
			RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
				return s.act(cmd, c, args, v.verb, 0)
			}),
		})
	}
	cmd.AddCommand(&cobra.Command{
		Use: "weight BACKEND SERVER WEIGHT", Short: "Give it another share of the work, from 0 to 256",
		Args: exactly(3, "a backend, a server and a weight"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			weight, err := strconv.Atoi(args[2])
			if err != nil {
				return usageError{fmt.Errorf("%q is no weight: give a number from 0 to 256", args[2])}
			}
			return s.act(cmd, c, args, control.Weight, weight)
		}),
	})
	return cmd
}

func (s *session) act(cmd *cobra.Command, c *api.Client, args []string, verb control.RuntimeVerb, weight int) error {
	after, err := c.Act(cmd.Context(), args[0], args[1], verb, weight)
	if err != nil {
		return err
	}
	return s.print(after, func() {
		s.say("%s/%s: %s", args[0], args[1], stateSentence(after, time.Now()))
		s.say("it has %s", load(after, time.Now()))
	})
}

func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return s.print(map[string]any{"version": version, "format": config.CurrentFormat}, func() { s.say("%s", versionLine()) })
		},
	}
}

func (s *session) licensesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "licenses", Short: "Print the licences of Sluis and of everything in it", Args: exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.stdout, licenseTexts())
			return err
		},
	}
}

// documentTopic is "sluis help document".
func (s *session) documentTopic() *cobra.Command {
	cmd := &cobra.Command{Use: "document", Short: "Describe every field of the configuration"}
	cmd.SetHelpFunc(func(*cobra.Command, []string) { _, _ = fmt.Fprintln(s.stdout, config.Manual()) })
	cmd.RunE = func(*cobra.Command, []string) error { return cmd.Help() }
	return cmd
}
