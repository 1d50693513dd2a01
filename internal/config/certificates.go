package config

// Authority is a certificate authority. Without a key it is trusted and
// completes chains; with one it also signs.
type Authority struct {
	// Name identifies the authority.
	Name string `json:"name" required:"true"`
	// Description says whose it is.
	Description string `json:"description"`
	// Certificate is the authority's own certificate as PEM text; absent while
	// Internal says how to make it.
	Certificate PEM `json:"certificate" format:"certificate"`
	// Key signs; empty = this authority only verifies.
	Key Secret `json:"key"`
	// Internal describes an authority that Sluis makes; absent = it is imported.
	Internal *InternalAuthority `json:"internal,omitempty"`
	// Trust adds the authority to those that the appliance itself trusts.
	Trust bool `json:"trust" label:"Add to the trust store"`
	// RandomSerial gives what it signs random serial numbers (RFC 5280 4.1.2.2)
	// instead of counted ones.
	RandomSerial bool `json:"random_serial" label:"Randomize serial numbers"`
}

// InternalAuthority describes an authority that Sluis makes.
type InternalAuthority struct {
	// Issuer signs its certificate, which makes it an intermediate; empty = it is a
	// root and signs itself.
	Issuer string `json:"issuer" ref:"authorities"`
	// Subject is its name.
	Subject Subject `json:"subject"`
	// KeyType is the kind and size of its key.
	KeyType KeyType `json:"key_type"`
	// Digest is the hash in its signature.
	Digest Digest `json:"digest"`
	// Lifetime is how long its certificate is valid.
	Lifetime Duration `json:"lifetime" range:"24h..288000h"`
	// PathLength is how many intermediates may stand below it; absent = any number.
	PathLength *int `json:"path_length,omitempty" range:"0..16"`
	// PermittedDNS are the only domains that it may vouch for (RFC 5280 4.2.1.10);
	// empty = any.
	PermittedDNS []string `json:"permitted_dns" label:"Permitted DNS domains" format:"domain"`
	// ExcludedDNS are domains that it may not vouch for.
	ExcludedDNS []string `json:"excluded_dns" label:"Excluded DNS domains" format:"domain"`
}

// Certificate is what a site or the appliance itself shows to clients. It is
// imported (Certificate and Key), made by Sluis (SelfSigned or Internal), or
// fetched by ACME: exactly one of these.
type Certificate struct {
	// Name identifies the certificate.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// Certificate is the certificate as PEM text, alone or with its chain in any order.
	Certificate PEM `json:"certificate" format:"certificate"`
	// Key is the private key.
	Key Secret `json:"key"`
	// SelfSigned describes a certificate that signs itself.
	SelfSigned *CertificateSpec `json:"self_signed,omitempty"`
	// Internal describes a certificate that one of our authorities signs.
	Internal *IssuedCertificate `json:"internal,omitempty"`
	// ACME describes a certificate that an outside authority issues by itself.
	ACME *ACMECertificate `json:"acme,omitempty" label:"ACME"`
}

// CertificateSpec says what stands in a certificate.
type CertificateSpec struct {
	// CommonName is the main name; it is added to the alternative names by itself.
	CommonName string `json:"common_name" required:"true"`
	// Subject holds the other parts of the distinguished name.
	Subject Subject `json:"subject"`
	// AlternativeNames are further names.
	AlternativeNames AlternativeNames `json:"alternative_names"`
	// Usage is who shows the certificate.
	Usage CertificateUsage `json:"usage"`
	// KeyType is the kind and size of the key.
	KeyType KeyType `json:"key_type"`
	// Digest is the hash in the signature.
	Digest Digest `json:"digest"`
	// Lifetime is how long it is valid; clients refuse server certificates of public
	// authorities beyond 398 days.
	Lifetime Duration `json:"lifetime" range:"1h..288000h"`
}

// IssuedCertificate is signed by one of our authorities.
type IssuedCertificate struct {
	// Authority signs it.
	Authority string `json:"authority" ref:"authorities" required:"true"`
	// Spec says what stands in it.
	Spec CertificateSpec `json:"spec"`
}

// ACMECertificate is issued by an outside authority and renewed by itself.
type ACMECertificate struct {
	// Account is the registration to use.
	Account string `json:"account" ref:"acme_accounts" required:"true"`
	// Names are the host names to vouch for; the first is the common name.
	Names []string `json:"names" format:"certificate_name" required:"true"`
	// Challenge is how control over the names is shown.
	Challenge ACMEChallenge `json:"challenge"`
	// KeyType is the kind and size of the key.
	KeyType KeyType `json:"key_type"`
}

// ACMEChallenge is how control over a name is shown (RFC 8555 section 8).
type ACMEChallenge string

// The challenges.
const (
	ACMEHTTP01    ACMEChallenge = "http_01"     // a file on port 80
	ACMETLSALPN01 ACMEChallenge = "tls_alpn_01" // a handshake on port 443 (RFC 8737)
	ACMEDNS01     ACMEChallenge = "dns_01"      // a record in the DNS
)

// Values lists the challenges.
func (ACMEChallenge) Values() []string { return []string{"http_01", "tls_alpn_01", "dns_01"} }

// Subject is a distinguished name but for its common name.
type Subject struct {
	// CommonName is the name itself; in a certificate it is given beside the subject.
	CommonName string `json:"common_name"`
	// Organization is the body that it belongs to.
	Organization string `json:"organization"`
	// OrganizationalUnit is a part of that body.
	OrganizationalUnit string `json:"organizational_unit"`
	// Locality is the city.
	Locality string `json:"locality" label:"City"`
	// Province is the state or province.
	Province string `json:"province" label:"State or province"`
	// Country is the two-letter country code.
	Country string `json:"country" format:"country"`
}

