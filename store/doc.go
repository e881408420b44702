// Package store keeps the replicated state in one SQLite file: the event
// history, settings, users, tokens and how far the log has been applied. All
// SQL of the product is here and in store/search.
//
// Only the state machine writes, one transaction per batch of log entries.
// Everybody reads, on connections of their own that see the last committed
// transaction and never wait for the writer. The package reads no clock and
// makes no random numbers: times come from the log.
package store
