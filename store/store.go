package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

// Options of a Store.
type Options struct {
	// Path of the database file. Its -wal and -shm files stand beside it.
	Path string
	// ClusterID, when not empty, is written into a new database and compared
	// with that of an existing or an installed one.
	ClusterID string
	// Version of the product, kept in the database for the message that an
	// older program shows when it meets it.
	Version string
	// Budget is how long a page of events may take before it comes back
	// incomplete, default DefaultBudget.
	Budget time.Duration
	// Readers is the number of read connections, default 4.
	Readers int
	Logger  *slog.Logger
}

// Store is the database of one manager. Its methods are safe for concurrent use.
type Store struct {
	o   Options
	log *slog.Logger

	// writing is a semaphore of one: the state machine's transaction, or a
	// restore.
	writing chan struct{}

	// mu guards everything below.
	mu      sync.Mutex
	gen     *generation // nil while closed or being replaced
	closed  bool
	epoch   uint64        // counts restores
	changed chan struct{} // closed at the next commit
}

// generation is one opened database file; a restore starts the next one.
type generation struct {
	writer  *litedb.Conn
	readers chan *litedb.Conn
	ckpt    *checkpointer
	life    context.Context // done when readers have to leave
	leave   context.CancelFunc
	active  sync.WaitGroup // readers
}

// Page size: an update of receipts writes one page into the WAL, so larger
// pages would cost more there than they save at inserts. The WAL is kept
// short by the checkpointer; wal_autocheckpoint bounds it when that falls
// behind: the commit then copies what is left, while nobody appends, so that
// the WAL starts over.
var (
	writerPragmas = []string{
		"page_size(4096)", "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-16384)",
		"wal_autocheckpoint(8192)", "journal_size_limit(67108864)", "busy_timeout(10000)",
		"temp_store(MEMORY)", "trusted_schema(0)", "cell_size_check(1)",
	}
	readerPragmas = []string{
		"query_only(1)", "cache_size(-4096)", "busy_timeout(10000)",
		"temp_store(MEMORY)", "trusted_schema(0)", "cell_size_check(1)",
	}
)

// Open opens or creates the database, finishes an interrupted restore and
// brings an older schema up to date. Errors have the codes CodeCorrupt,
// CodeIncompatible (a newer version wrote it), CodeStorageFull and
// CodeInvalid (of another cluster or program).
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Readers <= 0 {
		o.Readers = 4
	}
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		o: o, log: o.Logger.With("component", "store"),
		writing: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	if err := finishInstall(o.Path); err != nil {
		return nil, err
	}
	gen, err := s.openGeneration(ctx)
	if err != nil {
		return nil, err
	}
	s.gen = gen
	return s, nil
}

func (s *Store) openGeneration(ctx context.Context) (_ *generation, err error) {
	if err := checkHeader(s.o.Path); err != nil {
		return nil, err
	}
	g := &generation{readers: make(chan *litedb.Conn, s.o.Readers)}
	g.life, g.leave = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.writer, err = litedb.Open(s.o.Path, litedb.Options{Pragmas: writerPragmas}); err != nil {
		return nil, err
	}
	if err := migrate(ctx, g.writer, SchemaVersion, s.o.Version); err != nil {
		return nil, err
	}
	if err := s.checkCluster(ctx, g.writer); err != nil {
		return nil, err
	}
	if _, err := readApplied(ctx, g.writer); err != nil {
		return nil, err
	}
	for range s.o.Readers {
		c, err := litedb.Open(s.o.Path, litedb.Options{Pragmas: readerPragmas})
		if err != nil {
			return nil, err
		}
		g.readers <- c
	}
	if g.ckpt, err = startCheckpointer(g.life, s.o.Path, s.log); err != nil { //nolint:contextcheck // it outlives Open
		return nil, err
	}
	return g, syncDir(filepath.Dir(s.o.Path))
}

