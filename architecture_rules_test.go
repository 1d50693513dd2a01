package sluis_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// sources is the parsed tree: everything under internal and cmd.
type sources struct {
	set   *token.FileSet
	files []sourceFile
}

type sourceFile struct {
	path string
	room string // "proxy/loop", "cmd/sluis"
	test bool
	ast  *ast.File
	// imports are the imported paths by the name that the file uses for them.
	imports map[string]string
}

func readSources(tree fs.FS) (*sources, error) {
	s := &sources{set: token.NewFileSet()}
	for _, root := range []string{"internal", "cmd"} {
		err := fs.WalkDir(tree, root, func(name string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && name == root:
				return nil
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case d.IsDir() || path.Ext(name) != ".go":
				return nil
			}
			return s.read(tree, name)
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *sources) read(tree fs.FS, name string) error {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(s.set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	f := sourceFile{
		path:    name,
		room:    strings.TrimPrefix(path.Dir(name), "internal/"),
		test:    strings.HasSuffix(name, "_test.go"),
		ast:     parsed,
		imports: map[string]string{},
	}
	for _, spec := range parsed.Imports {
		imported := importPath(spec)
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		f.imports[local] = imported
	}
	s.files = append(s.files, f)
	return nil
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic("BUG: the parser accepts no such import: " + spec.Path.Value)
	}
	return p
}

// faults lists every place where the sources break a rule, sorted by place.
func (s *sources) faults(plan map[string]room) []string {
	var out []string
	tell := func(pos token.Pos, format string, args ...any) {
		out = append(out, s.set.Position(pos).String()+": "+fmt.Sprintf(format, args...))
	}
	for _, f := range s.files {
		checkImports(f, plan, tell)
		checkInit(f, tell)
		if f.test {
			continue
		}
		checkProcessState(f, tell)
		checkMessages(f, tell)
	}
	for _, files := range s.packages() {
		checkPackageComment(files, tell)
		checkPackageVariables(s.set, files, tell)
	}
	slices.Sort(out)
	return out
}

// packages groups the product's files, without tests, by directory.
func (s *sources) packages() map[string][]sourceFile {
	out := map[string][]sourceFile{}
	for _, f := range s.files {
		if !f.test {
			out[f.room] = append(out[f.room], f)
		}
	}
	return out
}

// tell notes one fault.
type tell func(pos token.Pos, format string, args ...any)

// checkImports holds a file against the floor plan and the list of libraries.
func checkImports(f sourceFile, plan map[string]room, tell tell) {
	from, known := plan[f.room]
	if !known {
		tell(f.ast.Name.Pos(), "the room %s is not on the floor plan: give it a line in architecture_test.go and docs/ARCHITECTURE.md", f.room)
		return
	}
	may := from.may
	if f.test {
		may = slices.Concat(from.may, from.tests)
	}
	for _, spec := range f.ast.Imports {
		p := importPath(spec)
		if spec.Name != nil && spec.Name.Name == "." {
			tell(spec.Pos(), "a dot import of %s hides where names come from", p)
		}
		first, rest, _ := strings.Cut(p, "/")
		switch {
		case first == "sluis":
			to := strings.TrimPrefix(rest, "internal/")
			if to != f.room && !slices.Contains(may, to) && !slices.Contains(may, everything) {
				tell(spec.Pos(), "%s may not import %s (%s)", f.room, to, from.why)
			}
		case p == "C":
			tell(spec.Pos(), "cgo: the product is one static binary")
		case strings.Contains(first, "."):
			checkLibrary(f, spec, p, tell)
		}
	}
}

func checkLibrary(f sourceFile, spec *ast.ImportSpec, p string, tell tell) {
	module := "" // the longest that fits: a module may lie within another one's path
	for m := range libraries {
		if (p == m || strings.HasPrefix(p, m+"/")) && len(m) > len(module) {
			module = m
		}
	}
	switch l := libraries[module]; {
	case module == "":
		tell(spec.Pos(), "%s is a new library: it needs a decision record and a line in architecture_test.go", p)
	case !slices.Contains(l.rooms, f.room) && (!l.inTests || !f.test):
		tell(spec.Pos(), "%s may not import the library %s", f.room, module)
	}
}

// checkInit forbids init: what a binary does must not hang on what it imports.
func checkInit(f sourceFile, tell tell) {
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			tell(fn.Pos(), "init(): let main, or whoever makes the value, call it")
		}
	}
}

