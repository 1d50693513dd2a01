package config

import "strings"

// Within reports whether a path is the place itself or below it. Everything is
// within the empty path.
func Within(path, place string) bool {
	rest, below := strings.CutPrefix(path, place)
	return below && (place == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Renamed is the path of an object after it was given another name.
func Renamed(path, name string) string {
	if open := strings.LastIndexByte(path, '['); open >= 0 {
		return path[:open] + "[" + name + "]"
	}
	return path
}

// Take copies the object at a path from one document into a clone of another, as
// it stands there and in its place among its neighbours, or removes it where it
// doesn't stand there. Secrets are taken as references.
func Take(into, from *Document, path string) (*Document, Problems) {
	stored, absent := GetYAML(from, path)
	_, missing := GetYAML(into, path)
	switch {
	case absent.HasErrors() && missing.HasErrors():
		return nil, missing
	case absent.HasErrors():
		return Delete(into, path)
	}
	next, problems := Set(into, path, stored)
	if problems.HasErrors() || !missing.HasErrors() {
		return next, problems
	}
	return moveLike(next, from, path)
}

// moveLike puts a new element before the neighbour that follows it in another
// document.
func moveLike(doc, like *Document, path string) (*Document, Problems) {
	open := strings.LastIndexByte(path, '[')
	if open < 0 || !strings.HasSuffix(path, "]") {
		return doc, nil
	}
	list, name := path[:open], path[open+1:len(path)-1]
	here := map[string]bool{}
	for _, n := range Names(doc, list) {
		here[n] = true
	}
	following := false
	for _, n := range Names(like, list) {
		if following && here[n] {
			return Move(doc, path, n)
		}
		following = following || n == name
	}
	return doc, nil
}
