package raftfsm

import (
	"io"

	"github.com/hashicorp/raft"
)

// appendBytes bounds one request to append, by the entries' data. The library
// bounds requests by a number of entries alone, and its time-out for them is
// fixed: a follower that missed a minute of traffic would be sent more than
// it can write in that time, over and over.
const appendBytes = 2 << 20

// closableTransport is what this package and thirdvote make.
type closableTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// boundedTransport sends appends of at most limit bytes, and of one entry at least.
type boundedTransport struct {
	closableTransport
	limit int
}

// AppendEntries implements [raft.Transport]. The library takes what is left in
// the request for what was sent, and sends the rest next.
func (t *boundedTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	q.Entries = q.Entries[:withinBytes(q.Entries, t.limit)]
	return t.closableTransport.AppendEntries(id, to, q, a)
}

// withinBytes counts how many of the entries have at most limit bytes together,
// the first one in any case.
func withinBytes(ls []*raft.Log, limit int) int {
	size := 0
	for i, l := range ls {
		if size += len(l.Data); size > limit && i > 0 {
			return i
		}
	}
	return len(ls)
}

// snapshotTransport sends a [liveCopy] with its size, which is not known before a
// member is about to get it.
type snapshotTransport struct{ *raft.NetworkTransport }

// InstallSnapshot implements [raft.Transport].
func (t snapshotTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	if c, ok := data.(*liveCopy); ok {
		size, err := c.size()
		if err != nil {
			return err
		}
		q.Size = size
	}
	return t.NetworkTransport.InstallSnapshot(id, to, q, a, data)
}
