package raftfsm

// CompactForTest takes a snapshot and keeps only so many entries behind it.
func (n *Node) CompactForTest(trailing uint64) error {
	rc := n.raft.ReloadableConfig()
	rc.TrailingLogs = trailing
	if err := n.raft.ReloadConfig(rc); err != nil {
		return err
	}
	return n.raft.Snapshot().Error()
}
