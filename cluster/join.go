package cluster

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// JoinOptions are what a further member needs.
type JoinOptions struct {
	Dir       string
	Token     string
	Addresses Addresses
	Now       time.Time
}

// Join makes the directory of a further member by asking the issuer of the
// token. There is no member in the directory before the issuer has agreed; an
// interrupted join can be repeated with the same token and directory.
func Join(ctx context.Context, o JoinOptions) (*Dir, error) {
	t, err := parseJoinToken(o.Token)
	if err != nil {
		return nil, err
	}
	if err := checkAddresses(t.Member, o.Addresses); err != nil {
		return nil, err
	}
	lock, err := prepare(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: o.Dir, lock: lock}
	if err := join(ctx, d, t, o); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func join(ctx context.Context, d *Dir, t joinToken, o JoinOptions) error {
	key, directory, err := pendingJoin(d)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	resp, err := askJoin(ctx, t, joinRequest{ID: t.ID, Secret: t.Secret, Directory: directory, PublicKey: pub, Addresses: o.Addresses})
	if err != nil {
		return err
	}
	keys := &Keys{}
	if keys.caCert, err = x509.ParseCertificate(resp.CACert); err != nil {
		return err
	}
	if pinOf(keys.caCert) != t.Pin {
		return futago.Errorf(futago.CodeUnauthorized, "the answer holds another CA than the token").WithAction("issue a new token and look who answers at %s", t.API)
	}
	if len(resp.CAKey) > 0 {
		if keys.caKey, err = parseKey(resp.CAKey); err != nil {
			return err
		}
	}
	if copy(keys.sealKey[:], resp.SealKey) != len(keys.sealKey) {
		return futago.Errorf(futago.CodeInternal, "%s sent no seal key", t.API)
	}
	if err := keys.setMember(resp.Cert, key); err != nil {
		return err
	}
	n := Node{
		Format: Format, ClusterID: resp.ClusterID, ClusterName: resp.ClusterName, Member: t.Member, Directory: directory,
		ThirdVote: resp.ThirdVote, Invitation: futago.Secret(resp.Invitation), Members: resp.Members, CreatedAt: o.Now.UTC(),
	}
	if err := keys.write(d.path); err != nil {
		return err
	}
	if err := writeNode(d.path, n, keys); err != nil {
		return err
	}
	if err := os.Remove(d.Path(pendingFile)); err != nil {
		return err
	}
	return d.load()
}

// pendingFile holds key and identity of a join that has not ended.
const pendingFile = "join-pending.json"

// pendingJoin keeps key and directory identity over an interrupted join, so
// that its repetition is recognised.
func pendingJoin(d *Dir) (crypto.Signer, string, error) {
	type pending struct {
		Directory string `json:"directory"`
		Key       []byte `json:"key"`
	}
	path := d.Path(pendingFile)
	// One that cannot be read is no loss: the join begins anew.
	if b, err := atomicfile.ReadSummed(path); err == nil {
		var p pending
		if err := json.Unmarshal(b, &p); err == nil {
			if k, err := parseKey(p.Key); err == nil {
				return k, p.Directory, nil
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", err
	}
	p := pending{Directory: randomHex(), Key: der}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, "", err
	}
	return key, p.Directory, atomicfile.WriteSummed(path, b, 0o600)
}

// askJoin posts the request to the issuer, which must present the pinned CA.
func askJoin(ctx context.Context, t joinToken, req joinRequest) (resp joinResponse, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return resp, err
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the pin
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPin(cs, t.Pin) },
	}}}
	defer client.CloseIdleConnections()
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+t.API+JoinPath, bytes.NewReader(body))
	if err != nil {
		return resp, err
	}
	hr.Header.Set("Content-Type", "application/json")
	res, err := client.Do(hr)
	if e, ok := errors.AsType[*futago.Error](err); ok {
		return resp, e // who answers is not whom the token names
	}
	if err != nil {
		return resp, futago.Errorf(futago.CodeUnavailable, "manager at %s does not answer", t.API).
			WithAction("check that it runs and that its API port is reachable from here; the token stays good").Wrap(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return resp, futago.Errorf(futago.CodeUnavailable, "the answer of %s broke off", t.API).WithAction("run the same join again").Wrap(err)
	}
	if res.StatusCode != http.StatusOK {
		code := futago.CodeInternal
		for c, status := range joinStatus {
			if status == res.StatusCode {
				code = c
			}
		}
		return resp, futago.Errorf(code, "%s refused: %s", t.API, strings.TrimSpace(string(b)))
	}
	if err := json.Unmarshal(b, &resp); err != nil {
		return resp, futago.Errorf(futago.CodeInternal, "%s answered something else than a join", t.API).Wrap(err)
	}
	return resp, nil
}

// verifyPin accepts a chain whose leaf is signed by the CA with the pin.
func verifyPin(cs tls.ConnectionState, pin string) error {
	if len(cs.PeerCertificates) == 0 {
		return futago.Errorf(futago.CodeUnauthorized, "the manager showed no certificate")
	}
	for _, c := range cs.PeerCertificates[1:] {
		if pinOf(c) != pin {
			continue
		}
		if err := signedBy(cs.PeerCertificates[0], c); err != nil {
			return futago.Errorf(futago.CodeUnauthorized, "whoever answers holds no certificate of the token's cluster").Wrap(err)
		}
		return nil
	}
	return futago.Errorf(futago.CodeUnauthorized, "whoever answers is not the cluster that issued the token").
		WithAction("check the address in front of the token's issuer, then issue a new token")
}
