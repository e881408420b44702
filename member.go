package futago

import "fmt"

// MemberID names a voter of a Futago cluster. The set is fixed at init and
// never changes: two managers and the third vote.
type MemberID string

// The three voters. A and B are managers. W is the third vote: a manager
// without listeners, or a register without any process (docs/third-vote.md).
const (
	MemberA MemberID = "a"
	MemberB MemberID = "b"
	MemberW MemberID = "w"
)

// Slots is the number of managers that receive traps.
const Slots = 2

// Slot returns the receiver index of a manager, 0 for a and 1 for b. The third
// vote receives nothing, so ok is false for it and for unknown names.
func (m MemberID) Slot() (slot int, ok bool) {
	switch m {
	case MemberA:
		return 0, true
	case MemberB:
		return 1, true
	default:
		return 0, false
	}
}

// MemberOfSlot is the inverse of [MemberID.Slot]. It panics on an index
// outside 0 to Slots-1, which is a programming error.
func MemberOfSlot(slot int) MemberID {
	switch slot {
	case 0:
		return MemberA
	case 1:
		return MemberB
	default:
		panic(fmt.Sprintf("futago: slot %d out of range", slot))
	}
}

// Peer returns the other manager. The third vote has no peer, so it returns "".
func (m MemberID) Peer() MemberID {
	switch m {
	case MemberA:
		return MemberB
	case MemberB:
		return MemberA
	default:
		return ""
	}
}

// Valid reports whether m is one of the three voters.
func (m MemberID) Valid() bool {
	return m == MemberA || m == MemberB || m == MemberW
}

// Redundancy says in one word what the cluster can still survive.
type Redundancy string

// The four words, from best to worst.
const (
	// RedundancyFull: both managers and the third vote work; any one may fail.
	RedundancyFull Redundancy = "FULL"
	// RedundancySurvivesOne: something is missing, yet one more manager failure
	// would be survived (a manager is still catching up, say).
	RedundancySurvivesOne Redundancy = "SURVIVES-ONE"
	// RedundancyNoSpare: the service works, and the next failure stops it.
	RedundancyNoSpare Redundancy = "NO-SPARE"
	// RedundancyStoppedSafe: no writes are possible without risking a second
	// history. Traps are kept in the spools meanwhile.
	RedundancyStoppedSafe Redundancy = "STOPPED-SAFE"
)
