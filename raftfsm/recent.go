package raftfsm

import (
	"sync"

	"github.com/hashicorp/raft"
)

// recentBytes bounds the entries kept in memory, by their data.
const recentBytes = 8 << 20

// recentLogs keeps the newest entries of the log in memory. Every entry is read
// again soon after it was written: by the leader for each follower, and as the
// predecessor of the next one; by a follower to apply it. It is bounded by bytes
// and not by a number of entries, for an entry may have a megabyte.
//
// Entries are shared with whoever reads them; nobody changes an entry's data.
type recentLogs struct {
	mu     sync.RWMutex // guards everything below
	logs   map[uint64]*raft.Log
	lo, hi uint64 // the first and the last one held; hi is 0 when there are none
	bytes  int
	limit  int
}

func newRecentLogs(limit int) *recentLogs {
	return &recentLogs{logs: make(map[uint64]*raft.Log), limit: limit}
}

// add takes entries that were written. What does not follow the newest one
// takes the place of everything.
func (r *recentLogs) add(ls []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range ls {
		if l.Index != r.hi+1 || r.hi == 0 {
			r.clear()
			r.lo = l.Index
		}
		r.logs[l.Index], r.hi = l, l.Index
		r.bytes += len(l.Data)
		for r.bytes > r.limit && r.lo <= r.hi {
			r.bytes -= len(r.logs[r.lo].Data)
			delete(r.logs, r.lo)
			r.lo++
		}
	}
}

// get returns an entry, or false when it is not held.
func (r *recentLogs) get(index uint64) (raft.Log, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	l, ok := r.logs[index]
	if !ok {
		return raft.Log{}, false
	}
	return *l, true
}

// drop forgets everything: part of the log is about to be deleted.
func (r *recentLogs) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
}

func (r *recentLogs) clear() {
	clear(r.logs)
	r.lo, r.hi, r.bytes = 0, 0, 0
}
