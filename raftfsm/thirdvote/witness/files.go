package witness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// errUnsettled marks a write whose new content is in place but not certainly
// on the disk.
var errUnsettled = errors.New("not certainly on the disk")

// files are the file-system calls that can fail on a sick disk; tests put
// their own in.
type files struct {
	write   func(f *os.File, b []byte) error
	sync    func(f *os.File) error
	rename  func(from, to string) error
	syncDir func(dir string) error
}

func realFiles() *files {
	return &files{
		write:  func(f *os.File, b []byte) error { _, err := f.Write(b); return err },
		sync:   (*os.File).Sync,
		rename: os.Rename,
		syncDir: func(dir string) error {
			d, err := os.Open(dir)
			if err != nil {
				return err
			}
			return errors.Join(d.Sync(), d.Close())
		},
	}
}

// replace makes path hold data, whole or not at all: temporary file, flush,
// rename, flush of the directory. When it returns nil, the content outlives a
// power failure. An error that is errUnsettled says that the new content may
// be in place without being flushed; after any other, the old content stands.
func (fl *files) replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = fl.write(f, data)
	if err == nil {
		err = fl.sync(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		if err = fl.rename(f.Name(), path); errors.Is(err, syscall.EIO) {
			return fmt.Errorf("%w: %w", errUnsettled, err)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := fl.syncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", errUnsettled, err)
	}
	return nil
}

// createOnce makes path hold data unless it exists already; then it returns
// fs.ErrExist. Two processes that try at the same time never mix.
func (fl *files) createOnce(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = fl.write(f, data)
	if err == nil {
		err = fl.sync(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	return fl.syncDir(dir)
}

// mkdir makes dir, readable by the owner alone, and flushes its parent, so
// that a record flushed into dir cannot vanish with it.
func (fl *files) mkdir(dir string) error {
	switch err := os.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return fl.syncDir(filepath.Dir(dir))
}

// readSealed returns the payload of a checksummed file. The error is
// fs.ErrNotExist, an error of the disk, or a *corruptError.
func readSealed(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSealed+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSealed {
		return nil, &corruptError{path, errSealFormat}
	}
	payload, err := unseal(data)
	if err != nil {
		return nil, &corruptError{path, err}
	}
	return payload, nil
}

// corruptError names a file that fails its checksum or cannot be understood.
type corruptError struct {
	path string
	err  error
}

func (e *corruptError) Error() string { return e.path + ": " + e.err.Error() }
func (e *corruptError) Unwrap() error { return e.err }

// diskFull reports whether err says that there is no room left.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
