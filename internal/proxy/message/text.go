package message

// EqualFold says whether a is lower in any mixture of upper and lower case
// (ASCII only, as all names in HTTP). lower must be in lower case.
func EqualFold(a []byte, lower string) bool {
	if len(a) != len(lower) {
		return false
	}
	for i, c := range a {
		if c != lower[i] && (c-'A' > 'Z'-'A' || c|0x20 != lower[i]) {
			return false
		}
	}
	return true
}

// EqualFoldBytes says whether a and b differ in nothing but the case of letters.
func EqualFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c != b[i] && lowerByte(c) != lowerByte(b[i]) {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if c-'A' <= 'Z'-'A' {
		return c | 0x20
	}
	return c
}

// Trim takes spaces and tabs off both ends (OWS, RFC 9110 5.6.3).
func Trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// Tokens hands out the members of a comma-separated list, trimmed, empty ones
// left out (RFC 9110 5.6.1.2), until yield returns false. A comma inside a quoted
// string does not end a member. It is a range function:
//
//	message.Tokens(value, func(member []byte) bool { … })
func Tokens(v []byte, yield func(member []byte) bool) {
	for len(v) > 0 {
		member, rest := NextToken(v)
		v = rest
		if len(member) > 0 && !yield(member) {
			return
		}
	}
}

// NextToken is one step of Tokens without a function value: the first member,
// trimmed, perhaps empty, and what follows its comma.
func NextToken(v []byte) (member, rest []byte) {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ',' && !quoted:
			return Trim(v[:i]), v[i+1:]
		}
	}
	return Trim(v), nil
}

// HasToken says whether a comma-separated list holds a member, in any case.
func HasToken(v []byte, lower string) bool {
	for len(v) > 0 {
		var member []byte
		if member, v = NextToken(v); EqualFold(member, lower) {
			return true
		}
	}
	return false
}
