package rules

import (
	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// Local is what a rule has to know about this node: a copy, taken at the moment
// of the decision. After any wait a new one must be taken.
type Local struct {
	Self     futago.MemberID
	Identity register.Identity
	// Term is the current Raft term of this node.
	Term uint64
	// Leader: this node is the leader of Term.
	Leader bool
	// Commit is the commit index of this node.
	Commit uint64
	// Solo is the term in which this node may acknowledge for w, 0 for none.
	Solo uint64
	// Barred is the term in which a readmission has dropped solo. A vote won
	// in that term does not give it back; a new write does.
	Barred uint64
	// Admitted: this node's data directory was seen among the holders.
	Admitted bool
}

// Leads reports whether this node is the leader of term.
func (l Local) Leads(term uint64) bool { return l.Leader && l.Term == term && term != 0 }

// HoldsSolo reports whether this node may acknowledge for w in term (R2): it
// leads that term and was granted solo in that very leadership.
func HoldsSolo(sw Switches, l Local, term uint64) bool {
	if !l.Leads(term) {
		return false
	}
	return l.Solo == term || sw.R2NotBound && l.Solo != 0
}

// LeadershipLost returns l without what was granted in a leadership that is
// over.
func LeadershipLost(sw Switches, l Local) Local {
	if !sw.R2NotBound {
		l.Solo = 0
	}
	l.Barred = 0
	return l
}

// Reason names why a decision came out as it did, for logs, status and tests.
type Reason string

// The reasons, by rule.
const (
	ReasonTermOver    Reason = "the leadership is over"
	ReasonSolo        Reason = "only holder"
	ReasonCommitted   Reason = "committed"
	ReasonUncommitted Reason = "not committed yet"
	ReasonSwitchedOff Reason = "rule switched off"

	ReasonNothingWaits  Reason = "no entry of the own term waits"
	ReasonPeerTakes     Reason = "the peer takes the entries"
	ReasonAlreadySolo   Reason = "only holder already"
	ReasonTermAbove     Reason = "the register is in a higher term"
	ReasonVoteElsewhere Reason = "the vote of this term went to the other manager"
	ReasonGranted       Reason = "granted"
	ReasonNotAnswered   Reason = "the write was not answered"
	ReasonRefused       Reason = "the record has moved"
	ReasonBarred        Reason = "a readmission has begun in this term"
	ReasonBothHold      Reason = "both managers hold"

	ReasonComplete        Reason = "both managers hold with their present directories"
	ReasonIdentityUnknown Reason = "the peer's directory is unknown"
	ReasonIdentityChanged Reason = "the peer's directory changed meanwhile"
	ReasonNoBarrier       Reason = "the barrier did not commit"
	ReasonUnreadable      Reason = "the register cannot be read"

	ReasonNoHolder      Reason = "not among the holders"
	ReasonOtherIdentity Reason = "recorded with another data directory"
	ReasonAlreadyMine   Reason = "voted for in this term already"
	ReasonPeerLeads     Reason = "the peer leads"

	ReasonEvidence   Reason = "register read"
	ReasonNoEvidence Reason = "no register read yet"

	ReasonUnadmitted Reason = "this data directory was never recorded"

	ReasonNewer        Reason = "newer"
	ReasonSame         Reason = "the same"
	ReasonWentBack     Reason = "the register went back"
	ReasonOtherHistory Reason = "the register has another history"
	ReasonOvertaken    Reason = "written, and overtaken"

	ReasonNoOwnTerm Reason = "no entry of the own term is committed"
	ReasonPeer      Reason = "the peer answered in this term"
)
