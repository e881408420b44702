package raftfsm

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// snapshotStore keeps snapshots as references. The state machine is durable by
// itself, so taking a snapshot means to make it durable up to an index and to
// write that index down: a cost that does not depend on the history's size.
// Bytes are made only when a member needs an install, from a consistent copy of
// the live database, whose applied index may be newer than the reference;
// entries up to it are skipped by index.
//
// On the receiving side the bytes land in a file, which stays until the state
// machine has taken them over (see Node.finishInstall): a crash in between must
// not leave a database that is behind what Raft thinks is applied.
//
// What travels is the database file followed by its SHA-256, so that a receiver
// never takes over a copy that was damaged on the way or on its disk.
type snapshotStore struct {
	dir    string
	backup func(ctx context.Context, path string) (sum [32]byte, err error)
	copies atomic.Uint64 // names the copies made for sending
}

// snapshotFile is the content of a reference.
type snapshotFile struct {
	Meta raft.SnapshotMeta `json:"meta"`
	// Installed names the received database file, of SHA-256 Sum; "" for a
	// reference.
	Installed string `json:"installed,omitempty"`
	Sum       []byte `json:"sum,omitempty"`
	// Applied is the state machine's entry at the time of a reference; Meta.Index
	// counts entries of the library itself too.
	Applied uint64 `json:"applied,omitempty"`
}

const snapshotSuffix = ".snapshot"

func newSnapshotStore(dir string, backup func(context.Context, string) ([32]byte, error)) (*snapshotStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Copies that were being made or received when the process died.
	stale, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if err != nil {
		return nil, err
	}
	for _, p := range stale {
		if err := os.Remove(p); err != nil {
			return nil, err
		}
	}
	return &snapshotStore{dir: dir, backup: backup}, nil
}

// Create implements [raft.SnapshotStore].
func (s *snapshotStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	id := fmt.Sprintf("%020d-%020d", term, index)
	return &snapshotSink{store: s, meta: raft.SnapshotMeta{
		Version: v, ID: id, Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}, nil
}

// List implements [raft.SnapshotStore]: the newest only, for older references
// name states that no longer exist.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.all()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return []*raft.SnapshotMeta{&all[0].Meta}, nil
}

// all returns the references, newest first.
func (s *snapshotStore) all() ([]snapshotFile, error) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+snapshotSuffix))
	if err != nil {
		return nil, err
	}
	var out []snapshotFile
	for _, n := range names {
		b, err := atomicfile.ReadSummed(n)
		if futago.CodeOf(err) == futago.CodeCorrupt {
			return nil, futago.Errorf(futago.CodeCorrupt, "a snapshot reference is damaged").WithAction(joinAnew).Wrap(err)
		}
		if err != nil {
			return nil, err
		}
		var f snapshotFile
		if err := json.Unmarshal(b, &f); err != nil {
			return nil, futago.Errorf(futago.CodeCorrupt, "%s is no snapshot reference", n).WithAction(joinAnew).Wrap(err)
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b snapshotFile) int { return strings.Compare(b.Meta.ID, a.Meta.ID) })
	return out, nil
}

// pending returns the newest snapshot if its received bytes wait to be taken over.
func (s *snapshotStore) pending() (f snapshotFile, ok bool, err error) {
	all, err := s.all()
	if err != nil || len(all) == 0 || all[0].Installed == "" {
		return f, false, err
	}
	return all[0], true, nil
}

func (s *snapshotStore) installedPath(f snapshotFile) string {
	return filepath.Join(s.dir, f.Installed)
}

// settle turns a received snapshot into a reference, once its bytes are the
// state machine's, and removes the bytes.
func (s *snapshotStore) settle(f snapshotFile, applied uint64) error {
	path := s.installedPath(f)
	f.Installed, f.Sum, f.Applied = "", nil, applied
	if err := s.write(f); err != nil {
		return err
	}
	return removeIfThere(path)
}

func (s *snapshotStore) write(f snapshotFile) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteSummed(filepath.Join(s.dir, f.Meta.ID+snapshotSuffix), b, 0o600); err != nil {
		return err
	}
	// Only now may the older ones go.
	all, err := s.all()
	if err != nil {
		return err
	}
	for _, old := range all {
		if old.Meta.ID >= f.Meta.ID {
			continue
		}
		if old.Installed != "" {
			if err := removeIfThere(s.installedPath(old)); err != nil {
				return err
			}
		}
		if err := os.Remove(filepath.Join(s.dir, old.Meta.ID+snapshotSuffix)); err != nil {
			return err
		}
	}
	return nil
}

