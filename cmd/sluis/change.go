package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluis/internal/api"
	"sluis/internal/config"
	"sluis/internal/control"
)

func (s *session) showCommand() *cobra.Command {
	var running, all bool
	var revision int
	cmd := &cobra.Command{
		Use: "show [PATH]", Short: "Print the configuration, or the part of it at a path",
		Long: `Print the candidate: the configuration as it will be after the next apply.
Values that equal their default are left out, unless --all is given.`,
		Example: "  sluis show\n  sluis show backends[ece-web].servers[web1]\n  sluis show --running system.admin --all",
		Args:    between(0, 1, "at most one path"),
	}
	cmd.Flags().BoolVar(&running, "running", false, "the configuration that is in effect")
	cmd.Flags().IntVar(&revision, "revision", 0, "the configuration of revision `N`")
	cmd.Flags().BoolVar(&all, "all", false, "with every value, defaults too")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
		document, format := "candidate", api.FormatBrief
		switch {
		case running && revision != 0:
			return usageError{fmt.Errorf("--running and --revision exclude each other")}
		case running:
			document = "running"
		case revision != 0:
			document = fmt.Sprint(revision)
		}
		if all {
			format = api.FormatYAML
		}
		if s.json {
			format = api.FormatJSON
		}
		var data []byte
		var err error
		if len(args) == 0 {
			data, _, err = c.Document(cmd.Context(), document, format)
		} else {
			data, _, err = c.Value(cmd.Context(), document, args[0], format)
		}
		if err == nil {
			_, err = s.stdout.Write(endLine(data))
		}
		return err
	})
	return cmd
}

func endLine(data []byte) []byte {
	if n := len(data); n > 0 && data[n-1] != '\n' {
		data = append(data, '\n')
	}
	return data
}

func (s *session) setCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set PATH VALUE", Short: "Put a value at a path of the candidate",
		Long: `Put a value at a path of the candidate. The value is YAML or JSON; "-" reads it
from standard input, @FILE from a file. A name that isn't there yet is added to
its list. null empties a list and removes an optional part.`,
		Example: `  sluis set system.hostname lb1
  sluis set system.dns_servers '[192.0.2.53, 192.0.2.54]'
  sluis set 'backends[ece-web].servers[web3]' '{address: 198.51.100.23, port: 443, tls: true}'
  sluis set 'certificates[ece].key' @ece.key`,
		Args: exactly(2, "a path and a value"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			value, err := s.value(args[0], args[1])
			if err != nil {
				return err
			}
			saved, err := c.Set(cmd.Context(), args[0], value)
			if err != nil {
				return err
			}
			return s.saved(saved, "saved; it takes effect with: sluis apply")
		}),
	}
}

// value reads the argument of set: itself, standard input, or a file, whose text
// is one value. What is typed for a text is taken as it stands, whatever YAML would
// make of it, unless it is quoted.
func (s *session) value(path, arg string) ([]byte, error) {
	switch {
	case arg == "-":
		return io.ReadAll(io.LimitReader(s.stdin, config.MaxDocument+1))
	case len(arg) > 1 && arg[0] == '@':
		data, err := os.ReadFile(arg[1:])
		if err != nil {
			return nil, err
		}
		return json.Marshal(string(data))
	case isText(path) && arg != "null" && !strings.HasPrefix(arg, `"`) && !strings.HasPrefix(arg, "'"):
		return json.Marshal(arg)
	default:
		return []byte(arg), nil
	}
}

func isText(path string) bool {
	field, known := config.FieldAt(path)
	return known && (field.Type == config.FieldText || field.Type == config.FieldSecret || field.Type == config.FieldPEM)
}

func (s *session) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete PATH", Short: "Remove what stands at a path of the candidate",
		Example: "  sluis delete 'backends[ece-web].servers[web3]'",
		Args:    exactly(1, "a path"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			saved, err := c.Delete(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.saved(saved, "removed; it takes effect with: sluis apply")
		}),
	}
}

func (s *session) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename PATH NAME", Short: "Give an object another name, everywhere",
		Long:    "Give an object of the candidate another name and rewrite every reference to it.",
		Example: "  sluis rename 'backends[ece-web]' chat-web",
		Args:    exactly(2, "a path and a new name"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			saved, err := c.Rename(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return s.saved(saved, "renamed; it takes effect with: sluis apply")
		}),
	}
}

