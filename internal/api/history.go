package api

import (
	"context"
	"net/http"

	"sluis/internal/config"
	"sluis/internal/control"
)

// historyOperations read what runs and what ran.
func (a *API) historyOperations() {
	get, post := http.MethodGet, http.MethodPost
	document, anything := refTo("Document"), refTo("Value")
	handle(a, gives(operation(get, "/running", "get-running", tagHistory, "Read the document that is in effect"), "200", document, true), a.getRunning)
	handle(a, gives(operation(get, "/running/value", "get-running-value", tagHistory, "Read what stands at a path of the document that is in effect"), "200", anything, true), a.getRunningValue)
	handle(a, operation(get, "/revisions", "list-revisions", tagHistory, "List the kept revisions, newest first"), a.listRevisions)
	handle(a, operation(get, "/revisions/{number}", "get-revision", tagHistory, "Read who made a revision, when and why"), a.getRevision)
	handle(a, gives(operation(get, "/revisions/{number}/document", "get-revision-document", tagHistory, "Read the document of a revision"), "200", document, true), a.getRevisionDocument)
	handle(a, gives(operation(get, "/revisions/{number}/value", "get-revision-value", tagHistory, "Read what stands at a path of a revision"), "200", anything, true), a.getRevisionValue)
	handle(a, operation(post, "/revisions/{number}/restore", "restore-revision", tagHistory, "Make a revision, or one object of it, the candidate"), a.restore)
	handle(a, operation(post, "/revisions/{number}/pin", "pin-revision", tagHistory, "Keep a revision for good"), a.pin(true))
	handle(a, operation(post, "/revisions/{number}/unpin", "unpin-revision", tagHistory, "Let a revision go when its time comes"), a.pin(false))
	handle(a, operation(get, "/diff", "diff-documents", tagHistory, "Compare two documents, object by object"), a.diff)
}

func (a *API) getRunning(_ context.Context, c control.Caller, in *FormInput) (*raw, error) {
	_, doc, err := a.control.Running(c)
	if err != nil {
		return nil, err
	}
	return whole(doc, "", in.format()), nil
}

func (a *API) getRunningValue(_ context.Context, c control.Caller, in *readValueInput) (*raw, error) {
	_, doc, err := a.control.Running(c)
	if err != nil {
		return nil, err
	}
	return part(doc, in.Path, "", in.format())
}

func (a *API) listRevisions(_ context.Context, c control.Caller, in *PageInput) (*value[List[control.Revision]], error) {
	return listOf(a.control.Revisions(c, in.page()))
}

// RevisionInput names a revision.
type RevisionInput struct {
	Number int `path:"number" minimum:"1" doc:"Number of the revision."`
}

func (a *API) getRevision(_ context.Context, c control.Caller, in *RevisionInput) (*value[control.Revision], error) {
	revision, _, err := a.control.Revision(c, in.Number)
	return valueOf(revision, err)
}

type revisionFormInput struct {
	RevisionInput
	FormInput
}

func (a *API) getRevisionDocument(_ context.Context, c control.Caller, in *revisionFormInput) (*raw, error) {
	_, doc, err := a.control.Revision(c, in.Number)
	if err != nil {
		return nil, err
	}
	return whole(doc, "", in.format()), nil
}

type revisionValueInput struct {
	RevisionInput
	PathInput
	FormInput
}

func (a *API) getRevisionValue(_ context.Context, c control.Caller, in *revisionValueInput) (*raw, error) {
	_, doc, err := a.control.Revision(c, in.Number)
	if err != nil {
		return nil, err
	}
	return part(doc, in.Path, "", in.format())
}

type restoreInput struct {
	RevisionInput
	IfMatch string     `header:"If-Match" doc:"The ETag of the candidate that was seen; * for whatever stands there."`
	Body    *placeBody `required:"false"`
}

func (a *API) restore(_ context.Context, c control.Caller, in *restoreInput) (*nothing, error) {
	return &nothing{}, a.control.Restore(c, in.Number, in.Body.path(), control.Match{ETag: in.IfMatch})
}

func (a *API) pin(pinned bool) func(context.Context, control.Caller, *RevisionInput) (*nothing, error) {
	return func(_ context.Context, c control.Caller, in *RevisionInput) (*nothing, error) {
		return &nothing{}, a.control.Pin(c, in.Number, pinned)
	}
}

type diffInput struct {
	From string `query:"from" default:"running" doc:"running, candidate, or the number of a revision."`
	To   string `query:"to" default:"candidate" doc:"running, candidate, or the number of a revision."`
}

func (a *API) diff(_ context.Context, c control.Caller, in *diffInput) (*value[Difference], error) {
	changes, err := a.control.Diff(c, in.From, in.To)
	return valueOf(Difference{Changes: append([]config.Change{}, changes...), Text: config.RenderText(changes)}, err)
}
