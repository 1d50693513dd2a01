package main

import (
	"embed"
	"strings"
)

// licenseFiles are the terms of everything in this binary. "make licenses"
// collects them; a test holds them against the modules that are linked.
//
//go:embed licenses/*.txt
var licenseFiles embed.FS

// licenseTexts is what "sluis licenses" prints: Sluis's own licence, Go's, and
// those of all linked modules, in this order.
func licenseTexts() string {
	entries, err := licenseFiles.ReadDir("licenses")
	if err != nil {
		panic("BUG: the embedded licence texts cannot be listed: " + err.Error())
	}
	names := []string{"sluis.txt", "go.txt"}
	for _, e := range entries { // sorted by name
		if e.Name() != names[0] && e.Name() != names[1] {
			names = append(names, e.Name())
		}
	}
	texts := make([]string, 0, len(names))
	for _, name := range names {
		text, err := licenseFiles.ReadFile("licenses/" + name)
		if err != nil {
			panic("BUG: an embedded licence text cannot be read: " + err.Error())
		}
		texts = append(texts, string(text))
	}
	return strings.Join(texts, "\n"+strings.Repeat("-", 72)+"\n\n")
}
