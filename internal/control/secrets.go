package control

import (
	"context"
	"errors"
	"strings"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/pki"
	"sluis/internal/store"
	"sluis/internal/text"
)

// takeSecrets moves every secret that a document brings along into the store and
// leaves the reference. Private keys are named by their public key; passwords of
// administrators are kept as hashes alone. What was put into the store before a
// problem was found is removed by the next prune, since nothing names it.
func (c *Control) takeSecrets(doc *config.Document) config.Problems {
	problems := config.UnresolvedSources(doc)
	if problems.HasErrors() {
		return problems
	}
	problems = append(problems, pki.Intake(doc, c.o.Store.PutSecret)...)
	config.EachSecret(doc, func(path string, secret *config.Secret) {
		value, inline := secret.Inline()
		if !inline || problems.HasErrors() {
			return
		}
		kept, err := c.keepable(doc, path, value)
		if err == nil {
			ref := store.NewSecretRef()
			err = c.o.Store.PutSecret(ref, []byte(kept))
			*secret = config.NewSecret(ref)
		}
		if err != nil {
			f := AsFault(err)
			problems.Add(path, f.Message).Do(f.Hint)
		}
	})
	return problems
}

// keepable is what is kept of a secret: a hash where that is enough.
func (c *Control) keepable(doc *config.Document, path, value string) (string, error) {
	if !strings.HasPrefix(path, "administrators[") {
		return value, nil
	}
	for i := range doc.Administrators {
		if config.Within(path, "administrators["+doc.Administrators[i].Name+"]") {
			return c.o.Auth.Hash(context.Background(), doc.Administrators[i].Name, value)
		}
	}
	return "", errors.New("BUG: a password of no administrator at " + path)
}

// missingSecrets are references that the store can't follow, as after a document
// came from another machine.
func (c *Control) missingSecrets(doc *config.Document) config.Problems {
	var problems config.Problems
	config.EachSecret(doc, func(path string, secret *config.Secret) {
		if ref, ok := secret.Reference(); ok && !c.o.Store.HasSecret(ref) {
			problems.Add(path, text.M("this appliance doesn't have the value that is referred to")).
				Do(text.M("give the value itself, here or as file:PATH in a file that is loaded"))
		}
	})
	return problems
}

// Accounts are the administrators of a document as auth knows them. A document
// that names none has one all the same, so that nobody is locked out by a
// document from elsewhere: admin.
func Accounts(doc *config.Document, secret func(ref string) ([]byte, error)) ([]auth.Account, error) {
	if len(doc.Administrators) == 0 {
		return []auth.Account{{Name: ImpliedAdministrator, Role: auth.Administrator}}, nil
	}
	accounts := make([]auth.Account, 0, len(doc.Administrators))
	for _, a := range doc.Administrators {
		account := auth.Account{
			Name: a.Name, FullName: a.FullName, Role: auth.Role(a.Role), Objects: a.Objects, Disabled: a.Disabled,
		}
		if a.Expires != nil {
			account.Expires = *a.Expires
		}
		if ref, ok := a.Password.Reference(); ok {
			hash, err := secret(ref)
			if err != nil {
				return nil, err
			}
			account.PasswordRef, account.PasswordHash = ref, string(hash)
		}
		accounts = append(accounts, account)
	}
	return accounts, nil
}

// ImpliedAdministrator is the account of a document that names none.
const ImpliedAdministrator = "admin"
