package migrate

import (
	"slices"

	"sluis/internal/config"
)

// A condition in HAProxy is an or of ands of ACLs, each perhaps negated; there are
// no parentheses. A small tree is multiplied out. A large one would explode, so
// that its parts go into variables of the request first, one line for each operand:
//
//	http-request set-var(txn.sluis_c1) bool(true) if a
//	http-request set-var(txn.sluis_c1) bool(true) if b !c
//	http-request deny if { var(txn.sluis_c1) -m bool } d

// Bounds of a condition that is multiplied out.
const (
	maxTerms       = 16
	maxInlineWords = 40
)

// literal is a named ACL or an anonymous one, in words.
type literal struct {
	words   []string
	negated bool
}

func (l literal) not() literal { return literal{l.words, !l.negated} }

func (l literal) append(words []string) []string {
	first := l.words[0]
	if l.negated {
		first = "!" + first
	}
	return append(append(words, first), l.words[1:]...)
}

func named(name string) literal { return literal{words: []string{name}} }

func isSet(variable string) literal {
	return literal{words: []string{"{", "var(" + variable + ")", "-m", "found", "}"}}
}

// tree is a condition without nots but at its leaves. A tree with neither leaf nor
// operands is always true (all) or never (any).
type tree struct {
	leaf *literal
	any  bool // the operands are joined by or
	of   []tree
}

func leafTree(l literal) tree     { return tree{leaf: &l} }
func allOf(of ...tree) tree       { return tree{of: of} }
func (t tree) isTrue() bool       { return t.leaf == nil && !t.any && len(t.of) == 0 }
func (t tree) and(more tree) tree { return allOf(t, more).flat() }

func (t tree) not() tree {
	if t.leaf != nil {
		return leafTree(t.leaf.not())
	}
	n := tree{any: !t.any}
	for _, operand := range t.of {
		n.of = append(n.of, operand.not())
	}
	return n
}

// flat folds operands that are joined by the same word into one level.
func (t tree) flat() tree {
	if t.leaf != nil {
		return t
	}
	out := tree{any: t.any}
	for _, operand := range t.of {
		operand = operand.flat()
		if operand.leaf == nil && (operand.any == t.any || len(operand.of) == 1) {
			out.of = append(out.of, operand.of...)
			continue
		}
		out.of = append(out.of, operand)
	}
	if len(out.of) == 1 {
		return out.of[0]
	}
	return out
}

// treeOf translates a condition; each says what a name stands for.
func treeOf(c *config.Condition, name func(string) (tree, bool)) (tree, bool) {
	switch c.Op {
	case config.ConditionName:
		return name(c.Name)
	case config.ConditionNot:
		t, ok := treeOf(c.Of[0], name)
		return t.not(), ok
	}
	t := tree{any: c.Op == config.ConditionOr}
	for _, operand := range c.Of {
		o, ok := treeOf(operand, name)
		if !ok {
			return tree{}, false
		}
		t.of = append(t.of, o)
	}
	return t.flat(), true
}

// terms multiplies a tree out, as long as it stays small.
func (t tree) terms() (terms [][]literal, ok bool) {
	switch {
	case t.leaf != nil:
		return [][]literal{{*t.leaf}}, true
	case t.any:
		for _, operand := range t.of {
			more, ok := operand.terms()
			if terms = append(terms, more...); !ok || len(terms) > maxTerms {
				return nil, false
			}
		}
		return terms, true
	}
	terms = [][]literal{{}}
	for _, operand := range t.of {
		more, ok := operand.terms()
		if !ok || len(terms)*len(more) > maxTerms {
			return nil, false
		}
		var product [][]literal
		for _, left := range terms {
			for _, right := range more {
				product = append(product, slices.Concat(left, right))
			}
		}
		terms = product
	}
	return terms, true
}

// condition is the if of a line; nil where it always holds. Where it needs
// variables their lines are written before.
func (e *exporter) condition(t tree) []string {
	t = t.flat()
	if t.isTrue() {
		return nil
	}
	if terms, ok := t.terms(); ok && len(terms) > 0 {
		words := []string{"if"}
		for i, term := range terms {
			if i > 0 {
				words = append(words, "||")
			}
			for _, l := range term {
				words = l.append(words)
			}
		}
		if len(words) <= maxInlineWords {
			return words
		}
	}
	if t.any || t.leaf != nil {
		return e.lineIf([]literal{e.literalOf(t)})
	}
	var all []literal
	for _, operand := range t.of {
		all = append(all, e.literalOf(operand))
	}
	return e.lineIf(all)
}

// literalOf is a tree as one literal, whose variable is computed before.
func (e *exporter) literalOf(t tree) literal {
	if t.leaf != nil {
		return *t.leaf
	}
	variable := e.variable("c")
	set := func(all []literal) {
		e.out.add(append([]string{"http-request", "set-var(" + variable + ")", "bool(true)"}, e.lineIf(all)...)...)
	}
	if !t.any {
		var all []literal
		for _, operand := range t.of {
			all = append(all, e.literalOf(operand))
		}
		set(all)
		return isSet(variable)
	}
	for _, operand := range t.of {
		if operand.leaf != nil || operand.any {
			set([]literal{e.literalOf(operand)})
			continue
		}
		var all []literal
		for _, inner := range operand.of {
			all = append(all, e.literalOf(inner))
		}
		set(all)
	}
	return isSet(variable)
}

// lineIf is an and of literals as the if of a line; more than fit go into variables.
func (e *exporter) lineIf(all []literal) []string {
	for {
		words := []string{"if"}
		for _, l := range all {
			words = l.append(words)
		}
		if len(words) <= maxInlineWords {
			return words
		}
		var shorter []literal
		for chunk := range slices.Chunk(all, 6) { // six anonymous ones are 30 words
			variable := e.variable("c")
			line := []string{"http-request", "set-var(" + variable + ")", "bool(true)", "if"}
			for _, l := range chunk {
				line = l.append(line)
			}
			e.out.add(line...)
			shorter = append(shorter, isSet(variable))
		}
		all = shorter
	}
}
