package rule

// maxKept is how much an arena keeps for the next request.
const maxKept = 64 << 10

// maxValue bounds a value that an edit makes; see Stats.TooLong.
const maxValue = 64 << 10

// Arena holds the bytes of edited values. A loop owns one; what an edit has put
// into a request lies in it until Reset. Its zero value is ready.
type Arena struct {
	room []byte
	used int
	// renewed counts the rooms that were too small; what was given from an old one
	// stays with who got it.
	renewed uint64
	// Dropped counts requests whose edits needed more than is kept.
	Dropped uint64
}

// Reset gives the room back. Nothing made since the last Reset may be used again.
func (a *Arena) Reset() {
	if len(a.room) > maxKept {
		a.room = nil
		a.Dropped++
	}
	a.used = 0
}

// Take gives room for n bytes, with length 0.
func (a *Arena) Take(n int) []byte {
	if n > len(a.room)-a.used {
		a.room, a.used = make([]byte, max(2*len(a.room), n, 4<<10)), 0
		a.renewed++
	}
	room := a.room[a.used : a.used : a.used+n]
	a.used += n
	return room
}

// mark is a moment that release goes back to.
type mark struct {
	used    int
	renewed uint64
}

func (a *Arena) mark() mark { return mark{a.used, a.renewed} }

// release gives back what was taken since a mark: a question's folded text is of
// no use once it has been answered.
func (a *Arena) release(m mark) {
	a.used = 0
	if a.renewed == m.renewed {
		a.used = m.used
	}
}

// lower is b in lower case: b itself where it is that already.
func (a *Arena) lower(b []byte) []byte {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			out := append(a.Take(len(b)), b...)
			for ; i < len(out); i++ {
				out[i] = lowerByte(out[i])
			}
			return out
		}
	}
	return b
}

// text is a string's bytes.
func (a *Arena) text(s string) []byte { return append(a.Take(len(s)), s...) }

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lowerString is s in lower case, ASCII alone, as requests are compared.
func lowerString(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = lowerByte(b[i])
	}
	return string(b)
}
