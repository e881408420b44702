package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

// checkpointEvery is how often at most the WAL is copied back in the
// background. Shorter means less left for the commit that bounds the WAL,
// longer means that pages written again and again are copied once.
const checkpointEvery = time.Second

// checkpointer copies the WAL into the database beside the writer, so that
// the flushes this needs do not stand in the way of apply.
type checkpointer struct {
	path string
	log  *slog.Logger
	wake chan struct{}
	stop context.CancelFunc
	done sync.WaitGroup

	mu sync.Mutex // guards c
	c  *litedb.Conn
}

func startCheckpointer(ctx context.Context, path string, log *slog.Logger) (*checkpointer, error) {
	c, err := litedb.Open(path, litedb.Options{Pragmas: []string{
		"synchronous(NORMAL)", "cache_size(-256)", "busy_timeout(10000)",
	}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	k := &checkpointer{path: path, log: log, wake: make(chan struct{}, 1), stop: cancel, c: c}
	k.done.Go(func() { k.run(ctx) })
	return k, nil
}

// committed tells that the WAL has grown. It never blocks.
func (k *checkpointer) committed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *checkpointer) run(ctx context.Context) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		err := k.passive(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			k.log.Warn("the database cannot be checkpointed; its WAL file grows", "code", futago.CodeOf(err), "err", err)
		}
		if failing = err != nil; failing {
			k.committed() // again at the next tick, even without a commit
		}
	}
}

// passive copies what readers and the writer allow, and waits for nobody.
func (k *checkpointer) passive(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.c.Query(ctx, func(litedb.Row) error { return nil }, "PRAGMA wal_checkpoint(PASSIVE)")
}

func (k *checkpointer) close() error {
	k.stop()
	k.done.Wait()
	return k.c.Close()
}

// Checkpoint makes everything committed so far durable: it copies the WAL
// back as far as readers allow and flushes the rest of it. The cost depends on
// the length of the WAL, which is bounded, and not on the size of the database.
func (s *Store) Checkpoint(ctx context.Context) error {
	g, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := g.ckpt.passive(ctx); err != nil {
		return err
	}
	// With synchronous=NORMAL a commit writes the WAL without a flush. Once
	// it is flushed, its frames survive a power loss, copied back or not.
	// (No lock is on that file, so that closing it again drops none.)
	if err := syncFile(s.o.Path + "-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
