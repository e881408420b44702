package model

import (
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// win makes node i leader, and checks that it may be.
func (x *stepper) win(t *state, i int) {
	n := &t.n[i]
	n.role, n.match, n.votes = leader, 0, 0
	x.say(" -> LEADER in term %d", n.term)
	if t.leaders&(1<<n.term) != 0 {
		x.violation = "two leaders in one term"
	}
	t.leaders |= 1 << n.term
	for k := range t.acked {
		if t.ackedIn[k] < n.term && (k >= n.len || n.log[k] != t.ackedTerm[k]) {
			x.violation = "a leader lacks an acknowledged entry"
		}
	}
}

// commit acknowledges the first k entries of node i, which leads, and checks
// that this contradicts nothing acknowledged before.
func (x *stepper) commit(t *state, i int, k uint8) {
	n := &t.n[i]
	var highest uint8
	for j := range t.acked {
		highest = max(highest, t.ackedIn[j])
	}
	for j := range k {
		switch {
		case j < t.acked && t.ackedTerm[j] != n.log[j]:
			x.violation = "another entry is committed at an acknowledged index"
			return
		case j < t.acked:
		case highest > n.term:
			x.violation = "an entry is acknowledged after a higher term has committed"
			return
		default:
			t.ackedTerm[j], t.ackedIn[j] = n.log[j], n.term
			t.acked = j + 1
		}
	}
	n.commit = max(n.commit, k)
}

// read begins a linearizable read that misses an entry, and asks the peer for
// evidence (R8).
func (x *stepper) read(i int) {
	if !x.m.Bounds.Reads {
		return
	}
	n := &x.s.n[i]
	if !n.reading {
		if x.s.acked > n.commit && (n.ownTermCommitted() || x.m.Switches.R8NoOwnTerm) {
			t := *x.s
			t.n[i].reading = true
			x.say("%s begins a read at index %d of %d acknowledged", name(i), n.commit, t.acked)
			x.emit(&t)
		}
		return
	}
	req := message{kind: heartbeatRequest, from: uint8(i), term: n.term}
	x.send(req, "a heartbeat")
	x.exchange(req)
}

// readEvidence is what every read has: whether an entry of the own term was
// committed when it began.
func (x *stepper) readEvidence() rules.ReadEvidence {
	return rules.ReadEvidence{OwnTermCommitted: !x.m.Switches.R8NoOwnTerm}
}

// verified is the peer's answer to a read of node i.
func (x *stepper) verified(t *state, i int, term uint8) {
	n := &t.n[i]
	if !n.reading {
		return
	}
	e := x.readEvidence()
	e.Peer, e.PeerTerm = true, uint64(term)
	if ok, why := rules.MayServeRead(x.m.Switches, t.local(i), uint64(n.term), e); ok {
		x.violation = "a stale read is served (" + string(why) + ")"
	}
}

// checkReads looks whether a read that misses an entry could be served now.
func (x *stepper) checkReads(t *state) {
	for i := range t.n {
		n := &t.n[i]
		if n.role != leader || !n.reading {
			continue
		}
		u := *t // a read of the register, of which only the judgement matters
		e := x.readEvidence()
		e.Register = x.believes(&u, i)
		e.RegisterTerm = uint64(t.rec.term)
		l := t.local(i)
		if ok, why := rules.MayServeRead(x.m.Switches, l, uint64(n.term), e); ok {
			x.violation = "a stale read is served (" + string(why) + ")"
			return
		}
		// The library's own check of leadership counts w's answer to a heartbeat.
		p := rules.Proof{Read: e.Register, Failed: !e.Register, Term: e.RegisterTerm}
		if r := rules.Answer(x.m.Switches, l, rules.Heartbeat, uint64(n.term), 0, p); r.Act == rules.ActGood {
			x.violation = "a deposed leader is confirmed (" + string(r.Reason) + ")"
			return
		}
	}
}
