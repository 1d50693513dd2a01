package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// plainTree writes a tree so that a table can show it: JSON, with numbers, true,
// false and null as they were written.
func plainTree(n *Node) string { return string(AppendJSON(nil, n)) }

// say writes a fault as administrators read it, after its place; empty = none.
func say(f *Fault) string {
	if f == nil {
		return ""
	}
	said := f.Message.String()
	if f.Line > 0 {
		said = fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, said)
	}
	if !f.Hint.IsZero() {
		said += " (" + f.Hint.String() + ")"
	}
	return said
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{
			"scalars", "a: 1\nb: 1.2\nc: 0123\nd: text\ne: true\nf: ~\ng:\nh: yes\ni: 1e3\nj: 0x1F\nk: 1:30\nl: .5\nm: -0\n",
			`{"a":1,"b":1.2,"c":0123,"d":"text","e":true,"f":~,"g":,"h":"yes","i":1e3,"j":0x1F,"k":"1:30","l":.5,"m":-0}`,
		},
		{
			"texts with signs inside", "a: file:x.pem\nb: it's a \"b\" [c] {d}, #e\nc: a # comment\nd: -x\ne: ?x\nf: :x\ng: a:b\n",
			`{"a":"file:x.pem","b":"it's a \"b\" [c] {d},","c":"a","d":"-x","e":"?x","f":":x","g":"a:b"}`,
		},
		{
			"quotes", `a: "\u00e9\ud83d\ude00\ud800x \/\x41\n\t\"\\"` + "\nb: 'it''s \\n'\n\"c d\" : ''\n'e:': \"#\"\n",
			`{"a":"é😀` + "\ufffd" + `x /A\n\t\"\\","b":"it's \\n","c d":"","e:":"#"}`,
		},
		{"quotes over lines", "a: \"x  \n   y\n\n  z \\\n\n  w\\n \n  v\"\nb: 'x\n\n\n  y'\n", `{"a":"x y\nz \nw\n v","b":"x\n\ny"}`},
		{"plain over lines", "a: x\n  y\n\n  z # comment\nb:\n  x\n  y\nc: x\n  # comment\n", `{"a":"x y\nz","b":"x y","c":"x"}`},
		{
			"lists", "a:\n- 1\n- - 2\n  - 3\n-\n-\n  x: y\nb:\n  - c: 1\n    d: 2\n  -   e: 3\n      f: 4\n",
			`{"a":[1,[2,3],,{"x":"y"}],"b":[{"c":1,"d":2},{"e":3,"f":4}]}`,
		},
		{
			"flow", "a: [1, x y, \"z\", [], {b: c, d: [e]},]\nf: {a: vip:ece, \"b\":1, c: , d: }\ng: [vip:ece, alias:office]\nh: [\n  1, # one\n  2\n]\n",
			`{"a":[1,"x y","z",[],{"b":"c","d":["e"]}],"f":{"a":"vip:ece","b":1,"c":,"d":},"g":["vip:ece","alias:office"],"h":[1,2]}`,
		},
		{
			"literal", "a: |\n  x\n   y\n\n  z\n\nb: |-\n  x\n\nc: |+\n  x\n\nd: |2\n   x\ne: |\n\n  x\nf: |\n   \ng: x\n",
			`{"a":"x\n y\n\nz\n","b":"x","c":"x\n\n","d":" x\n","e":"\nx\n","f":"","g":"x"}`,
		},
		{"folded", "a: >\n  x\n  y\n\n  z\n   w\n  v\n\n\n  u\nb: >-\n  x\n", `{"a":"x y\nz\n w\nv\n\nu\n","b":"x"}`},
		{"marks", "\ufeff# comment\n\n  # another\n---\na: 1\n# end\n...\n# after\n", `{"a":1}`},
		{"line ends", "a: 1\r\nb: |\r\n  x\r\n  y\r\nc: \"q\r\n  r\"\r\n", `{"a":1,"b":"x\ny\n","c":"q r"}`},
		{"no line end", "a: |\n  x", `{"a":"x"}`},
		{"JSON", "\t{\"a\" : [1,-2.5e+3 ,true,null\t],\n\"b\":{},\"c\":\"\\u0041\"}\n", `{"a":[1,-2.5e+3,true,null],"b":{},"c":"A"}`},
		{"a text alone", "just a text\n", `"just a text"`},
		{"a PEM text alone", "|\n  -----BEGIN X-----\n  MA==\n  -----END X-----\n", `"-----BEGIN X-----\nMA==\n-----END X-----\n"`},
		{"names in quotes", "\"a\\\"\" : 1\n'b' : 2\n", `{"a\"":1,"b":2}`},
		{"numbers of all kinds", "[0x, 0o17, 0o8, +.5e-3, 1e, 1.e5, ., .inf]", `["0x",0o17,"0o8",+.5e-3,"1e",1.e5,".",".inf"]`},
		{"nothing", "# nothing\n", ``},
	} {
		n, fault := Parse([]byte(c.in))
		if fault != nil {
			t.Errorf("%s: %s", c.name, say(fault))
			continue
		}
		if diff := cmp.Diff(c.want, plainTree(n)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

func TestParseSaysWhere(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a: [1, 2\nb: 3\n", "line 1, column 4: the bracket [ that opens here isn't closed"},
		{"a: {b: 1\n", "line 1, column 4: the bracket { that opens here isn't closed"},
		{"a: {b: 1\nc: 2}\n", "line 1, column 4: the bracket { that opens here isn't closed"},
		{"a: [1 2, {b: 1]\n", "line 1, column 15: a comma or } is expected here (the bracket was opened in line 1, column 10)"},
		{"{\"a\": 1\n\"b\": 2}", "line 2, column 1: a comma or } is expected here (the bracket was opened in line 1, column 1)"},
		{"a: [b: c]\n", "line 1, column 6: a comma or ] is expected here (an object needs braces, and a text with a colon and a space needs quotes)"},
		{"a: {b:1}\n", `line 1, column 5: a colon and a value are expected after the name b:1 (put a space behind the colon)`},
		{"a: 'x\n", "line 1, column 4: the quote that opens here isn't closed"},
		{"a: \"x\nb: \"y\"\n", "line 1, column 4: the quote that opens here isn't closed"},
		{"a: 'x' y\n", "line 1, column 8: the value has ended before this (put a text in quotes as a whole, or leave out what follows)"},
		{"é: \"a\\q\"\n", "line 1, column 6: an unknown escape begins with this backslash (write two backslashes for one, or use single quotes)"},
		{`a: "\u12"`, "line 1, column 5: an unknown escape begins with this backslash (write two backslashes for one, or use single quotes)"},
		{"a: b: c\n", "line 1, column 5: a colon before a space can't stand in a text without quotes (put the text in quotes, or begin the object on the next line)"},
		{"a: 1\n  b: 2\n", "line 2, column 4: a colon before a space can't stand in a text without quotes (put the text in quotes, or begin the object on the next line)"},
		{"a:\n  b: 1\n c: 2\n", "line 3, column 2: this line is indented deeper than the one it follows (the names of one object stand below one another)"},
		{"a:\n  - b\n  c: d\n", "line 3, column 3: this line is indented deeper than the one it follows (the names of one object stand below one another)"},
		{"a: 1\nb\n", "line 2, column 1: a name and a colon are expected here"},
		{"a: - 1\n", "line 1, column 4: a list can't begin on the line of its key (begin it on the next line)"},
		{"a:\n\tb: 1\n", "line 2, column 1: a tab can't indent (use spaces)"},
		{"a:\n  -\tb: 1\n", "line 2, column 4: a tab can't indent (use spaces)"},
		{"a: &x 1\n", "line 1, column 4: anchors are not taken (write the value out, or put a text in quotes)"},
		{"a: *x\n", "line 1, column 4: aliases are not taken (write the value out, or put a text in quotes)"},
		{"a:\n  <<: {b: 1}\n", "line 2, column 3: merge keys are not taken (write the values out)"},
		{"a: !!str 1\n", "line 1, column 4: tags are not taken (leave the tag out, or put a text in quotes)"},
		{"%YAML 1.1\n---\na: 1\n", "line 1, column 1: YAML directives are not taken"},
		{"? a\n: b\n", "line 1, column 1: a value can't begin with ? (put a text in quotes)"},
		{"a: @x\n", "line 1, column 4: a value can't begin with @ (put a text in quotes)"},
		{"\"\": x\n", "line 1, column 1: a name is missing before the colon"},
		{"{'': x}\n", "line 1, column 2: a name is missing before the colon"},
		{"{a", "line 1, column 1: the bracket { that opens here isn't closed"},
		{"- a\n - b: 1\n", "line 2, column 5: a colon before a space can't stand in a text without quotes (put the text in quotes, or begin the object on the next line)"},
		{"- 'a'\n - b\n", "line 2, column 2: this line is indented deeper than the one it follows (the dashes of one list stand below one another)"},
		{"a: b\n\"c\nd\": 1\n", "line 2, column 1: a name and a colon are expected here"},
		{"a: b\nc # d: e\n", "line 2, column 1: a name and a colon are expected here"},
		{": x\n", "line 1, column 1: a value can't begin with : (put a text in quotes)"},
		{"a: 1\n---\nb: 2\n", "line 2, column 1: a second document begins here; only one can be read"},
		{"a: 1\n...\nb: 2\n", "line 3, column 1: a second document begins here; only one can be read"},
		{"{} {}", "line 1, column 4: the value has ended before this (put a text in quotes as a whole, or leave out what follows)"},
		{"- a\nb: 1\n", "line 2, column 1: this doesn't belong to what stands before it (is the indentation right, or a bracket or quote closed too early?)"},
		{"a: |\n    \n  x\n", "line 3, column 1: this line is indented less than the empty line before it (leave no spaces in empty lines)"},
		{"a: |x\n", "line 1, column 5: the text begins on the line after this one"},
		{"a: \"\\0\"\n", "line 1, column 5: the control character 0 can't stand in a document"},
		{"a: x\x00y\n", "line 1, column 5: the control character 0 can't stand in a document"},
		{"a: 1\nb: \xff\n", "line 2, column 4: this is not UTF-8 text"},
		{strings.Repeat("[", 40), "line 1, column 33: lists and objects stand in one another more than 32 deep"},
		{strings.Repeat("- ", 40), "line 1, column 65: lists and objects stand in one another more than 32 deep"},
		{strings.Repeat(" ", MaxBytes+1), "the text is larger than 16MiB"},
		{"[" + strings.Repeat("1,", MaxNodes) + "]", "line 1, column 2097152: the document has more than 1048576 values"},
	} {
		_, fault := Parse([]byte(c.in))
		if got := say(fault); got != c.want {
			t.Errorf("Parse(%.40q)\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

// TestParseTakesBoundedTime reads texts that made other readers take minutes:
// twice the text may take little more than twice the time.
func TestParseTakesBoundedTime(t *testing.T) {
	const size = 2 << 20
	for name, unit := range map[string]struct{ before, repeated, after string }{
		"repeated key": {"", "a: 1\n", ""}, "empty lines in a block text": {"a: |\n", "\n", ""},
		"empty lines in quotes": {"a: \"", "\n", "\""}, "open quotes": {"", "\"", ""}, "comments": {"", "#\n", ""},
		"empty lines behind a text": {"a: b\n", "\n ", ""}, "keys on one line": {"{", "a: 1, ", "}"},
		"colons": {"a: ", "x:", ""}, "dashes": {"", "-\n", ""}, "faults": {"a: [", "'", ""},
		"empty lines in a list": {"[x", "\n", ",]"}, "escapes": {"\"", "\\u0041", "\""}, "spaces": {"", " ", ""},
	} {
		text := []byte(unit.before + strings.Repeat(unit.repeated, size/len(unit.repeated)) + unit.after)
		start := time.Now()
		_, _ = Parse(text)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: 2 MiB took %v", name, took)
		}
	}
}

// TestParseAgainstYAML compares with goccy/go-yaml on what documents look
// like. That reader takes more than ours does; where it is wrong, the text is
// not in this list.
func TestParseAgainstYAML(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		written := string(AppendYAML(nil, drawTree(t, 0)))
		ours, fault := Parse([]byte(written))
		if fault != nil {
			t.Fatalf("%s in\n%s", say(fault), written)
		}
		file, err := parser.ParseBytes([]byte(written), 0)
		if err != nil {
			t.Fatalf("%v in\n%s", err, written)
		}
		if diff := cmp.Diff(plainTree(yamlTree(file.Docs[0].Body)), plainTree(ours)); diff != "" {
			t.Fatalf("(-goccy +ours)\n%s\nin\n%s", diff, written)
		}
	})
}

func drawTree(t *rapid.T, depth int) *Node {
	kind := rapid.SampledFrom([]Kind{Text, Text, Number, Bool, Object, List}).Draw(t, "kind")
	if depth == 0 {
		kind = Object
	} else if depth > 3 {
		kind = Text
	}
	n := &Node{Kind: kind}
	switch kind {
	case Number:
		n.Text = fmt.Sprint(rapid.Int32().Draw(t, "number"))
	case Bool:
		n.Text = fmt.Sprint(rapid.Bool().Draw(t, "bool"))
	case Object:
		for i := range rapid.IntRange(1, 4).Draw(t, "members") {
			n.Members = append(n.Members, Member{Key: fmt.Sprintf("key_%d", i), Value: drawTree(t, depth+1)})
		}
	case List:
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			item := drawTree(t, depth+1)
			if len(item.Items) == 0 { // the writer has no list right inside a list: no document has one
				n.Items = append(n.Items, item)
			}
		}
	default:
		n.Text = drawText(t)
	}
	return n
}

// yamlTree is what goccy/go-yaml has read.
func yamlTree(n ast.Node) *Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		object := &Node{Kind: Object}
		for _, v := range n.Values {
			object.Members = append(object.Members, Member{Key: v.Key.String(), Value: yamlTree(v.Value)})
		}
		return object
	case *ast.SequenceNode:
		list := &Node{Kind: List}
		for _, v := range n.Values {
			list.Items = append(list.Items, yamlTree(v))
		}
		return list
	case *ast.StringNode:
		return &Node{Kind: Text, Text: n.Value}
	case *ast.LiteralNode:
		return &Node{Kind: Text, Text: n.Value.Value}
	case *ast.BoolNode:
		return &Node{Kind: Bool, Text: n.Token.Value}
	default:
		return &Node{Kind: Number, Text: n.GetToken().Value}
	}
}

// FuzzParse reads anything without panic, and valid JSON as encoding/json
// does. (A scalar alone is YAML, where a tab before it may be refused.)
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a": [1, -2.5e3, true, null, "x\u0041\ud83d\ude00\ud800"], "b": {}}`))
	f.Add([]byte("a: |\n  x\nb: [1, {c: 'd'}]\n- - x\n"))
	f.Add([]byte("a: >+\n\n  x\n   y\n--- \n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, fault := Parse(data)
		if (n == nil) != (fault != nil) {
			t.Fatalf("tree %v with fault %s", n, say(fault))
		}
		if !json.Valid(data) || !utf8.Valid(data) || strings.Contains(string(data), `\u0000`) {
			return
		}
		want := jsonTree(json.NewDecoder(strings.NewReader(string(data))))
		if first := strings.TrimLeft(string(data), " \t\r\n")[0]; want == "" || first != '{' && first != '[' { // too deep, with keys that are refused, or a scalar alone
			return
		}
		if n == nil {
			t.Fatalf("valid JSON is refused: %s", say(fault))
		}
		if got := plainTree(n); got != want {
			t.Fatalf("Parse(%q)\n got %s\nwant %s", data, got, want)
		}
	})
}

