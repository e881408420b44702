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

// ApplyBatch implements [raft.BatchingFSM]: one transaction for the batch.
// Raft calls it from one goroutine. After a failure nothing more is applied,
// for what follows may rest on what failed; the member restarts, and the
// entries come again.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	entries := make([]machine.Entry, 0, len(logs))
	at := make([]int, 0, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		entries = append(entries, machine.Entry{Index: l.Index, Term: l.Term, Data: l.Data})
		at = append(at, i)
	}
	var results []machine.Result
	err := errApplyStopped
	if !f.failed.Load() && len(entries) > 0 {
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
	return out
}

// Snapshot implements [raft.FSM]. It returns at once; see reference.Persist.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed.Load() {
		// Raft counts entries as applied that the state machine refused.
		return nil, errApplyStopped
	}
	return reference{f.n}, nil
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
type reference struct{ n *Node }

// Persist implements [raft.FSMSnapshot]: makes the database durable, so that
// the log before the snapshot's index is not needed any more.
func (r reference) Persist(sink raft.SnapshotSink) error {
	if err := r.n.store.Checkpoint(context.Background()); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements [raft.FSMSnapshot].
func (reference) Release() {}
