// Package register defines the record that stands in for the third voter, and
// the two operations on it: read, and compare-and-set. Implementations live
// elsewhere (an HTTP witness, a share); the rules that decide what is written
// live in the package rules.
package register
