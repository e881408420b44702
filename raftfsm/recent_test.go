package raftfsm

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// A log with the memory in front of it answers as the log alone does, whatever
// is appended, cut off behind, or deleted in front.
func TestRecentLogs_Transparent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := raft.NewInmemStore()
		g := &guardedLog{
			LogStore: memoryStore{raft.NewInmemStore()}, recent: newRecentLogs(rapid.IntRange(0, 200).Draw(t, "limit")),
			fail: func(err error) { t.Fatal(err) },
		}
		next, term := uint64(1), uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var ls []*raft.Log
				for range rapid.IntRange(1, 5).Draw(t, "entries") {
					ls = append(ls, &raft.Log{Index: next, Term: term, Type: raft.LogNoop, Data: rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "data")})
					next++
				}
				if err := g.StoreLogs(ls); err != nil {
					t.Fatal(err)
				}
				_ = plain.StoreLogs(ls)
			},
			"cut behind": func(t *rapid.T) {
				first, _ := plain.FirstIndex()
				if first == 0 {
					return
				}
				from := rapid.Uint64Range(first, next).Draw(t, "from")
				if from == next {
					return
				}
				_ = plain.DeleteRange(from, next-1)
				if err := g.DeleteRange(from, next-1); err != nil {
					t.Fatal(err)
				}
				next, term = from, term+1
			},
			"delete in front": func(t *rapid.T) {
				first, _ := plain.FirstIndex()
				if first == 0 || next-first < 2 {
					return
				}
				to := rapid.Uint64Range(first, next-2).Draw(t, "to")
				_ = plain.DeleteRange(first, to)
				if err := g.DeleteRange(first, to); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				for i := range next + 2 {
					var a, b raft.Log
					want, got := plain.GetLog(i, &a), g.GetLog(i, &b)
					if !errors.Is(got, want) || !errors.Is(want, got) || a.Term != b.Term || string(a.Data) != string(b.Data) {
						t.Fatalf("entry %d: %v %v, want %v %v", i, got, b, want, a)
					}
				}
				if r := g.recent; r.bytes > r.limit || len(r.logs) > int(next) {
					t.Fatalf("%d bytes of %d in %d entries", r.bytes, r.limit, len(r.logs))
				}
			},
		})
	})
}

// What could not be written is not remembered.
func TestRecentLogs_FailedWrite(t *testing.T) {
	g := &guardedLog{LogStore: failingStore{memoryStore{raft.NewInmemStore()}}, recent: newRecentLogs(1000), fail: func(error) {}}
	if g.StoreLog(&raft.Log{Index: 1, Data: []byte("x")}) == nil {
		t.Fatal("the write did not fail")
	}
	var l raft.Log
	if err := g.GetLog(1, &l); err == nil {
		t.Error("the entry is there")
	}
}

type memoryStore struct{ *raft.InmemStore }

func (memoryStore) Close() error { return nil }

type failingStore struct{ memoryStore }

func (failingStore) StoreLogs([]*raft.Log) error { return errApplyStopped }

func BenchmarkReadNewest(b *testing.B) {
	for name, limit := range map[string]int{"bolt": 0, "memory": recentBytes} {
		b.Run(name, func(b *testing.B) {
			st, err := openBolt(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close()
			g := &guardedLog{LogStore: st, recent: newRecentLogs(limit), fail: func(error) {}}
			if err := g.StoreLog(&raft.Log{Index: 1, Term: 1, Data: make([]byte, 256<<10)}); err != nil {
				b.Fatal(err)
			}
			var l raft.Log
			b.ReportAllocs()
			for b.Loop() {
				if err := g.GetLog(1, &l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