// jsonTree is what encoding/json reads, written by the writer of plainTree;
// empty where a bound of ours stands in the way.
func jsonTree(d *json.Decoder) string {
	d.UseNumber()
	var read func(depth int) (*Node, bool)
	read = func(depth int) (*Node, bool) {
		token, err := d.Token()
		if err != nil || depth > maxDepth {
			return nil, false
		}
		n := &Node{}
		switch v := token.(type) {
		case json.Delim:
			if depth == maxDepth {
				return nil, false
			}
			n.Kind = List
			if v == '{' {
				n.Kind = Object
			}
			for d.More() {
				var m Member
				if v == '{' {
					key, _ := d.Token()
					m.Key = key.(string)
					if m.Key == "" || m.Key == "<<" {
						return nil, false
					}
				}
				value, ok := read(depth + 1)
				if !ok {
					return nil, false
				}
				if m.Value = value; v == '{' {
					n.Members = append(n.Members, m)
				} else {
					n.Items = append(n.Items, value)
				}
			}
			_, _ = d.Token()
		case string:
			n.Kind, n.Text = Text, v
		case json.Number:
			n.Kind, n.Text = Number, v.String()
		case bool:
			n.Kind, n.Text = Bool, fmt.Sprint(v)
		default:
			n.Text = "null"
		}
		return n, true
	}
	n, ok := read(0)
	if _, err := d.Token(); !ok || err != io.EOF {
		return ""
	}
	return plainTree(n)
}
