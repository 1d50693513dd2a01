package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"sluis/internal/proxy/loop"
)

// The load process holds the generator and the origin in one loop, so that it is
// one thread with one epoll, as what it measures. The runner writes orders to its
// standard input and reads results from its standard output, as JSON.

// order is one window of load.
type order struct {
	Target      netip.AddrPort
	TLS         bool
	Resume      bool // keep session tickets and use them
	New         bool // a connection for each request
	Connections int  // 0 ends the order under way, which has its result then
	// AtOnce is how many connections may be without their first answer; 0 = all.
	AtOnce int
	Size   int // of the body
	PID    int // whose CPU time is counted; 0 = nobody's
	WarmUp time.Duration
	Window time.Duration
	// Hold keeps the connections open and idle after their first answer, until the
	// next order.
	Hold bool
}

// result is what came of an order.
type result struct {
	Done   uint64 // requests in the window, answered as they should be
	Failed uint64 // answered otherwise, or not at all
	Fault  string // what the first failure was
	Took   time.Duration
	CPU    time.Duration // of the PID
	Load   time.Duration // of this process
	P50    time.Duration
	P99    time.Duration
	// Handshakes and Resumed are the TLS handshakes in the window.
	Handshakes, Resumed uint64
	// Sampled requests at the origin, and those of them with X-Forwarded-For.
	Sampled, Forwarded uint64
	// Served is how many requests came to the origin since the last result.
	Served uint64
}

// loadProcess runs until its standard input ends.
func loadProcess(args []string) error {
	var plain, secure, certificate, key string
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&plain, "origin", "", "`addresses` of the origin, with commas between")
	flags.StringVar(&secure, "origin-tls", "", "`address` of the origin with TLS")
	flags.StringVar(&certificate, "certificate", "", "the origin's certificate, a PEM `file`")
	flags.StringVar(&key, "key", "", "its key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	debug.SetGCPercent(800) // handshakes make garbage, requests don't
	runtime.GOMAXPROCS(2)
	l, err := loop.New(loop.Options{})
	if err != nil {
		return err
	}
	o, err := newOrigin(l, certificate, key)
	if err != nil {
		return err
	}
	for address := range strings.SplitSeq(plain, ",") {
		if err := o.listen(address, false); err != nil {
			return err
		}
	}
	if err := o.listen(secure, true); err != nil {
		return err
	}
	results := make(chan result, 1)
	g := newGenerator(l, o, func(r result) { results <- r })
	go l.Run()
	defer l.Stop()
	go func() {
		out := json.NewEncoder(os.Stdout)
		for r := range results {
			if out.Encode(r) != nil {
				return // the runner is gone, and our standard input ends, too
			}
		}
	}()
	in := json.NewDecoder(os.Stdin)
	for {
		var next order
		if err := in.Decode(&next); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read an order: %w", err)
		}
		l.Post(func() { g.begin(next) })
	}
}
