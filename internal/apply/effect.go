package apply

import "sluis/internal/config"

// NotInEffect are the places of the running document that no subsystem here puts
// into effect.
func (e *Engine) NotInEffect() config.Problems {
	running, _ := e.now()
	if running.document == nil {
		return nil
	}
	return config.Unclaimed(running.document, e.claims)
}
