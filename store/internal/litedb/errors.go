package litedb

import (
	"errors"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/futago/futago"
)

// SQLite result codes (https://www.sqlite.org/rescode.html).
const (
	codeReadOnly = 8
	codeIOErr    = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26

	ioErrShmSize = codeIOErr | 19<<8 // no room for the shared-memory file
)

// wrap gives an error of SQLite its code and an action. Errors that carry a
// code already pass unchanged.
func wrap(path string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*futago.Error](err); ok {
		return err
	}
	se, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch primary := se.Code() & 0xff; {
	case primary == codeCorrupt || primary == codeNotADB:
		return Corrupt(path, "database %s is damaged", path).Wrap(err)
	case primary == codeFull || se.Code() == ioErrShmSize:
		return futago.Errorf(futago.CodeStorageFull, "no room for database %s", path).
			WithAction("free space on the file system of %s", filepath.Dir(path)).Wrap(err)
	case primary == codeIOErr:
		return futago.Errorf(futago.CodeInternal, "database %s cannot be read or written", path).
			WithAction("look for disk errors in the system log").Wrap(err)
	case primary == codeCantOpen || primary == codeReadOnly:
		return futago.Errorf(futago.CodeInternal, "database %s cannot be opened for writing", path).
			WithAction("check the owner and the mode of the file and of its directory").Wrap(err)
	default:
		return err
	}
}

// Corrupt makes the error for damage found in the database file at path.
func Corrupt(path, format string, args ...any) *futago.Error {
	return futago.Errorf(futago.CodeCorrupt, format, args...).
		WithAction("stop this manager, move %s and its -wal and -shm files away and start again: the data comes back from the peer", path)
}
