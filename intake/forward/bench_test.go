package forward

import (
	"context"
	"fmt"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/intake/syslog"
	"github.com/futago/futago/raftfsm/command"
)

// sized pads a record to 150 bytes.
func sized(n int) futago.Received {
	r := rec(n)
	r.Raw = append(r.Raw, make([]byte, 150-len(r.Raw))...)
	for i := range r.Raw {
		if r.Raw[i] == 0 {
			r.Raw[i] = 'x'
		}
	}
	return r
}

func spoolBatch(m futago.MemberID, from, to int) *spool.Batch {
	b := &spool.Batch{Spool: command.ID{m[0]}, First: uint64(from)}
	for i := from; i <= to; i++ {
		b.Records = append(b.Records, sized(i))
	}
	return b
}

var syslogDecoders = map[futago.Kind]Decoder{futago.KindSyslog: syslog.Decode}

func BenchmarkBuild(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, repeats := range []int{0, 95} {
			b.Run(fmt.Sprintf("workers=%d/repeats=%d%%", workers, repeats), func(b *testing.B) {
				m := testBuilder(syslogDecoders)
				m.workers = workers
				const size = 4096
				batches := make([]*spool.Batch, 64)
				n := 0
				for i := range batches {
					sb := &spool.Batch{Spool: command.ID{1}, First: 1}
					for j := range size {
						k := n
						if j%100 < repeats {
							k = j % 100
						} else {
							n++
						}
						sb.Records = append(sb.Records, sized(k))
					}
					batches[i] = sb
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					m.build(batches[i%len(batches)])
					i++
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkEndToEnd appends in blocks of 64, as a receiver does, and waits
// until a log that takes everything has taken the last one.
func BenchmarkEndToEnd(b *testing.B) {
	for _, repeats := range []int{0, 95} {
		b.Run(fmt.Sprintf("repeats=%d%%", repeats), func(b *testing.B) {
			s, err := spool.Open(spool.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			o := options(s, nil)
			o.Decoders = syslogDecoders
			o.Submit = func(_ context.Context, t *command.TrapBatch) Pending {
				if _, err := command.Encode(t); err != nil {
					b.Error(err)
				}
				return ready(command.BatchResult{Applied: t.First + uint64(len(t.Copies)) - 1}, nil)
			}
			f, stop := start(b, o)
			defer stop()
			blocks := make([][]futago.Received, 1000)
			n := 0
			for i := range blocks {
				for j := range 64 {
					k := n
					if (i*64+j)%100 < repeats {
						k = j
					} else {
						n++
					}
					blocks[i] = append(blocks[i], sized(k))
				}
			}
			p := s.Producer("bench", true)
			var last uint64
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if last, err = p.Append(blocks[i%len(blocks)]); err != nil {
					b.Fatal(err)
				}
				i++
				if i%2000 == 0 { // a backlog of 128,000 at most
					if err := s.WaitAcked(b.Context(), last); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := s.WaitAcked(b.Context(), last); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N*64)/b.Elapsed().Seconds(), "records/s")
			st := f.Status()
			b.ReportMetric(float64(st.Copies)/float64(st.Batches), "copies/batch")
		})
	}
}
