package demo

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"html/template"
	"net"
	"net/http"
	"sync"
	"time"
)

// Verb is what is done to a server from the control room.
type Verb string

// The verbs. Stop, Start, Fail and Recover are done to the server itself, Drain and
// Ready to the balancer in front of it.
const (
	Stop    Verb = "stop"
	Start   Verb = "start"
	Fail    Verb = "fail"
	Recover Verb = "recover"
	Drain   Verb = "drain"
	Ready   Verb = "ready"
)

// Verbs lists them.
func Verbs() []Verb { return []Verb{Stop, Start, Fail, Recover, Drain, Ready} }

// Actions are what the buttons do. Each returns as soon as it has begun; what
// becomes of it stands in the State. An error is a sentence for the visitor.
type Actions struct {
	Server  func(ctx context.Context, name string, verb Verb) error
	Apply   func() error // many changes, one after another
	LockOut func() error // a change that shuts the administrator out, to be confirmed
	Return  func() error // takes that change back now
}

// State is everything that the page shows, at one moment.
type State struct {
	Figures
	Servers []ServerView `json:"servers"`
	Apply   ApplyState   `json:"apply"`
	LockOut LockOutState `json:"lock_out"`
	Story   []Line       `json:"story"`
}

// Health is what the balancer makes of a server.
type Health string

// The healths.
const (
	Up          Health = "up"
	Down        Health = "down"
	Draining    Health = "drain"
	Maintenance Health = "maint"
	Checking    Health = "check"
)

// ServerView is a server as it is, and as the balancer sees it.
type ServerView struct {
	ServerState
	Health Health `json:"health"`
	// Reason is why, where there is something to say.
	Reason string `json:"reason"`
	// Since is for how long, in seconds.
	Since float64 `json:"since_s"`
}

// ApplyState is how far a number of changes has come; of the last one, when none
// is under way.
type ApplyState struct {
	Running bool `json:"running"`
	Done    int  `json:"done"`
	Of      int  `json:"of"`
	// Mean and Slowest are of one apply, in milliseconds.
	Mean    float64 `json:"mean_ms"`
	Slowest float64 `json:"slowest_ms"`
	// Cut chats and Failed requests are those since the first of these changes.
	Cut      int `json:"cut"`
	Failed   int `json:"failed"`
	Revision int `json:"revision"`
	// Total is how many changes were applied since the start.
	Total int `json:"total"`
	// Problem says why it ended early; empty = it didn't.
	Problem string `json:"problem"`
}

// LockOutState is how a lock-out goes; how the last one went, when none is under
// way.
type LockOutState struct {
	Active bool `json:"active"`
	// Seconds is how long one lasts; Left how much of it is left.
	Seconds float64 `json:"seconds"`
	Left    float64 `json:"left_s"`
	// URL is where the administrators' API was; Reachable whether it answers there.
	URL       string `json:"url"`
	Reachable bool   `json:"reachable"`
	// Took is how long it did not answer, in seconds; 0 = no lock-out has ended.
	Took float64 `json:"took_s"`
	// Cut chats and Failed requests are those since it began.
	Cut     int    `json:"cut"`
	Failed  int    `json:"failed"`
	Outcome string `json:"outcome"` // a sentence; empty = none has ended
	Problem string `json:"problem"`
}

// Hint is a command to try in a shell.
type Hint struct {
	Text    string
	Command string
}

// RoomOptions are what the control room shows and does.
type RoomOptions struct {
	// Listener is where the room answers, over plain HTTP. It belongs to the room.
	Listener net.Listener
	Actions  Actions
	State    func() State
	// Names are the servers' names, in order.
	Names []string
	// Site, API and Statistics are links; empty = there is none.
	Site, API, Statistics string
	// Changes is how many one press applies.
	Changes int
	// Hints are commands to try.
	Hints []Hint
}

// Room is the control room: one page with its figures and buttons.
//
// It stands open to every program on this machine and to nobody else. Pages of
// other sites that a browser shows meanwhile can neither read it (it answers under
// its own name alone) nor press its buttons (each wants the token that only this
// page knows, and a request that comes from it).
type Room struct {
	options RoomOptions
	token   string
	server  *http.Server
	running sync.WaitGroup
}

// tokenField is the header field that a button's request carries the token in.
const tokenField = "X-Demo-Token"

// OpenRoom opens it.
func OpenRoom(o RoomOptions) *Room {
	r := &Room{options: o, token: rand.Text()}
	page := template.Must(template.ParseFS(assets, "assets/room.html"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { r.page(w, page) })
	mux.HandleFunc("GET /room.js", asset("room.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /room.css", asset("room.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", asset("icon.svg", "image/svg+xml"))
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, o.State()) })
	for _, verb := range Verbs() {
		r.button(mux, "/servers/{name}/"+string(verb), func(req *http.Request) error {
			return o.Actions.Server(req.Context(), req.PathValue("name"), verb)
		})
	}
	r.button(mux, "/apply", func(*http.Request) error { return o.Actions.Apply() })
	r.button(mux, "/lock-out", func(*http.Request) error { return o.Actions.LockOut() })
	r.button(mux, "/return", func(*http.Request) error { return o.Actions.Return() })
	r.server = &http.Server{
		Handler:           onlyOwnPages(o.Listener.Addr().String(), mux),
		ReadHeaderTimeout: writeWithin, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: silent(),
	}
	r.running.Go(func() { _ = r.server.Serve(o.Listener) }) // ends with ErrServerClosed
	return r
}

// URL is where the room is.
func (r *Room) URL() string { return "http://" + r.options.Listener.Addr().String() + "/" }

// Close closes it.
func (r *Room) Close() {
	_ = r.server.Close() // nobody is left to answer
	r.running.Wait()
}

// page shows the page. Its token makes it a page that no cache may keep.
func (r *Room) page(w http.ResponseWriter, page *template.Template) {
	addHeaders(w.Header(), "'self'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, struct {
		RoomOptions
		Token string
	}{r.options, r.token})
}

// button lets a POST that has the token do something.
func (r *Room) button(mux *http.ServeMux, path string, act func(*http.Request) error) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
		if subtle.ConstantTimeCompare([]byte(req.Header.Get(tokenField)), []byte(r.token)) != 1 {
			answerProblem(w, http.StatusForbidden, "This page is of another run of the demo. Load it again.")
			return
		}
		if err := act(req); err != nil {
			status := http.StatusConflict
			if errors.Is(err, ErrNoServer) {
				status = http.StatusNotFound
			}
			answerProblem(w, status, err.Error())
			return
		}
		answerJSON(w, r.options.State())
	})
}

// ErrNoServer says that there is no server of that name.
var ErrNoServer = errors.New("there is no server of that name")

func answerProblem(w http.ResponseWriter, status int, text string) {
	addHeaders(w.Header(), "'none'")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"problem": text}) // whoever is gone needs no answer
}
