package control

import (
	"errors"
	"strconv"
	"strings"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

// Revision is a saved document's description.
type Revision struct {
	store.Revision
	// State is "running", "pending" or empty.
	State string `json:"state"`
}

// Page asks for a part of a long list.
type Page struct {
	// Limit is how many entries are wanted; 0 = 50, at most 500.
	Limit int
	// Cursor goes on where an earlier answer stopped; empty = at the newest.
	Cursor string
	// Query keeps only entries that contain it, whatever the case; empty = all.
	Query string
}

func (p Page) limit() int {
	if p.Limit <= 0 {
		return 50
	}
	return min(p.Limit, 500)
}

// Revisions lists the kept revisions, newest first, and the cursor of the rest.
func (c *Control) Revisions(caller Caller, page Page) ([]Revision, string, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return nil, "", err
	}
	before := 0
	if page.Cursor != "" {
		n, err := strconv.Atoi(page.Cursor)
		if err != nil || n < 1 {
			return nil, "", fault(Invalid, text.M("{cursor} is no cursor of this list", "cursor", page.Cursor))
		}
		before = n
	}
	list := []Revision{}
	for _, r := range c.o.Store.Revisions() {
		if before > 0 && r.Number >= before || !matches(page.Query, r.Author, r.From, r.Comment, strconv.Itoa(r.Number)) {
			continue
		}
		if len(list) == page.limit() {
			return list, strconv.Itoa(list[len(list)-1].Number), nil
		}
		list = append(list, c.revision(r))
	}
	return list, "", nil
}

func (c *Control) revision(r store.Revision) Revision {
	r.Time = c.inZone(r.Time)
	view := Revision{Revision: r}
	status := c.o.Engine.Status()
	switch {
	case status.Pending != nil && status.Pending.Revision == r.Number:
		view.State = "pending"
	case status.Running == r.Number:
		view.State = "running"
	}
	return view
}

func matches(query string, texts ...string) bool {
	if query == "" {
		return true
	}
	for _, t := range texts {
		if strings.Contains(strings.ToLower(t), strings.ToLower(query)) {
			return true
		}
	}
	return false
}

// Revision is one saved document with its description.
func (c *Control) Revision(caller Caller, number int) (Revision, *config.Document, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return Revision{}, nil, err
	}
	meta, doc, err := c.readRevision(number)
	return c.revision(meta), doc, err
}

func (c *Control) readRevision(number int) (store.Revision, *config.Document, error) {
	meta, data, err := c.o.Store.Revision(number)
	if errors.Is(err, store.ErrNotFound) {
		return store.Revision{}, nil, fault(NotFound, text.M("there is no revision {number}, or it isn't kept any more", "number", number))
	}
	if err != nil {
		return store.Revision{}, nil, err
	}
	doc, problems := config.Decode(data)
	if problems.HasErrors() {
		return meta, nil, &Fault{Kind: Storage, Message: text.M("revision {number} can't be read", "number", number), Problems: problems}
	}
	return meta, doc, nil
}

// Running is the document that is in effect, with its revision's number. While an
// apply waits for its confirmation that is still the last confirmed one.
func (c *Control) Running(caller Caller) (int, *config.Document, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return 0, nil, err
	}
	status := c.o.Engine.Status()
	return status.Running, config.Clone(status.RunningDocument), nil
}

// RunningObject is one object or value of the running document.
func (c *Control) RunningObject(caller Caller, path string) (Object, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return Object{}, err
	}
	return objectOf(c.running(), path)
}

// Diff is the difference between two documents, each named "running",
// "candidate" or by a revision's number.
func (c *Control) Diff(caller Caller, from, to string) ([]config.Change, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return nil, err
	}
	a, err := c.named(from)
	if err != nil {
		return nil, err
	}
	b, err := c.named(to)
	if err != nil {
		return nil, err
	}
	return config.Diff(a, b), nil
}

func (c *Control) named(name string) (*config.Document, error) {
	switch name {
	case "running":
		return c.running(), nil
	case "candidate":
		return c.snapshot(), nil
	}
	number, err := strconv.Atoi(name)
	if err != nil {
		return nil, fault(Invalid, text.M("{name} is no document", "name", name)).
			do(text.M("say running, candidate, or the number of a revision"))
	}
	_, doc, err := c.readRevision(number)
	return doc, err
}

// Restore makes a revision, or one object of it, the candidate. It takes effect by
// Apply, like every change.
// match is that of the whole candidate, as for Discard.
func (c *Control) Restore(caller Caller, number int, path string, match Match) (err error) {
	record := c.begin(caller, "restore", path)
	record.Revision = number
	defer func() { record.end(err) }()
	if err := c.mayEdit(caller); err != nil {
		return err
	}
	_, doc, err := c.readRevision(number)
	if err != nil {
		return err
	}
	return c.takeIn(caller, doc, path, match, &record)
}

// Pin keeps a revision from being removed, or lets it go again.
func (c *Control) Pin(caller Caller, number int, pinned bool) (err error) {
	record := c.begin(caller, "revision.pin", "")
	record.Revision = number
	defer func() { record.end(err) }()
	if err := caller.May(auth.Action{Kind: auth.Configure}); err != nil {
		return err
	}
	return c.o.Store.Pin(number, pinned)
}
