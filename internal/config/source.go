package config

import (
	"reflect"
	"strings"
	"unicode/utf8"

	"sluis/internal/text"
)

// MaxSource is the most bytes that a file or environment variable may hold that
// a document names as the source of a value.
const MaxSource = 1 << 20

var pemType = reflect.TypeFor[PEM]()

// KeepSecrets puts the secrets of base where next says "(set)" at the same path,
// and reports each place where base has none: a secret doesn't move along when
// its object was renamed or moved to another one.
func KeepSecrets(next, base *Document) Problems {
	if !keeps(reflect.ValueOf(next).Elem()) {
		return nil
	}
	var problems Problems
	stored := secretsOf(base)
	EachSecret(next, func(path string, s *Secret) {
		if !s.Keep() {
			return
		}
		if kept, ok := stored[path]; ok {
			*s = kept
			return
		}
		problems.Add(path, text.M("(set) keeps a secret, but none is stored here")).
			Do(text.M("give the secret again; it doesn't move along when an object is renamed in a file"))
	})
	return problems
}

// keeps reports whether a secret in a value says to keep what is stored.
func keeps(v reflect.Value) bool {
	switch {
	case v.Kind() == reflect.Pointer:
		return !v.IsNil() && keeps(v.Elem())
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			if keeps(v.Index(i)) {
				return true
			}
		}
	case v.Type() == secretType:
		return v.Interface().(Secret).Keep()
	case isObject(v.Type()):
		for _, p := range properties(v.Type()) {
			if keeps(v.Field(p.index)) {
				return true
			}
		}
	}
	return false
}

func secretsOf(doc *Document) map[string]Secret {
	secrets := map[string]Secret{}
	EachSecret(doc, func(path string, s *Secret) {
		if !s.Keep() {
			secrets[path] = *s
		}
	})
	return secrets
}

// eachSource visits every value that may name a file or environment variable as
// its source, and does.
func eachSource(doc *Document, visit func(path, kind, name string, value reflect.Value)) {
	walkDocument(doc, func(n *node) bool {
		var kind, name string
		switch n.value.Type() {
		case secretType:
			kind, name = n.value.Interface().(Secret).Source()
		case pemType:
			kind, name = source(n.value.String())
		}
		if kind != "" {
			visit(n.path, kind, name, n.value)
		}
		return true
	})
}

// UnresolvedSources reports every file: and env: that is left in a document. None
// may be when it is stored: the machine that reads it back has neither.
func UnresolvedSources(doc *Document) Problems {
	var problems Problems
	eachSource(doc, func(path, kind, _ string, _ reflect.Value) {
		problems.Add(path, text.M("{kind}: can't stand in a document that is stored", "kind", kind)).
			Do(text.M("load the document from its file, or give the value itself"))
	})
	return problems
}

// ResolveSources puts the content of files and environment variables in the
// place of file:NAME and env:NAME, in secrets and PEM texts. Names are passed on
// as they stand: who calls decides what a relative one is relative to. What
// can't be had stays as it is and is reported.
func ResolveSources(doc *Document, readFile func(name string) ([]byte, error), getenv func(name string) (string, bool)) Problems {
	var problems Problems
	eachSource(doc, func(path, kind, name string, value reflect.Value) {
		content, message := readSource(kind, name, readFile, getenv)
		if message.IsZero() {
			message = checkSource(content)
		}
		if message.IsZero() && value.Type() == secretType {
			message = checkSecret(content)
		}
		switch {
		case !message.IsZero():
			problems.Add(path, message)
		case value.Type() == pemType:
			value.SetString(content)
		default:
			value.Set(reflect.ValueOf(NewSecret(secretContent(content))))
		}
	})
	return problems
}

func readSource(kind, name string, readFile func(string) ([]byte, error), getenv func(string) (string, bool)) (string, text.Msg) {
	if kind == "env" {
		content, set := getenv(name)
		if !set {
			return "", text.M("the environment variable {name} isn't set", "name", name)
		}
		return content, text.Msg{}
	}
	content, err := readFile(name)
	if err != nil {
		return "", text.M("the file {name} can't be read: {reason}", "name", name, "reason", err)
	}
	return string(content), text.Msg{}
}

// checkSource refuses content that can't be a value. The content itself is never
// shown: it may be a key.
func checkSource(content string) text.Msg {
	switch {
	case len(content) > MaxSource:
		return text.M("the content is larger than {limit}", "limit", Size(MaxSource))
	case strings.TrimSpace(content) == "":
		return text.M("the content is empty")
	case !utf8.ValidString(content) || strings.Contains(content, "\x00"):
		return text.M("the content is no text; certificates and keys are taken in PEM form")
	default:
		return text.Msg{}
	}
}

// checkSecret refuses content that would be taken for a reference or another
// source.
func checkSecret(content string) text.Msg {
	if _, inline := NewSecret(secretContent(content)).Inline(); !inline {
		return text.M("the content reads like a reference, which only a document may hold")
	}
	return text.Msg{}
}

// secretContent drops the line end that editors put behind a password. PEM text
// keeps its own.
func secretContent(content string) string {
	if strings.Contains(content, "-----BEGIN ") {
		return content
	}
	return strings.TrimRight(content, "\r\n")
}
