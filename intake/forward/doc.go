// Package forward brings what one manager received into the log: it reads the
// spool, decodes, makes batches, sends them to the leader and acknowledges to
// the spool what the state machine has applied.
//
// A record is applied once, however often it is sent, because the state machine
// knows how far it has applied each spool and refuses gaps. So the forwarder
// needs no memory of its own: whenever an outcome is unknown or refused, it
// awaits what is under way and goes on behind the last record known to be applied.
//
// Sent at once when nothing is under way; while something is, records gather
// for up to the linger time, so that batches grow with the load by themselves.
// Up to eight batches are under way at a time. Where the spool changes its
// identity or has a hole, everything before is applied first.
//
// [Compactor] is for the other end: on the leader it leaves out of the log the
// bodies of traps that the other manager's batches have already brought.
package forward
