// Package generate sends numbered traps of all kinds to both managers and
// judges afterwards whether what the managers recorded is what was sent.
//
// A [Plan] says what is sent when, and is the same for the same seed. A
// [Generator] sends it, on time whatever the receivers do, and notes the fate
// of every copy in a [Journal]. [Audit] compares journal and recorded events.
// A [Blast] sends datagrams as fast as the machine allows, for measurements;
// [AuditCounts] judges those.
package generate
