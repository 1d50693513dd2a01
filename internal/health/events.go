package health

import (
	"sluis/internal/config"
	"sluis/internal/event"
	"sluis/internal/text"
)

// ServerDown tells that a server was taken out.
type ServerDown struct {
	Backend string `json:"backend"`
	Server  string `json:"server"`
	Code    Code   `json:"code"`
	// HTTPStatus is the answer's status; 0 = there was none.
	HTTPStatus int      `json:"http_status,omitempty"`
	Reason     text.Msg `json:"reason"`
	// After is how long it was up.
	After config.Duration `json:"after"`
}

// EventName implements event.Event.
func (ServerDown) EventName() string { return "health.server.down" }

// Text implements event.Event.
func (e ServerDown) Text() text.Msg {
	return text.M("the server {server} of {backend} is down: {reason} ({code})",
		"server", e.Server, "backend", e.Backend, "reason", e.Reason, "code", string(e.Code))
}

// ServerUp tells that a server came back.
type ServerUp struct {
	Backend string `json:"backend"`
	Server  string `json:"server"`
	Code    Code   `json:"code"`
	// HTTPStatus is the answer's status; 0 = there was none.
	HTTPStatus int      `json:"http_status,omitempty"`
	Reason     text.Msg `json:"reason"`
	// After is how long it was down.
	After config.Duration `json:"after"`
}

// EventName implements event.Event.
func (ServerUp) EventName() string { return "health.server.up" }

// Text implements event.Event.
func (e ServerUp) Text() text.Msg {
	return text.M("the server {server} of {backend} is up again after {time}: {reason} ({code})",
		"server", e.Server, "backend", e.Backend, "time", e.After, "reason", e.Reason, "code", string(e.Code))
}

func (w *watch) eventOf(n news) event.Event {
	if n.up {
		return ServerUp{w.spec.backend, w.spec.server, n.code, n.status, n.reason, config.Duration(n.after)}
	}
	return ServerDown{w.spec.backend, w.spec.server, n.code, n.status, n.reason, config.Duration(n.after)}
}
