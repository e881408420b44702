package cluster

import (
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// JoinPath is where the issuing manager answers joins, on its API port.
const JoinPath = "/join/v1"

// tokensFile holds the tokens that this manager has issued.
const tokensFile = "join-tokens.json"

// issued is one entry of it.
type issued struct {
	ID         string          `json:"id"`
	Member     futago.MemberID `json:"member"`
	SecretHash string          `json:"secret_hash"`
	ExpiresAt  time.Time       `json:"expires_at"`
	UsedAt     time.Time       `json:"used_at,omitzero"`
	// Directory is that of the joiner. Its own repetition of the request is
	// answered again, for the answer may have been lost.
	Directory string `json:"directory,omitempty"`
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

// joinStatus maps the codes of a refused join to HTTP and back.
var joinStatus = map[futago.Code]int{
	futago.CodeInvalid:      http.StatusBadRequest,
	futago.CodeUnauthorized: http.StatusUnauthorized,
	futago.CodeConflict:     http.StatusConflict,
	futago.CodeStorageFull:  http.StatusInsufficientStorage,
}

// Admission issues join tokens and answers those who use them. It is safe for
// concurrent use.
type Admission struct {
	dir *Dir
	now func() time.Time
	// onJoin is told the addresses of each member that joined.
	onJoin func(futago.MemberID, Addresses)
	mu     sync.Mutex // guards tokensFile
}

// NewAdmission serves the tokens kept in dir. onJoin may be nil.
func NewAdmission(dir *Dir, now func() time.Time, onJoin func(futago.MemberID, Addresses)) *Admission {
	if onJoin == nil {
		onJoin = func(futago.MemberID, Addresses) {}
	}
	return &Admission{dir: dir, now: now, onJoin: onJoin}
}

func (a *Admission) load() (list []issued, err error) {
	path := a.dir.Path(tokensFile)
	b, err := atomicfile.ReadSummed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &list)
	} else if futago.CodeOf(err) != futago.CodeCorrupt {
		return nil, err
	}
	if err != nil {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s is damaged", path).WithAction("remove it and issue new tokens").Wrap(err)
	}
	return list, nil
}

// forget is how long after its end a token is still known, so that who uses it
// late is told why it does not work.
const forget = 24 * time.Hour

func (a *Admission) save(list []issued) error {
	now := a.now()
	kept := list[:0]
	for _, t := range list {
		if t.ExpiresAt.After(now.Add(-forget)) {
			kept = append(kept, t)
		}
	}
	b, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteSummed(a.dir.Path(tokensFile), b, 0o600)
}

