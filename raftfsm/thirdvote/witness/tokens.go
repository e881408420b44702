package witness

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// maxTokens bounds how many tokens of one cluster are valid at a time.
const maxTokens = 16

var errTokenList = errors.New("not a list of tokens")

// tokenEntry is one valid token; the token itself is not kept.
type tokenEntry struct {
	SHA256 string    `json:"sha256"`
	Made   time.Time `json:"made"`
}

// tokens is the list of a cluster as last read, and of which file.
type tokens struct {
	info os.FileInfo
	sums [][sha256.Size]byte
}

// allows reports whether token is valid for the cluster. It looks at the file
// again when that changed, so that `futago witness invite` works beside a
// running server.
func (c *cluster) allows(token string) (bool, error) {
	path := filepath.Join(c.dir, "tokens")
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t := c.tok.Load()
	if t == nil || !os.SameFile(t.info, info) || !t.info.ModTime().Equal(info.ModTime()) || t.info.Size() != info.Size() {
		entries, err := readTokens(path)
		if err != nil {
			return false, err
		}
		t = &tokens{info: info}
		for _, e := range entries {
			var sum [sha256.Size]byte
			if n, err := hex.Decode(sum[:], []byte(e.SHA256)); err != nil || n != len(sum) {
				return false, corrupt(path, errTokenList)
			}
			t.sums = append(t.sums, sum)
		}
		c.tok.Store(t)
	}
	got := sha256.Sum256([]byte(token))
	ok := 0
	for i := range t.sums {
		ok |= subtle.ConstantTimeCompare(got[:], t.sums[i][:])
	}
	return ok == 1, nil
}

func readTokens(path string) ([]tokenEntry, error) {
	payload, err := atomicfile.ReadSummed(path)
	if err != nil {
		return nil, err
	}
	var entries []tokenEntry
	if err := json.Unmarshal(payload, &entries); err != nil {
		return nil, corrupt(path, err)
	}
	for _, e := range entries {
		if len(e.SHA256) != hex.EncodedLen(sha256.Size) {
			return nil, corrupt(path, errTokenList)
		}
	}
	return entries, nil
}

// InvitationOptions say for whom NewInvitation makes an invitation.
type InvitationOptions struct {
	Dir     string // data directory of the witness; made if missing
	Cluster string // see ValidCluster
	URL     string // https://host:port, where managers reach the witness
	Replace bool   // earlier tokens of the cluster end with this one
	Now     func() time.Time
}

// NewInvitation makes a token for a cluster and returns all that the cluster
// needs to use this witness. It may run beside the server, which honours the
// token at once. Errors are *futago.Error where the operator can do something.
func NewInvitation(o InvitationOptions) (inv Invitation, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if !ValidCluster(o.Cluster) {
		return Invitation{}, badCluster(o.Cluster)
	}
	if err := validURL(o.URL); err != nil {
		return Invitation{}, err
	}
	disk := atomicfile.OS()
	root, err := prepareDir(disk, o.Dir)
	if err != nil {
		return Invitation{}, diskError(err, o.Dir)
	}
	id, err := loadIdentity(disk, o.Dir, nil, o.Now())
	if err != nil {
		return Invitation{}, diskError(err, o.Dir)
	}
	dir := filepath.Join(root, o.Cluster)
	if err := mkdir(disk, dir); err != nil {
		return Invitation{}, diskError(err, o.Dir)
	}
	lock, err := lockWait(filepath.Join(o.Dir, "tokens.lock"))
	if err != nil {
		return Invitation{}, diskError(err, o.Dir)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	path := filepath.Join(dir, "tokens")
	var entries []tokenEntry
	if !o.Replace {
		entries, err = readTokens(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Invitation{}, diskError(err, o.Dir)
		}
	}
	if len(entries) >= maxTokens {
		return Invitation{}, futago.Errorf(futago.CodeConflict, "cluster %s has %d valid tokens already", o.Cluster, len(entries)).
			WithAction("give --replace, which makes the new token the only one")
	}
	token := newToken()
	sum := sha256.Sum256([]byte(token))
	entries = append(entries, tokenEntry{SHA256: hex.EncodeToString(sum[:]), Made: o.Now().UTC().Truncate(time.Second)})
	payload, err := json.Marshal(entries)
	if err != nil {
		return Invitation{}, err
	}
	if err := disk.ReplaceSummed(path, payload, filePerm); err != nil {
		return Invitation{}, diskError(err, o.Dir)
	}
	return Invitation{URL: o.URL, Cluster: o.Cluster, Pin: id.pin, Token: token}, nil
}

// prepareDir makes the data directory and returns the one of the clusters.
func prepareDir(disk *atomicfile.Disk, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	root := filepath.Join(dir, "clusters")
	return root, mkdir(disk, root)
}

// diskError turns an error of the file system into one an operator can use.
func diskError(err error, dir string) error {
	if _, ok := errors.AsType[*futago.Error](err); ok {
		return err
	}
	if diskFull(err) {
		return futago.Errorf(futago.CodeStorageFull, "no room in %s", dir).
			WithAction("free some space on its file system").Wrap(err)
	}
	return futago.Errorf(futago.CodeInternal, "cannot use data directory %s", dir).Wrap(err)
}
