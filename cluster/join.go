package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// JoinPath is where the issuing manager answers joins, on its API port.
const JoinPath = "/join/v1"

// joinPrefix marks a join token and its version.
const joinPrefix = "fgj1."

// joinToken is what the printed token holds.
type joinToken struct {
	API    string          `json:"api"` // host:port of the issuer
	Pin    string          `json:"pin"` // of the cluster's CA
	Member futago.MemberID `json:"member"`
	ID     string          `json:"id"`
	Secret string          `json:"secret"`
}

// issued is one line of join-tokens.json on the issuer.
type issued struct {
	ID         string          `json:"id"`
	Member     futago.MemberID `json:"member"`
	SecretHash string          `json:"secret_hash"`
	ExpiresAt  time.Time       `json:"expires_at"`
	UsedAt     time.Time       `json:"used_at,omitzero"`
	// Directory and Response make the repetition of one joiner's request
	// harmless: its answer may have been lost.
	Directory string          `json:"directory,omitempty"`
	Response  json.RawMessage `json:"response,omitempty"`
}

type joinRequest struct {
	ID        string    `json:"id"`
	Secret    string    `json:"secret"`
	Directory string    `json:"directory"`
	PublicKey []byte    `json:"public_key"` // PKIX
	Addresses Addresses `json:"addresses"`
}

type joinResponse struct {
	ClusterID   string                        `json:"cluster_id"`
	ClusterName string                        `json:"cluster_name"`
	ThirdVote   ThirdVote                     `json:"third_vote"`
	Invitation  string                        `json:"invitation,omitempty"`
	Members     map[futago.MemberID]Addresses `json:"members"`
	CACert      []byte                        `json:"ca_cert"`
	CAKey       []byte                        `json:"ca_key,omitempty"`
	SealKey     []byte                        `json:"seal_key"`
	Cert        []byte                        `json:"cert"`
}

// Admission issues join tokens and answers those who use them. It is safe for
// concurrent use.
type Admission struct {
	dir *Dir
	now func() time.Time
	// onJoin is told the addresses of each member that joined.
	onJoin func(futago.MemberID, Addresses)
	mu     sync.Mutex // guards join-tokens.json and node.json
}

// NewAdmission serves the tokens kept in dir. onJoin may be nil.
func NewAdmission(dir *Dir, now func() time.Time, onJoin func(futago.MemberID, Addresses)) *Admission {
	return &Admission{dir: dir, now: now, onJoin: onJoin}
}

