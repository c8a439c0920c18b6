package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// The roles that a certificate can state.
const (
	RoleVoter  = "voter"  // may be promoted to a Raft voter, and works
	RoleWorker = "worker" // works
	RoleClient = "client" // only calls the API
)

const (
	idBytes           = 16                        // 128-bit node ids
	authorityValidity = 20 * 365 * 24 * time.Hour // of a cluster's CA certificate
	clockSkew         = 24 * time.Hour            // certificates begin this long ago
	nameSuffix        = ".seedmesh"               // DNS name = id + nameSuffix

	blockCertificate = "CERTIFICATE"
	blockRequest     = "CERTIFICATE REQUEST"
	blockKey         = "PRIVATE KEY"
)

// NewID draws a node id: 32 lower-case hex digits from crypto/rand.
func NewID() string {
	var b [idBytes]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// ValidID reports whether id has the form that [NewID] gives.
func ValidID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == idBytes && hex.EncodeToString(b) == id
}

// An Authority is a cluster's certificate authority with its key. Voters only hold one.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority draws a key (ECDSA P-256) and signs a certificate for a new cluster of that
// name with it, valid for 20 years.
func NewAuthority(cluster string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("transport: new authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: cluster, Organization: []string{"seedmesh"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("transport: new authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("transport: new authority: %w", err)
	}
	return &Authority{cert, key}, nil
}

// LoadAuthority is the inverse of CertPEM and KeyPEM. It refuses a certificate that is not
// a CA's, and a key that does not belong to it.
func LoadAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	cert, key, err := loadPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("transport: load authority: %w", err)
	}
	if !cert.IsCA {
		return nil, errors.New("transport: load authority: the certificate is not a CA's")
	}
	return &Authority{cert, key}, nil
}

// Digest is the SHA-256 of the certificate's DER: what a join token pins.
func (a *Authority) Digest() [32]byte { return sha256.Sum256(a.cert.Raw) }

// Cluster is the name given to NewAuthority.
func (a *Authority) Cluster() string { return a.cert.Subject.CommonName }

// CertPEM is public: every node stores it.
func (a *Authority) CertPEM() []byte { return encode(blockCertificate, a.cert.Raw) }

// KeyPEM is the cluster's secret (PKCS 8): mode 0600, voters only.
func (a *Authority) KeyPEM() []byte { return encodeKey(a.key) }

// Sign certifies the key in a request from [CertificateRequest] as node id in role, from a
// day ago until validity from now (never beyond the authority's own end). Only the key is
// taken from the request. It refuses a bad signature, another key type than ECDSA P-256,
// a malformed id and an unknown role.
func (a *Authority) Sign(csrPEM []byte, id, role string, validity time.Duration) (certPEM []byte, err error) {
	der, err := decode(blockRequest, csrPEM)
	if err != nil {
		return nil, fmt.Errorf("transport: sign: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("transport: sign: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("transport: sign: the request is not signed by its key: %w", err)
	}
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P256():
		return nil, errors.New("transport: sign: the key must be ECDSA P-256")
	case !ValidID(id):
		return nil, fmt.Errorf("transport: sign: %q is not a node id", id)
	case !validRole(role):
		return nil, fmt.Errorf("transport: sign: %q is not a role", role)
	}
	now := time.Now()
	end := now.Add(validity)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: id, OrganizationalUnit: []string{role}, Organization: []string{a.Cluster()}},
		DNSNames:     []string{id + nameSuffix},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},

		BasicConstraintsValid: true,
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("transport: sign: %w", err)
	}
	return encode(blockCertificate, leaf), nil
}

// NewKey draws a node's private key (ECDSA P-256, PKCS 8, PEM). It never leaves the node.
func NewKey() (keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("transport: new key: %w", err)
	}
	return encodeKey(key), nil
}

// CertificateRequest asks for a certificate for the key; name is a label for people.
func CertificateRequest(keyPEM []byte, name string) (csrPEM []byte, err error) {
	key, err := loadKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("transport: certificate request: %w", err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("transport: certificate request: %w", err)
	}
	return encode(blockRequest, der), nil
}

// An Identity is what a node shows (its certificate and key) and whom it believes (its
// cluster's CA, nobody else). It is immutable.
type Identity struct {
	self     Peer
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	ca       *x509.Certificate
	roots    *x509.CertPool
	resetKey [32]byte
}

