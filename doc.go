// Package futago holds the words of the domain: traps, events, receipts,
// members, settings, users and coded errors. It imports the standard library
// alone and has no behaviour beyond validation, so every other package can
// depend on it and it depends on none.
package futago
