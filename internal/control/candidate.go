package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/text"
)

// candidate is the document that the next apply will bring about.
type candidate struct {
	document *config.Document
	// marks say who last changed an object, by the object's path in a
	// config.Change. Objects that equal the running ones need none.
	marks map[string]Mark
}

// Mark says who last changed an object of the candidate.
type Mark struct {
	By   string    `json:"by"`
	From string    `json:"from"`
	At   time.Time `json:"at"`
}

// Change is one object that differs between running and candidate.
type Change struct {
	config.Change
	// Mark is nil where nobody of us made the change, as after a roll back.
	Mark *Mark `json:"mark,omitempty"`
}

// Object is a part of a document as it is read and written.
type Object struct {
	// Path is its place.
	Path string
	// JSON is the object with every value spelled out; secrets are "(set)".
	JSON json.RawMessage
	// ETag names this state of the object.
	ETag string
	// Mark says who changed it last; nil = it is as it runs.
	Mark *Mark
	// Problems are hints for who has just saved it.
	Problems config.Problems
}

// Match is the condition of a write: what the writer has read.
type Match struct {
	// ETag is the state that the writer has seen; "*" = whatever stands there now.
	ETag string
	// Absent says that the writer means to create what isn't there.
	Absent bool
}

// View is the candidate as a whole.
type View struct {
	Document *config.Document
	ETag     string
	Changes  []Change
}

// loadCandidate goes on with the candidate of before the start. One that can't be
// read must not keep what runs from running: it is set aside, and the candidate
// begins anew.
func (c *Control) loadCandidate() {
	c.candidate = candidate{document: config.Clone(c.running()), marks: map[string]Mark{}}
	doc, marks, err := c.readCandidate()
	if err == nil {
		if doc != nil {
			c.candidate = candidate{document: doc, marks: marks}
		}
		return
	}
	reason := AsFault(err).Message
	path, err := c.o.Store.SetCandidateAside()
	if err != nil {
		path = c.o.Store.Dir()
	}
	note := text.M("changes that were not applied yet could not be read and were set aside in {path}: {reason}", "path", path, "reason", reason)
	c.notes = append(c.notes, note)
	c.o.Events.Publish(Trouble{What: text.M("the candidate begins anew"), Reason: note})
}

// readCandidate is the candidate that the store keeps; nil where it keeps none.
func (c *Control) readCandidate() (*config.Document, map[string]Mark, error) {
	document, encoded, ok, err := c.o.Store.Candidate()
	if err != nil || !ok {
		return nil, nil, err
	}
	doc, problems := config.Decode(document)
	if problems.HasErrors() {
		return nil, nil, &Fault{Kind: Storage, Message: text.M("{problem}", "problem", problems[0].String())}
	}
	marks := map[string]Mark{}
	if err := json.Unmarshal(encoded, &marks); err != nil {
		return nil, nil, fmt.Errorf("load candidate's marks: %w", err)
	}
	return doc, marks, nil
}

