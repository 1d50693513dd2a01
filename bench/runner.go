package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// runner carries out the rounds.
type runner struct {
	settings settings
	chosen   []workload
	proxies  []string
	plan     plan
	// proxyCores are for what is measured, loadCore for what measures.
	proxyCores []int
	loadCore   int

	processes []*running
	load      *running
	orders    *json.Encoder
	results   *json.Decoder
	lines     net.PacketConn // takes log lines and reads none
	rows      []row
}

// row is one line of the results.
type row struct {
	Workload             string  `json:"workload"`
	Connections          int     `json:"connections"`
	Proxy                string  `json:"proxy"`
	RequestsPerCPUSecond float64 `json:"requests_per_cpu_second"`
	// RatioToHAProxy is the median over the rounds: above 1 the proxy is ahead. Of idle
	// connections it is HAProxy's memory by the proxy's.
	RatioToHAProxy float64 `json:"ratio_to_haproxy"`
	P50            float64 `json:"p50_ms"`
	P99            float64 `json:"p99_ms"`
	Errors         uint64  `json:"errors"`
	Note           string  `json:"note"`
}

func newRunner(s settings) (*runner, error) {
	r := &runner{settings: s}
	var err error
	if r.chosen, err = choose(s.chosen); err != nil {
		return nil, err
	}
	for _, name := range proxyNames() {
		if len(s.proxies) > 0 && !slices.Contains(s.proxies, name) {
			continue
		}
		if _, err := r.find(name); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			continue
		}
		r.proxies = append(r.proxies, name)
	}
	if r.plan.dir, err = os.MkdirTemp("", "sluis-bench-"); err != nil {
		return nil, err
	}
	if err := r.prepare(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// prepare starts all that does not depend on the workload.
func (r *runner) prepare() error {
	all, err := cores()
	if err != nil {
		return err
	}
	if len(all) < 2 {
		return errors.New("two processors are needed: one for the proxy, one for the load")
	}
	r.proxyCores, r.loadCore = all[:2], all[min(len(all), 3)-1]
	if err := r.plan.makeCertificates(); err != nil {
		return err
	}
	if r.lines, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return err
	}
	r.plan.log = r.lines.LocalAddr().(*net.UDPAddr).Port
	r.plan.origin, r.plan.second, r.plan.secure = 9080, 9081, 9443
	return r.startLoad()
}

func (r *runner) startLoad() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "load", "-origin", address(r.plan.origin)+","+address(r.plan.second), "-origin-tls", address(r.plan.secure),
		"-certificate", r.plan.ecdsa, "-key", r.plan.ecdsaKey)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, w, err := os.Pipe() // not StdoutPipe: Wait would close it
	if err != nil {
		return err
	}
	cmd.Stdout = w
	r.orders, r.results = json.NewEncoder(in), json.NewDecoder(out)
	r.load, err = r.startCommand("load", cmd, []int{r.loadCore})
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return r.load.listening(r.plan.secure)
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// close ends all processes and removes what was written.
func (r *runner) close() {
	for _, p := range r.processes {
		r.stop(p)
	}
	if r.lines != nil {
		_ = r.lines.Close()
	}
	_ = os.RemoveAll(r.plan.dir)
}

// run measures all and tells.
func (r *runner) run() error {
	r.tellMachine()
	steady, err := r.startAll(1)
	if err != nil {
		return err
	}
	defer r.stopAll(steady)
	header()
	for _, w := range r.chosen {
		proxies := steady
		if w.TwoLoops {
			if proxies, err = r.startAll(2); err != nil {
				return err
			}
		}
		var rows []row
		if w.Idle {
			rows, err = r.memory(w)
		} else {
			rows, err = r.rounds(w, proxies)
		}
		if w.TwoLoops {
			r.stopAll(proxies)
		}
		if err != nil {
			return err
		}
		r.rows = append(r.rows, rows...)
		show(rows)
	}
	return r.save()
}

