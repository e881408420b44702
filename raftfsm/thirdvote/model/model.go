package model

import (
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// Restore says when an older copy may take the place of the record, once.
type Restore uint8

// The conditions of a restore. All but the first are operators' mistakes that
// one register cannot repair in every case.
const (
	NoRestore Restore = iota
	// RestoreSeenQuiet: both nodes have seen the newest version, and no write
	// is under way.
	RestoreSeenQuiet
	// RestoreSeen: both nodes have seen the newest version.
	RestoreSeen
	// RestoreAny: at any time.
	RestoreAny
)

// Bounds limit the schedules. Terms up to 7 and logs up to 4 entries can be
// searched; a walk may go to 15 and 8.
type Bounds struct {
	Terms      int // highest term; the first one is 1
	Log        int // entries in a log
	Messages   int // delayed at a time, up to 4
	Writes     int // of the register under way at a time, up to 3
	Crashes    int
	DiskLosses int // one of each node at most
	Duplicates bool
	Reads      bool
	Restore    Restore
}

// Model is what to explore.
type Model struct {
	Bounds   Bounds
	Switches rules.Switches

	// plain turns off what makes a search small, to check that it changes
	// nothing else.
	plain bool
	// visit is called with each new state of a search; for tests.
	visit func(s *state)
}

// stepper makes the successors of one state. After each, yield is called with
// violation set if the step broke something.
type stepper struct {
	m     *Model
	s     *state
	yield func(t *state)

	violation string
	group     group

	tracing bool
	text    string // what happened, if tracing
}

// emit hands one successor over.
func (x *stepper) emit(t *state) {
	if x.violation == "" && x.m.Bounds.Reads {
		x.checkReads(t)
	}
	x.yield(t)
	x.violation, x.text = "", ""
}

// group sorts steps by what they need, so that a walk can choose a kind first.
type group uint8

const (
	groupA group = iota // what node A does
	groupB
	groupFailure
	groupRegister
	groupMessage
	groups
)

// successors makes every state that can follow s in one step, always in the
// same order.
func (x *stepper) successors(s *state) {
	x.s = s
	for i := range s.n {
		x.group = groupA + group(i)
		x.timeout(i)
		switch s.n[i].role {
		case candidate:
			x.askPeerForVote(i)
			x.askRegisterForVote(i)
		case leader:
			x.lead(i)
			x.acknowledgeAlone(i)
			x.takeSolo(i)
			x.readmit(i)
			x.read(i)
		case follower:
		}
		x.lookAtRegister(i)
		x.group = groupFailure
		x.fail(i)
	}
	x.group = groupRegister
	x.register()
	x.group = groupMessage
	x.deliver()
}

// timeout starts an election.
func (x *stepper) timeout(i int) {
	n := &x.s.n[i]
	if n.role == leader || int(n.term) >= x.m.Bounds.Terms || !rules.MayCampaign(x.m.Switches, n.admitted) {
		return
	}
	t := *x.s
	c := &t.n[i]
	c.term++
	c.voted, c.role, c.votes = uint8(i)+1, candidate, 0
	x.say("%s times out, candidate in term %d", name(i), c.term)
	x.emit(&t)
}

func (x *stepper) askPeerForVote(i int) {
	n := &x.s.n[i]
	req := message{kind: voteRequest, from: uint8(i), term: n.term, len: n.len}
	req.log[0] = n.lastTerm()
	if n.votes&1 == 0 {
		x.send(req, "RequestVote")
	}
	x.exchange(req)
}

// send puts a message under way.
func (x *stepper) send(msg message, what string) {
	if int(x.s.nMessages) >= x.m.Bounds.Messages || x.s.hasMessage(msg) {
		return
	}
	t := *x.s
	t.addMessage(msg)
	x.say("%s sends %s t%d, which is delayed", name(msg.from), what, msg.term)
	x.emit(&t)
}

// exchange delivers a request and its answer at once.
func (x *stepper) exchange(req message) {
	t := *x.s
	rep, _ := x.process(&t, req)
	if rep.kind != 0 {
		x.process(&t, rep)
	}
	x.emit(&t)
}

// askRegisterForVote is the stub's answer to a RequestVote for the third vote
// (R4).
func (x *stepper) askRegisterForVote(i int) {
	t := *x.s
	if t.n[i].votes&2 != 0 || !x.believes(&t, i) {
		return
	}
	v := rules.Vote(x.m.Switches, t.local(i), toRecord(t.rec), uint64(t.n[i].term))
	switch {
	case v.Term > uint64(t.n[i].term):
		x.setTerm(&t, i, uint8(v.Term))
		x.say("%s reads the register: %s, adopts t%d", name(i), v.Reason, v.Term)
		x.emit(&t)
	case v.Granted:
		t.n[i].votes |= 2
		x.say("%s reads the register: %s", name(i), v.Reason)
		x.win(&t, i)
		x.emit(&t)
	case v.Write && !t.attended(i, rules.KindVote):
		x.write(&t, i, v.Change)
	}
}

// lead is what a leader does beside the register.
func (x *stepper) lead(i int) {
	n := &x.s.n[i]
	if int(n.len) < x.m.Bounds.Log {
		t := *x.s
		t.n[i].appendOwn()
		x.say("%s appends an entry at index %d", name(i), t.n[i].len)
		x.emit(&t)
	}
	if n.len > 0 {
		req := message{kind: appendRequest, from: uint8(i), term: n.term, len: n.len, commit: n.commit, log: n.log}
		x.send(req, "AppendEntries")
		x.exchange(req)
	}
	t := *x.s
	x.loseLeadership(&t, i)
	x.say("%s steps down", name(i))
	x.emit(&t)
}

func (n *node) appendOwn() {
	n.log[n.len] = n.term
	n.len++
}

// acknowledgeAlone is the stub's answer to an AppendEntries for the third vote
// (R1). Its evidence (R5) may be old, since the request may be: the register's
// term was not above the leader's then.
func (x *stepper) acknowledgeAlone(i int) {
	n := &x.s.n[i]
	if n.commit >= n.len || n.lastTerm() != n.term {
		return
	}
	r := rules.Answer(x.m.Switches, x.s.local(i), rules.Append, uint64(n.term), uint64(n.len),
		rules.Proof{Read: true, Term: min(uint64(n.term), uint64(x.s.rec.term))})
	if r.Act != rules.ActGood {
		return
	}
	t := *x.s
	x.say("%s: w acknowledges index %d (%s)", name(i), n.len, r.Reason)
	x.commit(&t, i, n.len)
	x.emit(&t)
}

// takeSolo is R2.
func (x *stepper) takeSolo(i int) {
	sw := x.m.Switches
	t := *x.s
	n := &t.n[i]
	if t.attended(i, rules.KindSolo) || !x.believes(&t, i) {
		return
	}
	if sw.R2ByReading {
		if solo := uint8(rules.LearnByReading(sw, t.local(i), toRecord(t.rec))); solo != n.solo {
			u := t
			u.n[i].solo = solo
			x.say("%s reads the register and takes itself for the only holder", name(i))
			x.emit(&u)
		}
	}
	l := t.local(i)
	if want, _ := rules.WantSolo(sw, l, uint64(n.lastTerm()), uint64(n.len), false); !want {
		return
	}
	ch, _, ok := rules.PrepareSolo(sw, l, toRecord(t.rec))
	if !ok {
		return
	}
	if n.phase != rules.PhaseNone {
		x.giveUpReadmission(&t, i, rules.Refused)
	}
	x.write(&t, i, ch)
}

// readmit is R3. The register is read, the peer is asked, and the barrier is
// appended in one step: a record that moves in between fails the write.
func (x *stepper) readmit(i int) {
	sw := x.m.Switches
	n := &x.s.n[i]
	peer := directory(1-i, x.s.n[1-i].ident)
	switch n.phase {
	case rules.PhaseNone:
		t := *x.s
		if t.attended(i, rules.KindSolo) || !x.believes(&t, i) {
			return
		}
		if need, _ := rules.NeedsReadmission(t.local(i), toRecord(t.rec), peer); !need {
			return
		}
		m, l := rules.BeginReadmission(sw, t.local(i))
		t.n[i].learn(l)
		m, _, ok := m.Advance(sw, l, rules.Outcome{OK: true, Record: toRecord(t.rec)})
		if ok && m.Phase == rules.PhaseIdentity {
			m, _, ok = m.Advance(sw, l, rules.Outcome{OK: true, Identity: peer})
		}
		if !ok || m.Phase == rules.PhaseBarrier && int(n.len) >= x.m.Bounds.Log {
			return
		}
		x.say("%s begins a readmission on %s", name(i), x.recordText(t.rec))
		if m.Phase == rules.PhaseBarrier {
			t.n[i].appendOwn()
			t.n[i].bar = t.n[i].len
			x.say(", barrier at index %d", t.n[i].bar)
		}
		t.n[i].keep(m, t.rec.version)
		x.emit(&t)
	case rules.PhaseBarrier, rules.PhaseIdentityAgain:
		if n.phase == rules.PhaseBarrier && n.commit < n.bar {
			return
		}
		t := *x.s
		l, m, ok := t.local(i), t.readmission(i), true
		if m.Phase == rules.PhaseBarrier {
			m, _, ok = m.Advance(sw, l, rules.Outcome{OK: true})
		}
		if ok && m.Phase == rules.PhaseIdentityAgain {
			m, _, ok = m.Advance(sw, l, rules.Outcome{OK: true, Identity: peer})
		}
		if !ok {
			x.giveUpReadmission(&t, i, rules.Refused)
			x.say("%s gives its readmission up: the peer's directory is another one", name(i))
		} else {
			t.n[i].keep(m, n.on)
			x.say("%s: the barrier is committed, the peer is the same", name(i))
		}
		x.emit(&t)
	case rules.PhaseWrite:
		t := *x.s
		ch, _, ok := t.readmission(i).Change(t.local(i))
		if !ok {
			return
		}
		x.write(&t, i, ch)
	case rules.PhaseRead, rules.PhaseIdentity:
	}
}

// keep stores a readmission in the node.
func (n *node) keep(m rules.Readmission, on version) {
	n.phase, n.on, n.peer = m.Phase, on, 0
	if !m.Peer.IsZero() {
		n.peer = directoryNumber(m.Peer) + 1
	}
	if m.Phase != rules.PhaseBarrier {
		n.bar = 0
	}
}

func (x *stepper) giveUpReadmission(t *state, i int, res rules.Result) {
	l := rules.Abandon(x.m.Switches, t.local(i), t.readmission(i), res)
	t.n[i].learn(l)
	t.n[i].keep(rules.Readmission{}, version{})
}

// fail is a crash, or the loss of a disk.
func (x *stepper) fail(i int) {
	if int(x.s.crashes) < x.m.Bounds.Crashes {
		t := *x.s
		t.crashes++
		x.restart(&t, i)
		x.say("%s crashes and restarts", name(i))
		x.emit(&t)
	}
	if int(x.s.losses) < x.m.Bounds.DiskLosses && x.s.n[i].ident == 0 {
		t := *x.s
		t.losses++
		t.n[i] = node{ident: 1}
		x.restart(&t, i)
		if x.believes(&t, i) { // without the register it does not start
			t.n[i].term = uint8(rules.FirstTerm(x.m.Switches, 0, toRecord(t.rec)))
		}
		x.say("%s LOSES ITS DISK and starts empty in term %d", name(i), t.n[i].term)
		x.emit(&t)
	}
}

// restart takes from node i what memory held, and with it its waiting.
func (x *stepper) restart(t *state, i int) {
	n := &t.n[i]
	*n = node{term: n.term, voted: n.voted, len: n.len, log: n.log, ident: n.ident, admitted: n.admitted, mark: n.mark}
	for k := range t.writes[:t.nWrites] {
		if t.writes[k].owner == uint8(i) {
			t.writes[k].attended = false
		}
	}
}

// lookAtRegister is a read that only teaches: of the highest version (R7), or
// that a new directory is a holder (R6).
func (x *stepper) lookAtRegister(i int) {
	t := *x.s
	if !x.believes(&t, i) {
		return
	}
	n := &t.n[i]
	if !n.admitted && rules.Admits(member(i), directory(i, n.ident), toRecord(t.rec)) {
		n.admitted = true
		x.say("%s reads the register: its new directory is a holder", name(i))
		x.emit(&t)
		return
	}
	if x.m.Bounds.Restore != NoRestore && n.mark != x.s.n[i].mark {
		x.say("%s reads %s", name(i), x.recordText(t.rec))
		x.emit(&t)
	}
}

// believes has node i of t read the register: R7 decides whether what it says
// counts.
func (x *stepper) believes(t *state, i int) bool {
	if x.m.Bounds.Restore == NoRestore {
		return true
	}
	seen, _, ok := rules.Judge(x.m.Switches, mark(t.n[i].mark), toRecord(t.rec))
	if ok && seen != mark(t.n[i].mark) {
		t.n[i].mark = t.rec.version
	}
	return ok
}
