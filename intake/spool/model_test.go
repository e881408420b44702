package spool

import (
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// TestModel compares the spool with a list, over appends of all sizes, reads
// from the memory and the disk, acknowledgements, clean and unclean restarts
// and new identities.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "spool-model-") //nolint:usetesting // one for each case
		if err != nil {
			t.Skip(err)
		}
		defer os.RemoveAll(dir)
		o := Options{Dir: dir, SegmentBytes: 4096, MaxBytes: 8 << 20, FlushInterval: time.Hour}
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		p := s.Producer("p", true)
		var last, acked uint64
		ids := map[uint64]command.ID{} // position -> identity it was appended or renewed under
		next := uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				n := rapid.IntRange(1, 60).Draw(t, "n")
				rs := recs(int(last)+1, int(last)+n)
				if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
					rs[0].Raw = make([]byte, rapid.IntRange(0, 9000).Draw(t, "raw"))
				}
				got, err := p.Append(rs)
				if err != nil || got != last+uint64(n) {
					t.Fatalf("append: %d, %v", got, err)
				}
				for i := range n {
					ids[last+uint64(i)+1] = s.ID()
				}
				last = got
			},
			"read": func(t *rapid.T) {
				if next <= acked {
					next = acked + 1
				}
				if next > last {
					next = acked + 1
				}
				if next > last {
					return
				}
				maxRecords, maxBytes := rapid.IntRange(1, 100).Draw(t, "records"), rapid.IntRange(1, 20000).Draw(t, "bytes")
				b, err := s.Read(t.Context(), next, maxRecords, maxBytes)
				if err != nil {
					t.Fatal(err)
				}
				if b.First != next || len(b.Records) == 0 || len(b.Records) > maxRecords {
					t.Fatalf("from %d: first %d, %d records of %d", next, b.First, len(b.Records), maxRecords)
				}
				for i, r := range b.Records {
					pos := b.First + uint64(i)
					if r.Seq != pos || ids[pos] != b.Spool || pos <= b.Base || (b.End != 0 && pos > b.End) {
						t.Fatalf("record %d has Seq %d, spool %v (want %v), base %d, end %d", pos, r.Seq, b.Spool, ids[pos], b.Base, b.End)
					}
					if want := rec(int(pos)); r.At != want.At {
						t.Fatalf("record %d is another one: %v", pos, r)
					}
				}
				if b.AtEnd != (b.Next() == last+1) || b.Watermark > rec(int(b.Next())-1).At {
					t.Fatalf("at end %v, watermark %d after record %d", b.AtEnd, b.Watermark, b.Next()-1)
				}
				next = b.Next()
			},
			"ack": func(t *rapid.T) {
				if acked == last {
					return
				}
				acked = rapid.Uint64Range(acked+1, last).Draw(t, "upTo")
				if err := s.Ack(acked); err != nil {
					t.Fatal(err)
				}
			},
			"dropCache": func(*rapid.T) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.cache, s.cached = nil, 0
			},
			"renew": func(t *rapid.T) {
				if acked == last || rapid.IntRange(0, 3).Draw(t, "seldom") != 0 {
					return
				}
				after := rapid.Uint64Range(acked, last).Draw(t, "after")
				if err := s.Renew(after, "test"); err != nil {
					t.Fatal(err)
				}
				acked = after
				old := ids[after+1]
				id := s.epochs[0].ID
				for pos := after + 1; pos <= last && ids[pos] == old; pos++ {
					ids[pos] = id
				}
			},
			"reopen": func(t *rapid.T) {
				p.Close()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(o); err != nil {
					t.Fatal(err)
				}
				p = s.Producer("p", true)
				if s.Last() != last || s.Acked() != acked {
					t.Fatalf("after reopen: last %d acked %d, want %d %d", s.Last(), s.Acked(), last, acked)
				}
			},
			"": func(t *rapid.T) {
				if st := s.Status(); st.Depth != last-acked || st.Damaged != 0 || st.Lost > last {
					t.Fatalf("depth %d, want %d; %v", st.Depth, last-acked, st.LastError)
				}
			},
		})
	})
}

