package rules

import (
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// Phase is the next thing to do in a readmission.
type Phase uint8

// The phases, in their order (R3). Solo is dropped before the first.
const (
	PhaseNone          Phase = iota
	PhaseRead                // read the register
	PhaseIdentity            // ask the peer who it is
	PhaseBarrier             // commit a barrier, which needs the peer
	PhaseIdentityAgain       // ask again
	PhaseWrite               // compare-and-set on the version of the first phase
)

// String names the phase for status and logs.
func (p Phase) String() string {
	switch p {
	case PhaseNone:
		return "none"
	case PhaseRead:
		return "read"
	case PhaseIdentity:
		return "identity"
	case PhaseBarrier:
		return "barrier"
	case PhaseIdentityAgain:
		return "identity-again"
	case PhaseWrite:
		return "write"
	default:
		return "unknown"
	}
}

// MarshalText implements [encoding.TextMarshaler].
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Readmission is the way back to two holders (R3), as far as it got. There is
// no way to resume one that was given up: solo comes back only by a new write
// of R2, which moves the version and so kills the last write of this one,
// however late that takes effect.
type Readmission struct {
	Phase Phase
	// Term is the leadership in which it began.
	Term uint64
	// On is the record that was read, and that the last phase compares with.
	On register.Record
	// Peer is the peer's data directory.
	Peer register.Identity
}

// NeedsReadmission reports whether rec is anything but both holders with their
// present data directories. peer is the one the peer has now.
func NeedsReadmission(l Local, rec register.Record, peer register.Identity) (bool, Reason) {
	switch {
	case !l.Leader:
		return false, ReasonTermOver
	case peer.IsZero():
		return false, ReasonIdentityUnknown
	case rec.Term > l.Term:
		return false, ReasonTermAbove
	case rec.Holds(l.Self, l.Identity) && rec.Holds(l.Self.Peer(), peer):
		return false, ReasonComplete
	default:
		return true, ReasonGranted
	}
}

// BeginReadmission drops solo for good and returns the first phase, with the
// values of Local that belong to it. It must not be called while a write of
// this node's R2 is still waited for.
func BeginReadmission(sw Switches, l Local) (Readmission, Local) {
	if !l.Leader {
		return Readmission{}, l
	}
	l.Barred = l.Term
	if !sw.R3KeepSolo {
		l.Solo = 0
	}
	return Readmission{Phase: PhaseRead, Term: l.Term}, l
}

// Outcome is what came of a phase. OK is false for anything but success.
type Outcome struct {
	OK bool
	// Record is the one read in PhaseRead.
	Record register.Record
	// Identity is the peer's, in PhaseIdentity and PhaseIdentityAgain.
	Identity register.Identity
}

// Advance takes the outcome of the present phase and returns the next one. With
// false, the readmission is over and must be given up, see [Abandon]. l is
// taken after the outcome is known.
func (m Readmission) Advance(sw Switches, l Local, o Outcome) (Readmission, Reason, bool) {
	if !l.Leads(m.Term) {
		return Readmission{}, ReasonTermOver, false
	}
	switch m.Phase {
	case PhaseRead:
		if !o.OK {
			return Readmission{}, ReasonUnreadable, false
		}
		if r, ok := mine(l, o.Record); !ok {
			return Readmission{}, r, false
		}
		m.On = o.Record
		m.Phase = PhaseIdentity
		if sw.R3NoFirstIdentity {
			m.Phase = PhaseBarrier
		}
	case PhaseIdentity:
		if !o.OK || o.Identity.IsZero() {
			return Readmission{}, ReasonIdentityUnknown, false
		}
		m.Peer = o.Identity
		m.Phase = PhaseBarrier
	case PhaseBarrier:
		if !o.OK {
			return Readmission{}, ReasonNoBarrier, false
		}
		m.Phase = PhaseIdentityAgain
		if sw.R3NoSecondIdentity {
			m.Phase = PhaseWrite
		}
	case PhaseIdentityAgain:
		switch {
		case !o.OK || o.Identity.IsZero():
			return Readmission{}, ReasonIdentityUnknown, false
		case sw.R3NoFirstIdentity:
			m.Peer = o.Identity
		case o.Identity != m.Peer:
			return Readmission{}, ReasonIdentityChanged, false
		}
		m.Phase = PhaseWrite
	case PhaseNone, PhaseWrite:
		return Readmission{}, ReasonTermOver, false
	}
	if m.Phase == PhaseBarrier && sw.R3NoBarrier {
		m.Phase = PhaseIdentityAgain
		if sw.R3NoSecondIdentity {
			m.Phase = PhaseWrite
		}
	}
	return m, ReasonGranted, true
}

// Change returns the write of the last phase: both managers hold, with the
// directories they have now, on the version read in the first.
func (m Readmission) Change(l Local) (Change, Reason, bool) {
	switch {
	case m.Phase != PhaseWrite || !l.Leads(m.Term):
		return Change{}, ReasonTermOver, false
	case m.Peer.IsZero():
		return Change{}, ReasonIdentityUnknown, false
	}
	next := m.On.WithIdentity(l.Self, l.Identity).WithIdentity(l.Self.Peer(), m.Peer)
	next.Version, next.Nonce = 0, register.Nonce{}
	next.Term, next.VotedFor = m.Term, l.Self
	next.Holders = register.Both
	return Change{Kind: KindReadmit, Term: m.Term, Old: m.On, Next: next}, ReasonGranted, true
}

// Abandon returns the values of Local after a readmission was given up, for
// whatever reason: those it had, for there is no thaw.
func Abandon(sw Switches, l Local, m Readmission, res Result) Local {
	if sw.R3Thaw && m.Phase == PhaseWrite && res == Unknown && l.Leads(m.Term) {
		l.Solo = m.Term
	}
	return l
}
