package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// stateVersion is the version of the kept facts' form. A form that older programs
	// would misread raises it.
	stateVersion = 1
	// maxFacts and maxFactAge bound what is kept of names that nobody uses: a
	// document that comes back finds them.
	maxFacts   = 1000
	maxFactAge = 30 * 24 * time.Hour
)

// errNewer tells that a newer program wrote the facts.
var errNewer = errors.New("written by a newer Sluis: use that one")

// fact is where a name was last found.
type fact struct {
	Name      string       `json:"name"`
	Address   netip.Addr   `json:"address"` // the one in use; not valid = none was ever found
	Addresses []netip.Addr `json:"addresses"`
	Source    Source       `json:"source"`
	Good      time.Time    `json:"good"`
}

// wireState is the form on disk.
type wireState struct {
	Version int    `json:"version"`
	Names   []fact `json:"names"`
}

// decodeState reads what encodeState wrote.
func decodeState(data []byte) (map[string]fact, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	if head.Version > stateVersion {
		return nil, errNewer
	}
	var wire wireState
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	facts := make(map[string]fact, len(wire.Names))
	for _, f := range wire.Names {
		if f.Address.IsValid() {
			facts[f.Name] = f
		}
	}
	return facts, nil
}

// encodeState writes the facts; equal ones give equal bytes. Needs mu.
func (r *Resolver) encodeState() []byte {
	r.forget()
	all := maps.Clone(r.facts)
	for host, n := range r.names {
		if n.fact.Address.IsValid() {
			all[host] = n.fact
		}
	}
	wire := wireState{Version: stateVersion, Names: []fact{}}
	for _, host := range slices.Sorted(maps.Keys(all)) {
		wire.Names = append(wire.Names, all[host])
	}
	data, err := json.MarshalIndent(wire, "", " ")
	if err != nil {
		panic(fmt.Sprintf("BUG: the addresses of names cannot be written: %v", err))
	}
	return append(data, '\n')
}

// forget drops facts of unused names that are too old or too many. Needs mu.
func (r *Resolver) forget() {
	now := r.options.Now()
	maps.DeleteFunc(r.facts, func(_ string, f fact) bool { return now.Sub(f.Good) > maxFactAge })
	if len(r.facts) <= maxFacts {
		return
	}
	oldest := slices.SortedFunc(maps.Values(r.facts), func(a, b fact) int { return a.Good.Compare(b.Good) })
	for _, f := range oldest[:len(oldest)-maxFacts] {
		delete(r.facts, f.Name)
	}
}

// save keeps the facts where they differ from what is kept.
func (r *Resolver) save() error {
	r.mu.Lock()
	data := r.encodeState()
	same := r.saved != nil && string(data) == string(r.saved)
	r.mu.Unlock()
	if same {
		return nil
	}
	err := r.options.SaveState(data)
	r.stats.saves.Add(1)
	if err != nil {
		r.stats.saveErrors.Add(1)
		data = nil
	}
	r.mu.Lock()
	first := err != nil && r.saveFail == nil
	r.saved, r.saveFail = data, err
	if err == nil {
		r.lost = false
	}
	r.mu.Unlock()
	if first {
		r.options.Publish(StateNotKept{Error: err.Error()})
	}
	return err
}
