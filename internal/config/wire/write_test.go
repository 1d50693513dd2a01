package wire

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// awkward are texts that a form of writing may take for something else. They
// stand in a file since config tries them in documents, too.
var awkward = sync.OnceValue(func() []string {
	data, err := os.ReadFile("testdata/awkward.json")
	if err != nil {
		panic(err)
	}
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		panic(err)
	}
	return texts
})

func drawText(t *rapid.T) string {
	if rapid.IntRange(0, 9).Draw(t, "any") > 0 {
		return rapid.SampledFrom(awkward()).Draw(t, "text")
	}
	return strings.ReplaceAll(strings.ToValidUTF8(rapid.String().Draw(t, "text"), ""), "\x00", "")
}

func TestTextsAreWrittenForTheirReaders(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain text", "plain text"},
		{"192.0.2.1", "192.0.2.1"},
		{"2001:db8::1", "2001:db8::1"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"1.2", `"1.2"`},
		{"12:30", `"12:30"`},
		{"yes", `"yes"`},
		{"Y", `"Y"`},
		{"a: b", `"a: b"`},
		{"{server}", `"{server}"`},
		{"a\nb\n", "|\n  a\n  b"},
		{"a\n\nb", "|-\n  a\n\n  b"},
		{" a\nb", `" a\nb"`},
		{"a\x1b\u2028\"\\", `"a\u001b\u2028\"\\"`},
	} {
		if got := string(appendScalar(nil, &Node{Kind: Text, Text: c.in}, 2)); got != c.want {
			t.Errorf("text %q is written %s, want %s", c.in, got, c.want)
		}
	}
}

func FuzzWriteText(f *testing.F) {
	for _, s := range awkward() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\x00") || !utf8.ValidString(s) {
			return
		}
		list := &Node{Kind: List, Items: []*Node{{Kind: Text, Text: s}, {Kind: Text, Text: "end"}}}
		for _, written := range [][]byte{AppendYAML(nil, list), AppendJSON(nil, list)} {
			n, fault := Parse(written)
			if fault != nil || len(n.Items) != 2 || n.Items[0].Kind != Text || n.Items[0].Text != s {
				t.Fatalf("%q written as\n%s\nis read as %v %s", s, written, n, say(fault))
			}
		}
	})
}