// Issue makes a one-time token that admits a host as member m within ttl. It
// may name a member that has joined before: its directory is lost then, and
// the new one takes its place. Any manager may issue it, for any member but
// itself.
func (a *Admission) Issue(m futago.MemberID, ttl time.Duration) (string, error) {
	n := a.dir.Node()
	switch {
	case !m.Valid():
		return "", futago.Errorf(futago.CodeInvalid, "there is no member %q", m).WithAction("use a, b or w")
	case m == n.Member:
		return "", futago.Errorf(futago.CodeInvalid, "this manager is member %s itself", m).
			WithAction("issue the token on the other manager, or name another member (--member)")
	case m == futago.MemberW && n.ThirdVote != ThirdVoteManager:
		return "", futago.Errorf(futago.CodeInvalid, "the third vote of this cluster is a register, which joins nothing").WithAction("use a or b")
	case a.dir.keys.caKey == nil:
		return "", futago.Errorf(futago.CodeInvalid, "member %s holds no CA key", n.Member).WithAction("issue the token on a manager")
	case ttl <= 0:
		return "", futago.Errorf(futago.CodeInvalid, "a token cannot be good for %s", ttl).WithAction("use a time like 1h")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	list, err := a.load()
	if err != nil {
		return "", err
	}
	t := newJoinToken(n.Members[n.Member].API, a.dir.keys.Pin(), m)
	list = append(list, issued{ID: t.ID, Member: m, SecretHash: hashSecret(t.Secret), ExpiresAt: a.now().Add(ttl).UTC()})
	if err := a.save(list); err != nil {
		return "", err
	}
	return t.encode()
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
		status, ok := joinStatus[futago.CodeOf(err)]
		if !ok {
			status = http.StatusInternalServerError
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(resp) // the joiner repeats after a broken answer
}

func (a *Admission) admit(req joinRequest) (resp joinResponse, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list, err := a.load()
	if err != nil {
		return resp, err
	}
	t, err := a.find(list, req)
	if err != nil {
		return resp, err
	}
	known := a.dir.Node().Members[t.Member]
	addr := Addresses{Cluster: req.Addresses.Cluster, API: req.Addresses.API, Joins: known.Joins + 1}
	if !t.UsedAt.IsZero() && known.Cluster == addr.Cluster && known.API == addr.API {
		addr.Joins = known.Joins // a repetition
	}
	if resp, err = a.sign(t.Member, addr, req); err != nil {
		return resp, err
	}
	// The token is used up before anything else comes of it.
	t.UsedAt, t.Directory = a.now().UTC(), req.Directory
	if err := a.save(list); err != nil {
		return resp, err
	}
	news, err := a.dir.AddMember(t.Member, addr)
	if news {
		a.onJoin(t.Member, addr)
	}
	return resp, err
}

// find returns the token that the request may use.
func (a *Admission) find(list []issued, req joinRequest) (*issued, error) {
	hash := []byte(hashSecret(req.Secret))
	for i := range list {
		t := &list[i]
		if t.ID != req.ID || subtle.ConstantTimeCompare([]byte(t.SecretHash), hash) != 1 {
			continue
		}
		switch {
		case !t.UsedAt.IsZero() && t.Directory != req.Directory:
			return nil, futago.Errorf(futago.CodeConflict, "this join token was used at %s", t.UsedAt.Format(time.RFC3339)).
				WithAction("each token admits one host once; issue another (futago token join)")
		case !a.now().Before(t.ExpiresAt):
			return nil, futago.Errorf(futago.CodeUnauthorized, "this join token expired at %s", t.ExpiresAt.Format(time.RFC3339)).
				WithAction("issue another (futago token join)")
		}
		return t, nil
	}
	return nil, futago.Errorf(futago.CodeUnauthorized, "this manager knows no such join token").
		WithAction("use the token on the manager that issued it, or issue another (futago token join)")
}

func (a *Admission) sign(m futago.MemberID, addr Addresses, req joinRequest) (resp joinResponse, err error) {
	if err := checkAddresses(m, addr); err != nil {
		return resp, err
	}
	if len(req.Directory) != 32 {
		return resp, futago.Errorf(futago.CodeInvalid, "the request names no data directory")
	}
	pub, err := x509.ParsePKIXPublicKey(req.PublicKey)
	if err != nil {
		return resp, futago.Errorf(futago.CodeInvalid, "the request holds no public key").Wrap(err)
	}
	n, k := a.dir.Node(), a.dir.keys
	cert, err := k.sign(pub, n.ClusterID, m, addr, a.now())
	if err != nil {
		return resp, err
	}
	resp = joinResponse{
		ClusterID: n.ClusterID, ClusterName: n.ClusterName, ThirdVote: n.ThirdVote, Members: maps.Clone(n.Members),
		CACert: k.caCert.Raw, SealKey: k.sealKey[:], Cert: cert,
	}
	resp.Members[m] = addr
	if m != futago.MemberW {
		if resp.CAKey, err = x509.MarshalPKCS8PrivateKey(k.caKey); err != nil {
			return resp, err
		}
	}
	if n.Invitation != "" {
		resp.Invitation, err = k.Open(n.Invitation)
	}
	return resp, err
}
