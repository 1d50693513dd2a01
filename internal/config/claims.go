package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"sluis/internal/text"
)

// A claim is what a subsystem says that it puts into effect:
//
//	frontends                    the list with everything below it
//	frontends[].tls.alpn         that field of every frontend
//	frontends[].type=http        of that field, among what other claims cover, this value alone
//
// A place is claimed when a claim without a value is its pattern or the
// beginning of it, and, where claims with values name exactly this place, one of
// them has its value. A claim with a value covers nothing by itself.

// claimTree holds claims by the segments of their patterns.
type claimTree struct {
	covers    bool     // a claim without a value ends here
	touched   bool     // a claim without a value ends here or below
	values    []string // values of the claims that end here
	hasValues bool     // a claim with a value ends here or below
	below     map[string]*claimTree
}

// untouched is the tree below a place that no claim names.
var untouched = &claimTree{}

func newClaimTree(claims []string) *claimTree {
	root := &claimTree{}
	for _, claim := range claims {
		pattern, value, hasValue := strings.Cut(claim, "=")
		t := root
		t.mark(hasValue)
		for _, key := range strings.Split(strings.ReplaceAll(pattern, "[]", ""), ".") {
			if t.below == nil {
				t.below = map[string]*claimTree{}
			}
			if t.below[key] == nil {
				t.below[key] = &claimTree{}
			}
			t = t.below[key]
			t.mark(hasValue)
		}
		if hasValue {
			t.values = append(t.values, value)
		} else {
			t.covers = true
		}
	}
	return root
}

func (t *claimTree) mark(hasValue bool) {
	t.hasValues = t.hasValues || hasValue
	t.touched = t.touched || !hasValue
}

func (t *claimTree) at(key string) *claimTree {
	if below := t.below[key]; below != nil {
		return below
	}
	return untouched
}

// Unclaimed says what the document sets that no claim covers: it is stored, but
// not in effect. Each such place is said once, as high up as nothing below it is
// claimed: firewall, or firewall.nat where the rules are claimed, or
// frontends[shop].type. It is a warning, and an error where the user would count
// on being protected by it: where the place or one around it protects (see
// Field.Protects), or where something that protects is set inside it while other
// fields of the same part are claimed. Inside a part of the document that nobody
// claims at all, a field that protects is only part of the warning: where
// nothing is served, nothing needs protection.
//
// A place is set when a plain value differs from its object's default, a list of
// objects has elements, or an optional value is present; a field for which
// values are claimed counts with its default, too. The format, descriptions and
// the names of list elements don't count: an element that has its defaults is not
// said where a claim covers anything of its list.
func Unclaimed(doc *Document, claims []string) Problems {
	u := &unclaimed{}
	v := reflect.ValueOf(doc).Elem()
	whole := place{value: v, def: reflect.ValueOf(defaultOf(v.Type())), claims: newClaimTree(claims)}
	for _, p := range properties(v.Type()) {
		if p.name == "format" {
			continue
		}
		part := whole.child(p, v, whole.def)
		u.partTouched = part.claims.touched
		u.visit(part)
	}
	return u.problems
}

// unclaimed collects what is set and not claimed.
type unclaimed struct {
	problems    Problems
	partTouched bool // a claim names something of the part of the document that is being looked at
}

// place is one place of a document, with what is known of the way to it.
type place struct {
	path     string
	value    reflect.Value
	def      reflect.Value // what the value is where it isn't given
	claims   *claimTree
	covered  bool // a claim covers it
	protects bool // it, or a place around it, protects
}

// child is the place of a field of the object that stands at this place.
func (at place) child(p property, object, def reflect.Value) place {
	claims := at.claims.at(p.name)
	return place{
		path: join(at.path, p.name), value: object.Field(p.index), def: def.Field(p.index),
		claims: claims, covered: at.covered || claims.covers, protects: at.protects || protects(p),
	}
}

func (u *unclaimed) visit(at place) {
	switch {
	case len(at.claims.values) > 0 && at.covered:
		u.visitValue(at)
	case at.covered && !at.claims.hasValues, !at.covered && !at.claims.touched:
		u.settle(at)
	case isObjectList(at.value.Type()):
		u.visitElements(at)
	default:
		object, def, ok := objectAt(at.value, at.def)
		if !ok {
			u.settle(at)
			return
		}
		u.visitFields(at, object, def, false)
	}
}

// objectAt is the object that a field holds, and what it is where nothing in it
// is given; ok is false for anything but an object, and for an absent one.
func objectAt(v, def reflect.Value) (object, objectDef reflect.Value, ok bool) {
	if v.Kind() == reflect.Pointer && isObject(v.Type().Elem()) && !v.IsNil() {
		return v.Elem(), reflect.ValueOf(defaultOf(v.Type().Elem())), true
	}
	return v, def, isObject(v.Type())
}

