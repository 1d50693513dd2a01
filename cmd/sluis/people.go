package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluis/internal/api"
	"sluis/internal/auth"
	"sluis/internal/config"
)

func (s *session) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "user", Short: "List, add and remove administrators, and set passwords",
		Long: `Administrators stand in the configuration, so adding one takes effect with an
apply. Passwords don't, unless they are declared there: they change at once.`,
	}
	cmd.AddCommand(s.userList(), s.userAdd(), s.userRemove(), s.userPassword())
	return cmd
}

func (s *session) userList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the administrators", Args: exactly(0, "no arguments"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			list, err := c.Users(cmd.Context())
			if err != nil {
				return err
			}
			return s.print(list, func() {
				s.table("NAME\tROLE\tOBJECTS\tDISABLED\tSESSIONS\tTOKENS\tFULL NAME", func(row func(string, ...any)) {
					for _, u := range list.Items {
						row("%s\t%s\t%s\t%v\t%d\t%d\t%s", u.Name, u.Role, strings.Join(u.Objects, " "), u.Disabled, u.Sessions, u.Tokens, u.FullName)
					}
				})
			})
		}),
	}
}

func (s *session) userAdd() *cobra.Command {
	var role, fullName string
	var objects []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add an administrator to the candidate",
		Example: "  sluis user add ann --role operator --object backend:ece-web && sluis apply && sluis user password ann",
		Args:    exactly(1, "a name"),
	}
	cmd.Flags().StringVar(&role, "role", string(config.RoleViewer), "administrator, operator or viewer")
	cmd.Flags().StringVar(&fullName, "full-name", "", "who that is")
	cmd.Flags().StringArrayVar(&objects, "object", nil, "limit an operator to this object, such as backend:ece-web; may be given several times")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
		if err := s.keepImplied(cmd.Context(), c, args[0]); err != nil {
			return err
		}
		doc := config.Document{Administrators: []config.Administrator{{
			Name: args[0], FullName: fullName, Role: config.Role(role), Objects: objects,
		}}}
		path := "administrators[" + args[0] + "]"
		value, problems := config.GetYAML(&doc, path)
		if problems.HasErrors() {
			return problems
		}
		saved, err := c.Set(cmd.Context(), path, value)
		if err != nil {
			return err
		}
		return s.saved(saved, "added; it takes effect with: sluis apply\nthen give a password with: sluis user password "+args[0])
	})
	return cmd
}

// keepImplied writes the account "admin" into a candidate that names no
// administrator, where it is only implied: naming another would end it.
func (s *session) keepImplied(ctx context.Context, c *api.Client, adding string) error {
	list, _, err := c.Value(ctx, "candidate", "administrators", api.FormatJSON)
	if err != nil || strings.TrimSpace(string(list)) != "[]" || adding == "admin" {
		return err
	}
	_, err = c.Set(ctx, "administrators[admin]", []byte("role: administrator"))
	return err
}

func (s *session) userRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove an administrator from the candidate", Args: exactly(1, "a name"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			saved, err := c.Delete(cmd.Context(), "administrators["+args[0]+"]")
			if err != nil {
				return err
			}
			return s.saved(saved, "removed; it takes effect with: sluis apply")
		}),
	}
}

func (s *session) userPassword() *cobra.Command {
	return &cobra.Command{
		Use: "password NAME", Short: "Give an administrator a new password, at once", Args: exactly(1, "a name"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			current := ""
			if s.url != "" && args[0] == s.user {
				var err error
				if current, err = s.askSecret("present password: "); err != nil {
					return err
				}
			}
			password, err := s.askNewPassword()
			if err != nil {
				return err
			}
			if err := c.SetPassword(cmd.Context(), args[0], current, password); err != nil {
				return err
			}
			return s.print(map[string]string{"account": args[0]}, func() { s.say("%s has a new password", args[0]) })
		}),
	}
}

// askNewPassword asks twice at a terminal, and reads one line elsewhere.
func (s *session) askNewPassword() (string, error) {
	password, err := s.askSecret("new password: ")
	if err != nil || !s.atTerminal() {
		return password, err
	}
	again, err := s.askSecret("once more: ")
	if err == nil && again != password {
		err = errors.New("the two passwords differ; nothing was changed")
	}
	return password, err
}

