package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sluis/internal/api"
	"sluis/internal/config"
)

// session is one run of the command line: its streams and the flags that all
// commands share.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	lines          *bufio.Reader // of stdin, once a line was read; else nil

	state, socket        string
	url, token, user, ca string
	fingerprint          string
	json                 bool
}

func (s *session) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluis",
		Short: "Load balancer and firewall appliance",
		Long: `Sluis turns a Linux machine into a load-balancer and firewall appliance.

  sluis run                      start the appliance
  sluis status                   what it does
  sluis show                     the configuration, as it will be after the next apply
  sluis set system.hostname lb1  change it (nothing happens yet)
  sluis diff --impact            what an apply would change, and end
  sluis apply --confirm-within 2m
                                 do it; without "sluis confirm" in time it is taken back
  sluis history                  all that ever ran; sluis restore N brings it back

Every command speaks to the appliance on this machine. With --url and a token it
speaks to another one. "sluis help document" describes every field of the
configuration.`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&s.state, "state", s.getenv("SLUIS_STATE"), "state `directory` of the appliance on this machine (SLUIS_STATE; default /var/lib/sluis, or ~/.local/state/sluis without root)")
	flags.StringVar(&s.socket, "socket", s.getenv("SLUIS_SOCKET"), "its unix socket `path` (SLUIS_SOCKET; default sluis.sock in the state directory)")
	flags.StringVar(&s.url, "url", s.getenv("SLUIS_URL"), "speak to the appliance at this `address`, such as https://lb1.example.net:8443 (SLUIS_URL)")
	flags.StringVar(&s.user, "user", s.getenv("SLUIS_USER"), "with --url: log in as this `name`; the password comes from SLUIS_PASSWORD or is asked for (SLUIS_USER)")
	flags.StringVar(&s.ca, "ca", s.getenv("SLUIS_CA"), "with --url: `file` of the authorities (PEM) that vouch for the appliance (SLUIS_CA)")
	flags.StringVar(&s.fingerprint, "fingerprint", s.getenv("SLUIS_FINGERPRINT"), "with --url: SHA-256 of the only certificate to accept, as the appliance prints it (SLUIS_FINGERPRINT)")
	flags.BoolVar(&s.json, "json", false, "print data as JSON")
	s.token = s.getenv("SLUIS_TOKEN")

	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "change", Title: "Change the configuration:"},
		&cobra.Group{ID: "history", Title: "Look back and go back:"},
		&cobra.Group{ID: "operate", Title: "Operate:"},
		&cobra.Group{ID: "people", Title: "Administrators:"},
	)
	s.add(root, "run", s.runCommand(), s.demoCommand(), s.helperCommand(), s.statusCommand(), s.eventsCommand())
	s.add(root, "change", s.showCommand(), s.setCommand(), s.deleteCommand(), s.renameCommand(), s.moveCommand(), s.loadCommand(),
		s.checkCommand(), s.diffCommand(), s.discardCommand(), s.applyCommand(), s.confirmCommand(), s.rollbackCommand(), s.retryCommand())
	s.add(root, "history", s.historyCommand(), s.restoreCommand(), s.exportCommand(), s.pinCommand(), s.auditCommand())
	s.add(root, "operate", s.serversCommand(), s.serverCommand(), s.requestsCommand())
	s.add(root, "people", s.userCommand(), s.tokenCommand(), s.passwdCommand())
	root.AddCommand(s.versionCommand(), s.licensesCommand(), s.documentTopic())
	takeNames(root)
	return root
}

// takeNames lets a command that only holds others print its help, and refuse a
// name that none of them has, with the nearest ones.
func takeNames(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		takeNames(sub)
	}
	if cmd.Runnable() || !cmd.HasSubCommands() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		known := "; sluis help lists them"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			known = "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], known)}
	}
	cmd.SuggestionsMinimumDistance = 2
}

func (s *session) add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// stateDir is the state directory of the appliance on this machine.
func (s *session) stateDir() string {
	switch {
	case s.state != "":
		return s.state
	case os.Geteuid() == 0:
		return "/var/lib/sluis"
	case s.getenv("XDG_STATE_HOME") != "":
		return filepath.Join(s.getenv("XDG_STATE_HOME"), "sluis")
	default:
		return filepath.Join(s.getenv("HOME"), ".local/state/sluis")
	}
}

func (s *session) socketPath() string {
	if s.socket != "" {
		return s.socket
	}
	return filepath.Join(s.stateDir(), "sluis.sock")
}

// client is the way to the appliance.
func (s *session) client() (*api.Client, error) {
	if s.url == "" {
		return api.Local(s.socketPath()), nil
	}
	r := api.Remote{URL: s.url, Token: s.token, Username: s.user, Fingerprint: s.fingerprint}
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		r.Roots = x509.NewCertPool()
		if !r.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", s.ca)
		}
	}
	if r.Token == "" && r.Username == "" {
		return nil, usageError{fmt.Errorf("--url needs a token in SLUIS_TOKEN, or --user")}
	}
	if r.Token == "" {
		var err error
		if r.Password = s.getenv("SLUIS_PASSWORD"); r.Password == "" {
			if r.Password, err = s.askSecret("password of " + r.Username + ": "); err != nil {
				return nil, err
			}
		}
	}
	return api.NewClient(r)
}

// with runs a command's work on a client.
func (s *session) with(work func(cmd *cobra.Command, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := s.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return work(cmd, c, args)
	}
}

// print prints data for programs, or calls back to print it for people.
func (s *session) print(data any, people func()) error {
	if !s.json {
		people()
		return nil
	}
	out := json.NewEncoder(s.stdout)
	out.SetIndent("", "  ")
	return out.Encode(data)
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(s.stdout, format+"\n", args...) }

// printProblems prints problems, each with its place and what to do about it.
func (s *session) printProblems(w io.Writer, problems config.Problems) {
	for _, p := range problems {
		where := p.Path
		if p.Line > 0 {
			where = strings.TrimSpace(fmt.Sprintf("line %d:%d  %s", p.Line, p.Column, p.Path))
		}
		if where != "" {
			where += ": "
		}
		fmt.Fprintf(w, "%-8s %s%s\n", p.Severity, where, p.Message)
		if !p.Hint.IsZero() {
			fmt.Fprintf(w, "         → %s\n", p.Hint)
		}
	}
}

// Shared by commands that save something.
func (s *session) saved(saved api.Saved, what string) error {
	return s.print(saved, func() {
		s.say("%s", what)
		s.printProblems(s.stdout, saved.Problems)
	})
}
