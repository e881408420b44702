package spool

import (
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/futago/futago"
)

// Producer appends for one receiver. The methods of one that holds the
// watermark are for one goroutine, as the order of Append and Idle matters;
// those of another may be called concurrently.
type Producer struct {
	s     *Spool
	name  string
	holds bool
	// at is the time up to which this producer has appended everything.
	at atomic.Int64
}

// clockSetBack is how far a producer's time must go back to be taken for a
// clock that was set, rather than for packets that overtook each other.
const clockSetBack = int64(time.Second)

// Producer registers a receiver. One that holds the watermark, as receivers of
// datagrams must, keeps it from passing what it has not appended; register it
// before its socket is opened. Call Close when the receiver ends.
func (s *Spool) Producer(name string, holdsWatermark bool) *Producer {
	p := &Producer{s: s, name: name, holds: holdsWatermark}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.at.Store(s.watermark)
	s.producers = append(s.producers, p)
	return p
}

// Close unregisters the receiver: its socket is closed and nothing more comes.
func (p *Producer) Close() {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if i := slices.Index(p.s.producers, p); i >= 0 {
		p.s.producers = slices.Delete(p.s.producers, i, i+1)
	}
}

// Idle says that everything which arrived before at has been appended. For a
// socket, at is a time from before the receive call that found it empty.
func (p *Producer) Idle(at time.Time) { p.advance(at.UnixNano()) }

func (p *Producer) advance(at int64) {
	if old := p.at.Load(); at > old || at < old-clockSetBack {
		p.at.Store(at)
	}
}

// watermarkLocked computes the watermark that holds for everything appended.
func (s *Spool) watermarkLocked() int64 {
	var low int64
	found := false
	for _, p := range s.producers {
		if at := p.at.Load(); p.holds && (!found || at < low) {
			low, found = at, true
		}
	}
	if found {
		return low
	}
	if len(s.producers) == 0 {
		return s.watermark
	}
	// Streams alone: they append at once what they read.
	return max(s.watermark, s.o.Now().Add(-streamSlack).UnixNano())
}

// streamSlack is how long a stream receiver may take from reading a message to
// appending it, for the watermark where there are stream receivers alone.
const streamSlack = 5 * time.Second

// Append stores records, in order, and sets their Seq to their positions. It
// returns the last position. The records and their Raw belong to the caller
// again when it returns. It may block for as long as the kernel takes to accept
// the data, and does not wait for the disk otherwise. A message longer than
// MaxRaw is cut and marked as truncated.
//
// Errors: CodeStorageFull when there is no room, CodeUnavailable when the spool
// is closed, CodeInternal when the file system fails. Records whose Seq is 0
// afterwards were not stored; they are counted in Status.Overflowed.
func (p *Producer) Append(recs []futago.Received) (last uint64, err error) {
	last, rest, err := p.append(recs)
	if err != nil {
		p.s.refuse(rest, err)
	}
	return last, err
}

// TryAppend is Append for a caller that keeps what was refused and comes again
// with it: nothing is counted as lost. That there is no room is reported.
func (p *Producer) TryAppend(recs []futago.Received) (last uint64, err error) {
	last, _, err = p.append(recs)
	if err != nil {
		p.s.refuse(0, err)
	}
	return last, err
}

func (p *Producer) append(recs []futago.Received) (last uint64, rest int, err error) {
	for i := range recs {
		r := &recs[i]
		r.Seq = 0
		if len(r.Raw) > MaxRaw {
			r.Raw, r.Truncated = r.Raw[:MaxRaw], true
		}
	}
	for len(recs) > 0 {
		n, size, newest := 0, 0, recs[0].At
		for n < len(recs) && n < maxBlockRecords {
			r := recordSize(&recs[n])
			if n > 0 && size+r > blockTarget {
				break
			}
			newest = max(newest, recs[n].At)
			size += r
			n++
		}
		first, err := p.appendBlock(recs[:n], size, newest)
		if err != nil {
			return last, len(recs), err
		}
		for i := range n {
			recs[i].Seq = first + uint64(i)
		}
		last = first + uint64(n) - 1
		recs = recs[n:]
	}
	return last, 0, nil
}

func (p *Producer) appendBlock(recs []futago.Received, size int, newest int64) (first uint64, err error) {
	// Encoding and summing need no lock; the header does.
	b := make([]byte, blockHeaderLen, blockHeaderLen+size)
	for i := range recs {
		b = appendRecord(b, &recs[i])
	}
	payload := b[blockHeaderLen:]
	h := blockHeader{size: len(payload), crc: crc32.Checksum(payload, castagnoli), count: len(recs)}

	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.room(int64(len(b)))
	if err != nil {
		return 0, err
	}
	old := p.at.Load()
	p.advance(newest)
	h.first, h.before, h.watermark = s.last+1, s.watermark, s.watermarkLocked()
	h.put(b, g.nonce)
	if _, err := g.file.WriteAt(b, g.size); err != nil {
		p.at.Store(old)
		return 0, s.writeFailed(g, err)
	}
	g.size += int64(len(b))
	g.last = h.last()
	s.last, s.watermark = h.last(), h.watermark
	s.cache = append(s.cache, cachedBlock{h, payload})
	s.cached += int64(len(b))
	s.trimCache()
	s.stat.appended += uint64(h.count)
	s.full.relieved()
	s.signal()
	s.bg.pokeIdle()
	return h.first, nil
}

