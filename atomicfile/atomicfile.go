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

	"github.com/futago/futago"
)

// Write replaces the file at path: temporary file, flush, rename, flush of the
// directory. When it returns nil, the new content survives a power cut.
func Write(path string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := f.Chmod(perm); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("rename to %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	return SyncDir(dir)
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

// WriteSummed is Write with a checksum line behind the data.
func WriteSummed(path string, data []byte, perm fs.FileMode) error {
	sum := sha256.Sum256(data)
	out := make([]byte, 0, len(data)+len(sumPrefix)+2*len(sum)+1)
	out = append(out, data...)
	out = append(out, sumPrefix...)
	out = hex.AppendEncode(out, sum[:])
	return Write(path, append(out, '\n'), perm)
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
