package resolve

import (
	"net/netip"

	"sluis/internal/text"
)

// NameChanged tells that a name leads elsewhere.
type NameChanged struct {
	Name string     `json:"name"`
	From netip.Addr `json:"from"`
	To   netip.Addr `json:"to"`
}

// EventName implements event.Event.
func (NameChanged) EventName() string { return "resolve.name.changed" }

// Text implements event.Event.
func (e NameChanged) Text() text.Msg {
	return text.M("the name {name} leads to {to} now, no longer to {from}", "name", e.Name, "to", e.To, "from", e.From)
}

// NameFailed tells that a name could not be looked up, for the first time since it
// could.
type NameFailed struct {
	Name   string   `json:"name"`
	Reason text.Msg `json:"reason"`
	// Kept is the address that stays in use; not valid = there is none.
	Kept netip.Addr `json:"kept"`
}

// EventName implements event.Event.
func (NameFailed) EventName() string { return "resolve.name.failed" }

// Text implements event.Event.
func (e NameFailed) Text() text.Msg {
	if !e.Kept.IsValid() {
		return text.M("the name {name} can't be looked up, and its servers get no requests: {reason}", "name", e.Name, "reason", e.Reason)
	}
	return text.M("the name {name} can't be looked up, its last address {address} stays in use: {reason}", "name", e.Name, "address", e.Kept, "reason", e.Reason)
}

// NameRecovered tells that a name can be looked up again.
type NameRecovered struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	// Failures is how many lookups had failed.
	Failures int `json:"failures"`
}

// EventName implements event.Event.
func (NameRecovered) EventName() string { return "resolve.name.recovered" }

// Text implements event.Event.
func (e NameRecovered) Text() text.Msg {
	return text.M("the name {name} can be looked up again, after {count} failures: {address}", "name", e.Name, "count", e.Failures, "address", e.Address)
}

// StateNotKept tells that the addresses of names could not be kept on disk, for the
// first time since they could: after a restart they would have to be found anew.
type StateNotKept struct {
	Error string `json:"error"`
}

// EventName implements event.Event.
func (StateNotKept) EventName() string { return "resolve.state.failed" }

// Text implements event.Event.
func (e StateNotKept) Text() text.Msg {
	return text.M("the addresses of names can't be kept for the next start: {error}", "error", e.Error)
}
