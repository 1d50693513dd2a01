package pki

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// stateVersion is the version of the kept facts' form. A form that older programs
// would misread raises it.
const stateVersion = 1

// errNewer tells that a newer program wrote the facts.
var errNewer = errors.New("written by a newer Sluis: use that one")

// fact is a certificate that Sluis made.
type fact struct {
	// Name is the certificate's name in the document; empty = the appliance's own.
	Name string `json:"name,omitempty"`
	// Spec is the hash of the description that it was made from.
	Spec string `json:"spec"`
	// Certificate is it, as PEM text.
	Certificate string `json:"certificate"`
	// Key is the reference of its private key in the store.
	Key string `json:"key"`

	// loaded is the certificate with its key; nil = nobody needed it yet.
	loaded *tls.Certificate
	// kept tells that its key is in the store; what is not kept is not written.
	kept bool
}

// describedBy reports whether the fact is what is wanted.
func (f fact) describedBy(w wanted) bool { return f.Name == w.name && f.Spec == w.spec }

// sameDescription reports whether two facts were made for the same.
func (f fact) sameDescription(other fact) bool { return f.Name == other.Name && f.Spec == other.Spec }

// wireState is the form on disk.
type wireState struct {
	Version   int    `json:"version"`
	Used      []fact `json:"used"`
	Former    []fact `json:"former"`
	Appliance []fact `json:"appliance"`
}

// encodeState writes the facts of a snapshot; equal facts give equal bytes.
func encodeState(s *snapshot) []byte {
	data, err := json.MarshalIndent(wireState{
		Version: stateVersion, Used: keptOf(s.used), Former: keptOf(s.former), Appliance: keptOf(s.appliance),
	}, "", " ")
	if err != nil {
		panic(fmt.Sprintf("BUG: the made certificates cannot be written: %v", err))
	}
	return append(data, '\n')
}

func keptOf(facts []fact) []fact {
	kept := []fact{}
	for _, f := range facts {
		if f.kept {
			kept = append(kept, f)
		}
	}
	return kept
}

// decodeState reads what encodeState wrote. The certificates are looked at only
// when they are used.
func decodeState(data []byte) (*snapshot, error) {
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
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wire); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF || wire.Version != stateVersion {
		return nil, errors.New("damaged: no version, or something after its end")
	}
	for _, facts := range [][]fact{wire.Used, wire.Former, wire.Appliance} {
		for i := range facts {
			facts[i].kept = true
		}
	}
	return &snapshot{used: wire.Used, former: wire.Former, appliance: wire.Appliance}, nil
}
