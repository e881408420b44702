package raftfsm

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// logLimits say how much log stays behind a snapshot. A member that was away for
// longer than that gets the whole database instead of entries, so the log is
// kept by bytes and not by a number of entries: an entry is a hundred bytes or
// a megabyte.
type logLimits struct {
	bytes       int64  // that stay
	least, most uint64 // entries that stay, whatever their size
	// voteBytes is how much more stays while the third vote is stuck on an old
	// entry.
	voteBytes int64
	// racing is how many entries may be appended while a snapshot is taken.
	racing uint64
}

// DefaultKeepLog is how many bytes of log stay behind a snapshot.
const DefaultKeepLog = 256 << 20

// leastEntries stay whatever their size.
const leastEntries = 1024

// limitsFor keeps so many bytes of log.
func limitsFor(keep int64) logLimits {
	return logLimits{bytes: keep, least: leastEntries, most: 1 << 20, voteBytes: 4 * keep, racing: 8192}
}

// snapshotBytes is how much is appended from one snapshot to the next.
func (l logLimits) snapshotBytes() int64 { return l.bytes / 4 }

// trailing returns how many entries to keep, for entries of so many bytes on
// average, a log that ends at last, and a third vote that needs it from needed
// on (0: it does not lag). forsaken says that this would be too much.
func (l logLimits) trailing(average int64, last, needed uint64) (entries uint64, forsaken bool) {
	average = max(average, 1)
	entries = min(max(uint64(l.bytes/average), l.least), l.most)
	if needed == 0 || needed > last {
		return entries, false
	}
	forVote := last - needed + 1 + l.racing
	switch {
	case forVote <= entries:
		return entries, false
	case forVote > uint64(l.voteBytes/average):
		return entries, true
	default:
		return forVote, false
	}
}

// compactLog takes snapshots by bytes appended and keeps the trailing log to a
// size in bytes.
func (n *Node) compactLog(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	limits := limitsFor(cmp.Or(n.cfg.KeepLog, DefaultKeepLog))
	var at int64
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bytes := n.logs.bytes.Load()
		if bytes-at < limits.snapshotBytes() {
			continue
		}
		forsaken, err := n.compact(limits)
		if forsaken && !said {
			n.log.Warn("the third vote's register has been away for too long: the log is cut, and w gets a snapshot of no size when it is back",
				"kept_bytes", limits.voteBytes)
		}
		said = forsaken
		if err != nil {
			n.log.Warn("snapshot", "err", err)
			continue
		}
		at = bytes
	}
}

// compact takes a snapshot and lets go of the log before it. Where w is a
// register that has been away, the log from its next entry on stays, within a
// limit: w takes no data, but the library would open a snapshot for it.
func (n *Node) compact(l logLimits) (forsaken bool, err error) {
	average := n.logs.bytes.Load() / max(n.logs.entries.Load(), 1)
	var needed uint64
	if n.voter != nil {
		needed = n.voter.LogNeeded()
	}
	rc := n.raft.ReloadableConfig()
	rc.TrailingLogs, forsaken = l.trailing(average, n.raft.LastIndex(), needed)
	if err := n.raft.ReloadConfig(rc); err != nil {
		return forsaken, err
	}
	if err := n.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return forsaken, err
	}
	return forsaken, nil
}
