// Command bench measures Sluis beside HAProxy, nginx and Go's ReverseProxy: the
// same workloads in alternating rounds, each proxy alone on one core, the load and
// the origin on another. It is what "make bench" runs.
//
// It counts CPU time (the scheduler's own count, in ns) per request, not requests
// per second: on a machine that others use, too, only the former can be repeated. A
// row counts if the proxy used at least 90 % of its core and no request failed; an
// idle proxy is charged for its sleeping and waking, and looks slower than it is.
//
// It promises that the load is never helped by what it measures: generator and
// origin are a process of their own, allocate nothing per request, and hold every
// status and a sample of lengths, bodies and forwarded fields to what was asked for.
// It does not say how fast a network is: all of it happens on loopback.
//
// Reading order: main.go, runner.go (rounds and medians), workloads.go, proxies.go
// with configs.go, load.go (the process with generator.go and origin.go), pin.go.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is what the arguments ask for: the runner, or one of the processes that it
// starts.
func run(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "load":
			return loadProcess(args[1:])
		case "reverseproxy":
			return reverseProxyProcess(args[1:])
		}
	}
	s, err := readSettings(args)
	if err != nil {
		return err
	}
	if s.list {
		for _, w := range workloads() {
			fmt.Printf("%-22s %s\n", w.Name, w.About)
		}
		return nil
	}
	inside, err := enterNamespace(args)
	if !inside {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	r, err := newRunner(s)
	if err != nil {
		return err
	}
	defer r.close()
	done := make(chan error, 1)
	go func() { done <- r.run() }()
	select {
	case err := <-done:
		return err
	case <-stop:
		return errors.New("interrupted")
	}
}

// settings are what the runner is told.
type settings struct {
	sluis   string        // the binary
	chosen  []string      // names of workloads; empty = all
	proxies []string      // names of proxies; empty = all that are installed
	rounds  int           // at least 1
	warmUp  time.Duration // before each window
	window  time.Duration
	out     string // file of the results
	list    bool
}

func readSettings(args []string) (settings, error) {
	var s settings
	var chosen, proxies string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.sluis, "sluis", "bin/sluis", "the Sluis `binary`")
	flags.StringVar(&chosen, "workloads", "", "`names` of workloads, with commas or spaces between; a name's beginning followed by * names several; empty = all")
	flags.StringVar(&proxies, "proxies", "", "`names` out of sluis, haproxy, nginx, reverseproxy; empty = all that are installed")
	flags.IntVar(&s.rounds, "rounds", 5, "how often each proxy is measured; the median counts")
	flags.DurationVar(&s.warmUp, "warmup", 400*time.Millisecond, "time under load before each window")
	flags.DurationVar(&s.window, "window", time.Second, "time of one measurement")
	flags.StringVar(&s.out, "out", "bench/results/latest.json", "`file` of the results")
	flags.BoolVar(&s.list, "list", false, "list the workloads")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	words := func(text string) []string {
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	s.chosen, s.proxies = words(chosen), words(proxies)
	if s.rounds < 1 || flags.NArg() > 0 {
		return s, errors.New("-rounds is 1 or more, and there are no arguments but flags")
	}
	return s, nil
}
