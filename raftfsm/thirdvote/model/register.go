package model

import (
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// write sends a change for node i, which is done or refused at once, or stays
// under way. A readmission does not wait for the answer, since nothing depends
// on it: sent is the same as given up (R3).
func (x *stepper) write(t *state, i int, ch rules.Change) {
	w := write{
		owner: uint8(i), kind: ch.Kind, attended: ch.Kind != rules.KindReadmit, blind: ch.Blind,
		on: version{}, term: uint8(ch.Term), next: fromRecord(ch.Next),
	}
	w.on = t.n[i].on
	if ch.Kind != rules.KindReadmit {
		w.on = t.rec.version
	}
	text := x.text
	if int(t.nWrites) < x.m.Bounds.Writes {
		u := *t
		if ch.Kind == rules.KindReadmit {
			x.giveUpReadmission(&u, i, rules.Unknown)
		}
		u.addWrite(w)
		x.text = text
		x.say("%s sends a %s write t%d on %s, which is delayed", name(i), w.kind, w.term, x.recordText(t.rec))
		x.emit(&u)
	}
	u := *t
	x.take(&u, &w)
	x.text = text
	x.say("%s: %s write t%d: %s", name(i), w.kind, w.term, w.state)
	if w.kind == rules.KindReadmit {
		if w.state == done {
			u.n[i].keep(rules.Readmission{}, version{})
		} else {
			x.giveUpReadmission(&u, i, rules.Refused)
		}
	} else {
		x.answer(&u, &w)
	}
	if w.state == done {
		x.say(" -> %s", x.recordText(u.rec))
	}
	x.emit(&u)
}

// take is the register's part.
func (x *stepper) take(t *state, w *write) {
	if w.on != t.rec.version && !w.blind {
		w.state = refused
		return
	}
	v := t.rec.version
	v.number++
	if t.restore == 2 {
		v.history = 1
	}
	w.state = done
	t.rec = w.next
	t.rec.version = v
	w.on = v
	if x.m.Bounds.Restore == NoRestore {
		relativeVersions(t)
	}
}

// answer reaches a sender that has waited.
func (x *stepper) answer(t *state, w *write) {
	i := int(w.owner)
	n := &t.n[i]
	ch := rules.Change{Kind: w.kind, Term: uint64(w.term), Next: toRecord(w.next)}
	res := rules.Refused
	if w.state == done {
		res = rules.Done
		if !x.believesWritten(t, w) {
			res = rules.Unknown
		}
	}
	if w.kind == rules.KindVote && res == rules.Done && n.role == candidate && n.term == w.term {
		n.votes |= 2
		x.win(t, i)
	}
	solo, _ := rules.GrantSolo(x.m.Switches, t.local(i), ch, res)
	n.solo = uint8(solo)
}

// believesWritten judges a record that the sender has written itself, by the
// mark it has now (R7): one that is below it counts for nothing any more.
func (x *stepper) believesWritten(t *state, w *write) bool {
	n := &t.n[w.owner]
	if x.m.Bounds.Restore == NoRestore {
		return true
	}
	rec := w.next
	rec.version = w.on
	seen, _, ok := rules.JudgeWritten(x.m.Switches, mark(n.mark), toRecord(rec))
	if ok && seen != mark(n.mark) {
		n.mark = w.on
	}
	return ok
}

// register is what becomes of writes under way, and of the record itself.
func (x *stepper) register() {
	s := x.s
	for k := range s.writes[:s.nWrites] {
		w := s.writes[k]
		if w.state != underWay {
			t := *s
			t.dropWrite(k)
			x.say("the answer to %s's %s write is lost", name(w.owner), w.kind)
			x.emit(&t)
			t = *s
			t.dropWrite(k)
			x.say("%s learns: %s write t%d %s", name(w.owner), w.kind, w.term, w.state)
			x.answer(&t, &w)
			x.emit(&t)
			continue
		}
		t := *s
		taken := w
		x.take(&t, &taken)
		if w.attended {
			t.writes[k] = taken
		} else {
			t.dropWrite(k)
		}
		x.say("register: delayed %s write t%d of %s is %s -> %s", w.kind, w.term, name(w.owner), taken.state, x.recordText(t.rec))
		x.emit(&t)

		t = *s
		t.dropWrite(k)
		x.say("the %s write of %s is lost", w.kind, name(w.owner))
		x.emit(&t)

		if w.attended {
			t = *s
			t.writes[k].attended = false
			x.say("%s gives up waiting for its %s write, which is still under way", name(w.owner), w.kind)
			x.emit(&t)
		}
	}
	x.restore()
}

func (x *stepper) restore() {
	s, when := x.s, x.m.Bounds.Restore
	if when == NoRestore {
		return
	}
	if s.restore == 0 {
		t := *s
		t.restore, t.backup = 1, s.rec
		x.say("a backup of the register is taken: %s", x.recordText(s.rec))
		x.emit(&t)
	}
	if s.restore != 1 || s.backup.version == s.rec.version {
		return
	}
	if when != RestoreAny && (s.n[0].mark != s.rec.version || s.n[1].mark != s.rec.version) {
		return
	}
	if when == RestoreSeenQuiet && s.nWrites > 0 {
		return
	}
	t := *s
	t.restore, t.rec, t.backup = 2, s.backup, record{}
	x.say("THE REGISTER IS RESTORED: %s", x.recordText(t.rec))
	x.emit(&t)
}
