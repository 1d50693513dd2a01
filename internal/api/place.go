package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// place is a part of the document, or a collection of named objects in it, as the
// URLs have it:
//
//	pattern   frontends[].binds
//	url       /frontends/{frontend}/binds
//	element   /frontends/{frontend}/binds/{bind}
type place struct {
	pattern string
	url     string
	params  []string // names of the wildcards in url, from left to right
	noun    string   // what an object of it is, in words: bind of a frontend
	object  string   // the name of its schema
	// optional says that a part may be absent, and so be deleted.
	optional bool
	// element is the name of the wildcard that an element of a collection adds to
	// url; empty for a part, and for an element itself.
	element string
}

// places are all collections and top-level parts of the document.
func places() (collections, parts []place) {
	for _, f := range config.Fields() {
		p := place{pattern: f.Path, object: f.Object, optional: f.Optional}
		switch {
		case f.Type == config.FieldObject && !strings.ContainsAny(f.Path, ".["):
			p.url, p.noun = "/"+f.Path, words(f.Path)
			parts = append(parts, p)
		case f.Type == config.FieldList && f.Element == config.FieldObject:
			p.locate()
			collections = append(collections, p)
		}
	}
	return collections, parts
}

// locate makes the URL of a collection's pattern.
func (p *place) locate() {
	var url strings.Builder
	var owners []string
	keys := strings.Split(p.pattern, ".")
	for _, key := range keys[:len(keys)-1] {
		list, isElement := strings.CutSuffix(key, "[]")
		url.WriteString("/" + list)
		if isElement {
			name := singular(list)
			p.params = append(p.params, name)
			owners = append(owners, words(name))
			url.WriteString("/{" + name + "}")
		}
	}
	last := keys[len(keys)-1]
	p.url, p.element, p.noun = url.String()+"/"+last, singular(last), words(singular(last))
	if slices.Contains(p.params, p.element) {
		panic("BUG: two wildcards of one URL are named " + p.element)
	}
	for _, owner := range slices.Backward(owners) {
		p.noun += " of " + withArticle(owner)
	}
}

// of is the place of one element of a collection.
func (p place) of() place {
	e := p
	e.pattern += "[]"
	e.url += "/{" + p.element + "}"
	e.params = append(slices.Clone(p.params), p.element)
	e.element = ""
	return e
}

// path is the document's path of the place whose wildcards have these values.
func (p place) path(param func(string) string) (string, error) {
	path := p.pattern
	for _, name := range p.params {
		value := param(name)
		if strings.ContainsAny(value, "[]") {
			return "", &control.Fault{Kind: control.NotFound, Message: text.M("no object can have the name {name}", "name", value)}
		}
		path = strings.Replace(path, "[]", "["+value+"]", 1)
	}
	return path, nil
}

// at is the input of operations on a place: where it is in the document.
type at struct {
	path string
	err  error // the URL stands for no place
}

const placeKey = "place" // of huma.Operation.Metadata

// Resolve implements huma.Resolver.
func (i *at) Resolve(ctx huma.Context) []error {
	p, ok := ctx.Operation().Metadata[placeKey].(place)
	if !ok {
		panic("BUG: an operation on a place has none")
	}
	i.path, i.err = p.path(ctx.Param)
	return nil
}

// on begins the description of an operation on a place.
func on(method, root string, p place, verb, id, tag, summary string) huma.Operation {
	o := operation(method, root+p.url+verb, id, tag, summary)
	o.Metadata = map[string]any{placeKey: p}
	for _, name := range p.params {
		o.Parameters = append(o.Parameters, &huma.Param{
			Name: name, In: "path", Required: true, Description: "Name of the " + words(name) + ".",
			Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	return o
}

// id is the place as a part of an operation's ID.
func (p place) id() string {
	return strings.Trim(strings.NewReplacer("[]", "", ".", "-", "_", "-").Replace(p.pattern), "-")
}

// singular of the names of collections; all of them are English plurals but for
// a few that have none.
func singular(plural string) string {
	switch {
	case strings.HasSuffix(plural, "ies"):
		return strings.TrimSuffix(plural, "ies") + "y"
	case strings.HasSuffix(plural, "ses"):
		return strings.TrimSuffix(plural, "es")
	default:
		return strings.TrimSuffix(plural, "s")
	}
}

func words(key string) string { return strings.ReplaceAll(key, "_", " ") }

func withArticle(noun string) string {
	if strings.ContainsRune("aeio", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// urlOf is the URL of an object's path, for Location; empty where it has none of
// its own.
func urlOf(root, path string) string {
	var url strings.Builder
	url.WriteString(base + root)
	for rest := path; rest != ""; {
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		url.WriteString("/" + rest[:end])
		if rest = rest[end:]; strings.HasPrefix(rest, "[") {
			name, after, closed := strings.Cut(rest[1:], "]") // a name may hold dots
			if !closed {
				return ""
			}
			url.WriteString("/" + segment(name))
			rest = after
		}
		rest = strings.TrimPrefix(rest, ".")
	}
	return url.String()
}

// created is the status of a write that was done: whoever wanted to create
// something has.
func created(m control.Match) int {
	if m.Absent {
		return http.StatusCreated
	}
	return http.StatusOK
}
