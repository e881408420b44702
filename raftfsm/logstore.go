package raftfsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// LogStore is what a Raft log must offer here. Another implementation than
// raft-boltdb can be measured in its place.
type LogStore interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// openBolt opens the log in dir/raft.db. bbolt checks its meta pages by
// checksum and panics on structural damage, which is turned into an error here.
func openBolt(dir string) (st LogStore, err error) {
	path := filepath.Join(dir, "raft.db")
	defer func() {
		if p := recover(); p != nil {
			err = corruptLog(path, fmt.Errorf("%v", p))
		}
	}()
	if err := checkBolt(path); err != nil {
		return nil, corruptLog(path, err)
	}
	b, err := raftboltdb.New(raftboltdb.Options{
		Path: path, MsgpackUseNewTimeFormat: true,
		BoltOptions: &bbolt.Options{
			Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
			// Growing the map stops all readers, so map generously at once;
			// it is address space and not memory.
			InitialMmapSize: 1 << 30,
		},
	})
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, corruptLog(path, err)
	case errors.Is(err, syscall.ENOSPC):
		return nil, storageFull(path, err)
	default:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
}

// joinAnew is what an operator can do about a damaged log.
const joinAnew = "the other members have the same entries: move this member's data directory away and join anew " +
	"(futago token join on the other manager)"

func corruptLog(path string, err error) error {
	return futago.Errorf(futago.CodeCorrupt, "the Raft log %s is damaged", path).
		WithAction(joinAnew).Wrap(err)
}

func storageFull(path string, err error) error {
	return futago.Errorf(futago.CodeStorageFull, "no room to write %s", path).
		WithAction("free space on that file system; this member goes on by itself").Wrap(err)
}

// guardedLog watches a LogStore: it declares itself monotonic, counts bytes,
// and reports the first failed write, after which this member must stop.
//
// Monotonic, since a member that gets a snapshot must drop every old entry: an
// old conflicting one beside the snapshot could be handed to a wiped peer.
// Stopping, since hashicorp/raft leaves a follower whose log refused an append
// in a state that it does not define.
type guardedLog struct {
	LogStore
	recent  *recentLogs
	backlog backlog
	// patience bounds how long an append waits for entries to be applied.
	patience time.Duration
	path     string
	bytes    atomic.Int64 // appended since the start
	entries  atomic.Int64
	failed   atomic.Bool
	fail     func(error)
	// applied is the state machine's last entry; nil in tests without one.
	applied func() uint64
}

func (g *guardedLog) IsMonotonic() bool { return true }

func (g *guardedLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *guardedLog) StoreLogs(ls []*raft.Log) error {
	g.backlog.wait(backlogBytes, g.patience)
	n := 0
	for _, l := range ls {
		n += len(l.Data)
	}
	err := g.write(func() error { return g.LogStore.StoreLogs(ls) })
	if err == nil {
		g.recent.add(ls)
		g.backlog.wrote(ls)
		g.bytes.Add(int64(n))
		g.entries.Add(int64(len(ls)))
	}
	return err
}

// DeleteRange drops the log's beginning, which a snapshot covers, or its end,
// which a leader contradicts. It refuses to drop an end that was applied: what
// was applied was acknowledged, so this member and the leader have two histories,
// and only an operator can choose.
func (g *guardedLog) DeleteRange(lo, hi uint64) error {
	first, err := g.FirstIndex()
	if err != nil {
		return err
	}
	if g.applied != nil && lo > first && lo <= g.applied() {
		err := futago.Errorf(futago.CodeCorrupt, "the leader contradicts entry %d, and this member has applied all up to %d", lo, g.applied()).
			WithAction("the other manager was made the leader without this one's entries: move this data directory away, keep it, and join anew")
		g.report(err)
		return err
	}
	g.recent.drop()
	g.backlog.deleted(lo, hi)
	return g.write(func() error { return g.LogStore.DeleteRange(lo, hi) })
}

func (g *guardedLog) Set(k, v []byte) error {
	return g.write(func() error { return g.LogStore.Set(k, v) })
}

func (g *guardedLog) SetUint64(k []byte, v uint64) error {
	return g.write(func() error { return g.LogStore.SetUint64(k, v) })
}

func (g *guardedLog) GetLog(i uint64, l *raft.Log) (err error) {
	if held, ok := g.recent.get(i); ok {
		*l = held
		return nil
	}
	// A read error other than "not there" means a damaged file: bbolt panics
	// on a bad page, msgpack fails on a flipped bit.
	defer func() {
		if p := recover(); p != nil {
			err = corruptLog(g.path, fmt.Errorf("%v", p))
			g.report(err)
		}
	}()
	err = g.LogStore.GetLog(i, l)
	switch {
	case err == nil:
		err = g.intact(i, l)
	case !errors.Is(err, raft.ErrLogNotFound):
		err = corruptLog(g.path, fmt.Errorf("entry %d: %w", i, err))
	}
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		g.report(err)
	}
	return err
}

// intact refuses an entry that is not what was written: it is neither applied
// nor sent to another member.
func (g *guardedLog) intact(i uint64, l *raft.Log) error {
	if l.Index != i {
		return corruptLog(g.path, fmt.Errorf("entry %d stands in the place of %d", l.Index, i))
	}
	if l.Type == raft.LogCommand {
		if _, err := command.Inspect(l.Data); err != nil {
			return corruptLog(g.path, fmt.Errorf("entry %d: %w", i, err))
		}
	}
	return nil
}

// newRaft starts the library, which panics when it cannot read an entry of the log.
func newRaft(c *raft.Config, f raft.FSM, logs *guardedLog, snaps raft.SnapshotStore, t raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		cause, ok := p.(error)
		if !ok {
			cause = fmt.Errorf("%v", p)
		}
		if err = cause; futago.CodeOf(err) != futago.CodeCorrupt {
			err = corruptLog(logs.path, cause)
		}
	}()
	return raft.NewRaft(c, f, logs, logs, snaps, t)
}

func (g *guardedLog) write(f func() error) (err error) {
	if g.failed.Load() {
		return futago.Errorf(futago.CodeUnavailable, "this member stopped after a failed write of its log")
	}
	defer func() {
		if p := recover(); p != nil {
			err = corruptLog(g.path, fmt.Errorf("%v", p))
		}
		if err != nil {
			if isFull(err) {
				err = storageFull(g.path, err)
			}
			g.report(err)
		}
	}()
	return f()
}

func (g *guardedLog) report(err error) {
	if g.failed.CompareAndSwap(false, true) {
		g.fail(err)
	}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || futago.CodeOf(err) == futago.CodeStorageFull
}

// fileSize returns the size of a file in bytes, 0 when it cannot be told.
func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}
