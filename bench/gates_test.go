package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// asLoad lets this test binary be the load process.
const asLoad = "SLUIS_BENCH_LOAD"

func TestMain(m *testing.M) {
	if os.Getenv(asLoad) == "" {
		os.Exit(m.Run())
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	gateRequests = 100_000
	// gateObjects is how many heap objects a request may cost: not even one in a
	// hundred.
	gateObjects = 0.01
	// gateCalls is how many system calls it may cost beside its share of epoll_wait:
	// two to receive, two to send; the rest is what single connections cost.
	gateCalls = 4.01
	// gateInterval is the first time between two looks at the numbers.
	gateInterval = 4 * time.Second
	// gateLongest is the longest interval for another look at too many objects.
	gateLongest = 4 * gateInterval
	// gateTime is how long all requests may take: it is there to end what hangs.
	gateTime   = time.Minute
	gateWarmUp = time.Second
)

// TestCostOfARequest holds the real program to what no noise touches: the memory
// that a request makes and the system calls that it needs.
func TestCostOfARequest(t *testing.T) {
	g := newGate(t)
	for _, c := range []struct {
		name string
		site site
		// records is how many records crypto/tls reads for a request: it makes an
		// object for each (conn.go, readFromUntil).
		records float64
	}{
		{"plain", sitePlain, 0},
		{"plain with features", siteFeaturesPlain, 0},
		{"TLS", siteTLS, 1},
		{"re-encrypted", siteReencrypt, 2},
		{"features", siteFeatures, 1},
	} {
		t.Run(c.name, func(t *testing.T) { g.cost(t, c.site, c.records+gateObjects) })
	}
}

// gate is a running Sluis with a load process beside it.
type gate struct {
	plan   plan
	pid    int
	client *http.Client
	// idle is how many objects the rest makes in an interval, the look itself included.
	idle    float64
	orders  *json.Encoder
	results *json.Decoder
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{plan: plan{dir: t.TempDir(), loops: 1}}
	ports := freePorts(t, int(siteKinds)+4)
	copy(g.plan.ports[:], ports)
	rest := ports[siteKinds:]
	g.plan.origin, g.plan.second, g.plan.secure, g.plan.admin = rest[0], rest[1], rest[2], address(rest[3])
	if err := g.plan.makeCertificates(); err != nil {
		t.Fatal(err)
	}
	g.startLoad(t)
	g.startSluis(t)
	return g
}

// freePorts are ports that were free a moment ago.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // all are held until there are enough
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (g *gate) startLoad(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "load", "-origin", address(g.plan.origin)+","+address(g.plan.second),
		"-origin-tls", address(g.plan.secure), "-certificate", g.plan.ecdsa, "-key", g.plan.ecdsaKey)
	cmd.Env = append(os.Environ(), asLoad+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.orders, g.results = json.NewEncoder(in), json.NewDecoder(out)
	startForTest(t, cmd)
}

func (g *gate) startSluis(t *testing.T) {
	t.Helper()
	binary := filepath.Join(g.plan.dir, "sluis")
	if out, err := exec.Command("go", "build", "-o", binary, "sluis/cmd/sluis").CombinedOutput(); err != nil {
		t.Fatalf("build sluis: %v\n%s", err, out)
	}
	file, err := g.plan.write("sluis.yaml", []byte(g.plan.sluisDocument()))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", file, "--admin", g.plan.admin, "--access-log", filepath.Join(g.plan.dir, "access.log"))
	startForTest(t, cmd)
	g.pid = cmd.Process.Pid
	g.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(g.client.CloseIdleConnections)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = g.scrape(); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("sluis does not answer: %v", err)
		}
	}
	g.rest(t)
}

// rest finds out what is made while nothing is asked for.
func (g *gate) rest(t *testing.T) {
	t.Helper()
	var looks [3]numbers
	for i := range looks { // up to the first one it still starts
		time.Sleep([...]time.Duration{time.Second, time.Second, gateInterval}[i])
		var err error
		if looks[i], err = g.scrape(); err != nil {
			t.Fatal(err)
		}
	}
	g.idle = looks[2].minus(looks[1]).objects
	t.Logf("%.0f heap objects in %s of rest", g.idle, gateInterval)
}

// startForTest starts a process that ends with the test.
func startForTest(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	messages := &strings.Builder{}
	cmd.Stderr = messages
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), messages)
		}
	})
}

// numbers are what /metrics says that matters here.
type numbers struct {
	requests, objects, epoll, otherCalls float64
}

func (a numbers) minus(b numbers) numbers {
	return numbers{a.requests - b.requests, a.objects - b.objects, a.epoll - b.epoll, a.otherCalls - b.otherCalls}
}

func (g *gate) scrape() (n numbers, err error) {
	request, err := http.NewRequest(http.MethodGet, "https://"+g.plan.admin+"/metrics", nil)
	if err != nil {
		return n, err
	}
	request.SetBasicAuth("bench", password)
	answer, err := g.client.Do(request)
	if err != nil {
		return n, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return n, fmt.Errorf("GET /metrics: %s: %s", answer.Status, text)
	}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		i := strings.LastIndexByte(lines.Text(), ' ')
		if i < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[i+1:], 64)
		if err != nil {
			return n, err
		}
		n.add(lines.Text()[:i], value)
	}
	return n, lines.Err()
}

func (n *numbers) add(name string, value float64) {
	switch {
	case name == "go_memstats_mallocs_total":
		n.objects += value
	case strings.HasPrefix(name, "sluis_proxy_frontend_requests_total{"):
		n.requests += value
	case strings.HasPrefix(name, "sluis_loop_system_calls_total{"):
		if strings.Contains(name, `call="epoll_wait"`) {
			n.epoll += value
		} else {
			n.otherCalls += value
		}
	}
}

// cost measures between two looks at the numbers while the load runs, so that what
// connections cost at their beginning and end is not in it.
func (g *gate) cost(t *testing.T, s site, most float64) {
	look := func() numbers {
		t.Helper()
		n, err := g.scrape()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	err := g.orders.Encode(order{
		Target: netip.MustParseAddrPort(address(g.plan.port(s))), TLS: s.secure(), Connections: 64, Size: 200,
		WarmUp: gateWarmUp, Window: 10 * gateTime,
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * gateWarmUp)
	// The runtime counts objects when a span of them is full, so that a number may be
	// some thousands late; what a request really makes grows with the window, and
	// that does not.
	var objects, other float64
	for interval := gateInterval; interval <= gateTime; interval *= 2 {
		before := look()
		time.Sleep(interval)
		now := look().minus(before)
		objects, other = (now.objects-g.idle)/now.requests, now.otherCalls/now.requests
		t.Logf("%.0f requests: %.4f heap objects, %.4f system calls and %.4f epoll_wait each", now.requests, objects, other, now.epoll/now.requests)
		if now.requests >= gateRequests && (objects <= most || interval >= gateLongest) {
			break
		}
	}
	if err := g.orders.Encode(order{}); err != nil {
		t.Fatal(err)
	}
	if objects > most {
		t.Errorf("a request makes %.4f heap objects, want at most %v", objects, most)
	}
	if other > gateCalls {
		t.Errorf("a request makes %.4f system calls beside epoll_wait, want at most %v", other, gateCalls)
	}
	var res result
	if err := g.results.Decode(&res); err != nil {
		t.Fatal(err)
	}
	if res.Failed > 0 || res.Done == 0 {
		t.Errorf("%d requests failed, %d went through: %s", res.Failed, res.Done, res.Fault)
	}
}
