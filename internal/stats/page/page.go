// Package page is the internal statistics page: HAProxy's, as its users know it, on
// a port of the loopback addresses.
//
//	GET /            the page; also /stats and /haproxy
//	GET /;csv        HAProxy's CSV, for tools that read that; also ?format=csv
//	GET /stats.json  everything, as the API's /status/balancer has it
//	GET /metrics     the numbers for Prometheus
//
// It owns the port's sockets and puts load_balancer.stats into effect. It promises
// that nobody from outside gets an answer: it listens on 127.0.0.1 and ::1 alone,
// looks at both ends of each connection again, and answers only to names of this
// machine itself, so that a page of another site can't read it through the
// administrator's browser (DNS rebinding). Whoever is on the machine may look,
// without a login; nothing can be changed here.
//
// It knows no data plane: what it shows comes as control's plain types.
package page

import (
	"embed"
	"encoding/json"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"sluis/internal/config"
	"sluis/internal/control"
)

// Options are what a Page shows. Read and Metrics are required.
type Options struct {
	// Address replaces the addresses and the port (host:port) where the document wants
	// the page at all; it is a loopback address. Empty = as the document says.
	Address string
	// Read is the state of the load balancer now.
	Read func() control.BalancerStatus
	// Metrics answers /metrics.
	Metrics http.Handler
	// Version is the program's.
	Version string
	// Log gets what administrators need not see; nil = nobody does.
	Log *slog.Logger
}

// Page serves the statistics. Prepare and the steps of a change come one after
// another, as the commit engine calls them; all other methods may be called from any
// goroutine.
type Page struct {
	// Immutable.
	options  Options
	template *template.Template
	// shown is what the document says; nil before the first Switch.
	shown atomic.Pointer[settings]
	// writing holds a token for each page that is written: each costs time by the
	// number of servers.
	writing chan struct{}
	drains  sync.WaitGroup // of sockets that were closed

	mu      sync.Mutex
	sockets map[string]*socket // by address with port; guarded by mu
}

// maxWriting pages are written at a time; the others are told to come again.
const maxWriting = 4

// New makes a page that doesn't listen before its first change.
func New(o Options) *Page {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Page{options: o, template: parsePage(), writing: make(chan struct{}, maxWriting), sockets: map[string]*socket{}}
}

//go:embed page.html style.css
var files embed.FS

// ServeHTTP answers a request that came through one of the sockets.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	switch {
	case !fromHere(r):
		http.Error(w, "these statistics are for the machine itself", http.StatusForbidden)
		return
	case !namesLoopback(r.Host):
		// RFC 9110 section 15.5.20: another site's name leads here.
		http.Error(w, "ask for these statistics by 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "statistics can only be read", http.StatusMethodNotAllowed)
		return
	}
	switch path, words, _ := strings.Cut(r.URL.Path, ";"); path {
	case "/metrics":
		p.options.Metrics.ServeHTTP(w, r)
	case "/style.css":
		http.ServeFileFS(w, r, files, "style.css")
	case "/stats.json":
		p.write(w, "json", r)
	case "", "/", "/stats", "/haproxy":
		p.write(w, form(words, r), r)
	default:
		http.Error(w, "the statistics stand at /", http.StatusNotFound)
	}
}

// form is the form that is asked for: by ?format=, or as HAProxy's users write it,
// with ;csv at the end of the path or of the query.
func form(words string, r *http.Request) string {
	if f := r.URL.Query().Get("format"); f == "csv" || f == "json" {
		return f
	}
	for word := range strings.SplitSeq(words+";"+r.URL.RawQuery, ";") {
		if word == "csv" || word == "json" {
			return word
		}
	}
	return "html"
}

func (p *Page) write(w http.ResponseWriter, form string, r *http.Request) {
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many read the statistics at once", http.StatusServiceUnavailable)
		return
	}
	status := p.options.Read()
	var body []byte
	switch form {
	case "csv":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8") // as HAProxy's own
		body = appendCSV(nil, status)
	case "json":
		w.Header().Set("Content-Type", "application/json")
		data, err := json.MarshalIndent(status, "", "  ")
		if err != nil {
			panic("BUG: the statistics have no JSON: " + err.Error())
		}
		body = append(data, '\n')
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		shown := p.shown.Load()
		body = p.render(viewOf(status, shown, p.options.Version, r.URL.Query().Get("refresh") != "off"))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // who has left doesn't read it
}

func setHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}

// fromHere looks at both ends of the connection: a loopback socket has no others,
// unless somebody has opened the kernel's own door (route_localnet).
func fromHere(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || local == nil || !client.Addr().Unmap().IsLoopback() {
		return false
	}
	own, err := netip.ParseAddrPort(local.String())
	return err == nil && own.Addr().Unmap().IsLoopback()
}

// namesLoopback reports whether a Host names the machine itself and nothing else
// could: an address of the loopback network, or localhost (RFC 6761 section 6.3).
func namesLoopback(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	if port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// settings are what the document says of the page.
type settings struct {
	hostname  string
	addresses []string // host:port; empty = nowhere
	refresh   config.Duration
}
