package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluis/internal/api"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/pki"
	"sluis/internal/stats/page"
	"sluis/internal/store"
)

func (s *session) runCommand() *cobra.Command {
	var file, admin, statsAt, logLevel, accessLog string
	cmd := &cobra.Command{
		Use: "run", Short: "Start the appliance",
		Long: `Start the appliance and run until SIGTERM or Ctrl-C.

What it needs to remember is in the state directory. On the first start an
administrator's one-time password is printed.

With --config it runs from that file alone, as containers do: nothing is kept, the
file is read again on SIGHUP or when it changes, and a file with errors is refused
while the last good one goes on running.`,
		Example: "  sluis run --state /var/lib/sluis\n  sluis run --config /etc/sluis.yaml --admin 0.0.0.0:8443",
		Args:    exactly(0, "no arguments"),
	}
	cmd.Flags().StringVar(&file, "config", "", "run from this `file` alone, without state")
	cmd.Flags().StringVar(&admin, "admin", "", "`address` of API and GUI (host:port), in place of the document's port on all addresses")
	cmd.Flags().StringVar(&statsAt, "stats", "", "`address` of the statistics page (host:port, on this machine itself), in place of the document's port; port 0 chooses a free one")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&accessLog, "access-log", "", "write the lines of requests to this `file`; default: log/access.log in the state directory")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		now := &clock{}
		log, err := s.logger(logLevel, now)
		if err != nil {
			return err
		}
		if admin != "" {
			if _, _, err := net.SplitHostPort(admin); err != nil {
				return usageError{fmt.Errorf("--admin needs host:port: %w", err)}
			}
		}
		if statsAt != "" && !page.Loopback(statsAt) {
			return usageError{fmt.Errorf("--stats needs an address of this machine itself with a port, such as 127.0.0.1:8404")}
		}
		o := applianceOptions{State: s.stateDir(), Socket: s.socket, Admin: admin, Stats: statsAt, Log: log, Clock: now, AccessLog: accessLog}
		tune()
		if file != "" {
			return s.runFile(cmd.Context(), o, file)
		}
		if o.AccessLog == "" {
			o.AccessLog = defaultAccessLog(o.State)
		}
		return s.runAppliance(cmd.Context(), o)
	}
	return cmd
}

// logger writes to standard error, with times in the configured zone.
func (s *session) logger(level string, now *clock) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level is debug, info, warn or error")}
	}
	inZone := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.String(a.Key, a.Value.Time().In(now.location()).Format(time.RFC3339))
		}
		return a
	}
	return slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: l, ReplaceAttr: inZone})), nil
}

// runAppliance runs from a state directory.
func (s *session) runAppliance(ctx context.Context, o applianceOptions) error {
	a, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer a.stop()
	s.welcome(a)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			o.Log.Info("SIGHUP: there is no file to read again; the configuration is changed with sluis apply")
		case <-ctx.Done():
			return nil
		}
	}
}

// welcome says where the appliance answers, and how to get in.
func (s *session) welcome(a *appliance) {
	urls := a.listener.URLs()
	for _, url := range urls {
		s.say("API: %s", url)
	}
	if len(urls) == 0 {
		s.say("the API doesn't answer over the network:")
		for _, d := range a.engine.Status().Degraded {
			s.say("  %s: %s", d.Subsystem, d.Message)
		}
	}
	if certificate := a.listener.Leaf(); certificate != nil {
		s.say("fingerprint of its certificate (SHA-256): %s", pki.Fingerprint(certificate))
	}
	s.say("on this machine: %s", a.socket.Path())
	if a.once.Password != "" {
		s.say("\nlog in as %s with the one-time password: %s\nit is good for one thing: setting a new one", a.once.Account, a.once.Password)
	}
}

// fileInterval is how often the file of --config is looked at. Polling sees what
// watching doesn't: a mounted volume whose links are swapped.
const fileInterval = time.Second

