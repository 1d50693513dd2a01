package http1

import (
	"encoding/binary"
	"math/bits"
)

// Classes of bytes.
const (
	tokenByte   = 1 << iota // RFC 9110 5.6.2
	regNameByte             // RFC 3986 3.2.2: unreserved, sub-delims; without the comma
	digitByte
	hexByte
)

// class tells the classes of each byte.
var class = makeClasses()

func makeClasses() (c [256]uint8) {
	mark := func(bytes string, class uint8) {
		for i := range len(bytes) {
			c[bytes[i]] |= class
		}
	}
	const (
		digits  = "0123456789"
		letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	)
	mark(letters+digits+"!#$%&'*+-.^_`|~", tokenByte)
	// A comma may stand in a name by RFC 3986. In a Host it is the trace of two
	// Host fields that somebody joined (RFC 9110 5.2), so it is refused.
	mark(letters+digits+"-._~!$&'()*+;=", regNameByte)
	mark(digits, digitByte|hexByte)
	mark("abcdefABCDEF", hexByte)
	return c
}

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// scanText finds the first control byte but tab from i on: eight bytes at a time.
// It returns len(b) if there is none.
func scanText(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		// The lowest hit of each term is exact: borrows only come from hits below.
		del := w ^ lows*0x7f
		if m := ((w - lows*0x20) &^ w & highs) | ((del - lows) &^ del & highs); m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			if b[i] != '\t' {
				return i
			}
			i -= 7 // the loop adds 8: on behind the tab
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return i
}

// scanTarget finds the first byte that cannot be in a target from i on: anything
// but visible ASCII, and '#'. It returns len(b) if there is none.
func scanTarget(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		del, hash := w^lows*0x7f, w^lows*'#'
		m := ((w - lows*0x21) &^ w) | w | ((del - lows) &^ del) | ((hash - lows) &^ hash)
		if m &= highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return i
		}
	}
	return i
}

// scanToken finds the first byte that is not of a token from i on.
func scanToken(b []byte, i int) int {
	for i < len(b) && class[b[i]]&tokenByte != 0 {
		i++
	}
	return i
}

// isToken says whether b is a token.
func isToken(b []byte) bool { return len(b) > 0 && scanToken(b, 0) == len(b) }
