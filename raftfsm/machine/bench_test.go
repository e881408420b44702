package machine

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

const benchBatch = 500 // copies per entry

// stream makes the batches of both managers, as they come in turn.
type stream struct {
	b      testing.TB
	first  [2]uint64
	now    int64
	apart  int64 // between two traps
	index  uint64
	serial uint64
}

func (s *stream) entry(m futago.MemberID, bodies []command.Body, which func(i int) uint32, at func(i int) int64) Entry {
	slot, _ := m.Slot()
	b := &command.TrapBatch{Member: m, Spool: testID(slot + 1), First: s.first[slot] + 1, Bodies: bodies}
	for i := range benchBatch {
		b.Copies = append(b.Copies, command.Copy{Body: which(i), At: at(i)})
	}
	s.first[slot] += benchBatch
	b.Watermark = b.Copies[benchBatch-1].At
	b.ProposedAt = b.Watermark
	data, err := command.Encode(b)
	if err != nil {
		s.b.Fatal(err)
	}
	s.index++
	return Entry{Index: s.index, Term: 1, Data: data}
}

func (s *stream) body() command.Body {
	s.serial++
	raw := fmt.Appendf(nil, "<165>Nov 22 03:14:15 sw1 snmpd[4711]: interface Gi1/0/3 changed state to down, it was up for 41 days, %d", s.serial)
	src := netip.AddrFrom4([4]byte{192, 0, 2, byte(s.serial % 200)})
	trap := futago.Trap{
		Kind: futago.KindSyslog, Transport: futago.TransportUDP, Source: netip.AddrPortFrom(src, 514), Severity: 5, Parsed: true,
		Charset: "us-ascii", Host: "sw1", Message: string(raw[38:]), Raw: raw,
		Syslog: &futago.SyslogFields{Format: "rfc3164", Facility: 20, HasPRI: true, Time: "Nov 22 03:14:15", App: "snmpd", ProcID: "4711"},
	}
	k := futago.Key{}
	binary.LittleEndian.PutUint64(k[:], s.serial*0x9e3779b97f4a7c15)
	return command.Body{Key: k, Kind: trap.Kind, Source: src, Severity: 5, Trap: command.AppendTrap(nil, &trap)}
}

// round is one batch of each manager: the same traps, distinct of them new, the
// rest repeats of 50 messages. The second manager's bodies are left out.
func (s *stream) round(distinct int, often []command.Body) []Entry {
	bodies := append([]command.Body{}, often...)
	for range distinct {
		bodies = append(bodies, s.body())
	}
	which := func(i int) uint32 {
		if i < distinct {
			return uint32(len(often) + i)
		}
		return uint32(i % len(often))
	}
	start := s.now
	s.now += benchBatch * s.apart
	at := func(i int) int64 { return start + int64(i)*s.apart }
	a := s.entry(futago.MemberA, bodies, which, at)
	bare := append([]command.Body{}, bodies...)
	for i := range bare {
		bare[i].Trap = nil
	}
	return []Entry{a, s.entry(futago.MemberB, bare, which, at)}
}

func benchmarkApply(b *testing.B, distinct int, perSecond int64, rounds int) {
	m := newMember(b, 0)
	s := &stream{b: b, now: 1e18, apart: int64(time.Second) / perSecond}
	var often []command.Body
	for range 50 {
		often = append(often, s.body())
	}
	copies := 0
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n++ {
		b.StopTimer()
		var entries []Entry
		for range rounds {
			entries = append(entries, s.round(distinct, often)...)
		}
		b.StartTimer()
		if _, err := m.Apply(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
		copies += len(entries) * benchBatch
	}
	b.ReportMetric(float64(copies)/b.Elapsed().Seconds(), "copies/s")
	st := m.Stats()
	b.ReportMetric(float64(st.Events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(st.Dedup.Open), "open")
}

// BenchmarkApply_Distinct: every trap is new and received by both managers.
func BenchmarkApply_Distinct(b *testing.B) { benchmarkApply(b, benchBatch, 30_000, 4) }

// BenchmarkApply_Storm: 95 % of the copies are repeats.
func BenchmarkApply_Storm(b *testing.B) { benchmarkApply(b, benchBatch/20, 100_000, 4) }

// BenchmarkApply_PeerAway: one manager receives distinct traps, the other is
// away, and more than fits in memory is open.
func BenchmarkApply_PeerAway(b *testing.B) {
	m := newMember(b, 20_000)
	s := &stream{b: b, now: 1e18, apart: int64(time.Second) / 30_000}
	if _, err := m.Apply(b.Context(), s.round(benchBatch, []command.Body{s.body()})); err != nil {
		b.Fatal(err)
	}
	copies := 0
	b.ResetTimer()
	for n := 0; n < b.N; n++ {
		b.StopTimer()
		var entries []Entry
		for range 4 {
			e := s.round(benchBatch, []command.Body{s.body()})
			s.first[1] -= benchBatch
			entries = append(entries, e[0])
		}
		b.StartTimer()
		if _, err := m.Apply(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
		copies += len(entries) * benchBatch
	}
	b.ReportMetric(float64(copies)/b.Elapsed().Seconds(), "copies/s")
}

// BenchmarkApply_Replay: a manager that was away delivers its spool, while
// nothing of what the other recorded meanwhile is in memory.
func BenchmarkApply_Replay(b *testing.B) {
	m := newMember(b, 5_000)
	s := &stream{b: b, now: 1e18, apart: int64(time.Second) / 5_000}
	often := []command.Body{s.body()}
	if _, err := m.Apply(b.Context(), s.round(benchBatch, often)); err != nil {
		b.Fatal(err)
	}
	var late []Entry
	for range b.N + 20 {
		e := s.round(benchBatch, often)
		if _, err := m.Apply(b.Context(), e[:1]); err != nil {
			b.Fatal(err)
		}
		late = append(late, e[1])
	}
	for i := range late {
		s.index++
		late[i].Index = s.index
	}
	paired := m.Stats().Paired
	b.ResetTimer()
	for n := range b.N {
		if _, err := m.Apply(b.Context(), late[n:n+1]); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if got := m.Stats().Paired - paired; got != uint64(b.N*benchBatch) {
		b.Fatalf("%d copies paired", got)
	}
	b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "copies/s")
	b.ReportMetric(float64(m.Stats().Dedup.Spilled), "spilled")
}
