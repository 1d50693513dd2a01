package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sluis/internal/text"
)

// Bounds of lists and of what is said about them.
const (
	maxObjects  = 10_000 // objects in one list, and names in one list of references
	maxEntries  = 5_000  // plain values in one list
	maxProblems = 1_000  // problems said about one document
	maxNearest  = 100    // problems for which the nearest name is looked for

	// maxCompared bounds that search further: letters compared with letters. It
	// takes twenty names of six letters among ten thousand.
	maxCompared = 10_000_000
)

// Validate says everything that is wrong with a document as far as the document
// alone shows it, in the document's order. What needs a fact of the machine (is
// the port taken, is the key in the store) is said by the room that knows it.
//
// The steps: each place by its tags, and what it names; then what only whole
// parts show. A value that one step refuses is passed over by the later ones, so that
// one mistake is one problem.
func Validate(doc *Document) Problems {
	c := newChecker(doc)
	c.checkPlaces()
	c.checkNetworks() // before those who ask for the interfaces' networks
	c.checkSystem()
	c.checkFirewall()
	c.checkCertificates()
	c.checkFrontends()
	c.checkBackends()
	c.checkListeners()
	return c.sorted()
}

// checker is one run of Validate.
type checker struct {
	doc      *Document
	problems Problems
	counts   map[Severity]int // of all problems, those that were dropped too
	compared int              // what the search for nearest names has cost, see maxCompared
	known    objectNames
	plans    map[reflect.Type][]plan // what to check of each field, by its struct
	used     map[string]bool         // paths of objects that something names
	networks []ownNetwork            // the static networks of interfaces that are up

	// Objects by their names; of two with one name, the first.
	interfaces  map[string]*Interface
	gateways    map[string]*Gateway
	virtualIPs  map[string]*VirtualIP
	aliases     map[string]*Alias
	authorities map[string]*Authority
	certs       map[string]*Certificate
	stickTables map[string]*StickTable
	frontends   map[string]*Frontend
	backends    map[string]*Backend
}

func newChecker(doc *Document) *checker {
	return &checker{
		doc: doc, known: namesOf(doc), counts: map[Severity]int{}, plans: map[reflect.Type][]plan{}, used: map[string]bool{},
		interfaces:  byName(doc.Interfaces, func(i *Interface) string { return i.Name }),
		gateways:    byName(doc.Gateways, func(g *Gateway) string { return g.Name }),
		virtualIPs:  byName(doc.VirtualIPs, func(v *VirtualIP) string { return v.Name }),
		aliases:     byName(doc.Aliases, func(a *Alias) string { return a.Name }),
		authorities: byName(doc.Authorities, func(a *Authority) string { return a.Name }),
		certs:       byName(doc.Certificates, func(cert *Certificate) string { return cert.Name }),
		stickTables: byName(doc.StickTables, func(t *StickTable) string { return t.Name }),
		frontends:   byName(doc.Frontends, func(f *Frontend) string { return f.Name }),
		backends:    byName(doc.Backends, func(b *Backend) string { return b.Name }),
	}
}

func byName[T any](list []T, name func(*T) string) map[string]*T {
	m := make(map[string]*T, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		m[name(&list[i])] = &list[i]
	}
	delete(m, "") // what has no name can't be meant by an empty reference
	return m
}

// plan is what the tags of one field ask for.
type plan struct {
	required bool
	min, max int64 // of a number, span or amount; hasRange says whether they hold
	hasRange bool
	shownMin string
	shownMax string
	words    []string // of an enum
	format   func(string) complaint
	kinds    []string // of references with their kind in front
	ref      bool
	when     string   // the sibling field that decides whether this one applies
	is       []string // its values
}

func (c *checker) add(path string, message text.Msg) *Problem { return c.note(path, Error, message) }

func (c *checker) warn(path string, message text.Msg) *Problem { return c.note(path, Warning, message) }

func (c *checker) hint(path string, message text.Msg) *Problem { return c.note(path, Hint, message) }

