package witness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/futago/futago/atomicfile"
)

// The refusals of a compare-and-set. Each is certain: nothing was written and
// nothing will be.
var (
	errMissing  = errors.New("there is no record yet")
	errConflict = errors.New("the record is another one than expected")
	errVersion  = errors.New("the new version must be the old one plus one, and 1 for a new record")
)

// cluster is the register of one cluster.
//
// Reads never wait: they load the state that was last seen durable. Writes of
// one cluster go one after the other, through turn; those of different
// clusters do not know of each other.
type cluster struct {
	name  string
	dir   string
	disk  *atomicfile.Disk
	flush func(time.Duration) // told how long each write to the disk took

	turn chan struct{} // capacity 1: full while a write is under way
	cur  atomic.Pointer[state]
	tok  atomic.Pointer[tokens]
}

// state is what is known of the record. Only the holder of turn replaces it.
type state struct {
	rec *record // nil: no record, or err
	err error   // the file cannot be served; it is read again on the next use

	// unsettled is content whose rename was done and whose last flush failed:
	// after a power failure the disk may show it or rec. It must be flushed
	// before anything else is said about this cluster.
	unsettled *record
}

func openCluster(root, name string, disk *atomicfile.Disk, flush func(time.Duration)) *cluster {
	c := &cluster{name: name, dir: filepath.Join(root, name), disk: disk, flush: flush, turn: make(chan struct{}, 1)}
	c.removeLeftovers()
	c.cur.Store(c.load())
	return c
}

// removeLeftovers deletes the temporary files of writes that a crash ended.
// They were never acknowledged.
func (c *cluster) removeLeftovers() {
	left, err := filepath.Glob(filepath.Join(c.dir, ".record.*.tmp"))
	if err != nil {
		return
	}
	for _, p := range left {
		_ = os.Remove(p) // only untidy when it stays
	}
}

func (c *cluster) path() string { return filepath.Join(c.dir, "record") }

// load reads the record from the disk. The directory is flushed first: a
// process that was killed may have renamed a record and not flushed that yet,
// and what is served must not vanish with the power.
func (c *cluster) load() *state {
	if err := c.disk.SyncDir(c.dir); err != nil {
		return &state{err: err}
	}
	payload, err := atomicfile.ReadSummed(c.path())
	if errors.Is(err, fs.ErrNotExist) {
		return &state{}
	}
	if err != nil {
		return &state{err: err}
	}
	rec, err := parseRecord(payload)
	if err != nil {
		return &state{err: corrupt(c.path(), err)}
	}
	return &state{rec: rec}
}

// read returns the record, errMissing, or what is wrong with the file.
func (c *cluster) read(ctx context.Context) (*record, error) {
	s := c.cur.Load()
	if s.err != nil || s.unsettled != nil {
		if err := c.enter(ctx); err != nil {
			return nil, err
		}
		defer c.leave()
		var err error
		if s, err = c.settle(); err != nil {
			return nil, err
		}
	}
	if s.rec == nil {
		return nil, errMissing
	}
	return s.rec, nil
}

// compareAndSet replaces the record whose tag is expect by next; expect "" is
// for a first record. It returns the record that is in force, which is next,
// or the one that was in the way together with errConflict. Repeating what
// was done already is done again. An error with atomicfile.ErrUnsettled leaves open
// whether next took effect; any other one is certain that it did not.
func (c *cluster) compareAndSet(ctx context.Context, expect string, next *record) (*record, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	s, err := c.settle()
	if err != nil {
		return nil, err
	}
	cur := s.rec
	switch {
	case cur != nil && cur.same(next):
		return cur, nil
	case cur == nil && expect != "":
		return nil, errMissing
	case cur != nil && cur.etag() != expect:
		return cur, errConflict
	case cur == nil && next.version != 1, cur != nil && next.version != cur.version+1:
		return cur, errVersion
	case cur != nil && next.nonce == cur.nonce:
		return cur, fmt.Errorf("%w, and its nonce a new one", errVersion)
	}
	err = c.write(next)
	if errors.Is(err, atomicfile.ErrUnsettled) {
		c.cur.Store(&state{rec: cur, unsettled: next})
	}
	if err != nil {
		return nil, err
	}
	c.cur.Store(&state{rec: next})
	return next, nil
}

func (c *cluster) write(r *record) error {
	start := time.Now()
	err := c.disk.ReplaceSummed(c.path(), r.raw, filePerm)
	c.flush(time.Since(start))
	return err
}

// settle brings the state to one that can be spoken about: it reads a file
// again that could not be served, and flushes again what was not flushed. The
// flush writes the whole content anew, since a kernel may forget pages after
// an error without saying so a second time.
func (c *cluster) settle() (*state, error) {
	s := c.cur.Load()
	if s.unsettled != nil {
		if err := c.write(s.unsettled); err != nil {
			return nil, fmt.Errorf("%w: %w", atomicfile.ErrUnsettled, err)
		}
		s = &state{rec: s.unsettled}
		c.cur.Store(s)
	}
	if s.err != nil {
		s = c.load()
		c.cur.Store(s)
	}
	return s, s.err
}

// enter waits for this cluster's turn to write. Whoever gave up meanwhile has
// written nothing.
func (c *cluster) enter(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk: %w", context.Cause(ctx))
	}
}

func (c *cluster) leave() { <-c.turn }

// clusterNames lists the clusters in the data directory.
func clusterNames(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && ValidCluster(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
