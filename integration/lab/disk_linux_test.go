package lab_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"

	"github.com/futago/futago/integration/lab"
)

func faulty(t *testing.T) (*lab.Lab, *lab.FaultyDisk) {
	t.Helper()
	l := lab.New(t, lab.Config{Hosts: []string{"a"}})
	d, err := l.Host("a").FaultyDisk()
	if errors.Is(err, lab.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l, d
}

func set(t *testing.T, d *lab.FaultyDisk, f lab.DiskFault) {
	t.Helper()
	if err := d.Set(f); err != nil {
		t.Fatal(err)
	}
}

func waiting(d *lab.FaultyDisk) int {
	c, err := d.Calls()
	if err != nil {
		return -1
	}
	return c.Waiting
}

func TestFaultyDisk(t *testing.T) {
	_, d := faulty(t)
	name := filepath.Join(d.Path(), "file")
	if err := os.WriteFile(name, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	set(t, d, lab.DiskFault{FailWrite: unix.EIO})
	if _, err := f.WriteAt([]byte("bad"), 0); !errors.Is(err, unix.EIO) {
		t.Errorf("write: %v", err)
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "new"), nil, 0o600); !errors.Is(err, unix.EIO) {
		t.Errorf("create: %v", err)
	}
	if err := os.Remove(name); !errors.Is(err, unix.EIO) {
		t.Errorf("remove: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Errorf("a flush fails with writes: %v", err)
	}
	set(t, d, lab.DiskFault{FailSync: unix.EIO})
	if _, err := f.WriteAt([]byte("GOOD"), 0); err != nil {
		t.Errorf("a write fails with flushes: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, unix.EIO) {
		t.Errorf("flush: %v", err)
	}

	const slow = 50 * time.Millisecond
	set(t, d, lab.DiskFault{SlowSync: slow})
	start := time.Now()
	if err := f.Sync(); err != nil || time.Since(start) < slow {
		t.Errorf("slow flush: %v after %v", err, time.Since(start))
	}
	set(t, d, lab.DiskFault{})
	if b, err := os.ReadFile(filepath.Join(d.Backing(), "file")); err != nil || string(b) != "GOOD" {
		t.Errorf("backing file %q, %v", b, err)
	}
}

func TestHangingDisk(t *testing.T) {
	l, d := faulty(t)
	set(t, d, lab.DiskFault{Hang: true})
	p, err := l.Host("a").Start(t.Context(), lab.Proc{
		Path: "sh", Args: []string{"-c", `echo x >"$0"`, filepath.Join(d.Path(), "file")},
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the process hangs", func() bool { return waiting(d) == 1 })
	if !p.Running() {
		t.Error("it does not run")
	}
	set(t, d, lab.DiskFault{})
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// A lab can be closed while a process hangs on its disk.
func TestCloseWhileHanging(t *testing.T) {
	l, d := faulty(t)
	set(t, d, lab.DiskFault{Hang: true})
	if _, err := l.Host("a").Start(t.Context(), lab.Proc{
		Path: "sh", Args: []string{"-c", `echo x >"$0"`, filepath.Join(d.Path(), "file")},
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "the process hangs", func() bool { return waiting(d) == 1 })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The product's database works on the disk: shared memory maps, locks, flushes.
func TestFaultyDiskCarriesSQLite(t *testing.T) {
	_, d := faulty(t)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.Path(), "db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE x(n)`); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := db.ExecContext(t.Context(), `INSERT INTO x VALUES(?)`, i); err != nil {
			t.Fatal(err)
		}
	}
	set(t, d, lab.DiskFault{FailWrite: unix.ENOSPC})
	if _, err := db.ExecContext(t.Context(), `INSERT INTO x VALUES(?)`, 100); err == nil {
		t.Error("insert on a full disk")
	}
	set(t, d, lab.DiskFault{})
	var n int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM x`).Scan(&n); err != nil || n != 100 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func BenchmarkFaultyDiskWrite(b *testing.B) {
	l, err := lab.Open(lab.Config{Hosts: []string{"a"}})
	if err != nil {
		b.Skip(err)
	}
	defer l.Close()
	d, err := l.Host("a").FaultyDisk()
	if err != nil {
		b.Skip(err)
	}
	for _, dir := range []string{d.Backing(), d.Path()} {
		b.Run(filepath.Base(dir), func(b *testing.B) {
			f, err := os.Create(filepath.Join(dir, fmt.Sprint("f", b.N)))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			buf := make([]byte, 4096)
			for b.Loop() {
				if _, err := f.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
