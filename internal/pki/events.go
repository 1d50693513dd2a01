package pki

import (
	"time"

	"sluis/internal/text"
)

// CertificateMade tells that Sluis has made a certificate that signs itself.
type CertificateMade struct {
	// Name is that in the document; empty = the appliance's own.
	Name string `json:"name"`
	// Fingerprint is its SHA-256, as browsers show it.
	Fingerprint string    `json:"fingerprint"`
	Ends        time.Time `json:"ends"`
}

// EventName implements event.Event.
func (CertificateMade) EventName() string { return "pki.certificate.made" }

// Text implements event.Event.
func (e CertificateMade) Text() text.Msg {
	ends := e.Ends.Format(time.DateOnly)
	if e.Name == "" {
		return text.M("a certificate for the appliance itself was made, valid until {day}, with the fingerprint {fingerprint}", "day", ends, "fingerprint", e.Fingerprint)
	}
	return text.M("the certificate {name} was made, valid until {day}, with the fingerprint {fingerprint}", "name", e.Name, "day", ends, "fingerprint", e.Fingerprint)
}
