package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"sluis/internal/config"
	"sluis/internal/control"
	"sluis/internal/text"
)

// candidateOperations read and write the candidate as a whole and by paths.
func (a *API) candidateOperations() {
	document := refTo("Document")
	anything := refTo("Value")
	get, put, post, remove := http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete

	handle(a, gives(operation(get, "/candidate", "get-candidate", tagCandidate, "Read the candidate"), "200", document, true), a.getCandidate)
	handle(a, takes(operation(put, "/candidate", "load-candidate", tagCandidate, "Replace the whole candidate by a document"), document, mediaJSON), a.loadCandidate)
	handle(a, operation(get, "/candidate/changes", "list-candidate-changes", tagCandidate, "List what the candidate would change, and who changed it"), a.candidateChanges)

	handle(a, gives(operation(get, "/candidate/value", "get-candidate-value", tagCandidate, "Read what stands at a path of the candidate"), "200", anything, true), a.getValue)
	handle(a, creates(takes(operation(put, "/candidate/value", "set-candidate-value", tagCandidate, "Put a value at a path of the candidate"), anything, mediaJSON)), a.setValue)
	handle(a, creates(takes(operation(http.MethodPatch, "/candidate/value", "patch-candidate-value", tagCandidate, "Change parts of what stands at a path of the candidate (RFC 7396)"), anything, mediaPatch)), a.patchValue)
	handle(a, operation(remove, "/candidate/value", "delete-candidate-value", tagCandidate, "Remove what stands at a path of the candidate"), a.deleteValue)
	handle(a, operation(post, "/candidate/value/rename", "rename-candidate-value", tagCandidate, "Give the object at a path another name, everywhere"), a.renameValue)
	handle(a, operation(post, "/candidate/value/move", "move-candidate-value", tagCandidate, "Move the element at a path before another one"), a.moveValue)
}

// creates describes an edit that may put something where nothing was.
func creates(o huma.Operation) huma.Operation {
	return gives(o, strconv.Itoa(http.StatusCreated), refTo("Saved"), false)
}

func (a *API) getCandidate(_ context.Context, c control.Caller, in *FormInput) (*raw, error) {
	view, err := a.control.Candidate(c)
	if err != nil {
		return nil, err
	}
	return whole(view.Document, view.ETag, in.format()), nil
}

func (a *API) candidateChanges(_ context.Context, c control.Caller, _ *nothing) (*value[List[control.Change]], error) {
	view, err := a.control.Candidate(c)
	return listOf(view.Changes, "", err)
}

// savedAnswer is the answer to an edit by path.
type savedAnswer struct {
	Status int
	ETag   string `header:"ETag" doc:"Names the new state."`
	Body   Saved
}

func savedOf(o control.Object, status int, err error) (*savedAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &savedAnswer{Status: status, ETag: o.ETag, Body: bodyOf(o)}, nil
}

// bodyOf is what every save answers. The whole document isn't sent back: who loads
// it has it.
func bodyOf(o control.Object) Saved {
	s := Saved{Path: o.Path, ETag: o.ETag, Problems: append(config.Problems{}, o.Problems...)}
	if o.Path != "" {
		s.Value = o.JSON
	}
	return s
}

func (a *API) loadCandidate(ctx context.Context, c control.Caller, in *MatchInput) (*savedAnswer, error) {
	match, err := in.matchOf(func() string {
		view, _ := a.control.Candidate(c)
		return view.ETag
	})
	if err != nil {
		return nil, err
	}
	o, err := a.control.Load(c, requestOf(ctx).body, match)
	return savedOf(o, http.StatusOK, err)
}

// PathInput names a place by its path. It is exported, as all inputs that others
// embed are, because huma sees the fields of exported embedded structs alone.
type PathInput struct {
	Path string `query:"path" required:"true" doc:"A path of the document, such as frontends[shop].binds[https].port."`
}

type readValueInput struct {
	PathInput
	FormInput
}

