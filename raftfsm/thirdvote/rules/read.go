package rules

// ReadEvidence is what was found out for one linearizable read: the first part
// with the commit index, the others after it was noted.
type ReadEvidence struct {
	// OwnTermCommitted: an entry of the leader's own term was committed no later
	// than the commit index was noted. Looked at afterwards it would say nothing
	// about the noted index, which may be from before the term.
	OwnTermCommitted bool
	// Register: a register read begun afterwards was believed; RegisterTerm is
	// its term.
	Register     bool
	RegisterTerm uint64
	// Peer: the peer answered a request sent afterwards; PeerTerm is its term.
	Peer     bool
	PeerTerm uint64
}

// MayServeRead decides about a read by the leader of term (R8). l is taken
// after the evidence, so that a process that was frozen in between looks again.
func MayServeRead(sw Switches, l Local, term uint64, e ReadEvidence) (bool, Reason) {
	switch {
	case !l.Leads(term):
		return false, ReasonTermOver
	case !e.OwnTermCommitted && !sw.R8NoOwnTerm:
		return false, ReasonNoOwnTerm
	case HoldsSolo(sw, l, term):
		return true, ReasonSolo
	case e.Register && e.RegisterTerm > term && !sw.R8LeaderIsEnough:
		return false, ReasonTermAbove
	case e.Register && e.RegisterTerm <= term:
		return true, ReasonEvidence
	case e.Peer && e.PeerTerm == term:
		return true, ReasonPeer
	case sw.R8LeaderIsEnough:
		return true, ReasonSwitchedOff
	default:
		return false, ReasonNoEvidence
	}
}
