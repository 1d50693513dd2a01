package control

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"sluis/internal/apply"
	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/store"
	"sluis/internal/text"
)

// AuditRecord says who did what, from where, when, and how it ended.
type AuditRecord struct {
	Time     time.Time `json:"time"`
	Who      string    `json:"who"`
	Role     auth.Role `json:"role,omitempty"`
	From     string    `json:"from"`
	Via      string    `json:"via"`
	Action   string    `json:"action"`
	Object   string    `json:"object,omitempty"`
	Revision int       `json:"revision,omitempty"`
	// Changes are the places that were changed, with what stood and stands there:
	// "changed system.hostname: sluis -> lb1". Secrets are not shown.
	Changes []string `json:"changes,omitempty"`
	// Result is "ok" or the fault's kind.
	Result string `json:"result"`
	// Reason says why it is not ok.
	Reason string `json:"reason,omitempty"`
}

// record is an audit record in the making.
type record struct {
	AuditRecord
	control *Control
}

// Bounds of the changes that a record names: how many, and their bytes. A line of
// the audit log holds 64 KiB, in which a character may take six.
const (
	maxAuditChanges = 200
	maxAuditSize    = 8 << 10
)

func (c *Control) begin(caller Caller, action, object string) record {
	return record{control: c, AuditRecord: AuditRecord{
		Who: caller.Who(), Role: caller.Role, From: caller.From, Via: caller.Via, Action: action, Object: object,
	}}
}

// end writes the record down. That it can't be written is told as an event and
// does not stop the operation: rolling back must work on a full disk, too.
func (r *record) end(err error) {
	r.Time, r.Result = time.Now().In(r.control.Location()).Truncate(time.Millisecond), "ok"
	if err != nil {
		f := AsFault(err)
		r.Result, r.Reason = string(f.Kind), f.Message.String()
	}
	line, encodeErr := json.Marshal(r.AuditRecord)
	if encodeErr == nil {
		encodeErr = r.control.o.Store.AppendAudit(line)
	}
	if encodeErr != nil {
		r.control.o.Events.Publish(Trouble{
			What:   text.M("{action} by {who} could not be written into the audit log", "action", r.Action, "who", r.Who),
			Reason: AsFault(encodeErr).Message,
		})
	}
}

func summaries(changes []config.Change) []string {
	var list []string
	size := 0
	for _, change := range changes {
		for _, line := range summary(change) {
			if size += len(line); len(list) == maxAuditChanges || size > maxAuditSize {
				return append(list, "…")
			}
			list = append(list, line)
		}
	}
	return list
}

// maxAuditValue bounds how much of a value a record holds, in bytes.
const maxAuditValue = 120

// summary says a change place by place; an object that came or went is one place.
func summary(change config.Change) []string {
	if change.Action != config.Changed {
		return []string{string(change.Action) + " " + change.Path}
	}
	var lines []string
	for _, f := range change.Fields {
		line := string(f.Action) + " " + f.Path
		if f.Action == config.Changed {
			line += ": " + short(f.From) + " -> " + short(f.To)
		}
		lines = append(lines, line)
	}
	return lines
}

func short(value string) string {
	if len(value) <= maxAuditValue {
		return value
	}
	return strings.ToValidUTF8(value[:maxAuditValue], "") + "…"
}

// AuditReturned writes down that a revision was given up, which no caller asks for
// when its time is over.
func AuditReturned(s *store.Store, zone *time.Location, e apply.RevisionReturned) error {
	line, err := json.Marshal(AuditRecord{
		Time: time.Now().In(zone).Truncate(time.Millisecond), Who: "sluis", From: "local", Via: "engine", Action: "revision.returned",
		Revision: e.Revision, Result: "ok", Reason: e.Reason.String(),
	})
	if err != nil {
		return err
	}
	return s.AppendAudit(line)
}

// Audit lists audit records, newest first, and the cursor of the rest.
func (c *Control) Audit(caller Caller, page Page) ([]AuditRecord, string, error) {
	if err := caller.May(auth.Action{Kind: auth.View}); err != nil {
		return nil, "", err
	}
	query := strings.ToLower(page.Query)
	lines, next, err := c.o.Store.ReadAudit(page.limit(), page.Cursor, func(line []byte) bool {
		return query == "" || strings.Contains(strings.ToLower(string(line)), query)
	})
	if errors.Is(err, store.ErrBadCursor) {
		return nil, "", fault(Invalid, text.M("{cursor} is no cursor of this list", "cursor", page.Cursor))
	}
	if err != nil {
		return nil, "", err
	}
	records := []AuditRecord{}
	for _, line := range lines {
		var r AuditRecord
		if err := json.Unmarshal(line, &r); err != nil {
			r = AuditRecord{Result: "unreadable", Reason: err.Error()}
		}
		records = append(records, r)
	}
	return records, next, nil
}