func (a *API) getValue(_ context.Context, c control.Caller, in *readValueInput) (*raw, error) {
	// The ETag first: should somebody write in between, it is the older one, and a
	// write that is made from this answer is refused.
	o, err := a.control.CandidateObject(c, in.Path)
	if err != nil {
		return nil, err
	}
	if in.format() == FormatJSON {
		return &raw{ContentType: mediaJSON, ETag: o.ETag, Body: o.JSON}, nil
	}
	view, err := a.control.Candidate(c)
	if err != nil {
		return nil, err
	}
	return part(view.Document, in.Path, o.ETag, in.format())
}

// part writes what stands at a path of a document in a form.
func part(doc *config.Document, path, etag string, f Format) (*raw, error) {
	media, get := mediaJSON, config.GetJSON
	switch f {
	case FormatYAML:
		media, get = mediaYAML, config.GetYAML
	case FormatBrief:
		media, get = mediaYAML, config.GetBrief
	}
	data, problems := get(doc, path)
	if problems.HasErrors() {
		return nil, &control.Fault{Kind: control.NotFound, Message: text.M("there is nothing at {path}", "path", path), Problems: problems}
	}
	return &raw{ContentType: media, ETag: etag, Body: data}, nil
}

// EditValueInput says what is edited, and on which condition.
type EditValueInput struct {
	PathInput
	MatchInput
}

// target is where an edit by path goes. The path is never empty: the whole document
// has a way of its own, since replacing it must not happen by a forgotten path.
func (in *EditValueInput) target(a *API, c control.Caller) (string, control.Match, error) {
	match, err := in.matchOf(func() string {
		o, _ := a.control.CandidateObject(c, in.Path)
		return o.ETag
	})
	return in.Path, match, err
}

func (a *API) setValue(ctx context.Context, c control.Caller, in *EditValueInput) (*savedAnswer, error) {
	return a.editValue(ctx, c, in, a.control.Put)
}

func (a *API) patchValue(ctx context.Context, c control.Caller, in *EditValueInput) (*savedAnswer, error) {
	return a.editValue(ctx, c, in, a.control.Patch)
}

func (a *API) editValue(ctx context.Context, c control.Caller, in *EditValueInput, edit func(control.Caller, string, []byte, control.Match) (control.Object, error)) (*savedAnswer, error) {
	path, match, err := in.target(a, c)
	if err != nil {
		return nil, err
	}
	o, err := edit(c, path, requestOf(ctx).body, match)
	return savedOf(o, created(match), err)
}

func (a *API) deleteValue(_ context.Context, c control.Caller, in *EditValueInput) (*savedAnswer, error) {
	path, match, err := in.target(a, c)
	if err != nil {
		return nil, err
	}
	return savedOf(control.Object{Path: path}, http.StatusOK, a.control.Delete(c, path, match))
}

// renameBody and moveBody are bodies of edits.
type renameBody struct {
	Name string `json:"name" minLength:"1" doc:"The new name; every reference is rewritten."`
}

type moveBody struct {
	Before string `json:"before,omitempty" doc:"Name of the element that follows; empty = to the end."`
}

type renameValueInput struct {
	EditValueInput
	Body renameBody
}

type moveValueInput struct {
	EditValueInput
	Body moveBody
}

func (a *API) renameValue(_ context.Context, c control.Caller, in *renameValueInput) (*savedAnswer, error) {
	path, match, err := in.target(a, c)
	if err != nil {
		return nil, err
	}
	o, err := a.control.Rename(c, path, in.Body.Name, match)
	return savedOf(o, http.StatusOK, err)
}

func (a *API) moveValue(_ context.Context, c control.Caller, in *moveValueInput) (*savedAnswer, error) {
	path, match, err := in.target(a, c)
	if err != nil {
		return nil, err
	}
	o, err := a.control.Move(c, path, in.Body.Before, match)
	return savedOf(o, http.StatusOK, err)
}
