package message

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// Every name is found in any case; what differs from one in a single byte is
// found only if it is another one.
func TestLookup(t *testing.T) {
	ids := map[string]ID{}
	for id := Other + 1; id < numIDs; id++ {
		if id.String() == "" {
			t.Fatalf("ID %d has no name", id)
		}
		ids[id.String()] = id
	}
	if len(ids) != int(numIDs)-1 || numIDs > 64 {
		t.Fatalf("%d names for %d IDs, want each once and less than 64", len(ids), numIDs-1)
	}
	check := func(name string) {
		t.Helper()
		if got, want := Lookup([]byte(name)), ids[strings.ToLower(name)]; got != want {
			t.Errorf("Lookup(%q) = %v, want %v", name, got, want)
		}
	}
	for name := range ids {
		check(name)
		check(strings.ToUpper(name))
		check(http.CanonicalHeaderKey(name))
		check(name + "x")
		check(name[1:])
		for i := range name {
			for c := range 256 {
				changed := []byte(name)
				changed[i] = byte(c)
				if got, want := Lookup(changed), ids[string(asciiLower(changed))]; got != want {
					t.Errorf("Lookup(%q) = %v, want %v", changed, got, want)
				}
			}
		}
	}
	check("")
	check("x")
}

func asciiLower(b []byte) []byte {
	b = bytes.Clone(b)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

func request(pairs ...string) *Request {
	r := &Request{}
	r.Reset()
	for i := 0; i < len(pairs); i += 2 {
		r.Add([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return r
}

func fields(list []Field) string {
	var out []string
	for _, f := range list {
		if len(f.Name) > 0 {
			out = append(out, string(f.Name)+": "+string(f.Value))
		}
	}
	return strings.Join(out, ", ")
}

func TestEdit(t *testing.T) {
	r := request("Host", "a", "X-A", "1", "x-a", "2", "Cookie", "")
	r.Authority = []byte("a")
	check := func(what, want string) {
		t.Helper()
		if got := fields(r.Fields); got != want {
			t.Errorf("after %s: %s, want %s", what, got, want)
		}
	}
	if got := r.Get(Cookie); got == nil || len(got) != 0 {
		t.Errorf("Get(Cookie) = %v, want an empty value that is there", got)
	}
	if got := r.Find("x-a"); string(got) != "1" {
		t.Errorf("Find(x-a) = %q, want the first", got)
	}
	if r.Get(Other) != nil || r.Remove(Other) != 0 || r.Find("") != nil {
		t.Error("Other names no field")
	}
	r.Set([]byte("X-a"), []byte("3"))
	check("Set", "Host: a, X-A: 3, Cookie: ")
	r.Add([]byte("HOST"), []byte("b"))
	check("adding a Host", "Host: b, X-A: 3, Cookie: ")
	if got := string(r.Authority); got != "b" {
		t.Errorf("Authority = %q after Host was set, want b", got)
	}
	if n := r.Remove(Host) + r.RemoveName("host"); n != 0 {
		t.Errorf("Host was removed %d times, want never", n)
	}
	if n := r.RemoveName("x-a") + r.RemoveName("x-a"); n != 1 {
		t.Errorf("RemoveName removed %d, want 1 and then none", n)
	}
	if n := r.Remove(Cookie); n != 1 || r.Has("cookie") {
		t.Errorf("Remove(Cookie) = %d, want 1", n)
	}
	r.Set([]byte("X-A"), []byte("4"))
	check("setting what was removed", "Host: b, X-A: 4")
}

func TestEditAllocates(t *testing.T) {
	r := request("Host", "a", "X-A", "1")
	name, value := []byte("X-B"), []byte("v")
	got := testing.AllocsPerRun(100, func() {
		r.Reset()
		r.Add(name, value)
		r.Set(name, value)
		r.RemoveName("x-b")
		r.Remove(Cookie)
		r.SetTarget(value)
	})
	if got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func TestAuthority(t *testing.T) {
	f := func(authority, host, port string) {
		t.Helper()
		r := &Request{Authority: []byte(authority)}
		if string(r.Host()) != host || string(r.Port()) != port {
			t.Errorf("%q: host %q, port %q, want %q, %q", authority, r.Host(), r.Port(), host, port)
		}
	}
	f("", "", "")
	f("Shop.example", "Shop.example", "")
	f("shop.example.:8443", "shop.example", "8443")
	f("shop.example.", "shop.example", "")
	f("shop:", "shop", "")
	f("127.0.0.1", "127.0.0.1", "")
	f("[::1]", "[::1]", "")
	f("[::1]:80", "[::1]", "80")
	f("12345", "12345", "")
	f(".", ".", "")
}

func TestSetTarget(t *testing.T) {
	f := func(target, path, query string, has bool) {
		t.Helper()
		r := &Request{}
		r.SetTarget([]byte(target))
		if string(r.Path) != path || string(r.Query) != query || r.HasQuery != has {
			t.Errorf("%q: path %q, query %q, %v", target, r.Path, r.Query, r.HasQuery)
		}
	}
	f("/a/b", "/a/b", "", false)
	f("/a?", "/a", "", true)
	f("/a?b?c", "/a", "b?c", true)
	f("*", "*", "", false)
}

func TestTokens(t *testing.T) {
	f := func(value string, want ...string) {
		t.Helper()
		var got []string
		Tokens([]byte(value), func(b []byte) bool { got = append(got, string(b)); return true })
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("Tokens(%q) = %q, want %q", value, got, want)
		}
	}
	f("")
	f(" ,\t,")
	f("a", "a")
	f(" a ,b,, c\t", "a", "b", "c")
	f(`private="a, b", x`, `private="a, b"`, "x")
	f(`"a\", b", c`, `"a\", b"`, "c")
	f(`"a, b`, `"a, b`)
	if !HasToken([]byte("gzip, Trailers"), "trailers") || HasToken([]byte("xtrailers"), "trailers") {
		t.Error("HasToken compares whole members in any case")
	}
}

func TestStatusText(t *testing.T) {
	for status := -1; status < 1000; status++ {
		got, want := StatusText(status), http.StatusText(status)
		switch status {
		case 413:
			want = "Content Too Large" // RFC 9110; net/http has the older names
		case 414:
			want = "URI Too Long"
		case 416:
			want = "Range Not Satisfiable"
		case 422:
			want = "Unprocessable Content"
		case 418:
			want = ""
		}
		if got != want {
			t.Errorf("StatusText(%d) = %q, want %q", status, got, want)
		}
	}
}

func TestEqualFold(t *testing.T) {
	for c := range 256 {
		for _, l := range []byte("az-09_~") {
			want := asciiLower([]byte{byte(c)})[0] == l
			if got := EqualFold([]byte{byte(c)}, string(l)); got != want {
				t.Errorf("EqualFold(%q, %q) = %v", byte(c), l, got)
			}
			if got := EqualFoldBytes([]byte{byte(c)}, []byte{l}); got != want {
				t.Errorf("EqualFoldBytes(%q, %q) = %v", byte(c), l, got)
			}
		}
	}
}
