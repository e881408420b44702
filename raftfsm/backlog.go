package raftfsm

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// backlogBytes bounds what a follower takes beyond what it has applied, by the
// entries' data. The library queues committed entries for the state machine
// without a bound that would mean anything here: a member that comes back after
// an hour writes its log much faster than its database.
const backlogBytes = 24 << 20

// backlog counts the entries that were written and are not applied yet.
type backlog struct {
	mu      sync.Mutex // guards everything below
	waiting []entrySize
	bytes   int
	less    chan struct{} // closed when bytes fell; nil when nobody waits
}

type entrySize struct {
	index uint64
	bytes int
}

// wrote notes entries that were appended.
func (b *backlog) wrote(ls []*raft.Log) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range ls {
		if l.Type == raft.LogCommand {
			b.waiting = append(b.waiting, entrySize{l.Index, len(l.Data)})
			b.bytes += len(l.Data)
		}
	}
}

// deleted forgets entries from lo to hi: a conflicting end, or an old beginning.
func (b *backlog) deleted(lo, hi uint64) {
	b.drop(func(e entrySize) bool { return lo <= e.index && e.index <= hi })
}

// applied forgets entries up to index.
func (b *backlog) applied(index uint64) {
	b.drop(func(e entrySize) bool { return e.index <= index })
}

func (b *backlog) drop(gone func(entrySize) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.waiting[:0]
	for _, e := range b.waiting {
		if gone(e) {
			b.bytes -= e.bytes
		} else {
			kept = append(kept, e)
		}
	}
	b.waiting = kept
	if b.less != nil {
		close(b.less)
		b.less = nil
	}
}

// wait returns when at most limit bytes wait, or after a time: entries that are
// not committed yet wait for this very member, so that nobody may wait for good.
func (b *backlog) wait(limit int, atMost time.Duration) {
	var t *time.Timer
	for {
		b.mu.Lock()
		if b.bytes <= limit {
			b.mu.Unlock()
			return
		}
		if b.less == nil {
			b.less = make(chan struct{})
		}
		less := b.less
		b.mu.Unlock()
		if t == nil {
			t = time.NewTimer(atMost)
			defer t.Stop()
		}
		select {
		case <-less:
		case <-t.C:
			return
		}
	}
}
