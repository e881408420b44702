package spool

import (
	"context"
	"sort"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// Batch is what Read returns: consecutive records under one identity.
type Batch struct {
	// Spool is the identity of the records. In the log, the record at position
	// p has the sequence number p-Base.
	Spool command.ID
	Base  uint64
	// End is the last position under this identity, 0 while it is the newest one.
	End uint64
	// First is the position of the first record; without records, the next
	// position to read. It is greater than what was asked for when the records
	// between cannot be read.
	First   uint64
	Records []futago.Received
	// HoleTo is set, and Records empty, when no record from First up to this
	// position can be read: the state machine knows whether it has them.
	HoleTo uint64
	// Watermark holds once this batch is applied, Before holds before it:
	// nanoseconds since 1970.
	Watermark, Before int64
	// AtEnd says that nothing newer had been appended.
	AtEnd bool
}

// Next returns the position after the batch.
func (b *Batch) Next() uint64 {
	if b.HoleTo > 0 {
		return b.HoleTo + 1
	}
	return b.First + uint64(len(b.Records))
}

// watermarkStep is by how much the watermark must have moved for a batch
// without records.
const watermarkStep = int64(time.Second)

// Read returns records from a position on, at most maxRecords and about
// maxBytes of them and at least one. It blocks until there is one, or until
// the watermark has moved by a second since the last batch, in which case the
// batch has no records. The records' Raw is shared with the spool and must not
// be changed.
//
// Errors: that of ctx, CodeUnavailable when the spool is closed, CodeInternal
// when the disk cannot be read (try again).
func (s *Spool) Read(ctx context.Context, from uint64, maxRecords, maxBytes int) (Batch, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		b, ok, err := s.tryRead(from, max(maxRecords, 1), max(maxBytes, 1))
		if ok || err != nil {
			return b, err
		}
		timer.Reset(time.Second)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

func (s *Spool) tryRead(from uint64, maxRecords, maxBytes int) (b Batch, ok bool, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return b, false, errClosed()
	}
	live, last := s.watermarkLocked(), s.last
	if from > last {
		e, _ := s.epochs.at(last + 1)
		b = Batch{Spool: e.ID, Base: e.Base, First: last + 1, Watermark: live, Before: live, AtEnd: true}
		s.mu.Unlock()
		if d := live - s.readWM; d < watermarkStep && d > -watermarkStep {
			return b, false, nil
		}
		s.readWM = live
		return b, true, nil
	}
	// What lies before the oldest file was acknowledged long ago.
	from = max(from, 1, s.epochs[0].Base+1)
	if len(s.segments) > 0 {
		from = max(from, s.segments[0].first)
	}
	e, end := s.epochs.at(from)
	to := last
	if end > 0 {
		to = min(end, last)
	}
	b = Batch{Spool: e.ID, Base: e.Base, End: end, First: from}
	t := taker{b: &b, to: to, maxRecords: maxRecords, maxBytes: maxBytes}
	var blocks []cachedBlock
	cached := len(s.cache) > 0 && from >= s.cache[0].first
	if cached {
		i := sort.Search(len(s.cache), func(i int) bool { return s.cache[i].last() >= from })
		records, size := 0, 0
		for _, c := range s.cache[i:] {
			blocks = append(blocks, c)
			records += c.count
			size += c.size
			if records > maxRecords || size > maxBytes {
				break
			}
		}
	}
	s.mu.Unlock()

	if cached {
		s.reader.close()
		for _, c := range blocks {
			if more, err := t.take(c); err != nil {
				return b, false, err
			} else if !more {
				break
			}
		}
	} else if err := s.readDisk(&t, from); err != nil {
		return b, false, err
	}
	if len(b.Records) == 0 {
		b.HoleTo = to
		b.Watermark, b.Before = s.readWM, s.readWM // claims nothing new
	}
	if b.AtEnd = b.Next() == last+1; b.AtEnd {
		b.Watermark = live
	}
	s.readWM = b.Watermark
	s.mark(&b)
	return b, true, nil
}

// taker gathers blocks into a batch.
type taker struct {
	b                    *Batch
	to                   uint64 // last position of the identity
	maxRecords, maxBytes int
	bytes                int
}

// take adds a block, or the part of it that fits. It returns false when the
// batch is complete.
func (t *taker) take(c cachedBlock) (more bool, err error) {
	b := t.b
	first := max(b.Next(), c.first)
	if len(b.Records) > 0 {
		if c.first > b.Next() || // a hole comes next
			len(b.Records)+c.count > t.maxRecords || t.bytes+c.size > t.maxBytes {
			return false, nil
		}
	}
	if first > t.to {
		return false, nil
	}
	last := min(c.last(), t.to)
	start := len(b.Records)
	if start == 0 {
		b.First, b.Before = first, c.before
		last = min(last, first+uint64(t.maxRecords)-1)
		b.Records = make([]futago.Received, 0, min(t.maxRecords, max(c.count, 64)))
	}
	if b.Records, err = readRecords(b.Records, c.blockHeader, c.payload, first, last); err != nil {
		return false, futago.Errorf(futago.CodeCorrupt, "records %d to %d have a right checksum and no sense", c.first, c.last()).
			WithAction("keep the spool's files and report this as a fault")
	}
	if start == 0 && c.size > t.maxBytes { // only a block with a long message is that large
		last = first + uint64(t.fit()) - 1
	}
	t.bytes += c.size
	if last < c.last() {
		b.Watermark = c.before
		return false, nil
	}
	b.Watermark = c.watermark
	return true, nil
}

// fit cuts the records of the batch to maxBytes and returns how many are left.
func (t *taker) fit() int {
	size := 0
	for i := range t.b.Records {
		size += len(t.b.Records[i].Raw) + recordLen
		if i > 0 && size > t.maxBytes {
			t.b.Records = t.b.Records[:i]
			break
		}
	}
	return len(t.b.Records)
}

// readMark remembers when the first record of a batch arrived.
type readMark struct {
	first uint64
	at    int64
}

const maxMarks = 128

func (s *Spool) mark(b *Batch) {
	if len(b.Records) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.marks) > 0 && s.marks[len(s.marks)-1].first >= b.First {
		s.marks = s.marks[:len(s.marks)-1]
	}
	if len(s.marks) >= maxMarks {
		s.marks = s.marks[1:]
	}
	s.marks = append(s.marks, readMark{b.First, b.Records[0].At})
}

func (s *Spool) cachedArrival(pos uint64) (int64, bool) {
	if len(s.cache) == 0 || pos < s.cache[0].first {
		return 0, false
	}
	i := sort.Search(len(s.cache), func(i int) bool { return s.cache[i].last() >= pos })
	if i == len(s.cache) {
		return 0, false
	}
	var r futago.Received
	b := s.cache[i].payload
	for seq := s.cache[i].first; seq <= pos; seq++ {
		rest, ok := readRecord(b, &r)
		if !ok {
			return 0, false
		}
		b = rest
	}
	return r.At, true
}
