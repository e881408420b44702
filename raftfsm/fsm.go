package raftfsm

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/futago/futago/raftfsm/machine"
)

// fsm is the thin shim between Raft and the state machine: it hands batches
// over, and stops this member when one cannot be applied.
type fsm struct {
	n      *Node
	failed atomic.Bool
}

var errApplyStopped = errors.New("this member stopped applying")

// Apply implements [raft.FSM].
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// applyBytes bounds one transaction, by the entries' data: what it holds in
// memory, and how long the answers to its first entries wait for its last one.
const applyBytes = 4 << 20

// ApplyBatch implements [raft.BatchingFSM]. Raft calls it from one goroutine.
// After a failure nothing more is applied, for what follows may rest on what
// failed; the member restarts, and the entries come again. Nobody waits for an
// entry that was applied before, so it has no result.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	done := f.n.machine.Applied().Index
	for from := 0; from < len(logs); {
		n := withinBytes(logs[from:], applyBytes)
		f.apply(logs[from:from+n], out[from:from+n], done)
		from += n
	}
	f.n.logs.backlog.applied(logs[len(logs)-1].Index)
	return out
}

// apply makes one transaction of the entries after done.
func (f *fsm) apply(logs []*raft.Log, out []any, done uint64) {
	entries := make([]machine.Entry, 0, len(logs))
	at := make([]int, 0, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand || l.Index <= done {
			continue
		}
		entries = append(entries, machine.Entry{Index: l.Index, Term: l.Term, Data: l.Data})
		at = append(at, i)
	}
	if len(entries) == 0 {
		return
	}
	var results []machine.Result
	err := errApplyStopped
	if !f.failed.Load() {
		// The results of what precedes a bad entry come with the error.
		if results, err = f.n.machine.Apply(context.Background(), entries); err != nil {
			f.failed.Store(true)
			f.n.fail(err)
		}
	}
	for j, i := range at {
		if j < len(results) {
			out[i] = results[j]
		} else {
			out[i] = err
		}
	}
}

// Snapshot implements [raft.FSM]. It returns at once; see reference.Persist.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed.Load() {
		// Raft counts entries as applied that the state machine refused.
		return nil, errApplyStopped
	}
	return reference{f.n, f.n.machine.Applied().Index}, nil
}

// Restore implements [raft.FSM]: a snapshot was received and lies in the
// snapshot store. The reader gives the same bytes as that file and is left alone.
func (f *fsm) Restore(io.ReadCloser) error {
	if err := f.n.finishInstall(context.Background()); err != nil {
		f.failed.Store(true)
		f.n.fail(err)
		return err
	}
	return nil
}

// reference is a snapshot that points at the live database.
type reference struct {
	n       *Node
	applied uint64
}

// Persist implements [raft.FSMSnapshot]: makes the database durable, so that
// the log before the snapshot's index is not needed any more.
func (r reference) Persist(sink raft.SnapshotSink) error {
	if err := r.n.store.Checkpoint(context.Background()); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if k, ok := sink.(*snapshotSink); ok {
		k.applied = r.applied
	}
	return sink.Close()
}

// Release implements [raft.FSMSnapshot].
func (reference) Release() {}
