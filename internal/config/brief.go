package config

import "sluis/internal/config/wire"

// GetBrief is the value at a path in the form of EncodeBrief: without what equals
// its default.
func GetBrief(doc *Document, path string) ([]byte, Problems) {
	p, problems := locate(doc, path, false)
	if problems != nil {
		return nil, problems
	}
	return wire.AppendYAML(nil, form{secret: Secret.stored, brief: true}.value(p.value, p.def)), nil
}
