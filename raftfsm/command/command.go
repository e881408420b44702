// Package command is the catalogue of log entries: what may stand in the Raft
// log, by type, version and payload, and how it is coded. The catalogue only
// ever grows: numbers are not reused, and a retired type keeps its case.
//
// Encode and Decode are the two ends of the log; AppendTrap and DecodeTrap code
// one decoded trap, in the log and in the database alike. All of them are pure
// and may be called from any goroutine.
package command

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/futago/futago"
)

// Type numbers the kinds of entries.
type Type uint8

// The catalogue. Append only.
const (
	TypeTrapBatch         Type = 1 // TrapBatch, compact binary
	TypePutIntakeSettings Type = 2 // PutIntakeSettings, JSON
	TypePutUser           Type = 3 // PutUser, JSON
	TypeDeleteUser        Type = 4 // DeleteUser, JSON
	TypePutToken          Type = 5 // PutToken, JSON
	TypeDeleteToken       Type = 6 // DeleteToken, JSON
	TypeReport            Type = 7 // Report, JSON
)

// ID identifies a proposal, so that its repetition is harmless: a random
// UUID made by whoever first proposes it, kept over all retries.
type ID [16]byte

// String returns the id in the usual UUID form.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// ParseID is the inverse of [ID.String].
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, futago.Errorf(futago.CodeInvalid, "%q is no id", s)
	}
	for _, p := range [...]struct{ from, to, at int }{{0, 8, 0}, {9, 13, 4}, {14, 18, 6}, {19, 23, 8}, {24, 36, 10}} {
		if _, err := hex.Decode(id[p.at:], []byte(s[p.from:p.to])); err != nil {
			return ID{}, futago.Errorf(futago.CodeInvalid, "%q is no id", s)
		}
	}
	return id, nil
}

// IsZero reports whether the id was never set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// Meta stands in every JSON entry.
type Meta struct {
	ID ID `json:"id"`
	// At is the proposer's clock when the entry was made; apply reads no clock.
	At time.Time `json:"at"`
	// By names the user, token or member who asked for it.
	By string `json:"by"`
}

// Header returns the meta data itself: every JSON entry has it by embedding,
// and so becomes a [Proposal].
func (m *Meta) Header() *Meta { return m }

// Entry is one log entry: a pointer to one of the types of this package.
type Entry interface {
	// EntryType returns the number in the catalogue.
	EntryType() Type
}

// Proposal is an entry that carries a proposal id, that is, any but a TrapBatch.
type Proposal interface {
	Entry
	Header() *Meta
}

// EntryType implements [Entry].
func (*TrapBatch) EntryType() Type { return TypeTrapBatch }

// EntryType implements [Entry].
func (*PutIntakeSettings) EntryType() Type { return TypePutIntakeSettings }

// EntryType implements [Entry].
func (*PutUser) EntryType() Type { return TypePutUser }

// EntryType implements [Entry].
func (*DeleteUser) EntryType() Type { return TypeDeleteUser }

// EntryType implements [Entry].
func (*PutToken) EntryType() Type { return TypePutToken }

// EntryType implements [Entry].
func (*DeleteToken) EntryType() Type { return TypeDeleteToken }

// EntryType implements [Entry].
func (*Report) EntryType() Type { return TypeReport }

// TrapBatch carries consecutive records of one manager's spool. It needs no
// ID: member, spool and sequence make its repetition harmless.
type TrapBatch struct {
	Member futago.MemberID
	// Spool is the random identity of the spool directory; a new one starts
	// again at sequence 1.
	Spool ID
	// First is the sequence number of the first copy; the others follow
	// without gaps.
	First uint64
	// Watermark: every trap that this manager received up to this time
	// (nanoseconds since 1970, its clock) is in this batch or in an earlier one.
	Watermark int64
	// ProposedAt is the proposer's clock, nanoseconds since 1970: log time.
	ProposedAt int64
	// Bodies are the distinct traps of the batch, each encoded by AppendTrap.
	Bodies []Body
	Copies []Copy
}

// Body is a trap that one or more copies of the batch refer to.
type Body struct {
	Key  futago.Key
	Kind futago.Kind
	// Source is the sender's address (never with a zone or as IPv4-in-IPv6).
	Source netip.Addr
	// Severity stands outside Trap, so that apply need not decode it.
	Severity futago.Severity
	// Trap is the output of AppendTrap. Empty means: the proposer expects
	// every copy to be a copy of an event that exists already. If one is not,
	// apply stops before it and says so (Result.NeedBody).
	Trap []byte
}

// Copy is one received copy.
type Copy struct {
	Body uint32 // index into Bodies
	At   int64  // arrival, nanoseconds since 1970
}

// PutIntakeSettings replaces the intake settings. It is refused with
// CodeConflict when Settings.Revision is not the present revision plus one.
type PutIntakeSettings struct {
	Meta
	Settings futago.IntakeSettings `json:"settings"`
}

// PutUser creates or replaces a user. Create refuses to replace.
type PutUser struct {
	Meta
	User   futago.User `json:"user"`
	Create bool        `json:"create,omitempty"`
}

// DeleteUser removes a user; the last admin cannot be removed.
type DeleteUser struct {
	Meta
	Name string `json:"name"`
}

// PutToken stores a token.
type PutToken struct {
	Meta
	Token futago.Token `json:"token"`
}

// DeleteToken removes a token by its public id.
type DeleteToken struct {
	Meta
	TokenID string `json:"token_id"`
}

// Report records one of Futago's own events (kind internal).
type Report struct {
	Meta
	Member   futago.MemberID `json:"member"`
	Topic    string          `json:"topic"`
	Severity futago.Severity `json:"severity"`
	Message  string          `json:"message"`
}

// BatchResult is what apply answers to a TrapBatch, the same on every member.
type BatchResult struct {
	// Applied is the high-water mark of the batch's spool after this entry:
	// every record up to it is in the history.
	Applied uint64 `json:"applied"`
	// NeedBody says that record Applied+1 turned out to be a new event while
	// its body was left out; propose again from there, whole.
	NeedBody bool `json:"need_body,omitempty"`
	// Gap says that records between Applied and First are missing; resume from
	// Applied+1.
	Gap bool `json:"gap,omitempty"`
	// Stale says that the batch is of a spool which a newer one of the same
	// member has replaced; nothing was applied.
	Stale bool `json:"stale,omitempty"`
}
