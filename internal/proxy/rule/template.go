package rule

import (
	"strconv"
	"strings"

	"sluis/internal/proxy/message"
)

// place is a placeholder in a value.
type place uint8

const (
	placeText place = iota // no placeholder
	placeSource
	placeSourcePort
	placeHost
	placePath
	placeScheme
	placeFrontend
	placeBackend
	placeServer
)

// placeNames are the placeholders, in the order of their numbers.
var placeNames = [...]string{"", "source", "source_port", "host", "path", "scheme", "frontend", "backend", "server"}

// template is a value with placeholders.
type template struct {
	parts []part
	fixed []byte // the value, where there is no placeholder
}

type part struct {
	of   place
	text string // where of is placeText
}

func newTemplate(value string) template {
	t := template{}
	text := ""
	for rest := value; rest != ""; {
		before, after, open := strings.Cut(rest, "{")
		word, behind, closed := strings.Cut(after, "}")
		of := placeText
		if open && closed {
			of = placeOf(word)
		}
		switch {
		case !open:
			text, rest = text+rest, ""
		case of == placeText: // it stands for itself
			text, rest = text+before+"{", after
		default:
			if text += before; text != "" {
				t.parts = append(t.parts, part{text: text})
			}
			t.parts = append(t.parts, part{of: of})
			text, rest = "", behind
		}
	}
	if len(t.parts) == 0 {
		t.fixed = []byte(text)
		return t
	}
	if text != "" {
		t.parts = append(t.parts, part{text: text})
	}
	return t
}

func placeOf(word string) place {
	for i := 1; i < len(placeNames); i++ {
		if placeNames[i] == word {
			return place(i)
		}
	}
	return placeText
}

func (t *template) has(of place) bool {
	for _, p := range t.parts {
		if p.of == of {
			return true
		}
	}
	return false
}

// expand is the value for a request; it is false where that is too long. What
// comes from the client can't leave the field: see clean.
func (t *template) expand(in *Input) ([]byte, bool) {
	if len(t.parts) == 0 {
		return t.fixed, true
	}
	size := 0
	for i := range t.parts {
		size += t.parts[i].size(in)
	}
	if size > maxValue {
		return nil, false
	}
	out := in.Arena.Take(size)
	for i := range t.parts {
		out = t.parts[i].append(out, in)
	}
	return clean(out), true
}

// size is at least the length of what append adds.
func (p *part) size(in *Input) int {
	switch p.of {
	case placeSource:
		return netipLength
	case placeSourcePort:
		return len("65535")
	case placeScheme:
		return len("https")
	case placeHost:
		return len(in.host())
	case placePath:
		return len(in.path())
	}
	return len(p.string(in))
}

func (p *part) append(out []byte, in *Input) []byte {
	switch p.of {
	case placeSource:
		if !in.Source.IsValid() {
			return out
		}
		return in.Source.Unmap().WithZone("").AppendTo(out)
	case placeSourcePort:
		return strconv.AppendUint(out, uint64(in.SourcePort), 10)
	case placeScheme:
		return append(out, in.scheme()...)
	case placeHost:
		return append(out, in.host()...)
	case placePath:
		return append(out, in.path()...)
	}
	return append(out, p.string(in)...)
}

// string is a part that a string holds already.
func (p *part) string(in *Input) string {
	switch p.of {
	case placeFrontend:
		return in.Frontend
	case placeBackend:
		return in.Backend
	case placeServer:
		return in.Server
	}
	return p.text
}

// host is the Host field as it was sent, with its port.
func (in *Input) host() []byte {
	if in.Request != nil {
		return in.Request.Authority
	}
	return in.Host
}

func (in *Input) path() []byte {
	if in.Request != nil {
		return in.Request.Path
	}
	return in.Path
}

func (in *Input) scheme() string {
	if in.TLS {
		return "https"
	}
	return "http"
}

// clean makes a field's value of any bytes, in place: line ends and other control
// characters become blanks, and none stands at its ends (RFC 9110 section 5.5).
func clean(value []byte) []byte {
	for i, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			value[i] = ' '
		}
	}
	return message.Trim(value)
}

// isValue reports whether a text of the document can be a field's value.
func isValue(s string) bool {
	return message.ValidValue([]byte(s)) && strings.Trim(s, " \t") == s
}
