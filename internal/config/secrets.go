package config

import "slices"

// EachSecret visits every secret that is set, with its path, so that input can be
// taken into the store. The visitor may replace it.
func EachSecret(doc *Document, visit func(path string, secret *Secret)) {
	walkDocument(doc, func(n *node) bool {
		if n.value.Type() == secretType {
			if s := n.value.Addr().Interface().(*Secret); !s.IsZero() {
				visit(n.path, s)
			}
		}
		return true
	})
}

// SecretRefs are the references into the store that a document holds, sorted,
// each once.
func SecretRefs(doc *Document) []string {
	var refs []string
	EachSecret(doc, func(_ string, s *Secret) {
		if ref, ok := s.Reference(); ok {
			refs = append(refs, ref)
		}
	})
	slices.Sort(refs)
	return slices.Compact(refs)
}
