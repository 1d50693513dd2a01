package health

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"time"

	"sluis/internal/config"
	"sluis/internal/text"
)

const (
	// maxKept is how much of a request and of an answer a transcript keeps.
	maxKept = 4 << 10
	// maxAnswer is how much of an answer is read.
	maxAnswer = 64 << 10
	// maxCertificates is how many certificates of a chain a transcript keeps.
	maxCertificates = 4
)

// Transcript is one probe from beginning to end. It is never changed once made.
type Transcript struct {
	Start time.Time      `json:"start"`
	To    netip.AddrPort `json:"to"`
	Good  bool           `json:"good"`
	Code  Code           `json:"code"`
	// HTTPStatus is the answer's status; 0 = there was none.
	HTTPStatus int      `json:"http_status,omitempty"`
	Reason     text.Msg `json:"reason"`
	// Error is the system's or the library's own word for what went wrong.
	Error string `json:"error,omitempty"`

	// Request and Response are the first bytes of what was sent and received, with
	// TLS those inside of it; the sizes are those of the whole, as far as read.
	Request      string `json:"request,omitempty"`
	RequestSize  int    `json:"request_size"`
	Response     string `json:"response,omitempty"`
	ResponseSize int    `json:"response_size"`

	// Connect, Handshake and FirstByte are how long each phase took: until there was
	// a connection, then TLS, then the first byte of the answer; 0 = not reached.
	Connect   config.Duration `json:"connect"`
	Handshake config.Duration `json:"handshake"`
	FirstByte config.Duration `json:"first_byte"`
	Total     config.Duration `json:"total"`

	// TLS is what the handshake showed; nil = there was none.
	TLS *TLSFacts `json:"tls,omitempty"`

	// shortage says that this machine lacked something: it is no verdict.
	shortage bool
}

// TLSFacts is what a handshake showed, also where it was then refused.
type TLSFacts struct {
	Version      string             `json:"version,omitempty"` // TLS 1.3
	Cipher       string             `json:"cipher,omitempty"`
	ServerName   string             `json:"server_name"` // as sent; empty = none was
	Certificates []CertificateFacts `json:"certificates"`
}

// CertificateFacts is what stands in a certificate.
type CertificateFacts struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names,omitempty"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 in hexadecimal
}

func tlsFacts(state *tls.ConnectionState, serverName string) *TLSFacts {
	f := &TLSFacts{Version: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), ServerName: serverName}
	for i, c := range state.PeerCertificates {
		if i == maxCertificates {
			break
		}
		f.Certificates = append(f.Certificates, certificateFacts(c))
	}
	return f
}

func certificateFacts(c *x509.Certificate) CertificateFacts {
	sum := sha256.Sum256(c.Raw)
	names := c.DNSNames[:min(len(c.DNSNames), 32)]
	for i := 0; i < len(c.IPAddresses) && len(names) < 32; i++ {
		names = append(names[:len(names):len(names)], c.IPAddresses[i].String())
	}
	return CertificateFacts{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: names,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Fingerprint: hex.EncodeToString(sum[:]),
	}
}

// recorder notes what passes over a connection.
type recorder struct {
	net.Conn
	sent, received         []byte // the first maxKept bytes of each
	sentSize, receivedSize int
	firstByte              time.Time // zero = nothing has come
	ended                  bool      // the server has closed its side
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	if n > 0 {
		if r.receivedSize == 0 {
			r.firstByte = time.Now()
		}
		r.receivedSize += n
		r.received = keep(r.received, b[:n])
	}
	r.ended = r.ended || err == io.EOF
	return n, err
}

func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.Conn.Write(b)
	r.sentSize += n
	r.sent = keep(r.sent, b[:n])
	return n, err
}

func keep(kept, b []byte) []byte {
	return append(kept, b[:min(len(b), maxKept-len(kept))]...)
}
