package helper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluis/internal/text"

	"github.com/google/go-cmp/cmp"
)

// childMode makes this test binary a process of its own: see TestMain.
const childMode = "SLUIS_HELPER_TEST_CHILD"

func TestMain(m *testing.M) {
	switch mode, socket, _ := strings.Cut(os.Getenv(childMode), " "); mode {
	case "":
		os.Exit(m.Run())
	case "call": // call the helper and say what came of it
		identity, err := Dial(socket).Identify(context.Background())
		fmt.Printf("%d %s %v\n", os.Getuid(), identity.Version, err)
	case "serve": // be a helper until the parent closes our input
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			_, _ = os.Stdin.Read(make([]byte, 1))
			cancel()
		}()
		listener, err := Listener(socket, os.Getenv)
		if err == nil {
			err = Serve(ctx, listener, Local("of the child"), Options{AllowUID: os.Getuid()})
		}
		fmt.Println(err)
	}
}

// echo is a verb with arguments, as later ones have.
var echo = verb[echoArgs, echoResult]{name: "echo", limit: 100 * time.Millisecond}

type echoArgs struct {
	Word   string   `json:"word"`
	Times  int      `json:"times"`
	Nested struct{} `json:"nested"`
}

func (a echoArgs) Check() text.Msg {
	if a.Word == "forbidden" {
		return text.M("this word is not allowed")
	}
	return text.Msg{}
}

func (a echoArgs) Summary() string { return "word of " + fmt.Sprint(len(a.Word)) }

type echoResult struct {
	Words []string `json:"words"`
}

func doEcho(ctx context.Context, a echoArgs) (echoResult, error) {
	switch a.Word {
	case "fail":
		return echoResult{}, errors.New("out of words")
	case "worded":
		return echoResult{}, fmt.Errorf("wrapped: %w", &Error{Refused, text.M("in words of its own")})
	case "long":
		return echoResult{[]string{strings.Repeat("x", maxLineBytes)}}, nil
	case "long failure":
		return echoResult{}, errors.New(strings.Repeat("x", maxLineBytes))
	case "slow":
		<-ctx.Done()
		return echoResult{}, ctx.Err()
	}
	var r echoResult
	for range a.Times {
		r.Words = append(r.Words, a.Word)
	}
	return r, nil
}

// running is a helper in this process, on a real socket.
type running struct {
	t        *testing.T
	socket   string
	counters *Counters
	stop     func()

	mu      sync.Mutex
	records []Record
}

// start serves identify and echo; more entries may be given.
func start(t *testing.T, options Options, more ...entry) *running {
	t.Helper()
	return startAt(t, filepath.Join(t.TempDir(), "s"), options, more...)
}

func startAt(t *testing.T, socket string, options Options, more ...entry) *running {
	t.Helper()
	r := &running{t: t, socket: socket, counters: &Counters{}}
	listener, err := Listener(r.socket, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if options.AllowUID == 0 {
		options.AllowUID = os.Getuid()
	}
	options.Counters = r.counters
	options.Audit = func(record Record) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.records = append(r.records, record)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	entries := append(append(table(Local("v1")), echo.served(doEcho)), more...)
	go func() { done <- serveEntries(ctx, listener, entries, options.complete()) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		checkNoGoroutines(t)
	})
	t.Cleanup(r.stop)
	return r
}

// checkNoGoroutines looks for goroutines of a helper's side that has returned. It
// has waited for its calls; what merely sets a deadline may take a moment.
func checkNoGoroutines(t *testing.T) {
	t.Helper()
	stacks := func() string {
		buffer := make([]byte, 1<<20)
		return string(buffer[:runtime.Stack(buffer, true)])
	}
	if now := stacks(); strings.Contains(now, "helper.(*server).serve(") {
		t.Errorf("a call outlives Serve:\n%s", now)
	}
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		now := stacks()
		if !strings.Contains(now, "helper.(*server)") && !strings.Contains(now, "helper.serveEntries") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", now)
		}
	}
}

// audit stops the helper and gives its records in short: code, verb, arguments,
// message.
func (r *running) audit() []string {
	r.t.Helper()
	r.stop()
	var short []string
	for _, record := range r.records {
		if record.Time.IsZero() || record.Peer.UID >= 0 && record.Peer.PID == 0 {
			r.t.Errorf("the record %+v lacks time or peer", record)
		}
		short = append(short, strings.TrimSpace(fmt.Sprintf("%s|%s|%s|%s", record.Code, record.Verb, record.Args, record.Message)))
	}
	return short
}

// raw is a peer that sends what it likes.
type raw struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
}

