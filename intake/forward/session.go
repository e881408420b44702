package forward

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// flight is one batch under way.
type flight struct {
	pending Pending
	spool   command.ID
	base    uint64
	end     uint64 // last position under this identity, 0 while it is the newest
	last    uint64 // last position in the batch
	acked   uint64 // acknowledged when it was sent: nothing behind that was certain
	// after is the position behind which the batch starts, holeFrom the first
	// one missing before it (0: none), holeTo the end of a hole that nothing follows.
	after, holeFrom, holeTo uint64
	settled                 chan struct{} // closed when it was applied and acknowledged
}

type cause uint8

const (
	causeNone cause = iota
	causeError
	causeGap
	causeNeedBody
	causeConflict
)

// verdict is why a session ended.
type verdict struct {
	cause  cause
	err    error
	closed bool // the spool is closed
	again  bool // go on without a pause if anything was applied meanwhile
	once   bool // go on without a pause in any case
}

// session sends from the last acknowledged record on, until something does not
// go as it should. When it returns nothing is under way.
type session struct {
	f       *Forwarder
	m       *builder
	ctx     context.Context // ends at the first failure
	cancel  context.CancelFunc
	slots   chan struct{}
	flights chan *flight
	settled chan struct{} // something was acknowledged
	pending atomic.Int32
	sent    time.Time // when the last batch was submitted
	busy    bool      // it had many copies
}

func (f *Forwarder) session(ctx context.Context, m *builder) verdict {
	sctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{
		f: f, m: m, ctx: sctx, cancel: cancel,
		slots: make(chan struct{}, f.o.InFlight), flights: make(chan *flight, f.o.InFlight), settled: make(chan struct{}, 1),
	}
	var wg sync.WaitGroup
	var sendErr error
	wg.Go(func() {
		defer close(s.flights)
		sendErr = s.send()
	})
	v := s.collect(ctx)
	wg.Wait()
	if sendErr != nil && v.cause == causeNone {
		v = verdict{cause: causeError, err: sendErr}
	}
	// The spool says unavailable only when it is closed.
	v.closed = sendErr != nil && futago.CodeOf(sendErr) == futago.CodeUnavailable
	if v.closed {
		v.err = sendErr
	}
	return v
}

// send reads, decodes and submits. It returns nil when the session ends.
func (s *session) send() error {
	f, sp := s.f, s.f.o.Spool
	next := sp.Acked() + 1
	var prev *flight
	for {
		s.gather(next)
		b, err := sp.Read(s.ctx, next, f.o.MaxCopies, f.o.MaxBytes)
		if stopped(s.ctx) {
			return nil
		}
		if err != nil {
			s.cancel()
			return err
		}
		empty := len(b.Records) == 0
		if empty && b.HoleTo == 0 && s.pending.Load() > 0 {
			continue // what is under way carries a watermark itself
		}
		hole := b.HoleTo > 0 || b.First > next
		if prev != nil && (hole || prev.spool != b.Spool) && !s.await(prev) {
			return nil
		}
		for _, t := range s.m.build(&b) {
			fl := &flight{
				spool: b.Spool, base: b.Base, end: b.End, after: b.Base + t.First - 1,
				last: b.Base + t.First - 1 + uint64(len(t.Copies)), holeTo: b.HoleTo,
				settled: make(chan struct{}),
			}
			if hole && fl.after+1 == b.First {
				fl.holeFrom = next
			}
			if !s.submit(fl, t) {
				return nil
			}
			prev = fl
		}
		next = b.Next()
	}
}

// gatherFrom is the number of copies in a batch from which the next one waits
// for company: a batch costs both members some flushes and pages, however small
// it is. Smaller ones are of senders that wait for each answer.
const gatherFrom = 16

