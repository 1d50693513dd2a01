package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"sluis/internal/config"
	"sluis/internal/text"
)

// scripted makes a box whose lookups are answered by a function: one of "192.0.2.1
// 192.0.2.2 60s", or of anything else, which is the problem.
func scripted(t *testing.T, options Options, answers func(host string, s settings) string) (b *box, asked func() []string) {
	b = newBox(t, options)
	var mu sync.Mutex
	var log []string
	begin := time.Now()
	b.look = func(_ context.Context, host string, _ netip.Addr, s settings) (answer, text.Msg) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf("%s %s", host, time.Since(begin).Round(time.Second)))
		words := strings.Fields(answers(host, s))
		a := answer{source: FromDNS}
		for _, w := range words {
			if x, err := netip.ParseAddr(w); err == nil {
				a.addresses = append(a.addresses, x)
			} else if d, err := time.ParseDuration(w); err == nil {
				a.lifetime = d
			}
		}
		if len(a.addresses) == 0 {
			return answer{}, text.M("it failed")
		}
		return a, text.Msg{}
	}
	return b, func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		l := log
		log = nil
		return l
	}
}

func TestLifetimesAndRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		says := "192.0.2.1 20s"
		var mu sync.Mutex
		say := func(s string) { mu.Lock(); defer mu.Unlock(); says = s }
		b, asked := scripted(t, Options{}, func(string, settings) string { mu.Lock(); defer mu.Unlock(); return says })
		b.apply(web("App.test", "app.test.", "192.0.2.9"))
		time.Sleep(50 * time.Second)
		if diff := cmp.Diff([]string{"app.test 0s", "app.test 20s", "app.test 40s"}, asked()); diff != "" {
			t.Errorf("one lookup for all servers of a name, by its lifetime (-want +got):\n%s", diff)
		}
		if b.told("web/a") != "192.0.2.1" || b.told("web/b") != "192.0.2.1" || b.told("web/c") != "" {
			t.Errorf("told: %v", b.set)
		}
		if a, ok := b.Address("web", "b"); !ok || a.String() != "192.0.2.1" {
			t.Errorf("Address = %s, %v", a, ok)
		}
		if e := b.takeEvents(); len(e) != 0 {
			t.Errorf("events: %q", e)
		}

		// It fails: the address stays, the pauses grow to 30s, and it is said once.
		say("")
		time.Sleep(100 * time.Second)
		want := []string{"app.test 1m0s", "app.test 1m1s", "app.test 1m3s", "app.test 1m7s", "app.test 1m15s", "app.test 1m31s", "app.test 2m1s"}
		if diff := cmp.Diff(want, asked()); diff != "" {
			t.Errorf("lookups that fail (-want +got):\n%s", diff)
		}
		s := b.Status()[0]
		if s.Address.String() != "192.0.2.1" || s.Failures != 7 || s.Error.String() != "it failed" || time.Since(s.Good) != 110*time.Second {
			t.Errorf("status: %+v", s)
		}
		// Back, with other addresses and a long lifetime.
		say("192.0.2.3 192.0.2.2 500h")
		time.Sleep(30 * time.Second)
		asked()
		if b.told("web/a") != "192.0.2.3" {
			t.Errorf("told: %v", b.set)
		}
		wantEvents := []string{
			"resolve.name.failed: the name app.test can't be looked up, its last address 192.0.2.1 stays in use: it failed",
			"resolve.name.recovered: the name app.test can be looked up again, after 7 failures: 192.0.2.3",
			"resolve.name.changed: the name app.test leads to 192.0.2.3 now, no longer to 192.0.2.1",
		}
		if diff := cmp.Diff(wantEvents, b.takeEvents()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		// The present one stays while it is among the answers, wherever it stands.
		say("192.0.2.1 192.0.2.2 192.0.2.3 0s")
		time.Sleep(time.Hour)
		if b.told("web/a") != "192.0.2.3" || len(b.takeEvents()) != 0 {
			t.Errorf("told: %v", b.set)
		}
		if got := asked(); len(got) < 20 { // the hour is over after 3570s; then each second
			t.Errorf("a lifetime of 0s asks %d times in the rest of the hour", len(got))
		}
		say("192.0.2.1 192.0.2.2 5s")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if b.told("web/a") != "192.0.2.1" {
			t.Errorf("told: %v", b.set)
		}
		b.Close()
	})
}

func TestChangesOfConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, asked := scripted(t, Options{}, func(host string, s settings) string {
			if len(s.servers) > 0 {
				return "192.0.2.53 10m"
			}
			return "192.0.2.1 10m"
		})
		first := b.apply(web("a.test"))
		asked()
		b.apply(web("a.test", "b.test"))
		if diff := cmp.Diff([]string{"b.test 0s"}, asked()); diff != "" {
			t.Errorf("a name more (-want +got):\n%s", diff)
		}
		// Other DNS servers: all names are asked for anew.
		other := web("a.test", "b.test")
		other.System.DNSServers = []string{"192.0.2.99"}
		undo := b.apply(other)
		if n := len(asked()); n != 2 || b.told("web/a") != "192.0.2.53" {
			t.Errorf("%d lookups, told: %v", n, b.set)
		}
		undo.Undo(context.Background())
		if n := len(asked()); n != 2 || b.told("web/a") != "192.0.2.1" {
			t.Errorf("%d lookups, told: %v", n, b.set)
		}
		// A server that comes to a known name is told at once; a name that goes ends.
		moved := web("192.0.2.200", "a.test")
		b.set = map[string]string{}
		b.apply(moved)
		if b.told("web/b") != "192.0.2.1" || b.told("web/a") != "" {
			t.Errorf("told: %v", b.set)
		}
		time.Sleep(time.Hour)
		for _, l := range asked() {
			if strings.HasPrefix(l, "b.test") {
				t.Errorf("a name that is gone is asked for: %s", l)
			}
		}
		// What was known of a name that was gone is known again.
		b.set = map[string]string{}
		b.apply(web("a.test", "b.test"))
		if b.told("web/b") != "192.0.2.1" {
			t.Errorf("told: %v", b.set)
		}
		first.Undo(context.Background())
		if len(b.Status()) != 0 {
			t.Errorf("names after everything is undone: %v", b.Status())
		}
		b.Close()
	})
}

// A disabled server's name isn't looked up, a name that nobody can look up is a
// warning, and nothing waits.
func TestPrepare(t *testing.T) {
	path := t.TempDir() + "/hosts"
	writeFile(t, path, "192.0.2.7 known.test\n")
	b := newBox(t, Options{HostsFile: path})
	doc := web("a.test", "localhost", "192.0.2.1", "2001:db8::1", "known.test", "b.test")
	doc.Backends[0].Servers[5].Disabled = true
	_, problems := b.Prepare(context.Background(), doc)
	want := "backends[web].servers[a].address: no DNS server is known that could be asked for a.test (name one in system.dns_servers, or give the server's address)"
	if len(problems) != 1 || problems[0].Severity != config.Warning || problems[0].String() != want {
		t.Errorf("problems: %v", problems)
	}
	doc.System.DNSServers = []string{"192.0.2.53"}
	change, problems := b.Prepare(context.Background(), doc)
	if len(problems) != 0 || len(change.desired.names) != 3 || change.desired.settings.servers[0].String() != "192.0.2.53:53" {
		t.Errorf("Prepare = %+v, %v", change.desired, problems)
	}
}

func TestFactsOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := scripted(t, Options{}, func(host string, _ settings) string { return "192.0.2.1 192.0.2.2 30s" })
		b.apply(web("a.test", "b.test"))
		time.Sleep(2 * time.Second)
		b.mu.Lock()
		saves := b.saves
		b.mu.Unlock()
		if saves != 1 {
			t.Errorf("%d saves for two names that were found together, want 1", saves)
		}
		time.Sleep(30 * time.Minute)
		b.mu.Lock()
		if b.saves != 1 {
			t.Errorf("%d saves while nothing changed, want none more", b.saves)
		}
		b.mu.Unlock()
		b.Close()

		// The next start finds no DNS: the address is known before the first lookup.
		state := b.state
		c, _ := scripted(t, Options{LoadState: func() ([]byte, error) { return state, nil }}, func(string, settings) string { return "" })
		c.apply(web("a.test"))
		if c.told("web/a") != "192.0.2.1" {
			t.Errorf("told: %v", c.set)
		}
		time.Sleep(time.Minute)
		if s := c.Status()[0]; s.Good.IsZero() || len(s.Addresses) != 2 || s.Failures == 0 {
			t.Errorf("status: %+v", s)
		}
		c.Close()
		if c.saves != 0 {
			t.Errorf("%d saves of what was the same", c.saves)
		}
		time.Sleep(40 * 24 * time.Hour)
		d, _ := scripted(t, Options{LoadState: func() ([]byte, error) { return state, nil }}, func(string, settings) string { return "192.0.2.8 1h" })
		d.apply(web("b.test"))
		time.Sleep(2 * time.Second)
		d.Close()
		if s := string(d.state); strings.Contains(s, "a.test") || !strings.Contains(s, "b.test") {
			t.Errorf("an unused name is kept after 40 days: %s", s)
		}
	})
}

func TestStateThatCannotBe(t *testing.T) {
	load := func(data string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(data), nil }
	}
	b := newBox(t, Options{LoadState: load("{")})
	if _, problems := b.Prepare(context.Background(), web("192.0.2.1")); len(problems) != 1 || problems[0].Severity != config.Warning {
		t.Errorf("damaged facts: %v", problems)
	}
	if _, err := New(Options{LoadState: load(`{"version": 99}`)}); !errors.Is(err, errNewer) {
		t.Errorf("facts of a newer program: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		fails, tried := true, 0
		var mu sync.Mutex
		b, _ := scripted(t, Options{SaveState: func([]byte) error {
			mu.Lock()
			defer mu.Unlock()
			tried++
			if fails {
				return errors.New("disk full")
			}
			return nil
		}}, func(string, settings) string { return "192.0.2.1 1h" })
		b.apply(web("a.test"))
		time.Sleep(100 * time.Second)
		mu.Lock()
		if e := b.takeEvents(); tried != 4 || len(e) != 1 || !strings.Contains(e[0], "disk full") {
			t.Errorf("%d tries, events %q", tried, e)
		}
		fails = false
		mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := b.Stats(); s.SaveErrors != 4 || s.Saves != 5 {
			t.Errorf("Stats = %+v", s)
		}
		b.Close()
	})
}

