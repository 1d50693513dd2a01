package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// slowestShown is how many of the slowest tests the report names.
const slowestShown = 10

// event is one line of "go test -json" (see go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string // empty: the event speaks of the package
	Output     string
	Elapsed    float64 // seconds
}

// report gathers the events of one or more runs of go test.
type report struct {
	rules skipRules
	out   io.Writer

	// open holds the tests that have begun and not ended.
	open map[testID]*test
	// parents are the tests that have subtests: these count, not the parent.
	parents map[testID]bool
	// blamed are the parents of tests that failed: their own failure adds nothing.
	blamed map[testID]bool
	// loose is output that belongs to no test, by package.
	loose map[string]*bytes.Buffer
	// perPackage counts by package, until the package ends.
	perPackage map[string]*counts
	// withFailures are the packages in which something has already been counted as failed.
	withFailures map[string]bool

	total    counts
	failures []string
	slow     []timed
}

// testID names a test: Name is "TestA/sub" as go test says it.
type testID struct{ Package, Name string }

func (id testID) String() string { return id.Package + " " + id.Name }

// ancestors are the tests that this one is a subtest of, nearest first.
func (id testID) ancestors() []testID {
	var out []testID
	for name := id.Name; ; {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return out
		}
		name = name[:i]
		out = append(out, testID{id.Package, name})
	}
}

type test struct{ output bytes.Buffer }

type counts struct{ passed, failed, skipped int }

// timed is a test without subtests and how long it took.
type timed struct {
	id   testID
	took time.Duration
}

func newReport(rules skipRules, out io.Writer) *report {
	return &report{
		rules: rules, out: out,
		open:         map[testID]*test{},
		parents:      map[testID]bool{},
		blamed:       map[testID]bool{},
		loose:        map[string]*bytes.Buffer{},
		perPackage:   map[string]*counts{},
		withFailures: map[string]bool{},
	}
}

// line takes one line of output; what is not an event is passed on as it is.
func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		r.out.Write(line)
		return
	}
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Test != "":
		r.testEvent(testID{e.Package, e.Test}, e)
	case e.Package != "":
		r.packageEvent(e)
	}
}

func (r *report) testEvent(id testID, e event) {
	switch e.Action {
	case "run":
		r.begun(id)
	case "output":
		r.begun(id).output.WriteString(e.Output)
	case "pass", "fail", "skip":
		r.ended(id, e)
	}
}

func (r *report) begun(id testID) *test {
	t := r.open[id]
	if t == nil {
		t = &test{}
		r.open[id] = t
		for _, parent := range id.ancestors() {
			r.parents[parent] = true
		}
	}
	return t
}

func (r *report) ended(id testID, e event) {
	t := r.begun(id)
	delete(r.open, id)
	if !r.parents[id] { // a parent's time is that of its subtests, or nothing where they run in parallel
		r.slow = append(r.slow, timed{id, time.Duration(e.Elapsed * float64(time.Second))})
	}
	switch e.Action {
	case "pass":
		if !r.parents[id] {
			r.count(id.Package).passed++
		}
	case "skip":
		r.skipped(id, t)
	case "fail":
		// A parent prints what it said itself, but counts only if no subtest did.
		r.failed(id, t.output.String(), !r.blamed[id])
	}
}

func (r *report) skipped(id testID, t *test) {
	reason := skipReason(t.output.String())
	if why := r.rules.refuse(reason); why != "" {
		r.failed(id, fmt.Sprintf("    skipped: %s\n    %s\n", reason, why), true)
		return
	}
	r.count(id.Package).skipped++
}

func (r *report) failed(id testID, output string, counted bool) {
	fmt.Fprintf(r.out, "--- FAIL: %s\n%s", id, output)
	r.withFailures[id.Package] = true
	for _, parent := range id.ancestors() {
		r.blamed[parent] = true
	}
	if counted {
		r.count(id.Package).failed++
		r.failures = append(r.failures, id.String())
	}
}

func (r *report) packageEvent(e event) {
	switch e.Action {
	case "output":
		r.looseOutput(e.Package).WriteString(e.Output)
	case "pass", "skip":
		r.packageEnded(e, "ok  ")
	case "fail":
		r.packageFailed(e)
		r.packageEnded(e, "FAIL")
	}
}