// startAll starts one of each proxy, on as many cores as it has loops.
func (r *runner) startAll(loops int) ([]*running, error) {
	var all []*running
	for _, name := range r.proxies {
		if loops == 2 && !knows(name, workload{TwoLoops: true}) {
			continue
		}
		p, err := r.startProxy(name, loops, r.proxyCores[:loops])
		if err != nil {
			r.stopAll(all)
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (r *runner) stopAll(all []*running) {
	for _, p := range all {
		r.stop(p)
	}
}

// rounds measures one workload: A B C D, D C B A, …, so that what changes in the
// course of time hits all alike.
func (r *runner) rounds(w workload, all []*running) ([]row, error) {
	var proxies []*running
	for _, p := range all {
		if knows(p.name, w) {
			proxies = append(proxies, p)
		}
	}
	measured := make([][]result, len(proxies))
	for round := range r.settings.rounds {
		for k := range proxies {
			i := k
			if round%2 == 1 {
				i = len(proxies) - 1 - k
			}
			res, err := r.ask(r.orderFor(w, proxies[i]))
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", w.Name, proxies[i].name, err)
			}
			measured[i] = append(measured[i], res)
		}
	}
	var reference []result
	for i, p := range proxies {
		if p.name == nameHAProxy {
			reference = measured[i]
		}
	}
	var rows []row
	for i, p := range proxies {
		rows = append(rows, r.summary(w, p, measured[i], reference))
	}
	return rows, nil
}

func (r *runner) orderFor(w workload, p *running) order {
	return order{
		Target: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(p.plan.port(w.Site))),
		TLS:    w.Site.secure(), Resume: w.Resume, New: w.New, Connections: w.Connections, Size: w.Size,
		PID: p.pid(), WarmUp: r.settings.warmUp, Window: r.settings.window,
	}
}

// ask has the load process carry out an order.
func (r *runner) ask(o order) (res result, err error) {
	if err := r.orders.Encode(o); err != nil {
		return res, fmt.Errorf("tell the load process: %w", err)
	}
	if err := r.results.Decode(&res); err != nil {
		return res, fmt.Errorf("read from the load process: %w", err)
	}
	return res, nil
}

func (r result) perCPUSecond() float64 { return ratio(float64(r.Done), r.CPU.Seconds()) }

// ratio is 0 where nothing was measured.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// enough is the share of its core that a proxy must have used.
const enough = 0.90

// summary makes the row of one proxy of its rounds.
func (r *runner) summary(w workload, p *running, rounds, reference []result) row {
	of := func(f func(i int) float64) float64 {
		values := make([]float64, len(rounds))
		for i := range rounds {
			values[i] = f(i)
		}
		return median(values)
	}
	line := row{
		Workload: w.Name, Connections: w.Connections, Proxy: p.name,
		RequestsPerCPUSecond: math.Round(of(func(i int) float64 { return rounds[i].perCPUSecond() })),
		P50:                  milliseconds(of(func(i int) float64 { return float64(rounds[i].P50) })),
		P99:                  milliseconds(of(func(i int) float64 { return float64(rounds[i].P99) })),
	}
	if len(reference) == len(rounds) {
		line.RatioToHAProxy = math.Round(100*of(func(i int) float64 {
			return ratio(rounds[i].perCPUSecond(), reference[i].perCPUSecond())
		})) / 100
	}
	busy := of(func(i int) float64 {
		return ratio(rounds[i].CPU.Seconds(), rounds[i].Took.Seconds()) / float64(p.plan.loops)
	})
	var notes notes
	if busy < enough {
		load := of(func(i int) float64 { return ratio(rounds[i].Load.Seconds(), rounds[i].Took.Seconds()) })
		notes.add("generator-bound: the proxy used %.0f %% of its core, the load %.0f %%", 100*busy, 100*load)
	}
	if w.TwoLoops && slices.Contains(r.proxyCores, r.loadCore) {
		notes.add("the load shares a core with it")
	}
	var handshakes, resumed, sampled, forwarded uint64
	for _, res := range rounds {
		if line.Errors += res.Failed; res.Failed > 0 {
			notes.add("%s", res.Fault)
		}
		handshakes, resumed = handshakes+res.Handshakes, resumed+res.Resumed
		sampled, forwarded = sampled+res.Sampled, forwarded+res.Forwarded
	}
	if w.New && w.Site.secure() {
		notes.add("%.0f %% resumed", 100*float64(resumed)/float64(max(handshakes, 1)))
	}
	if w.MostFeatures && forwarded < sampled {
		notes.add("%d of %d sampled requests had no X-Forwarded-For", sampled-forwarded, sampled)
	}
	line.Note = notes.String()
	return line
}

// memory measures idle connections, with a new process of each proxy.
func (r *runner) memory(w workload) ([]row, error) {
	var rows []row
	perConnection := map[string]float64{}
	for _, name := range r.proxies {
		values, failed := []float64{}, uint64(0)
		for range r.settings.rounds {
			bytes, errs, err := r.memoryOf(name, w)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", w.Name, name, err)
			}
			values, failed = append(values, bytes), failed+errs
		}
		perConnection[name] = median(values)
		rows = append(rows, row{
			Workload: w.Name, Connections: w.Connections, Proxy: name, Errors: failed,
			Note: fmt.Sprintf("%.2f KB per connection", median(values)/1024),
		})
	}
	for i := range rows {
		rows[i].RatioToHAProxy = math.Round(100*ratio(perConnection[nameHAProxy], perConnection[rows[i].Proxy])) / 100
	}
	return rows, nil
}

