package register

import (
	"errors"
	"fmt"

	"github.com/futago/futago"
)

// Record is all that the third vote remembers.
type Record struct {
	// Version counts the writes, from 1.
	Version uint64 `json:"version"`
	// Nonce is random for every write.
	Nonce Nonce `json:"nonce"`
	// Term is the highest term in which the third vote took part.
	Term uint64 `json:"term"`
	// VotedFor is the manager it voted for in Term, "" for none.
	VotedFor futago.MemberID `json:"voted_for"`
	// Holders are the managers that may be elected with this vote.
	Holders Holders `json:"holders"`
	// IdentityA and IdentityB name the managers' data directories.
	IdentityA Identity `json:"identity_a"`
	IdentityB Identity `json:"identity_b"`
}

// Identity returns the recorded data directory of a manager, zero for unknown
// ones and for other members.
func (r Record) Identity(m futago.MemberID) Identity {
	switch m {
	case futago.MemberA:
		return r.IdentityA
	case futago.MemberB:
		return r.IdentityB
	default:
		return Identity{}
	}
}

// WithIdentity returns a copy of r in which the data directory of m is id.
// Members that are no managers change nothing.
func (r Record) WithIdentity(m futago.MemberID, id Identity) Record {
	switch m {
	case futago.MemberA:
		r.IdentityA = id
	case futago.MemberB:
		r.IdentityB = id
	default:
	}
	return r
}

// Holds reports whether the manager m with the data directory id is a holder.
func (r Record) Holds(m futago.MemberID, id Identity) bool {
	return r.Holders.Has(m) && !id.IsZero() && r.Identity(m) == id
}

// Same reports whether r and o are the same write: equal version and nonce.
func (r Record) Same(o Record) bool { return r.Version == o.Version && r.Nonce == o.Nonce }

// Validate reports what makes r impossible as the content of a register.
func (r Record) Validate() error {
	switch {
	case r.Version == 0:
		return errors.New("record: version 0")
	case r.Nonce.IsZero():
		return errors.New("record: no nonce")
	}
	return r.ValidateContent()
}

// ValidateContent is Validate without version and nonce, which a record that
// is still to be written lacks.
func (r Record) ValidateContent() error {
	switch {
	case !r.Holders.Valid():
		return fmt.Errorf("record: holders %d", uint8(r.Holders))
	case r.VotedFor != "" && HolderOf(r.VotedFor) == 0:
		return fmt.Errorf("record: vote for %q, which is no manager", r.VotedFor)
	case r.VotedFor != "" && r.Term == 0:
		return errors.New("record: a vote in term 0")
	}
	for _, m := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		if r.Holders.Has(m) && r.Identity(m).IsZero() {
			return fmt.Errorf("record: holder %s without identity", m)
		}
	}
	return nil
}

// String describes the record in one line for logs.
func (r Record) String() string {
	vote := r.VotedFor
	if vote == "" {
		vote = "none"
	}
	return fmt.Sprintf("version %d, term %d, vote %s, holders %s", r.Version, r.Term, vote, r.Holders)
}
