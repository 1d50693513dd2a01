package config

import (
	"net/netip"
	"strings"
)

// Networks are the addresses that a list of prefixes, addresses and aliases
// stands for, with nested aliases followed. What has no fixed address comes back
// apart: host names, which only resolving can answer, and aliases that don't
// exist. An alias that contains itself is followed once.
func Networks(doc *Document, entries []string) (prefixes []netip.Prefix, names []string) {
	followed := map[string]bool{}
	var follow func(entries []string)
	follow = func(entries []string) {
		for _, entry := range entries {
			alias, isAlias := strings.CutPrefix(entry, "alias:")
			switch prefix, err := parseNetwork(entry); {
			case isAlias && followed[alias]:
			case isAlias:
				followed[alias] = true
				if a := aliasNamed(doc, alias); a != nil {
					follow(a.Entries)
				} else {
					names = append(names, entry)
				}
			case err == nil:
				prefixes = append(prefixes, prefix)
			default:
				names = append(names, entry)
			}
		}
	}
	follow(entries)
	return prefixes, names
}

func aliasNamed(doc *Document, name string) *Alias {
	for i := range doc.Aliases {
		if doc.Aliases[i].Name == name {
			return &doc.Aliases[i]
		}
	}
	return nil
}

// parseNetwork reads a prefix, or an address as the prefix of itself alone.
func parseNetwork(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	return prefix.Masked(), err
}
