package rule

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestG65HostNames: which Host reaches the site whose certificate has these names.
func TestG65HostNames(t *testing.T) {
	h := NewHostNames([]string{
		"shop.example", "WWW.Shop.Example.", "*.apps.example", "192.0.2.80", "2001:db8::80", "::ffff:192.0.2.81",
		"xn--bcher-kva.example", "f*.example", "*", "*.", "*.*.example", "a b.example", "",
	})
	for authority, want := range map[string]bool{
		"shop.example":              true,
		"shop.example:443":          true,
		"shop.example:8443":         true,
		"SHOP.Example":              true,
		"shop.example.":             true,
		"Shop.example.:443":         true,
		"shop.example:":             true,
		"www.shop.example":          true,
		"a.apps.example":            true,
		"A.APPS.EXAMPLE.:443":       true,
		"192.0.2.80":                true,
		"192.0.2.80:443":            true,
		"192.0.2.80.":               true,
		"192.0.2.81":                true,
		"[2001:db8::80]":            true,
		"[2001:db8::80]:443":        true,
		"[2001:DB8:0:0::0080]":      true,
		"xn--bcher-kva.example":     true,
		"":                          false,
		".":                         false,
		":443":                      false,
		"evil.example":              false,
		"shop.example.evil.example": false,
		"shop..example":             false,
		".shop.example":             false,
		"shop.example..":            false,
		"apps.example":              false, // the star is a label
		".apps.example":             false,
		"a.b.apps.example":          false, // and not two
		"*.apps.example":            false,
		"foo.example":               false, // f*.example is no name of RFC 9525
		"shop.example:x":            false,
		"shop.example:443:443":      false,
		"shop.example:999999":       false,
		"user@shop.example":         false,
		"shop.example@evil.example": false,
		"shop.example/":             false,
		"shop.example evil":         false,
		"shop%2eexample":            false,
		"192.0.2.8":                 false,
		"192.0.2.080":               false,
		"2001:db8::80":              false, // without brackets it is no authority
		"[2001:db8::81]":            false,
		"[2001:db8::80":             false,
		"[2001:db8::80]443":         false,
		"[2001:db8::80%25eth0]":     false,
		"[::ffff:c000:251]":         true, // the same address
		"[shop.example]":            false,
		"[]":                        false,
		"[":                         false,
		"bücher.example":            false,
		strings.Repeat("a.", 150):   false,
		strings.Repeat("a", 300):    false,
		strings.Repeat("a", 70000):  false,
		"a\r\nX: y.apps.example":    false,
		strings.Repeat("a", 240) + ".apps.example": true,
	} {
		if got := h.Match([]byte(authority)); got != want {
			t.Errorf("Match(%.80q) = %t, want %t", authority, got, want)
		}
	}
	if diff := cmp.Diff([]string{"f*.example", "*", "*.", "*.*.example", "a b.example", ""}, h.Ignored); diff != "" {
		t.Errorf("ignored names:\n%s", diff)
	}
}

// FuzzHostNames holds the maps against the names one by one.
func FuzzHostNames(f *testing.F) {
	names := []string{"a.b", "*.b", "*.c.d", "x", "192.0.2.1", "2001:db8::1"}
	h := NewHostNames(names)
	for _, seed := range []string{"a.b", "X.b.:80", "a.c.d", "b", "[2001:db8:0::1]:1", "192.0.2.1.", "a..b", "[::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		want := false
		for _, name := range names {
			want = want || slowCovers(name, authority)
		}
		if got := h.Match([]byte(authority)); got != want {
			t.Errorf("Match(%q) = %t, want %t", authority, got, want)
		}
	})
}

func slowCovers(name, authority string) bool {
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host, port = authority[:i], authority[i+1:]
	}
	host = strings.TrimSuffix(host, ".")
	if strings.Trim(port, "0123456789") != "" || len(port) > 5 || len(host) > 254 {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6() && a.Zone() == "" && a.Unmap().String() == name
	}
	for _, c := range host {
		if c >= 0x80 {
			return false
		}
	}
	label, suffix, found := strings.Cut(strings.ToLower(host), ".")
	if wild, ok := strings.CutPrefix(name, "*."); ok {
		valid := label != "" && !strings.Contains(host, "..") && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_~") == ""
		return found && valid && suffix == wild
	}
	return strings.EqualFold(host, name)
}

func tenThousandNames() *HostNames {
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("site%d.example", i), fmt.Sprintf("*.zone%d.example", i))
	}
	return NewHostNames(names)
}

func TestHostNamesAllocateNothing(t *testing.T) {
	h := tenThousandNames()
	found := 0
	for _, authority := range [][]byte{[]byte("SITE4999.example:443"), []byte("a.zone4999.example."), []byte("nobody.example")} {
		if got := testing.AllocsPerRun(100, func() {
			if h.Match(authority) {
				found++
			}
		}); got != 0 {
			t.Errorf("Match(%s) allocates %v times", authority, got)
		}
	}
	if found != 2*101 {
		t.Errorf("found %d, want %d", found, 2*101)
	}
}

func BenchmarkTenThousandHostNames(b *testing.B) {
	h := tenThousandNames()
	authority := []byte("www.zone4999.example:443")
	b.ReportAllocs()
	for b.Loop() {
		if !h.Match(authority) {
			b.Fatal("not found")
		}
	}
}
