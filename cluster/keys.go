package cluster

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// Keys are a member's certificates and keys. Both managers hold the CA's key,
// so that either can admit a member when the other is gone for good.
type Keys struct {
	caCert  *x509.Certificate
	caKey   crypto.Signer // nil on the third vote
	cert    tls.Certificate
	leaf    *x509.Certificate
	sealKey [32]byte

	mu    sync.Mutex // guards joins
	joins map[futago.MemberID]uint64
}

// certYears is the lifetime of CA and member certificates: longer than an
// appliance is kept, for an expired certificate at 3 a.m. is an outage that
// the cluster would have made itself.
const certYears = 20

// identity is who a certificate names: a member, and the how-manieth join that
// made its directory. A later join puts an earlier one's directory out of use,
// for both would vote under one name.
type identity struct {
	member futago.MemberID
	joins  uint64
}

// uri is how an identity stands in a certificate.
func (i identity) uri(clusterID string) string {
	return fmt.Sprintf("futago://%s/%s/%d", clusterID, i.member, i.joins)
}

// identityOf reads a certificate of the cluster.
func identityOf(clusterID string, c *x509.Certificate) (id identity, err error) {
	for _, u := range c.URIs {
		name, joins, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		id.member = futago.MemberID(name)
		id.joins, err = strconv.ParseUint(joins, 10, 64)
		if err == nil && u.Scheme == "futago" && u.Host == clusterID && id.member.Valid() {
			return id, nil
		}
	}
	return id, futago.Errorf(futago.CodeUnauthorized, "the certificate names no member of cluster %s", clusterID)
}

// supersede makes the member link refuse directories of earlier joins.
func (k *Keys) supersede(members map[futago.MemberID]Addresses) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.joins == nil {
		k.joins = map[futago.MemberID]uint64{}
	}
	for m, a := range members {
		k.joins[m] = max(k.joins[m], a.Joins)
	}
}

func (k *Keys) superseded(id identity) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return id.joins < k.joins[id.member]
}

func newClusterKeys(n Node, now time.Time) (*Keys, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Futago CA " + n.ClusterName},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(certYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	k := &Keys{caCert: ca, caKey: key}
	_, _ = rand.Read(k.sealKey[:])
	memberKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certDER, err := k.sign(memberKey.Public(), n.ClusterID, n.Member, n.Members[n.Member], now)
	if err != nil {
		return nil, err
	}
	return k, k.setMember(certDER, memberKey)
}

func (k *Keys) setMember(der []byte, key crypto.Signer) error {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	k.leaf = leaf
	k.cert = tls.Certificate{Certificate: [][]byte{der, k.caCert.Raw}, PrivateKey: key, Leaf: leaf}
	return nil
}

// sign issues a member's certificate, good for the member link and the API.
func (k *Keys) sign(pub crypto.PublicKey, clusterID string, m futago.MemberID, a Addresses, now time.Time) ([]byte, error) {
	if k.caKey == nil {
		return nil, futago.Errorf(futago.CodeUnavailable, "this member holds no CA key").WithAction("join through a manager")
	}
	uri, err := url.Parse(identity{m, a.Joins}.uri(clusterID))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "futago " + string(m)},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(certYears, 0, 0).Add(-time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{uri},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, s := range []string{a.Cluster, a.API} {
		host, _, err := net.SplitHostPort(s)
		if err != nil {
			continue
		}
		if ip := net.ParseIP(host); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, host)
		}
	}
	return x509.CreateCertificate(rand.Reader, tmpl, k.caCert, pub, k.caKey)
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[0] &= 0x7f // RFC 5280 4.1.2.2: positive, at most 20 octets
	return new(big.Int).SetBytes(b[:])
}

// Pin returns the SHA-256 of the CA's public key (SPKI), base64url: what a
// join token carries so that the joiner trusts the right cluster at once.
func (k *Keys) Pin() string { return pinOf(k.caCert) }

func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// CACertPEM returns the CA certificate for clients of the API.
func (k *Keys) CACertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.caCert.Raw})
}

// ServerTLS is the configuration of the API and trap listeners.
func (k *Keys) ServerTLS(protos ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{k.cert}, NextProtos: protos}
}

// ClientTLS trusts this cluster's CA alone.
func (k *Keys) ClientTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: k.pool()}
}

func (k *Keys) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(k.caCert)
	return p
}

