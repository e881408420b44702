// Package thirdvote is the third voter of a cluster whose third_vote is a
// register: no process and no log, but a stub in each manager's Raft transport
// that answers the RPCs addressed to w from a compare-and-set register, by the
// rules of the package rules. hashicorp/raft stays unmodified, and its
// configuration of a, b and w never changes.
//
// A [Voter] is one manager's share of it. In the order of use: [Open] reads the
// register and, for a data directory that was never recorded, raises the Raft
// term before Raft starts; [Voter.Transport] wraps the transport given to
// raft.NewRaft; [Voter.Bind] makes the running Raft known; [Voter.Run] is the
// steward, the one goroutine that makes this manager the only holder and takes
// the peer back; [Voter.Close] ends it, after Raft was shut down. A third vote
// of the kind manager is an ordinary Raft member and needs none of this.
//
// DESIGN.md says where each rule lives, and which facts about the library the
// code depends on.
package thirdvote
