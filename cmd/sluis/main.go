// Command sluis turns a Linux machine into a load-balancer and firewall
// appliance. This room is the table of contents: it reads the command line,
// builds the rooms in their order, runs them, and stops them in mirror order.
// The subcommands that change something are thin: they speak to the running
// appliance through its API, over the unix socket or the network.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	_ "time/tzdata" // a container from scratch has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // nor authorities to trust

	"github.com/spf13/cobra"

	"sluis/internal/api"
	"sluis/internal/config"
)

// version is stamped by the build; "dev" without.
var version = "dev"

// Exit codes. A script can tell its own mistake from the appliance's answer.
const (
	exitOK    = 0
	exitNo    = 1 // the answer is no: problems, refused, failed
	exitUsage = 2 // the command line makes no sense
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run is the whole program but for the process around it.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}
	root := s.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	return s.explain(err)
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

// noError is a "no" that has been printed already.
var errNo = errors.New("the answer is no")

// explain prints an error with what to do about it, and chooses the exit code.
func (s *session) explain(err error) int {
	var usage usageError
	var unreachable *api.Unreachable
	var problems config.Problems
	switch {
	case errors.Is(err, errNo):
	case errors.As(err, &problems):
		s.printProblems(s.stderr, problems)
	case errors.As(err, &unreachable):
		fmt.Fprintf(s.stderr, "sluis: %v\n", err)
		fmt.Fprintln(s.stderr, s.howToReach())
	case errors.As(err, &usage):
		fmt.Fprintf(s.stderr, "sluis: %v\nsluis help says more\n", err)
		return exitUsage
	default:
		fmt.Fprintf(s.stderr, "sluis: %v\n", err)
	}
	return exitNo
}

// howToReach says what to do when no appliance answers.
func (s *session) howToReach() string {
	switch {
	case s.url != "":
		return "is it running, and does this machine's address belong to its management sources?"
	case errors.Is(s.socketError(), os.ErrPermission):
		return "the socket belongs to another user: run this as root, or use --url with a token"
	default:
		return "start it with: sluis run\nanother state directory is named with --state, another appliance with --url"
	}
}

func (s *session) socketError() error {
	_, err := os.Stat(s.socketPath())
	if err != nil {
		return err
	}
	f, err := os.Open(s.stateDir())
	if err == nil {
		_ = f.Close()
	}
	return err
}

// versionLine is what "sluis version" prints.
func versionLine() string {
	goVersion := "unknown Go"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
	}
	return fmt.Sprintf("sluis %s (document format %d, %s)", version, config.CurrentFormat, goVersion)
}

// noArgs and others turn cobra's complaints about arguments into usage errors.
func exactly(n int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s takes %s", cmd.CommandPath(), names)}
		}
		return nil
	}
}

func between(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("%s takes %s", cmd.CommandPath(), names)}
		}
		return nil
	}
}
