package persist

// A date in the cookie's value is HAProxy's: the seconds since 1970 divided by
// four, 30 bits, as five signs of base64, the highest first (its s30tob64).

const (
	dateSigns    = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	dateLength   = 5
	dateQuantum  = 4 // seconds
	dateRoundsUp = dateQuantum - 1
)

// appendDate writes a date, in seconds.
func appendDate(dst []byte, seconds int64) []byte {
	quanta := seconds / dateQuantum
	for shift := 6 * (dateLength - 1); shift >= 0; shift -= 6 {
		dst = append(dst, dateSigns[quanta>>shift&63])
	}
	return dst
}

// decodeDate reads the date at the beginning of a text; 0 = there is none.
func decodeDate(text []byte) int64 {
	if len(text) < dateLength {
		return 0
	}
	quanta := int64(0)
	for _, c := range text[:dateLength] {
		sign := dateSign64(c)
		if sign < 0 {
			return 0
		}
		quanta = quanta<<6 | sign
	}
	return quanta * dateQuantum
}

// dateSign64 is the number that a sign stands for; -1 = none.
func dateSign64(c byte) int64 {
	switch {
	case 'A' <= c && c <= 'Z':
		return int64(c - 'A')
	case 'a' <= c && c <= 'z':
		return int64(c-'a') + 26
	case '0' <= c && c <= '9':
		return int64(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}