// PeerTLS is the configuration of the member link, for both ends: TLS 1.3, and
// a certificate of this cluster that names a member. Want limits a dialler to
// one member; accepting ends pass "". Addresses in the certificate are not
// looked at: a member is who its certificate names, wherever it is.
func (k *Keys) PeerTLS(clusterID string, want futago.MemberID, protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{k.cert}, NextProtos: protos,
		ClientAuth: tls.RequireAnyClientCert, ClientCAs: k.pool(),
		// Verification is done below for both ends alike, by member name.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain
		VerifyConnection: func(cs tls.ConnectionState) error {
			m, err := k.verifyMember(clusterID, cs.PeerCertificates)
			if err != nil {
				return err
			}
			if want != "" && m != want {
				return futago.Errorf(futago.CodeUnauthorized, "dialled member %s, found member %s", want, m).
					WithAction("check the members' addresses in node.json")
			}
			return nil
		},
	}
}

func (k *Keys) verifyMember(clusterID string, chain []*x509.Certificate) (futago.MemberID, error) {
	if len(chain) == 0 {
		return "", futago.Errorf(futago.CodeUnauthorized, "the other side showed no certificate")
	}
	if err := signedBy(chain[0], k.caCert); err != nil {
		return "", futago.Errorf(futago.CodeUnauthorized, "the certificate of the other side is not of this cluster").
			WithAction("it belongs to cluster %q; join that host to this cluster with a new token", chain[0].Issuer.CommonName).Wrap(err)
	}
	id, err := identityOf(clusterID, chain[0])
	if err == nil && k.superseded(id) {
		err = futago.Errorf(futago.CodeUnauthorized, "this directory of member %s was given up: another has joined in its place", id.member).
			WithAction("stop it, and keep it only as a copy")
	}
	return id.member, err
}

// signedBy proves that leaf is ca's own. The dates are not looked at: nothing is
// renewed here before they run out, and a host whose clock is wrong must not
// take its member out of the cluster.
func signedBy(leaf, ca *x509.Certificate) error { return leaf.CheckSignatureFrom(ca) }

// Derive makes a key for one purpose from the cluster's key; it is the same on
// all members (RFC 5869, expand only, for the cluster's key is random already).
func (k *Keys) Derive(purpose string) (out [32]byte) {
	b, err := hkdf.Expand(sha256.New, k.sealKey[:], "futago "+purpose, len(out))
	if err != nil {
		panic(err) // only for lengths over 255 hashes
	}
	copy(out[:], b)
	return out
}

// Seal encrypts a secret (AES-256-GCM) so that it may stand in the log.
func (k *Keys) Seal(plain string) (futago.Secret, error) {
	gcm, err := k.gcm()
	if err != nil {
		return "", err
	}
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce)
	out := gcm.Seal(nonce, nonce, []byte(plain), nil)
	return futago.Secret(futago.SealedPrefix + base64.RawStdEncoding.EncodeToString(out)), nil
}

// Open decrypts a sealed secret; text that is not sealed is returned as it is.
func (k *Keys) Open(s futago.Secret) (string, error) {
	if !s.Sealed() {
		return s.Reveal(), nil
	}
	gcm, err := k.gcm()
	if err != nil {
		return "", err
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(s.Reveal(), futago.SealedPrefix))
	if err != nil || len(b) < gcm.NonceSize() {
		return "", futago.Errorf(futago.CodeCorrupt, "a sealed secret is damaged").WithAction("set it again").Wrap(err)
	}
	plain, err := gcm.Open(nil, b[:gcm.NonceSize()], b[gcm.NonceSize():], nil)
	if err != nil {
		return "", futago.Errorf(futago.CodeCorrupt, "a sealed secret does not open with this cluster's key").
			WithAction("set it again").Wrap(err)
	}
	return string(plain), nil
}

