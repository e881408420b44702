package thirdvote

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// steward is the state of the one goroutine that writes the register for a
// leader (R2 and R3). Nobody else touches it.
type steward struct {
	v   *Voter
	led uint64 // the term in which this node was seen to lead, 0 if it does not

	nextGreeting time.Time
	// nextSolo and nextReadmit hold the next try back after one that failed;
	// readmitPause grows with failures.
	nextSolo     time.Time
	nextReadmit  time.Time
	readmitPause time.Duration
	soloFailing  bool // and said so
}

// Run is the steward: it keeps the register read, and on the leader greets the
// peer, makes this manager the only holder when it has to go on alone, and
// takes the peer back when it has caught up. It returns when ctx ends.
func (v *Voter) Run(ctx context.Context) error {
	s := &steward{v: v}
	// The library tells observers of a new state at once; the channel holds
	// one, for one is enough to look again.
	obs := make(chan raft.Observation, 1)
	o := raft.NewObserver(obs, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.RaftState)
		return ok
	})
	var bound *raft.Raft
	defer func() {
		if bound != nil {
			bound.DeregisterObserver(o)
		}
	}()
	for {
		if r := v.raft.Load(); r != nil && bound == nil {
			bound = r
			r.RegisterObserver(o)
		}
		ch := v.change()
		pause := s.step(ctx)
		t := time.NewTimer(max(pause, time.Millisecond))
		select {
		case <-ch:
		case <-obs:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		t.Stop()
	}
}

// step does what is due and returns when to look again, at the latest.
func (s *steward) step(ctx context.Context) time.Duration {
	v := s.v
	hb := v.cfg.HeartbeatTimeout
	now := time.Now()
	l := v.local()
	s.follow(l)

	// R7: a read at least once per heartbeat time-out, whoever asks for it.
	pause := hb / 2
	v.mu.Lock()
	idle := now.Sub(v.begunAt)
	v.mu.Unlock()
	if idle >= hb/2 {
		v.reads.want(0)
	} else {
		pause = hb/2 - idle
	}
	if !l.Leader {
		return pause
	}
	if !now.Before(s.nextGreeting) {
		v.greetings.want(0)
		s.nextGreeting = now.Add(hb / 2)
	}
	pause = min(pause, s.nextGreeting.Sub(now))

	takes, again := v.peerTakes(now)
	v.mu.Lock()
	w := v.waiting
	v.mu.Unlock()
	if w != nil {
		want, _ := rules.WantSolo(v.cfg.switches, l, w.entryTerm, w.index, takes)
		switch {
		case want && now.Before(s.nextSolo):
			return min(pause, s.nextSolo.Sub(now))
		case want:
			if !s.becomeSolo(ctx) {
				s.nextSolo = time.Now().Add(hb / 4)
			}
			return 0
		case takes:
			pause = min(pause, again)
		}
	}
	if s.readmissionDue(l, now) {
		if s.readmit(ctx) {
			s.readmitPause = 0
		} else {
			s.readmitPause = min(max(2*s.readmitPause, hb), 32*hb)
			s.nextReadmit = time.Now().Add(s.readmitPause)
		}
		return 0
	}
	return pause
}

// follow notices a leadership that ended or began, and drops what was granted
// in the one before.
func (s *steward) follow(l rules.Local) {
	led := uint64(0)
	if l.Leader {
		led = l.Term
	}
	if led == s.led {
		return
	}
	v := s.v
	v.mu.Lock()
	// A vote may have granted solo for the term that has just begun.
	if v.solo != l.Term || s.led == l.Term {
		o := rules.LeadershipLost(v.cfg.switches, rules.Local{Solo: v.solo, Barred: v.barred})
		v.solo = o.Solo
	}
	if v.barred != l.Term {
		v.barred = 0
	}
	v.mu.Unlock()
	s.led = led
	s.nextSolo, s.nextReadmit, s.nextGreeting = time.Time{}, time.Time{}, time.Time{}
	s.readmitPause, s.soloFailing = 0, false
	v.wake()
}

// becomeSolo makes this node the only holder (R2) and reports whether it may
// acknowledge for w now.
func (s *steward) becomeSolo(ctx context.Context) bool {
	v := s.v
	fail := func(why rules.Reason, err error) bool {
		v.mu.Lock()
		v.count.SolosFailed++
		v.mu.Unlock()
		if !s.soloFailing {
			s.soloFailing = true
			v.tell(EventSoloFailed, why, err)
		}
		return false
	}
	rec, err := v.reads.do(ctx)
	if err != nil {
		return fail(rules.ReasonUnreadable, err)
	}
	ch, why, ok := rules.PrepareSolo(v.cfg.switches, v.local(), rec)
	if !ok {
		return fail(why, nil)
	}
	res, err := v.write(ctx, ch)
	granted, why := v.grant(ch, res)
	if !granted {
		return fail(why, err)
	}
	s.soloFailing = false
	v.soloBy(rules.KindSolo)
	return true
}

