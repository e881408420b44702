package witness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

const (
	certYears   = 10
	certRenewal = 365 * 24 * time.Hour // renewed at a start within this of its end
	certBackdat = 24 * time.Hour       // for managers whose clock is behind
)

// identity is the key of a witness with a certificate over it. The key is made
// once. Managers know its hash (the pin), and nothing else of the certificate
// matters to them, so the certificate may be renewed.
type identity struct {
	cert tls.Certificate
	pin  string
}

// loadIdentity reads the identity in dir and makes one where there is none.
// Names are put in the certificate for tools that check them.
func loadIdentity(disk *atomicfile.Disk, dir string, names []string, now time.Time) (*identity, error) {
	path := filepath.Join(dir, "identity.pem")
	id, err := readIdentity(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		data, err := encodeIdentity(key, names, now)
		if err != nil {
			return nil, err
		}
		if err := disk.Create(path, data, filePerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return readIdentity(path)
	case err != nil:
		return nil, err
	}
	if leaf := id.cert.Leaf; leaf.NotAfter.Sub(now) < certRenewal || !covers(leaf, names) {
		key, ok := id.cert.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return id, nil
		}
		data, err := encodeIdentity(key, names, now)
		if err != nil {
			return nil, err
		}
		if err := disk.Replace(path, data, filePerm); err != nil {
			return nil, err
		}
		return readIdentity(path)
	}
	return id, nil
}

func readIdentity(path string) (*identity, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, futago.Errorf(futago.CodeCorrupt, "key and certificate in %s cannot be read", path).
			WithAction("put the file back; with a new one, every cluster needs a new invitation").Wrap(err)
	}
	return &identity{cert: cert, pin: Pin(cert.Leaf.RawSubjectPublicKeyInfo)}, nil
}

func encodeIdentity(key *ecdsa.PrivateKey, names []string, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "futago witness"},
		NotBefore:             now.Add(-certBackdat).UTC(),
		NotAfter:              now.AddDate(certYears, 0, 0).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // its own authority, so that tools can be given it as one
		MaxPathLenZero:        true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}

// covers reports whether every name stands in the certificate.
func covers(c *x509.Certificate, names []string) bool {
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
				return false
			}
		} else if !slices.Contains(c.DNSNames, n) {
			return false
		}
	}
	return true
}

// tlsConfig serves HTTP/1.1 alone: a manager has one request under way, and
// HTTP/2 would only cost memory.
func (id *identity) tlsConfig() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{id.cert},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"http/1.1"},
	}
}
