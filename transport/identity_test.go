package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"
)

func TestAuthoritySurvivesStorage(t *testing.T) {
	ca := authority(t, "orchard")
	again, err := LoadAuthority(ca.CertPEM(), ca.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest() != ca.Digest() || again.Cluster() != "orchard" {
		t.Errorf("loaded authority = %q %x, want orchard %x", again.Cluster(), again.Digest(), ca.Digest())
	}
	id := identity(t, again, nodeID(1), time.Hour)
	if id.ID() != nodeID(1) || id.Role() != RoleVoter || id.Cluster() != "orchard" || id.CADigest() != ca.Digest() {
		t.Errorf("identity = %s %s %s %x", id.ID(), id.Role(), id.Cluster(), id.CADigest())
	}
	if other := identity(t, ca, nodeID(2), time.Hour); id.resetKey == other.resetKey || id.resetKey == [32]byte{} {
		t.Error("two identities have the same reset key")
	}
	if left := time.Until(ca.cert.NotAfter); left < 19*365*24*time.Hour {
		t.Errorf("the authority ends in %v, want about 20 years", left)
	}
}

func TestCertificateFields(t *testing.T) {
	id := identity(t, authority(t, "orchard"), nodeID(1), time.Hour)
	cert := id.cert
	if got := time.Since(cert.NotBefore); got < 23*time.Hour {
		t.Errorf("NotBefore is %v ago, want a day, for skewed clocks", got)
	}
	if got := time.Until(id.NotAfter()); got > time.Hour || got < 50*time.Minute {
		t.Errorf("NotAfter is in %v, want 1h", got)
	}
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != nodeID(1)+".seedmesh" || len(cert.IPAddresses) != 0 {
		t.Errorf("names = %v %v, want the id and no address", cert.DNSNames, cert.IPAddresses)
	}
	if cert.IsCA {
		t.Error("a node's certificate can sign others")
	}
}

func TestSignedBeyondTheAuthority(t *testing.T) {
	ca := authority(t, "orchard")
	id := identity(t, ca, nodeID(1), 100*365*24*time.Hour)
	if id.NotAfter().After(ca.cert.NotAfter) {
		t.Errorf("NotAfter = %v, want at most the authority's %v", id.NotAfter(), ca.cert.NotAfter)
	}
}

func TestSignRefuses(t *testing.T) {
	ca := authority(t, "orchard")
	key, _ := NewKey()
	csr, _ := CertificateRequest(key, "a name")
	forged := func() []byte { // one byte of the signature changed
		block, _ := pem.Decode(csr)
		der := bytes.Clone(block.Bytes)
		der[len(der)-1] ^= 1
		return encode(blockRequest, der)
	}()
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	wrongType, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, other)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	wrongCurve, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	for name, tt := range map[string]struct {
		csr      []byte
		id, role string
	}{
		"bad signature":  {forged, nodeID(1), RoleVoter},
		"wrong key type": {encode(blockRequest, wrongType), nodeID(1), RoleVoter},
		"wrong curve":    {encode(blockRequest, wrongCurve), nodeID(1), RoleVoter},
		"no request":     {ca.CertPEM(), nodeID(1), RoleVoter},
		"two requests":   {append(bytes.Clone(csr), csr...), nodeID(1), RoleVoter},
		"empty":          {nil, nodeID(1), RoleVoter},
		"short id":       {csr, "abc", RoleVoter},
		"upper case id":  {csr, "ABCDEF00000000000000000000000000", RoleVoter},
		"unknown role":   {csr, nodeID(1), "king"},
	} {
		t.Run(name, func(t *testing.T) {
			if cert, err := ca.Sign(tt.csr, tt.id, tt.role, time.Hour); err == nil {
				t.Errorf("Sign(…, %q, %q) = %s, want an error", tt.id, tt.role, cert)
			}
		})
	}
	if _, err := ca.Sign(csr, nodeID(1), RoleClient, time.Hour); err != nil {
		t.Errorf("Sign of the unspoiled request = %v", err)
	}
}

