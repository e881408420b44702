// Package raftfsm is one Raft member: the shim between hashicorp/raft and the
// state machine, the log store, reference snapshots, the member link (mutual
// TLS), and the ways to the leader. DESIGN.md argues for its shape.
package raftfsm
