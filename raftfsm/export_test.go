package raftfsm

import (
	"context"
	"net/http"

	"github.com/futago/futago"
)

// CompactForTest takes a snapshot and keeps only so many entries behind it, and
// voteBytes for the third vote.
func (n *Node) CompactForTest(trailing uint64, voteBytes int64) error {
	_, err := n.compact(logLimits{least: trailing, most: trailing, voteBytes: voteBytes})
	return err
}

// FirstIndexForTest returns the first entry in the log.
func (n *Node) FirstIndexForTest() (uint64, error) { return n.logs.FirstIndex() }

// CopiesForTest counts the copies of the database made for sending.
func (n *Node) CopiesForTest() uint64 { return n.snapshots.copies.Load() }

// LogNeededForTest is what the third vote needs.
func (n *Node) LogNeededForTest() uint64 { return n.voter.LogNeeded() }

// InRaft is how many entries the library has not answered.
func (n *Node) InRaft() int64 { return n.inRaft.Load() }

// AskerForTest asks a member over connections that it keeps.
func (l *Link) AskerForTest(m futago.MemberID) func(context.Context) (Hello, error) {
	p := &peer{member: m, client: l.httpClient(m)}
	return func(ctx context.Context) (h Hello, err error) {
		return h, p.call(ctx, http.MethodGet, helloPath, nil, &h)
	}
}
