package rules

// Switches takes rules out of force, one part at a time. The zero value has all
// rules in force, and nothing but tests uses another. Each switch loses
// acknowledged writes or serves stale reads in a schedule that a test or the
// model knows, but for two that guard what another part guards as well:
// R3NoSecondIdentity, since the identity recorded is the one asked before the
// barrier, and R4AnyIdentity, since a node with another directory is unadmitted
// (so that R4AnyIdentity loses together with R6Campaign).
type Switches struct {
	// R1NoCondition: w acknowledges whatever it is sent.
	R1NoCondition bool

	// R2NoTermCondition: solo is taken over a record of a higher term or of
	// another's vote.
	R2NoTermCondition bool
	// R2ByReading: a record that names this node as only holder grants solo.
	R2ByReading bool
	// R2NotBound: solo outlives the leadership it was granted in.
	R2NotBound bool

	// R3KeepSolo: a readmission does not drop solo.
	R3KeepSolo bool
	// R3NoBarrier: a readmission does not wait for the peer to hold all.
	R3NoBarrier bool
	// R3Thaw: a readmission whose write had no answer gives solo back.
	R3Thaw bool
	// R3NoFirstIdentity: the peer is asked who it is after the barrier only.
	R3NoFirstIdentity bool
	// R3NoSecondIdentity: the peer is asked before the barrier only.
	R3NoSecondIdentity bool

	// R4AnyCandidate: w votes for a node that is no holder.
	R4AnyCandidate bool
	// R4AnyIdentity: w votes for a holder whose data directory is another.
	R4AnyIdentity bool
	// R4VoteTwice: w forgets whom it voted for in the term.
	R4VoteTwice bool
	// R4Blind: the vote is written without comparing (Change.Blind).
	R4Blind bool

	// R5NoEvidence: w answers well without looking at the register.
	R5NoEvidence bool

	// R6KeepTerm: a new directory starts in its own low term.
	R6KeepTerm bool
	// R6Vote: an unadmitted node votes.
	R6Vote bool
	// R6Campaign: an unadmitted node campaigns.
	R6Campaign bool

	// R7NoMark: a register that went back is believed.
	R7NoMark bool
	// R7Overtaken: a write that is below what is known by now counts.
	R7Overtaken bool

	// R8LeaderIsEnough: who takes itself for the leader serves reads.
	R8LeaderIsEnough bool
	// R8NoOwnTerm: reads are served before an entry of the own term committed.
	R8NoOwnTerm bool
}
