// Package sluis_test holds the source tree to the floor plan of
// docs/ARCHITECTURE.md: who may import whom, which libraries stand where, and
// the habits that a compiler does not see. The rules are in
// architecture_rules_test.go, each proven there on source that breaks it.
//
// The sources are read and parsed in this process: what a test opens is part of
// the test cache's key, what a subprocess reads is not.
package sluis_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// room is one line of the floor plan.
type room struct {
	// may are the rooms it may import; everything means all of them.
	may []string
	// tests are further rooms that only its tests may import.
	tests []string
	// why is the reason for the walls of this room.
	why string
}

// everything in room.may lets a room import all others.
const everything = "*"

// floorPlan says who may import whom, by the directory under internal, or under
// the root for cmd. A line that is not here is a wall. The rooms after cmd/sluis
// of each group may not exist yet; their walls do.
var floorPlan = map[string]room{
	"cmd/sluis": {may: []string{everything}, why: "main joins what the rooms need of each other"},

	"text":       {why: "every room may use it, so it can use none"},
	"config":     {may: []string{"config/wire", "text"}, why: "the model is pure data: nothing that it imports could be below it"},
	"event":      {may: []string{"text"}, why: "a fact is told by any room, so the log of facts knows none"},
	"stats":      {may: []string{"text"}, why: "numbers are counted by any room, so their store knows none"},
	"stats/page": {may: []string{"config", "control", "text"}, why: "draws what control tells; main reads the data plane for it"},
	"store":      {may: []string{"text"}, why: "documents are bytes to it; the model can change without touching the disk's format"},
	"helper":     {may: []string{"text"}, why: "the only code that runs as root stays small enough to read in one go"},

	// The room inside config is its own: others hold documents as bytes or as
	// config's types, never as a tree.
	"config/wire": {may: []string{"text"}, why: "YAML and JSON as a tree; knows no field, so that it is fuzzed and measured alone"},

	"auth":    {may: []string{"config", "event", "text"}, why: "knows administrators, not what they administer"},
	"apply":   {may: []string{"config", "event", "store", "text"}, tests: []string{"apply/applytest"}, why: "subsystems come to it as an interface"},
	"control": {may: []string{"config", "store", "apply", "auth", "event", "pki", "text"}, tests: []string{"apply/applytest"}, why: "the only door to change the machine; subsystems come to it as funcs"},
	"api":     {may: []string{"control", "apply", "auth", "config", "event", "store", "text"}, tests: []string{"apply/applytest", "pki"}, why: "holds no rules: it translates HTTP to control and back"},
	// Recording subsystems: for tests alone, so no product code may import them.
	"apply/applytest": {may: []string{"apply", "config", "text"}, why: "stands in for subsystems in the tests of the rooms around the engine"},

	"gui":     {may: []string{"control", "apply", "auth", "config", "event", "store", "stats", "text"}, why: "holds no rules: it draws what control says"},
	"console": {may: []string{"control", "apply", "auth", "config", "event", "text"}, why: "holds no rules: a numbered menu over control"},

	// Subsystems know neither each other nor apply; what one needs of another
	// is a func or a small interface that main joins.
	"pki":      {may: []string{"config", "event", "text"}, why: "a subsystem"},
	"network":  {may: []string{"config", "event", "text"}, why: "a subsystem"},
	"firewall": {may: []string{"config", "event", "text"}, why: "a subsystem"},
	"vip":      {may: []string{"config", "event", "text"}, why: "a subsystem"},
	"system":   {may: []string{"config", "event", "text"}, why: "a subsystem"},
	"resolve":  {may: []string{"config", "event", "text"}, why: "a subsystem"},
	"health":   {may: []string{"config", "event", "stats", "text"}, why: "a subsystem"},
	"migrate":  {may: []string{"config", "text"}, why: "a pure translation of the document"},

	"proxy": {
		may: []string{
			"config", "event", "text",
			"proxy/loop", "proxy/tlsio", "proxy/transport", "proxy/message", "proxy/http1", "proxy/http2", "proxy/rule",
			"proxy/balance", "proxy/persist", "proxy/upstream", "proxy/accesslog",
		},
		why: "a subsystem; it alone translates the document for its inner rooms",
	},
	// The rooms inside proxy do not see config: they are fuzzed and measured
	// alone, and can later run as an unprivileged child.
	"proxy/loop":      {why: "readiness and timers; knows no protocol"},
	"proxy/tlsio":     {may: []string{"proxy/loop"}, why: "crypto/tls inside a loop"},
	"proxy/transport": {may: []string{"proxy/loop", "proxy/tlsio"}, why: "a stream of bytes in a loop; knows no message"},
	"proxy/message":   {why: "the one form of messages; what turns bytes into it comes after it"},
	"proxy/http1":     {may: []string{"proxy/message"}, why: "a codec: bytes to messages"},
	"proxy/http2":     {may: []string{"proxy/message"}, why: "a codec: bytes to messages"},
	"proxy/rule":      {may: []string{"proxy/message"}, tests: []string{"proxy/http1"}, why: "compiled decisions over a message"},
	"proxy/balance":   {why: "algorithms that choose a server"},
	"proxy/persist":   {may: []string{"proxy/message"}, tests: []string{"proxy/http1"}, why: "cookies and bound sessions"},
	"proxy/upstream":  {may: []string{"proxy/loop", "proxy/balance"}, why: "servers with their places, queues and states"},
	"proxy/accesslog": {why: "lines of requests; what they tell comes to it as one record"},

	"demo": {may: []string{"text"}, why: "servers to try Sluis on; they must not know it"},
}