// settle ends the way down: everything from here on is claimed, or nothing is.
func (u *unclaimed) settle(at place) {
	if !at.covered && isSet(at.value, at.def) {
		u.report(at)
	}
}

// visitValue looks at a field of which only some values are claimed.
func (u *unclaimed) visitValue(at place) {
	value := defaultText(at.value)
	if slices.Contains(at.claims.values, value) {
		return
	}
	if at.protects {
		u.reportProtection(at.path, at.path)
		return
	}
	u.problems.Warn(at.path, text.M("stored, not in effect: nothing in this build or mode uses {path} with the value {value}",
		"path", at.path, "value", value))
}

// visitElements looks into each object of a list of which something is claimed.
func (u *unclaimed) visitElements(at place) {
	for i := range at.value.Len() {
		e := at
		e.value, e.def = at.value.Index(i), reflect.ValueOf(defaultOf(at.value.Type().Elem()))
		e.path += "[" + selector(e.value, i) + "]"
		u.visitFields(e, e.value, e.def, true)
	}
}

func (u *unclaimed) visitFields(at place, object, def reflect.Value, isElement bool) {
	for _, p := range properties(object.Type()) {
		if !isRemark(p, isElement) {
			u.visit(at.child(p, object, def))
		}
	}
}

func (u *unclaimed) report(at place) {
	if at.protects {
		u.reportProtection(at.path, at.path)
		return
	}
	if u.partTouched {
		if inside := protection(at.value, at.def, at.path); inside != "" {
			u.reportProtection(at.path, inside)
			return
		}
	}
	u.problems.Warn(at.path, text.M("stored, not in effect: nothing in this build or mode uses {path}", "path", at.path))
}

func (u *unclaimed) reportProtection(path, protects string) {
	u.problems.Add(path, text.M("{path} would protect, but nothing in this build or mode puts it into effect; applying it would feign safety",
		"path", protects)).
		Do(text.M("take it out of the document, or run Sluis in a form that puts it into effect"))
}

// protection is the path of the first place set below a value that protects;
// empty where there is none.
func protection(v, def reflect.Value, path string) string {
	if isObjectList(v.Type()) {
		for i := range v.Len() {
			e := v.Index(i)
			elementPath := path + "[" + selector(e, i) + "]"
			if found := protection(e, reflect.ValueOf(defaultOf(e.Type())), elementPath); found != "" {
				return found
			}
		}
		return ""
	}
	object, def, ok := objectAt(v, def)
	if !ok {
		return ""
	}
	for _, p := range properties(object.Type()) {
		value, valueDef, valuePath := object.Field(p.index), def.Field(p.index), join(path, p.name)
		if protects(p) && isSet(value, valueDef) {
			return valuePath
		}
		if found := protection(value, valueDef, valuePath); found != "" {
			return found
		}
	}
	return ""
}

func protects(p property) bool { return p.tag.Get("protects") == "true" }

// isSet reports whether somebody gave the value: it differs from its default, or
// is there at all.
func isSet(v, def reflect.Value) bool {
	switch {
	case v.Kind() == reflect.Pointer:
		return !v.IsNil()
	case isObjectList(v.Type()):
		return v.Len() > 0
	case v.Kind() == reflect.Slice:
		return v.Len() != def.Len() || v.Len() > 0 && !reflect.DeepEqual(v.Interface(), def.Interface())
	case isObject(v.Type()):
		return slices.ContainsFunc(properties(v.Type()), func(p property) bool {
			return !isRemark(p, false) && isSet(v.Field(p.index), def.Field(p.index))
		})
	}
	return v.Interface() != def.Interface()
}

// isRemark reports whether a field only names or describes its object.
func isRemark(p property, inElement bool) bool {
	return p.name == "description" || inElement && p.name == "name"
}

// CheckClaims says which claims name no place of the document, or no value that
// the place can have: a subsystem's test calls it, so that a typo is found there.
func CheckClaims(claims []string) error {
	var errs []error
	for _, claim := range claims {
		if err := checkClaim(claim); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkClaim(claim string) error {
	pattern, value, hasValue := strings.Cut(claim, "=")
	f, ok := FieldAt(pattern)
	var words []string
	switch {
	case !ok || f.Path != pattern:
		return fmt.Errorf("claim %q names no place of the document", claim)
	case !hasValue:
		return nil
	case f.Type == FieldBoolean:
		words = []string{"true", "false"}
	case f.Type == FieldEnum:
		for _, v := range f.Values {
			words = append(words, v.Value)
		}
	default:
		return fmt.Errorf("claim %q has a value, but %s is neither an enum nor a boolean", claim, pattern)
	}
	if !slices.Contains(words, value) {
		return fmt.Errorf("claim %q: %s never has the value %q", claim, pattern, value)
	}
	return nil
}
