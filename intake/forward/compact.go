package forward

import (
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// DefaultCompactorBytes is about what a Compactor takes at most: some 100,000
// keys, three seconds of distinct traps at the greatest sustained rate.
const DefaultCompactorBytes = 16 << 20

// compactorEntry is about what one key takes in a map, in bytes.
const compactorEntry = 80

// pairReach is how far apart the copies of two managers may be for the
// compactor to expect them to pair. It is below the default of
// DedupRule.PairWithin; a shorter rule only means wrong guesses.
const pairReach = int64(20 * time.Second)

// Compactor leaves bodies out of batches when it expects that apply will not
// need them: those of traps that the other manager's batches have brought in
// full during this leadership and that no copy of this manager has paired with
// yet. That halves the log where both managers receive everything.
//
// A wrong guess does no harm: apply stops before the copy and answers NeedBody,
// the forwarder sends the rest again, and what comes again is left whole.
//
// Call Compact in the order in which batches enter the log. It is not safe for
// concurrent use.
type Compactor struct {
	limit    int // keys in one generation
	term     uint64
	new, old map[futago.Key]balance // what new cannot find is looked up in old
	sent     [futago.Slots]progress
	tally    []tally // of the bodies of one batch, kept for its memory

	stats CompactorStats
}

// balance counts the copies of one key by manager.
type balance struct {
	copies [futago.Slots]uint32
	last   [futago.Slots]int64 // arrival of the newest, nanoseconds
}

// progress is how far one manager's spool has been proposed.
type progress struct {
	spool command.ID
	next  uint64
}

type tally struct {
	n           uint32
	first, last int64
}

// CompactorStats counts what a Compactor did since it was made.
type CompactorStats struct {
	// Bodies were seen, Omitted of them left out; the same in bytes of Body.Trap.
	Bodies, Omitted         uint64
	BodyBytes, OmittedBytes uint64
}

// NewCompactor returns a Compactor that takes about so many bytes at most.
func NewCompactor(bytes int) *Compactor {
	c := &Compactor{limit: max(bytes/compactorEntry/2, 64)}
	c.forget()
	return c
}

func (c *Compactor) forget() {
	c.new, c.old = map[futago.Key]balance{}, nil
	c.sent = [futago.Slots]progress{}
}

// Stats returns the counts so far.
func (c *Compactor) Stats() CompactorStats { return c.stats }

// Compact empties Body.Trap of the bodies that it expects apply not to need.
// It changes b. Each new term starts with nothing remembered: what an earlier
// leader proposed may not have been committed.
func (c *Compactor) Compact(term uint64, b *command.TrapBatch) {
	if term != c.term {
		c.forget()
		c.term = term
	}
	slot, ok := b.Member.Slot()
	if !ok || len(b.Copies) == 0 {
		return
	}
	p := &c.sent[slot]
	if p.spool != b.Spool {
		*p = progress{spool: b.Spool}
	}
	// What comes again is not counted again and is left whole: it may come
	// again because a body was missing.
	known := uint64(0)
	if p.next > b.First {
		known = min(p.next-b.First, uint64(len(b.Copies)))
	}
	p.next = max(p.next, b.First+uint64(len(b.Copies)))

	c.tally = append(c.tally[:0], make([]tally, len(b.Bodies))...)
	for _, cp := range b.Copies[known:] {
		t := &c.tally[cp.Body]
		if t.n == 0 {
			t.first, t.last = cp.At, cp.At
		}
		t.n++
		t.first, t.last = min(t.first, cp.At), max(t.last, cp.At)
	}
	for i := range b.Bodies {
		body := &b.Bodies[i]
		c.stats.Bodies++
		c.stats.BodyBytes += uint64(len(body.Trap))
		t := c.tally[i]
		if t.n == 0 {
			continue
		}
		if c.count(body.Key, slot, t) && known == 0 {
			c.stats.Omitted++
			c.stats.OmittedBytes += uint64(len(body.Trap))
			body.Trap = nil
		}
	}
}

// count adds copies and reports whether all of them should pair with earlier
// ones of the other manager.
func (c *Compactor) count(key futago.Key, slot int, t tally) (pairs bool) {
	other := 1 - slot
	e, ok := c.new[key]
	if !ok {
		if e, ok = c.old[key]; ok {
			delete(c.old, key)
		}
	}
	if ok {
		if !near(t, e.last[other]) && !near(t, e.last[slot]) {
			e = balance{} // another occurrence, long after
		}
		pairs = near(t, e.last[other]) &&
			uint64(e.copies[other]) >= uint64(e.copies[slot])+uint64(t.n)
	}
	e.copies[slot] += t.n
	e.last[slot] = t.last
	if m := min(e.copies[0], e.copies[1]); m > 0 { // only the difference counts
		e.copies[0] -= m
		e.copies[1] -= m
	}
	if !ok && len(c.new) >= c.limit {
		c.new, c.old = make(map[futago.Key]balance, c.limit/4), c.new
	}
	c.new[key] = e
	return pairs
}

// near reports whether every copy of t lies within pairReach of a time.
func near(t tally, at int64) bool {
	return t.first-at <= pairReach && at-t.first <= pairReach && t.last-at <= pairReach && at-t.last <= pairReach
}
