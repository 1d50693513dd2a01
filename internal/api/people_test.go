package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"sluis/internal/auth"
)

// A handover begins a session without other credentials, once.
func TestLoginByHandover(t *testing.T) {
	b := start(t, initial(t), loopback)
	must(t, b.auth.SetPassword(t.Context(), "ann", password, ""))
	identity, err := b.auth.Basic(t.Context(), "ann", password, auth.Local())
	must(t, err)
	unix := &http.Client{Transport: b.local().transport}
	ways := map[string]func(body string) reply{
		"unix":    func(body string) reply { return ask(t, unix, "POST", "http://sluis"+base+"/login/handover", body) },
		"network": func(body string) reply { return ask(t, b.browser(), "POST", b.url("/login/handover"), body) },
	}
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			secret, err := b.auth.Handover(identity)
			must(t, err)
			body := `{"handover":"` + secret + `"}`
			var answer LoginAnswer
			must(t, json.Unmarshal(send(body).want(t, 200).body, &answer))
			if answer.Account != "ann" || answer.Role != auth.Administrator || answer.MustChangePassword || answer.Ends.IsZero() {
				t.Errorf("answer = %+v", answer)
			}
			ask(t, b.browser(), "GET", b.url("/whoami"), "", "Authorization", "Bearer "+answer.Token).want(t, 200)
			send(body).want(t, 401)
			send(`{"handover":"guess"}`).want(t, 401)
		})
	}
}