// NewIdentity puts a node's certificate, key and CA certificate together. It refuses a
// certificate that this CA did not sign or that states no id or role, and a key that does
// not belong to it. Validity in time is judged in each handshake, not here.
func NewIdentity(certPEM, keyPEM, caPEM []byte) (*Identity, error) {
	cert, key, err := loadPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("transport: identity: %w", err)
	}
	der, err := decode(blockCertificate, caPEM)
	if err != nil {
		return nil, fmt.Errorf("transport: identity: CA: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("transport: identity: CA: %w", err)
	}
	if !ca.IsCA {
		return nil, errors.New("transport: identity: CA: the certificate is not a CA's")
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("transport: identity: %w", err)
	}
	reset, err := hkdf.Key(sha256.New, secret, nil, "seedmesh stateless reset", 32)
	if err != nil {
		return nil, fmt.Errorf("transport: identity: %w", err)
	}
	id := &Identity{cert: cert, key: key, ca: ca, roots: x509.NewCertPool(), resetKey: [32]byte(reset)}
	id.roots.AddCert(ca)
	id.self, err = verify(cert, id.roots, x509.ExtKeyUsageAny, cert.NotAfter)
	if err != nil {
		return nil, fmt.Errorf("transport: identity: %w", err)
	}
	return id, nil
}

// ID is the node's 128-bit id, 32 hex digits.
func (i *Identity) ID() string { return i.self.ID }

// Role is one of RoleVoter, RoleWorker and RoleClient.
func (i *Identity) Role() string { return i.self.Role }

// Cluster is the name of the cluster that the CA was made for.
func (i *Identity) Cluster() string { return i.ca.Subject.CommonName }

// CADigest is the SHA-256 of the CA certificate's DER.
func (i *Identity) CADigest() [32]byte { return sha256.Sum256(i.ca.Raw) }

// NotAfter is the last instant at which peers accept this identity.
func (i *Identity) NotAfter() time.Time { return i.cert.NotAfter }

// certificate is the identity for TLS; with the CA in its chain for joiners, who know
// nothing but the CA's digest.
func (i *Identity) certificate(withCA bool) tls.Certificate {
	chain := [][]byte{i.cert.Raw}
	if withCA {
		chain = append(chain, i.ca.Raw)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: i.key, Leaf: i.cert}
}

// verify returns whose certificate leaf is, if one of roots signed it for usage and it is
// valid at now.
func verify(leaf *x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) (Peer, error) {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return Peer{}, &peerError{ErrUntrusted, err.Error()}
	}
	return nodeOf(leaf)
}

// nodeOf reads the node out of a certificate, which must have been verified.
func nodeOf(leaf *x509.Certificate) (Peer, error) {
	id, units := leaf.Subject.CommonName, leaf.Subject.OrganizationalUnit
	if leaf.IsCA || !ValidID(id) || len(units) != 1 || !validRole(units[0]) || !slices.Equal(leaf.DNSNames, []string{id + nameSuffix}) {
		return Peer{}, &peerError{ErrUntrusted, "the certificate is not a node's"}
	}
	return Peer{ID: id, Role: units[0]}, nil
}

func validRole(role string) bool {
	return role == RoleVoter || role == RoleWorker || role == RoleClient
}

func serial() *big.Int {
	var b [idBytes]byte
	rand.Read(b[:])
	b[0] &= 0x7f // serial numbers are positive
	return new(big.Int).SetBytes(b[:])
}

func loadPair(certPEM, keyPEM []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	der, err := decode(blockCertificate, certPEM)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	key, err := loadKey(keyPEM)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, errors.New("the key does not belong to the certificate")
	}
	return cert, key, nil
}

func loadKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	der, err := decode(blockKey, keyPEM)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key must be ECDSA P-256")
	}
	return key, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // a P-256 key of our own always encodes
	}
	return encode(blockKey, der)
}

// decode takes exactly one PEM block of the wanted kind.
func decode(kind string, text []byte) ([]byte, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("no PEM block %q", kind)
	}
	if extra, _ := pem.Decode(rest); extra != nil {
		return nil, fmt.Errorf("more than one PEM block, one %q expected", kind)
	}
	return block.Bytes, nil
}