func (k *Keys) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.sealKey[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// File names below pki/.
const (
	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
	certFile   = "member.crt"
	keyFile    = "member.key"
	sealFile   = "seal.key"
)

func pkiPath(dir, name string) string { return filepath.Join(dir, "pki", name) }

func (k *Keys) write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "pki"), 0o700); err != nil {
		return err
	}
	memberKey, err := x509.MarshalPKCS8PrivateKey(k.cert.PrivateKey)
	if err != nil {
		return err
	}
	type file struct {
		name, kind string
		der        []byte
	}
	files := []file{
		{caCertFile, "CERTIFICATE", k.caCert.Raw},
		{certFile, "CERTIFICATE", k.leaf.Raw},
		{keyFile, "PRIVATE KEY", memberKey},
		{sealFile, "FUTAGO SEAL KEY", k.sealKey[:]},
	}
	if k.caKey != nil {
		der, err := x509.MarshalPKCS8PrivateKey(k.caKey)
		if err != nil {
			return err
		}
		files = append(files, file{caKeyFile, "PRIVATE KEY", der})
	}
	for _, f := range files {
		b := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		// PEM readers pass over the checksum line.
		if err := atomicfile.WriteSummed(pkiPath(dir, f.name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func loadKeys(dir string) (k *Keys, err error) {
	defer func() {
		if errors.Is(err, fs.ErrNotExist) {
			err = futago.Errorf(futago.CodeCorrupt, "a file is missing in %s", pkiPath(dir, "")).WithAction(restore).Wrap(err)
		}
	}()
	k = &Keys{}
	caDER, err := readPEM(dir, caCertFile)
	if err != nil {
		return nil, err
	}
	if k.caCert, err = x509.ParseCertificate(caDER); err != nil {
		return nil, damaged(dir, caCertFile, err)
	}
	if der, err := readPEM(dir, caKeyFile); err == nil {
		if k.caKey, err = parseKey(der); err != nil {
			return nil, damaged(dir, caKeyFile, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	seal, err := readPEM(dir, sealFile)
	if err != nil {
		return nil, err
	}
	if len(seal) != len(k.sealKey) {
		return nil, damaged(dir, sealFile, errors.New("wrong length"))
	}
	copy(k.sealKey[:], seal)
	keyDER, err := readPEM(dir, keyFile)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyDER)
	if err != nil {
		return nil, damaged(dir, keyFile, err)
	}
	certDER, err := readPEM(dir, certFile)
	if err != nil {
		return nil, err
	}
	if err := k.setMember(certDER, key); err != nil {
		return nil, damaged(dir, certFile, err)
	}
	return k, nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	v, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	s, ok := v.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T cannot sign", v)
	}
	return s, nil
}

func readPEM(dir, name string) ([]byte, error) {
	b, err := atomicfile.ReadSummed(pkiPath(dir, name))
	switch {
	case futago.CodeOf(err) == futago.CodeCorrupt:
		return nil, damaged(dir, name, err)
	case err != nil:
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, damaged(dir, name, errors.New("no PEM block"))
	}
	return block.Bytes, nil
}

// restore is what an operator can do about damaged keys.
const restore = "put it back from a backup, or give this directory up and join anew (futago token join on the other manager)"

func damaged(dir, name string, err error) error {
	return futago.Errorf(futago.CodeCorrupt, "%s is damaged", pkiPath(dir, name)).WithAction(restore).Wrap(err)
}

// check proves that the files belong together: a directory put together from
// two is nobody's.
func (k *Keys) check(n Node) error {
	const mixed = "this directory was put together from two: put the right node.json and pki/ back, or join anew with an empty directory"
	err := signedBy(k.leaf, k.caCert)
	var id identity
	if err == nil {
		id, err = identityOf(n.ClusterID, k.leaf)
	}
	if err != nil {
		return futago.Errorf(futago.CodeConflict, "node.json is of member %s of cluster %q, the certificate in pki/ is not", n.Member, n.ClusterName).
			WithAction(mixed).Wrap(err)
	}
	if id.member != n.Member {
		return futago.Errorf(futago.CodeConflict, "node.json is of member %s, the certificate in pki/ of member %s", n.Member, id.member).WithAction(mixed)
	}
	if signer, ok := k.cert.PrivateKey.(crypto.Signer); !ok || !fits(signer, k.leaf) || (k.caKey != nil && !fits(k.caKey, k.caCert)) {
		return futago.Errorf(futago.CodeCorrupt, "a key in pki/ does not fit its certificate").WithAction(restore)
	}
	if n.Invitation != "" {
		if _, err := k.Open(n.Invitation); err != nil {
			return futago.Errorf(futago.CodeCorrupt, "pki/%s does not fit node.json", sealFile).WithAction(restore).Wrap(err)
		}
	}
	return nil
}

func fits(key crypto.Signer, cert *x509.Certificate) bool {
	pub, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	return ok && pub.Equal(cert.PublicKey)
}
