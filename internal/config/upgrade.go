package config

import (
	"strconv"

	"sluis/internal/config/wire"
	"sluis/internal/text"
)

// upgradeStep turns a document of one format into the next one. It works on the
// tree, since the old format's types are gone; it is pure, and what it doesn't
// understand it leaves for the decoder to report.
type upgradeStep func(root *wire.Node)

// upgrades are the steps from format 1 to CurrentFormat, in order: the first
// leads from 1 to 2. Whoever adds one adds a revision of the format that it
// leaves behind to testdata/formats, where it must load for ever.
var upgrades = []upgradeStep{}

// upgrade brings a tree to the newest format. It reports whether the tree can be
// decoded: a newer document can't, and says so in one problem.
func (d *decoder) upgrade(root *wire.Node, steps []upgradeStep) bool {
	newest := 1 + len(steps)
	written := root.Member("format")
	if written == nil {
		return true
	}
	format, err := strconv.Atoi(written.Text)
	switch {
	case written.Kind != wire.Number || err != nil || format < 1:
		d.problem("format", written.Line, written.Column, text.M("this is no format number")).
			Do(text.M("write format: {newest}, or leave it out", "newest", newest))
		return false
	case format > newest:
		d.problem("format", written.Line, written.Column,
			text.M("this document has format {format}, this Sluis understands up to {newest}", "format", format, "newest", newest)).
			Do(text.M("update Sluis first"))
		return false
	}
	for _, step := range steps[format-1:] {
		step(root)
	}
	root.Set("format", &wire.Node{Kind: wire.Number, Text: strconv.Itoa(newest), Line: written.Line, Column: written.Column})
	return true
}
