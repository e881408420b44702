package manager

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/futago/futago"
)

// freeBytes is the room that an ordinary user has on dir's file system.
func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// spaceCheck is how often the room is looked at.
const spaceCheck = time.Second

// resumeExtra is the least room above min_free at which a member goes on that
// stopped for want of it, so that one at the edge does not come and go.
const resumeExtra = 16 << 20

// watchSpace ends the session before the file system is full: a leader can
// still hand over then, and SQLite and the log never meet a failed write.
func (m *Manager) watchSpace(ctx context.Context) error {
	t := time.NewTicker(spaceCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := m.checkSpace(); err != nil {
				return err
			}
		}
	}
}

// checkSpace wants min_free.
func (m *Manager) checkSpace() error {
	free, err := freeBytes(m.dir.Path())
	if err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	if least := uint64(m.cfg.MinFree); free < least {
		return futago.Errorf(futago.CodeStorageFull, "%s has %d MiB free, min_free is %d", m.dir.Path(), free>>20, least>>20).
			WithAction("free space on that file system: at %d MiB this member goes on by itself", (m.resumeAt()+1<<20-1)>>20)
	}
	return nil
}

// resumeAt is the room in bytes that awaitSpace waits for.
func (m *Manager) resumeAt() uint64 {
	least := uint64(m.cfg.MinFree)
	return least + max(least/4, resumeExtra)
}

// awaitSpace waits until there is room again, or ctx ends.
func (m *Manager) awaitSpace(ctx context.Context) {
	t := time.NewTicker(spaceCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if free, err := freeBytes(m.dir.Path()); err == nil && free >= m.resumeAt() {
				return
			}
		}
	}
}