// While a change is made nothing is told but by the change itself, and Close can't
// stand in the way of one.
func TestExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{}, 1)
		inside := false
		address := "192.0.2.1 10s"
		var mu sync.Mutex
		b, _ := scripted(t, Options{Exclusive: func(f func()) {
			turn <- struct{}{}
			defer func() { <-turn }()
			inside = true
			f()
			inside = false
		}}, func(string, settings) string { mu.Lock(); defer mu.Unlock(); return address })
		turn <- struct{}{}
		b.apply(web("a.test"))
		time.Sleep(time.Minute)
		if b.told("web/a") != "" || inside {
			t.Error("an address was told while a change is made")
		}
		<-turn
		synctest.Wait()
		if b.told("web/a") != "192.0.2.1" {
			t.Errorf("told: %v", b.set)
		}
		turn <- struct{}{}
		mu.Lock()
		address = "192.0.2.2 10s"
		mu.Unlock()
		time.Sleep(20 * time.Second)
		closed := make(chan struct{})
		go func() { b.Close(); close(closed) }()
		synctest.Wait()
		change, _ := b.Prepare(context.Background(), web("b.test"))
		change.Switch(context.Background()) // returns, though Close waits for the turn
		<-turn
		<-closed
	})
}

func TestFilesWakeNames(t *testing.T) {
	path := t.TempDir() + "/hosts"
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, Options{HostsFile: path})
		b.apply(web("a.test"))
		time.Sleep(time.Minute)
		writeFile(t, path, "192.0.2.1 a.test\n")
		time.Sleep(filesPause)
		synctest.Wait()
		if b.told("web/a") != "192.0.2.1" {
			t.Fatalf("told: %v", b.set)
		}
		writeFile(t, path, "192.0.2.22 a.test\n")
		time.Sleep(filesPause + time.Second)
		synctest.Wait()
		if b.told("web/a") != "192.0.2.22" {
			t.Errorf("told: %v", b.set)
		}
		b.Close()
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, Options{})
		var mu sync.Mutex
		now, most := 0, 0
		b.look = func(ctx context.Context, _ string, _ netip.Addr, _ settings) (answer, text.Msg) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			a := answer{lifetime: time.Hour, source: FromDNS}
			for i := range 40 {
				a.addresses = append(a.addresses, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			}
			return a, text.Msg{}
		}
		doc := web()
		for i := range 200 {
			doc.Backends[0].Servers = append(doc.Backends[0].Servers, config.Server{Name: fmt.Sprint(i), Address: fmt.Sprintf("n%d.test", i), Port: 80})
		}
		b.apply(doc)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		s := b.Stats()
		if most != maxLookups || s.Lookups != 200 || s.Waited != 200-maxLookups || s.Cut != 200 {
			t.Errorf("%d lookups at once, %+v", most, s)
		}
		if n := len(b.Status()[0].Addresses); n != maxAddresses {
			t.Errorf("%d addresses kept", n)
		}
		b.Close()
	})
	r := &Resolver{options: Options{Now: time.Now}, facts: map[string]fact{}}
	for i := range maxFacts + 50 {
		name := fmt.Sprintf("n%d", i)
		r.facts[name] = fact{Name: name, Good: time.Now().Add(time.Duration(i) * time.Second)}
	}
	r.forget()
	if _, oldest := r.facts["n49"]; oldest || len(r.facts) != maxFacts {
		t.Errorf("%d facts kept, the oldest too: %v", len(r.facts), oldest)
	}
}

// From the document to the data plane with a real DNS server that changes its mind.
func TestEndToEnd(t *testing.T) {
	var mu sync.Mutex
	records := []string{"a.test. 1 A 192.0.2.1"}
	server := dnsServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteMsg(reply(q, records...))
	})
	told := make(chan string, 10)
	r, err := New(Options{
		Set:       func(_, _ string, a netip.Addr) { told <- a.String() },
		LoadState: func() ([]byte, error) { return nil, nil }, SaveState: func([]byte) error { return nil },
		SystemServers: func() []netip.AddrPort { return []netip.AddrPort{server} }, HostsFile: t.TempDir() + "/none",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	change, _ := r.Prepare(context.Background(), web("a.test"))
	change.Switch(context.Background())
	if a := <-told; a != "192.0.2.1" {
		t.Errorf("told %s", a)
	}
	mu.Lock()
	records = []string{"a.test. 1 A 192.0.2.2"}
	mu.Unlock()
	for a := range told { // the keeper may have told the first once more
		if a == "192.0.2.2" {
			break
		}
	}
}
