// Package text holds what Sluis says to administrators: problems, hints,
// events, reasons, verdicts and labels are values of type Msg, not strings.
//
// A Msg is made where something happens and is rendered only where it is read:
// by the API, the GUI, the command line and the log. The English sentence is
// the message's identity, so English needs no catalogue; another language is a
// Catalogue from English sentences to its own.
//
// It promises that rendering never fails: a placeholder without an argument
// stays visible. It does not promise plurals; sentences are worded around them.
// It imports nothing of ours, and every room may use it.
package text

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Msg is one message: an English sentence with {name} placeholders and their
// values. The zero Msg says nothing.
type Msg struct {
	// ID is the English sentence with its placeholders; catalogues are keyed by it.
	ID string
	// Args are the values of the placeholders, in the order they were given.
	Args []Arg
}

// Arg is the value of one placeholder. A value that is itself a Msg is rendered
// in the reader's language; anything else as fmt.Sprint does.
type Arg struct {
	Name  string
	Value any
}

// M makes a message. The rest are pairs of placeholder name and value:
//
//	text.M("port {port} is taken by {who}", "port", 443, "who", name)
//
// The sentence is a literal, so that a test can hold it against its arguments
// and against the catalogues. An odd number of pairs is our own bug.
func M(english string, pairs ...any) Msg {
	if len(pairs)%2 != 0 {
		panic("BUG: text.M needs pairs of name and value: " + english)
	}
	m := Msg{ID: english}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			panic("BUG: text.M needs a name before each value: " + english)
		}
		m.Args = append(m.Args, Arg{name, pairs[i+1]})
	}
	return m
}

// IsZero reports whether the message says nothing.
func (m Msg) IsZero() bool { return m.ID == "" }

// String renders the message in English.
func (m Msg) String() string { return m.In(nil) }

// In renders the message in the catalogue's language; a sentence that the
// catalogue lacks is rendered in English.
func (m Msg) In(c Catalogue) string {
	sentence := m.ID
	if translated, ok := c[m.ID]; ok {
		sentence = translated
	}
	if !strings.Contains(sentence, "{") {
		return sentence
	}
	var b strings.Builder
	for {
		before, rest, open := strings.Cut(sentence, "{")
		b.WriteString(before)
		if !open {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		value, known := m.arg(name, c)
		if !closed || !known {
			b.WriteByte('{')
			sentence = rest
			continue
		}
		b.WriteString(value)
		sentence = after
	}
}

func (m Msg) arg(name string, c Catalogue) (string, bool) {
	for _, a := range m.Args {
		if a.Name != name {
			continue
		}
		if nested, ok := a.Value.(Msg); ok {
			return nested.In(c), true
		}
		return fmt.Sprint(a.Value), true
	}
	return "", false
}

// Catalogue is one language: English sentence to the language's own, with the
// same placeholders. The nil Catalogue is English.
type Catalogue map[string]string

// MarshalJSON writes the message with its arguments and, for readers without a
// catalogue, its English text: {"id":…, "args":{…}, "text":…}.
func (m Msg) MarshalJSON() ([]byte, error) {
	wire := wireMsg{ID: m.ID, Text: m.String()}
	for _, a := range m.Args {
		if wire.Args == nil {
			wire.Args = make(map[string]any, len(m.Args))
		}
		switch v := a.Value.(type) {
		case Msg, string, bool, int, int64, uint16, uint64, float64:
			wire.Args[a.Name] = v
		default:
			wire.Args[a.Name] = fmt.Sprint(v)
		}
	}
	return json.Marshal(wire)
}

// UnmarshalJSON reads what MarshalJSON wrote, for clients of the API. The order
// of the arguments is not kept, and nested messages come back as their text.
func (m *Msg) UnmarshalJSON(data []byte) error {
	var wire wireMsg
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*m = Msg{ID: wire.ID}
	for name, value := range wire.Args {
		if nested, ok := value.(map[string]any); ok {
			value = nested["text"]
		}
		m.Args = append(m.Args, Arg{name, value})
	}
	return nil
}

type wireMsg struct {
	ID   string         `json:"id"`
	Args map[string]any `json:"args,omitempty"`
	Text string         `json:"text"`
}
