package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sluis/internal/control"
	"sluis/internal/text"
)

// objectOperations read and write the objects and parts of the document, each at
// an URL of its own. All of them are the same few funcs.
func (a *API) objectOperations() {
	collections, parts := places()
	for _, p := range collections {
		a.collectionOperations(p)
	}
	for _, p := range parts {
		a.partOperations(p)
	}
}

func (a *API) collectionOperations(p place) {
	object, element, id := refTo(p.object), p.of(), p.id()
	list := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{
		"items": {Type: huma.TypeArray, Items: object},
		"next":  {Type: huma.TypeString, Description: "The cursor of the rest; empty = this is the end."},
	}, Required: []string{"items", "next"}}
	get, put, patch, post, remove := http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodPost, http.MethodDelete

	handle(a, gives(on(get, "/candidate", p, "", "list-candidate-"+id, tagCandidate, "List: "+p.noun), "200", list, false), a.listOfCandidate)
	handle(a, gives(on(get, "/candidate", element, "", "get-candidate-"+id, tagCandidate, "Read: "+p.noun), "200", object, false), a.getOfCandidate)
	handle(a, writes(on(put, "/candidate", element, "", "put-candidate-"+id, tagCandidate, "Replace or create: "+p.noun), object, mediaJSON), a.putOfCandidate)
	handle(a, writes(on(patch, "/candidate", element, "", "patch-candidate-"+id, tagCandidate, "Change parts of: "+p.noun+" (RFC 7396)"), object, mediaPatch), a.patchOfCandidate)
	handle(a, on(remove, "/candidate", element, "", "delete-candidate-"+id, tagCandidate, "Remove: "+p.noun), a.deleteOfCandidate)
	handle(a, gives(on(post, "/candidate", element, "/rename", "rename-candidate-"+id, tagCandidate, "Give another name, everywhere: "+p.noun), "200", savedSchema(object), false), a.renameOfCandidate)
	handle(a, gives(on(post, "/candidate", element, "/move", "move-candidate-"+id, tagCandidate, "Move before another one: "+p.noun), "200", savedSchema(object), false), a.moveOfCandidate)

	handle(a, gives(on(get, "/running", p, "", "list-running-"+id, tagHistory, "List as it runs: "+p.noun), "200", list, false), a.listOfRunning)
	handle(a, gives(on(get, "/running", element, "", "get-running-"+id, tagHistory, "Read as it runs: "+p.noun), "200", object, false), a.getOfRunning)
}

func (a *API) partOperations(p place) {
	object, id := refTo(p.object), p.id()
	handle(a, gives(on(http.MethodGet, "/candidate", p, "", "get-candidate-"+id, tagCandidate, "Read: "+p.noun), "200", object, false), a.getOfCandidate)
	handle(a, writes(on(http.MethodPut, "/candidate", p, "", "put-candidate-"+id, tagCandidate, "Replace: "+p.noun), object, mediaJSON), a.putOfCandidate)
	handle(a, writes(on(http.MethodPatch, "/candidate", p, "", "patch-candidate-"+id, tagCandidate, "Change parts of: "+p.noun+" (RFC 7396)"), object, mediaPatch), a.patchOfCandidate)
	if p.optional {
		handle(a, on(http.MethodDelete, "/candidate", p, "", "delete-candidate-"+id, tagCandidate, "Remove: "+p.noun), a.deleteOfCandidate)
	}
	handle(a, gives(on(http.MethodGet, "/running", p, "", "get-running-"+id, tagHistory, "Read as it runs: "+p.noun), "200", object, false), a.getOfRunning)
}

// writes describes a write: the body, and the answers of changing and creating.
func writes(o huma.Operation, object *huma.Schema, media string) huma.Operation {
	answer := savedSchema(object)
	return gives(gives(takes(o, object, media), "200", answer, false), "201", answer, false)
}

// savedSchema is a Saved whose value is an object of that type.
func savedSchema(object *huma.Schema) *huma.Schema {
	return &huma.Schema{AllOf: []*huma.Schema{refTo("Saved"), {Type: huma.TypeObject, Properties: map[string]*huma.Schema{"value": object}}}}
}

// savedObject is the answer to an edit of an object at its own URL.
type savedObject struct {
	Status   int
	ETag     string `header:"ETag" doc:"Names the new state of the object."`
	Location string `header:"Location" doc:"Where the object stands now."`
	Body     Saved
}

func answerOf(o control.Object, err error) (*raw, error) {
	if err != nil {
		return nil, err
	}
	return &raw{ContentType: mediaJSON, ETag: o.ETag, Body: o.JSON}, nil
}

func saved(o control.Object, status int, err error) (*savedObject, error) {
	if err != nil {
		return nil, err
	}
	return &savedObject{Status: status, ETag: o.ETag, Location: urlOf("/candidate", o.Path), Body: bodyOf(o)}, nil
}

type readInput struct{ at }

func (a *API) getOfCandidate(_ context.Context, c control.Caller, in *readInput) (*raw, error) {
	if in.err != nil {
		return nil, in.err
	}
	return answerOf(a.control.CandidateObject(c, in.path))
}

func (a *API) getOfRunning(_ context.Context, c control.Caller, in *readInput) (*raw, error) {
	if in.err != nil {
		return nil, in.err
	}
	return answerOf(a.control.RunningObject(c, in.path))
}

type listInput struct {
	at
	PageInput
}

func (a *API) listOfCandidate(_ context.Context, c control.Caller, in *listInput) (*raw, error) {
	return in.list(c, a.control.CandidateObject)
}

func (a *API) listOfRunning(_ context.Context, c control.Caller, in *listInput) (*raw, error) {
	return in.list(c, a.control.RunningObject)
}

