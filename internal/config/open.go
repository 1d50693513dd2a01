package config

import "sluis/internal/config/wire"

// EncodeOpen writes a document as EncodeYAML does, but with the values of secrets
// that are still inline. It is for handing a document over to the appliance that
// will keep it, on a connection that nobody else reads, and for nothing else.
func EncodeOpen(doc *Document) []byte {
	return wire.AppendYAML(nil, form{secret: func(s Secret) string { return s.value }}.document(doc))
}