// runFile runs from a file alone.
func (s *session) runFile(ctx context.Context, o applianceOptions, name string) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	dir, err := temporaryDir()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data, err := readBounded(name, config.MaxDocument+1)
	if err != nil {
		return err
	}
	doc, problems := decodeFile(data, filepath.Dir(name))
	if problems.HasErrors() {
		return problems
	}
	o.State, o.File, o.Document = dir, name, doc
	a, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer a.stop()
	s.welcome(a)
	follow := &fileFollower{appliance: a, name: name, last: data, log: o.Log}
	ticker := time.NewTicker(fileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			follow.read(ctx, true)
		case <-ticker.C:
			follow.read(ctx, false)
		}
	}
}

// fileFollower applies a file when its content changes.
type fileFollower struct {
	appliance *appliance
	name      string
	last      []byte // content that was tried last, good or bad
	unread    bool   // the last attempt to read it failed, which was said
	log       *slog.Logger
}

// read applies the file if its content is another one, or in any case when asked
// to: what it takes from other files may have changed. A file that can't be read
// or has errors changes nothing.
func (f *fileFollower) read(ctx context.Context, asked bool) {
	data, err := readBounded(f.name, config.MaxDocument+1)
	if err != nil {
		if !f.unread || asked {
			f.log.Error("the configuration file can't be read; the last good one goes on running", "file", f.name, "error", err)
		}
		f.unread = true
		return
	}
	f.unread = false
	if !asked && bytes.Equal(data, f.last) {
		return
	}
	f.last = data
	doc, problems := decodeFile(data, filepath.Dir(f.name))
	if !problems.HasErrors() {
		var err error
		if problems, err = f.appliance.control.ApplyFile(ctx, doc, f.name); err == nil {
			f.log.Info("the configuration file has been applied", "file", f.name)
			return
		}
		problems = append(problems, faultProblems(err)...)
	}
	f.log.Error("the configuration file is refused; the last good one goes on running", "file", f.name)
	for _, p := range problems.Errors() {
		f.log.Error(p.String(), "file", f.name)
	}
}

// faultProblems are a fault as problems.
func faultProblems(err error) config.Problems {
	f := control.AsFault(err)
	if len(f.Problems) > 0 {
		return f.Problems
	}
	var problems config.Problems
	problems.Add("", f.Message).Do(f.Hint)
	return problems
}

// temporaryDir makes a directory for what lives as long as the process. A
// container from scratch has no /tmp, but memory.
func temporaryDir() (string, error) {
	var errs []error
	for _, parent := range []string{os.TempDir(), "/dev/shm", "/run", "."} {
		dir, err := os.MkdirTemp(parent, "sluis-")
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no place for temporary files; give one in TMPDIR: %w", errors.Join(errs...))
}

// resetOffline gives a one-time password while no appliance runs: it opens the
// state directory itself, which fails if one does.
func (s *session) resetOffline(ctx context.Context, name string) (api.OneTimePassword, error) {
	if _, err := os.Stat(s.stateDir()); err != nil {
		return api.OneTimePassword{}, fmt.Errorf("no appliance runs here, and there is no state: %w", err)
	}
	st, err := store.Open(s.stateDir(), store.Options{})
	if err != nil {
		return api.OneTimePassword{}, explained(err)
	}
	defer func() { _ = st.Close() }()
	number, ok := st.Running()
	if !ok {
		return api.OneTimePassword{}, errors.New("this appliance has never run; start it, and it prints a one-time password")
	}
	_, data, err := st.Revision(number)
	if err != nil {
		return api.OneTimePassword{}, explained(err)
	}
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		return api.OneTimePassword{}, problems
	}
	accounts, err := control.Accounts(doc, st.Secret)
	if err != nil {
		return api.OneTimePassword{}, err
	}
	a := &appliance{store: st}
	options := a.authOptions(&loginSettings{})
	options.Publish = nil
	credentials, err := auth.New(options)
	if err != nil {
		return api.OneTimePassword{}, err
	}
	if err := credentials.SetAccounts(accounts); err != nil {
		return api.OneTimePassword{}, err
	}
	once, err := credentials.ResetPassword(ctx, name)
	if err != nil {
		return api.OneTimePassword{}, err
	}
	answer := api.OneTimePassword{Account: once.Account, Password: once.Password}
	for _, note := range once.Notes {
		answer.Notes = append(answer.Notes, note.String())
	}
	return answer, nil
}