// gather lets records add up while something is under way, and in any case when
// a fair number of them has just been sent.
func (s *session) gather(next uint64) {
	f := s.f
	wait := f.o.Linger
	if s.busy {
		wait -= time.Since(s.sent)
	}
	if wait <= 0 || !s.busy && s.pending.Load() == 0 || f.o.Spool.Last()+1 >= next+uint64(f.o.MaxCopies) {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for s.busy || s.pending.Load() > 0 {
		select {
		case <-s.settled:
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// await waits until a batch and so all before it are acknowledged.
func (s *session) await(fl *flight) bool {
	select {
	case <-fl.settled:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *session) submit(fl *flight, t *command.TrapBatch) bool {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return false
	}
	f := s.f
	s.pending.Add(1)
	f.mu.Lock()
	f.st.InFlight++
	f.st.Batches++
	f.st.Copies += uint64(len(t.Copies))
	f.st.Bodies += uint64(len(t.Bodies))
	f.st.Decoded, f.st.Cached = s.m.cache.misses, s.m.cache.hits
	f.mu.Unlock()
	t.ProposedAt = f.o.Now().UnixNano()
	fl.acked = f.o.Spool.Acked()
	fl.pending = f.o.Submit(s.ctx, t)
	s.sent, s.busy = time.Now(), len(t.Copies) >= gatherFrom
	s.flights <- fl // has room for as many as there are slots
	return true
}

// collect takes the outcomes in order. At the first that is no success it
// stops the sender and takes those of the rest, for what they say was applied.
func (s *session) collect(ctx context.Context) (v verdict) {
	f := s.f
	wait := ctx
	for fl := range s.flights {
		wctx, cancel := context.WithTimeout(wait, f.o.Timeout)
		res, err := fl.pending.Wait(wctx)
		cancel()
		switch {
		case v.cause != causeNone:
			if err == nil && !res.Stale {
				s.applied(fl, res)
			}
		case err != nil:
			v = verdict{cause: causeError, err: err}
			// The rest goes the same way; do not sit out a timeout for each.
			c, cancelled := context.WithCancel(ctx)
			cancelled()
			wait = c
		default:
			v = s.judge(fl, res)
		}
		if v.cause == causeNone {
			close(fl.settled)
		} else {
			s.cancel()
		}
		s.pending.Add(-1)
		<-s.slots
		select {
		case s.settled <- struct{}{}:
		default:
		}
		f.mu.Lock()
		f.st.InFlight--
		if v.cause == causeNone {
			f.st.LastError = nil
		}
		f.mu.Unlock()
	}
	return v
}

// judge acts upon an answer of the state machine.
func (s *session) judge(fl *flight, res command.BatchResult) verdict {
	f := s.f
	if res.Stale {
		if fl.end > 0 {
			// An identity is followed by the next only after all of it was
			// applied, so this is what a restart sends again.
			s.ack(fl.end)
			return verdict{cause: causeGap, once: true}
		}
		return f.conflict(s.ctx, fl)
	}
	applied := fl.base + res.Applied
	if applied < fl.acked && fl.acked > fl.base {
		return f.forgotten(s.ctx, fl, applied)
	}
	s.applied(fl, res)
	switch {
	case res.NeedBody:
		f.mu.Lock()
		repeated := f.needBody == applied
		f.needBody = applied
		f.mu.Unlock()
		return verdict{
			cause: causeNeedBody, again: true, once: !repeated,
			err: futago.Errorf(futago.CodeUnavailable, "the body of record %d was left out", applied+1),
		}
	case fl.holeTo > 0 && applied < fl.holeTo:
		return f.renew(fl.holeTo, applied, "the records are not readable in the spool and not in the log")
	case res.Gap && fl.holeFrom > 0 && fl.acked+1 == fl.holeFrom && applied < fl.after:
		return f.renew(fl.after, applied, "the records are not readable in the spool and not in the log")
	case res.Gap:
		return verdict{
			cause: causeGap, again: true, once: fl.after > fl.acked,
			err: futago.Errorf(futago.CodeUnavailable, "record %d came before %d", fl.after+1, applied+1),
		}
	case applied < fl.last:
		return verdict{
			cause: causeError,
			err:   futago.Errorf(futago.CodeInternal, "records up to %d were sent and %d applied", fl.last, applied),
		}
	}
	return verdict{}
}

// applied acknowledges what an answer says was applied.
func (s *session) applied(fl *flight, res command.BatchResult) {
	last := s.f.o.Spool.Last()
	if fl.end > 0 {
		last = min(last, fl.end)
	}
	s.ack(min(fl.base+res.Applied, last))
}

func (s *session) ack(pos uint64) {
	if err := s.f.o.Spool.Ack(pos); err != nil {
		s.f.log.Error("acknowledge", "position", pos, "error", err)
	}
}

// renew gives what follows a hole an identity of its own.
func (f *Forwarder) renew(after, applied uint64, reason string) verdict {
	err := futago.Errorf(futago.CodeCorrupt, "records %d to %d are missing", applied+1, after)
	if rerr := f.o.Spool.Renew(after, reason); rerr != nil {
		return verdict{cause: causeGap, err: err.Wrap(rerr)}
	}
	return verdict{cause: causeGap, err: err, once: true}
}

// forgotten handles a state machine that knows less than it once confirmed,
// as after the restoration of a backup. What the spool still has is
// sent again; what it has not is gone.
func (f *Forwarder) forgotten(ctx context.Context, fl *flight, applied uint64) verdict {
	acked := f.o.Spool.Acked()
	msg := fmt.Sprintf("the cluster has records of spool %s up to %d and had confirmed them up to %d: it was set back; what was confirmed since is not sent again",
		fl.spool, applied, acked)
	return f.restart(ctx, acked, msg)
}

// conflict handles a spool that another one of the same member has replaced.
func (f *Forwarder) conflict(ctx context.Context, fl *flight) verdict {
	msg := fmt.Sprintf("spool %s was replaced by another one of member %s: two processes, or a copy of the data directory, run under one name",
		fl.spool, f.o.Member)
	return f.restart(ctx, f.o.Spool.Acked(), msg)
}

// conflictEvery is how often the identity is renewed for a conflict, at most.
const conflictEvery = 10 * time.Second

// restart puts what is not acknowledged under a new identity, so that nothing
// received is lost, and says so loudly.
func (f *Forwarder) restart(ctx context.Context, after uint64, msg string) verdict {
	err := futago.Errorf(futago.CodeConflict, "%s", msg).WithAction("make sure that only one process runs as member %s", f.o.Member)
	v := verdict{cause: causeConflict, err: err}
	now := f.o.Now()
	f.mu.Lock()
	wait := !f.stale.IsZero() && now.Sub(f.stale) < conflictEvery && now.After(f.stale)
	if !wait {
		f.stale = now
	}
	f.mu.Unlock()
	if wait {
		return v
	}
	f.log.Error("spool conflict", "error", err)
	if f.o.Report != nil {
		f.o.Report(context.WithoutCancel(ctx), "spool-conflict", futago.SeverityCritical, err.Error())
	}
	if rerr := f.o.Spool.Renew(after, "conflict: "+msg); rerr != nil {
		v.err = err.Wrap(rerr)
	}
	return v
}