func (s *session) moveCommand() *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use: "move PATH", Short: "Move a rule before another one, or to the end",
		Example: "  sluis move 'firewall.rules[https-to-ece]' --before drop-the-rest",
		Args:    exactly(1, "a path"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			saved, err := c.Move(cmd.Context(), args[0], before)
			if err != nil {
				return err
			}
			return s.saved(saved, "moved; it takes effect with: sluis apply")
		}),
	}
	cmd.Flags().StringVar(&before, "before", "", "`name` of the element that follows; without it, to the end")
	return cmd
}

func (s *session) loadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "load FILE", Short: "Replace the candidate by a file",
		Long: `Replace the candidate by a document in YAML or JSON; "-" reads standard input.
Secrets and certificates may be given as file:PATH, relative to the document, or
env:NAME; a secret that says "(set)" stays what it is.`,
		Example: "  sluis load lb1.yaml && sluis diff && sluis apply",
		Args:    exactly(1, "a file"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			doc, problems, err := s.readDocument(args[0])
			if err != nil {
				return err
			}
			if problems.HasErrors() {
				return problems
			}
			saved, err := c.Load(cmd.Context(), config.EncodeOpen(doc))
			if err != nil {
				return err
			}
			return s.saved(saved, "loaded; it takes effect with: sluis apply")
		}),
	}
}

// readDocument reads a document that was given by hand, with what it takes from
// files and the environment.
func (s *session) readDocument(name string) (*config.Document, config.Problems, error) {
	dir := filepath.Dir(name)
	var data []byte
	var err error
	if name == "-" {
		dir = "."
		data, err = io.ReadAll(io.LimitReader(s.stdin, config.MaxDocument+1))
	} else {
		data, err = readBounded(name, config.MaxDocument+1)
	}
	if err != nil {
		return nil, nil, err
	}
	doc, problems := decodeFile(data, dir)
	return doc, problems, nil
}

// decodeFile decodes a document from a directory's file.
func decodeFile(data []byte, dir string) (*config.Document, config.Problems) {
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		return nil, problems
	}
	read := func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return readBounded(name, config.MaxSource+1)
	}
	problems = append(problems, config.ResolveSources(doc, read, os.LookupEnv)...)
	return doc, problems
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (s *session) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Say what is wrong with the candidate, or with a file",
		Long: `Say everything that is wrong with the candidate: what the document alone shows,
and what the machine shows. With a file, only what that document alone shows;
no appliance needs to run. The exit code is 1 when there is an error.`,
		Args: between(0, 1, "at most one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return s.with(s.checkCandidate)(cmd, args)
			}
			doc, problems, err := s.readDocument(args[0])
			if err != nil {
				return err
			}
			if !problems.HasErrors() {
				problems = append(problems, config.Validate(doc)...)
			}
			return s.verdict(problems)
		},
	}
}

func (s *session) checkCandidate(cmd *cobra.Command, c *api.Client, _ []string) error {
	problems, err := c.Check(cmd.Context())
	if err != nil {
		return err
	}
	return s.verdict(problems)
}

// verdict prints what a check found.
func (s *session) verdict(problems config.Problems) error {
	errors := len(problems.Errors())
	err := s.print(map[string]any{"problems": append(config.Problems{}, problems...)}, func() {
		s.printProblems(s.stdout, problems)
		switch {
		case errors > 0:
			s.say("%s", count(errors, "error", "errors"))
		case len(problems) > 0:
			s.say("no errors")
		default:
			s.say("all is well")
		}
	})
	if err == nil && errors > 0 {
		err = errNo
	}
	return err
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (s *session) diffCommand() *cobra.Command {
	var impact bool
	cmd := &cobra.Command{
		Use: "diff [FROM [TO]]", Short: "Show what differs between two configurations",
		Long: `Show what differs, object by object. FROM and TO are running, candidate, or the
number of a revision; without them, what an apply would change.`,
		Example: "  sluis diff --impact\n  sluis diff 41 running",
		Args:    between(0, 2, "at most two of: running, candidate, a revision's number"),
	}
	cmd.Flags().BoolVar(&impact, "impact", false, "also what an apply of the candidate would end: connections, WebSockets, bound sessions")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
		from, to := "running", "candidate"
		if len(args) > 0 {
			from = args[0]
		}
		if len(args) > 1 {
			to = args[1]
		}
		if impact {
			if len(args) > 0 {
				return usageError{fmt.Errorf("--impact goes with the candidate alone")}
			}
			return s.showImpact(cmd, c)
		}
		diff, err := c.Diff(cmd.Context(), from, to)
		if err != nil {
			return err
		}
		return s.print(diff, func() { s.showDiff(diff.Text) })
	})
	return cmd
}

