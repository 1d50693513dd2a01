package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluis/internal/config"
	"sluis/internal/migrate"
)

// maxConnections is the same for every proxy. HAProxy wants two descriptors for
// each, and refuses to start if the limit (often 20000) does not allow that.
const maxConnections = 7000

// plan is what every proxy's configuration says.
type plan struct {
	dir              string // of the files
	ports            [siteKinds]int
	origin, second   int // ports of the origin in clear
	secure           int // its port with TLS
	log              int // UDP port of whoever takes log lines
	loops            int
	admin            string // Sluis's own listener
	ecdsa, rsa       string // certificates, PEM files
	ecdsaKey, rsaKey string
}

func (p plan) port(s site) int { return p.ports[s] }

// portsFrom are as many ports as there are sites, one after another.
func portsFrom(first int) (ports [siteKinds]int) {
	for i := range ports {
		ports[i] = first + i
	}
	return ports
}

// sluisDocument is Sluis's configuration, and what the others' are made after.
func (p plan) sluisDocument() string {
	return fmt.Sprintf(`format: 1
administrators:
  - {name: bench, role: administrator, password: %q}
load_balancer: {max_connections: %d, loops: %d, stats: {port: 0}}
certificates:
  - {name: ecdsa, certificate: "file:%s", key: "file:%s"}
  - {name: rsa, certificate: "file:%s", key: "file:%s"}
frontends:
  - name: plain
    binds: [{name: main, address: 127.0.0.1, port: %d}]
    default_backend: web
    forwarded: {for: false, proto: false, host: false, port: false}
    log: {enabled: false}
  - name: tls
    binds: [{name: main, address: 127.0.0.1, port: %d, tls: true}]
    tls: {certificates: [ecdsa]}
    default_backend: web
    forwarded: {for: false, proto: false, host: false, port: false}
    log: {enabled: false}
  - name: rsa
    binds: [{name: main, address: 127.0.0.1, port: %d, tls: true}]
    tls: {certificates: [rsa]}
    default_backend: web
    forwarded: {for: false, proto: false, host: false, port: false}
    log: {enabled: false}
  - name: reencrypt
    binds: [{name: main, address: 127.0.0.1, port: %d, tls: true}]
    tls: {certificates: [ecdsa]}
    default_backend: secure
    forwarded: {for: false, proto: false, host: false, port: false}
    log: {enabled: false}
  - name: features
    binds:
      - {name: tls, address: 127.0.0.1, port: %d, tls: true}
      - {name: plain, address: 127.0.0.1, port: %d}
    tls: {certificates: [ecdsa]}
    acls:
      - {name: other_host, match: host, is: [other.bench.test]}
      - {name: api, match: path, starts: [/api/]}
      - {name: robot, match: header, field: User-Agent, contains: [robot]}
      - {name: intruder, match: source, in: [192.0.2.0/24]}
    rules:
      - {name: no_intruders, when: intruder, deny: {status: 403}}
      - {name: no_robots, when: robot and not api, deny: {status: 403}}
      - {name: mark, set_header: {field: X-Site, value: bench}}
      - {name: other, when: other_host or api, use_backend: web}
    default_backend: features
    log: {enabled: true, format: httplog}
backends:
  - name: web
    servers: [{name: one, address: 127.0.0.1, port: %d}]
    idle_connections: 1000
  - name: secure
    servers: [{name: one, address: 127.0.0.1, port: %d, tls: true}]
    server_tls: {verify: none}
    idle_connections: 1000
  - name: features
    balance: leastconn
    servers:
      - {name: one, address: 127.0.0.1, port: %d, cookie: s1}
      - {name: two, address: 127.0.0.1, port: %d, cookie: s2}
    persistence: {cookie: {name: ROUTE, indirect: true, http_only: true}}
    rules:
      - {name: frame, set_header: {of: response, field: X-Frame-Options, value: SAMEORIGIN}}
      - {name: hide, remove_header: {of: response, field: Server}}
    hsts: {max_age: 300s}
    idle_connections: 1000
`, password, maxConnections, p.loops, p.ecdsa, p.ecdsaKey, p.rsa, p.rsaKey,
		p.port(sitePlain), p.port(siteTLS), p.port(siteRSA), p.port(siteReencrypt), p.port(siteFeatures), p.port(siteFeaturesPlain),
		p.origin, p.secure, p.origin, p.second)
}

