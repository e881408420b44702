package forward

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/raftfsm/command"
)

// Decoder makes a trap of a message and says what it is the same as. It never
// fails: what it cannot read it returns with Parsed false. It may be called
// from several goroutines at once, and what it returns may share memory with r.
type Decoder func(r *futago.Received, s *futago.IntakeSettings) (futago.Trap, futago.Key)

// builder makes batches for the log. For one goroutine.
type builder struct {
	member   futago.MemberID
	decoders map[futago.Kind]Decoder
	settings func() *futago.IntakeSettings
	maxBytes int
	workers  int
	log      *slog.Logger

	cache    *cache
	revision uint64
	batch    uint64 // number of the TrapBatch being made
	entries  []*entry
	todo     []job
}

type job struct {
	e *entry
	r *futago.Received
}

// Overheads in the log, see package command.
const (
	batchBytes = 128
	bodyBytes  = 40
	copyBytes  = 8
)

// build makes one or more batches of at most about maxBytes each. Nothing in
// them shares memory with the spool.
func (m *builder) build(b *spool.Batch) []*command.TrapBatch {
	m.decode(b.Records)
	var out []*command.TrapBatch
	next := b.First - b.Base
	start := func() *command.TrapBatch {
		m.batch++
		t := &command.TrapBatch{Member: m.member, Spool: b.Spool, First: next, Watermark: b.Before}
		out = append(out, t)
		return t
	}
	t, size := start(), batchBytes
	for i, e := range m.entries {
		cost := copyBytes
		if e.batch != m.batch {
			cost += bodyBytes + len(e.body.Trap)
		}
		if size+cost > m.maxBytes && len(t.Copies) > 0 {
			t, size = start(), batchBytes
			cost = copyBytes + bodyBytes + len(e.body.Trap)
		}
		if e.batch != m.batch {
			e.batch, e.index = m.batch, uint32(len(t.Bodies))
			t.Bodies = append(t.Bodies, e.body)
		}
		if t.Copies == nil {
			t.Copies = make([]command.Copy, 0, len(m.entries)-i)
		}
		t.Copies = append(t.Copies, command.Copy{Body: e.index, At: b.Records[i].At})
		size += cost
		next++
	}
	t.Watermark = b.Watermark
	clear(m.entries)
	return out
}

// decode fills m.entries with the entry of each record.
func (m *builder) decode(recs []futago.Received) {
	s := m.settings()
	if s == nil {
		s = &futago.IntakeSettings{}
	}
	if s.Revision != m.revision {
		m.cache.clear()
		m.revision = s.Revision
	}
	m.entries, m.todo = m.entries[:0], m.todo[:0]
	for i := range recs {
		r := &recs[i]
		if a := r.Source.Addr(); a.Is4In6() {
			r.Source = netip.AddrPortFrom(a.Unmap(), r.Source.Port())
		}
		e, fresh := m.cache.get(r)
		if fresh {
			m.todo = append(m.todo, job{e, r})
		}
		m.entries = append(m.entries, e)
	}
	// Below some number, starting a goroutine costs more than it brings.
	const least = 128
	if n := min(m.workers, len(m.todo)/least); n > 1 {
		var wg sync.WaitGroup
		for part := range n {
			jobs := m.todo[len(m.todo)*part/n : len(m.todo)*(part+1)/n]
			wg.Go(func() { m.run(jobs, s) })
		}
		wg.Wait()
	} else {
		m.run(m.todo, s)
	}
	for _, j := range m.todo {
		m.cache.own(j.e)
	}
	clear(m.todo)
}

func (m *builder) run(jobs []job, s *futago.IntakeSettings) {
	var scratch []byte
	for _, j := range jobs {
		t, key := m.decodeOne(j.r, s)
		scratch = command.AppendTrap(scratch[:0], &t)
		trap := make([]byte, len(scratch))
		copy(trap, scratch)
		j.e.body = command.Body{
			Key: key, Kind: bodyKind(j.e.kind), Source: j.r.Source.Addr().WithZone(""),
			Severity: min(t.Severity, futago.SeverityDebug), Trap: trap,
		}
	}
}

// decodeOne decodes one message. A decoder with a fault must not stop intake
// for ever at the message that shows it.
func (m *builder) decodeOne(r *futago.Received, s *futago.IntakeSettings) (t futago.Trap, key futago.Key) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("a decoder failed; the message is recorded as received", "kind", r.Kind, "seq", r.Seq, "panic", fmt.Sprint(p))
			t, key = unread(r, "the decoder failed on it")
		}
	}()
	d := m.decoders[r.Kind]
	if d == nil {
		return unread(r, "there is no decoder for its kind")
	}
	return d(r, s)
}

// bodyKind keeps a record of an unknown kind, which no receiver makes, from
// stopping the log's codec.
func bodyKind(k futago.Kind) futago.Kind {
	switch k {
	case futago.KindSyslog, futago.KindSNMPTrap, futago.KindCustomTrap:
		return k
	default:
		return futago.KindSyslog
	}
}

func unread(r *futago.Received, problem string) (futago.Trap, futago.Key) {
	return futago.Trap{
		Kind: r.Kind, Transport: r.Transport, Source: r.Source, Severity: futago.SeverityNotice,
		Problem: problem, Truncated: r.Truncated, Message: strings.ToValidUTF8(string(r.Raw), "\ufffd"), Raw: r.Raw,
	}, futago.NewKey(r.Kind, r.Source.Addr(), r.Raw)
}
