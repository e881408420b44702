package rules

// Request is a kind of RPC to w that renews the leader's lease when it is
// answered well.
type Request uint8

// The kinds of request.
const (
	Heartbeat Request = iota + 1
	Append
	Snapshot
)

// Proof is what the register said to a read that was begun after the request
// came in.
type Proof struct {
	// Read: such a read was answered with a record that is believed (R7).
	Read bool
	// Failed: such a read was tried, and no other has succeeded yet.
	Failed bool
	// Term of the record, if Read.
	Term uint64
}

// Act is what the stub does with a request.
type Act uint8

// The acts.
const (
	// ActWait: neither answer nor error yet; decide again when something changed.
	ActWait Act = iota
	// ActGood: success, in the term of the request.
	ActGood
	// ActDepose: no success, and the term that follows.
	ActDepose
	// ActError: an error, without an answer.
	ActError
)

// Reply is a decision about a request to w.
type Reply struct {
	Act    Act
	Term   uint64 // of the answer
	Reason Reason
}

// Answer decides about a request of leadership term up to index (R1 and R5).
// The index is the last one that the answer would acknowledge: the entry before
// the request's plus the entries in it, or the last one of a snapshot;
// heartbeats acknowledge nothing.
//
// R1: w acknowledges only under solo(term), or what this node, which still
// leads the term, has committed. R5: every good answer needs solo(term), or
// a register read begun after the request came in and with no higher term. A
// higher term makes a heartbeat fail and answers anything else with that term:
// the library looks at the term of an append's answer alone. Without a readable
// register a heartbeat fails and the others wait, so that the lease rests on
// the peer. An error for anything but a heartbeat costs the library's growing
// back-off, so there is one only when the term is over.
func Answer(sw Switches, l Local, kind Request, term, index uint64, p Proof) Reply {
	if !l.Leads(term) {
		return Reply{Act: ActError, Reason: ReasonTermOver}
	}
	why := ReasonCommitted
	switch {
	case p.Read && p.Term > term && !sw.R5NoEvidence:
		if kind == Heartbeat {
			return Reply{Act: ActError, Reason: ReasonTermAbove}
		}
		return Reply{Act: ActDepose, Term: p.Term, Reason: ReasonTermAbove}
	case HoldsSolo(sw, l, term):
		return Reply{Act: ActGood, Term: term, Reason: ReasonSolo}
	case kind == Heartbeat:
		why = ReasonEvidence
	case sw.R1NoCondition:
		why = ReasonSwitchedOff
	case l.Commit < index:
		return Reply{Act: ActWait, Reason: ReasonUncommitted}
	}
	switch {
	case p.Read || sw.R5NoEvidence:
		return Reply{Act: ActGood, Term: term, Reason: why}
	case kind == Heartbeat && p.Failed:
		return Reply{Act: ActError, Reason: ReasonUnreadable}
	default:
		return Reply{Act: ActWait, Reason: ReasonNoEvidence}
	}
}