func (in *listInput) list(c control.Caller, read func(control.Caller, string) (control.Object, error)) (*raw, error) {
	if in.err != nil {
		return nil, in.err
	}
	o, err := read(c, in.path)
	if err != nil {
		return nil, err
	}
	page, err := pageOf(o.JSON, in.page())
	if err != nil {
		return nil, err
	}
	if o.JSON, err = json.Marshal(page); err != nil {
		return nil, fmt.Errorf("encode list: %w", err)
	}
	return answerOf(o, nil)
}

// defaultLimit is how many entries of a list are sent where nobody says.
const defaultLimit = 50

// pageOf is a part of a list of objects. A cursor is the name of the last object
// of the page before, so that it holds while others are added.
func pageOf(list []byte, page control.Page) (part List[json.RawMessage], err error) {
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil {
		return part, fmt.Errorf("read list: %w", err)
	}
	limit := page.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	query := strings.ToLower(page.Query)
	reached, last := page.Cursor == "", ""
	part.Items = []json.RawMessage{}
	for _, item := range items {
		var object struct{ Name string }
		if err := json.Unmarshal(item, &object); err != nil {
			return part, fmt.Errorf("read object: %w", err)
		}
		switch {
		case !reached:
			reached = object.Name == page.Cursor
		case query != "" && !strings.Contains(strings.ToLower(string(item)), query):
		case len(part.Items) == limit:
			part.Next = last
			return part, nil
		default:
			part.Items, last = append(part.Items, item), object.Name
		}
	}
	if !reached {
		return part, &control.Fault{
			Kind: control.Invalid, Message: text.M("{cursor} is no cursor of this list", "cursor", page.Cursor),
			Hint: text.M("the object that the list before ended with is gone; begin again without a cursor"),
		}
	}
	return part, nil
}

// WriteInput says which object is written, and on which condition.
type WriteInput struct {
	at
	MatchInput
}

// where is the place of a write and its condition.
func (in *WriteInput) where(a *API, c control.Caller) (string, control.Match, error) {
	if in.err != nil {
		return "", control.Match{}, in.err
	}
	match, err := in.matchOf(func() string {
		o, _ := a.control.CandidateObject(c, in.path) // nothing there has no ETag, and the write itself says why
		return o.ETag
	})
	return in.path, match, err
}

// matchOf is the condition of a write where If-Match may name several states: that
// of now if it is among them. Should somebody write meanwhile, the write compares
// again and refuses.
func (m MatchInput) matchOf(now func() string) (control.Match, error) {
	match, err := m.match()
	if err != nil || match.Absent || m.IfMatch == "" {
		return match, err
	}
	tags := strongTags(m.IfMatch)
	if len(tags) == 0 {
		return control.Match{ETag: noState}, nil
	}
	if len(tags) > 1 {
		if current := now(); slices.Contains(tags, current) {
			return control.Match{ETag: current}, nil
		}
	}
	return control.Match{ETag: tags[0]}, nil
}

// noState is an ETag that no state has: weak ones are never made here.
const noState = `W/""`

// strongTags are the ETags of an If-Match field that can match in the strong
// comparison that it asks for (RFC 9110, 13.1.1 and 8.8.3.2): weak ones never do.
// What is no list of ETags is taken as one that nothing matches.
func strongTags(field string) (tags []string) {
	rest := strings.Trim(field, " \t")
	if rest == "*" {
		return []string{rest}
	}
	for rest != "" {
		if rest = strings.TrimLeft(rest, ", \t"); rest == "" {
			break
		}
		tag, weak := strings.CutPrefix(rest, "W/")
		end := -1
		if strings.HasPrefix(tag, `"`) {
			end = strings.IndexByte(tag[1:], '"') + 1
		}
		if end < 1 {
			return nil
		}
		if !weak {
			tags = append(tags, tag[:end+1])
		}
		if rest = strings.TrimLeft(tag[end+1:], " \t"); rest != "" && rest[0] != ',' {
			return nil
		}
	}
	return tags
}

func (a *API) putOfCandidate(ctx context.Context, c control.Caller, in *WriteInput) (*savedObject, error) {
	path, match, err := in.where(a, c)
	if err != nil {
		return nil, err
	}
	o, err := a.control.Put(c, path, requestOf(ctx).body, match)
	return saved(o, created(match), err)
}

func (a *API) patchOfCandidate(ctx context.Context, c control.Caller, in *WriteInput) (*savedObject, error) {
	path, match, err := in.where(a, c)
	if err != nil {
		return nil, err
	}
	o, err := a.control.Patch(c, path, requestOf(ctx).body, match)
	return saved(o, created(match), err)
}

func (a *API) deleteOfCandidate(_ context.Context, c control.Caller, in *WriteInput) (*nothing, error) {
	path, match, err := in.where(a, c)
	if err != nil {
		return nil, err
	}
	return &nothing{}, a.control.Delete(c, path, match)
}

type renameInput struct {
	WriteInput
	Body renameBody
}

type moveInput struct {
	WriteInput
	Body moveBody
}

func (a *API) renameOfCandidate(_ context.Context, c control.Caller, in *renameInput) (*savedObject, error) {
	path, match, err := in.where(a, c)
	if err != nil {
		return nil, err
	}
	o, err := a.control.Rename(c, path, in.Body.Name, match)
	return saved(o, http.StatusOK, err)
}

func (a *API) moveOfCandidate(_ context.Context, c control.Caller, in *moveInput) (*savedObject, error) {
	path, match, err := in.where(a, c)
	if err != nil {
		return nil, err
	}
	o, err := a.control.Move(c, path, in.Body.Before, match)
	return saved(o, http.StatusOK, err)
}
