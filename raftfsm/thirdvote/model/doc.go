// Package model is an explicit-state model of two Raft nodes and the register
// that is their third voter. It searches every schedule within given bounds
// for one that loses an acknowledged write, and prints the shortest.
//
// What the third voter does is not modelled but called: every decision about
// the register comes from the functions of the package rules, which the
// product runs too. The model adds what surrounds them:
//
//   - a node: role, term, vote, log (the term of each entry), commit index, the
//     peer's match index, and what the rules keep in memory. A crash loses all
//     but log, term, vote, identity, admission and highest mark; a lost disk
//     loses these too. A node that is down is one that does nothing.
//   - between the nodes: RequestVote, AppendEntries with the whole log, a
//     heartbeat for reads, and their answers: delivered at once, or delayed,
//     reordered, lost, and delivered twice. There is no pre-vote, and anyone may
//     time out or step down at any time, so that every wrong TimeoutNow and
//     every transfer of leadership is among the schedules.
//   - the register: a compare-and-set is done at once, or stays under way. Then
//     it takes effect later, also after its sender has given up, lost its
//     leadership or crashed; or it is lost; or its answer is. The record may be
//     restored from an older copy.
//
// Checked at each step: one leader in a term; a new leader has every entry
// acknowledged in a lower term; no other entry is committed at an
// acknowledged index; no committed entry is truncated; nothing is acknowledged
// in a term after a higher one has committed; no read that the rules let pass
// misses an entry acknowledged before it began.
//
// Not modelled: time (leases, and how long a floating address is held),
// snapshots, faults of the log store.
package model