// room returns the segment for the next n bytes.
func (s *Spool) room(n int64) (*segment, error) {
	if s.closed {
		return nil, errClosed()
	}
	if s.unsavedID {
		if err := s.saveIdentity(); err != nil {
			return nil, err
		}
	}
	if s.active != nil && (s.active.size+n <= s.o.SegmentBytes || s.active.last == 0) {
		if s.bytesLocked()+n > s.o.MaxBytes {
			return nil, s.overLimit()
		}
		return s.active, nil
	}
	if s.bytesLocked()+n+segmentHeaderLen > s.o.MaxBytes {
		return nil, s.overLimit()
	}
	return s.newSegment()
}

func (s *Spool) overLimit() error {
	return futago.Errorf(futago.CodeStorageFull, "the spool has reached its limit of %d bytes", s.o.MaxBytes).
		WithAction("restore the quorum so that it drains, or raise the limit")
}

// saveIdentity stores an identity that found no room at Open.
func (s *Spool) saveIdentity() error {
	err := futago.Errorf(futago.CodeStorageFull, "no room for the spool's identity").WithAction("free room on %s", s.o.Dir)
	now := s.o.Now()
	if now.Before(s.nextSaveTry) {
		return err
	}
	if werr := saveEpochs(s.o.Dir, s.epochs); werr != nil {
		s.nextSaveTry = now.Add(time.Second)
		return err.Wrap(werr)
	}
	s.unsavedID = false
	return nil
}

// bytesLocked returns the bytes of all files that hold records the log does not have.
func (s *Spool) bytesLocked() int64 {
	var n int64
	for _, g := range s.segments {
		if g.last > s.acked {
			n += g.size
		}
	}
	return n
}

func (s *Spool) newSegment() (*segment, error) {
	e := s.epochs[len(s.epochs)-1]
	g := &segment{first: s.last + 1, nonce: newNonce()}
	g.path = filepath.Join(s.o.Dir, segmentName(g.first))
	f, err := os.OpenFile(g.path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, s.storageError("a spool file cannot be created", err)
	}
	h := segmentHeader{nonce: g.nonce, first: g.first, id: e.ID, base: e.Base, created: s.o.Now().UnixNano()}
	if _, err := f.Write(h.append(nil)); err != nil {
		_ = f.Close()
		_ = os.Remove(g.path)
		return nil, s.storageError("a spool file cannot be written", err)
	}
	// Room for the whole file at once, where the file system can: a disk that
	// somebody else fills then does not stop intake at once. The size stays
	// that of the data.
	_ = syscall.Fallocate(int(f.Fd()), fallocKeepSize, 0, s.o.SegmentBytes)
	g.file, g.size = f, segmentHeaderLen
	s.retire()
	s.active = g
	s.segments = append(s.segments, g)
	s.bg.newFile = true
	return g, nil
}

const fallocKeepSize = 1 // FALLOC_FL_KEEP_SIZE, linux/falloc.h

// retire ends appending to the active segment. Its file stays open until it is
// flushed or deleted.
func (s *Spool) retire() {
	if s.active == nil {
		return
	}
	_ = s.active.file.Truncate(s.active.size) // give back what was reserved
	if s.active.last == 0 {
		_ = s.active.file.Close()
		_ = os.Remove(s.active.path)
		s.segments = slices.DeleteFunc(s.segments, func(g *segment) bool { return g == s.active })
	}
	s.active = nil
}

// writeFailed takes back a block that was written in part.
func (s *Spool) writeFailed(g *segment, err error) error {
	if terr := g.file.Truncate(g.size); terr != nil || !isFull(err) {
		s.retire() // whatever is wrong with this file, go on with another
	}
	return s.storageError("the spool cannot be written", err)
}

func (s *Spool) storageError(what string, err error) error {
	if isFull(err) {
		return futago.Errorf(futago.CodeStorageFull, "%s", what).Wrap(err).WithAction("free room on the file system of %s", s.o.Dir)
	}
	return futago.Errorf(futago.CodeInternal, "%s", what).Wrap(err).WithAction("check the disk and the file system of %s", s.o.Dir)
}

// refuse counts records that were not stored.
func (s *Spool) refuse(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stat.overflowed += uint64(n)
	s.stat.lastError = err
	if futago.CodeOf(err) != futago.CodeUnavailable {
		s.full.add(uint64(n), s.o.Now(), err)
		s.bg.poke()
	}
}

// trimCache drops what the reader will not need from the newest blocks.
func (s *Spool) trimCache() {
	i := 0
	for i < len(s.cache) && (s.cached > cacheBytes || s.cache[i].last() <= s.acked) {
		s.cached -= int64(blockHeaderLen + len(s.cache[i].payload))
		s.cache[i].payload = nil
		i++
	}
	s.cache = s.cache[i:]
	if len(s.cache) == 0 {
		s.cache = nil
	}
}
