// Package demo is what "sluis demo" shows Sluis with: three web servers that
// behave like the ones of a contact centre, visitors who chat and click, and the
// control room, a page on which a stranger stops servers and applies changes and
// sees what the visitors notice of it.
//
// It promises that what it counts has really happened: chats are WebSockets over
// real TLS through the site's address, a chat that is closed is noticed by its
// visitor, and every answer is held against what was asked for. It promises that
// nothing here listens anywhere but on the addresses that it is given, and that
// Close ends every connection and every goroutine.
//
// It is no part of the product: nothing that runs in production imports it. It
// knows nothing of Sluis either. What the control room's buttons do comes as
// funcs (Actions), so that main decides how a change is made.
//
// Reading order: authority.go (certificates), websocket.go (RFC 6455, both
// sides), server.go (a web server), chats.go and requests.go (visitors), story.go
// (what happened, in words), room.go (the control room).
package demo

import (
	"net/http"
	"strings"
)

// serverField is the header field in which each demo server names itself.
const serverField = "X-Demo-Server"

// addHeaders sets what keeps a page to itself: no other site's page may frame it,
// read it or feed it scripts.
func addHeaders(h http.Header, connect string) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "+connect+
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// onlyOwnPages refuses requests that another site's page has a browser send:
// those under a name that is not ours (a DNS name that was turned to this
// machine), and those that change something and come from elsewhere.
func onlyOwnPages(address string, next http.Handler) http.Handler {
	_, port, _ := strings.Cut(address, ":")
	hosts := map[string]bool{address: true, "localhost:" + port: true}
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hosts[strings.ToLower(r.Host)] {
			http.Error(w, "This page answers at http://"+address+" alone.", http.StatusMisdirectedRequest)
			return
		}
		if err := origins.Check(r); err != nil {
			http.Error(w, "Another site's page may not do this.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
