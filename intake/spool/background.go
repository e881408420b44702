package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// background is the one goroutine that flushes, deletes files, stores the
// acknowledged position and watches for overflow, and the one that reports.
type background struct {
	wake    chan struct{}
	idle    atomic.Bool // the goroutine sleeps and appends should wake it
	done    chan struct{}
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	reports chan report
	missed  atomic.Uint64 // reports that found the queue full
	// newFile says that a file was created whose name is not flushed yet. Guarded by Spool.mu.
	newFile bool
	flushMu sync.Mutex
}

type report struct {
	topic    string
	severity futago.Severity
	message  string
}

const reportQueue = 32

func (b *background) init() {
	b.wake = make(chan struct{}, 1)
	b.done = make(chan struct{})
	b.reports = make(chan report, reportQueue)
}

func (b *background) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// pokeIdle costs an append one load as long as the goroutine is awake anyway.
func (b *background) pokeIdle() {
	if b.idle.Load() {
		b.poke()
	}
}

// report queues a report; it never blocks.
func (b *background) report(topic string, severity futago.Severity, message string) {
	select {
	case b.reports <- report{topic, severity, message}:
	default:
		b.missed.Add(1)
	}
}

func (b *background) start(s *Spool) {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.wg.Go(func() { s.maintain(b.done) })
	b.wg.Go(func() {
		for {
			select {
			case r := <-b.reports:
				if s.o.Report != nil {
					s.o.Report(ctx, r.topic, r.severity, r.message)
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

func (b *background) stop() {
	close(b.done)
	b.cancel()
	b.wg.Wait()
}

// maintain works while there is something to do, in steps of half the flush
// interval.
func (s *Spool) maintain(done <-chan struct{}) {
	step := max(s.o.FlushInterval/2, time.Millisecond)
	timer := time.NewTimer(step)
	defer timer.Stop()
	var mark uint64 // newest position one step ago
	for {
		s.bg.idle.Store(true)
		s.mu.Lock()
		busy := s.last > max(s.synced, s.acked) || s.acked != s.ack.pos || s.full.active
		s.mu.Unlock()
		if busy {
			s.bg.idle.Store(false)
			timer.Reset(step)
			select {
			case <-done:
				return
			case <-timer.C:
			}
		} else {
			select {
			case <-done:
				return
			case <-s.bg.wake:
			}
			s.bg.idle.Store(false)
		}
		mark = s.step(mark)
	}
}

// ackEvery is how often the acknowledged position is written.
const ackEvery = time.Second

func (s *Spool) step(mark uint64) uint64 {
	s.mu.Lock()
	now := s.o.Now()
	since := now.Sub(s.stat.flushed)
	due := mark > max(s.synced, s.acked) && (since >= s.o.FlushInterval || since < 0)
	if due {
		s.stat.flushed = now
	}
	next := s.last
	if s.acked != s.ack.pos && (now.Sub(s.stat.ackWritten) >= ackEvery || now.Before(s.stat.ackWritten)) {
		s.stat.ackWritten = now
		if err := s.ack.write(s.acked); err != nil {
			s.stat.lastError = err // proposed again after a restart, without harm
			s.ack.pos = s.acked
		}
	}
	s.watchOverflow(now)
	s.mu.Unlock()
	s.deleteAcked()
	if due {
		_ = s.flush(false) // recorded in Status
	}
	return next
}

// Sync flushes everything appended so far to the disk.
func (s *Spool) Sync() error { return s.flush(true) }

// flush calls fdatasync on every file with records that are neither on disk
// nor acknowledged.
func (s *Spool) flush(all bool) error {
	s.bg.flushMu.Lock()
	defer s.bg.flushMu.Unlock()
	s.mu.Lock()
	target := s.last
	from := max(s.synced, s.acked)
	if all {
		from = s.acked
	}
	var files []*os.File
	for _, g := range s.segments {
		if g.file != nil && g.last > from {
			files = append(files, g.file)
		}
	}
	newFile := s.bg.newFile
	s.bg.newFile = false
	s.mu.Unlock()
	if len(files) == 0 {
		return nil
	}
	var err error
	for _, f := range files {
		if ferr := fdatasync(f); ferr != nil && !errors.Is(ferr, fs.ErrClosed) {
			err = errors.Join(err, ferr)
		}
	}
	if newFile {
		err = errors.Join(err, atomicfile.SyncDir(s.o.Dir))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stat.flushes++
	if err != nil {
		// The kernel may have dropped what it could not write and will not say
		// so again. What is in memory is still forwarded; go on in a new file.
		s.bg.newFile = s.bg.newFile || newFile
		err = futago.Errorf(futago.CodeInternal, "the spool cannot be flushed to disk").Wrap(err).
			WithAction("check the disk under %s; received traps that the log does not hold yet would not survive a power failure", s.o.Dir)
		if !s.stat.flushFailing {
			s.bg.report("spool-damage", futago.SeverityCritical, err.Error())
		}
		s.stat.lastError = err
		s.log.Error("flush", "error", err)
		s.retire()
	}
	s.stat.flushFailing = err != nil
	s.synced = max(s.synced, target)
	for _, g := range s.segments {
		if g != s.active && g.file != nil && g.last <= s.synced {
			_ = g.file.Close()
			g.file = nil
		}
	}
	return err
}

func fdatasync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = c.Control(func(fd uintptr) {
		for {
			if serr = syscall.Fdatasync(int(fd)); !errors.Is(serr, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, serr)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return fdatasync(f)
}

// keepCorrupt is how many damaged files are kept for a look.
const keepCorrupt = 4

// deleteAcked removes files that hold nothing the log does not have. The
// newest one stays.
func (s *Spool) deleteAcked() {
	s.bg.flushMu.Lock() // no file is closed under a flush
	defer s.bg.flushMu.Unlock()
	s.mu.Lock()
	var gone []*segment
	for len(s.segments) > 1 && s.segments[0].last <= s.acked {
		gone = append(gone, s.segments[0])
		s.segments = s.segments[1:]
	}
	for _, g := range gone {
		if g.file != nil {
			_ = g.file.Close()
			g.file = nil
		}
		if g.damage != nil {
			s.stat.keptCorrupt++
		}
	}
	kept := s.stat.keptCorrupt
	s.mu.Unlock()
	for _, g := range gone {
		var err error
		if g.damage != nil && kept <= keepCorrupt {
			err = os.Rename(g.path, g.path+corruptSuffix)
		} else {
			err = os.Remove(g.path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("a segment cannot be removed", "file", g.path, "error", err)
		}
	}
}

// overflow follows one period in which records were refused.
type overflow struct {
	active   bool
	since    time.Time
	last     time.Time // of the newest refusal
	reported time.Time // zero: not yet
	lost     uint64    // in this period
	stored   uint64    // appends since the newest refusal
	cause    error
}

const (
	overflowReportEvery = time.Minute
	overflowOver        = 10 * time.Second
)

func (o *overflow) add(n uint64, now time.Time, cause error) {
	if !o.active {
		*o = overflow{active: true, since: now}
	}
	o.last, o.cause, o.stored = now, cause, 0
	o.lost += n
}

func (o *overflow) relieved() { o.stored++ }

// watchOverflow reports the first refusal at once, then every minute while it
// lasts, and the end when nothing was refused for ten seconds.
func (s *Spool) watchOverflow(now time.Time) {
	o := &s.full
	if !o.active {
		return
	}
	over := now.Sub(o.last) >= overflowOver
	switch {
	case over && o.stored > 0:
		s.log.Info("the spool takes traps again", "lost", o.lost, "since", o.since)
		s.bg.report("spool-recovered", futago.SeverityNotice,
			fmt.Sprintf("the spool takes traps again; %d were lost from %s to %s", o.lost,
				o.since.UTC().Format(time.RFC3339), o.last.UTC().Format(time.RFC3339)))
		o.active = false
	case o.reported.IsZero() || (now.Sub(o.reported) >= overflowReportEvery && o.last.After(o.reported)):
		o.reported = now
		s.log.Error("the spool refuses traps", "lost", o.lost, "since", o.since, "error", o.cause)
		s.bg.report("spool-overflow", futago.SeverityCritical,
			fmt.Sprintf("the spool cannot store received traps: %v; %d lost since %s", o.cause, o.lost, o.since.UTC().Format(time.RFC3339)))
	}
}
