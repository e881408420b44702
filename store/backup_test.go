package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/futago/futago"
)

// digestOf returns how far the log is applied and the digest of all content.
func digestOf(t testing.TB, s *Store) (Applied, [32]byte) {
	t.Helper()
	a, sum, err := s.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a, sum
}

func TestStore_BackupDuringWrites(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const first = 12_001
	insert(t, s, 1, first-1)
	next := uint64(first)
	writeOn := func(started chan<- struct{}, stop <-chan struct{}) {
		for n := 0; ; n++ {
			tx, err := s.Begin(context.Background())
			if err == nil {
				err = errors.Join(tx.InsertEvents(rows(next, 5)), tx.UpdateReceipts([]Receipts{{ID: next / 2, Count: [2]uint64{next, 1}}}))
			}
			if err == nil {
				err = tx.Commit(Applied{Index: next, NextEvent: next + 5})
			}
			if err != nil {
				t.Error(err)
			}
			next += 5
			if n == 0 {
				close(started)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}
	indexes := map[uint64]bool{}
	for i := range 3 {
		started, stop := make(chan struct{}), make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() { writeOn(started, stop) })
		<-started
		path := filepath.Join(dir, fmt.Sprint("copy", i))
		cp, err := s.Backup(t.Context(), path)
		close(stop)
		writer.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		c, err := Open(t.Context(), Options{Path: path, ClusterID: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		a, _ := digestOf(t, c)
		if a != cp.Applied || a.Index < first {
			t.Errorf("the copy is of index %d, it says %d", a.Index, cp.Applied.Index)
		}
		// Whole transactions: the newest event is the last before NextEvent.
		if id, err := c.NewestEvent(t.Context()); err != nil || id != a.NextEvent-1 {
			t.Errorf("newest event %d of %d, %v", id, a.NextEvent-1, err)
		}
		indexes[a.Index] = true
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(indexes) < 3 {
		t.Error("nothing was written between the backups")
	}
	_, err := s.Backup(t.Context(), filepath.Join(dir, "copy0"))
	wantCode(t, err, futago.CodeConflict)
}

func TestStore_BackupEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	insert(t, s, 1, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(dir, "copy")
	if _, err := s.Backup(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished copy is still there: %v", err)
	}
}

func TestStore_RestoreUnderReaders(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	insert(t, s, 1, 5000)
	_, want := digestOf(t, s)
	cp, err := s.Backup(t.Context(), filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	insert(t, s, 5001, 5000)
	var readers, busy sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		busy.Add(1)
		readers.Go(func() {
			for n := 0; ; n++ {
				if n == 1 {
					busy.Done()
				}
				select {
				case <-stop:
					return
				default:
				}
				for _, err := range s.OpenEvents(context.Background(), 1) {
					if err != nil && futago.CodeOf(err) != futago.CodeUnavailable {
						t.Error(err)
						return
					}
				}
				if _, err := s.Events(context.Background(), futago.EventQuery{}); err != nil && futago.CodeOf(err) != futago.CodeUnavailable {
					t.Error(err)
					return
				}
			}
		})
	}
	busy.Wait() // all of them are in the middle of something
	epoch := s.Epoch()
	a, err := s.Restore(t.Context(), filepath.Join(dir, "copy"), cp.Sum)
	if err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()
	got, sum := digestOf(t, s)
	if got != a || a != cp.Applied || sum != want || s.Epoch() == epoch {
		t.Errorf("after the restore: %+v, digest equal: %v", got, sum == want)
	}
	insert(t, s, 5001, 10)
}

func TestStore_RestoreWaitsForReaders(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	insert(t, s, 1, 100)
	cp, err := s.Backup(t.Context(), filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	inside, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Heads(context.Background(), 1, 100, func(e *EventRow) error {
			if e.ID == 1 {
				close(inside)
				<-goOn
			}
			time.Sleep(10 * time.Millisecond) // the word to leave comes beside the rows
			return nil
		})
		if futago.CodeOf(err) != futago.CodeUnavailable {
			t.Errorf("the reader was not asked to leave: %v", err)
		}
	})
	<-inside
	done := make(chan error, 1)
	wg.Go(func() {
		_, err := s.Restore(context.Background(), filepath.Join(dir, "copy"), cp.Sum)
		done <- err
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := s.Applied(t.Context()); futago.CodeOf(err) == futago.CodeUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("new readers are still let in")
		}
	}
	select {
	case err := <-done:
		t.Errorf("replaced under a reader: %v", err)
	default:
	}
	close(goOn)
	wg.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStore_RestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	insert(t, s, 1, 100)
	_, want := digestOf(t, s)
	path := filepath.Join(dir, "copy")
	cp, err := s.Backup(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(t.Context(), path, [32]byte{1})
	wantCode(t, err, futago.CodeCorrupt)

	other, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "x.db"), ClusterID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	cp2, err := other.Backup(t.Context(), filepath.Join(dir, "foreign"))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(t.Context(), filepath.Join(dir, "foreign"), cp2.Sum)
	wantCode(t, err, futago.CodeInvalid)

	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, sum, err := flushAndSum(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(t.Context(), text, sum)
	wantCode(t, err, futago.CodeCorrupt)

	if _, got := digestOf(t, s); got != want {
		t.Error("a refused restore changed the database")
	}
	if _, err := s.Restore(t.Context(), path, cp.Sum); err != nil {
		t.Error(err)
	}
}

// TestOpen_AfterCrashInRestore stops a restore after each of its steps, with
// the files of a database that was not closed.
func TestOpen_AfterCrashInRestore(t *testing.T) {
	src := t.TempDir()
	s := open(t, src)
	insert(t, s, 1, 3000)
	_, newer := digestOf(t, s)
	if _, err := s.Backup(t.Context(), filepath.Join(src, "copy")); err != nil {
		t.Fatal(err)
	}
	old := t.TempDir()
	o := open(t, old)
	insert(t, o, 1, 500)
	if err := o.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, o, 501, 700) // in the WAL
	_, older := digestOf(t, o)

	steps := []struct {
		name string
		do   func(dir string) error
		want [32]byte
	}{
		{"copy received", func(string) error { return nil }, older},
		{"install appears", func(d string) error { return os.Rename(d+"/copy", d+"/futago.db.install") }, newer},
		{"WAL removed", func(d string) error { return os.Remove(d + "/futago.db-wal") }, newer},
		{"shared memory removed", func(d string) error { return os.Remove(d + "/futago.db-shm") }, newer},
		{"renamed", func(d string) error { return os.Rename(d+"/futago.db.install", d+"/futago.db") }, newer},
	}
	for n := range steps {
		t.Run(steps[n].name, func(t *testing.T) {
			dir := t.TempDir()
			for from, to := range map[string]string{
				old + "/futago.db": "futago.db", old + "/futago.db-wal": "futago.db-wal",
				old + "/futago.db-shm": "futago.db-shm", src + "/copy": "copy",
			} {
				b, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, step := range steps[:n+1] {
				if err := step.do(dir); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				s := open(t, dir)
				if err := s.Check(t.Context()); err != nil {
					t.Error(err)
				}
				if _, got := digestOf(t, s); got != steps[n].want {
					a, _ := digestOf(t, s)
					t.Errorf("the database is at event %d", a.NextEvent)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
