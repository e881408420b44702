// Package integration tests the whole product: real processes on the hosts of a
// lab, real clients, faults. It has no code but tests; README.md says how the
// packages below it are used.
package integration
