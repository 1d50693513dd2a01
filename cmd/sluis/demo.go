package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluis/internal/config"
	"sluis/internal/demo"
	"sluis/internal/store"
)

// demoOptions are what the command line says about a demo.
type demoOptions struct {
	admin           string
	chats, requests int
	tour, open      bool
}

// demoCommand is what "make run" starts.
func (s *session) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Try it: an appliance on loopback with three servers, which forgets everything",
		Long: `Start an appliance on loopback, without root and with a temporary state, in front of
three web servers with chats on them, and print what to try. The control room is a
page that shows the chats, stops servers and applies changes. Ctrl-C ends it all
and removes its state.

With --tour it shows the same here in 45 seconds, with measured figures. With
--json it prints one line for programs: where everything answers, and the password.`,
		Args: exactly(0, "no arguments"),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.admin, "admin", "127.0.0.1:8443", "`address` of the API; a free port is taken when this one is not free")
	flags.IntVar(&o.chats, "chats", 150, "how many `chats` are kept open")
	flags.IntVar(&o.requests, "requests", 40, "how many `requests` are made in a second")
	flags.BoolVar(&o.tour, "tour", false, "show it in this terminal in 45 seconds, and end")
	flags.BoolVar(&o.open, "open", false, "open the control room in a browser")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		host, _, err := net.SplitHostPort(o.admin)
		switch {
		case err != nil:
			return usageError{fmt.Errorf("--admin needs host:port: %w", err)}
		case host == "":
			return usageError{errors.New("--admin needs a host: the demo is for this machine alone, such as 127.0.0.1:8443")}
		case o.tour && s.json:
			return usageError{errors.New("--tour is for people and --json for programs: give one of them")}
		case o.chats < 0 || o.chats > 5000 || o.requests < 0 || o.requests > 500:
			return usageError{errors.New("--chats goes up to 5000 and --requests up to 500: this is a demo and no bench")}
		}
		tune()
		return s.demo(cmd.Context(), o)
	}
	return cmd
}

func (s *session) demo(ctx context.Context, o demoOptions) error {
	// A terminal that is closed, and a reader who has seen enough, end it as well.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	dir, err := temporaryDir()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := startDemo(ctx, dir, o)
	if err != nil {
		return err
	}
	defer d.stop()
	switch {
	case o.tour:
		return s.tour(ctx, d)
	case s.json:
		err = s.printDemoJSON(d)
	default:
		s.printDemo(d)
	}
	if err != nil {
		return err
	}
	if o.open {
		s.openBrowser(d.room.URL())
	}
	<-ctx.Done()
	return nil
}

// demoRun is a demo that runs: an appliance, servers behind it, visitors before
// it, and the control room beside it.
type demoRun struct {
	options   demoOptions
	dir       string
	ports     demoPorts
	caFile    string
	password  string
	authority *demo.Authority

	servers   []*demo.Server
	appliance *appliance
	story     *demo.Story
	visitors  *demo.Visitors
	stage     *stage
	room      *demo.Room
}

// demoPorts are where the demo listens, all on loopback.
type demoPorts struct {
	host                string // of the API
	admin               uint16
	site, plain, stats  uint16
	room                net.Listener
	servers, forControl []net.Listener
}

// loopback is the address of everything but the API, whose own can be given.
const loopback = "127.0.0.1"

// demoNames are the servers' names.
func demoNames() []string { return []string{"web1", "web2", "web3"} }

