// Package httpregister is the register of the third vote over the service of
// the package witness.
//
// What an operation is reported as follows from what is certain. A write is
// "unavailable" only if no byte of the request left this process, or if the
// witness itself, known by its key, has answered that nothing was written. It
// is a "conflict" only if the witness has answered so to the one attempt that
// was made. Everything else is "ambiguous", also an answer that nobody can
// read: the witness may do the write later still.
package httpregister
