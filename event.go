package futago

import "time"

// Reason names why the judgement of a copy came out as it did. Numbers are
// stored and never reused.
type Reason uint8

// The reasons. See docs/deduplication.md for the rules that they belong to.
const (
	// ReasonFirst: no open event has this key; a new event was made.
	ReasonFirst Reason = 1
	// ReasonPaired: the other manager saw this occurrence already (exact mode).
	ReasonPaired Reason = 2
	// ReasonRepeat: a true repeat within the fold time; the count rose (exact mode).
	ReasonRepeat Reason = 3
	// ReasonWindow: a copy of an event forwarded within the window (window mode).
	ReasonWindow Reason = 4
	// ReasonInternal: one of Futago's own reports, never judged.
	ReasonInternal Reason = 5
)

var reasonNames = [...]string{"", "first", "paired", "repeat", "window", "internal"}

// String returns the name used in the API and in metrics.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Reason) UnmarshalText(b []byte) error {
	for i, n := range reasonNames {
		if i > 0 && n == string(b) {
			*r = Reason(i)
			return nil
		}
	}
	return Errorf(CodeInvalid, "unknown reason %q", b)
}

// Receipt is the proof that one manager received a trap.
type Receipt struct {
	Member MemberID `json:"member"`
	// Count is how many copies that manager received.
	Count uint64 `json:"count"`
	// First and Last are the times of arrival on that manager's clock.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Event is one entry of the history: a trap that occurred Count times.
type Event struct {
	// ID numbers the events in the order of the log, from 1 without reuse.
	ID uint64 `json:"id"`
	// At is the arrival of the copy that made the event.
	At time.Time `json:"at"`
	// Count is the number of true occurrences: in exact mode the larger of
	// the managers' counts, in window mode 1.
	Count uint64 `json:"count"`
	// Copies is the number of copies received, over both managers.
	Copies   uint64    `json:"copies"`
	Reason   Reason    `json:"reason"` // of the last copy judged
	Key      Key       `json:"key"`
	Receipts []Receipt `json:"receipts"`
	Trap     Trap      `json:"trap"`
}
