package config

import "testing"

func TestGetBrief(t *testing.T) {
	doc := Default()
	doc.Backends = []Backend{{Name: "web"}}
	doc, problems := Set(doc, "backends[web]", []byte(`{retries: 7, servers: [{name: a, address: 192.0.2.1}]}`))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	f := func(path, want string) {
		t.Helper()
		got, problems := GetBrief(doc, path)
		if problems.HasErrors() || string(got) != want {
			t.Errorf("GetBrief(%s) = %s, %v, want %s", path, got, problems, want)
		}
	}
	f("backends[web]", "name: web\nservers:\n  - name: a\n    address: 192.0.2.1\nretries: 7\n")
	f("backends[web].retries", "7\n")
	if _, problems := GetBrief(doc, "backends[none]"); !problems.HasErrors() {
		t.Error("nothing at a path is no problem")
	}
}