func (v *Voter) soloBy(k rules.Kind) {
	v.mu.Lock()
	v.count.Solos++
	v.lastErr = nil
	v.mu.Unlock()
	v.tell(EventSolo, rules.Reason("by "+k.String()), nil)
}

// readmissionDue reports whether the record is anything but both managers with
// their present directories, and the peer is near enough to begin.
func (s *steward) readmissionDue(l rules.Local, now time.Time) bool {
	v := s.v
	if now.Before(s.nextReadmit) {
		return false
	}
	v.mu.Lock()
	rec, peer, read := v.rec, v.peer, v.goodSeq > 0
	v.mu.Unlock()
	need, _ := rules.NeedsReadmission(l, rec, peer.Identity)
	return read && need && v.peerNear(l, now)
}

// readmit takes the peer back (R3), phase by phase, and reports whether both
// managers hold at the end. Every way out but the last leaves solo dropped: what
// waits then gets it back by R2, whose write also kills a late one of this.
func (s *steward) readmit(ctx context.Context) bool {
	v := s.v
	sw := v.cfg.switches
	v.mu.Lock()
	// Leadership and term cannot be read under mu together with solo, but solo
	// can only become less by what happens in between: this goroutine alone
	// grants it to a leader, and a vote's grant is barred here.
	l := rules.Local{Solo: v.solo, Barred: v.barred, Leader: v.leads(), Term: v.term()}
	m, l := rules.BeginReadmission(sw, l)
	v.solo, v.barred, v.phase = l.Solo, l.Barred, m.Phase
	v.mu.Unlock()
	v.wake()
	res := rules.Refused
	last := m
	giveUp := func(why rules.Reason, err error) bool {
		if l := v.local(); rules.Abandon(sw, l, last, res).Solo != l.Solo {
			v.store(rules.Abandon(sw, l, last, res))
		}
		v.mu.Lock()
		v.phase = rules.PhaseNone
		v.count.ReadmissionsLost++
		v.mu.Unlock()
		v.tell(EventGaveUp, why, err)
		return false
	}
	for m.Phase != rules.PhaseWrite {
		o, err := s.phase(ctx, m)
		var why rules.Reason
		var ok bool
		if m, why, ok = m.Advance(sw, v.local(), o); !ok {
			return giveUp(why, err)
		}
		last = m
		v.mu.Lock()
		v.phase = m.Phase
		v.mu.Unlock()
	}
	ch, why, ok := m.Change(v.local())
	if !ok {
		return giveUp(why, nil)
	}
	var err error
	if res, err = v.write(ctx, ch); res != rules.Done {
		_, why = rules.GrantSolo(sw, v.local(), ch, res)
		return giveUp(why, err)
	}
	v.mu.Lock()
	v.phase = rules.PhaseNone
	v.count.Readmissions++
	v.lastErr = nil
	v.mu.Unlock()
	v.tell(EventReadmitted, "", nil)
	return true
}

// phase does what the present phase of a readmission asks for.
func (s *steward) phase(ctx context.Context, m rules.Readmission) (rules.Outcome, error) {
	v := s.v
	switch m.Phase {
	case rules.PhaseRead:
		rec, err := v.reads.do(ctx)
		return rules.Outcome{OK: err == nil, Record: rec}, err
	case rules.PhaseIdentity, rules.PhaseIdentityAgain:
		g, err := v.greetings.do(ctx)
		return rules.Outcome{OK: err == nil, Identity: g.Identity}, err
	case rules.PhaseBarrier:
		err := s.barrier(ctx)
		return rules.Outcome{OK: err == nil}, err
	default:
		return rules.Outcome{}, nil
	}
}

// barrier commits one, which needs the peer, for w is mute meanwhile. It gives
// up as soon as the peer is judged not to take it.
func (s *steward) barrier(ctx context.Context) error {
	v := s.v
	r := v.raft.Load()
	if r == nil {
		return errNotBound
	}
	// The library's futures cannot be given up: the goroutine stays until the
	// barrier commits or the leadership ends, and Close waits for it.
	done := make(chan error, 1)
	v.wg.Go(func() { done <- r.Barrier(v.cfg.ReadmitTimeout).Error() })
	deadline := time.NewTimer(v.cfg.ReadmitTimeout)
	defer deadline.Stop()
	look := time.NewTicker(max(v.cfg.HeartbeatTimeout/10, time.Millisecond))
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-deadline.C:
			return context.DeadlineExceeded
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if takes, _ := v.peerTakes(time.Now()); !takes {
				return errPeerGone
			}
		}
	}
}
