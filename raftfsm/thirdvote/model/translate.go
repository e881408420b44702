package model

import (
	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// member names node i for the rules.
func member(i int) futago.MemberID { return futago.MemberOfSlot(i) }

// directory is the identity of a data directory of node i.
func directory(i int, ident uint8) register.Identity {
	return register.Identity{byte(i + 1), ident + 1}
}

// directoryNumber is the inverse of directory.
func directoryNumber(id register.Identity) uint8 { return id[1] - 1 }

func nonce(v version) register.Nonce { return register.Nonce{1, v.number, v.history} }

func mark(v version) rules.Mark {
	if v.number == 0 {
		return rules.Mark{}
	}
	return rules.Mark{Version: uint64(v.number), Nonce: nonce(v)}
}

// toRecord is r as the rules see it.
func toRecord(r record) register.Record {
	out := register.Record{
		Version: uint64(r.version.number), Nonce: nonce(r.version), Term: uint64(r.term), Holders: register.Holders(r.holders),
		IdentityA: directory(0, r.ident[0]), IdentityB: directory(1, r.ident[1]),
	}
	if r.vote != 0 {
		out.VotedFor = member(int(r.vote - 1))
	}
	return out
}

// fromRecord is the inverse of toRecord but for the version, which the
// register gives.
func fromRecord(r register.Record) record {
	out := record{
		term: uint8(r.Term), holders: uint8(r.Holders),
		ident: [2]uint8{directoryNumber(r.IdentityA), directoryNumber(r.IdentityB)},
	}
	if slot, ok := r.VotedFor.Slot(); ok {
		out.vote = uint8(slot) + 1
	}
	return out
}

// local is what node i knows, for the rules.
func (s *state) local(i int) rules.Local {
	n := &s.n[i]
	l := rules.Local{
		Self: member(i), Identity: directory(i, n.ident), Term: uint64(n.term), Leader: n.role == leader,
		Commit: uint64(n.commit), Solo: uint64(n.solo), Admitted: n.admitted,
	}
	if n.barred {
		l.Barred = l.Term
	}
	return l
}

// learn puts back what a rule changed.
func (n *node) learn(l rules.Local) {
	n.solo = uint8(l.Solo)
	n.barred = l.Barred != 0 && l.Barred == uint64(n.term)
}

// readmission is node i's, as the rules keep it. Of the record that it was
// begun on only the version matters from here on.
func (s *state) readmission(i int) rules.Readmission {
	n := &s.n[i]
	m := rules.Readmission{Phase: n.phase, Term: uint64(n.term)}
	on := s.rec
	on.version = n.on
	m.On = toRecord(on)
	if n.peer != 0 {
		m.Peer = directory(1-i, n.peer-1)
	}
	return m
}
