package spool

import (
	"time"

	"github.com/futago/futago/raftfsm/command"
)

// counters are guarded by Spool.mu.
type counters struct {
	appended     uint64
	overflowed   uint64
	lost         uint64
	damaged      uint64
	cut          uint64
	renewed      uint64
	flushes      uint64
	keptCorrupt  int
	flushFailing bool
	ackWritten   time.Time
	flushed      time.Time
	lastError    error
}

// Status describes a spool.
type Status struct {
	// ID is the identity under which records are appended now.
	ID command.ID
	// Depth is the number of records that the log does not hold yet.
	Depth uint64
	// Last and Acked are the newest and the newest acknowledged position.
	Last, Acked uint64
	// Bytes is what the files with such records take, LimitBytes the limit.
	Bytes, LimitBytes int64
	Segments          int
	// OldestAt is the arrival of the oldest such record, zero when there is
	// none or it has not been read since the start.
	OldestAt time.Time
	// Watermark: everything received up to this time is in the spool.
	Watermark time.Time
	// Appended counts records stored by this process; Overflowed those it
	// refused because there was no room, or no working disk.
	Appended, Overflowed uint64
	// Overflowing says that records were refused in the last ten seconds.
	Overflowing bool
	// Lost counts records that could not be read back and that the log does
	// not have; Damaged the damaged places found.
	Lost, Damaged uint64
	// CutBytes were cut off as the torn end of an earlier process's file.
	CutBytes uint64
	// Renewed counts new identities since the start.
	Renewed uint64
	// Flushes counts fdatasync rounds.
	Flushes uint64
	// MissedReports counts reports that could not be queued.
	MissedReports uint64
	// LastError is the newest error, nil when there was none.
	LastError error
}

// Status returns the present state. It is cheap.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		ID: s.epochs[len(s.epochs)-1].ID, Depth: s.last - s.acked, Last: s.last, Acked: s.acked,
		Bytes: s.bytesLocked(), LimitBytes: s.o.MaxBytes, Segments: len(s.segments),
		Appended: s.stat.appended, Overflowed: s.stat.overflowed,
		Overflowing: s.full.active, Lost: s.stat.lost, Damaged: s.stat.damaged, CutBytes: s.stat.cut,
		Renewed: s.stat.renewed, Flushes: s.stat.flushes, MissedReports: s.bg.missed.Load(), LastError: s.stat.lastError,
	}
	if at := s.oldestLocked(); at != 0 {
		st.OldestAt = time.Unix(0, at)
	}
	if w := s.watermarkLocked(); w != 0 {
		st.Watermark = time.Unix(0, w)
	}
	return st
}

// oldestLocked returns the arrival of the oldest unacknowledged record, as far
// as a batch that was read or the newest blocks tell it.
func (s *Spool) oldestLocked() int64 {
	if s.last == s.acked {
		return 0
	}
	next := s.acked + 1
	if len(s.marks) > 0 && s.marks[0].first <= next {
		return s.marks[0].at
	}
	if at, ok := s.cachedArrival(next); ok {
		return at
	}
	return 0
}