// startDemo builds the demo in the order in which its parts need each other.
func startDemo(ctx context.Context, dir string, o demoOptions) (d *demoRun, err error) {
	d = &demoRun{options: o, dir: dir, story: &demo.Story{}}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	if d.authority, err = demo.NewAuthority(); err != nil {
		return d, err
	}
	free, err := d.choosePorts()
	if err != nil {
		return d, err
	}
	if err = d.startServers(); err != nil {
		return d, err
	}
	free() // at the last moment, so that nobody else takes them
	if err = d.startAppliance(ctx); err != nil {
		return d, err
	}
	d.visitors = demo.StartVisitors(demo.VisitorsOptions{
		Site: d.siteAddress(), Plain: d.plainAddress(), Roots: d.authority.Roots(),
		Chats: o.chats, Requests: o.requests, WasStopped: d.wasStopped, Story: d.story,
	})
	d.story.Tell(demo.Good, "Begun", fmt.Sprintf("%d chats come to %s, over TLS all the way", o.chats, d.siteURL()))
	d.stage = newStage(d)
	d.room = demo.OpenRoom(demo.RoomOptions{
		Listener: d.ports.room, Actions: d.stage.actions(), State: d.stage.state, Names: demoNames(),
		Site: d.siteURL(), API: d.apiURL() + "/api/v1/openapi.json", Statistics: d.statsURL(), Changes: demoChanges, Hints: d.hints(""),
	})
	d.ports.room = nil // it is the room's now
	return d, nil
}

// stop ends the demo in mirror order.
func (d *demoRun) stop() {
	if d.room != nil {
		d.room.Close()
	}
	if d.stage != nil {
		d.stage.close()
	}
	if d.visitors != nil {
		d.visitors.Close()
	}
	if d.appliance != nil {
		d.appliance.stop()
	}
	var ending sync.WaitGroup
	for _, server := range d.servers {
		ending.Go(server.Close)
	}
	ending.Wait()
	for _, l := range append(d.ports.servers, append(d.ports.forControl, d.ports.room)...) {
		if l != nil {
			_ = l.Close() // nobody has come to it
		}
	}
}

// choosePorts finds free ports, the usual ones first. Those that are listened at
// later stay taken until free is called, so that none is chosen twice.
func (d *demoRun) choosePorts() (free func(), err error) {
	host, port, _ := net.SplitHostPort(d.options.admin) // was looked at
	usual, err := strconv.Atoi(port)
	if err != nil || usual < 0 || usual > 65535 {
		return nil, usageError{fmt.Errorf("--admin: %q is no port", port)}
	}
	var held []net.Listener
	free = func() {
		for _, l := range held {
			_ = l.Close() // it was only held
		}
	}
	hold := func(host string, usual int) uint16 {
		l, listenErr := listenNear(host, usual)
		if listenErr != nil {
			err = errors.Join(err, listenErr)
			return 0
		}
		held = append(held, l)
		return portOf(l)
	}
	p := &d.ports
	p.host = host
	p.admin = hold(host, usual)
	p.site, p.plain, p.stats = hold(loopback, 8444), hold(loopback, 8080), hold(loopback, 8404)
	keep := func(usual int) net.Listener {
		l, listenErr := listenNear(loopback, usual)
		err = errors.Join(err, listenErr)
		return l
	}
	p.room = keep(8088)
	for i := range demoNames() {
		p.servers = append(p.servers, keep(8451+i))
		p.forControl = append(p.forControl, keep(8461+i))
	}
	if err != nil {
		free()
	}
	return free, err
}

// portSteps is how many ports are tried, every tenth one.
const portSteps = 200

// listenNear listens at a port, or at one above it when that is taken: below those
// that the kernel gives to whoever connects, so that a stopped server's port stays
// free. Port 0 is any port there.
func listenNear(host string, port int) (net.Listener, error) {
	if port == 0 {
		port = 9000
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	first := err
	for i := 1; err != nil && i <= portSteps && port+10*i <= 65535; i++ {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+10*i)))
	}
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", first)
	}
	return l, nil
}