func (s *session) showDiff(text string) {
	if text == "" {
		text = "no difference"
	}
	_, _ = s.stdout.Write(endLine([]byte(text)))
}

func (s *session) showImpact(cmd *cobra.Command, c *api.Client) error {
	diff, err := c.Diff(cmd.Context(), "running", "candidate")
	if err != nil {
		return err
	}
	impact, err := c.Impact(cmd.Context())
	if err != nil {
		return err
	}
	return s.print(impact, func() {
		s.showDiff(diff.Text)
		for _, e := range impact.Ends {
			s.say("  %s ends: %s", e.Path, ends(e.Listeners, e.Connections, e.WebSockets, e.BoundSessions))
		}
		t := impact.Total
		s.say("an apply would end: %s", ends(t.Listeners, t.Connections, t.WebSockets, t.BoundSessions))
	})
}

func ends(listeners, connections, webSockets, sessions int) string {
	return fmt.Sprintf("%s, %s, %s, %s", count(listeners, "listener", "listeners"), count(connections, "connection", "connections"),
		count(webSockets, "WebSocket", "WebSockets"), count(sessions, "bound session", "bound sessions"))
}

func (s *session) discardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "discard [PATH]", Short: "Take back changes that aren't applied: all, or those of one object",
		Args: between(0, 1, "at most one path"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			path := ""
			if len(args) == 1 {
				path = args[0]
			}
			if err := c.Discard(cmd.Context(), path); err != nil {
				return err
			}
			return s.print(map[string]string{"discarded": path}, func() { s.say("taken back") })
		}),
	}
}

func (s *session) applyCommand() *cobra.Command {
	var within config.Duration
	var comment string
	cmd := &cobra.Command{
		Use: "apply", Short: "Bring the candidate about",
		Long: `Bring the candidate about, over everything at once. If anything fails, everything
is as it was. With --confirm-within it stays only if "sluis confirm" comes in
time: whatever you did, you get back in.`,
		Example: "  sluis apply --confirm-within 2m --comment 'second chat server'",
		Args:    exactly(0, "no arguments"),
	}
	cmd.Flags().TextVar(&within, "confirm-within", config.Duration(0), "take it back after this `time` unless it is confirmed, from 10s to 1h")
	cmd.Flags().StringVar(&comment, "comment", "", "`text` that is kept with the revision")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
		applied, err := c.Apply(cmd.Context(), within.Std(), comment, "")
		if err != nil {
			return err
		}
		return s.print(applied, func() { s.showApplied(applied) })
	})
	return cmd
}

func (s *session) showApplied(a control.Applied) {
	for _, change := range a.Changes {
		s.say("  %s", change.Message())
	}
	s.printProblems(s.stdout, a.Problems)
	for _, url := range a.URLs {
		s.say("GUI and API answer now at %s", url)
	}
	if a.Deadline.IsZero() {
		s.say("revision %d is running", a.Revision)
		return
	}
	s.say("revision %d is in effect until %s\nkeep it with: sluis confirm", a.Revision, a.Deadline.Format(time.RFC3339))
}

func (s *session) confirmCommand() *cobra.Command {
	return s.plain("confirm", "Keep what was applied with --confirm-within", (*api.Client).Confirm, "confirmed")
}

func (s *session) rollbackCommand() *cobra.Command {
	return s.plain("rollback", "Take back what was applied with --confirm-within, at once", (*api.Client).Rollback,
		"taken back; the candidate still holds the changes: sluis discard drops them")
}

func (s *session) retryCommand() *cobra.Command {
	return s.plain("retry", "Try again to bring about what a degraded appliance lacks", (*api.Client).Retry, "all is in effect")
}