// Candidate is the shared candidate with what it would change.
func (c *Control) Candidate(caller Caller) (View, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return View{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return View{
		Document: config.Clone(c.candidate.document),
		ETag:     etagOf(c.candidate.document),
		Changes:  c.changesLocked(),
	}, nil
}

func (c *Control) changesLocked() []Change {
	var changes []Change
	zone := c.Location()
	for _, d := range config.Diff(c.running(), c.candidate.document) {
		change := Change{Change: d}
		if m, ok := c.candidate.marks[d.Path]; ok {
			m.At = m.At.In(zone)
			change.Mark = &m
		}
		changes = append(changes, change)
	}
	return changes
}

// CandidateObject is one object or value of the candidate.
func (c *Control) CandidateObject(caller Caller, path string) (Object, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return Object{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objectLocked(path)
}

func (c *Control) objectLocked(path string) (Object, error) {
	object, err := objectOf(c.candidate.document, path)
	if err != nil {
		return object, err
	}
	zone := c.Location()
	for _, d := range config.Diff(c.running(), c.candidate.document) {
		if m, ok := c.candidate.marks[d.Path]; ok && (config.Within(path, d.Path) || config.Within(d.Path, path)) {
			m.At = m.At.In(zone)
			object.Mark = &m
		}
	}
	return object, nil
}

// objectOf reads an object of any document.
func objectOf(doc *config.Document, path string) (Object, error) {
	data, problems := config.GetJSON(doc, path)
	if problems.HasErrors() {
		return Object{}, &Fault{Kind: NotFound, Message: text.M("there is nothing at {path}", "path", path), Problems: problems}
	}
	stored, problems := config.GetYAML(doc, path)
	if problems.HasErrors() {
		return Object{}, &Fault{Kind: NotFound, Message: text.M("there is nothing at {path}", "path", path), Problems: problems}
	}
	return Object{Path: path, JSON: data, ETag: etag(stored)}, nil
}

// etag names a state by its stored form, so that a new secret is a new state.
func etag(stored []byte) string {
	sum := sha256.Sum256(stored)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func etagOf(doc *config.Document) string { return etag(config.EncodeYAML(doc)) }

// Put replaces the object or value at a path, or creates it.
func (c *Control) Put(caller Caller, path string, data []byte, match Match) (Object, error) {
	return c.edit(caller, "candidate.put", path, match, func(doc *config.Document) (*config.Document, config.Problems) {
		return config.Set(doc, path, data)
	})
}

// Patch changes parts of the object at a path (JSON merge patch, RFC 7396).
func (c *Control) Patch(caller Caller, path string, data []byte, match Match) (Object, error) {
	return c.edit(caller, "candidate.patch", path, match, func(doc *config.Document) (*config.Document, config.Problems) {
		return config.Patch(doc, path, data)
	})
}

// Move puts an element of a list before another one of it; before empty = at the
// end.
func (c *Control) Move(caller Caller, path, before string, match Match) (Object, error) {
	return c.edit(caller, "candidate.move", path, match, func(doc *config.Document) (*config.Document, config.Problems) {
		return config.Move(doc, path, before)
	})
}

// Delete removes the object at a path. It is refused while others refer to it.
func (c *Control) Delete(caller Caller, path string, match Match) error {
	_, err := c.edit(caller, "candidate.delete", path, match, func(doc *config.Document) (*config.Document, config.Problems) {
		if users := config.UsedBy(doc, path); len(users) > 0 {
			return doc, stillUsed(path, users)
		}
		return config.Delete(doc, path)
	})
	return err
}

func stillUsed(path string, users []string) config.Problems {
	var problems config.Problems
	for _, user := range users {
		problems.Add(user, text.M("refers to {path}", "path", path)).
			Do(text.M("let it refer to something else, then delete"))
	}
	return problems
}

// Rename gives the object at a path another name and rewrites every reference to
// it. The answer is the object under its new name.
func (c *Control) Rename(caller Caller, path, name string, match Match) (Object, error) {
	renamed := config.Renamed(path, name)
	return c.editTo(caller, "candidate.rename", path, renamed, match, func(doc *config.Document) (*config.Document, config.Problems) {
		return config.Rename(doc, path, name)
	})
}

// Load replaces the whole candidate by a document that was given by hand. A
// secret that says "(set)" stays what it is.
func (c *Control) Load(caller Caller, data []byte, match Match) (Object, error) {
	return c.edit(caller, "candidate.load", "", match, func(doc *config.Document) (*config.Document, config.Problems) {
		next, problems := config.Decode(data)
		if problems.HasErrors() {
			return doc, problems
		}
		return next, append(problems, config.KeepSecrets(next, doc)...)
	})
}

func (c *Control) edit(caller Caller, action, path string, match Match, change func(*config.Document) (*config.Document, config.Problems)) (Object, error) {
	return c.editTo(caller, action, path, path, match, change)
}

// editTo is the one way in for every edit of the candidate.
func (c *Control) editTo(caller Caller, action, path, after string, match Match, change func(*config.Document) (*config.Document, config.Problems)) (object Object, err error) {
	record := c.begin(caller, action, path)
	defer func() { record.end(err) }()
	if err := c.mayEdit(caller); err != nil {
		return Object{}, err
	}
	object, next, read, err := c.save(caller, action, path, after, match, change, &record)
	if err != nil || object.ETag == "" { // deleted
		return object, err
	}
	object.Problems = append(problemsWithin(append(read, config.Validate(next)...), after), c.facts(next, after)...)
	return object, nil
}

// save makes an edit the candidate. The problems are those of reading it.
func (c *Control) save(caller Caller, action, path, after string, match Match, change func(*config.Document) (*config.Document, config.Problems), record *record) (Object, *config.Document, config.Problems, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.matchLocked(path, match); err != nil {
		return Object{}, nil, nil, err
	}
	next, problems := change(c.candidate.document)
	if problems.HasErrors() {
		return Object{}, nil, nil, &Fault{Kind: editFault(action), Message: text.M("this can't be saved"), Problems: problems}
	}
	if problems := c.takeSecrets(next); problems.HasErrors() {
		return Object{}, nil, nil, &Fault{Kind: Invalid, Message: text.M("this can't be saved"), Problems: problems}
	}
	record.Changes = summaries(config.Diff(c.candidate.document, next))
	if err := c.saveLocked(caller, next); err != nil {
		return Object{}, nil, nil, err
	}
	if !config.Exists(next, after) {
		return Object{Path: after}, next, problems, nil
	}
	object, err := c.objectLocked(after)
	return object, next, problems, err
}

// factsWithin is how long a save waits for what the machine has to say about it:
// while an apply is under way, nobody can look.
const factsWithin = 2 * time.Second

// facts are what the machine shows of a place that was saved, and of the parts
// that hold it: hints, until an apply makes them the gate.
func (c *Control) facts(doc *config.Document, path string) config.Problems {
	ctx, cancel := context.WithTimeout(context.Background(), factsWithin)
	defer cancel()
	all, _, err := c.o.Engine.Check(ctx, doc)
	if err != nil {
		return nil // the apply's own check will say it
	}
	var facts config.Problems
	for _, p := range all {
		if config.Within(p.Path, path) || p.Path != "" && config.Within(path, p.Path) {
			facts = append(facts, p)
		}
	}
	return facts
}

func editFault(action string) Kind {
	if action == "candidate.delete" || action == "candidate.rename" {
		return Conflict
	}
	return Invalid
}

func (c *Control) mayEdit(caller Caller) error {
	if err := caller.May(auth.Action{Kind: auth.Configure}); err != nil {
		return err
	}
	if !c.o.ReadOnly.IsZero() {
		return fault(Unavailable, c.o.ReadOnly).do(text.M("change the file, and it takes effect by itself"))
	}
	return nil
}

// matchLocked holds the writer's condition against what stands at the path.
func (c *Control) matchLocked(path string, match Match) error {
	current, err := c.objectLocked(path)
	exists := err == nil
	switch {
	case match.Absent && !exists, match.ETag == "*" && exists, exists && match.ETag == current.ETag:
		return nil
	case match.Absent:
		return changed(text.M("{path} exists already", "path", place(path)), &current)
	case match.ETag == "":
		return fault(MatchRequired, text.M("a write must say which state of {path} it was made from", "path", place(path))).
			do(text.M("send If-Match with the ETag that you read, or If-None-Match: * to create it"))
	case !exists:
		return changed(text.M("{path} isn't there any more", "path", place(path)), nil)
	case current.Mark != nil:
		return changed(text.M("{who} has changed {path} since you read it", "who", current.Mark.By, "path", place(path)), &current)
	default:
		return changed(text.M("{path} has changed since you read it", "path", place(path)), &current)
	}
}

func place(path string) any {
	if path == "" {
		return text.M("the candidate")
	}
	return path
}

func changed(message text.Msg, current *Object) *Fault {
	f := fault(Changed, message).do(text.M("read it again and decide which version is right"))
	f.Current = current
	return f
}

// saveLocked makes a document the candidate, durably, and notes who changed what.
func (c *Control) saveLocked(caller Caller, next *config.Document) error {
	now := time.Now().UTC().Truncate(time.Second)
	marks := map[string]Mark{}
	touched := map[string]bool{}
	for _, d := range config.Diff(c.candidate.document, next) {
		touched[d.Path] = true
	}
	for _, d := range config.Diff(c.running(), next) {
		if m, ok := c.candidate.marks[d.Path]; ok && !touched[d.Path] {
			marks[d.Path] = m
			continue
		}
		if touched[d.Path] {
			marks[d.Path] = Mark{By: caller.Who(), From: caller.From, At: now}
		}
	}
	encoded, err := json.Marshal(marks)
	if err != nil {
		return fmt.Errorf("encode marks: %w", err)
	}
	document := config.EncodeYAML(next)
	if err := c.o.Store.SaveCandidate(document, encoded); err != nil {
		return err
	}
	before := config.EncodeYAML(c.candidate.document)
	c.candidate = candidate{document: next, marks: marks}
	if !bytes.Equal(before, document) {
		c.o.Events.Publish(CandidateChanged{By: caller.Who(), Changes: len(marks)})
	}
	return nil
}

// Discard takes back what the candidate would change: all of it, or one object.
// The object's path is that of a Change.
// match is that of the whole candidate: what others have changed isn't thrown away
// unseen.
func (c *Control) Discard(caller Caller, path string, match Match) (err error) {
	record := c.begin(caller, "candidate.discard", path)
	defer func() { record.end(err) }()
	return c.takeIn(caller, c.running(), path, match, &record)
}

// takeIn makes another document, or one object of it, the candidate.
func (c *Control) takeIn(caller Caller, from *config.Document, path string, match Match, record *record) error {
	if err := c.mayEdit(caller); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.matchLocked("", match); err != nil {
		return err
	}
	next := config.Clone(from)
	if path != "" {
		var err error
		if next, err = takeObject(c.candidate.document, from, path); err != nil {
			return err
		}
	}
	record.Changes = summaries(config.Diff(c.candidate.document, next))
	return c.saveLocked(caller, next)
}

// takeObject copies one object of a document into another: as it is, or not at
// all where it isn't there.
func takeObject(into, from *config.Document, path string) (*config.Document, error) {
	next, problems := config.Take(into, from, path)
	if problems.HasErrors() {
		return nil, &Fault{Kind: NotFound, Message: text.M("there is nothing at {path}", "path", path), Problems: problems}
	}
	return next, nil
}

// problemsWithin are the problems at or below a path.
func problemsWithin(problems config.Problems, path string) config.Problems {
	var within config.Problems
	for _, p := range problems {
		if config.Within(p.Path, path) {
			within = append(within, p)
		}
	}
	return within
}