func (a *Admission) load() ([]issued, error) {
	b, err := atomicfile.ReadSummed(a.dir.Path("join-tokens.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []issued
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, futago.Errorf(futago.CodeCorrupt, "join-tokens.json is damaged").WithAction("remove it and issue new tokens").Wrap(err)
	}
	return list, nil
}

func (a *Admission) save(list []issued) error {
	now := a.now()
	kept := list[:0]
	for _, t := range list {
		if t.ExpiresAt.After(now.Add(-24 * time.Hour)) {
			kept = append(kept, t)
		}
	}
	b, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteSummed(a.dir.Path("join-tokens.json"), b, 0o600)
}

// Issue makes a one-time token that admits member m within ttl. The token pins
// the cluster's CA, so the joiner cannot be led to another cluster.
func (a *Admission) Issue(m futago.MemberID, ttl time.Duration) (string, error) {
	n := a.dir.Node()
	switch {
	case m == n.Member || !m.Valid():
		return "", futago.Errorf(futago.CodeInvalid, "member %q cannot join here", m).WithAction("issue a token for another member (a, b or w)")
	case m == futago.MemberW && n.ThirdVote != ThirdVoteManager:
		return "", futago.Errorf(futago.CodeInvalid, "the third vote of this cluster is a register and joins nothing")
	case a.dir.keys.caKey == nil:
		return "", futago.Errorf(futago.CodeInvalid, "member %s holds no CA key", n.Member).WithAction("issue the token on a manager")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	list, err := a.load()
	if err != nil {
		return "", err
	}
	t := joinToken{API: n.Members[n.Member].API, Pin: a.dir.keys.Pin(), Member: m, ID: randomHex(), Secret: randomHex() + randomHex()}
	sum := sha256.Sum256([]byte(t.Secret))
	list = append(list, issued{ID: t.ID, Member: m, SecretHash: hex.EncodeToString(sum[:]), ExpiresAt: a.now().Add(ttl).UTC()})
	if err := a.save(list); err != nil {
		return "", err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return joinPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// ServeHTTP answers a join: POST with a joinRequest. It has no other
// authentication than the token.
func (a *Admission) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
		return
	}
	var req joinRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&req); err != nil {
		http.Error(w, "the request is no join request", http.StatusBadRequest)
		return
	}
	resp, err := a.admit(req)
	if err != nil {
		status := map[futago.Code]int{
			futago.CodeUnauthorized: http.StatusUnauthorized, futago.CodeInvalid: http.StatusBadRequest, futago.CodeConflict: http.StatusConflict,
		}[futago.CodeOf(err)]
		if status == 0 {
			status = http.StatusInternalServerError
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(resp)
}

func (a *Admission) admit(req joinRequest) (json.RawMessage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list, err := a.load()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(req.Secret))
	for i := range list {
		t := &list[i]
		if t.ID != req.ID || subtle.ConstantTimeCompare([]byte(t.SecretHash), []byte(hex.EncodeToString(sum[:]))) != 1 {
			continue
		}
		switch {
		case !t.UsedAt.IsZero() && t.Directory == req.Directory:
			return t.Response, nil
		case !t.UsedAt.IsZero():
			return nil, futago.Errorf(futago.CodeConflict, "this join token was used at %s", t.UsedAt.Format(time.RFC3339)).
				WithAction("each token admits one host once; issue another (futago token join)")
		case a.now().After(t.ExpiresAt):
			return nil, futago.Errorf(futago.CodeUnauthorized, "this join token expired at %s", t.ExpiresAt.Format(time.RFC3339)).
				WithAction("issue another (futago token join)")
		}
		resp, err := a.sign(t.Member, req)
		if err != nil {
			return nil, err
		}
		t.UsedAt, t.Directory, t.Response = a.now().UTC(), req.Directory, resp
		if err := a.save(list); err != nil {
			return nil, err
		}
		if err := a.dir.AddMember(t.Member, req.Addresses); err != nil {
			return nil, err
		}
		if a.onJoin != nil {
			a.onJoin(t.Member, req.Addresses)
		}
		return resp, nil
	}
	return nil, futago.Errorf(futago.CodeUnauthorized, "this manager knows no such join token").
		WithAction("use the token on the manager that issued it, or issue another (futago token join)")
}

func (a *Admission) sign(m futago.MemberID, req joinRequest) (json.RawMessage, error) {
	if err := checkAddresses(m, req.Addresses); err != nil {
		return nil, err
	}
	if len(req.Directory) != 32 {
		return nil, futago.Errorf(futago.CodeInvalid, "the request names no data directory")
	}
	pub, err := x509.ParsePKIXPublicKey(req.PublicKey)
	if err != nil {
		return nil, futago.Errorf(futago.CodeInvalid, "the request holds no public key").Wrap(err)
	}
	n, k := a.dir.Node(), a.dir.keys
	cert, err := k.sign(pub, n.ClusterID, m, req.Addresses, a.now())
	if err != nil {
		return nil, err
	}
	members := map[futago.MemberID]Addresses{m: req.Addresses}
	for id, addr := range n.Members {
		if id != m {
			members[id] = addr
		}
	}
	resp := joinResponse{
		ClusterID: n.ClusterID, ClusterName: n.ClusterName, ThirdVote: n.ThirdVote, Members: members,
		CACert: k.caCert.Raw, SealKey: k.sealKey[:], Cert: cert,
	}
	if m != futago.MemberW {
		if resp.CAKey, err = x509.MarshalPKCS8PrivateKey(k.caKey); err != nil {
			return nil, err
		}
	}
	if n.Invitation != "" {
		if resp.Invitation, err = k.Open(n.Invitation); err != nil {
			return nil, err
		}
	}
	return json.Marshal(resp)
}

// JoinOptions are what a further member needs.
type JoinOptions struct {
	Dir       string
	Token     string
	Addresses Addresses
	Now       time.Time
}

// Join makes the directory of a further member by asking the issuer of the
// token. Nothing is written before the issuer has agreed; an interrupted join
// can be repeated with the same token and directory.
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
	copy(keys.sealKey[:], resp.SealKey)
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
func pendingJoin(d *Dir) (*ecdsa.PrivateKey, string, error) {
	type pending struct {
		Directory string `json:"directory"`
		Key       []byte `json:"key"`
	}
	path := d.Path(pendingFile)
	if b, err := atomicfile.ReadSummed(path); err == nil {
		var p pending
		if err := json.Unmarshal(b, &p); err == nil {
			if s, err := parseKey(p.Key); err == nil {
				if k, ok := s.(*ecdsa.PrivateKey); ok {
					return k, p.Directory, nil
				}
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

func parseJoinToken(s string) (t joinToken, err error) {
	bad := futago.Errorf(futago.CodeInvalid, "this is no join token").WithAction("paste the whole line that futago token join printed; it begins with %s", joinPrefix)
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), joinPrefix)
	if !ok {
		return t, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil {
		return t, bad
	}
	if err := json.Unmarshal(b, &t); err != nil || t.API == "" || t.Pin == "" || t.Secret == "" || !t.Member.Valid() {
		return t, bad
	}
	return t, nil
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
		switch res.StatusCode {
		case http.StatusUnauthorized:
			code = futago.CodeUnauthorized
		case http.StatusConflict:
			code = futago.CodeConflict
		case http.StatusBadRequest:
			code = futago.CodeInvalid
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
		pool := x509.NewCertPool()
		pool.AddCert(c)
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	return futago.Errorf(futago.CodeUnauthorized, "whoever answers is not the cluster that issued the token").
		WithAction("check the address in front of the token's issuer, then issue a new token")
}
