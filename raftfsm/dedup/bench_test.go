package dedup

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/futago/futago"
)

func benchKey(i uint64) (k futago.Key) {
	binary.LittleEndian.PutUint64(k[:], i*0x9e3779b97f4a7c15)
	return k
}

// BenchmarkJudge_Repeat counts copies of one of 1000 open events.
func BenchmarkJudge_Repeat(b *testing.B) {
	j := New(0)
	rule := j.Rule(exactRule)
	next := uint64(1)
	judge := func(i uint64, slot int) {
		v, err := j.Judge(Copy{Key: benchKey(i % 1000), Slot: slot, At: int64(i)}, rule, next, nil)
		if err != nil {
			b.Fatal(err)
		}
		if v.New {
			next++
		}
	}
	for i := range uint64(1000) {
		judge(i, 0)
	}
	b.ReportAllocs()
	var i uint64
	for b.Loop() {
		judge(i, int(i&1))
		i++
	}
}

// BenchmarkJudge_Distinct judges both copies of ever new traps, with
// watermarks as they come with batches of 500.
func BenchmarkJudge_Distinct(b *testing.B) {
	j := New(0)
	rule := j.Rule(exactRule)
	next := uint64(1)
	const apart = int64(time.Second / 30_000)
	b.ReportAllocs()
	var i uint64
	for b.Loop() {
		for slot := range 2 {
			v, err := j.Judge(Copy{Key: benchKey(i), Slot: slot, At: int64(i) * apart}, rule, next, nil)
			if err != nil {
				b.Fatal(err)
			}
			if v.New {
				next++
			}
		}
		if i++; i%500 == 0 {
			j.Advance(0, int64(i)*apart, next)
			j.Advance(1, int64(i)*apart, next)
		}
	}
	b.ReportMetric(float64(j.Stats().Open), "open")
}

// TestMemory holds the promise at DefaultLimit.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	j := New(0)
	rule := j.Rule(exactRule)
	for i := range uint64(DefaultLimit) {
		if _, err := j.Judge(Copy{Key: benchKey(i), At: int64(i)}, rule, i+1, nil); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d events take %.1f MB", j.Stats().Open, float64(used)/1e6)
	if used > 40e6 {
		t.Errorf("%d bytes", used)
	}
	runtime.KeepAlive(j)
}

func TestJudge_Allocations(t *testing.T) {
	j := New(0)
	rule := j.Rule(exactRule)
	i := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := j.Judge(Copy{Slot: int(i & 1), At: int64(i)}, rule, i+1, nil); err != nil {
			t.Fatal(err)
		}
		i++
	}); n > 0 {
		t.Errorf("%v allocations per repeat", n)
	}
}