// processState is what belongs to the process and so to main alone.
var processState = map[string]*regexp.Regexp{
	"os":      regexp.MustCompile(`^(Exit|Args|Getenv|LookupEnv|Environ|ExpandEnv|Setenv|Unsetenv|Clearenv|Chdir)$`),
	"syscall": regexp.MustCompile(`^(Exit|Getenv|Environ|Setenv|Unsetenv|Clearenv|Chdir)$`),
	"log":     regexp.MustCompile(`^(Fatal|Panic)`),
	"flag":    regexp.MustCompile(``),
}

// checkProcessState keeps flags, environment and exit in cmd/sluis.
func checkProcessState(f sourceFile, tell tell) {
	if strings.HasPrefix(f.room, "cmd/") {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, name := qualified(f, sel)
		if names := processState[pkg]; names != nil && names.MatchString(name) {
			tell(sel.Pos(), "%s.%s belongs to cmd/sluis: take what you need as an argument", pkg, name)
		}
		return true
	})
}

// qualified resolves pkg.Name to the imported path and the name.
func qualified(f sourceFile, sel *ast.SelectorExpr) (pkg, name string) {
	if x, ok := sel.X.(*ast.Ident); ok {
		return f.imports[x.Name], sel.Sel.Name
	}
	return "", ""
}

// checkMessages holds every text.M against the promise of text: the sentence is
// a literal (or literals joined by +), and its {placeholders} are exactly the
// names that are given. Tests may make bad messages on purpose.
func checkMessages(f sourceFile, tell tell) {
	called := map[ast.Expr]bool{}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if isMessage(f, n.Fun) {
				called[n.Fun] = true
				checkMessage(n, tell)
			}
		case *ast.SelectorExpr:
			if isMessage(f, n) && !called[n] {
				tell(n.Pos(), "text.M is used as a value: only a call can be held against its sentence")
			}
		}
		return true
	})
}

func isMessage(f sourceFile, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		pkg, name := qualified(f, e)
		return pkg == "sluis/internal/text" && name == "M"
	case *ast.Ident:
		return f.room == "text" && e.Name == "M"
	}
	return false
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

func checkMessage(call *ast.CallExpr, tell tell) {
	if len(call.Args) == 0 || call.Ellipsis.IsValid() {
		tell(call.Pos(), "text.M needs its sentence and pairs written out")
		return
	}
	sentence, ok := literal(call.Args[0])
	if !ok {
		tell(call.Pos(), "the sentence of text.M must be a string literal")
		return
	}
	wanted := map[string]bool{}
	for _, m := range placeholder.FindAllStringSubmatch(sentence, -1) {
		wanted[m[1]] = true
	}
	given := map[string]bool{}
	pairs := call.Args[1:]
	if len(pairs)%2 != 0 {
		tell(call.Pos(), "text.M needs pairs of name and value")
		return
	}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := literal(pairs[i])
		if !ok || given[name] {
			tell(pairs[i].Pos(), "each name given to text.M must be a string literal, once")
			return
		}
		given[name] = true
	}
	if !maps.Equal(wanted, given) {
		tell(call.Pos(), "text.M(%q) has the placeholders %q and is given %q", sentence,
			slices.Sorted(maps.Keys(wanted)), slices.Sorted(maps.Keys(given)))
	}
}

// literal evaluates a string literal, or literals joined by +.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, okLeft := literal(e.X)
		right, okRight := literal(e.Y)
		return left + right, okLeft && okRight && e.Op == token.ADD
	}
	return "", false
}

