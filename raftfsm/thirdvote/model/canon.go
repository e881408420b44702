package model

import (
	"cmp"
	"slices"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// canonical gives states that behave alike one form: messages and answers that
// can have no effect are dropped, versions are counted from the present one
// where no restore can happen, and the order of what is under way is fixed.
func (m *Model) canonical(s *state) {
	if !m.plain {
		m.dropDeadMessages(s)
		m.dropDeadWrites(s)
	}
	if m.Bounds.Restore == NoRestore {
		relativeVersions(s)
	}
	slices.SortFunc(s.messages[:s.nMessages], compareMessages)
	slices.SortFunc(s.writes[:s.nWrites], compareWrites)
}

func (m *Model) dropDeadMessages(s *state) {
	// A lost disk takes a node back to a term in which old messages count.
	lossAhead := int(s.losses) < m.Bounds.DiskLosses
	for k := 0; k < int(s.nMessages); {
		msg := s.messages[k]
		from, to := &s.n[msg.from], &s.n[1-msg.from]
		var dead bool
		switch msg.kind {
		case voteRequest:
			dead = !lossAhead && (msg.term < to.term || msg.term == to.term && to.voted != 0 && to.voted != msg.from+1 ||
				from.term != msg.term && msg.term <= to.term)
		case voteReply:
			dead = !lossAhead && (to.role != candidate || to.term != msg.term)
		case appendRequest:
			dead = !lossAhead && msg.term < to.term
		case appendReply:
			dead = !lossAhead && (to.role != leader || to.term != msg.term || msg.len <= to.match)
		case heartbeatRequest:
			dead = msg.term < to.term || from.role != leader || from.term != msg.term || !from.reading
		case heartbeatReply:
			dead = to.role != leader || to.term != msg.term || !to.reading
		}
		if dead {
			s.dropMessage(k)
		} else {
			k++
		}
	}
}

func (m *Model) dropDeadWrites(s *state) {
	for k := 0; k < int(s.nWrites); {
		w := &s.writes[k]
		o := &s.n[w.owner]
		if w.attended && (o.term != w.term || o.role == follower || o.role == candidate && w.kind != rules.KindVote) {
			w.attended = false // the answer would say nothing to its sender
		}
		if w.state == underWay && w.on != s.rec.version && !w.blind && m.Bounds.Restore == NoRestore {
			w.state = refused // versions do not come back
		}
		if w.state != underWay && !w.attended {
			s.dropWrite(k)
			continue
		}
		if w.state != underWay {
			// What was asked for matters to its sender alone: a vote may grant solo.
			w.blind = false
			if m.Bounds.Restore == NoRestore || w.state == refused {
				w.on = version{}
			}
			if w.kind != rules.KindVote || w.state == refused {
				w.next = record{}
			}
		}
		k++
	}
}

// relativeVersions makes the present version 1 and every other 0.
func relativeVersions(s *state) {
	rel := func(v *version) {
		if *v == s.rec.version {
			*v = version{number: 1}
		} else {
			*v = version{}
		}
	}
	for i := range s.n {
		s.n[i].mark = version{}
		if s.n[i].phase == rules.PhaseNone {
			s.n[i].on = version{}
		} else {
			rel(&s.n[i].on)
		}
	}
	for k := range s.writes[:s.nWrites] {
		if s.writes[k].state == underWay {
			rel(&s.writes[k].on)
		}
	}
	s.rec.version = version{number: 1}
}

func compareMessages(a, b message) int {
	return cmp.Compare(packMessage(a), packMessage(b))
}

func compareWrites(a, b write) int { return cmp.Compare(packWrite(a), packWrite(b)) }

// swapped is s with the names of the nodes exchanged.
func swapped(s *state) state {
	t := *s
	t.n[0], t.n[1] = s.n[1], s.n[0]
	for i := range t.n {
		t.n[i].voted = swapVote(t.n[i].voted)
	}
	swapRecord(&t.rec)
	swapRecord(&t.backup)
	for k := range t.messages[:t.nMessages] {
		t.messages[k].from ^= 1
	}
	for k := range t.writes[:t.nWrites] {
		t.writes[k].owner ^= 1
		swapRecord(&t.writes[k].next)
	}
	slices.SortFunc(t.messages[:t.nMessages], compareMessages)
	slices.SortFunc(t.writes[:t.nWrites], compareWrites)
	return t
}

func swapVote(v uint8) uint8 {
	if v == 0 {
		return 0
	}
	return 3 - v
}

func swapRecord(r *record) {
	r.vote = swapVote(r.vote)
	r.holders = r.holders&1<<1 | r.holders>>1
	r.ident[0], r.ident[1] = r.ident[1], r.ident[0]
}
