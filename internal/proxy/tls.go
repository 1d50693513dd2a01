package proxy

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sluis/internal/config"
	"sluis/internal/proxy/rule"
	"sluis/internal/proxy/tlsio"
	"sluis/internal/text"
)

// certificateTable is what a frontend's handshakes choose from.
type certificateTable struct {
	first *tls.Certificate
	// exact are the certificates by host name, wildcards by the domain below the star.
	exact, wildcards map[string]*tls.Certificate
	// names are all names of all certificates, for the host rule.
	names []string
}

// load makes the table from the certificates in effect.
func (i *certificateIndex) load(certificate func(string) *tls.Certificate) (*certificateTable, error) {
	t := &certificateTable{exact: map[string]*tls.Certificate{}, wildcards: map[string]*tls.Certificate{}}
	for _, name := range i.names {
		c := certificate(name)
		if c == nil {
			return nil, fmt.Errorf("certificate %s is not there", name)
		}
		leaf := c.Leaf
		if leaf == nil {
			var err error
			if leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
				return nil, fmt.Errorf("certificate %s: %w", name, err)
			}
		}
		if t.first == nil {
			t.first = c
		}
		t.add(c, leaf)
	}
	if t.first == nil {
		return nil, errors.New("there is no certificate")
	}
	return t, nil
}

// add enters a certificate by its names; an earlier one keeps a name.
func (t *certificateTable) add(c *tls.Certificate, leaf *x509.Certificate) {
	for _, name := range leaf.DNSNames {
		t.names = append(t.names, name)
		in, key := t.exact, strings.ToLower(strings.TrimSuffix(name, "."))
		if domain, ok := strings.CutPrefix(key, "*."); ok {
			in, key = t.wildcards, domain
		}
		if in[key] == nil {
			in[key] = c
		}
	}
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			t.names = append(t.names, a.Unmap().String())
		}
	}
}

// choose is the certificate for a name in a handshake; known is false where none
// has that name and the first one stands in.
func (t *certificateTable) choose(name string) (c *tls.Certificate, known bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if c := t.exact[name]; c != nil {
		return c, true
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		if c := t.wildcards[domain]; c != nil {
			return c, true
		}
	}
	return t.first, false
}

// errNoSuchName ends handshakes that name no host which a certificate has.
var errNoSuchName = errors.New("no certificate has the name in the handshake")

// serverTLS is how a frontend's TLS binds speak.
func (c *compiler) serverTLS(fe *frontend, t *config.FrontendTLS) (_ *tls.Config, demands string) {
	p, index, strict := c.p, fe.certificates, t.RequireSNI
	cfg := &tls.Config{
		MinVersion: versionOf(t.MinVersion), MaxVersion: versionOf(t.MaxVersion),
		CipherSuites: cipherSuites(t.CipherSuites), DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate, known := index.current.Load().choose(hello.ServerName)
			if !known && hello.ServerName != "" {
				fe.live.asked.note(hello.ServerName, time.Now())
			}
			if strict && !known {
				return nil, errNoSuchName
			}
			return tlsio.Bind(hello, certificate, p.signers), nil
		},
	}
	if p.options.ALPNChallenge != nil {
		cfg.GetConfigForClient = p.challengeConfig
	}
	for _, protocol := range t.ALPN {
		if protocol == "http/1.1" {
			cfg.NextProtos = append(cfg.NextProtos, protocol)
		}
	}
	identity := "tls\x00" + fe.name
	if k := t.ClientCertificates; k != nil {
		identity += "\x00" + string(k.Mode)
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if k.Mode == config.ClientCertificateRequired {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
		cfg.ClientCAs = x509.NewCertPool()
		for _, name := range k.Authorities {
			pem := c.authority(name, "frontends["+fe.name+"].tls.client_certificates.authorities")
			cfg.ClientCAs.AppendCertsFromPEM([]byte(pem))
			identity += "\x00" + name + "\x00" + pem
		}
	}
	// A ticket is good at its own frontend alone (joinTickets): resuming must not
	// carry a client past another one's demand for a certificate.
	return tlsio.Prepare(cfg), identity
}

// authority is the certificate of an authority that somebody is held to. One that
// this very change makes isn't there yet: without it nobody would be let in.
func (c *compiler) authority(name, path string) string {
	pem := c.authorityText(name)
	if pem == "" {
		c.problems.Add(path, text.M("the authority {name} has no certificate yet: it is made when it is applied", "name", name)).
			Do(text.M("apply the authority first, and then what it is to vouch for"))
	}
	return pem
}

// authorityText is an authority's certificate as PEM text; empty = there is none yet.
func (c *compiler) authorityText(name string) string {
	if ask := c.p.options.Authority; ask != nil {
		if pem := ask(name); pem != "" {
			return pem
		}
	}
	for _, a := range c.doc.Authorities {
		if a.Name == name {
			return string(a.Certificate)
		}
	}
	return ""
}