// subsystems put parts of the document into effect; the walls between them are
// tested on the table itself, so that a line added above cannot open one.
var subsystems = []string{"pki", "network", "firewall", "vip", "system", "resolve", "health", "proxy"}

// library is a module from outside and the rooms whose product code may import
// it. Another one needs a decision record (docs/decisions/007-dependencies.md).
type library struct {
	rooms []string
	// inTests lets every room's tests import it.
	inTests bool
}

var libraries = map[string]library{
	"github.com/danielgtaylor/huma/v2":       {rooms: []string{"api"}},
	"github.com/spf13/cobra":                 {rooms: []string{"cmd/sluis"}},
	"github.com/spf13/pflag":                 {rooms: []string{"cmd/sluis"}},
	"golang.org/x/crypto":                    {rooms: []string{"auth", "pki"}},
	"golang.org/x/crypto/x509roots/fallback": {rooms: []string{"cmd/sluis"}},
	"golang.org/x/term":                      {rooms: []string{"cmd/sluis"}},
	"golang.org/x/sys":                       {rooms: []string{"cmd/sluis", "proxy", "proxy/loop", "proxy/transport", "proxy/accesslog"}},
	"github.com/miekg/dns":                   {rooms: []string{"resolve"}},

	"github.com/prometheus/client_golang": {rooms: []string{"stats"}},
	"github.com/prometheus/common":        {rooms: []string{"stats"}, inTests: true},

	"github.com/goccy/go-yaml":                 {inTests: true},
	"github.com/google/go-cmp":                 {inTests: true},
	"pgregory.net/rapid":                       {inTests: true},
	"github.com/santhosh-tekuri/jsonschema/v6": {inTests: true},
}

// memos are package-level variables that hold answers of a pure function, by room
// and name, each with its reason: they change, and no caller can see that they do.
var memos = map[string]string{
	"config.propertyCache": "what reflect says of a type is the same for every appliance",
}

func TestSourcesFollowTheFloorPlan(t *testing.T) {
	sources, err := readSources(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(sources.files) == 0 {
		t.Fatal("no sources found")
	}
	for _, fault := range sources.faults(floorPlan) {
		t.Error(fault)
	}
}

func TestEveryRoomIsOnTheArchitecturePage(t *testing.T) {
	page, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range roomsMissingOn(string(page), slices.Sorted(maps.Keys(floorPlan))) {
		t.Errorf("docs/ARCHITECTURE.md has no line for the room %s", name)
	}
}

func TestWallsOfTheFloorPlan(t *testing.T) {
	for name, r := range floorPlan {
		for _, imported := range slices.Concat(r.may, r.tests) {
			if _, known := floorPlan[imported]; !known && imported != everything {
				t.Errorf("%s may import %s, which is no room", name, imported)
			}
			if imported == "apply" && slices.Contains(subsystems, name) {
				t.Errorf("the subsystem %s may import apply", name)
			}
			if slices.Contains(subsystems, name) && slices.Contains(subsystems, imported) {
				t.Errorf("the subsystem %s may import the subsystem %s", name, imported)
			}
			if strings.HasPrefix(name, "proxy/") && imported == "config" {
				t.Errorf("%s, a room inside proxy, may import config", name)
			}
			if slices.Contains(r.may, imported) && imported != everything && reaches(imported, name) {
				t.Errorf("%s and %s may import each other", name, imported)
			}
		}
		if r.why == "" {
			t.Errorf("the room %s stands without a reason", name)
		}
	}
	if got := floorPlan["config"].may; !slices.Equal(got, []string{"config/wire", "text"}) {
		t.Errorf("config may import %q, want its own wire and text alone", got)
	}
}

// reaches reports whether from may import to, directly or through others.
func reaches(from, to string) bool {
	return slices.ContainsFunc(floorPlan[from].may, func(next string) bool {
		return next == to || next != everything && reaches(next, to)
	})
}

// roomsMissingOn finds the rooms that the page does not show: by their path
// (internal/text), as a line of a tree (text/), or, where a room stands inside
// another, by their name alone in code type.
func roomsMissingOn(page string, rooms []string) []string {
	return slices.DeleteFunc(rooms, func(name string) bool {
		outer, last, inner := strings.Cut(name, "/")
		var shown string
		switch {
		case outer == "cmd":
			shown = `\b` + name + `\b`
		case inner:
			shown = `\b` + last + `/|` + "`" + last + "`"
		default:
			shown = `\binternal/` + name + `\b|(?m:^|\s)` + name + `/`
		}
		return regexp.MustCompile(shown).MatchString(page)
	})
}