// packageFailed accounts for a package that failed as a whole: one that did not
// build, panicked, ran into the timeout, or whose TestMain exited.
func (r *report) packageFailed(e event) {
	for id, t := range r.open {
		if id.Package == e.Package && !r.parents[id] {
			r.failed(id, t.output.String()+"    did not end\n", true)
		}
	}
	if r.withFailures[e.Package] {
		return
	}
	fmt.Fprintf(r.out, "--- FAIL: %s\n%s", e.Package, r.looseOutput(e.Package))
	r.count(e.Package).failed++
	r.withFailures[e.Package] = true
	r.failures = append(r.failures, e.Package+" (the package as a whole)")
}

func (r *report) packageEnded(e event, verdict string) {
	c := *r.count(e.Package)
	r.total.passed += c.passed
	r.total.failed += c.failed
	r.total.skipped += c.skipped
	if c != (counts{}) {
		if c.failed > 0 {
			verdict = "FAIL" // a refused skip fails what go test calls a success
		}
		fmt.Fprintf(r.out, "%s %-40s %7.2fs  %s\n", verdict, e.Package, e.Elapsed, c)
	}
	for id := range r.open {
		if id.Package == e.Package {
			delete(r.open, id)
		}
	}
	delete(r.perPackage, e.Package)
	delete(r.loose, e.Package)
}

// commandFailed notes that the go command itself failed. Where a test or package
// has been counted that is the same news; else it is a failure of its own.
func (r *report) commandFailed(dir string, err error) {
	if r.total.failed > 0 {
		return
	}
	fmt.Fprintf(r.out, "--- FAIL: go test in %s: %v\n", dir, err)
	r.total.failed++
	r.failures = append(r.failures, fmt.Sprintf("go test in %s: %v", dir, err))
}

// finish prints the summary and returns the exit code.
func (r *report) finish(took time.Duration) int {
	for pkg, c := range r.perPackage { // began and never ended: go test was killed
		r.total.passed += c.passed
		r.total.skipped += c.skipped
		r.total.failed += c.failed + 1
		r.failures = append(r.failures, pkg+" (did not end)")
	}
	if r.total == (counts{}) {
		r.total.failed++
		r.failures = append(r.failures, "no test ran")
	}
	r.printSlowest()
	if len(r.failures) > 0 {
		fmt.Fprintf(r.out, "\nFailed:\n  %s\n", strings.Join(r.failures, "\n  "))
	}
	fmt.Fprintf(r.out, "\nTests took %s.\n%s\n", took.Round(100*time.Millisecond), r.total)
	if r.total.failed > 0 {
		return 1
	}
	return 0
}

func (r *report) printSlowest() {
	slices.SortFunc(r.slow, func(a, b timed) int { return cmp.Compare(b.took, a.took) })
	if len(r.slow) == 0 {
		return
	}
	fmt.Fprintln(r.out, "\nSlowest tests:")
	for _, t := range r.slow[:min(slowestShown, len(r.slow))] {
		fmt.Fprintf(r.out, "  %7.2fs  %s\n", t.took.Seconds(), t.id)
	}
}

func (r *report) count(pkg string) *counts {
	if r.perPackage[pkg] == nil {
		r.perPackage[pkg] = &counts{}
	}
	return r.perPackage[pkg]
}

func (r *report) looseOutput(pkg string) *bytes.Buffer {
	if r.loose[pkg] == nil {
		r.loose[pkg] = &bytes.Buffer{}
	}
	return r.loose[pkg]
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// skipRules say which skipped tests count as failures.
type skipRules struct {
	// strict refuses skips; it is on where CI=true, so that a machine without
	// root or a tool cannot make the gate green by not testing.
	strict bool
	// long tells that SLUIS_LONG=1 is set: a long test has no reason to skip.
	long bool
}

// refuse says why a skip for this reason is a failure; empty means that it is
// fine. Two reasons are always good, and a test says so by how it begins:
//
//	t.Skip("platform: this kernel has no VLANs")  no set-up could change it
//	t.Skip("long: a thousand crashes")            runs where SLUIS_LONG=1
func (s skipRules) refuse(reason string) string {
	switch {
	case !s.strict, strings.HasPrefix(reason, "platform:"):
		return ""
	case strings.HasPrefix(reason, "long:"):
		if !s.long {
			return ""
		}
		return "SLUIS_LONG=1 is set, so a long test must run"
	}
	return `in CI a test may skip only for a reason that begins with "platform:" or "long:"`
}

// logLine is how the testing package prints a message: file, line, text.
var logLine = regexp.MustCompile(`(?m)^\s*[^\s:]+\.go:\d+: (.*)$`)

// skipReason finds what t.Skip was given: the last message of the test.
func skipReason(output string) string {
	found := logLine.FindAllStringSubmatch(output, -1)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1][1]
}