// AlternativeNames are the names that a certificate vouches for.
type AlternativeNames struct {
	// DNS are host names; *.example.net stands for one label.
	DNS []string `json:"dns" label:"DNS names" format:"certificate_name"`
	// IP are addresses.
	IP []string `json:"ip" label:"IP addresses" format:"address"`
	// Email are mail addresses.
	Email []string `json:"email" label:"E-mail addresses" format:"email"`
	// URI are resource identifiers.
	URI []string `json:"uri" label:"URIs" format:"url"`
}

// CertificateUsage is who shows a certificate.
type CertificateUsage string

// The usages.
const (
	UsageServer CertificateUsage = "server" // a web server to its clients
	UsageUser   CertificateUsage = "user"   // a client to a server
)

// Values lists the usages.
func (CertificateUsage) Values() []string { return []string{"server", "user"} }

// KeyType is the kind and size of a private key.
type KeyType string

// The key types.
const (
	KeyRSA2048   KeyType = "rsa_2048"   // RSA, 2048 bits
	KeyRSA3072   KeyType = "rsa_3072"   // RSA, 3072 bits
	KeyRSA4096   KeyType = "rsa_4096"   // RSA, 4096 bits: costly at each handshake
	KeyRSA8192   KeyType = "rsa_8192"   // RSA, 8192 bits: for authorities alone
	KeyECDSAP256 KeyType = "ecdsa_p256" // ECDSA on P-256: fast, understood by all
	KeyECDSAP384 KeyType = "ecdsa_p384" // ECDSA on P-384
	KeyECDSAP521 KeyType = "ecdsa_p521" // ECDSA on P-521: browsers refuse it for servers
	KeyEd25519   KeyType = "ed25519"    // Ed25519: browsers refuse it for servers
)

// Values lists the key types.
func (KeyType) Values() []string {
	return []string{"rsa_2048", "rsa_3072", "rsa_4096", "rsa_8192", "ecdsa_p256", "ecdsa_p384", "ecdsa_p521", "ed25519"}
}

// Digest is the hash in a signature; Ed25519 brings its own and ignores it.
type Digest string

// The digests.
const (
	DigestSHA256 Digest = "sha256" // SHA-256
	DigestSHA384 Digest = "sha384" // SHA-384
	DigestSHA512 Digest = "sha512" // SHA-512
)

// Values lists the digests.
func (Digest) Values() []string { return []string{"sha256", "sha384", "sha512"} }

// CertificateRequest waits for an outside authority's answer.
type CertificateRequest struct {
	// Name identifies the request; the certificate that completes it takes this name.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// Spec says what is asked for; the authority may change it.
	Spec CertificateSpec `json:"spec"`
	// Request is the request as PEM text (PKCS#10), made when it is saved.
	Request PEM `json:"request" format:"certificate_request"`
	// Key is the private key that the request belongs to; it never leaves the machine.
	Key Secret `json:"key"`
}

// RevocationList names certificates that their authority has withdrawn.
type RevocationList struct {
	// Name identifies the list.
	Name string `json:"name" required:"true"`
	// Description says what it is for.
	Description string `json:"description"`
	// Authority is the one whose certificates are named.
	Authority string `json:"authority" ref:"authorities" required:"true"`
	// List is an imported list as PEM text; empty = Sluis makes it from Revoked.
	List PEM `json:"list" format:"revocation_list"`
	// Lifetime is how long a list that Sluis makes is valid.
	Lifetime Duration `json:"lifetime" range:"1h..240000h"`
	// Revoked are the certificates that a list made by Sluis names.
	Revoked []RevokedCertificate `json:"revoked"`
}

// RevokedCertificate is one entry of a revocation list.
type RevokedCertificate struct {
	// Name identifies the entry.
	Name string `json:"name" required:"true"`
	// Serial is the certificate's serial number in hexadecimal.
	Serial string `json:"serial" format:"hex" required:"true"`
	// Reason is why it was withdrawn (RFC 5280 5.3.1).
	Reason RevocationReason `json:"reason"`
}

// RevocationReason is why a certificate was withdrawn (RFC 5280 5.3.1).
type RevocationReason string

// Values lists the reasons.
func (RevocationReason) Values() []string {
	return []string{
		"unspecified", "key_compromise", "ca_compromise", "affiliation_changed", "superseded",
		"cessation_of_operation", "certificate_hold", "privilege_withdrawn",
	}
}

// ACMEAccount is a registration with an authority that issues by ACME (RFC 8555).
type ACMEAccount struct {
	// Name identifies the account.
	Name string `json:"name" required:"true"`
	// Description says whose it is.
	Description string `json:"description"`
	// Directory is the authority's directory URL.
	Directory string `json:"directory" format:"url" required:"true"`
	// Email is where the authority writes to; empty = nowhere.
	Email string `json:"email" format:"email"`
	// Authority verifies the directory's own certificate; empty = the system's.
	Authority string `json:"authority" ref:"authorities"`
	// ExternalKeyID binds the account to one at the authority (RFC 8555 7.3.4);
	// empty = no binding.
	ExternalKeyID string `json:"external_key_id" label:"External key identifier" advanced:"true"`
	// ExternalKey is the key of that binding, in base64url.
	ExternalKey Secret `json:"external_key" advanced:"true"`
}