// note keeps as many problems of a severity as can be said, and counts the rest.
func (c *checker) note(path string, severity Severity, message text.Msg) *Problem {
	if c.counts[severity]++; c.counts[severity] > maxProblems {
		return &Problem{}
	}
	return c.problems.add(path, severity, message)
}

// seeksNearest reports whether the nearest of so many known names is still to be
// looked for, and counts what that costs.
func (c *checker) seeksNearest(name string, known int) bool {
	if len(c.problems) > maxNearest || c.compared > maxCompared {
		return false
	}
	c.compared += known * (len(name) + 1) * (len(name) + 1)
	return true
}

// complain notes what a check of a single value said, if it said anything.
func (c *checker) complain(path string, said complaint) {
	if !said.none() {
		c.add(path, said.message).Do(said.hint)
	}
}

// each visits the elements of a list with their paths.
func each[T any](list string, elements []T, visit func(path string, element *T)) {
	for i := range elements {
		visit(elementPath(list, reflect.ValueOf(&elements[i]).Elem(), i), &elements[i])
	}
}

// checkPlaces checks each value by the tags of its field, and each reference.
// One walk does both: it is what a large document pays for.
func (c *checker) checkPlaces() {
	if c.doc.Format != CurrentFormat {
		c.add("format", text.M("this build writes documents of format {known}, not {format}", "known", CurrentFormat, "format", c.doc.Format))
	}
	walkDocument(c.doc, func(n *node) bool {
		eachLinkAt(n, c.known, c.reference)
		return c.place(n)
	})
}

// place checks one place; it returns false where nothing below is to be checked.
func (c *checker) place(n *node) bool {
	if n.element {
		if isObject(n.value.Type()) {
			return true
		}
		c.value(n, n.value, c.plan(n))
		return false
	}
	if n.prop.name == "name" && n.owner.element {
		return false // said with the list, which also knows the other names
	}
	p := c.plan(n)
	applies := c.applies(n, p)
	if p.required && applies && isEmpty(n.value) {
		c.add(n.path, text.M("this can't be empty"))
		return false
	}
	switch v := n.value; {
	case v.Kind() == reflect.Slice:
		return c.list(n, p)
	case v.Kind() == reflect.Pointer && (v.IsNil() || isObject(v.Type().Elem())):
		return true
	case v.Kind() == reflect.Pointer:
		c.value(n, v.Elem(), p)
	case v.Type() == secretType:
		c.secret(n)
	case isObject(v.Type()):
		return true
	default:
		c.value(n, v, p)
	}
	return false
}

func isEmpty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice {
		return v.Len() == 0
	}
	return v.IsZero()
}

// plan reads the tags of a place's field, once for each type.
func (c *checker) plan(n *node) *plan {
	t := n.parent.Type()
	list, ok := c.plans[t]
	if !ok {
		list = make([]plan, t.NumField())
		for _, p := range properties(t) {
			list[p.index] = newPlan(t, p)
		}
		c.plans[t] = list
	}
	return &list[n.prop.index]
}

func newPlan(owner reflect.Type, prop property) plan {
	p := plan{
		required: prop.tag.Get("required") == "true",
		ref:      prop.tag.Get("ref") != "",
		kinds:    strings.Fields(prop.tag.Get("refs")),
	}
	t := prop.typ
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if e, ok := reflect.Zero(t).Interface().(enum); ok {
		p.words = e.Values()
	}
	if limits := prop.tag.Get("range"); limits != "" {
		p.shownMin, p.shownMax, _ = strings.Cut(limits, "..")
		p.min, p.max, p.hasRange = limit(t, p.shownMin), limit(t, p.shownMax), true
	}
	if name := prop.tag.Get("format"); name != "" {
		if p.format = formats[name]; p.format == nil {
			panic("BUG: " + owner.Name() + "." + prop.name + " has the unknown format " + name)
		}
	} else if t == reflect.TypeFor[string]() && !p.ref && len(p.kinds) == 0 {
		p.format = checkLine
		if prop.name == "description" {
			p.format = checkText
		}
	}
	if condition := prop.tag.Get("when"); condition != "" && !saysItself(owner, prop) {
		var values string
		p.when, values, _ = strings.Cut(condition, "=")
		p.is = strings.Split(values, "|")
	}
	return p
}