func TestIdentityRefuses(t *testing.T) {
	ca, foreign := authority(t, "orchard"), authority(t, "orchard")
	key, _ := NewKey()
	otherKey, _ := NewKey()
	csr, _ := CertificateRequest(key, "a name")
	cert, err := ca.Sign(csr, nodeID(1), RoleWorker, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ cert, key, ca []byte }{
		"another's key":       {cert, otherKey, ca.CertPEM()},
		"another cluster":     {cert, key, foreign.CertPEM()},
		"the CA as a node":    {ca.CertPEM(), ca.KeyPEM(), ca.CertPEM()},
		"no CA":               {cert, key, nil},
		"a node as CA":        {cert, key, cert},
		"certificates by two": {append(bytes.Clone(cert), cert...), key, ca.CertPEM()},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewIdentity(tt.cert, tt.key, tt.ca); err == nil {
				t.Error("NewIdentity = nil, want an error")
			}
		})
	}
	if _, err := LoadAuthority(cert, key); err == nil {
		t.Error("LoadAuthority of a node's certificate = nil, want an error")
	}
}

func TestNewID(t *testing.T) {
	a, b := NewID(), NewID()
	if !ValidID(a) || !ValidID(b) || a == b {
		t.Errorf("NewID = %q, %q; want two different valid ids", a, b)
	}
}

func TestPinnedChain(t *testing.T) {
	ca, foreign := authority(t, "orchard"), authority(t, "orchard")
	node, stranger := identity(t, ca, nodeID(1), time.Hour), identity(t, foreign, nodeID(1), time.Hour)
	expired := identity(t, ca, nodeID(1), -time.Minute)
	for name, tt := range map[string]struct {
		chain []*x509.Certificate
		want  error
	}{
		"node and CA":                 {[]*x509.Certificate{node.cert, ca.cert}, nil},
		"node alone":                  {[]*x509.Certificate{node.cert}, ErrUntrusted},
		"stranger and foreign CA":     {[]*x509.Certificate{stranger.cert, foreign.cert}, ErrUntrusted},
		"stranger with the pinned CA": {[]*x509.Certificate{stranger.cert, ca.cert}, ErrUntrusted},
		"the CA itself":               {[]*x509.Certificate{ca.cert, ca.cert}, ErrUntrusted},
		"expired":                     {[]*x509.Certificate{expired.cert, ca.cert}, ErrUntrusted},
		"nothing":                     {nil, ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			wantErr(t, "verifyPinned", verifyPinned(tt.chain, sha256.Sum256(ca.cert.Raw)), tt.want)
		})
	}
}

// FuzzCertificates reads PEM that comes from others or from a damaged disk: as a
// request to sign, which a joiner sends, as a certificate, a key and a CA.
func FuzzCertificates(f *testing.F) {
	ca, err := NewAuthority("fuzz")
	if err != nil {
		f.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	csr, err := CertificateRequest(key, "name")
	if err != nil {
		f.Fatal(err)
	}
	id := NewID()
	cert, err := ca.Sign(csr, id, RoleWorker, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range [][]byte{csr, key, cert, ca.CertPEM(), ca.KeyPEM(), nil, append(csr, csr...)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if signed, err := ca.Sign(text, id, RoleWorker, time.Hour); err == nil {
			der, err := decode(blockCertificate, signed)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(ca.cert)
			peer, err := verify(leaf, roots, x509.ExtKeyUsageClientAuth, time.Now())
			if err != nil || peer.ID != id || peer.Role != RoleWorker {
				t.Fatalf("Sign(%q) gave the certificate of %v, %v", text, peer, err)
			}
		}
		for _, parts := range [][3][]byte{{text, key, ca.CertPEM()}, {cert, text, ca.CertPEM()}, {cert, key, text}} {
			if i, err := NewIdentity(parts[0], parts[1], parts[2]); err == nil && i.ID() != id {
				t.Fatalf("NewIdentity(%q) = %s, want %s", parts, i.ID(), id)
			}
		}
		_, _ = LoadAuthority(text, ca.KeyPEM())
		_, _ = LoadAuthority(ca.CertPEM(), text)
	})
}
