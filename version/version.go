// Package version tells which Futago this is.
package version

// Number is the version of the product, as it stands in log entries and
// databases: a member refuses what a higher one wrote.
const Number = "0.1.0"

// Build is set by the linker to the source's revision.
var Build = "dev"

// String is the version that people see.
func String() string { return Number + " (" + Build + ")" }
