package rules

import (
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// VoteReply is w's decision about a candidate. With Write set the vote holds
// once the Change was answered done; a pre-vote takes Write for Granted, and
// writes nothing.
type VoteReply struct {
	Granted bool
	Write   bool
	Change  Change
	// Term of the answer: the register's, when it is above the candidate's.
	Term   uint64
	Reason Reason
}

// Vote decides whether w votes for this node in term, on the record rec (R4):
// for a holder with its recorded data directory, if the record's term is lower,
// or is this one and nobody has the vote yet. A vote already given to it holds.
// Only this node's own stub is ever asked, so the candidate is l.Self.
func Vote(sw Switches, l Local, rec register.Record, term uint64) VoteReply {
	no := func(t uint64, r Reason) VoteReply { return VoteReply{Term: t, Reason: r} }
	switch {
	case !MayCampaign(sw, l.Admitted):
		return no(term, ReasonUnadmitted)
	case rec.Term > term:
		return no(rec.Term, ReasonTermAbove)
	case !rec.Holders.Has(l.Self) && !sw.R4AnyCandidate:
		return no(term, ReasonNoHolder)
	case rec.Identity(l.Self) != l.Identity && !sw.R4AnyIdentity:
		return no(term, ReasonOtherIdentity)
	case rec.Term == term && rec.VotedFor == l.Self:
		return VoteReply{Granted: true, Term: term, Reason: ReasonAlreadyMine}
	case rec.Term == term && rec.VotedFor != "" && !sw.R4VoteTwice:
		return no(term, ReasonVoteElsewhere)
	}
	next := rec
	next.Version, next.Nonce = 0, register.Nonce{}
	next.Term, next.VotedFor = term, l.Self
	return VoteReply{
		Write: true, Term: term, Reason: ReasonGranted,
		Change: Change{Kind: KindVote, Term: term, Old: rec, Next: next, Blind: sw.R4Blind},
	}
}