func FuzzRecords(f *testing.F) {
	var b []byte
	rs := recs(1, 3)
	for i := range rs {
		b = appendRecord(b, &rs[i])
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			var r futago.Received
			rest, ok := readRecord(b, &r)
			if !ok {
				return
			}
			// The form is not unique (unused flags), its meaning is.
			again := appendRecord(nil, &r)
			var q futago.Received
			if end, ok := readRecord(again, &q); !ok || len(end) != 0 || fmt.Sprint(q) != fmt.Sprint(r) {
				t.Fatalf("%v became %v", r, q)
			}
			b = rest
		}
	})
}

// FuzzSegment puts arbitrary bytes in the place of a file: Open and Read
// neither panic nor hang, and records that come out have passed a checksum.
func FuzzSegment(f *testing.F) {
	src := f.TempDir()
	s := open(f, Options{Dir: src})
	appendTo(f, s, recs(1, 3))
	appendTo(f, s, recs(4, 6))
	closeSpool(f, s)
	whole, err := os.ReadFile(segmentFiles(f, src, ".seg")[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := memDir(t)
		if err := os.WriteFile(dir+"/"+segmentName(1), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Dir: dir, SegmentBytes: 64 << 10})
		if err != nil {
			if futago.CodeOf(err) != futago.CodeIncompatible {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		if s.Last() > 1<<40 {
			return
		}
		readAll(t, s, 1, 10)
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := open(b, Options{Dir: b.TempDir(), MaxBytes: 4 << 30})
			p := s.Producer("p", true)
			rs := make([]futago.Received, size)
			for i := range rs {
				rs[i] = rec(i)
				rs[i].Raw = append(rs[i].Raw, make([]byte, 150-len(rs[i].Raw))...)
			}
			b.SetBytes(int64(150 * size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				last, err := p.Append(rs)
				if err != nil {
					b.Fatal(err)
				}
				if n++; n%8 == 0 {
					if err := s.Ack(last); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkAppend_Unacked(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir(), MaxBytes: 64 << 30})
	p := s.Producer("p", true)
	rs := make([]futago.Received, 64)
	for i := range rs {
		rs[i] = rec(i)
		rs[i].Raw = append(rs[i].Raw, make([]byte, 150-len(rs[i].Raw))...)
	}
	n := 0
	for b.Loop() {
		last, err := p.Append(rs)
		if err != nil {
			b.Fatal(err)
		}
		if n++; n%10000 == 0 { // bound the disk use: 100 MB behind
			if err := s.Ack(last); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*64)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkRead(b *testing.B) {
	for _, from := range []string{"memory", "disk"} {
		b.Run(from, func(b *testing.B) {
			s := open(b, Options{Dir: b.TempDir()})
			p := s.Producer("p", true)
			const n = 40000
			for i := 0; i < n; i += 64 {
				if _, err := p.Append(recs(i+1, i+64)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			read := 0
			pos := uint64(1)
			for b.Loop() {
				if from == "disk" && pos == 1 {
					s.mu.Lock()
					s.cache, s.cached = nil, 0
					s.mu.Unlock()
				}
				batch, err := s.Read(b.Context(), pos, 4096, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				read += len(batch.Records)
				if pos = batch.Next(); batch.AtEnd {
					pos = 1
				}
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkWaitAcked(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	p := s.Producer("p", true)
	for i := range 5000 { // others that wait for later ones
		go func() { _ = s.WaitAcked(b.Context(), uint64(1<<60)+uint64(i)) }()
	}
	rs := recs(1, 1)
	for b.Loop() {
		last, err := p.Append(rs)
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.WaitAcked(b.Context(), last) }()
		if err := s.Ack(last); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen starts on a backlog of 128 MB: only the newest file is read.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := open(b, Options{Dir: dir})
	p := s.Producer("p", true)
	rs := make([]futago.Received, 1000)
	for i := range rs {
		rs[i] = rec(i)
		rs[i].Raw = make([]byte, 150)
	}
	for range 750 {
		if _, err := p.Append(rs); err != nil {
			b.Fatal(err)
		}
	}
	closeSpool(b, s)
	for b.Loop() {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		if s.Status().Depth != 750000 {
			b.Fatal(s.Status())
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