func (s *Store) checkCluster(ctx context.Context, c *litedb.Conn) error {
	if s.o.ClusterID == "" {
		return nil
	}
	switch have, err := getMeta(ctx, c, "cluster_id"); {
	case err != nil:
		return err
	case have == "":
		return setMeta(c, "cluster_id", s.o.ClusterID)
	case have != s.o.ClusterID:
		return futago.Errorf(futago.CodeInvalid, "database %s belongs to cluster %s, this is cluster %s",
			c.Path(), have, s.o.ClusterID).WithAction("use the data directory of this node")
	}
	return nil
}

// close ends the generation: readers are told to leave and waited for.
func (g *generation) close() error {
	g.leave()
	g.active.Wait()
	var errs []error
	if g.ckpt != nil {
		errs = append(errs, g.ckpt.close())
	}
	close(g.readers)
	for c := range g.readers {
		errs = append(errs, c.Close())
	}
	// The writer goes last: the last connection copies the WAL back and
	// removes it.
	if g.writer != nil {
		errs = append(errs, g.writer.Close())
	}
	return errors.Join(errs...)
}

// Close waits for the transaction under way, ends the readers and closes the
// files. It may be called twice.
func (s *Store) Close() error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	s.mu.Lock()
	g := s.gen
	s.gen, s.closed = nil, true
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	return g.close()
}

// Path returns the path of the database file.
func (s *Store) Path() string { return s.o.Path }

// Epoch counts the restores since Open. Whoever keeps something derived from
// the history compares it anew when it changes.
func (s *Store) Epoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Changed returns a channel that is closed after the next commit. Take it
// before reading, so that no change is missed.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// enter registers a reader with the present generation. The context ends also
// when the generation does.
func (s *Store) enter(ctx context.Context) (*generation, context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen == nil {
		return nil, nil, nil, s.absent()
	}
	g := s.gen
	g.active.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.life, func() {
		cancel(futago.Errorf(futago.CodeUnavailable, "the database is being replaced or closed").
			WithAction("repeat in a moment"))
	})
	return g, ctx, func() { stop(); cancel(nil); g.active.Done() }, nil
}

// absent says why there is no generation. The caller holds mu.
func (s *Store) absent() error {
	if s.closed {
		return futago.Errorf(futago.CodeUnavailable, "the database is closed")
	}
	return futago.Errorf(futago.CodeUnavailable, "the database is being replaced by a snapshot").
		WithAction("repeat in a moment")
}

// read runs f on a connection of the pool. Every statement in f sees the last
// commit at its own start; snapshot gives one view to several.
func (s *Store) read(ctx context.Context, f func(context.Context, *litedb.Conn) error) error {
	g, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case c := <-g.readers:
		defer func() { g.readers <- c }()
		return cause(ctx, f(ctx, c))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readAlone runs f on a connection of its own, for reads that take long, and
// inside one read transaction, so that all of f sees the same moment. The WAL
// cannot start over meanwhile.
func (s *Store) readAlone(ctx context.Context, f func(context.Context, *litedb.Conn) error) error {
	_, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c, err := litedb.Open(s.o.Path, litedb.Options{Pragmas: readerPragmas})
	if err != nil {
		return err
	}
	err = snapshot(ctx, c, f)
	return errors.Join(cause(ctx, err), c.Close())
}

// snapshot runs f inside one read transaction.
func snapshot(ctx context.Context, c *litedb.Conn, f func(context.Context, *litedb.Conn) error) error {
	if _, err := c.Exec("BEGIN"); err != nil {
		return err
	}
	err := f(ctx, c)
	_, err2 := c.Exec("ROLLBACK")
	return errors.Join(err, err2)
}

// cause replaces a bare context error by the reason for it.
func cause(ctx context.Context, err error) error {
	if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// checkHeader refuses a file that cannot be a database before SQLite touches
// it. A file shorter than the header is new, or all of it is in the WAL.
func checkHeader(path string) error {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("database: %w", err)
	}
	// Closing is harmless here: SQLite holds no lock on the file yet, which a
	// close in the same process would drop.
	defer f.Close()
	var h [16]byte
	switch _, err := io.ReadFull(f, h[:]); {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF) || (err == nil && string(h[:]) != "SQLite format 3\x00"):
		return litedb.Corrupt(path, "%s is no database: its header is damaged", path)
	case err != nil:
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
