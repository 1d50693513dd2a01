package config

import (
	"regexp"
	"strings"
	"testing"
)

func TestManualMentionsEveryField(t *testing.T) {
	manual := Manual()
	heading := regexp.MustCompile("^##+ `(.+)`: ")
	row := regexp.MustCompile("^\\| `([a-z0-9_]+)` \\|")
	word := regexp.MustCompile("^- `([^`]+)`")
	mentioned := map[string]bool{}
	places, words := []string{""}, "" // where the section that is read stands; the place whose words are listed
	for line := range strings.Lines(manual) {
		line = strings.TrimSuffix(line, "\n")
		if found := heading.FindStringSubmatch(line); found != nil {
			places = []string{found[1]}
		}
		if others, ok := strings.CutPrefix(line, "It stands at `"); ok {
			others, _ = strings.CutSuffix(others, "`, too.")
			places = append(places, strings.Split(others, "`, `")...)
		}
		if strings.HasSuffix(line, " is one of:") {
			words = strings.Split(line, "`")[1]
		}
		if strings.HasPrefix(line, "| ") {
			if cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); cells != 6 {
				t.Errorf("a row of %d cells: %s", cells-1, line)
			}
		}
		for _, place := range places {
			if found := row.FindStringSubmatch(line); found != nil {
				mentioned[join(place, found[1])] = true
			}
			if found := word.FindStringSubmatch(line); found != nil {
				mentioned[join(place, words)+"="+found[1]] = true
			}
		}
	}
	for _, f := range Fields() {
		if !mentioned[f.Path] {
			t.Errorf("%s isn't mentioned", f.Path)
		}
		for _, v := range f.Values {
			if !mentioned[f.Path+"="+v.Value] {
				t.Errorf("the word %s of %s isn't mentioned", v.Value, f.Path)
			}
		}
	}
}

func TestManualRows(t *testing.T) {
	manual := Manual()
	for _, want := range []string{
		"| `port` | integer | `8443` | 1 to 65535 | Port is where they listen; choose another than 443 when sites use that. |\n",
		"| `certificate` | name in `certificates` |  |  | Certificate is shown",
		"itself. Only where `protocol` is `https`. |\n",
		"Only where `protocol` is `tcp` or `udp` or `tcp_udp`. |\n",
		"| `servers` | list: name in the `servers` of the `backend` given here | none |  |",
		"| `use_server` | name in the `servers` of the same entry of `backends` |  |  |",
		"| `tls` | see `frontends[].tls` | absent |  |",
		"| `binds` | list: see `frontends[].binds[]` | must be given |  |",
		"| `content_type` | text | `text/html; charset=utf-8` |  |",
		"| `pass_list` | list: text, `alias:NAME` | none |  |",
		"| `threshold` | integer | `10` | 3 to 1000 wrong logins |",
		"Each of `days` is one of:\n\n- `monday`\n- `tuesday`\n",
		"- `leastconn`: the one with the fewest connections, by weight\n",
	} {
		if !strings.Contains(manual, want) {
			t.Errorf("the manual lacks %q", want)
		}
	}
	for want, f := range map[string]Field{"from 1 s": {Min: "1", Unit: "s"}, "up to 9": {Max: "9"}, "": {}} {
		if got := rangeOf(f); got != want {
			t.Errorf("rangeOf(%+v) = %q, want %q", f, got, want)
		}
	}
	if got, want := cell("a|b"), `a\|b`; got != want {
		t.Errorf("cell = %q, want %q", got, want)
	}
}