// Open implements [raft.SnapshotStore]. For a reference it returns a [liveCopy]:
// the library opens a snapshot before it is known whether anybody will read it.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	all, err := s.all()
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(all, func(f snapshotFile) bool { return f.Meta.ID == id })
	if i < 0 {
		return nil, nil, fmt.Errorf("snapshot %s is gone", id)
	}
	f := all[i]
	if f.Installed != "" {
		// Received, and about to be restored from: the file is there.
		file, err := os.Open(s.installedPath(f))
		return &f.Meta, file, err
	}
	return &f.Meta, &liveCopy{store: s}, nil
}

// liveCopy is the bytes of a reference: a copy of the live database, made when
// its size or its first byte is asked for, which takes time in proportion to the
// size. Where w is a register, the library opens a snapshot for it once w was
// stuck for so long that the log it needs is gone, and nobody reads that.
//
// So the size in the [raft.SnapshotMeta] is not known yet, and is 0; see
// [snapshotTransport].
type liveCopy struct {
	store *snapshotStore
	file  *os.File // nil before the copy is made
	err   error
}

// size makes the copy and returns its length in bytes.
func (c *liveCopy) size() (int64, error) {
	if err := c.make(); err != nil {
		return 0, err
	}
	fi, err := c.file.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (c *liveCopy) make() error {
	if c.file == nil && c.err == nil {
		path := filepath.Join(c.store.dir, fmt.Sprintf("send-%d.part", c.store.copies.Add(1)))
		if c.file, c.err = c.store.copyTo(path); c.err != nil {
			c.err = errors.Join(c.err, removeIfThere(path))
		}
	}
	return c.err
}

func (c *liveCopy) Read(p []byte) (int, error) {
	if err := c.make(); err != nil {
		return 0, err
	}
	return c.file.Read(p)
}

// Close removes the copy.
func (c *liveCopy) Close() error {
	if c.file == nil {
		return nil
	}
	return errors.Join(c.file.Close(), os.Remove(c.file.Name()))
}

// copyTo makes a copy of the database with its checksum behind it, positioned
// at its beginning.
func (s *snapshotStore) copyTo(path string) (*os.File, error) {
	sum, err := s.backup(context.Background(), path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(sum[:]); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// snapshotSink takes a reference (nothing written) or a received snapshot.
type snapshotSink struct {
	store *snapshotStore
	meta  raft.SnapshotMeta
	file  *os.File
	done  bool
	// applied goes into a reference.
	applied uint64
}

func (k *snapshotSink) ID() string { return k.meta.ID }

func (k *snapshotSink) Write(p []byte) (int, error) {
	if k.file == nil {
		f, err := os.CreateTemp(k.store.dir, "received-*.part")
		if err != nil {
			return 0, err
		}
		k.file = f
	}
	n, err := k.file.Write(p)
	if err != nil && isFull(err) {
		err = storageFull(k.file.Name(), err)
	}
	return n, err
}

func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	f := snapshotFile{Meta: k.meta, Applied: k.applied}
	if k.file != nil {
		part := k.file.Name()
		sum, err := takeSum(k.file)
		if err := errors.Join(err, k.file.Sync(), k.file.Close()); err != nil {
			return errors.Join(err, os.Remove(part))
		}
		f.Sum = sum
		f.Installed = k.meta.ID + ".db"
		if err := os.Rename(part, k.store.installedPath(f)); err != nil {
			return err
		}
	}
	return k.store.write(f)
}

// takeSum cuts the checksum off a received file.
func takeSum(f *os.File) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	sum := make([]byte, sha256.Size)
	if size < int64(len(sum)) {
		return nil, futago.Errorf(futago.CodeCorrupt, "the received snapshot has %d bytes", size)
	}
	if _, err := f.ReadAt(sum, size-int64(len(sum))); err != nil {
		return nil, err
	}
	return sum, f.Truncate(size - int64(len(sum)))
}

func (k *snapshotSink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.file == nil {
		return nil
	}
	return errors.Join(k.file.Close(), os.Remove(k.file.Name()))
}
