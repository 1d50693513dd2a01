package proxy

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// AskedName is a host name that handshakes asked a frontend for, and that none of
// its certificates has.
type AskedName struct {
	Name  string
	Count uint64
	Last  time.Time
}

// maxAsked is how many such names a frontend remembers; further ones are only
// counted.
const maxAsked = 64

// askedNames are these names of a frontend. Loops write them in handshakes that
// end in a warning or an error of the client, so a lock is no burden.
type askedNames struct {
	mu    sync.Mutex
	names map[string]*AskedName
	// total counts handshakes, those for names that found no room too.
	total uint64
}

// note counts a handshake. What is no host name is left out: anybody can send
// anything.
func (a *askedNames) note(name string, now time.Time) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !isHostName(name) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total++
	n := a.names[name]
	if n == nil {
		if len(a.names) >= maxAsked {
			return
		}
		if a.names == nil {
			a.names = map[string]*AskedName{}
		}
		n = &AskedName{Name: name}
		a.names[name] = n
	}
	n.Count++
	n.Last = now
}

// forget drops the names that a new certificate has.
func (a *askedNames) forget(covered func(name string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.names {
		if covered(name) {
			delete(a.names, name)
		}
	}
}

// list is all of it, what was asked for most first.
func (a *askedNames) list() (names []AskedName, total uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.names {
		names = append(names, *n)
	}
	slices.SortFunc(names, func(a, b AskedName) int {
		if a.Count != b.Count {
			return int(min(max(int64(b.Count)-int64(a.Count), -1), 1))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return names, a.total
}

// isHostName tells whether a name in lower case can be a host's (RFC 1123 section
// 2.1, and the underscore that some use).
func isHostName(name string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}
