package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolveSources(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
	const key = "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"
	files := map[string]string{
		"site.pem": pem, "site.key": key, "password": "pass word\r\n", "empty": " \n", "large": strings.Repeat("x", MaxSource+1),
		"binary": "0\x82\x01\xff", "reference": "secret:00112233445566778899aabbccddeeff\n", "nested": "env:PROXY",
	}
	readFile := func(name string) ([]byte, error) {
		if content, ok := files[name]; ok {
			return []byte(content), nil
		}
		return nil, errors.New("no such file")
	}
	getenv := func(name string) (string, bool) { return "from the environment\n", name == "PROXY" }
	doc := decodeAgain(t, "the document", []byte(`
system: {outgoing_proxy: {password: env:PROXY}}
administrators:
- {name: file, password: file:password}
- {name: inline, password: plain}
- {name: missing, password: file:../missing}
- {name: unset, password: env:UNSET}
- {name: empty, password: file:empty}
- {name: large, password: file:large}
- {name: binary, password: file:binary}
- {name: reference, password: file:reference}
- {name: nested, password: file:nested}
- {name: stored, password: "secret:00112233445566778899aabbccddeeff"}
certificates:
- {name: site, certificate: file:site.pem, key: file:site.key}
- {name: der, certificate: file:binary}
`))
	if got := len(UnresolvedSources(doc)); got != 12 {
		t.Errorf("%d sources are unresolved before, want 12", got)
	}
	want := strings.TrimSpace(`
administrators[missing].password: the file ../missing can't be read: no such file
administrators[unset].password: the environment variable UNSET isn't set
administrators[empty].password: the content is empty
administrators[large].password: the content is larger than 1MiB
administrators[binary].password: the content is no text; certificates and keys are taken in PEM form
administrators[reference].password: the content reads like a reference, which only a document may hold
administrators[nested].password: the content reads like a reference, which only a document may hold
certificates[der].certificate: the content is no text; certificates and keys are taken in PEM form`)
	if diff := cmp.Diff(want, ResolveSources(doc, readFile, getenv).Error()); diff != "" {
		t.Errorf("problems (-want +got)\n%s", diff)
	}
	got := []string{
		doc.System.OutgoingProxy.Password.value, doc.Administrators[0].Password.value, doc.Administrators[1].Password.value,
		doc.Certificates[0].Key.value, string(doc.Certificates[0].Certificate),
	}
	if diff := cmp.Diff([]string{"from the environment", "pass word", "plain", key, pem}, got); diff != "" {
		t.Errorf("values (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(strings.Count(want, "\n")+1, len(UnresolvedSources(doc))); diff != "" {
		t.Errorf("what couldn't be had is unresolved still (-want +got)\n%s", diff)
	}
}

func TestKeepSecrets(t *testing.T) {
	const stored = "secret:00112233445566778899aabbccddeeff"
	base := decodeAgain(t, "base", []byte(`
administrators:
- {name: anna, password: "`+stored+`"}
- {name: bert, password: plain}
- {name: carl}
- {name: eric, password: (set)}
certificates: [{name: site, key: "key:00112233445566778899aabbccddeeff"}]
`))
	next := decodeAgain(t, "next", []byte(`
administrators:
- {name: carl, password: (set)}
- {name: bert, password: (set)}
- {name: anna, password: (set)}
- {name: dora, password: new}
- {name: eric, password: (set)}
certificates: [{name: shop, key: (set)}]
`))
	const hint = ": (set) keeps a secret, but none is stored here (give the secret again; it doesn't move along when an object is renamed in a file)"
	want := "administrators[carl].password" + hint + "\nadministrators[eric].password" + hint + "\ncertificates[shop].key" + hint
	if diff := cmp.Diff(want, KeepSecrets(next, base).Error()); diff != "" {
		t.Errorf("problems (-want +got)\n%s", diff)
	}
	var got []string
	for _, a := range next.Administrators {
		got = append(got, a.Password.value)
	}
	if diff := cmp.Diff([]string{"(set)", "plain", stored, "new", "(set)"}, got); diff != "" {
		t.Errorf("passwords (-want +got)\n%s", diff)
	}
	exported := decodeAgain(t, "an export", EncodeJSON(fullDocument()))
	if problems := KeepSecrets(exported, fullDocument()); problems != nil {
		t.Errorf("an export of the document itself keeps all: %v", problems)
	}
	if diff := cmp.Diff(fullDocument(), exported, sameDocument); diff != "" {
		t.Errorf("export and load (-want +got)\n%s", diff)
	}
}