func versionOf(v config.TLSVersion) uint16 {
	if v == config.TLS13 {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func cipherSuites(names []string) []uint16 {
	var ids []uint16
	for _, s := range tls.CipherSuites() {
		if slices.Contains(names, s.Name) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// ways gives for each server of a backend the way in which it is spoken to. One
// that is as before stays the same, so that idle connections stay in use.
func (c *compiler) ways(b *config.Backend, path string) func(*config.Server) *way {
	before := map[string]*way{}
	if c.previous != nil && c.previous.backends[b.Name] != nil {
		for _, s := range c.previous.backends[b.Name].servers {
			before[s.way.key] = s.way
		}
	}
	t := b.ServerTLS
	roots, pem := c.roots(&t, path)
	return func(s *config.Server) *way {
		w := &way{proxy: proxyVersion(s.SendProxy)}
		w.key = string(s.SendProxy)
		if s.TLS {
			own := ownName(s)
			sni := nameFor(t.SNI, own)
			w.sniOfHost = t.SNI == "{host}"
			verify := nameFor(t.Name, own)
			if verify == "" {
				verify = sni
			}
			w.key += strings.Join([]string{"", s.Name, string(t.Verify), sni, verify, t.SNI, string(t.MinVersion), t.ClientCertificate, pem}, "\x00")
			w.tls = c.clientTLS(&t, sni, verify, roots)
		}
		if same := before[w.key]; same != nil {
			return same
		}
		before[w.key] = w
		return w
	}
}

// ownName is a server's own host name.
func ownName(s *config.Server) string {
	if s.Host != "" {
		return s.Host
	}
	return s.Address
}

// nameFor fills a server's own name in.
func nameFor(s, own string) string {
	switch s {
	case "", "{server}":
		return own
	case "{host}":
		return ""
	}
	return s
}

// roots are the authorities that vouch for servers; nil = nobody must.
func (c *compiler) roots(t *config.ServerTLS, path string) (*x509.CertPool, string) {
	var all strings.Builder
	switch t.Verify {
	case config.VerifyAuthority:
		all.WriteString(c.authority(t.Authority, path+".server_tls.authority"))
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(all.String()))
		return pool, all.String()
	case config.VerifySystem:
		pool, err := x509.SystemCertPool()
		if err != nil {
			c.problems.Warn(path+".server_tls.verify", text.M("this machine's list of authorities can't be read: {reason}", "reason", err))
			pool = x509.NewCertPool()
		}
		for _, a := range c.doc.Authorities {
			if a.Trust {
				pem := c.authorityText(a.Name) // one that is made now is trusted from the next change on
				all.WriteString(pem)
				pool.AppendCertsFromPEM([]byte(pem))
			}
		}
		return pool, all.String()
	}
	return nil, ""
}

// clientTLS is how a server with TLS is spoken to. crypto/tls never renegotiates
// unless told to, and sends no address as a name (RFC 6066 section 3).
func (c *compiler) clientTLS(t *config.ServerTLS, sni, verify string, roots *x509.CertPool) *tls.Config {
	cfg := &tls.Config{
		MinVersion: versionOf(t.MinVersion), ServerName: sni, RootCAs: roots, DynamicRecordSizingDisabled: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
	switch {
	case t.Verify == config.VerifyNone:
		cfg.InsecureSkipVerify = true
	case verify != sni:
		cfg.InsecureSkipVerify = true // VerifyConnection does it, with the other name
		cfg.VerifyConnection = verifyAs(verify, roots)
	}
	if name := t.ClientCertificate; name != "" {
		certificate := c.p.options.Certificate
		signers := c.p.signers
		cfg.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if found := certificate(name); found != nil {
				return tlsio.BindClient(asked, found, signers), nil
			}
			return nil, fmt.Errorf("certificate %s is not there", name)
		}
	}
	return cfg
}

// verifyAs verifies a server's certificate for another name than the one that was
// sent. It runs for resumed sessions too.
func verifyAs(name string, roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		intermediates := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			intermediates.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates})
		return err
	}
}

func proxyVersion(v config.ProxyProtocol) proxyProtocol {
	switch v {
	case config.ProxyV1:
		return proxyV1
	case config.ProxyV2:
		return proxyV2
	}
	return proxyOff
}

// ticketKeys are the keys of session tickets, the same in all loops and over
// snapshots. One is new each day; the former ones still open tickets.
type ticketKeys struct {
	mu      sync.Mutex
	masters [][32]byte // newest first
	made    time.Time
	members []ticketMember
}

type ticketMember struct {
	cfg      *tls.Config
	identity string
}

const (
	ticketLife = 24 * time.Hour
	ticketsOld = 3 // how many days a ticket stays good, as crypto/tls's own do
)

// join gives a configuration its keys, now and at every change of them. It may be
// called again.
func (k *ticketKeys) join(cfg *tls.Config, identity string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.ContainsFunc(k.members, func(m ticketMember) bool { return m.cfg == cfg }) {
		return
	}
	if len(k.masters) == 0 {
		k.renew(time.Now())
	}
	cfg.SetSessionTicketKeys(k.derived(identity))
	k.members = append(k.members, ticketMember{cfg, identity})
}

// keep forgets the configurations that no snapshot has any more.
func (k *ticketKeys) keep(used func(*tls.Config) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.members = slices.DeleteFunc(k.members, func(m ticketMember) bool { return !used(m.cfg) })
}

// rotate makes a new key where the newest is a day old.
func (k *ticketKeys) rotate(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.masters) == 0 || now.Sub(k.made) < ticketLife {
		return
	}
	k.renew(now)
	for _, m := range k.members {
		m.cfg.SetSessionTicketKeys(k.derived(m.identity))
	}
}

func (k *ticketKeys) renew(now time.Time) {
	var master [32]byte
	_, _ = rand.Read(master[:]) // never fails
	k.masters = append([][32]byte{master}, k.masters[:min(len(k.masters), ticketsOld-1)]...)
	k.made = now
}

// derived are the keys of one frontend.
func (k *ticketKeys) derived(identity string) [][32]byte {
	keys := make([][32]byte, len(k.masters))
	for i, master := range k.masters {
		key, err := hkdf.Key(sha256.New, master[:], nil, "sluis session tickets\x00"+identity, 32)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		copy(keys[i][:], key)
	}
	return keys
}

// hostsOf are the names that a frontend's requests may ask for.
func hostsOf(t *certificateTable) *rule.HostNames { return rule.NewHostNames(t.names) }