// saysItself reports whether a part has a stricter word about fields that don't
// apply: a condition or firewall rule that is wider than its author believes is
// an error, not a value without effect.
func saysItself(owner reflect.Type, prop property) bool {
	return owner == reflect.TypeFor[ACL]() || owner == reflect.TypeFor[FirewallRule]() && prop.name == "destination_ports"
}

// limit reads one end of a range in the unit of its type.
func limit(t reflect.Type, s string) int64 {
	var err error
	var n int64
	switch t {
	case reflect.TypeFor[Duration]():
		var d Duration
		err = d.UnmarshalText([]byte(s))
		n = int64(d)
	case reflect.TypeFor[Size]():
		var size Size
		err = size.UnmarshalText([]byte(s))
		n = int64(size)
	default:
		n, err = strconv.ParseInt(s, 10, 64)
	}
	if err != nil {
		panic("BUG: the range tag " + s + " can't be read: " + err.Error())
	}
	return n
}

// applies evaluates the when tag, and says so where a value was given in vain.
func (c *checker) applies(n *node, p *plan) bool {
	if p.when == "" {
		return true
	}
	sibling, ok := propertyNamed(n.parent.Type(), p.when)
	if !ok {
		panic("BUG: the when tag of " + n.pattern + " names no sibling")
	}
	value := fmt.Sprint(n.parent.Field(sibling.index).Interface())
	if slices.Contains(p.is, value) {
		return true
	}
	if !isEmpty(n.value) && !sameValue(n.value, defaultAt(n.owner).Field(n.prop.index)) {
		c.warn(n.path, text.M("this has no effect while {field} is {value}", "field", p.when, "value", shown(value)))
	}
	return false
}

// defaultAt is the object that a document starts from at the place of an object.
func defaultAt(object *node) reflect.Value {
	t := object.value.Type()
	if object.owner == nil || object.element || object.prop.typ.Kind() == reflect.Pointer {
		return reflect.ValueOf(defaultOf(t))
	}
	return defaultAt(object.owner).Field(object.prop.index)
}

// list checks the length of a list, the names of its objects, and whether plain
// values stand there twice. Of a list that is too long nothing else is said.
func (c *checker) list(n *node, p *plan) bool {
	limit := maxEntries
	if isObjectList(n.value.Type()) || p.ref {
		limit = maxObjects
	}
	if n.value.Len() > limit {
		c.add(n.path, text.M("{count} entries stand here, at most {limit} are taken", "count", n.value.Len(), "limit", limit))
		return false
	}
	if isObjectList(n.value.Type()) {
		c.names(n)
		return true
	}
	first := map[any]int{}
	for i := range n.value.Len() {
		value := n.value.Index(i).Interface()
		if j, twice := first[value]; twice {
			c.warn(n.path+"["+strconv.Itoa(i)+"]", text.M("this stands in the list already, as entry {number}", "number", j+1))
			continue
		}
		first[value] = i
	}
	return true
}

// names checks the names of a list's objects.
func (c *checker) names(n *node) {
	t := n.value.Type().Elem()
	property, ok := propertyNamed(t, "name")
	if !ok {
		return
	}
	first := make(map[string]int, n.value.Len())
	for i := range n.value.Len() {
		element := n.value.Index(i)
		name := element.Field(property.index).String()
		path := elementPath(n.path, element, i) + ".name"
		message, hint := nameProblem(t, name)
		if !message.IsZero() {
			c.add(path, message).Do(hint)
			continue
		}
		key := name
		if sameName(t, "a", "A") {
			key = strings.ToLower(name)
		}
		if j, twice := first[key]; twice {
			c.add(path, text.M("{name} is the name of entry {first} and of entry {second} of {list}",
				"name", name, "first", j+1, "second", i+1, "list", n.path)).
				Do(text.M("give one of them another name"))
			continue
		}
		first[key] = i
	}
}

