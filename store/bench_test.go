package store

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/futago/futago"
)

// cpuNS is the processor time of the process, for the machine's clock also
// counts what its other tenants do.
func cpuNS(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

func benchRows(n int) []EventRow {
	list := make([]EventRow, n)
	for i := range list {
		list[i] = row(uint64(i + 1))
	}
	return list
}

const benchBatch = 1000 // events per transaction

// BenchmarkInsert is the write path: one transaction per 1000 new events.
func BenchmarkInsert(b *testing.B) {
	s := open(b, b.TempDir())
	list := benchRows(benchBatch)
	next := uint64(1)
	b.ResetTimer()
	cpu := cpuNS(b)
	for n := 0; n < b.N; n += benchBatch {
		for i := range list {
			list[i].ID = next
			next++
		}
		write(b, s, Applied{Index: next, NextEvent: next}, func(tx *Tx) error { return tx.InsertEvents(list) })
	}
	b.ReportMetric(float64(cpuNS(b)-cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(len(list[0].Trap)), "trap-bytes")
}

// BenchmarkInsertAndPair adds the receipt of the other manager to each event
// in a later transaction.
func BenchmarkInsertAndPair(b *testing.B) {
	s := open(b, b.TempDir())
	list := benchRows(benchBatch)
	var pairs []Receipts
	next := uint64(1)
	b.ResetTimer()
	cpu := cpuNS(b)
	for n := 0; n < b.N; n += benchBatch {
		write(b, s, Applied{Index: next, NextEvent: next}, func(tx *Tx) error {
			if err := tx.UpdateReceipts(pairs); err != nil {
				return err
			}
			pairs = pairs[:0]
			for i := range list {
				list[i].ID = next
				next++
				r := list[i].receipts()
				r.Reason, r.Count[1], r.First[1], r.Last[1] = futago.ReasonPaired, 1, base, base
				pairs = append(pairs, r)
			}
			return tx.InsertEvents(list)
		})
	}
	b.ReportMetric(float64(cpuNS(b)-cpu)/float64(b.N), "cpu-ns/op")
	if fi, err := os.Stat(filepath.Join(filepath.Dir(s.Path()), "futago.db-wal")); err == nil {
		b.ReportMetric(float64(fi.Size())/1e6, "wal-MB")
	}
}

// BenchmarkCommitEmpty is the fixed cost of a transaction.
func BenchmarkCommitEmpty(b *testing.B) {
	s := open(b, b.TempDir())
	for n := range b.N {
		write(b, s, Applied{Index: uint64(n), NextEvent: 1}, func(*Tx) error { return nil })
	}
}

// BenchmarkWhole measures what concerns the database as a whole. Checkpoint and
// opening must not depend on its size, which FUTAGO_BENCH_EVENTS sets (100000
// by default); backup and digest do.
func BenchmarkWhole(b *testing.B) {
	size := uint64(100_000)
	if v, err := strconv.ParseUint(os.Getenv("FUTAGO_BENCH_EVENTS"), 10, 64); err == nil {
		size = v
	}
	dir := b.TempDir()
	s := open(b, dir)
	b.Cleanup(func() { _ = s.Close() }) // the last one of those opened below
	next := uint64(1)
	more := func(n uint64) {
		for end := next + n; next < end; next += benchBatch {
			insert(b, s, next, benchBatch)
		}
	}
	more(size)
	if fi, err := os.Stat(s.Path()); err == nil {
		b.Logf("%d events, %d MB", size, fi.Size()>>20)
	}
	b.Run("checkpoint-after-10000-events", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			more(10_000)
			b.StartTimer()
			if err := s.Checkpoint(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reopen", func(b *testing.B) {
		for range b.N {
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			var err error
			if s, err = Open(b.Context(), s.o); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("backup", func(b *testing.B) {
		for n := range b.N {
			if _, err := s.Backup(b.Context(), filepath.Join(dir, "copy"+strconv.Itoa(n))); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "copy"+strconv.Itoa(n))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("digest", func(b *testing.B) {
		for range b.N {
			if _, _, err := s.Digest(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
