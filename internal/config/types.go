package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span, written with its units: 30s, 1m30s, 250ms, 2h, 7d.
// The wire form is the same text in YAML and JSON; a bare number is refused.
type Duration time.Duration

// Units of a Duration, longest first; String uses the longest ones that fit.
var durationUnits = []struct {
	name string
	size time.Duration
}{
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
	{"us", time.Microsecond},
	{"ns", 1},
}

const day = 24 * time.Hour

// Std is the span as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes the span in the longest whole units: 90s is 1m30s, no span is 0s.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := uint64(d)
	if d < 0 {
		b.WriteByte('-')
		rest = -rest
	}
	for _, u := range durationUnits {
		if n := rest / uint64(u.size); n > 0 {
			b.WriteString(strconv.FormatUint(n, 10))
			b.WriteString(u.name)
			rest -= n * uint64(u.size)
		}
	}
	return b.String()
}

// MarshalText writes the span as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a span. It takes what Go's time.ParseDuration takes but
// for bare numbers, and d for days of 24 hours, in front.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var days time.Duration
	if before, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return errDuration
		}
		days, s = time.Duration(n)*day, after
	}
	if s == "0" {
		return errDuration
	}
	var rest time.Duration
	if s != "" {
		var err error
		if rest, err = time.ParseDuration(s); err != nil {
			return errDuration
		}
	} else if days == 0 && len(text) == 0 {
		return errDuration
	}
	if days > 0 && (rest < 0 || rest > math.MaxInt64-days) {
		return errDuration
	}
	*d = Duration(days + rest)
	return nil
}

var errDuration = fmt.Errorf("a time span needs a number and a unit, such as 500ms, 30s, 5m, 1h30m or 7d")

// Size is an amount of bytes, written with its unit: 512B, 16KiB, 2MiB, 1GiB.
// The wire form is the same text in YAML and JSON; a bare number is refused.
type Size int64

var sizeUnits = []struct {
	name string
	size int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String writes the amount in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.size == 0 {
			return strconv.FormatInt(int64(s)/u.size, 10) + u.name
		}
	}
	return "0B"
}

// MarshalText writes the amount as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads an amount.
func (s *Size) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	for _, u := range sizeUnits {
		number, found := strings.CutSuffix(t, u.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.size {
			return errSize
		}
		*s = Size(n * u.size)
		return nil
	}
	return errSize
}

var errSize = fmt.Errorf("an amount of bytes needs a whole number and a unit: B, KiB, MiB or GiB, such as 16KiB")

// Port is one port (443), a range of ports (8000-8080), or alias:NAME.
type Port string

// PEM is text in PEM armour: certificates, requests, revocation lists. A file
// given by hand may say file:PATH instead; it is stored as the text.
type PEM string

// Secret is a private key, password or other value that nobody may read back.
// In a stored document it is a reference into the store, key:HEX or secret:HEX.
// On input it may also be the value itself, "(set)" to keep what is stored, and
// in a file given by hand file:PATH or env:NAME. It prints as "(set)".
type Secret struct{ value string }

// Prefixes of what a Secret may hold.
const (
	keyPrefix    = "key:"
	secretPrefix = "secret:"
	filePrefix   = "file:"
	envPrefix    = "env:"
	secretShown  = "(set)"
)

// NewSecret makes a secret of a reference, a value or any other input form.
func NewSecret(value string) Secret { return Secret{value} }

// IsZero reports whether nothing is set.
func (s Secret) IsZero() bool { return s.value == "" }

// Reference is the place in the store, key:HEX or secret:HEX; ok is false for
// anything else.
func (s Secret) Reference() (ref string, ok bool) {
	for _, prefix := range []string{keyPrefix, secretPrefix} {
		if hex, found := strings.CutPrefix(s.value, prefix); found && isHex(hex) {
			return s.value, true
		}
	}
	return "", false
}

// Keep reports whether the input says to keep what is stored.
func (s Secret) Keep() bool { return s.value == secretShown }

// Source is the file or environment variable that the value is to be read from;
// kind is "file", "env" or empty.
func (s Secret) Source() (kind, name string) { return source(s.value) }

// Inline is the value itself, where the input holds one.
func (s Secret) Inline() (value string, ok bool) {
	if _, stored := s.Reference(); stored || s.Keep() || s.IsZero() {
		return "", false
	}
	if kind, _ := s.Source(); kind != "" {
		return "", false
	}
	return s.value, true
}

// String hides the value: "(set)", or nothing.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return secretShown
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return "config.Secret(" + s.String() + ")" }

// Format hides the value from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText hides the value. The stored form of a document, which holds the
// reference, is written by EncodeYAML alone.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes any input form.
func (s *Secret) UnmarshalText(text []byte) error {
	s.value = string(text)
	return nil
}

// stored is the wire form in a stored document. A value that never reached the
// store stays hidden: it is written as "(set)" and can't be read back.
func (s Secret) stored() string {
	if _, inline := s.Inline(); inline {
		return secretShown
	}
	return s.value
}

func source(value string) (kind, name string) {
	if name, found := strings.CutPrefix(value, filePrefix); found {
		return "file", name
	}
	if name, found := strings.CutPrefix(value, envPrefix); found {
		return "env", name
	}
	return "", ""
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) >= 16 && len(s)%2 == 0
}

// enum is implemented by every type with a closed list of words.
type enum interface{ Values() []string }

var (
	_ encoding.TextUnmarshaler = (*Duration)(nil)
	_ encoding.TextUnmarshaler = (*Size)(nil)
	_ encoding.TextUnmarshaler = (*Secret)(nil)
)

var (
	timeType   = reflect.TypeFor[time.Time]()
	secretType = reflect.TypeFor[Secret]()
)
