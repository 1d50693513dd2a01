package config

import (
	"slices"
	"strings"

	"sluis/internal/text"
)

// Bounds of a condition: whoever evaluates one need not fear its size.
const (
	maxConditionLength = 2 << 10
	maxConditionDepth  = 50
)

// Condition is a rule's when as a tree. The grammar, with the loosest binding
// first:
//
//	or      = and { "or" and }
//	and     = not { "and" not }
//	not     = "not" not | primary
//	primary = NAME | "(" or ")"
//
// An and below an and, or an or below an or, is folded into the upper one, so
// that parentheses without meaning leave no trace.
type Condition struct {
	// Op says what stands at this node.
	Op ConditionOp
	// Name is the ACL that is asked; set where Op is ConditionName.
	Name string
	// Of are the operands: none of a name, one of a not, two or more otherwise.
	Of []*Condition
	// Offset is where the name or the first operand stands in the text, in bytes.
	Offset int
}

// ConditionOp is what stands at one node of a condition.
type ConditionOp string

// The nodes of a condition.
const (
	ConditionName ConditionOp = "name"
	ConditionNot  ConditionOp = "not"
	ConditionAnd  ConditionOp = "and"
	ConditionOr   ConditionOp = "or"
)

// conditionWords are the words that can't be names.
var conditionWords = []string{"and", "or", "not"}

// ConditionError says where a condition can't be read, and why.
type ConditionError struct {
	// Offset is the place in the text, in bytes from 0.
	Offset int
	// Msg says what is wrong there.
	Msg text.Msg
	// Hint says what was perhaps meant; the zero Msg where nothing is near.
	Hint text.Msg
}

// Error says the place, from 1, and the problem in English.
func (e *ConditionError) Error() string { return e.message().String() }

func (e *ConditionError) message() text.Msg {
	return text.M("at character {column}: {problem}", "column", e.Offset+1, "problem", e.Msg)
}

// ParseCondition reads a condition. The empty text is no condition: a rule that
// has none always holds, and its when isn't parsed.
func ParseCondition(s string) (*Condition, *ConditionError) {
	if len(s) > maxConditionLength {
		return nil, &ConditionError{
			Offset: maxConditionLength,
			Msg:    text.M("the condition is longer than {limit} bytes", "limit", maxConditionLength),
			Hint:   text.M("split it over several rules, or put more values into one ACL"),
		}
	}
	tokens, err := lexCondition(s)
	if err != nil {
		return nil, err
	}
	p := conditionParser{tokens: tokens, end: len(s)}
	c, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if t, more := p.peek(); more {
		return nil, p.wantOperator(t)
	}
	return c, nil
}

// String writes the condition in its canonical form: single blanks, and only the
// parentheses that it needs. Parsing that gives an equal tree.
func (c *Condition) String() string {
	switch c.Op {
	case ConditionName:
		return c.Name
	case ConditionNot:
		return "not " + c.Of[0].below(c.Of[0].Op == ConditionAnd || c.Of[0].Op == ConditionOr)
	case ConditionAnd, ConditionOr:
		parts := make([]string, len(c.Of))
		for i, operand := range c.Of {
			parts[i] = operand.below(c.Op == ConditionAnd && operand.Op == ConditionOr)
		}
		return strings.Join(parts, " "+string(c.Op)+" ")
	}
	panic("BUG: a condition holds the node " + string(c.Op))
}

func (c *Condition) below(parentheses bool) string {
	if parentheses {
		return "(" + c.String() + ")"
	}
	return c.String()
}

// Eval answers the condition, asking holds for each name that decides.
func (c *Condition) Eval(holds func(name string) bool) bool {
	switch c.Op {
	case ConditionName:
		return holds(c.Name)
	case ConditionNot:
		return !c.Of[0].Eval(holds)
	case ConditionAnd:
		for _, operand := range c.Of {
			if !operand.Eval(holds) {
				return false
			}
		}
		return true
	case ConditionOr:
		for _, operand := range c.Of {
			if operand.Eval(holds) {
				return true
			}
		}
		return false
	}
	panic("BUG: a condition holds the node " + string(c.Op))
}

// Names are the names that the condition asks, each once, in their order.
func (c *Condition) Names() []string {
	var names []string
	c.each(func(n *Condition) {
		if !slices.Contains(names, n.Name) {
			names = append(names, n.Name)
		}
	})
	return names
}

func (c *Condition) each(visit func(name *Condition)) {
	if c.Op == ConditionName {
		visit(c)
	}
	for _, operand := range c.Of {
		operand.each(visit)
	}
}

// Rename is the condition with another name in place of one.
func (c *Condition) Rename(from, to string) *Condition {
	renamed := *c
	if c.Op == ConditionName && c.Name == from {
		renamed.Name = to
	}
	renamed.Of = nil
	for _, operand := range c.Of {
		renamed.Of = append(renamed.Of, operand.Rename(from, to))
	}
	return &renamed
}

// renameInCondition replaces a name in the text of a condition and leaves every
// other byte of it alone, even where the text isn't a valid condition.
func renameInCondition(s, from, to string) string {
	var b strings.Builder
	done := 0
	for _, t := range conditionNames(s) {
		if t.text == from {
			b.WriteString(s[done:t.offset] + to)
			done = t.offset + len(t.text)
		}
	}
	return b.String() + s[done:]
}

// conditionNames are the names in the text of a condition, up to the first place
// that can't be read.
func conditionNames(s string) []conditionToken {
	tokens, _ := lexCondition(s)
	return slices.DeleteFunc(tokens, func(t conditionToken) bool {
		return t.text == "(" || t.text == ")" || slices.Contains(conditionWords, t.text)
	})
}

