package machine

import (
	"encoding/binary"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/raftfsm/dedup"
	"github.com/futago/futago/store"
)

// spools is what is known of one manager's spools.
type spools struct {
	mark  store.SpoolMark // of the one in use; zero before the first
	old   map[command.ID]uint64
	dirty []store.SpoolMark // replaced ones to be written
	moved bool              // mark is to be written
}

func loadSpools(marks []store.SpoolMark) (all [futago.Slots]spools, err error) {
	for _, k := range marks {
		slot, ok := k.Member.Slot()
		if !ok {
			return all, futago.Errorf(futago.CodeCorrupt, "the database has a spool of member %q", k.Member)
		}
		s := &all[slot]
		if k.Current {
			s.mark = k
			continue
		}
		if s.old == nil {
			s.old = make(map[command.ID]uint64)
		}
		s.old[k.Spool] = k.Seq
	}
	return all, nil
}

// applied returns the high-water mark of a spool.
func (s *spools) applied(id command.ID) uint64 {
	if s.mark.Current && s.mark.Spool == id {
		return s.mark.Seq
	}
	return s.old[id]
}

func (s *spools) write(tx *store.Tx) error {
	for _, k := range s.dirty {
		if err := tx.PutSpoolMark(k); err != nil {
			return err
		}
	}
	s.dirty = s.dirty[:0]
	if !s.moved {
		return nil
	}
	s.moved = false
	return tx.PutSpoolMark(s.mark)
}

// accept finds where to begin in a batch: the number of copies that were
// applied before. When nothing of it can be applied, ok is false and the answer
// is complete.
func (s *spools) accept(b *command.TrapBatch) (skip int, res command.BatchResult, ok bool) {
	if !s.mark.Current || s.mark.Spool != b.Spool {
		if seq, replaced := s.old[b.Spool]; replaced {
			return 0, command.BatchResult{Applied: seq, Stale: true}, false
		}
		if b.First != 1 {
			return 0, command.BatchResult{Gap: true}, false
		}
		s.begin(b)
	}
	if b.First > s.mark.Seq+1 {
		return 0, command.BatchResult{Applied: s.mark.Seq, Gap: true}, false
	}
	return int(min(s.mark.Seq+1-b.First, uint64(len(b.Copies)))), command.BatchResult{}, true
}

// begin goes over to a new spool.
func (s *spools) begin(b *command.TrapBatch) {
	watermark := int64(0)
	if s.mark.Current {
		s.mark.Current = false
		s.dirty = append(s.dirty, s.mark)
		if s.old == nil {
			s.old = make(map[command.ID]uint64)
		}
		s.old[s.mark.Spool] = s.mark.Seq
		watermark = s.mark.Watermark
	}
	s.mark = store.SpoolMark{Member: b.Member, Spool: b.Spool, Watermark: watermark, Current: true}
	s.moved = true
}

// batch applies a TrapBatch.
func (t *transaction) batch(b *command.TrapBatch) (command.BatchResult, error) {
	m := t.m
	slot, ok := b.Member.Slot()
	if !ok { // command.Decode lets none through
		return command.BatchResult{}, futago.Errorf(futago.CodeInternal, "%q is no manager", b.Member)
	}
	s := &m.spools[slot]
	skip, res, ok := s.accept(b)
	if !ok {
		m.buf = appendAnswer(m.buf, &res, 0, false)
		return res, nil
	}
	t.rules = t.rules[:0]
	for range b.Bodies {
		t.rules = append(t.rules, -1)
	}
	for _, c := range b.Copies[skip:] {
		counted, err := t.copy(slot, &b.Bodies[c.Body], c)
		if err != nil {
			return res, err
		}
		if !counted {
			res.NeedBody = true
			break
		}
		s.mark.Seq++
		s.moved = true
	}
	res.Applied = s.mark.Seq
	// The watermark holds only after all of the batch; one that comes again
	// after later ones says nothing new.
	advance := b.First+uint64(len(b.Copies)) == s.mark.Seq+1
	if advance {
		m.judge.Advance(slot, b.Watermark, m.applied.NextEvent)
		s.moved = s.moved || s.mark.Watermark != b.Watermark
		s.mark.Watermark = b.Watermark
	}
	m.buf = appendAnswer(m.buf, &res, b.Watermark, advance)
	return res, nil
}

func appendAnswer(b []byte, r *command.BatchResult, watermark int64, advance bool) []byte {
	var flags byte
	if advance {
		flags |= decidedWatermark
	}
	if r.NeedBody {
		flags |= decidedNeedBody
	}
	if r.Gap {
		flags |= decidedGap
	}
	if r.Stale {
		flags |= decidedStale
	}
	b = append(b, decidedBatch, flags)
	b = binary.AppendUvarint(b, r.Applied)
	if advance {
		b = binary.AppendVarint(b, watermark)
	}
	return b
}

// copy judges one copy and writes what came of it. It returns false when the
// copy makes an event and the body was left out.
func (t *transaction) copy(slot int, body *command.Body, c command.Copy) (bool, error) {
	m := t.m
	if t.rules[c.Body] < 0 {
		id, err := t.rule(body.Kind, body.Source)
		if err != nil {
			return false, err
		}
		t.rules[c.Body] = int64(id)
	}
	rule := dedup.RuleID(t.rules[c.Body])
	x := dedup.Copy{Key: body.Key, Slot: slot, At: c.At}
	var v dedup.Verdict
	var err error
	if len(body.Trap) == 0 {
		var known bool
		if v, known, err = m.judge.Match(x, m.applied.NextEvent, spill{t}); err == nil && !known {
			return false, nil
		}
	} else {
		v, err = m.judge.Judge(x, rule, m.applied.NextEvent, spill{t})
	}
	if err != nil {
		return false, err
	}
	m.counters.Copies++
	g := v.Group
	if v.New {
		row := [1]store.EventRow{{
			ID: g.ID, At: g.At, Kind: body.Kind, Severity: body.Severity, Rule: uint32(rule),
			Window: m.judge.RuleOf(rule).Mode == futago.ModeWindow, Source: body.Source, Key: body.Key,
			Reason: v.Reason, Count: g.Count, First: g.First, Last: g.Last, Trap: body.Trap,
		}}
		m.applied.NextEvent++
		m.counters.Events++
		m.buf = appendEvent(m.buf, &row[0])
		return true, t.tx.InsertEvents(row[:])
	}
	m.counters.count(v.Reason)
	m.buf = appendCopy(m.buf, g, slot, c.At, v.Reason)
	t.touched(g.ID)
	return true, t.tx.UpdateReceipts([]store.Receipts{{ID: g.ID, Reason: v.Reason, Count: g.Count, First: g.First, Last: g.Last}})
}

// touched notes an event of an earlier transaction for the subscribers.
func (t *transaction) touched(id uint64) {
	if !t.follow || id >= t.first {
		return
	}
	if t.updated == nil {
		t.updated = make(map[uint64]struct{})
	}
	t.updated[id] = struct{}{}
}

func (s *Stats) count(r futago.Reason) {
	switch r {
	case futago.ReasonPaired:
		s.Paired++
	case futago.ReasonRepeat:
		s.Repeats++
	case futago.ReasonWindow:
		s.Windows++
	default:
	}
}
