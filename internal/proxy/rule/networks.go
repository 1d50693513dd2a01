package rule

import (
	"net/netip"
	"slices"
)

// networks is a set of addresses as ranges that rise and do not overlap: a source
// is found by bisection, whatever their number.
type networks struct {
	first, last []netip.Addr
}

func newNetworks(prefixes []netip.Prefix) networks {
	type span struct{ first, last netip.Addr }
	spans := make([]span, 0, len(prefixes))
	for _, p := range prefixes {
		p = unmapped(p).Masked()
		spans = append(spans, span{p.Addr(), lastOf(p)})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	var n networks
	for _, s := range spans {
		if i := len(n.last) - 1; i >= 0 && s.first.Compare(n.last[i]) <= 0 {
			if n.last[i].Less(s.last) {
				n.last[i] = s.last
			}
			continue
		}
		n.first, n.last = append(n.first, s.first), append(n.last, s.last)
	}
	return n
}

// unmapped is the IPv4 network that an IPv4-mapped IPv6 network stands for
// (RFC 4291 section 2.5.5.2): sources come unmapped.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// lastOf is the last address of a masked network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	for i := bits; i < 128; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		last = last.Unmap()
	}
	return last
}

// contain reports whether an address is in the set. A zone is no part of it: the
// document's networks have none.
func (n *networks) contain(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	low, high := 0, len(n.first)
	for low < high { // the first range that begins behind a
		middle := int(uint(low+high) >> 1)
		if n.first[middle].Compare(a) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	// Addresses of the two families are apart in the order, so no range spans them.
	return low > 0 && a.Compare(n.last[low-1]) <= 0
}