// conditionToken is a parenthesis or a word.
type conditionToken struct {
	text   string
	offset int
}

func lexCondition(s string) ([]conditionToken, *ConditionError) {
	var tokens []conditionToken
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')':
			tokens = append(tokens, conditionToken{s[i : i+1], i})
			i++
		case isNameByte(c) && isAlphanumeric(c):
			end := i
			for end < len(s) && isNameByte(s[end]) {
				end++
			}
			word := s[i:end]
			if lower := strings.ToLower(word); lower != word && slices.Contains(conditionWords, lower) {
				return tokens, &ConditionError{Offset: i, Msg: text.M("{word} is written in lower case", "word", lower)}
			}
			tokens = append(tokens, conditionToken{word, i})
			i = end
		default:
			return tokens, strangeInCondition(s, i)
		}
	}
	return tokens, nil
}

// strangeInCondition explains a character that no condition has. Signs of other
// languages get the word that stands for them here.
func strangeInCondition(s string, i int) *ConditionError {
	e := &ConditionError{Offset: i, Msg: text.M("{character} can't stand here", "character", firstRune(s[i:]))}
	switch s[i] {
	case '!':
		e.Hint = text.M("write {word}", "word", "not")
	case '&':
		e.Hint = text.M("write {word}", "word", "and")
	case '|', ',':
		e.Hint = text.M("write {word}", "word", "or")
	default:
		e.Hint = text.M("a condition holds names of ACLs, and, or, not and parentheses")
	}
	return e
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

type conditionParser struct {
	tokens []conditionToken
	end    int // length of the text
}

func (p *conditionParser) peek() (conditionToken, bool) {
	if len(p.tokens) == 0 {
		return conditionToken{offset: p.end}, false
	}
	return p.tokens[0], true
}

// take consumes the next token if it is that one.
func (p *conditionParser) take(word string) bool {
	if t, ok := p.peek(); !ok || t.text != word {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *conditionParser) or(depth int) (*Condition, *ConditionError) {
	return p.list(ConditionOr, depth, p.and)
}

func (p *conditionParser) and(depth int) (*Condition, *ConditionError) {
	return p.list(ConditionAnd, depth, p.not)
}

// list reads operands joined by one word; a single operand stands for itself.
func (p *conditionParser) list(
	op ConditionOp, depth int, operand func(int) (*Condition, *ConditionError),
) (*Condition, *ConditionError) {
	first, err := operand(depth)
	if err != nil {
		return nil, err
	}
	all := &Condition{Op: op, Offset: first.Offset}
	all.fold(first)
	for p.take(string(op)) {
		next, err := operand(depth)
		if err != nil {
			return nil, err
		}
		all.fold(next)
	}
	if len(all.Of) == 1 || first.Op == op && len(first.Of) == len(all.Of) {
		return first, nil
	}
	return all, nil
}

// fold appends an operand, or the operands of one that joins by the same word.
func (c *Condition) fold(operand *Condition) {
	if operand.Op == c.Op {
		c.Of = append(c.Of, operand.Of...)
		return
	}
	c.Of = append(c.Of, operand)
}

func (p *conditionParser) not(depth int) (*Condition, *ConditionError) {
	t, _ := p.peek()
	if depth > maxConditionDepth {
		return nil, &ConditionError{
			Offset: t.offset,
			Msg:    text.M("the condition is nested more than {limit} deep", "limit", maxConditionDepth),
		}
	}
	if !p.take("not") {
		return p.primary(depth)
	}
	operand, err := p.not(depth + 1)
	if err != nil {
		return nil, err
	}
	return &Condition{Op: ConditionNot, Of: []*Condition{operand}, Offset: t.offset}, nil
}

func (p *conditionParser) primary(depth int) (*Condition, *ConditionError) {
	t, ok := p.peek()
	if !ok || t.text == ")" || slices.Contains(conditionWords, t.text) {
		return nil, wantOperand(t, ok)
	}
	if !p.take("(") {
		p.tokens = p.tokens[1:]
		return &Condition{Op: ConditionName, Name: t.text, Offset: t.offset}, nil
	}
	inner, err := p.or(depth + 1)
	if err != nil {
		return nil, err
	}
	if next, more := p.peek(); more && next.text != ")" {
		return nil, p.wantOperator(next)
	}
	if !p.take(")") {
		return nil, &ConditionError{Offset: t.offset, Msg: text.M("this parenthesis isn't closed")}
	}
	return inner, nil
}

func wantOperand(t conditionToken, found bool) *ConditionError {
	e := &ConditionError{Offset: t.offset, Msg: text.M("the name of an ACL is missing before {word}", "word", t.text)}
	if !found {
		e.Msg = text.M("the name of an ACL is missing at the end")
	}
	return e
}

func (p *conditionParser) wantOperator(t conditionToken) *ConditionError {
	e := &ConditionError{Offset: t.offset, Msg: text.M("and or or is missing before {word}", "word", t.text)}
	if t.text == ")" {
		e.Msg = text.M("this parenthesis closes none")
		return e
	}
	if meant := Nearest(t.text, []string{"and", "or"}); meant != "" && len(p.tokens) > 1 && t.text != "not" {
		e.Hint = text.M("did you mean {name}?", "name", meant)
	}
	return e
}

// isNameByte reports whether a byte may stand in a name.
func isNameByte(c byte) bool {
	return isAlphanumeric(c) || c == '.' || c == '_' || c == '-'
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