func portOf(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

func (d *demoRun) startServers() error {
	for i, name := range demoNames() {
		certificate, err := d.authority.Issue(name+".demo.test", "localhost", loopback)
		if err != nil {
			return err
		}
		d.servers = append(d.servers, demo.NewServer(demo.ServerOptions{
			Name: name, Certificate: certificate.TLS, Listener: d.ports.servers[i], Control: d.ports.forControl[i],
		}))
		d.ports.servers[i], d.ports.forControl[i] = nil, nil // they are the server's now
	}
	return nil
}

// startAppliance starts Sluis with an empty configuration and applies the demo's.
func (d *demoRun) startAppliance(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	o := applianceOptions{State: filepath.Join(d.dir, "state"), Admin: d.ports.host, Log: log}
	if err = seedPorts(o.State, d.ports); err != nil {
		return err
	}
	if d.appliance, err = start(ctx, o); err != nil {
		return err
	}
	if d.password, err = d.appliance.setDemoPassword(ctx); err != nil {
		return err
	}
	if len(d.appliance.listener.URLs()) == 0 {
		return fmt.Errorf("the API does not answer: %v", d.appliance.engine.Status().Degraded)
	}
	if err = d.applyDocument(ctx); err != nil {
		return err
	}
	d.caFile = filepath.Join(d.dir, "ca.pem")
	return os.WriteFile(d.caFile, append(d.authority.PEM(), leafPEM(d.appliance.listener.Leaf())...), 0o600)
}

func leafPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// seedPorts writes a first revision with the demo's ports, where the appliance would
// begin with the usual ones. (An address with a port, given to it, would hold for
// good; the demo moves the API later.)
func seedPorts(state string, ports demoPorts) error {
	st, err := store.Open(state, store.Options{})
	if err != nil {
		return explained(err)
	}
	defer func() { _ = st.Close() }() // all that it was asked for is durable
	doc := config.Default()
	doc.System.Admin.Port, doc.LoadBalancer.Stats.Port = ports.admin, ports.stats
	first, err := st.SaveRevision(store.Revision{Author: "sluis", From: "local", Comment: "initial configuration", Format: doc.Format}, config.EncodeYAML(doc))
	if err != nil {
		return explained(err)
	}
	return st.SetRunning(first.Number)
}

// setDemoPassword replaces the one-time password by one that can be tried at once.
func (a *appliance) setDemoPassword(ctx context.Context) (string, error) {
	password := a.once.Password + "-demo"
	return password, a.auth.SetPassword(ctx, a.once.Account, password, "")
}

func (d *demoRun) wasStopped(name string, since time.Time) bool {
	server := d.server(name)
	return server != nil && server.WasStopped(since)
}

// server is the server of a name; nil = there is none.
func (d *demoRun) server(name string) *demo.Server {
	for _, s := range d.servers {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

func at(port uint16) string { return net.JoinHostPort(loopback, strconv.Itoa(int(port))) }

func (d *demoRun) siteAddress() string  { return at(d.ports.site) }
func (d *demoRun) plainAddress() string { return at(d.ports.plain) }
func (d *demoRun) siteURL() string      { return "https://" + d.siteAddress() + "/" }
func (d *demoRun) statsURL() string     { return "http://" + at(d.ports.stats) + "/" }
func (d *demoRun) apiURL() string       { return d.appliance.listener.URLs()[0] }

// demoAnswer is what --json prints, on one line.
type demoAnswer struct {
	SiteURL        string `json:"site_url"`
	PlainURL       string `json:"plain_url"`
	APIURL         string `json:"api_url"`
	StatsURL       string `json:"stats_url"`
	MetricsURL     string `json:"metrics_url"`
	ControlRoomURL string `json:"control_room_url"`
	Username       string `json:"username"`
	Password       string `json:"password"`
	// CAFile vouches for the site, the servers and the API.
	CAFile  string             `json:"ca_file"`
	Servers []demoAnswerServer `json:"servers"`
	State   string             `json:"state"`
	Socket  string             `json:"socket"`
}

type demoAnswerServer struct {
	Name       string `json:"name"`
	URL        string `json:"url"`
	FailURL    string `json:"fail_url"`
	RecoverURL string `json:"recover_url"`
	StopURL    string `json:"stop_url"`
	StartURL   string `json:"start_url"`
}

func (s *session) printDemoJSON(d *demoRun) error {
	answer := demoAnswer{
		SiteURL: d.siteURL(), PlainURL: "http://" + d.plainAddress() + "/", APIURL: d.apiURL(), StatsURL: d.statsURL(),
		MetricsURL: d.apiURL() + "/metrics", ControlRoomURL: d.room.URL(), Username: d.appliance.once.Account, Password: d.password,
		CAFile: d.caFile, State: filepath.Join(d.dir, "state"), Socket: d.appliance.socket.Path(),
	}
	for _, server := range d.servers {
		answer.Servers = append(answer.Servers, demoAnswerServer{
			Name: server.Name(), URL: server.URL(), FailURL: server.ControlURL("fail"), RecoverURL: server.ControlURL("recover"),
			StopURL: server.ControlURL("stop"), StartURL: server.ControlURL("start"),
		})
	}
	return json.NewEncoder(s.stdout).Encode(answer)
}

func (s *session) printDemo(d *demoRun) {
	s.say(`Sluis runs on this machine until Ctrl-C, in front of three web servers with %d chats.
Nothing outside %s is touched.

  control room  %s   begin here
  site          %s   (http://%s/ leads there)
  API           %s   log in as %s, password %s
  statistics    %s

Try, in another terminal:
`, d.options.chats, d.dir, d.room.URL(), d.siteURL(), d.plainAddress(), d.apiURL(), d.appliance.once.Account, d.password, d.statsURL())
	for _, hint := range d.hints(":" + d.password) {
		s.say("  # %s\n  %s", strings.ToLower(hint.Text[:1])+hint.Text[1:], hint.Command)
	}
}

// hints are what to try in a shell. The password is empty where others may read it:
// curl asks for it then.
func (d *demoRun) hints(password string) []demo.Hint {
	curl := "curl --cacert " + d.caFile
	return []demo.Hint{
		{Text: "Ask the site again and again: its cookie keeps you at one server", Command: fmt.Sprintf("%s -sI -c %s/jar -b %s/jar %s | grep -i -e x-demo -e ecelb", curl, d.dir, d.dir, d.siteURL())},
		{Text: "Let web1 answer 500; it is out of service in three seconds", Command: "curl -X POST " + d.servers[0].ControlURL("fail")},
		{Text: "Heal it", Command: "curl -X POST " + d.servers[0].ControlURL("recover")},
		{Text: "Ask the API, with the password that the demo printed", Command: fmt.Sprintf("%s -u %s%s %s/api/v1/status", curl, d.appliance.once.Account, password, d.apiURL())},
		{Text: "Change something yourself, and see it taken back", Command: fmt.Sprintf("export SLUIS_STATE=%s; %s set 'backends[%s].balance' roundrobin && %s apply --confirm-within 10s", filepath.Join(d.dir, "state"), me(), demoBackend, me())},
		{Text: "Drain web2 and look at the control room", Command: fmt.Sprintf("%s --state %s server drain %s web2", me(), filepath.Join(d.dir, "state"), demoBackend)},
	}
}

func me() string { return os.Args[0] }

// openBrowser shows a page in the desktop's browser, which lives on without us.
func (s *session) openBrowser(url string) {
	cmd := exec.Command("xdg-open", url)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(s.stderr, "sluis: no browser could be opened (%v); open %s yourself\n", err, url)
		return
	}
	go func() { _ = cmd.Wait() }() // it is no business of ours how it ends
}

func writeLeaf(name string, c *x509.Certificate) error { return os.WriteFile(name, leafPEM(c), 0o600) }

// poolOf trusts the certificates of a file.
func poolOf(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	return pool, nil
}

// settleWithin is how long the demo waits for what should happen at once.
const settleWithin = 15 * time.Second