// nameProblem says what is wrong with the name of an object of a type.
func nameProblem(t reflect.Type, name string) (message, hint text.Msg) {
	if name == "" {
		return text.M("a name is missing"), text.Msg{}
	}
	check := checkName
	if p, ok := propertyNamed(t, "name"); ok && p.tag.Get("format") != "" {
		check = formats[p.tag.Get("format")]
	}
	if said := check(name); !said.none() {
		return said.message, said.hint
	}
	if t == reflect.TypeFor[ACL]() {
		if meaning, taken := BuiltinACLs()[name]; taken {
			return text.M("{name} is a name that conditions have already: {meaning}", "name", name, "meaning", meaning), text.Msg{}
		}
		if slices.Contains(conditionWords, strings.ToLower(name)) {
			return text.M("{name} is a word of conditions and no name", "name", name), text.Msg{}
		}
	}
	return text.Msg{}, text.Msg{}
}

// value checks one plain value.
func (c *checker) value(n *node, v reflect.Value, p *plan) {
	switch v.Kind() {
	case reflect.String:
		c.text(n, v.String(), p)
	case reflect.Int, reflect.Int64:
		c.number(n, v, v.Int(), p)
	case reflect.Uint16:
		c.number(n, v, int64(v.Uint()), p)
	}
}

func (c *checker) number(n *node, v reflect.Value, value int64, p *plan) {
	if p.hasRange && (value < p.min || value > p.max) {
		c.add(n.path, text.M("{value} is out of range: {min} to {max}", "value", v.Interface(), "min", p.shownMin, "max", p.shownMax))
	}
}

func (c *checker) text(n *node, s string, p *plan) {
	switch {
	case p.words != nil:
		if !slices.Contains(p.words, s) {
			c.word(n, s, p.words)
		}
	case s == "" && n.element:
		c.add(n.path, text.M("an entry can't be empty"))
	case s == "" || p.ref:
		// A reference is checked with all others.
	default:
		c.format(n, s, p)
	}
}

func (c *checker) word(n *node, s string, words []string) {
	problem := c.add(n.path, text.M("{value} isn't known here: {words} are", "value", shown(s), "words", strings.Join(words, ", ")))
	if s == "" {
		problem.Message = text.M("one of {words} is needed", "words", strings.Join(words, ", "))
	}
	if c.seeksNearest(s, len(words)) {
		problem.Near(s, words)
	}
}

// format checks the syntax of a text, and of the kind in front of a reference.
func (c *checker) format(n *node, s string, p *plan) {
	if len(p.kinds) > 0 {
		if kind, _, name, isRef := cutKind(s); isRef {
			switch {
			case !slices.Contains(p.kinds, kind):
				c.add(n.path, text.M("{kind}:{name} can't stand here", "kind", kind, "name", shown(name))).Do(kindsHint(p.kinds))
			case name == "":
				c.add(n.path, text.M("the name after {kind}: is missing", "kind", kind))
			}
			return
		}
	}
	if p.format == nil {
		return
	}
	said := p.format(s)
	if said.none() {
		return
	}
	if meant := c.meantReference(s, p.kinds); meant != "" {
		said = said.do(text.M("did you mean {name}?", "name", meant))
	}
	c.complain(n.path, said)
}

func kindsHint(kinds []string) text.Msg {
	return text.M("what can be named here: {kinds}", "kinds", strings.Join(kinds, ":…, ")+":…")
}

// meantReference finds the reference that somebody meant who left out or
// mistyped the kind in front.
func (c *checker) meantReference(s string, kinds []string) string {
	before, name, found := strings.Cut(s, ":")
	if !found {
		name = s
	}
	for _, k := range referenceKinds {
		if slices.Contains(kinds, k.kind) && c.known.has(k.list, name) && (!found || Nearest(before, kinds) == k.kind) {
			return k.kind + ":" + name
		}
	}
	return ""
}