func (r *runner) memoryOf(name string, w workload) (bytes float64, failed uint64, err error) {
	p, err := r.startProxy(name, 1, r.proxyCores[:1])
	if err != nil {
		return 0, 0, err
	}
	defer r.stop(p)
	// A little load first, so that what is made once is there.
	first := r.orderFor(w, p)
	first.Connections, first.WarmUp, first.Window = 16, 0, 200*time.Millisecond
	if _, err := r.ask(first); err != nil {
		return 0, 0, err
	}
	time.Sleep(settled)
	before, err := residentBytes(p.pid())
	if err != nil {
		return 0, 0, err
	}
	o := r.orderFor(w, p)
	o.Hold, o.AtOnce = true, 32
	res, err := r.ask(o)
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(settled)
	after, err := residentBytes(p.pid())
	return float64(after-before) / float64(w.Connections), res.Failed, err
}

// settled is how long connections are idle before their memory is read: what the
// handshakes left behind is given back by then, or not at all.
const settled = 6 * time.Second

// notes are remarks on a row.
type notes []string

func (n *notes) add(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(*n, text) {
		*n = append(*n, text)
	}
}

func (n notes) String() string {
	out := ""
	for i, text := range n {
		if i > 0 {
			out += "; "
		}
		out += text
	}
	return out
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

func milliseconds(ns float64) float64 { return math.Round(ns/1e3) / 1e3 }

func (r *runner) tellMachine() {
	fmt.Printf("proxies on core %d, load and origin on core %d; %d rounds of %s; loopback, %s", r.proxyCores[0], r.loadCore,
		r.settings.rounds, r.settings.window, congestionControl())
	if os.Geteuid() != 0 {
		fmt.Print("; not root, so no network namespace of its own")
	}
	fmt.Print("\n\n")
}

func header() {
	fmt.Printf("%-24s %6s  %-13s %12s %7s %9s %9s %7s  %s\n", "workload", "conns", "proxy", "req/CPU-s", "ratio", "p50 ms", "p99 ms", "errors", "note")
}

func show(rows []row) {
	for _, l := range rows {
		fmt.Printf("%-24s %6d  %-13s %12.0f %7.2f %9.3f %9.3f %7d  %s\n",
			l.Workload, l.Connections, l.Proxy, l.RequestsPerCPUSecond, l.RatioToHAProxy, l.P50, l.P99, l.Errors, l.Note)
	}
	fmt.Println()
}

// save writes the results. A run of a part leaves the other rows of the file as
// they are.
func (r *runner) save() error {
	var old []row
	text, err := os.ReadFile(r.settings.out)
	if err == nil {
		if err := json.Unmarshal(text, &old); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is replaced: %v\n", r.settings.out, err)
		}
	}
	key := func(l row) string { return l.Workload + " " + l.Proxy }
	rows := map[string]row{}
	for _, l := range append(old, r.rows...) {
		rows[key(l)] = l
	}
	var all []row
	for _, w := range workloads() {
		for _, name := range proxyNames() {
			if l, ok := rows[key(row{Workload: w.Name, Proxy: name})]; ok {
				all = append(all, l)
			}
		}
	}
	if err := os.MkdirAll(filepath.Dir(r.settings.out), 0o755); err != nil {
		return err
	}
	f, err := os.Create(r.settings.out)
	if err != nil {
		return err
	}
	return errors.Join(writeRows(f, all), f.Close())
}

func writeRows(w io.Writer, rows []row) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(rows)
}