func (r *running) raw() *raw {
	r.t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &raw{r.t, conn, bufio.NewReaderSize(conn, 2*maxLineBytes)}
}

func (p *raw) send(text string) {
	_, _ = p.conn.Write([]byte(text)) // a refused peer may find the connection closed
}

// answer is the next line in short: the result, or code and message.
func (p *raw) answer() string {
	p.t.Helper()
	line, err := p.reader.ReadBytes('\n')
	if err != nil {
		return "closed"
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		p.t.Fatalf("the answer %q: %v", line, err)
	}
	if r.Error != nil {
		return string(r.Error.Code) + ": " + r.Error.Message.String()
	}
	return string(r.Result)
}

func TestRoundTrip(t *testing.T) {
	r := start(t, Options{})
	remote, err := Dial(r.socket).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	local, err := Local("v1").Identify(t.Context())
	if diff := cmp.Diff(local, remote); diff != "" || err != nil {
		t.Errorf("Identify (-local +remote): %v\n%s", err, diff)
	}
	got, err := echo.call(t.Context(), r.socket, echoArgs{Word: "hi", Times: 2})
	if diff := cmp.Diff(echoResult{[]string{"hi", "hi"}}, got); diff != "" || err != nil {
		t.Errorf("echo (-want +got): %v\n%s", err, diff)
	}
	if info, err := os.Stat(r.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v (%v), want 0600", info.Mode(), err)
	}
	if diff := cmp.Diff([]string{"|identify||", "|echo|word of 2|"}, r.audit()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(r.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// TestEveryVerbIsOnBothSides holds the closed list together: each field of Verbs
// has its work in Local, its call in Dial and its entry in table, and the call
// reaches the right func.
func TestEveryVerbIsOnBothSides(t *testing.T) {
	var stubs Verbs
	var reached string
	fields := reflect.TypeFor[Verbs]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		stub := reflect.MakeFunc(field.Type, func([]reflect.Value) []reflect.Value {
			reached = field.Name
			return []reflect.Value{reflect.Zero(field.Type.Out(0)), reflect.Zero(field.Type.Out(1))}
		})
		reflect.ValueOf(&stubs).Elem().Field(i).Set(stub)
	}
	entries := table(stubs)
	if len(entries) != fields.NumField() {
		t.Errorf("table has %d verbs, Verbs has %d", len(entries), fields.NumField())
	}
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	var last Record
	go func() {
		done <- Serve(ctx, listener, stubs, Options{AllowUID: os.Getuid(), Audit: func(r Record) { last = r }})
	}()
	for i := range fields.NumField() {
		field := fields.Field(i)
		if reflect.ValueOf(Local("v")).Field(i).IsNil() {
			t.Errorf("Local lacks %s", field.Name)
		}
		dialled := reflect.ValueOf(Dial(socket)).Field(i)
		if dialled.IsNil() {
			t.Errorf("Dial lacks %s", field.Name)
			continue
		}
		in := []reflect.Value{reflect.ValueOf(t.Context())}
		for j := 1; j < field.Type.NumIn(); j++ {
			in = append(in, reflect.Zero(field.Type.In(j)))
		}
		reached = ""
		err, _ := dialled.Call(in)[1].Interface().(error)
		refusedByCheck := last.Code == Refused && last.Args != ""
		if reached != field.Name && !refusedByCheck || !strings.EqualFold(strings.ReplaceAll(last.Verb, "_", ""), field.Name) {
			t.Errorf("%s over the socket reached %q as the verb %q: %v", field.Name, reached, last.Verb, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	deep := strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)
	var wide strings.Builder
	for i := range maxKeys + 1 {
		fmt.Fprintf(&wide, `"a%d":1,`, i)
	}
	tests := []struct {
		name, request, answer, audit string
	}{
		{"unknown verb", `{"verb":"shell"}`, "refused: the root helper knows no verb shell", "refused|shell|"},
		{"verb in other letters", `{"verb":"Echo"}`, "refused: the root helper knows no verb Echo", "refused|Echo|"},
		{"unknown argument", `{"verb":"echo","args":{"words":"x"}}`, `refused: the arguments of echo cannot be read: unknown field "words"`, "refused|echo|"},
		{"argument where none is", `{"verb":"identify","args":{"a":1}}`, `refused: the arguments of identify cannot be read: unknown field "a"`, "refused|identify|"},
		{"argument of another type", `{"verb":"echo","args":{"times":"2"}}`, "refused: the arguments of echo cannot be read: cannot unmarshal", "refused|echo|"},
		{"argument twice", `{"verb":"echo","args":{"word":"a","word":"forbidden"}}`, "malformed: this is no request: the field word is given twice", "malformed||"},
		{"argument twice in other letters", `{"verb":"echo","args":{"word":"a","WORD":"b"}}`, "malformed: this is no request: the field WORD is given twice", "malformed||"},
		{"arguments are a list", `{"verb":"echo","args":[]}`, "refused: the arguments of echo cannot be read: an object is needed", "refused|echo|"},
		{"arguments are null", `{"verb":"echo","args":null}`, "refused: the arguments of echo cannot be read: an object is needed", "refused|echo|"},
		{"check says no", `{"verb":"echo","args":{"word":"forbidden"}}`, "refused: the arguments of echo are not allowed: this word is not allowed", "refused|echo|word of 9|"},
		{"work fails", `{"verb":"echo","args":{"word":"fail"}}`, "failed: echo failed: out of words", "failed|echo|word of 4|"},
		{"work fails in words", `{"verb":"echo","args":{"word":"worded"}}`, "refused: in words of its own", "refused|echo|word of 6|"},
		{"work takes too long", `{"verb":"echo","args":{"word":"slow"}}`, "timed_out: echo took longer than 100ms and was given up", "timed_out|echo|word of 4|"},
		{"result too long", `{"verb":"echo","args":{"word":"long"}}`, "failed: the root helper's answer is too long to be sent", "|echo|word of 4|"},
		{"reason too long", `{"verb":"echo","args":{"word":"long failure"}}`, "failed: the root helper's answer is too long to be sent", "failed|echo|word of 12|"},
		{"unknown field", `{"verb":"echo","shell":"x"}`, `malformed: this is no request: unknown field "shell"`, "malformed||"},
		{"unknown field, endless", `{"verb":"echo","` + strings.Repeat("x", 9000) + `":1}`, `malformed: this is no request: unknown field "xxx`, "malformed||"},
		{"garbage", "GET / HTTP/1.1", "malformed: this is no request: invalid character", "malformed||"},
		{"empty line", "", "malformed: this is no request: an object is needed", "malformed||"},
		{"cut off", `{"verb":"echo"`, "malformed: this is no request: it is cut off", "malformed||"},
		{"not an object", `"echo"`, "malformed: this is no request: an object is needed", "malformed||"},
		{"no verb", `{"args":{}}`, "malformed: this is no request: it names no verb", "malformed||"},
		{"verb too long", `{"verb":"` + strings.Repeat("x", maxVerbBytes+1) + `"}`, "malformed: this is no request: it names no verb", "malformed||"},
		{"two in a line", `{"verb":"identify"}{"verb":"identify"}`, "malformed: this is no request: something follows its end", "malformed||"},
		{"nested too deep", deep, "malformed: this is no request: it is nested too deep", "malformed||"},
		{"too many fields", "{" + strings.TrimSuffix(wide.String(), ",") + "}", "malformed: this is no request: it has too many fields", "malformed||"},
		{"zero bytes", "\x00\x00\x00", "malformed: this is no request: invalid character", "malformed||"},
		{"too long", strings.Repeat("x", maxLineBytes), "malformed: the request is longer than 65536 bytes", "malformed||"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Options{})
			p := r.raw()
			p.send(tt.request + "\n")
			if got := p.answer(); !strings.HasPrefix(got, tt.answer) {
				t.Errorf("answer %.300q, want %q", got, tt.answer)
			}
			// A peer that does not keep to the form is done; another may go on.
			p.send(`{"verb":"echo","args":{"word":"next","times":1}}` + "\n")
			want := `{"words":["next"]}`
			if strings.HasPrefix(tt.answer, "malformed") {
				want = "closed"
			}
			if got := p.answer(); got != want {
				t.Errorf("the next answer is %q, want %q", got, want)
			}
			audit := r.audit()
			if len(audit) == 0 || !strings.HasPrefix(audit[0], tt.audit) || len(audit[0]) > 1000 && !strings.HasSuffix(tt.name, "too long") {
				t.Errorf("audit is %.300q, want %q", audit, tt.audit)
			}
			if got := r.counters.Calls.Load(); got != uint64(len(audit)) {
				t.Errorf("%d calls were counted, %d audited", got, len(audit))
			}
		})
	}
}

func TestSlowPeer(t *testing.T) {
	r := start(t, Options{RequestTimeout: 50 * time.Millisecond})
	if got := r.raw().answer(); got != "closed" { // says nothing: no call
		t.Errorf("a silent peer is answered %q, want closed", got)
	}
	slow := r.raw()
	slow.send(`{"verb":"iden`)
	if got, want := slow.answer(), "timed_out: the request did not arrive within 50ms"; got != want {
		t.Errorf("a slow peer is answered %q, want %q", got, want)
	}
	if got := slow.answer(); got != "closed" {
		t.Errorf("then it is answered %q, want closed", got)
	}
	if diff := cmp.Diff([]string{"timed_out|||the request did not arrive within 50ms"}, r.audit()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func TestBrokenPeer(t *testing.T) {
	r := start(t, Options{})
	broken := r.raw()
	broken.send(`{"verb":"iden`)
	_ = broken.conn.(*net.UnixConn).CloseWrite()
	if got, want := broken.answer(), "malformed: the request is cut off"; got != want {
		t.Errorf("a broken peer is answered %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"malformed|||the request is cut off"}, r.audit()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func TestTooManyConnections(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	hold := verb[none, none]{name: "hold", limit: time.Minute}
	r := start(t, Options{MaxConnections: 1}, hold.served(func(ctx context.Context, _ none) (none, error) {
		close(entered)
		<-leave
		return none{}, nil
	}))
	held := make(chan error)
	go func() {
		_, err := hold.call(t.Context(), r.socket, none{})
		held <- err
	}()
	<-entered
	_, err := Dial(r.socket).Identify(t.Context())
	checkError(t, err, Busy, "the root helper has 1 calls at once and takes no more")
	close(leave)
	if err := <-held; err != nil {
		t.Error(err)
	}
	// The slot is free again as soon as the peer is gone.
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if _, err = Dial(r.socket).Identify(t.Context()); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
	if got := r.counters.Busy.Load(); got == 0 {
		t.Error("nobody counted the refused connection")
	}
	if audit := r.audit(); audit[0] != "busy|||the root helper has 1 calls at once and takes no more" || audit[1] != "|hold||" {
		t.Errorf("audit is %q, want the refused call and the held one", audit)
	}
}

func checkError(t *testing.T, err error, code Code, message string) {
	t.Helper()
	var worded *Error
	if !errors.As(err, &worded) || worded.Code != code || !strings.Contains(worded.Error(), message) {
		t.Errorf("error is %v, want %s: %s", err, code, message)
	}
}

func TestWrongUserIsRefused(t *testing.T) {
	if os.Getuid() == 0 {
		t.Run("nobody", func(t *testing.T) { checkUser(t, 65534, 12345, false) })
		t.Run("the service", func(t *testing.T) { checkUser(t, 65534, 65534, true) })
		t.Run("root", func(t *testing.T) { checkUser(t, 0, 12345, true) })
		return
	}
	r := start(t, Options{AllowUID: os.Getuid() + 1})
	_, err := Dial(r.socket).Identify(t.Context())
	checkError(t, err, Refused, fmt.Sprintf("the user %d may not call", os.Getuid()))
}

// checkUser calls from a process of that user. The socket is an abstract one: no
// file's mode stands before SO_PEERCRED.
func checkUser(t *testing.T, uid, allowed int, want bool) {
	r := startAt(t, fmt.Sprintf("@sluis-helper-test-%d-%d-%d", os.Getpid(), uid, allowed), Options{AllowUID: allowed})
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Dir = "/"
	cmd.Env = []string{childMode + "=call " + r.socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	answer, audited, wrong := fmt.Sprintf("%d v1 <nil>\n", uid), "|identify||", uint64(0)
	if !want {
		message := fmt.Sprintf("the user %d may not call the root helper", uid)
		answer, audited, wrong = fmt.Sprintf("%d  %s\n", uid, message), "refused|||"+message, 1
	}
	if string(out) != answer {
		t.Errorf("the child says %q, want %q", out, answer)
	}
	if diff := cmp.Diff([]string{audited}, r.audit()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if got := r.counters.WrongPeer.Load(); got != wrong {
		t.Errorf("%d wrong peers were counted, want %d", got, wrong)
	}
	if got := r.records[0].Peer; got.UID != uid || got.GID != uid {
		t.Errorf("the audit names %+v, want user and group %d", got, uid)
	}
}

func TestPanicIsAudited(t *testing.T) {
	var records []Record
	s := &server{
		options: Options{Audit: func(r Record) { records = append(records, r) }}.complete(),
		verbs: map[string]entry{"bad": verb[none, none]{name: "bad", limit: time.Minute}.served(
			func(context.Context, none) (none, error) { panic("oh") })},
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		s.call(t.Context(), nil, Peer{PID: 1}, []byte(`{"verb":"bad"}`))
	}()
	if len(records) != 1 || records[0].Verb != "bad" || records[0].Code != Failed || records[0].Message.IsZero() {
		t.Errorf("audit is %+v, want the panic", records)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	entered := make(chan struct{})
	long := verb[none, none]{name: "long", limit: time.Hour}
	r := start(t, Options{}, long.served(func(ctx context.Context, _ none) (none, error) {
		close(entered)
		<-ctx.Done()
		for range 1000 { // cleaning up takes a while
			runtime.Gosched()
		}
		return none{}, ctx.Err()
	}))
	idle := r.raw()
	result := make(chan error)
	go func() {
		_, err := long.call(context.Background(), r.socket, none{})
		result <- err
	}()
	<-entered
	r.stop()
	checkError(t, <-result, Failed, "long failed: context canceled")
	if got := idle.answer(); got != "closed" {
		t.Errorf("an idle peer is answered %q, want closed", got)
	}
	_, err := Dial(r.socket).Identify(t.Context())
	checkError(t, err, Unreachable, "cannot be reached: no such file or directory")
}

func TestCallsThatFailOnTheWay(t *testing.T) {
	dir := t.TempDir()
	answering := func(name, answer string) string {
		listener, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = bufio.NewReader(conn).ReadBytes('\n')
				_, _ = conn.Write([]byte(answer))
				if answer != "" || name == "dumb" {
					_ = conn.Close()
				} else {
					t.Cleanup(func() { conn.Close() })
				}
			}
		}()
		return listener.Addr().String()
	}
	given, cancel := context.WithCancel(t.Context())
	defer cancel()
	short := verb[none, Identity]{name: "identify", limit: 20*time.Millisecond - answerGrace}
	for _, tt := range []struct {
		name, socket string
		ctx          context.Context
		code         Code
		message      string
	}{
		{"dead socket", filepath.Join(dir, "none"), t.Context(), Unreachable, "no such file or directory"},
		{"no answer", answering("dumb", ""), t.Context(), Unreachable, "it closed the connection without an answer"},
		{"garbage", answering("garbage", "hello\n"), t.Context(), Unreachable, "its answer cannot be read: invalid character"},
		{"neither result nor error", answering("empty", "{}\n"), t.Context(), Unreachable, "its answer cannot be read: "},
		{"answer too long", answering("long", strings.Repeat("x", maxLineBytes+1)), t.Context(), Unreachable, "its answer is too long"},
		{"no answer in time", answering("silent", ""), t.Context(), TimedOut, "did not answer identify in time"},
		{"given up", answering("silent2", ""), given, TimedOut, "was given up before the root helper answered"},
	} {
		v := identify
		switch tt.name {
		case "no answer in time":
			v = short
		case "given up":
			time.AfterFunc(time.Millisecond, cancel)
		}
		_, err := v.call(tt.ctx, tt.socket, none{})
		t.Run(tt.name, func(t *testing.T) { checkError(t, err, tt.code, tt.message) })
	}
	_, err := echo.call(t.Context(), filepath.Join(dir, "none"), echoArgs{Word: strings.Repeat("x", maxLineBytes)})
	checkError(t, err, Refused, "the arguments of echo are too long")
}

func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"verb":"echo","args":{"word":"a","times":1}}`, `{"verb":"echo","args":{"nested":{}}}`, `{"verb":"echo"}`,
		`{"verb":"echo","args":{"word":"a","word":"b"}}`, `{"verb":"","args":[[[{}]]]}`, `{"a":{"b":1},"a":2}`, "{}{}",
	} {
		f.Add([]byte(seed))
	}
	e := echo.served(func(_ context.Context, a echoArgs) (echoResult, error) { return echoResult{[]string{a.Word}}, nil })
	f.Fuzz(func(t *testing.T, line []byte) {
		r, failure := decodeRequest(line)
		if failure != nil {
			if failure.Message.IsZero() || len(failure.Error()) > 1000 {
				t.Fatalf("refused with %q", failure)
			}
			return
		}
		if r.Verb == "" || len(r.Verb) > maxVerbBytes {
			t.Fatalf("taken without a good verb: %+v", r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if twice, failure := decodeRequest(again); failure != nil || twice.Verb != strings.ToValidUTF8(r.Verb, "\uFFFD") {
			t.Fatalf("what was taken is refused when written again: %s: %v", again, failure)
		}
		result, _, failure := e.run(t.Context(), r.Args)
		if (result == nil) == (failure == nil) {
			t.Fatalf("run = %s, %v: want a result or a failure", result, failure)
		}
	})
}
