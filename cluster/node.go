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
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

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
	// Joins counts how often a host took this member's place: of two members'
	// memories the higher one is the newer.
	Joins uint64 `json:"joins,omitempty"`
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

// Dir is an opened data directory, locked against a second process. It is safe
// for concurrent use.
type Dir struct {
	path string
	lock *os.File
	keys *Keys

	mu   sync.Mutex // guards node and node.json
	node Node
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
		return nil, futago.Errorf(futago.CodeInvalid, "the data directory %s cannot be locked", dir).
			WithAction("run this as the user that owns it").Wrap(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, futago.Errorf(futago.CodeConflict, "%s is in use by another process", dir).
			WithAction("stop that process first (fuser %s)", filepath.Join(dir, "LOCK")).Wrap(err)
	}
	return f, nil
}

func (d *Dir) load() error {
	n, err := readNode(nodePath(d.path))
	if err != nil {
		return err
	}
	keys, err := loadKeys(d.path)
	if err != nil {
		return err
	}
	if err := keys.check(n); err != nil {
		return err
	}
	keys.supersede(n.Members)
	d.node, d.keys = n, keys
	return nil
}

// anew is what an operator can do about a directory that is of no more use.
const anew = "the other members hold the same history: move this directory away, issue a token on a running manager " +
	"(futago token join --member %s) and run futago join here"

func readNode(path string) (n Node, err error) {
	lost := func(cause error) error {
		return futago.Errorf(futago.CodeCorrupt, "%s, which says what member this is, is damaged", path).
			WithAction(anew, "a|b|w").Wrap(cause)
	}
	b, err := atomicfile.ReadSummed(path)
	if err != nil {
		if futago.CodeOf(err) == futago.CodeCorrupt {
			return n, lost(err)
		}
		return n, err
	}
	// The rest of a newer layout may not even decode.
	var f struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return n, lost(err)
	}
	if f.Format > Format {
		return n, futago.Errorf(futago.CodeIncompatible, "%s has layout %d, this program knows up to %d", path, f.Format, Format).
			WithAction("install the Futago version that wrote it, or a newer one")
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, lost(err)
	}
	if id, err := hex.DecodeString(n.Directory); err != nil || len(id) != len(n.Identity()) || !n.Member.Valid() || n.ClusterID == "" {
		return n, lost(errors.New("it lacks the member, the cluster or the directory"))
	}
	return n, nil
}

// Close unlocks the directory.
func (d *Dir) Close() error { return d.lock.Close() }

// Path returns the path of name within the directory.
func (d *Dir) Path(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// Node returns the member's facts. The map in it is never changed.
func (d *Dir) Node() Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node
}

// Keys returns the certificates and keys.
func (d *Dir) Keys() *Keys { return d.keys }

// Identity returns the directory's identity as bytes.
func (n Node) Identity() (id [16]byte) {
	_, _ = hex.Decode(id[:], []byte(n.Directory))
	return id
}

// AddMember records durably where a member is. It reports whether that is
// news: what is known from a later join is kept.
func (d *Dir) AddMember(m futago.MemberID, a Addresses) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.node.Members[m]; ok && a.Joins <= known.Joins {
		return false, nil
	}
	n := d.node
	n.Members = maps.Clone(n.Members)
	n.Members[m] = a
	if err := writeNode(d.path, n, d.keys); err != nil {
		return false, err
	}
	d.node = n
	d.keys.supersede(n.Members)
	return true, nil
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
	if o.ClusterName == "" || strings.ContainsFunc(o.ClusterName, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, futago.Errorf(futago.CodeInvalid, "cluster name %q is empty or not printable", o.ClusterName)
	}
	lock, err := prepare(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: o.Dir, lock: lock}
	o.Addresses.Joins = 1
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
		return nil, futago.Errorf(futago.CodeInvalid, "the data directory %s cannot be made", dir).
			WithAction("run this as root, or choose a directory of your own (--dir)").Wrap(err)
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
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			return futago.Errorf(futago.CodeInvalid, "%s address %q is not host:port", what, s).
				WithAction("write it like host.example:7701 or [2001:db8::1]:7701")
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
