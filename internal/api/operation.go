package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// schemaPrefix is where the description keeps the schemas.
const schemaPrefix = "#/components/schemas/"

// Tags group the operations in the description.
const (
	tagCandidate = "Candidate"
	tagApply     = "Apply"
	tagHistory   = "History"
	tagOperate   = "Operate"
	tagPeople    = "People"
	tagDescribe  = "Description"
)

// nothing is what an operation takes that takes nothing.
type nothing struct{}

// value is an answer in JSON.
type value[T any] struct{ Body T }

// raw is an answer that is bytes already.
type raw struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	ETag        string `header:"ETag" doc:"Names the state of what was read; a write sends it back as If-Match."`
	Body        []byte
}

// PageInput asks for a part of a long list.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"0" maximum:"500" doc:"How many entries; 0 or absent is 50."`
	Cursor string `query:"cursor" doc:"Go on where the list before ended: its next."`
	Query  string `query:"q" doc:"Only entries that contain this text, whatever the case."`
}

func (p PageInput) page() control.Page {
	return control.Page{Limit: p.Limit, Cursor: p.Cursor, Query: p.Query}
}

// listOf is a whole list.
func listOf[T any](items []T, next string, err error) (*value[List[T]], error) {
	if err != nil {
		return nil, err
	}
	if items == nil {
		items = []T{} // null would be one more case for every client
	}
	return &value[List[T]]{List[T]{Items: items, Next: next}}, nil
}

func valueOf[T any](v T, err error) (*value[T], error) {
	if err != nil {
		return nil, err
	}
	return &value[T]{v}, nil
}

// newHuma makes the registry of operations. What huma would add by itself
// ($schema members, pages, paths) is left out.
func newHuma(mux *http.ServeMux) huma.API {
	registry := huma.NewMapRegistry(schemaPrefix, schemaName)
	registry.RegisterTypeAlias(reflect.TypeFor[text.Msg](), reflect.TypeFor[message]())
	format := huma.Format{Marshal: writeJSON, Unmarshal: json.Unmarshal}
	return humago.NewWithPrefix(mux, base, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Sluis", Version: "1",
				Description: "Everything that can be done with an appliance. Edits go to the candidate and take effect with an apply.",
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"basic":  {Type: "http", Scheme: "basic", Description: "Name and password of an administrator."},
					"bearer": {Type: "http", Scheme: "bearer", Description: "An API token, or the token of a session from /login."},
				},
			},
			Security: []map[string][]string{{"bearer": {}}, {"basic": {}}},
		},
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{ofHuma},
	})
}

// message is the wire form of a text.Msg.
type message struct {
	ID   string         `json:"id" doc:"The English sentence with its placeholders."`
	Args map[string]any `json:"args,omitempty" doc:"The values of the placeholders."`
	Text string         `json:"text" doc:"The sentence in English."`
}

// schemaName names a type's schema. Types of other rooms have their room in front:
// several rooms have a Change.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	room, ours := strings.CutPrefix(t.PkgPath(), "sluis/internal/")
	if !ours || room == "api" || t == reflect.TypeFor[message]() {
		return name
	}
	return strings.ToUpper(room[:1]) + room[1:] + name
}

// writeJSON writes JSON for programs: & stays &.
func writeJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// operation begins an operation's description.
func operation(method, path, id, tag, summary string) huma.Operation {
	return huma.Operation{Method: method, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary}
}

// handle registers an operation: f is called with who asks, and its error is sent
// as a problem.
func handle[I, O any](a *API, o huma.Operation, f func(context.Context, control.Caller, *I) (*O, error)) {
	if o.Responses == nil {
		o.Responses = map[string]*huma.Response{}
	}
	o.Responses["default"] = &huma.Response{
		Description: "The answer is no: why, and what to do.",
		Content:     map[string]*huma.MediaType{problemMedia: {Schema: a.schemaOf(reflect.TypeFor[Problem]())}},
	}
	// The body was read before, with a bound on its time and size.
	o.BodyReadTimeout = -1
	huma.Register(a.huma, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, requestOf(ctx).caller, in)
		if err != nil {
			return nil, a.problem(err)
		}
		return out, nil
	})
}

func (a *API) schemaOf(t reflect.Type) *huma.Schema {
	return a.huma.OpenAPI().Components.Schemas.Schema(t, true, "")
}

func refTo(object string) *huma.Schema { return &huma.Schema{Ref: schemaPrefix + object} }

// Media types of documents and of parts of them.
const (
	mediaJSON  = "application/json"
	mediaYAML  = "application/yaml"
	mediaPatch = "application/merge-patch+json"
)

// takes describes a body that the model decodes, not huma.
func takes(o huma.Operation, schema *huma.Schema, json string) huma.Operation {
	o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		json:      {Schema: schema},
		mediaYAML: {Schema: &huma.Schema{Type: "string", Description: "The same in YAML."}},
	}}
	o.SkipValidateBody = true
	return o
}

// gives describes an answer that is a document or a part of one.
func gives(o huma.Operation, status string, schema *huma.Schema, yaml bool) huma.Operation {
	content := map[string]*huma.MediaType{mediaJSON: {Schema: schema}}
	if yaml {
		content[mediaYAML] = &huma.MediaType{Schema: &huma.Schema{Type: "string", Description: "The same in YAML."}}
	}
	if o.Responses == nil {
		o.Responses = map[string]*huma.Response{}
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		panic("BUG: no such status: " + status)
	}
	o.Responses[status] = &huma.Response{Description: http.StatusText(code), Content: content}
	return o
}

// FormInput says in which form a document is wanted.
type FormInput struct {
	Format string `query:"format" enum:"json,yaml,brief" doc:"The form of the answer: json (every value, secrets hidden), yaml (every value, secrets as references) or brief (YAML without what equals its default). Without it Accept decides."`
	Accept string `header:"Accept" hidden:"true"`
}

func (f FormInput) format() Format {
	switch {
	case f.Format != "":
		return Format(f.Format)
	case strings.Contains(f.Accept, "yaml"):
		return FormatYAML
	}
	return FormatJSON
}

// whole writes a document in a form.
func whole(doc *config.Document, etag string, f Format) *raw {
	switch f {
	case FormatYAML:
		return &raw{ContentType: mediaYAML, ETag: etag, Body: config.EncodeYAML(doc)}
	case FormatBrief:
		return &raw{ContentType: mediaYAML, ETag: etag, Body: config.EncodeBrief(doc)}
	default:
		return &raw{ContentType: mediaJSON, ETag: etag, Body: config.EncodeJSON(doc)}
	}
}

// MatchInput is the condition of a write.
type MatchInput struct {
	IfMatch     string `header:"If-Match" doc:"The ETag of what was read; * for whatever stands there."`
	IfNoneMatch string `header:"If-None-Match" doc:"* to create what isn't there yet."`
}

func (m MatchInput) match() (control.Match, error) {
	switch {
	case m.IfNoneMatch != "" && (m.IfNoneMatch != "*" || m.IfMatch != ""):
		return control.Match{}, &control.Fault{
			Kind: control.Invalid, Message: text.M("If-None-Match takes * alone in a write, and not together with If-Match"),
			Hint: text.M("send If-Match with the ETag that you read, or If-None-Match: * to create it"),
		}
	case m.IfNoneMatch == "*":
		return control.Match{Absent: true}, nil
	}
	return control.Match{ETag: m.IfMatch}, nil
}

// segment is a name as one segment of a URL.
func segment(name string) string { return url.PathEscape(name) }
