package config

import (
	"testing"

	"sluis/internal/config/wire"
)

// TestUpgrade decodes with two invented steps, so that this build's format would
// be 3: format 1 had balancer.connections, format 2 load_balancer.connections.
func TestUpgrade(t *testing.T) {
	steps := []upgradeStep{
		func(root *wire.Node) {
			for i := range root.Members {
				if root.Members[i].Key == "balancer" {
					root.Members[i].Key = "load_balancer"
				}
			}
		},
		func(root *wire.Node) {
			if balancer := root.Member("load_balancer"); balancer != nil && balancer.Member("connections") != nil {
				balancer.Set("max_connections", balancer.Member("connections"))
				balancer.Members = balancer.Members[1:]
			}
		},
	}
	for _, c := range []struct {
		in   string
		want int
		say  string
	}{
		{"format: 1\nbalancer: {connections: 7}", 7, ""},
		{"format: 2\nload_balancer: {connections: 7}", 7, ""},
		{"format: 3\nload_balancer: {max_connections: 7}", 7, ""},
		{"load_balancer: {max_connections: 7}", 7, ""},
		{"format: 1\nbalancer: {connections: x}", 0, `line 2, column 25: load_balancer.max_connections: a whole number is expected, here stands the text "x"`},
		{"format: 2\nload_balancr: {connections: 7}", 0, "line 2, column 1: load_balancr: there is no such name here (did you mean load_balancer?)"},
		{"format: 4\nunheard_of: 1", 0, "line 1, column 9: format: this document has format 4, this Sluis understands up to 3 (update Sluis first)"},
		{"format: 0", 0, "line 1, column 9: format: this is no format number (write format: 3, or leave it out)"},
		{"format: two", 0, "line 1, column 9: format: this is no format number (write format: 3, or leave it out)"},
	} {
		doc, problems := decodeWith([]byte(c.in), steps)
		if got := problems.Error(); got != c.say {
			t.Errorf("%q: problems\n got %s\nwant %s", c.in, got, c.say)
			continue
		}
		if c.say == "" && doc.LoadBalancer.MaxConnections != c.want {
			t.Errorf("%q: %d connections, want %d", c.in, doc.LoadBalancer.MaxConnections, c.want)
		}
	}
}

func TestEveryOlderFormatHasItsStep(t *testing.T) {
	if got := 1 + len(upgrades); got != CurrentFormat {
		t.Errorf("the steps lead to format %d, the current one is %d", got, CurrentFormat)
	}
}
