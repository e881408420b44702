// Package cluster holds what makes a data directory a member of one cluster:
// its identity, the addresses of the members, the certificates, the key that
// seals secrets, and the one-time tokens by which further members join.
//
// Everything here is a file of the member's own and none of it is replicated,
// for it must be readable before there is a leader.
package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// Format is the version of the data directory's layout. A directory of a
// higher one is refused.
const Format = 1

// ThirdVote is the kind of third vote that the site chose (docs/third-vote.md).
type ThirdVote string

// The kinds.
const (
	// ThirdVoteManager is an ordinary third member on a third host.
	ThirdVoteManager ThirdVote = "manager"
	// ThirdVoteRegister is a compare-and-set register, here in a witness.
	ThirdVoteRegister ThirdVote = "register"
)

// Addresses are where a member is reached by the others.
type Addresses struct {
	// Cluster is host:port of the member link (mutual TLS).
	Cluster string `json:"cluster"`
	// API is host:port of the REST API, which a standby names to its clients.
	// Empty for the third vote.
	API string `json:"api,omitempty"`
}

// Node is the content of node.json.
type Node struct {
	Format      int             `json:"format"`
	ClusterID   string          `json:"cluster_id"` // random, hexadecimal
	ClusterName string          `json:"cluster_name"`
	Member      futago.MemberID `json:"member"`
	// Directory identifies this data directory: 16 random bytes, hexadecimal.
	// A copy of a directory has the same one, a new directory another.
	Directory string    `json:"directory"`
	ThirdVote ThirdVote `json:"third_vote"`
	// Invitation of the witness, for ThirdVoteRegister.
	Invitation futago.Secret                 `json:"invitation,omitempty"`
	Members    map[futago.MemberID]Addresses `json:"members"`
	// Founder is true in the directory that init made.
	Founder   bool      `json:"founder,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// Dir is an opened data directory, locked against a second process.
type Dir struct {
	path string
	lock *os.File
	node Node
	keys *Keys
}

func nodePath(dir string) string { return filepath.Join(dir, "node.json") }

// Exists reports whether dir holds a member already.
func Exists(dir string) bool {
	_, err := os.Stat(nodePath(dir))
	return err == nil
}

// Open locks and reads a data directory. Errors are [futago.Error]s: no
// member there (CodeNotFound), in use (CodeConflict), damaged (CodeCorrupt),
// of a newer layout (CodeIncompatible).
func Open(dir string) (*Dir, error) {
	if !Exists(dir) {
		return nil, futago.Errorf(futago.CodeNotFound, "no member in %s", dir).
			WithAction("run futago init on the first host, futago join on the others")
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: dir, lock: lock}
	if err := d.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, futago.Errorf(futago.CodeConflict, "%s is in use by another process", dir).
			WithAction("stop that process first (fuser %s)", filepath.Join(dir, "LOCK")).Wrap(err)
	}
	return f, nil
}

func (d *Dir) load() error {
	b, err := atomicfile.ReadSummed(nodePath(d.path))
	if err != nil {
		return err
	}
	var n Node
	if err := json.Unmarshal(b, &n); err != nil {
		return futago.Errorf(futago.CodeCorrupt, "%s is no member file", nodePath(d.path)).Wrap(err)
	}
	if n.Format > Format {
		return futago.Errorf(futago.CodeIncompatible, "%s has layout %d, this program knows up to %d", d.path, n.Format, Format).
			WithAction("install the Futago version that wrote it, or a newer one")
	}
	if !n.Member.Valid() || n.ClusterID == "" || n.Directory == "" {
		return futago.Errorf(futago.CodeCorrupt, "%s lacks the member, cluster or directory", nodePath(d.path))
	}
	keys, err := loadKeys(d.path)
	if err != nil {
		return err
	}
	if err := keys.check(n); err != nil {
		return err
	}
	d.node, d.keys = n, keys
	return nil
}

// Close unlocks the directory.
func (d *Dir) Close() error { return d.lock.Close() }

// Path returns the path of name within the directory.
func (d *Dir) Path(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// Node returns the member's facts.
func (d *Dir) Node() Node { return d.node }

// Keys returns the certificates and keys.
func (d *Dir) Keys() *Keys { return d.keys }

// Identity returns the directory's identity as bytes.
func (n Node) Identity() (id [16]byte) {
	_, _ = hex.Decode(id[:], []byte(n.Directory))
	return id
}

// AddMember records the addresses of a member that joined, durably.
func (d *Dir) AddMember(m futago.MemberID, a Addresses) error {
	n := d.node
	n.Members = make(map[futago.MemberID]Addresses, len(d.node.Members)+1)
	maps.Copy(n.Members, d.node.Members)
	n.Members[m] = a
	if err := writeNode(d.path, n, d.keys); err != nil {
		return err
	}
	d.node = n
	return nil
}

// writeNode seals the invitation, so that node.json holds no secret in the clear.
func writeNode(dir string, n Node, k *Keys) error {
	if n.Invitation != "" && !n.Invitation.Sealed() {
		s, err := k.Seal(n.Invitation.Reveal())
		if err != nil {
			return err
		}
		n.Invitation = s
	}
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteSummed(nodePath(dir), b, 0o600)
}

// InitOptions are the facts that the founder of a cluster needs.
type InitOptions struct {
	Dir         string
	ClusterName string
	ThirdVote   ThirdVote
	Invitation  string // for ThirdVoteRegister
	Addresses   Addresses
	Now         time.Time
}

// Init makes the first member, a, in an empty or missing directory.
func Init(o InitOptions) (*Dir, error) {
	if err := checkAddresses(futago.MemberA, o.Addresses); err != nil {
		return nil, err
	}
	switch {
	case o.ThirdVote == ThirdVoteRegister && o.Invitation == "":
		return nil, futago.Errorf(futago.CodeInvalid, "third vote register needs the witness's invitation").
			WithAction("run futago witness invite on the witness and pass its line as --witness")
	case o.ThirdVote != ThirdVoteRegister && o.ThirdVote != ThirdVoteManager:
		return nil, futago.Errorf(futago.CodeInvalid, "unknown third vote %q", o.ThirdVote).WithAction("use register or manager")
	}
	lock, err := prepare(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: o.Dir, lock: lock}
	fail := func(err error) (*Dir, error) { return nil, errors.Join(err, lock.Close()) }
	n := Node{
		Format: Format, ClusterID: randomHex(), ClusterName: o.ClusterName, Member: futago.MemberA,
		Directory: randomHex(), ThirdVote: o.ThirdVote, Invitation: futago.Secret(o.Invitation),
		Members: map[futago.MemberID]Addresses{futago.MemberA: o.Addresses}, Founder: true, CreatedAt: o.Now.UTC(),
	}
	keys, err := newClusterKeys(n, o.Now)
	if err != nil {
		return fail(err)
	}
	if err := keys.write(o.Dir); err != nil {
		return fail(err)
	}
	// node.json comes last: its presence means that the directory is complete.
	if err := writeNode(o.Dir, n, keys); err != nil {
		return fail(err)
	}
	if err := d.load(); err != nil {
		return fail(err)
	}
	return d, nil
}

// prepare makes and locks a directory that holds no member yet.
func prepare(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	if Exists(dir) {
		_ = lock.Close()
		return nil, futago.Errorf(futago.CodeConflict, "%s holds a member already", dir).
			WithAction("choose another directory, or remove this one if its member is given up")
	}
	for _, name := range []string{"raft.db", "state.db"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			_ = lock.Close()
			return nil, futago.Errorf(futago.CodeConflict, "%s holds %s of an earlier member", dir, name).
				WithAction("move the old directory away; it may be the only copy of its history")
		}
	}
	return lock, nil
}

func checkAddresses(m futago.MemberID, a Addresses) error {
	check := func(what, s string) error {
		host, port, err := net.SplitHostPort(s)
		if err != nil || port == "" || port == "0" {
			return futago.Errorf(futago.CodeInvalid, "%s address %q is not host:port", what, s)
		}
		if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
			return futago.Errorf(futago.CodeInvalid, "%s address %q names no host that the others can dial", what, s).
				WithAction("give the address under which the other members reach this host")
		}
		return nil
	}
	if err := check("cluster", a.Cluster); err != nil {
		return err
	}
	if m == futago.MemberW {
		return nil
	}
	return check("API", a.API)
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
