package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"

	"sluis/internal/proxy/message"
	"sluis/internal/proxy/tlsio"
)

// An authority that issues certificates by ACME asks the frontends whether a name
// is ours: for a file in clear (RFC 8555 section 8.3), or in a handshake of its own
// kind (RFC 8737). Both questions are answered before any rule of the site.

var challengePath = []byte("/.well-known/acme-challenge/")

const (
	// maxToken bounds a token; authorities use 43 characters.
	maxToken = 128
	// acmeProtocol is what the handshake of a challenge offers, alone (RFC 8737 section 4).
	acmeProtocol = "acme-tls/1"
)

// answersChallenge answers the question for a token that was given to us. A path
// with another token is the site's own.
func (x *exchange) answersChallenge() bool {
	token, ours := bytes.CutPrefix(x.w.request.Path, challengePath)
	ask := x.w.proxy.options.HTTPChallenge
	if !ours || ask == nil || x.method != message.GET && x.method != message.HEAD || !isToken(token) {
		return false
	}
	body, ok := ask(string(token))
	if !ok {
		return false
	}
	x.fe.live.of(x.w.index).Challenges.add(1)
	x.reason = "answered a certificate authority's challenge"
	x.termination[0], x.termination[1] = endLocal, atRequest
	x.say(200, errorPage{contentType: "application/octet-stream", body: body}, nil, nil)
	return true
}

// isToken tells whether b is base64url without padding (RFC 8555 section 8.3).
func isToken(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxToken
}

// errNoChallenge ends handshakes that ask for a challenge that nobody gave us.
var errNoChallenge = errors.New("no challenge is open for the name in the handshake")

// challengeConfig is for handshakes of the challenge alone; nil for all others,
// which go on with the frontend's own.
func (p *Proxy) challengeConfig(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmeProtocol {
		return nil, nil
	}
	certificate := p.options.ALPNChallenge(hello.ServerName)
	if certificate == nil {
		return nil, errNoChallenge
	}
	return tlsio.Prepare(&tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acmeProtocol},
		Certificates: []tls.Certificate{*certificate}, SessionTicketsDisabled: true,
	}), nil
}