// password opens the numbers of a process that nobody else can reach.
const password = "only-for-this-benchmark"

// haproxyConfig is the same document in HAProxy's words.
func (p plan) haproxyConfig() (string, error) {
	doc, problems := config.Decode([]byte(p.sluisDocument()))
	problems = append(problems, config.ResolveSources(doc, os.ReadFile, os.LookupEnv)...)
	if problems.HasErrors() {
		return "", problems
	}
	keys := map[string]string{"ecdsa": p.ecdsaKey, "rsa": p.rsaKey}
	written := migrate.HAProxy(doc, migrate.HAProxyOptions{
		CertificateDir: p.dir, Log: address(p.log) + " format rfc5424 local0",
		Key: func(certificate string) ([]byte, bool) {
			key, err := os.ReadFile(keys[certificate])
			return key, err == nil
		},
	})
	for _, l := range written.Report {
		if l.Outcome == migrate.LeftOut && !strings.Contains(l.Path, ".timeouts.") { // none of which is ever reached
			return "", fmt.Errorf("HAProxy's configuration lacks %s: %s", l.Path, l.Note)
		}
	}
	for name, data := range written.Files {
		if _, err := p.write(name, data); err != nil {
			return "", err
		}
	}
	return string(written.Config), nil
}

// nginxConfig says as much of it as nginx knows: it has no cookie that binds a
// client to a server, and so no features site.
func (p plan) nginxConfig() string {
	tls := func(name, certificate, key, upstream string, port int) string {
		return fmt.Sprintf(`    server {
        listen 127.0.0.1:%d ssl backlog=4096;
        server_name %s;
        ssl_certificate %s;
        ssl_certificate_key %s;
        location / { proxy_pass %s; }
    }
`, port, name, certificate, key, upstream)
	}
	return fmt.Sprintf(`daemon off;
master_process off;
pid %s/nginx.pid;
error_log %s/nginx.log warn;
worker_rlimit_nofile 20000;
events { worker_connections %d; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path %s/body;
    proxy_temp_path %s/proxy;
    fastcgi_temp_path %s/fastcgi;
    uwsgi_temp_path %s/uwsgi;
    scgi_temp_path %s/scgi;
    proxy_max_temp_file_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    upstream web { server 127.0.0.1:%d; keepalive 1000; keepalive_requests 1000000000; }
    upstream secure { server 127.0.0.1:%d; keepalive 1000; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:%d backlog=4096;
        location / { proxy_pass http://web; }
    }
%s%s%s}
`, p.dir, p.dir, 2*maxConnections, p.dir, p.dir, p.dir, p.dir, p.dir, p.origin, p.secure, p.port(sitePlain),
		tls(hostName, p.ecdsa, p.ecdsaKey, "http://web", p.port(siteTLS)),
		tls(hostName, p.rsa, p.rsaKey, "http://web", p.port(siteRSA)),
		tls(hostName, p.ecdsa, p.ecdsaKey, "https://secure", p.port(siteReencrypt)))
}

// makeCertificates writes the certificates that all proxies and the origin show.
func (p *plan) makeCertificates() error {
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if p.ecdsa, p.ecdsaKey, err = p.certificate("ecdsa", elliptic); err != nil {
		return err
	}
	p.rsa, p.rsaKey, err = p.certificate("rsa", long)
	return err
}

func (p *plan) certificate(name string, key crypto.Signer) (certificate, private string, err error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hostName}, DNSNames: []string{hostName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	shown := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if certificate, err = p.write(name+".crt", shown); err != nil {
		return "", "", err
	}
	private, err = p.write(name+".key", secret)
	return certificate, private, err
}

func (p *plan) write(name string, data []byte) (string, error) {
	name = filepath.Join(p.dir, name)
	return name, os.WriteFile(name, data, 0o600)
}
