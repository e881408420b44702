// Package snmptrap receives SNMP notifications: traps of version 1, 2c and 3,
// and informs of version 2c and 3.
//
// [Decoder] turns a spooled datagram into a [futago.Trap]. It is a decoder of
// its own, for notifications alone: gosnmp holds one set of credentials for
// each message version, keeps localized keys in a process-wide table behind a
// lock and copies the message for each user it tries, which costs too much at
// thousands of authenticated traps a second. Its encoder and net-snmp are the
// peers that the tests talk to.
//
// [Receiver] takes datagrams from a socket, puts them into the spool and
// answers informs, each only after the spool says that the event is committed.
// For informs of version 3 it is the authoritative engine ([Engine]) of RFC
// 3414 and answers discovery.
//
// # What is never dropped
//
// A message that cannot be read, names an unknown user, fails its digest or
// carries a community that is not accepted is recorded with the reason in
// Problem. What is not recorded is no notification: discovery probes, messages
// that are answered with a report asking the sender to synchronise and send
// again, and retransmissions of an inform.
//
// # Retransmissions
//
// A sender repeats an inform until it is answered, so a repetition is no second
// occurrence. It is recognised by source address and port, version, community
// or user, and the PDU with its request id being the same bytes within 60 s on
// this receiver. It is counted, not recorded, and answered when the first one
// is committed. The outer part of a version 3 message is left out of the
// comparison, for it has a new message id and a new salt each time.
package snmptrap
