package rule

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"sluis/internal/proxy/message"
)

// maxCredentials bounds name and password together, in base64.
const maxCredentials = 1024

// auth asks for a name and password (RFC 7617).
type auth struct {
	realm     string
	challenge []byte // the value of WWW-Authenticate
	users     [][sha256.Size]byte
}

func newAuth(spec *BasicAuth) (auth, error) {
	a := auth{realm: spec.Realm}
	if len(spec.Users) == 0 {
		return a, fmt.Errorf("nobody may pass: there are no users")
	}
	if !isValue(spec.Realm) {
		return a, fmt.Errorf("the realm holds a control character")
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(spec.Realm)
	a.challenge = []byte(`Basic realm="` + quoted + `", charset="UTF-8"`)
	for _, u := range spec.Users {
		if strings.Contains(u.Name, ":") {
			return a, fmt.Errorf("the name %q holds a colon (RFC 7617 section 2)", u.Name)
		}
		a.users = append(a.users, sha256.Sum256([]byte(u.Name+":"+u.Password)))
	}
	return a, nil
}

// pass reports whether a request carries the name and password of a user. It
// takes the same time whoever the user is, and whether there is one.
func (a *auth) pass(r *message.Request) bool {
	var field []byte
	for i := range r.Fields {
		if f := &r.Fields[i]; f.ID == message.Authorization && len(f.Name) > 0 {
			if field != nil {
				return false // one too many: who knows which of them the server reads
			}
			field = f.Value
		}
	}
	const scheme = "basic "
	if len(field) < len(scheme) || !message.EqualFold(field[:len(scheme)], scheme) {
		return false
	}
	token := message.Trim(field[len(scheme):])
	if len(token) > maxCredentials {
		return false
	}
	var room [maxCredentials]byte
	n, err := base64.StdEncoding.Decode(room[:], token)
	if err != nil {
		return false
	}
	given := sha256.Sum256(room[:n])
	found := 0
	for i := range a.users {
		found |= subtle.ConstantTimeCompare(given[:], a.users[i][:])
	}
	return found == 1
}
