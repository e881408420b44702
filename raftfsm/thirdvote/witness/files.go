package witness

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// filePerm is for everything the witness writes: tokens and keys are secrets.
const filePerm = 0o600

// mkdir makes dir, readable by the owner alone, and flushes its parent, so
// that a record flushed into dir cannot vanish with it.
func mkdir(disk *atomicfile.Disk, dir string) error {
	switch err := os.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return disk.SyncDir(filepath.Dir(dir))
}

// corrupt names a file that passes its checksum and cannot be understood.
func corrupt(path string, err error) error {
	return futago.Errorf(futago.CodeCorrupt, "%s holds something else", path).Wrap(err)
}

// diskFull reports whether err says that there is no room left.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
