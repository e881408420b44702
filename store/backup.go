package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

// Copy describes a backup file.
type Copy struct {
	Applied Applied  // how far the log is applied in it
	Bytes   int64    // size of the file
	Sum     [32]byte // SHA-256 of the file
}

// backupPages is how many pages a backup copies between two looks at its
// context: 8 MiB.
const backupPages = 2048

// Backup writes a consistent copy of the database to a new file and flushes
// it. Writes go on meanwhile, and what they add stays in the WAL until the
// copy is done. The copy is of the start of the backup.
func (s *Store) Backup(ctx context.Context, path string) (cp Copy, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return cp, futago.Errorf(futago.CodeConflict, "%s exists already", path).WithAction("choose a new name")
	}
	err = s.readAlone(ctx, func(ctx context.Context, c *litedb.Conn) error {
		// This first read also fixes the moment that is copied.
		if cp.Applied, err = readApplied(ctx, c); err != nil {
			return err
		}
		return c.Backup(ctx, path, backupPages)
	})
	if err == nil {
		cp.Bytes, cp.Sum, err = flushAndSum(ctx, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return Copy{}, errors.Join(err, removeAll(path, path+"-journal"))
	}
	return cp, nil
}

// flushAndSum flushes a file and returns its size and SHA-256.
func flushAndSum(ctx context.Context, path string) (n int64, sum [32]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, sum, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil {
		return 0, sum, err
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return 0, sum, err
		}
		k, err := f.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return 0, sum, err
		}
	}
}

// Restore replaces the database by the file at path, which must be a Backup on
// the same file system, and which is gone afterwards. It waits for the
// transaction under way; readers are asked to leave, and until it is done they
// get CodeUnavailable. A file with another checksum, of another cluster or of
// a newer version changes nothing. After a crash at any point the next Open
// finds either the old database or the new one, whole.
func (s *Store) Restore(ctx context.Context, path string, sum [32]byte) (Applied, error) {
	a, err := s.verifyCopy(ctx, path, sum)
	if err != nil {
		return Applied{}, err
	}
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return Applied{}, ctx.Err()
	}
	defer func() { <-s.writing }()

	s.mu.Lock()
	old := s.gen
	if old == nil {
		defer s.mu.Unlock()
		return Applied{}, s.absent()
	}
	s.gen = nil
	s.mu.Unlock()

	// The old files are about to be removed, so that an error at closing them
	// (no room to copy the WAL back, damage) must not stand in the way.
	if err := old.close(); err != nil {
		s.log.Warn("the replaced database did not close cleanly", "err", err)
	}
	if err = commitInstall(s.o.Path, path); err == nil {
		err = finishInstall(s.o.Path)
	}
	// Whatever happened, one of both databases is in place: go on with it.
	gen, err2 := s.openGeneration(ctx)
	s.mu.Lock()
	s.gen = gen
	s.epoch++
	s.mu.Unlock()
	if err = errors.Join(err, err2); err != nil {
		return Applied{}, fmt.Errorf("install database: %w", err)
	}
	s.log.Info("database replaced", "index", a.Index, "next_event", a.NextEvent)
	s.notify()
	return a, nil
}

// verifyCopy checks all that can be known of a copy without replacing anything.
func (s *Store) verifyCopy(ctx context.Context, path string, want [32]byte) (a Applied, err error) {
	_, got, err := flushAndSum(ctx, path)
	if err != nil {
		return a, err
	}
	if got != want {
		return a, futago.Errorf(futago.CodeCorrupt, "the copy %s fails its checksum", path).
			WithAction("transfer it again")
	}
	if err := checkHeader(path); err != nil {
		return a, err
	}
	c, err := litedb.Open(path, litedb.Options{Immutable: true})
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	switch app, err := pragmaInt(ctx, c, "application_id"); {
	case err != nil:
		return a, err
	case app != applicationID:
		return a, futago.Errorf(futago.CodeInvalid, "%s is not a database of Futago", path)
	}
	switch have, err := pragmaInt(ctx, c, "user_version"); {
	case err != nil:
		return a, err
	case have > SchemaVersion:
		return a, newerSchema(ctx, c, have, SchemaVersion)
	}
	switch id, err := getMeta(ctx, c, "cluster_id"); {
	case err != nil:
		return a, err
	case s.o.ClusterID != "" && id != "" && id != s.o.ClusterID:
		return a, futago.Errorf(futago.CodeInvalid, "%s belongs to cluster %s, this is cluster %s", path, id, s.o.ClusterID)
	}
	return readApplied(ctx, c)
}

// installSuffix names a verified database that is to replace the present one.
// Its appearance, by a rename, is the point of no return.
const installSuffix = ".install"

func commitInstall(path, from string) error {
	if err := os.Rename(from, path+installSuffix); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// finishInstall does what is left of an install, if anything. A WAL of the old
// database beside the new one would be taken for its own, so it goes first;
// after a crash between the steps they are simply done again.
func finishInstall(path string) error {
	switch _, err := os.Lstat(path + installSuffix); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := removeAll(path+"-wal", path+"-shm", path+"-journal"); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Rename(path+installSuffix, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func removeAll(paths ...string) error {
	var errs []error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
