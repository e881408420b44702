package register

import (
	"context"
	"errors"
	"fmt"
)

// The outcomes of an operation that are no success. Every error of a
// [Register] wraps exactly one of them, or is an error of the caller (an
// invalid record).
var (
	// ErrConflict: certainly not done, for the record has moved. It comes as a
	// *[ConflictError] where the current record is known.
	ErrConflict = errors.New("the record has moved")
	// ErrAmbiguous: nobody knows whether the write was done, or will be done
	// later still.
	ErrAmbiguous = errors.New("outcome unknown")
	// ErrUnavailable: certainly not done, and the register cannot be reached.
	ErrUnavailable = errors.New("register unavailable")
	// ErrMissing: the register works and holds no record.
	ErrMissing = errors.New("no record")
	// ErrExists: Create found a record.
	ErrExists = errors.New("record exists")
)

// ConflictError is an ErrConflict that carries the record found instead.
type ConflictError struct {
	Current Record
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: found %v", ErrConflict, e.Current)
}

// Unwrap returns ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// Register keeps one [Record] for one cluster. Implementations are safe for
// concurrent use and return soon after ctx ends.
type Register interface {
	// Read returns the record as it is at some moment during the call: caches
	// are not allowed. Errors: ErrMissing, ErrUnavailable.
	Read(ctx context.Context) (Record, error)

	// CompareAndSet replaces the record, durably, if its version and nonce are
	// those of old; nothing else of old is looked at. What is written is next
	// with Version old.Version+1, and with the Nonce that the caller has put
	// into next (from [NewNonce], never used before). It returns the record as
	// written.
	//
	// An implementation that repeats a request of its own whose answer got lost
	// may take it as done if the record found is the one it wrote: version and
	// nonce of next. In every other case a lost answer is ErrAmbiguous, and the
	// write may still take effect at any later time, as long as the record has
	// not moved.
	//
	// Errors: ErrConflict, ErrAmbiguous, ErrUnavailable, ErrMissing.
	CompareAndSet(ctx context.Context, old, next Record) (Record, error)

	// Create writes the first record, with Version 1 and the caller's Nonce, if
	// there is none. It is called once in the life of a cluster.
	// Errors: ErrExists, ErrAmbiguous, ErrUnavailable.
	Create(ctx context.Context, first Record) (Record, error)
}