// secret checks where a secret points: a key's reference and another secret's
// don't stand for each other.
func (c *checker) secret(n *node) {
	secret := n.value.Interface().(Secret)
	wanted := secretPrefix
	if n.prop.name == "key" {
		wanted = keyPrefix
	}
	if ref, ok := secret.Reference(); ok {
		if !strings.HasPrefix(ref, wanted) {
			c.add(n.path, text.M("a reference that begins with {wanted} is expected here", "wanted", wanted))
		}
		return
	}
	value, inline := secret.Inline()
	switch {
	case inline && len(value) > maxPEM:
		c.complain(n.path, tooLong(len(value), maxPEM))
	case inline && wanted == keyPrefix:
		c.complain(n.path, checkPrivateKey(value))
	}
}

// reference checks that what is named is there and of the kind that is needed,
// and notes that it is used.
func (c *checker) reference(l link) {
	if c.known.has(l.collection, l.name) {
		c.used[l.to()] = true
		if l.kind == "alias" {
			c.aliasUse(l)
		}
		return
	}
	if end := strings.LastIndexByte(l.collection, ']'); end >= 0 && !l.condition {
		owner := l.collection[:end]
		list, name := listOf(owner), owner[strings.LastIndexByte(owner, '[')+1:]
		if !c.known.has(list, name) {
			return // the object around it is missing, which is said at its own place
		}
	}
	c.missing(l)
}

// missing says that nothing has the name, and what was perhaps meant.
func (c *checker) missing(l link) {
	names := c.known.in(l.collection)
	problem := c.add(l.from, text.M("there is no {name} among {list}", "name", shown(l.name), "list", l.collection))
	if l.condition {
		problem.Message = text.M("the condition asks {name}, and no ACL has that name", "name", l.name)
	}
	if l.kind != "" {
		problem.Message = text.M("there is no {name} among {list}", "name", shown(l.kind+":"+l.name), "list", l.collection)
	}
	if _, _, plain, ok := cutKind(l.name); ok && c.known.has(l.collection, plain) {
		problem.Do(text.M("write {value}", "value", plain))
		return
	}
	if !c.seeksNearest(l.name, len(names)) {
		return
	}
	if l.condition {
		names = slices.Sorted(maps.Keys(BuiltinACLs()))
		names = append(names, c.known.in(l.collection)...)
		slices.Sort(names)
	}
	nearest := Nearest(l.name, names)
	if nearest != "" && l.kind != "" {
		nearest = l.kind + ":" + nearest
	}
	if nearest != "" {
		problem.Do(text.M("did you mean {name}?", "name", nearest))
	}
}

// sorted is what was found, in the document's order. Where there is more than
// anyone reads, errors go before warnings and warnings before hints.
func (c *checker) sorted() Problems {
	order := c.order()
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return order[a.Path] - order[b.Path] })
	all := c.counts[Error] + c.counts[Warning] + c.counts[Hint]
	if all <= maxProblems {
		return c.problems
	}
	var kept Problems
	for _, severity := range []Severity{Error, Warning, Hint} {
		for _, p := range c.problems {
			if p.Severity == severity && len(kept) < maxProblems {
				kept = append(kept, p)
			}
		}
	}
	kept[len(kept)-1] = Problem{
		Severity: kept[len(kept)-1].Severity,
		Message:  text.M("there are {count} further problems", "count", all-maxProblems+1),
	}
	return kept
}

// order numbers the paths of the problems as the walk comes by. A problem with a
// place that isn't there stands where the nearest place around it does.
func (c *checker) order() map[string]int {
	order := map[string]int{}
	for _, p := range c.problems {
		order[p.Path] = -1
	}
	if len(order) == 0 {
		return order
	}
	number, places := 0, map[string]int{} // of the paths and what is around them; 0 = not yet
	for path := range order {
		for place := path; place != ""; place = place[:max(0, strings.LastIndexAny(place, ".["))] {
			places[place] = 0
		}
	}
	walkDocument(c.doc, func(n *node) bool {
		at, wanted := places[n.path]
		if number++; wanted && at == 0 {
			places[n.path] = number
		}
		return wanted
	})
	for path := range order {
		for place := path; place != "" && order[path] < 0; {
			if at := places[place]; at > 0 {
				order[path] = at
			}
			place = place[:max(0, strings.LastIndexAny(place, ".["))]
		}
	}
	return order
}
