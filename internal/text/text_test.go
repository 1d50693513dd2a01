package text

import (
	"encoding/json"
	"testing"
)

func TestRender(t *testing.T) {
	dutch := Catalogue{
		"no certificate named {name}": "geen certificaat met de naam {name}",
		"{who}: {why}":                "{why} ({who})",
	}
	missing := M("no certificate named {name}", "name", "ece")
	tests := []struct {
		name      string
		msg       Msg
		catalogue Catalogue
		want      string
	}{
		{"plain", M("nothing to apply"), nil, "nothing to apply"},
		{"argument", missing, nil, "no certificate named ece"},
		{"translated", missing, dutch, "geen certificaat met de naam ece"},
		{"untranslated falls back to English", M("nothing to apply"), dutch, "nothing to apply"},
		{"nested, order changed", M("{who}: {why}", "who", "ann", "why", missing), dutch, "geen certificaat met de naam ece (ann)"},
		{"missing argument stays visible", M("port {port} is taken"), nil, "port {port} is taken"},
		{"open brace", M("use { as it is {n}", "n", 1), nil, "use { as it is 1"},
		{"a value is not a template", M("{a}{b}", "a", "{b}", "b", 2), nil, "{b}2"},
		{"zero", Msg{}, dutch, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.msg.In(tt.catalogue); got != tt.want {
				t.Errorf("In() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestJSONKeepsMeaning(t *testing.T) {
	m := M("{path}: {why}", "path", "frontends[ece]", "why", M("no backend named {name}", "name", "web"))
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Msg
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.String() != m.String() {
		t.Errorf("after JSON %q, want %q", back, m)
	}
}
