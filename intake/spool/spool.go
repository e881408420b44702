package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// Defaults of Options.
const (
	DefaultMaxBytes      = 1 << 30
	DefaultSegmentBytes  = 16 << 20
	DefaultFlushInterval = 20 * time.Millisecond
)

// cacheBytes bounds the newest blocks kept in memory for the reader.
const cacheBytes = 8 << 20

// Options configure a Spool.
type Options struct {
	// Dir is the spool's own directory; it is created with mode 0700.
	Dir string
	// MaxBytes limits what the files take. Default 1 GiB.
	MaxBytes int64
	// SegmentBytes is the size of one file, at most a quarter of MaxBytes. Default 16 MiB.
	SegmentBytes int64
	// FlushInterval is the least time between two flushes, and so about how long
	// a record may be in memory alone while the log does not hold it either (up
	// to half as much again). Default 20 ms.
	FlushInterval time.Duration
	Logger        *slog.Logger
	// Now is the clock; default [time.Now].
	Now func() time.Time
	// Report, when set, takes what an operator must learn: topics
	// "spool-overflow", "spool-recovered" and "spool-damage". Calls come one
	// after another from one goroutine, and ctx ends when the spool is closed.
	Report func(ctx context.Context, topic string, severity futago.Severity, message string)
}

// Spool is the queue. All methods may be called concurrently, except that
// Read has one reader at a time (a second one waits).
type Spool struct {
	o    Options
	log  *slog.Logger
	lock *os.File

	readMu sync.Mutex // held by Read; before mu
	reader diskReader
	readWM int64 // watermark of the last batch returned

	wake chan struct{} // to the reader: something was appended
	bg   background

	mu          sync.Mutex // guards everything below
	closed      bool
	epochs      epochs
	unsavedID   bool // the newest epoch is not on disk yet (no room at Open)
	nextSaveTry time.Time
	segments    []*segment // oldest first; the last one may be active
	active      *segment   // open for appending, or nil
	last        uint64     // newest position
	acked       uint64
	synced      uint64 // everything up to here is on disk
	ack         *ackFile
	cache       []cachedBlock
	cached      int64 // bytes in cache
	producers   []*Producer
	watermark   int64 // of the newest block, or as recovered
	waiters     waiterHeap
	marks       []readMark
	stat        counters
	full        overflow
}

// segment is one file.
type segment struct {
	path  string
	file  *os.File // open while it may have to be written or flushed
	nonce uint64
	first uint64
	last  uint64 // 0 while nothing is in it
	size  int64  // valid bytes
	// damage holds the offsets of damaged places. A file with one is kept as
	// .corrupt instead of deleted.
	damage map[int64]bool
}

// cachedBlock is a block as it stands on disk.
type cachedBlock struct {
	blockHeader
	payload []byte
}

