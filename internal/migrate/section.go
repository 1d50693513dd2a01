package migrate

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

// section is text of a configuration in the making.
type section struct {
	text []byte
}

// maxWords bounds a line: HAProxy takes 64 words.
const maxWords = 60

// open begins a section.
func (s *section) open(words ...string) {
	if len(s.text) > 0 || words[0] != "global" {
		s.text = append(s.text, '\n')
	}
	s.line("", words)
}

// add writes a directive. Every word is quoted here and nowhere else.
func (s *section) add(words ...string) { s.line("    ", words) }

func (s *section) line(indent string, words []string) {
	if len(words) > maxWords+3 {
		panic("BUG: a line of " + strconv.Itoa(len(words)) + " words: " + words[0])
	}
	s.text = append(s.text, indent...)
	for i, w := range words {
		if i > 0 {
			s.text = append(s.text, ' ')
		}
		s.text = append(s.text, word(w)...)
	}
	s.text = append(s.text, '\n')
}

// comment writes a line for people, at the top.
func (s *section) comment(words string) {
	s.text = append(append(append(s.text, "# "...), commentText(words)...), '\n')
}

// note writes a comment inside a section, where there is something to say.
func (s *section) note(words string) {
	if words != "" {
		s.text = append(append(append(s.text, "    # "...), commentText(words)...), '\n')
	}
}

// report gathers what became of each part.
type report struct {
	all []Line
}

// lines are those that say something, each once.
func (r *report) lines() []Line {
	var out []Line
	for _, l := range r.all {
		again := slices.ContainsFunc(out[max(0, len(out)-8):], func(o Line) bool {
			return o.Path == l.Path && o.Outcome == l.Outcome && o.Note.String() == l.Note.String()
		})
		if l.Outcome != "" && !again {
			out = append(out, l)
		}
	}
	return out
}

// object is one object of the document on its way. It has a line of its own, which
// says exact as long as nothing else is said of its fields.
type object struct {
	report *report
	path   string
	at     int
	said   bool
}

func (r *report) object(path string) *object {
	r.all = append(r.all, Line{Path: path})
	return &object{report: r, path: path, at: len(r.all) - 1}
}

// done ends the object. What was said of objects inside it doesn't count.
func (o *object) done() {
	if !o.said {
		o.report.all[o.at].Outcome = Exact
	}
}

func (o *object) approximated(field string, note text.Msg) { o.say(Approximated, field, note) }
func (o *object) leftOut(field string, note text.Msg)      { o.say(LeftOut, field, note) }

func (o *object) say(outcome Outcome, field string, note text.Msg) {
	o.said = true
	path := o.path
	if field != "" {
		path += "." + field
	}
	line := Line{Path: path, Outcome: outcome, Note: note}
	if field == "" && o.report.all[o.at].Outcome == "" {
		o.report.all[o.at] = line
		return
	}
	o.report.all = append(o.report.all, line)
}

// place is the path of an element of a list, as the document's problems say it.
func place(list, name string, index int) string {
	if name == "" {
		return list + "[" + strconv.Itoa(index) + "]"
	}
	return list + "[" + name + "]"
}

func count(n, least int) string { return strconv.Itoa(max(n, least)) }

// maxMilliseconds is the longest time that HAProxy takes, some 24 days.
const maxMilliseconds = math.MaxInt32

// milliseconds is a time as HAProxy takes it; what it can't take is reported.
func (e *exporter) milliseconds(o *object, field string, d config.Duration) string {
	ms := (d.Std() + time.Millisecond - 1).Milliseconds()
	if ms > maxMilliseconds {
		ms = maxMilliseconds / 1000 * 1000
		o.approximated(field, text.M("HAProxy takes times up to 24 days"))
	}
	ms = max(ms, 0)
	if ms%1000 == 0 {
		return strconv.FormatInt(ms/1000, 10) + "s"
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// parseAddress is an address without a zone.
func parseAddress(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}

// bindAddress is an address with a port as HAProxy reads it.
func bindAddress(a netip.Addr, port uint16) string {
	return netip.AddrPortFrom(a, port).String()
}

// isHostName reports whether a server's address is a name to be resolved.
func isHostName(s string) bool {
	_, isAddress := parseAddress(s)
	return !isAddress && isDNSName(s)
}

// isDNSName reports whether a text can be a host name in HAProxy's address syntax.
func isDNSName(s string) bool {
	return len(s) > 0 && len(s) <= 253 && s[0] != '.' && s[0] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == "" && !strings.Contains(s, "..")
}
