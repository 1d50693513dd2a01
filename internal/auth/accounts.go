package auth

import (
	"cmp"
	"slices"
)

// Accounts are the accounts of the last SetAccounts, by name: what an undo gives
// back to it.
func (a *Auth) Accounts() []Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Account, 0, len(a.accounts))
	for _, account := range a.accounts {
		list = append(list, account)
	}
	slices.SortFunc(list, func(x, y Account) int { return cmp.Compare(x.Name, y.Name) })
	return list
}
