package config

import (
	"fmt"
	"strings"
)

// Manual is the reference of the whole document as Markdown, made of Fields: a
// chapter for each part, and in it a table for each kind of object. An object
// type that stands at several places is described at the first of them.
func Manual() string {
	m := &manual{description: described()}
	m.line("# The document, field by field")
	m.line("")
	m.WriteString(manualPreface)
	for _, o := range m.objects {
		m.object(o)
	}
	return m.String()
}

const manualPreface = `One document describes the whole machine, as YAML or JSON. Whatever it leaves out has its default.

- A list of objects is written as a list; the ` + "`name`" + ` of each object is unique in its list, and its place is
  ` + "`frontends[shop].binds[https].port`" + `. Order means something for rules and for lists of plain values.
- A **duration** has units: ` + "`250ms`, `30s`, `1m30s`, `2h`, `7d`" + `. A **size** has one: ` + "`512B`, `16KiB`, `2MiB`, `1GiB`" + `.
- A **secret** is written as it is, as ` + "`file:PATH` or as `env:NAME`" + `. It is shown as ` + "`(set)`, and `(set)`" + ` keeps it.
- A **time** is written as in RFC 3339: ` + "`2030-01-31T12:00:00Z`" + `.
- A **port** may be a number, a range such as ` + "`8000-8080`, or `alias:NAME`" + `.
- What is **absent** by default is switched on by writing it, if only as ` + "`{}`" + `.

`

// manual writes the reference.
type manual struct {
	*description
	strings.Builder
}

func (m *manual) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// object writes what one type of objects holds.
func (m *manual) object(o *objectType) {
	place := o.places[0]
	switch {
	case place == "":
		m.line("## The parts of the document")
	case strings.ContainsRune(place, '.'):
		m.line("### `%s`: %s", place, o.label)
	default:
		m.line("## `%s`: %s", place, o.label)
	}
	m.line("")
	m.line("%s", o.help)
	if others := o.places[1:]; len(others) > 0 {
		m.line("It stands at `%s`, too.", strings.Join(others, "`, `"))
	}
	m.line("")
	m.line("| field | type | default | range | meaning |")
	m.line("|---|---|---|---|---|")
	for _, i := range o.fields {
		f := m.fields[i]
		m.line("| `%s` | %s | %s | %s | %s |", f.Name, cell(m.typeOf(f)), cell(defaultOfField(f)), cell(rangeOf(f)), cell(meaningOf(f)))
	}
	m.line("")
	for _, i := range o.fields {
		m.words(m.fields[i])
	}
}

// words lists what the words of an enum mean.
func (m *manual) words(f Field) {
	if len(f.Values) == 0 {
		return
	}
	if f.Type == FieldList {
		m.line("Each of `%s` is one of:", f.Name)
	} else {
		m.line("`%s` is one of:", f.Name)
	}
	m.line("")
	for _, v := range f.Values {
		if v.Help == "" {
			m.line("- `%s`", v.Value)
		} else {
			m.line("- `%s`: %s", v.Value, v.Help)
		}
	}
	m.line("")
}

// typeOf says what a field takes.
func (m *manual) typeOf(f Field) string {
	kind, many := f.Type, f.Type == FieldList
	if many {
		kind = f.Element
	}
	what := string(kind)
	switch {
	case kind == FieldObject:
		what = "see `" + m.objectNamed(f.Object).places[0] + "`"
	case f.Ref != "":
		what = "name in " + collectionOf(f.Ref)
	case len(f.Refs) > 0:
		what += ", `" + strings.Join(f.Refs, ":NAME`, `") + ":NAME`"
	case kind == FieldEnum:
		what = "word, see below"
	}
	if many {
		return "list: " + what
	}
	return what
}

// collectionOf says in words which collection a reference's name stands in.
func collectionOf(ref string) string {
	kind, inner, scoped := strings.Cut(ref, "[.")
	if !scoped {
		return "`" + ref + "`"
	}
	sibling, collection, _ := strings.Cut(inner, "].")
	if sibling == "" {
		return fmt.Sprintf("the `%s` of the same entry of `%s`", collection, kind)
	}
	return fmt.Sprintf("the `%s` of the `%s` given here", collection, sibling)
}

// defaultOfField says what a field is where it isn't given.
func defaultOfField(f Field) string {
	switch {
	case f.Optional:
		return "absent"
	case mustBeGiven(f):
		return "must be given"
	case f.Default != "":
		return "`" + f.Default + "`"
	case f.Type == FieldList:
		return "none"
	}
	return ""
}

// rangeOf says between which values a number, duration or size may be.
func rangeOf(f Field) string {
	limits := ""
	switch {
	case f.Min != "" && f.Max != "":
		limits = f.Min + " to " + f.Max
	case f.Min != "":
		limits = "from " + f.Min
	case f.Max != "":
		limits = "up to " + f.Max
	}
	return strings.TrimSpace(limits + " " + f.Unit)
}

// meaningOf is a field's help with what forms show in other ways.
func meaningOf(f Field) string {
	sentences := []string{f.Help}
	if sibling, values, ok := strings.Cut(f.AppliesWhen, "="); ok {
		alternatives := strings.ReplaceAll(values, "|", "` or `")
		sentences = append(sentences, fmt.Sprintf("Only where `%s` is `%s`.", sibling, alternatives))
	}
	if f.Advanced {
		sentences = append(sentences, "Advanced.")
	}
	return strings.Join(sentences, " ")
}

// cell makes a text fit into a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
