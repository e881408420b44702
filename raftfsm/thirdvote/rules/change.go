package rules

import (
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// Kind says what a write of the register is for.
type Kind uint8

// The kinds of write.
const (
	KindVote Kind = iota + 1
	KindSolo
	KindReadmit
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case KindVote:
		return "vote"
	case KindSolo:
		return "solo"
	case KindReadmit:
		return "readmit"
	default:
		return "none"
	}
}

// Change is one write of the register, prepared in term Term on the record Old
// that was read (R0). Next has neither version nor nonce: the sender gives it
// a new nonce, the register the version.
type Change struct {
	Kind Kind
	Term uint64
	Old  register.Record
	Next register.Record
	// Blind: written without comparing. Never, unless R4Blind is set.
	Blind bool
}

// Result is what became of a Change, as far as its sender knows.
type Result uint8

// The results. Unknown covers everything that is neither: such a write may
// take effect at any later time, until the version has moved.
const (
	Unknown Result = iota
	Done
	Refused
)

// WantSolo is the laziness of R2: a node asks to become the only holder only
// while an entry of its own term waits that the peer does not take. entryTerm
// and index are those of the newest waiting entry; peerTakes is the caller's
// judgement, by time and contact.
func WantSolo(sw Switches, l Local, entryTerm, index uint64, peerTakes bool) (bool, Reason) {
	switch {
	case !l.Leader:
		return false, ReasonTermOver
	case HoldsSolo(sw, l, l.Term):
		return false, ReasonAlreadySolo
	case entryTerm != l.Term || index <= l.Commit:
		return false, ReasonNothingWaits
	case peerTakes:
		return false, ReasonPeerTakes
	default:
		return true, ReasonUncommitted
	}
}

// PrepareSolo returns the write that makes this node the only holder, on rec
// (R2): on a lower term, or on this term with the vote its own or not given.
// Who holds so far does not matter.
func PrepareSolo(sw Switches, l Local, rec register.Record) (Change, Reason, bool) {
	if !l.Leader {
		return Change{}, ReasonTermOver, false
	}
	if !sw.R2NoTermCondition {
		if r, ok := mine(l, rec); !ok {
			return Change{}, r, false
		}
	}
	next := rec.WithIdentity(l.Self, l.Identity)
	next.Version, next.Nonce = 0, register.Nonce{}
	next.Term, next.VotedFor = l.Term, l.Self
	next.Holders = register.HolderOf(l.Self)
	return Change{Kind: KindSolo, Term: l.Term, Old: rec, Next: next}, ReasonGranted, true
}

// mine reports whether a leader of l.Term may write on rec.
func mine(l Local, rec register.Record) (Reason, bool) {
	switch {
	case rec.Term > l.Term:
		return ReasonTermAbove, false
	case rec.Term == l.Term && rec.VotedFor != "" && rec.VotedFor != l.Self:
		return ReasonVoteElsewhere, false
	default:
		return ReasonGranted, true
	}
}

// GrantSolo returns the value of Local.Solo after the result of a write is
// known. l is taken after the answer. Solo comes from a write answered done,
// while this node still leads the term in which it was prepared (R2); a vote
// counts if it left this node the only holder, unless a readmission has begun
// since. A vote is answered before its election is won, so there the term
// alone is compared; [HoldsSolo] looks at the leadership on every use.
func GrantSolo(sw Switches, l Local, ch Change, res Result) (uint64, Reason) {
	switch res {
	case Done:
	case Refused:
		return l.Solo, ReasonRefused
	default:
		return l.Solo, ReasonNotAnswered
	}
	switch ch.Kind {
	case KindSolo:
		if !l.Leads(ch.Term) {
			return l.Solo, ReasonTermOver
		}
		return ch.Term, ReasonGranted
	case KindVote:
		switch {
		case l.Term != ch.Term:
			return l.Solo, ReasonTermOver
		case l.Barred == ch.Term:
			return l.Solo, ReasonBarred
		case !ch.Next.Holders.Only(l.Self) || !ch.Next.Holds(l.Self, l.Identity):
			return l.Solo, ReasonBothHold
		}
		return ch.Term, ReasonGranted
	default:
		return l.Solo, ReasonNothingWaits
	}
}

// LearnByReading returns the value of Local.Solo after rec was read: what it
// was, for nothing learned by reading grants solo (R2).
func LearnByReading(sw Switches, l Local, rec register.Record) uint64 {
	if sw.R2ByReading && l.Leader && rec.Term <= l.Term && rec.Holders.Only(l.Self) && rec.Holds(l.Self, l.Identity) {
		return l.Term
	}
	return l.Solo
}
