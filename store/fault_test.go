package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

func TestOpen_RefusesNewerSchema(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	insert(t, s, 1, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := s.Path()
	c, err := litedb.Open(path, litedb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Script("PRAGMA user_version=9; UPDATE meta SET value='4.2.0' WHERE name='written_by'"), c.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Path: path})
	wantCode(t, err, futago.CodeIncompatible)
	if !strings.Contains(err.Error(), "4.2.0") {
		t.Errorf("the message does not name the version: %v", err)
	}
}

func TestOpen_RefusesForeignFiles(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	c, err := litedb.Open(foreign, litedb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Script("CREATE TABLE t (x); PRAGMA application_id=7"), c.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Path: foreign})
	wantCode(t, err, futago.CodeInvalid)

	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, bytes.Repeat([]byte("text "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Path: text})
	wantCode(t, err, futago.CodeCorrupt)

	s := open(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Path: s.Path(), ClusterID: "c2"})
	wantCode(t, err, futago.CodeInvalid)

	_, err = Open(t.Context(), Options{Path: filepath.Join(dir, "no", "such", "dir.db")})
	if err == nil {
		t.Error("opened a database in a directory that does not exist")
	}
}

// TestMigrate_EachStepKeepsTheData runs the steps one by one with data between.
func TestMigrate_EachStepKeepsTheData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "futago.db")
	for v := 1; v <= SchemaVersion; v++ {
		c, err := litedb.Open(path, litedb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time there is nothing to do
			if err := migrate(t.Context(), c, v, "1.0"); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := pragmaInt(t.Context(), c, "user_version"); err != nil || have != v {
			t.Errorf("schema %d, %v, want %d", have, err, v)
		}
		if err := setMeta(c, fmt.Sprint("kept", v), "yes"); err != nil {
			t.Fatal(err)
		}
		for k := 1; k <= v; k++ {
			if got, err := getMeta(t.Context(), c, fmt.Sprint("kept", k)); err != nil || got != "yes" {
				t.Errorf("step %d lost what step %d wrote: %v", v, k, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// A step that fails leaves nothing behind.
	c, err := litedb.Open(filepath.Join(t.TempDir(), "x.db"), litedb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Script("CREATE TABLE zones (x)"); err != nil { // in the way
		t.Fatal(err)
	}
	if err := migrate(t.Context(), c, 1, ""); err == nil {
		t.Fatal("the step went through")
	}
	found, err := c.One(t.Context(), func(litedb.Row) error { return nil }, "SELECT 1 FROM sqlite_schema WHERE name = 'events'")
	if err != nil || found {
		t.Errorf("half a step is left: %v, %v", found, err)
	}
}

// TestStore_DamageIsNotServed flips bytes all over the file. Whatever is read
// afterwards is what was written, or an error that says damage.
func TestStore_DamageIsNotServed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const n = 400
	insert(t, s, 1, n)
	write(t, s, Applied{Index: n + 2, NextEvent: n + 1}, func(tx *Tx) error {
		return errors.Join(
			tx.PutUser(futago.User{Name: "u", Role: futago.RoleViewer}),
			tx.PutSpoolMark(SpoolMark{Member: futago.MemberA, Seq: 7}),
			tx.UpdateReceipts([]Receipts{{ID: 5, Count: [2]uint64{2, 2}}}),
		)
	})
	_, want := digestOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "futago.db")
	r := lcg(3)
	found, pages := 0, 0
	const tries = 100
	for i := range tries {
		b := bytes.Clone(whole)
		// All pages in turn, and the first of them, the tables' roots, often.
		page := i * (len(b) / 4096) / tries
		if i%3 == 0 {
			page = i / 3 % 12
		}
		at := page*4096 + r.IntN(4096)
		for k := range 1 + r.IntN(8) {
			b[min(at+k, len(b)-1)] ^= byte(1 + r.IntN(255))
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(path + suffix)
		}
		err := readEverything(t, path, want)
		switch code := futago.CodeOf(err); code {
		case "":
		case futago.CodeCorrupt, futago.CodeInvalid, futago.CodeIncompatible: // the latter two from the header
			found++
			if code == futago.CodeCorrupt && strings.Contains(err.Error(), path) {
				pages++
			}
		default:
			t.Errorf("damage at byte %d: code %q: %v", at, code, err)
		}
	}
	t.Logf("damage found %d times of %d, naming file and place %d times", found, tries, pages)
	if found < tries/3 || pages < tries/3 {
		t.Errorf("damage found %d times, named %d times", found, pages)
	}
}

func readEverything(t *testing.T, path string, want [32]byte) error {
	t.Helper()
	s, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	// What the API serves, page by page: each event as it was, or an error.
	for q := (futago.EventQuery{Limit: futago.MaxPage}); ; {
		p, err := s.Events(context.Background(), q)
		if err != nil {
			return err
		}
		for i := range p.Events {
			w := row(p.Events[i].ID)
			if w.ID == 5 {
				w.Count, w.Reason = [2]uint64{2, 2}, 0
				w.First, w.Last = [2]int64{}, [2]int64{}
			}
			ev, err := w.Event()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(ev, p.Events[i]) {
				t.Fatalf("a damaged event was served: %s", cmp.Diff(ev, p.Events[i], cmpopts.EquateComparable(netip.AddrPort{})))
			}
		}
		if q.Before = p.Next; p.Next == 0 {
			break
		}
	}
	_, sum, err := s.Digest(context.Background())
	if err == nil && sum != want {
		// Rows may be missing without a trace in what was read; the full check
		// has to see it.
		if err := s.Check(context.Background()); err != nil {
			return err
		}
		t.Fatal("damage changed the content and no check sees it")
	}
	if err != nil {
		return err
	}
	return s.Check(context.Background())
}

func TestStore_FullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := Open(t.Context(), Options{Path: filepath.Join(dir, "futago.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	add := func(next uint64) error {
		tx, err := s.Begin(t.Context())
		if err != nil {
			return err
		}
		if err := tx.InsertEvents(rows(next, 500)); err != nil {
			tx.Rollback()
			return err
		}
		return tx.Commit(Applied{Index: next, NextEvent: next + 500})
	}
	next := uint64(1)
	for err = nil; err == nil && next < 100_000; {
		if err = add(next); err == nil {
			next += 500
		}
	}
	wantCode(t, err, futago.CodeStorageFull)
	if fe, ok := errors.AsType[*futago.Error](err); !ok || !strings.Contains(fe.Action, dir) {
		t.Errorf("the action does not name the file system: %v", err)
	}
	wantCode(t, add(next), futago.CodeStorageFull) // again, and again cleanly
	before, sum := digestOf(t, s)
	if before.NextEvent != next {
		t.Errorf("next event %d, committed were %d", before.NextEvent, next)
	}
	_, err = s.Backup(t.Context(), filepath.Join(dir, "copy"))
	wantCode(t, err, futago.CodeStorageFull)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := add(next); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if a, got := digestOf(t, s); a.NextEvent != next+500 || got == sum {
		t.Errorf("next event %d after %d", a.NextEvent, next)
	}
}
