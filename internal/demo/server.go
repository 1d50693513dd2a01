package demo

import (
	"crypto/rand"
	"crypto/tls"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

//go:embed assets
var assets embed.FS

// HealthPath is what a health check asks a demo server for, as it asks a web
// server of the contact centre.
const HealthPath = "/system/web/view/platform/common/login/root.jsp"

const (
	// chatPath is where a chat's WebSocket begins.
	chatPath = "/chat/socket"
	// largeBytes is the size of the page that takes a while to carry.
	largeBytes = 64 << 10
	// maxEcho bounds what a server echoes, in bytes.
	maxEcho = 1 << 20
	// chatIdle is how long a chat may be silent before its server ends it.
	chatIdle = 2 * time.Minute
)

// ServerOptions say who a demo server is and where it listens.
type ServerOptions struct {
	Name        string
	Certificate tls.Certificate
	// Listener takes the site's requests, over TLS; Control what is done to the
	// server, over plain HTTP. Both belong to the server from here on.
	Listener, Control net.Listener
}

// Server is a web server of the demo.
//
//	well ──Fail──► failing: 500 to everything; open chats go on
//	  ▲ ◄─Recover─┘
//	  └──Start── stopped ◄──Stop── either: its socket and all connections are closed
type Server struct {
	options ServerOptions // immutable
	address string        // of Listener; it stays over Stop and Start
	page    *template.Template
	control *http.Server
	running sync.WaitGroup // of everything that serves

	mu sync.Mutex
	// What follows is guarded by mu.
	web     *webServer // nil while stopped
	stopped time.Time  // the last time; zero = never
	failing bool
	chats   map[*webSocket]struct{}
}

// webServer is a server from one start to the next stop.
type webServer struct {
	http.Server
	ended chan struct{} // closed when it has let go of its listener
}

// ServerState is what a server says of itself.
type ServerState struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	Failing bool   `json:"failing"`
	Chats   int    `json:"chats"`
}

// NewServer starts a server.
func NewServer(o ServerOptions) *Server {
	s := &Server{
		options: o, address: o.Listener.Addr().String(), chats: map[*webSocket]struct{}{},
		page: template.Must(template.ParseFS(assets, "assets/chat.html")),
	}
	s.serve(o.Listener)
	s.control = &http.Server{
		Handler: onlyOwnPages(o.Control.Addr().String(), s.controlHandler()), ReadHeaderTimeout: writeWithin, ErrorLog: silent(),
	}
	s.running.Go(func() { _ = s.control.Serve(o.Control) }) // ends with ErrServerClosed
	return s
}

// silent is for servers whose clients' faults are no news.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// Name is the server's name.
func (s *Server) Name() string { return s.options.Name }

// Address is where the server takes the site's requests.
func (s *Server) Address() string { return s.address }

// URL is the same as an address of pages.
func (s *Server) URL() string { return "https://" + s.address + "/" }

// ControlURL is where a POST does something to the server: fail, recover, stop or
// start.
func (s *Server) ControlURL(verb string) string {
	return "http://" + s.options.Control.Addr().String() + "/" + verb
}

// State is what the server says of itself.
func (s *Server) State() ServerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerState{s.options.Name, s.web != nil, s.failing, len(s.chats)}
}

// serve takes requests that come to a listener.
func (s *Server) serve(l net.Listener) {
	web := &webServer{ended: make(chan struct{}), Server: http.Server{
		Handler: s.webHandler(), ReadHeaderTimeout: writeWithin, IdleTimeout: chatIdle, ErrorLog: silent(),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.options.Certificate}},
		Protocols: new(http.Protocols),
	}}
	web.Protocols.SetHTTP1(true) // a WebSocket takes its connection over, which HTTP/2 has no way to
	s.mu.Lock()
	s.web = web
	s.mu.Unlock()
	s.running.Go(func() {
		defer close(web.ended)
		_ = web.ServeTLS(l, "", "") // ends with ErrServerClosed
	})
}

// Stop ends the server as a crash does: nobody listens any more, and every
// connection is gone. It does nothing to a server that is stopped.
func (s *Server) Stop() {
	s.mu.Lock()
	web, chats := s.web, s.chats
	s.web, s.chats = nil, map[*webSocket]struct{}{}
	if web != nil {
		s.stopped = time.Now()
	}
	s.mu.Unlock()
	if web == nil {
		return
	}
	_ = web.Close() // its connections are gone either way
	for chat := range chats {
		chat.close()
	}
	<-web.ended
}

// grace is how much later than the server a visitor may date the beginning of a
// chat: by the time that an answer takes on a busy machine.
const grace = 3 * time.Second

