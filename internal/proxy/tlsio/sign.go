package tlsio

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"

	"sluis/internal/proxy/loop"
)

// ErrPoolFull ends a handshake whose signature the pool refused; the pool counts
// it (PoolStats.Refused). crypto/tls keeps its text alone in the handshake's error.
var ErrPoolFull = errors.New("too many signatures wait")

// Bind makes a certificate for one handshake, for tls.Config.GetCertificate: an
// RSA key (1 ms a signature for 2048 bits, 7 ms for 4096) signs in the pool while
// the handshake is parked. ECDSA and Ed25519 take less than a hand-over costs
// and stay in the loop; their certificates are returned as they are. Handshakes
// that are not those of a Conn get the certificate as it is, too.
//
// A bound RSA key signs and does not decrypt: cipher suites with RSA key exchange
// (off by default in crypto/tls, no forward secrecy) do not work with it.
func Bind(hello *tls.ClientHelloInfo, cert *tls.Certificate, p *loop.Pool) *tls.Certificate {
	return bind(hello.Context(), cert, p)
}

// BindClient is Bind for tls.Config.GetClientCertificate.
func BindClient(asked *tls.CertificateRequestInfo, cert *tls.Certificate, p *loop.Pool) *tls.Certificate {
	return bind(asked.Context(), cert, p)
}

func bind(ctx context.Context, cert *tls.Certificate, p *loop.Pool) *tls.Certificate {
	if ctx == nil { // not of a handshake at all
		return cert
	}
	c, _ := ctx.Value(connKey{}).(*Conn)
	key, _ := cert.PrivateKey.(crypto.Signer)
	if c == nil || key == nil {
		return cert
	}
	if _, isRSA := key.Public().(*rsa.PublicKey); !isRSA {
		return cert
	}
	bound := *cert
	bound.PrivateKey = &parkingKey{key: key, conn: c, pool: p}
	return &bound
}

// parkingKey is a private key that parks its connection's handshake while a
// worker signs.
type parkingKey struct {
	key  crypto.Signer
	conn *Conn
	pool *loop.Pool
}

func (k *parkingKey) Public() crypto.PublicKey { return k.key.Public() }

// Sign runs in the handshake's coroutine. The random source that it is given
// belongs to the loop, so the worker uses the system's.
func (k *parkingKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c := k.conn
	s := c.shake
	j := &signing{key: k.key, digest: append([]byte(nil), digest...), opts: opts, conn: c}
	if !c.mem.loop.Offload(k.pool, j) {
		return nil, ErrPoolFull
	}
	s.parked = j
	for !j.done {
		if !s.yield(struct{}{}) {
			s.parked = nil
			j.conn = nil // its result has no taker
			return nil, errAborted
		}
	}
	return j.signature, j.err
}

// signing is one signature on its way.
type signing struct {
	key    crypto.Signer
	digest []byte
	opts   crypto.SignerOpts
	// signature and err are the worker's until done, which the loop alone sets.
	signature []byte
	err       error
	// conn and done belong to the loop; conn is nil when the handshake was aborted.
	conn *Conn
	done bool
}

// Work signs, on a worker.
func (j *signing) Work() { j.signature, j.err = j.key.Sign(rand.Reader, j.digest, j.opts) }

// Done brings the signature back into the loop.
func (j *signing) Done() {
	c := j.conn
	if c == nil {
		return
	}
	j.done = true
	c.shake.parked = nil
	if c.Resumed != nil {
		c.Resumed()
	}
}
