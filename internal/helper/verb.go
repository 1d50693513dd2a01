package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"sluis/internal/text"
)

// Bounds of the wire. Both directions carry one line of JSON per call.
const (
	maxLineBytes = 64 << 10
	// maxQuoteBytes is how much of what a peer sent an error repeats.
	maxQuoteBytes = 200
	// maxVerbBytes, maxDepth and maxKeys bound a request before it is decoded.
	maxVerbBytes = 64
	maxDepth     = 8
	maxKeys      = 64
)

// arguments of a verb. Both methods have value receivers.
type arguments interface {
	// Check refuses every value that the verb is not meant for; the zero Msg = good.
	// It runs on the helper's side before anything happens, and must not trust that
	// the service has looked at a field before.
	Check() text.Msg
	// Summary is what the audit notes: short and without secrets.
	Summary() string
}

// none are the arguments of a verb without any.
type none struct{}

// Check finds nothing wrong.
func (none) Check() text.Msg { return text.Msg{} }

// Summary is empty.
func (none) Summary() string { return "" }

// verb is one entry of the closed list, the same on both sides.
type verb[A arguments, R any] struct {
	name string
	// limit is how long the work may take.
	limit time.Duration
}

// request is one call on the wire.
type request struct {
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args,omitempty"`
}

// response is its answer: a result or an error.
type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// entry is a verb as Serve sees it, its types hidden.
type entry struct {
	name  string
	limit time.Duration
	// run decodes and checks the arguments, then does the work. summary is the
	// audit's, where the arguments could be decoded.
	run func(ctx context.Context, args json.RawMessage) (result json.RawMessage, summary string, err *Error)
}

// served binds a verb to the func that does its work.
func (v verb[A, R]) served(do func(context.Context, A) (R, error)) entry {
	run := func(ctx context.Context, raw json.RawMessage) (json.RawMessage, string, *Error) {
		var args A
		if err := decodeStrictly(raw, &args); err != nil {
			return nil, "", &Error{Refused, text.M("the arguments of {verb} cannot be read: {reason}", "verb", v.name, "reason", err)}
		}
		summary := args.Summary()
		if problem := args.Check(); !problem.IsZero() {
			return nil, summary, &Error{Refused, text.M("the arguments of {verb} are not allowed: {reason}", "verb", v.name, "reason", problem)}
		}
		result, err := do(ctx, args)
		if err != nil {
			return nil, summary, v.failed(ctx, err)
		}
		data, err := json.Marshal(result)
		if err != nil {
			return nil, summary, v.failed(ctx, err)
		}
		return data, summary, nil
	}
	return entry{name: v.name, limit: v.limit, run: run}
}

// failed puts an error of the work into words; one that has them keeps them.
func (v verb[A, R]) failed(ctx context.Context, err error) *Error {
	var worded *Error
	switch {
	case errors.As(err, &worded):
		return worded
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{TimedOut, text.M("{verb} took longer than {limit} and was given up", "verb", v.name, "limit", v.limit)}
	}
	return &Error{Failed, text.M("{verb} failed: {reason}", "verb", v.name, "reason", err)}
}

// decodeRequest reads one line.
func decodeRequest(line []byte) (request, *Error) {
	malformed := func(err error) *Error {
		return &Error{Malformed, text.M("this is no request: {reason}", "reason", err)}
	}
	if err := checkShape(line); err != nil {
		return request{}, malformed(err)
	}
	var r request
	if err := decodeStrictly(line, &r); err != nil {
		return request{}, malformed(err)
	}
	if r.Verb == "" || len(r.Verb) > maxVerbBytes {
		return request{}, malformed(errors.New("it names no verb"))
	}
	return r, nil
}

// decodeStrictly refuses unknown fields and whatever follows the value. Absent
// arguments are an empty object.
func decodeStrictly(data []byte, into any) error {
	if len(data) == 0 {
		data = []byte("{}")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return errors.New("an object is needed")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return reason(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows its end")
	}
	return nil
}

// reason is an error of encoding/json without its package's name, and short: it
// may quote what the peer sent.
func reason(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut off")
	}
	return errors.New(shorten(strings.TrimPrefix(err.Error(), "json: "), maxQuoteBytes))
}

// shorten cuts a text to about so many bytes.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// checkShape refuses what encoding/json lets pass: a field given twice, also in
// other case, where the last one would win silently; and it bounds depth and
// number of fields.
func checkShape(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var open []*level // the objects and lists around the next token
	for {
		token, err := decoder.Token()
		if err == io.EOF && len(open) == 0 {
			return nil
		}
		if err != nil {
			return reason(err)
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			open = open[:len(open)-1]
			continue
		}
		if len(open) > 0 {
			if err := open[len(open)-1].take(token); err != nil {
				return err
			}
		}
		if token == json.Delim('{') || token == json.Delim('[') {
			if len(open) == maxDepth {
				return errors.New("it is nested too deep")
			}
			open = append(open, &level{list: token == json.Delim('[')})
		}
	}
}

// level is one object or list that checkShape is inside of.
type level struct {
	list bool
	keys []string
	// value tells that the next token is, or begins, a value of the last key.
	value bool
}

// take notes the next token of an object, a key or its value.
func (l *level) take(token json.Token) error {
	if l.list || l.value {
		l.value = false
		return nil
	}
	key, ok := token.(string)
	if !ok {
		return errors.New("a field has no name")
	}
	for _, k := range l.keys {
		if strings.EqualFold(k, key) {
			return errors.New("the field " + shorten(key, maxQuoteBytes) + " is given twice")
		}
	}
	if len(l.keys) == maxKeys {
		return errors.New("it has too many fields")
	}
	l.keys, l.value = append(l.keys, key), true
	return nil
}