// Open opens or creates the spool in o.Dir. It takes the directory for this
// process (CodeConflict when another one has it), cuts a torn end, and starts a
// new identity for what will be appended.
//
// It fails with CodeIncompatible for files of a newer version. Damaged files do
// not make it fail; see the package comment.
func Open(o Options) (*Spool, error) {
	if o.Dir == "" {
		return nil, futago.Errorf(futago.CodeInvalid, "the spool needs a directory")
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	o.SegmentBytes = max(min(o.SegmentBytes, o.MaxBytes/4), 4096)
	if o.FlushInterval <= 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, openError(o.Dir, err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, openError(o.Dir, err)
	}
	s := &Spool{o: o, log: o.Logger.With("component", "spool"), lock: lock, wake: make(chan struct{}, 1)}
	s.bg.init()
	if err := s.recover(); err != nil {
		_ = lock.Close()
		if s.ack != nil {
			_ = s.ack.f.Close()
		}
		return nil, openError(o.Dir, err)
	}
	s.bg.start(s)
	return s, nil
}

func openError(dir string, err error) error {
	if _, ok := errors.AsType[*futago.Error](err); ok {
		return err
	}
	code := futago.CodeInternal
	if isFull(err) {
		code = futago.CodeStorageFull
	}
	return futago.Errorf(code, "spool %s cannot be opened", dir).Wrap(err).
		WithAction("check that the directory is writable and has room")
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// recover rebuilds the state from the files.
func (s *Spool) recover() (err error) {
	if s.ack, err = openAckFile(s.o.Dir); err != nil {
		return err
	}
	s.acked = s.ack.pos
	if err := s.loadSegments(); err != nil {
		return err
	}
	// Only the newest file can end in the middle of a block that nobody was
	// told about; older ones are checked when they are read.
	for len(s.segments) > 0 {
		g := s.segments[len(s.segments)-1]
		if err := s.recoverTail(g); err != nil {
			return err
		}
		if g.last > 0 {
			s.last = g.last
			break
		}
		s.log.Info("removed a segment without a whole block", "file", g.path)
		if err := os.Remove(g.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.segments = s.segments[:len(s.segments)-1]
	}
	if len(s.segments) > 0 {
		s.acked = max(s.acked, s.segments[0].first-1)
	}
	s.last = max(s.last, s.acked)
	// What a killed process wrote may be in the page cache only.
	for _, g := range s.segments {
		if g.last <= s.acked {
			continue
		}
		if err := syncFile(g.path); err != nil {
			return err
		}
	}
	s.synced = s.last
	if err := s.recoverEpochs(); err != nil {
		return err
	}
	s.deleteAcked()
	if s.last > s.acked {
		s.log.Info("records of an earlier run wait to be forwarded", "records", s.last-s.acked, "segments", len(s.segments))
	}
	return nil
}

const (
	segmentSuffix = ".seg"
	corruptSuffix = ".corrupt"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

func (s *Spool) loadSegments() error {
	entries, err := os.ReadDir(s.o.Dir) // sorted by name, so by position
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.o.Dir, e.Name())
		if strings.HasSuffix(e.Name(), ".tmp") {
			_ = os.Remove(path)
			continue
		}
		var first uint64
		if !strings.HasSuffix(e.Name(), segmentSuffix) {
			continue
		}
		if _, err := fmt.Sscanf(e.Name(), "%d"+segmentSuffix, &first); err != nil || first == 0 || e.Name() != segmentName(first) {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		s.segments = append(s.segments, &segment{path: path, first: first, size: fi.Size()})
	}
	for i, g := range s.segments {
		if i+1 < len(s.segments) {
			g.last = s.segments[i+1].first - 1
		}
	}
	return nil
}

// recoverTail finds the end of a file that may have been written to when the
// last process ended, and cuts what follows.
func (s *Spool) recoverTail(g *segment) error {
	b, err := os.ReadFile(g.path)
	if err != nil {
		return err
	}
	h, err := parseSegmentHeader(b)
	if futago.CodeOf(err) == futago.CodeIncompatible {
		return fmt.Errorf("%s: %w", g.path, err)
	}
	g.last = 0
	if err == nil && h.first == g.first {
		g.nonce = h.nonce
	} else if g.nonce = adoptNonce(b, g.first); g.nonce == 0 {
		if len(b) > segmentHeaderLen {
			s.stat.cut += uint64(len(b))
			s.log.Warn("a segment has no readable header or first block", "file", g.path, "bytes", len(b))
			return os.Rename(g.path, g.path+corruptSuffix)
		}
		return nil
	}
	end := int64(segmentHeaderLen)
	for off := int64(segmentHeaderLen); off < int64(len(b)); {
		blk, n, ok := parseBlock(b[off:], g.nonce)
		if !ok || blk.first <= g.last || blk.first < g.first {
			n := findBlock(b[off+1:], g.nonce, max(g.last+1, g.first))
			if n < 0 {
				break
			}
			off += 1 + n
			continue // reported when it is read
		}
		g.last = blk.last()
		s.watermark = blk.watermark
		off += n
		end = off
	}
	if torn := int64(len(b)) - end; torn > 0 && g.last > 0 {
		s.stat.cut += uint64(torn)
		s.log.Warn("cut a torn end, as a crash leaves it", "file", g.path, "offset", end, "bytes", torn, "last", g.last)
	}
	if g.last > 0 { // this also gives back what was reserved for more
		if err := os.Truncate(g.path, end); err != nil && !isFull(err) {
			return err
		}
	}
	g.size = end
	return nil
}

// recoverEpochs reads the identities and adds the one for this process.
func (s *Spool) recoverEpochs() error {
	es, err := loadEpochs(s.o.Dir)
	switch futago.CodeOf(err) {
	case "":
	case futago.CodeCorrupt:
		name := filepath.Join(s.o.Dir, identityName)
		s.log.Error("the spool's identity file is damaged; identities are taken from the segments", "error", err)
		s.stat.lastError = err
		if err := os.Rename(name, name+corruptSuffix); err != nil {
			return err
		}
		es = nil
	default:
		return err
	}
	if len(es) == 0 || (len(s.segments) > 0 && es[0].Base >= s.segments[0].first) {
		for _, g := range s.segments {
			if h, err := readSegmentHeader(g.path); err == nil && !slices.ContainsFunc(es, func(e epoch) bool { return e.Base == h.base }) {
				es = es.add(epoch{ID: h.id, Base: h.base})
			}
		}
	}
	if len(es) == 0 && s.last > s.acked {
		es = es.add(epoch{ID: newID(), Base: s.acked}) // nothing is left that names the old one
	}
	// An identity that begins behind the last record has none that can be read.
	es = slices.DeleteFunc(es, func(e epoch) bool { return e.Base >= s.last })
	es = es.add(epoch{ID: newID(), Base: s.last}).prune(s.acked)
	s.epochs = es
	// The pruned identities must not be needed after a power failure.
	if err := s.ack.write(s.acked); err == nil {
		_ = s.ack.f.Sync()
	}
	if err := saveEpochs(s.o.Dir, es); err != nil {
		if !isFull(err) {
			return err
		}
		s.unsavedID = true // reading goes on; Append tries again
		s.stat.lastError = err
	}
	return nil
}

func readSegmentHeader(path string) (segmentHeader, error) {
	f, err := os.Open(path)
	if err != nil {
		return segmentHeader{}, err
	}
	defer f.Close()
	var b [segmentHeaderLen]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return segmentHeader{}, err
	}
	return parseSegmentHeader(b[:])
}

// ID returns the identity under which records are appended now.
func (s *Spool) ID() command.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochs[len(s.epochs)-1].ID
}

// Last returns the newest position, 0 when there never was a record.
func (s *Spool) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Acked returns the position up to which the log holds everything.
func (s *Spool) Acked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// Ack says that the log holds everything up to a position. Files that hold
// nothing newer are deleted soon after. Going back is ignored.
func (s *Spool) Ack(upTo uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if upTo > s.last {
		return futago.Errorf(futago.CodeInvalid, "position %d was never appended, the last one is %d", upTo, s.last)
	}
	if upTo <= s.acked {
		return nil
	}
	s.acked = upTo
	s.waiters.release(upTo)
	s.trimCache()
	for len(s.marks) > 1 && s.marks[1].first <= upTo+1 {
		s.marks = s.marks[1:]
	}
	s.bg.poke()
	return nil
}

// Renew gives the records behind a position a new identity. The forwarder
// calls it when the state machine says that it does not have what comes
// before, and the spool cannot give it either; the records up to that position
// count as acknowledged, and whoever waits for one of them gets CodeCorrupt.
func (s *Spool) Renew(after uint64, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if after < s.acked || after > s.last {
		return futago.Errorf(futago.CodeInvalid, "position %d is not between %d and %d", after, s.acked, s.last)
	}
	es := s.epochs.add(epoch{ID: newID(), Base: after})
	if err := saveEpochs(s.o.Dir, es.prune(after)); err != nil {
		return s.storageError("the spool's new identity cannot be stored", err)
	}
	lost := after - s.acked
	s.stat.lost += lost
	s.stat.renewed++
	e, _ := es.at(after + 1)
	s.log.Warn("the spool continues under a new identity", "reason", reason, "spool", e.ID, "after", after, "missing", lost)
	if lost > 0 {
		s.waiters.fail(after, futago.Errorf(futago.CodeCorrupt, "the record could not be read back from the spool"))
		s.bg.report("spool-damage", futago.SeverityCritical,
			fmt.Sprintf("%d received traps (records %d to %d) could not be read back from the spool and are lost: %s", lost, s.acked+1, after, reason))
	}
	s.acked = after
	s.epochs = es.prune(after)
	s.unsavedID = false
	s.trimCache()
	s.bg.poke()
	return nil
}

// Close flushes what the log does not hold, writes the acknowledged position
// and releases the directory. Readers and waiters return CodeUnavailable.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.waiters.fail(^uint64(0), errClosed())
	s.mu.Unlock()
	s.signal()
	s.bg.stop()
	err := s.flush(true)
	s.readMu.Lock()
	s.reader.close()
	s.readMu.Unlock()
	s.bg.flushMu.Lock()
	defer s.bg.flushMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != nil { // give back what was reserved
		err = errors.Join(err, s.active.file.Truncate(s.active.size))
	}
	for _, g := range s.segments {
		if g.file != nil {
			err = errors.Join(err, g.file.Close())
			g.file = nil
		}
	}
	s.active = nil
	if werr := s.ack.write(s.acked); werr != nil && !isFull(werr) {
		err = errors.Join(err, werr)
	}
	return errors.Join(err, s.ack.f.Close(), s.lock.Close())
}

func errClosed() error {
	return futago.Errorf(futago.CodeUnavailable, "the spool is closed")
}

// signal wakes the reader.
func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
