package futago

import (
	"errors"
	"fmt"
)

// Code classifies an error for callers that act on it: the REST API maps it to
// a status, the command line to an exit code.
type Code string

// The closed set of codes.
const (
	CodeInvalid      Code = "invalid"      // the request is wrong; repeating it changes nothing
	CodeNotFound     Code = "not-found"    // the thing named does not exist
	CodeConflict     Code = "conflict"     // the thing changed meanwhile, or exists already
	CodeUnauthorized Code = "unauthorized" // no or wrong credentials
	CodeForbidden    Code = "forbidden"    // the credentials do not allow it
	CodeNotLeader    Code = "not-leader"   // ask the leader, see Error.Leader
	CodeUnavailable  Code = "unavailable"  // no leader or no quorum now; repeat later
	CodeUnknown      Code = "unknown"      // the outcome is unknown; repeat with the same id
	CodeStorageFull  Code = "storage-full" // no room on a file system; free some
	CodeCorrupt      Code = "corrupt"      // a file fails its checksum
	CodeIncompatible Code = "incompatible" // written by a newer version
	CodeInternal     Code = "internal"     // a fault of Futago itself
)

// Error is an error with a code, a sentence for the operator and, where there
// is one, the next thing to do. It wraps its cause.
type Error struct {
	Code    Code
	Message string // what is wrong, lower case, no full stop
	Action  string // what to do next; may be empty
	Leader  MemberID
	Err     error
}

// Error joins message, cause and action in one line.
func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	if e.Action != "" {
		s += "; " + e.Action
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error whose message is formatted.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithAction sets what to do next and returns e.
func (e *Error) WithAction(format string, args ...any) *Error {
	e.Action = fmt.Sprintf(format, args...)
	return e
}

// Wrap sets the cause and returns e.
func (e *Error) Wrap(err error) *Error {
	e.Err = err
	return e
}

// CodeOf returns the code of the first Error in err's chain, CodeInternal when
// there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