func (s *session) atTerminal() bool {
	f, ok := s.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// askSecret reads a secret without showing it, or a line of standard input that
// is no terminal.
func (s *session) askSecret(prompt string) (string, error) {
	if s.atTerminal() {
		fmt.Fprint(s.stderr, prompt)
		secret, err := term.ReadPassword(int(s.stdin.(*os.File).Fd()))
		fmt.Fprintln(s.stderr)
		return string(secret), err
	}
	if s.lines == nil {
		s.lines = bufio.NewReader(io.LimitReader(s.stdin, 64<<10))
	}
	line, err := s.lines.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("a password is needed: type it at a terminal, or give it as a line of standard input")
	}
	return line, nil
}

func (s *session) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "List, create and delete API tokens",
		Long: `A token stands for an administrator in programs. Its secret is printed once; send
it as "Authorization: Bearer SECRET", or put it into SLUIS_TOKEN for this command.`,
	}
	cmd.AddCommand(s.tokenList(), s.tokenCreate(), s.tokenDelete())
	return cmd
}

func (s *session) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens", Args: exactly(0, "no arguments"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			list, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return s.print(list, func() {
				s.table("ACCOUNT\tNAME\tROLE\tCREATED\tEXPIRES\tLAST USED\tFROM", func(row func(string, ...any)) {
					for _, t := range list.Items {
						row("%s\t%s\t%s\t%s\t%s\t%s\t%s", t.Account, t.Name, t.Role, when(t.Created), when(t.Expires), when(t.LastUsed), t.LastFrom)
					}
				})
			})
		}),
	}
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}

func (s *session) tokenCreate() *cobra.Command {
	var role string
	var lifetime config.Duration
	cmd := &cobra.Command{
		Use: "create ACCOUNT NAME", Short: "Create a token for an administrator",
		Example: "  sluis token create admin monitoring --role viewer --expires-in 365d",
		Args:    exactly(2, "an account and a name for the token"),
	}
	cmd.Flags().StringVar(&role, "role", "", "what the token may do at most; default: what the account may")
	cmd.Flags().TextVar(&lifetime, "expires-in", config.Duration(0), "end it after this `time`, such as 90d; 0s = never")
	cmd.RunE = s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
		var expires time.Time
		if lifetime > 0 {
			expires = time.Now().Add(lifetime.Std())
		}
		token, err := c.CreateToken(cmd.Context(), args[0], args[1], auth.Role(role), expires)
		if err != nil {
			return err
		}
		return s.print(token, func() {
			s.say("%s", token.Secret)
			fmt.Fprintln(s.stderr, "this is shown only now; keep it safe")
		})
	})
	return cmd
}

func (s *session) tokenDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ACCOUNT NAME", Short: "End a token, at once", Args: exactly(2, "an account and the token's name"),
		RunE: s.with(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if err := c.DeleteToken(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return s.print(map[string]string{"account": args[0], "name": args[1]}, func() { s.say("deleted") })
		}),
	}
}

func (s *session) passwdCommand() *cobra.Command {
	return &cobra.Command{
		Use: "passwd [NAME]", Short: "On the machine itself: give an administrator a one-time password",
		Long: `Give an administrator (admin by default) a one-time password. It is good for one
thing: logging in to set a new one. This works on the machine itself alone, also
when the appliance isn't running.`,
		Args: between(0, 1, "at most one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "admin"
			if len(args) == 1 {
				name = args[0]
			}
			if s.url != "" {
				return usageError{errors.New("a password is reset on the machine itself: run this there, without --url")}
			}
			c := api.Local(s.socketPath())
			defer c.Close()
			once, err := c.ResetPassword(cmd.Context(), name)
			var unreachable *api.Unreachable
			if errors.As(err, &unreachable) {
				once, err = s.resetOffline(cmd.Context(), name)
			}
			if err != nil {
				return err
			}
			return s.print(once, func() {
				s.say("one-time password of %s: %s", once.Account, once.Password)
				for _, note := range once.Notes {
					s.say("note: %s", note)
				}
			})
		},
	}
}
