package config

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNetworks(t *testing.T) {
	doc := Default()
	doc.Aliases = []Alias{
		{Name: "office", Type: AliasNetwork, Entries: []string{"198.51.100.7/24", "alias:vpn"}},
		{Name: "vpn", Type: AliasNetwork, Entries: []string{"2001:db8::/32", "alias:office"}},
		{Name: "hosts", Type: AliasHost, Entries: []string{"203.0.113.9", "gate.example.net"}},
	}
	tests := []struct {
		name    string
		entries []string
		want    []string
		names   []string
	}{
		{"nothing", nil, nil, nil},
		{"addresses and prefixes", []string{"192.0.2.1", "2001:db8::1", "10.1.2.3/8"}, []string{"192.0.2.1/32", "2001:db8::1/128", "10.0.0.0/8"}, nil},
		{"nested, with a circle", []string{"alias:office"}, []string{"198.51.100.0/24", "2001:db8::/32"}, nil},
		{"a name has no address yet", []string{"alias:hosts"}, []string{"203.0.113.9/32"}, []string{"gate.example.net"}},
		{"unknown alias", []string{"alias:nobody"}, nil, []string{"alias:nobody"}},
		{"mapped address is the IPv4 one", []string{"::ffff:192.0.2.1"}, []string{"192.0.2.1/32"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prefixes, names := Networks(doc, tt.entries)
			var got []string
			for _, p := range prefixes {
				got = append(got, fmt.Sprint(p))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("prefixes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.names, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}