// WasStopped reports whether the server is stopped, or was since a chat began: then
// that has ended with it.
func (s *Server) WasStopped(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.web == nil || s.stopped.After(since.Add(-grace))
}

// Start lets a stopped server listen again, at the same address.
func (s *Server) Start() error {
	if s.State().Running {
		return nil
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.options.Name, err)
	}
	s.serve(l)
	return nil
}

// SetFailing makes the server answer 500 to everything, or heals it.
func (s *Server) SetFailing(failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = failing
}

// Close ends the server for good.
func (s *Server) Close() {
	s.Stop()
	_ = s.control.Close()
	s.running.Wait()
}

// webHandler answers the site's requests.
func (s *Server) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.chatPage)
	mux.HandleFunc("GET "+HealthPath, s.health)
	mux.HandleFunc(chatPath, s.chat)
	mux.HandleFunc("GET /chat.js", asset("chat.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /chat.css", asset("chat.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", asset("icon.svg", "image/svg+xml"))
	mux.HandleFunc("GET /large", s.large)
	mux.HandleFunc("POST /echo", s.echo)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(serverField, s.options.Name)
		if s.State().Failing {
			http.Error(w, s.options.Name+" fails, as it was told to", http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// asset answers with an embedded file.
func asset(name, contentType string) http.HandlerFunc {
	data, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic("BUG: there is no asset " + name)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		addHeaders(w.Header(), "'none'")
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(data) // whoever is gone needs no answer
	}
}

// remember gives a visitor without one a session, as servlet containers do.
func (s *Server) remember(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie("JSESSIONID"); err == nil {
		return
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	http.SetCookie(w, &http.Cookie{
		Name: "JSESSIONID", Value: fmt.Sprintf("%X.%s", id, s.options.Name), Path: "/", Secure: true, HttpOnly: true,
	})
}

func (s *Server) chatPage(w http.ResponseWriter, r *http.Request) {
	addHeaders(w.Header(), "'self'")
	s.remember(w, r)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = s.page.Execute(w, s.options.Name)
}

// health is the page that health checks ask for. The contact centre's own wants
// the partition.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("partitionId") == "" {
		http.Error(w, "partitionId is missing", http.StatusBadRequest)
		return
	}
	s.remember(w, r)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!doctype html>\n<title>Log in</title>\n<h1>Log in</h1>\n<p>%s is well.</p>\n", s.options.Name)
}

func (s *Server) large(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	line := []byte("Fifteen bytes.\n\n")
	for range largeBytes / len(line) {
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

func (s *Server) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEcho))
	if err != nil {
		http.Error(w, "the body can't be read", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(body)
}

// chatLine is what is said in a chat, as JSON.
type chatLine struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// chat is one conversation: what the visitor writes is answered by the agent at
// this server.
func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	socket, err := acceptWebSocket(w, r)
	if err != nil {
		return // it was answered
	}
	defer socket.close()
	socket.idle = chatIdle
	if !s.enter(socket) {
		return // stopped meanwhile
	}
	defer s.leave(socket)
	say := func(text string) error {
		line, err := json.Marshal(chatLine{s.options.Name, text})
		if err != nil {
			return err
		}
		return socket.send(opText, line)
	}
	if say("Good day, this is the agent at "+s.options.Name+".") != nil {
		return
	}
	for n := 1; ; n++ {
		kind, message, err := socket.receive()
		if err != nil {
			return
		}
		text := string(message)
		if kind == opBinary {
			text = hex.EncodeToString(message)
		}
		if say(fmt.Sprintf("%s got your message %d: %s", s.options.Name, n, text)) != nil {
			return
		}
	}
}

// enter notes a chat; false when the server is stopped.
func (s *Server) enter(chat *webSocket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.web == nil {
		return false
	}
	s.chats[chat] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) leave(chat *webSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.chats, chat)
	s.running.Done()
}

// controlHandler does things to the server.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	do := func(verb string, act func() error) {
		mux.HandleFunc("POST /"+verb, func(w http.ResponseWriter, _ *http.Request) {
			if err := act(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			answerJSON(w, s.State())
		})
	}
	do("fail", func() error { s.SetFailing(true); return nil })
	do("recover", func() error { s.SetFailing(false); return nil })
	do("stop", func() error { s.Stop(); return nil })
	do("start", s.Start)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, s.State()) })
	return mux
}

func answerJSON(w http.ResponseWriter, data any) {
	addHeaders(w.Header(), "'none'")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(data) // whoever is gone needs no answer
}
