// Command licenses collects the licence texts of everything that is linked into
// one command, one file per module:
//
//	licenses -command ./cmd/sluis -own LICENSE -out cmd/sluis/licenses
//
// It owns the files of the output directory: it writes what belongs there and
// removes the rest. It promises to fail rather than leave a module without a
// text. It reads the module cache and the Go tree, and fetches nothing itself.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// component is one thing that has a licence: a module, Go, or the program itself.
type component struct {
	Name    string // module path
	Version string // empty for Go and for the program, whose versions change without a new text
	File    string // name in the output directory
	// Texts are the files to copy, sorted, and their directory.
	Dir   string
	Texts []string
}

// listed is what "go list -deps -json" says of a package, as far as it is used.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// licenceFile matches the names of files that hold terms or must go along.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([.-].*)?$`)

func main() {
	command := flag.String("command", "./cmd/sluis", "the command whose linked modules count")
	own := flag.String("own", "LICENSE", "the licence of the program itself")
	out := flag.String("out", "cmd/sluis/licenses", "the directory to write")
	flag.Parse()
	if err := collect(*command, *own, *out); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func collect(command, own, out string) error {
	packages, err := linkedPackages(command)
	if err != nil {
		return err
	}
	components, err := moduleComponents(packages)
	if err != nil {
		return err
	}
	goTree, err := goComponent()
	if err != nil {
		return err
	}
	program := component{Name: "sluis", File: "sluis.txt", Dir: filepath.Dir(own), Texts: []string{filepath.Base(own)}}
	components = append(components, goTree, program)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, c := range components {
		if err := write(out, c); err != nil {
			return err
		}
		fmt.Println(strings.TrimSpace(c.Name + " " + c.Version))
	}
	return removeOthers(out, components)
}

// linkedPackages lists what the released binary contains: Linux, without cgo.
func linkedPackages(command string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module", command)
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", command, err)
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); decoder.More(); {
		var p listed
		if err := decoder.Decode(&p); err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// moduleComponents finds, for each linked module, the texts in its root and in
// the directories of its linked packages: a copied part may bring its own.
func moduleComponents(packages []listed) ([]component, error) {
	byPath := map[string]*component{}
	for _, p := range packages {
		m := p.Module
		if p.Standard || m == nil || m.Main {
			continue
		}
		c := byPath[m.Path]
		if c == nil {
			c = &component{Name: m.Path, Version: m.Version, File: fileName(m.Path), Dir: m.Dir}
			byPath[m.Path] = c
		}
		if err := c.addTexts(p.Dir); err != nil {
			return nil, err
		}
	}
	var out []component
	for _, c := range byPath {
		if len(c.Texts) == 0 {
			return nil, fmt.Errorf("module %s has no licence file that this program knows", c.Name)
		}
		slices.Sort(c.Texts)
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b component) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// addTexts adds the licence files from dir up to the root of the module.
func (c *component) addTexts(dir string) error {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			relative, err := filepath.Rel(c.Dir, filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			isText := e.Type().IsRegular() && licenceFile.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go")
			if isText && !slices.Contains(c.Texts, relative) {
				c.Texts = append(c.Texts, relative)
			}
		}
		if dir == c.Dir || len(dir) < len(c.Dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// goComponent is Go's runtime and standard library, which every binary contains.
func goComponent() (component, error) {
	output, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return component{}, fmt.Errorf("go env GOROOT: %w", err)
	}
	c := component{Name: "std", File: "go.txt", Dir: strings.TrimSpace(string(output))}
	if err := c.addTexts(c.Dir); err != nil {
		return component{}, err
	}
	if len(c.Texts) == 0 {
		return component{}, fmt.Errorf("no licence in the Go tree %s", c.Dir)
	}
	return c, nil
}

// fileName turns a module path into a file name that go:embed accepts.
func fileName(module string) string { return strings.ReplaceAll(module, "/", "_") + ".txt" }

// write makes one file: a head that the test in cmd/sluis reads, then the texts.
func write(out string, c component) error {
	var b strings.Builder
	b.WriteString("Module: " + c.Name + "\n" + strings.TrimSpace("Version: "+c.Version) + "\n")
	for _, name := range c.Texts {
		text, err := os.ReadFile(filepath.Join(c.Dir, name))
		if err != nil {
			return err
		}
		clean := strings.Trim(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
		fmt.Fprintf(&b, "File: %s\n\n%s\n\n", filepath.ToSlash(name), clean)
	}
	return os.WriteFile(filepath.Join(out, c.File), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

// removeOthers deletes texts of modules that are no longer linked.
func removeOthers(out string, keep []component) error {
	return fs.WalkDir(os.DirFS(out), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if slices.ContainsFunc(keep, func(c component) bool { return c.File == path }) {
			return nil
		}
		return os.Remove(filepath.Join(out, path))
	})
}
