package rule

import "fmt"

// maxConditionDepth bounds the recursion of Compile. The document's own bound is
// lower: 50 parentheses make a tree three times as deep.
const maxConditionDepth = 500

// step asks one ACL and says where to go on. A condition is a list of steps that
// only ever leads forward, so that and, or and not cost nothing at run time:
//
//	host-a and not (api or office)
//
//	host-a ──yes──► api ──no──► office ──no──► holds
//	   └─no─► fails   └─yes─► fails  └─yes─► fails
type step struct {
	acl     int32
	yes, no int32 // steps, or holds or fails
}

const (
	holds int32 = -1
	fails int32 = -2
)

// builder compiles conditions.
type builder struct {
	steps []step
	names map[string]int32 // of ACLs
}

// build appends a condition's steps, the last ones first, and returns where it
// begins. yes and no are where it leads.
func (b *builder) build(c *Condition, yes, no int32, depth int) (int32, error) {
	if c == nil {
		return yes, nil
	}
	if depth > maxConditionDepth {
		return 0, fmt.Errorf("the condition is nested more than %d deep", maxConditionDepth)
	}
	switch {
	case c.Op == ConditionName:
		acl, known := b.names[c.Name]
		if !known {
			return 0, fmt.Errorf("there is no ACL %q", c.Name)
		}
		b.steps = append(b.steps, step{acl: acl, yes: yes, no: no})
		return int32(len(b.steps) - 1), nil
	case c.Op == ConditionNot && len(c.Of) == 1 && c.Of[0] != nil:
		return b.build(c.Of[0], no, yes, depth+1)
	case (c.Op == ConditionAnd || c.Op == ConditionOr) && len(c.Of) > 0:
		return b.join(c, yes, no, depth)
	}
	return 0, fmt.Errorf("the condition has a node %q with %d operands", c.Op, len(c.Of))
}

// join builds the operands of an and or or from the last to the first: each leads
// to the one behind it where it leaves the answer open.
func (b *builder) join(c *Condition, yes, no int32, depth int) (int32, error) {
	entry := yes
	if c.Op == ConditionOr {
		entry = no
	}
	for i := len(c.Of) - 1; i >= 0; i-- {
		if c.Of[i] == nil {
			return 0, fmt.Errorf("the condition has a node %q without an operand", c.Op)
		}
		ifYes, ifNo := entry, no
		if c.Op == ConditionOr {
			ifYes, ifNo = yes, entry
		}
		var err error
		if entry, err = b.build(c.Of[i], ifYes, ifNo, depth+1); err != nil {
			return 0, err
		}
	}
	return entry, nil
}
