package raftfsm

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
)

// Timing is the pace of a member. All members of a cluster use the same: a
// slow third voter delays every failover.
type Timing struct {
	// Heartbeat is Raft's heartbeat time-out, and election time-out: without
	// a word from the leader for one to two of these, a follower stands for
	// election. 50 ms to 10 s.
	Heartbeat time.Duration
}

// DefaultTiming suits one LAN with ordinary disks: fsyncs of tens of
// milliseconds and short pauses do not look like a death.
func DefaultTiming() Timing { return Timing{Heartbeat: 500 * time.Millisecond} }

// Validate names what is out of range.
func (t Timing) Validate() error {
	if t.Heartbeat < 50*time.Millisecond || t.Heartbeat > 10*time.Second {
		return futago.Errorf(futago.CodeInvalid, "heartbeat %s is out of range", t.Heartbeat).WithAction("use 50ms to 10s, the same on all members")
	}
	return nil
}

// RPCTimeout bounds one exchange on the member link. Longer than the heartbeat,
// so that a long append is not cut off; short, so that a silent cut is noticed.
func (t Timing) RPCTimeout() time.Duration { return max(2*t.Heartbeat, 500*time.Millisecond) }

// EnqueueTimeout bounds the wait for Raft to take an entry.
func (t Timing) EnqueueTimeout() time.Duration { return max(2*t.Heartbeat, time.Second) }

// BatchTimeout bounds the wait for the answer to a trap batch.
func (t Timing) BatchTimeout() time.Duration { return max(4*t.Heartbeat, 2*time.Second) }

// raftConfig fills the library's configuration.
func (t Timing) raftConfig(member futago.MemberID) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(member)
	c.HeartbeatTimeout = t.Heartbeat
	c.ElectionTimeout = t.Heartbeat
	// The library refuses a lease longer than the heartbeat time-out.
	c.LeaderLeaseTimeout = t.Heartbeat
	// Followers learn of a commit with the next message, at the latest after this.
	c.CommitTimeout = max(t.Heartbeat/20, 5*time.Millisecond)
	// Many entries in one Apply is the strongest lever on throughput. Their bytes
	// are bounded beside it, see appendBytes and applyBytes.
	c.MaxAppendEntries = 64
	// Batches of traps are handed over one after the other, in order. Without a
	// buffer each would be written to the log alone. See Node.quiesce.
	c.BatchApplyCh = true
	// The configuration never changes; nobody is removed.
	c.ShutdownOnRemove = false
	// The database is the state; it knows its own applied index.
	c.NoSnapshotRestoreOnStart = true
	// Snapshots are triggered by bytes, see Node.compactLog.
	c.SnapshotThreshold = 1 << 62
	c.SnapshotInterval = time.Hour
	c.TrailingLogs = leastEntries
	return c
}
