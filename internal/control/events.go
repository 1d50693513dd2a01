package control

import "sluis/internal/text"

// CandidateChanged tells that the candidate is another one.
type CandidateChanged struct {
	By string `json:"by"`
	// Changes is how many objects differ from the running document now.
	Changes int `json:"changes"`
}

// EventName implements event.Event.
func (CandidateChanged) EventName() string { return "control.candidate.changed" }

// Text implements event.Event.
func (e CandidateChanged) Text() text.Msg {
	return text.M("{who} changed the candidate; objects that differ from running: {n}", "who", e.By, "n", e.Changes)
}

// ServerActed tells that somebody acted on a running server.
type ServerActed struct {
	Backend string      `json:"backend"`
	Server  string      `json:"server"`
	Verb    RuntimeVerb `json:"verb"`
	By      string      `json:"by"`
}

// EventName implements event.Event.
func (ServerActed) EventName() string { return "control.server.acted" }

// Text implements event.Event.
func (e ServerActed) Text() text.Msg {
	return text.M("{who} set server {server} of {backend}: {verb}", "who", e.By, "server", e.Server, "backend", e.Backend, "verb", e.Verb)
}

// Trouble tells that something beside an operation went wrong.
type Trouble struct {
	What   text.Msg `json:"what"`
	Reason text.Msg `json:"reason"`
}

// EventName implements event.Event.
func (Trouble) EventName() string { return "control.trouble.met" }

// Text implements event.Event.
func (e Trouble) Text() text.Msg {
	return text.M("{what}: {reason}", "what", e.What, "reason", e.Reason)
}
