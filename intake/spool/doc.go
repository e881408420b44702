// Package spool is the durable queue of traps on one manager: what a receiver
// takes from the network it appends here before anything else happens to it,
// and the forwarder reads it in order until the log has taken it over.
//
// # Positions and identities
//
// Every record has a position: 1, 2, 3, … over the life of the directory.
// Receivers, waiters and acknowledgements speak of positions. The log speaks of
// an identity (a random command.ID) and of a sequence number that starts at 1
// under each identity; Batch.Base is the difference.
//
// Each Open starts a new identity for what it will append, and what is left of
// earlier ones is read first, under the identities that it was written with. So
// no identity is ever continued by another process: a directory that lost its
// newest records, by a power failure or because a machine was set back to an
// older disk, cannot give a sequence number that the log has seen to another
// record, which the state machine would then take for a repetition and drop.
//
// # What survives what
//
// A killed process loses nothing that Append returned for: a block is one
// write(2), and the kernel keeps it. A power failure or a crash of the kernel
// loses at most what was received in the last FlushInterval and had not been
// committed in the log: the files are flushed that often, but only as long as
// there are records that the log does not hold yet. Senders that wait for an
// answer get theirs only after the commit (WaitAcked), so this concerns
// datagrams alone.
//
// A block that was cut short at the end of the newest file is the mark that a
// crash leaves. It is cut off, and the log says so.
//
// # Damage
//
// A block that fails its checksum with readable ones after it is damage. It is
// reported with file and offset (Report, Status) and passed over, so that it does not block
// intake for ever; its file is kept with the ending .corrupt when all else in it
// has been taken over. The next batch then starts behind the hole. The state
// machine alone knows whether it has the missing records already: if it does,
// nothing is lost. If it answers that there is a gap, the forwarder calls Renew,
// and the records behind the hole get a new identity.
//
// # No room
//
// When the directory has reached MaxBytes, or the file system is full, Append
// refuses (CodeStorageFull) and counts what it refused. The first refusal is
// reported at once and then every minute, with numbers; appending works again
// as soon as there is room.
//
// # Watermark
//
// The watermark is a time (nanoseconds since 1970) up to which everything
// received is in the spool. Each receiver of datagrams proves how far it is, by
// the arrival of what it appends and by Idle, whose argument is a time from
// before the receive call that found the socket empty. The watermark is the
// smallest of those, so a process that was stopped for a minute cannot pass
// what the kernel still holds for it.
package spool
