package config

import (
	"cmp"
	"embed"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// structSources are the files that hold the document's types. Their comments are
// the help texts: a comment that a programmer corrects is corrected for all.
//
//go:embed document.go system.go network.go firewall.go certificates.go balancer.go frontend.go backend.go
var structSources embed.FS

// sourceDocs are the comments of the model's source, each on one line.
type sourceDocs struct {
	types  map[string]string            // type → its doc comment
	fields map[string]map[string]string // type → field → its doc comment
	values map[string]map[string]string // type of an enum → word → the comment behind its constant
}

// readSourceDocs parses the embedded sources. They have been compiled, so they
// parse.
func readSourceDocs() *sourceDocs {
	docs := &sourceDocs{types: map[string]string{}, fields: map[string]map[string]string{}, values: map[string]map[string]string{}}
	entries, err := structSources.ReadDir(".")
	if err != nil {
		panic("BUG: the embedded sources can't be listed: " + err.Error())
	}
	for _, entry := range entries {
		data, err := structSources.ReadFile(entry.Name())
		if err != nil {
			panic("BUG: an embedded source can't be read: " + err.Error())
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			panic("BUG: an embedded source doesn't parse: " + err.Error())
		}
		docs.read(file)
	}
	return docs
}

func (docs *sourceDocs) read(file *ast.File) {
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				docs.readType(spec, cmp.Or(spec.Doc, general.Doc))
			case *ast.ValueSpec:
				docs.readValue(spec)
			}
		}
	}
}

func (docs *sourceDocs) readType(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	docs.types[spec.Name.Name] = oneLine(doc)
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	fields := make(map[string]string, len(structure.Fields.List))
	for _, field := range structure.Fields.List {
		for _, name := range field.Names {
			fields[name.Name] = oneLine(field.Doc)
		}
	}
	docs.fields[spec.Name.Name] = fields
}

// readValue notes a constant such as
//
//	AdminHTTPS AdminProtocol = "https" // with a certificate
func (docs *sourceDocs) readValue(spec *ast.ValueSpec) {
	enumName, ok := spec.Type.(*ast.Ident)
	if !ok || len(spec.Values) != 1 {
		return
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	word, err := strconv.Unquote(literal.Value)
	if err != nil {
		return
	}
	if docs.values[enumName.Name] == nil {
		docs.values[enumName.Name] = map[string]string{}
	}
	docs.values[enumName.Name][word] = oneLine(spec.Comment)
}

// oneLine joins the lines of a comment made of // lines, the only ones we write.
func oneLine(comment *ast.CommentGroup) string {
	if comment == nil {
		return ""
	}
	var b strings.Builder
	for i, line := range comment.List {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strings.TrimSpace(strings.TrimPrefix(line.Text, "//")))
	}
	return b.String()
}

// helpText makes a help text of a doc comment: the Go name that it begins with
// gives way to the subject ("DNSServers answer …" → "DNS servers answer …"), or
// to nothing where the subject is empty; the Go names of siblings in it give way
// to their labels.
func helpText(doc, goName, subject string, siblings []sibling) string {
	predicate, found := strings.CutPrefix(doc, goName+" ")
	for _, s := range siblings {
		predicate = strings.ReplaceAll(predicate, s.goName, s.label)
	}
	switch {
	case !found:
		return predicate
	case subject != "":
		return subject + " " + predicate
	}
	return strings.ToUpper(predicate[:1]) + predicate[1:]
}

// sibling is a field as other fields' comments call it, and as readers know it.
type sibling struct{ goName, label string }

// siblingNames are the fields of a type whose Go name isn't an ordinary word,
// longest first: a name may be the beginning of another one.
func siblingNames(t reflect.Type) []sibling {
	var siblings []sibling
	for _, p := range properties(t) {
		if name := t.Field(p.index).Name; len(camelParts(name)) > 1 {
			siblings = append(siblings, sibling{name, `"` + fieldLabel(p) + `"`})
		}
	}
	slices.SortFunc(siblings, func(a, b sibling) int {
		return cmp.Or(len(b.goName)-len(a.goName), strings.Compare(a.goName, b.goName))
	})
	return siblings
}

// fieldLabel is the label of a field: its tag, or its name in words.
func fieldLabel(p property) string {
	if label := p.tag.Get("label"); label != "" {
		return label
	}
	return words(strings.Split(p.name, "_"))
}

// typeLabel is the name of a Go type in words: VirtualIP → Virtual IP.
func typeLabel(goName string) string { return words(camelParts(goName)) }

// acronyms are the words that aren't written in lower case.
var acronyms = map[string]string{
	"acl": "ACL", "acls": "ACLs", "acme": "ACME", "alpn": "ALPN", "arp": "ARP", "dhcp": "DHCP", "dns": "DNS",
	"hsts": "HSTS", "http": "HTTP", "https": "HTTPS", "id": "ID", "ip": "IP", "ips": "IPs", "ipv4": "IPv4", "ipv6": "IPv6",
	"nat": "NAT", "ocsp": "OCSP", "pem": "PEM", "sni": "SNI", "ssh": "SSH", "tcp": "TCP", "tls": "TLS", "udp": "UDP",
	"uri": "URI", "url": "URL", "vip": "VIP", "vlan": "VLAN", "vlans": "VLANs",
}

// words joins lower-case words to a label with a capital in front.
func words(parts []string) string {
	written := make([]string, len(parts))
	for i, part := range parts {
		if known, ok := acronyms[part]; ok {
			written[i] = known
		} else if i == 0 && part != "" {
			written[i] = strings.ToUpper(part[:1]) + part[1:]
		} else {
			written[i] = part
		}
	}
	return strings.Join(written, " ")
}

// camelParts splits a Go name into lower-case words: ACMEAccount → acme account.
func camelParts(name string) []string {
	lower := strings.ToLower(name)
	if _, known := acronyms[lower]; known {
		return []string{lower}
	}
	isUpper := func(i int) bool { return i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	var parts []string
	start := 0
	for i := 1; i < len(name); i++ {
		if startsWord := isUpper(i) && (!isUpper(i-1) || i+1 < len(name) && !isUpper(i+1)); startsWord {
			parts = append(parts, lower[start:i])
			start = i
		}
	}
	return append(parts, lower[start:])
}
