// Command testreport runs "go test -json" and tells what came of it: failures
// as they happen, the slowest tests, and a last line that counts:
//
//	testreport [-C DIR]... [-skips allow|strict] -- GO TEST ARGUMENTS
//
// Each -C names a module to test with the same arguments; default is the
// current directory.
//
// It owns the verdict of the gate. It promises exit code 0 only if go test
// itself succeeded in every module, no test failed, at least one test ran and,
// with -skips strict (the default where CI=true), every skip was for a reason
// that skipAllowed accepts. It does not choose which tests run.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// options are the command line.
type options struct {
	// dirs are the modules to test, in order.
	dirs []string
	// rules say which skips count as failures.
	rules skipRules
	// testArgs go to "go test -json" as they are.
	testArgs []string
}

func main() {
	opts, err := parseOptions(os.Args[1:], os.Getenv)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "testreport:", err)
		}
		os.Exit(2)
	}
	os.Exit(run(opts, os.Stdout))
}

func parseOptions(args []string, getenv func(string) string) (options, error) {
	opts := options{rules: skipRules{
		strict: getenv("CI") == "true",
		long:   getenv("SLUIS_LONG") == "1",
	}}
	flags := flag.NewFlagSet("testreport", flag.ContinueOnError)
	flags.Func("C", "a `directory` with a module to test; may be repeated", func(dir string) error {
		opts.dirs = append(opts.dirs, dir)
		return nil
	})
	flags.Func("skips", "`allow` any skip, or be strict about the reasons", func(how string) error {
		if how != "allow" && how != "strict" {
			return errors.New("want allow or strict")
		}
		opts.rules.strict = how == "strict"
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if len(opts.dirs) == 0 {
		opts.dirs = []string{"."}
	}
	opts.testArgs = flags.Args()
	return opts, nil
}

// run tests every module and prints the report; it returns the exit code.
func run(opts options, out io.Writer) int {
	began := time.Now()
	report := newReport(opts.rules, out)
	for _, dir := range opts.dirs {
		if err := goTest(dir, opts.testArgs, report); err != nil {
			report.commandFailed(dir, err)
		}
	}
	return report.finish(time.Since(began))
}

// goTest runs go test in one module and feeds its events to the report. Its
// error is that of the go command itself.
func goTest(dir string, args []string, report *report) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := eachLine(stdout, report.line)
	// Wait always, so that the exit code is known even if reading failed.
	return errors.Join(cmd.Wait(), readErr)
}

// eachLine calls f with each line, of any length, without its newline.
func eachLine(r io.Reader, f func([]byte)) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			f(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
