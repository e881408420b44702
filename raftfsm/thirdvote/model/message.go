package model

import (
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// deliver is what becomes of messages under way.
func (x *stepper) deliver() {
	s := x.s
	for k := range s.messages[:s.nMessages] {
		copies := 1
		if x.m.Bounds.Duplicates {
			copies = 2
		}
		for c := range copies {
			stays := c == 1
			t := *s
			if !stays {
				t.dropMessage(k)
			}
			x.say("a delayed message: ")
			rep, useful := x.process(&t, s.messages[k])
			if stays && !useful {
				x.text, x.violation = "", ""
				continue
			}
			if stays {
				x.say(" (a copy stays under way)")
			}
			after := t
			if rep.kind != 0 && int(t.nMessages) < x.m.Bounds.Messages && !t.hasMessage(rep) {
				t.addMessage(rep)
			}
			broken, text := x.violation, x.text
			x.emit(&t)
			if rep.kind != 0 && broken == "" {
				x.text = text
				x.say("; ")
				x.process(&after, rep)
				x.emit(&after)
			}
		}
	}
	for k := range s.messages[:s.nMessages] {
		t := *s
		t.dropMessage(k)
		x.say("a message of %s is lost", name(s.messages[k].from))
		x.emit(&t)
	}
}

// process has the receiver deal with a message, and returns its answer, if
// any, and whether the message did anything.
func (x *stepper) process(t *state, msg message) (rep message, useful bool) {
	j := int(1 - msg.from)
	n := &t.n[j]
	if msg.term > n.term && (msg.kind == voteRequest || msg.kind == appendRequest || msg.kind == heartbeatRequest) {
		x.setTerm(t, j, msg.term)
	}
	rep = message{from: uint8(j), term: msg.term}
	switch msg.kind {
	case voteRequest:
		upToDate := msg.log[0] > n.lastTerm() || msg.log[0] == n.lastTerm() && msg.len >= n.len
		if msg.term == n.term && (n.voted == 0 || n.voted == msg.from+1) && upToDate && n.role == follower &&
			rules.MayVote(x.m.Switches, n.admitted) {
			n.voted = msg.from + 1
			rep.kind = voteReply
			x.say("%s votes for %s in t%d", name(j), name(msg.from), msg.term)
			return rep, true
		}
		x.say("%s refuses its vote in t%d", name(j), msg.term)
		return message{}, true
	case voteReply:
		if n.role != candidate || n.term != msg.term {
			return message{}, false
		}
		n.votes |= 1
		x.win(t, j)
		return message{}, true
	case appendRequest:
		if msg.term < n.term {
			x.say("%s ignores AppendEntries t%d", name(j), msg.term)
			return message{}, false
		}
		x.store(t, j, &msg)
		rep.kind, rep.len = appendReply, msg.len
		return rep, true
	case appendReply:
		if n.role != leader || n.term != msg.term {
			return message{}, false
		}
		n.match = max(n.match, msg.len)
		if k := n.match; k > n.commit && n.log[k-1] == n.term {
			x.commit(t, j, k)
		}
		x.say("; %s learns that its peer has %d, commit %d", name(j), msg.len, n.commit)
		return message{}, true
	case heartbeatRequest:
		x.say("%s answers a heartbeat", name(j))
		rep.kind, rep.term = heartbeatReply, n.term
		return rep, true
	case heartbeatReply:
		x.say("; %s has its answer", name(j))
		x.verified(t, j, msg.term)
		return message{}, true
	}
	return message{}, false
}

// store is a follower's part of AppendEntries.
func (x *stepper) store(t *state, j int, msg *message) {
	n := &t.n[j]
	if n.role == leader {
		x.violation = "two leaders in one term"
	}
	n.role, n.votes = follower, 0
	for k := range msg.len {
		if k < n.len && n.log[k] == msg.log[k] {
			continue
		}
		if k < n.len {
			if k < n.commit {
				x.violation = "a committed entry is truncated"
			}
			clear(n.log[k:])
		}
		n.log[k] = msg.log[k]
		n.len = k + 1
	}
	if c := min(msg.commit, msg.len); c > n.commit {
		n.commit = c
		for k := range min(c, t.acked) {
			if t.ackedTerm[k] != n.log[k] {
				x.violation = "another entry is applied at an acknowledged index"
			}
		}
	}
	if x.tracing {
		x.say("%s stores AppendEntries t%d -> %s", name(j), msg.term, n.logText())
	}
}

// setTerm moves node i to a higher term, as a follower.
func (x *stepper) setTerm(t *state, i int, term uint8) {
	t.n[i].term, t.n[i].voted = term, 0
	x.loseLeadership(t, i)
}

// loseLeadership makes node i a follower.
func (x *stepper) loseLeadership(t *state, i int) {
	n := &t.n[i]
	l := rules.LeadershipLost(x.m.Switches, t.local(i))
	n.role, n.votes, n.match, n.reading = follower, 0, 0, false
	n.keep(rules.Readmission{}, version{})
	n.learn(l)
}
