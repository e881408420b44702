// Package atomicfile writes small files so that a reader, even one that comes
// after a power cut, sees either the old content or the new one, whole.
package atomicfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/futago/futago"
)

// ErrUnsettled marks a write whose new content is in place but not certainly on
// the disk: after a power cut a reader may find the old content or the new one.
// After any other error of a write the old content stands.
var ErrUnsettled = errors.New("not certainly on the disk")

// Disk holds the calls of a write that can fail on a sick disk, or hang. Tests
// put their own in. All must be set; safe for concurrent use if they are.
type Disk struct {
	Write   func(f *os.File, b []byte) error
	Sync    func(f *os.File) error
	Rename  func(from, to string) error
	SyncDir func(dir string) error
}

// OS returns the real disk.
func OS() *Disk {
	return &Disk{
		Write:   func(f *os.File, b []byte) error { _, err := f.Write(b); return err },
		Sync:    (*os.File).Sync,
		Rename:  os.Rename,
		SyncDir: SyncDir,
	}
}

// Write replaces the file at path: temporary file, flush, rename, flush of the
// directory. When it returns nil, the new content survives a power cut. The
// temporary file, which a crash may leave behind, is .NAME.*.tmp beside it.
func Write(path string, data []byte, perm fs.FileMode) error { return OS().Replace(path, data, perm) }

// Replace is [Write] on this disk.
func (d *Disk) Replace(path string, data []byte, perm fs.FileMode) error {
	tmp, err := d.temp(path, data, perm)
	if err != nil {
		return err
	}
	switch err := d.Rename(tmp, path); {
	case errors.Is(err, syscall.EIO): // nobody knows how far it got
		return fmt.Errorf("rename to %s: %w: %w", path, ErrUnsettled, err)
	case err != nil:
		return errors.Join(fmt.Errorf("rename to %s: %w", path, err), os.Remove(tmp))
	}
	if err := d.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	return nil
}

// Create is [Disk.Replace] for a file that must not exist yet; if it does, the
// error is [fs.ErrExist]. Two processes that try at the same time never mix.
func (d *Disk) Create(path string, data []byte, perm fs.FileMode) error {
	tmp, err := d.temp(path, data, perm)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Link(tmp, path), os.Remove(tmp)); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// temp writes and flushes a temporary file beside path.
func (d *Disk) temp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err == nil {
		err = f.Chmod(perm)
		if err == nil {
			err = d.Write(f, data)
		}
		if err == nil {
			err = d.Sync(f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return f.Name(), nil
}

// SyncDir flushes a directory, so that names made or removed in it are durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("flush directory %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

const sumPrefix = "\nsha256:"

// WriteSummed is [Write] with a checksum line behind the data.
func WriteSummed(path string, data []byte, perm fs.FileMode) error {
	return OS().ReplaceSummed(path, data, perm)
}

// ReplaceSummed is [WriteSummed] on this disk.
func (d *Disk) ReplaceSummed(path string, data []byte, perm fs.FileMode) error {
	sum := sha256.Sum256(data)
	out := make([]byte, 0, len(data)+len(sumPrefix)+2*len(sum)+1)
	out = append(out, data...)
	out = append(out, sumPrefix...)
	out = hex.AppendEncode(out, sum[:])
	return d.Replace(path, append(out, '\n'), perm)
}

// ReadSummed reads a file written by WriteSummed. A missing file is
// [fs.ErrNotExist]; a damaged one is a [futago.Error] with CodeCorrupt that
// names the file, and its content is not returned.
func ReadSummed(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	i := bytes.LastIndex(b, []byte(sumPrefix))
	if i < 0 {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s has no checksum line", path)
	}
	sum := sha256.Sum256(b[:i])
	if got := string(bytes.TrimSpace(b[i+len(sumPrefix):])); got != hex.EncodeToString(sum[:]) {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s fails its checksum", path)
	}
	return b[:i], nil
}
