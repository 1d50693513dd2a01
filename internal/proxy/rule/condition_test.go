package rule

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// FuzzConditions holds the steps of compiled conditions against the trees.
func FuzzConditions(f *testing.F) {
	f.Add([]byte{2, 0, 1, 3, 0, 2, 1, 0, 3}, byte(0b0101))
	f.Add([]byte{3, 2, 2, 0, 0, 0, 1, 1, 0, 2}, byte(0b0110))
	f.Fuzz(func(t *testing.T, program []byte, facts byte) {
		tree := treeOf(&program, 0)
		spec := Spec{Rules: []Rule{{Name: "r", When: tree, Deny: &Refusal{}}}}
		head := "GET / HTTP/1.1"
		for i := range 8 {
			fact := fmt.Sprintf("f%d", i)
			spec.ACLs = append(spec.ACLs, ACL{Name: fact, Match: MatchHeader, Field: fact, Present: true})
			if facts>>i&1 != 0 {
				head += "\n" + fact + ": 1"
			}
		}
		l, err := Compile(spec)
		if err != nil {
			t.Skip(err) // too deep
		}
		var held Holds
		got := l.Request(input(head), &held).Kind == Deny
		if want := slowHolds(tree, facts); got != want {
			t.Errorf("%s with %08b = %t, want %t", treeText(tree), facts, got, want)
		}
	})
}

// treeOf makes any tree of any bytes.
func treeOf(program *[]byte, depth int) *Condition {
	take := func() byte {
		if len(*program) == 0 {
			return 0
		}
		b := (*program)[0]
		*program = (*program)[1:]
		return b
	}
	op := take() % 4
	if depth > 20 {
		op = 0
	}
	switch op {
	case 1:
		return not(treeOf(program, depth+1))
	case 2, 3:
		c := and()
		if op == 3 {
			c = or()
		}
		for range 1 + take()%4 {
			c.Of = append(c.Of, treeOf(program, depth+1))
		}
		return c
	}
	return name(fmt.Sprintf("f%d", take()%8))
}

func slowHolds(c *Condition, facts byte) bool {
	switch c.Op {
	case ConditionName:
		return facts>>(c.Name[1]-'0')&1 != 0
	case ConditionNot:
		return !slowHolds(c.Of[0], facts)
	}
	for _, o := range c.Of {
		if slowHolds(o, facts) == (c.Op == ConditionOr) {
			return c.Op == ConditionOr
		}
	}
	return c.Op == ConditionAnd
}

func treeText(c *Condition) string {
	if c.Op == ConditionName {
		return c.Name
	}
	var of []string
	for _, o := range c.Of {
		of = append(of, treeText(o))
	}
	return string(c.Op) + "(" + strings.Join(of, " ") + ")"
}

// FuzzNetworks holds the ranges against the prefixes one by one.
func FuzzNetworks(f *testing.F) {
	f.Add([]byte{10, 0, 0, 8, 10, 1, 2, 24, 192, 0, 2, 32}, []byte{10, 1, 2})
	f.Fuzz(func(t *testing.T, spec, address []byte) {
		if len(address) < 3 {
			t.Skip()
		}
		// Few different bytes, so that networks meet; both families.
		at := func(b []byte) netip.Addr {
			if b[0]&1 == 0 {
				return netip.AddrFrom4([4]byte{b[0] & 6, b[1], 0, b[2]})
			}
			return netip.AddrFrom16([16]byte{0x20, b[0] & 6, b[1], 15: b[2]})
		}
		var prefixes []netip.Prefix
		for ; len(spec) >= 4; spec = spec[4:] {
			a := at(spec)
			prefixes = append(prefixes, netip.PrefixFrom(a, int(spec[3])%(a.BitLen()+1)))
		}
		a, want := at(address), false
		for _, p := range prefixes {
			want = want || p.Contains(a)
		}
		n := newNetworks(prefixes)
		if got := n.contain(a); got != want {
			t.Errorf("%v contain %v = %t, want %t", prefixes, a, got, want)
		}
	})
}
