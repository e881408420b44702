package thirdvote

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// contact is what the requests to the peer have shown. All of it is a matter of
// when to act; no rule depends on it.
type contact struct {
	answered time.Time // start of the last request that was answered
	failing  bool      // the last request that ended, failed
	// term is the leadership that the rest belongs to.
	term  uint64
	match uint64 // the peer has taken entries up to here
	// inTerm is the start of the last request that was answered in term.
	inTerm time.Time
}

// heard notes an answered request. Requests overlap: an append that a disk held
// up ends after heartbeats that began later, and takes nothing back from them.
func (c *contact) heard(start time.Time) {
	if start.After(c.answered) {
		c.answered = start
	}
	c.failing = false
}

// peerAnswered notes a request to the peer that was answered.
func (v *Voter) peerAnswered(start time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.contact.heard(start)
}

// peerFailed notes one that was not.
func (v *Voter) peerFailed() {
	v.mu.Lock()
	was := v.contact.failing
	v.contact.failing = true
	v.mu.Unlock()
	if !was {
		v.wake()
	}
}

// peerTook notes the peer's answer to an append or a snapshot up to index, in
// the leadership of term.
func (v *Voter) peerTook(start time.Time, term, answerTerm, index uint64, success bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := &v.contact
	c.heard(start)
	if c.term > term {
		return
	}
	if c.term < term {
		c.term, c.match, c.inTerm = term, 0, time.Time{}
	}
	if answerTerm == term && start.After(c.inTerm) {
		c.inTerm = start
	}
	switch {
	case success:
		c.match = max(c.match, index)
	case answerTerm == term && index > 0:
		c.match = 0 // it lacks what comes before: it may be a new directory
	}
}

// sentOwn notes the first entry of the leader's own term, from any request that
// carries it.
func (v *Voter) sentOwn(term uint64, entries []*raft.Log) {
	if len(entries) == 0 || entries[len(entries)-1].Term != term {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range entries {
		if e.Term == term && (v.ownTerm != term || e.Index < v.ownIndex) {
			v.ownTerm, v.ownIndex = term, e.Index
			return
		}
	}
}

// asked notes the entry before those of a request to w.
func (v *Voter) asked(term, prev uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.askedTerm, v.askedPrev = term, prev
}

// LogNeeded returns the oldest log index that the next request to w needs, 0 if
// this manager does not lead. W keeps up with the log, except while the register
// is away: then it is stuck where it was. A leader that compacts its log beyond
// this index has to open a snapshot for w as soon as the register is back, only
// for the stub to throw it away.
func (v *Voter) LogNeeded() uint64 {
	l := v.local()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !l.Leads(v.askedTerm) {
		return 0
	}
	return v.askedPrev
}

// ownCommitted reports whether an entry of term, led by this node, is within
// commit.
func (v *Voter) ownCommitted(term, commit uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ownTerm == term && v.ownIndex <= commit
}

// peerTakes judges whether the peer is about to take the entry that waits. If
// so, it returns when to judge again.
func (v *Voter) peerTakes(now time.Time) (takes bool, again time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting == nil {
		return true, v.cfg.HeartbeatTimeout
	}
	waited, silent := now.Sub(v.waiting.since), now.Sub(v.contact.answered)
	switch {
	case waited < v.cfg.DetectFailed:
		return true, v.cfg.DetectFailed - waited
	case v.contact.failing, silent >= v.cfg.DetectSilent, waited >= v.cfg.DetectStalled:
		return false, 0
	default:
		return true, min(v.cfg.DetectSilent-silent, v.cfg.DetectStalled-waited)
	}
}

// peerNear reports whether the peer answers and is nearly caught up with the
// leader of l.Term.
func (v *Voter) peerNear(l rules.Local, now time.Time) bool {
	r := v.raft.Load()
	if r == nil {
		return false
	}
	last := r.LastIndex()
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.contact
	return !c.failing && now.Sub(c.answered) < v.cfg.DetectSilent &&
		c.term == l.Term && c.match > 0 && c.match+v.cfg.ReadmitLag >= last
}

// LastEvidence returns the start of the youngest evidence that this manager is
// the leader of its present term (R8): a register read, or a request that the
// peer answered in that term; now, for the only holder. ok is false for
// anything but a leader with evidence. Who holds an address for the leader must
// give it up a fixed time after this moment, however long ago it looked.
func (v *Voter) LastEvidence() (start time.Time, ok bool) {
	now := time.Now()
	l := v.local()
	if !l.Leader {
		return time.Time{}, false
	}
	if rules.HoldsSolo(v.cfg.switches, l, l.Term) {
		return now, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.contact.term == l.Term {
		start = v.contact.inTerm
	}
	if v.goodTerm <= l.Term && v.rec.Term <= l.Term && v.readAt.After(start) {
		start = v.readAt
	}
	return start, !start.IsZero()
}