// checkPackageComment wants one comment per package, which begins as go doc has it.
func checkPackageComment(files []sourceFile, tell tell) {
	var comments []sourceFile
	for _, f := range files {
		if f.ast.Doc != nil {
			comments = append(comments, f)
		}
	}
	first := files[0]
	begin := "Package " + first.ast.Name.Name + " "
	if first.ast.Name.Name == "main" {
		begin = "Command " + path.Base(first.room) + " "
	}
	switch {
	case len(comments) == 0:
		tell(first.ast.Name.Pos(), "the room %s has no package comment: say what it owns, promises and does not promise", first.room)
	case len(comments) > 1:
		tell(comments[1].ast.Name.Pos(), "the room %s has a second package comment", first.room)
	case !strings.HasPrefix(strings.Join(strings.Fields(comments[0].ast.Doc.Text()), " "), begin):
		tell(comments[0].ast.Doc.Pos(), "the package comment must begin %q", strings.TrimSpace(begin))
	}
}

// checkPackageVariables finds package-level variables that change: those that a
// function assigns to, wholly or in part, and those made to change (sync, atomic).
// Two whole appliances run in one process; they share every such variable.
func checkPackageVariables(set *token.FileSet, files []sourceFile, tell tell) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	// Imports are not loaded and the errors that follow are not read: the names
	// of the package itself are resolved all the same.
	checker := types.Config{Importer: noImports{}, Error: func(error) {}}
	parsed := make([]*ast.File, len(files))
	for i, f := range files {
		parsed[i] = f.ast
	}
	pkg, _ := checker.Check(files[0].room, set, parsed, info)
	shared := func(e ast.Expr) bool {
		root := rootIdent(e)
		if root == nil {
			return false
		}
		switch object := info.Uses[root].(type) {
		case *types.Var:
			return object.Parent() == pkg.Scope()
		case *types.PkgName:
			return true // another package's variable
		}
		return false
	}
	for _, f := range files {
		checkDeclaredTypes(f, tell)
		ast.Inspect(f.ast, func(n ast.Node) bool {
			for _, e := range written(n) {
				if shared(e) {
					tell(e.Pos(), "%s is package-level state: keep it in a value that its owner holds", types.ExprString(e))
				}
			}
			return true
		})
	}
}

// written lists the operands that a statement changes.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		if fn, ok := n.Fun.(*ast.Ident); ok && (fn.Name == "delete" || fn.Name == "clear") && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// rootIdent is x of x, x.f, x[i], *x and their combinations.
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.ParenExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// checkDeclaredTypes finds package-level variables of a type made for change,
// but for the memos.
func checkDeclaredTypes(f sourceFile, tell tell) {
	for _, d := range f.ast.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.VAR {
			continue
		}
		for _, spec := range decl.Specs {
			v := spec.(*ast.ValueSpec)
			declared := v.Type
			if generic, ok := declared.(*ast.IndexExpr); ok {
				declared = generic.X
			}
			sel, ok := declared.(*ast.SelectorExpr)
			if !ok {
				continue
			}
			_, excepted := memos[f.room+"."+v.Names[0].Name]
			if pkg, name := qualified(f, sel); !excepted && (pkg == "sync" || pkg == "sync/atomic") {
				tell(v.Pos(), "a package-level %s.%s is package-level state: keep it in a value that its owner holds", pkg, name)
			}
		}
	}
}

type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	return nil, errors.New("not loaded: " + path)
}

// TestRulesCanFail breaks each rule once, in a small tree that is otherwise
// clean, and wants exactly that one fault.
func TestRulesCanFail(t *testing.T) {
	plan := map[string]room{
		"text":      {why: "below all"},
		"config":    {may: []string{"text"}, why: "pure data"},
		"apply":     {may: []string{"config", "text"}, tests: []string{"event"}, why: "commits"},
		"event":     {may: []string{"text"}, why: "facts"},
		"cmd/sluis": {may: []string{everything}, why: "joins"},
	}
	clean := map[string]string{
		"internal/text/text.go":        "// Package text holds messages.\npackage text\n\nfunc M(english string, pairs ...any) string { return english }\n",
		"internal/text/text_test.go":   "package text\n\nvar _ = M(\"{missing}\")\n",
		"internal/config/config.go":    "// Package config is the model.\npackage config\n\nimport \"sluis/internal/text\"\n\nvar Default = map[string]int{}\n\nvar _ = text.M(\"a {b} \"+\"c\", \"b\", 1)\n\nfunc f() { Default := 1; Default++; _ = Default }\n",
		"internal/apply/apply.go":      "// Package apply commits.\npackage apply\n\nimport \"sluis/internal/config\"\n\nvar _ = config.Default\n",
		"internal/apply/x_test.go":     "package apply\n\nimport (\n\t\"os\"\n\n\t\"github.com/google/go-cmp/cmp\"\n\t\"sluis/internal/event\"\n)\n\nvar _ = cmp.Diff\nvar _ event.Event\n\nfunc g() { os.Exit(1) }\n",
		"internal/apply/testdata/a.go": "not Go at all",
		"cmd/sluis/main.go":            "// Command sluis is the product.\npackage main\n\nimport (\n\t\"os\"\n\n\t\"sluis/internal/apply\"\n)\n\nvar _ = apply.X\n\nfunc main() { os.Exit(0) }\n",
	}
	// A row adds one file to the clean tree, or takes the place of one.
	product := func(imports, body string) string {
		return "package config\n\nimport (\n" + imports + "\n)\n\n" + body + "\n"
	}
	const file = "internal/config/more.go"
	useText := `"sluis/internal/text"`
	tests := []struct{ name, file, source, want string }{
		{"upward import", file, product(`"sluis/internal/apply"`, "var _ = apply.X"), "config may not import apply (pure data)"},
		{"upward import in a test", "internal/config/more_test.go", product(`"sluis/internal/apply"`, "var _ = apply.X"), "config may not import apply"},
		{"what only tests may import", "internal/apply/more.go", "package apply\n\nimport \"sluis/internal/event\"\n\nvar _ event.Event\n", "apply may not import event"},
		{"import of main", "internal/apply/more.go", "package apply\n\nimport _ \"sluis/cmd/sluis\"\n", "apply may not import cmd/sluis"},
		{"a room without a line", "internal/utils/a.go", "// Package utils is a drawer.\npackage utils\n", "the room utils is not on the floor plan"},
		{"a library in a wrong room", file, product(`"github.com/spf13/cobra"`, "var _ cobra.Command"), "config may not import the library github.com/spf13/cobra"},
		{"a test library in the product", file, product(`"github.com/google/go-cmp/cmp"`, "var _ = cmp.Diff"), "may not import the library github.com/google/go-cmp"},
		{"an unknown library", file, product(`"github.com/pkg/errors"`, "var _ = errors.New"), "github.com/pkg/errors is a new library"},
		{"dot import", file, product(`. "strings"`, "var _ = ToLower"), "a dot import of strings"},
		{"cgo", file, product(`"C"`, ""), "cgo"},
		{"init", file, product("", "func init() {}"), "init()"},
		{"init in a test", "internal/config/more_test.go", product("", "func init() {}"), "init()"},
		{"exit", file, product(`"os"`, "func g() { os.Exit(1) }"), "os.Exit belongs to cmd/sluis"},
		{"exit under another name", file, product(`sys "os"`, "func g() { sys.Exit(1) }"), "os.Exit belongs to cmd/sluis"},
		{"environment", file, product(`"os"`, "var _ = os.Getenv(\"HOME\")"), "os.Getenv belongs to cmd/sluis"},
		{"fatal log", file, product(`"log"`, "func g() { log.Fatalf(\"\") }"), "log.Fatalf belongs to cmd/sluis"},
		{"flag", file, product(`"flag"`, "var _ = flag.Int(\"n\", 0, \"\")"), "flag.Int belongs to cmd/sluis"},
		{"sentence that is no literal", file, product(useText, "func g(s string) { text.M(s) }"), "must be a string literal"},
		{"sentence with a variable part", file, product(useText, "func g(s string) { text.M(\"no \" + s) }"), "must be a string literal"},
		{"placeholder without a value", file, product(useText, "var _ = text.M(\"port {port} of {who}\", \"port\", 1)"), `placeholders ["port" "who"] and is given ["port"]`},
		{"value without a placeholder", file, product(useText, "var _ = text.M(\"port\", \"port\", 1)"), `placeholders [] and is given ["port"]`},
		{"name given twice", file, product(useText, "var _ = text.M(\"{a}\", \"a\", 1, \"a\", 2)"), "must be a string literal, once"},
		{"name that is no literal", file, product(useText, "func g(n string) { text.M(\"{a}\", n, 1) }"), "must be a string literal, once"},
		{"odd pairs", file, product(useText, "var _ = text.M(\"{a}\", \"a\")"), "pairs of name and value"},
		{"pairs handed on", file, product(useText, "func g(p ...any) { text.M(\"{a}\", p...) }"), "written out"},
		{"message function as a value", file, product(useText, "var _ = text.M"), "used as a value"},
		{"bad message in text itself", "internal/text/more.go", "package text\n\nvar _ = M(\"{a}\")\n", `placeholders ["a"]`},
		{"no package comment", "internal/event/event.go", "package event\n", "the room event has no package comment"},
		{"two package comments", file, "// Package config again.\npackage config\n", "second package comment"},
		{"package comment that begins otherwise", "internal/event/event.go", "// Facts.\npackage event\n", `must begin "Package event"`},
		{"command comment that begins otherwise", "cmd/sluis/main.go", "// Package main runs.\npackage main\n", `must begin "Command sluis"`},
		{"assigned variable", file, product("", "var n int\n\nfunc g() { n = 1 }"), "n is package-level state"},
		{"variable of another file", file, product("", "func g() { Default[\"a\"]++ }"), `Default["a"] is package-level state`},
		{"deleted from", file, product("", "func g() { delete(Default, \"a\") }"), "Default is package-level state"},
		{"field behind a pointer", file, product("", "var p = &struct{ a int }{}\n\nfunc g() { (*p).a = 1 }"), "(*p).a is package-level state"},
		{"range into a variable", file, product("", "var n int\n\nfunc g() { for n = range 3 {\n} }"), "n is package-level state"},
		{"another package's variable", file, product(`"net/http"`, "func g() { http.DefaultClient = nil }"), "http.DefaultClient is package-level state"},
		{"package-level lock", file, product(`"sync"`, "var mu sync.Mutex"), "a package-level sync.Mutex"},
		{"package-level atomic", file, product(`"sync/atomic"`, "var p atomic.Pointer[int]"), "a package-level sync/atomic.Pointer"},
	}
	check := func(t *testing.T, files map[string]string) []string {
		t.Helper()
		tree := fstest.MapFS{}
		for name, text := range files {
			tree[name] = &fstest.MapFile{Data: []byte(text)}
		}
		s, err := readSources(tree)
		if err != nil {
			t.Fatal(err)
		}
		return s.faults(plan)
	}
	if diff := cmp.Diff([]string(nil), check(t, clean)); diff != "" {
		t.Fatalf("faults in the clean tree (-want +got):\n%s", diff)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(clean)
			files[tt.file] = tt.source
			faults := check(t, files)
			if len(faults) != 1 || !strings.Contains(faults[0], tt.want) || !strings.HasPrefix(faults[0], tt.file+":") {
				t.Errorf("faults are %q, want one in %s with %q", faults, tt.file, tt.want)
			}
		})
	}
}

func TestRoomsMissingOnAPage(t *testing.T) {
	page := "internal/\n  text/  messages\n  proxy/\n    loop/ tlsio/\n| `internal/store` | and `rule`, see `event` |\n" +
		"`cmd/sluis` main. A context/ and preconfig/.\n"
	got := roomsMissingOn(page, []string{"cmd/sluis", "config", "event", "proxy", "proxy/http1", "proxy/loop", "proxy/rule", "proxy/tlsio", "store", "text"})
	if diff := cmp.Diff([]string{"config", "event", "proxy/http1"}, got); diff != "" {
		t.Errorf("rooms missing on the page (-want +got):\n%s", diff)
	}
}
